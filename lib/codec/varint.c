/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/internal.h"

enum { VARINT_SIZE = 10 };

uint64_t lpm_codec_get_varint(LpmByteReader *reader, uint64_t max)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < VARINT_SIZE; i++) {
        uint8_t byte = lpm_bytes_get_u8(reader);
        uint64_t bits = byte & 0x7f;
        value |= bits << (7 * i);
        bool lost = i == VARINT_SIZE - 1 && byte > 1;
        bool longer_than_needed = i > 0 && byte == 0;
        if (lost || longer_than_needed)
            break;
        if (byte < 0x80) {
            if (reader->bad || value > max)
                break;
            return value;
        }
    }
    reader->bad = true;
    return 0;
}

void lpm_codec_put_varint(LpmByteWriter *writer, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        lpm_bytes_put_u8(writer, (uint8_t)(value | 0x80));
    lpm_bytes_put_u8(writer, (uint8_t)value);
}
