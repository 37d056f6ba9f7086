/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/stream.h"

#include <glib.h>
#include <string.h>

static const uint8_t migration[LPM_STREAM_ID_SIZE] = "0123456789abcde";
static uint8_t frame[LPM_STREAM_HEADER_SIZE + LPM_STREAM_BODY_MAX];

static const uint32_t all_types[] = {
    1,     2,     3,     4,     5,     6,     7,     8,     9,     10,
    11,    12,    13,    14,    15,    16,    17,    18,    19,    LPM_STREAM_HINT,
    0x101, 0x102, 0x103, 0x104, 0x105, 0x106, 0x181, 0x182, 0x183, 0x184,
    0x185, 0x186, 0x187, 0x188, 0x189, 0x18a, 0x18b, 21,    22,    23,
    24,    25,    26,    27,    28,    0x107, 0x18c, 0x18d,
};

static uint8_t blob[2 * (8 + LPM_STREAM_PAGE_SIZE)];

/* Those of coding and of several connections; false when it is none of them. */
static bool fill_newer(uint32_t type, LpmStreamMessage *m)
{
    switch (type) {
    case LPM_STREAM_CODED:
    case LPM_STREAM_CHANNEL_DATA:
        m->channel_data =
            (LpmStreamChannelData){.channel = 16, .offset = UINT64_MAX, .data = blob, .size = 1000};
        return true;
    case LPM_STREAM_REPLACE:
        m->replace = (LpmStreamReplace){.sequence = 1u << 20, .data = blob, .size = 1000};
        return true;
    case LPM_STREAM_LINK_STATE:
        m->link_state =
            (LpmStreamLinkState){.connection = 15, .up = 1, .ms_down = 4000, .reason = "cut"};
        return true;
    case LPM_STREAM_NEED_LINK:
        m->need_link = (LpmStreamNeedLink){.connection = 7, .reason = "lost"};
        return true;
    default:
        return false;
    }
}

/* A message of each type with every field set to something of its own. */
static void fill(uint32_t type, LpmStreamMessage *m)
{
    memset(blob, 0x5a, sizeof(blob));
    memset(m, 0, sizeof(*m));
    if (fill_newer(type, m))
        return;
    switch (type) {
    case LPM_STREAM_HELLO:
        m->hello = (LpmStreamHello){.version_min = 1,
                                    .version_max = 3,
                                    .features = 0x8000000000000001u,
                                    .side = LPM_STREAM_SIDE_DST,
                                    .mode = LPM_STREAM_MODE_PROBE,
                                    .codec = 7,
                                    .connection = 2,
                                    .connections = 3,
                                    .window = 12345,
                                    .received = 99,
                                    .system = "sys-b"};
        memset(m->hello.proof, 0xa5, sizeof(m->hello.proof));
        break;
    case LPM_STREAM_DATA:
    case LPM_STREAM_PROBE_DATA:
        m->data = (LpmStreamData){.offset = 1u << 20, .data = blob, .size = 1000};
        break;
    case LPM_STREAM_VERIFY_HASHES:
        m->hashes = (LpmStreamVerifyHashes){.first = 77, .count = 4, .digests = blob, .size = 64};
        break;
    case LPM_STREAM_VERIFY_PAGES_DATA:
        m->pages = (LpmStreamVerifyPages){.data = blob, .size = sizeof(blob)};
        break;
    case LPM_STREAM_VERIFY_END:
    case LPM_STREAM_VERIFY_REPORT:
    case LPM_STREAM_VERIFIED:
        m->verified = (LpmStreamVerified){
            .compared = 9, .differing = 3, .repaired = 3, .listed = 3, .pages = {4, 5, UINT64_MAX}};
        break;
    case LPM_STREAM_ABORT:
    case LPM_STREAM_REFUSED:
    case LPM_STREAM_ERROR:
        m->reason.code = LPM_STREAM_ERR_LINK;
        memset(m->reason.reason, 'r', LPM_STREAM_NAME_MAX);
        break;
    case LPM_STREAM_PEER:
        m->peer = (LpmStreamPeer){.data = (const uint8_t *)"{\"a\":1}", .size = 7};
        break;
    case LPM_STREAM_CONFIG:
        m->config = (LpmStreamConfig){.side = 1,
                                      .mode = 2,
                                      .transport = 1,
                                      .codec = LPM_STREAM_CODEC_AUTO,
                                      .connections = 16,
                                      .retry_ms = 120000,
                                      .image = 1,
                                      .channels = 16,
                                      .system = "a",
                                      .peer = "b",
                                      .window = 1 << 20,
                                      .max_rate = 5,
                                      .memory_size = 4096};
        memset(m->config.key, 3, sizeof(m->config.key));
        memset(m->config.image_key, 4, sizeof(m->config.image_key));
        break;
    case LPM_STREAM_STATS:
        m->stats = (LpmStreamStats){.state = LPM_STREAM_STATE_LOADED,
                                    .stream_out = 1,
                                    .rtt_us = 7,
                                    .verified_pages = UINT64_MAX,
                                    .coded = {1, 2, 3, 4, 5, 6, 7},
                                    .reconnects = 8,
                                    .resent_bytes = 9,
                                    .links_up = 10};
        break;
    default: /* only plain numbers and bytes: any bytes will do */
        memset(m, 0x01, sizeof(*m));
        m->connected.system[3] = m->connected.cipher[5] = 0;
        break;
    }
}

