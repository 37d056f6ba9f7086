/* SPDX-License-Identifier: Apache-2.0 */
/* What QEMU rarely writes, in streams made here. */
#include "qstream-reading.h"

enum { PAGE = LPM_QSTREAM_PAGE_SIZE };

static void put(GByteArray *stream, uint64_t value, int bytes)
{
    for (int i = bytes - 1; i >= 0; i--) {
        guint8 byte = (guint8)(value >> (8 * i));
        g_byte_array_append(stream, &byte, 1);
    }
}

static void put_name(GByteArray *stream, const char *name)
{
    put(stream, strlen(name), 1);
    g_byte_array_append(stream, (const guint8 *)name, (guint)strlen(name));
}

static void put_fill(GByteArray *stream, guint8 byte, guint count)
{
    guint at = stream->len;
    g_byte_array_set_size(stream, at + count);
    memset(stream->data + at, byte, count);
}

static GByteArray *new_stream(void)
{
    GByteArray *stream = g_byte_array_new();
    put(stream, 0x5145564d00000003, 8);
    put(stream, 7, 1);
    put(stream, 3, 4);
    g_byte_array_append(stream, (const guint8 *)"mac", 3);
    return stream;
}

/* A RAM section: block "a" of 16 pages, "b" of 4. Its data goes on. */
static void put_ram(GByteArray *stream)
{
    put(stream, 1, 1);
    put(stream, 2, 4);
    put_name(stream, "ram");
    put(stream, 4, 8); /* instance, version */
    put(stream, 20 * PAGE | 0x04, 8);
    put_name(stream, "a");
    put(stream, 16 * PAGE, 8);
    put_name(stream, "b");
    put(stream, 4 * PAGE, 8);
}

static GByteArray *new_ram(void)
{
    GByteArray *stream = new_stream();
    put_ram(stream);
    return stream;
}

static void put_page(GByteArray *stream, guint number, const char *block)
{
    put(stream, number * PAGE | 0x08 | (block != NULL ? 0 : 0x20), 8);
    if (block != NULL)
        put_name(stream, block);
    put_fill(stream, (guint8)number, PAGE);
}

/* What was found, as text: one "z" or "p" (with its word) or "P" (without), block, number of the
 * page. */
static char *found_text(const Reading *reading)
{
    GString *text = g_string_new(NULL);
    for (size_t i = 0; i < reading->found->len; i++) {
        const LpmQstreamUnit *unit = &found_at(reading, i)->unit;
        g_string_append_printf(text, "%c%u:%u ",
                               unit->kind == LPM_QSTREAM_ZERO ? 'z'
                               : unit->head == 8              ? 'p'
                                                              : 'P',
                               unit->block, (guint)(unit->offset / PAGE));
    }
    return g_string_free(text, FALSE);
}

static void expect_with(LpmQstreamBlocks *blocks, GByteArray *stream, const char *found,
                        const char *reason)
{
    g_auto(Reading) reading =
        read_channel(blocks, (Bytes){stream->data, stream->len}, (Manner){.room = MAX_UNITS});
    g_autofree char *text = found_text(&reading);
    g_assert_cmpstr(text, ==, found);
    g_assert_cmpstr(reading.reason, ==, reason);
    g_byte_array_unref(stream);
}

static void expect(GByteArray *stream, const char *found, const char *reason)
{
    g_autofree LpmQstreamBlocks *blocks = g_new0(LpmQstreamBlocks, 1);
    expect_with(blocks, stream, found, reason);
}

