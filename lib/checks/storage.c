/* SPDX-License-Identifier: Apache-2.0 */
/* Disks: seen by both, of one size and format, with a cache that does not lie; the table. */
#include "checks/storage.h"

void lpm_check_each_disk(LpmCheckRun *run, LpmDiskCheck check)
{
    json_t *disks;
    json_t *item;
    size_t i;

    if (!lpm_fact_list(run, NULL, "partition.profile.disks", &disks)) {
        return;
    }
    json_array_foreach (disks, i, item) {
        LpmDiskFacts disk = {.name = lpm_json_str(item, "name", "(unknown)"), .profile = item};
        bool known;

        if (lpm_json_at(item, "media") && !*lpm_json_str(item, "file", "")) {
            continue; /* an optical drive without a medium has nothing to be looked at */
        }
        known = lpm_fact_item(run, "partition.disks", "name", disk.name, &disk.here);
        known &= lpm_fact_item(run, "target_check.disks", "name", disk.name, &disk.there);
        if (known) {
            check(run, &disk);
        }
    }
}

bool lpm_disk_is_hidden(const LpmDiskFacts *disk)
{
    return !lpm_json_bool(disk->there.value, "visible", true);
}

/* Then much of it cannot be read; storage.reservation says so. */
bool lpm_disk_is_reserved(const LpmDiskFacts *disk)
{
    return *lpm_json_str(disk->here.value, "reservation.type", "") ||
           *lpm_json_str(disk->there.value, "reservation.type", "");
}

bool lpm_disk_is_optical(const LpmDiskFacts *disk)
{
    return g_str_equal(lpm_json_str(disk->profile, "media", "disk"), "optical");
}

/* A system that does not say it knows nothing but files. */
const char *lpm_disk_kind(const LpmFactPlace *side)
{
    return lpm_json_str(side->value, "kind", "file");
}

const char *lpm_disk_where(const LpmFactPlace *side)
{
    return lpm_json_str(side->value, "path", "the disk");
}

static void check_visible_disk(LpmCheckRun *run, const LpmDiskFacts *disk)
{
    bool visible;

    if (!lpm_disk_is_optical(disk) && lpm_fact_bool(run, &disk->there, "visible", &visible) &&
        !visible) {
        lpm_check_fail(
            run, TEXT("disk %s", disk->name), TEXT("%s can open it", run->target),
            TEXT("it cannot: %s", lpm_json_str(disk->there.value, "reason", "no reason given")),
            g_str_equal(lpm_disk_kind(&disk->there), "file")
                ? TEXT("mount the storage there under the same pool name, and let lpm-host and "
                       "QEMU open the file")
                : TEXT("see that %s reaches that storage, and that its pool is configured right",
                       run->target));
    }
}

static void check_visible(LpmCheckRun *run)
{
    lpm_check_each_disk(run, check_visible_disk);
}

static void check_size_one(LpmCheckRun *run, const LpmDiskFacts *disk)
{
    int64_t here, there;

    if (!lpm_disk_is_hidden(disk) && !lpm_disk_is_reserved(disk) &&
        lpm_fact_int(run, &disk->here, "size_bytes", &here) &&
        lpm_fact_int(run, &disk->there, "size_bytes", &there) && here != there) {
        lpm_check_fail(
            run, TEXT("disk %s", disk->name),
            TEXT("%" G_GINT64_FORMAT " bytes, as on %s", here, run->source),
            TEXT("%" G_GINT64_FORMAT " bytes on %s", there, run->target),
            TEXT("find out which file is the right one; both systems must see the same"));
    }
}

static void check_size(LpmCheckRun *run)
{
    lpm_check_each_disk(run, check_size_one);
}

static void check_format_one(LpmCheckRun *run, const LpmDiskFacts *disk)
{
    const char *here;
    const char *there;

    if (!lpm_disk_is_hidden(disk) && lpm_fact_text(run, &disk->here, "format", &here) &&
        lpm_fact_text(run, &disk->there, "format", &there) && !g_str_equal(here, there)) {
        lpm_check_fail(
            run, TEXT("disk %s", disk->name), TEXT("format %s, as on %s", here, run->source),
            TEXT("format %s on %s", there, run->target),
            TEXT("find out which file is the right one; both systems must see the same"));
    }
}

static void check_format(LpmCheckRun *run)
{
    lpm_check_each_disk(run, check_format_one);
}

static void check_cache_one(LpmCheckRun *run, const LpmDiskFacts *disk)
{
    const char *cache;
    bool coherent;

    if (lpm_disk_is_hidden(disk) || !lpm_fact_text(run, &disk->here, "cache", &cache) ||
        !lpm_fact_bool(run, &disk->there, "coherent", &coherent)) {
        return;
    }
    if (!coherent && !g_str_equal(cache, "none") && !g_str_equal(cache, "directsync")) {
        lpm_check_fail(run, TEXT("disk %s", disk->name),
                       TEXT("cache mode none or directsync on this storage (%s)",
                            lpm_json_str(disk->there.value, "filesystem", "not coherent")),
                       TEXT("cache mode %s", cache),
                       TEXT("change the disk's cache mode and restart the partition"));
    }
}

static void check_cache(LpmCheckRun *run)
{
    lpm_check_each_disk(run, check_cache_one);
}

