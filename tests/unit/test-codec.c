/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever the batches: the same bytes come out, and both images stay the same. */
#include "codec-fixture.h"

static void test_lock_step(void)
{
    static const int levels[] = {LPM_CODEC_NO_PACKING, -3, 1, 4};
    for (guint32 seed = 1; seed <= 6; seed++) {
        source_start(seed);
        pair_start(true);
        for (unsigned batch = 0; batch < 12; batch++) {
            for (unsigned n = any(100); n-- > 0;)
                write_page(any(PAGES));
            make_batch(any(LPM_CODEC_RAW_MAX));
            carry(levels[any(G_N_ELEMENTS(levels))], any(5) > 0);
            g_assert_true(lpm_codec_memory_equal(pair.memory[0], pair.memory[1]));
        }
        const LpmCodecCounts *counts = lpm_encoder_counts(pair.encoder);
        g_assert_cmpmem(counts, sizeof(*counts), lpm_decoder_counts(pair.decoder), sizeof(*counts));
        g_assert_cmpuint(counts->pages_same, >, 0);
        g_assert_cmpuint(counts->pages_reference, >, 0);
        g_assert_cmpuint(counts->pages_delta, >, 0);
        g_assert_cmpuint(counts->pages_zero, >, 0);
        pair_end();
    }
}

/* What the target lost it is given again, and then holds again. */
static void test_lost_pages(void)
{
    source_start(7);
    pair_start(true);
    pair.loses = g_rand_new_with_seed(7);
    for (unsigned batch = 0; batch < 40; batch++) {
        for (unsigned n = any(60); n-- > 0;)
            write_page(any(PAGES));
        make_batch(any(LPM_CODEC_RAW_MAX));
        carry(LEVEL, true);
    }
    g_assert_cmpuint(pair.misses, >, 3);
    g_clear_pointer(&pair.loses, g_rand_free);
    for (unsigned batch = 0; batch < 4; batch++) { /* and from here on it is told what it lacks */
        make_batch(LPM_CODEC_RAW_MAX);
        g_clear_pointer(&pair.loses, g_rand_free);
        pair.loses = g_rand_new_with_seed(batch);
        carry(LEVEL, true);
    }
    pair_end();
}

/* A page that is not what its digest says: the checksum finds it. */
static bool altered_content(void *context, uint32_t block, uint64_t page, uint8_t *ret_page)
{
    bool held = lpm_codec_memory_image(context)->content(context, block, page, ret_page);
    ret_page[0] ^= 1;
    return held;
}

static void test_wrong_content(void)
{
    size_t size;
    source_start(8);
    fill_random(source.memory[3], PAGE);
    pair_start(true);
    lpm_decoder_free(pair.decoder);
    pair.image[1].content = altered_content;
    pair.decoder = lpm_decoder_new(&pair.image[1]);
    add_page(3, 8, 0);
    carry(LEVEL, true);
    encode(kept);
    g_assert_cmpint(decode(&size), ==, LPM_CODEC_WRONG);
    source.raw[100] ^= 1;
    g_assert_cmpint(
        lpm_decoder_repair(pair.decoder, pair.body, pair.body_size, source.raw, source.size), ==,
        LPM_CODEC_WRONG);
    source.raw[100] ^= 1;
    g_assert_cmpint(
        lpm_decoder_repair(pair.decoder, pair.body, pair.body_size, source.raw, source.size - 1),
        ==, LPM_CODEC_WRONG);
    g_assert_cmpint(
        lpm_decoder_repair(pair.decoder, pair.body, pair.body_size, source.raw, source.size), ==,
        LPM_CODEC_OK);
    check_same_images();
    pair_end();
}

static bool refuse_block(void *context, uint32_t block, const char *name, uint64_t length)
{
    (void)context;
    (void)block;
    (void)name;
    (void)length;
    return false;
}

/* One side cannot hold a block: the other's pages are as good. */
static void test_block_not_held(void)
{
    for (int side = 0; side < 2; side++) {
        size_t size;
        source_start(9);
        fill_random(source.memory[3], PAGE);
        pair_start(true);
        pair.image[side].add_block = refuse_block;
        lpm_encoder_free(pair.encoder);
        lpm_decoder_free(pair.decoder);
        pair.encoder = lpm_encoder_new(&blocks, &pair.image[0]);
        pair.decoder = lpm_decoder_new(&pair.image[1]);
        add_page(3, 8, 0);
        carry(LEVEL, true);
        encode(kept);
        g_assert_cmpint(decode(&size), ==, side == 0 ? LPM_CODEC_OK : LPM_CODEC_MISS);
        g_assert_cmpuint(lpm_encoder_counts(pair.encoder)->pages_same, ==, side);
        if (side == 1)
            g_assert_cmpint(lpm_decoder_repair(pair.decoder, pair.body, pair.body_size, source.raw,
                                               source.size),
                            ==, LPM_CODEC_OK);
        pair_end();
    }
}

