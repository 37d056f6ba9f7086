/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small helpers over jansson: typed reading with errors that name the member, and dotted paths for
 * facts. All text from outside is parsed by lpm_json_parse, which bounds size and depth.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(json_t, json_decref)

#define LPM_JSON_MAX_BYTES ((size_t)4 << 20)

/* Parses @length bytes of UTF-8 JSON (duplicate members are an error). New reference, or NULL with
 * @error. */
json_t *lpm_json_parse(const char *text, size_t length, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Compact text, to be g_free()d. Keys keep their order. */
char *lpm_json_text(const json_t *value);

/* The same for error messages: ASCII, and cut with "..." after 60 characters; "missing" for NULL.
 * To be g_free()d. */
char *lpm_json_shown(const json_t *value);

/*
 * Value at a dotted path ("source.memory.free_mib"; array members by number); NULL when absent or
 * null. Borrowed.
 */
json_t *lpm_json_at(const json_t *root, const char *path);
const char *lpm_json_str(const json_t *root, const char *path, const char *fallback);
int64_t lpm_json_int(const json_t *root, const char *path, int64_t fallback);
bool lpm_json_bool(const json_t *root, const char *path, bool fallback);
double lpm_json_real(const json_t *root, const char *path, double fallback);

/*
 * Whether @value is of the type that a table of arguments names by a letter: 's' string, 'i'
 * integer, 'b' boolean, 'o' object, 'a' array. Another letter is a defect of the table.
 */
bool lpm_json_has_type(const json_t *value, char letter);

/* A required member of object @root; USAGE error naming @member when it is missing or of another
 * type. */
bool lpm_json_need_str(const json_t *root, const char *member, const char **ret_value,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool lpm_json_need_int(const json_t *root, const char *member, int64_t minimum, int64_t maximum,
                       int64_t *ret_value, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* json_pack() that aborts on a wrong format (a defect), never returns NULL. New reference. */
json_t *lpm_json_pack(const char *format, ...);
