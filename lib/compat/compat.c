/* SPDX-License-Identifier: Apache-2.0 */
#include "compat/internal.h"

#include <string.h>

LpmCompat *lpm_compat_new(void)
{
    LpmCompat *compat = g_new0(LpmCompat, 1);

    compat->modes = g_ptr_array_new_with_free_func((GDestroyNotify)lpm_mode_free);
    compat->emulators = g_ptr_array_new_with_free_func((GDestroyNotify)lpm_emulator_row_free);
    return compat;
}

void lpm_compat_free(LpmCompat *compat)
{
    if (!compat) {
        return;
    }
    g_ptr_array_unref(compat->modes);
    g_ptr_array_unref(compat->emulators);
    g_free(compat);
}

static bool is_spelled(const LpmMode *mode, const char *name)
{
    return name &&
           (g_ascii_strcasecmp(mode->name, name) == 0 || g_ascii_strcasecmp(mode->hmc, name) == 0 ||
            g_ascii_strcasecmp(mode->rest, name) == 0);
}

bool lpm_mode_in(const LpmMode *mode, const char *const *names)
{
    for (size_t i = 0; names && names[i]; i++) {
        if (is_spelled(mode, names[i])) {
            return true;
        }
    }
    return false;
}

const LpmMode *lpm_compat_find(const LpmCompat *compat, const char *name)
{
    for (guint i = 0; i < compat->modes->len; i++) {
        const LpmMode *mode = compat->modes->pdata[i];

        if (is_spelled(mode, name)) {
            return mode;
        }
    }
    return NULL;
}

const LpmMode **lpm_compat_modes(const LpmCompat *compat, LpmFamily family)
{
    GPtrArray *found = g_ptr_array_new();

    for (guint i = 0; i < compat->modes->len; i++) {
        LpmMode *mode = compat->modes->pdata[i];

        if (mode->family == family) {
            g_ptr_array_add(found, mode);
        }
    }
    g_ptr_array_add(found, NULL);
    return (const LpmMode **)g_ptr_array_free(found, FALSE);
}

bool lpm_compat_is_preferable(const LpmCompat *compat, LpmFamily family, const char *mode)
{
    const LpmMode *found = lpm_compat_find(compat, mode);

    return g_strcmp0(mode, LPM_COMPAT_DEFAULT) == 0 ||
           (found && found->family == family && found->preferable);
}
