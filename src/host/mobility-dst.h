/* SPDX-License-Identifier: Apache-2.0 */
/* The target half's own part, shared by its two files. */
#pragma once

#include "host/channels.h"

typedef struct {
    LpmMigration base;
    /* migration-prepare */
    LpmHostReply prepared; /* NULL once answered */
    void *prepared_data;
    char *key;
    char *image_key;        /* NULL: no image is kept here */
    LpmListeners listeners; /* until the mover has them and is ready */
    int vasi;               /* until QEMU has it; -1 with several channels */
    LpmChannels channels;
    /* copying */
    bool loaded_known; /* QEMU said completed and is paused: not asked again before cont */
    bool digest_known; /* and the mover found it right: end */
    LpmStreamEnd end;
    /* post-copy */
    bool relinking; /* the mover is one that goes on with a paused post-copy */
    unsigned relink_tries;
    bool filled;      /* QEMU has all memory */
    bool peer_closed; /* the source's mover has ended well */
    bool keep_error;  /* it has arrived, but not unharmed: the error says so */
    /* commit */
    int64_t hint_mono_us, resume_mono_us;
    guint give_up_timer, ask_timer;
    bool runs; /* cont was answered */
    bool announced;
    bool ending_qemu;
    bool forced;         /* somebody wants it discarded, once the record has been read */
    bool forced_by_word; /* an operator does */
} DstMove;

static inline DstMove *dst(LpmMigration *migration)
{
    return (DstMove *)migration;
}

/* The rows decide, or all is over: what QEMU or the mover still says changes nothing. */
static inline bool off_course(const DstMove *move)
{
    return move->base.rows || move->base.ended;
}

static inline LpmQmp *qmp_of(const DstMove *move)
{
    return move->base.partition ? move->base.partition->qmp : NULL;
}

void lpm_dst_qmp_event(LpmPartition *partition, const LpmQmpEvent *event, void *data);
/* Something is wrong: answers migration-prepare if that is open; from now on the rows decide. */
void lpm_dst_trouble(DstMove *move, const GError *error);
/* A mover that listens for the source's; move->key is its key, @qemu its end of the way to QEMU
 * (stays the caller's; -1: makes one). */
bool lpm_dst_start_mover(DstMove *move, int qemu, GError **error);
/* What QEMU's migration says, in post-copy (mobility-dst-rows.c). */
void lpm_dst_filling(DstMove *move, LpmQmpMigStatus status);

/* --- mobility-dst-postcopy.c --- */

/* Asks QEMU until it is half, then goes on. */
void lpm_dst_ask_half(DstMove *move);
/* Post-copy: QEMU is paused and has all but memory. The journal says so, and then the source. */
bool lpm_dst_half(DstMove *move, GError **error);
/* Post-copy: the memory that is missing will never come. Ends QEMU; the partition stays here. */
void lpm_dst_lost(DstMove *move, const char *why);
/* Answers migration-prepare if that is still open. */
void lpm_dst_answer(DstMove *move, json_t *result, const GError *error);
