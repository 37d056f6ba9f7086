/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop of both halves: read the record, ask QEMU, take the one row that applies, look again.
 * There is no other recovery code: a restart of lpm-host, a failure and an operator's request all
 * end here.
 */
#include "host/migration.h"

#include "base/log.h"
#include "crash/crash.h"

#include <string.h>

static LpmLogFields fields_of(const LpmMigration *migration)
{
    return (LpmLogFields){.migration = migration->id, .partition = migration->name};
}

/* --- record --- */

LpmMobRecordView lpm_mig_record_view(const LpmMigration *migration)
{
    const LpmRecord *record = migration->record_known ? &migration->record : NULL;
    bool src = migration->side == LPM_MOB_SRC;
    LpmRecordHalf half = {
        .side = (LpmMobMachine)migration->side,
        .source = lpm_mig_source_name(migration),
        .target = src ? migration->peer : migration->self,
        .move = migration->id_bytes,
        .revision = migration->base_revision,
        .epoch = migration->base_epoch,
    };
    return lpm_record_view_at(record, &half);
}

static void note_record(LpmMigration *migration, const LpmRecord *now)
{
    /* A read that was overtaken by a swap tells what was before. */
    if (now && migration->record_known && now->revision > 0 &&
        now->revision < migration->record.revision) {
        return;
    }
    migration->record_believed = false;
    migration->record_none = now && now->revision == 0;
    migration->record_known = now && now->revision > 0;
    if (migration->record_known) {
        migration->record = *now;
    }
}

/* An offer that was only believed has a higher revision than the record which a lost swap tells. */
static void forget_belief(LpmMigration *migration, const LpmRecord *now)
{
    if (now->revision < migration->record.revision) {
        migration->record_known = false;
    }
}

typedef struct {
    LpmMigration *migration; /* a reference */
    int64_t asked_us;
    LpmReadDone read_done;
    LpmSwapDone swap_done;
    const char *what;
} RecordCall;

static void read_answered(LpmArbiterResult result, const LpmRecord *now, const GError *error,
                          void *data)
{
    g_autofree RecordCall *call = data;
    (void)result;
    g_autoptr(GError) missing = NULL;
    note_record(call->migration, now);
    call->migration->arbiter_reads--;
    if (!error) {
        int64_t now_us = lpm_clock_monotonic_us(call->migration->host->clock);
        call->migration->arbiter_ok_us = now_us;
        call->migration->arbiter_took_us = now_us - call->asked_us;
    }
    if (!error && !call->migration->record_known) {
        lpm_error_set(&missing, LPM_ERROR_NOT_FOUND,
                      "there is no ownership record of partition %s at %s; both systems must see "
                      "the same storage pool",
                      call->migration->name, call->migration->arbiter->where);
    }
    call->read_done(call->migration, error ? error : missing);
    lpm_mig_unref(call->migration);
}

void lpm_mig_read(LpmMigration *migration, unsigned deadline_ms, LpmReadDone done)
{
    RecordCall *call = g_new0(RecordCall, 1);
    call->migration = lpm_mig_ref(migration);
    call->read_done = done;
    call->asked_us = lpm_clock_monotonic_us(migration->host->clock);
    migration->arbiter_reads++;
    lpm_arbiter_read(migration->arbiter, deadline_ms, read_answered, call);
}

static const char *side_word(const LpmMigration *migration)
{
    return migration->side == LPM_MOB_SRC ? "src" : "dst";
}

