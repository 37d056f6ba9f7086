/* SPDX-License-Identifier: Apache-2.0 */
#include "qemuargs/internal.h"

/* A virtio disk's serial number has 20 bytes. */
#define SERIAL_MAX 20

/* QEMU's cache modes taken apart: whether the host's page cache is bypassed, whether the guest sees
 * a write cache. */
static const struct {
    const char *name;
    bool direct;
    bool write_cache;
} caches[] = {
    {"none", true, true},
    {"directsync", true, false},
    {"writeback", false, true},
};

static size_t cache_index(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(caches); i++) {
        if (g_strcmp0(caches[i].name, name) == 0) {
            return i;
        }
    }
    return 0; /* "none": safe everywhere */
}

static void add_blockdev(LpmQemuArgs *args, json_t *node)
{
    g_autoptr(json_t) owned = node;
    g_autofree char *text = lpm_json_text(owned);

    lpm_qemu_addf(args, "-blockdev", "%s", text);
}

/*
 * Named after the index: QEMU allows 31 characters for a node and wants a letter first, our names
 * are freer. The guest finds the profile's name as the serial number.
 */
static void add_disk(LpmQemuArgs *args, size_t index)
{
    const LpmDisk *disk = &args->spec->profile->disks[index];
    size_t cache = cache_index(disk->cache);
    g_autofree char *node = g_strdup_printf("disk%zu", index);
    g_autofree char *file_node = g_strdup_printf("%s-file", node);
    g_autofree char *boot = NULL;

    add_blockdev(args,
                 lpm_json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:s, s:{s:b, s:b}}", "driver",
                               "file", "node-name", file_node, "filename", args->spec->disks[index],
                               "aio", "threads", "locking", "on", "auto-read-only", 0, "read-only",
                               disk->read_only, "discard", "unmap", "cache", "direct",
                               caches[cache].direct, "no-flush", 0));
    add_blockdev(args, lpm_json_pack("{s:s, s:s, s:s, s:b, s:s, s:{s:b, s:b}}", "driver",
                                     lpm_disk_format_name(disk->format), "node-name", node, "file",
                                     file_node, "read-only", disk->read_only, "discard", "unmap",
                                     "cache", "direct", caches[cache].direct, "no-flush", 0));
    if (index == 0 && !args->spec->kernel) {
        boot = g_strdup(",bootindex=1");
    }
    /* An error stops the partition: it can be moved away, or goes on when the disk is back. */
    lpm_qemu_addf(args, "-device",
                  "virtio-blk-pci,id=dev-%s,drive=%s,bus=%s,addr=0x%x,serial=%.*s,write-cache=%s,"
                  "werror=stop,rerror=stop%s",
                  node, node, args->bus, LPM_QEMU_SLOT_DISK + (unsigned)index, SERIAL_MAX,
                  disk->name, caches[cache].write_cache ? "on" : "off", boot ? boot : "");
}

void lpm_qemu_add_disks(LpmQemuArgs *args)
{
    for (size_t i = 0; i < args->spec->profile->n_disks; i++) {
        add_disk(args, i);
    }
}
