/* SPDX-License-Identifier: Apache-2.0 */
/* The arbiters `etcd` and `scsi` against the real servers: what both must do. */
#include "arbiter-servers.h"
#include "host/arbiter.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const uint8_t uuid[16] = {1, 2, 3, 4};
static const uint8_t other_uuid[16] = {9};
static const uint8_t move[16] = {0xaa};

enum { PATIENT_MS = 5000, RACERS = 4, RACES = 500, KILLS = 25, RESTARTS = 6, LATENCIES = 300 };

/* --- the two kinds --- */

typedef struct {
    const char *name;
    bool scsi;
} Kind;

typedef struct {
    const Kind *kind;
    Server server;
    char *image;
} Fixture;

static void start(Fixture *f)
{
    if (f->kind->scsi) {
        tgt_start(&f->server, f->image);
    } else {
        etcd_start(&f->server);
    }
}

static void set_up(Fixture *f, gconstpointer data)
{
    f->kind = data;
    server_init(&f->server);
    f->image = tgt_image(&f->server, 1 << 20);
    start(f);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    server_clear(&f->server);
    g_free(f->image);
}

/* An arbiter with a client of its own, as another system has it. */
static LpmArbiter *arbiter_for(const Fixture *f, const char *system, const uint8_t partition[16])
{
    if (f->kind->scsi) {
        g_autoptr(LpmLockLun) lun = tgt_client(&f->server, system);
        return lpm_arbiter_scsi_new(lun, partition);
    }
    g_autoptr(LpmEtcd) etcd = etcd_client(&f->server);
    return lpm_arbiter_etcd_new(etcd, partition);
}

/* --- calls that block --- */

static LpmArbiterResult ask(LpmArbiter *arbiter, LpmArbiterVerb verb, uint64_t expected,
                            const LpmRecord *next, unsigned deadline_ms, LpmRecord *ret_now,
                            GError **error)
{
    LpmArbiterAsk one = {verb, expected, {.revision = 0}, 0};
    if (next) {
        one.next = *next;
    }
    one.deadline_us = g_get_monotonic_time() + (int64_t)deadline_ms * 1000;
    return arbiter->ops->work(arbiter, &one, ret_now, error);
}

#define ASSERT_ASK(want, arbiter, verb, expected, next, ret_now)                                   \
    do {                                                                                           \
        GError *ask_error = NULL;                                                                  \
        LpmArbiterResult got =                                                                     \
            ask(arbiter, verb, expected, next, PATIENT_MS, ret_now, &ask_error);                   \
        g_assert_no_error(ask_error);                                                              \
        g_assert_cmpint(got, ==, want);                                                            \
    } while (0)

static LpmRecord create(LpmArbiter *arbiter)
{
    LpmRecord first, now;
    lpm_record_first(arbiter->partition, "alpha", 1, &first);
    ASSERT_ASK(LPM_ARBITER_DONE, arbiter, LPM_ARBITER_SWAP, 0, &first, &now);
    return now;
}

static LpmRecord next_of(const LpmRecord *now, LpmRecordState to, LpmRecordBy by)
{
    LpmRecord next;
    g_assert_true(lpm_record_next(now, to, by, move, "beta", 7, &next));
    return next;
}

/* From settled to OFFER and back, without end. */
static LpmRecord step_of(const LpmRecord *now)
{
    bool settled = lpm_record_settled(now->state);
    LpmRecord next;
    g_assert_true(lpm_record_next(now, settled ? LPM_RECORD_OFFER : LPM_RECORD_BACK,
                                  LPM_RECORD_BY_OWNER, move, "beta", (uint64_t)getpid(), &next));
    return next;
}

/* --- tests --- */

