/* SPDX-License-Identifier: Apache-2.0 */
#include "takeover.h"

#include "api.h"
#include "fleet.h"
#include "moves.h"
#include "power.h"

#include <string.h>

enum {
    WAIT_DEFAULT_S = 60,
    WAIT_MAX_S = 120,
    AUTO_WAIT_S = 120, /* systems may still have to connect */
    ALERT_LOOK_S = 2,
    ANSWER_AFTER_S = 170, /* `lpm` waits 180 s; the cluster's word may take longer: events tell */
    EVENTS_MAX = 10000,   /* that are searched for an alarm of before */
    TOLD_TIMEOUT_MS = 630000,
    STANDBYS_MAX = 16,
    SHORTLY_S = 3600,
};

typedef struct {
    LpmConsole *console;
    LpmHttpRequest *request; /* NULL: by itself, or answered already */
    char *user, *partition, *migration, *member, *script;
    json_t *standbys, *results;
    unsigned pending, good;
    guint timer;
    int64_t asked_us, deadline_us; /* monotonic: of the request; that an alarm may wait for */
    bool refused;                  /* it would be taken over without a word, were that allowed */
    bool after;                    /* it was lost when it had moved */
    bool again;                    /* there was news meanwhile */
} Takeover;

/* One of the members that are left. */
typedef struct {
    Takeover *takeover;
    char *partition;
} Standby;

static void takeover_free(Takeover *takeover)
{
    GHashTable *considered = takeover->console->considered;

    if (takeover->migration && g_hash_table_lookup(considered, takeover->migration) == takeover) {
        g_hash_table_remove(considered, takeover->migration);
    }
    g_clear_handle_id(&takeover->timer, g_source_remove);
    g_free(takeover->user);
    g_free(takeover->partition);
    g_free(takeover->migration);
    g_free(takeover->member);
    g_free(takeover->script);
    json_decref(takeover->standbys);
    json_decref(takeover->results);
    g_free(takeover);
}

/* --- what the partition's script has said when its last move began --- */

/* The script that speaks for a cluster, as check asked it. Borrowed; NULL. */
static const json_t *cluster_script(const LpmMove *move)
{
    json_t *phase, *script;
    size_t i, k;

    json_array_foreach (lpm_json_at(move->halves[LPM_HALF_SOURCE].status, "scripts.phases"), i,
                        phase) {
        json_array_foreach (lpm_json_at(phase, "scripts"), k, script) {
            if (lpm_json_str(script, "facts.cluster_node", NULL)) {
                return script;
            }
        }
    }
    return NULL;
}

/* The newest move of a partition of which a cluster's script has spoken. Borrowed; NULL. */
static const LpmMove *last_move(LpmConsole *console, const char *partition, const char *id)
{
    g_autoptr(GList) moves = lpm_moves_sorted(console);

    for (GList *at = moves; at; at = at->next) {
        const LpmMove *move = at->data;

        if (strcmp(move->partition, partition) == 0 && (!id || strcmp(move->id, id) == 0) &&
            cluster_script(move)) {
            return move;
        }
    }
    return NULL;
}

static json_t *words_of(const char *text)
{
    g_auto(GStrv) words = g_strsplit_set(text, " ,", -1);
    json_t *list = json_array();

    for (char **word = words; *word; word++) {
        if (**word && json_array_size(list) < STANDBYS_MAX) {
            json_array_append_new(list, json_string(*word));
        }
    }
    return list;
}

static Takeover *takeover_new(LpmConsole *console, const char *partition, const LpmMove *move)
{
    const json_t *script = move ? cluster_script(move) : NULL;
    Takeover *takeover = g_new0(Takeover, 1);

    takeover->console = console;
    takeover->partition = g_strdup(partition);
    takeover->migration = g_strdup(move ? move->id : NULL);
    takeover->script = g_strdup(lpm_json_str(script, "name", "all/lpm-pacemaker"));
    takeover->member = g_strdup(lpm_json_str(script, "facts.cluster_node", NULL));
    takeover->standbys = words_of(lpm_json_str(script, "facts.cluster_standby", ""));
    takeover->results = json_array();
    return takeover;
}

/* --- the end --- */

static json_t *view(const Takeover *takeover)
{
    return lpm_json_pack("{s:s, s:s?, s:s, s:b, s:O}", "partition", takeover->partition,
                         "migration", takeover->migration, "member", takeover->member, "finished",
                         takeover->pending == 0, "standbys", takeover->results);
}

