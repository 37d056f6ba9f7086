/* SPDX-License-Identifier: Apache-2.0 */
/* The main channel but for pages: header, configuration, sections, commands, hash page table. */
#include "qstream/reader.h"

#include <string.h>

enum {
    QEVM_MAGIC = 0x5145564d,
    QEVM_VERSION = 3,
    MULTIFD_MAGIC = 0x11223344,
    MULTIFD_VERSION = 1,
    MULTIFD_INIT_SIZE = 64,
    MULTIFD_INIT_CHANNEL = 24, /* where the number of the channel is */

    TYPE_START = 1,
    TYPE_PART = 2,
    TYPE_END = 3,
    TYPE_SUBSECTION = 5,
    TYPE_CONFIGURATION = 7,
    TYPE_COMMAND = 8,
    TYPE_FOOTER = 0x7e,

    COMMAND_PACKAGED = 7,
    PAGE_BITS = 12,
    UUID_SIZE = 16,
    HTAB_ENTRY_SIZE = 16,
};

static const char *const commands[] = {
    NULL, /* invalid */
    "open-return-path",
    "ping",
    "postcopy-advise",
    "postcopy-listen",
    "postcopy-run",
    "postcopy-ram-discard",
    [COMMAND_PACKAGED] = "packaged",
    "enable-colo",
    "postcopy-resume",
    "receive-bitmap",
    "switchover-start",
};

/* A name for those who watch: bytes of the stream end with none. */
static const char *text_of(char *text, const uint8_t *name, size_t size)
{
    memcpy(text, name, size);
    text[size] = '\0';
    return text;
}

size_t lpm_qstream_magic(LpmQstream *q, const uint8_t *at, size_t size)
{
    if (size < 8)
        return 0;
    uint32_t magic = lpm_qstream_be32(at), version = lpm_qstream_be32(at + 4);
    if (magic == QEVM_MAGIC && version == QEVM_VERSION) {
        lpm_qstream_see(q, LPM_QSTREAM_SEEN_MAIN, NULL, 0, version);
        q->state = STATE_SECTION;
        return 8;
    }
    if (magic != MULTIFD_MAGIC || version != MULTIFD_VERSION)
        return lpm_qstream_give_up(q, "neither a main channel nor a multifd channel");
    if (size < MULTIFD_INIT_SIZE)
        return 0;
    lpm_qstream_see(q, LPM_QSTREAM_SEEN_MULTIFD, NULL, 0, at[MULTIFD_INIT_CHANNEL]);
    q->state = STATE_PACKET;
    return MULTIFD_INIT_SIZE;
}

/* be32 id, str8 name, be32 instance, be32 version. */
static size_t read_start(LpmQstream *q, const uint8_t *at, size_t size)
{
    char text[LPM_QSTREAM_NAME_MAX + 1];
    if (size < 6 || size < 6u + at[5] + 8)
        return 0;
    const char *name = text_of(text, at + 6, at[5]);
    uint32_t id = lpm_qstream_be32(at + 1);
    if (strcmp(name, "ram") == 0) {
        q->has_ram = true;
        q->ram_id = id;
        q->state = STATE_RAM;
    } else if (strcmp(name, "spapr/htab") == 0) {
        q->has_htab = true;
        q->htab_id = id;
        q->state = STATE_HTAB_START;
    } else {
        return lpm_qstream_give_up(q, "an iterative section other than ram and spapr/htab");
    }
    lpm_qstream_see(q, LPM_QSTREAM_SEEN_START, name, id, lpm_qstream_be32(at + 6 + at[5]));
    return 6u + at[5] + 8;
}

/* PART and END: be32 id. */
static size_t read_part(LpmQstream *q, const uint8_t *at, size_t size)
{
    if (size < 5)
        return 0;
    uint32_t id = lpm_qstream_be32(at + 1);
    bool ram = q->has_ram && id == q->ram_id;
    if (!ram && !(q->has_htab && id == q->htab_id))
        return lpm_qstream_give_up(q, "a part of a section that was not started");
    lpm_qstream_see(q, at[0] == TYPE_END ? LPM_QSTREAM_SEEN_END : LPM_QSTREAM_SEEN_PART,
                    ram ? "ram" : "spapr/htab", id, 0);
    q->state = ram ? STATE_RAM : STATE_HTAB;
    return 5;
}

/* be16 command, be16 length, payload; a package's payload is the length of what follows it. */
static size_t read_command(LpmQstream *q, const uint8_t *at, size_t size)
{
    if (size < 5)
        return 0;
    uint16_t command = lpm_qstream_be16(at + 1), length = lpm_qstream_be16(at + 3);
    if (command == COMMAND_PACKAGED && length != 4)
        return lpm_qstream_give_up(q, "a package without its length");
    if (command == COMMAND_PACKAGED && size < 9)
        return 0;
    lpm_qstream_see(q, LPM_QSTREAM_SEEN_COMMAND,
                    command < sizeof(commands) / sizeof(commands[0]) ? commands[command] : NULL, 0,
                    command);
    if (command != COMMAND_PACKAGED) {
        q->skip = length;
        return 5;
    }
    q->skip = lpm_qstream_be32(at + 5);
    return 9;
}

