/* SPDX-License-Identifier: Apache-2.0 */
/* Whether what both systems see under one name is one disk, and everything below it too. */
#include "checks/storage.h"

/* --- identity: a nonce beside a file, what a device says of itself --- */

static void check_nonce(LpmCheckRun *run, const LpmDiskFacts *disk)
{
    const char *written;
    const char *seen;

    if (!lpm_fact_text(run, &disk->here, "nonce", &written) ||
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

static void check_identity(LpmCheckRun *run, const LpmDiskFacts *disk)
{
    const char *here;
    const char *there;

    if (!lpm_fact_text(run, &disk->here, "identity", &here) ||
        !lpm_fact_text(run, &disk->there, "identity", &there)) {
        return;
    }
    if (!*here || !*there) {
        lpm_check_fail(
            run, TEXT("disk %s", disk->name),
            TEXT("%s says which disk it is", lpm_disk_where(*here ? &disk->there : &disk->here)),
            TEXT("it does not, so nothing proves that both systems see one disk"),
            TEXT("have the target give the disk an identification (VPD page 83) of its "
                 "own"));
    } else if (!g_str_equal(here, there)) {
        lpm_check_fail(
            run, TEXT("disk %s", disk->name),
            TEXT("the same disk on both systems: %s, as on %s", here, run->source),
            TEXT("%s on %s is another disk: %s", lpm_disk_where(&disk->there), run->target, there),
            TEXT("have pool and number on %s lead to the disk that %s uses", run->target,
                 run->source));
    }
}

static void check_same_disk_one(LpmCheckRun *run, const LpmDiskFacts *disk)
{
    const char *here = lpm_disk_kind(&disk->here);
    const char *there = lpm_disk_kind(&disk->there);

    if (lpm_disk_is_hidden(disk) || lpm_disk_is_optical(disk)) {
        return;
    }
    if (!g_str_equal(here, there)) {
        lpm_check_fail(run, TEXT("disk %s", disk->name),
                       TEXT("a pool of kind %s on both systems, as on %s", here, run->source),
                       TEXT("kind %s on %s", there, run->target),
                       TEXT("give the pool the same kind in both configurations"));
    } else if (g_str_equal(here, "file")) {
        check_nonce(run, disk);
    } else {
        check_identity(run, disk);
    }
}

void lpm_check_same_disk(LpmCheckRun *run)
{
    lpm_check_each_disk(run, check_same_disk_one);
}

/* --- content: the same places of a disk, read by both systems --- */

typedef struct {
    unsigned with_data; /* blocks that are not empty on both, and stood still on both */
    unsigned different; /* of these */
} Compared;

/* A block's digest, "" for one of zeros; NULL: it was changing, so it says nothing. */
static const char *block_at(const json_t *blocks, size_t number)
{
    return json_string_value(json_array_get(blocks, number));
}

static Compared compare(const json_t *here, const json_t *there)
{
    Compared result = {0};

    for (size_t i = 0; i < json_array_size(here) && i < json_array_size(there); i++) {
        const char *a = block_at(here, i);
        const char *b = block_at(there, i);

        if (a && b && (*a || *b)) {
            result.with_data++;
            result.different += !g_str_equal(a, b);
        }
    }
    return result;
}

enum { FEW = 4, SHARE = 8 };

/*
 * A partition that runs writes between the two looks, so a few places may differ that stood still
 * while either system looked; more of them, or most of those that there are, take another disk. One
 * that rests writes nothing.
 */
static bool is_another(const Compared *result, bool active)
{
    return active ? result->different * 2 > result->with_data ||
                        (result->different > FEW && result->different * SHARE > result->with_data)
                  : result->different > 0;
}

static void check_same_content_one(LpmCheckRun *run, const LpmDiskFacts *disk)
{
    json_t *here;
    json_t *there;
    Compared result;

    if (lpm_disk_is_hidden(disk) || lpm_disk_is_reserved(disk) ||
        g_str_equal(lpm_disk_kind(&disk->here), "file") ||
        g_str_equal(lpm_disk_kind(&disk->here), "rbd") ||
        !lpm_fact_list(run, &disk->here, "sample", &here) ||
        !lpm_fact_list(run, &disk->there, "sample", &there)) {
        return;
    }
    result = compare(here, there);
    if (is_another(&result, run->active)) {
        lpm_check_fail(
            run, TEXT("disk %s", disk->name),
            TEXT("the same content on both systems, but for what the partition is writing"),
            TEXT("%u of %u places differ on %s (%s)", result.different, result.with_data,
                 run->target, lpm_disk_where(&disk->there)),
            TEXT("two disks say that they are the same one: find out which is right, and give each "
                 "an identification of its own"));
    }
}

void lpm_check_same_content(LpmCheckRun *run)
{
    lpm_check_each_disk(run, check_same_content_one);
}

/* --- backing files --- */

static void backing_differs(LpmCheckRun *run, const LpmDiskFacts *disk, const char *file,
                            char *expected, char *found)
{
    lpm_check_fail(run, TEXT("disk %s", disk->name), expected, found,
                   TEXT("put the file that %s uses at %s on %s: a backing file must be the same",
                        run->source, file, run->target));
}

static void check_backing_file(LpmCheckRun *run, const LpmDiskFacts *disk, const json_t *here,
                               const json_t *there)
{
    const char *file = lpm_json_str(here, "file", "(unknown)");
    const char *format = lpm_json_str(here, "format", "");
    const char *other = lpm_json_str(there, "format", "");
    int64_t size = lpm_json_int(here, "size_bytes", -1);
    int64_t size_there = lpm_json_int(there, "size_bytes", -1);
    Compared result = compare(lpm_json_at(here, "sample"), lpm_json_at(there, "sample"));

    if (!g_str_equal(format, other) || size != size_there) {
        backing_differs(
            run, disk, file,
            TEXT("backing file %s is the same on both systems: %s of %" G_GINT64_FORMAT " bytes",
                 file, format, size),
            TEXT("%s: %s of %" G_GINT64_FORMAT " bytes", run->target, other, size_there));
    } else if (result.different) { /* nobody writes to a backing file */
        backing_differs(run, disk, file, TEXT("backing file %s is the same on both systems", file),
                        TEXT("its content differs on %s, in %u of %u places", run->target,
                             result.different, result.with_data));
    }
}

static void check_backing_one(LpmCheckRun *run, const LpmDiskFacts *disk)
{
    json_t *here;
    json_t *there;
    const char *missing;

    if (lpm_disk_is_hidden(disk) || !lpm_json_at(disk->here.value, "backing") ||
        !lpm_fact_list(run, &disk->here, "backing", &here) ||
        !lpm_fact_list(run, &disk->there, "backing", &there) ||
        !lpm_fact_text(run, &disk->there, "backing_reason", &missing)) {
        return;
    }
    if (*missing || json_array_size(here) != json_array_size(there)) {
        lpm_check_fail(run, TEXT("disk %s", disk->name),
                       TEXT("every file that it is backed by can be opened on %s, as on %s (%zu)",
                            run->target, run->source, json_array_size(here)),
                       *missing ? TEXT("%s", missing)
                                : TEXT("%zu on %s", json_array_size(there), run->target),
                       TEXT("put the backing file onto the shared storage, under the same path on "
                            "both systems"));
        return;
    }
    for (size_t i = 0; i < json_array_size(here); i++) {
        check_backing_file(run, disk, json_array_get(here, i), json_array_get(there, i));
    }
}

void lpm_check_backing(LpmCheckRun *run)
{
    lpm_check_each_disk(run, check_backing_one);
}
