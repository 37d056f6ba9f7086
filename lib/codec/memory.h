/* SPDX-License-Identifier: Apache-2.0 */
/* An image in memory: for lpm-stream and for tests. A partition's own is lib/pagestore. */
#pragma once

#include "codec/codec.h"

typedef struct LpmCodecMemory LpmCodecMemory;

/* @seed keys the digests. NULL when out of memory. Blocks that do not fit into memory are not held.
 */
LpmCodecMemory *lpm_codec_memory_new(uint64_t seed);
void lpm_codec_memory_free(LpmCodecMemory *memory);
/* Borrowed, as long as the memory lives. */
const LpmCodecImage *lpm_codec_memory_image(LpmCodecMemory *memory);
/* True when both hold the same pages at the same places. */
bool lpm_codec_memory_equal(const LpmCodecMemory *a, const LpmCodecMemory *b);
/* A new migration numbers its blocks anew: what is held stays with the block of that name. */
void lpm_codec_memory_restart(LpmCodecMemory *memory);
