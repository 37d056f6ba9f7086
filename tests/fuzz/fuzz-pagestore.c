/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image's file from someone who writes there what he likes: first a sealed image of two blocks,
 * then changes at places that the input names. Whatever is held is one of the pages that went in. A
 * page that never went in, out of a file that anybody altered, would be a wrong page of a
 * partition's memory.
 */
#include "pagestore/pagestore.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    PAGE = 4096,
    PAGES = 24,
    RAM_PAGES = 5000,
    HEADER = 32 * 1024,
    CHANGES_MAX = 64,
    LENGTH_MAX = 32,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t key[LPM_PAGESTORE_KEY_SIZE] = "fuzz";
static const uint8_t id[LPM_PAGESTORE_ID_SIZE] = "sealed";

/* Page @at is all of one byte. */
static uint8_t byte_of(uint64_t at)
{
    return (uint8_t)(at % PAGES + 1);
}

static uint8_t sealed_header[HEADER];

/* Once; every run undoes what it changed. */
static int make_image(void)
{
    int fd = memfd_create("image", MFD_CLOEXEC);
    LpmPagestore *store = lpm_pagestore_open(fd, key);
    const LpmCodecImage *image = lpm_pagestore_image(store);
    uint8_t page[PAGE], digest[1][LPM_CODEC_DIGEST_SIZE];
    const uint8_t *const pages[] = {page};
    if (!lpm_pagestore_begin(store, false))
        abort();
    image->add_block(store, 0, "pc.ram", (uint64_t)RAM_PAGES * PAGE);
    image->add_block(store, 1, "vga", (uint64_t)PAGES * PAGE);
    for (uint64_t i = 0; i < PAGES; i++) {
        memset(page, byte_of(i), PAGE);
        image->hash(store, page, digest[0]);
        image->keep(store, 0, i * 200, 1, pages, (const uint8_t(*)[LPM_CODEC_DIGEST_SIZE])digest);
        image->keep(store, 1, i, 1, pages, (const uint8_t(*)[LPM_CODEC_DIGEST_SIZE])digest);
    }
    if (!lpm_pagestore_seal(store, id, NULL) || pread(fd, sealed_header, HEADER, 0) != HEADER)
        abort();
    lpm_pagestore_free(store);
    return fd;
}

/* Where something lies that is worth a change; the content of every 200th page begins there. */
static const uint64_t areas[] = {
    0,
    32 << 10,
    4 << 20,
    (4 << 20) + 65536,
    (4 << 20) + 2 * 65536,
    (4 << 20) + (UINT64_C(8) << 30),
    (4 << 20) + (UINT64_C(8) << 30) + 200 * PAGE,
};

typedef struct {
    off_t place;
    size_t length;
    uint8_t before[LENGTH_MAX];
} Change;

/* Each change: one byte of area, three of place, one of length, then so many bytes. */
static size_t alter(int fd, const uint8_t *data, size_t size, Change changes[CHANGES_MAX])
{
    size_t n = 0;
    for (; size > 5 && n < CHANGES_MAX; n++) {
        uint64_t place = areas[data[0] % (sizeof(areas) / sizeof(areas[0]))];
        size_t length = data[4] % LENGTH_MAX + 1u;
        place += (uint64_t)data[1] << 16 | (uint64_t)data[2] << 8 | data[3];
        data += 5;
        size -= 5;
        length = length < size ? length : size;
        changes[n] = (Change){.place = (off_t)place, .length = length};
        if (pread(fd, changes[n].before, length, (off_t)place) < 0 ||
            pwrite(fd, data, length, (off_t)place) < 0)
            abort();
        data += length;
        size -= length;
    }
    return n;
}

static void undo(int fd, const Change *changes, size_t n)
{
    while (n-- > 0)
        if (pwrite(fd, changes[n].before, changes[n].length, changes[n].place) < 0)
            abort();
    if (pwrite(fd, sealed_header, HEADER, 0) < 0)
        abort();
}

static void check_page(const LpmCodecImage *image, uint32_t block, uint64_t page, uint64_t i)
{
    uint8_t found[PAGE], wanted[PAGE];
    memset(wanted, byte_of(i), PAGE);
    if (image->content(image->context, block, page, found) && memcmp(found, wanted, PAGE) != 0)
        abort();
}

/* A header of somebody else's making, and nothing behind it. */
static void check_header(const uint8_t *data, size_t size)
{
    static int fd = -1;
    if (fd < 0)
        fd = memfd_create("header", MFD_CLOEXEC);
    if (fd < 0 || pwrite(fd, data, size, 0) < 0)
        abort();
    LpmPagestore *store = lpm_pagestore_open(fd, key);
    if (lpm_pagestore_sealed(store, NULL))
        abort();
    lpm_pagestore_free(store);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static Change changes[CHANGES_MAX];
    if (size == 0)
        return 0;
    if (data[0] & 0x80) {
        check_header(data + 1, size - 1);
        return 0;
    }
    if (fd < 0)
        fd = make_image();
    size_t n = alter(fd, data + 1, size - 1, changes);
    LpmPagestore *store = lpm_pagestore_open(fd, key);
    const LpmCodecImage *image = lpm_pagestore_image(store);
    if (n == 0 && !lpm_pagestore_sealed(store, NULL))
        abort();
    if (lpm_pagestore_sealed(store, NULL) && lpm_pagestore_begin(store, true)) {
        image->add_block(store, 0, "pc.ram", (uint64_t)RAM_PAGES * PAGE);
        image->add_block(store, 1, "vga", (uint64_t)PAGES * PAGE);
        for (uint64_t i = 0; i < PAGES; i++) {
            check_page(image, 0, i * 200, i);
            check_page(image, 1, i, i);
        }
    }
    lpm_pagestore_free(store);
    undo(fd, changes, n);
    return 0;
}
