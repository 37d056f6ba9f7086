/* SPDX-License-Identifier: Apache-2.0 */
#include "frame.h"

#include <stdlib.h>

Frame *frame_new(uint32_t type, uint32_t size)
{
    Frame *frame = malloc(sizeof(*frame) + size);
    if (frame)
        *frame = (Frame){.type = type, .size = size, .link = -1};
    return frame;
}

Frame *frame_trim(Frame *frame)
{
    Frame *trimmed = realloc(frame, sizeof(*frame) + frame->size);
    return trimmed ? trimmed : frame;
}

void frame_free(Frame *frame)
{
    if (!frame)
        return;
    free(frame->raw);
    free(frame);
}
