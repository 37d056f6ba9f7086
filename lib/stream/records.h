/* SPDX-License-Identifier: Apache-2.0 */
/* The record table: one row a record, its fields in the order of the wire. Private to lib/stream.
 */
#pragma once

#include "stream/stream.h"

typedef enum {
    FIELD_U8,
    FIELD_U16,
    FIELD_U32,
    FIELD_U64,
    FIELD_BYTES, /* fixed number of bytes */
    FIELD_TEXT, /* u16 length, then that many bytes without a zero; char[LPM_STREAM_NAME_MAX + 1] in
                   the struct */
    FIELD_LIST, /* u32 count, then u64 each; a uint32_t and, elsewhere, an array in the struct */
    FIELD_TAIL, /* the rest of the body; a pointer and a uint32_t in the struct */
} FieldKind;

typedef struct {
    FieldKind kind;
    uint16_t at;   /* offset in the struct */
    uint16_t at2;  /* LIST: of the array; TAIL: of the size */
    uint64_t min;  /* smallest value; TAIL: smallest size */
    uint64_t max;  /* largest value, size of BYTES, entries of LIST, largest size of TAIL */
    uint32_t unit; /* TAIL: its size is a multiple of this */
} Field;

typedef struct {
    uint32_t type;
    const char *name;
    uint32_t senders; /* LpmStreamSender, several */
    bool ordered;
    const Field *fields;
    uint32_t n_fields;
    bool (*check)(
        const LpmStreamMessage *message); /* what concerns more than one field; may be NULL */
} Record;

/* NULL when the type is unknown. */
const Record *lpm_stream_record(uint32_t type);
/* Shortest and longest body of a record. */
void lpm_stream_record_limits(const Record *record, uint64_t *ret_min, uint64_t *ret_max);
