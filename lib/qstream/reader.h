/* SPDX-License-Identifier: Apache-2.0 */
/* Inside lib/qstream: the state of one channel's reader, and how its items are recognised. */
#pragma once

#include "qstream/qstream.h"

enum {
    PACKET_PAGES_MAX = 128,                   /* pages of one multifd packet: 512 KiB of them */
    PACKET_SIZE = 320 + PACKET_PAGES_MAX * 8, /* with its table of offsets, always this long */
    ITEM_MAX = PACKET_SIZE,                   /* longest item */
    NO_BLOCK = UINT32_MAX,
};

typedef enum {
    STATE_OPAQUE,       /* for good */
    STATE_MAGIC,        /* first bytes of a channel */
    STATE_SECTION,      /* the type of what comes next */
    STATE_CAPABILITIES, /* payload of that subsection */
    STATE_PAGE_BITS,    /* likewise */
    STATE_RAM,          /* a word */
    STATE_BLOCKS,       /* an entry of the list of blocks */
    STATE_HTAB_START,   /* log2 of the hash page table's size */
    STATE_HTAB,         /* head of a PART or END of it */
    STATE_HTAB_CHUNK,
    STATE_PACKET, /* multifd */
    STATE_PAGES,  /* @pages_left pages lie one behind the other, or none */
    STATES,
} State;

struct LpmQstream {
    LpmQstreamBlocks *blocks;
    State state;
    uint64_t skip; /* opaque bytes before @state matters */

    /* An item of which a flush gave the first @held bytes away. */
    size_t held;
    uint8_t hold[ITEM_MAX];

    uint32_t block; /* of the words, or of the packet; NO_BLOCK: not known */
    uint64_t block_length;

    /* STATE_PAGES */
    State then;
    uint32_t pages_left;
    uint32_t page;
    uint64_t offsets[PACKET_PAGES_MAX];
    bool flush_follows; /* multifd: the packet's pages are the last before one */

    bool has_ram, has_htab;
    uint32_t ram_id, htab_id;
    uint64_t list_left;   /* bytes of memory whose blocks the list still has to name */
    bool list_just_ended; /* the last block's page size may follow */

    uint64_t ahead; /* bytes behind those counted, at which something is seen */
    const char *reason;
    LpmQstreamCounts counts;
    void (*seen)(void *context, const LpmQstreamSeen *seen);
    void *seen_context;
};

/*
 * Recognises one item at @at, of which @size (at least 1) bytes are there. Returns its length, and
 * the reader's state is then what follows; 0: not all there yet, and nothing has changed, or the
 * channel has become opaque, this item included.
 */
typedef size_t LpmQstreamItem(LpmQstream *q, const uint8_t *at, size_t size);

LpmQstreamItem lpm_qstream_magic, lpm_qstream_section, lpm_qstream_capabilities,
    lpm_qstream_page_bits, lpm_qstream_ram_word, lpm_qstream_block_entry, lpm_qstream_htab_start,
    lpm_qstream_htab, lpm_qstream_htab_chunk, lpm_qstream_packet;

/* The channel is opaque from here on. Returns 0, for items. */
size_t lpm_qstream_give_up(LpmQstream *q, const char *reason);
void lpm_qstream_see(LpmQstream *q, LpmQstreamSeenKind kind, const char *name, uint32_t id,
                     uint64_t value);
/* Makes the block of that name the one of the pages to come; none of that name: NO_BLOCK. */
void lpm_qstream_choose_block(LpmQstream *q, const char *name, size_t size);

/* Whether a page at @offset of the chosen block has a place. */
static inline bool lpm_qstream_has_place(const LpmQstream *q, uint64_t offset)
{
    return offset < q->block_length && q->block_length - offset >= LPM_QSTREAM_PAGE_SIZE;
}

/* --- big-endian, as QEMU writes --- */

static inline uint16_t lpm_qstream_be16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static inline uint32_t lpm_qstream_be32(const uint8_t *at)
{
    uint32_t value;
    __builtin_memcpy(&value, at, sizeof(value));
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    value = __builtin_bswap32(value);
#endif
    return value;
}

static inline uint64_t lpm_qstream_be64(const uint8_t *at)
{
    uint64_t value;
    __builtin_memcpy(&value, at, sizeof(value));
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    value = __builtin_bswap64(value);
#endif
    return value;
}
