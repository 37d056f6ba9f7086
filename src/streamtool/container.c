/* SPDX-License-Identifier: Apache-2.0 */
#include "streamtool.h"

#include "bytes/bytes.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <string.h>

#define MAGIC "LPMBATCH"

enum {
    VERSION = 1,
    HEADER = 48,
    TRAILER = 8 + CONTAINER_DIGEST,
    FLAG_IMAGE = 1,
    FLAG_BASE = 2,
};

struct Container {
    char *path;
    FILE *file;
    bool image, has_base;
    uint8_t base[CONTAINER_DIGEST];
    gnutls_hash_hd_t hash;
    uint64_t total; /* bytes of stream */
    uint64_t expected;
    uint8_t digest[CONTAINER_DIGEST];
    uint64_t written;
};

static Container *container_new(const char *path, const char *mode, GError **error)
{
    g_autoptr(Container) container = g_new0(Container, 1);
    container->path = g_strdup(path);
    container->file = fopen(path, mode);
    if (!container->file) {
        lpm_error_set(error, LPM_ERROR_STORAGE, "cannot open '%s': %s", path, g_strerror(errno));
        return NULL;
    }
    if (gnutls_hash_init(&container->hash, GNUTLS_DIG_SHA256) < 0) {
        lpm_error_set(error, LPM_ERROR_INTERNAL, "no SHA-256 for '%s'", path);
        return NULL;
    }
    return g_steal_pointer(&container);
}

void container_free(Container *container)
{
    if (!container)
        return;
    if (container->file)
        fclose(container->file);
    if (container->hash)
        gnutls_hash_deinit(container->hash, NULL);
    g_free(container->path);
    g_free(container);
}

bool container_has_image(const Container *container)
{
    return container->image;
}

const uint8_t *container_base(const Container *container)
{
    return container->has_base ? container->base : NULL;
}

static bool write_all(Container *container, const void *data, size_t size, GError **error)
{
    if (fwrite(data, 1, size, container->file) != size)
        return lpm_error_set(error, LPM_ERROR_STORAGE, "cannot write '%s': %s", container->path,
                             g_strerror(errno));
    container->written += size;
    return true;
}

static bool read_all(Container *container, void *data, size_t size, GError **error)
{
    if (fread(data, 1, size, container->file) == size)
        return true;
    if (ferror(container->file))
        return lpm_error_set(error, LPM_ERROR_STORAGE, "cannot read '%s': %s", container->path,
                             g_strerror(errno));
    return lpm_error_set(error, LPM_ERROR_STORAGE,
                         "'%s' ends too early: it was not written to its end, or is cut off",
                         container->path);
}

Container *container_create(const char *path, bool image, const uint8_t *base, GError **error)
{
    g_autoptr(Container) container = container_new(path, "wbe", error);
    if (!container)
        return NULL;
    uint8_t header[HEADER] = {0};
    LpmByteWriter writer = lpm_bytes_writer(header, sizeof(header));
    lpm_bytes_put(&writer, MAGIC, strlen(MAGIC));
    lpm_bytes_put_u32(&writer, VERSION);
    lpm_bytes_put_u32(&writer, (image ? FLAG_IMAGE : 0) | (base ? FLAG_BASE : 0));
    if (base)
        lpm_bytes_put(&writer, base, CONTAINER_DIGEST);
    if (!write_all(container, header, sizeof(header), error))
        return NULL;
    return g_steal_pointer(&container);
}

Container *container_open(const char *path, GError **error)
{
    uint8_t header[HEADER];
    g_autoptr(Container) container = container_new(path, "rbe", error);
    if (!container || !read_all(container, header, sizeof(header), error))
        return NULL;
    LpmByteReader reader = lpm_bytes_reader(header, sizeof(header));
    bool magic = memcmp(lpm_bytes_borrow(&reader, 8), MAGIC, 8) == 0;
    uint32_t version = lpm_bytes_get_u32(&reader), flags = lpm_bytes_get_u32(&reader);
    lpm_bytes_get(&reader, container->base, sizeof(container->base));
    container->image = flags & FLAG_IMAGE;
    container->has_base = flags & FLAG_BASE;
    if (!magic || version != VERSION || flags > (FLAG_IMAGE | FLAG_BASE) || flags == FLAG_BASE) {
        lpm_error_set(error, LPM_ERROR_USAGE,
                      "'%s' is no file of coded batches of version %d: "
                      "lpm-stream encode writes such files",
                      path, VERSION);
        return NULL;
    }
    return g_steal_pointer(&container);
}

