/* SPDX-License-Identifier: Apache-2.0 */
/* Private to lib/pagestore: where things are in the file, and what its sources share. */
#pragma once

#include "pagestore/pagestore.h"

#include <gnutls/crypto.h>

enum {
    PAGE_SIZE = LPM_QSTREAM_PAGE_SIZE,
    DIGEST_SIZE = LPM_CODEC_DIGEST_SIZE,
    SECRET_SIZE = 192, /* what XXH3 uses at full */
    XTS_KEY_SIZE = 32,

    HEADER_SIZE = 32 * 1024, /* at the start of the file */
    BLOCKS_MAX = LPM_QSTREAM_BLOCKS_MAX,
    NAME_MAX_SIZE = LPM_QSTREAM_NAME_MAX,
    GIVEN_UP_MAX = 16, /* places, in an image that is sealed */

    LIST_PAGES = 4096, /* pages whose digests are kept together */
    LIST_SIZE = LIST_PAGES * DIGEST_SIZE,
    LISTS_CACHED = 48,
    RUN_MAX = 64, /* pages written at once */
};

/* The areas of the file; what was never written in them is a hole. */
#define LISTS_MAX      (LPM_PAGESTORE_PAGES_MAX / LIST_PAGES)
#define TABLE_OFFSET   ((off_t)HEADER_SIZE)
#define DIGESTS_OFFSET ((off_t)4 * 1024 * 1024)
#define CONTENT_OFFSET (DIGESTS_OFFSET + (off_t)LPM_PAGESTORE_PAGES_MAX * DIGEST_SIZE)
_Static_assert(HEADER_SIZE + LISTS_MAX * DIGEST_SIZE <= 4 * 1024 * 1024, "the table fits");

/* --- crypt.c --- */

typedef struct {
    gnutls_cipher_hd_t cipher; /* AES-128-XTS; one sector is PAGE_SIZE */
    uint8_t secret[SECRET_SIZE];
    uint8_t mac[LPM_PAGESTORE_KEY_SIZE]; /* of header and root */
} Crypt;

/* Sectors of the lists of digests are numbered apart from the pages. */
#define SECTOR_OF_LISTS (UINT64_C(1) << 63)

bool crypt_init(Crypt *crypt, const uint8_t key[LPM_PAGESTORE_KEY_SIZE]);
void crypt_clear(Crypt *crypt);
/* @n sectors from number @sector on. False when the library refuses. */
bool crypt_encrypt(Crypt *crypt, uint64_t sector, const uint8_t *plain, uint8_t *out, size_t n);
bool crypt_decrypt(Crypt *crypt, uint64_t sector, uint8_t *data, size_t n);
/* Keyed XXH3-128; never one of the two values below. */
void crypt_digest(const Crypt *crypt, const uint8_t *data, size_t size, uint8_t out[DIGEST_SIZE]);
bool crypt_mac(const Crypt *crypt, const void *const *parts, const size_t *sizes, size_t n,
               uint8_t out[LPM_PAGESTORE_ROOT_SIZE]);

/* In place of a digest: a page of zeros; of a list: nothing of it is held. */
extern const uint8_t digest_zero[DIGEST_SIZE];
/* In place of a digest: not held. */
extern const uint8_t digest_none[DIGEST_SIZE];
bool is_zeros(const uint8_t *data, size_t size);

/* --- header.c --- */

/* A RAM block's place in the image; name "" when it was given up. */
typedef struct {
    char name[NAME_MAX_SIZE + 1];
    uint64_t length; /* bytes */
    uint64_t first;  /* page of the image, a multiple of LIST_PAGES */
    bool taken;      /* by a block of this move; not in the file */
} Place;

typedef struct {
    bool sealed;
    LpmPagestoreInfo info;
    uint32_t n_places;
    Place places[BLOCKS_MAX];
} Header;

/* False when the library refuses. */
bool header_encode(const Header *header, const Crypt *crypt, uint8_t out[HEADER_SIZE]);
/* False for anything that header_encode() did not make with this key. */
bool header_decode(const uint8_t in[HEADER_SIZE], const Crypt *crypt, Header *ret_header);
/* Pages that @n places reach to, a multiple of LIST_PAGES. */
uint64_t header_pages(const Header *header);

/* --- lists.c --- */

/* The digests of LIST_PAGES pages, in memory. */
typedef struct {
    uint64_t number; /* UINT64_MAX: none */
    bool dirty;
    uint8_t digests[LIST_PAGES][DIGEST_SIZE];
} List;

struct LpmPagestore {
    LpmPagestoreIo io;
    int fd; /* when io is the C library's */
    Crypt crypt;
    Header header;
    bool begun;
    LpmPagestoreCounts counts;
    LpmCodecImage image;
    int place_of[BLOCKS_MAX];      /* of a block of this move; -1 */
    uint8_t (*table)[DIGEST_SIZE]; /* of LISTS_MAX lists */
    List *lists;                   /* LISTS_CACHED: number n is at n % LISTS_CACHED */
    uint8_t *staging;              /* RUN_MAX pages */
};

/* Whole transfers; false on any error or a short file. */
bool store_read(LpmPagestore *store, void *out, size_t size, off_t offset);
bool store_write(LpmPagestore *store, const void *data, size_t size, off_t offset);

/* Forgets what is in memory. */
void lists_reset(LpmPagestore *store);
/* The list that @page of the image is in. One that is lost is one that holds nothing. */
List *lists_get(LpmPagestore *store, uint64_t page);
/* Sets @n digests from @page on, all within one list. NULL: every one is @same. */
void lists_set(LpmPagestore *store, uint64_t page, uint32_t n,
               const uint8_t (*digests)[DIGEST_SIZE], const uint8_t same[DIGEST_SIZE]);
/* Writes what was changed. */
bool lists_flush(LpmPagestore *store);
