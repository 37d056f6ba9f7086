/* SPDX-License-Identifier: Apache-2.0 */
/* First everything is checked and nothing is touched; then the bytes are built; then the image is
 * changed. */
#include "codec/internal.h"

#include <stdlib.h>
#include <string.h>
#include <xxh_x86dispatch.h>

typedef struct {
    uint32_t number;
    uint64_t length;
    char name[LPM_QSTREAM_NAME_MAX + 1];
} Declaration;

struct LpmDecoder {
    LpmCodecImage image;
    bool has_image;
    LpmCodecPacker *packer;
    LpmCodecCounts counts;
    LpmQstreamBlocks blocks; /* as declared; length 0: not yet */

    /* One batch. */
    bool kept;
    uint64_t checksum;
    size_t raw_size, tokens_size;
    LpmCodecTokens tokens;
    uint32_t n_runs, n_declarations;
    uint64_t newly_declared;
    Declaration declarations[LPM_QSTREAM_BLOCKS_MAX];
    LpmCodecRun runs[LPM_CODEC_RUNS_MAX];
    uint8_t page[LPM_QSTREAM_PAGE_SIZE]; /* scratch */
};

LpmDecoder *lpm_decoder_new(const LpmCodecImage *image)
{
    LpmDecoder *d = calloc(1, sizeof(*d));
    if (!d)
        return NULL;
    d->packer = lpm_codec_packer_new();
    if (image) {
        d->image = *image;
        d->has_image = true;
    }
    if (d->packer)
        return d;
    lpm_decoder_free(d);
    return NULL;
}

void lpm_decoder_free(LpmDecoder *decoder)
{
    if (!decoder)
        return;
    lpm_codec_packer_free(decoder->packer);
    free(decoder);
}

const LpmCodecCounts *lpm_decoder_counts(const LpmDecoder *decoder)
{
    return &decoder->counts;
}

/* --- checking --- */

static uint64_t pages_of(uint64_t length)
{
    return length / LPM_QSTREAM_PAGE_SIZE + (length % LPM_QSTREAM_PAGE_SIZE != 0);
}

static bool get_declaration(LpmDecoder *d, LpmByteReader *tokens)
{
    lpm_bytes_get_u8(tokens);
    uint32_t number = (uint32_t)lpm_codec_get_varint(tokens, LPM_QSTREAM_BLOCKS_MAX - 1);
    uint64_t length = lpm_codec_get_varint(tokens, UINT64_MAX);
    size_t size = (size_t)lpm_codec_get_varint(tokens, LPM_QSTREAM_NAME_MAX);
    const uint8_t *name = lpm_bytes_borrow(tokens, size);
    if (tokens->bad || length == 0 || memchr(name, 0, size) || (d->newly_declared >> number & 1))
        return false;
    Declaration *new = &d->declarations[d->n_declarations++];
    *new = (Declaration){.number = number, .length = length};
    memcpy(new->name, name, size);
    d->newly_declared |= 1ull << number;
    /* Again only for a batch that is being repaired. */
    return d->blocks.block[number].length == 0 ||
           (d->blocks.block[number].length == length &&
            strcmp(d->blocks.block[number].name, new->name) == 0);
}

static uint64_t length_of(const LpmDecoder *d, uint32_t block)
{
    for (uint32_t i = 0; i < d->n_declarations; i++) {
        if (d->declarations[i].number == block)
            return d->declarations[i].length;
    }
    return d->blocks.block[block].length;
}

static bool is_inside(const LpmDecoder *d, LpmCodecPlace place, uint64_t n)
{
    uint64_t pages = pages_of(length_of(d, place.block));
    return place.page < pages && n <= pages - place.page;
}

static bool check_run(const LpmDecoder *d, LpmCodecRun *run, LpmByteReader *data, size_t *raw)
{
    const LpmCodecKind *kind = &lpm_codec_kinds[run->kind];
    size_t stride = lpm_codec_stride(run);
    if (run->n > (d->raw_size - *raw) / stride)
        return false;
    /* Whoever keeps pages has said of what; who has no image says nothing of blocks. */
    bool declared = kind->pages && length_of(d, run->at.block) > 0;
    if (kind->pages && (declared ? !is_inside(d, run->at, run->n) : d->kept))
        return false;
    if (kind->looks && !d->kept)
        return false;
    if (run->kind == LPM_CODEC_REFERENCE && !is_inside(d, run->from, run->n))
        return false;
    run->raw = *raw;
    *raw += run->n * stride;
    run->data = *data;
    size_t before = data->at;
    for (uint64_t i = 0; kind->check && i < run->n; i++) {
        if (!kind->check(run, data))
            return false;
    }
    run->data_size = data->at - before;
    return true;
}

