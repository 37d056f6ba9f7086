/* SPDX-License-Identifier: Apache-2.0 */
#include "host/pagestore.h"

#include "base/log.h"
#include "bytes/bytes.h"
#include "pagestore/pagestore.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <gnutls/crypto.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define SUFFIX   ".image"
#define MIB      (UINT64_C(1) << 20)
#define PER_MIB  (MIB / LPM_QSTREAM_PAGE_SIZE)
#define TENTH(n) ((n) / 10)

enum { OTHER_MEMORY_MIB = 64 }; /* of displays and firmware, besides the partition's own */

struct LpmImages {
    char *directory;
    char *off; /* why there is no store; NULL: there is one */
};

/* One that is written down. */
typedef struct {
    char *uuid, *name, *key;
    int64_t used_us;
    uint64_t bytes; /* on disk; 0 also when there is no file */
    bool there, busy;
} Image;

static void image_free(gpointer data)
{
    Image *image = data;
    g_free(image->uuid);
    g_free(image->name);
    if (image->key) {
        explicit_bzero(image->key, strlen(image->key));
    }
    g_free(image->key);
    g_free(image);
}

static char *image_path(const LpmHost *host, const char *uuid)
{
    g_autofree char *name = g_strconcat(uuid, SUFFIX, NULL);
    return g_build_filename(host->images->directory, name, NULL);
}

static void warn(const char *partition, const GError *error)
{
    lpm_log_warning(&(LpmLogFields){.partition = partition}, "image: %s", error->message);
}

static bool read_key(const char *hex, uint8_t key[LPM_PAGESTORE_KEY_SIZE])
{
    bool good = hex && strlen(hex) == LPM_IMAGE_KEY_HEX;
    for (size_t i = 0; good && i < LPM_PAGESTORE_KEY_SIZE; i++) {
        int high = g_ascii_xdigit_value(hex[2 * i]), low = g_ascii_xdigit_value(hex[2 * i + 1]);
        good = high >= 0 && low >= 0;
        key[i] = (uint8_t)(high << 4 | low);
    }
    return good;
}

/* --- looking --- */

/* Whether a mover has it: every copy of its descriptor holds the lock. */
static bool is_locked(int fd)
{
    bool locked = flock(fd, LOCK_EX | LOCK_NB) != 0;
    if (!locked) {
        flock(fd, LOCK_UN);
    }
    return locked;
}

static int open_image(const LpmHost *host, const char *uuid, int flags)
{
    g_autofree char *path = image_path(host, uuid);
    return open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
}

static Image *image_read(const LpmHost *host, const char *uuid, const json_t *document)
{
    Image *image = g_new0(Image, 1);
    LPM_AUTO_FD int fd = open_image(host, uuid, O_RDONLY);
    struct stat status;
    image->uuid = g_strdup(uuid);
    image->name = g_strdup(lpm_json_str(document, "name", "?"));
    image->key = g_strdup(lpm_json_str(document, "key", NULL));
    image->used_us = lpm_json_int(document, "used_us", 0);
    if (fd >= 0 && fstat(fd, &status) == 0) {
        image->there = true;
        image->bytes = (uint64_t)status.st_blocks * 512;
        image->busy = is_locked(fd);
    }
    return image;
}

/* All that are written down. Never NULL; empty when the store is off or the database fails. */
static GPtrArray *images_read(const LpmHost *host)
{
    GPtrArray *images = g_ptr_array_new_with_free_func(image_free);
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) all = NULL;
    const char *uuid = NULL;
    json_t *document = NULL;
    if (!host->images || host->images->off) {
        return images;
    }
    all = lpm_store_list(host->store, LPM_KIND_IMAGE, &error);
    if (error) {
        warn(NULL, error);
    }
    json_object_foreach (all, uuid, document) {
        g_ptr_array_add(images, image_read(host, uuid, document));
    }
    return images;
}

static Image *image_find(const GPtrArray *images, const char *partition)
{
    for (guint i = 0; i < images->len; i++) {
        Image *image = images->pdata[i];
        if (strcmp(image->uuid, partition) == 0 || strcmp(image->name, partition) == 0) {
            return image;
        }
    }
    return NULL;
}

/* What the file says of itself. */
static bool image_sealed(const LpmHost *host, const Image *image, LpmPagestoreInfo *ret_info)
{
    uint8_t key[LPM_PAGESTORE_KEY_SIZE];
    LPM_AUTO_FD int fd = open_image(host, image->uuid, O_RDONLY);
    if (fd < 0 || !read_key(image->key, key)) {
        return false;
    }
    LpmPagestore *store = lpm_pagestore_open(fd, key);
    bool sealed = store && lpm_pagestore_sealed(store, ret_info);
    lpm_pagestore_free(store);
    explicit_bzero(key, sizeof key);
    return sealed;
}

