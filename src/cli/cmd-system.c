/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include <string.h>

static gboolean force;

static bool system_add(Cli *cli, char **words, GError **error)
{
    g_autoptr(json_t) answer = cli_client_call(cli->client, "POST", "/v1/systems",
                                               lpm_json_pack("{s:s}", "name", words[0]), error);
    if (answer == NULL)
        return false;
    if (cli->json) {
        cli_print_json(answer);
        return true;
    }
    printf("system %s is invited. Run on that system, within 24 hours:\n\n  %s\n", words[0],
           lpm_json_str(answer, "command", "?"));
    return true;
}

static bool system_list(Cli *cli, G_GNUC_UNUSED char **words, GError **error)
{
    static const CliColumn columns[] = {
        {"SYSTEM", "name", false},
        {"STATE", "state", false},
        {"ADDRESS", "address", false},
        {"VERSION", "version", false},
        {"MAINTENANCE", "maintenance", false},
        {"CLOCK OFFSET US", "clock_offset_us", true},
        {"WHY", "error", false},
        {NULL, NULL, false},
    };
    g_autoptr(json_t) list = cli_client_list(cli->client, "/v1/systems", "systems", error);
    if (list == NULL)
        return false;
    if (cli->json)
        cli_print_json(list);
    else
        cli_print_table(list, columns, "no system yet: lpm system add NAME");
    return true;
}

static bool system_show(Cli *cli, char **words, GError **error)
{
    g_autofree char *path = cli_path("/v1/systems/%s", words[0]);
    g_autoptr(json_t) answer = cli_client_call(cli->client, "GET", path, NULL, error);
    if (answer != NULL)
        cli_print_json(answer);
    return answer != NULL;
}

static bool system_remove(Cli *cli, char **words, GError **error)
{
    g_autofree char *path =
        cli_path(force ? "/v1/systems/%s?force=true" : "/v1/systems/%s", words[0]);
    g_autoptr(json_t) answer = cli_client_call(cli->client, "DELETE", path, NULL, error);
    if (answer != NULL && cli->json)
        cli_print_json(answer);
    else if (answer != NULL)
        printf("system %s is forgotten; its certificate is refused from now on\n", words[0]);
    return answer != NULL;
}

static bool system_maintenance(Cli *cli, char **words, GError **error)
{
    bool on = strcmp(words[1], "on") == 0;
    if (!on && strcmp(words[1], "off") != 0)
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "maintenance of system %s: '%s' is neither 'on' nor 'off'", words[0],
                             words[1]);
    g_autofree char *path = cli_path("/v1/systems/%s/maintenance", words[0]);
    g_autoptr(json_t) answer = cli_client_call(
        cli->client, "POST", path, lpm_json_pack("{s:b}", "maintenance", (int)on), error);
    if (answer != NULL && cli->json)
        cli_print_json(answer);
    else if (answer != NULL)
        printf("system %s: maintenance %s\n", words[0], words[1]);
    return answer != NULL;
}

static const GOptionEntry remove_options[] = {
    {"force", 0, 0, G_OPTION_ARG_NONE, &force,
     "also when it does not answer or still has partitions", NULL},
    G_OPTION_ENTRY_NULL,
};

const CliVerb cli_verbs_system[] = {
    {"system", "add", "NAME", 1, 1, NULL, false, system_add,
     "invite a system: prints the command that joins it"},
    {"system", "list", "", 0, 0, NULL, false, system_list, "list the systems"},
    {"system", "show", "NAME", 1, 1, NULL, false, system_show, "show one system with its facts"},
    {"system", "remove", "NAME", 1, 1, remove_options, false, system_remove, "forget a system"},
    {"system", "maintenance", "NAME on|off", 2, 2, NULL, false, system_maintenance,
     "keep partitions from moving to it, or allow it again"},
    {NULL},
};
