/* SPDX-License-Identifier: Apache-2.0 */
/* What comes of a partition's key: a cipher for the file, a secret for the digests, and a MAC. */
#include "pagestore/internal.h"

#include <string.h>
#include <xxh_x86dispatch.h>

const uint8_t digest_zero[DIGEST_SIZE] = {0};
const uint8_t digest_none[DIGEST_SIZE] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                          0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

/* HMAC-SHA256 of a label and a counter, as often as needed. */
static bool derive(const uint8_t key[LPM_PAGESTORE_KEY_SIZE], const char *label, uint8_t *out,
                   size_t size)
{
    uint8_t text[64];
    size_t length = strlen(label);
    memcpy(text, label, length);
    for (size_t at = 0; at < size; at += LPM_PAGESTORE_KEY_SIZE) {
        text[length] = (uint8_t)(at / LPM_PAGESTORE_KEY_SIZE);
        if (gnutls_hmac_fast(GNUTLS_MAC_SHA256, key, LPM_PAGESTORE_KEY_SIZE, text, length + 1,
                             out + at) != 0)
            return false;
    }
    return true;
}

bool crypt_init(Crypt *crypt, const uint8_t key[LPM_PAGESTORE_KEY_SIZE])
{
    uint8_t xts[XTS_KEY_SIZE], iv[DIGEST_SIZE] = {0};
    const gnutls_datum_t xts_key = {xts, sizeof(xts)}, first_iv = {iv, sizeof(iv)};
    bool good =
        derive(key, "openlpm image cipher", xts, sizeof(xts)) &&
        derive(key, "openlpm image digest", crypt->secret, sizeof(crypt->secret)) &&
        derive(key, "openlpm image mac", crypt->mac, sizeof(crypt->mac)) &&
        gnutls_cipher_init(&crypt->cipher, GNUTLS_CIPHER_AES_128_XTS, &xts_key, &first_iv) == 0;
    explicit_bzero(xts, sizeof(xts));
    return good;
}

void crypt_clear(Crypt *crypt)
{
    if (crypt->cipher)
        gnutls_cipher_deinit(crypt->cipher);
    explicit_bzero(crypt, sizeof(*crypt));
}

static void set_sector(Crypt *crypt, uint64_t sector)
{
    uint8_t tweak[16] = {0};
    for (unsigned i = 0; i < 8; i++)
        tweak[i] = (uint8_t)(sector >> (8 * i));
    gnutls_cipher_set_iv(crypt->cipher, tweak, sizeof(tweak));
}

bool crypt_encrypt(Crypt *crypt, uint64_t sector, const uint8_t *plain, uint8_t *out, size_t n)
{
    bool good = true;
    for (size_t i = 0; good && i < n; i++) {
        set_sector(crypt, sector + i);
        good = gnutls_cipher_encrypt2(crypt->cipher, plain + i * PAGE_SIZE, PAGE_SIZE,
                                      out + i * PAGE_SIZE, PAGE_SIZE) == 0;
    }
    return good;
}

bool crypt_decrypt(Crypt *crypt, uint64_t sector, uint8_t *data, size_t n)
{
    bool good = true;
    for (size_t i = 0; good && i < n; i++) {
        set_sector(crypt, sector + i);
        good = gnutls_cipher_decrypt2(crypt->cipher, data + i * PAGE_SIZE, PAGE_SIZE,
                                      data + i * PAGE_SIZE, PAGE_SIZE) == 0;
    }
    return good;
}

void crypt_digest(const Crypt *crypt, const uint8_t *data, size_t size, uint8_t out[DIGEST_SIZE])
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical,
                             XXH3_128bits_withSecret(data, size, crypt->secret, SECRET_SIZE));
    memcpy(out, canonical.digest, DIGEST_SIZE);
    /* Two values mean something else. */
    if (memcmp(out, digest_zero, DIGEST_SIZE) == 0 || memcmp(out, digest_none, DIGEST_SIZE) == 0)
        out[0] ^= 1;
}

bool crypt_mac(const Crypt *crypt, const void *const *parts, const size_t *sizes, size_t n,
               uint8_t out[LPM_PAGESTORE_ROOT_SIZE])
{
    gnutls_hmac_hd_t hmac;
    if (gnutls_hmac_init(&hmac, GNUTLS_MAC_SHA256, crypt->mac, sizeof(crypt->mac)) != 0)
        return false;
    bool good = true;
    for (size_t i = 0; i < n; i++)
        good = (sizes[i] == 0 || gnutls_hmac(hmac, parts[i], sizes[i]) == 0) && good;
    gnutls_hmac_deinit(hmac, out);
    return good;
}

bool is_zeros(const uint8_t *data, size_t size)
{
    /* Most of what is not zero shows it at once. */
    for (size_t at = 0; at < size; at += 8 * sizeof(uint64_t)) {
        uint64_t w[8];
        memcpy(w, data + at, sizeof(w));
        if (w[0] | w[1] | w[2] | w[3] | w[4] | w[5] | w[6] | w[7])
            return false;
    }
    return true;
}
