/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The digests, in lists of 4096, some of which are in memory. The table has the digest of each list
 * as it is in the file, zeros for one that holds nothing: a list that is not what the table says is
 * lost, and only that one.
 */
#include "pagestore/internal.h"

#include <string.h>

enum { LIST_SECTORS = LIST_SIZE / PAGE_SIZE };

static off_t list_offset(uint64_t number)
{
    return DIGESTS_OFFSET + (off_t)(number * LIST_SIZE);
}

static bool is_held(const uint8_t digest[DIGEST_SIZE])
{
    return memcmp(digest, digest_none, DIGEST_SIZE) != 0;
}

static bool holds_nothing(const List *list)
{
    for (unsigned i = 0; i < LIST_PAGES; i++)
        if (is_held(list->digests[i]))
            return false;
    return true;
}

void lists_reset(LpmPagestore *store)
{
    for (unsigned i = 0; i < LISTS_CACHED; i++) {
        store->lists[i].number = UINT64_MAX;
        store->lists[i].dirty = false;
    }
}

static bool write_back(LpmPagestore *store, List *list)
{
    uint8_t *entry = store->table[list->number];
    list->dirty = false;
    if (holds_nothing(list)) {
        memset(entry, 0, DIGEST_SIZE);
        return true;
    }
    crypt_digest(&store->crypt, (const uint8_t *)list->digests, LIST_SIZE, entry);
    uint64_t sector = SECTOR_OF_LISTS + list->number * LIST_SECTORS;
    return crypt_encrypt(&store->crypt, sector, (const uint8_t *)list->digests, store->staging,
                         LIST_SECTORS) &&
           store_write(store, store->staging, LIST_SIZE, list_offset(list->number));
}

static bool read_list(LpmPagestore *store, List *list, const uint8_t entry[DIGEST_SIZE])
{
    uint8_t found[DIGEST_SIZE];
    uint8_t *digests = (uint8_t *)list->digests;
    if (!store_read(store, digests, LIST_SIZE, list_offset(list->number)) ||
        !crypt_decrypt(&store->crypt, SECTOR_OF_LISTS + list->number * LIST_SECTORS, digests,
                       LIST_SECTORS))
        return false;
    crypt_digest(&store->crypt, digests, LIST_SIZE, found);
    return memcmp(found, entry, DIGEST_SIZE) == 0;
}

List *lists_get(LpmPagestore *store, uint64_t page)
{
    uint64_t number = page / LIST_PAGES;
    List *list = &store->lists[number % LISTS_CACHED];
    if (list->number == number)
        return list;
    if (list->dirty && !write_back(store, list))
        store->counts.write_errors++;
    list->number = number;
    const uint8_t *entry = store->table[number];
    if (memcmp(entry, digest_zero, DIGEST_SIZE) == 0) {
        memset(list->digests, 0xff, sizeof(list->digests));
    } else if (!read_list(store, list, entry)) {
        memset(list->digests, 0xff, sizeof(list->digests));
        store->counts.lists_lost++;
    }
    return list;
}

static void count(LpmPagestoreInfo *info, const uint8_t digest[DIGEST_SIZE], uint64_t by)
{
    info->held += is_held(digest) ? by : 0;
    info->zero += memcmp(digest, digest_zero, DIGEST_SIZE) == 0 ? by : 0;
}

void lists_set(LpmPagestore *store, uint64_t page, uint32_t n,
               const uint8_t (*digests)[DIGEST_SIZE], const uint8_t same[DIGEST_SIZE])
{
    List *list = lists_get(store, page);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *digest = list->digests[page % LIST_PAGES + i];
        const uint8_t *wanted = digests ? digests[i] : same;
        if (memcmp(digest, wanted, DIGEST_SIZE) == 0)
            continue;
        count(&store->header.info, digest, UINT64_MAX); /* one less */
        count(&store->header.info, wanted, 1);
        memcpy(digest, wanted, DIGEST_SIZE);
        list->dirty = true;
    }
}

bool lists_flush(LpmPagestore *store)
{
    bool good = true;
    for (unsigned i = 0; i < LISTS_CACHED; i++)
        if (store->lists[i].dirty)
            good = write_back(store, &store->lists[i]) && good;
    return good;
}
