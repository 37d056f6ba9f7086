/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever the stream and whatever its reader says of it, the same bytes come out, and both images
 * stay the same; whatever body comes, the decoder neither crashes nor changes the image.
 */
#include "bytes/bytes.h"
#include "codec/codec.h"
#include "codec/memory.h"

#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PAGE = LPM_QSTREAM_PAGE_SIZE, PAGES = 16, UNITS_MAX = 64, BATCHES_MAX = 6 };

static const LpmQstreamBlocks blocks = {.n = 2, .block = {{"pc.ram", PAGES *PAGE}, {"rom", PAGE}}};

static void check(bool good)
{
    if (!good)
        abort();
}

/* Units as the input says, over bytes that are pages and words, or not. */
static size_t make_units(LpmByteReader *in, uint8_t *raw, LpmQstreamUnit *units)
{
    size_t n = lpm_bytes_get_u8(in) % UNITS_MAX, at = 0;
    for (size_t i = 0; i < n; i++) {
        LpmQstreamUnit *unit = &units[i];
        uint8_t what = lpm_bytes_get_u8(in), place = lpm_bytes_get_u8(in);
        uint8_t fill = lpm_bytes_get_u8(in), change = lpm_bytes_get_u8(in);
        *unit = (LpmQstreamUnit){.kind = (LpmQstreamKind)(what % 3), .data = raw + at};
        unit->block = place >> 6;
        unit->offset = (uint64_t)(place & 0x1f) * PAGE;
        unit->head = what & 0x10 ? 0 : 8;
        unit->size = unit->kind == LPM_QSTREAM_OPAQUE ? 1u + change
                     : unit->kind == LPM_QSTREAM_ZERO ? 9
                                                      : unit->head + PAGE;
        memset(raw + at, unit->kind == LPM_QSTREAM_ZERO ? 0 : fill, unit->size);
        raw[at + change % unit->size] = what;
        if (unit->kind != LPM_QSTREAM_OPAQUE && unit->head > 0 && !(what & 0x20)) {
            memset(raw + at, 0, 8);
            raw[at + 5] = (uint8_t)(unit->offset >> 16);
            raw[at + 6] = (uint8_t)(unit->offset >> 8 | (what & 0x40 ? 1 : 0));
            raw[at + 7] = fill & 0x3f;
        }
        at += unit->size;
    }
    return n;
}

static void round_trip(LpmByteReader in)
{
    static uint8_t raw[LPM_CODEC_RAW_MAX], out[LPM_CODEC_RAW_MAX], body[LPM_CODEC_BODY_MAX];
    static LpmQstreamUnit units[UNITS_MAX];
    LpmCodecMemory *memory[2] = {lpm_codec_memory_new(1), lpm_codec_memory_new(1)};
    LpmEncoder *encoder = lpm_encoder_new(&blocks, lpm_codec_memory_image(memory[0]));
    LpmDecoder *decoder = lpm_decoder_new(lpm_codec_memory_image(memory[1]));
    for (int batch = 0; batch < BATCHES_MAX && lpm_bytes_left(&in) > 0; batch++) {
        uint8_t effort = lpm_bytes_get_u8(&in);
        size_t n = make_units(&in, raw, units), size = 0, raw_size = 0;
        for (size_t i = 0; i < n; i++)
            raw_size += units[i].size;
        LpmCodecEffort how = {.level = effort & 1 ? -3 : LPM_CODEC_NO_PACKING,
                              .image = effort & 0xe};
        size_t body_size = lpm_encoder_encode(encoder, units, n, how, body);
        check(body_size <= raw_size + 64 + n * 8);
        check(lpm_decoder_decode(decoder, body, body_size, out, &size) == LPM_CODEC_OK);
        check(size == raw_size && memcmp(out, raw, size) == 0);
        if (lpm_encoder_counts(encoder)->bytes_opaque == 0)
            check(lpm_codec_memory_equal(memory[0], memory[1]));
    }
    lpm_encoder_free(encoder);
    lpm_decoder_free(decoder);
    lpm_codec_memory_free(memory[0]);
    lpm_codec_memory_free(memory[1]);
}

/* A checksum that is wrong is made right, as an attacker would. */
static void any_body(const uint8_t *data, size_t size)
{
    static uint8_t raw[LPM_CODEC_RAW_MAX], body[LPM_CODEC_BODY_MAX + 1];
    size_t raw_size = 0;
    LpmCodecMemory *memory = lpm_codec_memory_new(1);
    LpmDecoder *decoder = lpm_decoder_new(lpm_codec_memory_image(memory));
    size = size > sizeof(body) ? sizeof(body) : size;
    memcpy(body, data, size);
    LpmCodecStatus status = lpm_decoder_decode(decoder, body, size, raw, &raw_size);
    if (status == LPM_CODEC_WRONG) {
        LpmByteReader header = lpm_bytes_reader(body + 4, 4);
        LpmByteWriter checksum = lpm_bytes_writer(body + 8, 8);
        raw_size = lpm_bytes_get_u32(&header);
        lpm_bytes_put_u64(&checksum, XXH3_64bits(raw, raw_size));
        check(lpm_decoder_repair(decoder, body, size, raw, raw_size) == LPM_CODEC_OK);
        check(lpm_decoder_decode(decoder, body, size, raw, &raw_size) != LPM_CODEC_MALFORMED);
    } else {
        LpmCodecStatus again = lpm_decoder_repair(decoder, body, size, raw, raw_size);
        check((again == LPM_CODEC_MALFORMED) == (status == LPM_CODEC_MALFORMED));
    }
    lpm_decoder_free(decoder);
    lpm_codec_memory_free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    if (data[0] & 1)
        round_trip(lpm_bytes_reader(data + 1, size - 1));
    else
        any_body(data + 1, size - 1);
    return 0;
}
