/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include <string.h>

static char *partition_option;
static gboolean active_option;
static char *max_rate;
static int max_blackout_ms = -1;
static int give_up_after_s = -1;

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
        {"saved %", "saved_percent", false},
        {"pages zero", "coding.zero", false},
        {"pages unchanged", "coding.same", false},
        {"pages by reference", "coding.reference", false},
        {"pages as difference", "coding.delta", false},
        {"pages whole", "coding.literal", false},
        {"stream bytes coded", "coding.raw_bytes", false},
        {"what they became", "coding.coded_bytes", false},
        {"convergence", "convergence.state", false},
        {"post-copy", "postcopy", false},
        {"passes", "passes", false},
        {"rate bytes/s", "rate_bytes", false},
        {"dirty rate bytes/s", "dirty_rate_bytes", false},
        {"blackout limit ms", "convergence.limit_ms", false},
        {"blackout needed ms", "convergence.needed_blackout_ms", false},
        {"slowed down by %", "convergence.throttle_percent", false},
        {"what would help", "convergence.advice", false},
        {"predicted blackout ms", "predicted_blackout_ms", false},
        {"blackout ms", "blackout_ms", false},
        {"pages verified", "verify.pages", false},
        {"pages that differed", "verify.differing", false},
        {"connections up", "links.up", false},
        {"link lost since ms", "links.lost_ms", false},
        {"last loss of link", "links.reason", false},
        {"reconnects", "links.reconnects", false},
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
    cli_print_prediction(stdout, lpm_json_at(answer, "prediction"));
    cli_print_score(answer);
    cli_print_findings(lpm_json_at(answer, "findings"));
    cli_print_situation(answer);
    cli_print_scripts(answer);
    return true;
}

static bool migration_watch(Cli *cli, char **words, GError **error)
{
    g_autoptr(json_t) end = cli_follow(cli, words[0], error);
    return end != NULL && cli_report_migration(cli, end, error);
}

static json_t *changes(GError **error)
{
    g_autoptr(json_t) body = json_object();
    int64_t rate = 0;
    bool limited = max_rate != NULL && strcmp(max_rate, "none") != 0;
    if (limited && !cli_rate(max_rate, &rate, error))
        return NULL;
    if (max_rate != NULL)
        json_object_set_new(body, "max_rate", json_integer(rate));
    if (max_blackout_ms >= 0)
        json_object_set_new(body, "max_blackout_ms", json_integer(max_blackout_ms));
    if (give_up_after_s >= 0)
        json_object_set_new(body, "give_up_after_s", json_integer(give_up_after_s));
    if (json_object_size(body) > 0)
        return g_steal_pointer(&body);
    lpm_error_set(error, LPM_ERROR_USAGE,
                  "migration set needs --max-rate, --max-blackout or --give-up-after");
    return NULL;
}

static bool migration_set(Cli *cli, char **words, GError **error)
{
    json_t *body = changes(error);
    if (body == NULL)
        return false;
    g_autofree char *path = cli_path("/v1/migrations/%s", words[0]);
    g_autoptr(json_t) answer = cli_client_call(cli->client, "PATCH", path, body, error);
    if (answer == NULL)
        return false;
    if (cli->json)
        cli_print_json(answer);
    else
        printf("migration %s: at most %" PRId64 " ms of blackout, %" PRId64
               " bytes/s (0: no limit)\n",
               words[0], lpm_json_int(answer, "options.max_blackout_ms", 0),
               lpm_json_int(answer, "options.max_rate", 0));
    return true;
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

static const GOptionEntry list_options[] = {
    {"partition", 0, 0, G_OPTION_ARG_STRING, &partition_option, "only those of this partition",
     "NAME"},
    {"active", 0, 0, G_OPTION_ARG_NONE, &active_option, "only those that have not ended", NULL},
    G_OPTION_ENTRY_NULL,
};
static const GOptionEntry set_options[] = {
    {"max-rate", 0, 0, G_OPTION_ARG_STRING, &max_rate,
     "most to send in a second: 100mbit, 12MB/s, 12M; none: no limit", "RATE"},
    {"max-blackout", 0, 0, G_OPTION_ARG_INT, &max_blackout_ms, "longest blackout to accept", "MS"},
    {"give-up-after", 0, 0, G_OPTION_ARG_INT, &give_up_after_s,
     "seconds without convergence; 0: never", "SECONDS"},
    G_OPTION_ENTRY_NULL,
};
const CliVerb cli_verbs_migration[] = {
    {"migration", "list", "", 0, 0, list_options, false, migration_list,
     "list the moves, the newest first"},
    {"migration", "show", "MIGRATION", 1, 1, NULL, false, migration_show,
     "show one move, both halves"},
    {"migration", "watch", "MIGRATION", 1, 1, NULL, false, migration_watch,
     "follow one move to its end"},
    {"migration", "set", "MIGRATION", 1, 1, set_options, false, migration_set,
     "change the limits of a move while it copies"},
    {"migration", "stop", "MIGRATION", 1, 1, NULL, false, migration_stop,
     "stop a move; the partition goes on at the source"},
    {"migration", "recover", "MIGRATION", 1, 1, cli_recover_options, false, cli_migration_recover,
     "bring a move that was cut off to its end, on both systems"},
    {NULL},
};
