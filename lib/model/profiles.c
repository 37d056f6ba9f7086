/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several named profiles of one partition. The definition's own members are those of the profile
 * that was activated last; the others' are beside it. All changes go through JSON, so that what
 * comes of them is read and checked like every other definition.
 */
#include "model/profiles.h"

#include "model/fields.h"
#include "model/names.h"

#include <string.h>

/* What a profile says; everything else is the partition's, whichever profile it is activated with.
 */
static const char *const settings[] = {"processors",
                                       "processors_max",
                                       "memory_mib",
                                       "memory_max_mib",
                                       "huge_pages_kib",
                                       "memory_backing",
                                       "preferred_mode",
                                       "boot",
                                       "boot_order",
                                       "max_blackout_ms",
                                       NULL};

static bool is_setting(const char *member)
{
    return g_strv_contains(settings, member);
}

static json_t *settings_of(const json_t *definition)
{
    json_t *result = json_object();

    for (size_t i = 0; settings[i]; i++) {
        json_t *value = json_object_get(definition, settings[i]);

        if (value) {
            json_object_set(result, settings[i], value);
        }
    }
    return result;
}

static void put_settings(json_t *definition, const json_t *wanted)
{
    for (size_t i = 0; settings[i]; i++) {
        json_t *value = json_object_get(wanted, settings[i]);

        if (value) {
            json_object_set(definition, settings[i], value);
        } else {
            json_object_del(definition, settings[i]);
        }
    }
}

static json_t *entry_of(const char *name, const json_t *from)
{
    json_t *entry = lpm_json_pack("{s:s}", "name", name);
    g_autoptr(json_t) values = settings_of(from);

    json_object_update(entry, values);
    return entry;
}

static json_t *find(const json_t *list, const char *name, size_t *ret_at)
{
    json_t *entry;
    size_t i;

    json_array_foreach (list, i, entry) {
        if (g_strcmp0(lpm_json_str(entry, "name", NULL), name) == 0) {
            if (ret_at) {
                *ret_at = i;
            }
            return entry;
        }
    }
    return NULL;
}

const char *lpm_profile_current(const LpmProfile *profile)
{
    return profile->profile_name ? profile->profile_name : LPM_PROFILE_FIRST;
}

const char *lpm_profile_default(const LpmProfile *profile)
{
    return profile->default_profile ? profile->default_profile : lpm_profile_current(profile);
}

static bool has(const LpmProfile *profile, const char *name)
{
    return strcmp(name, lpm_profile_current(profile)) == 0 || find(profile->profiles, name, NULL);
}

static bool need(const LpmProfile *profile, const char *name, GError **error)
{
    g_autoptr(GString) names = g_string_new(lpm_profile_current(profile));
    json_t *entry;
    size_t i;

    json_array_foreach (profile->profiles, i, entry) {
        g_string_append_printf(names, ", %s", lpm_json_str(entry, "name", "?"));
    }
    return has(profile, name) || lpm_error_set(error, LPM_ERROR_NOT_FOUND,
                                               "partition %s has no profile \"%.60s\"; it has %s",
                                               profile->name, name, names->str);
}

/* The whole with all of its profiles named. New reference. */
static json_t *named(const LpmProfile *profile)
{
    json_t *json = lpm_profile_to_json(profile);

    json_object_set_new(json, "profile", json_string(lpm_profile_current(profile)));
    json_object_set_new(json, "default_profile", json_string(lpm_profile_default(profile)));
    if (!json_object_get(json, "profiles")) {
        json_object_set_new(json, "profiles", json_array());
    }
    return json;
}

/* Makes @name the one whose members the definition has. */
static void swap_in(json_t *json, const char *name)
{
    json_t *list = json_object_get(json, "profiles");
    size_t at = 0;
    g_autoptr(json_t) wanted = NULL;

    if (!find(list, name, &at)) {
        return;
    }
    wanted = json_incref(json_array_get(list, at));
    json_array_set_new(list, at, entry_of(lpm_json_str(json, "profile", ""), json));
    put_settings(json, wanted);
    json_object_set_new(json, "profile", json_string(name));
}

LpmProfile *lpm_profile_select(const LpmProfile *profile, const char *name, GError **error)
{
    g_autoptr(json_t) json = named(profile);

    if (name && !need(profile, name, error)) {
        return NULL;
    }
    if (name) {
        swap_in(json, name);
    }
    return lpm_profile_from_json(json, error);
}

void lpm_profile_drop_others(LpmProfile *profile)
{
    g_clear_pointer(&profile->profile_name, g_free);
    g_clear_pointer(&profile->default_profile, g_free);
    g_clear_pointer(&profile->profiles, json_decref);
}

