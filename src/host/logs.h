/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a partition and its QEMU may write on this system: the log of its console, which the guest
 * fills as fast as it likes, and QEMU's own messages. Both lie where the sockets of all partitions
 * lie, so a full one would cost the others.
 */
#pragma once

#include "host/host.h"

#define LPM_LOG_MAX     ((off_t)8 << 20) /* bytes on disk; from then on ... */
#define LPM_LOG_KEPT    ((off_t)1 << 20) /* ... only the last so many stay */
#define LPM_LOG_LOOK_MS 2000             /* between two looks at all of them */

/* Looks after the logs of all partitions until lpm_server_close(). */
void lpm_logs_watch(LpmHost *host);

/*
 * Gives the disk back all but the last LPM_LOG_KEPT bytes of the log at @path when it takes more
 * than LPM_LOG_MAX; positions in the file stay as they are, what is gone reads as zeros. Follows no
 * link, and touches only a file of one name that belongs to @owner or to this process's user: its
 * directory may be QEMU's. True: it has done so.
 */
bool lpm_log_trim(const char *path, uid_t owner);

enum {
    LPM_LOG_TAIL = 16 * 1024,     /* bytes of a console's log that go with a partition */
    LPM_LOG_TAIL_MAX = 64 * 1024, /* more than that is not taken from another system */
};

/* Last words of its console, valid UTF-8; "" without any. To be g_free()d. */
char *lpm_log_console_tail(const LpmPartition *partition);
/* Begins the console's log of a partition that comes in with the words that it brought, and a mark;
 * the file is given to QEMU's user (-1: nobody). A failure is logged. */
void lpm_log_console_begin(const LpmPartition *partition, const char *tail, uid_t uid, gid_t gid);
