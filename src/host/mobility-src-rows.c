/* SPDX-License-Identifier: Apache-2.0 */
/* The source half once the rows decide: what QEMU does, and the action of each row. */
#include "host/mobility-src.h"

#include "base/log.h"
#include "bytes/bytes.h"
#include "crash/crash.h"

#include <string.h>

enum { RECONNECT_MS = 1000, WORD_END_MS = 5000 /* for a killed QEMU to end */ };

static SrcMove *src(LpmMigration *migration)
{
    return (SrcMove *)migration;
}

static LpmQmp *qmp_of(const SrcMove *move)
{
    return move->base.partition ? move->base.partition->qmp : NULL;
}

static bool has_qemu(const SrcMove *move)
{
    return move->base.partition && lpm_partition_has_qemu(move->base.partition);
}

/* --- what QEMU does --- */

/* A move that still copies can be ended by migrate_cancel just as one in pre-switchover can. */
static unsigned view_of(const SrcMove *move, LpmQmpRunState run, LpmQmpMigStatus mig)
{
    bool copying =
        mig == LPM_QMP_MIG_SETUP || mig == LPM_QMP_MIG_ACTIVE || mig == LPM_QMP_MIG_WAIT_UNPLUG;
    bool stopped = run == LPM_QMP_RUN_PAUSED || run == LPM_QMP_RUN_FINISH_MIGRATE;
    if (run == LPM_QMP_RUN_UNKNOWN) {
        return LPM_MOB_SRC_QEMU_UNSURE;
    }
    if (lpm_qmp_mig_is_postcopy(mig)) {
        return LPM_MOB_SRC_QEMU_SERVING;
    }
    if (mig == LPM_QMP_MIG_PRE_SWITCHOVER || (copying && move->base.journal == LPM_MOB_SRC_ABORT)) {
        return LPM_MOB_SRC_QEMU_PRE;
    }
    if (mig == LPM_QMP_MIG_DEVICE || (copying && stopped)) {
        return LPM_MOB_SRC_QEMU_DEVICE;
    }
    if (run == LPM_QMP_RUN_POSTMIGRATE || stopped) {
        return LPM_MOB_SRC_QEMU_COMPLETED;
    }
    return LPM_MOB_SRC_QEMU_RUNNING;
}

/*
 * The target goes on without what it has not got: it says so by BACK, as the owner that it is, and
 * whatever comes after that has left this move behind.
 */
static bool no_longer_needed(const LpmMigration *migration)
{
    const LpmRecord *record = &migration->record;
    return lpm_mig_record_view(migration) == LPM_MOB_REC_TARGET &&
           (record->state != LPM_RECORD_RUN ||
            memcmp(record->move, migration->id_bytes, sizeof record->move) != 0);
}

static void decide(SrcMove *move, unsigned view)
{
    bool over = view == LPM_MOB_SRC_QEMU_SERVING && no_longer_needed(&move->base);
    lpm_mig_decide(&move->base, over ? (unsigned)LPM_MOB_SRC_QEMU_COMPLETED : view);
}

/*
 * A QEMU that serves memory may take its time to answer; it is not ended for that. Once the target
 * does not want it any more (BACK) it must answer: it may have completed, and can go on then.
 */
static unsigned no_answer(const SrcMove *move)
{
    bool serves =
        move->base.postcopy && !move->given && lpm_mig_record_view(&move->base) != LPM_MOB_REC_BACK;
    return !has_qemu(move) ? LPM_MOB_SRC_QEMU_DEAD
           : serves        ? LPM_MOB_SRC_QEMU_SERVING
                           : LPM_MOB_SRC_QEMU_UNSURE;
}

/*
 * All is given; the target's word that it is right must not be cut off with the mover. With BACK
 * there is none to come, and what is whole here can go on.
 */
static bool awaits_word(const SrcMove *move)
{
    return move->base.postcopy && move->given && !move->whole && move->base.mover &&
           lpm_mig_record_view(&move->base) != LPM_MOB_REC_BACK;
}

