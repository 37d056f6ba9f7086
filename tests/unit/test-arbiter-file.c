/* SPDX-License-Identifier: Apache-2.0 */
#include "host/arbiter.h"

#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const uint8_t uuid[16] = {1, 2, 3, 4};
static const uint8_t other_uuid[16] = {9};
static const uint8_t move[16] = {0xaa};

typedef struct {
    char *directory, *path;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
    (void)data;
    f->directory = g_dir_make_tmp("lpm-arbiter-XXXXXX", NULL);
    f->path = g_build_filename(f->directory, ".lpm", "p.record", NULL);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autofree char *inner = g_path_get_dirname(f->path);
    g_unlink(f->path);
    g_assert_cmpint(g_rmdir(inner), ==, 0); /* nothing is left over */
    g_assert_cmpint(g_rmdir(f->directory), ==, 0);
    g_free(f->path);
    g_free(f->directory);
}

static LpmArbiterFile at(const Fixture *f, unsigned deadline_ms)
{
    return (LpmArbiterFile){f->path, uuid, g_get_monotonic_time() + (int64_t)deadline_ms * 1000};
}

static LpmRecord create(const Fixture *f)
{
    LpmRecord first, now;
    GError *error = NULL;
    LpmArbiterFile file = at(f, 1000);
    lpm_record_first(uuid, "alpha", 1, &first);
    g_assert_cmpint(lpm_arbiter_file_swap(&file, 0, &first, &now, &error), ==, LPM_ARBITER_DONE);
    g_assert_no_error(error);
    return now;
}

static LpmRecord next_of(const LpmRecord *now, LpmRecordState to, LpmRecordBy by)
{
    LpmRecord next;
    g_assert_true(lpm_record_next(now, to, by, move, "beta", 7, &next));
    return next;
}

static void way_of_a_record(Fixture *f, gconstpointer data)
{
    (void)data;
    GError *error = NULL;
    LpmRecord now;
    LpmArbiterFile file = at(f, 5000);
    /* A pool that is not mounted: nobody knows. */
    g_assert_cmpint(lpm_arbiter_file_read(&file, &now, &error), ==, LPM_ARBITER_UNKNOWN);
    g_assert_error(error, LPM_ERROR, LPM_ERROR_NOT_FOUND);
    g_clear_error(&error);
    g_autofree char *inner = g_path_get_dirname(f->path);
    g_assert_cmpint(g_mkdir(inner, 0700), ==, 0);
    g_assert_cmpint(lpm_arbiter_file_read(&file, &now, &error), ==, LPM_ARBITER_DONE);
    g_assert_cmpuint(now.revision, ==, 0);
    LpmRecord first = create(f), next = next_of(&first, LPM_RECORD_OFFER, LPM_RECORD_BY_OWNER);
    /* Creating twice loses and tells the winner. */
    g_assert_cmpint(lpm_arbiter_file_swap(&file, 0, &first, &now, &error), ==, LPM_ARBITER_LOST);
    g_assert_cmpuint(now.revision, ==, 1);
    /* A wrong revision loses and changes nothing. */
    g_assert_cmpint(lpm_arbiter_file_swap(&file, 5, &next, &now, &error), ==, LPM_ARBITER_LOST);
    g_assert_cmpint(lpm_arbiter_file_swap(&file, 1, &next, &now, &error), ==, LPM_ARBITER_DONE);
    g_assert_cmpint(lpm_arbiter_file_read(&file, &now, &error), ==, LPM_ARBITER_DONE);
    g_assert_cmpint(now.state, ==, LPM_RECORD_OFFER);
    g_assert_cmpint(lpm_arbiter_file_remove(&file, 1, &now, &error), ==, LPM_ARBITER_LOST);
    g_assert_cmpint(lpm_arbiter_file_remove(&file, 2, &now, &error), ==, LPM_ARBITER_DONE);
    g_assert_false(g_file_test(f->path, G_FILE_TEST_EXISTS));
    g_assert_no_error(error);
}

