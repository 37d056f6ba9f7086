/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include "checks/checks.h"
#include "model/model.h"

#include <string.h>

typedef struct {
    const char *name;
    bool number; /* else a boolean */
    bool host;   /* lpm-host takes it */
    int64_t minimum, maximum, fallback;
} OptionRow;

static const OptionRow rows[] = {
    {"verify", false, true, 0, 1, 0},
    {"max_blackout_ms", true, true, 1, 3600000, 300},
    {"max_rate", true, true, 0, G_MAXINT64, 0},
    {"auto_converge", false, true, 0, 1, 0},
    {"postcopy", false, true, 0, 1, 0},
    {"postcopy_after_s", true, true, 0, 86400, 0},
    {"give_up_after_s", true, true, 0, 86400, 900},
    {"offer_timeout_ms", true, true, 100, 600000, 5000},
    {"connect_timeout_ms", true, true, 100, 600000, 10000},
    {"connections", true, true, 1, 16, 1},
    {"channels", true, true, 0, 1, 1},
    {"raw", false, true, 0, 1, 0},
    {"scripts", false, true, 0, 1, 0}, /* the console's own: they have answered */
    {"cluster_blackout_ms", true, false, 0, 3600000,
     0}, /* the console's own: what a cluster bears */
    {"skip_scripts", false, true, 0, 1, 0},
    {"force_scripts", false, true, 0, 1, 0},
    {"link_retry_ms", true, true, 0, 3600000, 120000},
    {"measure", false, false, 0, 1, 1},
    {"affinity", false, false, 0, 1, 0},
    {"min_affinity", true, false, 0, 100, 0},
    {"clock_limit_ms", true, false, 1, 86400000, 5000},
    {"long_move_s", true, false, 1, 86400, 600},
};

#define OVERRIDES "overrides"
#define PROFILE   "profile" /* a text: what the partition has now is kept under this name */

static bool read_overrides(const json_t *list, json_t *result, GError **error)
{
    json_t *item;
    size_t i;

    if (list && !json_is_array(list)) {
        return lpm_error_set(error, LPM_ERROR_USAGE, "option \"%s\" must be an array of check ids",
                             OVERRIDES);
    }
    json_array_foreach (list, i, item) {
        bool exists = false;
        const char *id = json_string_value(item);

        if (!id || !lpm_checks_is_overridable(id, &exists)) {
            return lpm_error_set(error, LPM_ERROR_USAGE,
                                 exists ? "check \"%s\" cannot be overridden"
                                        : "there is no check \"%s\" to override; \"lpm validate "
                                          "--list\" shows them",
                                 id ? id : "");
        }
    }
    json_object_set_new(result, OVERRIDES, list ? json_deep_copy(list) : json_array());
    return true;
}

static bool read_profile(json_t *name, json_t *result, GError **error)
{
    if (name && !json_is_string(name)) {
        return lpm_error_set(error, LPM_ERROR_USAGE, "option \"%s\" must be the name of a profile",
                             PROFILE);
    }
    if (name) {
        json_object_set(result, PROFILE, name);
    }
    return true;
}

static bool read_row(const OptionRow *row, const json_t *options, json_t *result, GError **error)
{
    const json_t *value = json_object_get(options, row->name);
    int64_t number = row->fallback;

    if (value && (row->number ? !json_is_integer(value) : !json_is_boolean(value))) {
        return lpm_error_set(error, LPM_ERROR_USAGE, "option \"%s\" must be %s", row->name,
                             row->number ? "an integer" : "true or false");
    }
    if (value) {
        number = row->number ? json_integer_value(value) : json_is_true(value);
    }
    if (number < row->minimum || number > row->maximum) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "option \"%s\" must be from %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT,
                             row->name, row->minimum, row->maximum);
    }
    json_object_set_new(result, row->name,
                        row->number ? json_integer(number) : json_boolean(number));
    return true;
}

static const OptionRow *find_row(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (strcmp(rows[i].name, name) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}

/* What the cluster in the partition bears holds for the whole move. */
static bool within_cluster(const json_t *options, GError **error)
{
    int64_t bears = lpm_json_int(options, "cluster_blackout_ms", 0);

    if (bears > 0 && lpm_json_int(options, "max_blackout_ms", 0) > bears) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "option \"max_blackout_ms\" may be up to %" G_GINT64_FORMAT
                             ": the cluster that the partition is a member of bears no more",
                             bears);
    }
    return true;
}

bool lpm_options_change(json_t *options, const json_t *changes, GError **error)
{
    g_autoptr(json_t) result = json_copy(options);
    const char *name;
    json_t *value;

    json_object_foreach ((json_t *)changes, name, value) {
        const OptionRow *row = find_row(name);

        if (row && !read_row(row, changes, result, error)) {
            return false;
        }
    }
    if (!within_cluster(result, error)) {
        return false;
    }
    json_object_update(options, result);
    return true;
}

bool lpm_options_may_postcopy(const json_t *options)
{
    return lpm_json_bool(options, "postcopy", false) ||
           lpm_json_int(options, "postcopy_after_s", 0) > 0;
}

json_t *lpm_options_read(const json_t *options, GError **error)
{
    g_autoptr(json_t) result = json_object();
    const char *name;
    json_t *value;

    json_object_foreach ((json_t *)options, name, value) {
        if (!find_row(name) && strcmp(name, OVERRIDES) != 0 && strcmp(name, PROFILE) != 0) {
            lpm_error_set(error, LPM_ERROR_USAGE, "there is no option \"%s\"", name);
            return NULL;
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (!read_row(&rows[i], options, result, error)) {
            return NULL;
        }
    }
    if (json_is_true(json_object_get(result, "verify")) && lpm_options_may_postcopy(result)) {
        lpm_error_set(error, LPM_ERROR_USAGE,
                      "options \"verify\" and \"postcopy\" exclude each other: what post-copy "
                      "sends while the partition runs cannot be compared");
        return NULL;
    }
    if (!read_overrides(json_object_get(options, OVERRIDES), result, error) ||
        !read_profile(json_object_get(options, PROFILE), result, error)) {
        return NULL;
    }
    return g_steal_pointer(&result);
}

json_t *lpm_options_for_host(const json_t *options)
{
    json_t *result = json_object();
    json_t *item;
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (rows[i].host) {
            json_object_set(result, rows[i].name, json_object_get(options, rows[i].name));
        }
    }
    json_array_foreach (json_object_get(options, OVERRIDES), i, item) {
        const char *check = json_string_value(item);

        if (g_strcmp0(check, "network.switch") == 0 || g_strcmp0(check, "network.bridged") == 0) {
            json_object_set_new(result, "unconnected", json_true());
        }
    }
    return result;
}

/* Seen by the target too, which may be of a release that knows no other profiles. */
void lpm_options_keep_profile(const json_t *options, bool active, json_t *facts, GError **error)
{
    const char *name = lpm_json_str(options, PROFILE, NULL);
    const json_t *built = active ? lpm_json_at(facts, "runtime.profile") : NULL;
    json_t *kept;

    if (!name) {
        return;
    }
    kept = lpm_profile_save_as(json_object_get(facts, "profile"), built, name, error);
    if (kept) {
        json_object_set_new(facts, "profile", kept);
    } else {
        g_prefix_error(error, "to keep what it has as profile \"%.60s\": ", name);
    }
}
