/* SPDX-License-Identifier: Apache-2.0 */
/* What only the arbiter `scsi` has: the lock and who loses it, the table of entries, logins. */
#include "arbiter-servers.h"
#include "host/arbiter.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 512, FIRST_BLOCK = 8, PATIENT_US = 5000000 };

typedef struct {
    Server server;
    char *image;
} Fixture;

static const uint8_t uuid[16] = {1, 2, 3, 4};

static void set_up(Fixture *f, gconstpointer data)
{
    server_init(&f->server);
    f->server.chap = g_strcmp0(data, "chap") == 0;
    /* "small": room for four entries */
    f->image =
        tgt_image(&f->server, g_strcmp0(data, "small") == 0 ? (FIRST_BLOCK + 8) * BLOCK : 1 << 20);
    tgt_start(&f->server, f->image);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    server_clear(&f->server);
    g_free(f->image);
}

static LpmArbiterResult ask(LpmArbiter *arbiter, LpmArbiterVerb verb, uint64_t expected,
                            const LpmRecord *next, LpmRecord *ret_now, GError **error)
{
    LpmArbiterAsk one = {verb, expected, {.revision = 0}, g_get_monotonic_time() + PATIENT_US};
    if (next) {
        one.next = *next;
    }
    return arbiter->ops->work(arbiter, &one, ret_now, error);
}

static LpmArbiterResult create(LpmArbiter *arbiter, GError **error)
{
    LpmRecord first, now;
    lpm_record_first(arbiter->partition, "alpha", 1, &first);
    return ask(arbiter, LPM_ARBITER_SWAP, 0, &first, &now, error);
}

static uint64_t revision_of(LpmArbiter *arbiter)
{
    LpmRecord now;
    GError *error = NULL;
    g_assert_cmpint(ask(arbiter, LPM_ARBITER_READ, 0, NULL, &now, &error), ==, LPM_ARBITER_DONE);
    g_assert_no_error(error);
    return now.revision;
}

/* Into the image, behind tgtd's back. */
static void poke(const Fixture *f, uint64_t block, const void *bytes, size_t size)
{
    int fd = open(f->image, O_WRONLY | O_CLOEXEC);
    g_assert_cmpint(pwrite(fd, bytes, size, (off_t)(block * BLOCK)), ==, size);
    close(fd);
}

static uint64_t block_with_record(const Fixture *f)
{
    g_autofree char *bytes = NULL;
    gsize size = 0;
    g_assert_true(g_file_get_contents(f->image, &bytes, &size, NULL));
    for (uint64_t block = FIRST_BLOCK; block < size / BLOCK; block++) {
        if (memcmp(bytes + block * BLOCK, "LPMOWNER", 8) == 0) {
            return block;
        }
    }
    g_assert_not_reached();
}

/* --- the lock --- */

/* A holder that stands still between its look and its write: the lock goes on without it, and its
 * write is refused, also after the other one has given the lock back. */
static void late_writer(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(LpmLockLun) alpha = tgt_client(&f->server, "alpha");
    g_autoptr(LpmLockLun) beta = tgt_client(&f->server, "beta");
    g_autoptr(LpmArbiter) arbiter = lpm_arbiter_scsi_new(beta, uuid);
    LpmScsi *session = NULL;
    LpmLockTable table;
    GError *error = NULL;
    int64_t deadline = g_get_monotonic_time() + 4 * PATIENT_US;
    g_assert_true(lpm_lock_lun_enter(alpha, deadline, &session, &table, &error));
    g_assert_cmpint(lpm_lock_lun_take(alpha, &error), ==, LPM_SCSI_GOOD);
    g_assert_no_error(error);
    int64_t begin = g_get_monotonic_time();
    g_assert_cmpint(create(arbiter, &error), ==, LPM_ARBITER_DONE);
    g_assert_no_error(error);
    int64_t took = g_get_monotonic_time() - begin;
    g_test_message("taken over after %d ms", (int)(took / 1000));
    g_assert_cmpint(took, >=, LPM_LOCK_LAPSE_MS * 1000);
    uint8_t bytes[BLOCK];
    memset(bytes, 0xff, sizeof bytes);
    uint64_t block = block_with_record(f);
    g_assert_cmpint(lpm_scsi_write(session, block, BLOCK, bytes, BLOCK, NULL), ==,
                    LPM_SCSI_CONFLICT);
    g_assert_cmpuint(revision_of(arbiter), ==, 1);
    g_assert_cmpint(lpm_scsi_write(session, block, BLOCK, bytes, BLOCK, NULL), ==,
                    LPM_SCSI_CONFLICT);
    /* It can have the lock again, and may then write. */
    g_assert_cmpint(lpm_lock_lun_take(alpha, &error), ==, LPM_SCSI_GOOD);
    g_assert_no_error(error);
    g_assert_cmpint(lpm_scsi_write(session, block ^ 1, BLOCK, bytes, BLOCK, NULL), ==,
                    LPM_SCSI_GOOD);
    g_assert_true(lpm_lock_lun_give(alpha));
    lpm_lock_lun_leave(alpha, true);
    g_assert_cmpuint(revision_of(arbiter), ==, 1);
}

