/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of bodies: damaged ones, wrong ones by hand, and golden ones. */
#include "codec-fixture.h"

/* --- what no coder makes --- */

/* A second target, which got only what was right. */
static LpmCodecMemory *witness_memory;
static LpmDecoder *witness;

static void mutate(uint8_t *body, size_t *size)
{
    switch (any(4)) {
    case 0:
        *size = any((unsigned)*size);
        break;
    case 1:
        if (*size < LPM_CODEC_BODY_MAX)
            body[(*size)++] = (uint8_t)any(256);
        break;
    default:
        for (unsigned n = 1 + any(4); n-- > 0;)
            body[any(2) ? any((unsigned)*size) : *size - 1 - any(MIN(40, (unsigned)*size))] =
                (uint8_t)any(256);
    }
}

static void test_mutated(void)
{
    static uint8_t bad[LPM_CODEC_BODY_MAX];
    unsigned seen[4] = {0};
    source_start(19);
    pair_start(true);
    witness_memory = lpm_codec_memory_new(42);
    witness = lpm_decoder_new(lpm_codec_memory_image(witness_memory));
    for (unsigned batch = 0; batch < 40; batch++) {
        size_t size, raw_size;
        for (unsigned n = any(60); n-- > 0;)
            write_page(any(PAGES));
        make_batch(any(64 * 1024));
        encode(any(2) ? kept : (LpmCodecEffort){.level = LEVEL, .image = any(4) > 0});
        for (unsigned n = 0; n < 50; n++) {
            memcpy(bad, pair.body, pair.body_size);
            size = pair.body_size;
            mutate(bad, &size);
            if (size == pair.body_size && memcmp(bad, pair.body, size) == 0)
                continue;
            LpmCodecStatus status =
                lpm_decoder_decode(pair.decoder, bad, size, pair.out, &raw_size);
            g_assert_cmpint(status, !=, LPM_CODEC_OK);
            seen[status]++;
            if (status == LPM_CODEC_MALFORMED)
                g_assert_cmpint(
                    lpm_decoder_repair(pair.decoder, bad, size, source.raw, source.size), ==,
                    LPM_CODEC_MALFORMED);
        }
        g_assert_true(lpm_codec_memory_equal(witness_memory, pair.memory[1]) || batch == 0);
        g_assert_cmpint(decode(&raw_size), ==, LPM_CODEC_OK);
        g_assert_cmpint(lpm_decoder_decode(witness, pair.body, pair.body_size, pair.out, &raw_size),
                        ==, LPM_CODEC_OK);
    }
    g_assert_cmpuint(seen[LPM_CODEC_MALFORMED], >, 100);
    g_assert_cmpuint(seen[LPM_CODEC_WRONG], >, 100);
    lpm_decoder_free(witness);
    lpm_codec_memory_free(witness_memory);
    pair_end();
}

/* Bodies by hand: token bytes behind no data, checksum of nothing. */
static LpmCodecStatus by_hand(unsigned flags, uint32_t raw_size, const char *data, size_t data_size,
                              const char *tokens, size_t size)
{
    uint8_t body[512] = {0, (uint8_t)flags};
    size_t at = 16, ignored;
    memcpy(body + 4, &raw_size, sizeof(raw_size)); /* these tests run on little-endian machines */
    memcpy(body + at, data, data_size);
    memcpy(body + at + data_size, tokens, size);
    at += data_size + size;
    body[at] = (uint8_t)size;
    return lpm_decoder_decode(pair.decoder, body, at + 4, pair.out, &ignored);
}

#define HAND(flags, raw, data, tokens)                                                             \
    by_hand(flags, raw, data, sizeof(data) - 1, tokens, sizeof(tokens) - 1)
#define BLOCK_0 "\x06\x00\x80\x80\x04\x01p" /* 64 KiB: pages 0 to 15 */

