/* SPDX-License-Identifier: Apache-2.0 */
/* validate and migrate: the two verbs that the project exists for. They take the same options. */
#include "cli.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

static gboolean all_targets;
static gboolean list_checks;
static gboolean verify;
static gboolean auto_converge;
static gboolean postcopy;
static int postcopy_after_s;
static gboolean no_wait;
static gboolean no_measure;
static int give_up_after_s = -1;
static gboolean affinity;
static int min_affinity;
static int max_blackout_ms;
static char *max_rate;
static int connections;
static int channels = -1; /* not given */
static char *codec;
static int link_retry_s = -1; /* not given */
static gboolean skip_scripts, force_scripts;
static char **overrides;
static char *profile_option;

static json_t *move_options(GError **error)
{
    g_autoptr(json_t) options = json_object();
    json_t *override = json_array();
    json_object_set_new(options, "overrides", override);
    json_object_set_new(options, "verify", json_boolean(verify));
    for (char **name = overrides; name != NULL && *name != NULL; name++)
        json_array_append_new(override, json_string(*name));
    if (max_blackout_ms < 0) {
        lpm_error_set(error, LPM_ERROR_USAGE, "--max-blackout %d is not a number of milliseconds",
                      max_blackout_ms);
        return NULL;
    }
    if (max_blackout_ms > 0)
        json_object_set_new(options, "max_blackout_ms", json_integer(max_blackout_ms));
    if (connections < 0 || connections > 16 || link_retry_s < -1 || link_retry_s > 3600) {
        lpm_error_set(error, LPM_ERROR_USAGE,
                      "--connections takes 1 to 16, --link-retry 0 to 3600 seconds");
        return NULL;
    }
    if (channels < -1 || channels > 1) {
        lpm_error_set(
            error, LPM_ERROR_USAGE,
            "--channels takes 0 or 1: with more, QEMU can hang for good when a mover dies");
        return NULL;
    }
    if (codec != NULL && strcmp(codec, "auto") != 0 && strcmp(codec, "raw") != 0) {
        lpm_error_set(error, LPM_ERROR_USAGE, "--codec %s is neither auto nor raw", codec);
        return NULL;
    }
    int64_t rate = 0;
    if (max_rate != NULL && !cli_rate(max_rate, &rate, error))
        return NULL;
    if (rate > 0)
        json_object_set_new(options, "max_rate", json_integer(rate));
    if (no_measure)
        json_object_set_new(options, "measure", json_false());
    if (auto_converge)
        json_object_set_new(options, "auto_converge", json_true());
    if (postcopy)
        json_object_set_new(options, "postcopy", json_true());
    if (postcopy_after_s > 0)
        json_object_set_new(options, "postcopy_after_s", json_integer(postcopy_after_s));
    if (min_affinity < 0 || min_affinity > 100) {
        lpm_error_set(error, LPM_ERROR_USAGE, "--min-affinity takes a score from 0 to 100");
        return NULL;
    }
    if (affinity)
        json_object_set_new(options, "affinity", json_true());
    if (min_affinity > 0)
        json_object_set_new(options, "min_affinity", json_integer(min_affinity));
    if (profile_option != NULL)
        json_object_set_new(options, "profile", json_string(profile_option));
    if (give_up_after_s >= 0)
        json_object_set_new(options, "give_up_after_s", json_integer(give_up_after_s));
    if (connections != 0)
        json_object_set_new(options, "connections", json_integer(connections));
    if (channels >= 0)
        json_object_set_new(options, "channels", json_integer(channels));
    if (codec != NULL && strcmp(codec, "raw") == 0)
        json_object_set_new(options, "raw", json_true());
    if (skip_scripts)
        json_object_set_new(options, "skip_scripts", json_true());
    if (force_scripts)
        json_object_set_new(options, "force_scripts", json_true());
    if (link_retry_s >= 0)
        json_object_set_new(options, "link_retry_ms",
                            json_integer((json_int_t)link_retry_s * 1000));
    return g_steal_pointer(&options);
}

static bool print_checks(Cli *cli, GError **error)
{
    static const CliColumn columns[] = {
        {"CHECK", "check", false},
        {"ACTIVE", "active", false},
        {"INACTIVE", "inactive", false},
        {"OVERRIDE", "overridable", false},
        {"HMC", "hmc", false},
        {"WHAT IT LOOKS AT", "looks_at", false},
        {NULL, NULL, false},
    };
    g_autoptr(json_t) checks = cli_client_list(cli->client, "/v1/checks", "checks", error);
    if (checks == NULL)
        return false;
    if (cli->json)
        cli_print_json(checks);
    else
        cli_print_table(checks, columns, "no checks");
    return true;
}

