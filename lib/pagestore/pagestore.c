/* SPDX-License-Identifier: Apache-2.0 */
#include "pagestore/pagestore.h"

#include "pagestore/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- the file --- */

static ssize_t fd_pread(void *context, void *out, size_t size, off_t offset)
{
    return pread(*(int *)context, out, size, offset);
}

static ssize_t fd_pwrite(void *context, const void *data, size_t size, off_t offset)
{
    return pwrite(*(int *)context, data, size, offset);
}

static int fd_fdatasync(void *context)
{
    return fdatasync(*(int *)context);
}

static int fd_ftruncate(void *context, off_t size)
{
    return ftruncate(*(int *)context, size);
}

bool store_read(LpmPagestore *store, void *out, size_t size, off_t offset)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = store->io.pread(store->io.context, (uint8_t *)out + done, size - done,
                                    offset + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

bool store_write(LpmPagestore *store, const void *data, size_t size, off_t offset)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = store->io.pwrite(store->io.context, (const uint8_t *)data + done, size - done,
                                     offset + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

/* --- header, table and root --- */

static uint8_t *table_bytes(const LpmPagestore *store)
{
    return (uint8_t *)store->table;
}

static size_t table_size(const LpmPagestore *store)
{
    return (size_t)(header_pages(&store->header) / LIST_PAGES) * DIGEST_SIZE;
}

/* Blocks that come and go in another size use places up; both sides then begin anew. */
static bool has_room_for_places(const Header *header)
{
    uint32_t given_up = 0;
    for (uint32_t i = 0; i < header->n_places; i++)
        given_up += header->places[i].name[0] == 0;
    return given_up <= GIVEN_UP_MAX;
}

/* Over the blocks, which say what a list is of, and the table: so over every digest. */
static bool compute_root(LpmPagestore *store, uint8_t out[LPM_PAGESTORE_ROOT_SIZE])
{
    static const char label[] = "root";
    const Header *header = &store->header;
    const void *parts[2 + 2 * BLOCKS_MAX];
    size_t sizes[2 + 2 * BLOCKS_MAX], n = 0;
    parts[n] = label;
    sizes[n++] = sizeof(label);
    uint8_t lengths[BLOCKS_MAX][8];
    for (uint32_t i = 0; i < header->n_places; i++) {
        for (unsigned b = 0; b < 8; b++)
            lengths[i][b] = (uint8_t)(header->places[i].length >> (8 * b));
        parts[n] = lengths[i];
        sizes[n++] = sizeof(lengths[i]);
        parts[n] = header->places[i].name;
        sizes[n++] = strlen(header->places[i].name) + 1;
    }
    parts[n] = store->table;
    sizes[n++] = table_size(store);
    return crypt_mac(&store->crypt, parts, sizes, n, out);
}

static bool write_header(LpmPagestore *store)
{
    uint8_t data[HEADER_SIZE];
    return header_encode(&store->header, &store->crypt, data) &&
           store_write(store, data, sizeof(data), 0);
}

static bool sync_file(LpmPagestore *store)
{
    return store->io.fdatasync(store->io.context) == 0;
}

/* Nothing held, no blocks; the generation goes on. */
static void make_empty(LpmPagestore *store)
{
    Header *header = &store->header;
    memset(store->table, 0, table_size(store)); /* no more of it was ever used */
    header->sealed = false;
    header->n_places = 0;
    header->info.held = header->info.zero = 0;
    memset(header->info.id, 0, sizeof(header->info.id));
    memset(header->info.root, 0, sizeof(header->info.root));
    lists_reset(store);
}

static bool load(LpmPagestore *store)
{
    uint8_t data[HEADER_SIZE], root[LPM_PAGESTORE_ROOT_SIZE];
    Header *header = &store->header;
    return store_read(store, data, sizeof(data), 0) && header_decode(data, &store->crypt, header) &&
           header->sealed &&
           store_read(store, table_bytes(store), table_size(store), TABLE_OFFSET) &&
           compute_root(store, root) && memcmp(root, header->info.root, sizeof(root)) == 0;
}

/* --- places --- */

/* The place of that name, given up when its length is another one; NULL: none. */
static Place *find_place(LpmPagestore *store, const char *name, uint64_t length)
{
    for (uint32_t i = 0; i < store->header.n_places; i++) {
        Place *place = &store->header.places[i];
        if (place->name[0] == 0 || strcmp(place->name, name) != 0)
            continue;
        if (place->length == length || place->taken)
            return place;
        place->name[0] = 0;
    }
    return NULL;
}

static Place *new_place(LpmPagestore *store, const char *name, uint64_t length)
{
    Header *header = &store->header;
    uint64_t first = header_pages(header);
    if (header->n_places == BLOCKS_MAX || strlen(name) > NAME_MAX_SIZE ||
        length > (LPM_PAGESTORE_PAGES_MAX - first) * PAGE_SIZE)
        return NULL;
    Place *place = &header->places[header->n_places++];
    *place = (Place){.length = length, .first = first};
    memcpy(place->name, name, strlen(name));
    return place;
}

static bool image_add_block(void *context, uint32_t block, const char *name, uint64_t length)
{
    LpmPagestore *store = context;
    if (!store->begun || block >= BLOCKS_MAX || store->place_of[block] >= 0 || name[0] == 0)
        return false;
    Place *place = find_place(store, name, length);
    if (!place)
        place = new_place(store, name, length);
    if (!place || place->taken)
        return false;
    place->taken = true;
    store->place_of[block] = (int)(place - store->header.places);
    return true;
}

/*
 * Where @page of @block is in the image; false when it has no place. *ret_n is at most @n, and ends
 * with the list and the block.
 */
static bool locate(const LpmPagestore *store, uint32_t block, uint64_t page, uint64_t n,
                   uint64_t *ret_at, uint32_t *ret_n)
{
    if (!store->begun || block >= BLOCKS_MAX || store->place_of[block] < 0)
        return false;
    const Place *place = &store->header.places[store->place_of[block]];
    uint64_t pages = place->length / PAGE_SIZE + (place->length % PAGE_SIZE != 0);
    if (page >= pages)
        return false;
    *ret_at = place->first + page;
    uint64_t left = LIST_PAGES - *ret_at % LIST_PAGES;
    if (left > pages - page)
        left = pages - page;
    *ret_n = (uint32_t)(n < left ? n : left);
    return true;
}

/* --- the coder's and decoder's functions --- */

static void image_hash(void *context, const uint8_t *page, uint8_t ret_digest[DIGEST_SIZE])
{
    const LpmPagestore *store = context;
    if (is_zeros(page, PAGE_SIZE))
        memset(ret_digest, 0, DIGEST_SIZE);
    else
        crypt_digest(&store->crypt, page, PAGE_SIZE, ret_digest);
}

static bool find_digest(LpmPagestore *store, uint32_t block, uint64_t page, uint64_t *ret_at,
                        uint8_t ret_digest[DIGEST_SIZE])
{
    uint32_t one;
    if (!locate(store, block, page, 1, ret_at, &one))
        return false;
    const uint8_t *digest = lists_get(store, *ret_at)->digests[*ret_at % LIST_PAGES];
    if (memcmp(digest, digest_none, DIGEST_SIZE) == 0)
        return false;
    memcpy(ret_digest, digest, DIGEST_SIZE);
    return true;
}

static bool image_digest(void *context, uint32_t block, uint64_t page,
                         uint8_t ret_digest[DIGEST_SIZE])
{
    uint64_t at;
    return find_digest(context, block, page, &at, ret_digest);
}

static bool image_content(void *context, uint32_t block, uint64_t page, uint8_t *ret_page)
{
    LpmPagestore *store = context;
    uint8_t wanted[DIGEST_SIZE], found[DIGEST_SIZE];
    uint64_t at;
    if (!find_digest(store, block, page, &at, wanted))
        return false;
    if (memcmp(wanted, digest_zero, DIGEST_SIZE) == 0) {
        memset(ret_page, 0, PAGE_SIZE);
        return true;
    }
    bool good = store_read(store, ret_page, PAGE_SIZE, CONTENT_OFFSET + (off_t)(at * PAGE_SIZE)) &&
                crypt_decrypt(&store->crypt, at, ret_page, 1);
    if (good) {
        crypt_digest(&store->crypt, ret_page, PAGE_SIZE, found);
        good = memcmp(found, wanted, DIGEST_SIZE) == 0;
    }
    store->counts.read += good;
    store->counts.damaged += !good;
    return good;
}

/* At most RUN_MAX pages, in one write. */
static void write_pages(LpmPagestore *store, uint64_t at, uint32_t n, const uint8_t *const *pages)
{
    bool good = true;
    for (uint32_t i = 0; good && i < n; i++)
        good = crypt_encrypt(&store->crypt, at + i, pages[i],
                             store->staging + (size_t)i * PAGE_SIZE, 1);
    good = good && store_write(store, store->staging, (size_t)n * PAGE_SIZE,
                               CONTENT_OFFSET + (off_t)(at * PAGE_SIZE));
    store->counts.write_errors += !good;
}

/*
 * The digest says what belongs there even if the content could not be written: so both sides' lists
 * stay the same, and the content, which does not match, is never used.
 */
static void image_keep(void *context, uint32_t block, uint64_t first, uint32_t n,
                       const uint8_t *const *pages, const uint8_t (*digests)[DIGEST_SIZE])
{
    LpmPagestore *store = context;
    uint64_t at;
    uint32_t some;
    for (uint32_t done = 0; done < n; done += some) {
        if (!locate(store, block, first + done, n - done, &at, &some))
            return;
        if (pages && some > RUN_MAX)
            some = RUN_MAX;
        lists_set(store, at, some, pages ? digests + done : NULL, digest_zero);
        if (pages)
            write_pages(store, at, some, pages + done);
        store->counts.kept += some;
    }
}

static void image_forget(void *context, uint32_t block, uint64_t first, uint32_t n)
{
    LpmPagestore *store = context;
    uint64_t at;
    uint32_t some;
    for (uint32_t done = 0; done < n; done += some) {
        if (!locate(store, block, first + done, n - done, &at, &some))
            return;
        lists_set(store, at, some, NULL, digest_none);
    }
}

/* --- the whole --- */

static void no_places(LpmPagestore *store)
{
    for (unsigned i = 0; i < BLOCKS_MAX; i++)
        store->place_of[i] = -1;
    for (uint32_t i = 0; i < store->header.n_places; i++)
        store->header.places[i].taken = false;
}

static LpmPagestore *store_new(const uint8_t key[LPM_PAGESTORE_KEY_SIZE])
{
    LpmPagestore *store = calloc(1, sizeof(*store));
    if (!store)
        return NULL;
    store->table = calloc(LISTS_MAX, DIGEST_SIZE);
    store->lists = malloc(LISTS_CACHED * sizeof(List));
    store->staging = malloc((size_t)RUN_MAX * PAGE_SIZE);
    if (!store->table || !store->lists || !store->staging || !crypt_init(&store->crypt, key)) {
        lpm_pagestore_free(store);
        return NULL;
    }
    store->image = (LpmCodecImage){.context = store,
                                   .add_block = image_add_block,
                                   .hash = image_hash,
                                   .digest = image_digest,
                                   .content = image_content,
                                   .keep = image_keep,
                                   .forget = image_forget};
    lists_reset(store);
    no_places(store);
    return store;
}

static void open_base(LpmPagestore *store)
{
    if (!load(store))
        make_empty(store);
}

LpmPagestore *lpm_pagestore_open_io(const LpmPagestoreIo *io,
                                    const uint8_t key[LPM_PAGESTORE_KEY_SIZE])
{
    LpmPagestore *store = store_new(key);
    if (store) {
        store->io = *io;
        open_base(store);
    }
    return store;
}

LpmPagestore *lpm_pagestore_open(int fd, const uint8_t key[LPM_PAGESTORE_KEY_SIZE])
{
    LpmPagestore *store = store_new(key);
    if (store) {
        store->fd = fd;
        store->io = (LpmPagestoreIo){&store->fd, fd_pread, fd_pwrite, fd_fdatasync, fd_ftruncate};
        open_base(store);
    }
    return store;
}

void lpm_pagestore_free(LpmPagestore *store)
{
    if (!store)
        return;
    crypt_clear(&store->crypt);
    free(store->table);
    free(store->lists);
    free(store->staging);
    free(store);
}

bool lpm_pagestore_sealed(const LpmPagestore *store, LpmPagestoreInfo *ret_info)
{
    if (store->header.sealed && ret_info)
        *ret_info = store->header.info;
    return store->header.sealed;
}

bool lpm_pagestore_begin(LpmPagestore *store, bool from_base)
{
    bool base = from_base && store->header.sealed;
    if (!base)
        make_empty(store);
    store->header.sealed = false;
    no_places(store);
    store->begun = (base || store->io.ftruncate(store->io.context, 0) == 0) &&
                   write_header(store) && sync_file(store);
    return store->begun;
}

const LpmCodecImage *lpm_pagestore_image(LpmPagestore *store)
{
    return &store->image;
}

bool lpm_pagestore_seal(LpmPagestore *store, const uint8_t id[LPM_PAGESTORE_ID_SIZE],
                        LpmPagestoreInfo *ret_info)
{
    Header *header = &store->header;
    bool begun = store->begun;
    store->begun = false;
    if (!begun || store->counts.write_errors > 0 || !has_room_for_places(header) ||
        !lists_flush(store) || !compute_root(store, header->info.root) ||
        !store_write(store, store->table, table_size(store), TABLE_OFFSET) || !sync_file(store))
        return false;
    memcpy(header->info.id, id, LPM_PAGESTORE_ID_SIZE);
    header->info.generation++;
    header->sealed = true;
    header->sealed = write_header(store) && sync_file(store);
    if (header->sealed && ret_info)
        *ret_info = header->info;
    return header->sealed;
}

const LpmPagestoreCounts *lpm_pagestore_counts(const LpmPagestore *store)
{
    return &store->counts;
}

uint64_t lpm_pagestore_size(uint64_t pages)
{
    uint64_t lists = pages / LIST_PAGES + BLOCKS_MAX; /* each block's last list is not full */
    return HEADER_SIZE + lists * (LIST_SIZE + DIGEST_SIZE) + pages * PAGE_SIZE;
}
