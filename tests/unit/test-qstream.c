/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams of real QEMUs (tests/golden/streams, with what QEMU itself counted and what its memory
 * was in the end), as they are, in random pieces and damaged.
 */
#include "qstream/qstream.h"

#include <glib.h>
#include <jansson.h>
#include <string.h>
#include <xxhash.h>
#include <zstd.h>

enum { MAX_CHANNELS = 4, MAX_UNITS = 512, PIECE = 256 * 1024 };

/* --- captured streams --- */

typedef struct {
    uint8_t *data;
    size_t size;
} Bytes;

typedef struct {
    json_t *about;
    size_t n;
    Bytes channel[MAX_CHANNELS];
} Capture;

static char *golden_path(const char *name, const char *ending)
{
    g_autofree char *file = g_strconcat(name, ending, NULL);
    return g_test_build_filename(G_TEST_DIST, "..", "golden", "streams", file, NULL);
}

static Bytes unpack(const char *path, size_t expected)
{
    g_autofree char *packed = NULL;
    g_autoptr(GError) error = NULL;
    gsize size;
    g_file_get_contents(path, &packed, &size, &error);
    g_assert_no_error(error);
    Bytes bytes = {.size = expected};
    bytes.data = g_malloc(bytes.size);
    g_assert_cmpuint(ZSTD_decompress(bytes.data, bytes.size, packed, size), ==, bytes.size);
    return bytes;
}

static json_int_t number(const Capture *capture, const char *key)
{
    return json_integer_value(json_object_get(capture->about, key));
}

static Capture *load(const char *name)
{
    Capture *capture = g_new0(Capture, 1);
    g_autofree char *path = golden_path(name, ".json");
    capture->about = json_load_file(path, 0, NULL);
    g_assert_nonnull(capture->about);
    capture->n = (size_t)number(capture, "channels");
    g_assert_cmpuint(capture->n, <=, MAX_CHANNELS);
    json_t *sizes = json_object_get(capture->about, "sizes");
    for (size_t i = 0; i < capture->n; i++) {
        g_autofree char *ending = g_strdup_printf("-%zu.zst", i);
        g_autofree char *packed = golden_path(name, ending);
        capture->channel[i] = unpack(packed, (size_t)json_integer_value(json_array_get(sizes, i)));
    }
    return capture;
}

static void capture_free(Capture *capture)
{
    for (size_t i = 0; i < capture->n; i++)
        g_free(capture->channel[i].data);
    json_decref(capture->about);
    g_free(capture);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Capture, capture_free)

/* --- reading one channel --- */

typedef struct {
    LpmQstreamUnit unit;
    size_t at;      /* of the page's content in the channel */
    uint32_t round; /* flushes before it */
} Found;

typedef struct {
    GArray *found; /* of Found: PAGE and ZERO units */
    LpmQstreamCounts counts;
    const char *reason;
    uint32_t round;
    GString *seen;
} Reading;

static void reading_clear(Reading *reading)
{
    g_array_unref(reading->found);
    g_string_free(reading->seen, TRUE);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Reading, reading_clear)

static void note_seen(void *context, const LpmQstreamSeen *seen)
{
    static const char *const words[] = {"main",  "multifd", "configuration", "subsection",
                                        "start", "part",    "end",           "command",
                                        "block", "flush",   "opaque"};
    Reading *reading = context;
    if (seen->kind == LPM_QSTREAM_SEEN_FLUSH)
        reading->round++;
    g_string_append_printf(reading->seen, "%s%s%s\n", words[seen->kind],
                           seen->name != NULL ? " " : "", seen->name != NULL ? seen->name : "");
}

