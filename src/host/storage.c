/* SPDX-License-Identifier: Apache-2.0 */
#include "host/storage.h"

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
    lpm_error_set(error, LPM_ERROR_UNSUPPORTED, "storage pool %s: %s has no driver for kind %s",
                  pool->name, lpm_host_name(host), lpm_pool_kind_name(pool->kind));
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
    g_clear_pointer(&look->facts, json_decref);
}
