/* SPDX-License-Identifier: Apache-2.0 */
/* Pages that the image holds at another place: moved or copied by the guest. */
#include "codec/internal.h"

#include <string.h>

bool lpm_codec_take_reference(LpmCodecWork *work, LpmCodecPage *page)
{
    uint8_t held[LPM_CODEC_DIGEST_SIZE];
    return work->places && lpm_codec_places_get(work->places, page->digest, &page->from) &&
           work->image->digest(work->image->context, page->from.block, page->from.page, held) &&
           memcmp(held, page->digest, sizeof(held)) == 0;
}

bool lpm_codec_build_reference(const LpmCodecImage *image, LpmCodecRun *run, uint64_t i,
                               uint8_t *out)
{
    return image->content(image->context, run->from.block, run->from.page + i, out);
}
