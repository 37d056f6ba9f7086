/* SPDX-License-Identifier: Apache-2.0 */
/* The first 32 KiB of the file: under which key it is, whether it is sealed, and the RAM blocks. */
#include "bytes/bytes.h"
#include "pagestore/internal.h"

#include <string.h>

enum { VERSION = 1, MAC_SIZE = LPM_PAGESTORE_ROOT_SIZE, MAC_OFFSET = HEADER_SIZE - MAC_SIZE };
static const char magic[8] = "LPMIMAGE";
static const char mac_label[] = "header";

static bool header_mac(const uint8_t data[HEADER_SIZE], const Crypt *crypt, uint8_t out[MAC_SIZE])
{
    const void *const parts[] = {mac_label, data};
    const size_t sizes[] = {sizeof(mac_label), MAC_OFFSET};
    return crypt_mac(crypt, parts, sizes, 2, out);
}

bool header_encode(const Header *header, const Crypt *crypt, uint8_t out[HEADER_SIZE])
{
    LpmByteWriter w = lpm_bytes_writer(out, MAC_OFFSET);
    memset(out, 0, HEADER_SIZE);
    lpm_bytes_put(&w, magic, sizeof(magic));
    lpm_bytes_put_u32(&w, VERSION);
    lpm_bytes_put_u32(&w, header->sealed);
    lpm_bytes_put(&w, header->info.id, sizeof(header->info.id));
    lpm_bytes_put(&w, header->info.root, sizeof(header->info.root));
    lpm_bytes_put_u64(&w, header->info.generation);
    lpm_bytes_put_u64(&w, header->info.held);
    lpm_bytes_put_u64(&w, header->info.zero);
    lpm_bytes_put_u32(&w, header->n_places);
    for (uint32_t i = 0; i < header->n_places; i++) {
        const Place *place = &header->places[i];
        size_t length = strlen(place->name);
        lpm_bytes_put_u64(&w, place->first);
        lpm_bytes_put_u64(&w, place->length);
        lpm_bytes_put_u8(&w, (uint8_t)length);
        lpm_bytes_put(&w, place->name, length);
    }
    return !w.bad && header_mac(out, crypt, out + MAC_OFFSET);
}

static uint64_t list_aligned(uint64_t length)
{
    const uint64_t unit = (uint64_t)LIST_PAGES * PAGE_SIZE;
    return (length / unit + (length % unit != 0)) * LIST_PAGES;
}

uint64_t header_pages(const Header *header)
{
    if (header->n_places == 0)
        return 0;
    const Place *last = &header->places[header->n_places - 1];
    return last->first + list_aligned(last->length);
}

/* Each place behind the one before; a name of any bytes but zero. */
static bool decode_place(LpmByteReader *r, Header *header)
{
    Place *place = &header->places[header->n_places];
    uint64_t first = lpm_bytes_get_u64(r), length = lpm_bytes_get_u64(r);
    uint8_t name_length = lpm_bytes_get_u8(r);
    memset(place, 0, sizeof(*place));
    lpm_bytes_get(r, place->name, name_length);
    if (r->bad || strlen(place->name) != name_length || first != header_pages(header) ||
        length > (LPM_PAGESTORE_PAGES_MAX - first) * PAGE_SIZE)
        return false;
    place->first = first;
    place->length = length;
    header->n_places++;
    return true;
}

bool header_decode(const uint8_t in[HEADER_SIZE], const Crypt *crypt, Header *ret_header)
{
    uint8_t mac[MAC_SIZE];
    LpmByteReader r = lpm_bytes_reader(in, MAC_OFFSET);
    const uint8_t *magic_in = lpm_bytes_borrow(&r, sizeof(magic));
    if (memcmp(magic_in, magic, sizeof(magic)) != 0 || lpm_bytes_get_u32(&r) != VERSION ||
        !header_mac(in, crypt, mac) || gnutls_memcmp(mac, in + MAC_OFFSET, MAC_SIZE) != 0)
        return false;
    ret_header->sealed = lpm_bytes_get_u32(&r) == 1;
    lpm_bytes_get(&r, ret_header->info.id, sizeof(ret_header->info.id));
    lpm_bytes_get(&r, ret_header->info.root, sizeof(ret_header->info.root));
    ret_header->info.generation = lpm_bytes_get_u64(&r);
    ret_header->info.held = lpm_bytes_get_u64(&r);
    ret_header->info.zero = lpm_bytes_get_u64(&r);
    uint32_t n = lpm_bytes_get_u32(&r);
    ret_header->n_places = 0;
    bool good = !r.bad && n <= BLOCKS_MAX;
    while (good && ret_header->n_places < n)
        good = decode_place(&r, ret_header);
    return good;
}
