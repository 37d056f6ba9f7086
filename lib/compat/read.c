/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the data files. Members are rows of a table, so that a wrong or unknown one is named. */
#include "base/error.h"
#include "compat/internal.h"

#include <string.h>

typedef enum {
    FIELD_TEXT,
    FIELD_BOOL,
    FIELD_INT,
    FIELD_HEX,
    FIELD_LIST,
    FIELD_VERSION,
    FIELD_FAMILY
} FieldKind;

typedef struct {
    const char *path;
    FieldKind kind;
    size_t offset;
    bool required;
} Field;

static const Field mode_fields[] = {
    {"name", FIELD_TEXT, offsetof(LpmMode, name), true},
    {"family", FIELD_FAMILY, offsetof(LpmMode, family), true},
    {"rank", FIELD_INT, offsetof(LpmMode, rank), true},
    {"hmc", FIELD_TEXT, offsetof(LpmMode, hmc), true},
    {"rest", FIELD_TEXT, offsetof(LpmMode, rest), true},
    {"preferable", FIELD_BOOL, offsetof(LpmMode, preferable), true},
    {"portable", FIELD_BOOL, offsetof(LpmMode, portable), true},
    {"verified", FIELD_BOOL, offsetof(LpmMode, verified), true},
    {"note", FIELD_TEXT, offsetof(LpmMode, note), false},
    {"runs_on", FIELD_LIST, offsetof(LpmMode, runs_on), false},
    {"max_cpu_compat", FIELD_TEXT, offsetof(LpmMode, max_compat), false},
    {"pvr", FIELD_HEX, offsetof(LpmMode, pvr), false},
    {"pcr_bit", FIELD_INT, offsetof(LpmMode, pcr_bit), false},
    {"server.cpu", FIELD_TEXT, offsetof(LpmMode, server_cpu), false},
    {"server.max_cpu_compat", FIELD_TEXT, offsetof(LpmMode, server_max), false},
    {"cpu", FIELD_TEXT, offsetof(LpmMode, cpu), false},
    {"features", FIELD_LIST, offsetof(LpmMode, features), false},
};

static const Field emulator_fields[] = {
    {"accel", FIELD_TEXT, offsetof(LpmEmulatorRow, accel), true},
    {"family", FIELD_FAMILY, offsetof(LpmEmulatorRow, family), false},
    {"from", FIELD_VERSION, offsetof(LpmEmulatorRow, from), false},
    {"before", FIELD_VERSION, offsetof(LpmEmulatorRow, before), false},
    {"machine_from", FIELD_VERSION, offsetof(LpmEmulatorRow, machine_from), false},
    {"machine_before", FIELD_VERSION, offsetof(LpmEmulatorRow, machine_before), false},
    {"interrupts", FIELD_TEXT, offsetof(LpmEmulatorRow, interrupts), false},
    {"max_processors", FIELD_INT, offsetof(LpmEmulatorRow, max_processors), false},
    {"modules_uncompared", FIELD_BOOL, offsetof(LpmEmulatorRow, modules_uncompared), false},
    {"safe", FIELD_BOOL, offsetof(LpmEmulatorRow, safe), true},
    {"reason", FIELD_TEXT, offsetof(LpmEmulatorRow, reason), true},
};

void lpm_mode_free(LpmMode *mode)
{
    if (!mode) {
        return;
    }
    g_free(mode->name);
    g_free(mode->hmc);
    g_free(mode->rest);
    g_free(mode->note);
    g_strfreev(mode->runs_on);
    g_free(mode->max_compat);
    g_free(mode->server_cpu);
    g_free(mode->server_max);
    g_free(mode->cpu);
    g_strfreev(mode->features);
    g_free(mode);
}

void lpm_emulator_row_free(LpmEmulatorRow *row)
{
    if (!row) {
        return;
    }
    g_free(row->accel);
    g_free(row->interrupts);
    g_free(row->reason);
    g_free(row);
}

static bool read_list(const json_t *value, char ***ret_list)
{
    GStrvBuilder *builder = g_strv_builder_new();
    bool good = json_is_array(value);
    json_t *item;
    size_t i;

    json_array_foreach (value, i, item) {
        good = good && json_is_string(item);
        if (good) {
            g_strv_builder_add(builder, json_string_value(item));
        }
    }
    if (good) {
        *ret_list = g_strv_builder_end(builder);
    }
    g_strv_builder_unref(builder);
    return good;
}

static bool read_hex(const json_t *value, uint32_t *ret_number)
{
    const char *text = json_string_value(value);
    guint64 number;

    if (!text || !g_str_has_prefix(text, "0x") ||
        !g_ascii_string_to_unsigned(text + 2, 16, 1, G_MAXUINT32, &number, NULL)) {
        return false;
    }
    *ret_number = (uint32_t)number;
    return true;
}

