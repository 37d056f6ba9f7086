/* SPDX-License-Identifier: Apache-2.0 */
/* A partition that writes its memory, a stream of it, and both sides of a move. */
#pragma once

#include "codec/codec.h"
#include "codec/memory.h"

#include <glib.h>
#include <string.h>

enum {
    PAGE = LPM_QSTREAM_PAGE_SIZE,
    PAGES = 512, /* of the partition's memory, two blocks of half of it */
    HALF = PAGES / 2,
    LEVEL = 1,
};

static const LpmQstreamBlocks blocks = {
    .n = 2, .block = {{"pc.ram", HALF *PAGE}, {"0000:00:04.0/virtio", HALF *PAGE}}};

/* A partition's memory, and a stream that is made of it. */
typedef struct {
    GRand *rand;
    uint8_t memory[PAGES][PAGE];
    uint8_t raw[LPM_CODEC_RAW_MAX];
    size_t size;
    LpmQstreamUnit unit[LPM_CODEC_UNITS_MAX];
    size_t n;
} Source;

/* Both sides. */
typedef struct {
    LpmCodecMemory *memory[2];
    LpmCodecImage image[2];
    LpmEncoder *encoder;
    LpmDecoder *decoder;
    GRand *loses; /* NULL: no page is lost at the target */
    uint8_t body[LPM_CODEC_BODY_MAX];
    uint8_t out[LPM_CODEC_RAW_MAX];
    size_t body_size;
    unsigned misses;
} Pair;

static Source source;
static Pair pair;

static inline void source_start(guint32 seed)
{
    if (source.rand)
        g_rand_free(source.rand);
    memset(&source, 0, sizeof(source));
    source.rand = g_rand_new_with_seed(seed);
    g_test_message("seed %u", seed);
}

static inline unsigned any(unsigned n)
{
    return (unsigned)g_rand_int_range(source.rand, 0, (gint32)n);
}

static inline void fill_random(uint8_t *at, size_t size)
{
    for (size_t i = 0; i < size; i++)
        at[i] = (uint8_t)g_rand_int(source.rand);
}

/* The guest writes: new content, text, a few bytes, a copy of another page, zeros. */
static inline void write_page(unsigned page)
{
    uint8_t *at = source.memory[page];
    switch (any(6)) {
    case 0:
        fill_random(at, PAGE);
        break;
    case 1:
        memset(at, 0, PAGE);
        break;
    case 2:
        memcpy(at, source.memory[any(PAGES)], PAGE);
        break;
    case 3:
        for (size_t i = 0; i < PAGE; i++)
            at[i] = "partition"[any(9)];
        break;
    default:
        for (unsigned n = any(40); n-- > 0;)
            at[any(PAGE)] = (uint8_t)any(256);
    }
}

static inline bool has_room(size_t size)
{
    return source.n < LPM_CODEC_UNITS_MAX && source.size + size <= sizeof(source.raw);
}

static inline LpmQstreamUnit *add_unit(LpmQstreamKind kind, size_t size)
{
    LpmQstreamUnit *unit = &source.unit[source.n++];
    *unit = (LpmQstreamUnit){.kind = kind, .data = source.raw + source.size, .size = size};
    source.size += size;
    return unit;
}

static inline void add_opaque(size_t size)
{
    fill_random(source.raw + source.size, size);
    add_unit(LPM_QSTREAM_OPAQUE, size);
}

static inline void put_word(uint8_t *at, uint64_t word)
{
    for (int i = 7; i >= 0; i--, word >>= 8)
        at[i] = (uint8_t)word;
}

static inline LpmQstreamUnit *add_page(unsigned page, uint32_t head, unsigned flags)
{
    static const uint8_t zeros[PAGE];
    uint8_t *at = source.raw + source.size;
    bool zero = head > 0 && memcmp(source.memory[page], zeros, PAGE) == 0;
    uint64_t offset = (uint64_t)(page % HALF) * PAGE;
    LpmQstreamUnit *unit =
        add_unit(zero ? LPM_QSTREAM_ZERO : LPM_QSTREAM_PAGE, head + (zero ? 1 : PAGE));
    unit->head = head;
    unit->block = page / HALF;
    unit->offset = offset;
    if (head > 0)
        put_word(at, offset | (zero ? 0x22 : 0x28) | flags);
    memcpy(at + head, source.memory[page], zero ? 1 : PAGE);
    return unit;
}

