/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

static char *from_option, *rename_option;
static gboolean make_default;

static bool print_profiles(Cli *cli, const json_t *answer, GError **error)
{
    static const CliColumn columns[] = {
        {"PROFILE", "name", false},
        {"DEFAULT", "default", false},
        {"LAST ACTIVATED", "last_activated", false},
        {"CPUS", "processors", true},
        {"MIB", "memory_mib", true},
        {"PREFERRED", "preferred_mode", false},
        {"BOOT ORDER", "boot_order", false},
        {NULL, NULL, false},
    };
    const json_t *list = lpm_json_at(answer, "profiles");
    if (!json_is_array(list))
        return lpm_error_set(error, LPM_ERROR_PROTOCOL,
                             "the console answers without the list 'profiles'");
    if (cli->json)
        cli_print_json(list);
    else
        cli_print_table(list, columns, "no profile");
    return true;
}

static bool ask(Cli *cli, const char *method, const char *path, json_t *body, GError **error)
{
    g_autoptr(json_t) answer = cli_client_call(cli->client, method, path, body, error);
    return answer != NULL && print_profiles(cli, answer, error);
}

static char *path_of(char **words)
{
    g_autofree char *all = cli_path("/v1/partitions/%s/profiles", words[0]);
    g_autofree char *one = cli_path("/%s", words[1]);
    return g_strconcat(all, one, NULL);
}

static json_t *read_changes(char **words, GError **error)
{
    g_autoptr(json_t) changes = json_object();
    for (; *words != NULL; words++)
        if (!cli_add_change(changes, *words, error))
            return NULL;
    return g_steal_pointer(&changes);
}

static bool profile_list(Cli *cli, char **words, GError **error)
{
    g_autofree char *path = cli_path("/v1/partitions/%s/profiles", words[0]);
    return ask(cli, "GET", path, NULL, error);
}

static bool profile_create(Cli *cli, char **words, GError **error)
{
    json_t *changes = read_changes(words + 2, error);
    if (changes == NULL)
        return false;
    g_autofree char *path = cli_path("/v1/partitions/%s/profiles", words[0]);
    json_t *body = lpm_json_pack("{s:s, s:o}", "profile", words[1], "changes", changes);
    if (from_option != NULL)
        json_object_set_new(body, "from", json_string(from_option));
    return ask(cli, "POST", path, body, error);
}

static bool profile_change(Cli *cli, char **words, GError **error)
{
    if (words[2] == NULL && rename_option == NULL && !make_default)
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "say what to change: MEMBER=VALUE, --rename or --default");
    json_t *changes = read_changes(words + 2, error);
    if (changes == NULL)
        return false;
    g_autofree char *path = path_of(words);
    json_t *body = lpm_json_pack("{s:o}", "changes", changes);
    if (rename_option != NULL)
        json_object_set_new(body, "rename", json_string(rename_option));
    if (make_default)
        json_object_set_new(body, "default", json_true());
    return ask(cli, "PATCH", path, body, error);
}

static bool profile_delete(Cli *cli, char **words, GError **error)
{
    g_autofree char *path = path_of(words);
    return ask(cli, "DELETE", path, NULL, error);
}

static const GOptionEntry create_options[] = {
    {"from", 0, 0, G_OPTION_ARG_STRING, &from_option,
     "the profile that it is a copy of (default: the one activated last)", "NAME"},
    G_OPTION_ENTRY_NULL,
};
static const GOptionEntry change_options[] = {
    {"rename", 0, 0, G_OPTION_ARG_STRING, &rename_option, "its new name", "NAME"},
    {"default", 0, 0, G_OPTION_ARG_NONE, &make_default, "a start without a name takes this one",
     NULL},
    G_OPTION_ENTRY_NULL,
};

const CliVerb cli_verbs_profile[] = {
    {"profile", "list", "PARTITION", 1, 1, NULL, false, profile_list,
     "list a partition's profiles"},
    {"profile", "create", "PARTITION PROFILE [MEMBER=VALUE...]", 2, -1, create_options, false,
     profile_create, "give it one more, a copy with changes"},
    {"profile", "change", "PARTITION PROFILE [MEMBER=VALUE...]", 2, -1, change_options, false,
     profile_change, "change one, rename it, or make it the default"},
    {"profile", "delete", "PARTITION PROFILE", 2, 2, NULL, false, profile_delete,
     "delete one that was not activated last"},
    {NULL},
};
