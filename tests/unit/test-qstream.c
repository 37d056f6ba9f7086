/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams of real QEMUs (tests/golden/streams, with what QEMU itself counted and what its memory
 * was in the end), as they are, in random pieces and damaged.
 */
#include "qstream-reading.h"

#include <jansson.h>
#include <string.h>
#include <xxhash.h>
#include <zstd.h>

enum { MAX_CHANNELS = 4 };

/* --- captured streams --- */

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
static Bytes damage(GRand *random, Bytes from, size_t size)
{
    Bytes bytes = {.data = g_malloc(size + 64), .size = size};
    memcpy(bytes.data, from.data, size);
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
            size_t size = 1u << g_rand_int_range(random, 9, 20);
            size = MIN(size, capture->channel[i].size);
            Bytes bytes = damage(random, capture->channel[i], size);
            g_auto(Reading) reading =
                read_channel(blocks, bytes, (Manner){random, g_rand_boolean(random), 0});
            g_free(bytes.data);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
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