static void state_seen(const LpmQmpStatus *status, const LpmQmpMigration *mig, const GError *error,
                       void *data)
{
    SrcMove *move = data;
    LpmMigration *migration = &move->base;
    if (!has_qemu(move) || error) {
        decide(move, no_answer(move));
    } else if (mig->status == LPM_QMP_MIG_CANCELLING) {
        lpm_mig_next(migration, LPM_NEXT_LATER); /* ends by itself within moments */
    } else if (lpm_src_is_held(move, status->state, mig->status)) {
        lpm_src_let_run(move);
    } else {
        move->state = status->state;
        if (lpm_qmp_mig_is_postcopy(mig->status)) {
            lpm_src_note_serving(move, mig);
        } else {
            move->given = mig->status == LPM_QMP_MIG_COMPLETED;
        }
        decide(move, awaits_word(move) ? (unsigned)LPM_MOB_SRC_QEMU_SERVING
                                       : view_of(move, status->state, mig->status));
    }
    lpm_mig_unref(migration);
}

static void reconnected(const GError *error, void *data)
{
    SrcMove *move = data;
    LpmQmp *qmp = qmp_of(move);
    if (error || !qmp) {
        decide(move, no_answer(move));
        lpm_mig_unref(&move->base);
        return;
    }
    move->doubt_seen = false;
    lpm_qmp_query_state(qmp, state_seen, move);
}

/* An inactive move has no QEMU: see handover.md. */
static unsigned inactive_view(const SrcMove *move)
{
    return move->base.journal == LPM_MOB_SRC_ABORT ? LPM_MOB_SRC_QEMU_RUNNING
                                                   : LPM_MOB_SRC_QEMU_COMPLETED;
}

static void look(LpmMigration *migration)
{
    SrcMove *move = src(migration);
    LpmQmp *qmp = qmp_of(move);
    if (!migration->active) {
        lpm_mig_decide(migration, inactive_view(move));
        return;
    }
    if (!has_qemu(move)) {
        lpm_mig_decide(migration, LPM_MOB_SRC_QEMU_DEAD);
        return;
    }
    if (!qmp) {
        decide(move, no_answer(move));
        return;
    }
    bool good = lpm_qmp_is_open(qmp) && !lpm_qmp_is_doubtful(qmp);
    /* A doubtful connection still takes the yank; a new one could not be made while QEMU is stuck.
     */
    if (!good && lpm_qmp_is_open(qmp) && !move->doubt_seen) {
        move->doubt_seen = true;
        lpm_mig_decide(migration, LPM_MOB_SRC_QEMU_UNSURE);
        return;
    }
    /* In device nothing is asked either: its answer could take as long as the stream is stuck. */
    if (good && lpm_qmp_last_migration(qmp) == LPM_QMP_MIG_DEVICE && !move->device_over) {
        lpm_mig_decide(migration, LPM_MOB_SRC_QEMU_DEVICE);
        return;
    }
    lpm_mig_ref(migration);
    if (good) {
        lpm_qmp_query_state(qmp, state_seen, move);
    } else {
        lpm_qmp_reconnect(qmp, RECONNECT_MS, reconnected, move);
    }
}

static void qemu_gone(LpmPartition *partition, const char *reason, void *data)
{
    SrcMove *move = data;
    (void)partition;
    if (move->ending_qemu) {
        return;
    }
    g_autoptr(GError) error = NULL;
    lpm_error_set(&error, LPM_ERROR_QEMU, "QEMU of partition %s on %s ended: %s", move->base.name,
                  lpm_host_name(move->base.host), reason);
    lpm_mig_trouble(&move->base, error);
}

static void qmp_closed(LpmPartition *partition, const GError *error, void *data)
{
    SrcMove *move = data;
    (void)partition;
    if (!move->ending_qemu) {
        lpm_mig_trouble(&move->base, error);
    }
}

/* --- actions --- */

/*
 * Writes abort, once, and ends the mover, which tells the peer. Before post the mover is ended even
 * when nothing can be written (a full disk): the journal still says that nothing was offered, and
 * the partition must not stand still for it.
 */
static bool write_abort(SrcMove *move)
{
    LpmMigration *migration = &move->base;
    g_autoptr(GError) error = NULL;
    bool written = migration->journal == LPM_MOB_SRC_ABORT ||
                   lpm_mig_journal(migration, LPM_MOB_EV_ABORT, &error);
    lpm_mig_note_error(migration, error);
    if (!written && migration->journal >= LPM_MOB_SRC_POST) {
        return false;
    }
    const char *reason = migration->error ? migration->error->message : "lpm-host was restarted";
    lpm_src_stop_dialing(move);
    LPM_CRASH_POINT("src", "tell-abort", "before");
    lpm_mover_abort(migration->mover, reason);
    LPM_CRASH_POINT("src", "tell-abort", "after");
    migration->mover = NULL;
    migration->mover_connected = false;
    lpm_bytes_close(&move->vasi);
    return written;
}