/* What holds of every unit, whatever the bytes. */
static void check_unit(const LpmQstreamBlocks *blocks, const LpmQstreamUnit *unit)
{
    g_assert_cmpuint(unit->size, >, 0);
    if (unit->kind == LPM_QSTREAM_OPAQUE)
        return;
    g_assert_cmpuint(unit->block, <, blocks->n);
    g_assert_cmpuint(unit->offset % LPM_QSTREAM_PAGE_SIZE, ==, 0);
    g_assert_cmpuint(unit->offset + LPM_QSTREAM_PAGE_SIZE, <=, blocks->block[unit->block].length);
    bool zero = unit->kind == LPM_QSTREAM_ZERO;
    uint64_t word = unit->offset | (zero ? LPM_QSTREAM_WORD_ZERO : LPM_QSTREAM_WORD_PAGE);
    uint8_t head[9] = {0};
    for (int i = 0; i < 8; i++)
        head[i] = (uint8_t)(word >> (56 - 8 * i));
    if (zero) {
        g_assert_cmpmem(unit->data, unit->size, head, 9);
        return;
    }
    g_assert_cmpmem(unit->data, unit->head, head, unit->head == 0 ? 0 : 8);
    g_assert_cmpuint(unit->size, ==, unit->head + LPM_QSTREAM_PAGE_SIZE);
}

/* How a channel is handed to the reader. */
typedef struct {
    GRand *dice; /* pieces, flushes and room for units at random; NULL: as much as there is */
    bool flush;  /* at random */
    size_t room; /* for units, where not at random */
} Manner;

static void take_units(Reading *reading, const LpmQstreamBlocks *blocks, const uint8_t *data,
                       size_t at, const LpmQstreamUnit *units, size_t n, size_t used)
{
    const uint8_t *next = data + at;
    for (size_t i = 0; i < n; i++) {
        check_unit(blocks, &units[i]);
        g_assert_true(units[i].data == next);
        next += units[i].size;
        if (units[i].kind == LPM_QSTREAM_OPAQUE)
            continue;
        Found found = {units[i], (size_t)(units[i].data - data) + units[i].head, reading->round};
        g_array_append_val(reading->found, found);
    }
    g_assert_true(next == data + at + used);
}

/* Reads all of a channel; asserts that the units are its bytes, one behind the other. */
static Reading read_channel(LpmQstreamBlocks *blocks, Bytes bytes, Manner manner)
{
    Reading reading = {.found = g_array_new(FALSE, FALSE, sizeof(Found)),
                       .seen = g_string_new(NULL)};
    LpmQstream *q = lpm_qstream_new(blocks);
    LpmQstreamUnit units[MAX_UNITS];
    size_t at = 0, there = 0;
    lpm_qstream_watch(q, note_seen, &reading);
    while (at < bytes.size) {
        static const int pieces[] = {2, 20, 300, 5000, PIECE};
        int most = manner.dice != NULL ? pieces[g_rand_int_range(manner.dice, 0, 5)] : PIECE;
        size_t piece = manner.dice != NULL ? (size_t)g_rand_int_range(manner.dice, 1, most) : PIECE;
        there = MIN(bytes.size, MAX(there, at) + piece);
        bool flush =
            there == bytes.size || (manner.flush && g_rand_int_range(manner.dice, 0, 3) == 0);
        size_t room =
            manner.dice != NULL ? (size_t)g_rand_int_range(manner.dice, 1, MAX_UNITS) : manner.room;
        size_t n;
        size_t used = lpm_qstream_read(q, bytes.data + at, there - at, flush, units, room, &n);
        take_units(&reading, blocks, bytes.data, at, units, n, used);
        at += used;
        g_assert_true(n == room || there - at < LPM_QSTREAM_UNIT_MAX);
        g_assert_true(n == room || !flush || at == there);
    }
    reading.counts = *lpm_qstream_counts(q);
    reading.reason = lpm_qstream_opaque_reason(q);
    g_assert_cmpuint(reading.counts.bytes, ==, bytes.size);
    g_assert_cmpuint(reading.counts.pages + reading.counts.zeros, ==, reading.found->len);
    g_assert_true((reading.reason != NULL) == lpm_qstream_is_opaque(q));
    lpm_qstream_free(q);
    return reading;
}

