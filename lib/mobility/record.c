/* SPDX-License-Identifier: Apache-2.0 */
#include "mobility/record.h"

#include "bytes/bytes.h"

#include <string.h>
#include <xxhash.h>

enum { VERSION = 1, CHECKED = LPM_RECORD_SIZE - 8, PADDING = 304 };

static const char magic[8] = {'L', 'P', 'M', 'O', 'W', 'N', 'E', 'R'};

void lpm_record_encode(const LpmRecord *record, uint8_t out[LPM_RECORD_SIZE])
{
    static const uint8_t zero[PADDING];
    LpmByteWriter w = lpm_bytes_writer(out, LPM_RECORD_SIZE);
    lpm_bytes_put(&w, magic, sizeof magic);
    lpm_bytes_put_u16(&w, VERSION);
    lpm_bytes_put_u16(&w, (uint16_t)record->state);
    lpm_bytes_put_u32(&w, 0);
    lpm_bytes_put_u64(&w, record->revision);
    lpm_bytes_put_u64(&w, record->epoch);
    lpm_bytes_put(&w, record->partition, sizeof record->partition);
    lpm_bytes_put(&w, record->move, sizeof record->move);
    lpm_bytes_put(&w, record->owner, sizeof record->owner);
    lpm_bytes_put(&w, record->peer, sizeof record->peer);
    lpm_bytes_put_u64(&w, record->changed_us);
    lpm_bytes_put(&w, zero, sizeof zero);
    lpm_bytes_put_u64(&w, XXH3_64bits(out, CHECKED));
}

static bool all_zero(const uint8_t *bytes, size_t size)
{
    uint8_t any = 0;
    for (size_t i = 0; i < size; i++) {
        any |= bytes[i];
    }
    return any == 0;
}

/* A name ends within its field and has nothing behind its end. */
static bool name_is_clean(const char name[LPM_RECORD_NAME_SIZE])
{
    size_t length = strnlen(name, LPM_RECORD_NAME_SIZE);
    return length < LPM_RECORD_NAME_SIZE &&
           all_zero((const uint8_t *)name + length, LPM_RECORD_NAME_SIZE - length);
}

static bool fields_are_sound(const LpmRecord *record)
{
    if (record->state < LPM_RECORD_SRC || record->state > LPM_RECORD_RUN) {
        return false;
    }
    bool has_peer = record->peer[0] != '\0';
    return record->revision > 0 && record->epoch > 0 && record->owner[0] != '\0' &&
           name_is_clean(record->owner) && name_is_clean(record->peer) &&
           has_peer == !lpm_record_settled(record->state);
}

LpmRecordStatus lpm_record_decode(const uint8_t in[LPM_RECORD_SIZE], LpmRecord *ret_record)
{
    LpmByteReader r = lpm_bytes_reader(in, LPM_RECORD_SIZE);
    char seen[sizeof magic];
    lpm_bytes_get(&r, seen, sizeof seen);
    if (memcmp(seen, magic, sizeof magic) != 0) {
        return LPM_RECORD_BAD_MAGIC;
    }
    LpmByteReader tail = lpm_bytes_reader(in + CHECKED, LPM_RECORD_SIZE - CHECKED);
    if (lpm_bytes_get_u64(&tail) != XXH3_64bits(in, CHECKED)) {
        return LPM_RECORD_BAD_CHECKSUM;
    }
    if (lpm_bytes_get_u16(&r) != VERSION) {
        return LPM_RECORD_BAD_VERSION;
    }
    LpmRecord record = {0};
    record.state = (LpmRecordState)lpm_bytes_get_u16(&r);
    uint32_t reserved = lpm_bytes_get_u32(&r);
    record.revision = lpm_bytes_get_u64(&r);
    record.epoch = lpm_bytes_get_u64(&r);
    lpm_bytes_get(&r, record.partition, sizeof record.partition);
    lpm_bytes_get(&r, record.move, sizeof record.move);
    lpm_bytes_get(&r, record.owner, sizeof record.owner);
    lpm_bytes_get(&r, record.peer, sizeof record.peer);
    record.changed_us = lpm_bytes_get_u64(&r);
    const uint8_t *padding = lpm_bytes_borrow(&r, PADDING);
    if (reserved != 0 || !padding || !all_zero(padding, PADDING) || !fields_are_sound(&record)) {
        return LPM_RECORD_BAD_FIELD;
    }
    *ret_record = record;
    return LPM_RECORD_OK;
}

