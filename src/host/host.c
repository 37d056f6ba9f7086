/* SPDX-License-Identifier: Apache-2.0 */
#include "host/grow.h"

#include <string.h>

const char *lpm_host_name(const LpmHost *host)
{
    const char *name = host->credentials ? lpm_tls_credentials_name(host->credentials) : "";

    return *name ? name : host->config->name;
}

void lpm_host_emit(LpmHost *host, const char *event, json_t *data)
{
    if (host->server) {
        lpm_rpc_server_emit(host->server, event, data);
    } else {
        json_decref(data);
    }
}

LpmPartition *lpm_host_find(LpmHost *host, const char *name_or_uuid, GError **error)
{
    LpmPartition *partition = g_hash_table_lookup(host->partitions, name_or_uuid);
    GHashTableIter iter;
    gpointer value;

    if (partition) {
        return partition;
    }
    g_hash_table_iter_init(&iter, host->partitions);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        partition = value;
        if (strcmp(partition->profile->name, name_or_uuid) == 0) {
            return partition;
        }
    }
    lpm_error_set(error, LPM_ERROR_NOT_FOUND,
                  "there is no partition %s on %s; partition-list shows those that are",
                  name_or_uuid, lpm_host_name(host));
    return NULL;
}

const char *lpm_host_pool_path(const LpmHost *host, const char *pool, GError **error)
{
    const LpmPoolConfig *config = lpm_host_config_pool(host->config, pool);

    if (config && config->kind == LPM_POOL_FILE) {
        return config->path;
    }
    if (config) {
        lpm_error_set(error, LPM_ERROR_UNSUPPORTED,
                      "storage pool %s on %s is of kind %s, which holds disks and no files; name a "
                      "pool of kind file",
                      pool, lpm_host_name(host), lpm_pool_kind_name(config->kind));
        return NULL;
    }
    lpm_error_set(error, LPM_ERROR_NOT_FOUND,
                  "storage pool %s is not defined on %s; add [storage:%s] to its configuration",
                  pool, lpm_host_name(host), pool);
    return NULL;
}

/* The profile's own rules say the same; this is the last gate before a path is used. */
static bool is_inside(const char *file)
{
    g_auto(GStrv) parts = g_strsplit(file, "/", -1);

    for (char **part = parts; *part; part++) {
        if (!**part || strcmp(*part, ".") == 0 || strcmp(*part, "..") == 0) {
            return false;
        }
    }
    return *file != '\0';
}

char *lpm_host_file_path(const LpmHost *host, const LpmFileRef *at, GError **error)
{
    const char *pool = lpm_host_pool_path(host, at->pool, error);

    if (!pool) {
        return NULL;
    }
    if (!at->file || !is_inside(at->file)) {
        lpm_error_set(error, LPM_ERROR_USAGE, "\"%s\" is not the name of a file in pool %s",
                      at->file ? at->file : "", at->pool);
        return NULL;
    }
    return g_build_filename(pool, at->file, NULL);
}

void lpm_host_promised(const LpmHost *host, int64_t *ret_memory_mib, int *ret_processors)
{
    GHashTableIter iter;
    gpointer value;

    *ret_memory_mib = 0;
    *ret_processors = 0;
    g_hash_table_iter_init(&iter, host->partitions);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const LpmPartition *partition = value;

        if (partition->pid || partition->activation) {
            bool huge = lpm_json_at(partition->runtime, "profile")
                            ? lpm_json_int(partition->runtime, "profile.huge_pages_kib", 0) > 0
                            : partition->profile->huge_pages_kib > 0;
            int64_t memory_mib;
            int processors;

            lpm_partition_size(partition, &memory_mib, &processors);
            /* Huge pages are no part of the memory that the kernel gives out page by page. */
            if (huge) {
                memory_mib -= lpm_json_int(partition->runtime, "profile.memory_mib", memory_mib);
            }
            *ret_memory_mib += memory_mib;
            *ret_processors += processors;
        }
    }
}
