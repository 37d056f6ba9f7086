/* SPDX-License-Identifier: Apache-2.0 */
#include "api.h"
#include "fleet.h"
#include "systems.h"

#include <string.h>

#define CALL_TIMEOUT_MS 3000

static void fail(LpmHttpRequest *request, GError *error)
{
    lpm_http_request_fail(request, error);
    g_error_free(error);
}

void lpm_api_system_list(LpmHttpRequest *request, json_t *arguments, void *data)
{
    LpmConsole *console = data;
    json_t *list = json_array();
    GList *names = lpm_systems_names(console);

    (void)arguments;
    for (GList *item = names; item; item = item->next) {
        json_array_append_new(
            list, lpm_system_to_json(g_hash_table_lookup(console->systems, item->data)));
    }
    g_list_free(names);
    lpm_http_request_return(request, lpm_json_pack("{s:o}", "systems", list));
}

void lpm_api_system_add(LpmHttpRequest *request, json_t *arguments, void *data)
{
    LpmConsole *console = data;
    const char *name = lpm_json_str(arguments, "name", "");
    g_autofree char *token = NULL;
    g_autofree char *command = NULL;
    GError *error = NULL;
    int64_t expires;
    const char *address = console->config->addresses[0];
    bool six = strchr(address, ':') != NULL;

    if (!lpm_name_is_valid(name)) {
        lpm_error_set(&error, LPM_ERROR_USAGE,
                      "\"%s\" is no name for a system: up to %d letters, digits, dots, dashes and "
                      "underscores, a letter or digit first",
                      name, LPM_NAME_MAX);
        fail(request, error);
        return;
    }
    if (!g_hash_table_contains(console->systems, name) &&
        g_hash_table_size(console->systems) >= (unsigned)console->config->max_systems) {
        lpm_error_set(&error, LPM_ERROR_BUSY,
                      "system \"%s\": this console has %d systems, as many as max_systems of its "
                      "configuration lets it have; remove one or raise the limit",
                      name, console->config->max_systems);
        fail(request, error);
        return;
    }
    token = lpm_join_token_new(console, name, &expires, &error);
    if (!token) {
        fail(request, error);
        return;
    }
    lpm_systems_invited(console, name);
    lpm_event_add(console, "system", name, lpm_http_request_user(request), "invited");
    command =
        g_strdup_printf("lpm-host join --console %s%s%s:%u --name %s --token %s", six ? "[" : "",
                        address, six ? "]" : "", console->config->rpc_port, name, token);
    lpm_http_request_return(request,
                            lpm_json_pack("{s:s, s:s, s:I, s:s}", "name", name, "token", token,
                                          "expires_us", (json_int_t)expires, "command", command));
}

/* --- show --- */

typedef struct {
    LpmHttpRequest *request;
    LpmSystem *system;
} Show;

static void on_measured(json_t *facts, const LpmLink *link, const GError *error, void *data)
{
    Show *show = data;
    json_t *result = lpm_system_to_json(show->system);

    (void)link;
    (void)error;
    json_object_set_new(result, "facts", facts ? json_incref(facts) : json_null());
    lpm_http_request_return(show->request, result);
    lpm_system_unref(show->system);
    g_free(show);
}

void lpm_api_system_show(LpmHttpRequest *request, json_t *arguments, void *data)
{
    GError *error = NULL;
    LpmSystem *system = lpm_systems_find(data, lpm_json_str(arguments, "system", ""), &error);
    Show *show;

    if (!system) {
        fail(request, error);
        return;
    }
    show = g_new0(Show, 1);
    show->request = request;
    show->system = lpm_system_ref(system);
    lpm_system_measure(system, on_measured, show);
}

/* --- delete --- */

typedef struct {
    LpmConsole *console;
    LpmHttpRequest *request;
    char *name;
} Delete;

static void forget(LpmConsole *console, LpmHttpRequest *request, const char *name)
{
    GError *error = NULL;

    if (!lpm_systems_forget(console, name, &error)) {
        fail(request, error);
        return;
    }
    lpm_event_add(console, "system", name, lpm_http_request_user(request), "deleted");
    lpm_http_request_return(request, NULL);
}

static void on_partitions(json_t *rows, json_t *unreachable, void *data)
{
    Delete *delete = data;
    GError *error = NULL;

    if (json_array_size(unreachable) > 0) {
        lpm_error_set(&error, LPM_ERROR_UNREACHABLE,
                      "system \"%s\" does not answer, so what runs there is not known; force "
                      "deletes it all the same",
                      delete->name);
    } else if (json_array_size(rows) > 0) {
        lpm_error_set(&error, LPM_ERROR_STATE,
                      "system \"%s\" still has %zu partitions; move them first, or force",
                      delete->name, json_array_size(rows));
    }
    if (error) {
        fail(delete->request, error);
    } else {
        forget(delete->console, delete->request, delete->name);
    }
    g_free(delete->name);
    g_free(delete);
}

void lpm_api_system_delete(LpmHttpRequest *request, json_t *arguments, void *data)
{
    GError *error = NULL;
    LpmSystem *system = lpm_systems_find(data, lpm_json_str(arguments, "system", ""), &error);
    Delete *delete;

    if (!system) {
        fail(request, error);
        return;
    }
    if (lpm_json_bool(arguments, "force", false) || system->state == LPM_SYSTEM_INVITED) {
        g_autofree char *name = g_strdup(system->name);

        forget(data, request, name);
        return;
    }
    delete = g_new0(Delete, 1);
    delete->console = data;
    delete->request = request;
    delete->name = g_strdup(system->name);
    lpm_fleet_list(data, delete->name, on_partitions, delete);
}

/* --- maintenance --- */

typedef struct {
    LpmConsole *console;
    LpmHttpRequest *request;
    char *name;
    bool maintenance;
} Maintenance;

static void on_maintenance(json_t *result, const GError *error, void *data)
{
    Maintenance *call = data;
    LpmSystem *system = g_hash_table_lookup(call->console->systems, call->name);

    if (error) {
        lpm_http_request_fail(call->request, error);
    } else {
        (void)result;
        if (system && system->facts) {
            json_object_set_new(system->facts, "state",
                                json_string(call->maintenance ? "maintenance" : "operating"));
        }
        lpm_event_add(call->console, "system", call->name, lpm_http_request_user(call->request),
                      call->maintenance ? "put into maintenance" : "maintenance ended");
        lpm_http_request_return(call->request, lpm_json_pack("{s:s, s:b}", "name", call->name,
                                                             "maintenance", call->maintenance));
    }
    g_free(call->name);
    g_free(call);
}

void lpm_api_system_maintenance(LpmHttpRequest *request, json_t *arguments, void *data)
{
    GError *error = NULL;
    LpmSystem *system = lpm_systems_need(data, lpm_json_str(arguments, "system", ""), &error);
    Maintenance *call;

    if (!system) {
        fail(request, error);
        return;
    }
    call = g_new0(Maintenance, 1);
    call->console = data;
    call->request = request;
    call->name = g_strdup(system->name);
    call->maintenance = lpm_json_bool(arguments, "maintenance", false);
    lpm_system_call(system, "system-set", lpm_json_pack("{s:b}", "maintenance", call->maintenance),
                    CALL_TIMEOUT_MS, on_maintenance, call);
}
