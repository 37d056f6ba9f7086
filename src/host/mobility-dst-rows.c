/* SPDX-License-Identifier: Apache-2.0 */
/* The target half once the rows decide: what QEMU does, and the action of each row. */
#include "host/mobility-dst.h"
#include "host/mobility-scripts.h"

#include "base/log.h"
#include "bytes/bytes.h"
#include "crash/crash.h"

#include <string.h>

enum { RECONNECT_MS = 1000, INACTIVE_GIVE_UP_MS = 60 * 1000 };

static void do_discard(DstMove *move);

static bool has_qemu(const DstMove *move)
{
    return move->base.partition && lpm_partition_has_qemu(move->base.partition);
}

/*
 * Before anything says that the partition may run here: what is only known from QEMU's last words
 * is not enough, for it may have been killed since, and the source still has it all.
 */
static bool ends_unheard(const DstMove *move)
{
    return move->base.journal == LPM_MOB_DST_LOADED &&
           lpm_partition_qemu_ends(move->base.partition);
}

/* --- what QEMU does --- */

static bool ran_here(const DstMove *move)
{
    return move->runs || move->base.journal == LPM_MOB_DST_RUNNING;
}

/* Paused is "never ran" only as long as the journal does not say running. */
static unsigned view_of(const DstMove *move, LpmQmpRunState run, LpmQmpMigStatus mig)
{
    bool loading =
        run == LPM_QMP_RUN_INMIGRATE || run == LPM_QMP_RUN_PRELAUNCH || run == LPM_QMP_RUN_UNKNOWN;
    if (!loading && lpm_qmp_mig_is_postcopy(mig)) {
        return run == LPM_QMP_RUN_PAUSED && !ran_here(move) ? LPM_MOB_DST_QEMU_HALF
                                                            : LPM_MOB_DST_QEMU_FILLING;
    }
    switch (run) {
    case LPM_QMP_RUN_INMIGRATE:
        return LPM_MOB_DST_QEMU_INCOMING;
    case LPM_QMP_RUN_PAUSED:
        if (ran_here(move)) {
            return LPM_MOB_DST_QEMU_RUNNING;
        }
        return mig == LPM_QMP_MIG_COMPLETED ? LPM_MOB_DST_QEMU_PAUSED : LPM_MOB_DST_QEMU_INCOMING;
    case LPM_QMP_RUN_PRELAUNCH:
        return LPM_MOB_DST_QEMU_INCOMING;
    case LPM_QMP_RUN_RUNNING:
    case LPM_QMP_RUN_DEBUG:
    case LPM_QMP_RUN_GUEST_PANICKED:
    case LPM_QMP_RUN_IO_ERROR:
    case LPM_QMP_RUN_SHUTDOWN:
    case LPM_QMP_RUN_SUSPENDED:
    case LPM_QMP_RUN_WATCHDOG:
    case LPM_QMP_RUN_SAVE_VM:
        return LPM_MOB_DST_QEMU_RUNNING;
    case LPM_QMP_RUN_UNKNOWN:
    case LPM_QMP_RUN_COLO:
    case LPM_QMP_RUN_FINISH_MIGRATE:
    case LPM_QMP_RUN_INTERNAL_ERROR:
    case LPM_QMP_RUN_POSTMIGRATE:
    case LPM_QMP_RUN_RESTORE_VM:
    case LPM_QMP_RUN_N:
        break;
    }
    return LPM_MOB_DST_QEMU_UNSURE;
}

/* A QEMU whose memory still comes may wait for it, and answer late. */
static unsigned no_answer(const DstMove *move)
{
    return !has_qemu(move)                                          ? LPM_MOB_DST_QEMU_DEAD
           : move->base.postcopy && ran_here(move) && !move->filled ? LPM_MOB_DST_QEMU_FILLING
                                                                    : LPM_MOB_DST_QEMU_UNSURE;
}