/* Bytes of stream and what qstream says of them, sometimes wrongly. */
static inline void make_batch(size_t limit)
{
    source.size = source.n = 0;
    unsigned page = any(PAGES);
    while (has_room(2 * PAGE) && source.size < limit) {
        unsigned what = any(20);
        if (what == 0)
            add_opaque(1 + any(3000));
        if (what == 1)
            page = any(PAGES);
        LpmQstreamUnit *unit = add_page(page, what == 2 ? 0 : 8, what == 3 ? any(4096) : 0);
        if (what == 4) /* a lie */
            unit->offset = (uint64_t)any(HALF) * PAGE;
        page = (page + 1) % PAGES;
    }
}

static inline bool lossy_content(void *context, uint32_t block, uint64_t page, uint8_t *ret_page)
{
    LpmCodecMemory *memory = context;
    const LpmCodecImage *whole = lpm_codec_memory_image(memory);
    if (pair.loses && g_rand_int_range(pair.loses, 0, 200) == 0)
        whole->forget(memory, block, page, 1);
    return whole->content(memory, block, page, ret_page);
}

static inline void pair_start(bool with_image)
{
    for (int i = 0; i < 2; i++) {
        pair.memory[i] = lpm_codec_memory_new(42);
        pair.image[i] = *lpm_codec_memory_image(pair.memory[i]);
    }
    pair.image[1].content = lossy_content;
    pair.encoder = lpm_encoder_new(&blocks, with_image ? &pair.image[0] : NULL);
    pair.decoder = lpm_decoder_new(with_image ? &pair.image[1] : NULL);
    pair.misses = 0;
}

static inline void pair_end(void)
{
    lpm_encoder_free(pair.encoder);
    lpm_decoder_free(pair.decoder);
    for (int i = 0; i < 2; i++)
        lpm_codec_memory_free(pair.memory[i]);
    g_clear_pointer(&pair.loses, g_rand_free);
}

/* The batch to the other side; both images are the same then. */
static inline void carry(int level, bool image)
{
    size_t size = SIZE_MAX;
    pair.body_size =
        lpm_encoder_encode(pair.encoder, source.unit, source.n,
                           (LpmCodecEffort){.level = level, .image = image}, pair.body);
    g_assert_cmpuint(pair.body_size, <=, source.size + 64 + source.size / 512);
    LpmCodecStatus status =
        lpm_decoder_decode(pair.decoder, pair.body, pair.body_size, pair.out, &size);
    if (status == LPM_CODEC_MISS && pair.loses) {
        pair.misses++;
        status =
            lpm_decoder_repair(pair.decoder, pair.body, pair.body_size, source.raw, source.size);
        g_assert_cmpint(status, ==, LPM_CODEC_OK);
        return;
    }
    g_assert_cmpint(status, ==, LPM_CODEC_OK);
    g_assert_cmpuint(size, ==, source.size);
    g_assert_cmpint(memcmp(pair.out, source.raw, size), ==, 0);
}

static inline void check_same_images(void)
{
    g_assert_true(lpm_codec_memory_equal(pair.memory[0], pair.memory[1]));
}

static inline void encode(LpmCodecEffort effort)
{
    pair.body_size = lpm_encoder_encode(pair.encoder, source.unit, source.n, effort, pair.body);
}

static inline LpmCodecStatus decode(size_t *ret_size)
{
    return lpm_decoder_decode(pair.decoder, pair.body, pair.body_size, pair.out, ret_size);
}

static const LpmCodecEffort kept = {.level = LPM_CODEC_NO_PACKING, .image = true};
static const LpmCodecEffort forgotten = {.level = LPM_CODEC_NO_PACKING, .image = false};

static inline void start_batch(void)
{
    source.size = source.n = 0;
}