static void test_words(void)
{
    GByteArray *stream = new_ram();
    put_page(stream, 1, NULL); /* of no block yet */
    put_page(stream, 2, "a");
    put_page(stream, 3, NULL);
    put(stream, 4 * PAGE | 0x22, 8);
    put(stream, 0, 1);
    put(stream, 5 * PAGE | 0x22, 8); /* filled with something else */
    put(stream, 7, 1);
    put_page(stream, 15, NULL);
    put_page(stream, 16, NULL); /* behind the block's end */
    put_page(stream, 3, "b");
    put(stream, 0x02, 8); /* zero page, names its block */
    put_name(stream, "a");
    put(stream, 0, 1);
    put_page(stream, 6, NULL);
    put_page(stream, 1, "unheard-of");
    put_page(stream, 1, NULL);
    put(stream, 2 * PAGE | 0x40, 8); /* differences */
    put_name(stream, "b");
    put(stream, 1, 1);
    put(stream, 100, 2);
    put_fill(stream, 0x11, 100);
    put(stream, 2 * PAGE | 0x120, 8); /* compressed */
    put(stream, 1000, 4);
    put_fill(stream, 0x22, 1000);
    put(stream, 0x200, 8);
    put_page(stream, 2, NULL);
    put(stream, 0x10, 8);
    put(stream, 0x7e, 1);
    put(stream, 2, 4);
    put(stream, 3, 1); /* END */
    put(stream, 2, 4);
    put_page(stream, 3, NULL);
    put(stream, 0x80, 8); /* hook */
    put_page(stream, 3, NULL);
    expect(stream, "P0:2 p0:3 z0:4 p0:15 P1:3 p0:6 p1:2 p1:3 ", "a kind of page that is not known");
}

static void test_commands(void)
{
    GByteArray *stream = new_ram();
    put(stream, 0x10, 8);
    put(stream, 0x7e00000002, 5);
    put(stream, 8, 1); /* a ping */
    put(stream, 2, 2);
    put(stream, 4, 2);
    put(stream, 1, 4);
    put(stream, 8, 1); /* a package, in which nothing is looked at */
    put(stream, 7, 2);
    put(stream, 4, 2);
    put(stream, 5000, 4);
    put_fill(stream, 2, 5000);
    put(stream, 2, 1);
    put(stream, 2, 4);
    put_page(stream, 0, "a");
    put(stream, 0x10, 8);
    put(stream, 0x7e00000002, 5);
    put(stream, 2, 1);
    put(stream, 3, 4);
    put_page(stream, 1, NULL);
    expect(stream, "P0:0 ", "a part of a section that was not started");
}

/* With post-copy, a block of large pages says so behind its length. */
static void test_large_pages(void)
{
    GByteArray *stream = new_stream();
    put(stream, 1, 1);
    put(stream, 2, 4);
    put_name(stream, "ram");
    put(stream, 4, 8);
    put(stream, 2 * 16 * PAGE | 0x04, 8);
    for (int i = 0; i < 2; i++) {
        put_name(stream, i == 0 ? "a" : "b");
        put(stream, 16 * PAGE, 8);
        put(stream, 0x200000, 8);
    }
    put_page(stream, 4, "b");
    put(stream, 0x200000, 8); /* but not there */
    expect(stream, "P1:4 ", "a kind of page that is not known");
}

static void test_refused(void)
{
    GByteArray *stream = new_ram();
    put(stream, 4, 8);
    expect(stream, "", "a second list of memory blocks");

    stream = new_stream();
    put(stream, 5, 1);
    put_name(stream, "configuration/target-page-bits");
    put(stream, 1, 4);
    put(stream, 16, 4);
    expect(stream, "", "pages of another size than 4096 bytes");

    stream = new_stream();
    put(stream, 5, 1);
    put_name(stream, "configuration/capabilities");
    put(stream, 1, 4);
    put(stream, 1, 4);
    put_name(stream, "x-ignore-shared");
    expect(stream, "", "a capability that changes the stream");

    stream = new_stream();
    put(stream, 1, 1);
    put(stream, 2, 4);
    put_name(stream, "dirty-bitmap");
    put(stream, 1, 8);
    expect(stream, "", "an iterative section other than ram and spapr/htab");

    stream = new_stream();
    put(stream, 1, 1);
    put(stream, 2, 4);
    put_name(stream, "ram");
    put(stream, 4, 8);
    put(stream, 3 * PAGE | 0x04, 8);
    put_name(stream, "a");
    put(stream, 4 * PAGE, 8); /* more than all blocks together */
    expect(stream, "", "a list of memory blocks that is not right");

    stream = new_stream();
    put(stream, 1, 1);
    put(stream, 2, 4);
    put_name(stream, "ram");
    put(stream, 4, 8);
    put(stream, 65 * PAGE | 0x04, 8);
    for (int i = 0; i < 65; i++) {
        g_autofree char *name = g_strdup_printf("block%d", i);
        put_name(stream, name);
        put(stream, PAGE, 8);
    }
    expect(stream, "", "too many memory blocks");

    stream = g_byte_array_new();
    put_fill(stream, 'x', 100);
    expect(stream, "", "neither a main channel nor a multifd channel");
}

