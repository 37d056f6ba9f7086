/* SPDX-License-Identifier: Apache-2.0 */
/* Disks that an NBD server exports: qemu-nbd, nbdkit. A disk's file is the export's name. */
#include "host/identity.h"

#include <string.h>

static bool nbd_serves(const LpmHost *host G_GNUC_UNUSED, const LpmPoolConfig *pool)
{
    return pool->kind == LPM_POOL_NBD;
}

/* "ADDRESS:PORT", the address of IPv6 in brackets. */
static void set_server(LpmQemuDisk *ret, const char *server)
{
    const char *colon = strrchr(server, ':');
    size_t length = (size_t)(colon - server);

    if (server[0] == '[' && length > 2 && server[length - 1] == ']') {
        ret->host = g_strndup(server + 1, length - 2);
    } else {
        ret->host = g_strndup(server, length);
    }
    ret->port = g_strdup(colon + 1);
}

static bool nbd_activate(LpmHost *host, const LpmFileRef *at, bool read_only G_GNUC_UNUSED,
                         uid_t uid G_GNUC_UNUSED, gid_t gid G_GNUC_UNUSED, LpmQemuDisk *ret,
                         GError **error G_GNUC_UNUSED)
{
    const LpmPoolConfig *pool = lpm_host_config_pool(host->config, at->pool);

    *ret = (LpmQemuDisk){
        .kind = LPM_QEMU_DISK_NBD,
        .path = g_strdup(pool->socket),
        .export_name = g_strdup(at->file),
        .tls = g_strdup(pool->tls),
        .tls_dir = g_strdup(pool->tls_dir),
        .tls_hostname = g_strdup(pool->tls_hostname),
        .user = g_strdup(pool->user),
        .secret_fd = -1,
    };
    if (pool->server) {
        set_server(ret, pool->server);
    }
    return true;
}

static void nbd_look(LpmHost *host, const LpmDisk *disk, const char *uuid G_GNUC_UNUSED,
                     LpmStorageLooked done, void *data)
{
    const LpmPoolConfig *pool = lpm_host_config_pool(host->config, disk->at.pool);
    g_autofree char *group = g_strdup_printf("storage:%s", pool->name);

    lpm_identity_look_nbd(&(LpmNbdTarget){.server = pool->server,
                                          .socket = pool->socket,
                                          .export_name = disk->at.file,
                                          .tls = pool->tls,
                                          .tls_dir = pool->tls_dir,
                                          .tls_hostname = pool->tls_hostname,
                                          .user = pool->user,
                                          .group = group},
                          lpm_disk_format_name(disk->format), done, data);
}

const LpmStorageOps lpm_storage_nbd = {
    .kind = "nbd",
    .serves = nbd_serves,
    .create = lpm_storage_block_create,
    .activate = nbd_activate,
    .remove = lpm_storage_block_remove,
    .look = nbd_look,
};
