/* SPDX-License-Identifier: Apache-2.0 */
/* FIPS 180-4 with the SHA extensions of x86-64; elsewhere not supported, and the caller takes
 * GnuTLS for each message. */
#include "sha256-pair.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>
#include <string.h>

#define WITH_SHA __attribute__((target("sha,sse4.1,ssse3")))
enum { LANES = 2 };

static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* The state in the order that the instructions want: words a b e f and c d g h, the first in the
 * highest place. */
typedef struct {
    __m128i abef, cdgh;
} Lane;

bool sha256_pair_supported(void)
{
    unsigned a, b = 0, c = 0, d;
    bool sse41 = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_SSE4_1) && (c & bit_SSSE3);
    return sse41 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA);
}

/* One block of each lane; the compiler interleaves the two. */
WITH_SHA static inline void add_blocks(Lane lanes[LANES], const uint8_t *const blocks[LANES])
{
    const __m128i to_big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0bll, 0x0405060700010203ll);
    Lane before[LANES] = {lanes[0], lanes[1]};
    __m128i w[LANES][4];
#pragma GCC unroll 16
    for (int group = 0; group < 16; group++) {
        const __m128i k = _mm_loadu_si128((const __m128i *)(round_constants + 4 * group));
#pragma GCC unroll 2
        for (int i = 0; i < LANES; i++) {
            __m128i *words = w[i];
            __m128i *now = &words[group & 3];
            const __m128i last = words[(group + 3) & 3];
            if (group < 4) {
                *now = _mm_loadu_si128((const __m128i *)(blocks[i] + 16 * group));
                *now = _mm_shuffle_epi8(*now, to_big_endian);
            } else {
                *now = _mm_sha256msg1_epu32(*now, words[(group + 1) & 3]);
                *now = _mm_add_epi32(*now, _mm_alignr_epi8(last, words[(group + 2) & 3], 4));
                *now = _mm_sha256msg2_epu32(*now, last);
            }
            __m128i sum = _mm_add_epi32(*now, k);
            lanes[i].cdgh = _mm_sha256rnds2_epu32(lanes[i].cdgh, lanes[i].abef, sum);
            sum = _mm_shuffle_epi32(sum, 0x0e);
            lanes[i].abef = _mm_sha256rnds2_epu32(lanes[i].abef, lanes[i].cdgh, sum);
        }
    }
    for (int i = 0; i < LANES; i++) {
        lanes[i].abef = _mm_add_epi32(lanes[i].abef, before[i].abef);
        lanes[i].cdgh = _mm_add_epi32(lanes[i].cdgh, before[i].cdgh);
    }
}

WITH_SHA static inline void store_digest(const Lane *lane, uint8_t out[SHA256_SIZE])
{
    uint32_t abef[4], cdgh[4];
    _mm_storeu_si128((__m128i *)abef, lane->abef);
    _mm_storeu_si128((__m128i *)cdgh, lane->cdgh);
    const uint32_t words[8] = {abef[3], abef[2], cdgh[3], cdgh[2],
                               abef[1], abef[0], cdgh[1], cdgh[0]};
    for (int i = 0; i < 8; i++)
        for (int byte = 0; byte < 4; byte++)
            out[4 * i + byte] = (uint8_t)(words[i] >> (24 - 8 * byte));
}

/*
 * The SHA instructions know only the lower halves of the vector registers. Where other code has
 * left the upper halves in use (some builds of xxHash do), each of them would have to keep those,
 * and the whole would take three times as long.
 */
__attribute__((target("avx"))) static void forget_upper_halves(void)
{
    _mm256_zeroupper();
}

WITH_SHA void sha256_pair(const uint8_t *a, const uint8_t *b, size_t size,
                          uint8_t out_a[SHA256_SIZE], uint8_t out_b[SHA256_SIZE])
{
    if (__builtin_cpu_supports("avx"))
        forget_upper_halves();
    const Lane start = {
        .abef = _mm_set_epi32(0x6a09e667, (int)0xbb67ae85, 0x510e527f, (int)0x9b05688c),
        .cdgh = _mm_set_epi32(0x3c6ef372, (int)0xa54ff53a, 0x1f83d9ab, 0x5be0cd19),
    };
    Lane lanes[LANES] = {start, start};
    for (size_t at = 0; at < size; at += SHA256_BLOCK)
        add_blocks(lanes, (const uint8_t *const[LANES]){a + at, b + at});
    /* What ends every message: a one bit, zeros, and the length in bits. */
    uint8_t padding[SHA256_BLOCK] = {0x80};
    uint64_t bits = (uint64_t)size * 8;
    for (int i = 0; i < 8; i++)
        padding[SHA256_BLOCK - 1 - i] = (uint8_t)(bits >> (8 * i));
    add_blocks(lanes, (const uint8_t *const[LANES]){padding, padding});
    store_digest(&lanes[0], out_a);
    store_digest(&lanes[1], out_b);
}

#else

bool sha256_pair_supported(void)
{
    return false;
}

void sha256_pair(const uint8_t *a, const uint8_t *b, size_t size, uint8_t out_a[SHA256_SIZE],
                 uint8_t out_b[SHA256_SIZE])
{
    (void)a, (void)b, (void)size, (void)out_a, (void)out_b;
}

#endif