/* Without an image at either side, at any level. */
static void test_without_image(void)
{
    source_start(10);
    pair_start(false);
    for (int level = -9; level <= 9; level++) {
        for (unsigned n = 0; n < 100; n++)
            write_page(any(PAGES));
        make_batch(LPM_CODEC_RAW_MAX);
        carry(level, level % 2 != 0);
    }
    const LpmCodecCounts *counts = lpm_encoder_counts(pair.encoder);
    g_assert_cmpuint(counts->pages_same + counts->pages_reference + counts->pages_delta, ==, 0);
    g_assert_cmpuint(counts->pages_literal, >, 0);
    pair_end();
}

/* Bytes that do not pack cost a few bytes, and no packing. */
static void test_incompressible(void)
{
    source_start(11);
    pair_start(true);
    for (unsigned batch = 0; batch < 20; batch++) {
        start_batch();
        add_opaque(LPM_CODEC_RAW_MAX);
        carry(LEVEL, true);
        g_assert_cmpuint(pair.body_size, <=, LPM_CODEC_RAW_MAX + 64);
    }
    g_assert_cmpuint(lpm_encoder_counts(pair.encoder)->batches_plain, ==, 20);
    start_batch(); /* and then others come */
    add_opaque(LPM_CODEC_RAW_MAX);
    memset(source.raw, 'a', source.size);
    carry(LEVEL, true);
    g_assert_cmpuint(pair.body_size, <, 200);
    pair_end();
}

static void test_nothing(void)
{
    size_t size = 1;
    source_start(12);
    pair_start(true);
    encode(kept);
    g_assert_cmpint(decode(&size), ==, LPM_CODEC_OK);
    g_assert_cmpuint(size, ==, 0);
    pair_end();
}

/* Pages without words, each somewhere else: tokens cost more than that is worth. */
static void test_scattered(void)
{
    source_start(13);
    pair_start(true);
    for (unsigned i = 0; i < PAGES; i++)
        fill_random(source.memory[i], PAGE);
    for (unsigned i = 0; i < LPM_CODEC_RAW_MAX / PAGE; i++)
        add_page(i % 2 ? HALF + i : i, 0, 0);
    carry(LPM_CODEC_NO_PACKING, true);
    g_assert_cmpuint(pair.body_size, <=, LPM_CODEC_BODY_MAX);
    check_same_images();
    g_assert_cmpuint(lpm_encoder_counts(pair.encoder)->pages_literal, ==, LPM_CODEC_RAW_MAX / PAGE);
    carry(LPM_CODEC_NO_PACKING, true);
    g_assert_cmpuint(pair.body_size, <, 1000);
    pair_end();
}

/* Every page of zeros has a word of other flags: one opaque token is shorter. */
static void test_fallback(void)
{
    source_start(14);
    pair_start(true);
    while (source.n < LPM_CODEC_UNITS_MAX && has_room(16)) {
        LpmQstreamUnit *unit = add_page((unsigned)(source.n * 7919) % PAGES, 8, 0);
        uint8_t *word = source.raw + source.size - unit->size;
        word[6] = (uint8_t)((word[6] & 0xf0) | any(16));
        word[7] = (uint8_t)any(256);
    }
    carry(LPM_CODEC_NO_PACKING, true);
    g_assert_cmpuint(lpm_encoder_counts(pair.encoder)->bytes_opaque, ==, source.size);
    start_batch();
    add_page(5, 8, 0);
    add_page(HALF + 5, 8, 0);
    carry(LPM_CODEC_NO_PACKING, true); /* the blocks are declared after all */
    check_same_images();
    g_assert_cmpuint(lpm_encoder_counts(pair.encoder)->pages_zero, ==, 2);
    pair_end();
}

/* What a unit says is compared with its bytes. */
static void test_lies(void)
{
    source_start(15);
    fill_random(source.memory[3], PAGE);
    for (int lie = 0; lie < 7; lie++) {
        pair_start(true);
        start_batch();
        LpmQstreamUnit *page = add_page(3, 8, 0), *zero = add_page(4, 8, 0);
        page->offset += lie == 0 ? PAGE : 0;
        page->block += lie == 1 ? 5 : 0;
        page->block += lie == 2 ? LPM_QSTREAM_BLOCKS_MAX : 0;
        page->offset += lie == 3 ? 8 : 0;
        page->head -= lie == 4 ? 4 : 0;
        page->offset += lie == 5 ? HALF * PAGE : 0;
        source.raw[source.size - 1] = lie == 6;
        carry(LEVEL, true);
        check_same_images();
        g_assert_cmpuint(lpm_encoder_counts(pair.encoder)->bytes_opaque, ==,
                         lie == 6 ? zero->size : page->size);
        pair_end();
    }
}