/* --- room --- */

typedef struct {
    uint64_t disk, free; /* of the file system */
    uint64_t budget;     /* for all images */
} Room;

static bool room_read(const LpmHost *host, Room *ret)
{
    struct statvfs disk;
    if (statvfs(host->images->directory, &disk) != 0) {
        return false;
    }
    ret->disk = (uint64_t)disk.f_blocks * disk.f_frsize;
    ret->free = (uint64_t)disk.f_bavail * disk.f_frsize;
    ret->budget = host->config->store_budget_mib > 0
                      ? (uint64_t)host->config->store_budget_mib * MIB
                      : TENTH(ret->disk);
    return true;
}

static uint64_t needed_for(const LpmProfile *profile)
{
    int64_t mib = MAX(profile->memory_mib, profile->memory_max_mib);

    return lpm_pagestore_size((uint64_t)(mib + OTHER_MEMORY_MIB) * PER_MIB);
}

static int compare_age(gconstpointer left, gconstpointer right)
{
    const Image *a = *(Image *const *)left, *b = *(Image *const *)right;
    return a->used_us < b->used_us ? -1 : a->used_us > b->used_us;
}

/*
 * How many of @images, oldest first and all of other partitions, have to go so that @needed fits;
 * -1 when that does not help. Sorts @images.
 */
static int count_victims(const LpmHost *host, GPtrArray *images, const char *uuid, uint64_t needed)
{
    Room room;
    uint64_t used = 0;
    if (!room_read(host, &room)) {
        return -1;
    }
    g_ptr_array_sort(images, compare_age);
    for (guint i = 0; i < images->len; i++) {
        const Image *image = images->pdata[i];
        if (strcmp(image->uuid, uuid) == 0) {
            room.free += image->bytes; /* it grows from there */
        } else {
            used += image->bytes;
        }
    }
    int victims = 0;
    for (guint i = 0;; i++) {
        if (used + needed <= room.budget && room.free >= needed + TENTH(room.disk)) {
            return victims;
        }
        if (i == images->len) {
            return -1;
        }
        const Image *image = images->pdata[i];
        if (!image->busy && strcmp(image->uuid, uuid) != 0) {
            used -= image->bytes;
            room.free += image->bytes;
            victims++;
        }
    }
}

static bool make_room(LpmHost *host, const LpmProfile *profile)
{
    g_autoptr(GPtrArray) images = images_read(host);
    int victims = count_victims(host, images, profile->uuid, needed_for(profile));
    for (guint i = 0; i < images->len && victims > 0; i++) {
        const Image *image = images->pdata[i];
        if (!image->busy && strcmp(image->uuid, profile->uuid) != 0) {
            lpm_log_info(&(LpmLogFields){.partition = image->name},
                         "its image is removed to make room for that of %s", profile->name);
            lpm_images_drop(host, image->uuid);
            victims--;
        }
    }
    if (victims < 0) {
        lpm_log_info(&(LpmLogFields){.partition = profile->name},
                     "there is no room to keep an image of it (store-list says how much there is)");
    }
    return victims == 0;
}

/* --- moves --- */

static bool is_on(const LpmHost *host)
{
    return host->images && !host->images->off;
}

char *lpm_images_key(LpmHost *host, const LpmProfile *profile)
{
    uint8_t key[LPM_PAGESTORE_KEY_SIZE];
    GString *hex;
    if (!is_on(host)) {
        return NULL;
    }
    g_autoptr(GPtrArray) images = images_read(host);
    const Image *image = image_find(images, profile->uuid);
    if (image && read_key(image->key, key)) {
        return g_strdup(image->key);
    }
    if (count_victims(host, images, profile->uuid, needed_for(profile)) < 0 ||
        gnutls_rnd(GNUTLS_RND_KEY, key, sizeof key) != 0) {
        return NULL;
    }
    hex = g_string_new(NULL);
    for (size_t i = 0; i < sizeof key; i++) {
        g_string_append_printf(hex, "%02x", key[i]);
    }
    explicit_bzero(key, sizeof key);
    return g_string_free(hex, FALSE);
}