static void fail(Takeover *takeover, const GError *error)
{
    if (takeover->request) {
        lpm_http_request_fail(takeover->request, error);
    } else {
        lpm_event_add(takeover->console, "alarm", takeover->partition, takeover->user,
                      "the work of cluster member %s is not taken over: %s", takeover->member,
                      error->message);
    }
    takeover_free(takeover);
}

/* It is not lost, as far as was seen: unless that was seen before the last news. */
static void let_be(Takeover *takeover)
{
    LpmMove *move =
        takeover->again ? g_hash_table_lookup(takeover->console->moves, takeover->migration) : NULL;

    takeover_free(takeover);
    if (move) {
        lpm_takeover_consider(move);
    }
}

static void finish(Takeover *takeover)
{
    g_autoptr(GString) names = g_string_new(NULL);
    json_t *row;
    size_t i;

    json_array_foreach (takeover->results, i, row) {
        g_string_append_printf(names, "%s%s: %s", i > 0 ? "; " : "",
                               lpm_json_str(row, "partition", "?"), lpm_json_str(row, "words", ""));
    }
    if (takeover->good == 0) {
        g_autoptr(GError) error = NULL;

        lpm_error_set(&error, LPM_ERROR_ABORTED,
                      "partition \"%s\" is off, but no standby has taken its work over: %s",
                      takeover->partition, names->str);
        fail(takeover, error);
        return;
    }
    lpm_event_add(takeover->console, "partition", takeover->partition, takeover->user,
                  "no copy of it runs; the work of cluster member %s is taken over: %s",
                  takeover->member, names->str);
    if (takeover->request) {
        lpm_http_request_return(takeover->request, view(takeover));
    }
    takeover_free(takeover);
}

/* Whoever asked is answered in time; what goes on is in the events. */
static gboolean answer_now(gpointer data)
{
    Takeover *takeover = data;

    takeover->timer = 0;
    if (takeover->request) {
        lpm_http_request_return(takeover->request, view(takeover));
        takeover->request = NULL;
    }
    return G_SOURCE_REMOVE;
}

/* --- the members that are left --- */

static void standby_end(Standby *standby, const char *result, const char *words)
{
    Takeover *takeover = standby->takeover;

    json_array_append_new(takeover->results,
                          lpm_json_pack("{s:s, s:s, s:s}", "partition", standby->partition,
                                        "result", result, "words", words));
    takeover->good += strcmp(result, "ok") == 0;
    g_free(standby->partition);
    g_free(standby);
    if (--takeover->pending == 0) {
        finish(takeover);
    }
}

/* What its script said, in the order of how much it tells. */
static char *words_from(const json_t *result)
{
    const char *words = lpm_json_str(result, "scripts.0.words", "");

    if (!*words) {
        words = lpm_json_str(result, "error", "");
    }
    if (!*words) {
        words = lpm_json_str(result, "scripts.0.log.0.text", "");
    }
    return g_utf8_make_valid(*words ? words : lpm_json_str(result, "result", "?"), -1);
}

static void on_told(json_t *result, const GError *error, void *data)
{
    const json_t *scripts = json_object_get(result, "scripts");
    bool asked = json_array_size(scripts) > 0;
    g_autofree char *words = error    ? g_strdup(error->message)
                             : !asked ? g_strdup("no script there speaks for a cluster")
                                      : words_from(result);

    standby_end(data,
                error    ? "failed"
                : !asked ? "absent"
                         : lpm_json_str(result, "result", "?"),
                words);
}

static void on_found(LpmSystem *system, const json_t *row, const char *note, const GError *error,
                     void *data)
{
    Standby *standby = data;
    const Takeover *takeover = standby->takeover;

    (void)row;
    (void)note;
    if (error) {
        standby_end(standby, "failed", error->message);
        return;
    }
    lpm_system_call(system, "scripts-takeover",
                    lpm_json_pack("{s:s, s:s, s:s, s:s}", "partition", standby->partition,
                                  "migration", takeover->migration, "member", takeover->member,
                                  "script", takeover->script),
                    TOLD_TIMEOUT_MS, on_told, standby);
}

static void on_off(const GError *error, void *data)
{
    Takeover *takeover = data;
    json_t *name;
    size_t i;

    if (error) {
        bool alive = g_error_matches(error, LPM_ERROR, LPM_ERROR_STATE);

        if (alive && !takeover->request) {
            let_be(takeover); /* a move that failed, and harmed nothing */
        } else {
            fail(takeover, error);
        }
        return;
    }
    takeover->pending = (unsigned)json_array_size(takeover->standbys);
    if (takeover->request) {
        int64_t waited_us = lpm_clock_monotonic_us(takeover->console->clock) - takeover->asked_us;
        int64_t left_s = ANSWER_AFTER_S - waited_us / G_TIME_SPAN_SECOND;

        takeover->timer = g_timeout_add_seconds((guint)MAX(left_s, 1), answer_now, takeover);
    }
    json_array_foreach (takeover->standbys, i, name) {
        Standby *standby = g_new0(Standby, 1);

        standby->takeover = takeover;
        standby->partition = g_strdup(json_string_value(name));
        lpm_fleet_find(takeover->console, standby->partition, on_found, standby);
    }
}

