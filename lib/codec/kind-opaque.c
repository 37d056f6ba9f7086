/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of the stream that are no page, or that QEMU's reader does not understand. */
#include "codec/internal.h"

bool lpm_codec_check_opaque(const LpmCodecRun *run, LpmByteReader *data)
{
    return lpm_bytes_borrow(data, run->size) != NULL;
}

bool lpm_codec_build_opaque(const LpmCodecImage *image, LpmCodecRun *run, uint64_t i, uint8_t *out)
{
    (void)image;
    (void)i;
    lpm_bytes_get(&run->data, out, run->size);
    return true;
}
