/* SPDX-License-Identifier: Apache-2.0 */
#include "systems.h"

#include "base/log.h"
#include "moves.h"

#include <string.h>

#define CONNECT_TIMEOUT_MS 5000
#define CALL_TIMEOUT_MS    1700
#define SILENT_TIMEOUT_MS  300 /* of one that has left a question unanswered just now */
#define SILENT_US          (2 * G_TIME_SPAN_SECOND)
#define BACKOFF_FIRST_MS   250
#define BACKOFF_MAX_MS     5000
#define ROUND_TRIPS        3

static void connect_now(LpmSystem *system);
static void ask_again(LpmSystem *system);

/* --- objects --- */

LpmSystem *lpm_system_ref(LpmSystem *system)
{
    system->refs++;
    return system;
}

void lpm_system_unref(LpmSystem *system)
{
    if (!system || --system->refs > 0) {
        return;
    }
    json_decref(system->facts);
    json_decref(system->partitions);
    g_free(system->error);
    g_free(system->address);
    g_free(system->name);
    g_free(system);
}

/* Ends the connection and everything that would make a new one. */
static void hang_up(LpmSystem *system)
{
    LpmRpcClient *client = g_steal_pointer(&system->client);

    if (system->retry) {
        g_source_remove(system->retry);
        system->retry = 0;
    }
    system->attempt++;
    system->again = false;
    lpm_rpc_client_free(client);
}

static void drop_system(gpointer data)
{
    LpmSystem *system = data;

    hang_up(system);
    system->console = NULL;
    ask_again(system);
    lpm_system_unref(system);
}

static LpmSystem *add_system(LpmConsole *console, const char *name)
{
    LpmSystem *system = g_new0(LpmSystem, 1);

    system->refs = 1;
    system->console = console;
    system->name = g_strdup(name);
    system->backoff_ms = BACKOFF_FIRST_MS;
    g_hash_table_insert(console->systems, system->name, system);
    return system;
}

const char *lpm_system_state_name(LpmSystemState state)
{
    static const char *const names[] = {
        [LPM_SYSTEM_INVITED] = "invited",
        [LPM_SYSTEM_CONNECTING] = "connecting",
        [LPM_SYSTEM_CONNECTED] = "connected",
        [LPM_SYSTEM_UNREACHABLE] = "unreachable",
    };

    return names[state];
}

static json_t *measured(const LpmSystem *system, int64_t value)
{
    return system->link.answered ? json_integer(value) : json_null();
}

json_t *lpm_system_to_json(const LpmSystem *system)
{
    const char *state = lpm_json_str(system->facts, "state", "");

    return lpm_json_pack("{s:s, s:s, s:s?, s:o, s:b, s:s?, s:o, s:o, s:s?}", "name", system->name,
                         "state", lpm_system_state_name(system->state), "address", system->address,
                         "port", system->port ? json_integer(system->port) : json_null(),
                         "maintenance", strcmp(state, "maintenance") == 0, "version",
                         lpm_json_str(system->facts, "version", NULL), "clock_offset_us",
                         measured(system, system->link.clock_offset_us), "round_trip_us",
                         measured(system, system->link.round_trip_us), "error", system->error);
}

/* --- calls --- */

typedef struct {
    char *message;
    LpmRpcReply reply;
    void *data;
} NoCall;

static gboolean refuse_call(gpointer data)
{
    NoCall *call = data;
    g_autoptr(GError) error = NULL;

    lpm_error_set(&error, LPM_ERROR_UNREACHABLE, "%s", call->message);
    call->reply(NULL, error, call->data);
    g_free(call->message);
    g_free(call);
    return G_SOURCE_REMOVE;
}

static char *why_unreachable(const LpmSystem *system)
{
    if (system->state == LPM_SYSTEM_INVITED) {
        return g_strdup_printf("system \"%s\" has not joined yet", system->name);
    }
    return g_strdup_printf("system \"%s\" does not answer: %s", system->name,
                           system->error ? system->error : "not connected yet");
}

