/* SPDX-License-Identifier: Apache-2.0 */
/* lpm-stream: the codec of the mover, on captured migration streams. A verb is a row in main.c. */
#pragma once

#include "base/error.h"
#include "codec/codec.h"
#include "codec/memory.h"

#include <jansson.h>

/* What the command line says. */
typedef struct {
    const char *const *words; /* behind the verb */
    const char *base;         /* older capture; NULL: none */
    int level;
    size_t batch;  /* bytes of stream in one, at most */
    bool no_image; /* code without an image */
    uint32_t seed; /* of random splits */
    bool json;
} ToolOptions;

typedef struct {
    const char *name;
    const char *words;
    int n_words;
    const char *help;
    bool (*run)(const ToolOptions *options, GError **error);
    bool more; /* words than that are fine */
} ToolVerb;

bool tool_encode(const ToolOptions *options, GError **error);
bool tool_decode(const ToolOptions *options, GError **error);
bool tool_dump(const ToolOptions *options, GError **error);
bool tool_stats(const ToolOptions *options, GError **error);
bool tool_verify(const ToolOptions *options, GError **error);

/* --- capture.c: a captured stream, cut into batches of units --- */

typedef struct Capture Capture;

typedef struct {
    const LpmQstreamUnit *units; /* the capture's, until the next batch */
    size_t n;
    const uint8_t *data;
    size_t size; /* 0: the end */
} Batch;

/* The size of batches is at most @batch bytes. */
Capture *capture_open(const char *path, size_t batch, GError **error);
void capture_free(Capture *capture);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Capture, capture_free)
/* From now on batches end anywhere. */
void capture_split(Capture *capture, uint32_t seed);
bool capture_next(Capture *capture, Batch *ret_batch, GError **error);
const LpmQstreamBlocks *capture_blocks(const Capture *capture);
/* Shows on a terminal how far it is. */
void capture_show_progress(Capture *capture, const char *what);

/* --- side.c: one end of a move --- */

typedef struct {
    LpmCodecMemory *memory; /* NULL: no image */
    LpmEncoder *encoder;
    LpmDecoder *decoder;
    uint8_t body[LPM_CODEC_BODY_MAX];
    uint8_t raw[LPM_CODEC_RAW_MAX];
} Side;

/* The image is filled from the base, if there is one. */
Side *side_new(const ToolOptions *options, GError **error);
void side_free(Side *side);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Side, side_free)
/* Ready to code the streams whose blocks are @blocks, or to decode (NULL). */
bool side_start(Side *side, const LpmQstreamBlocks *blocks, GError **error);
LpmCodecEffort tool_effort(const ToolOptions *options);

/* --- container.c: a file of coded batches, docs/spec/coded-batches.md --- */

enum { CONTAINER_DIGEST = 32 };

typedef struct Container Container;

/* Begins a file; @base: SHA-256 of the base, NULL for none. */
Container *container_create(const char *path, bool image, const uint8_t *base, GError **error);
Container *container_open(const char *path, GError **error);
void container_free(Container *container);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Container, container_free)
/* Whether it was coded with an image, and the base's digest, NULL when it has none. */
bool container_has_image(const Container *container);
const uint8_t *container_base(const Container *container);
/* A body and the bytes of stream it stands for. */
bool container_put(Container *container, const uint8_t *body, size_t size, const uint8_t *raw,
                   size_t raw_size, GError **error);
/* Writes the trailer; the file is whole then. */
bool container_finish(Container *container, uint64_t *ret_size, GError **error);
/* The next body into @body of LPM_CODEC_BODY_MAX bytes; @ret_size 0: the end, trailer read. */
bool container_get(Container *container, uint8_t *body, size_t *ret_size, GError **error);
/* What was decoded of the last body, for the trailer's digest. */
void container_decoded(Container *container, const uint8_t *raw, size_t raw_size);
/* After the last body: everything decoded is what was coded. */
bool container_check(Container *container, GError **error);
/* SHA-256 of a file. */
bool file_digest(const char *path, uint8_t ret_digest[CONTAINER_DIGEST], GError **error);

/* --- print.c --- */

json_t *counts_to_json(const LpmCodecCounts *counts);
void print_counts(const LpmCodecCounts *counts);
/* Prints and drops @value, as one line. */
void print_json(json_t *value);