/* Flushed at every byte in turn: nothing is misread, and no page is lost but the one that was cut.
 */
static void test_flush_anywhere(void)
{
    g_autoptr(GByteArray) stream = new_ram();
    put_page(stream, 1, "a");
    put_page(stream, 2, NULL);
    put(stream, 3 * PAGE | 0x22, 8);
    put(stream, 0, 1);
    put_page(stream, 0, "b");
    for (size_t cut = 1; cut < stream->len; cut++) {
        g_autofree LpmQstreamBlocks *blocks = g_new0(LpmQstreamBlocks, 1);
        LpmQstream *q = lpm_qstream_new(blocks);
        LpmQstreamUnit units[16];
        size_t n, pages = 0, bytes = 0;
        for (int half = 0; half < 2; half++) {
            size_t from = half == 0 ? 0 : cut, to = half == 0 ? cut : stream->len;
            size_t used = lpm_qstream_read(q, stream->data + from, to - from, true, units, 16, &n);
            g_assert_cmpuint(used, ==, to - from);
            for (size_t i = 0; i < n; i++) {
                check_unit(blocks, &units[i]);
                g_assert_true(units[i].data == stream->data + bytes);
                bytes += units[i].size;
                pages += units[i].kind != LPM_QSTREAM_OPAQUE;
            }
        }
        g_assert_cmpuint(pages, >=, 3);
        g_assert_cmpuint(bytes, ==, stream->len);
        g_assert_cmpuint(
            lpm_qstream_counts(q)->lost_pages + lpm_qstream_counts(q)->odd_zeros + pages, ==, 4);
        g_assert_false(lpm_qstream_is_opaque(q));
        lpm_qstream_free(q);
    }
}

/* Nothing to read, no room: nothing happens. */
static void test_nothing(void)
{
    g_autofree LpmQstreamBlocks *blocks = g_new0(LpmQstreamBlocks, 1);
    LpmQstream *q = lpm_qstream_new(blocks);
    g_autoptr(GByteArray) stream = new_ram();
    LpmQstreamUnit units[1];
    size_t n = 7;
    g_assert_cmpuint(lpm_qstream_read(q, NULL, 0, true, units, 1, &n), ==, 0);
    g_assert_cmpuint(n, ==, 0);
    n = 7;
    g_assert_cmpuint(lpm_qstream_read(q, stream->data, stream->len, true, units, 0, &n), ==, 0);
    g_assert_cmpuint(n, ==, 0);
    lpm_qstream_free(q);
    lpm_qstream_free(NULL);
}

/* A subsection of 16 bytes, a table with entries: what follows is found. */
static void test_skipped(void)
{
    GByteArray *stream = new_stream();
    put(stream, 5, 1);
    put_name(stream, "configuration/uuid");
    put(stream, 1, 4);
    put_fill(stream, 0x55, 16);
    put(stream, 1, 1);
    put(stream, 7, 4);
    put_name(stream, "spapr/htab");
    put(stream, 1, 8);
    put(stream, 22, 4);
    put_ram(stream);
    put(stream, 0x10, 8);
    put(stream, 2, 1);
    put(stream, 7, 4);
    put(stream, 0, 4);
    put(stream, 5, 4); /* index, valid, invalid */
    put(stream, 3, 2);
    put(stream, 9, 2);
    put_fill(stream, 2, 3 * 16);
    put(stream, 0, 8);
    put(stream, 2, 1);
    put(stream, 2, 4);
    put_page(stream, 9, "a");
    put(stream, 0x10, 8);
    put(stream, 3, 1);
    put(stream, 7, 4);
    put(stream, UINT32_MAX, 4); /* no chunks */
    put(stream, 3, 1);
    put(stream, 2, 4);
    put_page(stream, 8, NULL);
    put(stream, 0x10, 8);
    put(stream, 4, 1); /* FULL */
    put_page(stream, 7, NULL);
    expect(stream, "P0:9 p0:8 ", "device state");
}