static bool read_value(const json_t *value, FieldKind kind, void *place)
{
    switch (kind) {
    case FIELD_TEXT:
        *(char **)place = g_strdup(json_string_value(value));
        return json_string_length(value) > 0;
    case FIELD_BOOL:
        *(bool *)place = json_is_true(value);
        return json_is_boolean(value);
    case FIELD_INT:
        *(int *)place = (int)CLAMP(json_integer_value(value), 0, G_MAXINT32);
        return json_is_integer(value) && json_integer_value(value) == *(int *)place;
    case FIELD_HEX:
        return read_hex(value, place);
    case FIELD_LIST:
        return read_list(value, place);
    case FIELD_VERSION:
        return lpm_version_parse(json_string_value(value), place);
    case FIELD_FAMILY:
        return lpm_family_from_name(json_string_value(value), place);
    }
    return false;
}

static bool is_known(const Field *fields, size_t n_fields, const char *member)
{
    size_t length = strlen(member);

    for (size_t i = 0; i < n_fields; i++) {
        if (g_str_has_prefix(fields[i].path, member) &&
            (fields[i].path[length] == '\0' || fields[i].path[length] == '.')) {
            return true;
        }
    }
    return false;
}

static bool read_fields(const json_t *object, const Field *fields, size_t n_fields,
                        const char *source, void *target, GError **error)
{
    const char *member;
    json_t *value;

    if (!json_is_object(object)) {
        return lpm_error_set(error, LPM_ERROR_USAGE, "%s: not a JSON object", source);
    }
    json_object_foreach ((json_t *)object, member, value) {
        if (!is_known(fields, n_fields, member)) {
            return lpm_error_set(error, LPM_ERROR_USAGE, "%s: unknown member \"%s\"", source,
                                 member);
        }
    }
    for (size_t i = 0; i < n_fields; i++) {
        value = lpm_json_at(object, fields[i].path);
        if (!value && !fields[i].required) {
            continue;
        }
        if (!value || !read_value(value, fields[i].kind, (char *)target + fields[i].offset)) {
            return lpm_error_set(error, LPM_ERROR_USAGE, "%s: member \"%s\" is %s", source,
                                 fields[i].path, value ? "not of the right kind" : "missing");
        }
    }
    return true;
}

static int compare_modes(const void *a, const void *b)
{
    const LpmMode *const *left = a;
    const LpmMode *const *right = b;

    if ((*left)->family != (*right)->family) {
        return (*left)->family < (*right)->family ? -1 : 1;
    }
    return (*right)->rank - (*left)->rank;
}

bool lpm_compat_add_mode(LpmCompat *compat, const char *source, const char *text, GError **error)
{
    g_autoptr(json_t) json = lpm_json_parse(text, strlen(text), error);
    g_autoptr(LpmMode) mode = g_new0(LpmMode, 1);

    if (!json) {
        g_prefix_error(error, "%s: ", source);
        return false;
    }
    if (!read_fields(json, mode_fields, G_N_ELEMENTS(mode_fields), source, mode, error)) {
        return false;
    }
    if (mode->family == LPM_FAMILY_POWER ? !mode->runs_on : !mode->cpu || !mode->features) {
        return lpm_error_set(error, LPM_ERROR_USAGE, "%s: mode %s: a %s mode needs %s", source,
                             mode->name, lpm_family_name(mode->family),
                             mode->family == LPM_FAMILY_POWER ? "\"runs_on\""
                                                              : "\"cpu\" and \"features\"");
    }
    if (lpm_compat_find(compat, mode->name) || lpm_compat_find(compat, mode->hmc) ||
        lpm_compat_find(compat, mode->rest)) {
        return lpm_error_set(error, LPM_ERROR_USAGE, "%s: mode %s: there is one of that name",
                             source, mode->name);
    }
    g_ptr_array_add(compat->modes, g_steal_pointer(&mode));
    g_ptr_array_sort(compat->modes, compare_modes);
    return true;
}

bool lpm_compat_add_emulators(LpmCompat *compat, const char *source, const char *text,
                              GError **error)
{
    g_autoptr(json_t) json = lpm_json_parse(text, strlen(text), error);
    json_t *item;
    size_t i;

    if (!json) {
        g_prefix_error(error, "%s: ", source);
        return false;
    }
    if (!json_is_array(json)) {
        return lpm_error_set(error, LPM_ERROR_USAGE, "%s: not a JSON array of rows", source);
    }
    json_array_foreach (json, i, item) {
        g_autoptr(LpmEmulatorRow) row = g_new0(LpmEmulatorRow, 1);
        g_autofree char *where = g_strdup_printf("%s: row %zu", source, i + 1);

        row->any_family = lpm_json_at(item, "family") == NULL;
        if (!read_fields(item, emulator_fields, G_N_ELEMENTS(emulator_fields), where, row, error)) {
            return false;
        }
        g_ptr_array_add(compat->emulators, g_steal_pointer(&row));
    }
    return true;
}
