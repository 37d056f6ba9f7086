/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When the scripts in the partition are told that it is about to move: as late as possible, and so
 * early that they have ended before the blackout. What is copied within seconds is told before the
 * copy begins. A big partition is told near the end of the first pass, and until they have answered
 * QEMU is given a blackout so short that it copies on.
 */
#include "base/log.h"
#include "host/mobility-scripts.h"
#include "host/mobility-src.h"

enum { LATE_PART = 8 };
#define EARLY_BYTES (UINT64_C(1) << 30)

static bool off_course(const SrcMove *move)
{
    return move->base.rows || move->base.ended;
}

static void told(const GError *error, void *data)
{
    SrcMove *move = data;
    LpmSrcGoOn go_on = move->scripts_go_on;
    move->scripts_go_on = NULL;
    move->scripts = LPM_SRC_SCRIPTS_TOLD;
    if (error && !off_course(move)) {
        lpm_mig_trouble(&move->base, error);
    } else if (go_on && !off_course(move)) {
        go_on(move);
    }
    lpm_mig_unref(&move->base);
}

/* False: there is nobody to be told. */
static bool tell(SrcMove *move)
{
    move->scripts = LPM_SRC_SCRIPTS_TELLING;
    lpm_mig_ref(&move->base);
    if (lpm_mig_scripts_pre(&move->base, told, move)) {
        return true;
    }
    move->scripts = LPM_SRC_SCRIPTS_TOLD;
    lpm_mig_unref(&move->base);
    return false;
}

void lpm_src_scripts_first(SrcMove *move, LpmSrcGoOn go_on)
{
    uint64_t memory = (uint64_t)move->base.partition->profile->memory_mib << 20;
    bool early = memory <= EARLY_BYTES;
    if (!lpm_mig_scripts_wanted(&move->base)) {
        move->scripts = LPM_SRC_SCRIPTS_TOLD;
    }
    if (early && move->scripts == LPM_SRC_SCRIPTS_NOT_YET) {
        move->scripts_go_on = go_on;
        if (tell(move)) {
            return;
        }
        move->scripts_go_on = NULL;
    }
    go_on(move);
}

void lpm_src_scripts_look(SrcMove *move, const LpmQmpMigration *mig)
{
    bool late = mig->total > 0 && (mig->dirty_sync_count > 1 ||
                                   mig->remaining <= MAX(EARLY_BYTES, mig->total / LATE_PART));
    if (late && move->scripts == LPM_SRC_SCRIPTS_NOT_YET) {
        (void)tell(move);
    }
}

bool lpm_src_scripts_hold(const SrcMove *move)
{
    return move->scripts != LPM_SRC_SCRIPTS_TOLD;
}

bool lpm_src_scripts_are_late(SrcMove *move)
{
    g_autoptr(GError) error = NULL;
    if (!lpm_src_scripts_hold(move)) {
        return false;
    }
    lpm_error_set(&error, LPM_ERROR_ABORTED,
                  "the copy of partition %s was done before its scripts had got ready to move; "
                  "start the move again, or see what keeps them",
                  move->base.name);
    lpm_mig_trouble(&move->base, error);
    return true;
}
