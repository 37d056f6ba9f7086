/* SPDX-License-Identifier: Apache-2.0 */
#include "bytes/bytes.h"
#include "stream/records.h"

#include <string.h>
/* Chooses the widest vector instructions at run time. */
#include <xxh_x86dispatch.h>

enum { CHECKSUM_AT = LPM_STREAM_HEADER_SIZE - 8 };

/* The digest of the header is the seed for the body's, so that neither has to lie beside the other.
 */
static uint64_t checksum(const uint8_t header[LPM_STREAM_HEADER_SIZE], const uint8_t *body,
                         size_t size)
{
    return XXH3_64bits_withSeed(body, size, XXH3_64bits(header, CHECKSUM_AT));
}

void lpm_stream_encode_header(const LpmStreamHeader *header, const uint8_t *body,
                              uint8_t out[LPM_STREAM_HEADER_SIZE])
{
    LpmByteWriter w = lpm_bytes_writer(out, LPM_STREAM_HEADER_SIZE);
    lpm_bytes_put_u32(&w, LPM_STREAM_MAGIC);
    lpm_bytes_put_u32(&w, header->version);
    lpm_bytes_put_u32(&w, header->type);
    lpm_bytes_put_u32(&w, header->flags);
    lpm_bytes_put(&w, header->migration, LPM_STREAM_ID_SIZE);
    lpm_bytes_put_u64(&w, header->sequence);
    lpm_bytes_put_u32(&w, header->length);
    lpm_bytes_put_u32(&w, 0);
    lpm_bytes_put_u64(&w, checksum(out, body, header->length));
}

LpmStreamStatus lpm_stream_decode_header(const uint8_t in[LPM_STREAM_HEADER_SIZE],
                                         LpmStreamHeader *ret_header)
{
    LpmByteReader r = lpm_bytes_reader(in, LPM_STREAM_HEADER_SIZE);
    LpmStreamHeader h = {0};
    if (lpm_bytes_get_u32(&r) != LPM_STREAM_MAGIC)
        return LPM_STREAM_BAD_MAGIC;
    h.version = lpm_bytes_get_u32(&r);
    h.type = lpm_bytes_get_u32(&r);
    h.flags = lpm_bytes_get_u32(&r);
    lpm_bytes_get(&r, h.migration, LPM_STREAM_ID_SIZE);
    h.sequence = lpm_bytes_get_u64(&r);
    h.length = lpm_bytes_get_u32(&r);
    uint32_t reserved = lpm_bytes_get_u32(&r);
    h.checksum = lpm_bytes_get_u64(&r);
    if (h.version != LPM_STREAM_VERSION)
        return LPM_STREAM_BAD_VERSION;
    if (h.flags != 0 || reserved != 0)
        return LPM_STREAM_BAD_FLAGS;
    uint64_t min = 0, max = LPM_STREAM_BODY_MAX;
    const Record *record = lpm_stream_record(h.type);
    if (record)
        lpm_stream_record_limits(record, &min, &max);
    if (h.length < min || h.length > max)
        return LPM_STREAM_BAD_LENGTH;
    *ret_header = h;
    return LPM_STREAM_OK;
}

LpmStreamStatus lpm_stream_check_body(const uint8_t in[LPM_STREAM_HEADER_SIZE], const uint8_t *body,
                                      size_t size)
{
    LpmByteReader r = lpm_bytes_reader(in + CHECKSUM_AT, 8);
    return lpm_bytes_get_u64(&r) == checksum(in, body, size) ? LPM_STREAM_OK
                                                             : LPM_STREAM_BAD_CHECKSUM;
}

LpmStreamStatus lpm_stream_pack(uint32_t type, const LpmStreamMessage *message,
                                const uint8_t migration[LPM_STREAM_ID_SIZE], uint64_t sequence,
                                uint8_t *out, size_t capacity, size_t *ret_size)
{
    if (capacity < LPM_STREAM_HEADER_SIZE)
        return LPM_STREAM_TOO_SMALL;
    size_t size;
    uint8_t *body = out + LPM_STREAM_HEADER_SIZE;
    LpmStreamStatus status =
        lpm_stream_encode_body(type, message, body, capacity - LPM_STREAM_HEADER_SIZE, &size);
    if (status != LPM_STREAM_OK)
        return status;
    LpmStreamHeader header = {.version = LPM_STREAM_VERSION,
                              .type = type,
                              .sequence = sequence,
                              .length = (uint32_t)size};
    memcpy(header.migration, migration, LPM_STREAM_ID_SIZE);
    lpm_stream_encode_header(&header, body, out);
    *ret_size = LPM_STREAM_HEADER_SIZE + size;
    return LPM_STREAM_OK;
}

LpmStreamStatus lpm_stream_unpack(const uint8_t *in, size_t size, LpmStreamHeader *ret_header,
                                  LpmStreamMessage *ret_message, size_t *ret_used)
{
    LpmStreamHeader header;
    if (size < LPM_STREAM_HEADER_SIZE)
        return LPM_STREAM_SHORT;
    LpmStreamStatus status = lpm_stream_decode_header(in, &header);
    if (status != LPM_STREAM_OK)
        return status;
    if (size - LPM_STREAM_HEADER_SIZE < header.length)
        return LPM_STREAM_SHORT;
    const uint8_t *body = in + LPM_STREAM_HEADER_SIZE;
    status = lpm_stream_check_body(in, body, header.length);
    if (status != LPM_STREAM_OK)
        return status;
    *ret_header = header;
    *ret_used = LPM_STREAM_HEADER_SIZE + header.length;
    if (!lpm_stream_record(header.type) && (header.type & LPM_STREAM_OPTIONAL))
        return LPM_STREAM_SKIP;
    return lpm_stream_decode_body(header.type, body, header.length, ret_message);
}
