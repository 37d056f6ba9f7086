/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lpm-host from the inside: the host, its partitions, and what its parts ask of each other. One
 * thread, one main loop; whatever takes time has a function that is called at its end, exactly once
 * and never from inside the call itself.
 *
 * Parts: partition and QEMU process (this header), storage.h, network.h, guest.h, emulator.h, and
 * mobility, which is reached through LpmMobilityHooks only.
 */
#pragma once

#include "base/clock.h"
#include "host/config.h"
#include "model/model.h"
#include "qga/qga.h"
#include "qmp/qmp.h"
#include "rpc/rpc.h"
#include "store/store.h"
#include "tls/tls.h"

typedef struct LpmHost LpmHost;
typedef struct LpmPartition LpmPartition;
typedef struct LpmMobility LpmMobility;   /* mobility's own state, opaque to the rest */
typedef struct LpmEmulators LpmEmulators; /* emulator.h */
typedef struct LpmImages LpmImages;       /* pagestore.h */
typedef struct LpmEtcd LpmEtcd;           /* etcd.h */
typedef struct LpmLockLun LpmLockLun;     /* lock-lun.h */

/* End of a long operation; @error is borrowed, NULL when all is well. */
typedef void (*LpmHostDone)(const GError *error, void *data);
/* Same with a result: borrowed, NULL on failure. */
typedef void (*LpmHostReply)(json_t *result, const GError *error, void *data);

/* Kinds in the store. Mobility has kinds of its own ("journal"). */
#define LPM_KIND_PROFILE "profile" /* key UUID: the stored definition */
#define LPM_KIND_RUNTIME                                                                           \
    "runtime" /* key UUID: what is needed to adopt its QEMU; written before QEMU is started */
#define LPM_KIND_DELETION                                                                          \
    "deletion" /* key UUID: its record is being removed; what is left of it is still ours */
#define LPM_KIND_SYSTEM "system" /* "maintenance", caches of what was probed */

/* --- what mobility does for the host --- */

/*
 * One table, so that the two meet in one place. A NULL member is skipped: its answer counts as
 * "yes" or "nothing". All of them are called on the main loop, after the partitions have been
 * adopted.
 */
typedef struct {
    /* Reads the journals and takes up every unfinished move. host->mobility is his to set. */
    bool (*open)(LpmHost *host, GError **error);
    void (*close)(LpmHost *host);
    /* The ownership record of a new partition: SRC, epoch 1, owner this system. EXISTS error when
     * there is one. */
    void (*record_create)(LpmPartition *partition, LpmHostDone done, void *data);
    /* Whether this system may start it from disk: the record names it and is settled. Else STATE,
     * saying who owns it. */
    void (*record_may_start)(LpmPartition *partition, LpmHostDone done, void *data);
    /* Whether its record would still be found with the profile @changed; STATE otherwise. */
    bool (*record_stays)(LpmPartition *partition, const LpmProfile *changed, GError **error);
    void (*record_delete)(LpmPartition *partition, bool only_if_ours, LpmHostDone done, void *data);
    /* {"state","epoch","revision","owner","peer","move"}; NULL result with an error where it cannot
     * be read. */
    void (*record_show)(LpmPartition *partition, LpmHostReply done, void *data);
    /* Facts that belong to mobility: members of system-info, partition-facts and target-check
     * (docs/spec/facts.md). */
    void (*system_facts)(LpmHost *host, json_t *facts);
    void (*partition_facts)(LpmPartition *partition, json_t *facts, LpmHostDone done, void *data);
    void (*target_facts)(LpmHost *host, const LpmProfile *profile, json_t *facts, LpmHostDone done,
                         void *data);
    const LpmRpcVerb *verbs; /* ends with a row of name NULL */
} LpmMobilityHooks;

extern const LpmMobilityHooks lpm_mobility_hooks;

/* --- host --- */

struct LpmHost {
    LpmHostConfig *config;
    const LpmClock *clock;
    LpmStore *store;
    LpmRpcServer *server;           /* local socket, and TLS once joined */
    LpmRpcVerb *verbs;              /* all tables, one after the other */
    LpmTlsCredentials *credentials; /* NULL: not joined */
    GHashTable *partitions;         /* UUID -> LpmPartition, owned */
    LpmEmulators *emulators;
    const LpmMobilityHooks *hooks; /* NULL: a build or a test without mobility */
    LpmMobility *mobility;
    LpmImages *images; /* NULL: a test without */
    LpmEtcd *etcd;     /* NULL: not asked yet, as the next one */
    LpmLockLun *lock_lun;
    bool maintenance;
    guint logs_timer;
    GHashTable *digests; /* "device:inode:size:time" -> SHA-256 of boot files, hexadecimal */
    uint16_t rpc_port;   /* that it really listens on; 0: local socket only */
    int lock_fd;
    GMainLoop *loop;
    bool failed; /* it ended by itself: exit code 1 */
};

