/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/internal.h"

/* Pages of a block whose byte offsets fit into 64 bits. */
#define PAGES_OF_64_BITS (UINT64_MAX / LPM_QSTREAM_PAGE_SIZE + 1)

void lpm_codec_tokens_start(LpmCodecTokens *tokens)
{
    *tokens = (LpmCodecTokens){.flags = {LPM_CODEC_FLAGS_ZERO, LPM_CODEC_FLAGS_PAGE}};
}

static uint32_t *flags_of(LpmCodecTokens *tokens, LpmCodecKindNumber kind)
{
    return &tokens->flags[kind != LPM_CODEC_ZERO];
}

static bool is_next(const LpmCodecTokens *tokens, LpmCodecPlace at)
{
    return tokens->placed && tokens->next.block == at.block && tokens->next.page == at.page;
}

static void advance(LpmCodecTokens *tokens, const LpmCodecRun *run)
{
    tokens->placed = true;
    tokens->next = (LpmCodecPlace){run->at.block, run->at.page + run->n};
}

static void put_place(LpmByteWriter *writer, LpmCodecPlace place)
{
    lpm_codec_put_varint(writer, place.block);
    lpm_codec_put_varint(writer, place.page);
}

static LpmCodecPlace get_place(LpmByteReader *reader)
{
    uint32_t block = (uint32_t)lpm_codec_get_varint(reader, LPM_QSTREAM_BLOCKS_MAX - 1);
    return (LpmCodecPlace){block, lpm_codec_get_varint(reader, PAGES_OF_64_BITS - 1)};
}

void lpm_codec_put_token(LpmCodecTokens *tokens, LpmByteWriter *writer, const LpmCodecRun *run)
{
    if (run->kind == LPM_CODEC_OPAQUE) {
        lpm_bytes_put_u8(writer, LPM_CODEC_OPAQUE);
        lpm_codec_put_varint(writer, run->size);
        return;
    }
    uint32_t *flags = flags_of(tokens, run->kind);
    unsigned place = is_next(tokens, run->at) ? 0 : LPM_CODEC_TOKEN_PLACE;
    unsigned word = run->word ? LPM_CODEC_TOKEN_WORD : 0;
    unsigned flag = run->word && run->flags != *flags ? LPM_CODEC_TOKEN_FLAGS : 0;
    lpm_bytes_put_u8(writer, (uint8_t)(run->kind | place | word | flag));
    if (place)
        put_place(writer, run->at);
    if (flag) {
        lpm_codec_put_varint(writer, run->flags);
        *flags = run->flags;
    }
    lpm_codec_put_varint(writer, run->n);
    if (run->kind == LPM_CODEC_REFERENCE)
        put_place(writer, run->from);
    advance(tokens, run);
}

static bool is_behind_the_last(LpmCodecPlace place, uint64_t n)
{
    return n > PAGES_OF_64_BITS - place.page;
}

static bool get_pages(LpmCodecTokens *tokens, LpmByteReader *reader, unsigned bits,
                      LpmCodecRun *run)
{
    uint32_t *flags = flags_of(tokens, run->kind);
    run->word = bits & LPM_CODEC_TOKEN_WORD;
    if (!(bits & LPM_CODEC_TOKEN_PLACE) && !tokens->placed)
        return false;
    if (!run->word && (bits & LPM_CODEC_TOKEN_FLAGS))
        return false;
    run->at = bits & LPM_CODEC_TOKEN_PLACE ? get_place(reader) : tokens->next;
    if (bits & LPM_CODEC_TOKEN_FLAGS)
        *flags = (uint32_t)lpm_codec_get_varint(reader, LPM_CODEC_WORD_FLAGS);
    run->flags = *flags;
    run->n = lpm_codec_get_varint(reader, LPM_CODEC_RAW_MAX);
    if (run->kind == LPM_CODEC_REFERENCE)
        run->from = get_place(reader);
    if (reader->bad || run->n == 0 || is_behind_the_last(run->at, run->n) ||
        is_behind_the_last(run->from, run->n))
        return false;
    advance(tokens, run);
    return true;
}

bool lpm_codec_get_token(LpmCodecTokens *tokens, LpmByteReader *reader, LpmCodecRun *ret_run)
{
    unsigned first = lpm_bytes_get_u8(reader), bits = first & ~(unsigned)LPM_CODEC_TOKEN_KIND;
    unsigned known = LPM_CODEC_TOKEN_WORD | LPM_CODEC_TOKEN_PLACE | LPM_CODEC_TOKEN_FLAGS;
    LpmCodecRun run = {.kind = (LpmCodecKindNumber)(first & LPM_CODEC_TOKEN_KIND)};
    if (run.kind >= LPM_CODEC_BLOCK || (bits & ~known))
        return false;
    if (run.kind == LPM_CODEC_OPAQUE) {
        run.n = 1;
        run.size = lpm_codec_get_varint(reader, LPM_CODEC_RAW_MAX);
        *ret_run = run;
        return bits == 0 && !reader->bad && run.size > 0;
    }
    if (!get_pages(tokens, reader, bits, &run))
        return false;
    *ret_run = run;
    return true;
}

uint64_t lpm_codec_get_word(const uint8_t *at)
{
    uint64_t word = 0;
    for (unsigned i = 0; i < LPM_CODEC_WORD_SIZE; i++)
        word = word << 8 | at[i];
    return word;
}

void lpm_codec_put_word(uint8_t *at, uint64_t word)
{
    for (unsigned i = LPM_CODEC_WORD_SIZE; i-- > 0; word >>= 8)
        at[i] = (uint8_t)word;
}

size_t lpm_codec_stride(const LpmCodecRun *run)
{
    if (run->kind == LPM_CODEC_OPAQUE)
        return run->size;
    return lpm_codec_kinds[run->kind].unit + (run->word ? LPM_CODEC_WORD_SIZE : 0);
}
