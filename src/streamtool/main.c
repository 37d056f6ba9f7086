/* SPDX-License-Identifier: Apache-2.0 */
/* lpm-stream: finds the verb in the table, parses the options, runs it, and turns an error into
 * words and an exit code. */
#include "streamtool.h"

#include <stdio.h>
#include <string.h>

enum {
    DEFAULT_LEVEL = 1,
    LEVEL_MIN = -50,
    LEVEL_MAX = 19,
    KIB = 1024,
    BATCH_MIN = 16 * KIB, /* a unit fits */
};

static const ToolVerb verbs[] = {
    {"encode", "FILE OUT", 2, "a captured stream into a file of coded batches", tool_encode},
    {"decode", "IN OUT", 2, "the stream of a file of coded batches", tool_decode},
    {"dump", "FILE...", 1,
     "what the channels of one stream hold, the main one first: sections, blocks, pages", tool_dump,
     .more = true},
    {"stats", "FILE", 1, "what a stream is made of, and how small and how fast it is coded",
     tool_stats},
    {"verify", "FILE", 1, "code and decode it in memory, cut at random, and compare", tool_verify},
};

static gchar *base;
static gint level = DEFAULT_LEVEL, batch = LPM_CODEC_RAW_MAX / KIB, seed = 1;
static gboolean json, no_image, version;
static gchar **words;

static const GOptionEntry entries[] = {
    {"base", 0, 0, G_OPTION_ARG_FILENAME, &base,
     "an older capture of the same partition: its pages are what both sides hold", "FILE"},
    {"level", 0, 0, G_OPTION_ARG_INT, &level,
     "of zstd, -50 (fast) to 19; 0: no packing (default: 1)", "N"},
    {"batch", 0, 0, G_OPTION_ARG_INT, &batch, "KiB of stream in one batch, at least 16", "KIB"},
    {"no-image", 0, 0, G_OPTION_ARG_NONE, &no_image,
     "neither side holds pages: no same, reference and delta", NULL},
    {"seed", 0, 0, G_OPTION_ARG_INT, &seed, "of verify's splits (default: 1)", "N"},
    {"json", 0, 0, G_OPTION_ARG_NONE, &json, "one JSON value on standard output, for programs",
     NULL},
    {"version", 0, 0, G_OPTION_ARG_NONE, &version, "print the version", NULL},
    {G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &words, NULL, NULL},
    G_OPTION_ENTRY_NULL,
};

static char *verbs_help(void)
{
    GString *text = g_string_new("The codec of migrations, on captured streams of QEMU.\n\nVerbs:");
    for (size_t i = 0; i < G_N_ELEMENTS(verbs); i++)
        g_string_append_printf(text, "\n  %-6s %-10s %s", verbs[i].name, verbs[i].words,
                               verbs[i].help);
    return g_string_free(text, FALSE);
}

static const ToolVerb *find_verb(GError **error)
{
    int n = words ? (int)g_strv_length(words) : 0;
    if (n == 0) {
        lpm_error_set(error, LPM_ERROR_USAGE, "which verb? lpm-stream --help lists them");
        return NULL;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(verbs); i++) {
        if (strcmp(verbs[i].name, words[0]) != 0)
            continue;
        if (n - 1 == verbs[i].n_words || (verbs[i].more && n - 1 > verbs[i].n_words))
            return &verbs[i];
        lpm_error_set(error, LPM_ERROR_USAGE, "%d words after '%s'; usage: lpm-stream %s %s", n - 1,
                      words[0], words[0], verbs[i].words);
        return NULL;
    }
    lpm_error_set(error, LPM_ERROR_USAGE, "there is no verb '%s': lpm-stream --help lists them",
                  words[0]);
    return NULL;
}

static bool check_options(GError **error)
{
    if (level < LEVEL_MIN || level > LEVEL_MAX)
        return lpm_error_set(error, LPM_ERROR_USAGE, "--level %d: from %d to %d", level, LEVEL_MIN,
                             LEVEL_MAX);
    if (batch < BATCH_MIN / KIB || batch > LPM_CODEC_RAW_MAX / KIB)
        return lpm_error_set(error, LPM_ERROR_USAGE, "--batch %d: from %d to %d KiB", batch,
                             BATCH_MIN / KIB, LPM_CODEC_RAW_MAX / KIB);
    if (no_image && base)
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "--no-image and --base: a base is what an image is filled with");
    return true;
}

static bool run(int argc, char **argv, GError **error)
{
    g_autoptr(GOptionContext) context = g_option_context_new("VERB FILE...");
    g_autofree char *help = verbs_help();
    g_option_context_set_summary(context, help);
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, error)) {
        g_autofree char *why = error && *error ? g_strdup((*error)->message) : NULL;
        g_clear_error(error);
        return lpm_error_set(error, LPM_ERROR_USAGE, "%s: lpm-stream --help lists the options",
                             why);
    }
    if (version) {
        puts("lpm-stream " LPM_VERSION);
        return true;
    }
    const ToolVerb *verb = find_verb(error);
    if (!verb || !check_options(error))
        return false;
    const ToolOptions options = {.words = (const char *const *)words + 1,
                                 .base = base,
                                 .level = level == 0 ? LPM_CODEC_NO_PACKING : level,
                                 .batch = (size_t)batch * KIB,
                                 .no_image = no_image,
                                 .seed = (uint32_t)seed,
                                 .json = json};
    return verb->run(&options, error);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    bool good = run(argc, argv, &error);
    g_strfreev(words);
    g_free(base);
    if (good)
        return fflush(stdout) == 0 ? 0 : 1;
    fprintf(stderr, "lpm-stream: %s\n", error->message);
    return lpm_error_exit_code(error);
}
