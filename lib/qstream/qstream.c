/* SPDX-License-Identifier: Apache-2.0 */
/* Cutting: pages and zero pages in the fast path, items by their state, all else opaque. */
#include "qstream/reader.h"

#include <stdlib.h>
#include <string.h>

static LpmQstreamItem *const items[STATES] = {
    [STATE_MAGIC] = lpm_qstream_magic,
    [STATE_SECTION] = lpm_qstream_section,
    [STATE_CAPABILITIES] = lpm_qstream_capabilities,
    [STATE_PAGE_BITS] = lpm_qstream_page_bits,
    [STATE_RAM] = lpm_qstream_ram_word,
    [STATE_BLOCKS] = lpm_qstream_block_entry,
    [STATE_HTAB_START] = lpm_qstream_htab_start,
    [STATE_HTAB] = lpm_qstream_htab,
    [STATE_HTAB_CHUNK] = lpm_qstream_htab_chunk,
    [STATE_PACKET] = lpm_qstream_packet,
};

typedef struct {
    LpmQstreamUnit *units;
    size_t n, max;
} Output;

LpmQstream *lpm_qstream_new(LpmQstreamBlocks *blocks)
{
    LpmQstream *q = calloc(1, sizeof(*q));
    if (q == NULL)
        return NULL;
    q->blocks = blocks;
    q->state = STATE_MAGIC;
    q->block = NO_BLOCK;
    return q;
}

void lpm_qstream_free(LpmQstream *qstream)
{
    free(qstream);
}

bool lpm_qstream_is_opaque(const LpmQstream *qstream)
{
    return qstream->state == STATE_OPAQUE;
}

const char *lpm_qstream_opaque_reason(const LpmQstream *qstream)
{
    return qstream->reason;
}

const LpmQstreamCounts *lpm_qstream_counts(const LpmQstream *qstream)
{
    return &qstream->counts;
}

void lpm_qstream_watch(LpmQstream *qstream, void (*seen)(void *context, const LpmQstreamSeen *seen),
                       void *context)
{
    qstream->seen = seen;
    qstream->seen_context = context;
}

void lpm_qstream_see(LpmQstream *q, LpmQstreamSeenKind kind, const char *name, uint32_t id,
                     uint64_t value)
{
    if (q->seen == NULL)
        return;
    /* An item whose beginning was given away began that much earlier. */
    LpmQstreamSeen seen = {.kind = kind,
                           .at = q->counts.bytes + q->ahead - q->held,
                           .name = name,
                           .id = id,
                           .value = value};
    q->seen(q->seen_context, &seen);
}

size_t lpm_qstream_give_up(LpmQstream *q, const char *reason)
{
    lpm_qstream_see(q, LPM_QSTREAM_SEEN_OPAQUE, reason, 0, 0);
    q->state = STATE_OPAQUE;
    q->reason = reason;
    return 0;
}

void lpm_qstream_choose_block(LpmQstream *q, const char *name, size_t size)
{
    q->block = NO_BLOCK;
    q->block_length = 0;
    for (uint32_t i = 0; i < q->blocks->n; i++) {
        const char *known = q->blocks->block[i].name;
        if (strlen(known) == size && memcmp(known, name, size) == 0) {
            q->block = i;
            q->block_length = q->blocks->block[i].length;
            return;
        }
    }
}

/* Opaque bytes behind opaque bytes are one unit. */
static size_t put_opaque(Output *out, const uint8_t *at, size_t size)
{
    LpmQstreamUnit *last = out->n > 0 ? &out->units[out->n - 1] : NULL;
    if (last != NULL && last->kind == LPM_QSTREAM_OPAQUE)
        last->size += size;
    else
        out->units[out->n++] =
            (LpmQstreamUnit){.kind = LPM_QSTREAM_OPAQUE, .data = at, .size = size};
    return size;
}

/* As many pages and zero pages as lie here, each with a word that says "same block as before". */
static size_t read_words(LpmQstream *q, const uint8_t *data, size_t size, Output *out)
{
    const uint64_t flags_mask = LPM_QSTREAM_PAGE_SIZE - 1;
    LpmQstreamUnit *unit = out->units + out->n, *end = out->units + out->max;
    uint64_t pages = 0, zeros = 0;
    size_t at = 0;
    for (; unit < end && size - at >= 9; unit++) {
        uint64_t word = lpm_qstream_be64(data + at), offset = word & ~flags_mask;
        uint64_t flags = word & flags_mask;
        if (!lpm_qstream_has_place(q, offset))
            break;
        *unit = (LpmQstreamUnit){.data = data + at, .block = q->block, .offset = offset};
        if (flags == LPM_QSTREAM_WORD_PAGE && size - at >= 8 + LPM_QSTREAM_PAGE_SIZE) {
            unit->kind = LPM_QSTREAM_PAGE;
            unit->head = 8;
            unit->size = 8 + LPM_QSTREAM_PAGE_SIZE;
            pages++;
        } else if (flags == LPM_QSTREAM_WORD_ZERO && data[at + 8] == 0) {
            unit->kind = LPM_QSTREAM_ZERO;
            unit->size = 9;
            zeros++;
        } else {
            break;
        }
        at += unit->size;
    }
    out->n = (size_t)(unit - out->units);
    q->counts.pages += pages;
    q->counts.zeros += zeros;
    return at;
}

