/* SPDX-License-Identifier: Apache-2.0 */
/* The RAM section's words that are no plain pages, and the packets of multifd channels. */
#include "qstream/reader.h"

#include <string.h>

enum {
    FLAG_ZERO = 0x02,
    FLAG_BLOCKS = 0x04,
    FLAG_PAGE = 0x08,
    FLAG_END = 0x10,
    FLAG_SAME_BLOCK = 0x20,
    FLAG_XBZRLE = 0x40,
    FLAG_COMPRESSED = 0x100,
    FLAG_FLUSH = 0x200,
    FLAGS = 0xfff,

    PACKET_MAGIC = 0x11223344,
    PACKET_VERSION = 1,
    PACKET_FLAG_SYNC = 1,
    PACKET_NAME = 64, /* where the name of the block is */
    PACKET_NAME_SIZE = 256,
    PACKET_OFFSETS = 320,
};

/* What follows a page's word and the name of its block, and how much of it names its length. */
typedef struct {
    uint32_t flag;
    size_t more;
} PageKind;

static const PageKind page_kinds[] = {
    {FLAG_PAGE, 0},       /* the page */
    {FLAG_ZERO, 1},       /* the byte that fills it */
    {FLAG_XBZRLE, 3},     /* u8, be16 length, differences */
    {FLAG_COMPRESSED, 4}, /* be32 length, compressed page */
};

/* What a page's payload is, @at behind word and name. */
static void expect_payload(LpmQstream *q, uint32_t flag, uint64_t offset, const uint8_t *at)
{
    if (flag == FLAG_PAGE) {
        q->offsets[0] = offset;
        q->page = 0;
        q->pages_left = 1;
        q->then = STATE_RAM;
        q->state = STATE_PAGES;
    } else if (flag == FLAG_ZERO) {
        q->counts.odd_zeros++;
    } else if (flag == FLAG_XBZRLE) {
        q->skip = lpm_qstream_be16(at + 1);
        q->counts.xbzrle++;
    } else {
        q->skip = lpm_qstream_be32(at);
        q->counts.compressed++;
    }
}

/* A page's word, with the name of its block or without; its payload follows. */
static size_t read_page_word(LpmQstream *q, const PageKind *kind, const uint8_t *at, size_t size)
{
    uint64_t word = lpm_qstream_be64(at);
    size_t length = 8;
    if (!(word & FLAG_SAME_BLOCK)) {
        if (size < 9)
            return 0;
        length += 1u + at[8];
    }
    if (size < length + kind->more)
        return 0;
    if (length > 8)
        lpm_qstream_choose_block(q, (const char *)at + 9, length - 9);
    expect_payload(q, kind->flag, word & ~(uint64_t)FLAGS, at + length);
    return length + kind->more;
}

static size_t read_block_list(LpmQstream *q, uint64_t total)
{
    if (q->blocks->n > 0)
        return lpm_qstream_give_up(q, "a second list of memory blocks");
    q->list_left = total;
    q->state = total > 0 ? STATE_BLOCKS : STATE_RAM;
    return 8;
}

size_t lpm_qstream_ram_word(LpmQstream *q, const uint8_t *at, size_t size)
{
    if (size < 8)
        return 0;
    uint64_t word = lpm_qstream_be64(at), address = word & ~(uint64_t)FLAGS;
    uint32_t flags = word & FLAGS;
    if (flags == 0 && q->list_just_ended) {
        q->list_just_ended = false;
        return 8;
    }
    for (size_t i = 0; i < sizeof(page_kinds) / sizeof(page_kinds[0]); i++) {
        if ((flags & ~(uint32_t)FLAG_SAME_BLOCK) == page_kinds[i].flag)
            return read_page_word(q, &page_kinds[i], at, size);
    }
    switch (flags) {
    case FLAG_BLOCKS:
        return read_block_list(q, address);
    case FLAG_END:
        q->list_just_ended = false;
        q->state = STATE_SECTION;
        return 8;
    case FLAG_FLUSH:
        lpm_qstream_see(q, LPM_QSTREAM_SEEN_FLUSH, NULL, 0, 0);
        return 8;
    default:
        return lpm_qstream_give_up(q, "a kind of page that is not known");
    }
}