static void cancelled(const GError *error, void *data)
{
    LpmMigration *migration = data;
    (void)error; /* mostly: there was nothing to cancel any more. The next look says what is */
    bool written = migration->journal == LPM_MOB_SRC_ABORT;
    lpm_mig_next(migration, written ? LPM_NEXT_NOW : LPM_NEXT_LATER);
    lpm_mig_unref(migration);
}

static void do_cancel(SrcMove *move)
{
    LpmQmp *qmp = qmp_of(move);
    bool written = write_abort(move);
    LPM_CRASH_POINT("src", "cancel", "before");
    if (!qmp) {
        lpm_mig_next(&move->base, written ? LPM_NEXT_NOW : LPM_NEXT_LATER);
        return;
    }
    lpm_mig_ref(&move->base);
    lpm_qmp_migrate_cancel(qmp, cancelled, move);
}

static void yanked(const GError *error, void *data)
{
    SrcMove *move = data;
    if (error && error->code == LPM_ERROR_STATE) {
        move->device_over = true;
    }
    lpm_mig_next(&move->base, LPM_NEXT_LATER);
    lpm_mig_unref(&move->base);
}

static void do_yank(SrcMove *move)
{
    LpmQmp *qmp = qmp_of(move);
    (void)write_abort(move);
    if (!qmp) {
        lpm_mig_next(&move->base, LPM_NEXT_LATER);
        return;
    }
    LPM_CRASH_POINT("src", "yank", "before");
    lpm_mig_ref(&move->base);
    lpm_qmp_yank(qmp, yanked, move);
}

static void do_abort(SrcMove *move)
{
    lpm_mig_next(&move->base, write_abort(move) ? LPM_NEXT_NOW : LPM_NEXT_LATER);
}

static void swapped(LpmMigration *migration, LpmArbiterResult result, const GError *error)
{
    (void)error;
    bool again = result == LPM_ARBITER_DONE || result == LPM_ARBITER_LOST;
    lpm_mig_next(migration, again ? LPM_NEXT_NOW : LPM_NEXT_LATER);
}

static void do_back(SrcMove *move)
{
    lpm_mig_swap(&move->base, LPM_RECORD_BACK, LPM_RECORD_BY_OWNER, "back", swapped);
}

static void do_offer(SrcMove *move)
{
    move->offering = true;
    lpm_mig_swap(&move->base, LPM_RECORD_OFFER, LPM_RECORD_BY_OWNER, "offer", swapped);
}

static void continued(const GError *error, void *data)
{
    SrcMove *move = data;
    if (error) {
        lpm_mig_note_error(&move->base, error);
    } else {
        LPM_CRASH_POINT("src", "cont", "after");
        move->base.record_fresh = true;
        if (move->base.partition) {
            lpm_partition_announce(move->base.partition); /* the target may have been heard */
        }
    }
    lpm_mig_next(&move->base, error ? LPM_NEXT_LATER : LPM_NEXT_NOW);
    lpm_mig_unref(&move->base);
}

static void do_cont(SrcMove *move)
{
    LpmQmp *qmp = qmp_of(move);
    if (!qmp) {
        lpm_mig_next(&move->base, LPM_NEXT_LATER);
        return;
    }
    bool post = move->state == LPM_QMP_RUN_POSTMIGRATE;
    LPM_CRASH_POINT("src", "cont", "before");
    lpm_mig_ref(&move->base);
    lpm_qmp_cont(qmp, post ? LPM_QMP_RUN_POSTMIGRATE : LPM_QMP_RUN_UNKNOWN, continued, move);
}

/* Without an error of our own: who has offered it and not been restarted since was given it back.
 */
static char *why_it_stays(const SrcMove *move)
{
    const LpmMigration *migration = &move->base;
    if (migration->error) {
        return g_strdup(migration->error->message);
    }
    if (!move->offering) {
        return g_strdup("lpm-host of the source was restarted during the move");
    }
    return g_strdup_printf("%s was offered partition %s and gave it back, as it could not let it "
                           "run; the log of lpm-host there says why",
                           migration->peer, migration->name);
}

