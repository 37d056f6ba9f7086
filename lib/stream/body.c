/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies, driven by the record table: the one place that knows how a kind of field looks on the
 * wire. */
#include "bytes/bytes.h"
#include "stream/records.h"

#include <string.h>

static bool in_range(const Field *field, uint64_t value)
{
    return value >= field->min && value <= field->max;
}

static bool encode_number(const Field *f, const uint8_t *at, LpmByteWriter *w)
{
    uint64_t value = 0;
    uint16_t u16;
    uint32_t u32;
    if (f->kind == FIELD_U8) {
        value = *at;
    } else if (f->kind == FIELD_U16) {
        memcpy(&u16, at, sizeof(u16));
        value = u16;
    } else if (f->kind == FIELD_U32) {
        memcpy(&u32, at, sizeof(u32));
        value = u32;
    } else {
        memcpy(&value, at, sizeof(value));
    }
    if (!in_range(f, value))
        return false;
    for (unsigned i = 0; i < 1u << f->kind; i++)
        lpm_bytes_put_u8(w, (uint8_t)(value >> (8 * i)));
    return true;
}

static bool encode_text(const Field *f, const uint8_t *at, LpmByteWriter *w)
{
    size_t size = strnlen((const char *)at, f->max + 1);
    if (size > f->max)
        return false;
    lpm_bytes_put_u16(w, (uint16_t)size);
    lpm_bytes_put(w, at, size);
    return true;
}

static bool encode_list(const Field *f, const uint8_t *base, LpmByteWriter *w)
{
    uint32_t count;
    memcpy(&count, base + f->at, sizeof(count));
    if (count > f->max)
        return false;
    lpm_bytes_put_u32(w, count);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t value;
        memcpy(&value, base + f->at2 + i * sizeof(value), sizeof(value));
        lpm_bytes_put_u64(w, value);
    }
    return true;
}

static bool encode_tail(const Field *f, const uint8_t *base, LpmByteWriter *w)
{
    const uint8_t *data;
    uint32_t size;
    memcpy(&data, base + f->at, sizeof(data));
    memcpy(&size, base + f->at2, sizeof(size));
    if (!in_range(f, size) || size % f->unit != 0)
        return false;
    lpm_bytes_put(w, data, size);
    return true;
}

LpmStreamStatus lpm_stream_encode_body(uint32_t type, const LpmStreamMessage *message,
                                       uint8_t *body, size_t capacity, size_t *ret_size)
{
    const Record *record = lpm_stream_record(type);
    if (!record)
        return LPM_STREAM_UNKNOWN_TYPE;
    if (record->check && !record->check(message))
        return LPM_STREAM_BAD_BODY;
    const uint8_t *base = (const uint8_t *)message;
    LpmByteWriter w = lpm_bytes_writer(body, capacity);
    bool good = true;
    for (uint32_t i = 0; good && i < record->n_fields; i++) {
        const Field *f = &record->fields[i];
        switch (f->kind) {
        case FIELD_U8:
        case FIELD_U16:
        case FIELD_U32:
        case FIELD_U64:
            good = encode_number(f, base + f->at, &w);
            break;
        case FIELD_BYTES:
            lpm_bytes_put(&w, base + f->at, f->max);
            break;
        case FIELD_TEXT:
            good = encode_text(f, base + f->at, &w);
            break;
        case FIELD_LIST:
            good = encode_list(f, base, &w);
            break;
        case FIELD_TAIL:
            good = encode_tail(f, base, &w);
            break;
        }
    }
    if (!good || w.bad)
        return good ? LPM_STREAM_TOO_SMALL : LPM_STREAM_BAD_BODY;
    *ret_size = w.at;
    return LPM_STREAM_OK;
}

static bool decode_number(const Field *f, LpmByteReader *r, uint8_t *at)
{
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t value;
    if (f->kind == FIELD_U8) {
        value = u8 = lpm_bytes_get_u8(r);
        *at = u8;
    } else if (f->kind == FIELD_U16) {
        value = u16 = lpm_bytes_get_u16(r);
        memcpy(at, &u16, sizeof(u16));
    } else if (f->kind == FIELD_U32) {
        value = u32 = lpm_bytes_get_u32(r);
        memcpy(at, &u32, sizeof(u32));
    } else {
        value = lpm_bytes_get_u64(r);
        memcpy(at, &value, sizeof(value));
    }
    return in_range(f, value);
}

static bool decode_text(const Field *f, LpmByteReader *r, uint8_t *at)
{
    size_t size = lpm_bytes_get_u16(r);
    if (size > f->max)
        return false;
    lpm_bytes_get(r, at, size);
    at[size] = 0;
    return !r->bad && memchr(at, 0, size) == NULL;
}

static bool decode_list(const Field *f, LpmByteReader *r, uint8_t *base)
{
    uint32_t count = lpm_bytes_get_u32(r);
    if (count > f->max)
        return false;
    memcpy(base + f->at, &count, sizeof(count));
    for (uint32_t i = 0; i < count; i++) {
        uint64_t value = lpm_bytes_get_u64(r);
        memcpy(base + f->at2 + i * sizeof(value), &value, sizeof(value));
    }
    return true;
}

static bool decode_tail(const Field *f, LpmByteReader *r, uint8_t *base)
{
    size_t left = lpm_bytes_left(r);
    if (!in_range(f, left) || left % f->unit != 0)
        return false;
    uint32_t size = (uint32_t)left;
    const uint8_t *data = lpm_bytes_borrow(r, left);
    memcpy(base + f->at, &data, sizeof(data));
    memcpy(base + f->at2, &size, sizeof(size));
    return true;
}

LpmStreamStatus lpm_stream_decode_body(uint32_t type, const uint8_t *body, size_t size,
                                       LpmStreamMessage *ret_message)
{
    const Record *record = lpm_stream_record(type);
    if (!record)
        return LPM_STREAM_UNKNOWN_TYPE;
    memset(ret_message, 0, sizeof(*ret_message));
    uint8_t *base = (uint8_t *)ret_message;
    LpmByteReader r = lpm_bytes_reader(body, size);
    bool good = true;
    for (uint32_t i = 0; good && i < record->n_fields; i++) {
        const Field *f = &record->fields[i];
        switch (f->kind) {
        case FIELD_U8:
        case FIELD_U16:
        case FIELD_U32:
        case FIELD_U64:
            good = decode_number(f, &r, base + f->at);
            break;
        case FIELD_BYTES:
            lpm_bytes_get(&r, base + f->at, f->max);
            break;
        case FIELD_TEXT:
            good = decode_text(f, &r, base + f->at);
            break;
        case FIELD_LIST:
            good = decode_list(f, &r, base);
            break;
        case FIELD_TAIL:
            good = decode_tail(f, &r, base);
            break;
        }
    }
    good = good && lpm_bytes_finished(&r) && (!record->check || record->check(ret_message));
    return good ? LPM_STREAM_OK : LPM_STREAM_BAD_BODY;
}
