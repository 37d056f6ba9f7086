/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much work the stream is worth on this link just now (docs/decisions/effort.md). The coder's
 * own; pure.
 */
#pragma once

#include "codec/codec.h"

typedef struct {
    unsigned row;                  /* of the table of efforts; 0 is passing through */
    uint64_t last_ns;              /* of the last call */
    uint64_t since_ns;             /* begin of the interval that is judged next */
    uint64_t active_ns;            /* of it, without QEMU's pauses */
    uint64_t blocked_ns;           /* value of the senders' counter then */
    uint64_t raw, coded, unpacked; /* bytes of the interval's batches */
    uint64_t capacity;  /* bytes a second that the link took when it was full; 0: not known */
    unsigned low, held; /* intervals, one after another, that wanted less, that were refused it */
} Effort;

/* @known: the other side holds pages already, so that coding is likely to pay at once. */
void effort_init(Effort *effort, uint64_t now_ns, bool known);
/* @raw bytes of stream have become @coded, and would be @unpacked without packing. */
void effort_note(Effort *effort, uint64_t raw, uint64_t coded, uint64_t unpacked);
/*
 * To be called often while there is something to send; long times between two calls are QEMU's and
 * count little. Judges the time since it last did, when that is long enough: @blocked_ns is the
 * time, ever, that all senders waited for their link, summed up, @senders how many there are.
 */
void effort_judge(Effort *effort, uint64_t now_ns, uint64_t blocked_ns, unsigned senders);
/* True: the bytes go as they are. */
bool effort_passes_through(const Effort *effort);
/* @hurry: the partition stands still, nothing slow is done. */
LpmCodecEffort effort_now(const Effort *effort, bool hurry);
