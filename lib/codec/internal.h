/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this library share. The format is docs/spec/coded-batches.md. */
#pragma once

#include "bytes/bytes.h"
#include "codec/codec.h"

enum {
    LPM_CODEC_HEADER = 16,
    LPM_CODEC_PAGES_MAX = LPM_CODEC_RAW_MAX / LPM_QSTREAM_PAGE_SIZE, /* with content, in a batch */
    LPM_CODEC_CONTENT_MAX = LPM_CODEC_BODY_MAX - LPM_CODEC_HEADER,
    LPM_CODEC_TOKENS_MAX = 32 * 1024, /* bytes of tokens in a batch */
    LPM_CODEC_RUNS_MAX = LPM_CODEC_UNITS_MAX + LPM_QSTREAM_BLOCKS_MAX, /* tokens in a batch */
};

/* Numbers on the wire. */
typedef enum {
    LPM_CODEC_OPAQUE = 0,
    LPM_CODEC_ZERO = 1,
    LPM_CODEC_SAME = 2,
    LPM_CODEC_REFERENCE = 3,
    LPM_CODEC_DELTA = 4,
    LPM_CODEC_LITERAL = 5,
    LPM_CODEC_BLOCK = 6,
    LPM_CODEC_KINDS,
} LpmCodecKindNumber;

/* Bits of a token's first byte, beside the kind. */
enum {
    LPM_CODEC_TOKEN_KIND = 0x0f,
    LPM_CODEC_TOKEN_WORD = 0x10,  /* each page has QEMU's word before it */
    LPM_CODEC_TOKEN_PLACE = 0x20, /* block and page follow; else right behind the last run */
    LPM_CODEC_TOKEN_FLAGS = 0x40, /* the words' low bits follow; else as last of such a kind */
};

enum {
    LPM_CODEC_FLAG_KEPT = 1, /* of a body: its pages are kept in the image, else forgotten */
    LPM_CODEC_WORD_SIZE = 8,
    LPM_CODEC_WORD_FLAGS = LPM_QSTREAM_PAGE_SIZE - 1, /* bits of a word that are no address */
    LPM_CODEC_FLAGS_ZERO = 0x22,                      /* what QEMU mostly writes */
    LPM_CODEC_FLAGS_PAGE = 0x28,
};

typedef struct {
    uint32_t block;
    uint64_t page;
} LpmCodecPlace;

/* One token: bytes, or pages of one kind whose places lie one behind the other. */
typedef struct {
    LpmCodecKindNumber kind;
    bool word;
    uint32_t flags;
    LpmCodecPlace at;
    uint64_t n;         /* pages; OPAQUE: 1 */
    uint64_t size;      /* OPAQUE: bytes */
    LpmCodecPlace from; /* REFERENCE: of the first page */
    size_t raw;         /* decoder: where in the stream of this batch */
    LpmByteReader data; /* decoder: its part of the data */
    size_t data_size;
} LpmCodecRun;

/* A page that is being coded. */
typedef struct {
    const uint8_t *data;
    LpmCodecPlace at;
    LpmCodecPlace from; /* set by REFERENCE */
    uint8_t digest[LPM_CODEC_DIGEST_SIZE];
} LpmCodecPage;

typedef struct LpmCodecPlaces LpmCodecPlaces;
typedef struct LpmCodecPacker LpmCodecPacker;

/* What the kinds need of a coder. */
typedef struct {
    const LpmCodecImage *image;
    LpmCodecPlaces *places; /* NULL: out of memory, no references then */
    LpmByteWriter data;
    uint8_t page[LPM_QSTREAM_PAGE_SIZE]; /* scratch */
    LpmCodecCounts batch;
} LpmCodecWork;

/* One row a kind: kinds.c. */
typedef struct {
    const char *name;
    bool pages;           /* describes pages, not bytes */
    bool looks;           /* needs what the image holds */
    size_t unit;          /* bytes of stream of one, without the word */
    uint32_t usual_flags; /* of the words */
    size_t counter;       /* of pages, in LpmCodecCounts */
    /* Coder: codes the page in this way if that is possible and pays; writes its part of the data.
     */
    bool (*take)(LpmCodecWork *work, LpmCodecPage *page);
    /* Decoder: takes the data of one out of @data; false when they are wrong. NULL: none. */
    bool (*check)(const LpmCodecRun *run, LpmByteReader *data);
    /* Decoder: number @i of the run into @out, from checked data; false: MISS. */
    bool (*build)(const LpmCodecImage *image, LpmCodecRun *run, uint64_t i, uint8_t *out);
} LpmCodecKind;