static void no_reply(json_t *result, const GError *error, void *data)
{
    (void)result;
    (void)error;
    (void)data;
}

void lpm_system_call(LpmSystem *system, const char *verb, json_t *arguments, unsigned timeout_ms,
                     LpmRpcReply reply, void *data)
{
    NoCall *call;

    reply = reply ? reply : no_reply;
    if (system->client) {
        lpm_rpc_call(system->client, verb, arguments, timeout_ms, reply, data, NULL);
        return;
    }
    json_decref(arguments);
    call = g_new0(NoCall, 1);
    call->message = why_unreachable(system);
    call->reply = reply;
    call->data = data;
    g_idle_add(refuse_call, call);
}

typedef struct {
    LpmSystem *system;
    char *verb;
    json_t *arguments;
    unsigned timeout_ms;
    bool again;
    LpmRpcReply reply;
    void *data;
} Question;

static bool is_dead(const LpmSystem *system)
{
    return system->client ? !lpm_rpc_client_is_open(system->client) : system->again;
}

static void on_asked(json_t *result, const GError *error, void *data)
{
    Question *question = data;
    LpmSystem *system = question->system;

    if (error && !question->again && is_dead(system)) {
        question->again = true;
        system->waiting = g_slist_append(system->waiting, question);
        return;
    }
    question->reply(result, error, question->data);
    json_decref(question->arguments);
    lpm_system_unref(system);
    g_free(question->verb);
    g_free(question);
}

static void put(Question *question)
{
    lpm_system_call(question->system, question->verb, json_incref(question->arguments),
                    question->timeout_ms, on_asked, question);
}

static void ask_again(LpmSystem *system)
{
    GSList *waiting = g_steal_pointer(&system->waiting);

    for (GSList *one = waiting; one; one = one->next) {
        put(one->data);
    }
    g_slist_free(waiting);
}

void lpm_system_ask(LpmSystem *system, const char *verb, json_t *arguments, unsigned timeout_ms,
                    LpmRpcReply reply, void *data)
{
    Question *question = g_new0(Question, 1);

    question->system = lpm_system_ref(system);
    question->verb = g_strdup(verb);
    question->arguments = arguments;
    question->timeout_ms = timeout_ms;
    question->reply = reply;
    question->data = data;
    put(question);
}

void lpm_system_ask_now(LpmSystem *system, const char *verb, json_t *arguments, unsigned timeout_ms,
                        LpmRpcReply reply, void *data)
{
    if (system->console && system->address && !system->client) {
        system->again = true; /* the question waits for the end of this attempt */
        if (system->retry) {
            g_source_remove(system->retry);
            system->retry = 0;
            connect_now(system);
        }
    }
    lpm_system_ask(system, verb, arguments, timeout_ms, reply, data);
}

/* --- measuring --- */

typedef struct {
    LpmSystem *system;
    const LpmClock *clock;
    unsigned left;
    int64_t sent_us; /* monotonic */
    int64_t sent_real_us;
    LpmLink link;
    LpmSystemMeasured done;
    void *data;
} Measure;

static void measure_once(Measure *measure);

static void on_measured(json_t *facts, const GError *error, void *data)
{
    Measure *measure = data;
    int64_t trip = lpm_clock_monotonic_us(measure->clock) - measure->sent_us;

    if (facts && (!measure->link.answered || trip < measure->link.round_trip_us)) {
        measure->link.answered = true;
        measure->link.round_trip_us = trip;
        measure->link.clock_offset_us =
            lpm_json_int(facts, "clock_us", 0) - (measure->sent_real_us + trip / 2);
    }
    if (facts && --measure->left > 0) {
        measure_once(measure);
        return;
    }
    if (facts && measure->system->console) {
        json_decref(measure->system->facts);
        measure->system->facts = json_incref(facts);
        measure->system->link = measure->link;
    }
    measure->link.answered = facts != NULL;
    measure->done(facts, &measure->link, error, measure->data);
    lpm_system_unref(measure->system);
    g_free(measure);
}

