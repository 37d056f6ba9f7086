/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads QEMU's migration stream as it passes: which bytes are pages of the partition's memory, and
 * of which place. Never alters, holds back or needs a byte: the units of a stream, concatenated,
 * are the stream; whatever is not understood is opaque, from the first such byte to the end. Pure:
 * no I/O, no clock, no allocation while reading.
 *
 * Layouts: the main channel ("QEVM", version 3; RAM section, be64 words of address and flags) of
 * QEMU 7.2 and newer, x86-64 and pseries, and multifd channels (packets of be32 magic 0x11223344).
 * Which of them a channel is, its first four bytes say. docs/spec/qemu-stream.md has the fields.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LPM_QSTREAM_PAGE_SIZE = 4096, /* target page size of both families */
    LPM_QSTREAM_NAME_MAX = 255,
    LPM_QSTREAM_BLOCKS_MAX = 64, /* a stream with more RAM blocks goes opaque */
    LPM_QSTREAM_UNIT_MAX = 8192, /* no unit needs more bytes in a row to be recognised */
};

typedef enum {
    LPM_QSTREAM_OPAQUE = 0, /* any bytes */
    LPM_QSTREAM_ZERO = 1,   /* a page of zeros: word of 8 bytes, one zero byte */
    LPM_QSTREAM_PAGE = 2,   /* @head bytes of word (8 or none), then the page */
} LpmQstreamKind;

typedef struct {
    LpmQstreamKind kind;
    uint32_t head; /* PAGE: 8, a be64 word (offset | flags); or 0, when what precedes is opaque */
    const uint8_t *data; /* in the caller's buffer */
    size_t size;         /* PAGE: head + 4096; ZERO: 9 */
    uint32_t block;      /* PAGE, ZERO: number of the RAM block, in order of the stream's list */
    uint64_t offset;     /* PAGE, ZERO: byte offset in the block, a multiple of 4096, and the whole
                            page lies within the block's length */
} LpmQstreamUnit;

/*
 * The words of the units: a ZERO's and a PAGE's with a head are always offset | one of these, any
 * other page comes as OPAQUE bytes and a PAGE without a head.
 */
enum {
    LPM_QSTREAM_WORD_ZERO = 0x22, /* zero page, same block as the page before */
    LPM_QSTREAM_WORD_PAGE = 0x28, /* page, same block as the page before */
};

/*
 * The RAM blocks that the main channel's list named; shared by all channels of one migration. Only
 * ever grows, and only by reading the main channel: whoever reads channels in several threads has
 * to keep that apart from reading others.
 */
typedef struct {
    uint32_t n;
    struct {
        char name[LPM_QSTREAM_NAME_MAX + 1];
        uint64_t length; /* bytes */
    } block[LPM_QSTREAM_BLOCKS_MAX];
} LpmQstreamBlocks;

typedef struct LpmQstream LpmQstream;

/* A reader of one channel. @blocks is borrowed, and filled by the main channel. NULL when out of
 * memory. */
LpmQstream *lpm_qstream_new(LpmQstreamBlocks *blocks);
void lpm_qstream_free(LpmQstream *qstream);

/*
 * Cuts @size bytes at @data, which follow what was consumed before, into at most @max units.
 * Returns the bytes consumed, @ret_n units; units point into @data. What is left is an incomplete
 * unit (shorter than LPM_QSTREAM_UNIT_MAX), or @max was reached: offer it again with more behind
 * it. With @flush nothing is left (unless @max was reached): an incomplete unit is given as opaque,
 * and so is the rest of it later on; the reader keeps its place in the stream. A page whose word
 * was given with an earlier flush may still come as a PAGE without a head.
 */
size_t lpm_qstream_read(LpmQstream *qstream, const uint8_t *data, size_t size, bool flush,
                        LpmQstreamUnit *units, size_t max, size_t *ret_n);

/* True once the rest of the channel is opaque. */
bool lpm_qstream_is_opaque(const LpmQstream *qstream);
/* Why it is, in a few words (static); NULL while it is not. Device state is the usual reason. */
const char *lpm_qstream_opaque_reason(const LpmQstream *qstream);

/* What one channel carried so far. */
typedef struct {
    uint64_t bytes;       /* read */
    uint64_t pages;       /* PAGE units */
    uint64_t zeros;       /* ZERO units */
    uint64_t odd_zeros;   /* zero pages given as opaque: they name their block, or fill is not 0 */
    uint64_t lost_pages;  /* pages given as opaque: cut by a flush, or of no known place */
    uint64_t xbzrle;      /* pages as differences */
    uint64_t compressed;  /* pages compressed by QEMU */
    uint64_t packets;     /* multifd: packets */
    uint64_t quiet_zeros; /* multifd: zero pages, which are numbers in a packet only */
} LpmQstreamCounts;

const LpmQstreamCounts *lpm_qstream_counts(const LpmQstream *qstream);

/* What is seen besides pages; for programs that explain a stream to people. */
typedef enum {
    LPM_QSTREAM_SEEN_MAIN,          /* @value: version */
    LPM_QSTREAM_SEEN_MULTIFD,       /* @value: number of the channel */
    LPM_QSTREAM_SEEN_CONFIGURATION, /* @name: of the machine type */
    LPM_QSTREAM_SEEN_SUBSECTION,    /* @name, @value: version */
    LPM_QSTREAM_SEEN_START,         /* @name, @id, @value: instance */
    LPM_QSTREAM_SEEN_PART,          /* @name, @id */
    LPM_QSTREAM_SEEN_END,           /* @name, @id */
    LPM_QSTREAM_SEEN_COMMAND,       /* @value: number; @name: what it is called, or NULL */
    LPM_QSTREAM_SEEN_BLOCK,         /* @name, @id: number, @value: length */
    LPM_QSTREAM_SEEN_FLUSH,         /* multifd channels are brought in step: a word of the main
                                       channel, and behind its pages a packet of each other one */
    LPM_QSTREAM_SEEN_OPAQUE,        /* the rest of the channel; @name: why */
} LpmQstreamSeenKind;

typedef struct {
    LpmQstreamSeenKind kind;
    uint64_t at;      /* bytes of the channel before it */
    const char *name; /* borrowed for the call */
    uint32_t id;
    uint64_t value;
} LpmQstreamSeen;

/* Calls @seen for what is read from now on. */
void lpm_qstream_watch(LpmQstream *qstream, void (*seen)(void *context, const LpmQstreamSeen *seen),
                       void *context);
