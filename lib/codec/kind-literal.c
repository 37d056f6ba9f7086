/* SPDX-License-Identifier: Apache-2.0 */
/* Pages as they are. */
#include "codec/internal.h"

bool lpm_codec_take_literal(LpmCodecWork *work, LpmCodecPage *page)
{
    lpm_bytes_put(&work->data, page->data, LPM_QSTREAM_PAGE_SIZE);
    return true;
}

bool lpm_codec_check_literal(const LpmCodecRun *run, LpmByteReader *data)
{
    (void)run;
    return lpm_bytes_borrow(data, LPM_QSTREAM_PAGE_SIZE) != NULL;
}

bool lpm_codec_build_literal(const LpmCodecImage *image, LpmCodecRun *run, uint64_t i, uint8_t *out)
{
    (void)image;
    (void)i;
    lpm_bytes_get(&run->data, out, LPM_QSTREAM_PAGE_SIZE);
    return true;
}
