/* SPDX-License-Identifier: Apache-2.0 */
/* zstd over a batch's content, unless it is not worth it. */
#include "codec/internal.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

enum {
    SMALL = 64,            /* not worth a frame */
    SAMPLE = 16 * 1024,    /* of content that may be incompressible */
    SAMPLE_LEVEL = -5,     /* it only has to see whether there is anything */
    SAMPLES_IN_A_ROW = 16, /* then all of a content is tried once */
    WORTH = 64,            /* packing must save one part in so many */
    PACKED_MAX = ZSTD_COMPRESSBOUND(LPM_CODEC_CONTENT_MAX),
};

struct LpmCodecPacker {
    ZSTD_CCtx *pack;
    ZSTD_DCtx *unpack;
    unsigned hopeless; /* contents that did not pack, in a row */
    size_t sample_at;
    uint8_t buffer[PACKED_MAX];
};

LpmCodecPacker *lpm_codec_packer_new(void)
{
    LpmCodecPacker *packer = calloc(1, sizeof(*packer));
    if (!packer)
        return NULL;
    packer->pack = ZSTD_createCCtx();
    packer->unpack = ZSTD_createDCtx();
    if (packer->pack && packer->unpack)
        return packer;
    lpm_codec_packer_free(packer);
    return NULL;
}

void lpm_codec_packer_free(LpmCodecPacker *packer)
{
    if (!packer)
        return;
    ZSTD_freeCCtx(packer->pack);
    ZSTD_freeDCtx(packer->unpack);
    free(packer);
}

/* Whether zstd makes it smaller, by a part worth the work; the result is in the buffer. */
static bool try_level(LpmCodecPacker *packer, int level, const uint8_t *content, size_t size,
                      size_t *ret_size)
{
    ZSTD_CCtx_setParameter(packer->pack, ZSTD_c_compressionLevel, level);
    size_t packed = ZSTD_compress2(packer->pack, packer->buffer, PACKED_MAX, content, size);
    *ret_size = packed;
    return !ZSTD_isError(packed) && packed < size - size / WORTH;
}

/* A part of the content, another one each time. */
static bool sample_is_hopeless(LpmCodecPacker *packer, const uint8_t *content, size_t size)
{
    size_t ignored;
    if (size < 4 * SAMPLE)
        return false;
    packer->sample_at = (packer->sample_at + 5 * SAMPLE / 2) % (size - SAMPLE);
    return !try_level(packer, SAMPLE_LEVEL, content + packer->sample_at, SAMPLE, &ignored);
}

bool lpm_codec_pack(LpmCodecPacker *packer, int level, uint8_t *content, size_t *size)
{
    size_t packed;
    if (level == LPM_CODEC_NO_PACKING || *size < SMALL)
        return false;
    if (packer->hopeless % SAMPLES_IN_A_ROW != 0 && sample_is_hopeless(packer, content, *size)) {
        packer->hopeless++;
        return false;
    }
    if (!try_level(packer, level, content, *size, &packed)) {
        packer->hopeless++;
        return false;
    }
    packer->hopeless = 0;
    memcpy(content, packer->buffer, packed);
    *size = packed;
    return true;
}

const uint8_t *lpm_codec_unpack(LpmCodecPacker *packer, const uint8_t *packed, size_t size,
                                size_t *ret_size)
{
    unsigned long long content = ZSTD_getFrameContentSize(packed, size);
    if (content == ZSTD_CONTENTSIZE_UNKNOWN || content == ZSTD_CONTENTSIZE_ERROR ||
        content > LPM_CODEC_CONTENT_MAX || ZSTD_findFrameCompressedSize(packed, size) != size)
        return NULL;
    size_t got =
        ZSTD_decompressDCtx(packer->unpack, packer->buffer, LPM_CODEC_CONTENT_MAX, packed, size);
    if (ZSTD_isError(got) || got != content)
        return NULL;
    *ret_size = got;
    return packer->buffer;
}