void lpm_dst_filling(DstMove *move, LpmQmpMigStatus status)
{
    LpmMigration *migration = &move->base;
    g_autoptr(GError) error = NULL;
    if (status == LPM_QMP_MIG_POSTCOPY_PAUSED) {
        lpm_error_set(&error, LPM_ERROR_NETWORK, "QEMU at %s has lost its connection",
                      lpm_host_name(migration->host));
        lpm_mig_link_broke(migration, error);
    } else if (lpm_qmp_mig_is_postcopy(status)) {
        lpm_mig_link_mended(migration);
    } else {
        move->filled = status == LPM_QMP_MIG_COMPLETED;
    }
}

/*
 * All is here; the mover has still to say that it is right, and the source to hear that, as well as
 * the last words of this QEMU, without which its own does not complete. Then it closes.
 */
static bool awaits_source(const DstMove *move)
{
    return move->base.postcopy && move->filled && !move->peer_closed && move->base.mover;
}

static void state_seen(const LpmQmpStatus *status, const LpmQmpMigration *mig, const GError *error,
                       void *data)
{
    DstMove *move = data;
    unsigned view = no_answer(move);
    if (has_qemu(move) && !error) {
        view = view_of(move, status->state, mig->status);
        move->base.postcopy |= view == LPM_MOB_DST_QEMU_HALF || view == LPM_MOB_DST_QEMU_FILLING;
        if (move->base.postcopy) {
            lpm_dst_filling(move, mig->status);
            move->runs |= view == LPM_MOB_DST_QEMU_FILLING;
        }
        view = awaits_source(move) ? (unsigned)LPM_MOB_DST_QEMU_FILLING : view;
    }
    lpm_mig_decide(&move->base, view);
    lpm_mig_unref(&move->base);
}

static void reconnected(const GError *error, void *data)
{
    DstMove *move = data;
    LpmQmp *qmp = qmp_of(move);
    if (error || !qmp) {
        lpm_mig_decide(&move->base, no_answer(move));
        lpm_mig_unref(&move->base);
        return;
    }
    lpm_qmp_query_state(qmp, state_seen, move);
}

/* An inactive move has no QEMU: see handover.md. */
static unsigned inactive_view(const DstMove *move)
{
    return move->base.journal >= LPM_MOB_DST_INTENT ? LPM_MOB_DST_QEMU_RUNNING
                                                    : LPM_MOB_DST_QEMU_PAUSED;
}

/* No offer came: the source will find out by its own time-out if one still comes. */
static gboolean give_up(gpointer data)
{
    DstMove *move = data;
    g_autoptr(GError) error = NULL;
    move->give_up_timer = 0;
    lpm_error_set(&error, LPM_ERROR_TIMEOUT, "%s did not offer partition %s in time",
                  move->base.peer, move->base.name);
    lpm_mig_note_error(&move->base, error);
    (void)lpm_mig_dst_discard(&move->base, NULL, NULL);
    return G_SOURCE_REMOVE;
}

/* Armed at each look, so that it holds over a restart, and after a time when nothing could be done.
 */
static void limit_waiting(DstMove *move)
{
    if (move->base.journal == LPM_MOB_DST_LOADED && move->give_up_timer == 0) {
        move->give_up_timer = g_timeout_add(INACTIVE_GIVE_UP_MS, give_up, move);
    }
}

/*
 * Whether what has come may be discarded though no row says so. The record was just read. One that
 * is only prepared can never take; of one that is loaded, the source must still be the owner. That
 * there is no record at all may also mean that the pool is not there: people know better.
 */
static bool may_be_discarded(const DstMove *move)
{
    const LpmMigration *migration = &move->base;
    bool settled = lpm_mig_record_view(migration) == LPM_MOB_REC_SOURCE ||
                   (migration->record_none && move->forced_by_word);
    return migration->journal == LPM_MOB_DST_PREPARED ||
           (migration->journal == LPM_MOB_DST_LOADED && settled);
}

