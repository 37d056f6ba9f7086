/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plays a corpus to a fuzz target without libFuzzer: replay NAME.corpus. Each line that is no
 * comment is one input in base64; docs/guide/security.md says how a corpus is made.
 */
#include <glib.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

int main(int argc, char **argv)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    g_autoptr(GError) error = NULL;
    unsigned played = 0;

    if (argc != 2 || !g_file_get_contents(argv[1], &text, NULL, &error)) {
        fprintf(stderr, "replay: %s\n", error ? error->message : "give one corpus");
        return 2;
    }
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        gsize size = 0;
        g_autofree guchar *input = NULL;

        if (**line == '\0' || **line == '#') {
            continue;
        }
        input = g_base64_decode(*line, &size);
        LLVMFuzzerTestOneInput(input, size);
        played++;
    }
    /* An empty corpus proves nothing. */
    printf("1..1\n%s 1 - %u inputs\n", played > 0 ? "ok" : "not ok", played);
    return played > 0 ? 0 : 1;
}
