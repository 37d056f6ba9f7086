/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the target reaches a disk as well as the source does: driver, paths, writing, media. */
#include "checks/storage.h"

static void check_driver_one(LpmCheckRun *run, const LpmDiskFacts *disk)
{
    const char *kind = lpm_disk_kind(&disk->there);
    const char *reason;

    if (g_str_equal(kind, "file") || !lpm_fact_text(run, &disk->there, "driver_reason", &reason) ||
        !*reason) {
        return;
    }
    lpm_check_fail(run, TEXT("disk %s", disk->name),
                   TEXT("QEMU on %s has the driver %s", run->target, kind),
                   TEXT("it has not: %s", reason),
                   TEXT("install QEMU's block drivers on %s (Debian: qemu-block-extra, of the same "
                        "version as QEMU)",
                        run->target));
}

void lpm_check_driver(LpmCheckRun *run)
{
    lpm_check_each_disk(run, check_driver_one);
}

/* --- optical media --- */

static void check_optical_one(LpmCheckRun *run, const LpmDiskFacts *disk)
{
    const char *here;
    const char *there;

    if (!lpm_disk_is_optical(disk) || lpm_json_bool(disk->here.value, "ejected", false)) {
        return;
    }
    if (lpm_disk_is_hidden(disk)) {
        lpm_check_fail(
            run, TEXT("optical drive %s", disk->name),
            TEXT("its medium can be opened on %s, or it is ejected", run->target),
            TEXT("it cannot: %s", lpm_json_str(disk->there.value, "reason", "no reason given")),
            TEXT("eject the medium, or put it onto storage that both systems share"));
        return;
    }
    if (!g_str_equal(lpm_disk_kind(&disk->here), "file")) {
        return;
    }
    if (lpm_fact_text(run, &disk->here, "nonce", &here) &&
        lpm_fact_text(run, &disk->there, "nonce", &there) &&
        (!*here || !g_str_equal(here, there))) {
        lpm_check_fail(run, TEXT("optical drive %s", disk->name),
                       TEXT("its medium is on storage that both systems share, or ejected"),
                       TEXT("%s has a file of that name, but not on the storage of %s", run->target,
                            run->source),
                       TEXT("eject the medium, or put it onto storage that both systems share"));
    }
}

void lpm_check_optical(LpmCheckRun *run)
{
    lpm_check_each_disk(run, check_optical_one);
}

/* --- writing --- */

static void check_writable_at(LpmCheckRun *run, const LpmDiskFacts *disk, const LpmFactPlace *side,
                              const char *system)
{
    bool protected;

    if (!g_str_equal(lpm_disk_kind(side), "file") && !g_str_equal(lpm_disk_kind(side), "rbd") &&
        lpm_fact_bool(run, side, "write_protected", &protected) && protected) {
        lpm_check_fail(run, TEXT("disk %s", disk->name),
                       TEXT("%s may write to %s", system, lpm_disk_where(side)),
                       TEXT("it is write-protected there"),
                       TEXT("take the protection away for %s, or make the disk read_only in the "
                            "profile",
                            system));
    }
}

static void check_writable_one(LpmCheckRun *run, const LpmDiskFacts *disk)
{
    if (lpm_json_bool(disk->profile, "read_only", false) || lpm_disk_is_optical(disk) ||
        lpm_disk_is_reserved(disk)) {
        return;
    }
    check_writable_at(run, disk, &disk->here, run->source);
    if (!lpm_disk_is_hidden(disk)) {
        check_writable_at(run, disk, &disk->there, run->target);
    }
}

void lpm_check_writable(LpmCheckRun *run)
{
    lpm_check_each_disk(run, check_writable_one);
}

/* --- paths --- */

static bool is_good(const json_t *path)
{
    return !*lpm_json_str(path, "reason", "");
}

static size_t good_paths(const json_t *paths)
{
    size_t good = 0;

    for (size_t i = 0; i < json_array_size(paths); i++) {
        good += is_good(json_array_get(paths, i));
    }
    return good;
}

static void check_paths_one(LpmCheckRun *run, const LpmDiskFacts *disk)
{
    json_t *here;
    json_t *there;

    if (lpm_disk_is_hidden(disk) || !g_str_equal(lpm_disk_kind(&disk->there), "iscsi") ||
        !lpm_fact_list(run, &disk->here, "paths", &here) ||
        !lpm_fact_list(run, &disk->there, "paths", &there)) {
        return;
    }
    if (good_paths(there) < good_paths(here)) {
        lpm_check_fail(run, TEXT("disk %s", disk->name),
                       TEXT("as many paths as on %s: %zu", run->source, good_paths(here)),
                       TEXT("%zu on %s", good_paths(there), run->target),
                       TEXT("have %s reach every portal of the target, or override this and move "
                            "with fewer",
                            run->target));
    }
}

void lpm_check_paths(LpmCheckRun *run)
{
    lpm_check_each_disk(run, check_paths_one);
}

static void check_paths_dead_one(LpmCheckRun *run, const LpmDiskFacts *disk)
{
    json_t *paths = lpm_json_at(disk->there.value, "paths");
    json_t *path;
    size_t i;

    json_array_foreach (paths, i, path) {
        if (!is_good(path)) {
            lpm_check_fail(run, TEXT("disk %s", disk->name),
                           TEXT("%s reaches it at portal %s, which the target names", run->target,
                                lpm_json_str(path, "portal", "?")),
                           TEXT("%s", lpm_json_str(path, "reason", "")),
                           TEXT("look at that portal and the network between, if it is meant for "
                                "this system"));
        }
    }
}

void lpm_check_paths_dead(LpmCheckRun *run)
{
    lpm_check_each_disk(run, check_paths_dead_one);
}
