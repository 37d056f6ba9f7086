/* SPDX-License-Identifier: Apache-2.0 */
/* Partitions: found over all systems, then asked of the system that has them. */
#include "api.h"
#include "fleet.h"

#include <string.h>

#define CALL_TIMEOUT_MS     5000
#define START_TIMEOUT_MS    60000
#define DIAGNOSE_TIMEOUT_MS 20000
#define STOP_DEFAULT_MS     60000
#define STOP_MAX_MS         3600000
#define STOP_SLACK_MS       10000

static void fail(LpmHttpRequest *request, GError *error)
{
    lpm_http_request_fail(request, error);
    g_error_free(error);
}

/* --- list --- */

static void on_list(json_t *rows, json_t *unreachable, void *data)
{
    lpm_http_request_return(
        data, lpm_json_pack("{s:O, s:O}", "partitions", rows, "unreachable", unreachable));
}

void lpm_api_partition_list(LpmHttpRequest *request, json_t *arguments, void *data)
{
    const char *system = lpm_json_str(arguments, "system", NULL);
    GError *error = NULL;

    if (system && !lpm_systems_find(data, system, &error)) {
        fail(request, error);
        return;
    }
    lpm_fleet_list(data, system, on_list, request);
}

/* --- one verb at the system that has the partition --- */

typedef struct {
    LpmConsole *console;
    LpmHttpRequest *request;
    char *partition;
    const char *verb;
    const char *deed; /* for the event; NULL: it changes nothing */
    json_t *arguments;
    unsigned timeout_ms;
    bool place; /* the answer says where it is */
    char *system, *note;
    char *uuid;
} Call;

static void call_free(Call *call)
{
    json_decref(call->arguments);
    g_free(call->partition);
    g_free(call->system);
    g_free(call->note);
    g_free(call->uuid);
    g_free(call);
}

static void on_answer(json_t *result, const GError *error, void *data)
{
    Call *call = data;

    if (error) {
        g_autoptr(GError) whole = g_error_copy(error);

        g_prefix_error(&whole, "system \"%s\": ", call->system);
        lpm_http_request_fail_findings(call->request, whole, NULL);
    } else {
        g_autoptr(json_t) answer = json_copy(result);

        if (call->place) {
            json_object_set_new(answer, "system", json_string(call->system));
            json_object_set_new(answer, "note", call->note ? json_string(call->note) : json_null());
        }
        if (call->deed) {
            lpm_event_add(call->console, "partition", call->partition,
                          lpm_http_request_user(call->request), "%s on %s", call->deed,
                          call->system);
        }
        if (strcmp(call->verb, "partition-delete") == 0 && call->uuid) {
            lpm_api_store_forget(call->console, call->uuid);
        }
        lpm_http_request_return(call->request, g_steal_pointer(&answer));
    }
    call_free(call);
}

static void on_found(LpmSystem *system, const json_t *row, const char *note, const GError *error,
                     void *data)
{
    Call *call = data;

    if (error) {
        lpm_http_request_fail(call->request, error);
        call_free(call);
        return;
    }
    call->system = g_strdup(system->name);
    call->uuid = g_strdup(lpm_json_str(row, "uuid", NULL));
    call->note = g_strdup(note);
    lpm_system_call(system, call->verb, g_steal_pointer(&call->arguments), call->timeout_ms,
                    on_answer, call);
}

/* @more (stolen): arguments besides the partition. */
static Call *call_new(LpmHttpRequest *request, const json_t *arguments, void *console,
                      const char *verb, json_t *more)
{
    Call *call = g_new0(Call, 1);

    call->console = console;
    call->request = request;
    call->partition = g_strdup(lpm_json_str(arguments, "partition", ""));
    call->verb = verb;
    call->arguments = lpm_json_pack("{s:s}", "partition", call->partition);
    json_object_update(call->arguments, more);
    json_decref(more);
    call->timeout_ms = CALL_TIMEOUT_MS;
    return call;
}

static void call_run(Call *call)
{
    lpm_fleet_find(call->console, call->partition, on_found, call);
}

void lpm_api_partition_show(LpmHttpRequest *request, json_t *arguments, void *data)
{
    Call *call = call_new(request, arguments, data, "partition-show", json_object());

    call->place = true;
    call_run(call);
}

void lpm_api_partition_diagnose(LpmHttpRequest *request, json_t *arguments, void *data)
{
    Call *call = call_new(request, arguments, data, "partition-diagnose", json_object());

    call->place = true;
    call->timeout_ms = DIAGNOSE_TIMEOUT_MS;
    call_run(call);
}

