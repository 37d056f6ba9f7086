/* SPDX-License-Identifier: Apache-2.0 */
/* The mover's parts by themselves; tests/mover tests whole processes. */
#include "bytes/bytes.h"
#include "clock.h"
#include "digest.h"
#include "queue.h"
#include "ring.h"
#include "sandbox.h"
#include "sha256-pair.h"
#include "throttle.h"

#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- ring --- */

/* Each frame is filled with its own number, and must still be when it is processed and when it is
 * released. */
static void ring_keeps_frames_until_both_are_done(void)
{
    enum { WINDOW = 4096, LONGEST = 512, FRAMES = 50000 };
    static Ring ring;
    g_assert_true(ring_init(&ring, WINDOW, LONGEST, true, true));
    GQueue *live = g_queue_new(); /* places of frames not yet released */
    uint64_t put = 0, processed = 0, acknowledged = 0, held = 0;
    while (processed < FRAMES || acknowledged < FRAMES) {
        size_t size = (size_t)g_test_rand_int_range(1, LONGEST + 1);
        uint8_t *at =
            put < FRAMES && ring_held(&ring) + size <= WINDOW ? ring_reserve(&ring, LONGEST) : NULL;
        if (put < FRAMES && ring_held(&ring) + size <= WINDOW)
            g_assert_nonnull(at); /* within the window there is always room */
        if (at) {
            memset(at, (int)(put & 0xff), size);
            ring_put(&ring, (uint32_t)size, size);
            put++;
            g_queue_push_tail(live, at);
            held += size;
        }
        if (processed < put && g_test_rand_bit()) {
            RingFrame frame;
            uint8_t *next = ring_next(&ring, &frame);
            g_assert_cmpuint(frame.size, ==, frame.type);
            for (size_t i = 0; i < frame.size; i++)
                g_assert_cmpuint(next[i], ==, processed & 0xff);
            processed++;
            g_assert_true(ring_processed(&ring) == (processed == put));
        }
        if (acknowledged < put && g_test_rand_bit()) {
            acknowledged +=
                (uint64_t)g_test_rand_int_range(1, (gint32)MIN(put - acknowledged, 8) + 1);
            g_assert_true(ring_acknowledge(&ring, acknowledged));
        }
        uint64_t released = MIN(processed, acknowledged);
        while (g_queue_get_length(live) > put - released)
            g_queue_pop_head(live);
        uint8_t *oldest = g_queue_peek_head(live);
        if (oldest)
            g_assert_cmpuint(*oldest, ==, released & 0xff);
        g_assert_cmpuint(ring_held(&ring), <=, held);
    }
    g_assert_cmpuint(ring_held(&ring), ==, 0);
    g_queue_free(live);
    ring_clear(&ring);
}

static void ring_refuses_what_does_not_fit(void)
{
    static Ring ring;
    g_assert_true(ring_init(&ring, 1000, 100, true, true));
    unsigned fitted = 0;
    while (ring_reserve(&ring, 100)) {
        ring_put(&ring, 0, 100);
        fitted++;
    }
    g_assert_cmpuint(fitted, >=, 10);
    g_assert_cmpuint(fitted, <=, 12);
    g_assert_false(ring_acknowledge(&ring, fitted + 1)); /* never sent */
    g_assert_true(ring_acknowledge(&ring, 5));
    g_assert_false(ring_acknowledge(&ring, 4)); /* backwards */
    g_assert_null(ring_reserve(&ring, 100));    /* acknowledged, but not yet processed */
    RingFrame frame;
    ring_next(&ring, &frame);
    ring_processed(&ring);
    ring_next(&ring, &frame);
    ring_processed(&ring);
    g_assert_nonnull(ring_reserve(&ring, 100));
    ring_close(&ring);
    g_assert_null(ring_next(&ring, &frame));
    ring_clear(&ring);
}

static void ring_table_of_frames_is_bounded(void)
{
    static Ring ring;
    g_assert_true(ring_init(&ring, 1 << 20, 100, false, true));
    for (unsigned i = 0; i < RING_FRAMES; i++) {
        g_assert_nonnull(ring_reserve(&ring, 1));
        ring_put(&ring, 0, 1);
    }
    g_assert_null(ring_reserve(&ring, 1));
    g_assert_cmpuint(ring_held(&ring), ==, UINT64_MAX);
    g_assert_true(ring_acknowledge(&ring, 1));
    g_assert_nonnull(ring_reserve(&ring, 1));
    g_assert_cmpuint(ring_held(&ring), ==, RING_FRAMES - 1);
    ring_clear(&ring);
}

