/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same few places of a disk, read on both systems: two disks that claim to be one are found
 * out. Equal samples prove nothing; docs/guide/same-disk.md says what they are for.
 */
#pragma once

#include "base/json.h"

enum { LPM_SAMPLE_BLOCK = 4096, LPM_SAMPLE_MAX = 40 /* 6 + 32 + 1 and room */ };

/* Offsets of the blocks, by size alone, ascending, each once; gives how many. */
unsigned lpm_sample_places(uint64_t size_bytes, uint64_t ret_offsets[LPM_SAMPLE_MAX]);

typedef bool (*LpmSampleRead)(void *data, uint64_t offset, uint8_t bytes[LPM_SAMPLE_BLOCK]);

/*
 * Digests of the blocks as docs/spec/facts.md has them: "" for zeros, null for one that cannot be
 * read, or that was another one when it was read again. With @passes 2 they are read twice,
 * @pause_ms apart. Blocking. New reference.
 */
json_t *lpm_sample_take(uint64_t size_bytes, unsigned passes, unsigned pause_ms, LpmSampleRead read,
                        void *data);