/* Does what was asked for, or says why not. */
static bool discard_as_asked(DstMove *move)
{
    LpmMigration *migration = &move->base;
    if (!move->forced) {
        return false;
    }
    if (may_be_discarded(move)) {
        do_discard(move);
        return true;
    }
    LpmLogFields fields = {.migration = migration->id, .partition = migration->name};
    lpm_log_warning(&fields, "not discarded as was asked: the record says %s",
                    lpm_mob_record_view_name(lpm_mig_record_view(migration)));
    move->forced = false;
    return false;
}

/*
 * What needs no question. In post-copy QEMU may wait for memory, and a question that is not
 * answered would cost the connection, which is needed to recover: its events tell how far it is.
 */
static unsigned known_view(const DstMove *move)
{
    if (move->base.postcopy && !move->runs) {
        return LPM_MOB_DST_QEMU_HALF;
    }
    if (move->base.postcopy && (!move->filled || awaits_source(move))) {
        return LPM_MOB_DST_QEMU_FILLING;
    }
    return move->runs ? LPM_MOB_DST_QEMU_RUNNING : LPM_MOB_DST_QEMU_PAUSED;
}

static void note_phase(DstMove *move)
{
    LpmMigration *migration = &move->base;
    if (migration->postcopy && ran_here(move) && !move->filled &&
        migration->phase != LPM_PHASE_FILL &&
        lpm_mig_record_view(migration) == LPM_MOB_REC_TARGET) {
        lpm_mig_enter_phase(migration, LPM_PHASE_FILL);
    }
}

