/* SPDX-License-Identifier: Apache-2.0 */
#include "qemuargs/internal.h"

#include <string.h>

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

/* What QEMU's own settings of a node are, whatever is below it. */
static void settle_node(json_t *node, const LpmDisk *disk, const char *name)
{
    bool direct = caches[cache_index(disk->cache)].direct;

    json_object_set_new(node, "node-name", json_string(name));
    json_object_set_new(node, "read-only", json_boolean(disk->read_only));
    json_object_set_new(node, "auto-read-only", json_false());
    json_object_set_new(node, "discard", json_string("unmap"));
    json_object_set_new(node, "cache",
                        lpm_json_pack("{s:b, s:b}", "direct", direct, "no-flush", 0));
}

/* @file: the protocol's node without these settings, stolen; NULL: the format's node. */
static json_t *make_node(const LpmDisk *disk, const char *name, json_t *file)
{
    g_autofree char *file_name = g_strconcat(name, "-file", NULL);
    json_t *node = file ? file
                        : lpm_json_pack("{s:s, s:s}", "driver", lpm_disk_format_name(disk->format),
                                        "file", file_name);

    settle_node(node, disk, file ? file_name : name);
    return node;
}

json_t *lpm_qemuargs_disk_node(const LpmDisk *profile, size_t index, const LpmQemuDisk *disk,
                               bool on_top)
{
    g_autofree char *name = g_strdup_printf("disk%zu", index);

    return make_node(profile, name, on_top ? NULL : lpm_qemu_protocol_node(disk, name));
}

/* The two nodes of a disk: the protocol's, called NAME-file, and the format's on top. */
static void add_nodes(LpmQemuArgs *args, size_t index, const char *name)
{
    const LpmDisk *disk = &args->spec->profile->disks[index];
    const LpmQemuDisk *place = &args->spec->disks[index];

    lpm_qemu_add_objects(args, place, name);
    add_blockdev(args, make_node(disk, name, lpm_qemu_protocol_node(place, name)));
    add_blockdev(args, make_node(disk, name, NULL));
}

/* Where a disk is plugged in: the same whatever other disks the partition has. */
static char *place_of(const LpmQemuArgs *args, const LpmDisk *disk, size_t index)
{
    switch (disk->adapter) {
    case LPM_ADAPTER_SCSI:
        return g_strdup_printf("bus=scsi.0,channel=0,scsi-id=0,lun=%zu", index);
    case LPM_ADAPTER_VSCSI:
        return g_strdup_printf("bus=vscsi.0,channel=0,scsi-id=%zu,lun=0", index);
    case LPM_ADAPTER_VIRTIO:
    case LPM_ADAPTER_N:
        break;
    }
    return g_strdup_printf("bus=%s,addr=0x%x", args->bus, LPM_QEMU_SLOT_DISK + (unsigned)index);
}

static const char *model_of(const LpmDisk *disk)
{
    return disk->media == LPM_MEDIA_OPTICAL      ? "scsi-cd"
           : disk->adapter == LPM_ADAPTER_VIRTIO ? "virtio-blk-pci"
                                                 : "scsi-hd";
}

/* Which one the firmware tries, from 1; 0: none. */
static unsigned boot_place(const LpmQemuSpec *spec, size_t index)
{
    const LpmProfile *profile = spec->profile;
    g_auto(GStrv) names = NULL;

    if (!profile->boot_order) {
        size_t first = 0;

        while (profile->disks[first].purpose != LPM_PURPOSE_DATA && first < index) {
            first++;
        }
        return index == first && !spec->kernel ? 1 : 0;
    }
    names = g_strsplit(profile->boot_order, ",", -1);
    for (unsigned i = 0; names[i]; i++) {
        if (strcmp(names[i], profile->disks[index].name) == 0) {
            return i + 1;
        }
    }
    return 0;
}

static char *more_of(const LpmQemuSpec *spec, size_t index)
{
    bool multi_queue = spec->profile->disks[index].adapter == LPM_ADAPTER_VIRTIO;
    g_autofree char *queues =
        multi_queue ? lpm_qemu_queues(spec->profile, "num-queues") : g_strdup("");
    unsigned place = boot_place(spec, index);

    return place ? g_strdup_printf("%s,bootindex=%u", queues, place) : g_steal_pointer(&queues);
}

/*
 * Named after the index: QEMU allows 31 characters for a node and wants a letter first, our names
 * are freer. The guest finds the profile's name as the serial number.
 */
static void add_disk(LpmQemuArgs *args, size_t index)
{
    const LpmDisk *disk = &args->spec->profile->disks[index];
    bool write_cache = caches[cache_index(disk->cache)].write_cache;
    g_autofree char *node = g_strdup_printf("disk%zu", index);
    g_autofree char *drive = disk->at.file ? g_strconcat(",drive=", node, NULL) : NULL;
    g_autofree char *place = place_of(args, disk, index);
    g_autofree char *cache = NULL;
    g_autofree char *more = more_of(args->spec, index);

    if (drive) {
        add_nodes(args, index, node);
    }
    if (disk->media != LPM_MEDIA_OPTICAL) {
        cache = g_strconcat(",write-cache=", write_cache ? "on" : "off", NULL);
    }
    /* An error stops the partition: it can be moved away, or goes on when the disk is back. */
    lpm_qemu_addf(args, "-device", "%s,id=dev-%s%s,%s,serial=%.*s%s,werror=stop,rerror=stop%s",
                  model_of(disk), node, drive ? drive : "", place, SERIAL_MAX, disk->name,
                  cache ? cache : "", more);
}

static bool has_adapter(const LpmProfile *profile, LpmDiskAdapter adapter)
{
    for (size_t i = 0; i < profile->n_disks; i++) {
        if (profile->disks[i].adapter == adapter) {
            return true;
        }
    }
    return false;
}

/* The machine has the device already; here it is given its memory. */
static void add_firmware(LpmQemuArgs *args, size_t index)
{
    bool power = args->spec->profile->family == LPM_FAMILY_POWER;

    add_nodes(args, index, power ? LPM_QEMU_NVRAM : LPM_QEMU_FLASH_VARIABLES);
    if (power) {
        lpm_qemu_addf(args, "-global", "spapr-nvram.drive=" LPM_QEMU_NVRAM);
    }
}

void lpm_qemu_add_disks(LpmQemuArgs *args)
{
    const LpmProfile *profile = args->spec->profile;

    if (has_adapter(profile, LPM_ADAPTER_SCSI)) {
        g_autofree char *queues = lpm_qemu_queues(profile, "num_queues");

        lpm_qemu_addf(args, "-device", "virtio-scsi-pci,id=scsi,bus=%s,addr=0x%x%s", args->bus,
                      LPM_QEMU_SLOT_SCSI, queues);
    }
    if (has_adapter(profile, LPM_ADAPTER_VSCSI)) {
        lpm_qemu_addf(args, "-device", "spapr-vscsi,id=vscsi,reg=0x%x", LPM_QEMU_REG_VSCSI);
    }
    for (size_t i = 0; i < profile->n_disks; i++) {
        if (profile->disks[i].purpose == LPM_PURPOSE_FIRMWARE) {
            add_firmware(args, i);
        } else {
            add_disk(args, i);
        }
    }
}
