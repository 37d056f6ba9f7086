/* SPDX-License-Identifier: Apache-2.0 */
#include "streamtool.h"

#define DIGEST_SEED 0x6f70656e6c706dull /* any: a file's image is nobody else's */

LpmCodecEffort tool_effort(const ToolOptions *options)
{
    return (LpmCodecEffort){.level = options->level, .image = !options->no_image};
}

static bool out_of_memory(GError **error)
{
    return lpm_error_set(error, LPM_ERROR_INTERNAL,
                         "out of memory: a partition's image is as large as its memory; "
                         "--no-image does without");
}

/* The base's pages, as they were when it ended. */
static bool fill_from_base(Side *side, const char *base, GError **error)
{
    g_autoptr(Capture) capture = capture_open(base, LPM_CODEC_RAW_MAX, error);
    Batch batch;
    if (!capture || !side_start(side, capture_blocks(capture), error))
        return false;
    do {
        if (!capture_next(capture, &batch, error))
            return false;
        lpm_encoder_encode(side->encoder, batch.units, batch.n,
                           (LpmCodecEffort){.level = LPM_CODEC_NO_PACKING, .image = true},
                           side->body);
        capture_show_progress(capture, "base");
    } while (batch.size > 0);
    lpm_codec_memory_restart(side->memory);
    g_clear_pointer(&side->encoder, lpm_encoder_free);
    return true;
}

Side *side_new(const ToolOptions *options, GError **error)
{
    g_autoptr(Side) side = g_new0(Side, 1);
    if (options->no_image)
        return g_steal_pointer(&side);
    side->memory = lpm_codec_memory_new(DIGEST_SEED);
    if (!side->memory) {
        out_of_memory(error);
        return NULL;
    }
    if (options->base && !fill_from_base(side, options->base, error))
        return NULL;
    return g_steal_pointer(&side);
}

void side_free(Side *side)
{
    if (!side)
        return;
    lpm_encoder_free(side->encoder);
    lpm_decoder_free(side->decoder);
    lpm_codec_memory_free(side->memory);
    g_free(side);
}

bool side_start(Side *side, const LpmQstreamBlocks *blocks, GError **error)
{
    const LpmCodecImage *image = side->memory ? lpm_codec_memory_image(side->memory) : NULL;
    if (blocks)
        side->encoder = lpm_encoder_new(blocks, image);
    else
        side->decoder = lpm_decoder_new(image);
    return side->encoder || side->decoder || out_of_memory(error);
}