/* The runs of a content; false when it is malformed. */
static bool check_content(LpmDecoder *d, const uint8_t *content, size_t size)
{
    if (size < 4)
        return false;
    LpmByteReader end = lpm_bytes_reader(content + size - 4, 4);
    d->tokens_size = lpm_bytes_get_u32(&end);
    if (d->tokens_size > size - 4 || d->tokens_size > LPM_CODEC_TOKENS_MAX)
        return false;
    size_t data_size = size - 4 - d->tokens_size, raw = 0;
    LpmByteReader data = lpm_bytes_reader(content, data_size);
    LpmByteReader tokens = lpm_bytes_reader(content + data_size, d->tokens_size);
    lpm_codec_tokens_start(&d->tokens);
    d->n_runs = d->n_declarations = 0;
    d->newly_declared = 0;
    while (lpm_bytes_left(&tokens) > 0) {
        if (content[data_size + tokens.at] == LPM_CODEC_BLOCK) {
            if (!get_declaration(d, &tokens))
                return false;
            continue;
        }
        LpmCodecRun *run = &d->runs[d->n_runs];
        if (d->n_runs == LPM_CODEC_RUNS_MAX || !lpm_codec_get_token(&d->tokens, &tokens, run) ||
            !check_run(d, run, &data, &raw))
            return false;
        d->n_runs++;
    }
    return !tokens.bad && lpm_bytes_finished(&data) && raw == d->raw_size;
}

static bool check_body(LpmDecoder *d, const uint8_t *body, size_t size)
{
    LpmByteReader r = lpm_bytes_reader(body, size);
    unsigned packing = lpm_bytes_get_u8(&r), flags = lpm_bytes_get_u8(&r);
    unsigned reserved = lpm_bytes_get_u16(&r);
    d->raw_size = lpm_bytes_get_u32(&r);
    d->checksum = lpm_bytes_get_u64(&r);
    d->kept = flags & LPM_CODEC_FLAG_KEPT;
    if (r.bad || size > LPM_CODEC_BODY_MAX || packing > 1 ||
        (flags & ~(unsigned)LPM_CODEC_FLAG_KEPT) || reserved || d->raw_size > LPM_CODEC_RAW_MAX)
        return false;
    size_t content_size = size - LPM_CODEC_HEADER;
    const uint8_t *content = body + LPM_CODEC_HEADER;
    if (packing)
        content = lpm_codec_unpack(d->packer, content, content_size, &content_size);
    return content && check_content(d, content, content_size);
}

/* --- building --- */

static bool build_run(const LpmDecoder *d, LpmCodecRun *run, uint8_t *out)
{
    const LpmCodecKind *kind = &lpm_codec_kinds[run->kind];
    size_t stride = lpm_codec_stride(run);
    if (kind->looks && !d->has_image)
        return false;
    for (uint64_t i = 0; i < run->n; i++, out += stride) {
        uint8_t *page = out;
        if (run->word) {
            lpm_codec_put_word(out, (run->at.page + i) * LPM_QSTREAM_PAGE_SIZE | run->flags);
            page += LPM_CODEC_WORD_SIZE;
        }
        if (!kind->build(&d->image, run, i, page))
            return false;
    }
    return true;
}

/* --- changing the image --- */

static void add_blocks(LpmDecoder *d)
{
    for (uint32_t i = 0; i < d->n_declarations; i++) {
        const Declaration *new = &d->declarations[i];
        if (d->blocks.block[new->number].length > 0)
            continue;
        d->blocks.block[new->number].length = new->length;
        memcpy(d->blocks.block[new->number].name, new->name, sizeof(new->name));
        if (d->has_image)
            d->image.add_block(d->image.context, new->number, new->name, new->length);
    }
}