/* --- reading --- */

static bool only_settings(const json_t *changes, GError **error)
{
    const char *member;
    json_t *value;

    json_object_foreach ((json_t *)changes, member, value) {
        if (!is_setting(member)) {
            g_autofree char *allowed = g_strjoinv(", ", (char **)settings);

            return lpm_error_set(error, LPM_ERROR_USAGE,
                                 "profile: member \"%.60s\" is not one of a single profile: it is "
                                 "the partition's, in all of them, or unknown; a profile has %s",
                                 member, allowed);
        }
    }
    return true;
}

/* Reads one of the others as if it were chosen, and writes it back with all of its members. */
static bool check_entry(LpmProfile *profile, size_t i, GError **error)
{
    json_t *entry = json_array_get(profile->profiles, i);
    const char *name = lpm_json_str(entry, "name", NULL);
    g_autoptr(json_t) values = json_is_object(entry) ? json_copy(entry) : json_object();
    g_autoptr(json_t) json = NULL, whole = NULL;
    g_autoptr(LpmProfile) chosen = NULL;
    size_t at = 0;

    if (!name || !text_is_profile(name)) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "profile: member \"profiles[%zu].name\" is needed: " PROFILE_RULE, i);
    }
    if (strcmp(name, lpm_profile_current(profile)) == 0 ||
        (find(profile->profiles, name, &at) && at != i)) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "profile: member \"profiles[%zu].name\" is \"%s\", as another of its "
                             "profiles: allowed once",
                             i, name);
    }
    json_object_del(values, "name");
    if (only_settings(values, error)) {
        json = lpm_profile_to_json(profile);
        json_object_del(json, "profile");
        json_object_del(json, "default_profile");
        json_object_del(json, "profiles");
        put_settings(json, values);
        chosen = lpm_profile_from_json(json, error);
    }
    if (!chosen) {
        g_prefix_error(error, "profiles[%zu], \"%s\": ", i, name);
        return false;
    }
    whole = lpm_profile_to_json(chosen);
    json_array_set_new(profile->profiles, i, entry_of(name, whole));
    return true;
}

bool profiles_check(LpmProfile *profile, GError **error)
{
    size_t n = json_array_size(profile->profiles);

    for (size_t i = 0; i < n; i++) {
        if (!check_entry(profile, i, error)) {
            return false;
        }
    }
    if (profile->default_profile && !has(profile, profile->default_profile)) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "profile: member \"default_profile\" is \"%s\": allowed is the name "
                             "of one of its profiles",
                             profile->default_profile);
    }
    if (n > 0) {
        g_autofree char *current = g_strdup(lpm_profile_current(profile));
        g_autofree char *fallback = g_strdup(lpm_profile_default(profile));

        g_free(profile->profile_name);
        profile->profile_name = g_steal_pointer(&current);
        g_free(profile->default_profile);
        profile->default_profile = g_steal_pointer(&fallback);
        return true;
    }
    /* A partition with one profile looks as it did before there were several: a system of an
     * earlier release refuses members that it does not know. */
    g_clear_pointer(&profile->profiles, json_decref);
    g_clear_pointer(&profile->default_profile, g_free);
    if (g_strcmp0(profile->profile_name, LPM_PROFILE_FIRST) == 0) {
        g_clear_pointer(&profile->profile_name, g_free);
    }
    return true;
}

static int by_name(gconstpointer one, gconstpointer other)
{
    return strcmp(lpm_json_str(*(json_t *const *)one, "name", ""),
                  lpm_json_str(*(json_t *const *)other, "name", ""));
}

json_t *lpm_profile_list(const LpmProfile *profile)
{
    g_autoptr(json_t) json = named(profile);
    g_autoptr(GPtrArray) rows = g_ptr_array_new();
    json_t *result = json_array();
    json_t *entry;
    size_t i;

    g_ptr_array_add(rows, entry_of(lpm_profile_current(profile), json));
    json_array_foreach (profile->profiles, i, entry) {
        g_ptr_array_add(rows, json_deep_copy(entry));
    }
    g_ptr_array_sort(rows, by_name);
    for (i = 0; i < rows->len; i++) {
        const char *name = lpm_json_str(rows->pdata[i], "name", "");
        bool last = profile->machine && strcmp(name, lpm_profile_current(profile)) == 0;

        json_object_set_new(rows->pdata[i], "default",
                            json_boolean(strcmp(name, lpm_profile_default(profile)) == 0));
        json_object_set_new(rows->pdata[i], "last_activated", json_boolean(last));
        json_array_append_new(result, rows->pdata[i]);
    }
    return result;
}

/* --- changing --- */

