/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a disk is this partition's alone: policy, locks, reservations. */
#include "checks/storage.h"

static void check_reserve_policy_one(LpmCheckRun *run, const LpmDiskFacts *disk)
{
    const char *policy = lpm_json_str(disk->profile, "reserve_policy", "no_reserve");

    if (!g_str_equal(policy, "no_reserve")) {
        lpm_check_fail(run, TEXT("disk %s", disk->name), TEXT("reserve_policy no_reserve"),
                       TEXT("reserve_policy %s", policy),
                       TEXT("set the disk's reserve_policy to no_reserve, where nothing needs the "
                            "disk to be reserved for one system"));
    }
}

void lpm_check_reserve_policy(LpmCheckRun *run)
{
    lpm_check_each_disk(run, check_reserve_policy_one);
}

/* --- locks and holders of files --- */

static void check_holders(LpmCheckRun *run, const LpmDiskFacts *disk, const LpmFactPlace *side,
                          const char *system)
{
    const char *holders;

    if (lpm_fact_text(run, side, "locked_by", &holders) && *holders) {
        lpm_check_fail(run, TEXT("disk %s", disk->name),
                       TEXT("used by partition %s alone", run->partition),
                       TEXT("on %s it is held by %s", system, holders),
                       TEXT("end that other use of the disk"));
    }
}

/*
 * A lock on the image that no process of the system accounts for is another host's. The target may
 * see the lock of the source's own QEMU so, and only that one.
 */
static void check_foreign_lock(LpmCheckRun *run, const LpmDiskFacts *disk)
{
    const char *here = lpm_json_str(disk->here.value, "lock", "none");
    const char *there = lpm_json_str(disk->there.value, "lock", "none");
    bool at_source = g_str_equal(here, "elsewhere");

    if (at_source || (g_str_equal(there, "elsewhere") && !g_str_equal(here, "here"))) {
        lpm_check_fail(run, TEXT("disk %s", disk->name),
                       TEXT("used by partition %s alone", run->partition),
                       TEXT("%s sees a lock on the image that no process there holds: another host "
                            "has it open",
                            at_source ? run->source : run->target),
                       TEXT("end that other use of the disk; the file server's list of locks or "
                            "clients says which host it is"));
    }
}

static void check_locks_one(LpmCheckRun *run, const LpmDiskFacts *disk)
{
    bool hidden = lpm_disk_is_hidden(disk);

    /* It writes nothing, and many may read. */
    if (lpm_disk_is_optical(disk) || lpm_json_bool(disk->profile, "read_only", false)) {
        return;
    }
    /* Elsewhere it is reservations and the ownership record that say so. */
    if (g_str_equal(lpm_disk_kind(&disk->here), "file")) {
        check_holders(run, disk, &disk->here, run->source);
    }
    if (!hidden && g_str_equal(lpm_disk_kind(&disk->there), "file")) {
        check_holders(run, disk, &disk->there, run->target);
        check_foreign_lock(run, disk);
    }
}

void lpm_check_locks(LpmCheckRun *run)
{
    lpm_check_each_disk(run, check_locks_one);
}

/* --- reservations of SCSI disks --- */

static bool is_scsi(const LpmFactPlace *side)
{
    return g_str_equal(lpm_disk_kind(side), "iscsi");
}

static bool same_reservation(const LpmFactPlace *here, const LpmFactPlace *there)
{
    static const char *const members[] = {"reservation.type", "reservation.key",
                                          "reservation.holder"};

    for (size_t i = 0; i < G_N_ELEMENTS(members); i++) {
        if (g_strcmp0(lpm_json_str(here->value, members[i], NULL),
                      lpm_json_str(there->value, members[i], NULL)) != 0) {
            return false;
        }
    }
    return true;
}

static void check_reservation_at(LpmCheckRun *run, const LpmDiskFacts *disk,
                                 const LpmFactPlace *side, const char *system)
{
    const char *type;
    const char *key = lpm_json_str(side->value, "reservation.key", "");
    const char *holder = lpm_json_str(side->value, "reservation.holder", "");

    if (!is_scsi(side) || !lpm_fact_text(run, side, "reservation.type", &type) || !*type) {
        return;
    }
    lpm_check_fail(
        run, TEXT("disk %s", disk->name),
        TEXT("no reservation on %s (reserve_policy=no_reserve)", lpm_disk_where(side)),
        TEXT("%s sees a reservation, %s%s%s, held by %s", system, type, *key ? ", key " : "", key,
             *holder ? holder : "an initiator that the target does not name"),
        TEXT("have the holder release the disk, or clear the reservation once it is known to be "
             "dead, and set what reserves it to reserve_policy=no_reserve"));
}

/* Told once where both see the same; the holder's own system may not see it at all. */
static void check_reservation_one(LpmCheckRun *run, const LpmDiskFacts *disk)
{
    bool hidden = lpm_disk_is_hidden(disk);

    check_reservation_at(run, disk, &disk->here, run->source);
    if (!hidden && (!is_scsi(&disk->there) || !lpm_json_at(disk->there.value, "reservation.type") ||
                    !same_reservation(&disk->here, &disk->there))) {
        check_reservation_at(run, disk, &disk->there, run->target);
    }
}

void lpm_check_reservation(LpmCheckRun *run)
{
    lpm_check_each_disk(run, check_reservation_one);
}

static void check_registrations_one(LpmCheckRun *run, const LpmDiskFacts *disk)
{
    const LpmFactPlace *side = lpm_disk_is_hidden(disk) ? &disk->here : &disk->there;
    g_autofree const char **keys = NULL;
    g_autofree char *list = NULL;

    if (!is_scsi(side) || !lpm_fact_texts(run, side, "registered", &keys) || !keys[0]) {
        return;
    }
    list = lpm_fact_join(keys);
    lpm_check_fail(run, TEXT("disk %s", disk->name),
                   TEXT("nobody is registered for reservations on %s", lpm_disk_where(side)),
                   TEXT("keys %s are registered", list),
                   TEXT("find out who uses the disk beside this partition; who is registered may "
                        "reserve it at any time"));
}

void lpm_check_registrations(LpmCheckRun *run)
{
    lpm_check_each_disk(run, check_registrations_one);
}
