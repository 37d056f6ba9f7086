/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Post-copy whose movers are gone (lpm-host of one side was restarted, or the link was away for too
 * long): both halves wait, and neither knows where the other's new mover would be. The console
 * connects them, by itself and again and again, since the partition waits for its memory.
 */
#include "base/log.h"
#include "moves.h"

#include <string.h>

#define RELINK_EVERY_US   (5 * G_TIME_SPAN_SECOND)
#define RELINK_TIMEOUT_MS 10000

static bool is_paused(const LpmMove *move)
{
    for (int side = 0; side < LPM_HALF_N; side++) {
        const json_t *status = move->halves[side].status;

        if (strcmp(lpm_json_str(status, "postcopy", ""), "paused") == 0 &&
            !lpm_json_bool(status, "finished", false)) {
            return true;
        }
    }
    return false;
}

static void end(LpmMove *move, const char *what, const GError *error)
{
    const LpmLogFields fields = {.migration = move->id, .partition = move->partition};

    if (error) {
        lpm_log_warning(&fields, "post-copy is not connected again: %s: %s", what, error->message);
    } else {
        lpm_event_add(move->console, "migration", move->id, NULL,
                      "post-copy was paused; %s and %s are connected again",
                      move->systems[LPM_HALF_SOURCE], move->systems[LPM_HALF_TARGET]);
    }
    move->relinking = false;
    lpm_move_unref(move);
}

static void on_source(json_t *result, const GError *error, void *data)
{
    LpmMove *move = data;

    (void)result;
    end(move, move->systems[LPM_HALF_SOURCE], error);
}

typedef struct {
    LpmMove *move;
    char *key;
} Relink;

static void on_target(json_t *result, const GError *error, void *data)
{
    Relink *relink = data;
    LpmMove *move = relink->move;
    LpmSystem *source = lpm_move_system(move, LPM_HALF_SOURCE);
    json_t *addresses = lpm_json_at(result, "addresses");
    g_autoptr(GError) gone = NULL;

    if (!error && !source) {
        lpm_error_set(&gone, LPM_ERROR_NOT_FOUND, "the source was deleted");
    }
    if (error || gone) {
        end(move, move->systems[LPM_HALF_TARGET], error ? error : gone);
    } else {
        lpm_system_call(source, "migration-relink",
                        lpm_json_pack("{s:s, s:s, s:o, s:I}", "migration", move->id, "key",
                                      relink->key, "addresses",
                                      addresses ? json_incref(addresses) : json_array(), "port",
                                      (json_int_t)lpm_json_int(result, "port", 0)),
                        RELINK_TIMEOUT_MS, on_source, move);
    }
    g_free(relink->key);
    g_free(relink);
}

void lpm_move_relink(LpmMove *move)
{
    int64_t now = lpm_clock_monotonic_us(move->console->clock);
    bool both = lpm_systems_need(move->console, move->systems[LPM_HALF_SOURCE], NULL) &&
                lpm_systems_need(move->console, move->systems[LPM_HALF_TARGET], NULL);
    Relink *relink;

    if (move->relinking || !both || !is_paused(move) || now - move->relinked_us < RELINK_EVERY_US) {
        return;
    }
    move->relinking = true;
    move->relinked_us = now;
    relink = g_new0(Relink, 1);
    relink->move = lpm_move_ref(move);
    relink->key = lpm_new_mover_key();
    lpm_system_call(lpm_move_system(move, LPM_HALF_TARGET), "migration-relink-prepare",
                    lpm_json_pack("{s:s, s:s}", "migration", move->id, "key", relink->key),
                    RELINK_TIMEOUT_MS, on_target, relink);
}