extern const LpmCodecKind lpm_codec_kinds[LPM_CODEC_KINDS];
/* In which order a coder tries them on a page. */
extern const LpmCodecKindNumber lpm_codec_order[];
extern const size_t lpm_codec_n_order;

/* The functions of the rows, one file each. */
bool lpm_codec_take_same(LpmCodecWork *work, LpmCodecPage *page);
bool lpm_codec_build_same(const LpmCodecImage *image, LpmCodecRun *run, uint64_t i, uint8_t *out);
bool lpm_codec_take_reference(LpmCodecWork *work, LpmCodecPage *page);
bool lpm_codec_build_reference(const LpmCodecImage *image, LpmCodecRun *run, uint64_t i,
                               uint8_t *out);
bool lpm_codec_take_delta(LpmCodecWork *work, LpmCodecPage *page);
bool lpm_codec_check_delta(const LpmCodecRun *run, LpmByteReader *data);
bool lpm_codec_build_delta(const LpmCodecImage *image, LpmCodecRun *run, uint64_t i, uint8_t *out);
bool lpm_codec_take_literal(LpmCodecWork *work, LpmCodecPage *page);
bool lpm_codec_check_literal(const LpmCodecRun *run, LpmByteReader *data);
bool lpm_codec_build_literal(const LpmCodecImage *image, LpmCodecRun *run, uint64_t i,
                             uint8_t *out);
bool lpm_codec_check_opaque(const LpmCodecRun *run, LpmByteReader *data);
bool lpm_codec_build_opaque(const LpmCodecImage *image, LpmCodecRun *run, uint64_t i, uint8_t *out);

bool lpm_codec_build_zero(const LpmCodecImage *image, LpmCodecRun *run, uint64_t i, uint8_t *out);

/* varint.c: seven bits a byte, low ones first; the shortest form only, at most @max. */
uint64_t lpm_codec_get_varint(LpmByteReader *reader, uint64_t max);
void lpm_codec_put_varint(LpmByteWriter *writer, uint64_t value);

/*
 * token.c: what a token leaves out is as in the one before.
 */
typedef struct {
    bool placed;
    LpmCodecPlace next;
    uint32_t flags[2]; /* of pages of zeros, of others */
} LpmCodecTokens;
void lpm_codec_tokens_start(LpmCodecTokens *tokens);
void lpm_codec_put_token(LpmCodecTokens *tokens, LpmByteWriter *writer, const LpmCodecRun *run);
/* False when it is malformed; not for BLOCK. */
bool lpm_codec_get_token(LpmCodecTokens *tokens, LpmByteReader *reader, LpmCodecRun *ret_run);

/* The word QEMU writes before a page. */
uint64_t lpm_codec_get_word(const uint8_t *at);
void lpm_codec_put_word(uint8_t *at, uint64_t word);
/* Bytes of stream of one of a run's pages. */
size_t lpm_codec_stride(const LpmCodecRun *run);

/* places.c: where content was last seen; forgets when it is full. Answers are guesses. */
LpmCodecPlaces *lpm_codec_places_new(void);
void lpm_codec_places_free(LpmCodecPlaces *places);
void lpm_codec_places_put(LpmCodecPlaces *places, const uint8_t *digest, LpmCodecPlace place);
bool lpm_codec_places_get(const LpmCodecPlaces *places, const uint8_t *digest,
                          LpmCodecPlace *ret_place);

/* pack.c */
LpmCodecPacker *lpm_codec_packer_new(void);
void lpm_codec_packer_free(LpmCodecPacker *packer);
/* Packs @content in place when that makes it smaller. True: packed, @size is the new one. */
bool lpm_codec_pack(LpmCodecPacker *packer, int level, uint8_t *content, size_t *size);
/* The content of @packed, which stays the packer's until the next call; NULL when malformed. */
const uint8_t *lpm_codec_unpack(LpmCodecPacker *packer, const uint8_t *packed, size_t size,
                                size_t *ret_size);

/* kinds.c */
void lpm_codec_count_pages(LpmCodecCounts *counts, LpmCodecKindNumber kind, uint64_t n);
void lpm_codec_add_counts(LpmCodecCounts *total, const LpmCodecCounts *batch);
