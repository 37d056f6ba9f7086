/* SPDX-License-Identifier: Apache-2.0 */
/* Loads the data files of this source tree; a test that cannot ends. */
#pragma once

#include "compat/compat.h"

#include <string.h>

static inline char *test_read_file(const char *path)
{
    char *text = NULL;
    GError *error = NULL;

    if (!g_file_get_contents(path, &text, NULL, &error)) {
        g_error("%s", error->message);
    }
    return text;
}

static inline LpmCompat *test_load_compat(void)
{
    const char *data = g_getenv("LPM_DATA_DIR");
    g_autofree char *modes = g_build_filename(data, "compat", NULL);
    g_autofree char *emulators = g_build_filename(data, "emulators.json", NULL);
    g_autofree char *rows = test_read_file(emulators);
    g_autoptr(GDir) dir = g_dir_open(modes, 0, NULL);
    LpmCompat *compat = lpm_compat_new();
    GError *error = NULL;
    const char *name;

    g_assert_nonnull(dir);
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(modes, name, NULL);
        g_autofree char *text = test_read_file(path);

        if (!lpm_compat_add_mode(compat, name, text, &error)) {
            g_error("%s", error->message);
        }
    }
    g_assert_true(lpm_compat_add_emulators(compat, "emulators.json", rows, &error));
    g_assert_no_error(error);
    return compat;
}
