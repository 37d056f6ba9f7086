/* SPDX-License-Identifier: Apache-2.0 */
/* What the coder's thread has for itself. */
#pragma once

#include "mover.h"

/* One of QEMU's sockets as it is read. */
typedef struct {
    unsigned channel;
    LpmQstream *reader; /* NULL: nothing is coded in this move */
    uint8_t *raw;       /* of the batch that is being filled; NULL before the first */
    size_t fill;
    uint64_t read_ns; /* when QEMU last gave something */
    bool fin_sent;    /* CHANNEL_FIN */
} Input;

typedef struct {
    Mover *mover;
    LpmQstreamBlocks blocks;
    LpmEncoder *encoder; /* NULL: nothing is coded in this move */
    LpmQstreamUnit *units;
    Input inputs[CHANNELS_MAX];
    unsigned n_inputs, next; /* next: whose turn it is */
    bool waits_for_base;     /* BASE is sent, BASE_ACK has not come */
} Coder;

typedef enum { STEP_DONE, STEP_NOTHING, STEP_FAILED } Step;

/* Wire bytes that may be put into the outbox now; 0 when it is full in another way. */
uint64_t coder_room(Mover *mover);
/* The frame, complete but for its header, into the outbox. */
void coder_put(Mover *mover, Frame *frame);

/* Takes what QEMU has written on this channel, at most one batch of it, and puts it on its way. */
Step input_step(Coder *coder, Input *input);
bool is_probing(const Mover *mover);