/* --- asked for --- */

static bool read_request(Takeover *takeover, const json_t *arguments, GError **error)
{
    json_t *given = json_object_get(arguments, "standbys"), *name;
    const char *member = lpm_json_str(arguments, "member", NULL);
    size_t i;

    if (member) {
        g_free(takeover->member);
        takeover->member = g_strdup(member);
    }
    if (json_array_size(given) > 0) {
        json_decref(takeover->standbys);
        takeover->standbys = json_deep_copy(given);
    }
    json_array_foreach (takeover->standbys, i, name) {
        if (!json_is_string(name) || strcmp(json_string_value(name), takeover->partition) == 0) {
            return lpm_error_set(error, LPM_ERROR_USAGE,
                                 "\"standbys\" are names of other partitions than \"%s\"",
                                 takeover->partition);
        }
    }
    if (!takeover->migration || !takeover->member) {
        return lpm_error_set(error, LPM_ERROR_NOT_FOUND,
                             "no move of partition \"%s\" is known in which it was the member of a "
                             "cluster: \"lpm-pacemaker recover MEMBER\" on a member that is left "
                             "does the same by hand",
                             takeover->partition);
    }
    if (json_array_size(takeover->standbys) == 0 ||
        json_array_size(takeover->standbys) > STANDBYS_MAX) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "which partitions are the other members of the cluster? Name 1 to %d "
                             "(--standby), or set LPM_STANDBY in its pacemaker.conf",
                             STANDBYS_MAX);
    }
    return true;
}

void lpm_api_partition_takeover(LpmHttpRequest *request, json_t *arguments, void *data)
{
    const char *partition = lpm_json_str(arguments, "partition", "");
    int64_t wait_s = lpm_json_int(arguments, "wait_s", WAIT_DEFAULT_S);
    Takeover *takeover = takeover_new(
        data, partition, last_move(data, partition, lpm_json_str(arguments, "migration", NULL)));
    g_autoptr(GError) error = NULL;

    takeover->request = request;
    takeover->asked_us = lpm_clock_monotonic_us(takeover->console->clock);
    takeover->user = g_strdup(lpm_http_request_user(request));
    if (wait_s < 1 || wait_s > WAIT_MAX_S) {
        lpm_error_set(&error, LPM_ERROR_USAGE, "\"wait_s\" must be from 1 to %d", WAIT_MAX_S);
    } else {
        (void)read_request(takeover, arguments, &error);
    }
    if (error) {
        fail(takeover, error);
        return;
    }
    lpm_power_off(data, partition, !lpm_json_bool(arguments, "force", false), wait_s, on_off,
                  takeover);
}

/* --- by itself --- */

typedef enum { SEEN_NOTHING, SEEN_LOST, SEEN_ALIVE } Seen;

/* A half that only waits, and a system that does not answer, say nothing of it either way. */
static Seen judge(const char *partition, const json_t *rows, const char **ret_reason)
{
    Seen seen = SEEN_NOTHING;
    json_t *row;
    size_t i;

    json_array_foreach (rows, i, row) {
        const char *state = lpm_json_str(row, "state", "unknown");

        if (strcmp(lpm_json_str(row, "name", ""), partition) != 0 ||
            strcmp(state, "incoming") == 0 || strcmp(state, "unknown") == 0) {
            continue;
        }
        if (strcmp(state, "error") != 0 && strcmp(state, "not-activated") != 0) {
            return SEEN_ALIVE;
        }
        seen = SEEN_LOST;
        if (strcmp(state, "not-activated") == 0) { /* in order, it may be */
            *ret_reason = lpm_json_str(row, "reason", "switched off");
        }
    }
    return seen;
}

static void look(Takeover *takeover);

static gboolean look_again(gpointer data)
{
    Takeover *takeover = data;

    takeover->timer = 0;
    look(takeover);
    return G_SOURCE_REMOVE;
}

