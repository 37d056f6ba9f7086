/* SPDX-License-Identifier: Apache-2.0 */
/* lpm: finds the verb in the tables, parses its options, runs it, and turns an error into words and
 * an exit code. */
#include "cli.h"

#include <locale.h>
#include <string.h>
#include <unistd.h>

static gboolean json_option;
static char *config_option;

static const GOptionEntry common_options[] = {
    {"json", 0, 0, G_OPTION_ARG_NONE, &json_option,
     "one JSON value on standard output, for programs", NULL},
    {"config", 0, 0, G_OPTION_ARG_FILENAME, &config_option,
     "client file (default: $LPM_CONFIG, then the user's, then /etc)", "FILE"},
    G_OPTION_ENTRY_NULL,
};

const CliVerb *const cli_verb_tables[] = {
    cli_verbs_system,    cli_verbs_partition,
    cli_verbs_profile,   cli_verbs_mobility,
    cli_verbs_migration, cli_verbs_store,
    cli_verbs_webhook,   cli_verbs_cluster,
    cli_verbs_other,     NULL,
};

static void print_help(FILE *out)
{
    fputs("lpm: Live Partition Mobility for QEMU/KVM\n\nusage: lpm VERB [WORDS] [OPTIONS]   (lpm "
          "VERB --help says more)\n\n",
          out);
    for (size_t t = 0; cli_verb_tables[t] != NULL; t++)
        for (const CliVerb *verb = cli_verb_tables[t]; verb->name != NULL; verb++) {
            g_autofree char *head =
                g_strdup_printf("%s%s%s %s", verb->group != NULL ? verb->group : "",
                                verb->group != NULL ? " " : "", verb->name, verb->words);
            fprintf(out, "  %-44s %s\n", head, verb->help);
        }
    fputs("\nOptions of every verb: --json, --config FILE, --help. Exit codes: "
          "docs/guide/errors.md\n",
          out);
}

/* The verb that argv[1..] names; *ret_used is how many words named it. */
static const CliVerb *find_verb(int argc, char **argv, int *ret_used, GError **error)
{
    for (size_t t = 0; cli_verb_tables[t] != NULL; t++)
        for (const CliVerb *verb = cli_verb_tables[t]; verb->name != NULL; verb++) {
            bool grouped = verb->group != NULL;
            if (grouped ? argc > 2 && strcmp(argv[1], verb->group) == 0 &&
                              strcmp(argv[2], verb->name) == 0
                        : strcmp(argv[1], verb->name) == 0) {
                *ret_used = grouped ? 2 : 1;
                return verb;
            }
        }
    lpm_error_set(error, LPM_ERROR_USAGE, "there is no verb '%s%s%s': lpm --help lists them",
                  argv[1], argc > 2 ? " " : "", argc > 2 ? argv[2] : "");
    return NULL;
}

static bool count_words(const CliVerb *verb, int count, GError **error)
{
    if (count >= verb->min_words && (verb->max_words < 0 || count <= verb->max_words))
        return true;
    return lpm_error_set(error, LPM_ERROR_USAGE, "%d words after '%s%s%s'; usage: lpm %s%s%s %s",
                         count, verb->group != NULL ? verb->group : "",
                         verb->group != NULL ? " " : "", verb->name,
                         verb->group != NULL ? verb->group : "", verb->group != NULL ? " " : "",
                         verb->name, verb->words);
}

static bool run_verb(const CliVerb *verb, int argc, char **argv, GError **error)
{
    g_autofree char *summary =
        g_strdup_printf("%s%s%s %s", verb->group != NULL ? verb->group : "",
                        verb->group != NULL ? " " : "", verb->name, verb->words);
    g_autoptr(GOptionContext) context = g_option_context_new(summary);
    g_option_context_set_summary(context, verb->help);
    g_option_context_add_main_entries(context, common_options, NULL);
    if (verb->options != NULL)
        g_option_context_add_main_entries(context, verb->options, NULL);
    g_autoptr(GError) why = NULL;
    if (!g_option_context_parse(context, &argc, &argv, &why))
        return lpm_error_set(error, LPM_ERROR_USAGE, "%s; lpm %s --help says what it takes",
                             why->message, summary);
    if (!count_words(verb, argc - 1, error))
        return false;
    Cli cli = {.json = json_option, .terminal = !json_option && isatty(STDERR_FILENO)};
    g_autoptr(CliClient) client = NULL;
    if (!verb->offline) {
        client = cli_client_new(config_option, error);
        if (client == NULL)
            return false;
    }
    cli.client = client;
    return verb->run(&cli, argv + 1, error);
}

/* With --json a failure is one JSON object too, unless the verb has already printed its own (a
 * refused move has). */
static int report(const GError *error)
{
    const LpmErrorInfo *info =
        lpm_error_info(error->domain == LPM_ERROR ? error->code : LPM_ERROR_INTERNAL);
    fprintf(stderr, "lpm: %s\n", error->message);
    if (json_option && !cli_json_was_printed()) {
        /* A message may carry a remedy of its own, better than that of its class. */
        g_auto(GStrv) parts = g_strsplit(error->message, CLI_REMEDY, 2);
        const char *remedy = parts[1] != NULL ? parts[1] : info->remedy;
        g_autoptr(json_t) value = lpm_json_pack("{s:{s:s, s:s, s:s}}", "error", "class", info->name,
                                                "message", parts[0], "remedy", remedy);
        cli_print_json(value);
    }
    return info->exit;
}

/* Takes the options of every verb out of argv, wherever they stand: a failure of anything after
 * this is told as JSON when that was asked for. */
static bool parse_common_options(int *argc, char ***argv, GError **error)
{
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_option_context_set_help_enabled(context, FALSE);
    g_option_context_set_ignore_unknown_options(context, TRUE);
    g_option_context_add_main_entries(context, common_options, NULL);
    g_autoptr(GError) why = NULL;
    return g_option_context_parse(context, argc, argv, &why) ||
           lpm_error_set(error, LPM_ERROR_USAGE, "%s; lpm --help says more", why->message);
}

int main(int argc, char **argv)
{
    setlocale(LC_ALL, "");
    g_autoptr(GError) error = NULL;
    if (!parse_common_options(&argc, &argv, &error))
        return report(error);
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help(argc < 2 ? stderr : stdout);
        return argc < 2 ? lpm_error_info(LPM_ERROR_USAGE)->exit : 0;
    }
    if (strcmp(argv[1], "--version") == 0)
        argv[1] = (char *)"version";
    int used = 0;
    const CliVerb *verb = find_verb(argc, argv, &used, &error);
    if (verb != NULL) {
        argv[used] = argv[0];
        if (run_verb(verb, argc - used, argv + used, &error))
            return 0;
    }
    return report(error);
}
