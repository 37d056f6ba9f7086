/* SPDX-License-Identifier: Apache-2.0 */
/* Pages of zeros: in QEMU's stream a word and one zero byte; here, a run of any length is a token.
 */
#include "codec/internal.h"

bool lpm_codec_build_zero(const LpmCodecImage *image, LpmCodecRun *run, uint64_t i, uint8_t *out)
{
    (void)image;
    (void)run;
    (void)i;
    *out = 0;
    return true;
}
