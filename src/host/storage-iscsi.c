/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks that are logical units of an iSCSI target; QEMU is the initiator, so that this system's
 * kernel has no part in it and holds nothing back. A disk's file is the unit's number.
 */
#include "host/identity.h"

#define LUN_MAX 16383 /* of the flat space that iSCSI initiators address */

static bool iscsi_serves(const LpmHost *host G_GNUC_UNUSED, const LpmPoolConfig *pool)
{
    return pool->kind == LPM_POOL_ISCSI;
}

static bool read_lun(const LpmPoolConfig *pool, const char *file, int *ret_lun, GError **error)
{
    guint64 lun = 0;

    if (!g_ascii_string_to_unsigned(file, 10, 0, LUN_MAX, &lun, NULL)) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "\"%s\" is not a LUN of pool %s, which is of kind iscsi; give its "
                             "number, 0 to %d",
                             file, pool->name, LUN_MAX);
    }
    *ret_lun = (int)lun;
    return true;
}

static bool iscsi_activate(LpmHost *host, const LpmFileRef *at, bool read_only G_GNUC_UNUSED,
                           uid_t uid G_GNUC_UNUSED, gid_t gid G_GNUC_UNUSED, LpmQemuDisk *ret,
                           GError **error)
{
    const LpmPoolConfig *pool = lpm_host_config_pool(host->config, at->pool);
    int lun = 0;

    if (!read_lun(pool, at->file, &lun, error)) {
        return false;
    }
    *ret = (LpmQemuDisk){
        .kind = LPM_QEMU_DISK_ISCSI,
        .portal = g_strdup(pool->portal),
        .target = g_strdup(pool->target),
        .initiator = g_strdup(pool->initiator),
        .lun = lun,
        .user = g_strdup(pool->user),
    };
    return lpm_storage_secret(pool, &ret->secret_fd, error);
}

static void iscsi_look(LpmHost *host, const LpmDisk *disk, const char *uuid G_GNUC_UNUSED,
                       LpmStorageLooked done, void *data)
{
    const LpmPoolConfig *pool = lpm_host_config_pool(host->config, disk->at.pool);
    g_autoptr(GError) error = NULL;
    g_autofree char *secret = pool->password_file ? lpm_pool_password(pool, &error) : NULL;
    g_autofree char *group = g_strdup_printf("storage:%s", pool->name);
    LpmScsiTarget target = {.portal = pool->portal,
                            .target = pool->target,
                            .initiator = pool->initiator,
                            .user = pool->user,
                            .chap_secret = secret,
                            .group = group};

    if (error || !read_lun(pool, disk->at.file, &target.lun, &error)) {
        lpm_identity_refuse(error, done, data);
    } else {
        lpm_identity_look_iscsi(&target, pool->portals, lpm_disk_format_name(disk->format), done,
                                data);
    }
}

const LpmStorageOps lpm_storage_iscsi = {
    .kind = "iscsi",
    .serves = iscsi_serves,
    .create = lpm_storage_block_create,
    .activate = iscsi_activate,
    .remove = lpm_storage_block_remove,
    .look = iscsi_look,
};
