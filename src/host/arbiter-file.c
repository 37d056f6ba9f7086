/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The record in a file beside the partition's disk: two slots, an open-file-description lock on the
 * whole file, write of the slot that is not in force, fdatasync.
 */
#include "host/arbiter.h"

#include "base/directory.h"
#include "bytes/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SLOTS = 2, FILE_SIZE = SLOTS * LPM_RECORD_SIZE, LOCK_RETRY_US = 1000 };

/* UNKNOWN with errno's reason; what has happened is for the next read to say. */
static LpmArbiterResult unknown(GError **error, const char *path, const char *doing)
{
    lpm_error_set(error, LPM_ERROR_STORAGE, "cannot %s the ownership record %s: %s", doing, path,
                  g_strerror(errno));
    return LPM_ARBITER_UNKNOWN;
}

/* Waits for the lock until the deadline; a blocking lock call could not be given up. */
static bool lock_file(int fd, const LpmArbiterFile *file, GError **error)
{
    for (;;) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
            break;
        }
        if (errno != EAGAIN && errno != EACCES && errno != EINTR) {
            unknown(error, file->path, "lock");
            return false;
        }
        if (g_get_monotonic_time() >= file->deadline_us) {
            return lpm_error_set(error, LPM_ERROR_TIMEOUT,
                                 "the ownership record %s is locked by another process; it will be "
                                 "read again",
                                 file->path);
        }
        g_usleep(LOCK_RETRY_US);
    }
    /* Whoever asked may have stopped waiting while this process was stopped. */
    if (g_get_monotonic_time() >= file->deadline_us) {
        return lpm_error_set(error, LPM_ERROR_TIMEOUT, "the lock of %s came too late", file->path);
    }
    return true;
}

typedef struct {
    LpmRecord now; /* revision 0: none */
    unsigned slot; /* in force */
} Content;

/* The slot in force. A file without a valid slot is an error, never "no record". */
static bool read_slots(int fd, const LpmArbiterFile *file, Content *ret, GError **error)
{
    uint8_t bytes[FILE_SIZE];
    ssize_t size = pread(fd, bytes, sizeof bytes, 0);
    if (size < 0) {
        unknown(error, file->path, "read");
        return false;
    }
    memset(bytes + size, 0, sizeof bytes - (size_t)size);
    Content found = {.now.revision = 0};
    LpmRecordStatus status = LPM_RECORD_OK;
    for (unsigned i = 0; i < SLOTS; i++) {
        LpmRecord record;
        LpmRecordStatus one = lpm_record_decode(bytes + i * LPM_RECORD_SIZE, &record);
        if (one == LPM_RECORD_OK && record.revision > found.now.revision) {
            found.now = record;
            found.slot = i;
        } else if (one != LPM_RECORD_OK) {
            status = one;
        }
    }
    if (found.now.revision == 0) {
        return lpm_error_set(error, LPM_ERROR_STORAGE,
                             "%s holds no valid ownership record (%s); restore it from the other "
                             "system's view before the partition is started anywhere",
                             file->path, lpm_record_status_text(status));
    }
    if (memcmp(found.now.partition, file->partition, LPM_RECORD_ID_SIZE) != 0) {
        return lpm_error_set(error, LPM_ERROR_STORAGE,
                             "%s is the ownership record of another partition", file->path);
    }
    *ret = found;
    return true;
}

/* Opens and locks. *ret_fd stays -1 when there is no file; that is no error. */
static bool open_locked(const LpmArbiterFile *file, int *ret_fd, GError **error)
{
    for (;;) {
        LPM_AUTO_FD int fd = open(file->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0) {
            return errno == ENOENT || unknown(error, file->path, "open") == LPM_ARBITER_DONE;
        }
        if (!lock_file(fd, file, error)) {
            return false;
        }
        /* It may have been removed, and made anew, while we waited for the lock. */
        struct stat opened, named;
        if (fstat(fd, &opened) != 0) {
            return unknown(error, file->path, "look at") == LPM_ARBITER_DONE;
        }
        if (stat(file->path, &named) == 0 && named.st_ino == opened.st_ino &&
            named.st_dev == opened.st_dev) {
            *ret_fd = lpm_bytes_steal_fd(&fd);
            return true;
        }
    }
}

/* A pool that is not mounted has no record either; that says nothing about the partition. */
static bool pool_is_there(const LpmArbiterFile *file, GError **error)
{
    g_autofree char *directory = g_path_get_dirname(file->path);
    if (g_file_test(directory, G_FILE_TEST_IS_DIR)) {
        return true;
    }
    return lpm_error_set(error, LPM_ERROR_NOT_FOUND,
                         "%s is not there, so that nobody knows whether the partition has an "
                         "ownership record; is the storage pool mounted?",
                         directory);
}

/* Opens, locks and reads. Without a file *ret_fd stays -1 and the revision is 0. */
static bool open_content(const LpmArbiterFile *file, int *ret_fd, Content *ret_content,
                         GError **error)
{
    *ret_content = (Content){.now.revision = 0};
    if (!open_locked(file, ret_fd, error)) {
        return false;
    }
    return *ret_fd < 0 ? pool_is_there(file, error) : read_slots(*ret_fd, file, ret_content, error);
}

LpmArbiterResult lpm_arbiter_file_read(const LpmArbiterFile *file, LpmRecord *ret_now,
                                       GError **error)
{
    LPM_AUTO_FD int fd = -1;
    Content content;
    if (!open_content(file, &fd, &content, error)) {
        return LPM_ARBITER_UNKNOWN;
    }
    *ret_now = content.now;
    return LPM_ARBITER_DONE;
}

static bool sync_directory(const char *path)
{
    g_autofree char *directory = g_path_get_dirname(path);
    LPM_AUTO_FD int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 && fsync(fd) == 0;
}

