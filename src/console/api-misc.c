/* SPDX-License-Identifier: Apache-2.0 */
#include "api.h"
#include "checks/checks.h"
#include "kinds.h"
#include "listen.h"
#include "systems.h"
#include "webhook.h"

#include <string.h>

#define LIST_DEFAULT 100

static void fail(LpmHttpRequest *request, GError *error)
{
    lpm_http_request_fail(request, error);
    g_error_free(error);
}

/* --- modes --- */

/* Modes of @family on @system as it last said; NULL when it cannot run that family. Borrowed. */
static json_t *modes_of(const LpmSystem *system, LpmFamily family)
{
    g_autofree char *path = g_strdup_printf("emulators.%s.modes", lpm_family_name(family));

    return lpm_json_at(system->facts, path);
}

static json_t *system_modes(const LpmSystem *system)
{
    json_t *modes = json_object();

    for (int family = 0; family < LPM_FAMILY_N; family++) {
        json_t *list = modes_of(system, (LpmFamily)family);

        if (list) {
            json_object_set(modes, lpm_family_name((LpmFamily)family), list);
        }
    }
    return lpm_json_pack("{s:s, s:o}", "system", system->name, "modes", modes);
}

static const char **name_array(const json_t *list)
{
    const char **names = g_new0(const char *, json_array_size(list) + 1);
    json_t *name;
    size_t i;

    json_array_foreach (list, i, name) {
        names[i] = json_string_value(name) ? json_string_value(name) : "";
    }
    return names;
}

/* Null when one of the systems cannot run the family, or there is no common mode. */
static json_t *common_mode(LpmConsole *console, GPtrArray *systems, LpmFamily family)
{
    g_autoptr(GPtrArray) sets = g_ptr_array_new_with_free_func(g_free);
    const LpmMode *mode;

    for (guint i = 0; i < systems->len; i++) {
        const json_t *list = modes_of(systems->pdata[i], family);

        if (!list) {
            return json_null();
        }
        g_ptr_array_add(sets, name_array(list));
    }
    mode = lpm_compat_common(console->compat, (const char *const *const *)sets->pdata, sets->len);
    return mode ? json_string(mode->name) : json_null();
}

static json_t *common_modes(LpmConsole *console, const char *text, GError **error)
{
    g_auto(GStrv) names = g_strsplit(text, ",", -1);
    g_autoptr(GPtrArray) systems = g_ptr_array_new();
    json_t *result;

    for (char **name = names; *name; name++) {
        LpmSystem *system = lpm_systems_find(console, *name, error);

        if (!system) {
            return NULL;
        }
        if (!system->facts) {
            lpm_error_set(error, LPM_ERROR_UNREACHABLE,
                          "the modes of system \"%s\" are not known: it has not answered yet",
                          *name);
            return NULL;
        }
        g_ptr_array_add(systems, system);
    }
    result = json_object();
    for (int family = 0; family < LPM_FAMILY_N; family++) {
        json_object_set_new(result, lpm_family_name((LpmFamily)family),
                            common_mode(console, systems, (LpmFamily)family));
    }
    return result;
}

void lpm_api_modes(LpmHttpRequest *request, json_t *arguments, void *data)
{
    LpmConsole *console = data;
    const char *only = lpm_json_str(arguments, "system", NULL);
    const char *common = lpm_json_str(arguments, "common", NULL);
    json_t *list, *common_json = NULL;
    GError *error = NULL;
    GList *names;

    if (only && !lpm_systems_find(console, only, &error)) {
        fail(request, error);
        return;
    }
    common_json = common ? common_modes(console, common, &error) : NULL;
    if (error) {
        fail(request, error);
        return;
    }
    list = json_array();
    names = lpm_systems_names(console);
    for (GList *item = names; item; item = item->next) {
        if (!only || strcmp(only, item->data) == 0) {
            json_array_append_new(list,
                                  system_modes(g_hash_table_lookup(console->systems, item->data)));
        }
    }
    g_list_free(names);
    lpm_http_request_return(request,
                            lpm_json_pack("{s:o, s:o?}", "systems", list, "common", common_json));
}

/* --- the rest --- */

void lpm_api_checks(LpmHttpRequest *request, json_t *arguments, void *data)
{
    (void)arguments;
    (void)data;
    lpm_http_request_return(request, lpm_json_pack("{s:o}", "checks", lpm_checks_list()));
}

void lpm_api_events(LpmHttpRequest *request, json_t *arguments, void *data)
{
    GError *error = NULL;
    json_t *list = lpm_events_list(data, lpm_json_int(arguments, "since", 0),
                                   lpm_json_int(arguments, "limit", LIST_DEFAULT), &error);

    if (!list) {
        fail(request, error);
        return;
    }
    lpm_http_request_return(request, lpm_json_pack("{s:o}", "events", list));
}

void lpm_api_events_stream(LpmHttpRequest *request, json_t *arguments, void *data)
{
    LpmListen listen = {
        .kinds = lpm_json_str(arguments, "kinds", NULL),
        .object = lpm_json_str(arguments, "object", NULL),
        .after = lpm_json_int(arguments, "Last-Event-ID", lpm_json_int(arguments, "since", -1)),
    };
    g_auto(GStrv) kinds = listen.kinds ? g_strsplit(listen.kinds, ",", -1) : NULL;
    GError *error = NULL;

    if (!lpm_event_kinds_check((const char *const *)kinds, &error) ||
        !lpm_listeners_add(data, request, &listen, &error)) {
        fail(request, error);
    }
}

void lpm_api_webhooks(LpmHttpRequest *request, json_t *arguments, void *data)
{
    (void)arguments;
    lpm_http_request_return(request, lpm_json_pack("{s:o}", "webhooks", lpm_webhooks_list(data)));
}

void lpm_api_webhook_retry(LpmHttpRequest *request, json_t *arguments, void *data)
{
    GError *error = NULL;
    json_t *webhook = lpm_webhook_retry(data, lpm_json_str(arguments, "webhook", ""), &error);

    if (!webhook) {
        fail(request, error);
        return;
    }
    lpm_http_request_return(request, webhook);
}

void lpm_api_version(LpmHttpRequest *request, json_t *arguments, void *data)
{
    const LpmConsole *console = data;

    (void)arguments;
    lpm_http_request_return(request, lpm_json_pack("{s:s, s:i, s:s}", "version", LPM_VERSION, "api",
                                                   1, "name", console->config->name));
}

void lpm_api_health(LpmHttpRequest *request, json_t *arguments, void *data)
{
    (void)arguments;
    (void)data;
    lpm_http_request_return(request, lpm_json_pack("{s:s}", "status", "ok"));
}
