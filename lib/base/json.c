/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

/* One step of a path; longer ones cannot name a member of ours. */
#define SEGMENT_MAX 127
/* Characters of a wrong value that an error message repeats. */
#define SHOWN_MAX 60

json_t *lpm_json_parse(const char *text, size_t length, GError **error)
{
    json_error_t where;
    json_t *value;

    if (length > LPM_JSON_MAX_BYTES) {
        lpm_error_set(error, LPM_ERROR_USAGE, "JSON text of %zu bytes: at most %zu are accepted",
                      length, LPM_JSON_MAX_BYTES);
        return NULL;
    }
    /* jansson bounds the depth itself (2048), refuses invalid UTF-8 and, without JSON_ALLOW_NUL,
     * NUL in strings. */
    value = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
    if (!value) {
        lpm_error_set(error, LPM_ERROR_USAGE, "not JSON: line %d, column %d: %s", where.line,
                      where.column, where.text);
    }
    return value;
}

char *lpm_json_text(const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    char *copy;

    g_assert(text);
    copy = g_strdup(text);
    free(text);
    return copy;
}

char *lpm_json_shown(const json_t *value)
{
    char *text =
        value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_ENSURE_ASCII) : NULL;
    char *shown;

    if (!value) {
        return g_strdup("missing");
    }
    g_assert(text);
    shown =
        strlen(text) <= SHOWN_MAX ? g_strdup(text) : g_strdup_printf("%.*s...", SHOWN_MAX, text);
    free(text);
    return shown;
}

static json_t *step(json_t *value, const char *segment)
{
    guint64 index;

    if (json_is_object(value)) {
        return json_object_get(value, segment);
    }
    if (json_is_array(value) &&
        g_ascii_string_to_unsigned(segment, 10, 0, G_MAXUINT32, &index, NULL)) {
        return json_array_get(value, (size_t)index);
    }
    return NULL;
}

json_t *lpm_json_at(const json_t *root, const char *path)
{
    json_t *value = (json_t *)root;
    char segment[SEGMENT_MAX + 1];

    while (value && *path) {
        size_t length = strcspn(path, ".");

        if (length > SEGMENT_MAX) {
            return NULL;
        }
        memcpy(segment, path, length);
        segment[length] = '\0';
        value = step(value, segment);
        path += length + (path[length] == '.');
    }
    return json_is_null(value) ? NULL : value;
}

const char *lpm_json_str(const json_t *root, const char *path, const char *fallback)
{
    const char *text = json_string_value(lpm_json_at(root, path));

    return text ? text : fallback;
}

int64_t lpm_json_int(const json_t *root, const char *path, int64_t fallback)
{
    const json_t *value = lpm_json_at(root, path);

    return json_is_integer(value) ? json_integer_value(value) : fallback;
}

bool lpm_json_bool(const json_t *root, const char *path, bool fallback)
{
    const json_t *value = lpm_json_at(root, path);

    return json_is_boolean(value) ? json_is_true(value) : fallback;
}

double lpm_json_real(const json_t *root, const char *path, double fallback)
{
    const json_t *value = lpm_json_at(root, path);

    return json_is_number(value) ? json_number_value(value) : fallback;
}

bool lpm_json_has_type(const json_t *value, char letter)
{
    switch (letter) {
    case 's':
        return json_is_string(value);
    case 'i':
        return json_is_integer(value);
    case 'b':
        return json_is_boolean(value);
    case 'o':
        return json_is_object(value);
    case 'a':
        return json_is_array(value);
    default:
        g_assert_not_reached();
    }
}

bool lpm_json_need_str(const json_t *root, const char *member, const char **ret_value,
                       GError **error)
{
    const json_t *value = json_object_get(root, member);

    if (!value) {
        return lpm_error_set(error, LPM_ERROR_USAGE, "member \"%s\" is missing: give a string",
                             member);
    }
    if (!json_is_string(value)) {
        g_autofree char *found = lpm_json_shown(value);

        return lpm_error_set(error, LPM_ERROR_USAGE, "member \"%s\" is %s: give a string", member,
                             found);
    }
    *ret_value = json_string_value(value);
    return true;
}

bool lpm_json_need_int(const json_t *root, const char *member, int64_t minimum, int64_t maximum,
                       int64_t *ret_value, GError **error)
{
    const json_t *value = json_object_get(root, member);

    if (!value) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "member \"%s\" is missing: give a whole number from %" G_GINT64_FORMAT
                             " to %" G_GINT64_FORMAT,
                             member, minimum, maximum);
    }
    if (!json_is_integer(value) || json_integer_value(value) < minimum ||
        json_integer_value(value) > maximum) {
        g_autofree char *found = lpm_json_shown(value);

        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "member \"%s\" is %s: give a whole number from %" G_GINT64_FORMAT
                             " to %" G_GINT64_FORMAT,
                             member, found, minimum, maximum);
    }
    *ret_value = json_integer_value(value);
    return true;
}

json_t *lpm_json_pack(const char *format, ...)
{
    json_error_t where;
    json_t *value;
    va_list args;

    va_start(args, format);
    value = json_vpack_ex(&where, 0, format, args);
    va_end(args);
    if (!value) {
        g_error("json_pack \"%s\": column %d: %s", format, where.column, where.text);
    }
    return value;
}
