/* SPDX-License-Identifier: Apache-2.0 */
/* The three digests of the mover: of the whole stream, of one page of memory, and the proof of
 * holding the move's key. */
#pragma once

#include "stream/stream.h"

#include <gnutls/crypto.h>

enum {
    STREAM_PIECE = 8192,
    STREAM_PIECES_GATHERED = 32, /* digests of pieces given to the root at once */
};

/*
 * Running digest of a stream, with a value at any moment: SHA-256 of the pieces, and SHA-256 over
 * those (why: see docs/decisions/stream-digest.md). Not for several threads at once.
 */
typedef struct {
    gnutls_hash_hd_t root;
    uint64_t total; /* bytes so far */
    bool in_pairs;  /* two pieces at once */
    const uint8_t
        *waiting; /* a whole piece that waits for another one; only within stream_digest_add() */
    uint8_t unfinished[STREAM_PIECE];
    size_t unfinished_size;
    uint8_t gathered[STREAM_PIECES_GATHERED * LPM_STREAM_DIGEST_SIZE];
    size_t gathered_size;
} StreamDigest;

bool stream_digest_init(StreamDigest *digest);
void stream_digest_clear(StreamDigest *digest);
void stream_digest_add(StreamDigest *digest, const uint8_t *data, size_t size);
/* Total and digest of everything so far; more may follow. False when out of memory. */
bool stream_digest_snapshot(const StreamDigest *digest, LpmStreamEnd *ret_end);

/* Of several channels' streams, numbered from 0; of one it is that stream's. */
bool channels_digest(const LpmStreamEnd *channels, unsigned n, LpmStreamEnd *ret_end);

enum { LPM_EXPORTER_SIZE = 32 };

/*
 * HMAC-SHA256 with the move's key over the sender's side, the migration and a value that only this
 * TLS session has: whoever lacks the key cannot make it, and it is worth nothing on another
 * connection or from the other side.
 */
bool key_proof(const LpmStreamConfig *config, LpmStreamSide side,
               const uint8_t exporter[LPM_EXPORTER_SIZE], uint8_t out[LPM_STREAM_KEY_SIZE]);
/* Compares in constant time. */
bool key_proof_equal(const uint8_t a[LPM_STREAM_KEY_SIZE], const uint8_t b[LPM_STREAM_KEY_SIZE]);

/* Seed of the page digests: secret, so that no guest can make two pages of one digest. */
bool page_digest_seed(const LpmStreamConfig *config, uint64_t *ret_seed);
/* XXH3-128 of a page; sixteen zero bytes for a page of zeros. True when the page is zero. */
bool page_digest(const uint8_t *page, uint64_t seed, uint8_t out[LPM_STREAM_PAGE_DIGEST_SIZE]);