static void way_of_a_record(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(LpmArbiter) arbiter = arbiter_for(f, "alpha", uuid);
    g_autoptr(LpmArbiter) beta = arbiter_for(f, "beta", uuid);
    LpmRecord now;
    ASSERT_ASK(LPM_ARBITER_DONE, arbiter, LPM_ARBITER_READ, 0, NULL, &now);
    g_assert_cmpuint(now.revision, ==, 0);
    LpmRecord first = create(arbiter),
              next = next_of(&first, LPM_RECORD_OFFER, LPM_RECORD_BY_OWNER);
    /* Creating twice loses and tells the winner. */
    ASSERT_ASK(LPM_ARBITER_LOST, beta, LPM_ARBITER_SWAP, 0, &next, &now);
    g_assert_cmpuint(now.revision, ==, 1);
    g_assert_cmpstr(now.owner, ==, "alpha");
    /* A wrong revision loses and changes nothing. */
    ASSERT_ASK(LPM_ARBITER_LOST, arbiter, LPM_ARBITER_SWAP, 5, &next, &now);
    ASSERT_ASK(LPM_ARBITER_DONE, arbiter, LPM_ARBITER_SWAP, 1, &next, &now);
    ASSERT_ASK(LPM_ARBITER_DONE, beta, LPM_ARBITER_READ, 0, NULL, &now);
    g_assert_cmpint(now.state, ==, LPM_RECORD_OFFER);
    g_assert_cmpstr(now.peer, ==, "beta");
    ASSERT_ASK(LPM_ARBITER_LOST, arbiter, LPM_ARBITER_REMOVE, 1, NULL, &now);
    g_assert_cmpuint(now.revision, ==, 2);
    ASSERT_ASK(LPM_ARBITER_DONE, beta, LPM_ARBITER_REMOVE, 2, NULL, &now);
    ASSERT_ASK(LPM_ARBITER_DONE, arbiter, LPM_ARBITER_READ, 0, NULL, &now);
    g_assert_cmpuint(now.revision, ==, 0);
    create(beta);
}

/* A record made from one that was only believed to be there, of the same revision, loses. */
static void believed_offer(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(LpmArbiter) arbiter = arbiter_for(f, "alpha", uuid);
    LpmRecord first = create(arbiter), now;
    LpmRecord believed = next_of(&first, LPM_RECORD_OFFER, LPM_RECORD_BY_OWNER);
    LpmRecord back = next_of(&first, LPM_RECORD_BACK, LPM_RECORD_BY_OWNER);
    LpmRecord taken = next_of(&believed, LPM_RECORD_TAKEN, LPM_RECORD_BY_PEER);
    ASSERT_ASK(LPM_ARBITER_DONE, arbiter, LPM_ARBITER_SWAP, 1, &back, &now);
    g_assert_cmpuint(back.revision, ==, believed.revision);
    ASSERT_ASK(LPM_ARBITER_LOST, arbiter, LPM_ARBITER_SWAP, 2, &taken, &now);
    g_assert_cmpint(now.state, ==, LPM_RECORD_BACK);
    ASSERT_ASK(LPM_ARBITER_DONE, arbiter, LPM_ARBITER_READ, 0, NULL, &now);
    g_assert_cmpint(now.state, ==, LPM_RECORD_BACK);
}

static void two_partitions(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(LpmArbiter) one = arbiter_for(f, "alpha", uuid);
    g_autoptr(LpmArbiter) other = arbiter_for(f, "alpha", other_uuid);
    LpmRecord now, first = create(one), next;
    create(other);
    next = next_of(&first, LPM_RECORD_OFFER, LPM_RECORD_BY_OWNER);
    ASSERT_ASK(LPM_ARBITER_DONE, one, LPM_ARBITER_SWAP, 1, &next, &now);
    ASSERT_ASK(LPM_ARBITER_DONE, other, LPM_ARBITER_READ, 0, NULL, &now);
    g_assert_cmpuint(now.revision, ==, 1);
    g_assert_cmpmem(now.partition, 16, other_uuid, 16);
    ASSERT_ASK(LPM_ARBITER_DONE, one, LPM_ARBITER_REMOVE, 2, NULL, &now);
    ASSERT_ASK(LPM_ARBITER_DONE, other, LPM_ARBITER_READ, 0, NULL, &now);
    g_assert_cmpuint(now.revision, ==, 1);
}

/* One racer: offers and takes back as fast as it can, until the revision is RACES; which of them it
 * was told to have made. Its own exit code is 0 when no call was unknown, or @patient. */
static void race(const Fixture *f, unsigned number, int to, bool patient)
{
    g_autofree char *name = g_strdup_printf("racer%u", number);
    LpmArbiter *arbiter = arbiter_for(f, name, uuid);
    uint8_t made[RACES + 1] = {0};
    LpmRecord now = {.revision = 0};
    bool known = false, ever_unknown = false;
    while (now.revision < RACES) {
        g_autoptr(GError) error = NULL;
        LpmRecord next = known ? step_of(&now) : now;
        LpmArbiterResult result = ask(arbiter, known ? LPM_ARBITER_SWAP : LPM_ARBITER_READ,
                                      now.revision, &next, patient ? 500 : 30000, &now, &error);
        if (result == LPM_ARBITER_UNKNOWN) {
            now.revision = 0;
            ever_unknown = true;
            if (!patient) {
                g_printerr("racer %u: %s\n", number, error->message);
                break;
            }
            g_usleep(5000);
        }
        made[now.revision] |= known && result == LPM_ARBITER_DONE;
        known = result != LPM_ARBITER_UNKNOWN;
    }
    bool good = patient || !ever_unknown;
    _exit(good && write(to, made, sizeof made) == sizeof made ? 0 : 1);
}

