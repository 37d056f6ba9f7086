/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "listen.h"
#include "moves.h"
#include "webhook.h"

#include <string.h>

static void prune(LpmConsole *console)
{
    g_autofree char *key =
        g_strdup_printf("%016" G_GINT64_FORMAT, console->last_event - console->config->history);

    if (!lpm_store_delete(console->store, LPM_KIND_EVENT, key, NULL)) {
        return; /* an event too many does no harm */
    }
}

/* Of which partition a migration is, from where to where, and how it stands: for programs. */
static json_t *move_of(const LpmConsole *console, const char *kind, const char *object)
{
    const LpmMove *move = strcmp(kind, "migration") == 0 && console->moves
                              ? g_hash_table_lookup(console->moves, object)
                              : NULL;

    return move ? lpm_json_pack("{s:s, s:s, s:s, s:s}", "partition", move->partition, "source",
                                move->systems[LPM_HALF_SOURCE], "target",
                                move->systems[LPM_HALF_TARGET], "state", lpm_move_state_name(move))
                : NULL;
}

void lpm_event_add(LpmConsole *console, const char *kind, const char *object, const char *user,
                   const char *format, ...)
{
    LpmLogFields fields = {.object = object};
    g_autofree char *raw = NULL;
    g_autofree char *message = NULL;
    g_autofree char *key = NULL;
    g_autoptr(json_t) event = NULL;
    g_autoptr(GError) error = NULL;
    va_list args;

    va_start(args, format);
    raw = g_strdup_vprintf(format, args);
    va_end(args);
    message = g_utf8_make_valid(raw, -1); /* another program's words, or cut within a character */
    lpm_log_info(&fields, "%s %s: %s", kind, object, message);
    key = g_strdup_printf("%016" G_GINT64_FORMAT, ++console->last_event);
    event = lpm_json_pack(
        "{s:I, s:I, s:s, s:s, s:s?, s:s, s:o?}", "number", (json_int_t)console->last_event,
        "time_us", (json_int_t)lpm_clock_realtime_us(console->clock), "kind", kind, "object",
        object, "user", user, "message", message, "move", move_of(console, kind, object));
    if (!lpm_store_put(console->store, LPM_KIND_EVENT, key, event, NULL, &error)) {
        lpm_log_error(&fields, "event not kept: %s", error->message);
    }
    prune(console);
    lpm_listeners_wake(console);
    lpm_webhooks_wake(console);
}

bool lpm_events_load(LpmConsole *console, GError **error)
{
    g_autoptr(json_t) all = lpm_store_list(console->store, LPM_KIND_EVENT, error);
    const char *key;
    json_t *event;

    if (!all) {
        return false;
    }
    json_object_foreach (all, key, event) {
        console->last_event = MAX(console->last_event, lpm_json_int(event, "number", 0));
    }
    return true;
}

json_t *lpm_events_after(LpmConsole *console, int64_t after, int64_t limit, GError **error)
{
    g_autofree char *key = g_strdup_printf("%016" G_GINT64_FORMAT, MAX(after, 0));
    g_autoptr(json_t) found =
        lpm_store_list_after(console->store, LPM_KIND_EVENT, key, limit, error);
    json_t *list;
    const char *number;
    json_t *event;

    if (!found) {
        return NULL;
    }
    list = json_array();
    json_object_foreach (found, number, event) {
        json_array_append(list, event);
    }
    return list;
}

json_t *lpm_events_list(LpmConsole *console, int64_t since, int64_t limit, GError **error)
{
    int64_t after = MAX(since, console->last_event - MAX(limit, 0));

    return limit > 0 ? lpm_events_after(console, after, limit, error) : json_array();
}