const char *lpm_record_status_text(LpmRecordStatus status)
{
    static const char *const texts[] = {
        [LPM_RECORD_OK] = "valid",
        [LPM_RECORD_BAD_MAGIC] = "not an ownership record",
        [LPM_RECORD_BAD_VERSION] = "an ownership record of another version",
        [LPM_RECORD_BAD_CHECKSUM] = "an ownership record with a wrong checksum",
        [LPM_RECORD_BAD_FIELD] = "an ownership record with a field out of its range",
    };
    return (unsigned)status < sizeof texts / sizeof *texts ? texts[status] : "?";
}

bool lpm_record_settled(LpmRecordState state)
{
    return state == LPM_RECORD_SRC || state == LPM_RECORD_BACK || state == LPM_RECORD_RUN;
}

const char *lpm_record_state_name(LpmRecordState state)
{
    static const char *const names[] = {
        [LPM_RECORD_SRC] = "SRC",   [LPM_RECORD_OFFER] = "OFFER", [LPM_RECORD_TAKEN] = "TAKEN",
        [LPM_RECORD_BACK] = "BACK", [LPM_RECORD_RUN] = "RUN",
    };
    return state >= LPM_RECORD_SRC && state <= LPM_RECORD_RUN ? names[state] : "?";
}

#define SETTLED (1u << LPM_RECORD_SRC | 1u << LPM_RECORD_BACK | 1u << LPM_RECORD_RUN)

/* The table of swaps. */
static const struct {
    unsigned from; /* mask of states */
    LpmRecordState to;
    LpmRecordBy by;
} swaps[] = {
    {SETTLED, LPM_RECORD_OFFER, LPM_RECORD_BY_OWNER},
    {SETTLED, LPM_RECORD_BACK, LPM_RECORD_BY_OWNER},
    {1u << LPM_RECORD_OFFER, LPM_RECORD_BACK, LPM_RECORD_BY_OWNER},
    {1u << LPM_RECORD_OFFER, LPM_RECORD_BACK, LPM_RECORD_BY_PEER},
    {1u << LPM_RECORD_OFFER, LPM_RECORD_TAKEN, LPM_RECORD_BY_PEER},
    {1u << LPM_RECORD_TAKEN, LPM_RECORD_RUN, LPM_RECORD_BY_PEER},
    {1u << LPM_RECORD_TAKEN, LPM_RECORD_BACK, LPM_RECORD_BY_PEER},
    {1u << LPM_RECORD_TAKEN, LPM_RECORD_BACK, LPM_RECORD_BY_WORD},
};

static void set_name(char field[LPM_RECORD_NAME_SIZE], const char *name)
{
    size_t length = strnlen(name, LPM_RECORD_NAME_SIZE - 1);
    memset(field, 0, LPM_RECORD_NAME_SIZE);
    memcpy(field, name, length);
}

void lpm_record_first(const uint8_t partition[LPM_RECORD_ID_SIZE], const char *owner,
                      uint64_t now_us, LpmRecord *ret_record)
{
    LpmRecord first = {.state = LPM_RECORD_SRC, .revision = 1, .epoch = 1, .changed_us = now_us};
    memcpy(first.partition, partition, LPM_RECORD_ID_SIZE);
    set_name(first.owner, owner);
    *ret_record = first;
}

