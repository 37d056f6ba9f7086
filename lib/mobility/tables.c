/* SPDX-License-Identifier: Apache-2.0 */
#include "mobility/mobility.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define BIT(value)   (1u << (value))
#define ANY          0xffu

/* --- source --- */

#define J_NONE    BIT(LPM_MOB_SRC_NONE)
#define J_PLANNED BIT(LPM_MOB_SRC_PLANNED)
#define J_PRECOPY BIT(LPM_MOB_SRC_PRECOPY)
#define J_SWITCH  BIT(LPM_MOB_SRC_SWITCH)
#define J_POST    BIT(LPM_MOB_SRC_POST)
#define J_ABORT   BIT(LPM_MOB_SRC_ABORT)
#define J_CLEANED BIT(LPM_MOB_SRC_CLEANED)
#define J_BEFORE  (J_PLANNED | J_PRECOPY | J_SWITCH)
#define J_OPEN    (J_BEFORE | J_POST | J_ABORT)

#define R_SOURCE  BIT(LPM_MOB_REC_SOURCE)
#define R_BACK    BIT(LPM_MOB_REC_BACK)
#define R_OFFER   BIT(LPM_MOB_REC_OFFER)
#define R_TAKEN   BIT(LPM_MOB_REC_TAKEN)
#define R_TARGET  BIT(LPM_MOB_REC_TARGET)
#define R_LATER   BIT(LPM_MOB_REC_LATER)
#define R_UNKNOWN BIT(LPM_MOB_REC_UNKNOWN)

#define Q_RUNNING   BIT(LPM_MOB_SRC_QEMU_RUNNING)
#define Q_PRE       BIT(LPM_MOB_SRC_QEMU_PRE)
#define Q_DEVICE    BIT(LPM_MOB_SRC_QEMU_DEVICE)
#define Q_COMPLETED BIT(LPM_MOB_SRC_QEMU_COMPLETED)
#define Q_DEAD      BIT(LPM_MOB_SRC_QEMU_DEAD)
#define Q_UNSURE    BIT(LPM_MOB_SRC_QEMU_UNSURE)
#define Q_SERVING   BIT(LPM_MOB_SRC_QEMU_SERVING)

#define DO(action) LPM_MOB_SRC_DO_##action

static const LpmMobRow src_rows[] = {
    {J_BEFORE, R_SOURCE | R_UNKNOWN, Q_RUNNING | Q_PRE, DO(CANCEL), false,
     "nothing was handed over"},
    {J_BEFORE, R_SOURCE | R_UNKNOWN, Q_DEVICE | Q_UNSURE, DO(YANK), false,
     "a queued command would run later"},
    {J_BEFORE, R_SOURCE | R_UNKNOWN, Q_COMPLETED | Q_DEAD, DO(ABORT), false,
     "without post the target is never offered it"},
    {J_PRECOPY | J_SWITCH, R_SOURCE | R_UNKNOWN, Q_SERVING, DO(POST), false,
     "only the target can go on with it now"},
    {J_PLANNED, R_SOURCE | R_UNKNOWN, Q_SERVING, DO(REPORT), false,
     "precopy is written before anything is copied"},
    {J_BEFORE, R_BACK | R_OFFER | R_TAKEN, ANY, DO(REPORT), false,
     "nobody may have offered it before post"},
    {J_POST, R_SOURCE, Q_COMPLETED | Q_RUNNING, DO(ABORT), false,
     "without the mover nobody can say that the target has loaded it"},
    {J_POST, R_SOURCE, Q_DEAD, DO(OFFER), false, "the target may have it all; it refuses if not"},
    {J_POST, R_SOURCE, Q_SERVING, DO(OFFER), false,
     "only the target can go on with it now; it refuses if it cannot"},
    {J_POST, R_OFFER, Q_SERVING, DO(WAIT), false, "only the target can go on with it now"},
    {J_POST, R_SOURCE | R_OFFER, Q_UNSURE, DO(WAIT), false, "QEMU must answer first"},
    {J_POST, R_BACK, Q_COMPLETED | Q_RUNNING | Q_DEAD | Q_UNSURE | Q_SERVING, DO(ABORT), false, ""},
    {J_POST, R_OFFER, Q_COMPLETED | Q_RUNNING, DO(BACK), true,
     "the offer's time is over; the swap says who was quicker"},
    {J_POST, R_OFFER, Q_DEAD, DO(WAIT), false, "the target has the only copy and may take it"},
    {J_POST, R_SOURCE | R_BACK | R_OFFER, Q_PRE | Q_DEVICE, DO(REPORT), false,
     "post means that QEMU was completed"},
    {J_POST | J_ABORT, R_TAKEN, ANY, DO(WAIT), false, "it belongs to the target now"},
    {J_POST, R_UNKNOWN, ANY, DO(WAIT), false, "the record decides"},
    {J_ABORT, R_SOURCE | R_BACK | R_UNKNOWN, Q_PRE, DO(CANCEL), false, ""},
    {J_ABORT, R_SOURCE | R_BACK | R_UNKNOWN, Q_DEVICE | Q_UNSURE, DO(YANK), false, ""},
    {J_ABORT, R_UNKNOWN, Q_RUNNING | Q_COMPLETED | Q_DEAD | Q_SERVING, DO(WAIT), false,
     "the target must be told first"},
    {J_ABORT, R_SOURCE, Q_RUNNING | Q_COMPLETED | Q_DEAD, DO(BACK), false,
     "tells the target that nothing will come"},
    {J_ABORT, R_SOURCE, Q_SERVING, DO(OFFER), false,
     "too late: only the target can go on with it now; it refuses if it cannot"},
    {J_ABORT, R_OFFER, Q_RUNNING | Q_COMPLETED | Q_DEAD | Q_UNSURE, DO(BACK), false,
     "an offer that was believed lost"},
    {J_ABORT, R_OFFER, Q_SERVING, DO(WAIT), false, "only the target can go on with it now"},
    {J_ABORT, R_OFFER, Q_PRE | Q_DEVICE, DO(REPORT), false, "nothing was offered before post"},
    {J_ABORT, R_BACK, Q_COMPLETED, DO(CONT), false, ""},
    {J_ABORT, R_BACK, Q_RUNNING | Q_DEAD, DO(STAYED), false, ""},
    {J_ABORT, R_BACK, Q_SERVING, DO(LOST), false, "QEMU cannot go on from here"},
    {J_OPEN, R_TARGET, ANY & ~Q_SERVING, DO(LEFT), false, "the record decides"},
    {J_OPEN, R_TARGET, Q_SERVING, DO(WAIT), false, "the target still needs its memory"},
    {J_OPEN, R_LATER, ANY, DO(REPORT), false, "a later move began before this one was cleaned"},
    {J_NONE | J_CLEANED, ANY, ANY, DO(NOTHING), false, ""},
};

