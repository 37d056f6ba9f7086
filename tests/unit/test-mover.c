/* SPDX-License-Identifier: Apache-2.0 */
/* The mover's parts by themselves; tests/mover tests whole processes. */
#include "bytes/bytes.h"
#include "clock.h"
#include "digest.h"
#include "effort.h"
#include "inbox.h"
#include "outbox.h"
#include "queue.h"
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

/* --- outbox --- */

static Frame *make_frame(uint32_t size)
{
    Frame *frame = frame_new(LPM_STREAM_DATA, size);
    memset(frame->bytes, (int)(size & 0xff), size);
    return frame;
}

/* What a connection took and the peer has not, goes again, once, and in order; nothing else does.
 */
static void outbox_sends_again_what_was_lost(void)
{
    static Outbox box;
    uint64_t seen = 0;
    bool raw;
    outbox_init(&box);
    for (uint32_t i = 1; i <= 6; i++) {
        g_assert_cmpuint(outbox_next_sequence(&box), ==, i);
        outbox_put(&box, make_frame(10 * i));
    }
    for (uint64_t i = 1; i <= 5; i++) { /* 1, 3, 5 on connection 0; 2, 4 on 1 */
        Frame *frame = outbox_take(&box, i % 2 ? 0 : 1, &seen, &raw);
        g_assert_cmpuint(frame->sequence, ==, i);
        g_assert_false(raw);
        outbox_sent(&box, frame);
    }
    outbox_lost(&box, 0, 1); /* the peer had got the first */
    const uint64_t again[] = {3, 5, 6};
    for (size_t i = 0; i < G_N_ELEMENTS(again); i++) {
        Frame *frame = outbox_take(&box, 1, &seen, &raw);
        g_assert_cmpuint(frame->sequence, ==, again[i]);
        outbox_sent(&box, frame);
    }
    OutboxLevel level = outbox_level(&box);
    g_assert_cmpuint(level.resent_bytes, ==, 30 + 50);
    g_assert_cmpuint(level.held_bytes, ==, 210);
    g_assert_cmpuint(level.untaken, ==, 0);
    g_assert_true(outbox_acknowledge(&box, 6));
    g_assert_cmpuint(outbox_level(&box).held_bytes, ==, 0);
}

static void outbox_takes_no_false_acknowledgement(void)
{
    static Outbox box;
    uint64_t seen = 0;
    bool raw;
    outbox_init(&box);
    outbox_put(&box, make_frame(10));
    outbox_put(&box, make_frame(20));
    outbox_sent(&box, outbox_take(&box, 0, &seen, &raw));
    g_assert_false(outbox_acknowledge(&box, 3)); /* never put */
    g_assert_true(outbox_acknowledge(&box, 1));
    g_assert_true(outbox_acknowledge(&box, 0));  /* late news */
    g_assert_false(outbox_acknowledge(&box, 2)); /* never sent */
    outbox_close(&box);
    g_assert_null(outbox_take(&box, 0, &seen, &raw));
}

/* A frame may be acknowledged while a second sender has it: it lives until that one is done. */
static void outbox_keeps_what_is_being_sent(void)
{
    static Outbox box;
    uint64_t seen = 0;
    bool raw;
    outbox_init(&box);
    outbox_put(&box, make_frame(100));
    Frame *first = outbox_take(&box, 0, &seen, &raw);
    outbox_lost(&box, 0, 0);
    Frame *second = outbox_take(&box, 1, &seen, &raw);
    g_assert_true(first == second);
    outbox_sent(&box, first);
    g_assert_true(outbox_acknowledge(&box, 1));
    g_assert_cmpuint(second->bytes[99], ==, 100);
    outbox_sent(&box, second);
}

