/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/internal.h"

#include <stdlib.h>
#include <string.h>
#include <xxh_x86dispatch.h>

enum {
    SLACK = 64,     /* a content may be larger than its batch by so much */
    PAGE_SLACK = 8, /* and by so much for each page whose place the image has to know */
};

/* Places that the image is told of at the end: all lookups are in the image as it was. */
typedef struct {
    LpmCodecPlace at;
    uint64_t n;
    uint32_t page; /* index of the first page's content; of zeros: NO_PAGE */
} Keep;
#define NO_PAGE UINT32_MAX

struct LpmEncoder {
    const LpmQstreamBlocks *blocks;
    LpmCodecImage image;
    LpmCodecPacker *packer;
    LpmCodecCounts counts;
    uint64_t added, declared; /* RAM blocks, a bit each: at our image, to the decoder */

    /* One batch. */
    bool keep;
    uint64_t newly_declared;
    LpmCodecWork work;
    LpmCodecTokens tokens;
    LpmByteWriter token_writer;
    LpmCodecRun run; /* not yet written; n is 0 when there is none */
    uint32_t n_keeps, n_pages;
    Keep keeps[LPM_CODEC_RUNS_MAX];
    const uint8_t *pages[LPM_CODEC_PAGES_MAX];
    uint8_t digests[LPM_CODEC_PAGES_MAX][LPM_CODEC_DIGEST_SIZE];
    uint8_t token_bytes[LPM_CODEC_TOKENS_MAX];
};

LpmEncoder *lpm_encoder_new(const LpmQstreamBlocks *blocks, const LpmCodecImage *image)
{
    LpmEncoder *e = calloc(1, sizeof(*e));
    if (!e)
        return NULL;
    e->blocks = blocks;
    e->packer = lpm_codec_packer_new();
    if (image) {
        e->image = *image;
        e->work.image = &e->image;
        e->work.places = lpm_codec_places_new();
    }
    if (e->packer)
        return e;
    lpm_encoder_free(e);
    return NULL;
}

void lpm_encoder_free(LpmEncoder *encoder)
{
    if (!encoder)
        return;
    lpm_codec_packer_free(encoder->packer);
    lpm_codec_places_free(encoder->work.places);
    free(encoder);
}

const LpmCodecCounts *lpm_encoder_counts(const LpmEncoder *encoder)
{
    return &encoder->counts;
}

static void close_run(LpmEncoder *e)
{
    if (e->run.n == 0)
        return;
    lpm_codec_put_token(&e->tokens, &e->token_writer, &e->run);
    e->run.n = 0;
}

static bool is_behind(LpmCodecPlace place, LpmCodecPlace first, uint64_t n)
{
    return place.block == first.block && place.page == first.page + n;
}

/* Joins what follows to the open run if it is of the same kind and behind it. */
static void add_to_run(LpmEncoder *e, const LpmCodecRun *one)
{
    LpmCodecRun *run = &e->run;
    bool fits = run->n > 0 && run->kind == one->kind;
    if (fits && run->kind == LPM_CODEC_OPAQUE) {
        run->size += one->size;
        return;
    }
    fits = fits && run->word == one->word && run->flags == one->flags &&
           is_behind(one->at, run->at, run->n) &&
           (run->kind != LPM_CODEC_REFERENCE || is_behind(one->from, run->from, run->n));
    if (fits) {
        run->n++;
        return;
    }
    close_run(e);
    *run = *one;
}

static void add_keep(LpmEncoder *e, LpmCodecPlace at, uint32_t page)
{
    Keep *last = e->n_keeps > 0 ? &e->keeps[e->n_keeps - 1] : NULL;
    if (last && is_behind(at, last->at, last->n) && (last->page == NO_PAGE) == (page == NO_PAGE) &&
        (page == NO_PAGE || page == last->page + last->n))
        last->n++;
    else
        e->keeps[e->n_keeps++] = (Keep){.at = at, .n = 1, .page = page};
}

static void add_opaque(LpmEncoder *e, const uint8_t *data, size_t size)
{
    LpmCodecRun run = {.kind = LPM_CODEC_OPAQUE, .n = 1, .size = size};
    lpm_bytes_put(&e->work.data, data, size);
    e->work.batch.bytes_opaque += size;
    add_to_run(e, &run);
}

