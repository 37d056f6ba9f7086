/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source half while it copies: looks at QEMU, the mover and the arbiter, and does what
 * convergence.c makes of it.
 */
#include "base/log.h"
#include "bytes/bytes.h"
#include "crash/crash.h"
#include "host/mobility-src.h"

#include <string.h>

enum {
    POLL_MS = 250,
    ARBITER_EVERY = 4,         /* polls between two looks at the arbiter */
    DOWNTIME_HOLD_MS = 1,      /* no switchover while the arbiter or the target does not answer */
    COMMIT_ESTIMATE_MS = 25,   /* device state, LOADED, two swaps and a journal entry */
    RATE_SPAN_US = 500 * 1000, /* over which the wire's rate is measured */
};
#define BANDWIDTH_UNLIMITED (UINT64_C(1) << 40)
#define RATE_HOLD           INT64_C(40960) /* less at a time than the least that can be pending */
#define US_PER_MS           1000

static LpmLogFields fields_of(const SrcMove *move)
{
    return (LpmLogFields){.migration = move->base.id, .partition = move->base.name};
}

static bool off_course(const SrcMove *move)
{
    return move->base.rows || move->base.ended;
}

static LpmQmp *qmp_of(const SrcMove *move)
{
    return move->base.partition ? move->base.partition->qmp : NULL;
}

/* --- what QEMU is told --- */

static void ignore(const GError *error, void *data)
{
    (void)error;
    lpm_mig_unref(data);
}

void lpm_src_set_parameter(SrcMove *move, const char *name, int64_t value)
{
    const LpmQmpParameter wanted[] = {{name, value, false}, {NULL}};
    lpm_mig_ref(&move->base);
    lpm_qmp_set_parameters(qmp_of(move), wanted, ignore, move);
}

static void tell_limit(SrcMove *move)
{
    bool hold = move->holding || move->base.links.lost_us > 0;
    int64_t limit = hold ? DOWNTIME_HOLD_MS : move->base.convergence.limit_ms;
    if (limit != move->told_ms) {
        move->told_ms = limit;
        lpm_src_set_parameter(move, "downtime-limit", limit);
    }
}

static void tell_rate(SrcMove *move, uint64_t rate)
{
    if (rate != move->qemu_rate) {
        move->qemu_rate = rate;
        lpm_src_copy_link(move);
    }
}

/*
 * The sockets and the mover may have room for all that is left, and QEMU would stop the partition
 * for a target that does not hear it: at this rate it has never given everything.
 */
void lpm_src_copy_link(SrcMove *move)
{
    bool lost = move->base.links.lost_us > 0;
    if (move->poll_timer == 0 || off_course(move) || !qmp_of(move)) {
        return;
    }
    tell_limit(move);
    lpm_src_set_parameter(move, "max-bandwidth", lost ? RATE_HOLD : (int64_t)move->qemu_rate);
}

/* Too long without an answer means that the commit would be slow, too: copy on meanwhile. */
static void arbiter_answered(LpmMigration *migration, const GError *error)
{
    SrcMove *move = (SrcMove *)migration;
    bool hold = error != NULL;
    if (off_course(move) || migration->journal != LPM_MOB_SRC_PRECOPY || hold == move->holding) {
        return;
    }
    LpmLogFields fields = fields_of(move);
    lpm_log_warning(&fields, "switchover %s: %s", hold ? "held back" : "allowed again",
                    hold ? error->message : "the arbiter answers");
    move->holding = hold;
    tell_limit(move);
}

/* --- convergence --- */

static char *advice_text(const LpmMigration *migration)
{
    LpmConvergenceRules rules = lpm_move_rules(&migration->options);
    char advice[LPM_CONVERGENCE_ADVICE][LPM_CONVERGENCE_ADVICE_SIZE];
    size_t n = lpm_convergence_advice(&migration->convergence, &rules,
                                      (uint64_t)migration->options.max_rate, advice);
    g_autoptr(GString) text = g_string_new(NULL);
    for (size_t i = 0; i < n; i++) {
        g_string_append_printf(text, "%s%s", i > 0 ? "; " : "", advice[i]);
    }
    return g_strdup(text->str);
}

