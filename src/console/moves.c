/* SPDX-License-Identifier: Apache-2.0 */
#include "moves.h"

#include "base/log.h"
#include "takeover.h"

#include <string.h>

static const char *const half_names[LPM_HALF_N] = {"source_half", "target_half"};
static const char *const system_names[LPM_HALF_N] = {"source", "target"};

typedef struct {
    LpmMove *move;
    int64_t since;
    guint timer;
    LpmMoveReady ready;
    void *data;
} LpmMoveWaiter;

LpmMove *lpm_move_ref(LpmMove *move)
{
    move->refs++;
    return move;
}

void lpm_move_unref(LpmMove *move)
{
    if (!move || --move->refs > 0) {
        return;
    }
    for (int side = 0; side < LPM_HALF_N; side++) {
        g_free(move->systems[side]);
        json_decref(move->halves[side].status);
    }
    json_decref(move->options);
    json_decref(move->findings);
    json_decref(move->error);
    json_decref(move->prediction);
    json_decref(move->profile);
    json_decref(move->runtime);
    json_decref(move->listening);
    g_free(move->id);
    g_free(move->partition);
    g_free(move->user);
    g_free(move->note);
    g_free(move->key);
    g_free(move->fencing.result);
    g_free(move);
}

/* --- waiting for news --- */

static void waiter_end(LpmMoveWaiter *waiter)
{
    LpmMove *move = waiter->move;

    move->waiters = g_list_remove(move->waiters, waiter);
    g_source_remove(waiter->timer);
    waiter->ready(move, waiter->data);
    lpm_move_unref(move);
    g_free(waiter);
}

static gboolean waiter_timeout(gpointer data)
{
    waiter_end(data);
    return G_SOURCE_CONTINUE; /* waiter_end() has removed it */
}

void lpm_move_wait(LpmMove *move, int64_t since, unsigned wait_ms, LpmMoveReady ready, void *data)
{
    LpmMoveWaiter *waiter;

    if (move->revision > since || wait_ms == 0) {
        ready(move, data);
        return;
    }
    waiter = g_new0(LpmMoveWaiter, 1);
    waiter->move = lpm_move_ref(move);
    waiter->since = since;
    waiter->ready = ready;
    waiter->data = data;
    waiter->timer = g_timeout_add(wait_ms, waiter_timeout, waiter);
    move->waiters = g_list_prepend(move->waiters, waiter);
}

void lpm_move_touch(LpmMove *move)
{
    lpm_move_ref(move);
    move->revision++;
    while (move->waiters) {
        waiter_end(move->waiters->data);
    }
    lpm_move_unref(move);
}

/* --- the store --- */

static json_t *to_json(const LpmMove *move)
{
    json_t *json = lpm_json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:b, s:O?, s:O?, s:O?, s:O?, s:s?, s:I, s:I}",
        "migration", move->id, "partition", move->partition, "user", move->user, "source",
        move->systems[LPM_HALF_SOURCE], "target", move->systems[LPM_HALF_TARGET], "state",
        lpm_mob_state_name(LPM_MOB_DRV, move->state), "active", move->active, "started",
        move->started, "stop_requested", move->stop_requested, "options", move->options, "findings",
        move->findings, "error", move->error, "prediction", move->prediction, "note", move->note,
        "created_us", (json_int_t)move->created_us, "ended_us", (json_int_t)move->ended_us);

    for (int side = 0; side < LPM_HALF_N; side++) {
        if (move->halves[side].status) {
            json_object_set(json, half_names[side], move->halves[side].status);
        }
    }
    return json;
}

static json_t *copy_member(const json_t *json, const char *name)
{
    json_t *value = lpm_json_at(json, name);

    return value ? json_deep_copy(value) : NULL;
}

/* The revision follows the clock, so that it also rises over a restart of the console. */
static LpmMove *move_new(LpmConsole *console)
{
    LpmMove *move = g_new0(LpmMove, 1);

    move->refs = 1;
    move->console = console;
    move->revision = lpm_clock_realtime_us(console->clock) / G_TIME_SPAN_MILLISECOND;
    return move;
}