/* For people: what happened, where the partition is, what to do. */
static void explain_stay(SrcMove *move)
{
    LpmMigration *migration = &move->base;
    g_autofree char *why = why_it_stays(move);
    int code = migration->error ? migration->error->code : (int)LPM_ERROR_ABORTED;
    const char *here = lpm_host_name(migration->host);
    bool dead = migration->active && !has_qemu(move);
    GError *whole = g_error_new(LPM_ERROR, code, "%s. Partition %s %s %s; %s", why, migration->name,
                                dead                ? "stays on"
                                : migration->active ? "runs on"
                                                    : "stays on",
                                here,
                                dead ? "its QEMU ended, start it there again"
                                     : "nothing was lost, the move can be started again");
    g_clear_error(&migration->error);
    migration->error = whole;
}

static void do_stayed(SrcMove *move)
{
    LpmMigration *migration = &move->base;
    g_autoptr(GError) error = NULL;
    if (!move->explained) {
        explain_stay(move);
        move->explained = true;
    }
    lpm_src_stop_dialing(move);
    lpm_mover_abort(migration->mover, "the move is off");
    migration->mover = NULL;
    LPM_CRASH_POINT("src", "stayed", "before");
    if (!lpm_mig_cleaned(migration, "aborted", &error)) {
        lpm_mig_note_error(migration, error);
    }
    lpm_mig_next(migration, migration->ended ? LPM_NEXT_NEVER : LPM_NEXT_LATER);
}

static void do_post(SrcMove *move)
{
    g_autoptr(GError) error = NULL;
    bool written = lpm_mig_journal(&move->base, LPM_MOB_EV_QEMU_DONE, &error);
    lpm_mig_note_error(&move->base, error);
    lpm_mig_next(&move->base, written ? LPM_NEXT_NOW : LPM_NEXT_LATER);
}

static void lost(const GError *error, void *data)
{
    SrcMove *move = data;
    LpmMigration *migration = &move->base;
    if (error) {
        lpm_mig_note_error(migration, error);
        lpm_mig_next(migration, LPM_NEXT_LATER);
    } else {
        do_stayed(move);
    }
    lpm_mig_unref(migration);
}

/* The target has refused it; QEMU cannot be brought back from post-copy. */
static void do_lost(SrcMove *move)
{
    move->ending_qemu = true;
    lpm_mig_ref(&move->base);
    lpm_partition_end_qemu(move->base.partition, "post-copy failed, and QEMU cannot go on", lost,
                           move);
}

static void qemu_ended(const GError *error, void *data)
{
    SrcMove *move = data;
    LpmMigration *migration = &move->base;
    g_autoptr(GError) failure = error ? g_error_copy(error) : NULL;
    LPM_CRASH_POINT("src", "end-qemu", "after");
    lpm_mig_detach(migration);
    g_clear_error(&migration->error); /* whatever it was: the partition has arrived */
    bool forgotten =
        !failure && (!migration->partition || lpm_partition_forget(migration->partition, &failure));
    if (forgotten) {
        LPM_CRASH_POINT("src", "forget", "after");
        g_clear_pointer(&migration->partition, lpm_partition_unref);
        lpm_src_stop_dialing(move);
        lpm_mover_finish(migration->mover);
        migration->mover = NULL;
        if (!lpm_mig_cleaned(migration, "completed", &failure)) {
            forgotten = false;
        }
    }
    if (!forgotten) {
        lpm_mig_note_error(migration, failure);
    }
    lpm_mig_next(migration, forgotten ? LPM_NEXT_NEVER : LPM_NEXT_LATER);
    lpm_mig_unref(migration);
}

/* Post-copy, and QEMU is gone before the target had everything. */
static void tell_lost(SrcMove *move)
{
    const LpmMigration *migration = &move->base;
    if (migration->postcopy && !move->given && migration->mover) {
        lpm_mover_send_peer(migration->mover, "{\"event\": \"memory-lost\"}");
    }
}

static void do_left(SrcMove *move)
{
    LpmMigration *migration = &move->base;
    tell_lost(move);
    move->ending_qemu = true;
    if (migration->phase < LPM_PHASE_N && migration->phase != LPM_PHASE_FINISH) {
        lpm_mig_enter_phase(migration, LPM_PHASE_FINISH);
    }
    LPM_CRASH_POINT("src", "end-qemu", "before");
    lpm_mig_ref(migration);
    if (!migration->partition) {
        qemu_ended(NULL, move);
        return;
    }
    g_autofree char *reason = g_strdup_printf("moved to %s", migration->peer);
    lpm_partition_end_qemu(migration->partition, reason, qemu_ended, move);
}