static const Found *found_at(const Reading *reading, size_t i)
{
    return &g_array_index(reading->found, Found, i);
}

/* --- real streams --- */

static const char *const captures[] = {
    "pc",           "q35",           "q35-xbzrle", "q35-multifd",     "q35-multifd-zstd", "microvm",
    "pseries-hash", "pseries-radix", "7.2-pc",     "7.2-q35-multifd", "q35-postcopy",
};

/* Puts the pages of all channels where they belong, round by round. */
static void rebuild(uint8_t *memory, uint32_t block, const Reading *readings, size_t n)
{
    size_t next[MAX_CHANNELS] = {0};
    uint32_t rounds = 0;
    for (size_t i = 0; i < n; i++)
        rounds = MAX(rounds, readings[i].round);
    for (uint32_t round = 0; round <= rounds; round++) {
        for (size_t i = 0; i < n; i++) {
            for (; next[i] < readings[i].found->len; next[i]++) {
                const Found *found = found_at(&readings[i], next[i]);
                if (found->round > round)
                    break;
                if (found->unit.block != block)
                    continue;
                if (found->unit.kind == LPM_QSTREAM_PAGE)
                    memcpy(memory + found->unit.offset, found->unit.data + found->unit.head,
                           LPM_QSTREAM_PAGE_SIZE);
                else
                    memset(memory + found->unit.offset, 0, LPM_QSTREAM_PAGE_SIZE);
            }
        }
    }
}

static void check_memory(const Capture *capture, const LpmQstreamBlocks *blocks,
                         const Reading *readings)
{
    const char *name = json_string_value(json_object_get(capture->about, "block"));
    size_t length = (size_t)number(capture, "length");
    uint32_t block = 0;
    while (block < blocks->n && strcmp(blocks->block[block].name, name) != 0)
        block++;
    g_assert_cmpuint(block, <, blocks->n);
    g_assert_cmpuint(blocks->block[block].length, ==, length);
    uint8_t *memory = g_malloc0(length);
    rebuild(memory, block, readings, capture->n);
    XXH128_hash_t hash = XXH3_128bits(memory, length);
    g_autofree char *text = g_strdup_printf("%016" G_GINT64_MODIFIER "x%016" G_GINT64_MODIFIER "x",
                                            hash.high64, hash.low64);
    g_assert_cmpstr(text, ==, json_string_value(json_object_get(capture->about, "xxh3-128")));
    g_free(memory);
}

/* The pages are as many as QEMU counted, and together are the memory that it had in the end. */
static void test_capture(gconstpointer name)
{
    g_autoptr(Capture) capture = load(name);
    g_autofree LpmQstreamBlocks *blocks = g_new0(LpmQstreamBlocks, 1);
    Reading readings[MAX_CHANNELS];
    LpmQstreamCounts sum = {0};
    bool packed = strstr(name, "zstd") != NULL, xbzrle = strstr(name, "xbzrle") != NULL;
    for (size_t i = 0; i < capture->n; i++) {
        readings[i] = read_channel(blocks, capture->channel[i], (Manner){.room = 1});
        sum.pages += readings[i].counts.pages;
        sum.zeros += readings[i].counts.zeros + readings[i].counts.odd_zeros +
                     readings[i].counts.quiet_zeros;
        sum.xbzrle += readings[i].counts.xbzrle;
        g_assert_cmpuint(readings[i].counts.lost_pages, ==, 0);
        g_assert_cmpstr(readings[i].reason, ==,
                        i == 0   ? "device state"
                        : packed ? "a kind of multifd packet that is not known"
                                 : NULL);
    }
    if (!packed) {
        g_assert_cmpuint(sum.pages, ==, number(capture, "normal"));
        g_assert_cmpuint(sum.zeros, ==, number(capture, "duplicate"));
    }
    g_assert_true((sum.xbzrle > 0) == xbzrle);
    if (json_object_get(capture->about, "xxh3-128") != NULL && !packed && !xbzrle)
        check_memory(capture, blocks, readings);
    for (size_t i = 0; i < capture->n; i++)
        reading_clear(&readings[i]);
}