static void outbox_gives_raw_bytes_on_a_miss(void)
{
    static Outbox box;
    uint64_t seen = 0;
    bool raw;
    outbox_init(&box);
    outbox_put(&box, make_frame(10));
    Frame *coded = frame_new(LPM_STREAM_CODED, 20);
    coded->raw = malloc(7);
    coded->raw_size = 7;
    outbox_put(&box, coded);
    g_assert_false(outbox_miss(&box, 2)); /* not sent yet */
    outbox_sent(&box, outbox_take(&box, 0, &seen, &raw));
    outbox_sent(&box, outbox_take(&box, 0, &seen, &raw));
    g_assert_false(outbox_miss(&box, 1)); /* nothing coded in it */
    g_assert_false(outbox_miss(&box, 3));
    g_assert_true(outbox_miss(&box, 2));
    Frame *frame = outbox_take(&box, 0, &seen, &raw);
    g_assert_true(frame == coded && raw);
    outbox_sent(&box, frame);
    g_assert_cmpuint(outbox_level(&box).raw_bytes, ==, 7);
    g_assert_true(outbox_acknowledge(&box, 2));
    g_assert_cmpuint(outbox_level(&box).raw_bytes, ==, 0);
}

static void outbox_has_so_many_places(void)
{
    static Outbox box;
    uint64_t seen = 0;
    bool raw;
    outbox_init(&box);
    for (unsigned i = 0; i < FRAMES_MAX; i++) {
        g_assert_true(outbox_has_place(&box));
        outbox_put(&box, make_frame(1));
    }
    g_assert_false(outbox_has_place(&box));
    outbox_sent(&box, outbox_take(&box, 0, &seen, &raw));
    g_assert_true(outbox_acknowledge(&box, 1));
    g_assert_true(outbox_has_place(&box));
    outbox_acknowledge(&box, FRAMES_MAX);
}

/* --- inbox --- */

static Frame *numbered(uint64_t sequence, uint32_t size)
{
    Frame *frame = make_frame(size);
    frame->sequence = sequence;
    return frame;
}

/* Frames in any order, some twice, come out in order and once. */
static void inbox_orders_and_drops_doubles(void)
{
    enum { FRAMES = 3000, SPREAD = 40 };
    static Inbox box;
    g_assert_true(inbox_init(&box, 1 << 20));
    uint64_t out = 0, order[FRAMES];
    for (unsigned i = 0; i < FRAMES; i++)
        order[i] = i + 1;
    for (unsigned i = 0; i + SPREAD < FRAMES; i += SPREAD)
        for (unsigned k = SPREAD - 1; k > 0; k--) {
            unsigned other = (unsigned)g_test_rand_int_range(0, (gint32)k + 1);
            uint64_t swap = order[i + k];
            order[i + k] = order[i + other];
            order[i + other] = swap;
        }
    for (unsigned i = 0; i < FRAMES; i++) {
        g_assert_cmpint(inbox_put(&box, numbered(order[i], 8)), ==, INBOX_TAKEN);
        if (g_test_rand_bit()) {
            Frame *twice = numbered(order[g_test_rand_int_range(0, (gint32)i + 1)], 8);
            g_assert_cmpint(inbox_put(&box, twice), ==, INBOX_SEEN);
            frame_free(twice);
        }
        for (Frame *frame = inbox_next(&box); frame; frame = inbox_next(&box)) {
            g_assert_cmpuint(frame->sequence, ==, ++out);
            g_assert_cmpuint(inbox_received(&box), >=, out);
            frame_free(frame);
        }
    }
    g_assert_cmpuint(out, ==, FRAMES);
    lpm_bytes_close(&box.wake);
}

static void inbox_holds_no_more_than_the_window(void)
{
    static Inbox box;
    g_assert_true(inbox_init(&box, 1000));
    uint32_t longest = LPM_STREAM_HEADER_SIZE + LPM_STREAM_BODY_MAX;
    g_assert_cmpint(inbox_put(&box, numbered(2, longest)), ==, INBOX_TAKEN);
    Frame *beyond = numbered(3, 1001);
    g_assert_cmpint(inbox_put(&box, beyond), ==, INBOX_BEYOND);
    beyond->sequence = FRAMES_MAX + 1;
    beyond->size = 1;
    g_assert_cmpint(inbox_put(&box, beyond), ==, INBOX_BEYOND);
    frame_free(beyond);
    g_assert_null(inbox_next(&box));
    g_assert_cmpint(inbox_put(&box, numbered(1, 10)), ==, INBOX_TAKEN);
    frame_free(inbox_next(&box));
    Frame *wrong = numbered(1, 10); /* nobody asked for its raw bytes */
    g_assert_false(inbox_put_replacement(&box, wrong));
    g_assert_null(inbox_take_replacement(&box, 1));
    wrong->sequence = 2;
    g_assert_false(inbox_put_replacement(&box, wrong));
    wrong->sequence = 1;
    g_assert_true(inbox_put_replacement(&box, wrong));
    g_assert_true(inbox_take_replacement(&box, 1) == wrong);
    g_assert_false(inbox_put_replacement(&box, wrong)); /* the answer to a MISS said twice */
    frame_free(wrong);
    frame_free(inbox_next(&box));
    lpm_bytes_close(&box.wake);
}