static void every_record_round_trips(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(all_types); i++) {
        LpmStreamMessage in, out;
        LpmStreamHeader header;
        size_t size, used, again_size;
        static uint8_t again[sizeof(frame)];
        fill(all_types[i], &in);
        g_test_message("%s", lpm_stream_type_name(all_types[i]));
        g_assert_cmpint(
            lpm_stream_pack(all_types[i], &in, migration, 42, frame, sizeof(frame), &size), ==,
            LPM_STREAM_OK);
        g_assert_cmpint(lpm_stream_unpack(frame, size, &header, &out, &used), ==, LPM_STREAM_OK);
        g_assert_cmpuint(used, ==, size);
        g_assert_cmpuint(header.type, ==, all_types[i]);
        g_assert_cmpuint(header.sequence, ==, 42);
        g_assert_cmpmem(header.migration, 16, migration, 16);
        g_assert_cmpint(
            lpm_stream_pack(all_types[i], &out, migration, 42, again, sizeof(again), &again_size),
            ==, LPM_STREAM_OK);
        g_assert_cmpmem(frame, size, again, again_size);
    }
}

static void fields_arrive_as_they_were(void)
{
    LpmStreamMessage in, out;
    LpmStreamHeader header;
    size_t size, used;
    fill(LPM_STREAM_HELLO, &in);
    g_assert_cmpint(
        lpm_stream_pack(LPM_STREAM_HELLO, &in, migration, 0, frame, sizeof(frame), &size), ==, 0);
    g_assert_cmpint(lpm_stream_unpack(frame, size, &header, &out, &used), ==, 0);
    g_assert_cmpuint(out.hello.version_max, ==, 3);
    g_assert_cmpuint(out.hello.features, ==, 0x8000000000000001u);
    g_assert_cmpuint(out.hello.window, ==, 12345);
    g_assert_cmpuint(out.hello.received, ==, 99);
    g_assert_cmpstr(out.hello.system, ==, "sys-b");
    fill(LPM_STREAM_VERIFIED, &in);
    g_assert_cmpint(
        lpm_stream_pack(LPM_STREAM_VERIFIED, &in, migration, 0, frame, sizeof(frame), &size), ==,
        0);
    g_assert_cmpint(lpm_stream_unpack(frame, size, &header, &out, &used), ==, 0);
    g_assert_cmpuint(out.verified.listed, ==, 3);
    g_assert_cmpuint(out.verified.pages[2], ==, UINT64_MAX);
    fill(LPM_STREAM_STATS, &in);
    g_assert_cmpint(
        lpm_stream_pack(LPM_STREAM_STATS, &in, migration, 0, frame, sizeof(frame), &size), ==, 0);
    g_assert_cmpint(lpm_stream_unpack(frame, size, &header, &out, &used), ==, 0);
    g_assert_cmpuint(out.stats.coded.pages_literal, ==, 5);
    g_assert_cmpuint(out.stats.coded.coded_bytes, ==, 7);
    g_assert_cmpuint(out.stats.links_up, ==, 10);
    fill(LPM_STREAM_CODED, &in);
    g_assert_cmpint(
        lpm_stream_pack(LPM_STREAM_CODED, &in, migration, 9, frame, sizeof(frame), &size), ==, 0);
    g_assert_cmpint(lpm_stream_unpack(frame, size, &header, &out, &used), ==, 0);
    g_assert_cmpuint(out.channel_data.channel, ==, 16);
    g_assert_cmpmem(out.channel_data.data, out.channel_data.size, in.channel_data.data, 1000);
}

