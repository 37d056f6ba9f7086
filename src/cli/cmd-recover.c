/* SPDX-License-Identifier: Apache-2.0 */
/* `lpm migration recover`, and what `lpm migration show` says of a move that waits. */
#include "cli.h"

#include <string.h>
#include <unistd.h>

static gboolean source_fenced, target_fenced, discard;
static char *say;

const GOptionEntry cli_recover_options[] = {
    {"target-fenced", 0, 0, G_OPTION_ARG_NONE, &target_fenced,
     "you vouch that the target is off, or cut from the storage", NULL},
    {"source-fenced", 0, 0, G_OPTION_ARG_NONE, &source_fenced,
     "you vouch that the source is off: post-copy is given up", NULL},
    {"discard", 0, 0, G_OPTION_ARG_NONE, &discard,
     "throw away what has come to the target, where it never ran", NULL},
    {"say", 0, 0, G_OPTION_ARG_STRING, &say, "the word, where nobody can be asked for it", "WORDS"},
    G_OPTION_ENTRY_NULL,
};

/* --- what is known --- */

static void print_list(const char *title, const json_t *list)
{
    json_t *text;
    size_t i;

    json_array_foreach (list, i, text)
        printf("%-12s %s\n", i == 0 ? title : "", json_string_value(text));
}

static void print_words(const json_t *words)
{
    json_t *word;
    size_t i;

    json_array_foreach (words, i, word) {
        g_autoptr(GDateTime) when =
            g_date_time_new_from_unix_utc(lpm_json_int(word, "time_us", 0) / G_TIME_SPAN_SECOND);
        g_autofree char *text = when != NULL ? g_date_time_format(when, "%F %T UTC") : NULL;

        printf("%-12s \"%s\", by %s from %s, %s, to %s\n", i == 0 ? "word given" : "",
               lpm_json_str(word, "say", ""), lpm_json_str(word, "who", "?"),
               lpm_json_str(word, "from", "?"), text != NULL ? text : "?",
               lpm_json_str(word, "system", "?"));
    }
}

void cli_print_situation(const json_t *migration)
{
    json_t *may;
    size_t i;

    print_list("known", lpm_json_at(migration, "situation.known"));
    print_list("not known", lpm_json_at(migration, "situation.unknown"));
    json_array_foreach (lpm_json_at(migration, "situation.may"), i, may) {
        const char *command = lpm_json_str(may, "command", NULL);

        printf("%-12s %s\n", i == 0 ? "you may" : "", lpm_json_str(may, "text", ""));
        if (command != NULL)
            printf("%-12s   %s\n", "", command);
    }
    print_words(lpm_json_at(migration, "words"));
}

/* --- the word --- */

/* "target-off", "source-off", "discard"; NULL: none was asked for. USAGE when it is more than one.
 */
static bool chosen_word(const char **ret_word, GError **error)
{
    if (source_fenced + target_fenced + discard > 1)
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "give one of --target-fenced, --source-fenced and --discard");
    *ret_word = target_fenced   ? "target-off"
                : source_fenced ? "source-off"
                : discard       ? "discard"
                                : NULL;
    if (*ret_word == NULL && say != NULL)
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "--say goes with --target-fenced, --source-fenced or --discard");
    return true;
}

/* What must be said; the console compares it again. g_free(). */
static char *needed_words(const json_t *migration)
{
    const char *target = lpm_json_str(migration, "target", "?");

    if (target_fenced)
        return g_strdup_printf("target %s is off", target);
    if (source_fenced)
        return g_strdup_printf("source %s is off", lpm_json_str(migration, "source", "?"));
    return g_strdup_printf("discard %s at %s", lpm_json_str(migration, "partition", "?"), target);
}

/* What the word does, as the console has it; it has nothing while both systems answer. */
static void print_stake(const json_t *migration, const char *words)
{
    json_t *may;
    size_t i;

    json_array_foreach (lpm_json_at(migration, "situation.may"), i, may) {
        if (g_strcmp0(lpm_json_str(may, "say", NULL), words) == 0)
            fprintf(stderr, "%s\n", lpm_json_str(may, "text", ""));
    }
}

/* A line of the terminal without its end; g_free(). */
static char *ask_for(const char *words)
{
    char line[512];

    fprintf(stderr, "To vouch for that, type: %s\n> ", words);
    if (fgets(line, sizeof(line), stdin) == NULL)
        return g_strdup("");
    line[strcspn(line, "\n")] = '\0';
    return g_strdup(line);
}

static char *get_say(Cli *cli, const char *id, GError **error)
{
    g_autofree char *path = cli_path("/v1/migrations/%s", id);
    g_autoptr(json_t) migration = NULL;
    g_autofree char *words = NULL;
    g_autofree char *typed = NULL;

    if (say != NULL)
        return g_strdup(say);
    migration = cli_client_call(cli->client, "GET", path, NULL, error);
    if (migration == NULL)
        return NULL;
    words = needed_words(migration);
    if (!isatty(STDIN_FILENO)) {
        lpm_error_set(error, LPM_ERROR_USAGE,
                      "nobody can be asked here: give --say \"%s\", if it is so", words);
        return NULL;
    }
    print_stake(migration, words);
    typed = ask_for(words);
    if (strcmp(typed, words) != 0) {
        lpm_error_set(error, LPM_ERROR_USAGE,
                      "\"%.64s\" is not the word that is needed, \"%s\": nothing was done", typed,
                      words);
        return NULL;
    }
    return g_steal_pointer(&typed);
}

bool cli_migration_recover(Cli *cli, char **words, GError **error)
{
    g_autofree char *path = cli_path("/v1/migrations/%s/recover", words[0]);
    g_autofree char *said = NULL;
    g_autoptr(json_t) answer = NULL;
    const char *word = NULL;

    if (!chosen_word(&word, error))
        return false;
    if (word != NULL && (said = get_say(cli, words[0], error)) == NULL)
        return false;
    answer = cli_client_call(cli->client, "POST", path,
                             word != NULL ? lpm_json_pack("{s:s, s:s}", "word", word, "say", said)
                                          : json_object(),
                             error);
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
    cli_print_situation(answer);
    return true;
}
