/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One iSCSI session with one logical unit, and the few SCSI commands that a lock on it needs.
 * Blocking, for threads; a session is used by one thread at a time. A session that is lost is never
 * made anew behind the caller's back: a command must not be sent twice.
 */
#pragma once

#include "base/error.h"

#include <stdint.h>

typedef struct {
    const char *portal; /* "ADDRESS:PORT"; a name is looked up without a deadline */
    const char *target; /* IQN */
    int lun;
    const char *initiator;          /* IQN of this system */
    const char *user, *chap_secret; /* "" or NULL: no CHAP */
    const char *group; /* of the configuration, for messages: "storage:san"; NULL: arbiter:scsi */
} LpmScsiTarget;

typedef enum {
    LPM_SCSI_GOOD,
    LPM_SCSI_CONFLICT, /* a reservation is in the way: nothing was done */
    LPM_SCSI_FAILED,   /* the target refused, or failed */
    LPM_SCSI_LOST,     /* no answer: it may have happened, or still happen; the session is over */
} LpmScsiStatus;

typedef struct LpmScsi LpmScsi;

/* NULL with an error that names the target. Times are monotonic. */
LpmScsi *lpm_scsi_connect(const LpmScsiTarget *target, int64_t deadline_us,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;
void lpm_scsi_close(LpmScsi *scsi); /* without a logout; NULL is fine */
/* Every command after this ends at @deadline_us at the latest. */
void lpm_scsi_set_deadline(LpmScsi *scsi, int64_t deadline_us);

/* All of these: @error is set with FAILED and LOST. A command that the target did not begin (busy,
 * unit attention) is sent again. */
LpmScsiStatus lpm_scsi_capacity(LpmScsi *scsi, uint32_t *ret_block_size, uint64_t *ret_blocks,
                                GError **error);
/* Any command that reads up to @size bytes, zeros behind them; @doing completes "cannot ...". */
LpmScsiStatus lpm_scsi_ask(LpmScsi *scsi, const uint8_t *cdb, unsigned cdb_size, void *ret_bytes,
                           uint32_t size, const char *doing, GError **error);
/* @size is a multiple of the block size. */
LpmScsiStatus lpm_scsi_read(LpmScsi *scsi, uint64_t block, uint32_t block_size, void *ret_bytes,
                            uint32_t size, GError **error);
LpmScsiStatus lpm_scsi_write(LpmScsi *scsi, uint64_t block, uint32_t block_size, const void *bytes,
                             uint32_t size, GError **error);
LpmScsiStatus lpm_scsi_sync(LpmScsi *scsi, GError **error);
/* Ends every command of every session on the logical unit; returns when none is left. */
LpmScsiStatus lpm_scsi_reset(LpmScsi *scsi, GError **error);

/*
 * Portals ("ADDRESS:PORT") at which the target says that it is reached, asked in a session of its
 * own at @target's portal; NULL with an error when it does not say. g_ptr_array_unref().
 */
GPtrArray *lpm_scsi_portals(const LpmScsiTarget *target, int64_t deadline_us,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* --- persistent reservations --- */

enum { LPM_SCSI_WRITE_EXCLUSIVE = 1 }; /* type */

typedef struct {
    bool held;
    unsigned type;
    uint64_t key;
} LpmScsiReservation;

typedef enum {
    LPM_SCSI_REGISTER = 0,        /* changes this session's @key to @other; 0: unregisters */
    LPM_SCSI_RESERVE = 1,         /* by this session, registered as @key */
    LPM_SCSI_PREEMPT = 4,         /* takes reservation and registration of @other away */
    LPM_SCSI_REGISTER_ANYHOW = 6, /* this session as @other, whatever it was */
} LpmScsiReserve;

LpmScsiStatus lpm_scsi_reserve(LpmScsi *scsi, LpmScsiReserve what, uint64_t key, uint64_t other,
                               GError **error);
LpmScsiStatus lpm_scsi_reservation(LpmScsi *scsi, LpmScsiReservation *ret, GError **error);
/* @ret has room for @max; the number of all, in *ret_n, may be greater. */
LpmScsiStatus lpm_scsi_keys(LpmScsi *scsi, uint64_t *ret, unsigned max, unsigned *ret_n,
                            GError **error);
