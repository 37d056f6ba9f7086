/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver: what the console does in each state of a migration. Each state is written down before
 * it is acted on, so that a restarted console knows the furthest that may have been asked for.
 */
#include "base/log.h"
#include "crash/crash.h"
#include "moves.h"
#include "options.h"
#include "takeover.h"

#include <string.h>

#define PREPARE_TIMEOUT_MS 40000 /* the target starts an emulator */
#define START_TIMEOUT_MS   5000
#define STOP_TIMEOUT_MS    5000
#define DISCARD_TIMEOUT_MS 3000
#define DISCARD_EVERY_MS   500
#define DISCARD_TRIES      20 /* while it answers */
#define DISCARD_TRIES_AWAY 5

static json_t *error_json(int code, const char *message)
{
    const LpmErrorInfo *info = lpm_error_info(code);

    g_autofree char *valid = g_utf8_make_valid(message, -1); /* it may have been cut anywhere */

    return lpm_json_pack("{s:s, s:s, s:s}", "class", info->name, "message", valid, "remedy",
                         info->remedy);
}

void lpm_move_set_error(LpmMove *move, const GError *error)
{
    if (!move->error) {
        move->error = error_json(error->domain == LPM_ERROR ? error->code : LPM_ERROR_INTERNAL,
                                 error->message);
    }
}

void lpm_move_fail(LpmMove *move, int code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (!move->error) {
        g_autofree char *message = g_strdup_vprintf(format, args);

        move->error = error_json(code, message);
    }
    va_end(args);
    lpm_move_advance(move, LPM_MOB_EV_FAIL);
}

bool lpm_call_is_unsure(const GError *error)
{
    return g_error_matches(error, LPM_ERROR, LPM_ERROR_TIMEOUT) ||
           g_error_matches(error, LPM_ERROR, LPM_ERROR_UNREACHABLE) ||
           g_error_matches(error, LPM_ERROR, LPM_ERROR_ABORTED);
}

static void call(LpmMove *move, LpmHalfSide side, const char *verb, json_t *arguments,
                 unsigned timeout_ms, LpmRpcReply reply)
{
    LpmSystem *system = lpm_move_system(move, side);
    g_autoptr(GError) error = NULL;

    if (system) {
        lpm_system_call(system, verb, arguments, timeout_ms, reply, lpm_move_ref(move));
        return;
    }
    json_decref(arguments);
    lpm_error_set(&error, LPM_ERROR_UNREACHABLE,
                  "system \"%s\" is not one of this console any more", move->systems[side]);
    reply(NULL, error, lpm_move_ref(move));
}

/* --- validating --- */

/* So that a verdict can be explained later; a move does not fail for want of it. */
static void keep_facts(LpmMove *move, const json_t *facts)
{
    g_autoptr(GError) error = NULL;

    if (!lpm_store_put(move->console->store, LPM_KIND_FACTS, move->id, facts, NULL, &error)) {
        lpm_log_warning(&(LpmLogFields){.migration = move->id}, "facts not kept: %s",
                        error->message);
    }
}

/* What validation has found out and the move has to keep to. */
static void keep_options(LpmMove *move, const json_t *facts)
{
    int64_t bears = lpm_json_int(facts, "options.cluster_blackout_ms", 0);

    json_object_set_new(move->options, "scripts", json_boolean(lpm_validation_has_scripts(facts)));
    if (bears > 0) {
        json_object_set_new(move->options, "cluster_blackout_ms", json_integer((json_int_t)bears));
    }
    /* Also where the cluster's no to a longer one is overruled. */
    if (bears > 0 && lpm_json_int(move->options, "max_blackout_ms", 0) > bears) {
        json_object_set_new(move->options, "max_blackout_ms", json_integer((json_int_t)bears));
    }
}

