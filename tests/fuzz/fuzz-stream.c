/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever bytes come, the decoders of the wire neither crash nor read beyond their input; and a
 * body that is accepted is written again as exactly the same bytes.
 */
#include "stream/stream.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* As frames, as they are: mostly refused early. */
static void as_frames(LpmStreamSender sender, const uint8_t *data, size_t size)
{
    LpmStreamVerifier verifier = lpm_stream_verifier(sender, NULL);
    LpmStreamHeader header;
    LpmStreamMessage message;
    size_t used;
    for (;;) {
        LpmStreamStatus status = lpm_stream_unpack(data, size, &header, &message, &used);
        if (status != LPM_STREAM_OK && status != LPM_STREAM_SKIP)
            return;
        status = lpm_stream_verify(&verifier, &header);
        if (status != LPM_STREAM_OK && status != LPM_STREAM_SKIP)
            return;
        data += used;
        size -= used;
    }
}

/* As a header and a body whose checksum an attacker has made right. */
static void as_one_frame(const uint8_t *data, size_t size)
{
    if (size < LPM_STREAM_HEADER_SIZE)
        return;
    LpmStreamHeader header;
    if (lpm_stream_decode_header(data, &header) != LPM_STREAM_OK ||
        header.length != size - LPM_STREAM_HEADER_SIZE)
        return;
    uint8_t *copy = malloc(size);
    memcpy(copy, data, size);
    lpm_stream_encode_header(&header, data + LPM_STREAM_HEADER_SIZE, copy);
    LpmStreamMessage message;
    size_t used;
    LpmStreamStatus status = lpm_stream_unpack(copy, size, &header, &message, &used);
    if (status == LPM_STREAM_BAD_CHECKSUM || status == LPM_STREAM_SHORT)
        abort();
    free(copy);
}

static void as_body(uint32_t type, const uint8_t *data, size_t size)
{
    LpmStreamMessage message;
    if (lpm_stream_decode_body(type, data, size, &message) != LPM_STREAM_OK)
        return;
    size_t again_size = 0;
    uint8_t *again = malloc(size + 1);
    if (lpm_stream_encode_body(type, &message, again, size, &again_size) != LPM_STREAM_OK ||
        again_size != size || memcmp(again, data, size) != 0)
        abort();
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint32_t groups[] = {0, 0x100, 0x180, LPM_STREAM_OPTIONAL};
    if (size < 2)
        return 0;
    uint8_t choice = data[0], type = data[1];
    data += 2;
    size -= 2;
    if (choice < 64)
        as_frames((LpmStreamSender)(1 << (choice & 3)), data, size);
    else if (choice < 128)
        as_one_frame(data, size);
    else
        as_body(groups[choice & 3] | (type & 0x1f), data, size);
    return 0;
}
