/* SPDX-License-Identifier: Apache-2.0 */
#include "host/storage.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The first that serves the pool is taken. */
static const LpmStorageOps *const drivers[] = {&lpm_storage_file, &lpm_storage_iscsi,
                                               &lpm_storage_nbd, &lpm_storage_rbd};

const LpmStorageOps *lpm_storage_for(const LpmHost *host, const LpmFileRef *at, GError **error)
{
    const LpmPoolConfig *pool = lpm_host_config_pool(host->config, at->pool);

    if (!pool) {
        lpm_error_set(error, LPM_ERROR_NOT_FOUND,
                      "storage pool %s is not defined on %s; add [storage:%s] to its configuration",
                      at->pool, lpm_host_name(host), at->pool);
        return NULL;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(drivers); i++) {
        if (drivers[i]->serves(host, pool)) {
            return drivers[i];
        }
    }
    lpm_error_set(error, LPM_ERROR_STORAGE,
                  "storage pool %s: %s is not a directory on %s; mount it or correct its path",
                  pool->name, pool->path, lpm_host_name(host));
    return NULL;
}

const char *lpm_storage_kind(const LpmHost *host, const LpmFileRef *at)
{
    const LpmPoolConfig *pool = lpm_host_config_pool(host->config, at->pool);

    return pool ? lpm_pool_kind_name(pool->kind) : "";
}

void lpm_storage_place_clear(LpmQemuDisk *place)
{
    lpm_qemu_disk_clear(place);
    if (place->secret_fd >= 0) {
        close(place->secret_fd);
        place->secret_fd = -1;
    }
}

void lpm_storage_look_clear(LpmStorageLook *look)
{
    g_clear_pointer(&look->path, g_free);
    g_clear_pointer(&look->reason, g_free);
    g_clear_pointer(&look->format, g_free);
    g_clear_pointer(&look->locked_by, g_free);
}

/* A QEMU of the partition has its UUID on the command line, whoever started it and wherever. */
static bool is_of_partition(const char *pid, const char *uuid)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/cmdline", pid);
    g_autofree char *text = NULL;
    size_t length = 0;

    return uuid && g_file_get_contents(path, &text, &length, NULL) &&
           memmem(text, length, uuid, strlen(uuid)) != NULL;
}

static bool has_open(const char *pid, const struct stat *file)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/fd", pid);
    g_autoptr(GDir) fds = g_dir_open(path, 0, NULL);
    const char *name;

    while (fds && (name = g_dir_read_name(fds))) {
        g_autofree char *link = g_strdup_printf("%s/%s", path, name);
        struct stat other;

        if (stat(link, &other) == 0 && other.st_dev == file->st_dev &&
            other.st_ino == file->st_ino) {
            return true;
        }
    }
    return false;
}

char *lpm_storage_holders(const char *path, const char *uuid)
{
    g_autoptr(GDir) processes = g_dir_open("/proc", 0, NULL);
    g_autoptr(GString) text = g_string_new(NULL);
    struct stat file;
    const char *pid;

    if (stat(path, &file) != 0) {
        return g_string_free(g_steal_pointer(&text), FALSE);
    }
    while (processes && (pid = g_dir_read_name(processes))) {
        if (g_ascii_isdigit(pid[0]) && has_open(pid, &file) && !is_of_partition(pid, uuid)) {
            g_autofree char *name_path = g_strdup_printf("/proc/%s/comm", pid);
            g_autofree char *name = NULL;

            (void)g_file_get_contents(name_path, &name, NULL, NULL);
            g_string_append_printf(text, "%sprocess %s (%s)", text->len ? ", " : "", pid,
                                   name ? g_strstrip(name) : "unknown");
        }
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}
