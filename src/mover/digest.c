/* SPDX-License-Identifier: Apache-2.0 */
#include "digest.h"

#include "bytes/bytes.h"

#include "sha256-pair.h"

#include <string.h>
#include <xxh_x86dispatch.h>

bool stream_digest_init(StreamDigest *digest)
{
    static const char label[] = "openlpm stream";
    memset(digest, 0, sizeof(*digest));
    digest->in_pairs = sha256_pair_supported();
    return gnutls_hash_init(&digest->root, GNUTLS_DIG_SHA256) == 0 &&
           gnutls_hash(digest->root, label, sizeof(label) - 1) == 0;
}

void stream_digest_clear(StreamDigest *digest)
{
    if (digest->root)
        gnutls_hash_deinit(digest->root, NULL);
    digest->root = NULL;
}

/* Room for the digests of two pieces. */
static uint8_t *next_digests(StreamDigest *digest)
{
    if (digest->gathered_size + 2 * LPM_STREAM_DIGEST_SIZE > sizeof(digest->gathered)) {
        gnutls_hash(digest->root, digest->gathered, digest->gathered_size);
        digest->gathered_size = 0;
    }
    return digest->gathered + digest->gathered_size;
}

static void add_waiting(StreamDigest *digest)
{
    if (!digest->waiting)
        return;
    gnutls_hash_fast(GNUTLS_DIG_SHA256, digest->waiting, STREAM_PIECE, next_digests(digest));
    digest->gathered_size += LPM_STREAM_DIGEST_SIZE;
    digest->waiting = NULL;
}

/* A whole piece, which stays where it is until the end of stream_digest_add(). */
static void add_piece(StreamDigest *digest, const uint8_t *piece)
{
    if (!digest->in_pairs)
        add_waiting(digest);
    if (!digest->waiting) {
        digest->waiting = piece;
        return;
    }
    uint8_t *out = next_digests(digest);
    sha256_pair(digest->waiting, piece, STREAM_PIECE, out, out + LPM_STREAM_DIGEST_SIZE);
    digest->gathered_size += 2 * LPM_STREAM_DIGEST_SIZE;
    digest->waiting = NULL;
}

/* Goes on with the unfinished piece; the bytes taken. */
static size_t finish_piece(StreamDigest *digest, const uint8_t *data, size_t size)
{
    size_t missing = STREAM_PIECE - digest->unfinished_size;
    size_t taken = size < missing ? size : missing;
    memcpy(digest->unfinished + digest->unfinished_size, data, taken);
    digest->unfinished_size += taken;
    return taken;
}

void stream_digest_add(StreamDigest *digest, const uint8_t *data, size_t size)
{
    digest->total += size;
    if (digest->unfinished_size > 0) {
        size_t taken = finish_piece(digest, data, size);
        data += taken;
        size -= taken;
        if (digest->unfinished_size < STREAM_PIECE)
            return;
        add_piece(digest, digest->unfinished);
    }
    for (; size >= STREAM_PIECE; size -= STREAM_PIECE, data += STREAM_PIECE)
        add_piece(digest, data);
    add_waiting(digest);
    digest->unfinished_size = 0;
    finish_piece(digest, data, size);
}

bool stream_digest_snapshot(const StreamDigest *digest, LpmStreamEnd *ret_end)
{
    gnutls_hash_hd_t copy = gnutls_hash_copy(digest->root);
    if (!copy)
        return false;
    gnutls_hash(copy, digest->gathered, digest->gathered_size);
    if (digest->unfinished_size > 0) {
        uint8_t last[LPM_STREAM_DIGEST_SIZE];
        gnutls_hash_fast(GNUTLS_DIG_SHA256, digest->unfinished, digest->unfinished_size, last);
        gnutls_hash(copy, last, sizeof(last));
    }
    gnutls_hash_deinit(copy, ret_end->digest);
    ret_end->total = digest->total;
    return true;
}

static bool keyed_digest(const LpmStreamConfig *config, const char *label, const uint8_t *more,
                         size_t more_size, uint8_t out[LPM_STREAM_KEY_SIZE])
{
    gnutls_hmac_hd_t hmac;
    if (gnutls_hmac_init(&hmac, GNUTLS_MAC_SHA256, config->key, LPM_STREAM_KEY_SIZE) != 0)
        return false;
    bool good = gnutls_hmac(hmac, label, strlen(label)) == 0 &&
                gnutls_hmac(hmac, config->migration, LPM_STREAM_ID_SIZE) == 0 &&
                (more_size == 0 || gnutls_hmac(hmac, more, more_size) == 0);
    gnutls_hmac_deinit(hmac, out);
    return good;
}

bool channels_digest(const LpmStreamEnd *channels, unsigned n, LpmStreamEnd *ret_end)
{
    static const char label[] = "openlpm channels";
    gnutls_hash_hd_t hash;
    *ret_end = channels[0];
    if (n == 1)
        return true;
    if (gnutls_hash_init(&hash, GNUTLS_DIG_SHA256) != 0)
        return false;
    ret_end->total = 0;
    gnutls_hash(hash, label, sizeof(label) - 1);
    for (unsigned i = 0; i < n; i++) {
        uint8_t total[8];
        LpmByteWriter w = lpm_bytes_writer(total, sizeof(total));
        lpm_bytes_put_u64(&w, channels[i].total);
        gnutls_hash(hash, total, sizeof(total));
        gnutls_hash(hash, channels[i].digest, LPM_STREAM_DIGEST_SIZE);
        ret_end->total += channels[i].total;
    }
    gnutls_hash_deinit(hash, ret_end->digest);
    return true;
}

bool key_proof(const LpmStreamConfig *config, LpmStreamSide side,
               const uint8_t exporter[LPM_EXPORTER_SIZE], uint8_t out[LPM_STREAM_KEY_SIZE])
{
    const char *label =
        side == LPM_STREAM_SIDE_SRC ? "openlpm mover source" : "openlpm mover target";
    return keyed_digest(config, label, exporter, LPM_EXPORTER_SIZE, out);
}

bool key_proof_equal(const uint8_t a[LPM_STREAM_KEY_SIZE], const uint8_t b[LPM_STREAM_KEY_SIZE])
{
    return gnutls_memcmp(a, b, LPM_STREAM_KEY_SIZE) == 0;
}

bool page_digest_seed(const LpmStreamConfig *config, uint64_t *ret_seed)
{
    uint8_t out[LPM_STREAM_KEY_SIZE];
    if (!keyed_digest(config, "openlpm page seed", NULL, 0, out))
        return false;
    *ret_seed = 0;
    for (unsigned i = 0; i < 8; i++)
        *ret_seed |= (uint64_t)out[i] << (8 * i);
    return true;
}

static bool is_zero(const uint8_t *page)
{
    /* Most pages that are not zero differ from it at once. */
    uint64_t words[8];
    for (size_t at = 0; at < LPM_STREAM_PAGE_SIZE; at += sizeof(words)) {
        memcpy(words, page + at, sizeof(words));
        if (words[0] | words[1] | words[2] | words[3] | words[4] | words[5] | words[6] | words[7])
            return false;
    }
    return true;
}

bool page_digest(const uint8_t *page, uint64_t seed, uint8_t out[LPM_STREAM_PAGE_DIGEST_SIZE])
{
    if (is_zero(page)) {
        memset(out, 0, LPM_STREAM_PAGE_DIGEST_SIZE);
        return true;
    }
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_withSeed(page, LPM_STREAM_PAGE_SIZE, seed));
    memcpy(out, canonical.digest, LPM_STREAM_PAGE_DIGEST_SIZE);
    return false;
}