static void act(LpmMigration *migration, unsigned action)
{
    static void (*const actions[LPM_MOB_SRC_DO_N])(SrcMove * move) = {
        [LPM_MOB_SRC_DO_CANCEL] = do_cancel, [LPM_MOB_SRC_DO_YANK] = do_yank,
        [LPM_MOB_SRC_DO_ABORT] = do_abort,   [LPM_MOB_SRC_DO_OFFER] = do_offer,
        [LPM_MOB_SRC_DO_BACK] = do_back,     [LPM_MOB_SRC_DO_CONT] = do_cont,
        [LPM_MOB_SRC_DO_STAYED] = do_stayed, [LPM_MOB_SRC_DO_LEFT] = do_left,
        [LPM_MOB_SRC_DO_POST] = do_post,     [LPM_MOB_SRC_DO_LOST] = do_lost,
    };
    SrcMove *move = src(migration);
    g_clear_handle_id(&move->poll_timer, g_source_remove);
    if (move->ask_timer && move->started) {
        lpm_src_relink_is_off(move);
    }
    g_clear_handle_id(&move->ask_timer, g_source_remove);
    g_clear_handle_id(&move->limit_timer, g_source_remove);
    g_clear_handle_id(&move->hurry_timer, g_source_remove);
    lpm_mig_publish_always(migration, false);
    actions[action](move);
}

/* --- the operator's word --- */

/* Answers whoever gave the word, once. */
static void word_answered(SrcMove *move, const GError *error)
{
    g_clear_handle_id(&move->word_timer, g_source_remove);
    lpm_src_answer(move, error);
    lpm_mig_look(&move->base);
}

static void word_was_late(SrcMove *move)
{
    const LpmMigration *migration = &move->base;
    g_autoptr(GError) error = NULL;
    lpm_error_set(
        &error, LPM_ERROR_CONFLICT,
        "the ownership record of partition %s has changed meanwhile: %s was quicker, look "
        "again",
        migration->name, migration->peer);
    word_answered(move, error);
}

static void word_given(LpmMigration *migration, LpmArbiterResult result, const GError *error)
{
    SrcMove *move = src(migration);
    g_autoptr(GError) failure = NULL;
    if (result == LPM_ARBITER_LOST) {
        word_was_late(move);
        return;
    }
    if (error) {
        lpm_error_set(&failure, (LpmErrorCode)error->code,
                      "%s; whether partition %s was given back is not known: keep %s off, and give "
                      "the word again",
                      error->message, migration->name, migration->peer);
    }
    word_answered(move, failure);
}

static void carry_out_word(LpmMigration *migration, const GError *error);

static void ended_for_word(const GError *error, void *data)
{
    SrcMove *move = data;
    LpmMigration *migration = &move->base;
    move->word_ends_qemu = false;
    move->ending_qemu = false;
    g_clear_handle_id(&move->word_timer, g_source_remove);
    if (!move->started) {
        lpm_mig_look(migration); /* too late: nobody waits for it any more */
    } else if (error) {
        word_answered(move, error);
    } else {
        lpm_mig_read(migration, LPM_ARBITER_QUICK_MS, carry_out_word);
    }
    lpm_mig_unref(migration);
}

/* What the word says may not be true any more when QEMU ends some day. */
static gboolean ends_too_late(gpointer data)
{
    SrcMove *move = data;
    const LpmMigration *migration = &move->base;
    g_autoptr(GError) error = NULL;
    move->word_timer = 0;
    lpm_error_set(&error, LPM_ERROR_TIMEOUT,
                  "QEMU of partition %s on %s was killed and does not end: it may wait for its "
                  "disks. Nothing was given back; when it has ended, give the word again",
                  migration->name, migration->self);
    word_answered(move, error);
    return G_SOURCE_REMOVE;
}

static void end_for_word(SrcMove *move)
{
    LpmMigration *migration = &move->base;
    move->word_timer = g_timeout_add(WORD_END_MS, ends_too_late, move);
    if (!move->word_ends_qemu) {
        move->word_ends_qemu = true;
        move->ending_qemu = true;
        lpm_mig_ref(migration);
        lpm_partition_end_qemu(migration->partition, "the target had taken it and is off",
                               ended_for_word, move);
    }
}

/* Post-copy: it keeps memory for a target that has gone with the rest of it. */
static bool serves_nobody(const SrcMove *move)
{
    return move->base.postcopy && has_qemu(move) &&
           lpm_mig_record_view(&move->base) == LPM_MOB_REC_TARGET;
}

