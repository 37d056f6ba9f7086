/* SPDX-License-Identifier: Apache-2.0 */
/* Nonces beside disks, and digests of boot files: whether two systems see the same files. */
#include "host/facts.h"
#include "host/partition.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <gnutls/crypto.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NONCE_LIFE_S 60
#define NONCE_LEFT_S 600 /* then a system that died has left it */
#define NONCE_TEXT   64  /* most that is read of one */
#define NONCE_PREFIX "nonce-"
#define DIGEST_CHUNK (1u << 20)

/* --- nonces --- */

static void nonce_free(gpointer data)
{
    LpmNonce *nonce = data;

    (void)g_unlink(nonce->path);
    g_free(nonce->disk);
    g_free(nonce->pool);
    g_free(nonce->file);
    g_free(nonce->path);
    g_free(nonce->nonce);
    g_free(nonce);
}

void lpm_nonce_drop(LpmPartition *partition)
{
    g_clear_handle_id(&partition->nonce_timer, g_source_remove);
    g_clear_pointer(&partition->nonces, g_ptr_array_unref);
}

static gboolean on_life_over(gpointer data)
{
    LpmPartition *partition = data;

    partition->nonce_timer = 0;
    lpm_nonce_drop(partition);
    return G_SOURCE_REMOVE;
}

/* On disk before the other side looks: a network file system shows a file's content once it is
 * written back. */
static bool write_durably(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    size_t length = strlen(text);
    bool good = fd >= 0 && write(fd, text, length) == (ssize_t)length && fsync(fd) == 0;

    if (fd >= 0) {
        close(fd);
    }
    return good;
}

/*
 * A system that dies over a validation leaves its nonces. The next one that comes by takes them
 * away; how old they are says the file system's own clock, in the age of @newest, just written.
 */
static void sweep(const char *directory, const char *newest)
{
    struct stat now, info;
    GDir *dir = g_dir_open(directory, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(directory, name, NULL);

        if (g_str_has_prefix(name, NONCE_PREFIX) && lstat(newest, &now) == 0 &&
            lstat(path, &info) == 0 && S_ISREG(info.st_mode) &&
            now.st_mtim.tv_sec - info.st_mtim.tv_sec > NONCE_LEFT_S) {
            (void)g_unlink(path);
        }
    }
    g_clear_pointer(&dir, g_dir_close);
}

static LpmNonce *put_one(LpmHost *host, const LpmDisk *disk)
{
    LpmNonce *nonce = g_new0(LpmNonce, 1);
    g_autofree char *directory = g_path_get_dirname(disk->at.file);
    g_autofree char *id = lpm_new_migration_id();
    g_autofree char *parent = NULL;
    LpmFileRef at = {disk->at.pool, NULL};

    nonce->disk = g_strdup(disk->name);
    nonce->pool = g_strdup(disk->at.pool);
    nonce->nonce = lpm_new_migration_id();
    nonce->file = strcmp(directory, ".") == 0
                      ? g_strdup_printf(".lpm/" NONCE_PREFIX "%s", id)
                      : g_strdup_printf("%s/.lpm/" NONCE_PREFIX "%s", directory, id);
    at.file = nonce->file;
    nonce->path = lpm_host_file_path(host, &at, NULL);
    if (nonce->path) {
        parent = g_path_get_dirname(nonce->path);
        (void)g_mkdir(parent, 0755);
    }
    if (!nonce->path || !write_durably(nonce->path, nonce->nonce)) {
        g_free(nonce->nonce);
        nonce->nonce = g_strdup("");
    } else {
        sweep(parent, nonce->path);
    }
    return nonce;
}

/* Other kinds of pools have no directory, and prove what they are by other means. */
static bool lies_in_files(const LpmHost *host, const LpmDisk *disk)
{
    const LpmPoolConfig *pool = lpm_host_config_pool(host->config, disk->at.pool);

    return disk->at.file && (!pool || pool->kind == LPM_POOL_FILE);
}

json_t *lpm_nonce_put(LpmPartition *partition)
{
    json_t *list = json_array();
    g_autoptr(LpmProfile) built = lpm_partition_built(partition, NULL);

    lpm_nonce_drop(partition);
    partition->nonces = g_ptr_array_new_with_free_func(nonce_free);
    for (size_t i = 0; built && i < built->n_disks; i++) {
        if (!lies_in_files(partition->host, &built->disks[i])) {
            continue;
        }
        LpmNonce *nonce = put_one(partition->host, &built->disks[i]);

        g_ptr_array_add(partition->nonces, nonce);
        json_array_append_new(list, lpm_json_pack("{s:s, s:s, s:s, s:s}", "disk", nonce->disk,
                                                  "pool", nonce->pool, "file", nonce->file, "nonce",
                                                  nonce->nonce));
    }
    partition->nonce_timer = g_timeout_add_seconds(NONCE_LIFE_S, on_life_over, partition);
    return lpm_json_pack("{s:o}", "nonces", list);
}