static bool write_down(LpmHost *host, const char *uuid, const char *name, const char *key)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) document =
        lpm_json_pack("{s:s, s:s, s:I}", "name", name, "key", key, "used_us",
                      (json_int_t)lpm_clock_realtime_us(host->clock));
    if (!lpm_store_put(host->store, LPM_KIND_IMAGE, uuid, document, NULL, &error)) {
        warn(name, error);
        return false;
    }
    return true;
}

/* One that a mover of an earlier move still has is left to it, without its name. */
static int open_locked(LpmHost *host, const char *uuid)
{
    LPM_AUTO_FD int fd = open_image(host, uuid, O_RDWR | O_CREAT);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
        g_autofree char *path = image_path(host, uuid);
        (void)g_unlink(path);
        lpm_bytes_close(&fd);
        fd = open_image(host, uuid, O_RDWR | O_CREAT | O_EXCL);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
            lpm_bytes_close(&fd);
        }
    }
    return lpm_bytes_steal_fd(&fd);
}

int lpm_images_take(LpmHost *host, const LpmProfile *profile, const char *key)
{
    uint8_t bytes[LPM_PAGESTORE_KEY_SIZE];
    bool good = is_on(host) && read_key(key, bytes) && make_room(host, profile) &&
                write_down(host, profile->uuid, profile->name, key);
    explicit_bzero(bytes, sizeof bytes);
    if (!good) {
        return -1;
    }
    int fd = open_locked(host, profile->uuid);
    if (fd < 0) {
        lpm_log_warning(&(LpmLogFields){.partition = profile->name},
                        "no image is kept of it: %s/%s%s: %s", host->images->directory,
                        profile->uuid, SUFFIX, g_strerror(errno));
    }
    return fd;
}

void lpm_images_end(LpmHost *host, const char *uuid, bool good)
{
    if (!is_on(host)) {
        return;
    }
    g_autoptr(GPtrArray) images = images_read(host);
    const Image *image = image_find(images, uuid);
    if (!image) {
        return;
    }
    LpmPagestoreInfo info;
    if (good && image->there) {
        (void)write_down(host, uuid, image->name, image->key);
    } else if (image->busy || !image_sealed(host, image, &info)) {
        lpm_images_drop(host, uuid);
    }
}

/* Gives a big file's room back, which takes its time. */
static gpointer close_late(gpointer fd)
{
    close(GPOINTER_TO_INT(fd));
    return NULL;
}

static void remove_file(const LpmHost *host, const char *uuid)
{
    g_autofree char *path = image_path(host, uuid);
    int fd = open_image(host, uuid, O_RDONLY);
    if (g_unlink(path) != 0 && errno != ENOENT) {
        lpm_log_warning(NULL, "image %s cannot be removed: %s", path, g_strerror(errno));
    }
    if (fd >= 0) {
        g_thread_unref(g_thread_new("image", close_late, GINT_TO_POINTER(fd)));
    }
}

void lpm_images_drop(LpmHost *host, const char *uuid)
{
    g_autoptr(GError) error = NULL;
    if (!is_on(host)) {
        return;
    }
    /* The key first: without it the file is noise, whatever happens next. */
    if (!lpm_store_delete(host->store, LPM_KIND_IMAGE, uuid, &error)) {
        warn(uuid, error);
    }
    remove_file(host, uuid);
}

/* --- looking from outside --- */

static json_t *image_json(const LpmHost *host, const Image *image)
{
    LpmPagestoreInfo info = {0};
    bool sealed = !image->busy && image_sealed(host, image, &info);
    char id[2 * LPM_PAGESTORE_ID_SIZE + 1] = "";
    for (size_t i = 0; i < LPM_PAGESTORE_ID_SIZE; i++) {
        g_snprintf(id + 2 * i, 3, "%02x", info.id[i]);
    }
    return lpm_json_pack("{s:s, s:s, s:s, s:I, s:I, s:s?, s:I, s:I, s:I}", "partition", image->name,
                         "uuid", image->uuid, "state",
                         image->busy ? "in-use"
                         : sealed    ? "sealed"
                                     : "unsealed",
                         "bytes", (json_int_t)image->bytes, "used_us", (json_int_t)image->used_us,
                         "image", sealed ? id : NULL, "generation", (json_int_t)info.generation,
                         "pages", (json_int_t)info.held, "zero_pages", (json_int_t)info.zero);
}