/* A new file, complete before it has its name: linking fails when somebody else was quicker. */
static LpmArbiterResult create(const LpmArbiterFile *file, const LpmRecord *next,
                               LpmRecord *ret_now, GError **error)
{
    g_autofree char *directory = g_path_get_dirname(file->path);
    if (lpm_directory_make(directory, 0755) != 0) {
        return unknown(error, directory, "make the directory of");
    }
    g_autofree char *temporary = g_strdup_printf("%s.new.XXXXXX", file->path);
    LPM_AUTO_FD int fd = g_mkstemp_full(temporary, O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) {
        return unknown(error, file->path, "create");
    }
    uint8_t bytes[FILE_SIZE] = {0};
    lpm_record_encode(next, bytes);
    bool written = lpm_bytes_write_full(fd, bytes, sizeof bytes) == 0 && fsync(fd) == 0;
    bool linked = written && link(temporary, file->path) == 0;
    int saved = errno;
    unlink(temporary);
    if (linked) {
        *ret_now = *next;
        return sync_directory(file->path) ? LPM_ARBITER_DONE : unknown(error, file->path, "sync");
    }
    errno = saved;
    if (written && saved == EEXIST) {
        LpmArbiterResult read = lpm_arbiter_file_read(file, ret_now, error);
        return read == LPM_ARBITER_DONE ? LPM_ARBITER_LOST : read;
    }
    return unknown(error, file->path, "write");
}

/*
 * Opens, locks, reads and compares. DONE with *ret_fd when the revision is the expected one, and
 * @next (NULL: removal) was made from what is there.
 */
static LpmArbiterResult compare(const LpmArbiterFile *file, uint64_t expected,
                                const LpmRecord *next, int *ret_fd, Content *ret_content,
                                GError **error)
{
    LPM_AUTO_FD int fd = -1;
    if (!open_content(file, &fd, ret_content, error)) {
        return LPM_ARBITER_UNKNOWN;
    }
    const LpmRecord *now = &ret_content->now;
    if (now->revision != expected || (next && !lpm_record_follows(now, next))) {
        return LPM_ARBITER_LOST;
    }
    *ret_fd = lpm_bytes_steal_fd(&fd);
    return LPM_ARBITER_DONE;
}

LpmArbiterResult lpm_arbiter_file_swap(const LpmArbiterFile *file, uint64_t expected,
                                       const LpmRecord *next, LpmRecord *ret_now, GError **error)
{
    if (expected == 0) {
        return create(file, next, ret_now, error);
    }
    LPM_AUTO_FD int fd = -1;
    Content content;
    LpmArbiterResult result = compare(file, expected, next, &fd, &content, error);
    if (result != LPM_ARBITER_DONE) {
        *ret_now = content.now;
        return result;
    }
    uint8_t bytes[LPM_RECORD_SIZE];
    lpm_record_encode(next, bytes);
    off_t at = (off_t)(content.slot ^ 1u) * LPM_RECORD_SIZE;
    ssize_t written = pwrite(fd, bytes, sizeof bytes, at);
    if (written != (ssize_t)sizeof bytes) {
        errno = written < 0 ? errno : ENOSPC;
        return unknown(error, file->path, "write");
    }
    if (fdatasync(fd) != 0) {
        result = unknown(error, file->path, "sync");
        /* The next read shall tell what the disk has, not what was to be written. */
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        return result;
    }
    *ret_now = *next;
    return LPM_ARBITER_DONE;
}

LpmArbiterResult lpm_arbiter_file_remove(const LpmArbiterFile *file, uint64_t expected,
                                         LpmRecord *ret_now, GError **error)
{
    LPM_AUTO_FD int fd = -1;
    Content content;
    LpmArbiterResult result = compare(file, expected, NULL, &fd, &content, error);
    if (result != LPM_ARBITER_DONE) {
        *ret_now = content.now;
        return result;
    }
    if (expected != 0 && (unlink(file->path) != 0 || !sync_directory(file->path))) {
        return unknown(error, file->path, "remove");
    }
    *ret_now = (LpmRecord){.revision = 0};
    return LPM_ARBITER_DONE;
}

/* --- off the main loop --- */

typedef struct {
    LpmArbiter base;
    char *path;
} FileArbiter;

static LpmArbiterResult file_work(LpmArbiter *arbiter, const LpmArbiterAsk *ask, LpmRecord *ret_now,
                                  GError **error)
{
    LpmArbiterFile file = {((FileArbiter *)arbiter)->path, arbiter->partition, ask->deadline_us};
    switch (ask->verb) {
    case LPM_ARBITER_SWAP:
        return lpm_arbiter_file_swap(&file, ask->expected, &ask->next, ret_now, error);
    case LPM_ARBITER_REMOVE:
        return lpm_arbiter_file_remove(&file, ask->expected, ret_now, error);
    case LPM_ARBITER_READ:
        break;
    }
    return lpm_arbiter_file_read(&file, ret_now, error);
}

static void file_free(LpmArbiter *arbiter)
{
    g_free(((FileArbiter *)arbiter)->path);
}

static const LpmArbiterOps file_ops = {
    .name = "file",
    .free = file_free,
    .work = file_work,
    .worker = "the file system of the ownership record",
};

LpmArbiter *lpm_arbiter_file_new(const char *path, const uint8_t partition[LPM_RECORD_ID_SIZE])
{
    FileArbiter *arbiter = g_new0(FileArbiter, 1);
    arbiter->base.ops = &file_ops;
    arbiter->base.refs = 1;
    memcpy(arbiter->base.partition, partition, LPM_RECORD_ID_SIZE);
    arbiter->base.where = g_strdup(path);
    arbiter->path = g_strdup(path);
    return &arbiter->base;
}