/*
 * The record was just read: what was known of it may be seconds old, and a target that has changed
 * it since (has given the partition back, or taken it) was not off. At TAKEN, the target may have
 * let it run and have written to its disks: what is here is out of date, and is ended before
 * anything may let it go on.
 */
static void carry_out_word(LpmMigration *migration, const GError *error)
{
    SrcMove *move = src(migration);
    bool taken = lpm_mig_record_view(migration) == LPM_MOB_REC_TAKEN;
    g_autoptr(GError) unread = NULL;
    if (error) {
        lpm_error_set(&unread, (LpmErrorCode)error->code,
                      "%s; nothing was given back: keep %s off, and give the word again",
                      error->message, migration->peer);
        word_answered(move, unread);
    } else if (migration->record.revision != move->word_revision) {
        word_was_late(move);
    } else if ((taken && has_qemu(move)) || serves_nobody(move)) {
        end_for_word(move);
    } else if (lpm_mig_record_view(migration) == LPM_MOB_REC_TARGET) {
        word_answered(move, NULL); /* it served nobody, and has ended */
    } else {
        lpm_mig_swap(migration, LPM_RECORD_BACK, taken ? LPM_RECORD_BY_WORD : LPM_RECORD_BY_OWNER,
                     "word", word_given);
    }
}

/* Whether the target's being off changes anything here. */
static bool word_applies(const SrcMove *move, GError **error)
{
    const LpmMigration *migration = &move->base;
    LpmMobRecordView view = lpm_mig_record_view(migration);
    bool offered = view == LPM_MOB_REC_OFFER && (!has_qemu(move) || migration->postcopy);
    /* A mover that waits for a lost link is no sign of life. */
    if (migration->mover_connected && migration->links.lost_us == 0) {
        return lpm_error_set(error, LPM_ERROR_STATE,
                             "%s still answers: it decides about partition %s", migration->peer,
                             migration->name);
    }
    if (view == LPM_MOB_REC_UNKNOWN) {
        return lpm_error_set(error, LPM_ERROR_STORAGE,
                             "the ownership record of partition %s cannot be read now, so that "
                             "nothing can be given back: look at its storage pool, keep %s off, "
                             "and give the word again",
                             migration->name, migration->peer);
    }
    if (view != LPM_MOB_REC_TAKEN && !offered && !serves_nobody(move)) {
        return lpm_error_set(error, LPM_ERROR_STATE,
                             "the ownership record of partition %s is not in the hands of %s, so "
                             "that its being off changes nothing: recover without that word",
                             migration->name, migration->peer);
    }
    if (move->started) {
        return lpm_error_set(error, LPM_ERROR_BUSY, "migration %s is being recovered",
                             migration->id);
    }
    return true;
}

void lpm_mig_src_target_off(LpmMigration *migration, const json_t *word, LpmHostDone done,
                            void *data)
{
    SrcMove *move = src(migration);
    g_autoptr(GError) error = NULL;
    if (!word_applies(move, &error) || !lpm_mig_note_word(migration, word, &error)) {
        done(error, data);
        return;
    }
    move->started = done;
    move->started_data = data;
    move->word_revision = migration->record.revision;
    lpm_mig_read(migration, LPM_ARBITER_QUICK_MS, carry_out_word);
}

/* --- life --- */

static void free_half(LpmMigration *migration)
{
    SrcMove *move = src(migration);
    g_clear_handle_id(&move->poll_timer, g_source_remove);
    g_clear_handle_id(&move->ask_timer, g_source_remove);
    g_clear_handle_id(&move->limit_timer, g_source_remove);
    g_clear_handle_id(&move->hurry_timer, g_source_remove);
    g_clear_handle_id(&move->word_timer, g_source_remove);
    lpm_src_stop_dialing(move);
    lpm_bytes_close(&move->vasi);
    lpm_channels_close(&move->channels);
    json_decref(move->addresses);
    g_free(move->key);
    g_free(move->image_key);
    g_free(move);
}

static const LpmHalfOps ops = {look, act, free_half};

LpmMigration *lpm_mig_src_new(LpmHost *host, const char *id)
{
    SrcMove *move = g_new0(SrcMove, 1);
    move->vasi = -1;
    move->memory_fd = -1;
    lpm_mig_init(&move->base, host, LPM_MOB_SRC, &ops, id);
    move->base.link.qmp_event = lpm_src_qmp_event;
    move->base.link.qmp_closed = qmp_closed;
    move->base.link.qemu_gone = qemu_gone;
    return &move->base;
}
