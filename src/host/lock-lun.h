/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small logical unit that several systems write to, one at a time (docs/decisions/lock-lun.md).
 * Who holds the lock is in the key of a persistent reservation; whoever is not named there cannot
 * write. The lock is taken from a holder that does not give it back in time, and then a write of
 * his that is still on its way is refused. Blocking, for threads.
 */
#pragma once

#include "host/scsi.h"

typedef struct {
    const char *portal, *target;
    int lun;
    const char *initiator;
    const char *user;        /* CHAP; "": none */
    const char *secret_file; /* read at each login */
} LpmLockLunConfig;

enum {
    LPM_LOCK_ENTRY_BLOCKS = 2,
    LPM_LOCK_LAPSE_MS = 250, /* a holder that has not given the lock back is taken for dead */
};

/* What is read once a session. */
typedef struct {
    uint32_t block_size; /* of one slot */
    uint32_t entries;    /* of LPM_LOCK_ENTRY_BLOCKS blocks each */
    uint64_t first;      /* block of the first one */
} LpmLockTable;

typedef struct LpmLockLun LpmLockLun;

/* Connects to nobody yet. USAGE error for what cannot be right. */
LpmLockLun *lpm_lock_lun_new(const LpmLockLunConfig *config,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;
LpmLockLun *lpm_lock_lun_ref(LpmLockLun *lun); /* from any thread, as is unref */
void lpm_lock_lun_unref(LpmLockLun *lun);      /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LpmLockLun, lpm_lock_lun_unref)
const char *lpm_lock_lun_name(const LpmLockLun *lun); /* for people */

/*
 * The session, for this thread alone until lpm_lock_lun_leave(). Connects when there is none, and
 * writes the header of a unit that is all zeros. False with an error; nothing to leave then.
 */
bool lpm_lock_lun_enter(LpmLockLun *lun, int64_t deadline_us, LpmScsi **ret_session,
                        LpmLockTable *ret_table, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* @keep: the session has answered everything, and can be used again. */
void lpm_lock_lun_leave(LpmLockLun *lun, bool keep);

/*
 * Takes the lock. From now until lpm_lock_lun_give() what this session reads is what is durable,
 * and nobody else writes; a write or sync that answers CONFLICT says that the lock was taken away,
 * and was not done.
 */
LpmScsiStatus lpm_lock_lun_take(LpmLockLun *lun, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Gives it back; all writes must have been synced. False: the session is of no use any more. */
bool lpm_lock_lun_give(LpmLockLun *lun);

/*
 * What identifies the state between two takings of the lock: when it is the same before and after a
 * read, nobody has written meanwhile. 0: somebody holds the lock, or nobody ever has.
 */
LpmScsiStatus lpm_lock_lun_stamp(LpmLockLun *lun, uint64_t *ret_stamp,
                                 GError **error) G_GNUC_WARN_UNUSED_RESULT;
