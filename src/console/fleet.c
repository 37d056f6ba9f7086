/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet.h"

#include <string.h>

/* A system that hangs keeps everybody who asks waiting for so long. */
#define CALL_TIMEOUT_MS 1500
/* It asks the guest's agent, too, which does not answer while it boots. */
#define SHOW_TIMEOUT_MS 5000

/* --- list --- */

typedef struct {
    LpmConsole *console;
    json_t *rows, *unreachable;
    unsigned pending;
    bool whole; /* also the halves that only wait */
    LpmFleetListed done;
    void *data;
} List;

typedef struct {
    List *list;
    LpmSystem *system;
} ListCall;

static int compare_rows(gconstpointer left, gconstpointer right)
{
    const json_t *a = *(json_t *const *)left, *b = *(json_t *const *)right;
    int order = strcmp(lpm_json_str(a, "name", ""), lpm_json_str(b, "name", ""));

    return order ? order : strcmp(lpm_json_str(a, "system", ""), lpm_json_str(b, "system", ""));
}

static bool is_incoming(const json_t *row)
{
    return strcmp(lpm_json_str(row, "state", ""), "incoming") == 0;
}

/*
 * In order of name. While a partition moves both systems have it: the half that only waits is left
 * out. What is there twice otherwise is marked.
 */
static json_t *arrange(const json_t *rows, bool whole)
{
    g_autoptr(GPtrArray) sorted = g_ptr_array_new();
    json_t *result = json_array();
    json_t *row;
    size_t i;

    json_array_foreach (rows, i, row) {
        g_ptr_array_add(sorted, row);
    }
    g_ptr_array_sort(sorted, compare_rows);
    for (guint first = 0, next; first < sorted->len; first = next) {
        const char *name = lpm_json_str(sorted->pdata[first], "name", "");
        unsigned settled = 0;

        for (next = first;
             next < sorted->len && strcmp(lpm_json_str(sorted->pdata[next], "name", ""), name) == 0;
             next++) {
            settled += !is_incoming(sorted->pdata[next]);
        }
        for (guint k = first; k < next; k++) {
            if (whole || settled == 0 || !is_incoming(sorted->pdata[k])) {
                json_object_set_new(sorted->pdata[k], "duplicate", json_boolean(settled > 1));
                json_array_append(result, sorted->pdata[k]);
            }
        }
    }
    return result;
}

static void list_unref(List *list)
{
    g_autoptr(json_t) rows = NULL;

    if (--list->pending > 0) {
        return;
    }
    rows = arrange(list->rows, list->whole);
    list->done(rows, list->unreachable, list->data);
    json_decref(list->rows);
    json_decref(list->unreachable);
    g_free(list);
}

static void add_rows(json_t *into, const LpmSystem *system, const json_t *rows, bool known)
{
    json_t *row;
    size_t i;

    json_array_foreach (rows, i, row) {
        json_t *copy = json_copy(row);

        json_object_set_new(copy, "system", json_string(system->name));
        if (!known) {
            json_object_set_new(copy, "state", json_string("unknown"));
        }
        json_array_append_new(into, copy);
    }
}

static void on_list(json_t *result, const GError *error, void *data)
{
    ListCall *call = data;
    json_t *rows = json_object_get(result, "partitions");

    if (error || !json_is_array(rows)) {
        call->system->silent_us = lpm_clock_monotonic_us(call->list->console->clock);
        json_array_append_new(call->list->unreachable, json_string(call->system->name));
        add_rows(call->list->rows, call->system, call->system->partitions, false);
    } else {
        json_decref(call->system->partitions);
        call->system->partitions = json_incref(rows);
        add_rows(call->list->rows, call->system, rows, true);
    }
    list_unref(call->list);
    lpm_system_unref(call->system);
    g_free(call);
}

static gboolean list_idle(gpointer data)
{
    list_unref(data);
    return G_SOURCE_REMOVE;
}

static void ask_all(LpmConsole *console, const char *system, bool whole, LpmFleetListed done,
                    void *data)
{
    List *list = g_new0(List, 1);
    GHashTableIter iter;
    gpointer value;

    list->console = console;
    list->whole = whole;
    list->rows = json_array();
    list->unreachable = json_array();
    list->done = done;
    list->data = data;
    list->pending = 1;
    g_hash_table_iter_init(&iter, console->systems);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        LpmSystem *one = value;
        ListCall *call;

        if (one->state == LPM_SYSTEM_INVITED || (system && strcmp(system, one->name) != 0)) {
            continue;
        }
        call = g_new0(ListCall, 1);
        call->list = list;
        call->system = lpm_system_ref(one);
        list->pending++;
        lpm_system_ask(one, "partition-list", NULL, CALL_TIMEOUT_MS, on_list, call);
    }
    g_idle_add(list_idle, list);
}

void lpm_fleet_list(LpmConsole *console, const char *system, LpmFleetListed done, void *data)
{
    ask_all(console, system, false, done, data);
}