static void swap_answered(LpmArbiterResult result, const LpmRecord *now, const GError *error,
                          void *data)
{
    g_autofree RecordCall *call = data;
    LpmMigration *migration = call->migration;
    LpmLogFields fields = fields_of(migration);
    if (result == LPM_ARBITER_LOST) {
        forget_belief(migration, now);
    }
    note_record(migration, now);
    if (result == LPM_ARBITER_DONE) {
        LPM_CRASH_POINT(side_word(migration), call->what, "after");
        if (now->state == LPM_RECORD_OFFER || now->state == LPM_RECORD_TAKEN) {
            lpm_mig_mark(migration,
                         now->state == LPM_RECORD_OFFER ? LPM_COMMIT_OFFERED : LPM_COMMIT_TAKEN);
        }
        lpm_log_info(&fields, "record: %s (revision %" G_GUINT64_FORMAT ")",
                     lpm_record_state_name(now->state), now->revision);
    } else {
        lpm_log_warning(&fields, "swap \"%s\": %s", call->what,
                        error ? error->message : "lost, somebody else was quicker");
    }
    migration->record_fresh = result != LPM_ARBITER_UNKNOWN;
    call->swap_done(migration, result, error);
    lpm_mig_unref(migration);
}

void lpm_mig_swap(LpmMigration *migration, LpmRecordState to, LpmRecordBy by, const char *what,
                  LpmSwapDone done)
{
    LpmRecord next;
    uint64_t now_us = (uint64_t)lpm_clock_realtime_us(migration->host->clock);
    if (!migration->record_known ||
        !lpm_record_next(&migration->record, to, by, migration->id_bytes, migration->peer, now_us,
                         &next)) {
        done(migration, LPM_ARBITER_LOST, NULL);
        return;
    }
    RecordCall *call = g_new0(RecordCall, 1);
    call->migration = lpm_mig_ref(migration);
    call->swap_done = done;
    call->what = what;
    LPM_CRASH_POINT(side_word(migration), what, "before");
    lpm_arbiter_swap(migration->arbiter, migration->record.revision, &next, LPM_ARBITER_QUICK_MS,
                     swap_answered, call);
}

void lpm_mig_believe_offer(LpmMigration *migration)
{
    LpmRecord offer;
    if (lpm_mig_record_view(migration) == LPM_MOB_REC_SOURCE &&
        lpm_record_next(&migration->record, LPM_RECORD_OFFER, LPM_RECORD_BY_OWNER,
                        migration->id_bytes, migration->self, migration->record.changed_us,
                        &offer)) {
        migration->record = offer;
        migration->record_fresh = true;
        migration->record_believed = true;
    }
}

bool lpm_mig_arbiter_is_quick(const LpmMigration *migration)
{
    int64_t age = lpm_clock_monotonic_us(migration->host->clock) - migration->arbiter_ok_us;
    return migration->arbiter_ok_us > 0 && age < LPM_MIG_JUST_NOW_MS * 1000 &&
           migration->arbiter_took_us < LPM_MIG_QUICK_ANSWER_MS * 1000 &&
           migration->arbiter_reads == 0;
}

/* --- the loop --- */

static void record_read(LpmMigration *migration, const GError *error)
{
    LpmLogFields fields = fields_of(migration);
    if (error && migration->looks == 0) {
        lpm_log_warning(&fields, "the record cannot be read: %s", error->message);
    }
    migration->ops->look(migration);
}

/* A settled record is changed by its owner only: until post, the source need not ask what it did
 * itself. */
static bool is_ours_to_know(const LpmMigration *migration)
{
    return migration->side == LPM_MOB_SRC && migration->journal < LPM_MOB_SRC_POST &&
           lpm_mig_record_view(migration) == LPM_MOB_REC_SOURCE;
}

void lpm_mig_look(LpmMigration *migration)
{
    if (migration->ended) {
        return;
    }
    if (migration->looking) {
        migration->look_again = true;
        return;
    }
    migration->looking = true;
    migration->look_again = false;
    migration->rows = true;
    g_clear_handle_id(&migration->look_timer, g_source_remove);
    lpm_mig_ref(migration);
    if (!migration->arbiter && !lpm_mobility_find_parts(migration, NULL)) {
        if (migration->attached && !migration->damaged) {
            migration->ops->look(migration); /* the record is unknown */
        } else {
            lpm_mig_next(migration, LPM_NEXT_LATER);
        }
    } else if (migration->record_fresh || is_ours_to_know(migration)) {
        migration->record_fresh = false;
        migration->ops->look(migration);
    } else {
        lpm_mig_read(migration, LPM_ARBITER_DEADLINE_MS, record_read);
    }
}

