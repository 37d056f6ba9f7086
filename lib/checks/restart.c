/* SPDX-License-Identifier: Apache-2.0 */
/* Where a partition could go after a restart: its mode is evaluated anew then. */
#include "checks/internal.h"

#include <string.h>

/* Modes of the system on @side for @family, NULL-terminated; NULL: not known. To be g_free()d. */
static const char **modes_of(const json_t *facts, const char *side, LpmFamily family)
{
    g_autofree char *path = g_strdup_printf("%s.emulators.%s.modes", side, lpm_family_name(family));
    const json_t *list = lpm_json_at(facts, path);
    const char **modes =
        json_is_array(list) ? g_new0(const char *, json_array_size(list) + 1) : NULL;
    json_t *mode;
    size_t i;

    json_array_foreach (list, i, mode) {
        modes[i] = json_string_value(mode) ? json_string_value(mode) : "";
    }
    return modes;
}

json_t *lpm_checks_after_restart(const json_t *facts, const LpmCompat *compat)
{
    const char *preferred = lpm_json_str(facts, "partition.profile.preferred_mode", "default");
    const char *current = lpm_json_str(facts, "partition.current_mode", NULL);
    LpmFamily family;

    if (!lpm_family_from_name(lpm_json_str(facts, "partition.profile.family", ""), &family)) {
        return json_null();
    }
    g_autofree const char **here = modes_of(facts, "source", family);
    g_autofree const char **there = modes_of(facts, "target", family);
    const LpmMode *now = current ? lpm_compat_find(compat, current) : NULL;
    const LpmMode *then =
        here ? lpm_compat_at_activation(compat, family, preferred, here, NULL) : NULL;
    if (!then || !there) {
        return json_null();
    }
    bool allowed = lpm_compat_can_move(compat, preferred, then->name, there, true) == LPM_COMPAT_OK;
    bool allowed_now =
        now && lpm_compat_can_move(compat, preferred, now->name, there, true) == LPM_COMPAT_OK;
    return lpm_json_pack("{s:s, s:b, s:b, s:b}", "mode", then->name, "changes",
                         now && strcmp(now->name, then->name) != 0, "processor_allows", allowed,
                         "processor_allows_now", allowed_now);
}