/* Name of this system: the certificate's once joined, else the configured one. Never NULL. */
const char *lpm_host_name(const LpmHost *host);
/* Event to subscribed peers. @data is stolen. */
void lpm_host_emit(LpmHost *host, const char *event, json_t *data);
/* By name or UUID. NOT_FOUND names it. Borrowed: take a reference to keep it over a callback. */
LpmPartition *lpm_host_find(LpmHost *host, const char *name_or_uuid, GError **error);
/* Directory of a storage pool on this system; NOT_FOUND names the pool and the remedy. Borrowed. */
const char *lpm_host_pool_path(const LpmHost *host, const char *pool, GError **error);
/* Path of a file in a pool, g_free(). The file need not exist. */
char *lpm_host_file_path(const LpmHost *host, const LpmFileRef *at, GError **error);
/* Room in the state directory, for the journal of a move, without which none begins. */
#define LPM_HOST_ROOM_MIB 16
/* Memory (MiB) that one more partition may take, and processors that are not given out yet. */
void lpm_host_free(const LpmHost *host, int64_t *ret_memory_mib, int *ret_processors);
/* Memory (MiB) and processors promised to active and incoming partitions. */
void lpm_host_promised(const LpmHost *host, int64_t *ret_memory_mib, int *ret_processors);

/* --- partition --- */

/*
 * A migration that is attached to a partition hears of everything that QEMU does. While one is
 * attached, the host sends nothing on the partition's QMP connection, refuses start, stop, restart,
 * change and delete with BUSY, and does not change the state of the partition by itself, except
 * that QEMU's end always leads to NOT_ACTIVATED or ERROR. Members may be NULL.
 */
typedef struct {
    const char *id;    /* migration id, for messages; borrowed */
    bool active;       /* a move of a running partition */
    const char *stuck; /* why it cannot go on by itself, for messages; NULL; borrowed */
    void (*qmp_event)(LpmPartition *partition, const LpmQmpEvent *event, void *data);
    /* The QMP connection broke while QEMU still lives (or before its end was seen). partition->qmp
     * stays. */
    void (*qmp_closed)(LpmPartition *partition, const GError *error, void *data);
    /* QEMU is gone, whoever ended it; taps and sockets are released, partition->qmp is NULL.
     * @reason is for people. */
    void (*qemu_gone)(LpmPartition *partition, const char *reason, void *data);
    void *data;
} LpmMigrationLink;

struct LpmPartition {
    LpmHost *host;
    unsigned refs;
    LpmProfile *profile;
    bool stored; /* the profile is in the database: the partition belongs to this system */
    LpmPartitionState state;
    char *reason;      /* why it is in ERROR or was deactivated; NULL */
    char *run_dir;     /* RUN/partitions/UUID */
    bool pending_stop; /* someone asked it to stop: its end is no error */
    const char *busy;  /* "start", "stop", ... while an operation runs, else NULL */

    /* QEMU; pid is 0 when there is none */
    pid_t pid;
    int pidfd;
    guint pidfd_watch;
    guint end_timer; /* it has ended; its last events are waited for */
    LpmQmp *qmp;     /* NULL until connected */
    LpmQga *agent;
    bool clock_busy; /* its clock is being looked at, and set (guest-clock.h) */
    json_t *runtime; /* docs/spec/facts.md, partition.runtime: what the machine was built as; NULL
                        without QEMU */
    int memory_fd;   /* guest memory for shared backing; -1: none, or not looked for yet */
    char *current_mode; /* NULL: not known, or not active */
    char *shutdown; /* reason of QEMU's SHUTDOWN event ("guest-shutdown", "guest-reset"); NULL: none
                       yet */
    char *end_reason;    /* given to lpm_partition_end_qemu(); NULL: it was not called */
    bool reset_restarts; /* QEMU was told to end at the guest's own reboot, to be started anew */
    bool restart_due;    /* it has ended so, and a migration was attached */
    bool unsettled;      /* it may have less than its runtime says: grow.h */
    bool incoming;       /* QEMU was started for a move and has not run here yet */
    char *activating; /* profile that QEMU was started with and that has not run yet; NULL: the one
                         of before */
    GList *end_waiters;               /* LpmEndWaiter: told once QEMU is gone */
    struct LpmActivation *activation; /* a start on its way */
    struct LpmStop *orderly_stop;     /* its operating system was asked to shut down; NULL: no */
    guint timer;                      /* reconnects a lost QMP connection */
    GPtrArray *nonces;                /* of LpmNonce (facts.h), beside its disks; NULL: none */
    struct LpmDirty *dirty;           /* dirty.c: a measurement under way; NULL: none */
    guint nonce_timer;
    guint tell_timer;     /* its state has changed and is told later */
    guint announce_timer; /* a bridge does not forward its frames yet */
    unsigned announce_looks;
    int64_t told_until_us; /* monotonic; how much of what it may tell is used up */