/* A verdict that has changed is told at once, not only with the next status. */
static void tell_verdict(SrcMove *move, LpmConvergenceState before)
{
    LpmMigration *migration = &move->base;
    LpmConvergenceState now = migration->convergence.state;
    LpmLogFields fields = fields_of(move);
    if (now == before) {
        return;
    }
    if (now == LPM_CONVERGENCE_NONE) {
        g_autofree char *advice = advice_text(migration);
        lpm_log_warning(&fields, "the copy does not converge; what would help: %s", advice);
    } else if (before == LPM_CONVERGENCE_NONE) {
        lpm_log_info(&fields, "the copy converges again");
    }
    lpm_mig_publish(migration);
}

static void give_up(SrcMove *move)
{
    LpmMigration *migration = &move->base;
    g_autoptr(GError) error = NULL;
    g_autofree char *advice = advice_text(migration);
    lpm_error_set(&error, LPM_ERROR_ABORTED,
                  "the copy of partition %s has not converged for %" G_GINT64_FORMAT
                  " s and was given up (--give-up-after); what would help: %s",
                  migration->name, migration->options.give_up_after_s, advice);
    lpm_mig_trouble(migration, error);
}

/*
 * What arrives, over a few seconds: what QEMU and the mover take comes in bursts as big as the
 * mover's window, and the target is handed whole batches.
 */
static uint64_t measured_rate(SrcMove *move)
{
    const LpmStreamStats *stats = &move->base.stats;
    int64_t now_us = lpm_clock_monotonic_us(move->base.host->clock);
    unsigned last = (move->n_arrived + LPM_SRC_ARRIVED - 1) % LPM_SRC_ARRIVED;
    if (move->n_arrived == 0 || now_us - move->arrived[last].at_us >= POLL_MS * US_PER_MS / 2) {
        last = move->n_arrived++ % LPM_SRC_ARRIVED;
        move->arrived[last].at_us = now_us;
        move->arrived[last].acked = stats->acked;
    }
    unsigned first = move->n_arrived > LPM_SRC_ARRIVED ? move->n_arrived % LPM_SRC_ARRIVED : 0;
    int64_t span_us = now_us - move->arrived[first].at_us;
    uint64_t came = stats->acked - move->arrived[first].acked;
    if (span_us >= RATE_SPAN_US && came > 0) {
        move->rate = came * G_USEC_PER_SEC / (uint64_t)span_us;
    }
    return move->rate > 0 ? move->rate : stats->rate_out;
}

static LpmConvergenceSample sample_of(SrcMove *move, const LpmQmpMigration *mig)
{
    const LpmMigration *migration = &move->base;
    const LpmStreamStats *stats = &migration->stats;
    int64_t now_us = lpm_clock_monotonic_us(migration->host->clock);
    return (LpmConvergenceSample){
        .now_ms = (now_us - move->copy_mono_us) / US_PER_MS,
        .pass = mig->dirty_sync_count,
        .remaining = mig->remaining,
        .dirty_rate = mig->dirty_pages_rate * mig->page_size,
        .rate = measured_rate(move),
        .in_flight = stats->stream_out > stats->acked ? stats->stream_out - stats->acked : 0,
        .overhead_ms = COMMIT_ESTIMATE_MS + migration->round_trip_us / US_PER_MS,
        .qemu_expects_ms = mig->expected_downtime_ms,
        .throttle = (unsigned)mig->throttle_percent,
    };
}

/* QEMU's own limit must not be what a stream that gets smaller on its way waits for. */
static void adapt_rate(SrcMove *move)
{
    const LpmStreamStats *stats = &move->base.stats;
    int64_t now_us = lpm_clock_monotonic_us(move->base.host->clock);
    int64_t span_us = now_us - move->then_us;
    if (move->then_us > 0 && span_us < RATE_SPAN_US) {
        return;
    }
    if (move->then_us > 0) {
        uint64_t wire = (stats->wire_out - move->wire_then) * G_USEC_PER_SEC / (uint64_t)span_us;
        uint64_t stream =
            (stats->stream_out - move->stream_then) * G_USEC_PER_SEC / (uint64_t)span_us;
        tell_rate(move, lpm_convergence_qemu_rate(
                            move->qemu_rate, (uint64_t)move->base.options.max_rate, stream, wire));
    }
    move->then_us = now_us;
    move->wire_then = stats->wire_out;
    move->stream_then = stats->stream_out;
}

