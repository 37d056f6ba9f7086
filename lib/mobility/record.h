/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ownership record: which system owns a partition, in 512 bytes with a checksum
 * (docs/spec/handover.md). Here are its encoding and the rule of what may follow what; keeping it
 * is the business of an arbiter. Pure.
 */
#pragma once

#include "mobility/mobility.h"

enum {
    LPM_RECORD_SIZE = 512,
    LPM_RECORD_ID_SIZE = 16,
    LPM_RECORD_NAME_SIZE = 64, /* with the final zero */
};

typedef enum {
    LPM_RECORD_SRC = 1,
    LPM_RECORD_OFFER = 2,
    LPM_RECORD_TAKEN = 3,
    LPM_RECORD_BACK = 4,
    LPM_RECORD_RUN = 5,
} LpmRecordState;

typedef struct {
    LpmRecordState state;
    uint64_t revision; /* rises by one with every change; a swap compares it. 0: no record */
    uint64_t epoch;    /* rises by one when the owner changes */
    uint8_t partition[LPM_RECORD_ID_SIZE];
    uint8_t move[LPM_RECORD_ID_SIZE]; /* zero in a new record */
    char owner[LPM_RECORD_NAME_SIZE];
    char peer[LPM_RECORD_NAME_SIZE]; /* "" when settled */
    uint64_t changed_us;             /* since 1970 UTC; for people only, never compared */
} LpmRecord;

typedef enum {
    LPM_RECORD_OK,
    LPM_RECORD_BAD_MAGIC,
    LPM_RECORD_BAD_VERSION,
    LPM_RECORD_BAD_CHECKSUM,
    LPM_RECORD_BAD_FIELD, /* state, reserved bytes, or a name that is not terminated or not allowed
                           */
} LpmRecordStatus;

void lpm_record_encode(const LpmRecord *record, uint8_t out[LPM_RECORD_SIZE]);
/* @ret_record is set on OK only. */
LpmRecordStatus lpm_record_decode(const uint8_t in[LPM_RECORD_SIZE], LpmRecord *ret_record);
const char *lpm_record_status_text(LpmRecordStatus status);

/* SRC, BACK and RUN: the owner runs the partition and may offer it. */
bool lpm_record_settled(LpmRecordState state);
const char *lpm_record_state_name(LpmRecordState state); /* "SRC", ...; "?" for others */

/* The record of a new partition: SRC, revision 1, epoch 1. */
void lpm_record_first(const uint8_t partition[LPM_RECORD_ID_SIZE], const char *owner,
                      uint64_t now_us, LpmRecord *ret_record);

/* Who wants to change a record: a system's name, or people's word that the peer is off. */
typedef enum { LPM_RECORD_BY_OWNER, LPM_RECORD_BY_PEER, LPM_RECORD_BY_WORD } LpmRecordBy;

/*
 * Makes @ret_next from @now for the swap to @to of move @move, with revision, epoch, owner and peer
 * as the table of swaps says. @peer is used for OFFER only. False when the table has no such swap:
 * a defect, or somebody else was quicker.
 */
bool lpm_record_next(const LpmRecord *now, LpmRecordState to, LpmRecordBy by,
                     const uint8_t move[LPM_RECORD_ID_SIZE], const char *peer, uint64_t now_us,
                     LpmRecord *ret_next);

/*
 * Whether the table of swaps has one that makes exactly @next of @now, whoever asks for it.
 * Arbiters ask it beside the revision: a record that was made from another one than @now never
 * wins.
 */
bool lpm_record_follows(const LpmRecord *now, const LpmRecord *next);

/*
 * How one side of move @move sees @record (NULL: unknown). @source is the name of the move's
 * source, @revision the one that it had when this side's journal began.
 */
LpmMobRecordView lpm_record_view(const LpmRecord *record, const char *source,
                                 const uint8_t move[LPM_RECORD_ID_SIZE], uint64_t revision);

/* One half of a move, for what it sees. Names and id are borrowed. */
typedef struct {
    LpmMobMachine side; /* SRC or DST */
    const char *source, *target;
    const uint8_t *move;
    uint64_t revision, epoch; /* of the record when its journal began; epoch: at the source only */
} LpmRecordHalf;

/*
 * The same for @half, which knows more: an owner changes with a higher epoch only, and at the
 * target "target" is itself. A third system that came after this move makes it LATER there.
 */
LpmMobRecordView lpm_record_view_at(const LpmRecord *record, const LpmRecordHalf *half);

/* 32 or 36 hexadecimal digits (dashes ignored) to 16 bytes. False when it is not that. */
bool lpm_record_id_from_text(const char *text, uint8_t out[LPM_RECORD_ID_SIZE]);
/* 32 hexadecimal digits and a final zero. */
void lpm_record_id_to_text(const uint8_t id[LPM_RECORD_ID_SIZE], char out[33]);
