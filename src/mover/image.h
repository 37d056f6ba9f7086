/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The resident image in a move: agreed on before the first byte (BASE), changed on both sides by
 * the same batches, sealed after a good end. It need not be what the partition's memory is (batches
 * may go by it uncoded), only the same on both sides. lib/pagestore does the work; without an image
 * all of this is nothing.
 */
#pragma once

#include "pagestore/pagestore.h"
#include "stream/stream.h"

typedef struct {
    LpmPagestore *store; /* NULL: none */
    bool in_use;         /* begun */
    bool to_seal;
    uint8_t seal_id[LPM_STREAM_ID_SIZE];
} Image;

/* Looks at the file @fd (-1: none). */
void image_open(Image *image, int fd, const uint8_t key[LPM_STREAM_KEY_SIZE]);
/* What is held, to be told the peer; all zero when nothing is. */
void image_base(const Image *image, LpmStreamBase *ret_base);
/* Both sides agreed: to go on from what is held (@usable), or from nothing. */
void image_begin(Image *image, bool usable);
/* For the coder or decoder; NULL when there is none in use. */
const LpmCodecImage *image_codec(const Image *image);
/* When the move is good, to be sealed under @id. */
void image_will_seal(Image *image, const uint8_t id[LPM_STREAM_ID_SIZE]);
/* The move was good: seals what is to be sealed. As long as the disk takes. */
void image_finish(Image *image);