/* A record made from one that was only believed to be there, of the same revision, loses. */
static void believed_offer(Fixture *f, gconstpointer data)
{
    (void)data;
    LpmRecord first = create(f), now, seen;
    LpmArbiterFile file = at(f, 5000);
    LpmRecord believed = next_of(&first, LPM_RECORD_OFFER, LPM_RECORD_BY_OWNER);
    LpmRecord back = next_of(&first, LPM_RECORD_BACK, LPM_RECORD_BY_OWNER);
    LpmRecord taken = next_of(&believed, LPM_RECORD_TAKEN, LPM_RECORD_BY_PEER);
    g_assert_cmpint(lpm_arbiter_file_swap(&file, 1, &back, &now, NULL), ==, LPM_ARBITER_DONE);
    g_assert_cmpuint(back.revision, ==, believed.revision);
    g_assert_cmpint(lpm_arbiter_file_swap(&file, 2, &taken, &now, NULL), ==, LPM_ARBITER_LOST);
    g_assert_cmpint(now.state, ==, LPM_RECORD_BACK);
    g_assert_cmpint(lpm_arbiter_file_read(&file, &seen, NULL), ==, LPM_ARBITER_DONE);
    g_assert_cmpint(seen.state, ==, LPM_RECORD_BACK);
}

enum { RACES = 2000 };

/* One racer: offers and takes back as fast as it can, until the revision is RACES; its wins. */
static unsigned race(const Fixture *f)
{
    unsigned wins = 0;
    LpmRecord now;
    LpmArbiterFile file = at(f, 30000);
    if (lpm_arbiter_file_read(&file, &now, NULL) != LPM_ARBITER_DONE) {
        return 0;
    }
    while (now.revision < RACES) {
        bool settled = lpm_record_settled(now.state);
        LpmRecord next =
            next_of(&now, settled ? LPM_RECORD_OFFER : LPM_RECORD_BACK, LPM_RECORD_BY_OWNER);
        LpmArbiterResult result = lpm_arbiter_file_swap(&file, now.revision, &next, &now, NULL);
        if (result == LPM_ARBITER_UNKNOWN) {
            return 0;
        }
        wins += result == LPM_ARBITER_DONE;
    }
    return wins;
}

/* Two processes: as many wins as there are revisions, so each swap had exactly one winner. */
static void two_processes_race(Fixture *f, gconstpointer data)
{
    (void)data;
    int ends[2];
    unsigned theirs = 0;
    create(f);
    g_assert_cmpint(pipe(ends), ==, 0);
    pid_t child = fork();
    if (child == 0) {
        unsigned wins = race(f);
        _exit(write(ends[1], &wins, sizeof wins) == sizeof wins ? 0 : 1);
    }
    unsigned ours = race(f);
    g_assert_cmpint(read(ends[0], &theirs, sizeof theirs), ==, sizeof theirs);
    int status = 0;
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_cmpint(status, ==, 0);
    g_test_message("wins: %u and %u", ours, theirs);
    g_assert_cmpuint(ours + theirs, ==, RACES - 1);
    close(ends[0]);
    close(ends[1]);
}