bool container_put(Container *container, const uint8_t *body, size_t size, const uint8_t *raw,
                   size_t raw_size, GError **error)
{
    uint8_t length[4];
    LpmByteWriter writer = lpm_bytes_writer(length, sizeof(length));
    lpm_bytes_put_u32(&writer, (uint32_t)size);
    container_decoded(container, raw, raw_size);
    return write_all(container, length, sizeof(length), error) &&
           write_all(container, body, size, error);
}

bool container_finish(Container *container, uint64_t *ret_size, GError **error)
{
    uint8_t trailer[4 + TRAILER] = {0}, digest[CONTAINER_DIGEST];
    LpmByteWriter writer = lpm_bytes_writer(trailer, sizeof(trailer));
    gnutls_hash_output(container->hash, digest);
    lpm_bytes_put_u32(&writer, 0);
    lpm_bytes_put_u64(&writer, container->total);
    lpm_bytes_put(&writer, digest, sizeof(digest));
    if (!write_all(container, trailer, sizeof(trailer), error))
        return false;
    FILE *file = g_steal_pointer(&container->file);
    if (fclose(file) != 0)
        return lpm_error_set(error, LPM_ERROR_STORAGE, "cannot write '%s': %s", container->path,
                             g_strerror(errno));
    *ret_size = container->written;
    return true;
}

static bool get_trailer(Container *container, GError **error)
{
    uint8_t trailer[TRAILER];
    if (!read_all(container, trailer, sizeof(trailer), error))
        return false;
    LpmByteReader reader = lpm_bytes_reader(trailer, sizeof(trailer));
    container->expected = lpm_bytes_get_u64(&reader);
    lpm_bytes_get(&reader, container->digest, sizeof(container->digest));
    if (fgetc(container->file) != EOF)
        return lpm_error_set(error, LPM_ERROR_STORAGE, "'%s' goes on behind its trailer",
                             container->path);
    return true;
}

bool container_get(Container *container, uint8_t *body, size_t *ret_size, GError **error)
{
    uint8_t length[4];
    if (!read_all(container, length, sizeof(length), error))
        return false;
    LpmByteReader reader = lpm_bytes_reader(length, sizeof(length));
    uint32_t size = lpm_bytes_get_u32(&reader);
    if (size > LPM_CODEC_BODY_MAX)
        return lpm_error_set(error, LPM_ERROR_STORAGE,
                             "'%s' is damaged: a batch of %u bytes, the limit is %d",
                             container->path, size, (int)LPM_CODEC_BODY_MAX);
    *ret_size = size;
    return size == 0 ? get_trailer(container, error) : read_all(container, body, size, error);
}

void container_decoded(Container *container, const uint8_t *raw, size_t raw_size)
{
    gnutls_hash(container->hash, raw, raw_size);
    container->total += raw_size;
}

bool container_check(Container *container, GError **error)
{
    uint8_t digest[CONTAINER_DIGEST];
    gnutls_hash_output(container->hash, digest);
    if (container->total == container->expected &&
        memcmp(digest, container->digest, sizeof(digest)) == 0)
        return true;
    return lpm_error_set(error, LPM_ERROR_STORAGE,
                         "'%s': the decoded stream of %" G_GUINT64_FORMAT
                         " bytes is not what was coded (%" G_GUINT64_FORMAT " bytes, SHA-256)",
                         container->path, container->total, container->expected);
}

bool file_digest(const char *path, uint8_t ret_digest[CONTAINER_DIGEST], GError **error)
{
    g_autoptr(Container) file = container_new(path, "rbe", error);
    g_autofree uint8_t *buffer = g_malloc(LPM_CODEC_RAW_MAX);
    size_t got;
    if (!file)
        return false;
    while ((got = fread(buffer, 1, LPM_CODEC_RAW_MAX, file->file)) > 0)
        container_decoded(file, buffer, got);
    if (ferror(file->file))
        return lpm_error_set(error, LPM_ERROR_STORAGE, "cannot read '%s': %s", path,
                             g_strerror(errno));
    gnutls_hash_output(file->hash, ret_digest);
    return true;
}
