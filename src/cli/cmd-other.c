/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include <string.h>

static char *common_option;
static char *system_option;

static void print_modes(const json_t *answer)
{
    size_t i;
    json_t *row;
    json_array_foreach (lpm_json_at(answer, "systems"), i, row) {
        const char *family;
        json_t *modes;
        json_object_foreach (lpm_json_at(row, "modes"), family, modes) {
            printf("%-20s %-8s", lpm_json_str(row, "system", "?"), family);
            size_t m;
            json_t *mode;
            json_array_foreach (modes, m, mode)
                printf(" %s", json_is_string(mode) ? json_string_value(mode)
                                                   : lpm_json_str(mode, "name", "?"));
            putchar('\n');
        }
    }
    const char *family;
    json_t *mode;
    json_object_foreach (lpm_json_at(answer, "common"), family, mode) {
        g_autofree char *cell = cli_cell(mode);
        printf("highest mode common to all, %s: %s\n", family, cell);
    }
}

/* "A,B" and "A B" alike. g_free(). */
static char *common_systems(char **words)
{
    g_autofree char *more = g_strjoinv(",", words);
    return *more != '\0' ? g_strconcat(common_option, ",", more, NULL) : g_strdup(common_option);
}

static bool modes(Cli *cli, char **words, GError **error)
{
    if (common_option == NULL && words[0] != NULL)
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "modes: \"%s\" is too much: systems follow --common, or --system",
                             words[0]);
    g_autofree char *common = common_option != NULL ? common_systems(words) : NULL;
    g_autofree char *path = common != NULL          ? cli_path("/v1/modes?common=%s", common)
                            : system_option != NULL ? cli_path("/v1/modes?system=%s", system_option)
                                                    : g_strdup("/v1/modes");
    g_autoptr(json_t) answer = cli_client_call(cli->client, "GET", path, NULL, error);
    if (answer == NULL)
        return false;
    if (cli->json)
        cli_print_json(answer);
    else
        print_modes(answer);
    return true;
}

static bool version(Cli *cli, G_GNUC_UNUSED char **words, G_GNUC_UNUSED GError **error)
{
    if (cli->json) {
        g_autoptr(json_t) value = lpm_json_pack("{s:s}", "version", LPM_VERSION);
        cli_print_json(value);
    } else {
        puts("lpm " LPM_VERSION);
    }
    return true;
}

/* Words for bash: groups and lone verbs first, then the names of the group's verbs. Printed from
 * the table. */
static bool completion(G_GNUC_UNUSED Cli *cli, G_GNUC_UNUSED char **words,
                       G_GNUC_UNUSED GError **error)
{
    g_autoptr(GString) first = g_string_new(NULL);
    g_autoptr(GString) cases = g_string_new(NULL);
    for (size_t t = 0; cli_verb_tables[t] != NULL; t++) {
        const CliVerb *verbs = cli_verb_tables[t];
        const char *group = verbs[0].group;
        if (group != NULL) {
            g_string_append_printf(first, "%s ", group);
            g_string_append_printf(cases, "        %s) COMPREPLY=($(compgen -W \"", group);
        }
        for (size_t v = 0; verbs[v].name != NULL; v++)
            g_string_append_printf(group != NULL ? cases : first, "%s ", verbs[v].name);
        if (group != NULL)
            g_string_append(cases, "\" -- \"$word\"));;\n");
    }
    printf(
        "_lpm() {\n    local word=\"${COMP_WORDS[COMP_CWORD]}\"\n    if [ \"$COMP_CWORD\" -eq 1 ]; "
        "then\n"
        "        COMPREPLY=($(compgen -W \"%s\" -- \"$word\"))\n    elif [ \"$COMP_CWORD\" -eq 2 "
        "]; then\n"
        "        case \"${COMP_WORDS[1]}\" in\n%s        esac\n    fi\n}\ncomplete -F _lpm lpm\n",
        first->str, cases->str);
    return true;
}

static const GOptionEntry modes_options[] = {
    {"common", 0, 0, G_OPTION_ARG_STRING, &common_option,
     "the highest mode in which partitions can roam over these", "SYSTEM..."},
    {"system", 0, 0, G_OPTION_ARG_STRING, &system_option, "only this system", "NAME"},
    G_OPTION_ENTRY_NULL,
};

const CliVerb cli_verbs_other[] = {
    {NULL, "modes", "", 0, -1, modes_options, false, modes,
     "processor compatibility modes by system"},
    {NULL, "events", "", 0, 0, cli_events_options, false, cli_events,
     "what has happened; --follow: and what happens"},
    {NULL, "version", "", 0, 0, NULL, true, version, "this program's version"},
    {NULL, "completion", "", 0, 0, NULL, true, completion,
     "shell completion for bash, from the table of verbs"},
    {NULL},
};
