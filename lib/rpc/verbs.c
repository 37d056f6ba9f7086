/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/verbs.h"

#include "rpc/message.h"

#include <string.h>

static const char *const role_names[] = {
    [LPM_RPC_LOCAL] = "local",
    [LPM_RPC_CONSOLE] = "console",
    [LPM_RPC_SYSTEM] = "system",
    [LPM_RPC_ANONYMOUS] = "anonymous",
};

/* --- checking --- */

typedef struct {
    char letter;
    const char *name;
} ArgType;

static const ArgType arg_types[] = {
    {'s', "string"}, {'i', "integer"}, {'b', "boolean"}, {'o', "object"}, {'a', "array"},
};

static const char *type_name(char letter)
{
    for (size_t i = 0; i < G_N_ELEMENTS(arg_types); i++) {
        if (arg_types[i].letter == letter) {
            return arg_types[i].name;
        }
    }
    g_assert_not_reached();
}

static const LpmRpcArg *find_arg(const LpmRpcVerb *verb, const char *name)
{
    for (const LpmRpcArg *arg = verb->args; arg && arg->name; arg++) {
        if (strcmp(arg->name, name) == 0) {
            return arg;
        }
    }
    return NULL;
}

static char *arg_names(const LpmRpcVerb *verb)
{
    GString *names = g_string_new(NULL);

    for (const LpmRpcArg *arg = verb->args; arg && arg->name; arg++) {
        g_string_append_printf(names, "%s%s", names->len > 0 ? ", " : "", arg->name);
    }
    if (names->len == 0) {
        g_string_append(names, "none");
    }
    return g_string_free(names, FALSE);
}

bool lpm_rpc_verb_check(const LpmRpcVerb *verb, const json_t *arguments, GError **error)
{
    const char *name;
    json_t *value;

    json_object_foreach ((json_t *)arguments, name, value) {
        const LpmRpcArg *arg = find_arg(verb, name);

        if (!arg) {
            g_autofree char *names = arg_names(verb);

            return lpm_error_set(error, LPM_ERROR_USAGE,
                                 "%s: unknown argument \"%.60s\"; its arguments are: %s",
                                 verb->name, name, names);
        }
        if (!lpm_json_has_type(value, arg->type)) {
            return lpm_error_set(
                error, LPM_ERROR_USAGE,
                "%s: argument \"%s\" is of the wrong type: give a value of type %s", verb->name,
                name, type_name(arg->type));
        }
    }
    for (const LpmRpcArg *arg = verb->args; arg && arg->name; arg++) {
        if (arg->required && !json_object_get(arguments, arg->name)) {
            return lpm_error_set(error, LPM_ERROR_USAGE,
                                 "%s: argument \"%s\" is missing: give a value of type %s",
                                 verb->name, arg->name, type_name(arg->type));
        }
    }
    return true;
}

const LpmRpcVerb *lpm_rpc_verb_find(const LpmRpcVerb *verbs, const char *name)
{
    for (const LpmRpcVerb *verb = verbs; verb && verb->name; verb++) {
        if (strcmp(verb->name, name) == 0) {
            return verb;
        }
    }
    return NULL;
}

/* --- describing --- */

static json_t *describe_roles(unsigned roles)
{
    json_t *names = json_array();

    for (unsigned i = 0; i < G_N_ELEMENTS(role_names); i++) {
        if (roles & 1u << i) {
            json_array_append_new(names, json_string(role_names[i]));
        }
    }
    return names;
}

static json_t *describe_args(const LpmRpcArg *args)
{
    json_t *rows = json_array();

    for (const LpmRpcArg *arg = args; arg && arg->name; arg++) {
        json_array_append_new(rows, lpm_json_pack("{s:s, s:s, s:b, s:s}", "name", arg->name, "type",
                                                  type_name(arg->type), "required", arg->required,
                                                  "help", arg->help ? arg->help : ""));
    }
    return rows;
}

void lpm_rpc_verbs_describe(const LpmRpcVerb *verbs, LpmRpcRole role, json_t *rows)
{
    for (const LpmRpcVerb *verb = verbs; verb && verb->name; verb++) {
        if (verb->roles & 1u << role) {
            json_array_append_new(rows, lpm_json_pack("{s:s, s:s, s:o, s:o}", "name", verb->name,
                                                      "help", verb->help ? verb->help : "", "roles",
                                                      describe_roles(verb->roles), "arguments",
                                                      describe_args(verb->args)));
        }
    }
}

static void markdown_verb(const LpmRpcVerb *verb, GString *text)
{
    const char *separator = "";

    g_string_append_printf(text, "### `%s`\n\n%s\n\nFor: ", verb->name,
                           verb->help ? verb->help : "");
    for (unsigned i = 0; i < G_N_ELEMENTS(role_names); i++) {
        if (verb->roles & 1u << i) {
            g_string_append_printf(text, "%s%s", separator, role_names[i]);
            separator = ", ";
        }
    }
    g_string_append(text, ".\n\n");
    if (!verb->args || !verb->args->name) {
        return;
    }
    g_string_append(text, "| argument | type | | meaning |\n| --- | --- | --- | --- |\n");
    for (const LpmRpcArg *arg = verb->args; arg->name; arg++) {
        g_string_append_printf(text, "| `%s` | %s | %s | %s |\n", arg->name, type_name(arg->type),
                               arg->required ? "required" : "optional", arg->help ? arg->help : "");
    }
    g_string_append_c(text, '\n');
}

void lpm_rpc_verbs_markdown(const LpmRpcVerb *verbs, GString *text)
{
    for (const LpmRpcVerb *verb = verbs; verb && verb->name; verb++) {
        markdown_verb(verb, text);
    }
}