/* Racers with a pipe to this process. */
typedef struct {
    pid_t pids[RACERS];
    int ends[2];
} Racers;

static Racers racers_start(const Fixture *f, bool patient)
{
    Racers racers;
    g_autoptr(LpmArbiter) arbiter = arbiter_for(f, "alpha", uuid);
    create(arbiter);
    g_assert_cmpint(pipe(racers.ends), ==, 0);
    for (unsigned i = 0; i < RACERS; i++) {
        racers.pids[i] = fork();
        if (racers.pids[i] == 0) {
            race(f, i, racers.ends[1], patient);
        }
    }
    return racers;
}

/* How many were told to have made each revision. */
static void racers_end(Racers *racers, unsigned makers[RACES + 1])
{
    for (unsigned i = 0; i < RACERS; i++) {
        int status = 0;
        g_assert_cmpint(waitpid(racers->pids[i], &status, 0), ==, racers->pids[i]);
        g_assert_cmpint(status, ==, 0);
    }
    for (unsigned i = 0; i < RACERS; i++) {
        uint8_t made[RACES + 1];
        unsigned wins = 0;
        g_assert_cmpint(read(racers->ends[0], made, sizeof made), ==, sizeof made);
        for (unsigned at = 0; at <= RACES; at++) {
            makers[at] += made[at];
            wins += made[at];
        }
        g_test_message("wins of one: %u", wins);
    }
    close(racers->ends[0]);
    close(racers->ends[1]);
}

/* Each revision has exactly one maker, who was told so. */
static void many_race(Fixture *f, gconstpointer data)
{
    (void)data;
    unsigned makers[RACES + 1] = {0};
    int64_t begin = g_get_monotonic_time();
    Racers racers = racers_start(f, false);
    racers_end(&racers, makers);
    for (unsigned at = 2; at <= RACES; at++) {
        g_assert_cmpuint(makers[at], ==, 1);
    }
    g_test_message("%s: %d races of %d processes in %d ms", f->kind->name, RACES, RACERS,
                   (int)((g_get_monotonic_time() - begin) / 1000));
}

/* The server is killed and started again under them (tgt forgets its reservations then): nobody is
 * told of a revision that somebody else made, or that was lost. */
static void race_over_restarts(Fixture *f, gconstpointer data)
{
    (void)data;
    unsigned makers[RACES + 1] = {0}, unknown = 0;
    Racers racers = racers_start(f, true);
    for (int i = 0; i < RESTARTS; i++) {
        g_usleep(100000);
        server_kill(&f->server);
        start(f);
    }
    racers_end(&racers, makers);
    for (unsigned at = 2; at <= RACES; at++) {
        g_assert_cmpuint(makers[at], <=, 1);
        unknown += makers[at] == 0;
    }
    g_test_message("%s: %d restarts, %u revisions whose maker was not told", f->kind->name,
                   RESTARTS, unknown);
    g_assert_cmpuint(unknown, <=, RESTARTS * RACERS);
}

/* Swaps without end, and tells each revision that it made. */
static void swap_on(const Fixture *f, int to)
{
    LpmArbiter *arbiter = arbiter_for(f, "victim", uuid);
    LpmRecord now;
    LpmArbiterResult result = ask(arbiter, LPM_ARBITER_READ, 0, NULL, PATIENT_MS, &now, NULL);
    while (result == LPM_ARBITER_DONE) {
        LpmRecord next = step_of(&now);
        result = ask(arbiter, LPM_ARBITER_SWAP, now.revision, &next, PATIENT_MS, &now, NULL);
        if (result == LPM_ARBITER_DONE &&
            write(to, &now.revision, sizeof now.revision) != sizeof now.revision) {
            break;
        }
    }
    _exit(1);
}