/* --- effort --- */

/* A link and a coder in small: each millisecond the stream moves as fast as both allow. */
typedef struct {
    uint64_t link;    /* bytes a millisecond */
    uint64_t qemu;    /* bytes of stream a millisecond */
    uint64_t packing; /* the same, at zstd level 1; less above */
    unsigned known;   /* percent of pages that the other side holds */
    bool busy;        /* others use the processors: both speeds change threefold all the time */
} World;

static void live(Effort *effort, const World *world, unsigned ms)
{
    static uint64_t now_ns = NS_PER_S, blocked_ns;
    if (effort->last_ns == 0)
        effort_init(effort, now_ns, false), effort->blocked_ns = blocked_ns;
    for (unsigned i = 0; i < ms; i++) {
        uint64_t moment = now_ns / (25 * NS_PER_MS);
        uint64_t share = world->busy ? 33 + moment * UINT64_C(2654435761) / 64 % 68 : 100;
        int level = effort_now(effort, false).level;
        bool packs = level != LPM_CODEC_NO_PACKING;
        uint64_t speed = packs ? world->packing / (uint64_t)MAX(level, 1) : world->qemu;
        uint64_t stream = MIN(world->qemu, speed) * share / 100;
        uint64_t unpacked =
            effort_passes_through(effort) ? stream : stream * (100 - world->known) / 100;
        uint64_t wire = packs ? unpacked * 36 / 100 : unpacked;
        uint64_t blocked = wire > world->link ? NS_PER_MS - NS_PER_MS * world->link / wire : 0;
        if (wire > world->link) {
            stream = stream * world->link / wire;
            unpacked = unpacked * world->link / wire;
            wire = world->link;
        }
        now_ns += NS_PER_MS;
        blocked_ns += blocked;
        effort_note(effort, stream, unpacked);
        effort_judge(effort, now_ns, blocked_ns, 1);
    }
}

static void effort_follows_the_link(void)
{
    Effort effort = {0};
    World fast = {10000000, 500000, 300000, 0, false}, slow = {12500, 500000, 300000, 0, false};
    live(&effort, &fast, 200);
    g_assert_true(effort_passes_through(&effort)); /* a link that never is in the way */
    live(&effort, &slow, 1000);
    g_assert_cmpint(effort_now(&effort, false).level, >=, 5);
    g_assert_cmpint(effort_now(&effort, false).level, <, LPM_CODEC_NO_PACKING);
    g_assert_cmpint(effort_now(&effort, true).level, ==, 1);
    live(&effort, &fast, 5000); /* it became fast again, which has to be found out */
    g_assert_true(effort_passes_through(&effort));
}

/* Packing that cannot fill the link is still better than a link full of what is not packed. */
static void effort_packs_while_that_is_faster(void)
{
    Effort effort = {0};
    World middle = {118000, 500000, 250000, 0, false};
    unsigned packed = 0;
    live(&effort, &middle, 300);
    for (unsigned i = 0; i < 2000; i++) {
        live(&effort, &middle, 1);
        packed += effort_now(&effort, false).level == 1;
    }
    g_assert_cmpuint(packed, >, 1800);
}

/* The same on busy processors, where no single interval tells the truth. */
static void effort_does_not_swing(void)
{
    Effort effort = {0};
    World middle = {118000, 500000, 250000, 0, true};
    unsigned packed = 0;
    live(&effort, &middle, 300);
    for (unsigned i = 0; i < 5000; i++) {
        live(&effort, &middle, 1);
        packed += effort_now(&effort, false).level == 1;
    }
    g_assert_cmpuint(packed, >, 4500);
}

