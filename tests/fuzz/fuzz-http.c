/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request as a stranger may send it: method, path, query and body, divided by zero bytes. What is
 * taken has only arguments that the route has, each of its type, and none that is needed is
 * missing.
 */
#include "http/internal.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(G_GNUC_UNUSED LpmHttpRequest *request, G_GNUC_UNUSED json_t *arguments,
                G_GNUC_UNUSED void *data)
{
}

static const LpmHttpArg all_args[] = {
    {"one", LPM_HTTP_PATH, 's', true, ""},      {"two", LPM_HTTP_PATH, 'i', true, ""},
    {"text", LPM_HTTP_QUERY, 's', true, ""},    {"number", LPM_HTTP_QUERY, 'i', false, ""},
    {"yes", LPM_HTTP_QUERY, 'b', false, ""},    {"name", LPM_HTTP_BODY, 's', true, ""},
    {"count", LPM_HTTP_BODY, 'i', false, ""},   {"on", LPM_HTTP_BODY, 'b', false, ""},
    {"options", LPM_HTTP_BODY, 'o', false, ""}, {"list", LPM_HTTP_BODY, 'a', false, ""},
    {NULL, LPM_HTTP_PATH, 0, false, NULL},
};
static const LpmHttpArg few_args[] = {
    {"one", LPM_HTTP_PATH, 's', true, ""}, {"a", LPM_HTTP_PATH, 'i', true, ""},
    {"b", LPM_HTTP_PATH, 'b', true, ""},   {"c", LPM_HTTP_PATH, 's', true, ""},
    {NULL, LPM_HTTP_PATH, 0, false, NULL},
};
static const LpmHttpRoute routes[] = {
    {"GET", "/v1/all/{one}/x/{two}", 200, false, run, all_args, "", ""},
    {"POST", "/v1/all/{one}/x/{two}", 200, false, run, all_args, "", ""},
    {"GET", "/v1/{one}/{a}/{b}/{c}", 200, false, run, few_args, "", ""},
    {"GET", "/v1/plain", 200, true, run, NULL, "", ""},
    {NULL, NULL, 0, false, NULL, NULL, NULL, NULL},
};

/* As libmicrohttpd hands it over: decoded texts, of which each name comes once. */
static json_t *query_of(const char *text)
{
    g_auto(GStrv) pairs = g_strsplit(text, "&", 64);
    json_t *query = json_object();

    for (char **pair = pairs; *pair; pair++) {
        char *value = strchr(*pair, '=');

        if (value) {
            *value++ = '\0';
        }
        /* What is not UTF-8 is refused before. */
        json_object_set_new(query, *pair, json_string(value ? value : ""));
    }
    return query;
}

static const LpmHttpArg *find(const LpmHttpRoute *route, const char *name)
{
    for (const LpmHttpArg *arg = route->args; arg && arg->name; arg++) {
        if (strcmp(arg->name, name) == 0) {
            return arg;
        }
    }
    return NULL;
}

static void check(const LpmHttpRoute *route, const json_t *arguments)
{
    const char *name;
    json_t *value;

    json_object_foreach ((json_t *)arguments, name, value) {
        const LpmHttpArg *arg = find(route, name);

        g_assert(arg && lpm_json_has_type(value, arg->type));
    }
    for (const LpmHttpArg *arg = route->args; arg && arg->name; arg++) {
        g_assert(!arg->required || json_object_get(arguments, arg->name));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    const char *parts[3] = {"", "", ""}, *at = text, *end = text + size;
    size_t n = 0;
    LpmHttpMatch match = {0};
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) query = NULL;
    g_autoptr(json_t) arguments = NULL;

    /* g_strndup() stops at the first zero byte. */
    memcpy(text, data, size);
    for (; n < G_N_ELEMENTS(parts) && at < end; n++) {
        parts[n] = at;
        at += strlen(at) + 1;
    }
    if (!lpm_http_match(routes, parts[0], parts[1], &match, &error)) {
        g_assert(error);
        return 0;
    }
    query = query_of(parts[2]);
    arguments = lpm_http_arguments(&match, query, at < end ? at : "",
                                   at < end ? (size_t)(end - at) : 0, &error);
    g_assert(!arguments == !!error);
    if (arguments) {
        check(match.route, arguments);
    } else {
        /* A refusal can always be answered. */
        g_autoptr(json_t) answer = lpm_http_error_json(error);

        g_assert(answer);
    }
    lpm_http_match_clear(&match);
    return 0;
}
