/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks that are logical units of an iSCSI target; QEMU is the initiator, so that this system's
 * kernel has no part in it and holds nothing back. A disk's file is the unit's number.
 */
#include "host/storage.h"

#define LUN_MAX 16383 /* of the flat space that iSCSI initiators address */

static bool iscsi_serves(const LpmHost *host G_GNUC_UNUSED, const LpmPoolConfig *pool)
{
    return pool->kind == LPM_POOL_ISCSI;
}

static bool iscsi_activate(LpmHost *host, const LpmFileRef *at, bool read_only G_GNUC_UNUSED,
                           uid_t uid G_GNUC_UNUSED, gid_t gid G_GNUC_UNUSED, LpmQemuDisk *ret,
                           GError **error)
{
    const LpmPoolConfig *pool = lpm_host_config_pool(host->config, at->pool);
    guint64 lun = 0;

    if (!g_ascii_string_to_unsigned(at->file, 10, 0, LUN_MAX, &lun, NULL)) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "\"%s\" is not a LUN of pool %s, which is of kind iscsi; give its "
                             "number, 0 to %d",
                             at->file, pool->name, LUN_MAX);
    }
    *ret = (LpmQemuDisk){
        .kind = LPM_QEMU_DISK_ISCSI,
        .portal = g_strdup(pool->portal),
        .target = g_strdup(pool->target),
        .initiator = g_strdup(pool->initiator),
        .lun = (int)lun,
        .user = g_strdup(pool->user),
    };
    return lpm_storage_secret(pool, &ret->secret_fd, error);
}

const LpmStorageOps lpm_storage_iscsi = {
    .kind = "iscsi",
    .serves = iscsi_serves,
    .create = lpm_storage_block_create,
    .activate = iscsi_activate,
    .remove = lpm_storage_block_remove,
    .look = lpm_storage_block_look,
};