static void measure_once(Measure *measure)
{
    const LpmSystem *system = measure->system;
    bool silent;

    measure->sent_us = lpm_clock_monotonic_us(measure->clock);
    measure->sent_real_us = lpm_clock_realtime_us(measure->clock);
    silent = system->silent_us > 0 && measure->sent_us - system->silent_us < SILENT_US;
    lpm_system_call(measure->system, "system-info", NULL,
                    silent ? SILENT_TIMEOUT_MS : CALL_TIMEOUT_MS, on_measured, measure);
}

void lpm_system_measure(LpmSystem *system, LpmSystemMeasured done, void *data)
{
    Measure *measure = g_new0(Measure, 1);

    measure->system = lpm_system_ref(system);
    measure->clock = system->console ? system->console->clock : lpm_clock_system();
    measure->left = ROUND_TRIPS;
    measure->done = done;
    measure->data = data;
    measure_once(measure);
}

/* --- connection --- */

static gboolean retry_now(gpointer data)
{
    LpmSystem *system = data;

    system->retry = 0;
    connect_now(system);
    return G_SOURCE_REMOVE;
}

/* Says it once: the reason changes rarely while a system is away for hours. */
static void lost(LpmSystem *system, const GError *error)
{
    bool news = system->state != LPM_SYSTEM_UNREACHABLE;
    bool worked = system->state == LPM_SYSTEM_CONNECTED;

    hang_up(system);
    if (!system->console) {
        return;
    }
    system->state = LPM_SYSTEM_UNREACHABLE;
    g_free(system->error);
    system->error = g_strdup(error ? error->message : "the connection was closed");
    if (news) {
        lpm_event_add(system->console, "system", system->name, NULL, "does not answer: %s",
                      system->error);
    }
    if (worked) {
        /* Mostly only the connection is dead, of an interruption that is over. */
        system->again = true;
        connect_now(system);
        return;
    }
    system->retry = g_timeout_add(system->backoff_ms, retry_now, system);
    system->backoff_ms = MIN(system->backoff_ms * 2, BACKOFF_MAX_MS);
    ask_again(system);
}

static void on_closed(const GError *error, void *data)
{
    lost(data, error);
}

static void on_partitions(json_t *result, const GError *error, void *data)
{
    LpmSystem *system = data;
    json_t *list = json_object_get(result, "partitions");

    (void)error;
    if (system->console && json_is_array(list)) {
        json_decref(system->partitions);
        system->partitions = json_incref(list);
    }
    lpm_system_unref(system);
}

static void on_event(const char *event, json_t *data, void *user_data)
{
    LpmSystem *system = user_data;

    if (!system->console) {
        return;
    }
    if (strcmp(event, "migration") == 0) {
        lpm_moves_status(system->console, system, data);
    } else if (strcmp(event, "partition") == 0) {
        lpm_system_call(system, "partition-list", NULL, CALL_TIMEOUT_MS, on_partitions,
                        lpm_system_ref(system));
    } else if (strcmp(event, "system") == 0 && system->facts) {
        json_object_set_new(
            system->facts, "state",
            json_string(lpm_json_bool(data, "maintenance", false) ? "maintenance" : "operating"));
    }
}

static void on_first_answer(json_t *facts, const LpmLink *link, const GError *error, void *data)
{
    LpmSystem *system = data;

    (void)link;
    if (system->console && system->client && facts) {
        system->state = LPM_SYSTEM_CONNECTED;
        system->backoff_ms = BACKOFF_FIRST_MS;
        g_clear_pointer(&system->error, g_free);
        lpm_event_add(system->console, "system", system->name, NULL, "connected");
        lpm_system_call(system, "partition-list", NULL, CALL_TIMEOUT_MS, on_partitions,
                        lpm_system_ref(system));
        lpm_moves_connected(system->console, system);
        system->again = false;
        ask_again(system);
    } else if (system->console && system->client) {
        lost(system, error);
    }
    lpm_system_unref(system);
}

