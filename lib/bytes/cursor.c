/* SPDX-License-Identifier: Apache-2.0 */
#include "bytes/bytes.h"

#include <string.h>

LpmByteReader lpm_bytes_reader(const void *data, size_t size)
{
    return (LpmByteReader){.data = data, .size = size};
}

const uint8_t *lpm_bytes_borrow(LpmByteReader *reader, size_t size)
{
    if (reader->bad || size > reader->size - reader->at) {
        reader->bad = true;
        return NULL;
    }
    const uint8_t *at = reader->data + reader->at;
    reader->at += size;
    return at;
}

static uint64_t get_little_endian(LpmByteReader *reader, size_t size)
{
    const uint8_t *at = lpm_bytes_borrow(reader, size);
    uint64_t value = 0;
    for (size_t i = 0; at && i < size; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

uint8_t lpm_bytes_get_u8(LpmByteReader *reader)
{
    return (uint8_t)get_little_endian(reader, 1);
}

uint16_t lpm_bytes_get_u16(LpmByteReader *reader)
{
    return (uint16_t)get_little_endian(reader, 2);
}

uint32_t lpm_bytes_get_u32(LpmByteReader *reader)
{
    return (uint32_t)get_little_endian(reader, 4);
}

uint64_t lpm_bytes_get_u64(LpmByteReader *reader)
{
    return get_little_endian(reader, 8);
}

void lpm_bytes_get(LpmByteReader *reader, void *out, size_t size)
{
    const uint8_t *at = lpm_bytes_borrow(reader, size);
    if (at)
        memcpy(out, at, size);
    else
        memset(out, 0, size);
}

size_t lpm_bytes_left(const LpmByteReader *reader)
{
    return reader->bad ? 0 : reader->size - reader->at;
}

bool lpm_bytes_finished(const LpmByteReader *reader)
{
    return !reader->bad && reader->at == reader->size;
}

LpmByteWriter lpm_bytes_writer(void *data, size_t size)
{
    return (LpmByteWriter){.data = data, .size = size};
}

void lpm_bytes_put(LpmByteWriter *writer, const void *data, size_t size)
{
    if (writer->bad || size > writer->size - writer->at) {
        writer->bad = true;
        return;
    }
    if (size > 0)
        memcpy(writer->data + writer->at, data, size);
    writer->at += size;
}

static void put_little_endian(LpmByteWriter *writer, uint64_t value, size_t size)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
    lpm_bytes_put(writer, bytes, size);
}

void lpm_bytes_put_u8(LpmByteWriter *writer, uint8_t value)
{
    put_little_endian(writer, value, 1);
}

void lpm_bytes_put_u16(LpmByteWriter *writer, uint16_t value)
{
    put_little_endian(writer, value, 2);
}

void lpm_bytes_put_u32(LpmByteWriter *writer, uint32_t value)
{
    put_little_endian(writer, value, 4);
}

void lpm_bytes_put_u64(LpmByteWriter *writer, uint64_t value)
{
    put_little_endian(writer, value, 8);
}