static void look(LpmMigration *migration)
{
    DstMove *move = dst(migration);
    LpmQmp *qmp = qmp_of(move);
    if (discard_as_asked(move)) {
        return;
    }
    note_phase(move);
    if (!migration->active) {
        limit_waiting(move);
        lpm_mig_decide(migration, inactive_view(move));
        return;
    }
    if (!has_qemu(move) || ends_unheard(move)) {
        lpm_mig_decide(migration, LPM_MOB_DST_QEMU_DEAD);
        return;
    }
    if (!qmp) {
        lpm_mig_decide(migration, no_answer(move));
        return;
    }
    bool good = lpm_qmp_is_open(qmp) && !lpm_qmp_is_doubtful(qmp);
    if (lpm_qmp_is_open(qmp) && move->base.postcopy && move->runs && !move->filled) {
        good = true; /* doubtful it may be */
    }
    if (good && (move->runs || move->loaded_known)) {
        lpm_mig_decide(migration, known_view(move));
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
    DstMove *move = data;
    (void)partition;
    if (move->ending_qemu) {
        return;
    }
    g_autoptr(GError) error = NULL;
    lpm_error_set(&error, LPM_ERROR_QEMU, "QEMU of partition %s on %s ended: %s", move->base.name,
                  lpm_host_name(move->base.host), reason);
    lpm_mig_ref(&move->base);
    lpm_dst_answer(move, NULL, error);
    lpm_mig_trouble_soon(&move->base, error);
    lpm_mig_unref(&move->base);
}

static void qmp_closed(LpmPartition *partition, const GError *error, void *data)
{
    DstMove *move = data;
    (void)partition;
    if (!move->ending_qemu) {
        lpm_mig_trouble_soon(&move->base, error);
    }
}

/* --- actions --- */

static void swapped(LpmMigration *migration, LpmArbiterResult result, const GError *error)
{
    (void)error;
    bool again = result == LPM_ARBITER_DONE || result == LPM_ARBITER_LOST;
    lpm_mig_next(migration, again ? LPM_NEXT_NOW : LPM_NEXT_LATER);
}

/* The source offers only after its own VERIFIED; ours is on its way then. */
static bool verify_is_open(const LpmMigration *migration)
{
    return migration->options.verify && migration->mover && !migration->verified_known;
}

static void do_take(DstMove *move)
{
    if (verify_is_open(&move->base)) {
        lpm_mig_next(&move->base, LPM_NEXT_LATER);
        return;
    }
    if (move->base.mover) {
        lpm_mover_send(move->base.mover, LPM_STREAM_GET_STATS, NULL);
    }
    lpm_mig_swap(&move->base, LPM_RECORD_TAKEN, LPM_RECORD_BY_PEER, "take", swapped);
}

static void do_loaded(DstMove *move)
{
    g_autoptr(GError) error = NULL;
    bool written = lpm_dst_half(move, &error);
    lpm_mig_note_error(&move->base, error);
    lpm_mig_next(&move->base, written ? LPM_NEXT_NOW : LPM_NEXT_LATER);
}

/*
 * Only a swap to TAKEN may be made from an offer that was merely believed: if there is none, it
 * loses whenever it arrives. BACK of a record that is settled is a swap of the table: made from a
 * lie and late, it would win, and change the record under the partition's next move.
 */
static void do_refuse(DstMove *move)
{
    if (move->base.record_believed) {
        move->base.record_known = false;
        move->base.record_fresh = false;
        lpm_mig_next(&move->base, LPM_NEXT_NOW);
        return;
    }
    lpm_mig_swap(&move->base, LPM_RECORD_BACK, LPM_RECORD_BY_PEER, "refuse", swapped);
}

static void do_return(DstMove *move)
{
    lpm_mig_swap(&move->base, LPM_RECORD_BACK, LPM_RECORD_BY_PEER, "return", swapped);
}

/* A journal entry; the record is ours meanwhile and need not be read again. */
static void write_and_go_on(DstMove *move, LpmMobEvent event)
{
    LpmMigration *migration = &move->base;
    g_autoptr(GError) error = NULL;
    bool written = lpm_mig_journal(migration, event, &error);
    lpm_mig_note_error(migration, error);
    migration->record_fresh = written;
    lpm_mig_next(migration, written ? LPM_NEXT_NOW : LPM_NEXT_LATER);
}

static void ended_unwritten(const GError *error, void *data)
{
    LpmMigration *migration = data;
    lpm_mig_note_error(migration, error);
    lpm_mig_next(migration, error ? LPM_NEXT_LATER : LPM_NEXT_NOW);
    lpm_mig_unref(migration);
}

/*
 * Where intent cannot be written (a full disk) the source, which stands still for it, has it back.
 * QEMU is ended before that: a swap to BACK whose answer is lost may still win when the next look
 * finds TAKEN and room on the disk, and what is not here any more cannot be let run then. In
 * post-copy the source could not go on without it: there it is tried again.
 */
static void intent_unwritten(DstMove *move)
{
    LpmMigration *migration = &move->base;
    if (!migration->active) {
        do_return(move);
    } else if (migration->postcopy || !migration->partition) {
        lpm_mig_next(migration, LPM_NEXT_LATER);
    } else {
        move->ending_qemu = true;
        move->loaded_known = false;
        lpm_mig_ref(migration);
        lpm_partition_end_qemu(migration->partition, "the handover cannot be written down",
                               ended_unwritten, move);
    }
}

static void do_intent(DstMove *move)
{
    g_autoptr(GError) error = NULL;
    if (!lpm_mig_journal(&move->base, LPM_MOB_EV_TAKEN, &error)) {
        lpm_mig_note_error(&move->base, error);
        intent_unwritten(move);
        return;
    }
    lpm_mig_mark(&move->base, LPM_COMMIT_INTENT);
    move->base.record_fresh = true;
    lpm_mig_next(&move->base, LPM_NEXT_NOW);
}

static void do_running(DstMove *move)
{
    write_and_go_on(move, LPM_MOB_EV_RUNS);
}

/* To the source, for the blackout: see handover.md. */
static void tell_running(DstMove *move)
{
    LpmMigration *migration = &move->base;
    int64_t resumed = move->resume_mono_us ? move->resume_mono_us
                                           : lpm_clock_monotonic_us(migration->host->clock);
    int64_t since = move->hint_mono_us ? MAX(0, resumed - move->hint_mono_us) : -1;
    if (!migration->mover) {
        return;
    }
    g_autoptr(json_t) message =
        lpm_json_pack("{s:s, s:I}", "event", "running", "since_offer_us", (json_int_t)since);
    g_autofree char *text = lpm_json_text(message);
    LPM_CRASH_POINT("dst", "tell-running", "before");
    lpm_mover_send_peer(migration->mover, text);
    LPM_CRASH_POINT("dst", "tell-running", "after");
}

/* The whole time that the partition stood still, from what the source said; -1: not known. */
static int64_t stood_us(const DstMove *move)
{
    const LpmMigration *migration = &move->base;
    int64_t resumed = move->resume_mono_us ? move->resume_mono_us
                                           : lpm_clock_monotonic_us(migration->host->clock);
    return migration->stood_us < 0 || !move->hint_mono_us
               ? -1
               : migration->stood_us + MAX(0, resumed - move->hint_mono_us);
}

static void continued(const GError *error, void *data)
{
    DstMove *move = data;
    LpmMigration *migration = &move->base;
    if (error) {
        move->loaded_known = false;
        lpm_mig_note_error(migration, error);
        lpm_mig_next(migration, LPM_NEXT_LATER);
    } else {
        LPM_CRASH_POINT("dst", "cont", "after");
        move->runs = true;
        migration->record_fresh = true;
        lpm_partition_set_state(migration->partition, LPM_PARTITION_RUNNING, NULL);
        tell_running(move);
        move->announced = true;
        lpm_partition_announce(migration->partition);
        lpm_mig_clock_arrived(migration, stood_us(move));
        lpm_mig_scripts_arrived(migration);
        lpm_mig_next(migration, LPM_NEXT_NOW);
    }
    lpm_mig_unref(migration);
}

static void do_cont(DstMove *move)
{
    LpmQmp *qmp = qmp_of(move);
    if (!qmp) {
        lpm_mig_next(&move->base, LPM_NEXT_LATER);
        return;
    }
    LPM_CRASH_POINT("dst", "cont", "before");
    lpm_mig_ref(&move->base);
    if (move->loaded_known) { /* nothing has changed it since: it need not be asked once more */
        lpm_qmp_cont_loaded(qmp, continued, move);
    } else {
        lpm_qmp_cont(qmp, LPM_QMP_RUN_PAUSED, continued, move);
    }
}

static void owned(LpmMigration *migration, LpmArbiterResult result, const GError *error)
{
    if (result == LPM_ARBITER_DONE && migration->mover) {
        LPM_CRASH_POINT("dst", "tell-run", "before");
        lpm_mover_send_hint(migration->mover, migration->record.epoch, LPM_HINT_RUN);
        LPM_CRASH_POINT("dst", "tell-run", "after");
    }
    swapped(migration, result, error);
}

static void do_own(DstMove *move)
{
    lpm_mig_swap(&move->base, LPM_RECORD_RUN, LPM_RECORD_BY_PEER, "run", owned);
}

static void gave_up_memory(LpmMigration *migration, LpmArbiterResult result, const GError *error)
{
    if (result == LPM_ARBITER_DONE && migration->mover) {
        lpm_mover_send_hint(migration->mover, migration->record.epoch, LPM_HINT_BACK);
    }
    swapped(migration, result, error);
}

/*
 * Post-copy, and the source keeps memory that nobody will ask for: QEMU is gone here, or the movers
 * ended before the source's QEMU could hear that all has come.
 */
static bool must_tell_source(const DstMove *move)
{
    const LpmMigration *migration = &move->base;
    return migration->postcopy && !(move->filled && move->peer_closed) && migration->record_known &&
           migration->record.state == LPM_RECORD_RUN;
}

static void do_arrived(DstMove *move)
{
    LpmMigration *migration = &move->base;
    g_autoptr(GError) error = NULL;
    if (must_tell_source(move)) {
        lpm_mig_swap(migration, LPM_RECORD_BACK, LPM_RECORD_BY_OWNER, "unfilled", gave_up_memory);
        return;
    }
    if (migration->phase != LPM_PHASE_FINISH) {
        lpm_mig_enter_phase(migration, LPM_PHASE_FINISH);
    }
    if (has_qemu(move) && !move->announced) {
        lpm_partition_announce(migration->partition); /* lpm-host was started anew meanwhile */
    }
    LPM_CRASH_POINT("dst", "keep", "before");
    bool kept = migration->partition && lpm_partition_keep(migration->partition, &error);
    LPM_CRASH_POINT("dst", "keep", "after");
    if (kept) {
        lpm_mover_finish(migration->mover);
        migration->mover = NULL;
        if (!move->keep_error) {
            g_clear_error(&migration->error); /* whatever it was: the partition has arrived */
        }
        kept = lpm_mig_cleaned(migration, "completed", &error);
    }
    lpm_mig_note_error(migration, error);
    lpm_mig_next(migration, kept ? LPM_NEXT_NEVER : LPM_NEXT_LATER);
}

static void qemu_ended(const GError *error, void *data)
{
    DstMove *move = data;
    LpmMigration *migration = &move->base;
    g_autoptr(GError) failure = error ? g_error_copy(error) : NULL;
    LPM_CRASH_POINT("dst", "end-qemu", "after");
    lpm_mig_detach(migration);
    bool done =
        !failure && (!migration->partition || lpm_partition_forget(migration->partition, &failure));
    if (done) {
        g_clear_pointer(&migration->partition, lpm_partition_unref);
        g_autoptr(GError) off = NULL;
        lpm_error_set(&off, LPM_ERROR_ABORTED,
                      "the move is off; partition %s belongs to %s as before", migration->name,
                      migration->peer);
        lpm_dst_answer(move, NULL, migration->error ? migration->error : off);
        lpm_mig_note_error(migration, off);
        done = lpm_mig_cleaned(migration, "aborted", &failure);
    }
    lpm_mig_note_error(migration, failure);
    lpm_mig_next(migration, done ? LPM_NEXT_NEVER : LPM_NEXT_LATER);
    lpm_mig_unref(migration);
}

static void do_discard(DstMove *move)
{
    LpmMigration *migration = &move->base;
    if (migration->partition && migration->partition->activation) {
        /* Its start cannot be called back: a QEMU that comes after this would be nobody's. */
        lpm_mig_next(migration, LPM_NEXT_LATER);
        return;
    }
    move->ending_qemu = true;
    move->loaded_known = false;
    const char *reason = migration->error ? migration->error->message : "the move is off";
    lpm_mover_abort(migration->mover, reason);
    migration->mover = NULL;
    LPM_CRASH_POINT("dst", "end-qemu", "before");
    lpm_mig_ref(migration);
    if (!migration->partition) {
        qemu_ended(NULL, move);
        return;
    }
    lpm_partition_end_qemu(migration->partition, "the move is off", qemu_ended, move);
}

static void ended_for_loss(const GError *error, void *data)
{
    LpmMigration *migration = data;
    lpm_mig_note_error(migration, error);
    lpm_mig_look(migration);
    lpm_mig_unref(migration);
}

void lpm_dst_lost(DstMove *move, const char *why)
{
    LpmMigration *migration = &move->base;
    if (move->keep_error || !migration->partition) {
        return;
    }
    g_clear_error(&migration->error);
    g_autoptr(GError) error = NULL;
    lpm_error_set(&error, LPM_ERROR_ABORTED,
                  "memory of partition %s that was still at %s is lost (%s): it cannot go on. It "
                  "belongs to %s; start it there from its disks",
                  migration->name, migration->peer, why, migration->self);
    lpm_mig_note_error(migration, error);
    move->keep_error = true;
    move->ending_qemu = true;
    lpm_mig_ref(migration);
    lpm_partition_end_qemu(migration->partition, "memory lost in post-copy", ended_for_loss, move);
}

static void act(LpmMigration *migration, unsigned action)
{
    static void (*const actions[LPM_MOB_DST_DO_N])(DstMove * move) = {
        [LPM_MOB_DST_DO_TAKE] = do_take,       [LPM_MOB_DST_DO_REFUSE] = do_refuse,
        [LPM_MOB_DST_DO_INTENT] = do_intent,   [LPM_MOB_DST_DO_CONT] = do_cont,
        [LPM_MOB_DST_DO_RUNNING] = do_running, [LPM_MOB_DST_DO_OWN] = do_own,
        [LPM_MOB_DST_DO_RETURN] = do_return,   [LPM_MOB_DST_DO_DISCARD] = do_discard,
        [LPM_MOB_DST_DO_ARRIVED] = do_arrived, [LPM_MOB_DST_DO_LOADED] = do_loaded,
    };
    g_clear_handle_id(&dst(migration)->give_up_timer, g_source_remove);
    actions[action](dst(migration));
}

bool lpm_mig_dst_source_off(LpmMigration *migration, const json_t *word, GError **error)
{
    DstMove *move = dst(migration);
    if (migration->journal != LPM_MOB_DST_RUNNING ||
        lpm_mig_record_view(migration) != LPM_MOB_REC_TARGET || !lpm_mig_wants_relink(migration) ||
        move->filled) {
        return lpm_error_set(error, LPM_ERROR_STATE,
                             "partition %s does not wait at %s for memory of %s, so that its being "
                             "off changes nothing: recover without that word",
                             migration->name, migration->self, migration->peer);
    }
    if (!lpm_mig_note_word(migration, word, error)) {
        return false;
    }
    lpm_dst_lost(move, "it is off, by the word that was given");
    return true;
}

bool lpm_mig_dst_discard(LpmMigration *migration, const json_t *word, GError **error)
{
    DstMove *move = dst(migration);
    LpmMobRecordView view = lpm_mig_record_view(migration);
    bool early =
        migration->journal == LPM_MOB_DST_PREPARED ||
        (migration->journal == LPM_MOB_DST_LOADED &&
         (view == LPM_MOB_REC_SOURCE || (view == LPM_MOB_REC_UNKNOWN && migration->record_none)));
    if (!early) {
        return lpm_error_set(
            error, LPM_ERROR_STATE,
            "migration %s of partition %s: what has come is discarded only before the source has "
            "offered it; recover without that word",
            migration->id, migration->name);
    }
    if (word && !lpm_mig_note_word(migration, word, error)) {
        return false;
    }
    move->forced = true;
    move->forced_by_word |= word != NULL;
    migration->record_fresh = false;
    lpm_mig_look(migration);
    return true;
}

/* --- life --- */

static void free_half(LpmMigration *migration)
{
    DstMove *move = dst(migration);
    g_clear_handle_id(&move->give_up_timer, g_source_remove);
    g_clear_handle_id(&move->ask_timer, g_source_remove);
    lpm_bytes_close(&move->vasi);
    lpm_channels_close(&move->channels);
    lpm_listeners_close(&move->listeners);
    g_free(move->key);
    g_free(move->image_key);
    g_free(move);
}

static const LpmHalfOps ops = {look, act, free_half};

LpmMigration *lpm_mig_dst_new(LpmHost *host, const char *id)
{
    DstMove *move = g_new0(DstMove, 1);
    move->vasi = -1;
    lpm_mig_init(&move->base, host, LPM_MOB_DST, &ops, id);
    move->base.link.qmp_event = lpm_dst_qmp_event;
    move->base.link.qmp_closed = qmp_closed;
    move->base.link.qemu_gone = qemu_gone;
    return &move->base;
}