/* A write cut at any byte leaves the old value in force. */
static void torn_write(Fixture *f, gconstpointer data)
{
    (void)data;
    LpmRecord now = create(f), seen;
    LpmArbiterFile file = at(f, 30000);
    LpmRecord second = next_of(&now, LPM_RECORD_OFFER, LPM_RECORD_BY_OWNER);
    g_assert_cmpint(lpm_arbiter_file_swap(&file, 1, &second, &now, NULL), ==, LPM_ARBITER_DONE);
    LpmRecord third = next_of(&now, LPM_RECORD_TAKEN, LPM_RECORD_BY_PEER);
    uint8_t whole[2 * LPM_RECORD_SIZE], bytes[LPM_RECORD_SIZE], torn[LPM_RECORD_SIZE];
    lpm_record_encode(&third, bytes);
    int fd = open(f->path, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(pread(fd, whole, sizeof whole, 0), ==, sizeof whole);
    for (size_t cut = 0; cut <= LPM_RECORD_SIZE; cut++) {
        memcpy(torn, whole, sizeof torn); /* the first slot is not in force now */
        memcpy(torn, bytes, cut);
        g_assert_cmpint(pwrite(fd, torn, sizeof torn, 0), ==, sizeof torn);
        g_assert_cmpint(lpm_arbiter_file_read(&file, &seen, NULL), ==, LPM_ARBITER_DONE);
        bool complete = memcmp(torn, bytes, sizeof torn) == 0;
        g_assert_cmpuint(seen.revision, ==, complete ? 3 : 2);
    }
    close(fd);
}

/* Damage to both slots, a strange file, another partition's file: errors that name the file. */
static void damaged(Fixture *f, gconstpointer data)
{
    (void)data;
    create(f);
    LpmArbiterFile file = at(f, 5000);
    LpmRecord now;
    g_autoptr(GError) error = NULL;
    file.partition = other_uuid;
    g_assert_cmpint(lpm_arbiter_file_read(&file, &now, &error), ==, LPM_ARBITER_UNKNOWN);
    g_assert_nonnull(strstr(error->message, f->path));
    g_clear_error(&error);
    file.partition = uuid;
    g_assert_true(g_file_set_contents(f->path, "", 0, NULL));
    g_assert_cmpint(lpm_arbiter_file_read(&file, &now, &error), ==, LPM_ARBITER_UNKNOWN);
    g_assert_error(error, LPM_ERROR, LPM_ERROR_STORAGE);
    g_clear_error(&error);
    LpmRecord first;
    lpm_record_first(uuid, "alpha", 1, &first);
    g_assert_cmpint(lpm_arbiter_file_swap(&file, 1, &first, &now, &error), ==, LPM_ARBITER_UNKNOWN);
    g_assert_error(error, LPM_ERROR, LPM_ERROR_STORAGE);
}

typedef struct {
    GMainLoop *loop;
    LpmArbiterResult result;
    LpmErrorCode code;
    unsigned answers;
} Waiter;

static void answered(LpmArbiterResult result, const LpmRecord *now, const GError *error, void *data)
{
    Waiter *waiter = data;
    waiter->result = result;
    waiter->code = error ? (LpmErrorCode)error->code : LPM_ERROR_N;
    waiter->answers++;
    g_assert_cmpint(now == NULL, ==, result == LPM_ARBITER_UNKNOWN);
    g_main_loop_quit(waiter->loop);
}

static gboolean quit(gpointer data)
{
    g_main_loop_quit(data);
    return G_SOURCE_REMOVE;
}

/* A process that holds the lock and is stopped: unknown at the deadline, and no late write. */
static void stopped_holder(Fixture *f, gconstpointer data)
{
    (void)data;
    LpmRecord first = create(f), next = next_of(&first, LPM_RECORD_OFFER, LPM_RECORD_BY_OWNER);
    int ends[2];
    char ready = 0;
    g_assert_cmpint(pipe(ends), ==, 0);
    pid_t child = fork();
    if (child == 0) {
        int fd = open(f->path, O_RDWR | O_CLOEXEC);
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        bool locked = fcntl(fd, F_OFD_SETLK, &lock) == 0 && write(ends[1], "x", 1) == 1;
        raise(SIGSTOP);
        _exit(locked ? 0 : 1);
    }
    g_assert_cmpint(read(ends[0], &ready, 1), ==, 1);
    LpmArbiter *arbiter = lpm_arbiter_file_new(f->path, uuid);
    Waiter waiter = {.loop = g_main_loop_new(NULL, FALSE)};
    gint64 start = g_get_monotonic_time();
    lpm_arbiter_swap(arbiter, 1, &next, 200, answered, &waiter);
    g_assert_cmpuint(waiter.answers, ==, 0);
    g_main_loop_run(waiter.loop);
    gint64 took = g_get_monotonic_time() - start;
    g_assert_cmpint(waiter.result, ==, LPM_ARBITER_UNKNOWN);
    g_assert_cmpint(waiter.code, ==, LPM_ERROR_TIMEOUT);
    g_assert_cmpint(took, >=, 190000);
    g_assert_cmpint(took, <, 2000000);
    kill(child, SIGCONT);
    int status = 0;
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_timeout_add(100, quit, waiter.loop); /* time for a late write, which must not come */
    g_main_loop_run(waiter.loop);
    LpmArbiterFile file = at(f, 1000);
    LpmRecord now;
    g_assert_cmpint(lpm_arbiter_file_read(&file, &now, NULL), ==, LPM_ARBITER_DONE);
    g_assert_cmpuint(now.revision, ==, 1);
    g_assert_cmpuint(waiter.answers, ==, 1);
    lpm_arbiter_unref(arbiter);
    g_main_loop_unref(waiter.loop);
    close(ends[0]);
    close(ends[1]);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    static const struct {
        const char *name;
        void (*run)(Fixture *f, gconstpointer data);
    } tests[] = {
        {"/arbiter-file/way-of-a-record", way_of_a_record},
        {"/arbiter-file/believed-offer", believed_offer},
        {"/arbiter-file/race", two_processes_race},
        {"/arbiter-file/torn-write", torn_write},
        {"/arbiter-file/damaged", damaged},
        {"/arbiter-file/stopped-holder", stopped_holder},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_test_add(tests[i].name, Fixture, NULL, set_up, tests[i].run, tear_down);
    }
    return g_test_run();
}
