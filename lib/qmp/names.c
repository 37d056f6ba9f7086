/* SPDX-License-Identifier: Apache-2.0 */
#include "qmp/qmp.h"

#include <string.h>

static const char *const run_names[LPM_QMP_RUN_N] = {
    [LPM_QMP_RUN_UNKNOWN] = "unknown",
    [LPM_QMP_RUN_COLO] = "colo",
    [LPM_QMP_RUN_DEBUG] = "debug",
    [LPM_QMP_RUN_FINISH_MIGRATE] = "finish-migrate",
    [LPM_QMP_RUN_GUEST_PANICKED] = "guest-panicked",
    [LPM_QMP_RUN_INMIGRATE] = "inmigrate",
    [LPM_QMP_RUN_INTERNAL_ERROR] = "internal-error",
    [LPM_QMP_RUN_IO_ERROR] = "io-error",
    [LPM_QMP_RUN_PAUSED] = "paused",
    [LPM_QMP_RUN_POSTMIGRATE] = "postmigrate",
    [LPM_QMP_RUN_PRELAUNCH] = "prelaunch",
    [LPM_QMP_RUN_RESTORE_VM] = "restore-vm",
    [LPM_QMP_RUN_RUNNING] = "running",
    [LPM_QMP_RUN_SAVE_VM] = "save-vm",
    [LPM_QMP_RUN_SHUTDOWN] = "shutdown",
    [LPM_QMP_RUN_SUSPENDED] = "suspended",
    [LPM_QMP_RUN_WATCHDOG] = "watchdog",
};

static const char *const mig_names[LPM_QMP_MIG_N] = {
    [LPM_QMP_MIG_UNKNOWN] = "unknown",
    [LPM_QMP_MIG_NONE] = "none",
    [LPM_QMP_MIG_SETUP] = "setup",
    [LPM_QMP_MIG_ACTIVE] = "active",
    [LPM_QMP_MIG_PRE_SWITCHOVER] = "pre-switchover",
    [LPM_QMP_MIG_DEVICE] = "device",
    [LPM_QMP_MIG_COMPLETED] = "completed",
    [LPM_QMP_MIG_FAILED] = "failed",
    [LPM_QMP_MIG_CANCELLING] = "cancelling",
    [LPM_QMP_MIG_CANCELLED] = "cancelled",
    [LPM_QMP_MIG_WAIT_UNPLUG] = "wait-unplug",
    [LPM_QMP_MIG_POSTCOPY_ACTIVE] = "postcopy-active",
    [LPM_QMP_MIG_POSTCOPY_PAUSED] = "postcopy-paused",
    [LPM_QMP_MIG_POSTCOPY_RECOVER] = "postcopy-recover",
    [LPM_QMP_MIG_POSTCOPY_RECOVER_SETUP] = "postcopy-recover-setup",
    [LPM_QMP_MIG_COLO] = "colo",
};

const char *lpm_qmp_run_name(LpmQmpRunState state)
{
    return run_names[(unsigned)state < LPM_QMP_RUN_N ? state : LPM_QMP_RUN_UNKNOWN];
}

const char *lpm_qmp_mig_name(LpmQmpMigStatus status)
{
    return mig_names[(unsigned)status < LPM_QMP_MIG_N ? status : LPM_QMP_MIG_UNKNOWN];
}

LpmQmpRunState lpm_qmp_run_from_name(const char *name)
{
    for (unsigned i = 0; name && i < LPM_QMP_RUN_N; i++) {
        if (strcmp(run_names[i], name) == 0) {
            return (LpmQmpRunState)i;
        }
    }
    return LPM_QMP_RUN_UNKNOWN;
}

LpmQmpMigStatus lpm_qmp_mig_from_name(const char *name)
{
    for (unsigned i = 0; name && i < LPM_QMP_MIG_N; i++) {
        if (strcmp(mig_names[i], name) == 0) {
            return (LpmQmpMigStatus)i;
        }
    }
    return name ? LPM_QMP_MIG_UNKNOWN : LPM_QMP_MIG_NONE;
}

bool lpm_qmp_mig_is_final(LpmQmpMigStatus status)
{
    return status == LPM_QMP_MIG_COMPLETED || status == LPM_QMP_MIG_FAILED ||
           status == LPM_QMP_MIG_CANCELLED;
}

bool lpm_qmp_mig_is_postcopy(LpmQmpMigStatus status)
{
    return status == LPM_QMP_MIG_POSTCOPY_ACTIVE || status == LPM_QMP_MIG_POSTCOPY_PAUSED ||
           status == LPM_QMP_MIG_POSTCOPY_RECOVER || status == LPM_QMP_MIG_POSTCOPY_RECOVER_SETUP;
}
