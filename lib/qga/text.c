/* SPDX-License-Identifier: Apache-2.0 */
#include "qga/text.h"

#include "qga/qga.h"

/* Format characters (bidirectional overrides, for one) would let a guest forge what an operator
 * reads. */
char *lpm_qga_clean_text(const char *text, size_t max, bool lines)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    GString *clean = g_string_new(NULL);

    for (const char *c = valid; *c; c = g_utf8_next_char(c)) {
        gunichar letter = g_utf8_get_char(c);
        gsize before = clean->len;
        bool good = g_unichar_isprint(letter) || (lines && letter == '\n');

        g_string_append_unichar(clean, good ? letter : '?');
        if (clean->len > max) {
            g_string_truncate(clean, before);
            break;
        }
    }
    return g_string_free(clean, FALSE);
}

char *lpm_qga_clean(const char *text)
{
    return lpm_qga_clean_text(text, LPM_QGA_TEXT_MAX, false);
}