/* Calls @check for the kernel and the initrd, if any. */
static void each_boot_file(LpmCheckRun *run,
                           void (*check)(LpmCheckRun *run, const char *file,
                                         const LpmFactPlace *here, const LpmFactPlace *there))
{
    json_t *files;
    json_t *item;
    size_t i;

    if (!lpm_fact_list(run, NULL, "partition.boot_files", &files)) {
        return;
    }
    json_array_foreach (files, i, item) {
        const char *file = lpm_json_str(item, "file", "(unknown)");
        LpmFactPlace here = {.value = item};
        LpmFactPlace there;

        g_snprintf(here.name, sizeof(here.name), "partition.boot_files[%s]", file);
        if (lpm_fact_item(run, "target_check.boot_files", "file", file, &there)) {
            check(run, file, &here, &there);
        }
    }
}

static void check_boot_file(LpmCheckRun *run, const char *file, const LpmFactPlace *here,
                            const LpmFactPlace *there)
{
    bool visible;

    (void)here;
    if (lpm_fact_bool(run, there, "visible", &visible) && !visible) {
        lpm_check_fail(run, TEXT("boot file %s", file), TEXT("%s can open it", run->target),
                       TEXT("it cannot"), TEXT("put it into that pool on %s", run->target));
    }
}

static void check_boot_files(LpmCheckRun *run)
{
    each_boot_file(run, check_boot_file);
}

static void check_boot_file_same(LpmCheckRun *run, const char *file, const LpmFactPlace *here,
                                 const LpmFactPlace *there)
{
    const char *digest;
    const char *other;

    if (lpm_json_bool(there->value, "visible", true) &&
        lpm_fact_text(run, here, "digest", &digest) &&
        lpm_fact_text(run, there, "digest", &other) && !g_str_equal(digest, other)) {
        lpm_check_fail(
            run, TEXT("boot file %s", file), TEXT("the same content on both systems"),
            TEXT("it differs"),
            TEXT("copy the source's file there, or expect another kernel after the next restart"));
    }
}

static void check_boot_files_same(LpmCheckRun *run)
{
    each_boot_file(run, check_boot_file_same);
}

static const LpmCheckRow rows[] = {
    {"storage.driver", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "QEMU on the target has the driver for the kind of storage",
     "Distributions pack the drivers for iSCSI and RBD apart from QEMU.", lpm_check_driver},
    {"storage.visible", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, "HSCLA24E",
     "The target can open every disk", "Disks stay where they are; both systems must reach them.",
     check_visible},
    {"storage.optical", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "Optical media are shared or ejected",
     "The drive goes with the partition; its medium must be there too.", lpm_check_optical},
    {"storage.writable", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "LUNs and NBD exports can be written to",
     "A write-protected disk opens, and fails when the partition writes.", lpm_check_writable},
    {"storage.same-disk", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "Every disk is the same disk on both systems",
     "A name proves nothing. For a file the source writes a random word beside it, and the target "
     "has to find it there; a LUN says who it is in its identification page (VPD 83); an NBD "
     "export is known by its server and name.",
     lpm_check_same_disk},
    {"storage.same-content", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, true, NULL,
     "LUNs and NBD exports have the same content on both systems",
     "Both systems read the same places of the disk: two disks that say that they are the same one "
     "are found out, where they differ.",
     lpm_check_same_content},
    {"storage.backing", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "The target has every backing file of a qcow2, and it is the same",
     "What is not in the overlay is read from there. Format, size and content at many places are "
     "compared.",
     lpm_check_backing},
    {"storage.size", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "Every disk has one size on both systems",
     "A difference means another file, or a file system that shows something old.", check_size},
    {"storage.format", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "Every disk has one format on both systems",
     "A difference means another file, or a file system that shows something old.", check_format},
    {"storage.locks", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL, "Nobody else holds a disk",
     "A disk that another process or another host has open would be written by two.",
     lpm_check_locks},
    {"storage.reserve-policy", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "Every disk has reserve_policy no_reserve",
     "A disk that is meant to be reserved for one system cannot be handed over to another.",
     lpm_check_reserve_policy},
    {"storage.reservation", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL, "No LUN is reserved",
     "A SCSI reservation, persistent or not, lets its holder alone write; the partition would get "
     "errors at the target. Both systems look: the holder itself may see none.",
     lpm_check_reservation},
    {"storage.registrations", LPM_WHEN_ALWAYS, LPM_SEVERITY_WARNING, false, NULL,
     "Nobody is registered for reservations on a LUN",
     "Who is registered may reserve the disk at any moment.", lpm_check_registrations},
    {"storage.paths", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, true, "HSCLA340",
     "The target reaches a LUN over as many paths as the source",
     "PowerVM's --mpio: with fewer portals the partition loses the redundancy that it had.",
     lpm_check_paths},
    {"storage.paths-dead", LPM_WHEN_ALWAYS, LPM_SEVERITY_INFO, false, NULL,
     "Every portal that the storage names answers the target",
     "A portal that does not answer may be broken, or meant for others.", lpm_check_paths_dead},
    {"storage.cache", LPM_WHEN_ACTIVE, LPM_SEVERITY_ERROR, false, NULL,
     "The cache mode is safe on this storage",
     "On a file system where one server does not see at once what another one wrote, QEMU must not "
     "use the page cache.",
     check_cache},
    {"storage.boot-files", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "The target has the kernel and initrd", "QEMU needs them to be started, on the target too.",
     check_boot_files},
    {"storage.boot-files-same", LPM_WHEN_ALWAYS, LPM_SEVERITY_WARNING, false, NULL,
     "Kernel and initrd are the same on both systems",
     "The running partition does not need them any more, its next restart does.",
     check_boot_files_same},
};

const LpmCheckGroup lpm_check_group_storage = {"storage", "Storage", rows, G_N_ELEMENTS(rows)};
