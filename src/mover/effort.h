/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much work the stream is worth on this link just now (docs/decisions/effort.md). The coder's
 * own; pure.
 */
#pragma once

#include "codec/codec.h"

/* How fast the stream went lately. */
typedef struct {
    uint64_t bytes, ns; /* 0 ns: not known */
} EffortFlow;

typedef struct {
    unsigned row;           /* of the table of efforts; 0 is passing through */
    uint64_t last_ns;       /* of the last call */
    uint64_t since_ns;      /* begin of the interval that is judged next */
    uint64_t active_ns;     /* of it, without QEMU's pauses */
    uint64_t blocked_ns;    /* value of the senders' counter then */
    uint64_t raw, unpacked; /* bytes of the interval's batches */
    EffortFlow plain;       /* while nothing was packed */
    EffortFlow packed;      /* at the lightest packing */
    unsigned steady;        /* intervals since the row changed */
    unsigned full, low; /* intervals, one after another, in which the link limited, or did not */
    unsigned held;      /* intervals in which the other way was known, and slower */
} Effort;

/* @known: the other side holds pages already, so that coding is likely to pay at once. */
void effort_init(Effort *effort, uint64_t now_ns, bool known);
/* @raw bytes of stream went, which would be @unpacked without packing. */
void effort_note(Effort *effort, uint64_t raw, uint64_t unpacked);
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