void lpm_api_partition_change(LpmHttpRequest *request, json_t *arguments, void *data)
{
    json_t *changes = json_object_get(arguments, "changes");
    Call *call;

    if (json_object_get(changes, "name")) {
        GError *error = NULL;

        lpm_error_set(&error, LPM_ERROR_USAGE, "a partition's name cannot be changed");
        fail(request, error);
        return;
    }
    call = call_new(request, arguments, data, "partition-change",
                    lpm_json_pack("{s:O}", "changes", changes));
    call->deed = "changed";
    call_run(call);
}

void lpm_api_partition_delete(LpmHttpRequest *request, json_t *arguments, void *data)
{
    Call *call =
        call_new(request, arguments, data, "partition-delete",
                 lpm_json_pack("{s:b}", "disks", lpm_json_bool(arguments, "disks", false)));

    call->deed = "deleted";
    call->timeout_ms = START_TIMEOUT_MS;
    call_run(call);
}

/* Those of @members that were given; a system of an earlier release refuses what it does not know.
 */
static json_t *given(const json_t *arguments, const char *const *members)
{
    json_t *result = json_object();

    for (; *members; members++) {
        json_t *value = json_object_get(arguments, *members);

        if (value) {
            json_object_set(result, *members, value);
        }
    }
    return result;
}

void lpm_api_partition_start(LpmHttpRequest *request, json_t *arguments, void *data)
{
    static const char *const members[] = {"profile", NULL};
    Call *call = call_new(request, arguments, data, "partition-start", given(arguments, members));

    call->deed = "started";
    call->timeout_ms = START_TIMEOUT_MS;
    call_run(call);
}

/* "orderly" or "hard"; NULL with USAGE. */
static const char *read_how(const json_t *arguments, GError **error)
{
    const char *how = lpm_json_str(arguments, "how", "orderly");

    if (strcmp(how, "orderly") != 0 && strcmp(how, "hard") != 0) {
        lpm_error_set(error, LPM_ERROR_USAGE, "\"how\" must be \"orderly\" or \"hard\"");
        return NULL;
    }
    return how;
}

void lpm_api_partition_stop(LpmHttpRequest *request, json_t *arguments, void *data)
{
    GError *error = NULL;
    const char *how = read_how(arguments, &error);
    int64_t timeout = lpm_json_int(arguments, "timeout_ms", STOP_DEFAULT_MS);
    Call *call;

    if (how && (timeout < 1 || timeout > STOP_MAX_MS)) {
        lpm_error_set(&error, LPM_ERROR_USAGE, "\"timeout_ms\" must be from 1 to %d", STOP_MAX_MS);
    }
    if (error) {
        fail(request, error);
        return;
    }
    call = call_new(request, arguments, data, "partition-stop",
                    lpm_json_pack("{s:s, s:I}", "how", how, "timeout_ms", (json_int_t)timeout));
    call->deed = "stopped";
    call->timeout_ms = (unsigned)timeout + STOP_SLACK_MS;
    call_run(call);
}

void lpm_api_partition_restart(LpmHttpRequest *request, json_t *arguments, void *data)
{
    GError *error = NULL;
    const char *how = read_how(arguments, &error);
    static const char *const members[] = {"how", "profile", NULL};
    Call *call;

    if (!how) {
        fail(request, error);
        return;
    }
    call = call_new(request, arguments, data, "partition-restart", given(arguments, members));
    call->deed = "restarted";
    call->timeout_ms = STOP_DEFAULT_MS + START_TIMEOUT_MS;
    call_run(call);
}

static void grow(LpmHttpRequest *request, json_t *arguments, void *data, const char *verb,
                 const char *member, const char *argument, const char *deed)
{
    json_int_t amount = (json_int_t)lpm_json_int(arguments, member, 0);
    Call *call = call_new(request, arguments, data, verb, lpm_json_pack("{s:I}", argument, amount));

    call->deed = deed;
    call->timeout_ms = START_TIMEOUT_MS;
    call_run(call);
}

void lpm_api_partition_memory(LpmHttpRequest *request, json_t *arguments, void *data)
{
    grow(request, arguments, data, "partition-add-memory", "add_mib", "mib", "given memory");
}

void lpm_api_partition_processors(LpmHttpRequest *request, json_t *arguments, void *data)
{
    grow(request, arguments, data, "partition-add-processors", "add", "count", "given processors");
}

