/* SPDX-License-Identifier: Apache-2.0 */
#include "host/logs.h"

#include "base/log.h"
#include "bytes/bytes.h"
#include "host/partition.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 4096

bool lpm_log_trim(const char *path, uid_t owner)
{
    LPM_AUTO_FD int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    struct stat status;
    off_t gone;

    if (fd < 0 || fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_nlink != 1 ||
        (status.st_uid != owner && status.st_uid != geteuid()) ||
        (off_t)status.st_blocks * 512 <= LPM_LOG_MAX) {
        return false;
    }
    gone = (status.st_size - LPM_LOG_KEPT) / BLOCK * BLOCK;
    if (gone > 0 && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, gone) == 0) {
        return true;
    }
    /* A file system without holes: all of it goes, since QEMU appends. */
    return ftruncate(fd, 0) == 0;
}

static void trim(LpmPartition *partition, const char *path, uid_t owner)
{
    if (lpm_log_trim(path, owner)) {
        lpm_log_warning(&(LpmLogFields){.partition = partition->profile->name},
                        "%s took more than %d MiB: only its last %d MiB are kept", path,
                        (int)(LPM_LOG_MAX >> 20), (int)(LPM_LOG_KEPT >> 20));
    }
}

static gboolean on_look(gpointer data)
{
    LpmHost *host = data;
    GHashTableIter iter;
    gpointer value;
    uid_t owner = geteuid();
    gid_t group;

    (void)lpm_process_user(host->config->qemu_user, &owner, &group);
    g_hash_table_iter_init(&iter, host->partitions);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        LpmPartition *partition = value;
        g_autofree char *console = lpm_qemu_path(partition, "console.log");
        g_autofree char *words = g_strconcat(partition->run_dir, ".log", NULL);

        if (partition->pid) {
            trim(partition, console, owner);
            trim(partition, words, owner);
        }
    }
    return G_SOURCE_CONTINUE;
}

void lpm_logs_watch(LpmHost *host)
{
    host->logs_timer = g_timeout_add(LPM_LOG_LOOK_MS, on_look, host);
}