/* The pages of @n changed places, as deltas or not; the sizes are those of the format. */
static void check_delta(const uint16_t *places, unsigned n, size_t delta_bytes)
{
    pair_start(true);
    memset(source.memory[3], 'x', PAGE);
    start_batch();
    add_page(3, 8, 0);
    carry(LPM_CODEC_NO_PACKING, true);
    for (unsigned i = 0; i < n; i++)
        source.memory[3][places[i]] = 'y';
    start_batch();
    add_page(3, 8, 0);
    carry(LPM_CODEC_NO_PACKING, true);
    check_same_images();
    const LpmCodecCounts *counts = lpm_encoder_counts(pair.encoder);
    g_assert_cmpuint(counts->pages_delta, ==, delta_bytes > 0);
    g_assert_cmpuint(counts->bytes_delta, ==, delta_bytes);
    pair_end();
}

static void test_delta_edges(void)
{
    uint16_t every[PAGE];
    source_start(16);
    for (unsigned i = 0; i < PAGE; i++)
        every[i] = (uint16_t)i;
    check_delta((const uint16_t[]){0}, 1, 1 + 2 + 1);
    check_delta((const uint16_t[]){PAGE - 1}, 1, 1 + 3 + 1);
    check_delta((const uint16_t[]){0, PAGE - 1}, 2, 1 + 2 + 3 + 2);
    check_delta((const uint16_t[]){10, 14}, 2, 1 + 2 + 5); /* three equal: one step */
    check_delta((const uint16_t[]){10, 15}, 2, 1 + 2 + 2 + 2);
    check_delta((const uint16_t[]){7, 8, 9}, 3, 1 + 2 + 3);
    check_delta(every, 2000, 1 + 3 + 2000);
    check_delta(every, PAGE, 0); /* all of it is new */
    for (unsigned i = 0; i < PAGE / 6; i++)
        every[i] = (uint16_t)(i * 6);
    check_delta(every, PAGE / 6, 0); /* more steps than a delta has */
    check_delta(every, 400, 2 + 400 * 2 + 400);
}

/* A page that a batch says twice: lookups are in the image as it was, the last one stays. */
static void test_twice_in_a_batch(void)
{
    source_start(17);
    pair_start(true);
    fill_random(source.memory[3], PAGE);
    add_page(3, 8, 0);
    carry(LEVEL, true);
    start_batch();
    source.memory[3][9] ^= 1;
    add_page(3, 8, 0);
    source.memory[3][9] ^= 1;
    add_page(3, 8, 0);
    memset(source.memory[4], 0, PAGE);
    add_page(4, 8, 0);
    fill_random(source.memory[4], PAGE);
    add_page(4, 8, 0);
    carry(LEVEL, true);
    check_same_images();
    start_batch();
    add_page(3, 8, 0);
    add_page(4, 8, 0);
    carry(LEVEL, true);
    check_same_images();
    pair_end();
}

static void test_forgotten(void)
{
    uint8_t digest[LPM_CODEC_DIGEST_SIZE];
    source_start(18);
    pair_start(true);
    fill_random(source.memory[3], PAGE);
    add_page(3, 8, 0);
    add_page(4, 8, 0);
    carry(LEVEL, true);
    g_assert_true(pair.image[1].digest(pair.memory[1], 0, 3, digest));
    carry(LEVEL, false);
    g_assert_cmpuint(lpm_encoder_counts(pair.encoder)->pages_literal, ==, 2);
    for (int i = 0; i < 2; i++) {
        g_assert_false(pair.image[i].digest(pair.memory[i], 0, 3, digest));
        g_assert_false(pair.image[i].digest(pair.memory[i], 0, 4, digest));
    }
    pair_end();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/codec/lock-step", test_lock_step);
    g_test_add_func("/codec/lost-pages", test_lost_pages);
    g_test_add_func("/codec/wrong-content", test_wrong_content);
    g_test_add_func("/codec/block-not-held", test_block_not_held);
    g_test_add_func("/codec/without-image", test_without_image);
    g_test_add_func("/codec/incompressible", test_incompressible);
    g_test_add_func("/codec/nothing", test_nothing);
    g_test_add_func("/codec/scattered", test_scattered);
    g_test_add_func("/codec/fallback", test_fallback);
    g_test_add_func("/codec/lies", test_lies);
    g_test_add_func("/codec/delta-edges", test_delta_edges);
    g_test_add_func("/codec/twice-in-a-batch", test_twice_in_a_batch);
    g_test_add_func("/codec/forgotten", test_forgotten);
    return g_test_run();
}