/*
 * In pieces, with room for few units and flushes anywhere: the same bytes, and every page found is
 * one of those found without; all of them where nothing was flushed.
 */
static void check_pieces(Bytes bytes, LpmQstreamBlocks *blocks, const Reading *whole, Manner manner)
{
    g_auto(Reading) reading = read_channel(blocks, bytes, manner);
    size_t at = 0;
    for (size_t i = 0; i < reading.found->len; i++) {
        const Found *found = found_at(&reading, i);
        while (at < whole->found->len && found_at(whole, at)->at < found->at)
            at++;
        g_assert_cmpuint(at, <, whole->found->len);
        const Found *same = found_at(whole, at);
        g_assert_cmpuint(same->at, ==, found->at);
        g_assert_cmpint(same->unit.kind, ==, found->unit.kind);
        g_assert_cmpuint(same->unit.block, ==, found->unit.block);
        g_assert_cmpuint(same->unit.offset, ==, found->unit.offset);
    }
    if (!manner.flush)
        g_assert_cmpuint(reading.found->len, ==, whole->found->len);
    g_assert_cmpstr(reading.seen->str, ==, whole->seen->str);
    g_assert_cmpstr(reading.reason, ==, whole->reason);
}

static GRand *dice(void)
{
    guint32 seed = (guint32)g_test_rand_int();
    g_test_message("seed %u", seed);
    return g_rand_new_with_seed(seed);
}

static void test_pieces(gconstpointer name)
{
    g_autoptr(Capture) capture = load(name);
    g_autoptr(GRand) random = dice();
    g_autofree LpmQstreamBlocks *blocks = g_new0(LpmQstreamBlocks, 1);
    for (size_t i = 0; i < capture->n; i++) {
        g_auto(Reading) whole =
            read_channel(blocks, capture->channel[i], (Manner){.room = MAX_UNITS});
        for (int flush = 0; flush < 2; flush++) {
            if (i == 0)
                blocks->n = 0; /* the main channel names them again */
            check_pieces(capture->channel[i], blocks, &whole, (Manner){random, flush == 1, 0});
        }
    }
}

/* A few bytes changed, taken out or put in: nothing but the cutting may change. */
static Bytes damage(GRand *random, Bytes from, size_t at, size_t size)
{
    Bytes bytes = {.data = g_malloc(size + 64), .size = size};
    memcpy(bytes.data, from.data + at, size);
    for (int n = g_rand_int_range(random, 1, 8); n > 0 && bytes.size > 128; n--) {
        /* Most of what there is to break is where the stream begins. */
        size_t end = g_rand_boolean(random) ? MIN(bytes.size, 512) : bytes.size;
        size_t place = (size_t)g_rand_int_range(random, 0, (gint32)end - 16);
        size_t count = (size_t)g_rand_int_range(random, 1, 9);
        switch (g_rand_int_range(random, 0, 3)) {
        case 0:
            for (size_t i = 0; i < count; i++)
                bytes.data[place + i] = (uint8_t)g_rand_int(random);
            break;
        case 1:
            memmove(bytes.data + place, bytes.data + place + count, bytes.size - place - count);
            bytes.size -= count;
            break;
        default:
            memmove(bytes.data + place + 1, bytes.data + place, bytes.size - place);
            bytes.size++;
            break;
        }
    }
    return bytes;
}

static void test_damaged(gconstpointer name)
{
    g_autoptr(Capture) capture = load(name);
    g_autoptr(GRand) random = dice();
    for (int round = 0; round < 60; round++) {
        g_autofree LpmQstreamBlocks *blocks = g_new0(LpmQstreamBlocks, 1);
        for (size_t i = 0; i < capture->n; i++) {
            size_t size = MIN(capture->channel[i].size, 1u << g_rand_int_range(random, 9, 20));
            Bytes bytes = damage(random, capture->channel[i], 0, size);
            g_auto(Reading) reading =
                read_channel(blocks, bytes, (Manner){random, g_rand_boolean(random), 0});
            g_free(bytes.data);
        }
    }
}

