/* SPDX-License-Identifier: Apache-2.0 */
/* Phases and the status of one half (docs/spec/host-rpc.md). */
#include "host/migration.h"

#include "host/mobility-scripts.h"
#include "host/release.h"

#include <string.h>

static const char *const phase_names[LPM_PHASE_N] = {
    "prepare", "copy", "switchover", "verify", "commit", "fill", "finish",
};

enum { US = 1000, EVENT_AGE_MAX_US = 10 * 1000 * 1000 };

int64_t lpm_mig_mono_of(const LpmMigration *migration, int64_t realtime_us)
{
    const LpmClock *clock = migration->host->clock;
    int64_t now = lpm_clock_monotonic_us(clock);
    int64_t age = lpm_clock_realtime_us(clock) - realtime_us;
    /* The wall clock may have been set in between: then the time of hearing of it must do. */
    return age < 0 || age > EVENT_AGE_MAX_US ? now : now - age;
}

void lpm_mig_enter_phase_at(LpmMigration *migration, LpmMovePhase phase, int64_t mono_us)
{
    const LpmClock *clock = migration->host->clock;
    if (migration->phase < LPM_PHASE_N) {
        migration->phases[migration->phase].end_mono_us = mono_us;
    }
    int64_t age = lpm_clock_monotonic_us(clock) - mono_us;
    migration->phases[phase] = (LpmPhaseTime){
        .start_mono_us = mono_us,
        .start_real_us = lpm_clock_realtime_us(clock) - age,
    };
    migration->phase = phase;
    lpm_mig_publish(migration);
}

void lpm_mig_enter_phase(LpmMigration *migration, LpmMovePhase phase)
{
    lpm_mig_enter_phase_at(migration, phase, lpm_clock_monotonic_us(migration->host->clock));
}

void lpm_mig_end_phases(LpmMigration *migration)
{
    if (migration->phase < LPM_PHASE_N) {
        LpmPhaseTime *last = &migration->phases[migration->phase];
        last->end_mono_us = lpm_clock_monotonic_us(migration->host->clock);
    }
}

static json_t *phases_json(const LpmMigration *migration)
{
    json_t *list = json_array();
    int64_t now = lpm_clock_monotonic_us(migration->host->clock);
    for (unsigned i = 0; i < LPM_PHASE_N; i++) {
        const LpmPhaseTime *time = &migration->phases[i];
        if (time->start_mono_us == 0) {
            continue;
        }
        int64_t end = time->end_mono_us ? time->end_mono_us : now;
        json_array_append_new(list, lpm_json_pack("{s:s, s:I, s:f}", "name", phase_names[i],
                                                  "start_us", (json_int_t)time->start_real_us, "ms",
                                                  (double)(end - time->start_mono_us) / US));
    }
    return list;
}

void lpm_mig_mark_at(LpmMigration *migration, LpmCommitStep step, int64_t mono_us)
{
    if (migration->commit_mono_us[step] == 0) {
        migration->commit_mono_us[step] = mono_us;
    }
}

void lpm_mig_mark(LpmMigration *migration, LpmCommitStep step)
{
    lpm_mig_mark_at(migration, step, lpm_clock_monotonic_us(migration->host->clock));
}

/* What each step took, the partition standing still; null before the first is done. */
static json_t *commit_json(const LpmMigration *migration)
{
    static const struct {
        const char *name;
        LpmCommitStep from, to;
    } steps[] = {
        {"offer_ms", LPM_COMMIT_BEGUN, LPM_COMMIT_OFFERED},
        {"take_ms", LPM_COMMIT_HEARD, LPM_COMMIT_TAKEN},
        {"intent_ms", LPM_COMMIT_TAKEN, LPM_COMMIT_INTENT},
        {"resume_ms", LPM_COMMIT_INTENT, LPM_COMMIT_RESUMED},
    };
    json_t *json = NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) {
        int64_t from = migration->commit_mono_us[steps[i].from];
        int64_t to = migration->commit_mono_us[steps[i].to];
        if (from > 0 && to >= from) {
            json = json ? json : json_object();
            json_object_set_new(json, steps[i].name, json_real((double)(to - from) / US));
        }
    }
    return json ? json : json_null();
}

