/* SPDX-License-Identifier: Apache-2.0 */
#include "model/fields.h"

#include <string.h>

#define AT(type, base, offset_)       ((type *)((char *)(base) + (offset_)))
#define AT_CONST(type, base, offset_) ((const type *)((const char *)(base) + (offset_)))

static bool wrong(const char *where, const char *member, const json_t *value, const char *allowed,
                  GError **error)
{
    g_autofree char *found = lpm_json_shown(value);

    return lpm_error_set(error, LPM_ERROR_USAGE, "profile: member \"%s%s\" is %s: allowed is %s",
                         where, member, found, allowed);
}

static char *names_text(const char *const *names, size_t n)
{
    GString *text = g_string_new(NULL);

    for (size_t i = 0; i < n; i++) {
        g_string_append_printf(text, "%s\"%s\"", i ? ", " : "", names[i]);
    }
    return g_string_free(text, FALSE);
}

static bool no_unknown_members(const FieldTable *table, const json_t *json, const char *where,
                               GError **error)
{
    const char *member;
    json_t *value;

    json_object_foreach ((json_t *)json, member, value) {
        g_autoptr(GString) known = g_string_new(NULL);
        bool found = false;

        for (size_t i = 0; i < table->n && !found; i++) {
            found = strcmp(table->fields[i].member, member) == 0;
            g_string_append_printf(known, "%s%s", i ? ", " : "", table->fields[i].member);
        }
        if (!found) {
            return lpm_error_set(error, LPM_ERROR_USAGE,
                                 "profile: member \"%s%.60s\" is unknown: allowed are %s", where,
                                 member, known->str);
        }
    }
    return true;
}

static bool read_text(const Field *field, const json_t *value, const char *where, void *base,
                      GError **error)
{
    const char *text = json_string_value(value);
    char **slot = AT(char *, base, field->offset);

    if (!text || (field->maximum && strlen(text) > (size_t)field->maximum) ||
        (field->valid && !field->valid(text))) {
        return wrong(where, field->member, value, field->allowed, error);
    }
    g_free(*slot);
    *slot = g_strdup(text);
    return true;
}

static bool read_number(const Field *field, const json_t *value, const char *where, void *base,
                        GError **error)
{
    int64_t number = json_integer_value(value);

    if (!json_is_integer(value) || number < field->minimum || number > field->maximum) {
        g_autofree char *allowed =
            g_strdup_printf("a whole number from %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT,
                            field->minimum, field->maximum);

        return wrong(where, field->member, value, allowed, error);
    }
    if (field->kind == FIELD_INT) {
        *AT(int, base, field->offset) = (int)number;
    } else {
        *AT(int64_t, base, field->offset) = number;
    }
    return true;
}

static bool read_choice(const Field *field, const json_t *value, const char *where, void *base,
                        GError **error)
{
    const char *text = json_string_value(value);
    g_autofree char *allowed = NULL;

    for (size_t i = 0; text && i < field->n_names; i++) {
        if (strcmp(text, field->names[i]) == 0) {
            *AT(int, base, field->offset) = (int)i;
            return true;
        }
    }
    allowed = names_text(field->names, field->n_names);
    return wrong(where, field->member, value, allowed, error);
}

static bool read_list(const Field *field, const json_t *value, const char *where, void *base,
                      GError **error)
{
    size_t n = json_array_size(value);
    char *items;

    if (!json_is_array(value) || n > (size_t)field->maximum) {
        g_autofree char *allowed =
            g_strdup_printf("a list of at most %" G_GINT64_FORMAT " objects", field->maximum);

        return wrong(where, field->member, value, allowed, error);
    }
    items = g_malloc0_n(n ? n : 1, field->item_size);
    *AT(void *, base, field->offset) = items;
    *AT(size_t, base, field->count_offset) = n;
    for (size_t i = 0; i < n; i++) {
        g_autofree char *inside = g_strdup_printf("%s%s[%zu].", where, field->member, i);

        if (!fields_read(field->inner, json_array_get(value, i), inside,
                         items + i * field->item_size, error)) {
            return false;
        }
    }
    return true;
}

static bool read_array(const Field *field, const json_t *value, const char *where, void *base,
                       GError **error)
{
    if (!json_is_array(value) || json_array_size(value) > (size_t)field->maximum) {
        g_autofree char *allowed =
            g_strdup_printf("a list of at most %" G_GINT64_FORMAT " objects", field->maximum);

        return wrong(where, field->member, value, allowed, error);
    }
    *AT(json_t *, base, field->offset) = json_deep_copy(value);
    return true;
}

static bool read_object(const Field *field, const json_t *value, const char *where, void *base,
                        GError **error)
{
    g_autofree char *inside = g_strdup_printf("%s%s.", where, field->member);

    return fields_read(field->inner, value, inside, AT(char, base, field->offset), error);
}

static bool read_field(const Field *field, const json_t *value, const char *where, void *base,
                       GError **error)
{
    switch (field->kind) {
    case FIELD_TEXT:
        return read_text(field, value, where, base, error);
    case FIELD_INT:
    case FIELD_INT64:
        return read_number(field, value, where, base, error);
    case FIELD_BOOL:
        if (!json_is_boolean(value)) {
            return wrong(where, field->member, value, "true or false", error);
        }
        *AT(bool, base, field->offset) = json_is_true(value);
        return true;
    case FIELD_CHOICE:
        return read_choice(field, value, where, base, error);
    case FIELD_OBJECT:
        return read_object(field, value, where, base, error);
    case FIELD_LIST:
        return read_list(field, value, where, base, error);
    case FIELD_ARRAY:
        return read_array(field, value, where, base, error);
    }
    g_assert_not_reached();
}

