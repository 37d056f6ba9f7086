/* SPDX-License-Identifier: Apache-2.0 */
/* Disks in files: seen by both, the same, held by nobody else, with a cache that does not lie. */
#include "checks/internal.h"

/* A disk of the profile with what each side says about it. */
typedef struct {
    const char *name;
    LpmFactPlace here;
    LpmFactPlace there;
} Disk;

/* Calls @check for each disk of the profile; a side that does not mention it counts as not known.
 */
static void each_disk(LpmCheckRun *run, void (*check)(LpmCheckRun *run, const Disk *disk))
{
    json_t *disks;
    json_t *item;
    size_t i;

    if (!lpm_fact_list(run, NULL, "partition.profile.disks", &disks)) {
        return;
    }
    json_array_foreach (disks, i, item) {
        Disk disk = {.name = lpm_json_str(item, "name", "(unknown)")};
        bool known;

        /* An optical drive without a medium has nothing to be looked at. */
        if (g_str_equal(lpm_json_str(item, "media", ""), "optical") &&
            !*lpm_json_str(item, "file", "")) {
            continue;
        }
        known = lpm_fact_item(run, "partition.disks", "name", disk.name, &disk.here);

        known &= lpm_fact_item(run, "target_check.disks", "name", disk.name, &disk.there);
        if (known) {
            check(run, &disk);
        }
    }
}

/* What follows needs a disk that the target sees; that it does not is said by storage.visible. */
static bool is_hidden(const Disk *disk)
{
    return !lpm_json_bool(disk->there.value, "visible", true);
}

static void check_visible_disk(LpmCheckRun *run, const Disk *disk)
{
    bool visible;

    if (lpm_fact_bool(run, &disk->there, "visible", &visible) && !visible) {
        lpm_check_fail(
            run, TEXT("disk %s", disk->name), TEXT("%s can open it", run->target),
            TEXT("it cannot: %s", lpm_json_str(disk->there.value, "reason", "no reason given")),
            TEXT("mount the storage there under the same pool name, and let lpm-host and QEMU open "
                 "the file"));
    }
}

static void check_visible(LpmCheckRun *run)
{
    each_disk(run, check_visible_disk);
}

static void check_same_disk_one(LpmCheckRun *run, const Disk *disk)
{
    const char *written;
    const char *seen;

    if (is_hidden(disk) || !g_str_equal(lpm_json_str(disk->here.value, "kind", "file"), "file") ||
        !lpm_fact_text(run, &disk->here, "nonce", &written) ||
        !lpm_fact_text(run, &disk->there, "nonce", &seen)) {
        return;
    }
    if (!*written) {
        lpm_check_fail(run, TEXT("disk %s", disk->name),
                       TEXT("a proof written beside it on %s", run->source),
                       TEXT("writing there failed"),
                       TEXT("let lpm-host write into the disk's directory; it has to keep the "
                            "ownership record there too"));
    } else if (!g_str_equal(written, seen)) {
        lpm_check_fail(
            run, TEXT("disk %s", disk->name),
            TEXT("the same disk on both systems: %s finds what %s wrote beside it", run->target,
                 run->source),
            *seen ? TEXT("it finds something else") : TEXT("it finds nothing"),
            TEXT("the pool has another file system there; mount the shared one on both systems"));
    }
}

static void check_same_disk(LpmCheckRun *run)
{
    each_disk(run, check_same_disk_one);
}

static void check_size_one(LpmCheckRun *run, const Disk *disk)
{
    int64_t here, there;

    if (!is_hidden(disk) && lpm_fact_int(run, &disk->here, "size_bytes", &here) &&
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
    each_disk(run, check_size_one);
}

static void check_format_one(LpmCheckRun *run, const Disk *disk)
{
    const char *here;
    const char *there;

    if (!is_hidden(disk) && lpm_fact_text(run, &disk->here, "format", &here) &&
        lpm_fact_text(run, &disk->there, "format", &there) && !g_str_equal(here, there)) {
        lpm_check_fail(
            run, TEXT("disk %s", disk->name), TEXT("format %s, as on %s", here, run->source),
            TEXT("format %s on %s", there, run->target),
            TEXT("find out which file is the right one; both systems must see the same"));
    }
}

static void check_format(LpmCheckRun *run)
{
    each_disk(run, check_format_one);
}

static void check_locks_one(LpmCheckRun *run, const Disk *disk)
{
    const char *here;
    const char *there;

    if (lpm_fact_text(run, &disk->here, "locked_by", &here) && *here) {
        lpm_check_fail(run, TEXT("disk %s", disk->name),
                       TEXT("used by partition %s alone", run->partition),
                       TEXT("on %s it is held by %s", run->source, here),
                       TEXT("end that other use of the disk"));
    }
    if (!is_hidden(disk) && lpm_fact_text(run, &disk->there, "locked_by", &there) && *there) {
        lpm_check_fail(run, TEXT("disk %s", disk->name),
                       TEXT("used by partition %s alone", run->partition),
                       TEXT("on %s it is held by %s", run->target, there),
                       TEXT("end that other use of the disk"));
    }
}

static void check_locks(LpmCheckRun *run)
{
    each_disk(run, check_locks_one);
}

static void check_cache_one(LpmCheckRun *run, const Disk *disk)
{
    const char *cache;
    bool coherent;

    if (is_hidden(disk) || !lpm_fact_text(run, &disk->here, "cache", &cache) ||
        !lpm_fact_bool(run, &disk->there, "coherent", &coherent)) {
        return;
    }
    if (!coherent && !g_str_equal(cache, "none") && !g_str_equal(cache, "directsync")) {
        lpm_check_fail(run, TEXT("disk %s", disk->name),
                       TEXT("cache mode none or directsync on this storage"),
                       TEXT("cache mode %s", cache),
                       TEXT("change the disk's cache mode and restart the partition"));
    }
}

static void check_cache(LpmCheckRun *run)
{
    each_disk(run, check_cache_one);
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
    {"storage.visible", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, "HSCLA24E",
     "The target can open every disk", "Disks stay where they are; both systems must reach them.",
     check_visible},
    {"storage.same-disk", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "Every disk is the same disk on both systems",
     "A name proves nothing: the source writes a random word beside the disk, and the target has "
     "to find it there.",
     check_same_disk},
    {"storage.size", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "Every disk has one size on both systems",
     "A difference means another file, or a file system that shows something old.", check_size},
    {"storage.format", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "Every disk has one format on both systems",
     "A difference means another file, or a file system that shows something old.", check_format},
    {"storage.locks", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL, "Nobody else holds a disk",
     "The equivalent of reserve_policy=no_reserve: a disk that somebody else has locked or "
     "reserved cannot be handed over.",
     check_locks},
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
