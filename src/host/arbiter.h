/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arbiters keep ownership records and change them by compare-and-swap (docs/spec/handover.md). All
 * calls return at once; the answer comes on the main loop, exactly once, never from inside the
 * call, and not later than the deadline.
 */
#pragma once

#include "base/error.h"
#include "mobility/record.h"
#include "model/model.h"

typedef struct LpmArbiter LpmArbiter;
struct LpmHost;
struct LpmEtcd;
struct LpmLockLun;

typedef enum {
    LPM_ARBITER_DONE,    /* it is so, durably */
    LPM_ARBITER_LOST,    /* a swap or removal that did not happen: the record is another one */
    LPM_ARBITER_UNKNOWN, /* time-out or unreachable: it may have happened, or still happen */
} LpmArbiterResult;

/*
 * @now is the record as it is after the call (revision 0: there is none), NULL when the result is
 * UNKNOWN. @error is set with UNKNOWN only. Both are borrowed.
 */
typedef void (*LpmArbiterReply)(LpmArbiterResult result, const LpmRecord *now, const GError *error,
                                void *data);

enum {
    LPM_ARBITER_DEADLINE_MS = 3000, /* for answers that nobody stands still for */
    LPM_ARBITER_QUICK_MS = 1000,    /* in the blackout */
};

/* One call as a thread does it: blocking, until @deadline_us (monotonic) at the latest. */
typedef enum { LPM_ARBITER_READ, LPM_ARBITER_SWAP, LPM_ARBITER_REMOVE } LpmArbiterVerb;

typedef struct {
    LpmArbiterVerb verb;
    uint64_t expected; /* of SWAP and REMOVE */
    LpmRecord next;    /* of SWAP */
    int64_t deadline_us;
} LpmArbiterAsk;

/*
 * What an arbiter implements. @expected is a revision; 0: there must be no record yet. A swap is
 * also lost when @next does not follow (lpm_record_follows()) what is there. An arbiter that blocks
 * has @work and @worker in place of the three functions, and is called in a thread: it may touch
 * its own constant members only, or what it locks. *ret_now is not used when it returns UNKNOWN.
 */
typedef struct {
    const char *name; /* as in the profile: "file", "console" */
    void (*read)(LpmArbiter *arbiter, unsigned deadline_ms, LpmArbiterReply reply, void *data);
    void (*swap)(LpmArbiter *arbiter, uint64_t expected, const LpmRecord *next,
                 unsigned deadline_ms, LpmArbiterReply reply, void *data);
    void (*remove)(LpmArbiter *arbiter, uint64_t expected, unsigned deadline_ms,
                   LpmArbiterReply reply, void *data);
    void (*free)(LpmArbiter *arbiter); /* the implementation's own part */
    LpmArbiterResult (*work)(LpmArbiter *arbiter, const LpmArbiterAsk *ask, LpmRecord *ret_now,
                             GError **error);
    const char *worker; /* who does not answer when @work does not return, before @where */
} LpmArbiterOps;

/* The common part, first member of each implementation's struct. */
struct LpmArbiter {
    const LpmArbiterOps *ops;
    unsigned refs;
    uint8_t partition[LPM_RECORD_ID_SIZE];
    char *where; /* for people: path of the file, name of the console, ... */
};

/*
 * The arbiter that the profile asks for, as this system reaches it. "auto" is the file beside the
 * first disk that is in a pool of files; where all are in other kinds of pools the lock LUN, etcd
 * or the console, what this system has first, and UNSUPPORTED when it has none of them; without
 * disks the console, without a console a file in this system's own state directory (such a
 * partition cannot move). An own reference, or NULL with the reason.
 */
LpmArbiter *lpm_arbiter_for(struct LpmHost *host, const LpmProfile *profile, GError **error);
LpmArbiter *lpm_arbiter_ref(LpmArbiter *arbiter);
void lpm_arbiter_unref(LpmArbiter *arbiter); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LpmArbiter, lpm_arbiter_unref)

void lpm_arbiter_read(LpmArbiter *arbiter, unsigned deadline_ms, LpmArbiterReply reply, void *data);
void lpm_arbiter_swap(LpmArbiter *arbiter, uint64_t expected, const LpmRecord *next,
                      unsigned deadline_ms, LpmArbiterReply reply, void *data);
void lpm_arbiter_remove(LpmArbiter *arbiter, uint64_t expected, unsigned deadline_ms,
                        LpmArbiterReply reply, void *data);

/* --- implementations --- */

LpmArbiter *lpm_arbiter_file_new(const char *path, const uint8_t partition[LPM_RECORD_ID_SIZE]);
/* @etcd and @lun are kept by reference. */
LpmArbiter *lpm_arbiter_etcd_new(struct LpmEtcd *etcd, const uint8_t partition[LPM_RECORD_ID_SIZE]);
LpmArbiter *lpm_arbiter_scsi_new(struct LpmLockLun *lun,
                                 const uint8_t partition[LPM_RECORD_ID_SIZE]);
LpmArbiter *lpm_arbiter_console_new(struct LpmHost *host,
                                    const uint8_t partition[LPM_RECORD_ID_SIZE], GError **error);

/*
 * The file arbiter's work itself, blocking: for its thread, and for tests. @deadline_us is
 * monotonic.
 */
typedef struct {
    const char *path;
    const uint8_t *partition;
    int64_t deadline_us;
} LpmArbiterFile;

LpmArbiterResult lpm_arbiter_file_read(const LpmArbiterFile *file, LpmRecord *ret_now,
                                       GError **error);
LpmArbiterResult lpm_arbiter_file_swap(const LpmArbiterFile *file, uint64_t expected,
                                       const LpmRecord *next, LpmRecord *ret_now, GError **error);
LpmArbiterResult lpm_arbiter_file_remove(const LpmArbiterFile *file, uint64_t expected,
                                         LpmRecord *ret_now, GError **error);