#undef DO

/* --- target --- */

#define D_NONE     BIT(LPM_MOB_DST_NONE)
#define D_PREPARED BIT(LPM_MOB_DST_PREPARED)
#define D_LOADED   BIT(LPM_MOB_DST_LOADED)
#define D_INTENT   BIT(LPM_MOB_DST_INTENT)
#define D_RUNNING  BIT(LPM_MOB_DST_RUNNING)
#define D_CLEANED  BIT(LPM_MOB_DST_CLEANED)

#define T_INCOMING BIT(LPM_MOB_DST_QEMU_INCOMING)
#define T_PAUSED   BIT(LPM_MOB_DST_QEMU_PAUSED)
#define T_RUNNING  BIT(LPM_MOB_DST_QEMU_RUNNING)
#define T_DEAD     BIT(LPM_MOB_DST_QEMU_DEAD)
#define T_UNSURE   BIT(LPM_MOB_DST_QEMU_UNSURE)
#define T_HALF     BIT(LPM_MOB_DST_QEMU_HALF)
#define T_FILLING  BIT(LPM_MOB_DST_QEMU_FILLING)

#define DO(action) LPM_MOB_DST_DO_##action

static const LpmMobRow dst_rows[] = {
    {D_PREPARED, R_SOURCE, ANY & ~T_HALF, DO(DISCARD), false, "what had come is not whole"},
    {D_PREPARED, R_BACK | R_LATER, ANY, DO(DISCARD), false, "the record decides"},
    {D_PREPARED, R_OFFER, ANY & ~T_HALF, DO(REFUSE), false, "it was never loaded here"},
    {D_PREPARED, R_SOURCE | R_OFFER, T_HALF, DO(LOADED), false,
     "only this side can go on with it now"},
    {D_PREPARED, R_TAKEN | R_TARGET, ANY, DO(REPORT), false, "only loaded may take it"},
    {D_LOADED, R_SOURCE, T_PAUSED | T_HALF | T_UNSURE, DO(WAIT), false, "the offer may still come"},
    {D_LOADED, R_SOURCE, T_DEAD, DO(DISCARD), false, ""},
    {D_LOADED, R_OFFER, T_PAUSED | T_HALF, DO(TAKE), false, ""},
    {D_LOADED, R_OFFER, T_DEAD, DO(REFUSE), false, ""},
    {D_LOADED, R_TAKEN, T_PAUSED | T_HALF, DO(INTENT), false, ""},
    {D_LOADED, R_TAKEN, T_DEAD, DO(RETURN), false, "no intent: it never ran here"},
    {D_LOADED, R_OFFER | R_TAKEN, T_UNSURE, DO(WAIT), false, "QEMU must answer first"},
    {D_LOADED, R_SOURCE | R_OFFER | R_TAKEN, T_INCOMING | T_RUNNING | T_FILLING, DO(REPORT), false,
     "loaded means paused, and nothing starts it without intent"},
    {D_INTENT, R_TAKEN, T_PAUSED | T_HALF, DO(CONT), false, ""},
    {D_INTENT, R_TAKEN, T_RUNNING | T_FILLING, DO(RUNNING), false, ""},
    {D_INTENT, R_TAKEN, T_DEAD, DO(RUNNING), false, "it may have run: crash of the owner"},
    {D_INTENT, R_TAKEN, T_UNSURE, DO(WAIT), false, "QEMU must answer first"},
    {D_INTENT, R_TAKEN, T_INCOMING, DO(REPORT), false, "intent means that it was loaded"},
    {D_RUNNING, R_TAKEN, ANY, DO(OWN), false, ""},
    {D_RUNNING, R_TARGET, ANY & ~T_FILLING, DO(ARRIVED), false, ""},
    {D_RUNNING, R_TARGET, T_FILLING, DO(WAIT), false, "its memory still comes"},
    {D_LOADED | D_INTENT, R_TARGET, ANY, DO(REPORT), false, "running is written before RUN"},
    {D_INTENT | D_RUNNING, R_SOURCE | R_OFFER, ANY, DO(REPORT), false,
     "intent means that it was taken"},
    {D_LOADED | D_INTENT | D_RUNNING, R_BACK | R_LATER, ANY, DO(DISCARD), false,
     "the record decides"},
    {D_PREPARED | D_LOADED | D_INTENT | D_RUNNING, R_UNKNOWN, ANY, DO(WAIT), false,
     "the record decides"},
    {D_CLEANED, R_OFFER, ANY, DO(REFUSE), false, "it is not here any more"},
    {D_CLEANED, R_TAKEN, ANY, DO(RETURN), false, "a swap that came late: it is not here any more"},
    {D_CLEANED, ANY & ~(R_OFFER | R_TAKEN), ANY, DO(NOTHING), false, ""},
    {D_NONE, ANY, ANY, DO(NOTHING), false, ""},
};

