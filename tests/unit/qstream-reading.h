/* SPDX-License-Identifier: Apache-2.0 */
/* Reads channels whole, in random pieces and with flushes, and asserts what always holds. */
#pragma once

#include "qstream/qstream.h"

#include <glib.h>
#include <string.h>

enum { MAX_UNITS = 512, PIECE = 256 * 1024 };

typedef struct {
    uint8_t *data;
    size_t size;
} Bytes;

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

static inline void reading_clear(Reading *reading)
{
    g_array_unref(reading->found);
    g_string_free(reading->seen, TRUE);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Reading, reading_clear)

static inline void note_seen(void *context, const LpmQstreamSeen *seen)
{
    static const char *const words[] = {"main",  "multifd", "configuration", "subsection",
                                        "start", "part",    "end",           "command",
                                        "block", "flush",   "opaque"};
    Reading *reading = context;
    if (seen->kind == LPM_QSTREAM_SEEN_FLUSH)
        reading->round++;
    g_string_append_printf(reading->seen, "%" G_GUINT64_FORMAT " %s%s%s\n", seen->at,
                           words[seen->kind], seen->name != NULL ? " " : "",
                           seen->name != NULL ? seen->name : "");
}

/* What holds of every unit, whatever the bytes. */
static inline void check_unit(const LpmQstreamBlocks *blocks, const LpmQstreamUnit *unit)
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

static inline void take_units(Reading *reading, const LpmQstreamBlocks *blocks, const uint8_t *data,
                              size_t at, const LpmQstreamUnit *units, size_t n, size_t used)
{
    const uint8_t *next = data + at;
    for (size_t i = 0; i < n; i++) {
        check_unit(blocks, &units[i]);
        g_assert_true(i == 0 || units[i].kind != LPM_QSTREAM_OPAQUE ||
                      units[i - 1].kind != LPM_QSTREAM_OPAQUE);
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
static inline Reading read_channel(LpmQstreamBlocks *blocks, Bytes bytes, Manner manner)
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

static inline const Found *found_at(const Reading *reading, size_t i)
{
    return &g_array_index(reading->found, Found, i);
}
