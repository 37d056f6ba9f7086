/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may do what in a move, as tables and nothing else: the edges of the two journals and of the
 * console's operation, and for each side the one row that applies to what it sees.
 * docs/spec/handover.md is the same in words; a test compares the two. Pure: no I/O, no clock, no
 * allocation.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- what a side sees --- */

typedef enum {
    LPM_MOB_SRC_NONE, /* before the first entry; never stored */
    LPM_MOB_SRC_PLANNED,
    LPM_MOB_SRC_PRECOPY,
    LPM_MOB_SRC_SWITCH,
    LPM_MOB_SRC_POST,
    LPM_MOB_SRC_ABORT,
    LPM_MOB_SRC_CLEANED,
    LPM_MOB_SRC_N,
} LpmMobSrcJournal;

typedef enum {
    LPM_MOB_DST_NONE, /* before the first entry; never stored */
    LPM_MOB_DST_PREPARED,
    LPM_MOB_DST_LOADED,
    LPM_MOB_DST_INTENT,
    LPM_MOB_DST_RUNNING,
    LPM_MOB_DST_CLEANED,
    LPM_MOB_DST_N,
} LpmMobDstJournal;

/* The ownership record as one side of one move sees it. */
typedef enum {
    LPM_MOB_REC_SOURCE,  /* settled, the source owns it, nothing of this move was written */
    LPM_MOB_REC_BACK,    /* BACK of this move: the source owns it, the move is off */
    LPM_MOB_REC_OFFER,   /* OFFER of this move */
    LPM_MOB_REC_TAKEN,   /* TAKEN of this move */
    LPM_MOB_REC_TARGET,  /* another owner than the source: this move's target, or (for the source)
                          * whoever came after it */
    LPM_MOB_REC_LATER,   /* a later move has written it: the source owns it, or (for the target) a
                          * third system does */
    LPM_MOB_REC_UNKNOWN, /* the arbiter did not answer, or there is no valid record */
    LPM_MOB_REC_N,
} LpmMobRecordView;

typedef enum {
    LPM_MOB_SRC_QEMU_RUNNING,   /* never stopped by the move, or resumed by QEMU itself */
    LPM_MOB_SRC_QEMU_PRE,       /* stopped, pre-switchover */
    LPM_MOB_SRC_QEMU_DEVICE,    /* stopped, the last part is on its way: nothing may be queued */
    LPM_MOB_SRC_QEMU_COMPLETED, /* stopped, all was sent and loaded; the whole state is here still
                                 */
    LPM_MOB_SRC_QEMU_DEAD,
    LPM_MOB_SRC_QEMU_UNSURE,  /* does not answer */
    LPM_MOB_SRC_QEMU_SERVING, /* post-copy: stopped for good, its memory is what the target lacks */
    LPM_MOB_SRC_QEMU_N,
} LpmMobSrcQemu;

typedef enum {
    LPM_MOB_DST_QEMU_INCOMING, /* not all has come */
    LPM_MOB_DST_QEMU_PAUSED,   /* loaded whole, never ran here */
    LPM_MOB_DST_QEMU_RUNNING,  /* runs, or ran: stopped by the guest or by a disk afterwards */
    LPM_MOB_DST_QEMU_DEAD,
    LPM_MOB_DST_QEMU_UNSURE,  /* does not answer */
    LPM_MOB_DST_QEMU_HALF,    /* post-copy: all but memory is here; never ran here */
    LPM_MOB_DST_QEMU_FILLING, /* post-copy: runs, or ran, and memory still comes */
    LPM_MOB_DST_QEMU_N,
} LpmMobDstQemu;

/* --- what it does then --- */

typedef enum {
    LPM_MOB_SRC_DO_WAIT,    /* look again later */
    LPM_MOB_SRC_DO_CANCEL,  /* write abort, end the mover, migrate_cancel */
    LPM_MOB_SRC_DO_YANK,    /* write abort, end the mover, out-of-band yank */
    LPM_MOB_SRC_DO_ABORT,   /* write abort */
    LPM_MOB_SRC_DO_OFFER,   /* swap to OFFER */
    LPM_MOB_SRC_DO_BACK,    /* swap to BACK */
    LPM_MOB_SRC_DO_CONT,    /* cont */
    LPM_MOB_SRC_DO_STAYED,  /* release the move; cleaned(aborted) */
    LPM_MOB_SRC_DO_POST,    /* write post */
    LPM_MOB_SRC_DO_LOST,    /* end QEMU, release the move; cleaned(aborted) */
    LPM_MOB_SRC_DO_LEFT,    /* end QEMU, release, forget the profile; cleaned(completed) */
    LPM_MOB_SRC_DO_NOTHING, /* it is over */
    LPM_MOB_SRC_DO_REPORT,  /* cannot be by the rules: change nothing, tell people */
    LPM_MOB_SRC_DO_N,
} LpmMobSrcAction;

