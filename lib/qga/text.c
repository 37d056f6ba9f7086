/* SPDX-License-Identifier: Apache-2.0 */
#include "qga/channel.h"

/* Format characters (bidirectional overrides, for one) would let a guest forge what an operator
 * reads. */
char *lpm_qga_clean(const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    GString *clean = g_string_new(NULL);

    for (const char *c = valid; *c; c = g_utf8_next_char(c)) {
        gunichar letter = g_utf8_get_char(c);
        gsize before = clean->len;

        g_string_append_unichar(clean, g_unichar_isprint(letter) ? letter : '?');
        if (clean->len > LPM_QGA_TEXT_MAX) {
            g_string_truncate(clean, before);
            break;
        }
    }
    return g_string_free(clean, FALSE);
}