/* --- streams made here, for what QEMU rarely writes --- */

enum { PAGE = LPM_QSTREAM_PAGE_SIZE };

static void put(GByteArray *stream, uint64_t value, int bytes)
{
    for (int i = bytes - 1; i >= 0; i--) {
        guint8 byte = (guint8)(value >> (8 * i));
        g_byte_array_append(stream, &byte, 1);
    }
}

static void put_name(GByteArray *stream, const char *name)
{
    put(stream, strlen(name), 1);
    g_byte_array_append(stream, (const guint8 *)name, (guint)strlen(name));
}

static void put_fill(GByteArray *stream, guint8 byte, guint count)
{
    guint at = stream->len;
    g_byte_array_set_size(stream, at + count);
    memset(stream->data + at, byte, count);
}

static GByteArray *new_stream(void)
{
    GByteArray *stream = g_byte_array_new();
    put(stream, 0x5145564d00000003, 8);
    put(stream, 7, 1);
    put(stream, 3, 4);
    g_byte_array_append(stream, (const guint8 *)"mac", 3);
    return stream;
}

/* A RAM section: block "a" of 16 pages, "b" of 4. Its data goes on. */
static GByteArray *new_ram(void)
{
    GByteArray *stream = new_stream();
    put(stream, 1, 1);
    put(stream, 2, 4);
    put_name(stream, "ram");
    put(stream, 4, 8); /* instance, version */
    put(stream, 20 * PAGE | 0x04, 8);
    put_name(stream, "a");
    put(stream, 16 * PAGE, 8);
    put_name(stream, "b");
    put(stream, 4 * PAGE, 8);
    return stream;
}

static void put_page(GByteArray *stream, guint number, const char *block)
{
    put(stream, number * PAGE | 0x08 | (block != NULL ? 0 : 0x20), 8);
    if (block != NULL)
        put_name(stream, block);
    put_fill(stream, (guint8)number, PAGE);
}

/* What was found, as text: one "z" or "p" (with its word) or "P" (without), block, number of the
 * page. */
static char *found_text(const Reading *reading)
{
    GString *text = g_string_new(NULL);
    for (size_t i = 0; i < reading->found->len; i++) {
        const LpmQstreamUnit *unit = &found_at(reading, i)->unit;
        g_string_append_printf(text, "%c%u:%u ",
                               unit->kind == LPM_QSTREAM_ZERO ? 'z'
                               : unit->head == 8              ? 'p'
                                                              : 'P',
                               unit->block, (guint)(unit->offset / PAGE));
    }
    return g_string_free(text, FALSE);
}

static void expect(GByteArray *stream, const char *found, const char *reason)
{
    g_autofree LpmQstreamBlocks *blocks = g_new0(LpmQstreamBlocks, 1);
    g_auto(Reading) reading =
        read_channel(blocks, (Bytes){stream->data, stream->len}, (Manner){.room = MAX_UNITS});
    g_autofree char *text = found_text(&reading);
    g_assert_cmpstr(text, ==, found);
    g_assert_cmpstr(reading.reason, ==, reason);
    g_byte_array_unref(stream);
}

