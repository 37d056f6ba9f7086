/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The record in a file beside the partition's disk: two slots, an open-file-description lock on the
 * whole file, write of the slot that is not in force, fdatasync. The blocking part is first, the
 * thread that does it last.
 */
#include "host/arbiter.h"

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

LpmArbiterResult lpm_arbiter_file_read(const LpmArbiterFile *file, LpmRecord *ret_now,
                                       GError **error)
{
    LPM_AUTO_FD int fd = -1;
    Content content = {.now.revision = 0};
    if (!open_locked(file, &fd, error) || (fd >= 0 && !read_slots(fd, file, &content, error))) {
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
    if (g_mkdir_with_parents(directory, 0755) != 0) {
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
    Content content = {.now.revision = 0};
    if (!open_locked(file, &fd, error) || (fd >= 0 && !read_slots(fd, file, &content, error))) {
        return LPM_ARBITER_UNKNOWN;
    }
    *ret_content = content;
    if (content.now.revision != expected || (next && !lpm_record_follows(&content.now, next))) {
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

typedef enum { JOB_READ, JOB_SWAP, JOB_REMOVE } JobKind;

/* One call. The thread owns what is above the line until it ends; the main loop owns the rest. */
typedef struct {
    FileArbiter *arbiter; /* a reference; given back on the main loop */
    JobKind kind;
    uint64_t expected;
    LpmRecord next;
    int64_t deadline_us;
    LpmArbiterResult result;
    LpmRecord now;
    GError *error;
    /* --- */
    LpmArbiterReply reply; /* NULL once answered */
    void *data;
    guint timer;
} Job;

static void job_answer(Job *job, LpmArbiterResult result, const LpmRecord *now, const GError *error)
{
    LpmArbiterReply reply = job->reply;
    job->reply = NULL;
    if (reply) {
        reply(result, result == LPM_ARBITER_UNKNOWN ? NULL : now, error, job->data);
    }
}

/* The file system does not answer: the thread stays behind, its result will be dropped. */
static gboolean job_too_late(gpointer data)
{
    Job *job = data;
    job->timer = 0;
    g_autoptr(GError) error = NULL;
    lpm_error_set(&error, LPM_ERROR_TIMEOUT,
                  "the file system of the ownership record %s does not answer", job->arbiter->path);
    job_answer(job, LPM_ARBITER_UNKNOWN, NULL, error);
    return G_SOURCE_REMOVE;
}

static void job_run(GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
    (void)source;
    (void)cancellable;
    Job *job = data;
    LpmArbiterFile file = {job->arbiter->path, job->arbiter->base.partition, job->deadline_us};
    switch (job->kind) {
    case JOB_READ:
        job->result = lpm_arbiter_file_read(&file, &job->now, &job->error);
        break;
    case JOB_SWAP:
        job->result =
            lpm_arbiter_file_swap(&file, job->expected, &job->next, &job->now, &job->error);
        break;
    case JOB_REMOVE:
        job->result = lpm_arbiter_file_remove(&file, job->expected, &job->now, &job->error);
        break;
    }
    g_task_return_boolean(task, TRUE);
}

static void job_ended(GObject *source, GAsyncResult *result, gpointer data)
{
    (void)source;
    (void)result;
    Job *job = data;
    g_clear_handle_id(&job->timer, g_source_remove);
    job_answer(job, job->result, &job->now, job->error);
    lpm_arbiter_unref(&job->arbiter->base);
    g_clear_error(&job->error);
    g_free(job);
}

static void job_start(LpmArbiter *arbiter, JobKind kind, uint64_t expected, const LpmRecord *next,
                      unsigned deadline_ms, LpmArbiterReply reply, void *data)
{
    Job *job = g_new0(Job, 1);
    job->arbiter = (FileArbiter *)lpm_arbiter_ref(arbiter);
    job->kind = kind;
    job->expected = expected;
    if (next) {
        job->next = *next;
    }
    job->deadline_us = g_get_monotonic_time() + (int64_t)deadline_ms * 1000;
    job->reply = reply;
    job->data = data;
    /* A little later than the thread's own deadline, so that its reason is the one that is told. */
    job->timer = g_timeout_add(deadline_ms + 50, job_too_late, job);
    g_autoptr(GTask) task = g_task_new(NULL, NULL, job_ended, job);
    g_task_set_priority(task, G_PRIORITY_HIGH);
    g_task_set_task_data(task, job, NULL);
    g_task_run_in_thread(task, job_run);
}

static void file_read(LpmArbiter *arbiter, unsigned deadline_ms, LpmArbiterReply reply, void *data)
{
    job_start(arbiter, JOB_READ, 0, NULL, deadline_ms, reply, data);
}

static void file_swap(LpmArbiter *arbiter, uint64_t expected, const LpmRecord *next,
                      unsigned deadline_ms, LpmArbiterReply reply, void *data)
{
    job_start(arbiter, JOB_SWAP, expected, next, deadline_ms, reply, data);
}

static void file_remove(LpmArbiter *arbiter, uint64_t expected, unsigned deadline_ms,
                        LpmArbiterReply reply, void *data)
{
    job_start(arbiter, JOB_REMOVE, expected, NULL, deadline_ms, reply, data);
}

static void file_free(LpmArbiter *arbiter)
{
    g_free(((FileArbiter *)arbiter)->path);
}

static const LpmArbiterOps file_ops = {"file", file_read, file_swap, file_remove, file_free};

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
