/* SPDX-License-Identifier: Apache-2.0 */
/* From the text of a request to a row of the table and checked arguments. No I/O. */
#include "http/internal.h"

#include <string.h>

void lpm_http_match_clear(LpmHttpMatch *match)
{
    for (size_t i = 0; i < match->n_parameters; i++) {
        g_free(match->parameters[i]);
    }
    *match = (LpmHttpMatch){NULL};
}

static bool path_matches(const LpmHttpRoute *route, const char *path, LpmHttpMatch *match)
{
    const char *pattern = route->path;

    while (*pattern && *path) {
        size_t length = strcspn(path, "/");

        if (*pattern == '{') {
            if (length == 0 || match->n_parameters == LPM_HTTP_PARAMETERS_MAX) {
                return false;
            }
            match->parameters[match->n_parameters++] = g_strndup(path, length);
            pattern = strchr(pattern, '}') + 1;
            path += length;
        } else if (*pattern++ != *path++) {
            return false;
        }
    }
    return *pattern == '\0' && *path == '\0';
}

bool lpm_http_match(const LpmHttpRoute *routes, const char *method, const char *path,
                    LpmHttpMatch *ret_match, GError **error)
{
    g_autoptr(GString) allowed = g_string_new(NULL);

    for (; routes->method; routes++) {
        LpmHttpMatch match = {routes, {NULL}, 0};

        if (!path_matches(routes, path, &match)) {
            lpm_http_match_clear(&match);
        } else if (strcmp(routes->method, method) != 0) {
            lpm_http_match_clear(&match);
            g_string_append_printf(allowed, "%s%s", allowed->len ? ", " : "", routes->method);
        } else {
            *ret_match = match;
            return true;
        }
    }
    if (allowed->len) {
        return lpm_error_set(error, LPM_ERROR_USAGE, "%s cannot be used on this path: it takes %s",
                             method, allowed->str);
    }
    return lpm_error_set(error, LPM_ERROR_NOT_FOUND, "this console has no such path");
}

/* --- arguments --- */

static const LpmHttpArg *find_arg(const LpmHttpRoute *route, LpmHttpPlace place, const char *name)
{
    for (const LpmHttpArg *arg = route->args; arg && arg->name; arg++) {
        if (arg->place == place && strcmp(arg->name, name) == 0) {
            return arg;
        }
    }
    return NULL;
}

static const char *type_words(char type)
{
    switch (type) {
    case 's':
        return "a string";
    case 'i':
        return "an integer";
    case 'b':
        return "true or false";
    case 'o':
        return "an object";
    default:
        return "an array";
    }
}

/* Text of path or query as a value of the argument's type; NULL when it is none. */
static json_t *value_from_text(char type, const char *text)
{
    gint64 number;

    if (type == 's') {
        return json_string(text);
    }
    if (type == 'i') {
        return g_ascii_string_to_signed(text, 10, G_MININT64, G_MAXINT64, &number, NULL)
                   ? json_integer(number)
                   : NULL;
    }
    if (strcmp(text, "true") == 0 || strcmp(text, "1") == 0) {
        return json_true();
    }
    return strcmp(text, "false") == 0 || strcmp(text, "0") == 0 ? json_false() : NULL;
}

bool lpm_http_argument_add(json_t *arguments, const LpmHttpArg *arg, const char *text,
                           GError **error)
{
    json_t *value = text ? value_from_text(arg->type, text) : NULL;

    if (!value) {
        return lpm_error_set(error, LPM_ERROR_USAGE, "argument \"%s\" must be %s", arg->name,
                             arg->type == 's' ? "UTF-8 text" : type_words(arg->type));
    }
    json_object_set_new(arguments, arg->name, value);
    return true;
}

static bool add_path(json_t *arguments, const LpmHttpMatch *match, GError **error)
{
    size_t next = 0;

    for (const LpmHttpArg *arg = match->route->args; arg && arg->name; arg++) {
        if (arg->place == LPM_HTTP_PATH &&
            !lpm_http_argument_add(arguments, arg,
                                   next < match->n_parameters ? match->parameters[next] : NULL,
                                   error)) {
            return false;
        }
        next += arg->place == LPM_HTTP_PATH;
    }
    return true;
}

static bool add_query(json_t *arguments, const LpmHttpMatch *match, const json_t *query,
                      GError **error)
{
    const char *name;
    json_t *text;

    json_object_foreach ((json_t *)query, name, text) {
        const LpmHttpArg *arg = find_arg(match->route, LPM_HTTP_QUERY, name);

        if (!arg) {
            return lpm_error_set(error, LPM_ERROR_USAGE,
                                 "\"%s\" is not an argument of the query of %s %s", name,
                                 match->route->method, match->route->path);
        }
        if (!lpm_http_argument_add(arguments, arg, json_string_value(text), error)) {
            return false;
        }
    }
    return true;
}

static bool add_body(json_t *arguments, const LpmHttpMatch *match, const char *body, size_t length,
                     GError **error)
{
    g_autoptr(json_t) object = NULL;
    const char *name;
    json_t *value;

    if (length == 0) {
        return true;
    }
    object = lpm_json_parse(body, length, error);
    if (!object) {
        g_prefix_error(error, "body: ");
        return false;
    }
    if (!json_is_object(object)) {
        return lpm_error_set(error, LPM_ERROR_USAGE, "body: it must be a JSON object");
    }
    json_object_foreach (object, name, value) {
        const LpmHttpArg *arg = find_arg(match->route, LPM_HTTP_BODY, name);

        if (!arg) {
            return lpm_error_set(error, LPM_ERROR_USAGE,
                                 "\"%s\" is not an argument of the body of %s %s", name,
                                 match->route->method, match->route->path);
        }
        if (json_is_null(value)) {
            continue;
        }
        if (!lpm_json_has_type(value, arg->type)) {
            return lpm_error_set(error, LPM_ERROR_USAGE, "argument \"%s\" must be %s", name,
                                 type_words(arg->type));
        }
        json_object_set(arguments, name, value);
    }
    return true;
}

json_t *lpm_http_arguments(const LpmHttpMatch *match, const json_t *query, const char *body,
                           size_t length, GError **error)
{
    g_autoptr(json_t) arguments = json_object();

    if (!add_path(arguments, match, error) || !add_query(arguments, match, query, error) ||
        !add_body(arguments, match, body, length, error)) {
        return NULL;
    }
    for (const LpmHttpArg *arg = match->route->args; arg && arg->name; arg++) {
        if (arg->required && !json_object_get(arguments, arg->name)) {
            lpm_error_set(error, LPM_ERROR_USAGE, "argument \"%s\" is missing: %s", arg->name,
                          arg->help);
            return NULL;
        }
    }
    return g_steal_pointer(&arguments);
}