static bool print_results(Cli *cli, const json_t *answer, GError **error)
{
    size_t i, bad = 0;
    json_t *result;
    if (cli->json)
        cli_print_json(answer);
    json_array_foreach (lpm_json_at(answer, "results"), i, result) {
        const char *verdict = lpm_json_str(result, "verdict", "?");
        bad += strcmp(verdict, "error") == 0;
        if (cli->json)
            continue;
        cli_print_findings(lpm_json_at(result, "findings"));
        if (!all_targets)
            cli_print_prediction(stdout, lpm_json_at(result, "prediction"));
        printf("%s: %s to %s: %s (findings: %zu; %.0f ms)\n",
               lpm_json_str(answer, "partition", "?"), lpm_json_str(answer, "source", "?"),
               lpm_json_str(result, "target", "?"), verdict,
               json_array_size(lpm_json_at(result, "findings")), lpm_json_real(result, "ms", 0));
    }
    if (all_targets && !cli->json)
        cli_print_targets(answer);
    /* Side by side, one that is possible is an answer. */
    if (bad == 0 || bad < i)
        return true;
    return lpm_error_set(
        error, LPM_ERROR_REFUSED,
        "partition %s cannot move to %s: the findings say why; nothing was changed",
        lpm_json_str(answer, "partition", "?"), i == 1 ? "this system" : "any of these systems");
}

static bool validate(Cli *cli, char **words, GError **error)
{
    if (list_checks)
        return print_checks(cli, error);
    if (words[0] == NULL || (words[1] == NULL) != (bool)all_targets)
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "validate needs a partition, and a target or --all-targets");
    json_t *options = move_options(error);
    if (options == NULL)
        return false;
    json_t *body = lpm_json_pack("{s:s, s:o}", "partition", words[0], "options", options);
    if (all_targets)
        json_object_set_new(body, "all_targets", json_true());
    else
        json_object_set_new(body, "target", json_string(words[1]));
    g_autoptr(json_t) answer = cli_client_call(cli->client, "POST", "/v1/validate", body, error);
    return answer != NULL && print_results(cli, answer, error);
}

static char interrupted_note[512];

/* Interrupting the command line does not stop the move: say so, and how to go on. */
static void on_interrupt(int signal_number)
{
    ssize_t ignored = write(STDERR_FILENO, interrupted_note, strlen(interrupted_note));
    (void)ignored;
    _exit(128 + signal_number);
}

static bool migrate(Cli *cli, char **words, GError **error)
{
    json_t *options = move_options(error);
    if (options == NULL)
        return false;
    g_autoptr(json_t) begun =
        cli_client_call(cli->client, "POST", "/v1/migrations",
                        lpm_json_pack("{s:s, s:s, s:o}", "partition", words[0], "target", words[1],
                                      "options", options),
                        error);
    if (begun == NULL)
        return false;
    const char *id = lpm_json_str(begun, "migration", "");
    if (no_wait) {
        if (cli->json)
            cli_print_json(begun);
        else
            printf("migration %s has begun; follow it with: lpm migration watch %s\n", id, id);
        return true;
    }
    g_snprintf(interrupted_note, sizeof interrupted_note,
               "\nthe move goes on; follow it with: lpm migration watch %s, or stop it with: lpm "
               "migration stop %s\n",
               id, id);
    signal(SIGINT, on_interrupt);
    signal(SIGTERM, on_interrupt);
    g_autoptr(json_t) end = cli_follow(cli, id, error);
    return end != NULL && cli_report_migration(cli, end, error);
}

