/* SPDX-License-Identifier: Apache-2.0 */
/* What the scripts in a partition said to a move. */
#include "cli.h"

#include <string.h>

static void print_output(const json_t *script, const char *member)
{
    g_auto(GStrv) lines = g_strsplit(lpm_json_str(script, member, ""), "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        if (**line != '\0')
            printf("%-12s     | %s\n", "", *line);
    }
}

static void print_script(const json_t *script)
{
    const char *words = lpm_json_str(script, "words", "");
    bool yes = strcmp(lpm_json_str(script, "answer", ""), "yes") == 0;
    printf("%-12s   %s %s: %s (%" G_GINT64_FORMAT " ms)%s%s\n", "",
           lpm_json_str(script, "name", "?"), lpm_json_str(script, "action", "?"),
           lpm_json_str(script, "answer", "?"), lpm_json_int(script, "ms", 0),
           *words != '\0' ? ": " : "", words);
    if (!yes) {
        print_output(script, "output");
        print_output(script, "errors");
    }
}

/* Of what was watched while the partition was copied. */
static void print_changes(const json_t *phase)
{
    json_t *change;
    size_t i;
    json_array_foreach (lpm_json_at(phase, "changes"), i, change) {
        int64_t at = lpm_json_int(change, "time_us", 0);
        g_autoptr(GDateTime) time = g_date_time_new_from_unix_local(at / G_USEC_PER_SEC);
        g_autofree char *clock = time ? g_date_time_format(time, "%T") : g_strdup("?");
        printf("%-12s   %s %s %s: %s\n", "", clock, lpm_json_str(change, "name", "?"),
               lpm_json_bool(change, "good", true) ? "recovered" : "ALARM",
               lpm_json_str(change, "words", ""));
    }
}

void cli_print_scripts(const json_t *migration)
{
    json_t *phase, *script;
    size_t i, k;
    json_array_foreach (lpm_json_at(migration, "scripts"), i, phase) {
        const char *why = lpm_json_str(phase, "error", "");
        printf("%-12s %s: %s (%" G_GINT64_FORMAT " ms)%s%s\n", i == 0 ? "scripts" : "",
               lpm_json_str(phase, "phase", "?"), lpm_json_str(phase, "result", "?"),
               lpm_json_int(phase, "ms", 0), *why != '\0' ? ": " : "", why);
        json_array_foreach (lpm_json_at(phase, "scripts"), k, script) {
            print_script(script);
        }
        print_changes(phase);
    }
}
