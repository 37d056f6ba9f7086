/* SPDX-License-Identifier: Apache-2.0 */
/* The resident image, over a file in memory that remembers what was written and when it was synced.
 */
#include "pagestore/pagestore.h"

#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PAGE = 4096, SECTOR = 512 };

static const uint8_t key[LPM_PAGESTORE_KEY_SIZE] = "the secret of one partition, 32";
static const uint8_t first_id[LPM_PAGESTORE_ID_SIZE] = "first move";
static const uint8_t second_id[LPM_PAGESTORE_ID_SIZE] = "second move";

/* --- a sparse file in memory --- */

typedef struct {
    off_t offset;
    size_t size; /* 0: cut to @offset bytes */
    uint8_t *data;
    bool sync;
} Op;

typedef struct {
    GHashTable *sectors; /* number -> SECTOR bytes */
    GArray *log;         /* of Op, when wanted */
    off_t size;
    int fail_writes_after; /* -1: never */
} File;

static void op_clear(gpointer op)
{
    g_free(((Op *)op)->data);
}

static File *file_new(void)
{
    File *file = g_new0(File, 1);
    file->sectors = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    file->fail_writes_after = -1;
    return file;
}

static void file_free(File *file)
{
    g_hash_table_unref(file->sectors);
    if (file->log)
        g_array_unref(file->log);
    g_free(file);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(File, file_free)

static uint8_t *sector_of(File *file, off_t offset, bool make)
{
    gint64 number = offset / SECTOR;
    uint8_t *sector = g_hash_table_lookup(file->sectors, &number);
    if (!sector && make) {
        sector = g_malloc0(SECTOR);
        g_hash_table_insert(file->sectors, g_memdup2(&number, sizeof number), sector);
    }
    return sector;
}

/* Sectors for which @mask says so; all when it is NULL. */
static void apply(File *file, const uint8_t *data, size_t size, off_t offset, GRand *mask)
{
    g_assert_cmpint(offset % SECTOR, ==, 0);
    for (size_t at = 0; at < size; at += SECTOR) {
        size_t n = MIN((size_t)SECTOR, size - at);
        if (!mask || g_rand_boolean(mask))
            memcpy(sector_of(file, offset + (off_t)at, true), data + at, n);
    }
    file->size = MAX(file->size, offset + (off_t)size);
}

static void cut_to(File *file, off_t size)
{
    g_assert_cmpint(size, ==, 0);
    g_hash_table_remove_all(file->sectors);
    file->size = 0;
}

static void record(File *file, Op op)
{
    if (file->log)
        g_array_append_val(file->log, op);
    else
        g_free(op.data);
}

static ssize_t mem_pread(void *context, void *out, size_t size, off_t offset)
{
    File *file = context;
    if (offset >= file->size)
        return 0;
    size = MIN(size, (size_t)(file->size - offset));
    size = MIN(size, (size_t)(SECTOR - offset % SECTOR) + 7 * SECTOR); /* short reads happen */
    for (size_t at = 0; at < size;) {
        size_t in = (size_t)(offset + (off_t)at) % SECTOR, n = MIN(SECTOR - in, size - at);
        const uint8_t *sector = sector_of(file, offset + (off_t)at, false);
        if (sector)
            memcpy((uint8_t *)out + at, sector + in, n);
        else
            memset((uint8_t *)out + at, 0, n);
        at += n;
    }
    return (ssize_t)size;
}

static ssize_t mem_pwrite(void *context, const void *data, size_t size, off_t offset)
{
    File *file = context;
    if (file->fail_writes_after == 0) {
        errno = ENOSPC;
        return -1;
    }
    if (file->fail_writes_after > 0)
        file->fail_writes_after--;
    apply(file, data, size, offset, NULL);
    record(file, (Op){offset, size, g_memdup2(data, size), false});
    return (ssize_t)size;
}

static int mem_fdatasync(void *context)
{
    record(context, (Op){.sync = true});
    return 0;
}

static int mem_ftruncate(void *context, off_t size)
{
    cut_to(context, size);
    record(context, (Op){.offset = size});
    return 0;
}

static LpmPagestore *open_file(File *file, const uint8_t *with_key)
{
    const LpmPagestoreIo io = {file, mem_pread, mem_pwrite, mem_fdatasync, mem_ftruncate};
    LpmPagestore *store = lpm_pagestore_open_io(&io, with_key);
    g_assert_nonnull(store);
    return store;
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(LpmPagestore, lpm_pagestore_free)

/* --- pages and what is expected of them --- */

/* Page number @seed of all possible ones; 0 is the page of zeros. */
static void fill(uint8_t *page, uint32_t seed)
{
    memset(page, 0, PAGE);
    for (unsigned i = 0; seed != 0 && i < PAGE; i += 4)
        memcpy(page + i, &(uint32_t){seed * 2654435761u + i}, 4);
}

static void keep(LpmPagestore *store, uint32_t block, uint64_t first, uint32_t n, uint32_t seed)
{
    const LpmCodecImage *image = lpm_pagestore_image(store);
    g_autofree uint8_t *data = g_malloc((size_t)n * PAGE);
    g_autofree const uint8_t **pages = g_new(const uint8_t *, n);
    g_autofree uint8_t *digests = g_malloc((size_t)n * LPM_CODEC_DIGEST_SIZE);
    for (uint32_t i = 0; i < n; i++) {
        pages[i] = data + (size_t)i * PAGE;
        fill(data + (size_t)i * PAGE, seed + i);
        image->hash(image->context, pages[i], digests + (size_t)i * LPM_CODEC_DIGEST_SIZE);
    }
    image->keep(image->context, block, first, n, pages,
                (const uint8_t(*)[LPM_CODEC_DIGEST_SIZE])digests);
}

typedef enum { NOTHING, RIGHT, MISS } Found;

/* What is held at a place, which must be @seed or nothing. */
static Found look(LpmPagestore *store, uint32_t block, uint64_t page, uint32_t seed)
{
    const LpmCodecImage *image = lpm_pagestore_image(store);
    uint8_t wanted[PAGE], found[PAGE], digest[LPM_CODEC_DIGEST_SIZE], of[LPM_CODEC_DIGEST_SIZE];
    if (!image->digest(image->context, block, page, digest)) {
        g_assert_false(image->content(image->context, block, page, found));
        return NOTHING;
    }
    if (!image->content(image->context, block, page, found))
        return MISS;
    fill(wanted, seed);
    g_assert_cmpmem(found, PAGE, wanted, PAGE);
    image->hash(image->context, found, of);
    g_assert_cmpmem(digest, sizeof digest, of, sizeof of);
    return RIGHT;
}

#define RAM (UINT64_C(40) * 1024 * 1024)

/* The move after which there is something to come back to. */
static void first_move(LpmPagestore *store)
{
    const LpmCodecImage *image = lpm_pagestore_image(store);
    g_assert_true(lpm_pagestore_begin(store, false));
    g_assert_true(image->add_block(image->context, 0, "pc.ram", RAM));
    g_assert_true(image->add_block(image->context, 1, "vga.vram", 5 * PAGE));
    keep(store, 0, 0, 150, 1000);
    keep(store, 0, 4090, 20, 2000); /* over the end of a list */
    keep(store, 1, 0, 5, 3000);
    image->keep(image->context, 0, 5000, 3000, NULL, NULL);
    image->forget(image->context, 0, 10, 3);
    g_assert_true(lpm_pagestore_seal(store, first_id, NULL));
}

static void second_blocks(LpmPagestore *store)
{
    const LpmCodecImage *image = lpm_pagestore_image(store);
    g_assert_true(image->add_block(image->context, 0, "vga.vram", 5 * PAGE));
    g_assert_true(image->add_block(image->context, 1, "pc.ram", RAM));
}

static void check_first(LpmPagestore *store)
{
    for (uint32_t i = 0; i < 150; i++)
        g_assert_cmpint(look(store, 1, i, 1000 + i), ==, i >= 10 && i < 13 ? NOTHING : RIGHT);
    for (uint32_t i = 0; i < 20; i++)
        g_assert_cmpint(look(store, 1, 4090 + i, 2000 + i), ==, RIGHT);
    for (uint32_t i = 0; i < 5; i++)
        g_assert_cmpint(look(store, 0, i, 3000 + i), ==, RIGHT);
    g_assert_cmpint(look(store, 1, 5000, 0), ==, RIGHT);
    g_assert_cmpint(look(store, 1, 7999, 0), ==, RIGHT);
    g_assert_cmpint(look(store, 1, 8000, 0), ==, NOTHING);
    g_assert_cmpint(look(store, 1, RAM / PAGE, 0), ==, NOTHING);
    g_assert_cmpint(look(store, 2, 0, 0), ==, NOTHING);
}

/* --- tests --- */

static void test_round(void)
{
    g_autoptr(File) file = file_new();
    g_autoptr(LpmPagestore) store = open_file(file, key);
    LpmPagestoreInfo info;
    g_assert_false(lpm_pagestore_sealed(store, &info));
    first_move(store);
    g_clear_pointer(&store, lpm_pagestore_free);

    store = open_file(file, key);
    g_assert_true(lpm_pagestore_sealed(store, &info));
    g_assert_cmpmem(info.id, sizeof info.id, first_id, sizeof first_id);
    g_assert_cmpuint(info.generation, ==, 1);
    g_assert_cmpuint(info.held, ==, 150 - 3 + 20 + 5 + 3000);
    g_assert_cmpuint(info.zero, ==, 3000);
    g_assert_cmpint(look(store, 0, 0, 0), ==, NOTHING); /* before begin */
    g_assert_true(lpm_pagestore_begin(store, true));
    g_assert_false(lpm_pagestore_sealed(store, NULL));
    second_blocks(store);
    check_first(store);
    keep(store, 1, 5000, 1, 77); /* where zeros were */
    g_assert_true(lpm_pagestore_seal(store, second_id, &info));
    g_assert_cmpuint(info.generation, ==, 2);
    g_assert_cmpuint(info.zero, ==, 2999);
    g_assert_cmpint(look(store, 0, 0, 0), ==, NOTHING); /* after seal */
}

static void test_unsealed_is_empty(void)
{
    g_autoptr(File) file = file_new();
    g_autoptr(LpmPagestore) store = open_file(file, key);
    first_move(store);
    g_assert_true(lpm_pagestore_begin(store, true));
    g_clear_pointer(&store, lpm_pagestore_free);
    store = open_file(file, key);
    g_assert_false(lpm_pagestore_sealed(store, NULL));
    g_assert_false(lpm_pagestore_seal(store, first_id, NULL)); /* not begun */
    g_assert_true(lpm_pagestore_begin(store, true));
    const LpmCodecImage *image = lpm_pagestore_image(store);
    g_assert_true(image->add_block(image->context, 0, "pc.ram", RAM));
    g_assert_cmpint(look(store, 0, 0, 0), ==, NOTHING);
}

/* Both sides reach the same root by the same changes, whatever their files held before. */
static void test_root(void)
{
    g_autoptr(File) a_file = file_new(), b_file = file_new();
    g_autoptr(LpmPagestore) a = open_file(a_file, key), b = open_file(b_file, key);
    LpmPagestoreInfo of_a, of_b;
    first_move(a);
    keep(b, 0, 0, 1, 5); /* not begun: nothing */
    g_assert_true(lpm_pagestore_begin(b, false));
    keep(b, 0, 0, 1, 5); /* a block that was not added */
    first_move(b);
    g_assert_true(lpm_pagestore_sealed(a, &of_a) && lpm_pagestore_sealed(b, &of_b));
    g_assert_cmpmem(of_a.root, sizeof of_a.root, of_b.root, sizeof of_b.root);
    g_assert_true(lpm_pagestore_begin(b, true));
    second_blocks(b);
    keep(b, 1, 3, 1, 4);
    g_assert_true(lpm_pagestore_seal(b, first_id, &of_b));
    g_assert_cmpint(memcmp(of_a.root, of_b.root, sizeof of_a.root), !=, 0);
}

static void test_other_key(void)
{
    static const uint8_t other[LPM_PAGESTORE_KEY_SIZE] = "another key";
    g_autoptr(File) file = file_new();
    g_autoptr(LpmPagestore) store = open_file(file, key);
    uint8_t page[PAGE], one[LPM_CODEC_DIGEST_SIZE], two[LPM_CODEC_DIGEST_SIZE];
    first_move(store);
    g_autoptr(LpmPagestore) stranger = open_file(file, other);
    g_assert_false(lpm_pagestore_sealed(stranger, NULL));
    fill(page, 9);
    lpm_pagestore_image(store)->hash(store, page, one);
    lpm_pagestore_image(stranger)->hash(stranger, page, two);
    g_assert_cmpint(memcmp(one, two, sizeof one), !=, 0);
    fill(page, 0);
    lpm_pagestore_image(store)->hash(store, page, one);
    memset(two, 0, sizeof two);
    g_assert_cmpmem(one, sizeof one, two, sizeof two);
}

/* No page of the partition, and no digest, lies in the file as it is. */
static void test_encrypted(void)
{
    g_autoptr(File) file = file_new();
    g_autoptr(LpmPagestore) store = open_file(file, key);
    GHashTableIter iter;
    gpointer sector;
    uint8_t page[PAGE], digest[LPM_CODEC_DIGEST_SIZE];
    first_move(store);
    g_hash_table_iter_init(&iter, file->sectors);
    while (g_hash_table_iter_next(&iter, NULL, &sector)) {
        for (uint32_t i = 0; i < 150; i++) {
            fill(page, 1000 + i);
            g_assert_null(memmem(sector, SECTOR, page, 16));
        }
        lpm_pagestore_image(store)->hash(store, page, digest);
        g_assert_null(memmem(sector, SECTOR, digest, sizeof digest));
    }
}

static void test_blocks(void)
{
    g_autoptr(File) file = file_new();
    g_autoptr(LpmPagestore) store = open_file(file, key);
    const LpmCodecImage *image = lpm_pagestore_image(store);
    first_move(store);
    g_assert_true(lpm_pagestore_begin(store, true));
    g_assert_true(image->add_block(image->context, 0, "pc.ram", RAM + PAGE)); /* grown: anew */
    g_assert_cmpint(look(store, 0, 0, 0), ==, NOTHING);
    keep(store, 0, RAM / PAGE, 1, 6);
    g_assert_cmpint(look(store, 0, RAM / PAGE, 6), ==, RIGHT);
    g_assert_true(image->add_block(image->context, 1, "vga.vram", 5 * PAGE));
    g_assert_false(image->add_block(image->context, 2, "vga.vram", 5 * PAGE)); /* twice */
    g_assert_cmpint(look(store, 2, 0, 3000), ==, NOTHING);
    g_assert_cmpint(look(store, 1, 0, 3000), ==, RIGHT);
    g_assert_false(image->add_block(image->context, 3, "too big", UINT64_MAX));
    keep(store, 3, 0, 1, 6);
    g_assert_cmpint(look(store, 3, 0, 6), ==, NOTHING);
    g_assert_false(image->add_block(image->context, LPM_QSTREAM_BLOCKS_MAX, "many", PAGE));
    g_assert_true(lpm_pagestore_seal(store, second_id, NULL));
    g_clear_pointer(&store, lpm_pagestore_free);
    store = open_file(file, key);
    image = lpm_pagestore_image(store);
    g_assert_true(lpm_pagestore_begin(store, true));
    g_assert_true(image->add_block(image->context, 0, "pc.ram", RAM + PAGE));
    g_assert_cmpint(look(store, 0, RAM / PAGE, 6), ==, RIGHT);
}

/* More lists than stay in memory: what was dropped comes back. */
static void test_large(void)
{
    const uint64_t step = 4096, lists = 200;
    g_autoptr(File) file = file_new();
    g_autoptr(LpmPagestore) store = open_file(file, key);
    const LpmCodecImage *image = lpm_pagestore_image(store);
    LpmPagestoreInfo info;
    g_assert_true(lpm_pagestore_begin(store, false));
    image->add_block(image->context, 0, "pc.ram", UINT64_C(1) << 40);
    for (unsigned round = 0; round < 2; round++)
        for (uint64_t i = 0; i < lists; i++)
            keep(store, 0, i * step * 1000 + round, 1, (uint32_t)(i + 1 + round * 1000));
    for (uint64_t i = 0; i < lists; i++)
        if (i * step * 1000 < (UINT64_C(1) << 28))
            g_assert_cmpint(look(store, 0, i * step * 1000 + 1, (uint32_t)(i + 1001)), ==, RIGHT);
    g_assert_true(lpm_pagestore_seal(store, first_id, &info));
    g_assert_cmpuint(info.held, ==, 2 * ((UINT64_C(1) << 28) / (step * 1000) + 1));
    g_assert_cmpuint(lpm_pagestore_counts(store)->lists_lost, ==, 0);
}

/* --- damage --- */

/* One byte of each sector in turn: what was held is right or not held, and never wrong. */
static void test_corruption(void)
{
    g_autoptr(File) file = file_new();
    g_autoptr(LpmPagestore) store = open_file(file, key);
    unsigned unsealed = 0, lists_lost = 0, pages_damaged = 0;
    first_move(store);
    g_autoptr(GList) numbers = g_hash_table_get_keys(file->sectors);
    for (GList *item = numbers; item; item = item->next) {
        g_autoptr(File) copy = file_new();
        GHashTableIter iter;
        gpointer number, sector;
        g_hash_table_iter_init(&iter, file->sectors);
        while (g_hash_table_iter_next(&iter, &number, &sector))
            apply(copy, sector, SECTOR, *(gint64 *)number * SECTOR, NULL);
        copy->size = file->size;
        sector_of(copy, *(gint64 *)item->data * SECTOR, true)[*(gint64 *)item->data % 61] ^= 4;
        g_autoptr(LpmPagestore) damaged = open_file(copy, key);
        if (!lpm_pagestore_sealed(damaged, NULL)) {
            unsealed++;
            continue;
        }
        g_assert_true(lpm_pagestore_begin(damaged, true));
        second_blocks(damaged);
        for (uint32_t i = 0; i < 150; i++)
            look(damaged, 1, i, 1000 + i);
        for (uint32_t i = 0; i < 20; i++)
            look(damaged, 1, 4090 + i, 2000 + i);
        for (uint32_t i = 0; i < 5; i++)
            look(damaged, 0, i, 3000 + i);
        look(damaged, 1, 5000, 0);
        const LpmPagestoreCounts *counts = lpm_pagestore_counts(damaged);
        g_assert_cmpuint(counts->lists_lost + counts->damaged, <=, 1);
        lists_lost += (unsigned)counts->lists_lost;
        pages_damaged += (unsigned)counts->damaged;
    }
    /* Header and the table's sector; three lists of digests; 175 pages written, three forgotten. */
    g_assert_cmpuint(unsealed, ==, 32 * 1024 / SECTOR + 1);
    g_assert_cmpuint(lists_lost, ==, 3 * 65536 / SECTOR);
    g_assert_cmpuint(pages_damaged, ==, (150 - 3 + 20 + 5) * PAGE / SECTOR);
}

/* A full disk: no image, no harm. */
static void test_full(void)
{
    for (int after = 0; after < 12; after++) {
        g_autoptr(File) file = file_new();
        g_autoptr(LpmPagestore) store = open_file(file, key);
        const LpmCodecImage *image = lpm_pagestore_image(store);
        first_move(store);
        file->fail_writes_after = after;
        if (lpm_pagestore_begin(store, true)) {
            second_blocks(store);
            keep(store, 1, 0, 150, 9000);
            for (uint32_t i = 0; i < 150; i++)
                g_assert_cmpint(look(store, 1, i, 9000 + i), !=, NOTHING);
            image->forget(image->context, 1, 4090, 10);
        }
        bool sealed = lpm_pagestore_seal(store, second_id, NULL);
        g_assert_true(!sealed || file->fail_writes_after >= 0);
        file->fail_writes_after = -1;
        g_autoptr(LpmPagestore) again = open_file(file, key);
        g_assert_cmpint(lpm_pagestore_sealed(again, NULL), ==, sealed || after == 0);
    }
}

/* --- power cuts --- */

/*
 * The file after a cut before operation @until: what was synced is there, of the rest some sectors
 * are, as @mask has it (NULL: all).
 */
static File *after_cut(const GArray *log, guint until, GRand *mask)
{
    File *file = file_new();
    guint synced = 0;
    for (guint i = 0; i < until; i++)
        if (g_array_index(log, Op, i).sync)
            synced = i;
    for (guint i = 0; i < until; i++) {
        const Op *op = &g_array_index(log, Op, i);
        if (op->sync)
            continue;
        if (op->size == 0)
            cut_to(file, op->offset);
        else
            apply(file, op->data, op->size, op->offset, i > synced ? mask : NULL);
    }
    return file;
}

/* What a page must be in the first image or in the second. */
static void check_cut(File *file, guint until)
{
    g_autoptr(LpmPagestore) store = open_file(file, key);
    LpmPagestoreInfo info;
    if (!lpm_pagestore_sealed(store, &info))
        return;
    bool second = memcmp(info.id, second_id, sizeof info.id) == 0;
    g_assert_true(second || memcmp(info.id, first_id, sizeof info.id) == 0);
    g_assert_cmpuint(until, >, 0);
    g_assert_true(lpm_pagestore_begin(store, true));
    second_blocks(store);
    for (uint32_t i = 0; i < 150; i++)
        look(store, 1, i, (second && i >= 100 ? 8000 : 1000) + i);
    for (uint32_t i = 0; i < 20; i++)
        look(store, 1, 4090 + i, (second ? 7000 : 2000) + i);
    for (uint32_t i = 0; i < 5; i++)
        look(store, 0, i, 3000 + i);
    for (uint32_t i = 5000; i < 8000; i += 500)
        look(store, 1, i, 0);
}

static void test_cuts(void)
{
    g_autoptr(File) file = file_new();
    g_autoptr(LpmPagestore) store = open_file(file, key);
    g_autoptr(GRand) rand = g_rand_new_with_seed(20261122);
    const LpmCodecImage *image = lpm_pagestore_image(store);
    file->log = g_array_new(FALSE, TRUE, sizeof(Op));
    g_array_set_clear_func(file->log, op_clear);
    first_move(store);
    guint first = file->log->len;
    g_assert_true(lpm_pagestore_begin(store, true));
    second_blocks(store);
    keep(store, 1, 100, 50, 8100);
    keep(store, 1, 4090, 20, 7000);
    image->forget(image->context, 1, 6000, 10);
    g_assert_true(lpm_pagestore_seal(store, second_id, NULL));
    for (guint until = 0; until <= file->log->len; until++) {
        for (unsigned round = 0; round < 6; round++) {
            g_autoptr(File) cut = after_cut(file->log, until, round > 0 ? rand : NULL);
            check_cut(cut, until);
        }
    }
    /* Whole before, and whole after. */
    g_autoptr(File) before = after_cut(file->log, first, NULL);
    g_autoptr(LpmPagestore) old = open_file(before, key);
    g_assert_true(lpm_pagestore_sealed(old, NULL));
    g_assert_true(lpm_pagestore_begin(old, true));
    second_blocks(old);
    check_first(old);
}

/* --- a real file --- */

static void test_descriptor(void)
{
    g_autofree char *path = g_build_filename(g_get_tmp_dir(), "lpm-pagestore-XXXXXX", NULL);
    int fd = g_mkstemp(path);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(unlink(path), ==, 0);
    g_autoptr(LpmPagestore) store = lpm_pagestore_open(fd, key);
    first_move(store);
    g_clear_pointer(&store, lpm_pagestore_free);
    store = lpm_pagestore_open(fd, key);
    g_assert_true(lpm_pagestore_begin(store, true));
    second_blocks(store);
    check_first(store);
    g_clear_pointer(&store, lpm_pagestore_free);
    close(fd);
}

/* Prints what a page costs: `test-pagestore -m perf`. */
static void test_cost(void)
{
    enum { PAGES = 64 * 1024, RUN = 64 };
    if (!g_test_perf())
        return;
    g_autofree char *path = g_build_filename(g_get_tmp_dir(), "lpm-pagestore-XXXXXX", NULL);
    int fd = g_mkstemp(path);
    g_assert_cmpint(unlink(path), ==, 0);
    g_autoptr(LpmPagestore) store = lpm_pagestore_open(fd, key);
    const LpmCodecImage *image = lpm_pagestore_image(store);
    g_autofree uint8_t *data = g_malloc(RUN * PAGE);
    const uint8_t *pages[RUN];
    uint8_t digests[RUN][LPM_CODEC_DIGEST_SIZE], page[PAGE];
    for (uint32_t i = 0; i < RUN; i++) {
        pages[i] = data + (size_t)i * PAGE;
        fill(data + (size_t)i * PAGE, i + 1);
        image->hash(store, pages[i], digests[i]);
    }
    g_assert_true(lpm_pagestore_begin(store, false));
    image->add_block(store, 0, "pc.ram", (uint64_t)PAGES * PAGE);
    for (unsigned round = 0; round < 3; round++) {
        g_test_timer_start();
        for (uint32_t at = 0; at < PAGES; at += RUN)
            image->keep(store, 0, at, RUN, pages, (const uint8_t(*)[16])digests);
        g_test_message("keep: %.0f ns a page", g_test_timer_elapsed() * 1e9 / PAGES);
    }
    g_test_timer_start();
    for (uint32_t at = 0; at < PAGES; at++)
        g_assert_true(image->digest(store, 0, at, digests[0]));
    g_test_message("digest: %.0f ns a page", g_test_timer_elapsed() * 1e9 / PAGES);
    g_test_timer_start();
    for (uint32_t at = 0; at < PAGES; at++)
        image->hash(store, pages[at % RUN], digests[0]);
    g_test_message("hash: %.0f ns a page", g_test_timer_elapsed() * 1e9 / PAGES);
    g_test_timer_start();
    for (uint32_t at = 0; at < PAGES; at++)
        g_assert_true(image->content(store, 0, at, page));
    g_test_message("content: %.0f ns a page", g_test_timer_elapsed() * 1e9 / PAGES);
    g_test_timer_start();
    g_assert_true(lpm_pagestore_seal(store, first_id, NULL));
    g_test_message("seal of 256 MiB: %.0f ms", g_test_timer_elapsed() * 1e3);
    close(fd);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pagestore/round", test_round);
    g_test_add_func("/pagestore/unsealed-is-empty", test_unsealed_is_empty);
    g_test_add_func("/pagestore/root", test_root);
    g_test_add_func("/pagestore/other-key", test_other_key);
    g_test_add_func("/pagestore/encrypted", test_encrypted);
    g_test_add_func("/pagestore/blocks", test_blocks);
    g_test_add_func("/pagestore/large", test_large);
    g_test_add_func("/pagestore/corruption", test_corruption);
    g_test_add_func("/pagestore/full", test_full);
    g_test_add_func("/pagestore/cuts", test_cuts);
    g_test_add_func("/pagestore/descriptor", test_descriptor);
    g_test_add_func("/pagestore/cost", test_cost);
    return g_test_run();
}
