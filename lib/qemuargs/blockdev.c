/* SPDX-License-Identifier: Apache-2.0 */
/* Block nodes: where a disk is, in QEMU's words, and the objects with credentials that they need.
 */
#include "qemuargs/internal.h"

#include <string.h>

void lpm_qemu_disk_clear(LpmQemuDisk *disk)
{
    char **const texts[] = {
        &disk->path,        &disk->portal, &disk->target,  &disk->initiator,    &disk->host,
        &disk->port,        &disk->tls,    &disk->tls_dir, &disk->tls_hostname, &disk->pool,
        &disk->export_name, &disk->space,  &disk->image,   &disk->conf,         &disk->user,
    };

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_clear_pointer(texts[i], g_free);
    }
}

/* --- objects --- */

static char *secret_object(const char *node, const char *file)
{
    g_autofree char *quoted = lpm_qemu_quote(file);

    return g_strdup_printf("secret,id=%s-secret,file=%s", node, quoted);
}

/* The server must prove who it is: by a certificate, or by knowing the key. */
static char *tls_object(const LpmQemuDisk *disk, const char *node)
{
    g_autofree char *dir = lpm_qemu_quote(disk->tls_dir);
    g_autofree char *user = disk->user ? lpm_qemu_quote(disk->user) : NULL;

    if (strcmp(disk->tls, "psk") == 0) {
        return g_strdup_printf("tls-creds-psk,id=%s-tls,endpoint=client,dir=%s%s%s", node, dir,
                               user ? ",username=" : "", user ? user : "");
    }
    return g_strdup_printf("tls-creds-x509,id=%s-tls,endpoint=client,dir=%s,verify-peer=yes", node,
                           dir);
}

static char **objects_of(const LpmQemuDisk *disk, const char *node, const char *secret_file)
{
    GPtrArray *objects = g_ptr_array_new();

    if (secret_file) {
        g_ptr_array_add(objects, secret_object(node, secret_file));
    }
    if (disk->tls) {
        g_ptr_array_add(objects, tls_object(disk, node));
    }
    g_ptr_array_add(objects, NULL);
    return (char **)g_ptr_array_free(objects, FALSE);
}

/* --- nodes --- */

static void set_text(json_t *node, const char *member, const char *value)
{
    if (value) {
        json_object_set_new(node, member, json_string(value));
    }
}

/* The name of an object of @node's, as the value of @member. */
static void refer(json_t *node, const char *member, const char *name, const char *what)
{
    g_autofree char *id = g_strconcat(name, what, NULL);

    json_object_set_new(node, member, json_string(id));
}

static json_t *file_node(const LpmQemuDisk *disk)
{
    return lpm_json_pack("{s:s, s:s, s:s, s:s}", "driver", "file", "filename", disk->path, "aio",
                         "threads", "locking", "on");
}

static json_t *iscsi_node(const LpmQemuDisk *disk, const char *name, bool secret)
{
    json_t *node = lpm_json_pack("{s:s, s:s, s:s, s:s, s:i, s:s}", "driver", "iscsi", "transport",
                                 "tcp", "portal", disk->portal, "target", disk->target, "lun",
                                 disk->lun, "initiator-name", disk->initiator);

    set_text(node, "user", disk->user);
    if (secret) {
        refer(node, "password-secret", name, "-secret");
    }
    /* What the bytes of a write become on the way shows, also where TCP's checksum misses it. */
    set_text(node, "header-digest", "none-crc32c");
    return node;
}

/* A server that went away is tried again by QEMU for as long; then the partition is paused. */
#define NBD_RECONNECT_S 60

static json_t *nbd_node(const LpmQemuDisk *disk, const char *name)
{
    json_t *server = disk->path ? lpm_json_pack("{s:s, s:s}", "type", "unix", "path", disk->path)
                                : lpm_json_pack("{s:s, s:s, s:s}", "type", "inet", "host",
                                                disk->host, "port", disk->port);
    json_t *node = lpm_json_pack("{s:s, s:o, s:s, s:i}", "driver", "nbd", "server", server,
                                 "export", disk->export_name, "reconnect-delay", NBD_RECONNECT_S);

    if (disk->tls) {
        refer(node, "tls-creds", name, "-tls");
        set_text(node, "tls-hostname", disk->tls_hostname);
    }
    return node;
}

static json_t *rbd_node(const LpmQemuDisk *disk, const char *name, bool secret)
{
    json_t *node =
        lpm_json_pack("{s:s, s:s, s:s}", "driver", "rbd", "pool", disk->pool, "image", disk->image);

    set_text(node, "namespace", disk->space);
    set_text(node, "conf", disk->conf);
    set_text(node, "user", disk->user);
    if (secret) {
        refer(node, "key-secret", name, "-secret");
    }
    return node;
}

/* The node of the protocol, without what the disk's own settings add. */
static json_t *protocol_node(const LpmQemuDisk *disk, const char *name, bool secret)
{
    switch (disk->kind) {
    case LPM_QEMU_DISK_FILE:
        break;
    case LPM_QEMU_DISK_ISCSI:
        return iscsi_node(disk, name, secret);
    case LPM_QEMU_DISK_NBD:
        return nbd_node(disk, name);
    case LPM_QEMU_DISK_RBD:
        return rbd_node(disk, name, secret);
    }
    return file_node(disk);
}

static bool has_secret(const LpmQemuDisk *disk)
{
    return disk->secret_fd >= 0 && disk->kind != LPM_QEMU_DISK_FILE;
}

json_t *lpm_qemu_protocol_node(const LpmQemuDisk *disk, const char *name)
{
    return protocol_node(disk, name, has_secret(disk));
}

void lpm_qemu_add_objects(LpmQemuArgs *args, const LpmQemuDisk *disk, const char *name)
{
    g_autofree char *file =
        has_secret(disk) ? g_strdup_printf("/proc/self/fd/%d", disk->secret_fd) : NULL;
    g_auto(GStrv) objects = objects_of(disk, name, file);

    for (char **object = objects; *object; object++) {
        lpm_qemu_addf(args, "-object", "%s", *object);
    }
}

char *lpm_qemuargs_look_name(const LpmQemuDisk *disk, const char *format, const char *secret_file,
                             char ***ret_objects)
{
    json_t *file = protocol_node(disk, "look", secret_file != NULL);
    g_autoptr(json_t) top = lpm_json_pack("{s:s, s:o}", "driver", format, "file", file);
    g_autofree char *text = lpm_json_text(top);

    *ret_objects = objects_of(disk, "look", secret_file);
    return g_strconcat("json:", text, NULL);
}
