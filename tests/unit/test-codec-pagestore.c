/* SPDX-License-Identifier: Apache-2.0 */
/* Both sides with the image a partition really has: a first move, a return move, a torn file. */
#include "codec-fixture.h"
#include "pagestore/pagestore.h"

#include <sys/mman.h>
#include <unistd.h>

static const uint8_t key[LPM_PAGESTORE_KEY_SIZE] = "the same on both systems, 32 by";
static int files[2];
static LpmPagestore *stores[2];

static void open_stores(bool from_base)
{
    for (int i = 0; i < 2; i++) {
        stores[i] = lpm_pagestore_open(files[i], key);
        g_assert_true(lpm_pagestore_begin(stores[i], from_base));
    }
    pair.misses = 0;
    pair.encoder = lpm_encoder_new(&blocks, lpm_pagestore_image(stores[0]));
    pair.decoder = lpm_decoder_new(lpm_pagestore_image(stores[1]));
}

/* The move was good: both images are sealed, and the same. */
static void seal_stores(const char *id)
{
    LpmPagestoreInfo info[2];
    for (int i = 0; i < 2; i++) {
        g_assert_true(lpm_pagestore_seal(stores[i], (const uint8_t *)id, &info[i]));
        lpm_pagestore_free(stores[i]);
    }
    g_assert_cmpmem(info[0].root, sizeof(info[0].root), info[1].root, sizeof(info[1].root));
    g_assert_cmpuint(info[0].held, ==, PAGES);
    lpm_encoder_free(pair.encoder);
    lpm_decoder_free(pair.decoder);
}

static void carry_memory(void)
{
    start_batch();
    for (unsigned page = 0; page < PAGES; page++) {
        if (!has_room(8 + PAGE)) {
            carry(LEVEL, true);
            start_batch();
        }
        add_page(page, 8, 0);
    }
    carry(LEVEL, true);
}

static const LpmCodecCounts *counts(void)
{
    return lpm_encoder_counts(pair.encoder);
}

static void test_there_and_back(void)
{
    source_start(30);
    for (int i = 0; i < 2; i++)
        files[i] = memfd_create("image", MFD_CLOEXEC);
    for (unsigned page = 0; page < PAGES; page++)
        write_page(page);
    open_stores(false);
    carry_memory();
    g_assert_cmpuint(counts()->pages_literal, >, 50);
    for (unsigned n = 0; n < 100; n++)
        write_page(any(PAGES));
    carry_memory();
    g_assert_cmpuint(counts()->pages_same, >, 100);
    g_assert_cmpuint(counts()->pages_delta, >, 5);
    seal_stores("the first move.");

    for (unsigned n = 0; n < 30; n++)
        write_page(any(PAGES));
    open_stores(true);
    carry_memory();
    g_assert_cmpuint(counts()->pages_same, >, 100);
    g_assert_cmpuint(counts()->pages_literal, <, 31);
    seal_stores("the way back...");

    /* The target's file lost its pages: each is asked for, and held again. */
    open_stores(true);
    g_assert_cmpint(ftruncate(files[1], 1 << 20), ==, 0);
    pair.loses = g_rand_new();
    carry_memory();
    g_assert_cmpuint(pair.misses, >, 0);
    pair.misses = 0;
    carry_memory();
    g_assert_cmpuint(pair.misses, ==, 0);
    g_clear_pointer(&pair.loses, g_rand_free);
    seal_stores("a third one....");
    for (int i = 0; i < 2; i++)
        close(files[i]);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/codec-pagestore/there-and-back", test_there_and_back);
    return g_test_run();
}
