/* SPDX-License-Identifier: Apache-2.0 */
#include "kinds.h"

/* All that lpm_event_add() is called with; docs/guide/events.md. */
static const char *const known_kinds[] = {"migration", "alarm", "partition", "system",
                                          "webhook",   "store", NULL};

bool lpm_event_kinds_check(const char *const *kinds, GError **error)
{
    for (; kinds && *kinds; kinds++) {
        if (**kinds && !g_strv_contains(known_kinds, *kinds)) {
            g_autofree char *known = g_strjoinv(", ", (char **)known_kinds);

            return lpm_error_set(error, LPM_ERROR_USAGE,
                                 "there are no events of kind \"%s\"; there are %s", *kinds, known);
        }
    }
    return true;
}