static json_t *number_or_null(int64_t value)
{
    return value < 0 ? json_null() : json_integer(value);
}

static json_t *error_json(const GError *error)
{
    if (!error) {
        return json_null();
    }
    int code = error->domain == LPM_ERROR ? error->code : (int)LPM_ERROR_INTERNAL;
    return lpm_json_pack("{s:s, s:s}", "class", lpm_error_info(code)->name, "desc", error->message);
}

static void add_figures(const LpmMigration *migration, json_t *status)
{
    const LpmStreamStats *stats = &migration->stats;
    bool src = migration->side == LPM_MOB_SRC;
    const struct {
        const char *name;
        uint64_t value;
    } figures[] = {
        {"stream_bytes", src ? stats->stream_out : stats->stream_in},
        {"wire_bytes", stats->wire_out + stats->wire_in},
        {"total_bytes", migration->total_bytes},
        {"remaining_bytes", migration->remaining_bytes},
        {"rate_bytes", src ? stats->rate_out : stats->rate_in},
        {"dirty_rate_bytes", migration->dirty_rate_bytes},
        {"passes", migration->passes},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(figures); i++) {
        json_object_set_new(status, figures[i].name, json_integer((json_int_t)figures[i].value));
    }
}

/* What became of the pages on their way, and of all bytes of the stream. */
static json_t *coding_json(const LpmStreamCodedCounts *counts)
{
    const struct {
        const char *name;
        uint64_t value;
    } figures[] = {
        {"zero", counts->pages_zero},           {"same", counts->pages_same},
        {"reference", counts->pages_reference}, {"delta", counts->pages_delta},
        {"literal", counts->pages_literal},     {"raw_bytes", counts->raw_bytes},
        {"coded_bytes", counts->coded_bytes},
    };
    json_t *json = json_object();
    for (size_t i = 0; i < G_N_ELEMENTS(figures); i++) {
        json_object_set_new(json, figures[i].name, json_integer((json_int_t)figures[i].value));
    }
    return json;
}

/* null: it has not come to that. */
static json_t *postcopy_json(const LpmMigration *migration)
{
    return !migration->postcopy     ? json_null()
           : migration->link_broken ? json_string("paused")
                                    : json_string("active");
}

/* How the copy goes, and what would help it; null before there is one. */
static json_t *convergence_json(const LpmMigration *migration)
{
    const LpmConvergence *convergence = &migration->convergence;
    LpmConvergenceRules rules = lpm_move_rules(&migration->options);
    char advice[LPM_CONVERGENCE_ADVICE][LPM_CONVERGENCE_ADVICE_SIZE];
    if (!migration->copied) {
        return json_null();
    }
    json_t *list = json_array();
    size_t n =
        lpm_convergence_advice(convergence, &rules, (uint64_t)migration->options.max_rate, advice);
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_string(advice[i]));
    }
    json_t *json = lpm_json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:o}", "state", lpm_convergence_name(convergence->state),
        "max_blackout_ms", (json_int_t)migration->options.max_blackout_ms, "limit_ms",
        (json_int_t)convergence->limit_ms, "max_rate", (json_int_t)migration->options.max_rate,
        "throttle_percent", (json_int_t)convergence->last.throttle, "advice", list);
    json_object_set_new(json, "needed_blackout_ms", number_or_null(convergence->needed_ms));
    return json;
}

/* null: it is not over. */
static json_t *first_pass_json(const LpmMigration *migration)
{
    return migration->first_pass.ms == 0
               ? json_null()
               : lpm_json_pack("{s:I, s:I, s:I}", "ms", (json_int_t)migration->first_pass.ms,
                               "stream_bytes", (json_int_t)migration->first_pass.stream,
                               "wire_bytes", (json_int_t)migration->first_pass.wire);
}

/* What the rows were asked about last; null while everything goes its normal way. */
static json_t *sees_json(const LpmMigration *migration)
{
    return migration->seen ? lpm_json_pack("{s:s, s:s}", "record",
                                           lpm_mob_record_view_name(migration->seen_view), "qemu",
                                           lpm_mob_qemu_name(migration->side, migration->seen_qemu))
                           : json_null();
}

