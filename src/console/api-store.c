/* SPDX-License-Identifier: Apache-2.0 */
/* The images that systems keep of partitions: asked of one system, or of all at once. */
#include "api.h"
#include "systems.h"

#include <string.h>

#define CALL_TIMEOUT_MS 5000

/* One question to several systems; freed with the last answer. */
typedef struct {
    LpmConsole *console;
    LpmHttpRequest *request;
    char *partition; /* NULL: every one */
    const char *verb;
    json_t *systems, *images, *unreachable;
    json_int_t dropped;
    GError *error; /* the first that is the partition's, not the link's */
    unsigned answers, pending;
} Ask;

typedef struct {
    Ask *ask;
    LpmSystem *system;
} AskCall;

static bool is_drop(const Ask *ask)
{
    return strcmp(ask->verb, "store-drop") == 0;
}

/* Not found on one system is no error as long as another one has it. */
static bool is_answer(const GError *error)
{
    return g_error_matches(error, LPM_ERROR, LPM_ERROR_NOT_FOUND) ||
           g_error_matches(error, LPM_ERROR, LPM_ERROR_BUSY);
}

static void ask_end(Ask *ask)
{
    if (ask->error && ask->answers == 0) {
        lpm_http_request_fail(ask->request, ask->error);
    } else if (is_drop(ask)) {
        lpm_event_add(ask->console, "store", ask->partition ? ask->partition : "all",
                      lpm_http_request_user(ask->request), "%d images dropped", (int)ask->dropped);
        lpm_http_request_return(ask->request, lpm_json_pack("{s:I, s:O}", "dropped", ask->dropped,
                                                            "unreachable", ask->unreachable));
    } else {
        lpm_http_request_return(ask->request,
                                lpm_json_pack("{s:O, s:O, s:O}", "systems", ask->systems, "images",
                                              ask->images, "unreachable", ask->unreachable));
    }
    json_decref(ask->systems);
    json_decref(ask->images);
    json_decref(ask->unreachable);
    g_clear_error(&ask->error);
    g_free(ask->partition);
    g_free(ask);
}

static void ask_unref(Ask *ask)
{
    if (--ask->pending == 0) {
        ask_end(ask);
    }
}

static bool is_wanted(const Ask *ask, const json_t *row)
{
    return !ask->partition || strcmp(ask->partition, lpm_json_str(row, "partition", "")) == 0 ||
           strcmp(ask->partition, lpm_json_str(row, "uuid", "")) == 0;
}

static void add_images(Ask *ask, const LpmSystem *system, json_t *result)
{
    g_autoptr(json_t) store = json_copy(result);
    json_t *row;
    size_t i;

    json_array_foreach (json_object_get(result, "images"), i, row) {
        if (is_wanted(ask, row)) {
            g_autoptr(json_t) copy = json_copy(row);

            json_object_set_new(copy, "system", json_string(system->name));
            json_array_append(ask->images, copy);
        }
    }
    json_object_del(store, "images");
    json_object_set_new(store, "system", json_string(system->name));
    json_array_append(ask->systems, store);
}

static void on_answer(json_t *result, const GError *error, void *data)
{
    AskCall *call = data;
    Ask *ask = call->ask;

    if (error && is_answer(error)) {
        if (!ask->error) {
            ask->error = g_error_copy(error);
        }
    } else if (error) {
        json_array_append_new(
            ask->unreachable,
            lpm_json_pack("{s:s, s:s}", "system", call->system->name, "error", error->message));
    } else if (is_drop(ask)) {
        ask->answers++;
        ask->dropped += lpm_json_int(result, "dropped", 0);
    } else {
        ask->answers++;
        add_images(ask, call->system, result);
    }
    lpm_system_unref(call->system);
    g_free(call);
    ask_unref(ask);
}

static void ask_system(Ask *ask, LpmSystem *system)
{
    AskCall *call = g_new0(AskCall, 1);
    json_t *arguments = json_object();

    if (is_drop(ask) && ask->partition) {
        json_object_set_new(arguments, "partition", json_string(ask->partition));
    } else if (is_drop(ask)) {
        json_object_set_new(arguments, "all", json_true());
    }
    call->ask = ask;
    call->system = lpm_system_ref(system);
    ask->pending++;
    lpm_system_call(system, ask->verb, arguments, CALL_TIMEOUT_MS, on_answer, call);
}

static gboolean ask_idle(gpointer data)
{
    ask_unref(data);
    return G_SOURCE_REMOVE;
}

/* Asks @name, or all systems that have joined. */
static void ask_start(LpmConsole *console, LpmHttpRequest *request, const char *verb,
                      const char *name, const char *partition)
{
    g_autoptr(GError) error = NULL;
    LpmSystem *only = name ? lpm_systems_need(console, name, &error) : NULL;
    Ask *ask;

    if (error) {
        lpm_http_request_fail(request, error);
        return;
    }
    ask = g_new0(Ask, 1);
    ask->console = console;
    ask->request = request;
    ask->verb = verb;
    ask->partition = g_strdup(partition);
    ask->systems = json_array();
    ask->images = json_array();
    ask->unreachable = json_array();
    ask->pending = 1; /* until all have been asked */
    if (only) {
        ask_system(ask, only);
    } else {
        GList *names = lpm_systems_names(console);

        for (GList *item = names; item; item = item->next) {
            LpmSystem *system = g_hash_table_lookup(console->systems, item->data);

            if (system->state != LPM_SYSTEM_INVITED) {
                ask_system(ask, system);
            }
        }
        g_list_free(names);
    }
    g_idle_add(ask_idle, ask);
}

/* It had none, or is away: what it keeps goes when it needs the room. */
static void on_forgotten(json_t *result, const GError *error, void *data)
{
    (void)result;
    (void)error;
    (void)data;
}

void lpm_api_store_forget(LpmConsole *console, const char *uuid)
{
    GHashTableIter iter;
    gpointer system;

    g_hash_table_iter_init(&iter, console->systems);
    while (g_hash_table_iter_next(&iter, NULL, &system)) {
        if (((const LpmSystem *)system)->state == LPM_SYSTEM_CONNECTED) {
            lpm_system_call(system, "store-drop", lpm_json_pack("{s:s}", "partition", uuid),
                            CALL_TIMEOUT_MS, on_forgotten, NULL);
        }
    }
}

void lpm_api_store_list(LpmHttpRequest *request, json_t *arguments, void *data)
{
    ask_start(data, request, "store-list", lpm_json_str(arguments, "system", NULL),
              lpm_json_str(arguments, "partition", NULL));
}

void lpm_api_store_drop(LpmHttpRequest *request, json_t *arguments, void *data)
{
    const char *partition = lpm_json_str(arguments, "partition", NULL);
    g_autoptr(GError) error = NULL;

    if (lpm_json_bool(arguments, "all", false) == (partition != NULL)) {
        lpm_error_set(
            &error, LPM_ERROR_USAGE,
            "which images shall be dropped: give a partition, or all=true; one of the two");
        lpm_http_request_fail(request, error);
        return;
    }
    ask_start(data, request, "store-drop", lpm_json_str(arguments, "system", NULL), partition);
}
