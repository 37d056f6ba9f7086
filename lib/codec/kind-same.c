/* SPDX-License-Identifier: Apache-2.0 */
/* Pages that the image holds at their place: sent before and not changed, or sent again. */
#include "codec/internal.h"

#include <string.h>

bool lpm_codec_take_same(LpmCodecWork *work, LpmCodecPage *page)
{
    uint8_t held[LPM_CODEC_DIGEST_SIZE];
    return work->image->digest(work->image->context, page->at.block, page->at.page, held) &&
           memcmp(held, page->digest, sizeof(held)) == 0;
}

bool lpm_codec_build_same(const LpmCodecImage *image, LpmCodecRun *run, uint64_t i, uint8_t *out)
{
    return image->content(image->context, run->at.block, run->at.page + i, out);
}