/* --- queue --- */

static void queue_keeps_order_and_limit(void)
{
    static Queue queue;
    static uint8_t big[LPM_STREAM_PEER_MAX];
    g_assert_true(queue_init(&queue));
    g_assert_cmpint(queue_peek(&queue), ==, -1);
    LpmStreamMessage m = {.rate = {.max_rate = 7}};
    g_assert_true(queue_push(&queue, LPM_STREAM_RATE, &m));
    g_assert_true(queue_push(&queue, LPM_STREAM_READY, NULL));
    m.peer = (LpmStreamPeer){.data = big, .size = sizeof(big)};
    unsigned pushed = 0;
    while (queue_push(&queue, LPM_STREAM_PEER, &m))
        pushed++;
    g_assert_cmpuint(pushed, ==, QUEUE_LIMIT / sizeof(big));
    g_autofree QueueItem *first = queue_pop(&queue);
    g_assert_cmpuint(first->type, ==, LPM_STREAM_RATE);
    g_assert_cmpmem(first->body, first->size, "\7\0\0\0\0\0\0\0", 8);
    g_autofree QueueItem *second = queue_pop(&queue);
    g_assert_cmpuint(second->type, ==, LPM_STREAM_READY);
    g_assert_cmpint(queue_peek(&queue), ==, sizeof(big));
    queue_close(&queue);
    g_assert_false(queue_push_wait(&queue, LPM_STREAM_READY, NULL)); /* closed: does not wait */
    queue_clear(&queue);
}

static void *pop_slowly(void *context)
{
    for (unsigned i = 0; i < 12; i++) {
        g_usleep(2000);
        free(queue_pop(context));
    }
    return NULL;
}

static void queue_makes_who_can_wait_wait(void)
{
    static Queue queue;
    static uint8_t big[LPM_STREAM_PEER_MAX];
    g_assert_true(queue_init(&queue));
    LpmStreamMessage m = {.peer = {.data = big, .size = sizeof(big)}};
    GThread *thread = g_thread_new("pop", pop_slowly, &queue);
    for (unsigned i = 0; i < 20; i++)
        g_assert_true(queue_push_wait(&queue, LPM_STREAM_PEER, &m));
    g_assert_true(queue_push(&queue, LPM_STREAM_PEER, &m)); /* there is still room for who cannot */
    g_thread_join(thread);
    queue_clear(&queue);
}

/* --- throttle --- */

static void throttle_keeps_the_rate(void)
{
    Throttle t;
    uint64_t now = 5 * (uint64_t)NS_PER_S, sent = 0, began = now;
    throttle_init(&t, 1000000, now);
    while (now < began + 10 * (uint64_t)NS_PER_S) {
        uint64_t delay = throttle_delay_ns(&t, now);
        now += delay;
        if (delay > 0)
            continue;
        throttle_spend(&t, 100000);
        sent += 100000;
    }
    g_assert_cmpuint(sent, >=, 9900000);
    g_assert_cmpuint(sent, <=, 10200000);

    throttle_set_rate(&t, 0);
    for (unsigned i = 0; i < 100; i++) {
        g_assert_cmpuint(throttle_delay_ns(&t, now), ==, 0);
        throttle_spend(&t, 1 << 20);
    }
    throttle_set_rate(&t, 1000); /* what was sent without a limit is no debt */
    g_assert_cmpuint(throttle_delay_ns(&t, now), ==, 0);
}

static void throttle_gives_no_burst_after_a_pause(void)
{
    Throttle t;
    throttle_init(&t, 1000000, 0);
    uint64_t now = 3600 * (uint64_t)NS_PER_S, sent = 0;
    while (throttle_delay_ns(&t, now) == 0) {
        throttle_spend(&t, 1000);
        sent += 1000;
    }
    g_assert_cmpuint(sent, <=, 30000); /* 20 ms' worth */
}

/* --- digests --- */

/* As the document says it, the slow way. */
static void slow_digest(const uint8_t *data, size_t size, uint8_t out[LPM_STREAM_DIGEST_SIZE])
{
    gnutls_hash_hd_t root;
    uint8_t piece[LPM_STREAM_DIGEST_SIZE];
    g_assert_cmpint(gnutls_hash_init(&root, GNUTLS_DIG_SHA256), ==, 0);
    gnutls_hash(root, "openlpm stream", 14);
    for (size_t at = 0; at < size; at += STREAM_PIECE) {
        gnutls_hash_fast(GNUTLS_DIG_SHA256, data + at, MIN(STREAM_PIECE, size - at), piece);
        gnutls_hash(root, piece, sizeof(piece));
    }
    gnutls_hash_deinit(root, out);
}