static void on_validated(const LpmVerdict *verdicts, size_t n_verdicts, const json_t *partition,
                         const GError *error, void *data)
{
    g_autoptr(LpmMove) move = data;

    move->validation = NULL;
    if (move->state != LPM_MOB_DRV_VALIDATING) {
        return; /* stopped meanwhile */
    }
    if (n_verdicts == 0) {
        lpm_move_set_error(move, error);
        lpm_move_advance(move, LPM_MOB_EV_FAIL);
        return;
    }
    move->findings = lpm_findings_to_json(verdicts[0].findings);
    keep_facts(move, verdicts[0].facts);
    move->prediction = json_deep_copy(verdicts[0].prediction);
    keep_options(move, verdicts[0].facts);
    if (verdicts[0].refused) {
        lpm_move_fail(move, LPM_ERROR_REFUSED,
                      "partition \"%s\" cannot move from %s to %s: %u reasons; nothing was changed",
                      move->partition, move->systems[LPM_HALF_SOURCE],
                      move->systems[LPM_HALF_TARGET],
                      lpm_findings_count(verdicts[0].findings, LPM_SEVERITY_ERROR));
        return;
    }
    move->profile = json_deep_copy(json_object_get(partition, "profile"));
    move->runtime = json_deep_copy(json_object_get(partition, "runtime"));
    lpm_move_advance(move, LPM_MOB_EV_PREPARE);
}

static void do_validate(LpmMove *move)
{
    g_autoptr(GPtrArray) targets = g_ptr_array_new();
    LpmSystem *source = lpm_move_system(move, LPM_HALF_SOURCE);
    LpmSystem *target = lpm_move_system(move, LPM_HALF_TARGET);
    LpmValidationRequest request = {move->console, source,           move->partition, move->active,
                                    move->options, LPM_MOVE_LOOK_MS, move->id};

    if (!source || !target) {
        lpm_move_fail(move, LPM_ERROR_NOT_FOUND, "a system of this move was deleted");
        return;
    }
    g_ptr_array_add(targets, target);
    move->validation = lpm_validation_start(&request, targets, on_validated, lpm_move_ref(move));
}

/* --- preparing --- */

static void on_prepared(json_t *result, const GError *error, void *data)
{
    g_autoptr(LpmMove) move = data;

    LPM_CRASH_POINT("console", "hear-prepared", "before");
    if (move->state != LPM_MOB_DRV_PREPARING) {
        return;
    }
    if (result && !move->stop_requested) {
        move->listening = json_deep_copy(result);
        lpm_move_advance(move, LPM_MOB_EV_START);
        return;
    }
    if (error) {
        g_autoptr(GError) whole = g_error_copy(error);

        g_prefix_error(
            &whole, "system \"%s\" did not prepare for the move: ", move->systems[LPM_HALF_TARGET]);
        lpm_move_set_error(move, whole);
    }
    lpm_move_advance(move, LPM_MOB_EV_STOP);
}

static void do_prepare(LpmMove *move)
{
    move->key = lpm_new_mover_key();
    LPM_CRASH_POINT("console", "ask-prepare", "before");
    call(move, LPM_HALF_TARGET, "migration-prepare",
         lpm_json_pack("{s:s, s:s, s:O, s:o, s:b, s:s, s:o}", "migration", move->id, "source",
                       move->systems[LPM_HALF_SOURCE], "profile", move->profile, "runtime",
                       json_is_object(move->runtime) ? json_incref(move->runtime) : json_object(),
                       "active", move->active, "key", move->key, "options",
                       lpm_options_for_host(move->options)),
         PREPARE_TIMEOUT_MS, on_prepared);
    LPM_CRASH_POINT("console", "ask-prepare", "after");
}

/* --- starting --- */