json_t *lpm_mig_status(const LpmMigration *migration)
{
    bool done = strcmp(lpm_mob_state_name(migration->side, migration->journal), "cleaned") == 0;
    const char *phase = migration->phase < LPM_PHASE_N ? phase_names[migration->phase] : NULL;
    json_t *status = lpm_json_pack(
        "{s:s, s:s, s:s, s:s, s:b, s:s, s:s, s:s?, s:b, s:s?, s:o}", "migration", migration->id,
        "partition", migration->name, "side", migration->side == LPM_MOB_SRC ? "source" : "target",
        "peer", migration->peer, "active", migration->active, "journal",
        lpm_mob_state_name(migration->side, migration->journal), "record",
        migration->record_known ? lpm_record_state_name(migration->record.state) : "unknown",
        "phase", phase, "finished", done, "outcome", migration->outcome, "error",
        error_json(migration->error));
    add_figures(migration, status);
    json_object_set_new(status, "predicted_blackout_ms",
                        number_or_null(migration->predicted_blackout_ms));
    json_object_set_new(
        status, "blackout_ms",
        migration->blackout_us < 0 ? json_null() : json_real((double)migration->blackout_us / US));
    json_object_set_new(status, "eta_ms", number_or_null(migration->eta_ms));
    json_object_set_new(
        status, "round_trip_us",
        number_or_null(migration->round_trip_us ? (int64_t)migration->round_trip_us : -1));
    json_object_set_new(status, "verify",
                        migration->verified_known
                            ? lpm_json_pack("{s:I, s:I, s:I}", "pages",
                                            (json_int_t)migration->verified.compared, "differing",
                                            (json_int_t)migration->verified.differing, "repaired",
                                            (json_int_t)migration->verified.repaired)
                            : json_null());
    json_object_set_new(status, "postcopy", postcopy_json(migration));
    json_object_set_new(status, "coding", coding_json(&migration->stats.coded));
    json_object_set_new(status, "convergence", convergence_json(migration));
    json_object_set_new(status, "first_pass", first_pass_json(migration));
    json_object_set_new(status, "links", lpm_links_json(migration));
    if (lpm_release_has_words()) {
        json_object_set_new(status, "sees", sees_json(migration));
        json_object_set_new(status, "words",
                            migration->words ? json_incref(migration->words) : json_array());
    }
    json_object_set_new(status, "commit", commit_json(migration));
    json_object_set_new(status, "scripts",
                        lpm_mig_scripts_json(migration->host, migration->id, true));
    json_object_set_new(status, "phases", phases_json(migration));
    return status;
}

/* The partition waits for what this half does next; who watches can wait until that is done. */
static bool stands_still(const LpmMigration *migration)
{
    const int64_t *done_us = migration->commit_mono_us;
    if (migration->ended) {
        return false;
    }
    return migration->side == LPM_MOB_SRC
               ? migration->phase == LPM_PHASE_COMMIT && done_us[LPM_COMMIT_OFFERED] == 0
               : done_us[LPM_COMMIT_HEARD] > 0 && done_us[LPM_COMMIT_RESUMED] == 0;
}

static void publish_now(LpmMigration *migration)
{
    g_clear_handle_id(&migration->publish_timer, g_source_remove);
    lpm_host_emit(migration->host, "migration", lpm_mig_status(migration));
}

static gboolean publish_held(gpointer data)
{
    LpmMigration *migration = data;
    migration->publish_timer = 0;
    publish_now(migration);
    return G_SOURCE_REMOVE;
}

void lpm_mig_publish(LpmMigration *migration)
{
    if (!stands_still(migration)) {
        publish_now(migration);
    } else if (migration->publish_timer == 0) {
        migration->publish_timer = g_timeout_add(LPM_MIG_HOLD_MS, publish_held, migration);
    }
}

static gboolean publish_tick(gpointer data)
{
    lpm_mig_publish(data);
    return G_SOURCE_CONTINUE;
}

void lpm_mig_publish_always(LpmMigration *migration, bool on)
{
    g_clear_handle_id(&migration->status_timer, g_source_remove);
    if (on) {
        migration->status_timer = g_timeout_add(LPM_MIG_STATUS_MS, publish_tick, migration);
    }
}