/* What the first pass has cost tells what is written meanwhile from what was there before. */
static void note_first_pass(LpmMigration *migration, int64_t now_ms)
{
    if (migration->first_pass.ms == 0 && migration->convergence.passes > 0) {
        migration->first_pass.ms = MAX(now_ms, 1);
        migration->first_pass.stream = migration->stats.stream_out;
        migration->first_pass.wire = migration->stats.wire_out;
    }
}

static void note_progress(SrcMove *move, const LpmQmpMigration *mig)
{
    LpmMigration *migration = &move->base;
    LpmConvergence *convergence = &migration->convergence;
    if (migration->links.lost_us > 0) { /* what does not move now says nothing of the copy */
        migration->eta_ms = -1;
        move->then_us = 0;
        move->n_arrived = 0;
        return;
    }
    LpmConvergenceRules rules = lpm_move_rules(&migration->options);
    LpmConvergenceSample sample = sample_of(move, mig);
    LpmConvergenceState before = convergence->state;
    lpm_convergence_feed(convergence, &rules, &sample);
    note_first_pass(migration, sample.now_ms);
    migration->total_bytes = mig->total;
    migration->remaining_bytes = mig->remaining;
    migration->dirty_rate_bytes = sample.dirty_rate;
    migration->passes = mig->dirty_sync_count;
    migration->predicted_blackout_ms = convergence->predicted_ms;
    migration->eta_ms = convergence->eta_ms;
    tell_limit(move);
    adapt_rate(move);
    tell_verdict(move, before);
    if (lpm_convergence_go_postcopy(convergence, &rules)) {
        lpm_src_go_postcopy(move);
    } else if (lpm_convergence_give_up(convergence, &rules)) {
        give_up(move);
    }
}

/* --- looking --- */

static void polled(const LpmQmpMigration *mig, const GError *error, void *data)
{
    SrcMove *move = data;
    move->polling = false;
    if (!off_course(move)) {
        if (error) {
            lpm_mig_trouble(&move->base, error);
        } else if (mig->status == LPM_QMP_MIG_ACTIVE) {
            note_progress(move, mig);
        }
    }
    lpm_mig_unref(&move->base);
}

void lpm_src_copy_look(SrcMove *move)
{
    LpmQmp *qmp = qmp_of(move);
    if (move->poll_timer == 0 || off_course(move) || move->polling || !qmp ||
        lpm_qmp_last_migration(qmp) != LPM_QMP_MIG_ACTIVE) {
        return;
    }
    move->polling = true;
    lpm_mig_ref(&move->base);
    lpm_qmp_query_migrate(qmp, polled, move);
}

static gboolean poll(gpointer data)
{
    SrcMove *move = data;
    if (off_course(move) || !qmp_of(move)) {
        move->poll_timer = 0;
        return G_SOURCE_REMOVE;
    }
    lpm_src_copy_look(move);
    if (move->polling && move->polls++ % ARBITER_EVERY == 0) {
        lpm_mig_read(&move->base, LPM_ARBITER_QUICK_MS, arbiter_answered);
    }
    return G_SOURCE_CONTINUE;
}

/* --- beginning --- */

static void migrating(const GError *error, void *data)
{
    SrcMove *move = data;
    if (error && !off_course(move)) {
        lpm_mig_trouble(&move->base, error);
    }
    lpm_mig_unref(&move->base);
}

