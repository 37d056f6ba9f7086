/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both systems say about a move that has begun: by events, and by asking where no event came.
 * The console only listens here; the move ends well without it.
 */
#include "base/log.h"
#include "moves.h"
#include "options.h"
#include "takeover.h"

#include <string.h>

#define TICK_MS            500
#define SILENCE_US         (1500 * G_TIME_SPAN_MILLISECOND) /* without news for so long: ask */
#define OTHER_HALF_US      (5 * G_TIME_SPAN_SECOND) /* one half has ended: how long for the other */
#define ASK_TIMEOUT_MS     3000
#define RECOVER_TIMEOUT_MS 10000
#define DOES_NOT_CONVERGE  "does-not-converge" /* convergence.state of docs/spec/host-rpc.md */

LpmSystem *lpm_move_system(const LpmMove *move, LpmHalfSide side)
{
    return g_hash_table_lookup(move->console->systems, move->systems[side]);
}

bool lpm_half_finished(const LpmHalf *half)
{
    return lpm_json_bool(half->status, "finished", false);
}

/* --- judging --- */

static const char *outcome_of(const LpmHalf *half)
{
    return lpm_half_finished(half) ? lpm_json_str(half->status, "outcome", "aborted") : NULL;
}

/* Completed wins: the target ends before the source, and what is there cannot be undone. */
static const char *outcome(const LpmMove *move)
{
    const char *target = outcome_of(&move->halves[LPM_HALF_TARGET]);
    const char *source = outcome_of(&move->halves[LPM_HALF_SOURCE]);

    if (g_strcmp0(target, "completed") == 0 || g_strcmp0(source, "completed") == 0) {
        return "completed";
    }
    return target ? target : source;
}

static bool has_ended(const LpmHalf *half)
{
    return lpm_half_finished(half) || half->unknown;
}

static void append_reason(const LpmMove *move, LpmHalfSide side, GString *text)
{
    const char *reason = lpm_json_str(move->halves[side].status, "error.desc", NULL);

    if (reason && !strstr(text->str, reason)) {
        g_string_append_printf(text, "%ssystem %s: %s", text->len ? "; " : "", move->systems[side],
                               reason);
    }
}

static void fail_aborted(LpmMove *move)
{
    g_autoptr(GString) text = g_string_new(NULL);
    const char *class =
        lpm_json_str(move->halves[LPM_HALF_SOURCE].status, "error.class",
                     lpm_json_str(move->halves[LPM_HALF_TARGET].status, "error.class", "aborted"));

    if (move->stop_requested) {
        lpm_move_fail(move, LPM_ERROR_ABORTED, "stopped on request");
        return;
    }
    append_reason(move, LPM_HALF_SOURCE, text);
    append_reason(move, LPM_HALF_TARGET, text);
    lpm_move_fail(move, (int)lpm_error_from_name(class), "%s",
                  text->len ? text->str : "the move was given up; the systems gave no reason");
}

static void add_note(LpmMove *move, const char *text)
{
    char *note = move->note ? g_strdup_printf("%s; %s", move->note, text) : g_strdup(text);

    g_free(move->note);
    move->note = note;
}

static void conclude(LpmMove *move, const char *result)
{
    bool completed = strcmp(result, "completed") == 0;
    g_autofree char *where =
        g_strdup_printf("partition %s is on system %s", move->partition,
                        move->systems[completed ? LPM_HALF_TARGET : LPM_HALF_SOURCE]);

    add_note(move, where);
    for (int side = 0; side < LPM_HALF_N; side++) {
        if (!has_ended(&move->halves[side])) {
            g_autofree char *late = g_strdup_printf(
                "system %s has not ended its half yet; it does so by itself, or with \"lpm "
                "migration recover %s\"",
                move->systems[side], move->id);

            add_note(move, late);
        }
    }
    if (completed) {
        const char *harm = lpm_json_str(move->halves[LPM_HALF_TARGET].status, "error.desc", NULL);

        if (harm) {
            add_note(move, harm); /* it has arrived, but not unharmed */
        }
        g_clear_pointer(&move->error, json_decref);
        lpm_move_advance(move, LPM_MOB_EV_SUCCEED);
    } else {
        fail_aborted(move);
    }
}