typedef struct {
    LpmSystem *system;
    unsigned number;
} Attempt;

static void on_connected(LpmRpcClient *client, const GError *error, void *data)
{
    Attempt *attempt = data;
    LpmSystem *system = attempt->system;

    if (!system->console || attempt->number != system->attempt) {
        lpm_rpc_client_free(client);
    } else if (!client) {
        lost(system, error);
    } else {
        system->client = client;
        lpm_system_call(system, "subscribe", NULL, CALL_TIMEOUT_MS, NULL, NULL);
        lpm_system_measure(system, on_first_answer, lpm_system_ref(system));
    }
    lpm_system_unref(system);
    g_free(attempt);
}

static void connect_now(LpmSystem *system)
{
    Attempt *attempt = g_new0(Attempt, 1);

    attempt->system = lpm_system_ref(system);
    attempt->number = ++system->attempt;
    lpm_rpc_connect_tls(system->address, system->port, system->console->credentials, system->name,
                        CONNECT_TIMEOUT_MS, on_event, on_closed, system, on_connected, attempt);
}

/* --- the set --- */

void lpm_systems_joined(LpmConsole *console, const char *name, const char *address, uint16_t port)
{
    LpmSystem *system = g_hash_table_lookup(console->systems, name);

    if (!system) {
        system = add_system(console, name);
    }
    hang_up(system);
    g_free(system->address);
    system->address = g_strdup(address);
    system->port = port;
    system->state = LPM_SYSTEM_CONNECTING;
    system->backoff_ms = BACKOFF_FIRST_MS;
    /* It has its certificate only once it has our answer. */
    system->retry = g_timeout_add(system->backoff_ms, retry_now, system);
}

void lpm_systems_invited(LpmConsole *console, const char *name)
{
    if (!g_hash_table_contains(console->systems, name)) {
        add_system(console, name)->state = LPM_SYSTEM_INVITED;
    }
}

bool lpm_systems_load(LpmConsole *console, GError **error)
{
    g_autoptr(json_t) joined = lpm_store_list(console->store, LPM_KIND_SYSTEM, error);
    g_autoptr(json_t) invited =
        joined ? lpm_store_list(console->store, LPM_KIND_JOIN, error) : NULL;
    const char *name;
    json_t *value;

    console->systems = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, drop_system);
    if (!invited) {
        return false;
    }
    json_object_foreach (joined, name, value) {
        lpm_systems_joined(console, name, lpm_json_str(value, "address", ""),
                           (uint16_t)lpm_json_int(value, "port", 0));
    }
    json_object_foreach (invited, name, value) {
        lpm_systems_invited(console, name);
    }
    return true;
}

LpmSystem *lpm_systems_find(LpmConsole *console, const char *name, GError **error)
{
    LpmSystem *system = g_hash_table_lookup(console->systems, name);

    if (!system) {
        lpm_error_set(error, LPM_ERROR_NOT_FOUND,
                      "there is no system \"%s\"; \"lpm system list\" shows the systems of this "
                      "console",
                      name);
    }
    return system;
}

LpmSystem *lpm_systems_need(LpmConsole *console, const char *name, GError **error)
{
    LpmSystem *system = lpm_systems_find(console, name, error);

    if (system && system->state != LPM_SYSTEM_CONNECTED) {
        g_autofree char *why = why_unreachable(system);

        lpm_error_set(error, LPM_ERROR_UNREACHABLE, "%s", why);
        return NULL;
    }
    return system;
}

bool lpm_systems_forget(LpmConsole *console, const char *name, GError **error)
{
    if (!lpm_store_delete(console->store, LPM_KIND_SYSTEM, name, error) ||
        !lpm_store_delete(console->store, LPM_KIND_JOIN, name, error)) {
        return false;
    }
    g_hash_table_remove(console->systems, name);
    return true;
}

GList *lpm_systems_names(LpmConsole *console)
{
    return g_list_sort(g_hash_table_get_keys(console->systems), (GCompareFunc)strcmp);
}