static void on_started(json_t *result, const GError *error, void *data)
{
    g_autoptr(LpmMove) move = data;

    LPM_CRASH_POINT("console", "hear-started", "before");
    if (move->state != LPM_MOB_DRV_STARTING) {
        return;
    }
    if (result || lpm_call_is_unsure(error)) {
        lpm_move_advance(move, LPM_MOB_EV_STARTED); /* when unsure, following finds out */
        return;
    }
    if (error) {
        g_autoptr(GError) whole = g_error_copy(error);

        g_prefix_error(&whole,
                       "system \"%s\" did not start the move: ", move->systems[LPM_HALF_SOURCE]);
        lpm_move_set_error(move, whole);
    }
    move->started = false;
    lpm_move_advance(move, LPM_MOB_EV_STOP);
}

static void do_start(LpmMove *move)
{
    json_t *addresses = json_object_get(move->listening, "addresses");

    LPM_CRASH_POINT("console", "ask-start", "before");
    call(move, LPM_HALF_SOURCE, "migration-start",
         lpm_json_pack(
             "{s:s, s:s, s:s, s:o, s:I, s:b, s:s, s:s*, s:o}", "migration", move->id, "partition",
             move->partition, "target", move->systems[LPM_HALF_TARGET], "addresses",
             json_is_array(addresses) ? json_incref(addresses) : json_array(), "port",
             (json_int_t)lpm_json_int(move->listening, "port", 0), "active", move->active, "key",
             move->key, "image_key", lpm_json_str(move->listening, "image_key", NULL), "options",
             lpm_options_for_host(move->options)),
         START_TIMEOUT_MS, on_started);
    LPM_CRASH_POINT("console", "ask-start", "after");
    g_clear_pointer(&move->key, g_free);
    g_clear_pointer(&move->listening, json_decref);
}

/* --- discarding what the target has prepared for a move that never began --- */

static void do_discard(LpmMove *move);

static gboolean discard_again(gpointer data)
{
    LpmMove *move = data;

    move->timer = 0;
    do_discard(move);
    return G_SOURCE_REMOVE;
}

static void discarded(LpmMove *move)
{
    lpm_move_fail(move, LPM_ERROR_ABORTED, "%s",
                  move->stop_requested
                      ? "stopped on request before the move had begun"
                      : "the console was restarted before the move had begun; start it again");
}

/* The target is told when it is back; its own time-out ends what it has prepared, too. */
static void discard_later(LpmMove *move, const char *why)
{
    g_autofree char *key = g_strdup_printf("%s/%s", move->systems[LPM_HALF_TARGET], move->id);
    g_autoptr(json_t) value = lpm_json_pack("{s:s, s:s}", "system", move->systems[LPM_HALF_TARGET],
                                            "migration", move->id);
    g_autoptr(GError) error = NULL;

    if (!lpm_store_put(move->console->store, LPM_KIND_DISCARD, key, value, NULL, &error)) {
        lpm_log_error(&(LpmLogFields){.migration = move->id}, "%s", error->message);
    }
    g_free(move->note);
    move->note =
        g_strdup_printf("system %s may still hold what it has prepared (%s); it is told to "
                        "discard that when it answers again",
                        move->systems[LPM_HALF_TARGET], why);
    discarded(move);
}

static void on_discarded(json_t *result, const GError *error, void *data)
{
    g_autoptr(LpmMove) move = data;

    if (move->state != LPM_MOB_DRV_STOPPING || move->started) {
        return;
    }
    if (result) {
        lpm_half_set(move, LPM_HALF_TARGET, result);
    }
    if (lpm_half_finished(&move->halves[LPM_HALF_TARGET]) ||
        g_error_matches(error, LPM_ERROR, LPM_ERROR_NOT_FOUND)) {
        discarded(move);
    } else if (error && (!lpm_call_is_unsure(error) || move->discards >= DISCARD_TRIES_AWAY)) {
        discard_later(move, error->message);
    } else if (move->discards >= DISCARD_TRIES) {
        discard_later(move, "it has not ended it yet");
    } else if (!move->timer) {
        move->timer = g_timeout_add(DISCARD_EVERY_MS, discard_again, move);
    }
}