/* A patient row whose time has not come yet. */
static bool too_early(const LpmMigration *migration, const LpmMobRow *row)
{
    return row->patient &&
           lpm_clock_monotonic_us(migration->host->clock) < migration->patient_until_us;
}

static void log_row(LpmMigration *migration, const LpmMobRow *row, LpmMobRecordView view,
                    unsigned qemu)
{
    if (row == migration->last_row || too_early(migration, row)) {
        return;
    }
    migration->last_row = row;
    migration->looks = 0;
    LpmLogFields fields = fields_of(migration);
    lpm_log_info(&fields, "journal %s, record %s, QEMU %s: %s%s%s",
                 lpm_mob_state_name(migration->side, migration->journal),
                 lpm_mob_record_view_name(view), lpm_mob_qemu_name(migration->side, qemu),
                 lpm_mob_action_text(migration->side, row->action), row->why[0] ? "; " : "",
                 row->why);
    lpm_mig_publish(migration);
}

/* Rows that the loop itself takes. */
static bool common_action(LpmMigration *migration, const LpmMobRow *row, LpmMobRecordView view,
                          unsigned qemu)
{
    bool src = migration->side == LPM_MOB_SRC;
    unsigned wait = src ? (unsigned)LPM_MOB_SRC_DO_WAIT : (unsigned)LPM_MOB_DST_DO_WAIT;
    unsigned nothing = src ? (unsigned)LPM_MOB_SRC_DO_NOTHING : (unsigned)LPM_MOB_DST_DO_NOTHING;
    unsigned report = src ? (unsigned)LPM_MOB_SRC_DO_REPORT : (unsigned)LPM_MOB_DST_DO_REPORT;
    if (row->action == report) {
        g_autoptr(GError) error = NULL;
        lpm_error_set(&error, LPM_ERROR_INTERNAL,
                      "partition %s: journal \"%s\", record \"%s\" and QEMU \"%s\" cannot be "
                      "together (%s); nothing was changed. Look at the partition on both systems",
                      migration->name, lpm_mob_state_name(migration->side, migration->journal),
                      lpm_mob_record_view_name(view), lpm_mob_qemu_name(migration->side, qemu),
                      row->why);
        lpm_mig_note_error(migration, error);
    }
    if (row->action == nothing) {
        lpm_mig_next(migration, LPM_NEXT_NEVER);
    } else if (row->action == wait || row->action == report || too_early(migration, row)) {
        lpm_mig_next(migration, LPM_NEXT_LATER);
    } else {
        return false;
    }
    return true;
}

void lpm_mig_decide(LpmMigration *migration, unsigned qemu)
{
    LpmMobRecordView view = lpm_mig_record_view(migration);
    const LpmMobRow *row =
        migration->side == LPM_MOB_SRC
            ? lpm_mob_src_decide((LpmMobSrcJournal)migration->journal, view, (LpmMobSrcQemu)qemu)
            : lpm_mob_dst_decide((LpmMobDstJournal)migration->journal, view, (LpmMobDstQemu)qemu);
    bool news = !migration->seen || migration->seen_view != view || migration->seen_qemu != qemu;
    bool same_row = row == migration->last_row;
    migration->seen = true;
    migration->seen_view = view;
    migration->seen_qemu = qemu;
    log_row(migration, row, view, qemu);
    if (news && same_row) {
        lpm_mig_publish(migration); /* a new row tells of itself */
    }
    if (!common_action(migration, row, view, qemu)) {
        migration->ops->act(migration, row->action);
    }
}

static gboolean look_timer(gpointer data)
{
    LpmMigration *migration = data;
    migration->look_timer = 0;
    lpm_mig_look(migration);
    return G_SOURCE_REMOVE;
}