/* kill -9 at any moment: what it was told is there, and the next one is not held up for long. */
static void killed_swapper(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(LpmArbiter) arbiter = arbiter_for(f, "alpha", uuid);
    LpmRecord now = create(arbiter);
    int64_t worst = 0;
    g_autoptr(GRand) random = g_rand_new_with_seed(4);
    for (int i = 0; i < KILLS; i++) {
        int ends[2];
        uint64_t told = 0, one;
        g_assert_cmpint(pipe(ends), ==, 0);
        pid_t child = fork();
        if (child == 0) {
            close(ends[0]);
            swap_on(f, ends[1]);
        }
        close(ends[1]);
        g_assert_cmpint(read(ends[0], &told, sizeof told), ==, sizeof told);
        g_usleep((gulong)g_rand_int_range(random, 0, 8000));
        kill(child, SIGKILL);
        g_assert_cmpint(waitpid(child, NULL, 0), ==, child);
        while (read(ends[0], &one, sizeof one) == sizeof one) {
            told = one;
        }
        close(ends[0]);
        int64_t begin = g_get_monotonic_time();
        ASSERT_ASK(LPM_ARBITER_DONE, arbiter, LPM_ARBITER_READ, 0, NULL, &now);
        worst = MAX(worst, g_get_monotonic_time() - begin);
        g_assert_cmpuint(now.revision, >=, told);
        g_assert_cmpuint(now.revision, <=, told + 1);
        /* etcd may have had the victim's last transaction still before it; the LUN refuses it. */
        LpmRecord next = step_of(&now);
        if (ask(arbiter, LPM_ARBITER_SWAP, now.revision, &next, PATIENT_MS, &now, NULL) !=
            LPM_ARBITER_DONE) {
            g_assert_false(f->kind->scsi);
            g_assert_cmpuint(now.revision, ==, told + 1);
            next = step_of(&now);
            ASSERT_ASK(LPM_ARBITER_DONE, arbiter, LPM_ARBITER_SWAP, now.revision, &next, &now);
        }
    }
    g_test_message("%s: the longest read after one of %d kills: %d ms", f->kind->name, KILLS,
                   (int)(worst / 1000));
    g_assert_cmpint(worst, <, 1000000);
}

/* --- over the main loop --- */

typedef struct {
    GMainLoop *loop;
    LpmArbiterResult result;
    char *message;
    unsigned answers;
} Waiter;

static void answered(LpmArbiterResult result, const LpmRecord *now, const GError *error, void *data)
{
    Waiter *waiter = data;
    waiter->result = result;
    waiter->message = g_strdup(error ? error->message : NULL);
    waiter->answers++;
    g_assert_cmpint(now == NULL, ==, result == LPM_ARBITER_UNKNOWN);
    g_main_loop_quit(waiter->loop);
}

/* UNKNOWN, not later than the deadline; milliseconds. */
static int not_answered(const Fixture *f, LpmArbiter *arbiter, const LpmRecord *next,
                        unsigned deadline_ms)
{
    Waiter waiter = {.loop = g_main_loop_new(NULL, FALSE)};
    int64_t begin = g_get_monotonic_time();
    if (next) {
        lpm_arbiter_swap(arbiter, next->revision - 1, next, deadline_ms, answered, &waiter);
    } else {
        lpm_arbiter_read(arbiter, deadline_ms, answered, &waiter);
    }
    g_assert_cmpuint(waiter.answers, ==, 0);
    g_main_loop_run(waiter.loop);
    int took = (int)((g_get_monotonic_time() - begin) / 1000);
    g_assert_cmpint(waiter.result, ==, LPM_ARBITER_UNKNOWN);
    g_assert_cmpint(took, <, (int)deadline_ms + 1000);
    g_test_message("%s after %d ms: %s", f->kind->name, took, waiter.message);
    g_autofree char *port = g_strdup_printf(":%d", f->server.port);
    g_assert_nonnull(strstr(waiter.message, port));
    g_free(waiter.message);
    g_main_loop_unref(waiter.loop);
    return took;
}

/* Stopped, dead, there again: unknown in time, and what was there is there. */
static void away(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(LpmArbiter) arbiter = arbiter_for(f, "alpha", uuid);
    LpmRecord first = create(arbiter),
              next = next_of(&first, LPM_RECORD_OFFER, LPM_RECORD_BY_OWNER);
    LpmRecord now;
    kill(f->server.pid, SIGSTOP);
    g_assert_cmpint(not_answered(f, arbiter, NULL, 300), >=, 250);
    g_assert_cmpint(not_answered(f, arbiter, &next, 300), >=, 250);
    kill(f->server.pid, SIGCONT);
    /* Whether the swap happened was unknown; either is right, and it does not change any more. */
    ASSERT_ASK(LPM_ARBITER_DONE, arbiter, LPM_ARBITER_READ, 0, NULL, &now);
    g_assert_cmpuint(now.revision, <=, 2);
    server_kill(&f->server);
    not_answered(f, arbiter, NULL, 1000);
    start(f);
    LpmRecord after;
    ASSERT_ASK(LPM_ARBITER_DONE, arbiter, LPM_ARBITER_READ, 0, NULL, &after);
    g_assert_cmpuint(after.revision, ==, now.revision);
    next = step_of(&after);
    ASSERT_ASK(LPM_ARBITER_DONE, arbiter, LPM_ARBITER_SWAP, after.revision, &next, &now);
}

