/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include <string.h>

#define RATE_MAX 1e15

/* Bits where it says so, else bytes; "/s" may follow. */
static const struct {
    const char *unit;
    double factor;
} units[] = {
    {"", 1},        {"k", 1e3},        {"m", 1e6},        {"g", 1e9},
    {"b", 1},       {"kb", 1e3},       {"mb", 1e6},       {"gb", 1e9},
    {"bit", 0.125}, {"kbit", 1e3 / 8}, {"mbit", 1e6 / 8}, {"gbit", 1e9 / 8},
};

bool cli_rate(const char *text, int64_t *ret_rate, GError **error)
{
    char *end = NULL;
    double value = g_ascii_strtod(text, &end);
    g_autofree char *unit = g_strdup(end);
    if (g_str_has_suffix(unit, "/s"))
        unit[strlen(unit) - 2] = '\0';
    for (size_t i = 0; i < G_N_ELEMENTS(units) && end != text; i++) {
        double rate = value * units[i].factor;
        if (g_ascii_strcasecmp(unit, units[i].unit) == 0 && rate >= 1 && rate < RATE_MAX) {
            *ret_rate = (int64_t)rate;
            return true;
        }
    }
    return lpm_error_set(error, LPM_ERROR_USAGE,
                         "--max-rate '%s' is not a rate such as 100mbit, 12MB/s or 12M", text);
}