/* The other side's image needs the block's name and size before a page of it. */
static void declare(LpmEncoder *e, uint32_t number)
{
    uint64_t bit = 1ull << number;
    const char *name = e->blocks->block[number].name;
    uint64_t length = e->blocks->block[number].length;
    if (!(e->added & bit)) {
        e->added |= bit;
        e->image.add_block(e->image.context, number, name, length);
    }
    if ((e->declared | e->newly_declared) & bit)
        return;
    close_run(e);
    e->newly_declared |= bit;
    size_t size = strnlen(name, LPM_QSTREAM_NAME_MAX);
    lpm_bytes_put_u8(&e->token_writer, LPM_CODEC_BLOCK);
    lpm_codec_put_varint(&e->token_writer, number);
    lpm_codec_put_varint(&e->token_writer, length);
    lpm_codec_put_varint(&e->token_writer, size);
    lpm_bytes_put(&e->token_writer, name, size);
}

/* What the reader of the stream took for a page is one, and the decoder would write it so. */
static bool is_page(const LpmEncoder *e, const LpmQstreamUnit *unit)
{
    size_t unit_size = unit->kind == LPM_QSTREAM_ZERO ? 1 : LPM_QSTREAM_PAGE_SIZE;
    size_t head = unit->kind == LPM_QSTREAM_ZERO ? unit->size - 1 : unit->head;
    if (unit->kind == LPM_QSTREAM_OPAQUE || e->n_pages == LPM_CODEC_PAGES_MAX ||
        unit->block >= e->blocks->n || unit->block >= LPM_QSTREAM_BLOCKS_MAX ||
        unit->offset % LPM_QSTREAM_PAGE_SIZE != 0 ||
        unit->offset >= e->blocks->block[unit->block].length || unit->size != head + unit_size)
        return false;
    if (unit->kind == LPM_QSTREAM_ZERO && unit->data[head] != 0)
        return false;
    if (head == 0) /* a page that no image asks for the place of */
        return unit->kind == LPM_QSTREAM_PAGE && e->work.image;
    return head == LPM_CODEC_WORD_SIZE &&
           (lpm_codec_get_word(unit->data) & ~(uint64_t)LPM_CODEC_WORD_FLAGS) == unit->offset;
}

static LpmCodecKindNumber code_page(LpmEncoder *e, LpmCodecPage *page)
{
    for (size_t i = 0; i < lpm_codec_n_order; i++) {
        const LpmCodecKind *kind = &lpm_codec_kinds[lpm_codec_order[i]];
        if ((e->keep || !kind->looks) && kind->take(&e->work, page))
            return lpm_codec_order[i];
    }
    return LPM_CODEC_LITERAL;
}

static void add_page(LpmEncoder *e, const LpmQstreamUnit *unit)
{
    size_t head = unit->kind == LPM_QSTREAM_ZERO ? unit->size - 1 : unit->head;
    LpmCodecRun run = {.kind = LPM_CODEC_ZERO,
                       .word = head > 0,
                       .n = 1,
                       .at = {unit->block, unit->offset / LPM_QSTREAM_PAGE_SIZE}};
    LpmCodecPage page = {.data = unit->data + head, .at = run.at};
    if (run.word)
        run.flags = (uint32_t)lpm_codec_get_word(unit->data) & LPM_CODEC_WORD_FLAGS;
    if (e->work.image)
        declare(e, unit->block);
    if (unit->kind == LPM_QSTREAM_PAGE) {
        if (e->keep)
            e->image.hash(e->image.context, page.data, page.digest);
        run.kind = code_page(e, &page);
        run.from = page.from;
    }
    lpm_codec_count_pages(&e->work.batch, run.kind, 1);
    add_to_run(e, &run);
    if (run.kind == LPM_CODEC_ZERO || !e->keep) {
        add_keep(e, run.at, NO_PAGE);
    } else if (run.kind != LPM_CODEC_SAME) {
        e->pages[e->n_pages] = page.data;
        memcpy(e->digests[e->n_pages], page.digest, sizeof(page.digest));
        add_keep(e, run.at, e->n_pages++);
    }
}