static bool may_be_new(const LpmProfile *profile, const char *name, GError **error)
{
    if (!text_is_profile(name)) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "partition %s: \"%.60s\" is no name of a profile: " PROFILE_RULE,
                             profile->name, name);
    }
    return !has(profile, name) ||
           lpm_error_set(error, LPM_ERROR_EXISTS,
                         "partition %s has a profile %s already; choose another name",
                         profile->name, name);
}

LpmProfile *lpm_profile_add(const LpmProfile *profile, const char *name, const char *from,
                            const json_t *changes, GError **error)
{
    g_autoptr(json_t) json = named(profile);
    json_t *list = json_object_get(json, "profiles");
    json_t *entry;

    if (!may_be_new(profile, name, error) || (from && !need(profile, from, error)) ||
        !only_settings(changes, error)) {
        return NULL;
    }
    if (json_array_size(list) + 1 >= LPM_PROFILES_MAX) {
        lpm_error_set(error, LPM_ERROR_USAGE,
                      "partition %s has %d profiles, as many as it may; delete one", profile->name,
                      LPM_PROFILES_MAX);
        return NULL;
    }
    entry = from ? find(list, from, NULL) : NULL;
    entry = entry_of(name, entry ? entry : json);
    json_object_update(entry, (json_t *)changes);
    json_array_append_new(list, entry);
    return lpm_profile_from_json(json, error);
}

LpmProfile *lpm_profile_edit(const LpmProfile *profile, const char *name,
                             const LpmProfileEdit *edit, GError **error)
{
    g_autoptr(json_t) json = named(profile);
    json_t *entry = find(json_object_get(json, "profiles"), name, NULL);
    bool is_default = strcmp(lpm_profile_default(profile), name) == 0 || edit->make_default;
    const char *called = edit->rename ? edit->rename : name;

    if (!need(profile, name, error) || !only_settings(edit->changes, error) ||
        (edit->rename && !may_be_new(profile, edit->rename, error))) {
        return NULL;
    }
    json_object_update(entry ? entry : json, (json_t *)edit->changes);
    json_object_set_new(entry ? entry : json, entry ? "name" : "profile", json_string(called));
    if (is_default) {
        json_object_set_new(json, "default_profile", json_string(called));
    }
    if (is_default && !profile->machine) {
        swap_in(json, called); /* never activated: the default one is what it has */
    }
    return lpm_profile_from_json(json, error);
}

LpmProfile *lpm_profile_remove(const LpmProfile *profile, const char *name, GError **error)
{
    g_autoptr(json_t) json = named(profile);
    size_t at = 0;

    if (!need(profile, name, error)) {
        return NULL;
    }
    if (strcmp(name, lpm_profile_default(profile)) == 0) {
        lpm_error_set(error, LPM_ERROR_STATE,
                      "partition %s: %s is its default profile; make another one the default first",
                      profile->name, name);
        return NULL;
    }
    if (!find(json_object_get(json, "profiles"), name, &at)) {
        lpm_error_set(error, LPM_ERROR_STATE,
                      "partition %s: it was activated with profile %s last, and an inactive move "
                      "takes that; activate it with another one first",
                      profile->name, name);
        return NULL;
    }
    json_array_remove(json_object_get(json, "profiles"), at);
    return lpm_profile_from_json(json, error);
}

/* What it has now, also what it was given since its start. */
static bool put_running(json_t *json, const json_t *built, GError **error)
{
    g_autoptr(LpmProfile) running = lpm_profile_from_json(built, error);
    g_autoptr(json_t) values = NULL;

    if (!running) {
        return false;
    }
    values = settings_of(built);
    json_object_set_new(values, "processors", json_integer(lpm_profile_total_processors(running)));
    json_object_set_new(values, "memory_mib",
                        json_integer((json_int_t)lpm_profile_total_memory_mib(running)));
    put_settings(json, values);
    return true;
}

json_t *lpm_profile_save_as(const json_t *definition, const json_t *built, const char *name,
                            GError **error)
{
    g_autoptr(LpmProfile) profile = lpm_profile_from_json(definition, error);
    g_autoptr(LpmProfile) saved = NULL;
    g_autoptr(json_t) json = NULL;

    if (!profile) {
        return NULL;
    }
    json = named(profile);
    if (strcmp(name, lpm_profile_current(profile)) != 0) {
        if (!may_be_new(profile, name, error)) {
            return NULL;
        }
        json_array_append_new(json_object_get(json, "profiles"),
                              entry_of(lpm_profile_current(profile), json));
        json_object_set_new(json, "profile", json_string(name));
    }
    if (built && !put_running(json, built, error)) {
        return NULL;
    }
    saved = lpm_profile_from_json(json, error);
    return saved ? lpm_profile_to_json(saved) : NULL;
}