/* The source knows nothing of it: the call that was to start it never arrived. */
static void never_started(LpmMove *move)
{
    if (move->state == LPM_MOB_DRV_STOPPING) {
        lpm_move_fail(move, LPM_ERROR_ABORTED, "system %s does not know this migration",
                      move->systems[LPM_HALF_SOURCE]);
        return;
    }
    if (!move->error && !move->stop_requested) {
        g_autoptr(GError) error = NULL;

        lpm_error_set(
            &error, LPM_ERROR_UNREACHABLE,
            "system \"%s\" never got the word to start the move; nothing was moved, start "
            "it again",
            move->systems[LPM_HALF_SOURCE]);
        lpm_move_set_error(move, error);
    }
    /* Nothing is followed any more; discarding has a timer of its own. */
    if (move->timer) {
        g_source_remove(move->timer);
        move->timer = 0;
    }
    move->started = false;
    lpm_move_advance(move, LPM_MOB_EV_STOP);
}

/*
 * The target has given up, and the source may not be able to hear it: its mover waits for a link
 * that is of no more use. Or the source has, before its mover could reach the target's, which waits
 * for it. Where the other half knows already, this changes nothing.
 */
static void tell_other(const LpmMove *move, LpmHalfSide side)
{
    static const char *const verbs[LPM_HALF_N] = {
        [LPM_HALF_SOURCE] = "migration-stop",
        [LPM_HALF_TARGET] = "migration-recover",
    };
    LpmSystem *system = lpm_move_system(move, side);

    if (system && system->state == LPM_SYSTEM_CONNECTED) {
        lpm_system_call(system, verbs[side], lpm_json_pack("{s:s}", "migration", move->id),
                        ASK_TIMEOUT_MS, NULL, NULL);
    }
}

void lpm_move_judge(LpmMove *move)
{
    const LpmHalf *source = &move->halves[LPM_HALF_SOURCE];
    const LpmHalf *target = &move->halves[LPM_HALF_TARGET];
    const char *result = outcome(move);
    int64_t now = lpm_clock_monotonic_us(move->console->clock);

    if (lpm_move_is_over(move) || !move->started) {
        return;
    }
    if (!result) {
        if (source->unknown && !source->status) {
            never_started(move);
        } else if (source->unknown && target->unknown) {
            lpm_move_fail(move, LPM_ERROR_CONFLICT,
                          "neither system knows this migration any more; \"lpm partition show %s\" "
                          "says where the partition is",
                          move->partition);
        }
        return;
    }
    if (has_ended(source) && has_ended(target)) {
        conclude(move, result);
    } else if (move->decided_us == 0) {
        move->decided_us = now;
        if (strcmp(result, "aborted") == 0) {
            tell_other(move, has_ended(source) ? LPM_HALF_TARGET : LPM_HALF_SOURCE);
        }
    } else if (now - move->decided_us > OTHER_HALF_US) {
        conclude(move, result);
    }
}

/* --- hearing --- */

/* What scripts in the partition said to a move is told, too, when it has ended long ago. */
static bool scripts_are_news(const json_t *old, const json_t *new)
{
    const json_t *scripts = lpm_json_at(new, "scripts");

    return json_is_object(scripts) && !json_equal(lpm_json_at(old, "scripts"), scripts);
}

/* Progress is shown; only what a restarted console must know is written down. */
static bool worth_writing(const json_t *old, const json_t *new)
{
    return g_strcmp0(lpm_json_str(old, "journal", NULL), lpm_json_str(new, "journal", NULL)) != 0 ||
           g_strcmp0(lpm_json_str(old, "phase", NULL), lpm_json_str(new, "phase", NULL)) != 0 ||
           json_array_size(lpm_json_at(old, "words")) !=
               json_array_size(lpm_json_at(new, "words")) ||
           scripts_are_news(old, new) ||
           lpm_json_bool(old, "finished", false) != lpm_json_bool(new, "finished", false);
}