static void do_discard(LpmMove *move)
{
    move->discards++;
    call(move, LPM_HALF_TARGET, "migration-recover",
         lpm_json_pack("{s:s, s:b}", "migration", move->id, "force", 0), DISCARD_TIMEOUT_MS,
         on_discarded);
}

/* --- states --- */

static void do_moving(LpmMove *move)
{
    lpm_move_follow(move);
    if (move->stop_requested) {
        lpm_move_stop(move, NULL, NULL);
    }
}

static void do_stopping(LpmMove *move)
{
    if (move->started) {
        lpm_move_follow(move);
    } else {
        do_discard(move);
    }
}

static void do_end(LpmMove *move)
{
    if (move->timer) {
        g_source_remove(move->timer);
        move->timer = 0;
    }
    lpm_validation_cancel(g_steal_pointer(&move->validation));
    g_clear_pointer(&move->profile, json_decref);
    g_clear_pointer(&move->runtime, json_decref);
    g_clear_pointer(&move->listening, json_decref);
    g_clear_pointer(&move->key, g_free);
    lpm_event_add(move->console, "migration", move->id, move->user, "%s from %s to %s: %s%s%s",
                  move->partition, move->systems[LPM_HALF_SOURCE], move->systems[LPM_HALF_TARGET],
                  lpm_move_state_name(move), move->error ? ": " : "",
                  lpm_json_str(move->error, "message", ""));
    lpm_takeover_consider(move);
}

typedef struct {
    void (*act)(LpmMove *move);
    bool started; /* entering it, the source may have begun */
} StateRow;

static const StateRow states[LPM_MOB_DRV_N] = {
    [LPM_MOB_DRV_VALIDATING] = {do_validate, false}, [LPM_MOB_DRV_PREPARING] = {do_prepare, false},
    [LPM_MOB_DRV_STARTING] = {do_start, true},       [LPM_MOB_DRV_MOVING] = {do_moving, true},
    [LPM_MOB_DRV_STOPPING] = {do_stopping, false},   [LPM_MOB_DRV_COMPLETED] = {do_end, false},
    [LPM_MOB_DRV_FAILED] = {do_end, false},
};

/* What is not written down is not done, except to follow what the systems do anyway. */
static bool write_down(LpmMove *move)
{
    g_autoptr(GError) error = NULL;

    const char *state = lpm_mob_state_name(LPM_MOB_DRV, move->state);
    LPM_CRASH_POINT("console", state, "before");
    if (lpm_move_save(move, &error)) {
        LPM_CRASH_POINT("console", state, "after");
        return true;
    }
    lpm_log_error(&(LpmLogFields){.migration = move->id}, "%s", error->message);
    if (move->state == LPM_MOB_DRV_PREPARING || move->state == LPM_MOB_DRV_STARTING) {
        lpm_move_set_error(move, error);
        move->started = false;
        return false;
    }
    return true;
}

void lpm_move_advance(LpmMove *move, LpmMobEvent event)
{
    unsigned to;

    if (!lpm_mob_step(LPM_MOB_DRV, move->state, event, &to)) {
        lpm_log_error(&(LpmLogFields){.migration = move->id}, "no edge %s from state %s",
                      lpm_mob_event_name(event), lpm_mob_state_name(LPM_MOB_DRV, move->state));
        return;
    }
    lpm_move_ref(move);
    move->state = (LpmMobDrvState)to;
    move->started = move->started || states[to].started;
    if (lpm_move_is_over(move)) {
        move->ended_us = lpm_clock_realtime_us(move->console->clock);
    }
    lpm_log_debug(&(LpmLogFields){.migration = move->id, .partition = move->partition}, "%s -> %s",
                  lpm_mob_event_name(event), lpm_mob_state_name(LPM_MOB_DRV, to));
    if (!write_down(move)) {
        lpm_move_advance(move, LPM_MOB_EV_FAIL);
    } else if (states[to].act) {
        states[to].act(move);
    }
    lpm_move_unref(move);
}

