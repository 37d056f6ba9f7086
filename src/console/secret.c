/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets of the configuration: each in a file of its own, read when it is needed. */
#include "console.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECRET_MAX 1024

char *lpm_secret_read(const char *file, GError **error)
{
    char text[SECRET_MAX + 1];
    struct stat status;
    ssize_t size;
    char *secret;
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    bool good = fd >= 0 && fstat(fd, &status) == 0;

    if (good && (!S_ISREG(status.st_mode) || (status.st_mode & 077) != 0)) {
        close(fd);
        lpm_error_set(error, LPM_ERROR_DENIED,
                      "secret %s must be a file that only its owner may read (chmod 600)", file);
        return NULL;
    }
    size = good ? read(fd, text, SECRET_MAX) : -1;
    if (size < 0) {
        lpm_error_set(error, LPM_ERROR_STORAGE, "secret %s cannot be read: %s", file,
                      g_strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
    if (size < 0) {
        return NULL;
    }
    text[size] = '\0';
    text[strcspn(text, "\r\n")] = '\0';
    secret = g_strdup(text);
    explicit_bzero(text, sizeof(text));
    return secret;
}

void lpm_secret_free(gpointer secret)
{
    if (secret) {
        explicit_bzero(secret, strlen(secret));
        g_free(secret);
    }
}