static void keep_pages(const LpmDecoder *d, const LpmCodecRun *run, const uint8_t *raw)
{
    const uint8_t *pages[LPM_CODEC_PAGES_MAX];
    uint8_t digests[LPM_CODEC_PAGES_MAX][LPM_CODEC_DIGEST_SIZE];
    size_t stride = lpm_codec_stride(run);
    const uint8_t *page = raw + run->raw + (run->word ? LPM_CODEC_WORD_SIZE : 0);
    for (uint64_t i = 0; i < run->n; i++, page += stride) {
        pages[i] = page;
        d->image.hash(d->image.context, page, digests[i]);
    }
    d->image.keep(d->image.context, run->at.block, run->at.page, (uint32_t)run->n, pages,
                  (const uint8_t(*)[LPM_CODEC_DIGEST_SIZE])digests);
}

/* Pages of kind SAME are held; where one is lost, a repair brings it back. */
static void restore_pages(LpmDecoder *d, const LpmCodecRun *run, const uint8_t *raw)
{
    LpmCodecRun one = *run;
    for (uint64_t i = 0; i < run->n; i++) {
        one.n = 1;
        one.at.page = run->at.page + i;
        one.raw = run->raw + i * lpm_codec_stride(run);
        if (!d->image.content(d->image.context, one.at.block, one.at.page, d->page))
            keep_pages(d, &one, raw);
    }
}

static void change_image(LpmDecoder *d, const uint8_t *raw, bool repair)
{
    const LpmCodecImage *image = &d->image;
    for (uint32_t i = 0; i < d->n_runs; i++) {
        const LpmCodecRun *run = &d->runs[i];
        if (!lpm_codec_kinds[run->kind].pages || d->blocks.block[run->at.block].length == 0)
            continue;
        if (!d->kept)
            image->forget(image->context, run->at.block, run->at.page, (uint32_t)run->n);
        else if (run->kind == LPM_CODEC_ZERO)
            image->keep(image->context, run->at.block, run->at.page, (uint32_t)run->n, NULL, NULL);
        else if (run->kind != LPM_CODEC_SAME)
            keep_pages(d, run, raw);
        else if (repair)
            restore_pages(d, run, raw);
    }
}

/* --- the whole --- */

static void count(LpmDecoder *d, const uint8_t *body, size_t size)
{
    LpmCodecCounts *counts = &d->counts;
    for (uint32_t i = 0; i < d->n_runs; i++) {
        const LpmCodecRun *run = &d->runs[i];
        if (run->kind == LPM_CODEC_OPAQUE)
            counts->bytes_opaque += run->size;
        else
            lpm_codec_count_pages(counts, run->kind, run->n);
        if (run->kind == LPM_CODEC_DELTA)
            counts->bytes_delta += run->data_size;
    }
    counts->bytes_tokens += d->tokens_size;
    counts->bytes_raw += d->raw_size;
    counts->bytes_coded += size;
    counts->batches_packed += body[0];
    counts->batches_plain += !body[0];
}

static LpmCodecStatus finish(LpmDecoder *d, const uint8_t *body, size_t size, const uint8_t *raw,
                             bool repair)
{
    if (XXH3_64bits(raw, d->raw_size) != d->checksum)
        return LPM_CODEC_WRONG;
    if (d->has_image)
        change_image(d, raw, repair);
    count(d, body, size);
    return LPM_CODEC_OK;
}

LpmCodecStatus lpm_decoder_decode(LpmDecoder *d, const uint8_t *body, size_t size, uint8_t *raw,
                                  size_t *ret_size)
{
    if (!check_body(d, body, size))
        return LPM_CODEC_MALFORMED;
    add_blocks(d);
    for (uint32_t i = 0; i < d->n_runs; i++) {
        if (!build_run(d, &d->runs[i], raw + d->runs[i].raw))
            return LPM_CODEC_MISS;
    }
    LpmCodecStatus status = finish(d, body, size, raw, false);
    if (status == LPM_CODEC_OK)
        *ret_size = d->raw_size;
    return status;
}

LpmCodecStatus lpm_decoder_repair(LpmDecoder *d, const uint8_t *body, size_t size,
                                  const uint8_t *raw, size_t raw_size)
{
    if (!check_body(d, body, size))
        return LPM_CODEC_MALFORMED;
    if (raw_size != d->raw_size)
        return LPM_CODEC_WRONG;
    add_blocks(d);
    return finish(d, body, size, raw, true);
}