#define MOVE_OPTIONS                                                                               \
    {                                                                                              \
        "verify", 0,                                                                               \
        0,        G_OPTION_ARG_NONE,                                                               \
        &verify,  "compare the memory of both sides in the blackout",                              \
        NULL},                                                                                     \
        {"max-blackout",                                                                           \
         0,                                                                                        \
         0,                                                                                        \
         G_OPTION_ARG_INT,                                                                         \
         &max_blackout_ms,                                                                         \
         "longest blackout to accept (default 300)",                                               \
         "MS"},                                                                                    \
        {"connections",                                                                            \
         0,                                                                                        \
         0,                                                                                        \
         G_OPTION_ARG_INT,                                                                         \
         &connections,                                                                             \
         "TCP connections to use (default 1)",                                                     \
         "N"},                                                                                     \
        {"channels", 0,                                                                            \
         0,          G_OPTION_ARG_INT,                                                             \
         &channels,  "streams of QEMU besides the main one (multifd; 0 or 1, the default)",        \
         "N"},                                                                                     \
        {"no-measure",                                                                             \
         0,                                                                                        \
         0,                                                                                        \
         G_OPTION_ARG_NONE,                                                                        \
         &no_measure,                                                                              \
         "do not look at what the partition writes",                                               \
         NULL},                                                                                    \
        {"codec", 0,                                                                               \
         0,       G_OPTION_ARG_STRING,                                                             \
         &codec,  "auto (default): as much as pays on the link; raw: nothing is coded",            \
         "CODEC"},                                                                                 \
        {"link-retry",                                                                             \
         0,                                                                                        \
         0,                                                                                        \
         G_OPTION_ARG_INT,                                                                         \
         &link_retry_s,                                                                            \
         "how long a lost link is waited for (default 120)",                                       \
         "SECONDS"},                                                                               \
        {"skip-guest-scripts",                                                                     \
         0,                                                                                        \
         0,                                                                                        \
         G_OPTION_ARG_NONE,                                                                        \
         &skip_scripts,                                                                            \
         "neither ask nor tell the scripts in the partition",                                      \
         NULL},                                                                                    \
        {"force-scripts",                                                                          \
         0,                                                                                        \
         0,                                                                                        \
         G_OPTION_ARG_NONE,                                                                        \
         &force_scripts,                                                                           \
         "go on against their no; they are told so (DR_FORCE)",                                    \
         NULL},                                                                                    \
        {"max-rate", 0,                                                                            \
         0,          G_OPTION_ARG_STRING,                                                          \
         &max_rate,  "most to send in a second: 100mbit, 12MB/s, 12M",                             \
         "RATE"},                                                                                  \
        {"auto-converge",                                                                          \
         0,                                                                                        \
         0,                                                                                        \
         G_OPTION_ARG_NONE,                                                                        \
         &auto_converge,                                                                           \
         "slow the partition down if copying does not converge",                                   \
         NULL},                                                                                    \
        {"postcopy", 0,                                                                            \
         0,          G_OPTION_ARG_NONE,                                                            \
         &postcopy,  "send everything once, the rest when it runs at the target",                  \
         NULL},                                                                                    \
        {"postcopy-after",                                                                         \
         0,                                                                                        \
         0,                                                                                        \
         G_OPTION_ARG_INT,                                                                         \
         &postcopy_after_s,                                                                        \
         "the same, if it still copies after so long",                                             \
         "SECONDS"},                                                                               \
        {"affinity", 0,                                                                            \
         0,          G_OPTION_ARG_NONE,                                                            \
         &affinity,  "only if memory can be as near to the processors as now",                     \
         NULL},                                                                                    \
        {"min-affinity",                                                                           \
         0,                                                                                        \
         0,                                                                                        \
         G_OPTION_ARG_INT,                                                                         \
         &min_affinity,                                                                            \
         "only with this affinity score or more, 0 to 100",                                        \
         "SCORE"},                                                                                 \
        {"profile",                                                                                \
         0,                                                                                        \
         0,                                                                                        \
         G_OPTION_ARG_STRING,                                                                      \
         &profile_option,                                                                          \
         "keep what it has now as this new profile, there",                                        \
         "NAME"},                                                                                  \
        {"give-up-after",                                                                          \
         0,                                                                                        \
         0,                                                                                        \
         G_OPTION_ARG_INT,                                                                         \
         &give_up_after_s,                                                                         \
         "seconds without convergence (default 900; 0: never)",                                    \
         "SECONDS"},                                                                               \
    {                                                                                              \
        "override", 0, 0, G_OPTION_ARG_STRING_ARRAY, &overrides,                                   \
            "go on despite this check's error; may be repeated", "CHECK"                           \
    }

static const GOptionEntry validate_options[] = {
    MOVE_OPTIONS,
    {"all-targets", 0, 0, G_OPTION_ARG_NONE, &all_targets, "against every other system", NULL},
    {"list", 0, 0, G_OPTION_ARG_NONE, &list_checks, "print the table of checks", NULL},
    G_OPTION_ENTRY_NULL,
};
static const GOptionEntry migrate_options[] = {
    MOVE_OPTIONS,
    {"no-wait", 0, 0, G_OPTION_ARG_NONE, &no_wait, "return once the move has begun", NULL},
    G_OPTION_ENTRY_NULL,
};

const CliVerb cli_verbs_mobility[] = {
    {NULL, "validate", "PARTITION TARGET", 0, 2, validate_options, false, validate,
     "find every reason why a move would fail; nothing is changed"},
    {NULL, "migrate", "PARTITION TARGET", 2, 2, migrate_options, false, migrate,
     "move a partition to another system"},
    {NULL},
};