static void parameters_set(const GError *error, void *data)
{
    SrcMove *move = data;
    LpmMigration *migration = &move->base;
    g_autoptr(GError) failure = NULL;
    if (off_course(move)) {
        lpm_mig_unref(migration);
        return;
    }
    g_autofree char *uri = NULL;
    bool several = migration->options.channels > 0;
    if (error || (several && !(uri = lpm_channels_listen(&move->channels, migration, &failure))) ||
        !lpm_mig_journal(migration, LPM_MOB_EV_CONNECTED, &failure)) {
        lpm_mig_trouble(migration, error ? error : failure);
        lpm_mig_unref(migration);
        return;
    }
    move->copy_mono_us = lpm_clock_monotonic_us(migration->host->clock);
    migration->copied = true;
    lpm_mig_enter_phase(migration, LPM_PHASE_COPY);
    lpm_mig_publish_always(migration, true);
    move->poll_timer = g_timeout_add(POLL_MS, poll, move);
    if (migration->links.lost_us > 0) {
        lpm_src_copy_link(move);
    }
    LPM_CRASH_POINT("src", "migrate", "before");
    if (migration->options.channels > 0) {
        lpm_qmp_migrate(qmp_of(move), uri, migrating, move);
    } else {
        lpm_qmp_migrate_fd(qmp_of(move), move->vasi, migrating, move);
        lpm_bytes_close(&move->vasi);
    }
    LPM_CRASH_POINT("src", "migrate", "after");
}

static void capabilities_set(const GError *error, void *data)
{
    SrcMove *move = data;
    const LpmQmpParameter wanted[] = {
        {"max-bandwidth", (int64_t)move->qemu_rate, true},
        {"downtime-limit", move->told_ms, true},
        lpm_channels_parameter(&move->base),
        {NULL},
    };
    if (off_course(move)) {
        lpm_mig_unref(&move->base);
    } else if (error) {
        lpm_mig_trouble(&move->base, error);
        lpm_mig_unref(&move->base);
    } else {
        lpm_qmp_set_parameters(qmp_of(move), wanted, parameters_set, move);
    }
}

static void begin(SrcMove *move)
{
    LpmMigration *migration = &move->base;
    const LpmMoveOptions *options = &migration->options;
    LpmConvergenceRules rules = lpm_move_rules(options);
    bool postcopy = lpm_move_may_postcopy(options);
    /* Said in both cases: QEMU keeps what an earlier move has set. */
    const LpmQmpCapability more[] = {
        {"auto-converge", options->auto_converge, options->auto_converge},
        {"postcopy-ram", postcopy, postcopy},
        lpm_channels_capability(migration),
        {NULL}};
    lpm_convergence_init(&migration->convergence, &rules);
    move->told_ms = migration->convergence.limit_ms;
    move->qemu_rate = options->max_rate > 0 ? (uint64_t)options->max_rate : BANDWIDTH_UNLIMITED;
    lpm_mig_ref(migration);
    lpm_qmp_set_move_capabilities(qmp_of(move), more, capabilities_set, move);
}

void lpm_src_copy(SrcMove *move)
{
    lpm_src_scripts_first(move, begin);
}

/* --- changes by the user --- */

bool lpm_mig_src_set(LpmMigration *migration, const json_t *arguments, GError **error)
{
    SrcMove *move = (SrcMove *)migration;
    LpmMoveOptions options;
    if (off_course(move) || migration->journal != LPM_MOB_SRC_PRECOPY || !migration->copied ||
        !migration->mover) {
        return lpm_error_set(error, LPM_ERROR_STATE,
                             "migration %s of partition %s does not copy now: only a move that "
                             "copies can be changed",
                             migration->id, migration->name);
    }
    if (!lpm_move_options_change(&migration->options, arguments, &options, error)) {
        return false;
    }
    if (options.max_rate != migration->options.max_rate) {
        LpmStreamMessage message = {.rate.max_rate = (uint64_t)options.max_rate};
        lpm_mover_send(migration->mover, LPM_STREAM_RATE, &message);
        tell_rate(move, options.max_rate > 0 ? (uint64_t)options.max_rate : BANDWIDTH_UNLIMITED);
    }
    migration->options = options;
    lpm_mig_publish(migration);
    return true;
}
