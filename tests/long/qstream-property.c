/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qstream-property SEED ROUNDS FILE...: reads the channels of one migration, the main one first, as
 * they are, then ROUNDS times in random pieces with flushes, damaged and cut short: whatever comes,
 * the units must be the bytes, and a page's place lie in its block. Prints one line of JSON; a
 * breach aborts.
 */
#include "qstream/qstream.h"

#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { PIECE = 256 * 1024, BUFFER = PIECE + LPM_QSTREAM_UNIT_MAX, MAX_UNITS = 1024 };

typedef struct {
    GRand *dice;
    bool pieces, damage; /* the manner of reading */
    uint64_t bytes, pages, changes;
} Run;

typedef struct {
    const LpmQstreamBlocks *blocks;
    LpmQstream *reader;
    uint8_t buffer[BUFFER];
    size_t have;
} Feed;

static void check_units(const LpmQstreamBlocks *blocks, const uint8_t *data, size_t used,
                        const LpmQstreamUnit *units, size_t n)
{
    const uint8_t *next = data;
    for (size_t i = 0; i < n; i++) {
        g_assert_true(units[i].data == next && units[i].size > 0);
        next += units[i].size;
        if (units[i].kind == LPM_QSTREAM_OPAQUE)
            continue;
        g_assert_cmpuint(units[i].block, <, blocks->n);
        uint64_t length = blocks->block[units[i].block].length;
        g_assert_cmpuint(units[i].offset % LPM_QSTREAM_PAGE_SIZE, ==, 0);
        g_assert_true(length >= LPM_QSTREAM_PAGE_SIZE &&
                      units[i].offset <= length - LPM_QSTREAM_PAGE_SIZE);
        size_t size = units[i].head + (size_t)LPM_QSTREAM_PAGE_SIZE;
        g_assert_cmpuint(units[i].size, ==, units[i].kind == LPM_QSTREAM_ZERO ? 9 : size);
    }
    g_assert_true(next == data + used);
}

/* Reads what the buffer has until the reader wants more. */
static void read_buffer(Run *run, Feed *feed, bool end)
{
    LpmQstreamUnit units[MAX_UNITS];
    size_t at = 0, n, room;
    do {
        room = run->pieces ? (size_t)g_rand_int_range(run->dice, 1, MAX_UNITS) : MAX_UNITS;
        bool flush = end || (run->pieces && g_rand_int_range(run->dice, 0, 8) == 0);
        size_t used = lpm_qstream_read(feed->reader, feed->buffer + at, feed->have - at, flush,
                                       units, room, &n);
        check_units(feed->blocks, feed->buffer + at, used, units, n);
        at += used;
        g_assert_true(n == room || !flush || at == feed->have);
    } while (n == room && at < feed->have);
    feed->have -= at;
    g_assert_cmpuint(feed->have, <, LPM_QSTREAM_UNIT_MAX);
    memmove(feed->buffer, feed->buffer + at, feed->have);
}

/* One byte of those that come next is another one, or is not there. */
static size_t damage(Run *run, uint8_t *data, size_t size)
{
    size_t at = (size_t)g_rand_int_range(run->dice, 0, (gint32)size);
    run->changes++;
    switch (g_rand_int_range(run->dice, 0, 3)) {
    case 0:
        data[at] = (uint8_t)g_rand_int(run->dice);
        return size;
    case 1:
        data[at] ^= (uint8_t)(1 << g_rand_int_range(run->dice, 0, 8));
        return size;
    default:
        memmove(data + at, data + at + 1, size - at - 1);
        return size - 1;
    }
}