static LpmMove *from_json(LpmConsole *console, const json_t *json)
{
    LpmMove *move = move_new(console);
    unsigned state = LPM_MOB_DRV_FAILED;

    move->id = g_strdup(lpm_json_str(json, "migration", ""));
    move->partition = g_strdup(lpm_json_str(json, "partition", ""));
    move->user = g_strdup(lpm_json_str(json, "user", ""));
    if (lpm_mob_state_from_name(LPM_MOB_DRV, lpm_json_str(json, "state", ""), &state)) {
        move->state = (LpmMobDrvState)state;
    }
    move->active = lpm_json_bool(json, "active", true);
    move->started = lpm_json_bool(json, "started", false);
    move->stop_requested = lpm_json_bool(json, "stop_requested", false);
    move->options = copy_member(json, "options");
    move->findings = copy_member(json, "findings");
    move->error = copy_member(json, "error");
    move->prediction = copy_member(json, "prediction");
    move->note = g_strdup(lpm_json_str(json, "note", NULL));
    move->created_us = lpm_json_int(json, "created_us", 0);
    move->ended_us = lpm_json_int(json, "ended_us", 0);
    for (int side = 0; side < LPM_HALF_N; side++) {
        move->systems[side] = g_strdup(lpm_json_str(json, system_names[side], ""));
        move->halves[side].status = copy_member(json, half_names[side]);
    }
    return move;
}

bool lpm_move_save(LpmMove *move, GError **error)
{
    g_autoptr(json_t) json = to_json(move);
    bool saved =
        lpm_store_put(move->console->store, LPM_KIND_MIGRATION, move->id, json, NULL, error);

    lpm_move_touch(move);
    return saved;
}

/* --- the set --- */

static void drop_move(gpointer data)
{
    LpmMove *move = data;

    lpm_validation_cancel(g_steal_pointer(&move->validation));
    if (move->timer) {
        g_source_remove(move->timer);
        move->timer = 0;
    }
    lpm_move_unref(move);
}

bool lpm_moves_load(LpmConsole *console, GError **error)
{
    g_autoptr(json_t) all = lpm_store_list(console->store, LPM_KIND_MIGRATION, error);
    const char *id;
    json_t *json;

    console->moves = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, drop_move);
    if (!all) {
        return false;
    }
    json_object_foreach (all, id, json) {
        LpmMove *move = from_json(console, json);

        g_hash_table_insert(console->moves, move->id, move);
    }
    return true;
}

void lpm_moves_resume(LpmConsole *console)
{
    GList *moves = g_hash_table_get_values(console->moves);

    for (GList *item = moves; item; item = item->next) {
        if (!lpm_move_is_over(item->data)) {
            lpm_move_resume(item->data);
        }
    }
    g_list_free(moves);
    lpm_takeover_resume(console);
}

bool lpm_move_is_over(const LpmMove *move)
{
    return move->state == LPM_MOB_DRV_COMPLETED || move->state == LPM_MOB_DRV_FAILED;
}

LpmMove *lpm_moves_find(LpmConsole *console, const char *id, GError **error)
{
    LpmMove *move = g_hash_table_lookup(console->moves, id);

    if (!move) {
        lpm_error_set(error, LPM_ERROR_NOT_FOUND,
                      "there is no migration \"%s\"; \"lpm migration list\" shows them", id);
    }
    return move;
}

static int newest_first(gconstpointer left, gconstpointer right)
{
    const LpmMove *a = left, *b = right;

    return a->created_us > b->created_us ? -1 : a->created_us < b->created_us;
}

GList *lpm_moves_sorted(LpmConsole *console)
{
    return g_list_sort(g_hash_table_get_values(console->moves), newest_first);
}