/*
 * str8 name, be64 length. With post-copy a be64 page size follows for a block of larger pages: no
 * name is empty, so an entry that begins with a zero byte is one.
 */
size_t lpm_qstream_block_entry(LpmQstream *q, const uint8_t *at, size_t size)
{
    LpmQstreamBlocks *blocks = q->blocks;
    size_t name = at[0];
    if (name == 0)
        return size < 8 ? 0 : 8;
    if (size < 1 + name + 8)
        return 0;
    uint64_t length = lpm_qstream_be64(at + 1 + name);
    if (length > q->list_left || memchr(at + 1, '\0', name) != NULL)
        return lpm_qstream_give_up(q, "a list of memory blocks that is not right");
    if (blocks->n == LPM_QSTREAM_BLOCKS_MAX)
        return lpm_qstream_give_up(q, "too many memory blocks");
    memcpy(blocks->block[blocks->n].name, at + 1, name);
    blocks->block[blocks->n].name[name] = '\0';
    blocks->block[blocks->n].length = length;
    lpm_qstream_see(q, LPM_QSTREAM_SEEN_BLOCK, blocks->block[blocks->n].name, blocks->n, length);
    blocks->n++;
    q->list_left -= length;
    if (q->list_left == 0) {
        q->list_just_ended = true;
        q->state = STATE_RAM;
    }
    return 1 + name + 8;
}

/* --- multifd --- */

typedef struct {
    uint32_t flags, normal, zero, bytes;
} Packet;

/* Flags are SYNC, or a way of compression, or more that is not known. */
static bool is_understood(const Packet *packet)
{
    return (packet->flags & ~(uint32_t)PACKET_FLAG_SYNC) == 0 &&
           packet->normal <= PACKET_PAGES_MAX &&
           packet->zero <= PACKET_PAGES_MAX - packet->normal &&
           (packet->normal == 0 || packet->bytes == packet->normal * LPM_QSTREAM_PAGE_SIZE);
}

/*
 * be32 magic, version, flags, pages allocated, normal pages, bytes that follow; be64 number; be32
 * zero pages (nothing before QEMU 9.0) and 28 bytes of nothing; the block's name in 256 bytes; be64
 * offsets of the normal pages, then of the zero pages. The normal pages follow.
 */
size_t lpm_qstream_packet(LpmQstream *q, const uint8_t *at, size_t size)
{
    if (size < PACKET_SIZE)
        return 0;
    if (lpm_qstream_be32(at) != PACKET_MAGIC || lpm_qstream_be32(at + 4) != PACKET_VERSION)
        return lpm_qstream_give_up(q, "no multifd packet where one should be");
    Packet packet = {.flags = lpm_qstream_be32(at + 8),
                     .normal = lpm_qstream_be32(at + 16),
                     .bytes = lpm_qstream_be32(at + 20),
                     .zero = lpm_qstream_be32(at + 32)};
    if (!is_understood(&packet))
        return lpm_qstream_give_up(q, "a kind of multifd packet that is not known");
    const char *name = (const char *)at + PACKET_NAME;
    lpm_qstream_choose_block(q, name, strnlen(name, PACKET_NAME_SIZE));
    for (uint32_t i = 0; i < packet.normal; i++) {
        uint64_t offset = lpm_qstream_be64(at + PACKET_OFFSETS + 8 * i);
        q->offsets[i] = offset % LPM_QSTREAM_PAGE_SIZE == 0 ? offset : UINT64_MAX;
    }
    q->page = 0;
    q->pages_left = packet.normal;
    q->then = STATE_PACKET;
    q->flush_follows = (packet.flags & PACKET_FLAG_SYNC) != 0;
    q->state = STATE_PAGES;
    q->counts.packets++;
    q->counts.quiet_zeros += packet.zero;
    return PACKET_SIZE;
}