void lpm_api_partition_media(LpmHttpRequest *request, json_t *arguments, void *data)
{
    json_t *body = lpm_json_pack("{s:s, s:b}", "disk", lpm_json_str(arguments, "disk", ""), "force",
                                 lpm_json_bool(arguments, "force", false));
    Call *call;

    for (size_t i = 0; i < 2; i++) {
        const char *member = i ? "pool" : "file";
        const char *value = lpm_json_str(arguments, member, NULL);

        if (value) {
            json_object_set_new(body, member, json_string(value));
        }
    }
    call = call_new(request, arguments, data, "partition-media", body);
    call->deed = "given another medium";
    call->timeout_ms = START_TIMEOUT_MS;
    call_run(call);
}

/* --- profiles --- */

static void profiles(LpmHttpRequest *request, json_t *arguments, void *data, const char *verb,
                     const char *deed)
{
    static const char *const members[] = {"profile", "from", "changes", "rename", "default", NULL};
    Call *call = call_new(request, arguments, data, verb, given(arguments, members));

    call->deed = deed;
    call_run(call);
}

void lpm_api_profile_list(LpmHttpRequest *request, json_t *arguments, void *data)
{
    profiles(request, arguments, data, "profile-list", NULL);
}

void lpm_api_profile_create(LpmHttpRequest *request, json_t *arguments, void *data)
{
    profiles(request, arguments, data, "profile-create", "given a profile");
}

void lpm_api_profile_change(LpmHttpRequest *request, json_t *arguments, void *data)
{
    profiles(request, arguments, data, "profile-change", "a profile was changed");
}

void lpm_api_profile_delete(LpmHttpRequest *request, json_t *arguments, void *data)
{
    profiles(request, arguments, data, "profile-delete", "a profile was deleted");
}

/* --- create --- */

typedef struct {
    LpmConsole *console;
    LpmHttpRequest *request;
    LpmSystem *system;
    char *name;
    json_t *profile;
} Create;

static void create_end(Create *create, json_t *result, const GError *error)
{
    if (error) {
        lpm_http_request_fail(create->request, error);
    } else {
        lpm_http_request_return(create->request, result);
    }
    g_hash_table_remove(create->console->creating, create->name);
    lpm_system_unref(create->system);
    json_decref(create->profile);
    g_free(create->name);
    g_free(create);
}

static void on_created(json_t *result, const GError *error, void *data)
{
    Create *create = data;

    if (error) {
        g_autoptr(GError) whole = g_error_copy(error);

        g_prefix_error(&whole, "system \"%s\": ", create->system->name);
        create_end(create, NULL, whole);
        return;
    }
    lpm_event_add(create->console, "partition", create->name,
                  lpm_http_request_user(create->request), "created on %s", create->system->name);
    create_end(create,
               lpm_json_pack("{s:s, s:O?}", "system", create->system->name, "profile",
                             json_object_get(result, "profile")),
               NULL);
}

static void on_names(json_t *rows, json_t *unreachable, void *data)
{
    Create *create = data;
    json_t *row;
    size_t i;

    (void)unreachable; /* what they had when they last answered is among the rows */
    json_array_foreach (rows, i, row) {
        if (strcmp(lpm_json_str(row, "name", ""), create->name) == 0) {
            g_autoptr(GError) error = NULL;

            lpm_error_set(&error, LPM_ERROR_EXISTS,
                          "there is a partition \"%s\" already, on system \"%s\"", create->name,
                          lpm_json_str(row, "system", "?"));
            create_end(create, NULL, error);
            return;
        }
    }
    lpm_system_call(create->system, "partition-create",
                    lpm_json_pack("{s:O}", "profile", create->profile), START_TIMEOUT_MS,
                    on_created, create);
}

void lpm_api_partition_create(LpmHttpRequest *request, json_t *arguments, void *data)
{
    LpmConsole *console = data;
    json_t *profile = json_object_get(arguments, "profile");
    const char *name = lpm_json_str(profile, "name", "");
    GError *error = NULL;
    g_autoptr(LpmProfile) checked = lpm_profile_from_json(profile, &error);
    LpmSystem *system =
        checked ? lpm_systems_need(console, lpm_json_str(arguments, "system", ""), &error) : NULL;
    Create *create;

    if (system && g_hash_table_contains(console->creating, name)) {
        lpm_error_set(&error, LPM_ERROR_BUSY, "a partition \"%s\" is just being created", name);
    }
    if (error) {
        fail(request, error);
        return;
    }
    create = g_new0(Create, 1);
    create->console = console;
    create->request = request;
    create->system = lpm_system_ref(system);
    create->name = g_strdup(name);
    create->profile = json_incref(profile);
    g_hash_table_add(console->creating, g_strdup(name));
    lpm_fleet_list(console, NULL, on_names, create);
}