/* --- multifd --- */

static GByteArray *new_channel(void)
{
    GByteArray *stream = g_byte_array_new();
    put(stream, 0x1122334400000001, 8);
    put_fill(stream, 0, 56);
    return stream;
}

typedef struct {
    guint flags, normal, zeros, bytes;
    const char *block;
    uint64_t offsets[4]; /* of the first pages; others: 0 */
} Packet;

static void put_packet(GByteArray *stream, Packet packet)
{
    guint end = stream->len + 320 + 128 * 8;
    put(stream, 0x1122334400000001, 8);
    put(stream, packet.flags, 4);
    put(stream, 128, 4);
    put(stream, packet.normal, 4);
    put(stream, packet.bytes, 4);
    put(stream, 1, 8);
    put(stream, packet.zeros, 4);
    put_fill(stream, 0, 28);
    g_byte_array_append(stream, (const guint8 *)packet.block, (guint)strlen(packet.block));
    put_fill(stream, 0, 256 - (guint)strlen(packet.block));
    for (size_t i = 0; i < G_N_ELEMENTS(packet.offsets); i++)
        put(stream, packet.offsets[i], 8);
    put_fill(stream, 0, end - stream->len);
    put_fill(stream, 0x77, packet.normal * PAGE);
}

static void expect_channel(GByteArray *stream, const char *found, const char *reason)
{
    g_autofree LpmQstreamBlocks *blocks = g_new0(LpmQstreamBlocks, 1);
    blocks->n = 1;
    strcpy(blocks->block[0].name, "a");
    blocks->block[0].length = 16 * PAGE;
    expect_with(blocks, stream, found, reason);
}

static void test_packets(void)
{
    GByteArray *stream = new_channel();
    put_packet(stream, (Packet){1, 0, 0, 4096, "a", {0}});
    put_packet(stream, (Packet){0, 2, 2, 2 * PAGE, "a", {PAGE, 3 * PAGE, 4 * PAGE, 5 * PAGE}});
    put_packet(stream, (Packet){1, 1, 0, PAGE, "unheard-of", {PAGE}});
    put_packet(stream, (Packet){0, 4, 0, 4 * PAGE, "a", {16 * PAGE, 1, 15 * PAGE, UINT64_MAX}});
    put_packet(stream, (Packet){0, 1, 0, PAGE, "a", {2 * PAGE}});
    expect_channel(stream, "P0:1 P0:3 P0:15 P0:2 ", NULL);
}

static void test_packets_refused(void)
{
    static const Packet refused[] = {
        {2, 1, 0, PAGE, "a", {0}},          /* zlib */
        {0x40, 0, 0, 0, "a", {0}},          /* device state */
        {0, 129, 0, 129 * PAGE, "a", {0}},  /* more than fit */
        {0, 100, 29, 100 * PAGE, "a", {0}}, /* together */
        {0, 1, UINT32_MAX, PAGE, "a", {0}}, /* and with a sum that wraps */
        {0, 2, 0, PAGE, "a", {0}},          /* fewer bytes */
    };
    for (size_t i = 0; i < G_N_ELEMENTS(refused); i++) {
        GByteArray *stream = new_channel();
        put_packet(stream, (Packet){0, 1, 0, PAGE, "a", {PAGE}});
        put_packet(stream, refused[i]);
        put_packet(stream, (Packet){0, 1, 0, PAGE, "a", {PAGE}});
        expect_channel(stream, "P0:1 ", "a kind of multifd packet that is not known");
    }
    GByteArray *stream = new_channel();
    put_fill(stream, 1, 2000);
    expect_channel(stream, "", "no multifd packet where one should be");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qstream/words", test_words);
    g_test_add_func("/qstream/commands", test_commands);
    g_test_add_func("/qstream/large-pages", test_large_pages);
    g_test_add_func("/qstream/skipped", test_skipped);
    g_test_add_func("/qstream/packets", test_packets);
    g_test_add_func("/qstream/packets-refused", test_packets_refused);
    g_test_add_func("/qstream/refused", test_refused);
    g_test_add_func("/qstream/flush-anywhere", test_flush_anywhere);
    g_test_add_func("/qstream/nothing", test_nothing);
    return g_test_run();
}
