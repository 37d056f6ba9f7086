/* SPDX-License-Identifier: Apache-2.0 */
#include "streamtool.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>

static bool report_encoded(const ToolOptions *options, const LpmCodecCounts *counts, uint64_t size)
{
    if (options->json) {
        json_t *value = counts_to_json(counts);
        json_object_set_new(value, "file-bytes", json_integer((json_int_t)size));
        print_json(value);
    } else {
        printf("%s: %" G_GUINT64_FORMAT " bytes of stream in %" G_GUINT64_FORMAT " (%.1f %%)\n",
               options->words[1], counts->bytes_raw, size,
               counts->bytes_raw ? 100.0 * (double)size / (double)counts->bytes_raw : 100.0);
    }
    return true;
}

bool tool_encode(const ToolOptions *options, GError **error)
{
    uint8_t digest[CONTAINER_DIGEST];
    uint64_t size;
    Batch batch;
    if (options->base && !file_digest(options->base, digest, error))
        return false;
    g_autoptr(Capture) capture = capture_open(options->words[0], options->batch, error);
    g_autoptr(Side) side = capture ? side_new(options, error) : NULL;
    if (!side || !side_start(side, capture_blocks(capture), error))
        return false;
    g_autoptr(Container) out = container_create(options->words[1], side->memory != NULL,
                                                options->base ? digest : NULL, error);
    if (!out)
        return false;
    for (;;) {
        if (!capture_next(capture, &batch, error))
            return false;
        if (batch.size == 0)
            break;
        size_t body = lpm_encoder_encode(side->encoder, batch.units, batch.n, tool_effort(options),
                                         side->body);
        if (!container_put(out, side->body, body, batch.data, batch.size, error))
            return false;
        capture_show_progress(capture, "encode");
    }
    return container_finish(out, &size, error) &&
           report_encoded(options, lpm_encoder_counts(side->encoder), size);
}

/* The base is the one the file was coded with. */
static bool check_base(const ToolOptions *options, const Container *in, GError **error)
{
    uint8_t digest[CONTAINER_DIGEST];
    const uint8_t *wanted = container_base(in);
    if (!wanted && options->base)
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "'%s' was coded without a base: leave --base out", options->words[0]);
    if (wanted && !options->base)
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "'%s' was coded against a base: give that capture with --base",
                             options->words[0]);
    if (!wanted)
        return true;
    if (!file_digest(options->base, digest, error))
        return false;
    if (memcmp(digest, wanted, sizeof(digest)) == 0)
        return true;
    return lpm_error_set(error, LPM_ERROR_USAGE,
                         "'%s' is not the base that '%s' was coded against: its SHA-256 differs",
                         options->base, options->words[0]);
}

static bool decode_into(Container *in, Side *side, FILE *out, const char *name, GError **error)
{
    for (unsigned long number = 0;; number++) {
        size_t size, raw_size;
        if (!container_get(in, side->body, &size, error))
            return false;
        if (size == 0)
            return container_check(in, error);
        LpmCodecStatus status =
            lpm_decoder_decode(side->decoder, side->body, size, side->raw, &raw_size);
        if (status != LPM_CODEC_OK)
            return lpm_error_set(error, LPM_ERROR_STORAGE, "batch %lu is damaged: %s", number,
                                 lpm_codec_status_text(status));
        container_decoded(in, side->raw, raw_size);
        if (fwrite(side->raw, 1, raw_size, out) != raw_size)
            return lpm_error_set(error, LPM_ERROR_STORAGE, "cannot write '%s': %s", name,
                                 g_strerror(errno));
    }
}

bool tool_decode(const ToolOptions *options, GError **error)
{
    const char *name = options->words[1];
    g_autoptr(Container) in = container_open(options->words[0], error);
    if (!in || !check_base(options, in, error))
        return false;
    ToolOptions as_coded = *options;
    as_coded.no_image = !container_has_image(in);
    g_autoptr(Side) side = side_new(&as_coded, error);
    if (!side || !side_start(side, NULL, error))
        return false;
    FILE *out = fopen(name, "wbe");
    if (!out)
        return lpm_error_set(error, LPM_ERROR_STORAGE, "cannot write '%s': %s", name,
                             g_strerror(errno));
    bool good = decode_into(in, side, out, name, error);
    if (fclose(out) != 0 && good)
        good = lpm_error_set(error, LPM_ERROR_STORAGE, "cannot write '%s': %s", name,
                             g_strerror(errno));
    if (!good) /* a part of a stream is of no use */
        g_unlink(name);
    return good;
}