typedef struct {
    GMainLoop *loop;
    unsigned open, good;
} Many;

static void one_answered(LpmArbiterResult result, const LpmRecord *now, const GError *error,
                         void *data)
{
    Many *many = data;
    many->good += result == LPM_ARBITER_DONE && now->revision == 1;
    if (error) {
        g_test_message("%s", error->message);
    }
    if (--many->open == 0) {
        g_main_loop_quit(many->loop);
    }
}

/* One lpm-host's partitions share its client; threads take turns or connect besides. */
static void many_at_once(Fixture *f, gconstpointer data)
{
    (void)data;
    enum { PARTITIONS = 24 };
    LpmArbiter *arbiters[PARTITIONS];
    Many many = {.loop = g_main_loop_new(NULL, FALSE), .open = PARTITIONS};
    g_autoptr(LpmLockLun) lun = f->kind->scsi ? tgt_client(&f->server, "alpha") : NULL;
    g_autoptr(LpmEtcd) etcd = f->kind->scsi ? NULL : etcd_client(&f->server);
    for (uint8_t i = 0; i < PARTITIONS; i++) {
        uint8_t id[16] = {(uint8_t)(i + 1)};
        LpmRecord first;
        lpm_record_first(id, "alpha", 1, &first);
        arbiters[i] = lun ? lpm_arbiter_scsi_new(lun, id) : lpm_arbiter_etcd_new(etcd, id);
        lpm_arbiter_swap(arbiters[i], 0, &first, PATIENT_MS, one_answered, &many);
    }
    g_main_loop_run(many.loop);
    g_assert_cmpuint(many.good, ==, PARTITIONS);
    for (unsigned i = 0; i < PARTITIONS; i++) {
        LpmRecord now;
        ASSERT_ASK(LPM_ARBITER_DONE, arbiters[i], LPM_ARBITER_READ, 0, NULL, &now);
        g_assert_cmpuint(now.revision, ==, 1);
        lpm_arbiter_unref(arbiters[i]);
    }
    g_main_loop_unref(many.loop);
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Printed; the limit is far above what is seen, for a busy machine. */
static void latency(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(LpmArbiter) arbiter = arbiter_for(f, "alpha", uuid);
    int64_t reads[LATENCIES], swaps[LATENCIES];
    LpmRecord now = create(arbiter);
    for (int i = 0; i < LATENCIES; i++) {
        LpmRecord next = step_of(&now);
        int64_t at[3] = {g_get_monotonic_time()};
        ASSERT_ASK(LPM_ARBITER_DONE, arbiter, LPM_ARBITER_SWAP, now.revision, &next, &now);
        at[1] = g_get_monotonic_time();
        ASSERT_ASK(LPM_ARBITER_DONE, arbiter, LPM_ARBITER_READ, 0, NULL, &now);
        at[2] = g_get_monotonic_time();
        swaps[i] = at[1] - at[0];
        reads[i] = at[2] - at[1];
    }
    qsort(swaps, LATENCIES, sizeof *swaps, by_size);
    qsort(reads, LATENCIES, sizeof *reads, by_size);
    g_test_message("%s: swap median %.2f ms, 99 %% %.2f; read median %.2f ms, 99 %% %.2f",
                   f->kind->name, (double)swaps[LATENCIES / 2] / 1e3,
                   (double)swaps[LATENCIES * 99 / 100] / 1e3, (double)reads[LATENCIES / 2] / 1e3,
                   (double)reads[LATENCIES * 99 / 100] / 1e3);
    g_assert_cmpint(swaps[LATENCIES / 2], <, 50000);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN); /* as lpm-host does */
    static const Kind kinds[] = {{"etcd", false}, {"scsi", true}};
    static const struct {
        const char *name;
        void (*run)(Fixture *f, gconstpointer data);
    } tests[] = {
        {"way-of-a-record", way_of_a_record},
        {"believed-offer", believed_offer},
        {"two-partitions", two_partitions},
        {"race", many_race},
        {"race-over-restarts", race_over_restarts},
        {"killed-swapper", killed_swapper},
        {"many-at-once", many_at_once},
        {"away", away},
        {"latency", latency},
    };
    for (size_t k = 0; k < G_N_ELEMENTS(kinds); k++) {
        for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
            g_autofree char *path =
                g_strdup_printf("/arbiters/%s/%s", kinds[k].name, tests[i].name);
            g_test_add(path, Fixture, &kinds[k], set_up, tests[i].run, tear_down);
        }
    }
    return g_test_run();
}
