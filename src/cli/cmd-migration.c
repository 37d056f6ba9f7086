/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

static gboolean force;
static char *partition_option;
static gboolean active_option;

static bool migration_list(Cli *cli, G_GNUC_UNUSED char **words, GError **error)
{
    static const CliColumn columns[] = {
        {"MIGRATION", "migration", false},
        {"PARTITION", "partition", false},
        {"SOURCE", "source", false},
        {"TARGET", "target", false},
        {"STATE", "state", false},
        {"PHASE", "phase", false},
        {"TOTAL MS", "total_ms", true},
        {"BLACKOUT MS", "blackout_ms", true},
        {NULL, NULL, false},
    };
    g_autoptr(GString) path = g_string_new("/v1/migrations?limit=100");
    if (active_option)
        g_string_append(path, "&active=true");
    if (partition_option != NULL) {
        g_autofree char *filter = cli_path("&partition=%s", partition_option);
        g_string_append(path, filter);
    }
    g_autoptr(json_t) list = cli_client_list(cli->client, path->str, "migrations", error);
    if (list == NULL)
        return false;
    if (cli->json)
        cli_print_json(list);
    else
        cli_print_table(list, columns, "no migration");
    return true;
}

static bool migration_show(Cli *cli, char **words, GError **error)
{
    static const CliColumn fields[] = {
        {"migration", "migration", false},
        {"partition", "partition", false},
        {"source", "source", false},
        {"target", "target", false},
        {"state", "state", false},
        {"phase", "phase", false},
        {"progress", "progress", false},
        {"ETA ms", "eta_ms", false},
        {"stream bytes", "stream_bytes", false},
        {"wire bytes", "wire_bytes", false},
        {"total ms", "total_ms", false},
        {"predicted blackout ms", "predicted_blackout_ms", false},
        {"blackout ms", "blackout_ms", false},
        {"pages verified", "verify.pages", false},
        {"pages that differed", "verify.differing", false},
        {"source journal", "source_half.journal", false},
        {"target journal", "target_half.journal", false},
        {"ownership record", "source_half.record", false},
        {"waiting for", "waiting_for", false},
        {"error", "error.message", false},
        {"what to do", "error.remedy", false},
        {"note", "note", false},
        {NULL, NULL, false},
    };
    g_autofree char *path = cli_path("/v1/migrations/%s", words[0]);
    g_autoptr(json_t) answer = cli_client_call(cli->client, "GET", path, NULL, error);
    if (answer == NULL)
        return false;
    if (cli->json) {
        cli_print_json(answer);
        return true;
    }
    cli_print_fields(answer, fields);
    cli_print_findings(lpm_json_at(answer, "findings"));
    return true;
}

static bool migration_watch(Cli *cli, char **words, GError **error)
{
    g_autoptr(json_t) end = cli_follow(cli, words[0], error);
    return end != NULL && cli_report_migration(cli, end, error);
}

static bool migration_stop(Cli *cli, char **words, GError **error)
{
    g_autofree char *path = cli_path("/v1/migrations/%s/stop", words[0]);
    g_autoptr(json_t) answer = cli_client_call(cli->client, "POST", path, NULL, error);
    if (answer == NULL)
        return false;
    g_autoptr(json_t) end = cli_follow(cli, words[0], error);
    if (end == NULL)
        return false;
    if (cli->json)
        cli_print_json(end);
    else
        printf("migration %s: %s; partition %s is on %s\n", words[0],
               lpm_json_str(end, "state", "?"), lpm_json_str(end, "partition", "?"),
               lpm_json_str(end,
                            g_strcmp0(lpm_json_str(end, "state", ""), "completed") == 0 ? "target"
                                                                                        : "source",
                            "?"));
    return true;
}

static bool migration_recover(Cli *cli, char **words, GError **error)
{
    g_autofree char *path = cli_path("/v1/migrations/%s/recover", words[0]);
    g_autoptr(json_t) answer = cli_client_call(
        cli->client, "POST", path, lpm_json_pack("{s:b}", "force", force ? 1 : 0), error);
    if (answer == NULL)
        return false;
    if (cli->json) {
        cli_print_json(answer);
        return true;
    }
    const char *note = lpm_json_str(answer, "note", NULL);
    g_autofree char *waiting = cli_cell(lpm_json_at(answer, "waiting_for"));
    printf("migration %s: %s%s%s\n", words[0], lpm_json_str(answer, "state", "?"),
           note != NULL ? "; " : "", note != NULL ? note : "");
    if (!lpm_json_bool(answer, "finished", false))
        printf("not finished yet; waiting for: %s\n", waiting);
    return true;
}

static const GOptionEntry list_options[] = {
    {"partition", 0, 0, G_OPTION_ARG_STRING, &partition_option, "only those of this partition",
     "NAME"},
    {"active", 0, 0, G_OPTION_ARG_NONE, &active_option, "only those that have not ended", NULL},
    G_OPTION_ENTRY_NULL,
};
static const GOptionEntry recover_options[] = {
    {"force", 0, 0, G_OPTION_ARG_NONE, &force,
     "you state that the target is switched off or cut from the storage: the partition goes on at "
     "the source",
     NULL},
    G_OPTION_ENTRY_NULL,
};

const CliVerb cli_verbs_migration[] = {
    {"migration", "list", "", 0, 0, list_options, false, migration_list,
     "list the moves, the newest first"},
    {"migration", "show", "MIGRATION", 1, 1, NULL, false, migration_show,
     "show one move, both halves"},
    {"migration", "watch", "MIGRATION", 1, 1, NULL, false, migration_watch,
     "follow one move to its end"},
    {"migration", "stop", "MIGRATION", 1, 1, NULL, false, migration_stop,
     "stop a move; the partition goes on at the source"},
    {"migration", "recover", "MIGRATION", 1, 1, recover_options, false, migration_recover,
     "bring a move that was cut off to its end, on both systems"},
    {NULL},
};
