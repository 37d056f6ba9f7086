/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The resident image of one partition: what its memory was when a move ended, in one flat file that
 * the caller opened (docs/spec/page-store.md). Both systems of a move change theirs in the same
 * way; when both hold the same one, the next move carries only what differs. The file is encrypted
 * with the partition's key. Nothing in it is trusted: a page, a list of digests or a header that is
 * torn, altered or of another key is not held; no page comes out that did not go in.
 *
 * Calls pread, pwrite, fdatasync and ftruncate on the file and nothing else; opens nothing. One
 * thread at a time, but for the image's hash function, which any may call. Memory: 6 MiB at most,
 * whatever the partition's size.
 */
#pragma once

#include "codec/codec.h"

#include <sys/types.h>

enum {
    LPM_PAGESTORE_KEY_SIZE = 32,  /* random, of one partition, the same on all systems */
    LPM_PAGESTORE_ID_SIZE = 16,   /* of an image: of the move it was sealed after */
    LPM_PAGESTORE_ROOT_SIZE = 32, /* HMAC-SHA256 over everything the image says it holds */
};

/* More memory than this (2 TiB, the blocks' sum) is not held; pages of 4096 bytes. */
#define LPM_PAGESTORE_PAGES_MAX (UINT64_C(1) << 29)

/* The calls on the file, as the C library's; replaced by tests. */
typedef struct {
    void *context;
    ssize_t (*pread)(void *context, void *out, size_t size, off_t offset);
    ssize_t (*pwrite)(void *context, const void *data, size_t size, off_t offset);
    int (*fdatasync)(void *context);
    int (*ftruncate)(void *context, off_t size);
} LpmPagestoreIo;

/* What a sealed image says of itself. */
typedef struct {
    uint8_t id[LPM_PAGESTORE_ID_SIZE];
    uint8_t root[LPM_PAGESTORE_ROOT_SIZE];
    uint64_t generation; /* how many times it was sealed */
    uint64_t held;       /* pages, those of zeros too */
    uint64_t zero;       /* pages of zeros among them; they take no room */
} LpmPagestoreInfo;

/* Of one open image, since it was opened. */
typedef struct {
    uint64_t kept;         /* pages written */
    uint64_t read;         /* pages read and right */
    uint64_t damaged;      /* pages that did not match their digest, or could not be read */
    uint64_t lists_lost;   /* lists of digests, of 4096 pages each, that were not what they were */
    uint64_t write_errors; /* once there is one, the image cannot be sealed */
} LpmPagestoreCounts;

typedef struct LpmPagestore LpmPagestore;

/*
 * An image in the file @fd, readable and writable, which stays the caller's and open as long as
 * this lives. Any content is taken: what is no sealed image under this key is empty.
 * Changes nothing in the file. NULL when out of memory.
 */
LpmPagestore *lpm_pagestore_open(int fd, const uint8_t key[LPM_PAGESTORE_KEY_SIZE]);
/* The same over other calls; @io is copied, its context borrowed. */
LpmPagestore *lpm_pagestore_open_io(const LpmPagestoreIo *io,
                                    const uint8_t key[LPM_PAGESTORE_KEY_SIZE]);
/* What was not sealed is of no more use. NULL is allowed. */
void lpm_pagestore_free(LpmPagestore *store);

/* What is sealed in the file; false when nothing is, and after lpm_pagestore_begin(). */
bool lpm_pagestore_sealed(const LpmPagestore *store, LpmPagestoreInfo *ret_info);

/*
 * Before a move: from now on the file, durably, holds nothing sealed. With @from_base the content
 * stays known here, because the other side has the same id and root; else it starts empty. Until
 * this is called the image functions hold nothing and keep nothing. False when the file cannot be
 * written: the image then stays like that, and the other side must not count on it.
 */
bool lpm_pagestore_begin(LpmPagestore *store, bool from_base);

/* For the coder or the decoder; borrowed. */
const LpmCodecImage *lpm_pagestore_image(LpmPagestore *store);

/*
 * After a move that was good on both sides: everything written and durable, then sealed as @id,
 * which both sides know. Takes as long as the disk needs for what was changed: call it when the
 * partition runs. False, and nothing sealed, when something could not be written, now or before.
 * On success @ret_info (NULL: not wanted), and the image functions hold nothing any more.
 */
bool lpm_pagestore_seal(LpmPagestore *store, const uint8_t id[LPM_PAGESTORE_ID_SIZE],
                        LpmPagestoreInfo *ret_info);

const LpmPagestoreCounts *lpm_pagestore_counts(const LpmPagestore *store);

/* Room on disk that an image of @pages takes at most, with its lists; bytes. */
uint64_t lpm_pagestore_size(uint64_t pages);
