/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much work the stream is worth on this link just now. One rule: while the senders wait for the
 * link, coding costs nothing, so it may take more; while they do not, the link is not what limits
 * the move, and packing is a loss. Looking pages up in the image stays as long as it makes batches
 * much smaller, for it costs less than sending. The coder's own; pure.
 */
#pragma once

#include "codec/codec.h"

typedef struct {
    unsigned row;        /* of the table of efforts; 0 is passing through */
    uint64_t last_ns;    /* of the last call */
    uint64_t span_ns;    /* length so far of the interval that is judged next */
    uint64_t blocked_ns; /* value of the senders' counter then */
    uint64_t raw, coded; /* bytes of the interval's batches */
    unsigned in_row;     /* intervals that wanted less than the lowest coding, one after another */
} Effort;

/* @known: the other side holds pages already, so that coding is likely to pay at once. */
void effort_init(Effort *effort, uint64_t now_ns, bool known);
/*
 * To be called often while there is something to send; long times between two calls are QEMU's and
 * count little. Judges the time since it last did, when that is long enough: @blocked_ns is the
 * time, ever, that all senders waited for their link, summed up, @senders how many there are.
 */
void effort_judge(Effort *effort, uint64_t now_ns, uint64_t blocked_ns, unsigned senders);
/* A batch of @raw bytes has become @coded. */
void effort_note(Effort *effort, size_t raw, size_t coded);
/* True: the bytes go as they are. */
bool effort_passes_through(const Effort *effort);
LpmCodecEffort effort_now(const Effort *effort);