static bool read_missing(const Field *field, const char *where, void *base, GError **error)
{
    if (field->required) {
        g_autofree char *names =
            field->kind == FIELD_CHOICE ? names_text(field->names, field->n_names) : NULL;

        return lpm_error_set(error, LPM_ERROR_USAGE, "profile: member \"%s%s\" is missing: give %s",
                             where, field->member,
                             names            ? names
                             : field->allowed ? field->allowed
                                              : "a whole number");
    }
    if (field->fallback && !*AT(char *, base, field->offset)) {
        *AT(char *, base, field->offset) = g_strdup(field->fallback);
    }
    return true;
}

bool fields_read(const FieldTable *table, const json_t *json, const char *where, void *base,
                 GError **error)
{
    if (!json_is_object(json)) {
        g_autofree char *name = g_strndup(where, *where ? strlen(where) - 1 : 0);
        g_autofree char *found = lpm_json_shown(json);

        return lpm_error_set(error, LPM_ERROR_USAGE, "profile: %s%s%s is %s: allowed is an object",
                             *name ? "member \"" : "the whole", name, *name ? "\"" : "", found);
    }
    if (!no_unknown_members(table, json, where, error)) {
        return false;
    }
    for (size_t i = 0; i < table->n; i++) {
        const Field *field = &table->fields[i];
        const json_t *value = json_object_get(json, field->member);

        /* What is null was left open, as what is missing. */
        if (!value || json_is_null(value)) {
            if (!read_missing(field, where, base, error)) {
                return false;
            }
        } else if (!read_field(field, value, where, base, error)) {
            return false;
        }
    }
    return true;
}

static json_t *write_list(const Field *field, const void *base)
{
    const char *items = *AT_CONST(char *, base, field->offset);
    size_t n = *AT_CONST(size_t, base, field->count_offset);
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, fields_write(field->inner, items + i * field->item_size));
    }
    return list;
}

static json_t *write_object(const Field *field, const void *base)
{
    json_t *object = fields_write(field->inner, AT_CONST(char, base, field->offset));

    if (json_object_size(object) == 0) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static json_t *write_field(const Field *field, const void *base)
{
    const json_t *array;
    const char *text;

    switch (field->kind) {
    case FIELD_TEXT:
        text = *AT_CONST(char *, base, field->offset);
        return text ? json_string(text) : NULL;
    case FIELD_INT:
        return json_integer(*AT_CONST(int, base, field->offset));
    case FIELD_INT64:
        return json_integer(*AT_CONST(int64_t, base, field->offset));
    case FIELD_BOOL:
        return json_boolean(*AT_CONST(bool, base, field->offset));
    case FIELD_CHOICE:
        return json_string(field->names[*AT_CONST(int, base, field->offset)]);
    case FIELD_OBJECT:
        return write_object(field, base);
    case FIELD_LIST:
        return write_list(field, base);
    case FIELD_ARRAY:
        array = *AT_CONST(json_t *, base, field->offset);
        return array ? json_deep_copy(array) : NULL;
    }
    g_assert_not_reached();
}

static bool is_default(const Field *field, const void *base)
{
    switch (field->kind) {
    case FIELD_INT:
    case FIELD_CHOICE:
        return *AT_CONST(int, base, field->offset) == 0;
    case FIELD_INT64:
        return *AT_CONST(int64_t, base, field->offset) == 0;
    case FIELD_BOOL:
        return !*AT_CONST(bool, base, field->offset);
    case FIELD_LIST:
        return *AT_CONST(size_t, base, field->count_offset) == 0;
    case FIELD_TEXT:
    case FIELD_OBJECT:
    case FIELD_ARRAY:
        return false; /* write_field() leaves them out by itself */
    }
    g_assert_not_reached();
}

json_t *fields_write(const FieldTable *table, const void *base)
{
    json_t *json = json_object();

    for (size_t i = 0; i < table->n; i++) {
        const Field *field = &table->fields[i];
        json_t *value = field->quiet && is_default(field, base) ? NULL : write_field(field, base);

        if (value) {
            json_object_set_new(json, table->fields[i].member, value);
        }
    }
    return json;
}

static void clear_list(const Field *field, void *base)
{
    char **items = AT(char *, base, field->offset);
    size_t *n = AT(size_t, base, field->count_offset);

    for (size_t i = 0; i < *n; i++) {
        fields_clear(field->inner, *items + i * field->item_size);
    }
    *n = 0;
    g_clear_pointer(items, g_free);
}

void fields_clear(const FieldTable *table, void *base)
{
    for (size_t i = 0; i < table->n; i++) {
        const Field *field = &table->fields[i];

        if (field->kind == FIELD_TEXT) {
            g_clear_pointer(AT(char *, base, field->offset), g_free);
        } else if (field->kind == FIELD_OBJECT) {
            fields_clear(field->inner, AT(char, base, field->offset));
        } else if (field->kind == FIELD_LIST) {
            clear_list(field, base);
        } else if (field->kind == FIELD_ARRAY) {
            g_clear_pointer(AT(json_t *, base, field->offset), json_decref);
        }
    }
}