/* Nobody writes without the lock, registered or not. */
static void stranger_writes(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(LpmLockLun) alpha = tgt_client(&f->server, "alpha");
    g_autoptr(LpmLockLun) beta = tgt_client(&f->server, "beta");
    g_autoptr(LpmArbiter) arbiter = lpm_arbiter_scsi_new(alpha, uuid);
    LpmScsi *session = NULL;
    LpmLockTable table;
    GError *error = NULL;
    uint8_t bytes[BLOCK] = {1};
    g_assert_cmpint(create(arbiter, &error), ==, LPM_ARBITER_DONE);
    g_assert_true(
        lpm_lock_lun_enter(beta, g_get_monotonic_time() + PATIENT_US, &session, &table, &error));
    g_assert_cmpint(lpm_scsi_write(session, FIRST_BLOCK, BLOCK, bytes, BLOCK, NULL), ==,
                    LPM_SCSI_CONFLICT);
    g_assert_cmpint(lpm_scsi_reserve(session, LPM_SCSI_REGISTER_ANYHOW, 0, 77, NULL), ==,
                    LPM_SCSI_GOOD);
    g_assert_cmpint(lpm_scsi_write(session, FIRST_BLOCK, BLOCK, bytes, BLOCK, NULL), ==,
                    LPM_SCSI_CONFLICT);
    lpm_lock_lun_leave(beta, false);
}

/* Another's reservation is respected, and named. */
static void reserved(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(LpmLockLun) alpha = tgt_client(&f->server, "alpha");
    g_autoptr(LpmLockLun) beta = tgt_client(&f->server, "beta");
    g_autoptr(LpmArbiter) arbiter = lpm_arbiter_scsi_new(alpha, uuid);
    LpmScsi *session = NULL;
    LpmLockTable table;
    g_autoptr(GError) error = NULL;
    g_assert_true(
        lpm_lock_lun_enter(beta, g_get_monotonic_time() + PATIENT_US, &session, &table, &error));
    LpmScsiReservation now;
    g_assert_cmpint(lpm_scsi_reserve(session, LPM_SCSI_REGISTER_ANYHOW, 0, 77, NULL), ==,
                    LPM_SCSI_GOOD);
    g_assert_cmpint(lpm_scsi_reservation(session, &now, &error), ==, LPM_SCSI_GOOD);
    g_assert_cmpint(lpm_scsi_reserve(session, LPM_SCSI_PREEMPT, 77, now.key, NULL), ==,
                    LPM_SCSI_GOOD);
    g_assert_cmpint(create(arbiter, &error), ==, LPM_ARBITER_UNKNOWN);
    g_test_message("%s", error->message);
    g_assert_error(error, LPM_ERROR, LPM_ERROR_BUSY);
    g_assert_nonnull(strstr(error->message, "000000000000004d"));
    lpm_lock_lun_leave(beta, false);
}