/* Known pages make the link idle; that is no reason to send them. */
static void effort_keeps_the_image(void)
{
    Effort effort = {0};
    World back = {118000, 300000, 250000, 97, false};
    for (unsigned i = 0; i < 1000; i++) {
        live(&effort, &back, 1);
        g_assert_true(effort_now(&effort, false).image);
    }
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
    g_assert_false(queue_push(&queue, LPM_STREAM_READY, NULL)); /* even empty ones cost something */
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

/* Of one stream its own, of several the digest over all totals and digests, in order. */
static void channels_digest_is_over_all(void)
{
    LpmStreamEnd channels[3] = {{.total = 5}, {.total = 0x0102030405060708}, {.total = 0}}, end;
    uint8_t text[16 + 3 * (8 + LPM_STREAM_DIGEST_SIZE)], expected[LPM_STREAM_DIGEST_SIZE];
    memcpy(text, "openlpm channels", 16);
    for (unsigned i = 0; i < G_N_ELEMENTS(channels); i++) {
        memset(channels[i].digest, (int)(0x30 + i), sizeof(channels[i].digest));
        uint8_t *at = text + 16 + i * (8 + LPM_STREAM_DIGEST_SIZE);
        for (unsigned k = 0; k < 8; k++)
            at[k] = (uint8_t)(channels[i].total >> (8 * k));
        memcpy(at + 8, channels[i].digest, LPM_STREAM_DIGEST_SIZE);
    }
    g_assert_true(channels_digest(channels, 1, &end));
    g_assert_cmpmem(&end, sizeof(end), &channels[0], sizeof(channels[0]));
    for (unsigned n = 2; n <= G_N_ELEMENTS(channels); n++) {
        size_t size = 16 + n * (8 + LPM_STREAM_DIGEST_SIZE);
        gnutls_hash_fast(GNUTLS_DIG_SHA256, text, size, expected);
        g_assert_true(channels_digest(channels, n, &end));
        g_assert_cmpuint(end.total, ==, 5 + 0x0102030405060708);
        g_assert_cmpmem(end.digest, sizeof(end.digest), expected, sizeof(expected));
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

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/outbox/sends-again-what-was-lost", outbox_sends_again_what_was_lost);
    g_test_add_func("/outbox/no-false-acknowledgement", outbox_takes_no_false_acknowledgement);
    g_test_add_func("/outbox/keeps-what-is-being-sent", outbox_keeps_what_is_being_sent);
    g_test_add_func("/outbox/raw-bytes-on-a-miss", outbox_gives_raw_bytes_on_a_miss);
    g_test_add_func("/outbox/so-many-places", outbox_has_so_many_places);
    g_test_add_func("/inbox/orders-and-drops-doubles", inbox_orders_and_drops_doubles);
    g_test_add_func("/inbox/no-more-than-the-window", inbox_holds_no_more_than_the_window);
    g_test_add_func("/effort/follows-the-link", effort_follows_the_link);
    g_test_add_func("/effort/packs-while-faster", effort_packs_while_that_is_faster);
    g_test_add_func("/effort/does-not-swing", effort_does_not_swing);
    g_test_add_func("/effort/keeps-the-image", effort_keeps_the_image);
    g_test_add_func("/mover/queue/order", queue_keeps_order_and_limit);
    g_test_add_func("/mover/queue/wait", queue_makes_who_can_wait_wait);
    g_test_add_func("/mover/throttle/rate", throttle_keeps_the_rate);
    g_test_add_func("/mover/throttle/pause", throttle_gives_no_burst_after_a_pause);
    g_test_add_data_func("/mover/digest/stream", GINT_TO_POINTER(1),
                         stream_digest_however_it_is_cut);
    g_test_add_data_func("/mover/digest/stream-one-by-one", GINT_TO_POINTER(0),
                         stream_digest_however_it_is_cut);
    g_test_add_func("/mover/digest/channels", channels_digest_is_over_all);
    g_test_add_func("/mover/digest/sha256-pair", sha256_pair_is_sha256);
    g_test_add_func("/mover/digest/page", page_digest_is_keyed);
    g_test_add_func("/mover/digest/proof", key_proof_depends_on_everything);
    return g_test_run();
}