/* The layout is the document's, byte for byte. */
static void header_layout(void)
{
    LpmStreamMessage m = {.stamp = {0x0807060504030201u}};
    size_t size;
    g_assert_cmpint(lpm_stream_pack(LPM_STREAM_PING, &m, migration, 0, frame, sizeof(frame), &size),
                    ==, 0);
    g_assert_cmpuint(size, ==, 64);
    g_assert_cmpmem(frame, 16, "LPM1\1\0\0\0\x0b\0\0\0\0\0\0\0", 16);
    g_assert_cmpmem(frame + 16, 16, migration, 16);
    g_assert_cmpmem(frame + 32, 16, "\0\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0", 16);
    g_assert_cmpmem(frame + 56, 8, "\1\2\3\4\5\6\7\10", 8);
}

static void every_damaged_bit_is_seen(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(all_types); i++) {
        LpmStreamMessage m, out;
        LpmStreamHeader header;
        size_t size, used;
        fill(all_types[i], &m);
        g_assert_cmpint(
            lpm_stream_pack(all_types[i], &m, migration, 7, frame, sizeof(frame), &size), ==, 0);
        size_t step = size > 1000 ? 7 : 1; /* long bodies: every seventh byte */
        for (size_t at = 0; at < size; at += at < LPM_STREAM_HEADER_SIZE ? 1 : step)
            for (unsigned bit = 0; bit < 8; bit++) {
                frame[at] ^= (uint8_t)(1u << bit);
                LpmStreamStatus status = lpm_stream_unpack(frame, size, &header, &out, &used);
                g_assert_cmpint(status, !=, LPM_STREAM_OK);
                g_assert_cmpint(status, !=, LPM_STREAM_SKIP);
                frame[at] ^= (uint8_t)(1u << bit);
            }
    }
}

static void truncated_frames_wait_for_more(void)
{
    LpmStreamMessage m, out;
    LpmStreamHeader header;
    size_t size, used;
    fill(LPM_STREAM_HELLO, &m);
    g_assert_cmpint(
        lpm_stream_pack(LPM_STREAM_HELLO, &m, migration, 0, frame, sizeof(frame), &size), ==, 0);
    for (size_t n = 0; n < size; n++)
        g_assert_cmpint(lpm_stream_unpack(frame, n, &header, &out, &used), ==, LPM_STREAM_SHORT);
}

