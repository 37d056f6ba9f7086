/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever bytes come, in whatever pieces: the units are these bytes, one behind the other, and a
 * page's place lies in its block. The first bytes choose pieces, flushes and where to begin: at a
 * channel's first byte, or in a RAM section with blocks.
 */
#include "qstream/qstream.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CHOICES = 8, MAX_UNITS = 16 };

/* A header, START of RAM and two blocks; what follows is words. */
static const uint8_t in_ram[] = "QEVM\0\0\0\3"
                                "\1\0\0\0\2\3ram\0\0\0\0\0\0\0\4"
                                "\0\0\0\0\0\1\x10\4"
                                "\1a\0\0\0\0\0\1\0\0"
                                "\1b\0\0\0\0\0\0\x10\0";

static void must(bool right)
{
    if (!right)
        abort();
}

static void check_unit(const LpmQstreamBlocks *blocks, const LpmQstreamUnit *unit)
{
    must(unit->size > 0);
    if (unit->kind == LPM_QSTREAM_OPAQUE)
        return;
    must(unit->block < blocks->n);
    must(unit->offset % LPM_QSTREAM_PAGE_SIZE == 0);
    must(unit->offset < blocks->block[unit->block].length &&
         blocks->block[unit->block].length - unit->offset >= LPM_QSTREAM_PAGE_SIZE);
    must(unit->kind == LPM_QSTREAM_ZERO ? unit->size == 9 && unit->data[8] == 0
                                        : (unit->head == 0 || unit->head == 8) &&
                                              unit->size == unit->head + LPM_QSTREAM_PAGE_SIZE);
}

static void read_all(LpmQstream *q, const LpmQstreamBlocks *blocks, const uint8_t *data,
                     size_t size, const uint8_t *choices)
{
    LpmQstreamUnit units[MAX_UNITS];
    size_t at = 0, there = 0, n;
    for (unsigned turn = 0; at < size; turn++) {
        uint8_t choice = choices[turn % CHOICES];
        size_t piece = (size_t)(choice & 0x1f) * (choice & 0x1f) * 16 + 1;
        there = size - there > piece ? there + piece : size;
        size_t used = lpm_qstream_read(q, data + at, there - at, there == size || choice >> 7,
                                       units, 1 + (choice >> 5 & 3) * 5, &n);
        const uint8_t *next = data + at;
        for (size_t i = 0; i < n; i++) {
            check_unit(blocks, &units[i]);
            must(units[i].data == next);
            next += units[i].size;
        }
        at += used;
        must(next == data + at);
        must(there < size || n > 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static LpmQstreamBlocks blocks;
    if (size < CHOICES + 1)
        return 0;
    memset(&blocks, 0, sizeof(blocks));
    LpmQstream *q = lpm_qstream_new(&blocks);
    must(q != NULL);
    if (data[CHOICES] & 1)
        read_all(q, &blocks, in_ram, sizeof(in_ram) - 1, data);
    read_all(q, &blocks, data + CHOICES + 1, size - CHOICES - 1, data);
    lpm_qstream_free(q);
    return 0;
}
