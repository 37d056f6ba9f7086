/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which content lies where, by digest. Bounded: a bucket keeps its two latest. What it says may be
 * long over; whoever asks compares with the image's digest of that place.
 */
#include "codec/internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    BUCKETS = 1 << 19, /* 16 MiB at most, touched as it fills: pages of 4 GiB */
    WAYS = 2,
    PAGE_BITS = 52,
};

typedef struct {
    uint64_t tag;
    uint64_t place;
} Entry;

struct LpmCodecPlaces {
    Entry bucket[BUCKETS][WAYS];
};

LpmCodecPlaces *lpm_codec_places_new(void)
{
    return calloc(1, sizeof(LpmCodecPlaces));
}

void lpm_codec_places_free(LpmCodecPlaces *places)
{
    free(places);
}

/* The digest is keyed and evenly spread: its own bits are the hash. */
static uint64_t half(const uint8_t *digest, size_t at)
{
    uint64_t value;
    memcpy(&value, digest + at, sizeof(value));
    return value;
}

void lpm_codec_places_put(LpmCodecPlaces *places, const uint8_t *digest, LpmCodecPlace place)
{
    Entry *bucket = places->bucket[half(digest, 8) % BUCKETS];
    uint64_t tag = half(digest, 0);
    if (bucket[0].tag != tag)
        bucket[1] = bucket[0];
    bucket[0] = (Entry){tag, (uint64_t)place.block << PAGE_BITS | place.page};
}

bool lpm_codec_places_get(const LpmCodecPlaces *places, const uint8_t *digest,
                          LpmCodecPlace *ret_place)
{
    const Entry *bucket = places->bucket[half(digest, 8) % BUCKETS];
    uint64_t tag = half(digest, 0);
    for (int i = 0; i < WAYS; i++) {
        if (tag != 0 && bucket[i].tag == tag) {
            *ret_place = (LpmCodecPlace){(uint32_t)(bucket[i].place >> PAGE_BITS),
                                         bucket[i].place & ((1ull << PAGE_BITS) - 1)};
            return true;
        }
    }
    return false;
}