void lpm_mig_look_soon(LpmMigration *migration)
{
    migration->rows = true;
    if (!migration->ended && !migration->looking && migration->look_timer == 0) {
        migration->look_timer = g_timeout_add(LPM_MIG_LOOK_MS, look_timer, migration);
    }
}

void lpm_mig_next(LpmMigration *migration, LpmNext next)
{
    bool again = migration->look_again;
    migration->looking = false;
    migration->look_again = false;
    if (migration->ended || next == LPM_NEXT_NEVER) {
        lpm_mig_unref(migration);
        return;
    }
    if (next == LPM_NEXT_NOW || again) {
        lpm_mig_look(migration);
        lpm_mig_unref(migration);
        return;
    }
    unsigned delay =
        migration->looks++ < LPM_MIG_QUICK_LOOKS ? LPM_MIG_LOOK_MS : LPM_MIG_SLOW_LOOK_MS;
    g_clear_handle_id(&migration->look_timer, g_source_remove);
    migration->look_timer = g_timeout_add(delay, look_timer, migration);
    lpm_mig_unref(migration);
}

void lpm_mig_note_error(LpmMigration *migration, const GError *error)
{
    LpmLogFields fields = fields_of(migration);
    if (!error) {
        return;
    }
    if (migration->error) {
        if (migration->looks <= 1) { /* not again and again while it waits */
            lpm_log_warning(&fields, "besides: %s", error->message);
        }
        return;
    }
    migration->error = g_error_copy(error);
    lpm_log_error(&fields, "%s", error->message);
    lpm_mig_publish(migration);
}

void lpm_mig_trouble(LpmMigration *migration, const GError *error)
{
    if (migration->ended) {
        return;
    }
    lpm_mig_note_error(migration, error);
    lpm_mig_look(migration);
}

static gboolean told_later(gpointer data)
{
    LpmMigration *migration = data;
    g_autoptr(GError) error = g_steal_pointer(&migration->later_error);
    migration->later_timer = 0;
    lpm_mig_trouble(migration, error);
    return G_SOURCE_REMOVE;
}

void lpm_mig_trouble_soon(LpmMigration *migration, const GError *error)
{
    if (migration->ended || migration->error || !lpm_mover_is_alive(migration->mover)) {
        lpm_mig_trouble(migration, error);
    } else if (migration->later_timer == 0) {
        migration->later_error = g_error_copy(error);
        migration->later_timer = g_timeout_add(LPM_MIG_EXPLAIN_MS, told_later, migration);
    }
}

void lpm_mig_link_broke(LpmMigration *migration, const GError *error)
{
    const char *source = lpm_mig_source_name(migration);
    const char *target = migration->side == LPM_MOB_SRC ? migration->peer : migration->self;
    g_autoptr(GError) whole = NULL;
    if (migration->link_broken) {
        return;
    }
    migration->link_broken = true;
    lpm_error_set(&whole, LPM_ERROR_NETWORK,
                  "post-copy of partition %s stands still: %s. Some of its memory is still at %s "
                  "only, and the partition at %s waits for it. Switch neither system off; connect "
                  "them again with \"lpm migration recover %s\"",
                  migration->name, error->message, source, target, migration->id);
    lpm_mig_note_error(migration, whole);
    lpm_mig_publish(migration);
}

void lpm_mig_link_mended(LpmMigration *migration)
{
    LpmLogFields fields = fields_of(migration);
    if (!migration->link_broken) {
        return;
    }
    migration->link_broken = false;
    g_clear_error(&migration->error);
    lpm_log_info(&fields, "post-copy goes on");
    lpm_mig_publish(migration);
}

bool lpm_mig_wants_relink(const LpmMigration *migration)
{
    return migration->postcopy && !migration->ended &&
           (migration->link_broken || !migration->mover || migration->links.lost_us > 0);
}
