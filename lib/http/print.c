/* SPDX-License-Identifier: Apache-2.0 */
#include "http/http.h"

static const char *place_name(LpmHttpPlace place)
{
    static const char *const names[] = {"path", "query", "body", "header"};

    return names[place];
}

static const char *type_name(char type)
{
    switch (type) {
    case 's':
        return "string";
    case 'i':
        return "integer";
    case 'b':
        return "boolean";
    case 'o':
        return "object";
    default:
        return "array";
    }
}

static void print_args(const LpmHttpArg *args, FILE *out)
{
    if (!args || !args->name) {
        return;
    }
    fputs("\n| argument | in | type | | |\n| --- | --- | --- | --- | --- |\n", out);
    for (; args->name; args++) {
        fprintf(out, "| `%s` | %s | %s | %s | %s |\n", args->name, place_name(args->place),
                type_name(args->type), args->required ? "required" : "", args->help);
    }
}

void lpm_http_print_routes(const LpmHttpRoute *routes, FILE *out)
{
    for (; routes->method; routes++) {
        fprintf(out, "\n## %s %s\n\n%s\n", routes->method, routes->path, routes->help);
        if (routes->open) {
            fputs("\nNeeds no token.\n", out);
        }
        print_args(routes->args, out);
        fprintf(out, "\nAnswer, status %u:\n\n```%s\n%s\n```\n", routes->status,
                routes->answer[0] == '{' ? "json" : "text", routes->answer);
    }
}
