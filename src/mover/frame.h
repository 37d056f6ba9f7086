/* SPDX-License-Identifier: Apache-2.0 */
/* One ordered frame in memory, on its way out until it is acknowledged, or in until it is handed
 * on. */
#pragma once

#include "stream/stream.h"

enum { FRAMES_MAX = 4096 }; /* frames held in one direction at most, however small */

typedef struct {
    uint64_t sequence;
    uint32_t type;
    uint32_t size;     /* header and body */
    uint8_t *raw;      /* out, CODED: the batch's bytes of stream, owned; for a MISS */
    uint32_t raw_size; /* out: bytes of stream in it */
    /* The rest is the outbox's. */
    int link;         /* on which it went last; OUTBOX_UNSENT */
    unsigned senders; /* that are sending it just now */
    bool given_once, miss, released;
    uint8_t bytes[];
} Frame;

/* Room for @size bytes of header and body; @size is what fits and may be lowered. NULL when out of
 * memory. */
Frame *frame_new(uint32_t type, uint32_t size);
/* Gives back what @frame does not need; the frame may move. */
Frame *frame_trim(Frame *frame);
void frame_free(Frame *frame);

static inline uint8_t *frame_body(Frame *frame)
{
    return frame->bytes + LPM_STREAM_HEADER_SIZE;
}
