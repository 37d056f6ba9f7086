/* SPDX-License-Identifier: Apache-2.0 */
/* What the host's own parts do with a partition's QEMU; mobility keeps to host.h. */
#pragma once

#include "host/host.h"
#include "host/process.h"
#include "qemuargs/qemuargs.h"

/* --- start (activate.c) --- */

/* Activates from disk with @profile, which counts as activated last once it runs; NULL: with that
 * one again. The partition runs when @done says so. NOT_FOUND, STATE, BUSY, UNSUPPORTED, STORAGE,
 * NETWORK, QEMU. */
void lpm_partition_start(LpmPartition *partition, const char *profile, LpmHostDone done,
                         void *data);
/* A QEMU that was started before this lpm-host was: it is told that it ended while it was being
 * started. */
void lpm_activation_qemu_gone(LpmPartition *partition, const char *reason);

/* --- what to build it as (plan.c) --- */

/* Everything is owned. */
typedef struct {
    LpmProfile *profile; /* as it will run: machine and interrupt mode pinned */
    char *cpu;
    char *max_cpu_compat; /* NULL: not given */
    char *mode;           /* x86-64: current mode; POWER: NULL, read from the hypervisor */
    char *activated_with; /* preferred mode at activation */
    char **features;      /* x86-64 */
} LpmPlan;

void lpm_plan_free(LpmPlan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LpmPlan, lpm_plan_free)

/* For a start from disk, by the modes' rules, with the profile that is being activated. */
LpmPlan *lpm_plan_activation(LpmPartition *partition, GError **error);
/* For a partition that comes in: the same machine as @runtime says. */
LpmPlan *lpm_plan_incoming(LpmPartition *partition, const json_t *runtime, GError **error);
/* What it was built as while it has a QEMU, which its profile may have left behind; else a copy of
 * its profile. To be lpm_profile_free()d. */
LpmProfile *lpm_partition_built(const LpmPartition *partition, GError **error);
/* partition.runtime of docs/spec/facts.md, from a plan and its argv. New reference. */
json_t *lpm_plan_runtime(const LpmHost *host, const LpmPlan *plan, char *const *argv);
/* Device models on a command line, each once. New reference to an array. */
json_t *lpm_plan_devices(char *const *argv);
/* Mode that a start now would give: POWER its ceiling, x86-64 the mode; NULL: none. g_free(). */
char *lpm_plan_pending_mode(const LpmPartition *partition);
/* Whether its disks may be deleted with it: no other partition here has one of them; STATE. */
bool lpm_plan_may_delete(const LpmPartition *partition, GError **error);
/* Whether only a QEMU started anew can give the partition what its profile now asks for. */
bool lpm_plan_needs_new_qemu(const LpmPartition *partition);

/* --- QEMU process (qemu.c, adopt.c) --- */

typedef void (*LpmEndFunc)(LpmPartition *partition, void *data);

/* Takes over a process that was just released, or found again; from now on its end is noticed.
 * Steals @pidfd. */
void lpm_qemu_watch(LpmPartition *partition, pid_t pid, int pidfd);
/* Handlers to connect QMP with. */
void lpm_qemu_handlers(LpmPartition *partition, LpmQmpHandlers *ret_handlers);
/* Sees to it that there is a connection again, if it is lost, doubtful, or was never made; tries
 * until QEMU is gone. */
void lpm_qemu_heal(LpmPartition *partition);
/* QMP is there: keeps it, makes the agent's client. */
void lpm_qemu_connected(LpmPartition *partition, LpmQmp *qmp);
/* Tells @func when QEMU is gone. Cancelled by lpm_qemu_end_cancel() with the same pair. */
void lpm_qemu_end_wait(LpmPartition *partition, LpmEndFunc func, void *data);
void lpm_qemu_end_cancel(LpmPartition *partition, LpmEndFunc func, void *data);
/* Reads query-status and sets the state by it; on POWER the mode too. @done may be NULL. */
void lpm_qemu_refresh(LpmPartition *partition, LpmHostDone done, void *data);
/* Path of a socket or log of the partition, g_free(). */
char *lpm_qemu_path(const LpmPartition *partition, const char *name);
/* Last line that QEMU wrote to its log, for messages; g_free(). */
char *lpm_qemu_last_words(const LpmPartition *partition);
/* Starts it anew if its guest's own reboot ended QEMU, unless a migration is attached. */
void lpm_qemu_restart_due(LpmPartition *partition);
/* Has QEMU end at the guest's own reboot when lpm_plan_needs_new_qemu(), so that it is started
 * anew; or no longer. */
void lpm_qemu_set_reset(LpmPartition *partition);

/*
 * Loads all partitions from the database and takes over those that run. Before @done is called
 * every QEMU that lives has its state known. INTERNAL error, and nothing was done, when it cannot
 * be told of each whether it lives.
 */
void lpm_adopt_all(LpmHost *host, LpmHostDone done, void *data);

/* --- stop (deactivate.c) --- */

/* @timeout_ms counts for an orderly stop: then TIMEOUT, and nothing was killed. A hard one does not
 * wait for an orderly stop or restart under way, which ends with ABORTED. */
void lpm_partition_stop(LpmPartition *partition, bool hard, unsigned timeout_ms, LpmHostDone done,
                        void *data);
/* @profile: as for lpm_partition_start(). */
void lpm_partition_restart(LpmPartition *partition, const char *profile, bool hard,
                           unsigned timeout_ms, LpmHostDone done, void *data);

/* --- table (partition.c) --- */

/* One that this system had before: whatever else has its name or MAC addresses is warned of only,
 * since it may run. As lpm_partition_add() else. */
LpmPartition *lpm_partition_load(LpmHost *host, LpmProfile *profile, GError **error);
/* MAC addresses that it has, each once: of its profile, and while it runs also of what its QEMU was
 * built with. Strings; new. */
json_t *lpm_partition_macs(const LpmPartition *partition);
/* Whether the name, and with @macs the MAC addresses, of its profile @changed belong to no other
 * partition here; EXISTS. */
bool lpm_partition_is_free(const LpmPartition *partition, const LpmProfile *changed, bool macs,
                           GError **error);
/* BUSY when an operation or a migration is under way, naming it. */
bool lpm_partition_check_idle(const LpmPartition *partition, const char *what, GError **error);
/* BUSY while it may have less than its runtime says (grow.h). */
bool lpm_partition_check_settled(const LpmPartition *partition, const char *what, GError **error);
/* Another definition, stolen, also on failure, which leaves the one of before. */
bool lpm_partition_redefine(LpmPartition *partition, LpmProfile *profile, GError **error);
/* Writes the runtime document; @process NULL: not started yet. */
bool lpm_partition_put_runtime(LpmPartition *partition, const LpmProcess *process,
                               char *const *argv, GError **error);
/* Writes a changed runtime down, and whether it is settled; STATE without a document. */
bool lpm_partition_put_grown(LpmPartition *partition, GError **error);
/* It runs here now, whatever it was started for: written down too, once. */
void lpm_partition_has_run(LpmPartition *partition);
/* What it was started with is the profile that was activated last: written down too, once. */
bool lpm_partition_has_activated(LpmPartition *partition, GError **error);
/* Removes it; a failure is logged: the process that it names is looked for, and not found, at the
 * next start. */
void lpm_partition_drop_runtime(LpmPartition *partition);