void lpm_fleet_list_whole(LpmConsole *console, LpmFleetListed done, void *data)
{
    ask_all(console, NULL, true, done, data);
}

json_t *lpm_fleet_known(const LpmConsole *console)
{
    json_t *rows = json_array();
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, console->systems);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const LpmSystem *system = value;

        add_rows(rows, system, system->partitions, true);
    }
    return rows;
}

/* --- find --- */

typedef struct {
    LpmConsole *console;
    char *partition;
    json_t *rows; /* of that name */
    size_t asked; /* row whose record is being asked for */
    char *owner;  /* what a record says; NULL: none has answered */
    LpmFleetFound done;
    void *data;
} Find;

static void find_end(Find *find, const json_t *row, const char *note, const GError *error)
{
    g_autoptr(GError) gone = NULL;
    LpmSystem *system = NULL;

    if (row) {
        system = lpm_systems_need(find->console, lpm_json_str(row, "system", ""), &gone);
        error = system ? NULL : gone;
    }
    find->done(system, system ? row : NULL, note, error, find->data);
    json_decref(find->rows);
    g_free(find->owner);
    g_free(find->partition);
    g_free(find);
}

static void decide(Find *find)
{
    const json_t *owned = NULL;
    g_autoptr(GString) others = g_string_new(NULL);
    g_autofree char *note = NULL;
    g_autoptr(GError) error = NULL;
    json_t *row;
    size_t i;

    json_array_foreach (find->rows, i, row) {
        const char *system = lpm_json_str(row, "system", "");

        if (g_strcmp0(system, find->owner) == 0) {
            owned = row;
        } else {
            g_string_append_printf(others, "%s%s", others->len ? ", " : "", system);
        }
    }
    if (!owned) {
        lpm_error_set(&error, LPM_ERROR_CONFLICT,
                      "partition \"%s\" is on several systems (%s), and its ownership record %s%s; "
                      "delete the one that is not wanted at its system",
                      find->partition, others->str, find->owner ? "names " : "cannot be read",
                      find->owner ? find->owner : "");
        find_end(find, NULL, NULL, error);
        return;
    }
    note =
        g_strdup_printf("system %s has a profile of that name too; the ownership record names %s",
                        others->str, find->owner);
    find_end(find, owned, note, NULL);
}

static void ask_next(Find *find);

static void on_show(json_t *result, const GError *error, void *data)
{
    Find *find = data;
    const char *owner = lpm_json_str(result, "record.owner", NULL);

    (void)error;
    if (owner) {
        find->owner = g_strdup(owner);
        decide(find);
        return;
    }
    find->asked++;
    ask_next(find);
}

static void ask_next(Find *find)
{
    const json_t *row = json_array_get(find->rows, find->asked);
    LpmSystem *system =
        row ? g_hash_table_lookup(find->console->systems, lpm_json_str(row, "system", "")) : NULL;

    if (!row) {
        decide(find);
    } else if (!system) {
        find->asked++;
        ask_next(find);
    } else {
        lpm_system_ask(system, "partition-show",
                       lpm_json_pack("{s:s}", "partition", find->partition), SHOW_TIMEOUT_MS,
                       on_show, find);
    }
}

bool lpm_fleet_not_found(const char *partition, const char *silent, GError **error)
{
    bool some = silent && *silent;

    return lpm_error_set(error, LPM_ERROR_NOT_FOUND,
                         "there is no partition \"%s\"%s%s; \"lpm partition list\" shows those of "
                         "this console",
                         partition, some ? " on the systems that answer; these do not: " : "",
                         some ? silent : "");
}

static void set_not_found(Find *find, const json_t *unreachable, GError **error)
{
    g_autoptr(GString) names = g_string_new(NULL);
    json_t *name;
    size_t i;

    json_array_foreach (unreachable, i, name) {
        g_string_append_printf(names, "%s%s", i ? ", " : "", json_string_value(name));
    }
    (void)lpm_fleet_not_found(find->partition, names->str, error);
}

static void on_found(json_t *rows, json_t *unreachable, void *data)
{
    Find *find = data;
    g_autoptr(GError) error = NULL;
    json_t *row;
    size_t i;

    json_array_foreach (rows, i, row) {
        if (strcmp(lpm_json_str(row, "name", ""), find->partition) == 0) {
            json_array_append(find->rows, row);
        }
    }
    if (json_array_size(find->rows) > 1) {
        ask_next(find);
    } else if (json_array_size(find->rows) == 1) {
        find_end(find, json_array_get(find->rows, 0), NULL, NULL);
    } else {
        set_not_found(find, unreachable, &error);
        find_end(find, NULL, NULL, error);
    }
}

void lpm_fleet_find(LpmConsole *console, const char *partition, LpmFleetFound done, void *data)
{
    Find *find = g_new0(Find, 1);

    find->console = console;
    find->partition = g_strdup(partition);
    find->rows = json_array();
    find->done = done;
    find->data = data;
    lpm_fleet_list(console, NULL, on_found, find);
}