#undef DO

static const LpmMobRow src_outside = {
    0, 0, 0, LPM_MOB_SRC_DO_REPORT, false, "a state outside the table"};
static const LpmMobRow dst_outside = {
    0, 0, 0, LPM_MOB_DST_DO_REPORT, false, "a state outside the table"};

static const LpmMobRow *find(const LpmMobRow *rows, size_t n, unsigned journal, unsigned record,
                             unsigned qemu)
{
    for (size_t i = 0; i < n; i++) {
        if ((rows[i].journal >> journal & 1u) && (rows[i].record >> record & 1u) &&
            (rows[i].qemu >> qemu & 1u)) {
            return &rows[i];
        }
    }
    return NULL;
}

const LpmMobRow *lpm_mob_src_decide(LpmMobSrcJournal journal, LpmMobRecordView record,
                                    LpmMobSrcQemu qemu)
{
    if (journal >= LPM_MOB_SRC_N || record >= LPM_MOB_REC_N || qemu >= LPM_MOB_SRC_QEMU_N) {
        return &src_outside;
    }
    const LpmMobRow *row = find(src_rows, COUNT(src_rows), journal, record, qemu);
    return row ? row : &src_outside;
}

const LpmMobRow *lpm_mob_dst_decide(LpmMobDstJournal journal, LpmMobRecordView record,
                                    LpmMobDstQemu qemu)
{
    if (journal >= LPM_MOB_DST_N || record >= LPM_MOB_REC_N || qemu >= LPM_MOB_DST_QEMU_N) {
        return &dst_outside;
    }
    const LpmMobRow *row = find(dst_rows, COUNT(dst_rows), journal, record, qemu);
    return row ? row : &dst_outside;
}

const LpmMobRow *lpm_mob_src_rows(size_t *ret_n)
{
    *ret_n = COUNT(src_rows);
    return src_rows;
}

const LpmMobRow *lpm_mob_dst_rows(size_t *ret_n)
{
    *ret_n = COUNT(dst_rows);
    return dst_rows;
}
