/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which content lies where, by digest. Bounded: a bucket keeps its two latest. What it says may be
 * long over; whoever asks compares with the image's digest of that place.
 */
#include "codec/internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    BUCKETS_MIN = 1 << 12,
    BUCKETS_MAX = 1 << 19, /* 16 MiB: pages of 4 GiB */
    WAYS = 2,
    PAGE_BITS = 52,
};

typedef struct {
    uint64_t tag; /* 0: empty */
    uint64_t place;
} Entry;

typedef Entry Bucket[WAYS];

struct LpmCodecPlaces {
    size_t buckets; /* a power of two */
    size_t puts;    /* since it has this size */
    Bucket *bucket;
};

LpmCodecPlaces *lpm_codec_places_new(void)
{
    LpmCodecPlaces *places = calloc(1, sizeof(*places));
    if (!places)
        return NULL;
    places->buckets = BUCKETS_MIN;
    places->bucket = calloc(BUCKETS_MIN, sizeof(Bucket));
    if (places->bucket)
        return places;
    free(places);
    return NULL;
}

void lpm_codec_places_free(LpmCodecPlaces *places)
{
    if (!places)
        return;
    free(places->bucket);
    free(places);
}

/* The digest is keyed and evenly spread: its own bits are the hash. */
static uint64_t tag_of(const uint8_t *digest)
{
    uint64_t value;
    memcpy(&value, digest, sizeof(value));
    return value;
}

static void put(LpmCodecPlaces *places, Entry entry)
{
    Entry *bucket = places->bucket[entry.tag & (places->buckets - 1)];
    if (bucket[0].tag != entry.tag)
        bucket[1] = bucket[0];
    bucket[0] = entry;
}

/* Without memory for more it stays as it is. */
static void grow(LpmCodecPlaces *places)
{
    LpmCodecPlaces larger = {.buckets = 2 * places->buckets};
    larger.bucket = calloc(larger.buckets, sizeof(Bucket));
    places->puts = 0;
    if (!larger.bucket)
        return;
    for (size_t i = 0; i < places->buckets; i++) {
        for (size_t way = WAYS; way-- > 0;)
            put(&larger, places->bucket[i][way]);
    }
    free(places->bucket);
    *places = larger;
}

void lpm_codec_places_put(LpmCodecPlaces *places, const uint8_t *digest, LpmCodecPlace place)
{
    if (places->puts++ > places->buckets && places->buckets < BUCKETS_MAX)
        grow(places);
    put(places, (Entry){tag_of(digest), (uint64_t)place.block << PAGE_BITS | place.page});
}

bool lpm_codec_places_get(const LpmCodecPlaces *places, const uint8_t *digest,
                          LpmCodecPlace *ret_place)
{
    uint64_t tag = tag_of(digest);
    const Entry *bucket = places->bucket[tag & (places->buckets - 1)];
    for (int i = 0; i < WAYS; i++) {
        if (tag != 0 && bucket[i].tag == tag) {
            *ret_place = (LpmCodecPlace){(uint32_t)(bucket[i].place >> PAGE_BITS),
                                         bucket[i].place & ((1ull << PAGE_BITS) - 1)};
            return true;
        }
    }
    return false;
}