    const LpmMigrationLink *link; /* NULL: no migration; set by lpm_partition_attach() */
};

LpmPartition *lpm_partition_ref(LpmPartition *partition);
void lpm_partition_unref(LpmPartition *partition); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LpmPartition, lpm_partition_unref)

/*
 * A partition that this system knows from now on, in memory only. @profile is stolen, also on
 * failure. EXISTS when the name, the UUID or a MAC is taken by another one. Borrowed.
 */
LpmPartition *lpm_partition_add(LpmHost *host, LpmProfile *profile, GError **error);
/* The same for one that is new here: BUSY when the limit of the configuration is reached. */
LpmPartition *lpm_partition_add_new(LpmHost *host, LpmProfile *profile, GError **error);
/* Writes the profile down: from now on the partition belongs to this system. */
bool lpm_partition_keep(LpmPartition *partition, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Removes profile and runtime from the database, the run directory, and the partition from the
 * table. No QEMU may be there. */
bool lpm_partition_forget(LpmPartition *partition, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Written down before its record is removed, and whether that was. A death in between leaves a
 * partition without a record, whose disks may be deleted all the same. */
bool lpm_partition_begin_deletion(LpmPartition *partition,
                                  GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool lpm_partition_deletion_begun(LpmPartition *partition);
/* Changes state and reason (NULL: none), logs and emits "partition" when something changed. */
void lpm_partition_set_state(LpmPartition *partition, LpmPartitionState state, const char *reason);

/* One migration at a time: BUSY otherwise. @link is borrowed and must stay until it is detached. */
bool lpm_partition_attach(LpmPartition *partition, const LpmMigrationLink *link,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;
/*
 * Afterwards the host looks at QEMU again (query-status, on POWER the mode too) and sets the state
 * by what it sees. Does nothing when no migration is attached.
 */
void lpm_partition_detach(LpmPartition *partition);

/*
 * Starts QEMU with `-incoming defer -S`, built as @runtime says (borrowed; docs/spec/facts.md),
 * with this system's own pools and bridges; @unconnected: an adapter whose network is not here
 * comes without one. At success partition->qmp is connected, the state
 * INCOMING, taps and memory are there, and nothing runs. On failure nothing is left over.
 */
void lpm_partition_start_incoming(LpmPartition *partition, const json_t *runtime, bool unconnected,
                                  LpmHostDone done, void *data);
/*
 * Ends QEMU with SIGKILL and waits until it is gone, then releases taps, sockets, memory, and the
 * runtime document. Fine when there is no QEMU. Several may wait. The state becomes NOT_ACTIVATED
 * with @reason (NULL: none).
 */
void lpm_partition_end_qemu(LpmPartition *partition, const char *reason, LpmHostDone done,
                            void *data);
/* Whether a QEMU process of this partition lives. */
bool lpm_partition_has_qemu(const LpmPartition *partition);
/* Asks the kernel: true also where the news of its end has not come yet. */
bool lpm_partition_qemu_ends(const LpmPartition *partition);
/*
 * Guest memory of a shared-backing partition, of the running QEMU, also after adoption; borrowed.
 * -1 with STATE (backing is private, no QEMU) or INTERNAL.
 */
int lpm_partition_memory_fd(LpmPartition *partition, GError **error);
/* The number that the same file has in QEMU; -1: it has none. */
int lpm_partition_memory_number(const LpmPartition *partition);
/* Says on every network of a running partition that it is here, and once more when a bridge that
 * lets new ports wait lets them send; best effort, logs a failure. */
void lpm_partition_announce(LpmPartition *partition);
/* Reads the current mode again from the hypervisor; the result is in partition->current_mode. @done
 * may be NULL. */
void lpm_partition_read_mode(LpmPartition *partition, LpmHostDone done, void *data);
/* {"partition","uuid","state","reason"}: the payload of the event. New reference. */
json_t *lpm_partition_event(const LpmPartition *partition);
