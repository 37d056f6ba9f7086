/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include <string.h>
#include <unistd.h>

static bool json_was_printed;

bool cli_json_was_printed(void)
{
    return json_was_printed;
}

void cli_print_json(const json_t *value)
{
    json_was_printed = true;
    char *text = json_dumps(value, JSON_ENCODE_ANY |
                                       (isatty(STDOUT_FILENO) ? JSON_INDENT(2) : JSON_COMPACT));
    puts(text);
    free(text);
}

/* "a, b" when all members are strings, else NULL. */
static char *list_cell(const json_t *list)
{
    g_autoptr(GString) text = g_string_new(NULL);
    size_t i;
    json_t *member;
    json_array_foreach (list, i, member) {
        if (!json_is_string(member))
            return NULL;
        g_string_append_printf(text, "%s%s", i > 0 ? ", " : "", json_string_value(member));
    }
    return g_strdup(text->len > 0 ? text->str : "-");
}

char *cli_cell(const json_t *value)
{
    if (value == NULL || json_is_null(value))
        return g_strdup("-");
    if (json_is_string(value))
        return g_strdup(*json_string_value(value) == '\0' ? "-" : json_string_value(value));
    if (json_is_boolean(value))
        return g_strdup(json_is_true(value) ? "yes" : "no");
    if (json_is_real(value))
        return g_strdup_printf("%.1f", json_real_value(value));
    char *list = json_is_array(value) ? list_cell(value) : NULL;
    return list != NULL ? list : lpm_json_text(value);
}

char *cli_bytes(double bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    size_t unit = 0;
    while (bytes >= 1000 && unit + 1 < G_N_ELEMENTS(units)) {
        bytes /= 1000;
        unit++;
    }
    return g_strdup_printf(unit == 0 || bytes >= 100 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
}

char *cli_saved(const json_t *migration, const char *before, const char *after)
{
    int percent = (int)lpm_json_real(migration, "saved_percent", 0);
    return percent < 1 ? g_strdup("") : g_strdup_printf("%ssaved %d %%%s", before, percent, after);
}

char *cli_duration(double ms)
{
    if (ms < 1000)
        return g_strdup_printf(ms < 10 ? "%.1f ms" : "%.0f ms", ms);
    if (ms < 60000)
        return g_strdup_printf("%.1f s", ms / 1000);
    return g_strdup_printf("%d min %d s", (int)(ms / 60000), (int)(ms / 1000) % 60);
}

static size_t column_width(const json_t *rows, const CliColumn *column)
{
    size_t width = (size_t)g_utf8_strlen(column->title, -1);
    size_t i;
    json_t *row;
    json_array_foreach (rows, i, row) {
        g_autofree char *cell = cli_cell(lpm_json_at(row, column->path));
        width = MAX(width, (size_t)g_utf8_strlen(cell, -1));
    }
    return width;
}

static void print_cell(const char *text, size_t width, bool right, bool last)
{
    int pad = (int)width - (int)g_utf8_strlen(text, -1);
    if (right)
        printf("%*s%s", pad, "", text);
    else if (last)
        printf("%s", text);
    else
        printf("%s%*s", text, pad, "");
    fputs(last ? "\n" : "  ", stdout);
}

void cli_print_table(const json_t *rows, const CliColumn *columns, const char *empty)
{
    if (json_array_size(rows) == 0) {
        puts(empty);
        return;
    }
    size_t widths[16] = {0};
    size_t count = 0;
    for (; columns[count].title != NULL && count < G_N_ELEMENTS(widths); count++)
        widths[count] = column_width(rows, &columns[count]);
    for (size_t c = 0; c < count; c++)
        print_cell(columns[c].title, widths[c], columns[c].right, c + 1 == count);
    size_t i;
    json_t *row;
    json_array_foreach (rows, i, row) {
        for (size_t c = 0; c < count; c++) {
            g_autofree char *cell = cli_cell(lpm_json_at(row, columns[c].path));
            print_cell(cell, widths[c], columns[c].right, c + 1 == count);
        }
    }
}

void cli_print_fields(const json_t *object, const CliColumn *columns)
{
    size_t width = 0;
    for (const CliColumn *column = columns; column->title != NULL; column++)
        width = MAX(width, strlen(column->title));
    for (const CliColumn *column = columns; column->title != NULL; column++) {
        g_autofree char *cell = cli_cell(lpm_json_at(object, column->path));
        printf("%-*s  %s\n", (int)width, column->title, cell);
    }
}

void cli_print_findings(const json_t *findings)
{
    static const struct {
        const char *label;
        const char *path;
    } lines[] = {{"expected", "expected"}, {"found", "found"}, {"what to do", "remedy"}};

    size_t i;
    json_t *finding;
    json_array_foreach (findings, i, finding) {
        const char *hmc = lpm_json_str(finding, "hmc_code", NULL);
        printf("%s%s  %s  %s%s%s\n", lpm_json_str(finding, "severity", "?"),
               lpm_json_bool(finding, "overridden", false) ? " (overridden)" : "",
               lpm_json_str(finding, "check", "?"), lpm_json_str(finding, "object", ""),
               hmc != NULL ? "  " : "", hmc != NULL ? hmc : "");
        for (size_t l = 0; l < G_N_ELEMENTS(lines); l++) {
            const char *text = lpm_json_str(finding, lines[l].path, NULL);
            if (text != NULL && *text != '\0')
                printf("    %-10s  %s\n", lines[l].label, text);
        }
        if (lpm_json_bool(finding, "overridable", false) &&
            !lpm_json_bool(finding, "overridden", false))
            printf("    %-10s  --override %s\n", "or", lpm_json_str(finding, "check", "?"));
    }
}