/* --- stopping --- */

typedef struct {
    LpmMove *move;
    LpmMoveDone done;
    void *data;
} Stop;

static void stop_end(Stop *stop, const GError *error)
{
    if (stop->done) {
        stop->done(stop->move, error, stop->data);
    }
    lpm_move_unref(stop->move);
    g_free(stop);
}

static void on_stop(json_t *result, const GError *error, void *data)
{
    Stop *stop = data;
    LpmMove *move = stop->move;

    move->asking_stop = false;
    if (result && move->state == LPM_MOB_DRV_MOVING) {
        lpm_move_advance(move, LPM_MOB_EV_STOP);
    } else if (error && move->state == LPM_MOB_DRV_MOVING && !lpm_call_is_unsure(error)) {
        move->stop_requested = false; /* too late: it goes on */
    }
    stop_end(stop, error);
}

/* Nothing has begun, or the step under way is waited for and then undone. */
static void stop_early(Stop *stop)
{
    LpmMove *move = stop->move;
    g_autoptr(GError) error = NULL;

    move->stop_requested = true;
    if (move->state <= LPM_MOB_DRV_VALIDATING) {
        lpm_move_fail(move, LPM_ERROR_ABORTED, "stopped on request; nothing was changed");
    } else if (!lpm_move_save(move, &error)) {
        stop_end(stop, error);
        return;
    }
    stop_end(stop, NULL);
}

void lpm_move_stop(LpmMove *move, LpmMoveDone done, void *data)
{
    Stop *stop = g_new0(Stop, 1);
    LpmSystem *source = lpm_move_system(move, LPM_HALF_SOURCE);
    g_autoptr(GError) error = NULL;

    *stop = (Stop){lpm_move_ref(move), done, data};
    if (lpm_move_is_over(move)) {
        lpm_error_set(&error, LPM_ERROR_STATE, "migration %s has ended already: %s", move->id,
                      lpm_move_state_name(move));
        stop_end(stop, error);
    } else if (move->state == LPM_MOB_DRV_STOPPING) {
        stop_end(stop, NULL);
    } else if (move->state != LPM_MOB_DRV_MOVING) {
        stop_early(stop);
    } else if (!source) {
        lpm_error_set(&error, LPM_ERROR_NOT_FOUND, "system \"%s\" was deleted",
                      move->systems[LPM_HALF_SOURCE]);
        stop_end(stop, error);
    } else {
        /* Set first: the halves may tell of their end before the answer comes. */
        move->asking_stop = true;
        move->stop_requested = true;
        lpm_system_call(source, "migration-stop", lpm_json_pack("{s:s}", "migration", move->id),
                        STOP_TIMEOUT_MS, on_stop, stop);
    }
}

/* --- after a restart --- */

void lpm_move_resume(LpmMove *move)
{
    lpm_log_info(&(LpmLogFields){.migration = move->id, .partition = move->partition},
                 "taken up again in state %s", lpm_mob_state_name(LPM_MOB_DRV, move->state));
    switch (move->state) {
    case LPM_MOB_DRV_ACCEPTED:
    case LPM_MOB_DRV_VALIDATING:
        lpm_move_fail(move, LPM_ERROR_ABORTED,
                      "the console was restarted during validation; nothing was changed; start "
                      "the move again");
        break;
    case LPM_MOB_DRV_PREPARING:
        lpm_move_advance(move, LPM_MOB_EV_STOP);
        break;
    case LPM_MOB_DRV_STARTING:
        lpm_move_advance(move, LPM_MOB_EV_STARTED); /* following finds out whether it has begun */
        break;
    case LPM_MOB_DRV_MOVING:
    case LPM_MOB_DRV_STOPPING:
        states[move->state].act(move);
        break;
    case LPM_MOB_DRV_COMPLETED:
    case LPM_MOB_DRV_FAILED:
    case LPM_MOB_DRV_N:
        break;
    }
}
