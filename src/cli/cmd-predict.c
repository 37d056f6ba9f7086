/* SPDX-License-Identifier: Apache-2.0 */
/* Predictions for people: before a move, after it, and for several targets side by side. */
#include "cli.h"

#include <string.h>

typedef char *(*Unit)(double value);

static const struct {
    const char *member;
    const char *word;
    Unit text;
} figures[] = {
    {"duration_ms", "time", cli_duration},
    {"wire_bytes", "on the wire", cli_bytes},
    {"blackout_ms", "blackout", cli_duration},
};

static const json_t *band_of(const json_t *prediction, size_t figure)
{
    return lpm_json_at(prediction, figures[figure].member);
}

/* "4.9 s (4.2 s to 5.8 s)"; "no end" where there is none. g_free(). */
static char *band_text(const json_t *band, Unit text, bool with_band)
{
    if (lpm_json_at(band, "value") == NULL)
        return g_strdup("no end");
    g_autofree char *value = text(lpm_json_real(band, "value", 0));
    if (!with_band)
        return g_steal_pointer(&value);
    g_autofree char *low = text(lpm_json_real(band, "low", 0));
    bool open = lpm_json_at(band, "high") == NULL;
    g_autofree char *high = open ? g_strdup("no end") : text(lpm_json_real(band, "high", 0));
    return g_strdup_printf("%s (%s to %s)", value, low, high);
}

static const char *verdict_text(const json_t *prediction)
{
    const char *verdict = lpm_json_str(prediction, "converges", "");
    return strcmp(verdict, "yes") == 0  ? "the copy will come to its end"
           : strcmp(verdict, "no") == 0 ? "the copy will not come to its end"
                                        : "whether the copy comes to its end is not sure";
}

static char *learned_text(const json_t *prediction)
{
    int64_t moves = lpm_json_int(prediction, "moves", 0);
    const char *from = lpm_json_str(prediction, "learned_from", "nothing");
    if (moves == 0)
        return g_strdup("no earlier move to learn from");
    return g_strdup_printf("learned from %" PRId64 " move%s %s", moves, moves == 1 ? "" : "s",
                           strcmp(from, "partition") == 0 ? "of this partition"
                                                          : "between these systems");
}

void cli_print_prediction(FILE *out, const json_t *prediction)
{
    if (!json_is_object(prediction))
        return;
    fputs("prediction: ", out);
    for (size_t i = 0; i < G_N_ELEMENTS(figures); i++) {
        g_autofree char *text = band_text(band_of(prediction, i), figures[i].text, true);
        fprintf(out, "%s%s %s", i > 0 ? ", " : "", figures[i].word, text);
    }
    g_autofree char *learned = learned_text(prediction);
    fprintf(out, "; %s (%s)\n", verdict_text(prediction), learned);
}

void cli_print_score(const json_t *migration)
{
    const json_t *score = lpm_json_at(migration, "score");
    if (!json_is_object(score))
        return;
    const char *before = "against the prediction: ";
    for (size_t i = 0; i < G_N_ELEMENTS(figures); i++) {
        const json_t *row = lpm_json_at(score, figures[i].member);
        if (lpm_json_at(row, "error_percent") == NULL)
            continue;
        g_autofree char *actual = figures[i].text(lpm_json_real(row, "actual", 0));
        printf("%s%s %s, predicted %+.0f %%", before, figures[i].word, actual,
               lpm_json_real(row, "error_percent", 0));
        before = "; ";
    }
    if (strcmp(before, "; ") == 0)
        putchar('\n');
}

/* --- side by side --- */

static const char *first_reason(const json_t *result)
{
    size_t i;
    json_t *finding;
    json_array_foreach (lpm_json_at(result, "findings"), i, finding) {
        if (strcmp(lpm_json_str(finding, "severity", ""), "info") != 0)
            return lpm_json_str(finding, "check", "-");
    }
    return "-";
}

/* What a restart would change for this target; "-": nothing. g_free(). */
static char *after_restart(const json_t *result)
{
    const json_t *after = lpm_json_at(result, "after_restart");
    bool now = lpm_json_bool(after, "processor_allows_now", false);
    bool then = lpm_json_bool(after, "processor_allows", false);
    const char *mode = lpm_json_str(after, "mode", "?");
    if (!json_is_object(after) || !lpm_json_bool(after, "changes", false))
        return g_strdup("-");
    return g_strdup_printf("%s: %s", mode,
                           then && !now   ? "possible then"
                           : now && !then ? "not any more"
                           : then         ? "still possible"
                                          : "still not");
}

static json_t *target_row(const json_t *result)
{
    const json_t *prediction = lpm_json_at(result, "prediction");
    g_autofree char *after = after_restart(result);
    json_t *row = lpm_json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:I}", "target", lpm_json_str(result, "target", "?"), "verdict",
        lpm_json_str(result, "verdict", "?"), "reason", first_reason(result), "converges",
        lpm_json_str(prediction, "converges", "-"), "after_restart", after, "ms",
        (json_int_t)lpm_json_real(result, "ms", 0));
    for (size_t i = 0; i < G_N_ELEMENTS(figures); i++) {
        g_autofree char *text = json_is_object(prediction)
                                    ? band_text(band_of(prediction, i), figures[i].text, false)
                                    : g_strdup("-");
        json_object_set_new(row, figures[i].member, json_string(text));
    }
    return row;
}

void cli_print_targets(const json_t *answer)
{
    static const CliColumn columns[] = {
        {"TARGET", "target", false},         {"VERDICT", "verdict", false},
        {"FIRST REASON", "reason", false},   {"TIME", "duration_ms", true},
        {"ON THE WIRE", "wire_bytes", true}, {"BLACKOUT", "blackout_ms", true},
        {"CONVERGES", "converges", false},   {"AFTER A RESTART", "after_restart", false},
        {"CHECKED IN MS", "ms", true},       {NULL, NULL, false},
    };
    g_autoptr(json_t) rows = json_array();
    size_t i;
    json_t *result;
    json_array_foreach (lpm_json_at(answer, "results"), i, result)
        json_array_append_new(rows, target_row(result));
    cli_print_table(rows, columns, "no other system");
}
