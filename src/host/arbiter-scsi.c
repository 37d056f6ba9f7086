/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The record in two blocks of a lock LUN (docs/decisions/lock-lun.md). Which two is found among the
 * WINDOW entries that the partition's UUID points to; the block that is not in force is written.
 */
#include "host/arbiter.h"

#include "host/lock-lun.h"

#include <string.h>
#include <xxhash.h>

enum {
    WINDOW = 16, /* entries that are looked at for one partition */
    SLOTS = LPM_LOCK_ENTRY_BLOCKS,
};

typedef struct {
    LpmArbiter base;
    LpmLockLun *lun; /* a reference */
} ScsiArbiter;

/* --- what a window holds --- */

typedef enum { SLOT_BLANK, SLOT_RECORD, SLOT_BAD } Slot;

typedef struct {
    LpmRecord now; /* revision 0: none */
    uint64_t block;
    bool room;         /* @block may be written to */
    uint64_t in_force; /* the other block */
} Place;

typedef struct {
    const ScsiArbiter *arbiter;
    LpmScsi *scsi;
    LpmLockTable table;
    uint64_t first; /* block of the window */
    unsigned n;     /* entries in it */
    uint8_t *bytes; /* of the window */
} Window;

static Slot slot_at(const Window *window, unsigned entry, unsigned slot, LpmRecord *ret_record)
{
    const uint8_t *bytes =
        window->bytes + (size_t)(entry * SLOTS + slot) * window->table.block_size;
    static const uint8_t zeros[LPM_RECORD_SIZE];
    if (memcmp(bytes, zeros, sizeof zeros) == 0) {
        return SLOT_BLANK;
    }
    return lpm_record_decode(bytes, ret_record) == LPM_RECORD_OK ? SLOT_RECORD : SLOT_BAD;
}

static uint64_t block_of(const Window *window, unsigned entry, unsigned slot)
{
    return window->first + (uint64_t)entry * SLOTS + slot;
}

/* Takes up one entry: the partition's own, or room for it. False: neither can be told. */
static bool look_at(const Window *window, unsigned entry, Place *place)
{
    LpmRecord record[SLOTS];
    Slot slot[SLOTS];
    const LpmRecord *found = NULL;
    unsigned in_force = 0;
    for (unsigned i = 0; i < SLOTS; i++) {
        slot[i] = slot_at(window, entry, i, &record[i]);
        if (slot[i] == SLOT_RECORD && (!found || record[i].revision > found->revision)) {
            found = &record[i];
            in_force = i;
        }
    }
    if (found) {
        if (memcmp(found->partition, window->arbiter->base.partition, LPM_RECORD_ID_SIZE) == 0) {
            *place = (Place){*found, block_of(window, entry, in_force ^ 1), true,
                             block_of(window, entry, in_force)};
        }
        return true;
    }
    /* One bad block beside a blank one: the first write there, or the last removal, was cut. */
    if (slot[0] == SLOT_BAD && slot[1] == SLOT_BAD) {
        return false;
    }
    if (!place->room) {
        *place = (Place){.block = block_of(window, entry, slot[1] == SLOT_BAD), .room = true};
    }
    return true;
}

static LpmScsiStatus find_place(const Window *window, Place *ret, GError **error)
{
    Place place = {.room = false};
    uint32_t size = window->n * SLOTS * window->table.block_size;
    bool damaged = false;
    unsigned at = 0;
    LpmScsiStatus status = lpm_scsi_read(window->scsi, window->first, window->table.block_size,
                                         window->bytes, size, error);
    if (status != LPM_SCSI_GOOD) {
        return status;
    }
    for (unsigned i = 0; i < window->n && place.now.revision == 0; i++) {
        if (!look_at(window, i, &place)) {
            damaged = true;
            at = i;
        }
    }
    if (damaged && place.now.revision == 0) {
        lpm_error_set(error, LPM_ERROR_STORAGE,
                      "%s holds no valid ownership record in the two blocks from %" G_GUINT64_FORMAT
                      "; restore them before a partition is started anywhere",
                      lpm_lock_lun_name(window->arbiter->lun), block_of(window, at, 0));
        return LPM_SCSI_FAILED;
    }
    *ret = place;
    return status;
}