const LpmNonce *lpm_nonce_of(const LpmPartition *partition, const char *disk)
{
    for (guint i = 0; partition->nonces && i < partition->nonces->len; i++) {
        const LpmNonce *nonce = partition->nonces->pdata[i];

        if (strcmp(nonce->disk, disk) == 0) {
            return nonce;
        }
    }
    return NULL;
}

static char *read_nonce(const char *path)
{
    char text[NONCE_TEXT + 1] = "";
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text, NONCE_TEXT) : 0;

    if (fd >= 0) {
        close(fd);
    }
    text[got > 0 ? got : 0] = '\0';
    return g_strdup(strspn(text, "0123456789abcdef") == strlen(text) ? text : "");
}

char *lpm_nonce_read(const LpmHost *host, const json_t *nonces, const char *disk)
{
    for (size_t i = 0; i < json_array_size(nonces); i++) {
        const json_t *item = json_array_get(nonces, i);
        g_autofree char *pool = g_strdup(lpm_json_str(item, "pool", ""));
        g_autofree char *file = g_strdup(lpm_json_str(item, "file", ""));
        g_autofree char *name = g_path_get_basename(file);
        g_autofree char *path = NULL;

        /* Nothing else of a pool is ever read on somebody's word. */
        if (g_strcmp0(lpm_json_str(item, "disk", NULL), disk) != 0 ||
            !g_str_has_prefix(name, NONCE_PREFIX)) {
            continue;
        }
        path = lpm_host_file_path(host, &(LpmFileRef){pool, file}, NULL);
        return path ? read_nonce(path) : g_strdup("");
    }
    return g_strdup("");
}

/* --- digests --- */

typedef struct {
    LpmHost *host;
    int fd;
    gnutls_hash_hd_t hash;
    char *key;
    char *result;
    LpmDigestDone done;
    void *data;
} Digest;

static void digest_end(Digest *digest)
{
    digest->done(digest->result, digest->data);
    if (digest->fd >= 0) {
        close(digest->fd);
    }
    g_free(digest->result);
    g_free(digest->key);
    g_free(digest);
}

static void take_result(Digest *digest, bool good)
{
    unsigned char bytes[32];
    g_autoptr(GString) text = g_string_new(NULL);

    gnutls_hash_deinit(digest->hash, bytes);
    for (size_t i = 0; good && i < sizeof(bytes); i++) {
        g_string_append_printf(text, "%02x", bytes[i]);
    }
    if (good) {
        digest->result = g_strdup(text->str);
        g_hash_table_replace(digest->host->digests, g_steal_pointer(&digest->key),
                             g_strdup(text->str));
    }
}

static gboolean on_chunk(gpointer data)
{
    Digest *digest = data;
    g_autofree char *chunk = NULL;
    ssize_t got;

    if (digest->fd < 0 || digest->result) {
        digest_end(digest);
        return G_SOURCE_REMOVE;
    }
    chunk = g_malloc(DIGEST_CHUNK);
    got = read(digest->fd, chunk, DIGEST_CHUNK);
    if (got > 0 && gnutls_hash(digest->hash, chunk, (size_t)got) == 0) {
        return G_SOURCE_CONTINUE;
    }
    take_result(digest, got == 0);
    digest_end(digest);
    return G_SOURCE_REMOVE;
}

const LpmFileRef *lpm_facts_boot_file(const LpmProfile *profile, size_t number)
{
    const LpmFileRef *const files[] = {&profile->boot.kernel, &profile->boot.initrd};

    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        if (files[i]->pool && number-- == 0) {
            return files[i];
        }
    }
    return NULL;
}

void lpm_facts_digest(LpmHost *host, const char *path, LpmDigestDone done, void *data)
{
    Digest *digest = g_new0(Digest, 1);
    struct stat info;

    digest->host = host;
    digest->done = done;
    digest->data = data;
    digest->fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (digest->fd >= 0 && (fstat(digest->fd, &info) != 0 || !S_ISREG(info.st_mode) ||
                            gnutls_hash_init(&digest->hash, GNUTLS_DIG_SHA256) != 0)) {
        close(digest->fd);
        digest->fd = -1;
    }
    if (digest->fd >= 0) {
        digest->key =
            g_strdup_printf("%lx:%lx:%lx:%ld.%09ld", (long)info.st_dev, (long)info.st_ino,
                            (long)info.st_size, (long)info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
        digest->result = g_strdup(g_hash_table_lookup(host->digests, digest->key));
        if (digest->result) {
            gnutls_hash_deinit(digest->hash, NULL);
        }
    }
    g_idle_add(on_chunk, digest);
}
