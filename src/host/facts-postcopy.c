/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether QEMU can be a target of post-copy here: it must be told of page faults in the partition's
 * memory, those of the kernel included, which the kernel does not allow everybody.
 */
#include "host/facts.h"

#include "bytes/bytes.h"
#include "host/process.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEVICE "/dev/userfaultfd"
#define SYSCTL "/proc/sys/vm/unprivileged_userfaultfd"

/* QEMU is no other user than we are: tried for real. */
static bool works_for_us(void)
{
    LPM_AUTO_FD int device = open(DEVICE, O_RDWR | O_CLOEXEC);
    if (device >= 0) {
        return true;
    }
    LPM_AUTO_FD int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    return fd >= 0;
}

static bool device_is_open_to(uid_t uid, gid_t gid)
{
    struct stat info;
    mode_t needed = 0006;

    if (stat(DEVICE, &info) != 0) {
        return false;
    }
    if (info.st_uid == uid) {
        needed = 0600;
    } else if (info.st_gid == gid) {
        needed = 0060;
    }
    return (info.st_mode & needed) == needed;
}

static bool everybody_may(void)
{
    g_autofree char *text = NULL;

    return g_file_get_contents(SYSCTL, &text, NULL, NULL) && text[0] == '1';
}

json_t *lpm_facts_postcopy(const LpmHost *host)
{
    const char *user = host->config->qemu_user;
    uid_t uid;
    gid_t gid;
    bool other = geteuid() == 0 && lpm_process_user(user, &uid, &gid) && uid != 0;
    bool possible = other ? device_is_open_to(uid, gid) || everybody_may() : works_for_us();
    g_autofree char *reason =
        possible ? g_strdup("")
                 : g_strdup_printf("QEMU's user %s may not handle page faults: neither is " DEVICE
                                   " open to it nor is vm.unprivileged_userfaultfd 1",
                                   other ? user : "there");

    return lpm_json_pack("{s:b, s:s}", "possible", possible, "reason", reason);
}