/* --- one attempt --- */

/* How an attempt ended: with a result, or in a way that lets it be made again. */
typedef struct {
    LpmArbiterResult result;
    bool again; /* nothing was done, and it may go better */
    bool keep;  /* the session is good */
} Attempt;

static Attempt failed(LpmScsiStatus status, bool wrote)
{
    return (Attempt){LPM_ARBITER_UNKNOWN, .again = !wrote && status != LPM_SCSI_FAILED,
                     .keep = false};
}

/* A block in place of the old one, durably. *ret_wrote: something may be there from now on. */
static LpmScsiStatus write_block(const Window *window, uint64_t block, const LpmRecord *record,
                                 bool *ret_wrote, GError **error)
{
    g_autofree uint8_t *bytes = g_malloc0(window->table.block_size);
    if (record) {
        lpm_record_encode(record, bytes);
    }
    LpmScsiStatus status = lpm_scsi_write(window->scsi, block, window->table.block_size, bytes,
                                          window->table.block_size, error);
    *ret_wrote = status != LPM_SCSI_CONFLICT;
    return status == LPM_SCSI_GOOD ? lpm_scsi_sync(window->scsi, error) : status;
}

/* The block not in force goes first: until the other one is gone, the record is what it was. */
static LpmScsiStatus clear(const Window *window, const Place *place, bool *ret_wrote,
                           GError **error)
{
    bool first = false;
    LpmScsiStatus status = write_block(window, place->block, NULL, &first, error);
    return status == LPM_SCSI_GOOD ? write_block(window, place->in_force, NULL, ret_wrote, error)
                                   : status;
}

/* With the lock held. */
static Attempt change(const Window *window, const LpmArbiterAsk *ask, LpmRecord *ret_now,
                      GError **error)
{
    Place place;
    bool wrote = false;
    LpmScsiStatus status = find_place(window, &place, error);
    if (status != LPM_SCSI_GOOD) {
        return failed(status, false);
    }
    *ret_now = place.now;
    bool swap = ask->verb == LPM_ARBITER_SWAP;
    bool follows = !swap || ask->expected == 0 || lpm_record_follows(&place.now, &ask->next);
    if (ask->verb == LPM_ARBITER_READ || (!swap && ask->expected == 0 && !place.now.revision)) {
        return (Attempt){LPM_ARBITER_DONE, .keep = true};
    }
    if (place.now.revision != ask->expected || !follows) {
        return (Attempt){LPM_ARBITER_LOST, .keep = true};
    }
    if (!place.room) {
        lpm_error_set(error, LPM_ERROR_STORAGE,
                      "%s has no room for another partition's ownership record: all %u places that "
                      "this one may take are in use; use a greater LUN, or another arbiter",
                      lpm_lock_lun_name(window->arbiter->lun), window->n);
        return (Attempt){LPM_ARBITER_UNKNOWN, .keep = true};
    }
    if (g_get_monotonic_time() >= ask->deadline_us) {
        lpm_error_set(error, LPM_ERROR_TIMEOUT, "%s: the lock came too late",
                      lpm_lock_lun_name(window->arbiter->lun));
        return (Attempt){LPM_ARBITER_UNKNOWN, .keep = true};
    }
    status = swap ? write_block(window, place.block, &ask->next, &wrote, error)
                  : clear(window, &place, &wrote, error);
    if (status != LPM_SCSI_GOOD) {
        return failed(status, wrote);
    }
    *ret_now = swap ? ask->next : (LpmRecord){.revision = 0};
    return (Attempt){LPM_ARBITER_DONE, .keep = true};
}

/* A read that nobody wrote into. False with a GOOD status: the lock is needed to tell. */
static bool read_between(const Window *window, LpmRecord *ret_now, LpmScsiStatus *ret_status,
                         GError **error)
{
    LpmLockLun *lun = window->arbiter->lun;
    uint64_t before = 0, after = 0;
    Place place;
    g_autoptr(GError) cause = NULL;
    *ret_status = lpm_lock_lun_stamp(lun, &before, error);
    if (*ret_status != LPM_SCSI_GOOD || before == 0) {
        return false;
    }
    *ret_status = find_place(window, &place, &cause);
    if (*ret_status == LPM_SCSI_FAILED) {
        /* What looks damaged may be half written: with the lock it is known. */
        *ret_status = LPM_SCSI_GOOD;
        return false;
    }
    if (*ret_status != LPM_SCSI_GOOD) {
        g_propagate_error(error, g_steal_pointer(&cause));
        return false;
    }
    *ret_now = place.now;
    *ret_status = lpm_lock_lun_stamp(lun, &after, error);
    return *ret_status == LPM_SCSI_GOOD && before == after;
}