/* Registrations of processes that died while they waited do not pile up. */
static void left_over(Fixture *f, gconstpointer data)
{
    (void)data;
    GError *error = NULL;
    LpmScsi *session = NULL;
    LpmLockTable table;
    unsigned n = 0;
    uint64_t keys[1];
    for (unsigned i = 0; i < 40; i++) {
        g_autoptr(LpmLockLun) one = tgt_client(&f->server, "one");
        g_assert_true(
            lpm_lock_lun_enter(one, g_get_monotonic_time() + PATIENT_US, &session, &table, &error));
        uint64_t key = UINT64_C(0x4c50) << 48 | (i + 1) << 1 | 1;
        g_assert_cmpint(lpm_scsi_reserve(session, LPM_SCSI_REGISTER_ANYHOW, 0, key, &error), ==,
                        LPM_SCSI_GOOD);
        lpm_lock_lun_leave(one, false);
    }
    g_autoptr(LpmLockLun) last = tgt_client(&f->server, "last");
    g_assert_true(
        lpm_lock_lun_enter(last, g_get_monotonic_time() + PATIENT_US, &session, &table, &error));
    g_assert_cmpint(lpm_scsi_keys(session, keys, 1, &n, &error), ==, LPM_SCSI_GOOD);
    g_assert_cmpuint(n, <, 33);
    lpm_lock_lun_leave(last, true);
    g_autoptr(LpmArbiter) arbiter = lpm_arbiter_scsi_new(last, uuid);
    g_assert_cmpint(create(arbiter, &error), ==, LPM_ARBITER_DONE);
    g_assert_no_error(error);
}

/* --- what is on the disk --- */

/* A write cut at any byte leaves the old value in force. */
static void torn_write(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(LpmLockLun) lun = tgt_client(&f->server, "alpha");
    g_autoptr(LpmArbiter) arbiter = lpm_arbiter_scsi_new(lun, uuid);
    static const uint8_t move[16] = {0xaa};
    LpmRecord first, second;
    uint8_t bytes[BLOCK], torn[BLOCK];
    g_assert_cmpint(create(arbiter, NULL), ==, LPM_ARBITER_DONE);
    lpm_record_first(uuid, "alpha", 1, &first);
    g_assert_true(
        lpm_record_next(&first, LPM_RECORD_OFFER, LPM_RECORD_BY_OWNER, move, "beta", 7, &second));
    lpm_record_encode(&second, bytes);
    uint64_t other = block_with_record(f) ^ 1; /* the first entry begins with an even block */
    for (size_t cut = 0; cut <= BLOCK; cut += 8) {
        memset(torn, 0, sizeof torn);
        memcpy(torn, bytes, cut);
        poke(f, other, torn, sizeof torn);
        g_assert_cmpuint(revision_of(arbiter), ==, cut == BLOCK ? 2 : 1);
    }
}

/* The first write of an entry, cut: room for the next. Both blocks bad: an error that names them.
 */
static void damaged(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(LpmLockLun) lun = tgt_client(&f->server, "alpha");
    g_autoptr(LpmArbiter) arbiter = lpm_arbiter_scsi_new(lun, uuid);
    uint8_t bad[2 * BLOCK];
    memset(bad, 0x55, sizeof bad);
    g_assert_cmpint(create(arbiter, NULL), ==, LPM_ARBITER_DONE);
    uint64_t block = block_with_record(f);
    poke(f, block, bad, BLOCK);
    g_assert_cmpuint(revision_of(arbiter), ==, 0);
    g_assert_cmpint(create(arbiter, NULL), ==, LPM_ARBITER_DONE);
    g_assert_cmpuint(revision_of(arbiter), ==, 1);
    g_assert_cmpuint(block_with_record(f), ==, block);
    poke(f, block, bad, sizeof bad);
    g_autoptr(GError) error = NULL;
    LpmRecord now;
    g_assert_cmpint(ask(arbiter, LPM_ARBITER_READ, 0, NULL, &now, &error), ==, LPM_ARBITER_UNKNOWN);
    g_assert_error(error, LPM_ERROR, LPM_ERROR_STORAGE);
    g_autofree char *name = g_strdup_printf("%" G_GUINT64_FORMAT, block);
    g_assert_nonnull(strstr(error->message, name));
    g_clear_error(&error);
    g_assert_cmpint(create(arbiter, &error), ==, LPM_ARBITER_UNKNOWN);
    g_assert_error(error, LPM_ERROR, LPM_ERROR_STORAGE);
}

