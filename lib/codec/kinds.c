/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/internal.h"

#define COUNTER(field) offsetof(LpmCodecCounts, field)

const LpmCodecKind lpm_codec_kinds[LPM_CODEC_KINDS] = {
    [LPM_CODEC_OPAQUE] = {.name = "opaque",
                          .check = lpm_codec_check_opaque,
                          .build = lpm_codec_build_opaque},
    [LPM_CODEC_ZERO] = {.name = "zero",
                        .pages = true,
                        .unit = 1,
                        .counter = COUNTER(pages_zero),
                        .build = lpm_codec_build_zero},
    [LPM_CODEC_SAME] = {.name = "same",
                        .pages = true,
                        .looks = true,
                        .unit = LPM_QSTREAM_PAGE_SIZE,
                        .counter = COUNTER(pages_same),
                        .take = lpm_codec_take_same,
                        .build = lpm_codec_build_same},
    [LPM_CODEC_REFERENCE] = {.name = "reference",
                             .pages = true,
                             .looks = true,
                             .unit = LPM_QSTREAM_PAGE_SIZE,
                             .counter = COUNTER(pages_reference),
                             .take = lpm_codec_take_reference,
                             .build = lpm_codec_build_reference},
    [LPM_CODEC_DELTA] = {.name = "delta",
                         .pages = true,
                         .looks = true,
                         .unit = LPM_QSTREAM_PAGE_SIZE,
                         .counter = COUNTER(pages_delta),
                         .take = lpm_codec_take_delta,
                         .check = lpm_codec_check_delta,
                         .build = lpm_codec_build_delta},
    [LPM_CODEC_LITERAL] = {.name = "literal",
                           .pages = true,
                           .unit = LPM_QSTREAM_PAGE_SIZE,
                           .counter = COUNTER(pages_literal),
                           .take = lpm_codec_take_literal,
                           .check = lpm_codec_check_literal,
                           .build = lpm_codec_build_literal},
    [LPM_CODEC_BLOCK] = {.name = "block"},
};

const LpmCodecKindNumber lpm_codec_order[] = {LPM_CODEC_SAME, LPM_CODEC_REFERENCE, LPM_CODEC_DELTA,
                                              LPM_CODEC_LITERAL};
const size_t lpm_codec_n_order = sizeof(lpm_codec_order) / sizeof(*lpm_codec_order);

void lpm_codec_count_pages(LpmCodecCounts *counts, LpmCodecKindNumber kind, uint64_t n)
{
    *(uint64_t *)((char *)counts + lpm_codec_kinds[kind].counter) += n;
}

void lpm_codec_add_counts(LpmCodecCounts *total, const LpmCodecCounts *batch)
{
    uint64_t *to = (uint64_t *)total;
    const uint64_t *from = (const uint64_t *)batch;
    _Static_assert(sizeof(LpmCodecCounts) % sizeof(uint64_t) == 0, "counters only");
    for (size_t i = 0; i < sizeof(LpmCodecCounts) / sizeof(uint64_t); i++)
        to[i] += from[i];
}

const char *lpm_codec_status_text(LpmCodecStatus status)
{
    switch (status) {
    case LPM_CODEC_OK:
        return "in order";
    case LPM_CODEC_MALFORMED:
        return "not a coded batch";
    case LPM_CODEC_MISS:
        return "the image lacks a page that the batch needs";
    case LPM_CODEC_WRONG:
        return "the decoded batch differs from its checksum";
    }
    return "unknown";
}