static void stream_digest_however_it_is_cut(gconstpointer in_pairs)
{
    static uint8_t data[700000], expected[LPM_STREAM_DIGEST_SIZE];
    static const gint32 cuts[] = {1, 100, STREAM_PIECE, 3 * STREAM_PIECE, 262144};
    LpmStreamEnd end;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)g_test_rand_int();
    for (size_t round = 0; round < 60; round++) {
        StreamDigest digest;
        g_assert_true(stream_digest_init(&digest));
        digest.in_pairs = digest.in_pairs && GPOINTER_TO_INT(in_pairs);
        size_t limit = round % 5 == 0 ? 20000 : sizeof(data); /* bytes one by one take long */
        for (size_t at = 0; at < limit;) {
            gint32 cut = cuts[round % 5];
            gint32 wanted = g_test_rand_bit() ? cut : g_test_rand_int_range(1, cut + 1);
            size_t size = MIN(limit - at, (size_t)wanted);
            stream_digest_add(&digest, data + at, size);
            at += size;
            if (size > 1000 || at % 1000 == 0) {
                g_assert_true(stream_digest_snapshot(&digest, &end));
                g_assert_cmpuint(end.total, ==, at);
                slow_digest(data, at, expected);
                g_assert_cmpmem(end.digest, sizeof(end.digest), expected, sizeof(expected));
            }
        }
        stream_digest_clear(&digest);
    }
}

static void sha256_pair_is_sha256(void)
{
    static uint8_t data[2][40 * SHA256_BLOCK];
    uint8_t got[2][SHA256_SIZE], expected[SHA256_SIZE];
    if (!sha256_pair_supported()) {
        g_test_message("this processor has no SHA instructions: the other way is used and tested");
        return;
    }
    for (unsigned blocks = 0; blocks <= 40; blocks++) {
        for (size_t i = 0; i < sizeof(data[0]); i++) {
            data[0][i] = (uint8_t)g_test_rand_int();
            data[1][i] = (uint8_t)g_test_rand_int();
        }
        sha256_pair(data[0], data[1], blocks * SHA256_BLOCK, got[0], got[1]);
        for (int i = 0; i < 2; i++) {
            gnutls_hash_fast(GNUTLS_DIG_SHA256, data[i], blocks * SHA256_BLOCK, expected);
            g_assert_cmpmem(got[i], SHA256_SIZE, expected, SHA256_SIZE);
        }
    }
}

static void page_digest_is_keyed(void)
{
    static uint8_t page[LPM_STREAM_PAGE_SIZE];
    static const uint8_t zero[LPM_STREAM_PAGE_DIGEST_SIZE];
    uint8_t a[LPM_STREAM_PAGE_DIGEST_SIZE], b[LPM_STREAM_PAGE_DIGEST_SIZE];
    g_assert_true(page_digest(page, 1, a));
    g_assert_cmpmem(a, sizeof(a), zero, sizeof(zero));
    for (size_t at = 0; at < sizeof(page); at++) { /* one bit anywhere is not a page of zeros */
        page[at] = 1;
        g_assert_false(page_digest(page, 1, a));
        g_assert_true(memcmp(a, zero, sizeof(zero)) != 0);
        page[at] = 0;
    }
    page[9] = 1;
    page_digest(page, 1, a);
    page_digest(page, 2, b);
    g_assert_true(memcmp(a, b, sizeof(a)) != 0);
}

static void key_proof_depends_on_everything(void)
{
    LpmStreamConfig config = {.migration = "m", .key = "k"};
    uint8_t exporter[LPM_EXPORTER_SIZE] = "e", one[LPM_STREAM_KEY_SIZE], other[LPM_STREAM_KEY_SIZE];
    g_assert_true(key_proof(&config, LPM_STREAM_SIDE_SRC, exporter, one));
    g_assert_true(key_proof(&config, LPM_STREAM_SIDE_SRC, exporter, other));
    g_assert_true(key_proof_equal(one, other));
    g_assert_true(key_proof(&config, LPM_STREAM_SIDE_DST, exporter, other));
    g_assert_false(key_proof_equal(one, other));
    exporter[31] = 1;
    g_assert_true(key_proof(&config, LPM_STREAM_SIDE_SRC, exporter, other));
    g_assert_false(key_proof_equal(one, other));
    exporter[31] = 0;
    config.migration[15] = 1;
    g_assert_true(key_proof(&config, LPM_STREAM_SIDE_SRC, exporter, other));
    g_assert_false(key_proof_equal(one, other));
    config.migration[15] = 0;
    config.key[31] = 1;
    g_assert_true(key_proof(&config, LPM_STREAM_SIDE_SRC, exporter, other));
    g_assert_false(key_proof_equal(one, other));
}