static void read_channel(Run *run, LpmQstreamBlocks *blocks, const uint8_t *data, size_t size)
{
    static Feed feed;
    uint64_t fed = 0;
    feed.blocks = blocks;
    feed.have = 0;
    feed.reader = lpm_qstream_new(blocks);
    for (size_t at = 0; at < size;) {
        size_t piece = run->pieces ? (size_t)g_rand_int_range(run->dice, 1, PIECE) : PIECE;
        piece = MIN(piece, size - at);
        memcpy(feed.buffer + feed.have, data + at, piece);
        at += piece;
        if (run->damage && g_rand_int_range(run->dice, 0, 20) == 0)
            piece = damage(run, feed.buffer + feed.have, piece);
        feed.have += piece;
        fed += piece;
        read_buffer(run, &feed, at == size);
    }
    g_assert_cmpuint(feed.have, ==, 0);
    const LpmQstreamCounts *counts = lpm_qstream_counts(feed.reader);
    g_assert_cmpuint(counts->bytes, ==, fed);
    run->bytes += fed;
    run->pages += counts->pages + counts->zeros;
    lpm_qstream_free(feed.reader);
}

/* All channels, each of them cut short where @run is one of damage. */
static void read_all(Run *run, GMappedFile *const *files, size_t n)
{
    g_autofree LpmQstreamBlocks *blocks = g_new0(LpmQstreamBlocks, 1);
    for (size_t i = 0; i < n; i++) {
        size_t size = g_mapped_file_get_length(files[i]);
        if (run->damage)
            size -= (size_t)((double)size * g_rand_double(run->dice) * g_rand_double(run->dice));
        read_channel(run, blocks, (const uint8_t *)g_mapped_file_get_contents(files[i]), size);
    }
}

/* Reads all channels where they lie; nanoseconds of processor time. */
static double time_reading(GMappedFile *const *files, size_t n, uint64_t *ret_pages)
{
    g_autofree LpmQstreamBlocks *blocks = g_new0(LpmQstreamBlocks, 1);
    LpmQstreamUnit units[MAX_UNITS];
    clock_t start = clock();
    *ret_pages = 0;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *data = (const uint8_t *)g_mapped_file_get_contents(files[i]);
        LpmQstream *reader = lpm_qstream_new(blocks);
        size_t size = g_mapped_file_get_length(files[i]), got;
        for (size_t at = 0; at < size;) {
            size_t piece = MIN(size - at, PIECE);
            at += lpm_qstream_read(reader, data + at, piece, at + piece == size, units, MAX_UNITS,
                                   &got);
        }
        *ret_pages += lpm_qstream_counts(reader)->pages + lpm_qstream_counts(reader)->zeros;
        lpm_qstream_free(reader);
    }
    return (double)(clock() - start) * 1e9 / CLOCKS_PER_SEC;
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autofree GMappedFile **files = g_new0(GMappedFile *, (gsize)argc);
    size_t n = 0;
    if (argc < 4) {
        fprintf(stderr, "usage: qstream-property SEED ROUNDS FILE...\n");
        return 2;
    }
    for (int i = 3; i < argc; i++) {
        files[n++] = g_mapped_file_new(argv[i], FALSE, &error);
        g_assert_no_error(error);
    }
    g_autoptr(GRand) dice = g_rand_new_with_seed((guint32)g_ascii_strtoull(argv[1], NULL, 10));
    guint64 rounds = g_ascii_strtoull(argv[2], NULL, 10);
    Run whole = {.dice = dice}, random = {.dice = dice, .pieces = true};
    uint64_t pages;
    read_all(&whole, files, n); /* and brings the files into memory */
    double took = time_reading(files, n, &pages);
    g_assert_cmpuint(pages, ==, whole.pages);
    for (guint64 round = 0; round < rounds; round++) {
        random.damage = round > 0;
        read_all(&random, files, n);
    }
    printf("{\"bytes\": %" G_GUINT64_FORMAT ", \"pages\": %" G_GUINT64_FORMAT
           ", \"ns-a-page\": %.1f, \"random-bytes\": %" G_GUINT64_FORMAT
           ", \"random-pages\": %" G_GUINT64_FORMAT ", \"changes\": %" G_GUINT64_FORMAT "}\n",
           whole.bytes, whole.pages, took / (double)MAX(pages, 1), random.bytes, random.pages,
           random.changes);
    for (size_t i = 0; i < n; i++)
        g_mapped_file_unref(files[i]);
    return 0;
}
