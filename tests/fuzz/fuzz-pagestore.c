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

enum { PAGE = 4096, PAGES = 24, RAM_PAGES = 5000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t key[LPM_PAGESTORE_KEY_SIZE] = "fuzz";
static const uint8_t id[LPM_PAGESTORE_ID_SIZE] = "sealed";

/* Page @at is all of one byte. */
static uint8_t byte_of(uint64_t at)
{
    return (uint8_t)(at % PAGES + 1);
}

static void make_image(int fd)
{
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
    if (!lpm_pagestore_seal(store, id, NULL))
        abort();
    lpm_pagestore_free(store);
}

/* Each change: five bytes of place, one of length, then so many bytes. */
static void alter(int fd, const uint8_t *data, size_t size)
{
    while (size > 6) {
        uint64_t place = 0;
        memcpy(&place, data, 5);
        size_t length = data[5] % 32u + 1u;
        data += 6;
        size -= 6;
        length = length < size ? length : size;
        place %= UINT64_C(9) << 30;
        if (pwrite(fd, data, length, (off_t)place) < 0)
            abort();
        data += length;
        size -= length;
    }
}

static void check_page(const LpmCodecImage *image, uint32_t block, uint64_t page, uint64_t i)
{
    uint8_t found[PAGE], wanted[PAGE];
    memset(wanted, byte_of(i), PAGE);
    if (image->content(image->context, block, page, found) && memcmp(found, wanted, PAGE) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    if (fd < 0)
        fd = memfd_create("image", MFD_CLOEXEC);
    if (fd < 0 || size == 0)
        return 0;
    if (data[0] & 1) {
        make_image(fd);
        alter(fd, data + 1, size - 1);
    } else if (ftruncate(fd, 0) != 0 || pwrite(fd, data + 1, size - 1, 0) < 0) {
        abort();
    }
    LpmPagestore *store = lpm_pagestore_open(fd, key);
    const LpmCodecImage *image = lpm_pagestore_image(store);
    if (!lpm_pagestore_begin(store, true))
        abort();
    image->add_block(store, 0, "pc.ram", (uint64_t)RAM_PAGES * PAGE);
    image->add_block(store, 1, "vga", (uint64_t)PAGES * PAGE);
    for (uint64_t i = 0; i < PAGES; i++) {
        check_page(image, 0, i * 200, i);
        check_page(image, 1, i, i);
    }
    lpm_pagestore_seal(store, id, NULL);
    lpm_pagestore_free(store);
    return 0;
}
