/* SPDX-License-Identifier: Apache-2.0 */
/* Disks that are images of a Ceph cluster, reached by QEMU's own client. A disk's file is the
 * image's name. */
#include "host/storage.h"

#include <string.h>

static bool rbd_serves(const LpmHost *host G_GNUC_UNUSED, const LpmPoolConfig *pool)
{
    return pool->kind == LPM_POOL_RBD;
}

static bool rbd_activate(LpmHost *host, const LpmFileRef *at, bool read_only G_GNUC_UNUSED,
                         uid_t uid G_GNUC_UNUSED, gid_t gid G_GNUC_UNUSED, LpmQemuDisk *ret,
                         GError **error)
{
    const LpmPoolConfig *pool = lpm_host_config_pool(host->config, at->pool);

    if (strchr(at->file, '/')) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "\"%s\" is not an image of pool %s, which is of kind rbd; Ceph's pool "
                             "and namespace are in [storage:%s]",
                             at->file, pool->name, pool->name);
    }
    *ret = (LpmQemuDisk){
        .kind = LPM_QEMU_DISK_RBD,
        .pool = g_strdup(pool->rbd_pool),
        .space = g_strdup(pool->rbd_namespace),
        .image = g_strdup(at->file),
        .conf = g_strdup(pool->conf),
        .user = g_strdup(pool->user),
    };
    return lpm_storage_secret(pool, &ret->secret_fd, error);
}

const LpmStorageOps lpm_storage_rbd = {
    .kind = "rbd",
    .serves = rbd_serves,
    .create = lpm_storage_block_create,
    .activate = rbd_activate,
    .remove = lpm_storage_block_remove,
    .look = lpm_storage_block_look,
};