static void test_words(void)
{
    GByteArray *stream = new_ram();
    put_page(stream, 1, NULL); /* of no block yet */
    put_page(stream, 2, "a");
    put_page(stream, 3, NULL);
    put(stream, 4 * PAGE | 0x22, 8);
    put(stream, 0, 1);
    put(stream, 5 * PAGE | 0x22, 8); /* filled with something else */
    put(stream, 7, 1);
    put_page(stream, 15, NULL);
    put_page(stream, 16, NULL); /* behind the block's end */
    put_page(stream, 3, "b");
    put(stream, 0x02, 8); /* zero page, names its block */
    put_name(stream, "a");
    put(stream, 0, 1);
    put_page(stream, 6, NULL);
    put_page(stream, 1, "unheard-of");
    put_page(stream, 1, NULL);
    put(stream, 2 * PAGE | 0x40, 8); /* differences */
    put_name(stream, "b");
    put(stream, 1, 1);
    put(stream, 100, 2);
    put_fill(stream, 0x11, 100);
    put(stream, 2 * PAGE | 0x120, 8); /* compressed */
    put(stream, 1000, 4);
    put_fill(stream, 0x22, 1000);
    put(stream, 0x200, 8);
    put_page(stream, 2, NULL);
    put(stream, 0x10, 8);
    put(stream, 0x7e, 1);
    put(stream, 2, 4);
    put(stream, 3, 1); /* END */
    put(stream, 2, 4);
    put_page(stream, 3, NULL);
    put(stream, 0x80, 8); /* hook */
    put_page(stream, 3, NULL);
    expect(stream, "P0:2 p0:3 z0:4 p0:15 P1:3 p0:6 p1:2 p1:3 ", "a kind of page that is not known");
}

static void test_commands(void)
{
    GByteArray *stream = new_ram();
    put(stream, 0x10, 8);
    put(stream, 0x7e00000002, 5);
    put(stream, 8, 1); /* a ping */
    put(stream, 2, 2);
    put(stream, 4, 2);
    put(stream, 1, 4);
    put(stream, 8, 1); /* a package, in which nothing is looked at */
    put(stream, 7, 2);
    put(stream, 4, 2);
    put(stream, 5000, 4);
    put_fill(stream, 2, 5000);
    put(stream, 2, 1);
    put(stream, 2, 4);
    put_page(stream, 0, "a");
    put(stream, 0x10, 8);
    put(stream, 0x7e00000002, 5);
    put(stream, 2, 1);
    put(stream, 3, 4);
    put_page(stream, 1, NULL);
    expect(stream, "P0:0 ", "a part of a section that was not started");
}

/* With post-copy, a block of large pages says so behind its length. */
static void test_large_pages(void)
{
    GByteArray *stream = new_stream();
    put(stream, 1, 1);
    put(stream, 2, 4);
    put_name(stream, "ram");
    put(stream, 4, 8);
    put(stream, 2 * 16 * PAGE | 0x04, 8);
    for (int i = 0; i < 2; i++) {
        put_name(stream, i == 0 ? "a" : "b");
        put(stream, 16 * PAGE, 8);
        put(stream, 0x200000, 8);
    }
    put_page(stream, 4, "b");
    put(stream, 0x200000, 8); /* but not there */
    expect(stream, "P1:4 ", "a kind of page that is not known");
}

static void test_refused(void)
{
    GByteArray *stream = new_ram();
    put(stream, 4, 8);
    expect(stream, "", "a second list of memory blocks");

    stream = new_stream();
    put(stream, 5, 1);
    put_name(stream, "configuration/target-page-bits");
    put(stream, 1, 4);
    put(stream, 16, 4);
    expect(stream, "", "pages of another size than 4096 bytes");

    stream = new_stream();
    put(stream, 5, 1);
    put_name(stream, "configuration/capabilities");
    put(stream, 1, 4);
    put(stream, 1, 4);
    put_name(stream, "x-ignore-shared");
    expect(stream, "", "a capability that changes the stream");

    stream = new_stream();
    put(stream, 1, 1);
    put(stream, 2, 4);
    put_name(stream, "dirty-bitmap");
    put(stream, 1, 8);
    expect(stream, "", "an iterative section other than ram and spapr/htab");

    stream = new_stream();
    put(stream, 1, 1);
    put(stream, 2, 4);
    put_name(stream, "ram");
    put(stream, 4, 8);
    put(stream, 65 * PAGE | 0x04, 8);
    for (int i = 0; i < 65; i++) {
        g_autofree char *name = g_strdup_printf("block%d", i);
        put_name(stream, name);
        put(stream, PAGE, 8);
    }
    expect(stream, "", "too many memory blocks");

    stream = g_byte_array_new();
    put_fill(stream, 'x', 100);
    expect(stream, "", "neither a main channel nor a multifd channel");
}

