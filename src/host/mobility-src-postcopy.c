/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source half in post-copy. The partition is stopped by us before QEMU is told to begin it: a
 * QEMU whose stream breaks off just when it has given everything calls that a failed move and lets
 * run again what ran before (10.0), although the target runs it by then.
 */
#include "base/log.h"
#include "crash/crash.h"
#include "host/mobility-src.h"

#define POSTCOPY_LEAST UINT64_C(100000) /* bytes/s */

static bool off_course(const SrcMove *move)
{
    return move->base.rows || move->base.ended;
}

static LpmQmp *qmp_of(const SrcMove *move)
{
    return move->base.partition ? move->base.partition->qmp : NULL;
}

/*
 * What waits in sockets and in the mover's window is ahead of the page that the partition waits
 * for. With some of the link left free, little does.
 */
static uint64_t postcopy_rate(const SrcMove *move)
{
    uint64_t measured = move->rate;
    return MAX(measured - measured / 4, POSTCOPY_LEAST);
}

static void started(const GError *error, void *data)
{
    SrcMove *move = data;
    if (error && !off_course(move)) {
        lpm_mig_trouble(&move->base, error);
    }
    lpm_mig_unref(&move->base);
}

static void stopped(const GError *error, void *data)
{
    SrcMove *move = data;
    if (off_course(move)) {
        lpm_mig_unref(&move->base);
    } else if (error) {
        started(error, move);
    } else {
        LPM_CRASH_POINT("src", "hold", "after");
        lpm_qmp_migrate_start_postcopy(qmp_of(move), started, move);
    }
}

/* QEMU then comes to pre-switchover, as at the end of any copy. */
void lpm_src_go_postcopy(SrcMove *move)
{
    LpmMigration *migration = &move->base;
    LpmLogFields fields = {.migration = migration->id, .partition = migration->name};
    if (move->going_postcopy || move->holding) {
        return;
    }
    move->going_postcopy = true;
    move->held = true;
    lpm_log_info(&fields, "going on to post-copy");
    lpm_src_set_parameter(move, "max-postcopy-bandwidth", (int64_t)postcopy_rate(move));
    if (migration->options.max_rate > 0) { /* what is on its way is waited for */
        LpmStreamMessage message = {.rate.max_rate = 0};
        lpm_mover_send(migration->mover, LPM_STREAM_RATE, &message);
    }
    lpm_src_stands_still(move);
    lpm_mig_ref(migration);
    LPM_CRASH_POINT("src", "hold", "before");
    lpm_qmp_stop(qmp_of(move), stopped, move);
}

void lpm_src_note_serving(SrcMove *move, const LpmQmpMigration *mig)
{
    LpmMigration *migration = &move->base;
    g_autoptr(GError) error = NULL;
    migration->postcopy = true;
    migration->remaining_bytes = mig->remaining;
    if (mig->status == LPM_QMP_MIG_POSTCOPY_PAUSED) {
        lpm_error_set(&error, LPM_ERROR_NETWORK, "QEMU at %s has lost its connection",
                      lpm_host_name(migration->host));
        lpm_mig_link_broke(migration, error);
    } else {
        lpm_mig_link_mended(migration);
    }
    if (lpm_mig_record_view(migration) == LPM_MOB_REC_TARGET &&
        migration->phase != LPM_PHASE_FILL) {
        lpm_mig_enter_phase(migration, LPM_PHASE_FILL);
    }
}

bool lpm_src_is_held(const SrcMove *move, LpmQmpRunState run, LpmQmpMigStatus mig)
{
    return move->held && !move->offering && run == LPM_QMP_RUN_PAUSED &&
           (mig == LPM_QMP_MIG_FAILED || mig == LPM_QMP_MIG_CANCELLED);
}

static void runs(const GError *error, void *data)
{
    LpmMigration *migration = data;
    if (error) {
        lpm_mig_note_error(migration, error);
    }
    lpm_mig_next(migration, error ? LPM_NEXT_LATER : LPM_NEXT_NOW);
    lpm_mig_unref(migration);
}

void lpm_src_let_run(SrcMove *move)
{
    lpm_mig_ref(&move->base);
    lpm_qmp_cont(qmp_of(move), LPM_QMP_RUN_PAUSED, runs, move);
}