json_t *lpm_images_list(LpmHost *host)
{
    g_autoptr(GPtrArray) images = images_read(host);
    json_t *rows = json_array();
    Room room = {0};
    uint64_t used = 0;
    for (guint i = 0; i < images->len; i++) {
        used += ((const Image *)images->pdata[i])->bytes;
        json_array_append_new(rows, image_json(host, images->pdata[i]));
    }
    if (is_on(host)) {
        (void)room_read(host, &room);
    }
    return lpm_json_pack("{s:b, s:s?, s:s?, s:I, s:I, s:I, s:I, s:o}", "on", is_on(host), "reason",
                         host->images ? host->images->off : "lpm-host has not opened it",
                         "directory", host->images ? host->images->directory : NULL, "budget_bytes",
                         (json_int_t)room.budget, "used_bytes", (json_int_t)used, "disk_bytes",
                         (json_int_t)room.disk, "free_bytes", (json_int_t)room.free, "images",
                         rows);
}

static Image *need_image(const LpmHost *host, const GPtrArray *images, const char *partition,
                         GError **error)
{
    Image *image = image_find(images, partition);
    if (!image) {
        lpm_error_set(error, LPM_ERROR_NOT_FOUND,
                      "system %s keeps no image of partition %s; store-list shows those that it "
                      "keeps",
                      lpm_host_name(host), partition);
    }
    return image;
}

json_t *lpm_images_show(LpmHost *host, const char *partition, GError **error)
{
    g_autoptr(GPtrArray) images = images_read(host);
    const Image *image = need_image(host, images, partition, error);
    return image ? image_json(host, image) : NULL;
}

void lpm_images_facts(LpmHost *host, const char *uuid, json_t *facts)
{
    g_autoptr(json_t) image = lpm_images_show(host, uuid, NULL);
    int64_t age_us = lpm_clock_realtime_us(host->clock) - lpm_json_int(image, "used_us", 0);

    if (strcmp(lpm_json_str(image, "state", ""), "sealed") == 0) {
        json_object_set_new(facts, "image",
                            lpm_json_pack("{s:O, s:O, s:O, s:I}", "image",
                                          json_object_get(image, "image"), "generation",
                                          json_object_get(image, "generation"), "pages",
                                          json_object_get(image, "pages"), "age_s",
                                          (json_int_t)(MAX(age_us, 0) / G_USEC_PER_SEC)));
    }
}

bool lpm_images_remove(LpmHost *host, const char *partition, GError **error)
{
    g_autoptr(GPtrArray) images = images_read(host);
    const Image *image = need_image(host, images, partition, error);
    if (!image) {
        return false;
    }
    if (image->busy) {
        return lpm_error_set(error, LPM_ERROR_BUSY,
                             "the image of partition %s on system %s is in use by a move; wait for "
                             "its end",
                             image->name, lpm_host_name(host));
    }
    lpm_images_drop(host, image->uuid);
    return true;
}

/* --- opening --- */

/* Files without a key are noise, keys without a file of no use, and what is not sealed was cut off.
 */
static void remove_leftovers(LpmHost *host)
{
    g_autoptr(GPtrArray) images = images_read(host);
    g_autoptr(GDir) dir = g_dir_open(host->images->directory, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *uuid = g_strndup(name, strcspn(name, "."));
        if (g_str_has_suffix(name, SUFFIX) && !image_find(images, uuid)) {
            g_autofree char *path = g_build_filename(host->images->directory, name, NULL);
            (void)g_unlink(path);
        }
    }
    for (guint i = 0; i < images->len; i++) {
        const Image *image = images->pdata[i];
        LpmPagestoreInfo info;
        if (!image->busy && !image_sealed(host, image, &info)) {
            lpm_log_info(&(LpmLogFields){.partition = image->name},
                         "what a move left of its image is removed");
            lpm_images_drop(host, image->uuid);
        }
    }
}

void lpm_images_open(LpmHost *host)
{
    const LpmHostConfig *config = host->config;
    LpmImages *images = host->images = g_new0(LpmImages, 1);
    images->directory = config->store_directory && *config->store_directory
                            ? g_strdup(config->store_directory)
                            : g_build_filename(config->state_dir, "store", NULL);
    if (strcmp(config->store_use, "off") == 0) {
        images->off = g_strdup("switched off in the configuration ([store] use)");
    } else if (g_mkdir_with_parents(images->directory, 0700) != 0) {
        images->off = g_strdup_printf("directory %s cannot be made: %s", images->directory,
                                      g_strerror(errno));
        lpm_log_warning(NULL, "no images of partitions are kept: %s", images->off);
    } else {
        remove_leftovers(host);
    }
}

void lpm_images_close(LpmHost *host)
{
    if (host->images) {
        g_free(host->images->directory);
        g_free(host->images->off);
        g_clear_pointer(&host->images, g_free);
    }
}
