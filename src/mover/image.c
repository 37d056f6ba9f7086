/* SPDX-License-Identifier: Apache-2.0 */
#include "image.h"

#include <string.h>

void image_open(Image *image, int fd, const uint8_t key[LPM_STREAM_KEY_SIZE])
{
    *image = (Image){0};
    if (fd >= 0)
        image->store = lpm_pagestore_open(fd, key);
}

void image_base(const Image *image, LpmStreamBase *ret_base)
{
    LpmPagestoreInfo info;
    *ret_base = (LpmStreamBase){0};
    if (!image->store || !lpm_pagestore_sealed(image->store, &info))
        return;
    memcpy(ret_base->image, info.id, sizeof(ret_base->image));
    memcpy(ret_base->root, info.root, sizeof(ret_base->root));
}

void image_begin(Image *image, bool usable)
{
    image->in_use = image->store && lpm_pagestore_begin(image->store, usable);
}

const LpmCodecImage *image_codec(const Image *image)
{
    return image->in_use ? lpm_pagestore_image(image->store) : NULL;
}

void image_will_seal(Image *image, const uint8_t id[LPM_STREAM_ID_SIZE])
{
    image->to_seal = image->in_use;
    memcpy(image->seal_id, id, LPM_STREAM_ID_SIZE);
}

void image_finish(Image *image)
{
    /* Not sealed is not lost, only of no use: the next move is a first one. */
    if (image->to_seal && image->in_use)
        lpm_pagestore_seal(image->store, image->seal_id, NULL);
}
