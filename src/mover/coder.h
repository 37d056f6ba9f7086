/* SPDX-License-Identifier: Apache-2.0 */
/* What the coder's thread has for itself. */
#pragma once

#include "mover.h"

typedef struct {
    Mover *mover;
    LpmQstreamBlocks blocks;
    LpmQstream *reader;  /* NULL: nothing is coded in this move */
    LpmEncoder *encoder; /* the same */
    LpmQstreamUnit *units;
    uint8_t *raw; /* of the batch that is being filled */
    size_t fill;
    uint64_t read_ns;    /* when QEMU last gave something */
    bool waits_for_base; /* BASE is sent, BASE_ACK has not come */
} Coder;