/* Bodies whose checksum is right and whose content is not. */
static void bad_bodies_are_refused(void)
{
    static const struct {
        uint32_t type;
        const char *body;
        size_t size;
    } bad[] = {
        {LPM_STREAM_DATA, "12345678", 8},                           /* no data */
        {LPM_STREAM_ABORT, "\1\0\0\0\x05\0abcd", 10},               /* text longer than the body */
        {LPM_STREAM_ABORT, "\1\0\0\0\x04\0a\0cd", 10},              /* text with a zero */
        {LPM_STREAM_ABORT, "\1\0\0\0\x02\0abcd", 10},               /* bytes left over */
        {LPM_STREAM_VERIFY_HASHES, "\0\0\0\0\0\0\0\0\0\0\0\0", 12}, /* no pages */
        {LPM_STREAM_VERIFY_HASHES, "\0\0\0\0\0\0\0\0\2\0\0\0ABCDEFGHIJKLMNOP", 28},
        {LPM_STREAM_VERIFY_HASHES, "\xff\xff\xff\xff\xff\xff\xff\xff\1\0\0\0", 12},
        {LPM_STREAM_VERIFIED, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x11\0\0\0", 28},
        {LPM_STREAM_STATS, "\x09", 1},
        {LPM_STREAM_CODED, "\x11\0\0\0\0\0\0\0\0x", 10},      /* no such channel */
        {LPM_STREAM_CODED, "\0\0\0\0\0\0\0\0\0", 9},          /* nothing in it */
        {LPM_STREAM_CHANNEL_DATA, "\0\0\0\0\0\0\0\0\0x", 10}, /* the main stream is DATA */
        {LPM_STREAM_CHANNEL_FIN, "\0\0\0\0\0\0\0\0\0", 9},
        {LPM_STREAM_REPLACE, "12345678", 8},
        {LPM_STREAM_BASE_ACK, "\2", 1},
        {LPM_STREAM_LINK, "\x10", 1},
        {LPM_STREAM_LINK_STATE, "\0\2\0\0\0\0\0\0", 8},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        LpmStreamMessage out;
        g_assert_cmpint(
            lpm_stream_decode_body(bad[i].type, (const uint8_t *)bad[i].body, bad[i].size, &out),
            ==, LPM_STREAM_BAD_BODY);
    }
}

static void limits_hold_when_encoding(void)
{
    LpmStreamMessage m;
    size_t size;
    static uint8_t big[LPM_STREAM_DATA_MAX + 1];
    m.data = (LpmStreamData){.data = big, .size = sizeof(big)};
    g_assert_cmpint(lpm_stream_pack(LPM_STREAM_DATA, &m, migration, 1, frame, sizeof(frame), &size),
                    ==, LPM_STREAM_BAD_BODY);
    m.data.size--;
    g_assert_cmpint(lpm_stream_pack(LPM_STREAM_DATA, &m, migration, 1, frame, sizeof(frame), &size),
                    ==, 0);
    g_assert_cmpint(lpm_stream_pack(LPM_STREAM_DATA, &m, migration, 1, frame, 1000, &size), ==,
                    LPM_STREAM_TOO_SMALL);
    static uint8_t batch[LPM_STREAM_CODED_MAX + 1];
    m.channel_data = (LpmStreamChannelData){.data = batch, .size = sizeof(batch)};
    g_assert_cmpint(
        lpm_stream_pack(LPM_STREAM_CODED, &m, migration, 1, frame, sizeof(frame), &size), ==,
        LPM_STREAM_BAD_BODY);
    m.channel_data.size--;
    g_assert_cmpint(
        lpm_stream_pack(LPM_STREAM_CODED, &m, migration, 1, frame, sizeof(frame), &size), ==, 0);
    m.peer = (LpmStreamPeer){.data = big, .size = LPM_STREAM_PEER_MAX + 1};
    g_assert_cmpint(lpm_stream_pack(LPM_STREAM_PEER, &m, migration, 1, frame, sizeof(frame), &size),
                    ==, LPM_STREAM_BAD_BODY);
}

static LpmStreamStatus header_status(LpmStreamHeader h)
{
    uint8_t raw[LPM_STREAM_HEADER_SIZE], body[64] = "";
    LpmStreamHeader out;
    lpm_stream_encode_header(&h, body, raw);
    return lpm_stream_decode_header(raw, &out);
}

static void headers_are_bounded(void)
{
    LpmStreamHeader h = {.version = 1, .type = LPM_STREAM_PING, .length = 8};
    g_assert_cmpint(header_status(h), ==, LPM_STREAM_OK);
    h.length = 9;
    g_assert_cmpint(header_status(h), ==, LPM_STREAM_BAD_LENGTH);
    h.length = 8;
    h.flags = 1;
    g_assert_cmpint(header_status(h), ==, LPM_STREAM_BAD_FLAGS);
    h.flags = 0;
    h.version = 2;
    g_assert_cmpint(header_status(h), ==, LPM_STREAM_BAD_VERSION);
    uint8_t raw[LPM_STREAM_HEADER_SIZE];
    h = (LpmStreamHeader){.version = 1, .type = 999};
    lpm_stream_encode_header(&h, raw, raw);
    raw[42] = 0xff; /* 16 million bytes of body of an unknown record */
    LpmStreamHeader out;
    g_assert_cmpint(lpm_stream_decode_header(raw, &out), ==, LPM_STREAM_BAD_LENGTH);
}

static void verifier_knows_the_rules(void)
{
    LpmStreamVerifier v = lpm_stream_verifier(LPM_STREAM_FROM_SRC, migration);
    LpmStreamHeader h = {.version = 1, .type = LPM_STREAM_DATA, .sequence = 1};
    memcpy(h.migration, migration, sizeof(migration));
    g_assert_cmpint(lpm_stream_verify(&v, &h), ==, LPM_STREAM_OK);
    g_assert_cmpint(lpm_stream_verify(&v, &h), ==, LPM_STREAM_BAD_SEQUENCE); /* doubled */
    h.sequence = 3;
    g_assert_cmpint(lpm_stream_verify(&v, &h), ==, LPM_STREAM_BAD_SEQUENCE); /* one is missing */
    h.sequence = 2;
    g_assert_cmpint(lpm_stream_verify(&v, &h), ==, LPM_STREAM_OK);
    h.type = LPM_STREAM_LOADED;
    h.sequence = 3;
    g_assert_cmpint(lpm_stream_verify(&v, &h), ==,
                    LPM_STREAM_BAD_SENDER); /* the target says that */
    h.type = LPM_STREAM_CONFIG;
    g_assert_cmpint(lpm_stream_verify(&v, &h), ==, LPM_STREAM_BAD_SENDER); /* control only */
    h.type = 200;
    g_assert_cmpint(lpm_stream_verify(&v, &h), ==, LPM_STREAM_UNKNOWN_TYPE);
    h.type = 200 | LPM_STREAM_OPTIONAL;
    g_assert_cmpint(lpm_stream_verify(&v, &h), ==, LPM_STREAM_SKIP);
    h.type = LPM_STREAM_PING;
    g_assert_cmpint(lpm_stream_verify(&v, &h), ==,
                    LPM_STREAM_BAD_SEQUENCE); /* PING is not ordered */
    h.sequence = 0;
    g_assert_cmpint(lpm_stream_verify(&v, &h), ==, LPM_STREAM_OK);
    h.migration[0] ^= 1;
    g_assert_cmpint(lpm_stream_verify(&v, &h), ==, LPM_STREAM_BAD_MIGRATION);

    v = lpm_stream_verifier(LPM_STREAM_FROM_HOST, NULL);
    h = (LpmStreamHeader){.version = 1, .type = LPM_STREAM_LOADED, .migration = "m"};
    g_assert_cmpint(lpm_stream_verify(&v, &h), ==, LPM_STREAM_OK); /* no sequence on control */
    h.migration[0] = 'n';
    g_assert_cmpint(lpm_stream_verify(&v, &h), ==,
                    LPM_STREAM_BAD_MIGRATION); /* the first one counts */
}

/* Several connections, and frames once more after one was lost. */
static void verifier_knows_the_place(void)
{
    LpmStreamVerifier v = lpm_stream_verifier(LPM_STREAM_FROM_SRC, migration);
    static const struct {
        uint64_t sequence;
        LpmStreamPlace place;
        uint64_t last;
    } steps[] = {
        {2, LPM_STREAM_PLACE_AHEAD, 0}, {3, LPM_STREAM_PLACE_AHEAD, 0},
        {1, LPM_STREAM_PLACE_NEXT, 1},  {2, LPM_STREAM_PLACE_NEXT, 2},
        {2, LPM_STREAM_PLACE_SEEN, 2},  {1, LPM_STREAM_PLACE_SEEN, 2},
        {3, LPM_STREAM_PLACE_NEXT, 3},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) {
        LpmStreamHeader h = {.version = 1, .type = LPM_STREAM_CODED, .sequence = steps[i].sequence};
        LpmStreamPlace place;
        memcpy(h.migration, migration, sizeof(migration));
        g_assert_cmpint(lpm_stream_verify_place(&v, &h, &place), ==, LPM_STREAM_OK);
        g_assert_cmpint(place, ==, steps[i].place);
        g_assert_cmpuint(v.last, ==, steps[i].last);
    }
    LpmStreamPlace place;
    LpmStreamHeader h = {.version = 1, .type = LPM_STREAM_REPLACE};
    memcpy(h.migration, migration, sizeof(migration));
    g_assert_cmpint(lpm_stream_verify_place(&v, &h, &place), ==, LPM_STREAM_OK);
    g_assert_cmpint(place, ==, LPM_STREAM_PLACE_NONE);
    h.type = LPM_STREAM_CODED; /* ordered, without a number */
    g_assert_cmpint(lpm_stream_verify_place(&v, &h, &place), ==, LPM_STREAM_BAD_SEQUENCE);
    h.type = LPM_STREAM_MISS; /* the target says that */
    h.sequence = 4;
    g_assert_cmpint(lpm_stream_verify_place(&v, &h, &place), ==, LPM_STREAM_BAD_SENDER);
    g_assert_cmpuint(v.last, ==, 3);
}

/* What an attacker can send: random changes, with the checksum made right again. */
static void mutations_never_break_the_decoder(void)
{
    for (unsigned round = 0; round < 20000; round++) {
        LpmStreamMessage m, out;
        LpmStreamHeader header;
        size_t size, used;
        uint32_t type = all_types[g_test_rand_int_range(0, G_N_ELEMENTS(all_types))];
        fill(type, &m);
        g_assert_cmpint(lpm_stream_pack(type, &m, migration, 1, frame, sizeof(frame), &size), ==,
                        0);
        size_t body = size - LPM_STREAM_HEADER_SIZE;
        size_t cut = (size_t)g_test_rand_int_range(0, (gint32)body + 1);
        for (int i = 0; body > 0 && i < 4; i++)
            frame[LPM_STREAM_HEADER_SIZE + g_test_rand_int_range(0, (gint32)body)] =
                (uint8_t)g_test_rand_int();
        uint8_t *exact = g_memdup2(frame + LPM_STREAM_HEADER_SIZE, cut ? cut : 1);
        (void)lpm_stream_decode_body(type, exact, cut, &out);
        g_free(exact);
        (void)lpm_stream_unpack(frame, size, &header, &out, &used);
    }
}

static void errors_have_names_and_remedies(void)
{
    for (uint32_t code = LPM_STREAM_ERR_USAGE; code <= LPM_STREAM_ERR_INTERNAL; code++) {
        g_assert_nonnull(lpm_stream_error_name(code));
        g_assert_cmpuint(strlen(lpm_stream_error_remedy(code)), >, 10);
        if (code != LPM_STREAM_ERR_INTERNAL)
            g_assert_cmpstr(lpm_stream_error_name(code), !=, "internal");
    }
    g_assert_cmpstr(lpm_stream_error_name(4711), ==, "internal");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/stream/round-trip", every_record_round_trips);
    g_test_add_func("/stream/fields", fields_arrive_as_they_were);
    g_test_add_func("/stream/header-layout", header_layout);
    g_test_add_func("/stream/damage", every_damaged_bit_is_seen);
    g_test_add_func("/stream/truncation", truncated_frames_wait_for_more);
    g_test_add_func("/stream/bad-bodies", bad_bodies_are_refused);
    g_test_add_func("/stream/limits", limits_hold_when_encoding);
    g_test_add_func("/stream/headers", headers_are_bounded);
    g_test_add_func("/stream/verifier", verifier_knows_the_rules);
    g_test_add_func("/stream/place", verifier_knows_the_place);
    g_test_add_func("/stream/mutations", mutations_never_break_the_decoder);
    g_test_add_func("/stream/errors", errors_have_names_and_remedies);
    return g_test_run();
}