/* The beginning of a page or zero page that read_words() will take when the rest of it is there. */
static bool is_part_of_page(const LpmQstream *q, const uint8_t *data, size_t size)
{
    if (q->state != STATE_RAM || size < 8)
        return false;
    uint64_t word = lpm_qstream_be64(data);
    uint64_t flags = word & (LPM_QSTREAM_PAGE_SIZE - 1);
    return lpm_qstream_has_place(q, word - flags) &&
           ((flags == LPM_QSTREAM_WORD_PAGE && size < 8 + LPM_QSTREAM_PAGE_SIZE) ||
            (flags == LPM_QSTREAM_WORD_ZERO && size < 9));
}

/* Pages without words. One that a flush cuts in two, or that has no place, is opaque. */
static size_t read_pages(LpmQstream *q, const uint8_t *data, size_t size, bool flush, Output *out)
{
    size_t at = 0;
    while (q->pages_left > 0 && out->n < out->max) {
        uint64_t offset = q->offsets[q->page];
        if (lpm_qstream_has_place(q, offset) && size - at >= LPM_QSTREAM_PAGE_SIZE) {
            out->units[out->n++] = (LpmQstreamUnit){.kind = LPM_QSTREAM_PAGE,
                                                    .data = data + at,
                                                    .size = LPM_QSTREAM_PAGE_SIZE,
                                                    .block = q->block,
                                                    .offset = offset};
            at += LPM_QSTREAM_PAGE_SIZE;
            q->counts.pages++;
        } else if (at < size && (flush || !lpm_qstream_has_place(q, offset))) {
            q->skip = LPM_QSTREAM_PAGE_SIZE;
            q->counts.lost_pages++;
        } else {
            break;
        }
        q->page++;
        q->pages_left--;
        if (q->skip > 0)
            break;
    }
    if (q->pages_left == 0) {
        q->ahead = at + q->skip;
        if (q->flush_follows)
            lpm_qstream_see(q, LPM_QSTREAM_SEEN_FLUSH, NULL, 0, 0);
        q->flush_follows = false;
        q->ahead = 0;
        q->state = q->then;
    }
    return at;
}

/* The rest of an item whose beginning a flush gave away. */
static size_t read_held(LpmQstream *q, const uint8_t *data, size_t size, Output *out)
{
    size_t before = q->held;
    size_t more = size < ITEM_MAX - before ? size : ITEM_MAX - before;
    memcpy(q->hold + before, data, more);
    size_t length = items[q->state](q, q->hold, before + more);
    q->held = 0;
    if (q->state == STATE_OPAQUE)
        return 0;
    if (length > 0)
        return put_opaque(out, data, length - before);
    q->held = before + more;
    return put_opaque(out, data, more);
}

static size_t read_item(LpmQstream *q, const uint8_t *data, size_t size, bool flush, Output *out)
{
    size_t length = items[q->state](q, data, size);
    if (length > 0)
        return put_opaque(out, data, length);
    if (q->state == STATE_OPAQUE || !flush)
        return 0;
    memcpy(q->hold, data, size);
    q->held = size;
    return put_opaque(out, data, size);
}

/* What is next; 0 bytes and an unchanged state: it is not all there. */
static size_t read_next(LpmQstream *q, const uint8_t *data, size_t size, bool flush, Output *out)
{
    if (q->skip > 0 || q->state == STATE_OPAQUE) {
        size_t take = q->state != STATE_OPAQUE && q->skip < size ? (size_t)q->skip : size;
        q->skip -= take < q->skip ? take : q->skip;
        return put_opaque(out, data, take);
    }
    if (q->held > 0)
        return read_held(q, data, size, out);
    if (q->state == STATE_PAGES)
        return read_pages(q, data, size, flush, out);
    if (q->state == STATE_RAM) {
        size_t used = read_words(q, data, size, out);
        if (used > 0 || (!flush && is_part_of_page(q, data, size)))
            return used;
    }
    return read_item(q, data, size, flush, out);
}

size_t lpm_qstream_read(LpmQstream *qstream, const uint8_t *data, size_t size, bool flush,
                        LpmQstreamUnit *units, size_t max, size_t *ret_n)
{
    Output out = {.units = units, .max = max};
    size_t at = 0;
    while (at < size && out.n < out.max) {
        State state = qstream->state;
        uint64_t skip = qstream->skip;
        size_t used = read_next(qstream, data + at, size - at, flush, &out);
        at += used;
        qstream->counts.bytes += used;
        if (used == 0 && qstream->state == state && qstream->skip == skip)
            break;
    }
    *ret_n = out.n;
    return at;
}