static char *advice_of(const json_t *status)
{
    g_autoptr(GString) text = g_string_new(NULL);
    json_t *advice;
    size_t i;

    json_array_foreach (lpm_json_at(status, "convergence.advice"), i, advice) {
        g_string_append_printf(text, "%s%s", i > 0 ? "; " : "", json_string_value(advice));
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

/* A copy that will not come to its end is an event of its own, and so is that it will after all. */
static void note_verdict(LpmMove *move, const json_t *old, const json_t *new)
{
    const char *was = lpm_json_str(old, "convergence.state", "");
    const char *is = lpm_json_str(new, "convergence.state", "");
    bool bad = strcmp(is, DOES_NOT_CONVERGE) == 0;

    if (bad && strcmp(was, is) != 0) {
        g_autofree char *advice = advice_of(new);

        lpm_event_add(move->console, "migration", move->id, NULL,
                      "the copy does not converge; what would help: %s", advice);
    } else if (!bad && strcmp(was, DOES_NOT_CONVERGE) == 0 &&
               strcmp(lpm_json_str(new, "phase", ""), "copy") == 0) {
        lpm_event_add(move->console, "migration", move->id, NULL, "the copy converges again");
    }
}

static const json_t *watched(const json_t *status)
{
    json_t *phase;
    size_t i;

    json_array_foreach (lpm_json_at(status, "scripts.phases"), i, phase) {
        if (strcmp(lpm_json_str(phase, "phase", ""), "watch") == 0) {
            return lpm_json_at(phase, "changes");
        }
    }
    return NULL;
}

/* What failed, or is well again, in the partition while nobody else looked after it. */
static void tell_watch(const LpmMove *move, const json_t *old, const json_t *new)
{
    const json_t *before = watched(old);
    int64_t known_us = 0;
    json_t *change;
    size_t i;

    json_array_foreach (before, i, change) {
        known_us = MAX(known_us, lpm_json_int(change, "time_us", 0));
    }
    json_array_foreach (watched(new), i, change) {
        if (lpm_json_int(change, "time_us", 0) > known_us) {
            bool good = lpm_json_bool(change, "good", true);

            lpm_event_add(move->console, good ? "migration" : "alarm", move->id, NULL,
                          "in partition %s, watched by script %s: %s", move->partition,
                          lpm_json_str(change, "name", "?"), lpm_json_str(change, "words", "?"));
        }
    }
}

static bool link_is_lost(const json_t *status)
{
    return lpm_json_int(status, "links.lost_ms", -1) >= 0;
}

static void tell_link(const LpmMove *move, const json_t *old, const json_t *new)
{
    const char *source = move->systems[LPM_HALF_SOURCE], *target = move->systems[LPM_HALF_TARGET];

    if (!link_is_lost(old) && link_is_lost(new)) {
        lpm_event_add(move->console, "migration", move->id, NULL,
                      "link from %s to %s lost: %s; it is waited for, and %s runs on at %s", source,
                      target, lpm_json_str(new, "links.reason", "?"), move->partition, source);
    } else if (link_is_lost(old) && !link_is_lost(new) && !lpm_json_bool(new, "finished", false)) {
        lpm_event_add(move->console, "migration", move->id, NULL, "link from %s to %s is back",
                      source, target);
    }
}

void lpm_half_set(LpmMove *move, LpmHalfSide side, json_t *status)
{
    LpmHalf *half = &move->halves[side];
    bool write = worth_writing(half->status, status);
    bool left = !lpm_json_bool(lpm_json_at(half->status, "scripts"), "left", false) &&
                lpm_json_bool(lpm_json_at(status, "scripts"), "left", false);
    g_autoptr(GError) error = NULL;

    note_verdict(move, half->status, status);
    if (side == LPM_HALF_SOURCE) {
        tell_link(move, half->status, status);
        tell_watch(move, half->status, status);
    }
    json_decref(half->status);
    half->status = json_deep_copy(status);
    half->unknown = false;
    half->heard_us = lpm_clock_monotonic_us(move->console->clock);
    if (!write) {
        lpm_move_touch(move);
    } else if (!lpm_move_save(move, &error)) {
        lpm_log_error(&(LpmLogFields){.migration = move->id}, "%s", error->message);
    }
    if (left && lpm_move_is_over(move)) { /* else at its end */
        lpm_takeover_consider(move);
    }
}

void lpm_moves_status(LpmConsole *console, LpmSystem *system, json_t *status)
{
    LpmMove *move = g_hash_table_lookup(console->moves, lpm_json_str(status, "migration", ""));

    for (int side = 0; move && side < LPM_HALF_N; side++) {
        static const char *const names[] = {"source", "target"};

        if (strcmp(move->systems[side], system->name) == 0 &&
            strcmp(lpm_json_str(status, "side", ""), names[side]) == 0) {
            g_autoptr(LpmMove) held = lpm_move_ref(move);

            lpm_half_set(held, side, status);
            lpm_move_judge(held);
            return;
        }
    }
}

typedef struct {
    LpmMove *move;
    LpmHalfSide side;
} Ask;

static void on_asked(json_t *result, const GError *error, void *data)
{
    Ask *ask = data;
    LpmHalf *half = &ask->move->halves[ask->side];

    half->asking = false;
    if (result) {
        lpm_half_set(ask->move, ask->side, result);
    } else if (g_error_matches(error, LPM_ERROR, LPM_ERROR_NOT_FOUND)) {
        half->unknown = true;
        half->heard_us = lpm_clock_monotonic_us(ask->move->console->clock);
    }
    lpm_move_judge(ask->move);
    lpm_move_unref(ask->move);
    g_free(ask);
}

static void ask(LpmMove *move, LpmHalfSide side)
{
    LpmSystem *system = lpm_move_system(move, side);
    Ask *call;

    if (!system || system->state != LPM_SYSTEM_CONNECTED || move->halves[side].asking) {
        return;
    }
    move->halves[side].asking = true;
    call = g_new0(Ask, 1);
    call->move = lpm_move_ref(move);
    call->side = side;
    lpm_system_call(system, "migration-query", lpm_json_pack("{s:s}", "migration", move->id),
                    ASK_TIMEOUT_MS, on_asked, call);
}

static void look(LpmMove *move, int64_t silence_us)
{
    int64_t now = lpm_clock_monotonic_us(move->console->clock);

    for (int side = 0; side < LPM_HALF_N; side++) {
        if (!lpm_half_finished(&move->halves[side]) &&
            now - move->halves[side].heard_us >= silence_us) {
            ask(move, side);
        }
    }
}

static gboolean on_tick(gpointer data)
{
    g_autoptr(LpmMove) move = lpm_move_ref(data);

    if (lpm_move_is_over(move) || !move->started) {
        move->timer = 0;
        return G_SOURCE_REMOVE;
    }
    look(move, SILENCE_US);
    lpm_move_relink(move);
    lpm_move_consider_fencing(move);
    if (move->stop_requested && !move->asking_stop && move->state == LPM_MOB_DRV_MOVING &&
        lpm_systems_need(move->console, move->systems[LPM_HALF_SOURCE], NULL)) {
        lpm_move_stop(move, NULL, NULL);
    }
    lpm_move_judge(move);
    return G_SOURCE_CONTINUE; /* when it has ended, the timer was removed with it */
}

void lpm_move_follow(LpmMove *move)
{
    if (!move->timer) {
        move->timer = g_timeout_add(TICK_MS, on_tick, move);
    }
    look(move, 0);
}

/* --- a system is back --- */

typedef struct {
    LpmConsole *console;
    char *key;
} Discard;

static void on_told(json_t *result, const GError *error, void *data)
{
    Discard *discard = data;
    g_autoptr(GError) failure = NULL;

    if ((result && lpm_json_bool(result, "finished", false)) ||
        g_error_matches(error, LPM_ERROR, LPM_ERROR_NOT_FOUND)) {
        if (!lpm_store_delete(discard->console->store, LPM_KIND_DISCARD, discard->key, &failure)) {
            lpm_log_error(NULL, "%s", failure->message);
        }
    }
    g_free(discard->key);
    g_free(discard);
}

static void tell_discards(LpmConsole *console, LpmSystem *system)
{
    g_autoptr(json_t) all = lpm_store_list(console->store, LPM_KIND_DISCARD, NULL);
    const char *key;
    json_t *value;

    json_object_foreach (all, key, value) {
        Discard *discard;

        if (strcmp(lpm_json_str(value, "system", ""), system->name) != 0) {
            continue;
        }
        discard = g_new0(Discard, 1);
        discard->console = console;
        discard->key = g_strdup(key);
        lpm_system_call(system, "migration-recover",
                        lpm_json_pack("{s:s, s:b}", "migration",
                                      lpm_json_str(value, "migration", ""), "force", 0),
                        RECOVER_TIMEOUT_MS, on_told, discard);
    }
}

/* --- moves that the systems know and the console does not --- */

static void adopt(LpmConsole *console, LpmSystem *system, const json_t *status)
{
    const char *id = lpm_json_str(status, "migration", "");
    const char *peer = lpm_json_str(status, "peer", "");
    bool source = strcmp(lpm_json_str(status, "side", ""), "source") == 0;
    g_autoptr(json_t) options = lpm_options_read(NULL, NULL);
    LpmMoveRequest request = {lpm_json_str(status, "partition", "?"), source ? system->name : peer,
                              source ? peer : system->name,           "",
                              lpm_json_bool(status, "active", true),  options};
    g_autoptr(GError) error = NULL;

    if (!*id || lpm_json_bool(status, "finished", true) ||
        g_hash_table_contains(console->moves, id)) {
        return;
    }
    if (!g_hash_table_contains(console->systems, peer)) {
        console->moves_missed = true; /* until the other system has joined */
        return;
    }
    if (!lpm_moves_adopt(console, id, &request, &error)) {
        lpm_log_error(&(LpmLogFields){.migration = id}, "not taken up: %s", error->message);
    }
}

/* Scripts that ended their part while the console was not listening. */
static void hear_late(LpmSystem *system, json_t *status)
{
    const LpmMove *move =
        g_hash_table_lookup(system->console->moves, lpm_json_str(status, "migration", ""));
    bool source = strcmp(lpm_json_str(status, "side", ""), "source") == 0;
    LpmHalfSide side = source ? LPM_HALF_SOURCE : LPM_HALF_TARGET;

    if (move && lpm_move_is_over(move) && scripts_are_news(move->halves[side].status, status)) {
        lpm_moves_status(system->console, system, status);
    }
}

static void on_migrations(json_t *result, const GError *error, void *data)
{
    LpmSystem *system = data;
    json_t *status;
    size_t i;

    (void)error; /* a system that cannot list them is asked again when it connects anew */
    json_array_foreach (json_object_get(result, "migrations"), i, status) {
        if (system->console) {
            adopt(system->console, system, status);
            hear_late(system, status);
        }
    }
    lpm_system_unref(system);
}

static void ask_for_moves(LpmSystem *system)
{
    lpm_system_call(system, "migration-list", NULL, ASK_TIMEOUT_MS, on_migrations,
                    lpm_system_ref(system));
}

/* Of every system but @connected, which was just asked. */
static void ask_once_more(gpointer name, gpointer system, gpointer connected)
{
    (void)name;
    if (system != connected && ((LpmSystem *)system)->state == LPM_SYSTEM_CONNECTED) {
        ask_for_moves(system);
    }
}

void lpm_moves_connected(LpmConsole *console, LpmSystem *system)
{
    GList *moves = g_hash_table_get_values(console->moves);

    tell_discards(console, system);
    ask_for_moves(system);
    if (console->moves_missed) {
        console->moves_missed = false;
        g_hash_table_foreach(console->systems, ask_once_more, system);
    }
    for (GList *item = moves; item; item = item->next) {
        LpmMove *move = item->data;

        for (int side = 0; side < LPM_HALF_N; side++) {
            if (!lpm_move_is_over(move) && move->started &&
                strcmp(move->systems[side], system->name) == 0) {
                ask(move, side);
            }
        }
        if (!lpm_move_is_over(move)) {
            lpm_move_touch(move); /* waiting_for has changed */
        }
    }
    g_list_free(moves);
}
