/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What handover.pml asks the product's own code (lib/mobility): the rows of both tables, the edges
 * of both journals, the swaps of the ownership record and how a side sees it. The model has no copy
 * of any rule. The environment says how it is checked: LPM_MODEL_source, _target, _qemu, _machines
 * and _unknown are the bounds, LPM_MODEL_MUTANT names the one wrong rule, LPM_MODEL_hints_lie lets
 * the hint of the offer come before the offer, LPM_MODEL_wait ("source 12") makes that row wait.
 * When the program ends, the rows are written to the file named by LPM_MODEL_ROWS, "+" before those
 * that were looked up.
 */
#pragma once

#include "mobility/mobility.h"

/* README.md says which mistake each is. */
#define MUTANTS(X)                                                                                 \
    X(NO_S)                                                                                        \
    X(RESUME_ON_TIMEOUT)                                                                           \
    X(NO_INTENT)                                                                                   \
    X(LATE_CONT)                                                                                   \
    X(END_AT_TAKEN)                                                                                \
    X(END_AT_OFFER)                                                                                \
    X(OFFER_BEFORE_POST)                                                                           \
    X(NO_SETTLED_BACK)                                                                             \
    X(BELIEVE_BLIND)                                                                               \
    X(NO_COMPARE)                                                                                  \
    X(NO_DIGEST)                                                                                   \
    X(RETURN_AFTER_INTENT)                                                                         \
    X(RETURN_ALIVE)                                                                                \
    X(DISCARD_AT_UNKNOWN)                                                                          \
    X(NO_OFFER_WHEN_DEAD)                                                                          \
    X(BOOT_START)                                                                                  \
    X(UNTRUE_WORD)                                                                                 \
    X(WORD_KEEPS_MEMORY)                                                                           \
    X(QEMU_DIES_WITH_HOST)                                                                         \
    X(REFUSE_BEFORE_OFFER)                                                                         \
    X(BACK_WHILE_SERVING)                                                                          \
    X(END_WHILE_SERVING)                                                                           \
    X(FILLED_IS_ENOUGH)

#define MUTANT_NUMBER(name) MUTANT_##name,
enum { MUTANT_NONE, MUTANTS(MUTANT_NUMBER) };

extern unsigned rule_mutant;
extern int rule_hints_lie;

/* A record in one byte; its revision is kept beside it. Of the move that is modelled, unless said.
 */
enum {
    REC_UNKNOWN,  /* a side has no answer */
    REC_SRC,      /* settled before the move: owned by the source, revision 1 */
    REC_OFFER,    /* to the target */
    REC_TAKEN,    /* by the target */
    REC_BACK,     /* owned by the source */
    REC_RUN,      /* owned by the target */
    REC_UNFILLED, /* BACK, owned by the target: post-copy that ended before all memory came */
    REC_LATER,    /* owned by the source, written by a later move */
    REC_N,
};

enum { BY_OWNER, BY_PEER, BY_WORD };

/* What QEMU at the source does, as its lpm-host sees it: LpmMobSrcQemu, and what looks the same. */
enum {
    SQ_ACTIVE = LPM_MOB_SRC_QEMU_N, /* runs, and its move copies */
    SQ_STOPPED,                     /* its move failed, and it could not resume */
};

unsigned rule_src_view(unsigned qemu, unsigned journal, unsigned record);

/* Action of the one row that applies. */
unsigned rule_src(unsigned journal, unsigned record, unsigned view);
unsigned rule_dst(unsigned journal, unsigned record, unsigned view);

/* Whether an edge of the journal leads there (lpm_mob_edges). */
int rule_src_edge(unsigned from, unsigned to);
int rule_dst_edge(unsigned from, unsigned to);

/* What the arbiter makes of a swap that was made from @believed when @real is there, both of the
 * same revision: the new record, or 0 when the swap is lost. */
unsigned rule_swap(unsigned real, unsigned believed, unsigned to, unsigned by);

/* How often @what may go wrong. */
unsigned char rule_bound(const char *what);
