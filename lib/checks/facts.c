/* SPDX-License-Identifier: Apache-2.0 */
/* Reading facts so that a missing one is never taken for a good one. */
#include "checks/internal.h"

#include <string.h>

const char *const lpm_check_sides[2] = {"source", "target"};

LpmFactPlace lpm_fact_root(const LpmCheckRun *run)
{
    return (LpmFactPlace){.value = run->facts};
}

const char *lpm_check_system(const LpmCheckRun *run, const char *side)
{
    return g_str_equal(side, "source") ? run->source : run->target;
}

/* The value at @path, or NULL after saying that it is not known. */
static json_t *look(LpmCheckRun *run, const LpmFactPlace *at, const char *path,
                    bool (*is_right)(const json_t *))
{
    json_t *value = lpm_json_at(at ? at->value : run->facts, path);

    if (!value || !is_right(value)) {
        lpm_check_unknown(run, at ? at->name : "", path);
        return NULL;
    }
    return value;
}

static bool is_text(const json_t *value)
{
    return json_is_string(value);
}

static bool is_number(const json_t *value)
{
    return json_is_integer(value);
}

static bool is_bool(const json_t *value)
{
    return json_is_boolean(value);
}

static bool is_list(const json_t *value)
{
    return json_is_array(value);
}

static bool is_text_list(const json_t *value)
{
    json_t *item;
    size_t i;

    if (!json_is_array(value)) {
        return false;
    }
    json_array_foreach (value, i, item) {
        if (!json_is_string(item)) {
            return false;
        }
    }
    return true;
}

bool lpm_fact_text(LpmCheckRun *run, const LpmFactPlace *at, const char *path,
                   const char **ret_value)
{
    const json_t *value = look(run, at, path, is_text);

    if (value) {
        *ret_value = json_string_value(value);
    }
    return value != NULL;
}

bool lpm_fact_int(LpmCheckRun *run, const LpmFactPlace *at, const char *path, int64_t *ret_value)
{
    const json_t *value = look(run, at, path, is_number);

    if (value) {
        *ret_value = json_integer_value(value);
    }
    return value != NULL;
}

bool lpm_fact_bool(LpmCheckRun *run, const LpmFactPlace *at, const char *path, bool *ret_value)
{
    const json_t *value = look(run, at, path, is_bool);

    if (value) {
        *ret_value = json_is_true(value);
    }
    return value != NULL;
}

bool lpm_fact_list(LpmCheckRun *run, const LpmFactPlace *at, const char *path, json_t **ret_value)
{
    json_t *value = look(run, at, path, is_list);

    if (value) {
        *ret_value = value;
    }
    return value != NULL;
}

bool lpm_fact_texts(LpmCheckRun *run, const LpmFactPlace *at, const char *path,
                    const char ***ret_value)
{
    const json_t *value = look(run, at, path, is_text_list);
    const char **texts;
    json_t *item;
    size_t i;

    if (!value) {
        return false;
    }
    texts = g_new0(const char *, json_array_size(value) + 1);
    json_array_foreach (value, i, item) {
        texts[i] = json_string_value(item);
    }
    *ret_value = texts;
    return true;
}

bool lpm_fact_item(LpmCheckRun *run, const char *path, const char *key, const char *value,
                   LpmFactPlace *ret_place)
{
    json_t *list;
    json_t *item;
    size_t i;

    if (!lpm_fact_list(run, NULL, path, &list)) {
        return false;
    }
    g_snprintf(ret_place->name, sizeof(ret_place->name), "%s[%s]", path, value);
    json_array_foreach (list, i, item) {
        if (g_strcmp0(lpm_json_str(item, key, NULL), value) == 0) {
            ret_place->value = item;
            return true;
        }
    }
    lpm_check_unknown(run, ret_place->name, "");
    return false;
}

bool lpm_fact_emulator(LpmCheckRun *run, const char *side, LpmFactPlace *ret_place)
{
    if (run->family == LPM_FAMILY_N) {
        lpm_check_unknown(run, "", "partition.profile.family");
        return false;
    }
    g_snprintf(ret_place->name, sizeof(ret_place->name), "%s.emulators.%s", side,
               lpm_family_name(run->family));
    ret_place->value = lpm_json_at(run->facts, ret_place->name);
    if (!json_is_object(ret_place->value)) {
        lpm_check_unknown(run, ret_place->name, "");
        return false;
    }
    return true;
}

char *lpm_fact_join(const char *const *texts)
{
    return texts[0] ? g_strjoinv(", ", (char **)texts) : g_strdup("none");
}
