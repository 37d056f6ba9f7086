/* SPDX-License-Identifier: Apache-2.0 */
#include "base/directory.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* A process that dies in between leaves a directory that is too narrow, never one that is too wide.
 */
static int make_one(const char *path, mode_t mode)
{
    struct stat info;

    if (mkdir(path, mode) != 0) {
        return errno == EEXIST && g_file_test(path, G_FILE_TEST_IS_DIR) ? 0 : -1;
    }
    if (stat(path, &info) != 0) {
        return -1;
    }
    if ((info.st_mode & 0777) == mode || chmod(path, mode) == 0) {
        return 0;
    }
    return errno == EPERM || errno == EOPNOTSUPP ? 0 : -1;
}

int lpm_directory_make(const char *path, mode_t mode)
{
    g_autofree char *part = g_strdup(path);

    for (char *end = strchr(part + 1, '/'); end; end = strchr(end + 1, '/')) {
        *end = '\0';
        if (make_one(part, mode) != 0) {
            return -1;
        }
        *end = '/';
    }
    return make_one(part, mode);
}