/* Flushed at every byte in turn: nothing is misread, and no page is lost but the one that was cut.
 */
static void test_flush_anywhere(void)
{
    g_autoptr(GByteArray) stream = new_ram();
    put_page(stream, 1, "a");
    put_page(stream, 2, NULL);
    put(stream, 3 * PAGE | 0x22, 8);
    put(stream, 0, 1);
    put_page(stream, 0, "b");
    for (size_t cut = 1; cut < stream->len; cut++) {
        g_autofree LpmQstreamBlocks *blocks = g_new0(LpmQstreamBlocks, 1);
        LpmQstream *q = lpm_qstream_new(blocks);
        LpmQstreamUnit units[16];
        size_t n, pages = 0, bytes = 0;
        for (int half = 0; half < 2; half++) {
            size_t from = half == 0 ? 0 : cut, to = half == 0 ? cut : stream->len;
            size_t used = lpm_qstream_read(q, stream->data + from, to - from, true, units, 16, &n);
            g_assert_cmpuint(used, ==, to - from);
            for (size_t i = 0; i < n; i++) {
                check_unit(blocks, &units[i]);
                g_assert_true(units[i].data == stream->data + bytes);
                bytes += units[i].size;
                pages += units[i].kind != LPM_QSTREAM_OPAQUE;
            }
        }
        g_assert_cmpuint(pages, >=, 3);
        g_assert_cmpuint(bytes, ==, stream->len);
        g_assert_cmpuint(
            lpm_qstream_counts(q)->lost_pages + lpm_qstream_counts(q)->odd_zeros + pages, ==, 4);
        g_assert_false(lpm_qstream_is_opaque(q));
        lpm_qstream_free(q);
    }
}

/* Nothing to read, no room: nothing happens. */
static void test_nothing(void)
{
    g_autofree LpmQstreamBlocks *blocks = g_new0(LpmQstreamBlocks, 1);
    LpmQstream *q = lpm_qstream_new(blocks);
    g_autoptr(GByteArray) stream = new_ram();
    LpmQstreamUnit units[1];
    size_t n = 7;
    g_assert_cmpuint(lpm_qstream_read(q, NULL, 0, true, units, 1, &n), ==, 0);
    g_assert_cmpuint(n, ==, 0);
    n = 7;
    g_assert_cmpuint(lpm_qstream_read(q, stream->data, stream->len, true, units, 0, &n), ==, 0);
    g_assert_cmpuint(n, ==, 0);
    lpm_qstream_free(q);
    lpm_qstream_free(NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qstream/words", test_words);
    g_test_add_func("/qstream/commands", test_commands);
    g_test_add_func("/qstream/large-pages", test_large_pages);
    g_test_add_func("/qstream/refused", test_refused);
    g_test_add_func("/qstream/flush-anywhere", test_flush_anywhere);
    g_test_add_func("/qstream/nothing", test_nothing);
    for (size_t i = 0; i < G_N_ELEMENTS(captures); i++) {
        g_autofree char *whole = g_strconcat("/qstream/capture/", captures[i], NULL);
        g_autofree char *pieces = g_strconcat("/qstream/pieces/", captures[i], NULL);
        g_autofree char *damaged = g_strconcat("/qstream/damaged/", captures[i], NULL);
        g_test_add_data_func(whole, captures[i], test_capture);
        g_test_add_data_func(pieces, captures[i], test_pieces);
        g_test_add_data_func(damaged, captures[i], test_damaged);
    }
    return g_test_run();
}