/* --- sandbox --- */

static void try_open(void)
{
    (void)!open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void try_socket(void)
{
    (void)!socket(AF_INET, SOCK_STREAM, 0);
}

static void try_connect(void)
{
    struct sockaddr address = {.sa_family = AF_INET};
    (void)!connect(0, &address, sizeof(address));
}

static void try_exec(void)
{
    execl("/bin/true", "true", NULL);
}

static void try_fork(void)
{
    (void)!fork();
}

static void try_kill(void)
{
    kill(1, 0);
}

static void try_executable_memory(void)
{
    (void)!mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void try_making_code(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(page, 4096, PROT_READ | PROT_EXEC);
}

static void try_ptrace(void)
{
    syscall(SYS_ptrace, 0, 0, 0, 0);
}

static void try_unlink(void)
{
    unlink("/nonexistent/file");
}

static void try_privileges(void)
{
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static void try_memory_of_others(void)
{
    syscall(SYS_process_vm_readv, 1, NULL, 0, NULL, 0, 0);
}

static void do_what_is_allowed(void)
{
    uint8_t random[8];
    int pair[2] = {-1, -1};
    (void)!write(pair[0], random, 0);
    free(malloc(8 << 20));
    struct timespec nap = {.tv_nsec = 1000};
    nanosleep(&nap, NULL);
    (void)clock_ns();
    (void)!pread(-1, random, 1, 0);
}

/* Wait status of a child that locks itself in and then does @what. */
static int locked_in(void (*what)(void))
{
    pid_t child = fork();
    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        char reason[128];
        if (!sandbox_enter(reason, sizeof(reason)))
            _exit(99);
        what();
        _exit(42);
    }
    int status;
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    return status;
}

static void sandbox_kills_what_is_forbidden(void)
{
    static const struct {
        const char *name;
        void (*what)(void);
    } forbidden[] = {
        {"open", try_open},
        {"socket", try_socket},
        {"connect", try_connect},
        {"execve", try_exec},
        {"fork", try_fork},
        {"kill", try_kill},
        {"mmap with PROT_EXEC", try_executable_memory},
        {"mprotect with PROT_EXEC", try_making_code},
        {"ptrace", try_ptrace},
        {"unlink", try_unlink},
        {"prctl", try_privileges},
        {"process_vm_readv", try_memory_of_others},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(forbidden); i++) {
        g_test_message("%s", forbidden[i].name);
        int status = locked_in(forbidden[i].what);
        g_assert_true(WIFSIGNALED(status));
        g_assert_cmpint(WTERMSIG(status), ==, SIGSYS);
    }
}

static void sandbox_allows_what_is_needed(void)
{
    int status = locked_in(do_what_is_allowed);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 42);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/mover/ring/frames", ring_keeps_frames_until_both_are_done);
    g_test_add_func("/mover/ring/full", ring_refuses_what_does_not_fit);
    g_test_add_func("/mover/ring/table", ring_table_of_frames_is_bounded);
    g_test_add_func("/mover/queue/order", queue_keeps_order_and_limit);
    g_test_add_func("/mover/queue/wait", queue_makes_who_can_wait_wait);
    g_test_add_func("/mover/throttle/rate", throttle_keeps_the_rate);
    g_test_add_func("/mover/throttle/pause", throttle_gives_no_burst_after_a_pause);
    g_test_add_data_func("/mover/digest/stream", GINT_TO_POINTER(1),
                         stream_digest_however_it_is_cut);
    g_test_add_data_func("/mover/digest/stream-one-by-one", GINT_TO_POINTER(0),
                         stream_digest_however_it_is_cut);
    g_test_add_func("/mover/digest/sha256-pair", sha256_pair_is_sha256);
    g_test_add_func("/mover/digest/page", page_digest_is_keyed);
    g_test_add_func("/mover/digest/proof", key_proof_depends_on_everything);
    g_test_add_func("/mover/sandbox/forbidden", sandbox_kills_what_is_forbidden);
    g_test_add_func("/mover/sandbox/allowed", sandbox_allows_what_is_needed);
    return g_test_run();
}