static void start(LpmEncoder *e, LpmCodecEffort effort, uint8_t *content)
{
    e->keep = effort.image && e->work.image;
    e->newly_declared = 0;
    e->n_keeps = e->n_pages = 0;
    e->run.n = 0;
    e->work.batch = (LpmCodecCounts){0};
    e->work.data = lpm_bytes_writer(content, LPM_CODEC_CONTENT_MAX);
    e->token_writer = lpm_bytes_writer(e->token_bytes, sizeof(e->token_bytes));
    lpm_codec_tokens_start(&e->tokens);
}

/* Puts the tokens behind the data; 0 when that is more than the batch is worth. */
static size_t finish_content(LpmEncoder *e, size_t raw_size)
{
    LpmByteWriter *data = &e->work.data;
    size_t size = e->token_writer.at;
    close_run(e);
    size = e->token_writer.at;
    lpm_bytes_put(data, e->token_bytes, size);
    lpm_bytes_put_u32(data, (uint32_t)size);
    e->work.batch.bytes_tokens = size;
    size_t slack = SLACK - LPM_CODEC_HEADER + (e->work.image ? PAGE_SLACK * e->n_pages : 0);
    return e->token_writer.bad || data->bad || data->at > raw_size + slack ? 0 : data->at;
}

static void change_image(LpmEncoder *e)
{
    for (uint32_t i = 0; i < e->n_keeps; i++) {
        const Keep *k = &e->keeps[i];
        uint32_t n = (uint32_t)k->n;
        if (!e->keep)
            e->image.forget(e->image.context, k->at.block, k->at.page, n);
        else if (k->page == NO_PAGE)
            e->image.keep(e->image.context, k->at.block, k->at.page, n, NULL, NULL);
        else
            e->image.keep(e->image.context, k->at.block, k->at.page, n, e->pages + k->page,
                          (const uint8_t(*)[LPM_CODEC_DIGEST_SIZE])(e->digests + k->page));
        for (uint32_t p = 0; e->keep && e->work.places && k->page != NO_PAGE && p < n; p++)
            lpm_codec_places_put(e->work.places, e->digests[k->page + p],
                                 (LpmCodecPlace){k->at.block, k->at.page + p});
    }
}

size_t lpm_encoder_encode(LpmEncoder *e, const LpmQstreamUnit *units, size_t n,
                          LpmCodecEffort effort, uint8_t *body)
{
    const uint8_t *raw = n > 0 ? units[0].data : body;
    size_t raw_size = 0, size = 0;
    for (size_t i = 0; i < n; i++)
        raw_size += units[i].size;
    uint8_t *content = body + LPM_CODEC_HEADER;
    start(e, effort, content);
    for (size_t i = 0; i < n && n <= LPM_CODEC_UNITS_MAX; i++) {
        if (is_page(e, &units[i]))
            add_page(e, &units[i]);
        else
            add_opaque(e, units[i].data, units[i].size);
    }
    if (n <= LPM_CODEC_UNITS_MAX)
        size = finish_content(e, raw_size);
    if (size == 0) {
        start(e, effort, content);
        e->keep = false;
        add_opaque(e, raw, raw_size);
        size = finish_content(e, raw_size);
    }
    bool packed = lpm_codec_pack(e->packer, effort.level, content, &size);
    LpmByteWriter header = lpm_bytes_writer(body, LPM_CODEC_HEADER);
    lpm_bytes_put_u8(&header, packed);
    lpm_bytes_put_u8(&header, e->keep ? LPM_CODEC_FLAG_KEPT : 0);
    lpm_bytes_put_u16(&header, 0);
    lpm_bytes_put_u32(&header, (uint32_t)raw_size);
    lpm_bytes_put_u64(&header, XXH3_64bits(raw, raw_size));
    e->declared |= e->newly_declared;
    if (e->work.image)
        change_image(e);
    e->work.batch.bytes_raw = raw_size;
    e->work.batch.bytes_coded = LPM_CODEC_HEADER + size;
    e->work.batch.batches_packed = packed;
    e->work.batch.batches_plain = !packed;
    lpm_codec_add_counts(&e->counts, &e->work.batch);
    return LPM_CODEC_HEADER + size;
}