bool lpm_record_next(const LpmRecord *now, LpmRecordState to, LpmRecordBy by,
                     const uint8_t move[LPM_RECORD_ID_SIZE], const char *peer, uint64_t now_us,
                     LpmRecord *ret_next)
{
    bool allowed = false;
    for (size_t i = 0; i < sizeof swaps / sizeof *swaps; i++) {
        allowed |=
            swaps[i].to == to && swaps[i].by == by && (swaps[i].from >> now->state & 1u) != 0;
    }
    bool same_move = memcmp(now->move, move, LPM_RECORD_ID_SIZE) == 0;
    if (!allowed || (!lpm_record_settled(now->state) && !same_move)) {
        return false;
    }
    LpmRecord next = *now;
    next.state = to;
    next.revision = now->revision + 1;
    next.changed_us = now_us;
    memcpy(next.move, move, LPM_RECORD_ID_SIZE);
    if (to == LPM_RECORD_RUN) {
        next.epoch = now->epoch + 1;
        memcpy(next.owner, now->peer, LPM_RECORD_NAME_SIZE);
    }
    if (to == LPM_RECORD_OFFER) {
        if (!peer || peer[0] == '\0') {
            return false;
        }
        set_name(next.peer, peer);
    } else if (lpm_record_settled(to)) {
        memset(next.peer, 0, sizeof next.peer);
    }
    *ret_next = next;
    return true;
}

bool lpm_record_follows(const LpmRecord *now, const LpmRecord *next)
{
    uint8_t wanted[LPM_RECORD_SIZE], made[LPM_RECORD_SIZE];
    lpm_record_encode(next, wanted);
    for (unsigned by = LPM_RECORD_BY_OWNER; by <= LPM_RECORD_BY_WORD; by++) {
        LpmRecord record;
        if (lpm_record_next(now, next->state, (LpmRecordBy)by, next->move, next->peer,
                            next->changed_us, &record)) {
            lpm_record_encode(&record, made);
            if (memcmp(made, wanted, sizeof made) == 0) {
                return true;
            }
        }
    }
    return false;
}

LpmMobRecordView lpm_record_view(const LpmRecord *record, const char *source,
                                 const uint8_t move[LPM_RECORD_ID_SIZE], uint64_t revision)
{
    if (!record) {
        return LPM_MOB_REC_UNKNOWN;
    }
    if (strncmp(record->owner, source, LPM_RECORD_NAME_SIZE) != 0) {
        return LPM_MOB_REC_TARGET;
    }
    if (memcmp(record->move, move, LPM_RECORD_ID_SIZE) == 0) {
        static const LpmMobRecordView views[] = {
            [LPM_RECORD_SRC] = LPM_MOB_REC_LATER,   [LPM_RECORD_OFFER] = LPM_MOB_REC_OFFER,
            [LPM_RECORD_TAKEN] = LPM_MOB_REC_TAKEN, [LPM_RECORD_BACK] = LPM_MOB_REC_BACK,
            [LPM_RECORD_RUN] = LPM_MOB_REC_LATER,
        };
        return views[record->state];
    }
    return record->revision == revision ? LPM_MOB_REC_SOURCE : LPM_MOB_REC_LATER;
}

LpmMobRecordView lpm_record_view_at(const LpmRecord *record, const LpmRecordHalf *half)
{
    LpmMobRecordView view = lpm_record_view(record, half->source, half->move, half->revision);
    bool other = half->side == LPM_MOB_SRC
                     ? record && record->epoch <= half->epoch
                     : record && strncmp(record->owner, half->target, LPM_RECORD_NAME_SIZE) != 0;
    return view == LPM_MOB_REC_TARGET && other ? LPM_MOB_REC_LATER : view;
}

static int digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool lpm_record_id_from_text(const char *text, uint8_t out[LPM_RECORD_ID_SIZE])
{
    uint8_t id[LPM_RECORD_ID_SIZE] = {0};
    size_t n = 0;
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '-') {
            continue;
        }
        int value = digit(*p);
        if (value < 0 || n == 2 * LPM_RECORD_ID_SIZE) {
            return false;
        }
        id[n / 2] = (uint8_t)(id[n / 2] << 4 | value);
        n++;
    }
    if (n != 2 * LPM_RECORD_ID_SIZE) {
        return false;
    }
    memcpy(out, id, sizeof id);
    return true;
}

void lpm_record_id_to_text(const uint8_t id[LPM_RECORD_ID_SIZE], char out[33])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < LPM_RECORD_ID_SIZE; i++) {
        out[2 * i] = digits[id[i] >> 4];
        out[2 * i + 1] = digits[id[i] & 15];
    }
    out[2 * LPM_RECORD_ID_SIZE] = '\0';
}
