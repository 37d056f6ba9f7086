/* SPDX-License-Identifier: Apache-2.0 */
/* lpm cluster: what concerns the clusters that partitions are members of. */
#include "cli.h"

static char **standby_option;
static char *member_option, *migration_option;
static gboolean force_option;
static int timeout_option;

static json_t *body_of(void)
{
    json_t *body = json_object(), *standbys = json_array();
    for (char **name = standby_option; name != NULL && *name != NULL; name++)
        json_array_append_new(standbys, json_string(*name));
    if (json_array_size(standbys) > 0)
        json_object_set(body, "standbys", standbys);
    json_decref(standbys);
    if (member_option != NULL)
        json_object_set_new(body, "member", json_string(member_option));
    if (migration_option != NULL)
        json_object_set_new(body, "migration", json_string(migration_option));
    if (force_option)
        json_object_set_new(body, "force", json_true());
    if (timeout_option > 0)
        json_object_set_new(body, "wait_s", json_integer(timeout_option));
    return body;
}

static bool cluster_takeover(Cli *cli, char **words, GError **error)
{
    g_autofree char *path = cli_path("/v1/partitions/%s/takeover", words[0]);
    g_autoptr(json_t) answer = cli_client_call(cli->client, "POST", path, body_of(), error);
    json_t *row;
    size_t i;
    if (answer == NULL)
        return false;
    if (cli->json) {
        cli_print_json(answer);
        return true;
    }
    printf("no copy of partition %s runs; the work of member %s is taken over\n", words[0],
           lpm_json_str(answer, "member", "?"));
    json_array_foreach (json_object_get(answer, "standbys"), i, row)
        printf("  %s: %s: %s\n", lpm_json_str(row, "partition", "?"),
               lpm_json_str(row, "result", "?"), lpm_json_str(row, "words", ""));
    if (!lpm_json_bool(answer, "finished", true))
        printf("  not all have answered yet: \"lpm events --follow\"\n");
    return true;
}

static const GOptionEntry takeover_options[] = {
    {"standby", 0, 0, G_OPTION_ARG_STRING_ARRAY, &standby_option,
     "a partition that is another member; may be repeated (default: what its script told)",
     "PARTITION"},
    {"member", 0, 0, G_OPTION_ARG_STRING, &member_option,
     "name of the lost one in the cluster (default: what its script told)", "NAME"},
    {"migration", 0, 0, G_OPTION_ARG_STRING, &migration_option,
     "the move in which it was lost (default: its last)", "ID"},
    {"force", 0, 0, G_OPTION_ARG_NONE, &force_option,
     "also if the partition runs: it is switched off first", NULL},
    {"timeout", 0, 0, G_OPTION_ARG_INT, &timeout_option,
     "how long a move may take to end, and a system to answer (default 60)", "SECONDS"},
    G_OPTION_ENTRY_NULL,
};

const CliVerb cli_verbs_cluster[] = {
    {"cluster", "takeover", "PARTITION", 1, 1, takeover_options, false, cluster_takeover,
     "let other members take over from a partition that was lost in its move"},
    {NULL},
};