static void test_malformed(void)
{
    pair_start(true);
    /* Well-formed ones, to show that the others are not malformed for another reason. */
    g_assert_cmpint(HAND(0, 2, "ab", "\x00\x02"), ==, LPM_CODEC_WRONG);
    g_assert_cmpint(HAND(0, 9, "", "\x31\x00\x01\x01"), ==, LPM_CODEC_WRONG);
    g_assert_cmpint(HAND(1, 18, "", BLOCK_0 "\x31\x00\x0e\x02"), ==, LPM_CODEC_WRONG);
    g_assert_cmpint(HAND(1, 4104, "", "\x32\x00\x0f\x01"), ==, LPM_CODEC_MISS);
    g_assert_cmpint(HAND(1, 4104, "", BLOCK_0 "\x33\x00\x0f\x01\x00\x0f"), ==, LPM_CODEC_MISS);
    g_assert_cmpint(HAND(1, 4104, "\x01\x00\x01!", "\x34\x00\x0f\x01"), ==, LPM_CODEC_MISS);
    static const struct {
        unsigned flags;
        uint32_t raw;
        const char *data, *tokens;
        size_t data_size, size;
    } bad[] = {
#define BAD(flags, raw, data, tokens)                                                              \
    {flags, raw, data, tokens, sizeof(data) - 1, sizeof(tokens) - 1}
        BAD(0, 1, "ab", "\x00\x02"),                            /* more bytes than the batch has */
        BAD(0, 3, "ab", "\x00\x02"),                            /* fewer */
        BAD(0, 2, "abc", "\x00\x02"),                           /* data left over */
        BAD(0, 3, "ab", "\x00\x03"),                            /* data missing */
        BAD(0, 2, "ab", "\x10\x02"),                            /* a word before bytes */
        BAD(0, 2, "ab", "\x00\x02\x00\x00"),                    /* no bytes */
        BAD(0, 2, "ab", "\x00\x82\x00"),                        /* varint longer than needed */
        BAD(0, 2, "ab", "\x00"),                                /* token cut off */
        BAD(0, 2, "ab", "\x07\x02"),                            /* no such kind */
        BAD(0, 2, "ab", "\x80\x02"),                            /* no such bit */
        BAD(0, 9, "", "\x11\x01"),                              /* no place */
        BAD(0, 9, "", "\x31\x40\x01\x01"),                      /* no such block number */
        BAD(0, 1, "", "\x61\x00\x01\x22\x01"),                  /* flags without a word */
        BAD(0, 9, "", "\x71\x00\x01\x80\x20\x01"),              /* flags too large */
        BAD(0, 9, "", "\x31\x00\x01\x00"),                      /* no pages */
        BAD(1, 9, "", "\x31\x01\x01\x01"),                      /* kept, but of which block? */
        BAD(1, 18, "", "\x31\x00\x0f\x02"),                     /* behind the block */
        BAD(0, 18, "", "\x31\x00\x0f\x02"),                     /* though forgotten */
        BAD(0, 4104, "", "\x32\x00\x0f\x01"),                   /* looks, but does not keep */
        BAD(1, 4104, "", "\x33\x00\x0f\x01\x00\x10"),           /* meant page behind the block */
        BAD(1, 4104, "", "\x33\x00\x0f\x01\x01\x00"),           /* meant page of no block */
        BAD(1, 4104, "\x00", "\x34\x00\x0f\x01"),               /* delta without steps */
        BAD(1, 4104, "\x01\x00\x00", "\x34\x00\x0f\x01"),       /* step without bytes */
        BAD(1, 4104, "\x01\xff\x1f\x02!!", "\x34\x00\x0f\x01"), /* step leaves the page */
        BAD(1, 4104, "\x01\x00\x03!!", "\x34\x00\x0f\x01"),     /* new bytes missing */
        BAD(1, 0, "", "\x06\x00\x80\x80\x08\x01p"),             /* another length than before */
        BAD(1, 0, "", "\x06\x00\x80\x80\x04\x01q"),             /* another name */
        BAD(1, 0, "", "\x06\x05\x00\x01q"),                     /* no length */
        BAD(1, 0, "", "\x06\x05\x01\x01\x00"),                  /* zero byte in the name */
        BAD(1, 0, "", "\x06\x05\x01\x02q"),                     /* name cut off */
        BAD(1, 0, "", "\x26\x05\x01\x01q"),                     /* block with a place */
        BAD(1, 0, "", "\x06\x05\x01\x01q\x06\x05\x01\x01q"),    /* said twice */
        BAD(2, 0, "", ""),                                      /* no such flag */
        BAD(0, 0, "", "\x31\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01"), /* no such page */
    };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_test_message("malformed %zu", i);
        g_assert_cmpint(by_hand(bad[i].flags, bad[i].raw, bad[i].data, bad[i].data_size,
                                bad[i].tokens, bad[i].size),
                        ==, LPM_CODEC_MALFORMED);
    }
    pair_end();
}

/* --- golden bodies: one of each kind; tests/spec/test_codec.py decodes the same file --- */

static void golden_batch(GString *text, const char *name, LpmCodecEffort effort)
{
    encode(effort);
    g_string_append_printf(text, "%s ", name);
    for (size_t i = 0; i < pair.body_size; i++)
        g_string_append_printf(text, "%02x", pair.body[i]);
    g_string_append_c(text, '\n');
    start_batch();
}

static void golden_pages(GString *text)
{
    uint8_t *page = source.memory[3];
    for (unsigned i = 0; i < PAGE; i++)
        page[i] = (uint8_t)(i * 7 + i / 256);
    add_page(3, 8, 0);
    golden_batch(text, "literal", kept);
    for (unsigned i = 0; i < 5; i++)
        add_page(HALF + 16 + i, 8, 0);
    golden_batch(text, "zero", kept);
    add_page(3, 8, 0);
    golden_batch(text, "same", kept);
    memcpy(source.memory[9], page, PAGE);
    add_page(9, 8, 0x100);
    golden_batch(text, "reference", kept);
    page[0] ^= 0xff;
    memset(page + 1000, '!', 300);
    add_page(3, 8, 0);
    golden_batch(text, "delta", kept);
    add_page(9, 0, 0);
    add_page(10, 8, 0);
    golden_batch(text, "mixed", kept);
    add_page(10, 8, 0);
    golden_batch(text, "forgotten", forgotten);
}

static void test_golden(void)
{
    g_autofree char *path =
        g_test_build_filename(G_TEST_DIST, "..", "golden", "codec", "bodies.txt", NULL);
    g_autoptr(GString) text = g_string_new(NULL);
    g_autofree char *golden = NULL;
    source_start(20);
    pair_start(true);
    memcpy(source.raw, "QEVM\0\0\0\3", 8);
    add_unit(LPM_QSTREAM_OPAQUE, 8);
    golden_batch(text, "opaque", kept);
    golden_pages(text);
    pair_end();
    if (g_getenv("LPM_UPDATE_GOLDEN"))
        g_assert_true(g_file_set_contents(path, text->str, -1, NULL));
    g_assert_true(g_file_get_contents(path, &golden, NULL, NULL));
    g_assert_cmpstr(text->str, ==, golden);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/codec-bodies/mutated", test_mutated);
    g_test_add_func("/codec-bodies/malformed", test_malformed);
    g_test_add_func("/codec-bodies/golden", test_golden);
    return g_test_run();
}