/* be32 length, name of the machine type; its subsections follow. */
static size_t read_configuration(LpmQstream *q, const uint8_t *at, size_t size)
{
    char text[LPM_QSTREAM_NAME_MAX + 1];
    if (size < 5)
        return 0;
    uint32_t length = lpm_qstream_be32(at + 1);
    if (length > LPM_QSTREAM_NAME_MAX)
        return lpm_qstream_give_up(q, "a machine type with too long a name");
    if (size < 5 + length)
        return 0;
    lpm_qstream_see(q, LPM_QSTREAM_SEEN_CONFIGURATION, text_of(text, at + 5, length), 0, 0);
    return 5 + length;
}

/* Of the configuration: str8 name, be32 version. */
static size_t read_subsection(LpmQstream *q, const uint8_t *at, size_t size)
{
    char text[LPM_QSTREAM_NAME_MAX + 1];
    if (size < 2 || size < 2u + at[1] + 4)
        return 0;
    const char *name = text_of(text, at + 2, at[1]);
    if (strcmp(name, "configuration/target-page-bits") == 0)
        q->state = STATE_PAGE_BITS;
    else if (strcmp(name, "configuration/capabilities") == 0)
        q->state = STATE_CAPABILITIES;
    else if (strcmp(name, "configuration/uuid") == 0)
        q->skip = UUID_SIZE;
    else
        return lpm_qstream_give_up(q, "a part of the configuration that is not known");
    lpm_qstream_see(q, LPM_QSTREAM_SEEN_SUBSECTION, name, 0, lpm_qstream_be32(at + 2 + at[1]));
    return 2u + at[1] + 4;
}

static size_t read_footer(LpmQstream *q, const uint8_t *at, size_t size)
{
    (void)q;
    (void)at;
    return size < 5 ? 0 : 5;
}

size_t lpm_qstream_section(LpmQstream *q, const uint8_t *at, size_t size)
{
    static LpmQstreamItem *const types[256] = {
        [TYPE_START] = read_start,
        [TYPE_PART] = read_part,
        [TYPE_END] = read_part,
        [TYPE_SUBSECTION] = read_subsection,
        [TYPE_CONFIGURATION] = read_configuration,
        [TYPE_COMMAND] = read_command,
        [TYPE_FOOTER] = read_footer,
    };
    /* Others are FULL, whose length the stream does not say, or the end. */
    if (types[at[0]] == NULL)
        return lpm_qstream_give_up(q, "device state");
    return types[at[0]](q, at, size);
}

/* Only capabilities that change the stream are listed: which other ones there may be, who knows. */
size_t lpm_qstream_capabilities(LpmQstream *q, const uint8_t *at, size_t size)
{
    if (size < 4)
        return 0;
    if (lpm_qstream_be32(at) != 0)
        return lpm_qstream_give_up(q, "a capability that changes the stream");
    q->state = STATE_SECTION;
    return 4;
}

size_t lpm_qstream_page_bits(LpmQstream *q, const uint8_t *at, size_t size)
{
    if (size < 4)
        return 0;
    if (lpm_qstream_be32(at) != PAGE_BITS)
        return lpm_qstream_give_up(q, "pages of another size than 4096 bytes");
    q->state = STATE_SECTION;
    return 4;
}

/* be32: log2 of the table's size, or all ones where the partition has none. */
size_t lpm_qstream_htab_start(LpmQstream *q, const uint8_t *at, size_t size)
{
    (void)at;
    if (size < 4)
        return 0;
    q->state = STATE_SECTION;
    return 4;
}

/* be32: zero before chunks, all ones where the partition has no table. */
size_t lpm_qstream_htab(LpmQstream *q, const uint8_t *at, size_t size)
{
    if (size < 4)
        return 0;
    uint32_t head = lpm_qstream_be32(at);
    if (head != 0 && head != UINT32_MAX)
        return lpm_qstream_give_up(q, "a hash page table that changes its size");
    q->state = head == 0 ? STATE_HTAB_CHUNK : STATE_SECTION;
    return 4;
}

/* be32 index, be16 valid, be16 invalid, the valid entries; all zero: the last one. */
size_t lpm_qstream_htab_chunk(LpmQstream *q, const uint8_t *at, size_t size)
{
    if (size < 8)
        return 0;
    if (lpm_qstream_be64(at) == 0)
        q->state = STATE_SECTION;
    q->skip = (uint64_t)lpm_qstream_be16(at + 4) * HTAB_ENTRY_SIZE;
    return 8;
}