/* Four places: the fifth partition is refused, and each of the four keeps its own record. */
static void collisions(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(LpmLockLun) lun = tgt_client(&f->server, "alpha");
    LpmArbiter *arbiters[5];
    g_autoptr(GError) error = NULL;
    LpmRecord now;
    for (uint8_t i = 0; i < 5; i++) {
        uint8_t id[16] = {(uint8_t)(i + 1)};
        arbiters[i] = lpm_arbiter_scsi_new(lun, id);
        g_assert_cmpint(create(arbiters[i], &error), ==,
                        i < 4 ? LPM_ARBITER_DONE : LPM_ARBITER_UNKNOWN);
    }
    g_test_message("%s", error->message);
    g_assert_nonnull(strstr(error->message, "no room"));
    g_assert_cmpint(ask(arbiters[1], LPM_ARBITER_REMOVE, 1, NULL, &now, NULL), ==,
                    LPM_ARBITER_DONE);
    g_assert_cmpint(create(arbiters[4], NULL), ==, LPM_ARBITER_DONE);
    for (uint8_t i = 0; i < 5; i++) {
        g_assert_cmpuint(revision_of(arbiters[i]), ==, i == 1 ? 0 : 1);
        lpm_arbiter_unref(arbiters[i]);
    }
}

/* Somebody's disk is not written to, and nothing is reserved on it. */
static void foreign(Fixture *f, gconstpointer data)
{
    (void)data;
    static const struct {
        uint64_t block;
        const char *text;
    } rows[] = {{0, "a boot sector"}, {2, "a file system's superblock"}, {2047, "the last block"}};
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        static const uint8_t zeros[BLOCK];
        poke(f, rows[i].block, rows[i].text, strlen(rows[i].text));
        g_autoptr(LpmLockLun) lun = tgt_client(&f->server, "alpha");
        g_autoptr(LpmArbiter) arbiter = lpm_arbiter_scsi_new(lun, uuid);
        g_autoptr(GError) error = NULL;
        g_assert_cmpint(create(arbiter, &error), ==, LPM_ARBITER_UNKNOWN);
        g_assert_nonnull(strstr(error->message, "something else"));
        g_assert_nonnull(strstr(error->message, "LUN 1"));
        poke(f, rows[i].block, zeros, sizeof zeros);
    }
    g_autofree char *bytes = NULL;
    gsize size = 0;
    g_assert_true(g_file_get_contents(f->image, &bytes, &size, NULL));
    for (gsize i = 0; i < size; i++) {
        g_assert_cmpint(bytes[i], ==, 0);
    }
}

/* --- logins --- */

static void chap(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(LpmLockLun) good = tgt_client(&f->server, "alpha");
    g_autoptr(LpmArbiter) arbiter = lpm_arbiter_scsi_new(good, uuid);
    g_autoptr(GError) error = NULL;
    g_assert_cmpint(create(arbiter, &error), ==, LPM_ARBITER_DONE);
    g_assert_no_error(error);
    g_autofree char *secret = server_file(&f->server, "secret");
    g_assert_cmpint(g_chmod(secret, 0644), ==, 0);
    g_autoptr(LpmLockLun) careless = tgt_client(&f->server, "alpha");
    g_autoptr(LpmArbiter) refused = lpm_arbiter_scsi_new(careless, uuid);
    g_assert_cmpint(create(refused, &error), ==, LPM_ARBITER_UNKNOWN);
    g_assert_nonnull(strstr(error->message, "0600"));
    g_clear_error(&error);
    g_assert_true(g_file_set_contents(secret, "another-secret\n", -1, NULL));
    g_assert_cmpint(g_chmod(secret, 0600), ==, 0);
    g_autoptr(LpmLockLun) wrong = tgt_client(&f->server, "alpha");
    g_autoptr(LpmArbiter) stranger = lpm_arbiter_scsi_new(wrong, uuid);
    g_assert_cmpint(create(stranger, &error), ==, LPM_ARBITER_UNKNOWN);
    g_test_message("%s", error->message);
    g_assert_nonnull(strstr(error->message, "login"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);
    static const struct {
        const char *name, *how;
        void (*run)(Fixture *f, gconstpointer data);
    } tests[] = {
        {"late-writer", "", late_writer},
        {"stranger-writes", "", stranger_writes},
        {"reserved", "", reserved},
        {"left-over", "", left_over},
        {"torn-write", "", torn_write},
        {"damaged", "", damaged},
        {"collisions", "small", collisions},
        {"foreign", "", foreign},
        {"chap", "chap", chap},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *path = g_strdup_printf("/arbiter-scsi/%s", tests[i].name);
        g_test_add(path, Fixture, tests[i].how, set_up, tests[i].run, tear_down);
    }
    return g_test_run();
}