typedef enum {
    LPM_MOB_DST_DO_WAIT,
    LPM_MOB_DST_DO_LOADED,  /* write loaded */
    LPM_MOB_DST_DO_TAKE,    /* swap OFFER to TAKEN */
    LPM_MOB_DST_DO_REFUSE,  /* swap OFFER to BACK */
    LPM_MOB_DST_DO_INTENT,  /* write intent */
    LPM_MOB_DST_DO_CONT,    /* cont */
    LPM_MOB_DST_DO_RUNNING, /* write running */
    LPM_MOB_DST_DO_OWN,     /* swap TAKEN to RUN */
    LPM_MOB_DST_DO_RETURN,  /* swap TAKEN to BACK */
    LPM_MOB_DST_DO_DISCARD, /* end QEMU, release; cleaned(aborted) */
    LPM_MOB_DST_DO_ARRIVED, /* announce, keep the profile; cleaned(completed) */
    LPM_MOB_DST_DO_NOTHING,
    LPM_MOB_DST_DO_REPORT,
    LPM_MOB_DST_DO_N,
} LpmMobDstAction;

/*
 * One row of a decision table: it applies when each of the three values is in its mask (bit = 1u <<
 * value). For every combination exactly one row of the table applies.
 */
typedef struct {
    uint8_t journal, record, qemu;
    uint8_t action;  /* LpmMobSrcAction or LpmMobDstAction */
    bool patient;    /* not before the waiting time of the offer is over */
    const char *why; /* for people and for the log; "" where the row speaks for itself */
} LpmMobRow;

/* Row for this combination; never NULL: values outside the enums give a row of REPORT. */
const LpmMobRow *lpm_mob_src_decide(LpmMobSrcJournal journal, LpmMobRecordView record,
                                    LpmMobSrcQemu qemu);
const LpmMobRow *lpm_mob_dst_decide(LpmMobDstJournal journal, LpmMobRecordView record,
                                    LpmMobDstQemu qemu);

/* The tables themselves, for printing and for tests. */
const LpmMobRow *lpm_mob_src_rows(size_t *ret_n);
const LpmMobRow *lpm_mob_dst_rows(size_t *ret_n);

/* --- edges --- */

/* States of the console's operation. */
typedef enum {
    LPM_MOB_DRV_ACCEPTED,
    LPM_MOB_DRV_VALIDATING,
    LPM_MOB_DRV_PREPARING,
    LPM_MOB_DRV_STARTING,
    LPM_MOB_DRV_MOVING,
    LPM_MOB_DRV_STOPPING,
    LPM_MOB_DRV_COMPLETED,
    LPM_MOB_DRV_FAILED, /* also refused by validation, and stopped on request: the error says which
                         */
    LPM_MOB_DRV_N,
} LpmMobDrvState;

typedef enum {
    LPM_MOB_EV_ACCEPT,
    LPM_MOB_EV_CONNECTED, /* source: mover connected */
    LPM_MOB_EV_READY,     /* source: QEMU in pre-switchover and the arbiter has just answered */
    LPM_MOB_EV_QEMU_DONE, /* source: QEMU completed and postmigrate */
    LPM_MOB_EV_OFFER_NOW, /* source, inactive move: nothing to copy */
    LPM_MOB_EV_LOADED,    /* target: QEMU completed and paused, digest right */
    LPM_MOB_EV_TAKEN,     /* target: OFFER to TAKEN won */
    LPM_MOB_EV_RUNS,      /* target: QEMU runs, or died after intent */
    LPM_MOB_EV_ABORT,     /* a row, a failure or a request says so */
    LPM_MOB_EV_CLEAN,     /* everything of the move is released */
    LPM_MOB_EV_VALIDATE,  /* driver, from here on */
    LPM_MOB_EV_PREPARE,
    LPM_MOB_EV_START,
    LPM_MOB_EV_STARTED,
    LPM_MOB_EV_STOP,
    LPM_MOB_EV_SUCCEED,
    LPM_MOB_EV_FAIL,
    LPM_MOB_EV_N,
} LpmMobEvent;

typedef enum { LPM_MOB_SRC, LPM_MOB_DST, LPM_MOB_DRV, LPM_MOB_MACHINE_N } LpmMobMachine;

typedef struct {
    uint8_t from, event, to;
} LpmMobEdge;

/* Edges of one machine. */
const LpmMobEdge *lpm_mob_edges(LpmMobMachine machine, size_t *ret_n);
/* Follows one edge. False, and @ret_to untouched, when there is none: a defect of the caller. */
bool lpm_mob_step(LpmMobMachine machine, unsigned from, LpmMobEvent event, unsigned *ret_to);

/* --- names: what is stored, shown and sent; "?" outside the enum --- */

const char *lpm_mob_state_name(LpmMobMachine machine, unsigned state);
bool lpm_mob_state_from_name(LpmMobMachine machine, const char *name, unsigned *ret_state);
const char *lpm_mob_event_name(LpmMobEvent event);
const char *lpm_mob_record_view_name(LpmMobRecordView view);
bool lpm_mob_record_view_from_name(const char *name, unsigned *ret_view);
const char *lpm_mob_qemu_name(LpmMobMachine machine, unsigned qemu);
bool lpm_mob_qemu_from_name(LpmMobMachine machine, const char *name, unsigned *ret_qemu);
const char *lpm_mob_action_text(LpmMobMachine machine, unsigned action);

/* --- printing --- */

typedef void (*LpmMobLine)(const char *line, void *data);

/* The decision table of one side (SRC, DST) as lines of a Markdown table, header included. */
void lpm_mob_print_rows(LpmMobMachine machine, LpmMobLine line, void *data);
/* The edges of one machine as lines of a dot graph. */
void lpm_mob_print_dot(LpmMobMachine machine, LpmMobLine line, void *data);
