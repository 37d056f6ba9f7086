/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/memory.h"

#include <stdlib.h>
#include <string.h>
#include <xxh_x86dispatch.h>

enum { PAGE = LPM_QSTREAM_PAGE_SIZE };
#define LENGTH_MAX (1ull << 46) /* bytes of one block: what a process can address */

/* Large allocations take memory only where they are touched. */
typedef struct {
    char name[LPM_QSTREAM_NAME_MAX + 1];
    uint64_t pages;
    uint8_t *held;
    uint8_t (*digest)[LPM_CODEC_DIGEST_SIZE];
    uint8_t *content;
} Block;

struct LpmCodecMemory {
    uint64_t seed;
    LpmCodecImage image;
    uint32_t n;
    Block block[LPM_QSTREAM_BLOCKS_MAX];
    Block *numbered[LPM_QSTREAM_BLOCKS_MAX]; /* by the numbers of this migration */
};

static void drop(Block *block)
{
    free(block->held);
    free(block->digest);
    free(block->content);
    *block = (Block){0};
}

static Block *find(LpmCodecMemory *memory, const char *name, uint64_t pages)
{
    for (uint32_t i = 0; i < memory->n; i++) {
        if (memory->block[i].pages == pages && strcmp(memory->block[i].name, name) == 0)
            return &memory->block[i];
    }
    return NULL;
}

static bool add_block(void *context, uint32_t number, const char *name, uint64_t length)
{
    LpmCodecMemory *memory = context;
    uint64_t pages = length / PAGE + (length % PAGE != 0);
    Block *block = find(memory, name, pages);
    if (!block) {
        if (length > LENGTH_MAX || memory->n == LPM_QSTREAM_BLOCKS_MAX)
            return false;
        block = &memory->block[memory->n];
        strncpy(block->name, name, LPM_QSTREAM_NAME_MAX);
        block->pages = pages;
        block->held = calloc(pages, 1);
        block->digest = calloc(pages, LPM_CODEC_DIGEST_SIZE);
        block->content = calloc(pages, PAGE);
        if (!block->held || !block->digest || !block->content) {
            drop(block);
            return false;
        }
        memory->n++;
    }
    memory->numbered[number] = block;
    return true;
}

static bool is_zero(const uint8_t *page)
{
    return page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0;
}

static void hash(void *context, const uint8_t *page, uint8_t ret_digest[LPM_CODEC_DIGEST_SIZE])
{
    const LpmCodecMemory *memory = context;
    XXH128_canonical_t canonical;
    memset(ret_digest, 0, LPM_CODEC_DIGEST_SIZE);
    if (is_zero(page))
        return;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_withSeed(page, PAGE, memory->seed));
    memcpy(ret_digest, canonical.digest, LPM_CODEC_DIGEST_SIZE);
    ret_digest[0] |= 1;
}

/* The block, when the place is in it and held. */
static const Block *held(const LpmCodecMemory *memory, uint32_t number, uint64_t page)
{
    const Block *block = number < LPM_QSTREAM_BLOCKS_MAX ? memory->numbered[number] : NULL;
    return block && page < block->pages && block->held[page] ? block : NULL;
}

static bool digest(void *context, uint32_t number, uint64_t page,
                   uint8_t ret_digest[LPM_CODEC_DIGEST_SIZE])
{
    const Block *block = held(context, number, page);
    if (block)
        memcpy(ret_digest, block->digest[page], LPM_CODEC_DIGEST_SIZE);
    return block != NULL;
}

static bool content(void *context, uint32_t number, uint64_t page, uint8_t *ret_page)
{
    const Block *block = held(context, number, page);
    if (block)
        memcpy(ret_page, block->content + page * PAGE, PAGE);
    return block != NULL;
}

static void keep(void *context, uint32_t number, uint64_t first, uint32_t n,
                 const uint8_t *const *pages, const uint8_t (*digests)[LPM_CODEC_DIGEST_SIZE])
{
    LpmCodecMemory *memory = context;
    Block *block = memory->numbered[number];
    for (uint32_t i = 0; block && i < n; i++) {
        uint64_t page = first + i;
        if (pages) {
            memcpy(block->content + page * PAGE, pages[i], PAGE);
            memcpy(block->digest[page], digests[i], LPM_CODEC_DIGEST_SIZE);
        } else if (block->held[page]) {
            memset(block->content + page * PAGE, 0, PAGE);
            memset(block->digest[page], 0, LPM_CODEC_DIGEST_SIZE);
        }
        block->held[page] = 1;
    }
}

static void forget(void *context, uint32_t number, uint64_t first, uint32_t n)
{
    LpmCodecMemory *memory = context;
    Block *block = memory->numbered[number];
    for (uint64_t page = first; block && page < first + n; page++) {
        if (block->held[page]) {
            memset(block->content + page * PAGE, 0, PAGE);
            memset(block->digest[page], 0, LPM_CODEC_DIGEST_SIZE);
        }
        block->held[page] = 0;
    }
}

LpmCodecMemory *lpm_codec_memory_new(uint64_t seed)
{
    LpmCodecMemory *memory = calloc(1, sizeof(*memory));
    if (!memory)
        return NULL;
    memory->seed = seed;
    memory->image = (LpmCodecImage){.context = memory,
                                    .add_block = add_block,
                                    .hash = hash,
                                    .digest = digest,
                                    .content = content,
                                    .keep = keep,
                                    .forget = forget};
    return memory;
}

void lpm_codec_memory_free(LpmCodecMemory *memory)
{
    if (!memory)
        return;
    for (uint32_t i = 0; i < memory->n; i++)
        drop(&memory->block[i]);
    free(memory);
}

const LpmCodecImage *lpm_codec_memory_image(LpmCodecMemory *memory)
{
    return &memory->image;
}

static bool equal_blocks(const Block *a, const Block *b)
{
    if (a->pages != b->pages || strcmp(a->name, b->name) != 0 ||
        memcmp(a->held, b->held, a->pages) != 0)
        return false;
    for (uint64_t page = 0; page < a->pages; page++) {
        if (a->held[page] && memcmp(a->content + page * PAGE, b->content + page * PAGE, PAGE) != 0)
            return false;
    }
    return true;
}

bool lpm_codec_memory_equal(const LpmCodecMemory *a, const LpmCodecMemory *b)
{
    if (a->n != b->n)
        return false;
    for (uint32_t i = 0; i < a->n; i++) {
        if (!equal_blocks(&a->block[i], &b->block[i]))
            return false;
    }
    return true;
}

void lpm_codec_memory_restart(LpmCodecMemory *memory)
{
    memset(memory->numbered, 0, sizeof(memory->numbered));
}