/* Policy alert: somebody has to know, and to say the word. */
static void on_looked(json_t *rows, json_t *unreachable, void *data)
{
    Takeover *takeover = data;
    const char *reason = NULL;
    Seen seen = judge(takeover->partition, rows, &reason);
    bool known = json_array_size(unreachable) == 0;

    if (seen == SEEN_NOTHING &&
        lpm_clock_monotonic_us(takeover->console->clock) < takeover->deadline_us) {
        takeover->timer = g_timeout_add_seconds(ALERT_LOOK_S, look_again, takeover);
        return;
    }
    if (seen == SEEN_LOST) {
        lpm_event_add(takeover->console, "alarm", takeover->partition, NULL,
                      "it %s %s migration %s%s%s%s; it is member %s of a cluster, whose other "
                      "members take its work over with: lpm cluster takeover %s%s",
                      reason ? "has ended" : "was lost", takeover->after ? "right after" : "in",
                      takeover->migration, reason ? ": " : "", reason ? reason : "",
                      known ? "" : ", as far as systems answer", takeover->member,
                      takeover->partition,
                      takeover->refused ? " (it asks for that by itself, LPM_TAKEOVER=auto, which "
                                          "\"takeover\" in this console's configuration does not "
                                          "allow)"
                                        : "");
        takeover_free(takeover);
        return;
    }
    let_be(takeover);
}

static void look(Takeover *takeover)
{
    lpm_fleet_list_whole(takeover->console, on_looked, takeover);
}

static bool is_automatic(const LpmMove *move)
{
    return strcmp(lpm_json_str(cluster_script(move), "facts.cluster_takeover", ""), "auto") == 0;
}

/* Who takes over, and from whom, are the moved guest's words: it must not by itself have scripts
 * called in others' partitions unless whoever runs the console trusts all guests so far. */
static bool is_allowed(const LpmConsole *console)
{
    return strcmp(console->config->takeover, "auto") == 0;
}

static bool has_alarm(const LpmMove *move)
{
    g_autoptr(json_t) events = lpm_events_list(move->console, 0, EVENTS_MAX, NULL);
    json_t *event;
    size_t i;

    json_array_foreach (events, i, event) {
        if (strcmp(lpm_json_str(event, "kind", ""), "alarm") == 0 &&
            strcmp(lpm_json_str(event, "object", ""), move->partition) == 0 &&
            strstr(lpm_json_str(event, "message", ""), move->id)) {
            return true;
        }
    }
    return false;
}

/* Its scripts were not told how it ended: what they have put in force is so still. */
static bool is_left(const LpmMove *move)
{
    for (int side = 0; side < LPM_HALF_N; side++) {
        if (lpm_json_bool(lpm_json_at(move->halves[side].status, "scripts"), "left", false)) {
            return true;
        }
    }
    return false;
}

/* Its end is what counts then. */
static bool moves_anew(const LpmMove *move)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, move->console->moves);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const LpmMove *other = value;

        if (!lpm_move_is_over(other) && strcmp(other->partition, move->partition) == 0) {
            return true;
        }
    }
    return false;
}

void lpm_takeover_consider(const LpmMove *move)
{
    LpmConsole *console = move->console;
    Takeover *takeover = g_hash_table_lookup(console->considered, move->id);
    bool automatic, at_once;

    if (!cluster_script(move) || !move->started || moves_anew(move) ||
        (move->state != LPM_MOB_DRV_FAILED && !is_left(move))) {
        return;
    }
    if (takeover) {
        takeover->again = true;
        return;
    }
    takeover = takeover_new(console, move->partition, move);
    automatic = is_automatic(move) && json_array_size(takeover->standbys) > 0;
    at_once = automatic && is_allowed(console);
    if (!at_once && has_alarm(move)) {
        takeover_free(takeover);
        return;
    }
    takeover->after = move->state == LPM_MOB_DRV_COMPLETED;
    g_hash_table_insert(console->considered, g_strdup(move->id), takeover);
    if (at_once) {
        lpm_power_off(console, move->partition, true, AUTO_WAIT_S, on_off, takeover);
        return;
    }
    takeover->refused = automatic;
    takeover->deadline_us =
        lpm_clock_monotonic_us(console->clock) + AUTO_WAIT_S * G_TIME_SPAN_SECOND;
    look(takeover);
}

void lpm_takeover_resume(LpmConsole *console)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GList) moves = lpm_moves_sorted(console);
    int64_t since_us = lpm_clock_realtime_us(console->clock) - SHORTLY_S * G_TIME_SPAN_SECOND;

    for (GList *at = moves; at; at = at->next) {
        const LpmMove *move = at->data;
        bool newest = g_hash_table_add(seen, move->partition);

        if (newest && lpm_move_is_over(move) && move->ended_us > since_us) {
            lpm_takeover_consider(move);
        }
    }
}
