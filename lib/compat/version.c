/* SPDX-License-Identifier: Apache-2.0 */
#include "compat/internal.h"

#include <stdlib.h>
#include <string.h>

bool lpm_version_parse(const char *text, LpmVersion *ret_version)
{
    LpmVersion version = {.given = true};

    for (size_t i = 0; i < G_N_ELEMENTS(version.part) && text && g_ascii_isdigit(*text); i++) {
        char *end;
        unsigned long value = strtoul(text, &end, 10);

        version.part[i] = (unsigned)MIN(value, G_MAXUINT32);
        if (*end != '.') {
            *ret_version = version;
            return true;
        }
        text = end + 1;
    }
    /* Ended at a dot or at the fourth number: fine once there was a number at all. */
    if (!text || version.part[0] == 0) {
        return false;
    }
    *ret_version = version;
    return true;
}

bool lpm_version_parse_machine(const char *machine, LpmVersion *ret_version)
{
    g_autofree char *type = machine ? g_strndup(machine, strcspn(machine, "+,")) : NULL;
    const char *dash = type ? strrchr(type, '-') : NULL;

    return dash && lpm_version_parse(dash + 1, ret_version);
}

int lpm_version_compare(const LpmVersion *a, const LpmVersion *b)
{
    for (size_t i = 0; i < G_N_ELEMENTS(a->part); i++) {
        if (a->part[i] != b->part[i]) {
            return a->part[i] < b->part[i] ? -1 : 1;
        }
    }
    return 0;
}

bool lpm_version_in(const LpmVersion *version, const LpmVersion *from, const LpmVersion *before)
{
    if (!from->given && !before->given) {
        return true;
    }
    return version && (!from->given || lpm_version_compare(version, from) >= 0) &&
           (!before->given || lpm_version_compare(version, before) < 0);
}
