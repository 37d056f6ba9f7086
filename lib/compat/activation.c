/* SPDX-License-Identifier: Apache-2.0 */
/* The three rules: may it move, what does it get when it is activated, what do several systems have
 * in common. */
#include "compat/internal.h"

static bool is_supported(const LpmCompat *compat, const char *name, const char *const *modes)
{
    const LpmMode *mode = lpm_compat_find(compat, name);

    return mode && lpm_mode_in(mode, modes);
}

LpmCompatVerdict lpm_compat_can_move(const LpmCompat *compat, const char *preferred,
                                     const char *current, const char *const *target_modes,
                                     bool active)
{
    if (g_strcmp0(preferred, LPM_COMPAT_DEFAULT) != 0 &&
        !is_supported(compat, preferred, target_modes)) {
        return LPM_COMPAT_NO_PREFERRED;
    }
    if (active && !is_supported(compat, current, target_modes)) {
        return LPM_COMPAT_NO_CURRENT;
    }
    return LPM_COMPAT_OK;
}

const LpmMode *lpm_compat_at_activation(const LpmCompat *compat, LpmFamily family,
                                        const char *preferred, const char *const *server_modes,
                                        const char *const *os_modes)
{
    const LpmMode *ceiling = NULL;

    if (g_strcmp0(preferred, LPM_COMPAT_DEFAULT) != 0) {
        ceiling = lpm_compat_find(compat, preferred);
        if (!ceiling || ceiling->family != family) {
            return NULL;
        }
    }
    for (guint i = 0; i < compat->modes->len; i++) { /* by falling rank: the first that fits */
        const LpmMode *mode = compat->modes->pdata[i];

        if (mode->family != family || (ceiling && mode->rank > ceiling->rank) ||
            (!mode->portable && mode != ceiling)) {
            continue;
        }
        if (lpm_mode_in(mode, server_modes) && (!os_modes || lpm_mode_in(mode, os_modes))) {
            return mode;
        }
    }
    return NULL;
}

const LpmMode *lpm_compat_common(const LpmCompat *compat, const char *const *const *systems,
                                 size_t n_systems)
{
    for (guint i = 0; i < compat->modes->len; i++) {
        const LpmMode *mode = compat->modes->pdata[i];
        size_t have = 0;

        while (have < n_systems && lpm_mode_in(mode, systems[have])) {
            have++;
        }
        if (n_systems > 0 && have == n_systems && mode->portable && mode->preferable) {
            return mode;
        }
    }
    return NULL;
}