static Attempt attempt(const Window *window, const LpmArbiterAsk *ask, LpmRecord *ret_now,
                       GError **error)
{
    LpmLockLun *lun = window->arbiter->lun;
    LpmScsiStatus status = LPM_SCSI_GOOD;
    if (ask->verb == LPM_ARBITER_READ) {
        if (read_between(window, ret_now, &status, error)) {
            return (Attempt){LPM_ARBITER_DONE, .keep = true};
        }
        if (status != LPM_SCSI_GOOD) {
            return failed(status, false);
        }
    }
    status = lpm_lock_lun_take(lun, error);
    if (status != LPM_SCSI_GOOD) {
        return failed(status, false);
    }
    Attempt end = change(window, ask, ret_now, error);
    /* A lock that is not given back lapses, and then what was under way is refused. */
    end.keep = end.keep && lpm_lock_lun_give(lun);
    return end;
}

/* --- the arbiter --- */

static Attempt enter_and_try(ScsiArbiter *arbiter, const LpmArbiterAsk *ask, LpmRecord *ret_now,
                             GError **error)
{
    Window window = {.arbiter = arbiter};
    if (!lpm_lock_lun_enter(arbiter->lun, ask->deadline_us, &window.scsi, &window.table, error)) {
        return (Attempt){LPM_ARBITER_UNKNOWN, .again = false};
    }
    uint64_t hash = XXH3_64bits(arbiter->base.partition, LPM_RECORD_ID_SIZE);
    window.n = MIN(WINDOW, window.table.entries);
    window.first = window.table.first + hash % (window.table.entries - window.n + 1) * SLOTS;
    g_autofree uint8_t *bytes = g_malloc((size_t)window.n * SLOTS * window.table.block_size);
    window.bytes = bytes;
    Attempt end = attempt(&window, ask, ret_now, error);
    lpm_lock_lun_leave(arbiter->lun, end.keep);
    return end;
}

static LpmArbiterResult scsi_work(LpmArbiter *base, const LpmArbiterAsk *ask, LpmRecord *ret_now,
                                  GError **error)
{
    ScsiArbiter *arbiter = (ScsiArbiter *)base;
    for (;;) {
        g_autoptr(GError) cause = NULL;
        Attempt end = enter_and_try(arbiter, ask, ret_now, &cause);
        if (end.again && g_get_monotonic_time() < ask->deadline_us) {
            continue;
        }
        if (end.result == LPM_ARBITER_UNKNOWN && !cause) {
            lpm_error_set(&cause, LPM_ERROR_TIMEOUT,
                          "%s: another system took the lock away; the record will be read again",
                          lpm_lock_lun_name(arbiter->lun));
        }
        if (end.result == LPM_ARBITER_UNKNOWN) {
            g_propagate_error(error, g_steal_pointer(&cause));
        }
        return end.result;
    }
}

static void scsi_free(LpmArbiter *base)
{
    lpm_lock_lun_unref(((ScsiArbiter *)base)->lun);
}

static const LpmArbiterOps scsi_ops = {
    .name = "scsi",
    .free = scsi_free,
    .work = scsi_work,
    .worker = "the SAN, which keeps the ownership record on",
};

LpmArbiter *lpm_arbiter_scsi_new(LpmLockLun *lun, const uint8_t partition[LPM_RECORD_ID_SIZE])
{
    ScsiArbiter *arbiter = g_new0(ScsiArbiter, 1);
    arbiter->base.ops = &scsi_ops;
    arbiter->base.refs = 1;
    memcpy(arbiter->base.partition, partition, LPM_RECORD_ID_SIZE);
    arbiter->base.where = g_strdup(lpm_lock_lun_name(lun));
    arbiter->lun = lpm_lock_lun_ref(lun);
    return &arbiter->base;
}
