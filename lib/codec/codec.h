/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes batches of a migration stream small, and the same bytes of them again, whatever the bytes:
 * decode(encode(batch)) == batch. A batch is coded on its own; what came before matters only
 * through the image, which both sides change in the same way, batch by batch, in order. Format:
 * docs/spec/coded-batches.md. Pure but for the image's functions.
 */
#pragma once

#include "qstream/qstream.h"

enum {
    LPM_CODEC_RAW_MAX = 256 * 1024, /* bytes of stream in one batch */
    LPM_CODEC_UNITS_MAX = 8192,     /* units in one batch; of more, the batch is coded as opaque */
    /* Of a coded batch, whatever is in it: its bytes, 64 more, and 8 for each page. */
    LPM_CODEC_BODY_MAX = LPM_CODEC_RAW_MAX + LPM_CODEC_RAW_MAX / 512 + 64,
    LPM_CODEC_DIGEST_SIZE = 16, /* XXH3-128 of a page, keyed with the partition's secret */
};

/*
 * What both sides hold of the partition's memory (lib/pagestore is one). Both change it only by
 * coding and decoding the same batches in the same order. A side that cannot hold a page (full
 * disk, torn file) loses only that page: the coder then finds no digest, the decoder says MISS.
 */
typedef struct {
    void *context;
    /*
     * A RAM block, before the first page of it; numbers are this move's. Coders of several channels
     * each say it. False: nothing is held of it yet, or never will be: then the other functions
     * hold and find nothing there.
     */
    bool (*add_block)(void *context, uint32_t block, const char *name, uint64_t length);
    /* Keyed digest of any page; sixteen zero bytes for a page of zeros and for nothing else. */
    void (*hash)(void *context, const uint8_t *page, uint8_t ret_digest[LPM_CODEC_DIGEST_SIZE]);
    /* Digest of what is held at a place; false when nothing is. */
    bool (*digest)(void *context, uint32_t block, uint64_t page,
                   uint8_t ret_digest[LPM_CODEC_DIGEST_SIZE]);
    /* The page held at a place, checked against its digest; false: not held, or damaged. */
    bool (*content)(void *context, uint32_t block, uint64_t page, uint8_t *ret_page);
    /* Holds @n pages from a place on (with their digests), instead of what was there. NULL pages:
     * zeros, and @digests is NULL, too. */
    void (*keep)(void *context, uint32_t block, uint64_t first, uint32_t n,
                 const uint8_t *const *pages, const uint8_t (*digests)[LPM_CODEC_DIGEST_SIZE]);
    /* Nothing is held there any more. */
    void (*forget)(void *context, uint32_t block, uint64_t first, uint32_t n);
} LpmCodecImage;

/* Counters by kind, of one coder or decoder, ever. */
typedef struct {
    uint64_t pages_zero, pages_same, pages_reference, pages_delta, pages_literal;
    uint64_t bytes_raw;    /* of stream */
    uint64_t bytes_coded;  /* of bodies */
    uint64_t bytes_opaque; /* of stream, no pages */
    uint64_t bytes_delta;  /* of deltas before packing */
    uint64_t bytes_tokens; /* of tokens before packing */
    uint64_t batches_packed, batches_plain;
} LpmCodecCounts;

/* How much work a batch is worth just now. */
typedef struct {
    int level;  /* of zstd, negative ones are its fast ones; LPM_CODEC_NO_PACKING: none */
    bool image; /* look pages up in the image and keep them; else their places are forgotten */
} LpmCodecEffort;
#define LPM_CODEC_NO_PACKING INT32_MAX

typedef struct LpmEncoder LpmEncoder;
typedef struct LpmDecoder LpmDecoder;

typedef enum {
    LPM_CODEC_OK = 0,
    LPM_CODEC_MALFORMED, /* no coder makes such a body */
    LPM_CODEC_MISS,      /* the image lacks a page it needs; nothing was changed, ask for the raw
                            bytes and repair */
    LPM_CODEC_WRONG,     /* decoded, but its checksum differs: as MISS */
} LpmCodecStatus;

/* @blocks and @image (NULL: none) are borrowed. NULL when out of memory. */
LpmEncoder *lpm_encoder_new(const LpmQstreamBlocks *blocks, const LpmCodecImage *image);
void lpm_encoder_free(LpmEncoder *encoder);
/*
 * Codes the units of one batch, whose data lie one behind the other, LPM_CODEC_RAW_MAX bytes at
 * most, into @body of LPM_CODEC_BODY_MAX bytes. Returns the body's size; never fails. Whatever the
 * reader of the stream said of a unit is checked against its bytes.
 */
size_t lpm_encoder_encode(LpmEncoder *encoder, const LpmQstreamUnit *units, size_t n,
                          LpmCodecEffort effort, uint8_t *body);
const LpmCodecCounts *lpm_encoder_counts(const LpmEncoder *encoder);

LpmDecoder *lpm_decoder_new(const LpmCodecImage *image);
void lpm_decoder_free(LpmDecoder *decoder);
/*
 * The batch's bytes into @raw of LPM_CODEC_RAW_MAX bytes; @ret_size on LPM_CODEC_OK. Pages of the
 * image are changed only then; RAM blocks are added whenever the body is well formed.
 */
LpmCodecStatus lpm_decoder_decode(LpmDecoder *decoder, const uint8_t *body, size_t size,
                                  uint8_t *raw, size_t *ret_size);
/*
 * For a batch that was MISS or WRONG: its bytes, which the other side still had. LPM_CODEC_OK when
 * they are what @body's checksum says; the image is then changed as by decoding.
 */
LpmCodecStatus lpm_decoder_repair(LpmDecoder *decoder, const uint8_t *body, size_t size,
                                  const uint8_t *raw, size_t raw_size);
const LpmCodecCounts *lpm_decoder_counts(const LpmDecoder *decoder);
const char *lpm_codec_status_text(LpmCodecStatus status);
