/* SPDX-License-Identifier: Apache-2.0 */
#include "host/logs.h"

#include "base/log.h"
#include "bytes/bytes.h"
#include "host/partition.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
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

char *lpm_log_console_tail(const LpmPartition *partition)
{
    g_autofree char *path = lpm_qemu_path(partition, "console.log");
    LPM_AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    g_autofree char *text = g_malloc0(LPM_LOG_TAIL + 1);
    struct stat status;
    ssize_t got;

    if (fd < 0 || fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        return g_strdup("");
    }
    got = pread(fd, text, LPM_LOG_TAIL, MAX(0, status.st_size - LPM_LOG_TAIL));
    for (ssize_t i = 0; i < got; i++) {
        text[i] = text[i] ? text[i] : ' ';
    }
    return g_utf8_make_valid(text, MAX(0, got));
}

void lpm_log_console_begin(const LpmPartition *partition, const char *tail, uid_t uid, gid_t gid)
{
    g_autofree char *path = lpm_qemu_path(partition, "console.log");
    g_autoptr(GDateTime) now =
        g_date_time_new_from_unix_utc(lpm_clock_realtime_us(partition->host->clock) / 1000000);
    g_autofree char *when = g_date_time_format(now, "%Y-%m-%d %H:%M:%S UTC");
    g_autofree char *text = g_strdup_printf("%.*s\n[openlpm: comes to %s, %s]\n", LPM_LOG_TAIL_MAX,
                                            tail, lpm_host_name(partition->host), when);
    LPM_AUTO_FD int fd = -1;

    (void)g_unlink(path);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || write(fd, text, strlen(text)) < 0 ||
        (uid != (uid_t)-1 && fchown(fd, uid, gid) != 0)) {
        lpm_log_warning(&(LpmLogFields){.partition = partition->profile->name},
                        "what its console said before is lost: %s: %s", path, g_strerror(errno));
    }
}

void lpm_logs_watch(LpmHost *host)
{
    host->logs_timer = g_timeout_add(LPM_LOG_LOOK_MS, on_look, host);
}