bool lpm_moves_allow(LpmConsole *console, const char *partition, const char *source,
                     const char *target, GError **error)
{
    const char *const names[] = {source, target};
    int used[G_N_ELEMENTS(names)] = {0};
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, console->moves);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const LpmMove *move = value;

        if (lpm_move_is_over(move)) {
            continue;
        }
        if (strcmp(move->partition, partition) == 0) {
            return lpm_error_set(error, LPM_ERROR_BUSY,
                                 "partition \"%s\" is moving already: migration %s, from %s to %s",
                                 partition, move->id, move->systems[LPM_HALF_SOURCE],
                                 move->systems[LPM_HALF_TARGET]);
        }
        for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
            used[i] += strcmp(move->systems[LPM_HALF_SOURCE], names[i]) == 0 ||
                       strcmp(move->systems[LPM_HALF_TARGET], names[i]) == 0;
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        if (used[i] >= console->config->max_moves) {
            return lpm_error_set(error, LPM_ERROR_BUSY,
                                 "system \"%s\" takes part in %d moves already, the most at one "
                                 "time (max_moves); wait until one has ended",
                                 names[i], used[i]);
        }
    }
    return true;
}

/* Keeps as many ended ones as configured. */
static void prune(LpmConsole *console)
{
    GList *sorted = lpm_moves_sorted(console);
    int64_t kept = 0;

    for (GList *item = sorted; item; item = item->next) {
        LpmMove *move = item->data;

        if (!lpm_move_is_over(move) || ++kept <= console->config->history) {
            continue;
        }
        if (lpm_store_delete(console->store, LPM_KIND_FACTS, move->id, NULL) &&
            lpm_store_delete(console->store, LPM_KIND_MIGRATION, move->id, NULL)) {
            g_hash_table_remove(console->moves, move->id);
        }
    }
    g_list_free(sorted);
}

static LpmMove *move_from_request(LpmConsole *console, const char *id,
                                  const LpmMoveRequest *request)
{
    LpmMove *move = move_new(console);

    move->id = g_strdup(id);
    move->partition = g_strdup(request->partition);
    move->systems[LPM_HALF_SOURCE] = g_strdup(request->source);
    move->systems[LPM_HALF_TARGET] = g_strdup(request->target);
    move->user = g_strdup(request->user);
    move->active = request->active;
    move->options = json_deep_copy(request->options);
    move->created_us = lpm_clock_realtime_us(console->clock);
    return move;
}

/* Written down, then in the set, which owns it. */
static bool add_move(LpmMove *move, GError **error)
{
    if (!lpm_move_save(move, error)) {
        return false;
    }
    g_hash_table_insert(move->console->moves, move->id, lpm_move_ref(move));
    return true;
}

LpmMove *lpm_moves_begin(LpmConsole *console, const LpmMoveRequest *request, GError **error)
{
    g_autofree char *id = lpm_new_migration_id();
    g_autoptr(LpmMove) move = NULL;

    if (!lpm_moves_allow(console, request->partition, request->source, request->target, error)) {
        return NULL;
    }
    prune(console);
    move = move_from_request(console, id, request);
    move->state = LPM_MOB_DRV_ACCEPTED;
    if (!add_move(move, error)) {
        return NULL;
    }
    lpm_event_add(console, "migration", move->id, move->user, "%s from %s to %s: accepted",
                  move->partition, request->source, request->target);
    lpm_move_advance(move, LPM_MOB_EV_VALIDATE);
    return move;
}

LpmMove *lpm_moves_adopt(LpmConsole *console, const char *id, const LpmMoveRequest *request,
                         GError **error)
{
    g_autoptr(LpmMove) move = move_from_request(console, id, request);

    move->state = LPM_MOB_DRV_MOVING;
    move->started = true;
    if (!add_move(move, error)) {
        return NULL;
    }
    lpm_event_add(console, "migration", move->id, NULL,
                  "%s from %s to %s: found under way, not begun by this console", move->partition,
                  request->source, request->target);
    lpm_move_follow(move);
    return move;
}
