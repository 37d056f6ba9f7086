/* SPDX-License-Identifier: Apache-2.0 */
/* Reading QEMU's state, and the two commands that may be sent only after it was read. */
#include "qmp/connection.h"

/* --- the answers --- */

static LpmQmpStatus parse_status(const json_t *result)
{
    LpmQmpStatus status = {.state = lpm_qmp_run_from_name(lpm_json_str(result, "status", NULL)),
                           .running = lpm_json_bool(result, "running", false)};

    return status;
}

static uint64_t number(const json_t *result, const char *path)
{
    int64_t value = lpm_json_int(result, path, 0);

    return value > 0 ? (uint64_t)value : 0;
}

static LpmQmpMigration parse_migration(json_t *result)
{
    LpmQmpMigration migration = {
        .status = lpm_qmp_mig_from_name(lpm_json_str(result, "status", NULL)),
        .transferred = number(result, "ram.transferred"),
        .remaining = number(result, "ram.remaining"),
        .total = number(result, "ram.total"),
        .zero_pages = number(result, "ram.duplicate"),
        .normal_pages = number(result, "ram.normal"),
        .page_size = number(result, "ram.page-size"),
        .dirty_pages_rate = number(result, "ram.dirty-pages-rate"),
        .dirty_sync_count = number(result, "ram.dirty-sync-count"),
        .throttle_percent = number(result, "cpu-throttle-percentage"),
        .mbps = lpm_json_real(result, "ram.mbps", 0),
        .total_time_ms = lpm_json_int(result, "total-time", -1),
        .setup_time_ms = lpm_json_int(result, "setup-time", -1),
        .downtime_ms = lpm_json_int(result, "downtime", -1),
        .expected_downtime_ms = lpm_json_int(result, "expected-downtime", -1),
        .error_desc = lpm_json_str(result, "error-desc", NULL),
        .raw = result,
    };

    return migration;
}

/* --- reading both --- */

typedef struct {
    LpmQmp *qmp;
    LpmQmpStatusReply status_reply;
    LpmQmpMigrationReply migration_reply;
    LpmQmpStateReply state_reply;
    LpmQmpStatus status;
    void *data;
} Reading;

static Reading *reading_new(LpmQmp *qmp, void *data)
{
    Reading *reading = g_new0(Reading, 1);

    reading->qmp = qmp;
    reading->data = data;
    return reading;
}

static void reading_end(Reading *reading, json_t *migrate, const GError *error)
{
    LpmQmpMigration migration = parse_migration(migrate);
    LpmQmpMigration *seen = error ? NULL : &migration;

    if (seen) {
        lpm_qmp_saw_migration(reading->qmp, lpm_json_str(migrate, "status", NULL));
    }
    if (reading->migration_reply) {
        reading->migration_reply(seen, error, reading->data);
    } else if (reading->state_reply) {
        reading->state_reply(error ? NULL : &reading->status, seen, error, reading->data);
    }
    g_free(reading);
}

static void on_migrate(json_t *result, const GError *error, void *data)
{
    reading_end(data, result, error);
}

static void on_status(json_t *result, const GError *error, void *data)
{
    Reading *reading = data;

    reading->status = parse_status(result);
    if (reading->status_reply) {
        reading->status_reply(error ? NULL : &reading->status, error, reading->data);
        g_free(reading);
    } else if (error) {
        reading_end(reading, NULL, error);
    } else {
        lpm_qmp_submit(reading->qmp, "query-migrate", NULL, -1, true, on_migrate, reading);
    }
}

void lpm_qmp_query_status(LpmQmp *qmp, LpmQmpStatusReply reply, void *data)
{
    Reading *reading = reading_new(qmp, data);

    reading->status_reply = reply;
    lpm_qmp_submit(qmp, "query-status", NULL, -1, false, on_status, reading);
}

void lpm_qmp_query_migrate(LpmQmp *qmp, LpmQmpMigrationReply reply, void *data)
{
    Reading *reading = reading_new(qmp, data);

    reading->migration_reply = reply;
    lpm_qmp_submit(qmp, "query-migrate", NULL, -1, false, on_migrate, reading);
}

void lpm_qmp_query_state(LpmQmp *qmp, LpmQmpStateReply reply, void *data)
{
    Reading *reading = reading_new(qmp, data);

    reading->state_reply = reply;
    lpm_qmp_submit(qmp, "query-status", NULL, -1, false, on_status, reading);
}

/* --- guarded commands --- */

/* Run states in which `cont` does at once what it says. In all others QEMU refuses it or, worse,
 * keeps it for later. */
static const bool may_cont_in_run[LPM_QMP_RUN_N] = {
    [LPM_QMP_RUN_IO_ERROR] = true,  [LPM_QMP_RUN_PAUSED] = true,  [LPM_QMP_RUN_POSTMIGRATE] = true,
    [LPM_QMP_RUN_PRELAUNCH] = true, [LPM_QMP_RUN_RUNNING] = true, [LPM_QMP_RUN_SUSPENDED] = true,
};

static const bool may_cont_in_mig[LPM_QMP_MIG_N] = {
    [LPM_QMP_MIG_NONE] = true,
    [LPM_QMP_MIG_SETUP] = true,
    [LPM_QMP_MIG_ACTIVE] = true,
    [LPM_QMP_MIG_COMPLETED] = true,
    [LPM_QMP_MIG_FAILED] = true,
    [LPM_QMP_MIG_CANCELLED] = true,
    /* The target's alone: the source's run state is finish-migrate then. */
    [LPM_QMP_MIG_POSTCOPY_ACTIVE] = true,
    [LPM_QMP_MIG_POSTCOPY_PAUSED] = true,
    [LPM_QMP_MIG_POSTCOPY_RECOVER] = true,
    [LPM_QMP_MIG_POSTCOPY_RECOVER_SETUP] = true,
};

static const bool may_cancel_in_mig[LPM_QMP_MIG_N] = {
    [LPM_QMP_MIG_SETUP] = true,
    [LPM_QMP_MIG_ACTIVE] = true,
    [LPM_QMP_MIG_PRE_SWITCHOVER] = true,
    [LPM_QMP_MIG_WAIT_UNPLUG] = true,
};

typedef struct {
    LpmQmp *qmp;
    const char *command;
    const bool *in_run; /* NULL: any */
    const bool *in_mig;
    LpmQmpRunState expected; /* UNKNOWN: any that in_run allows */
    LpmQmpDone done;
    void *data;
} Guarded;

static GError *guard_refusal(const Guarded *guarded, const LpmQmpStatus *status,
                             const LpmQmpMigration *migration)
{
    bool allowed = guarded->in_mig[migration->status];

    if (guarded->in_run && !guarded->in_run[status->state]) {
        allowed = false;
    }
    if (allowed &&
        (guarded->expected == LPM_QMP_RUN_UNKNOWN || guarded->expected == status->state)) {
        return NULL;
    }
    return g_error_new(LPM_ERROR, LPM_ERROR_STATE,
                       "%s was not sent to QEMU at %s: it is in state \"%s\", its migration in "
                       "status \"%s\"%s%s%s",
                       guarded->command, guarded->qmp->path, lpm_qmp_run_name(status->state),
                       lpm_qmp_mig_name(migration->status), allowed ? "; the state must be \"" : "",
                       allowed ? lpm_qmp_run_name(guarded->expected) : "", allowed ? "\"" : "");
}

static void on_guard(const LpmQmpStatus *status, const LpmQmpMigration *migration,
                     const GError *error, void *data)
{
    g_autofree Guarded *guarded = data;
    g_autoptr(GError) refusal = NULL;

    if (!error) {
        refusal = guard_refusal(guarded, status, migration);
    }
    if (!error && !refusal) {
        lpm_qmp_submit(guarded->qmp, guarded->command, NULL, -1, true, lpm_qmp_done_reply,
                       lpm_qmp_done_new(guarded->done, guarded->data));
    } else if (guarded->done) {
        guarded->done(error ? error : refusal, guarded->data);
    }
}

/* A question to a QEMU in its switchover could itself be stuck, which would make the connection
 * doubtful for nothing. */
static bool refused_at_once(Guarded *guarded)
{
    LpmQmp *qmp = guarded->qmp;

    if (qmp->last_migration != LPM_QMP_MIG_DEVICE) {
        return false;
    }
    lpm_qmp_refuse(qmp,
                   g_error_new(LPM_ERROR, LPM_ERROR_STATE,
                               "%s was not sent to QEMU at %s: its migration is in status "
                               "\"device\"; wait for its end, or yank it",
                               guarded->command, qmp->path),
                   lpm_qmp_done_reply, lpm_qmp_done_new(guarded->done, guarded->data));
    g_free(guarded);
    return true;
}

static void run_guarded(const Guarded *wanted)
{
    Guarded *guarded = g_memdup2(wanted, sizeof(*wanted));

    if (!refused_at_once(guarded)) {
        lpm_qmp_query_state(guarded->qmp, on_guard, guarded);
    }
}

void lpm_qmp_cont(LpmQmp *qmp, LpmQmpRunState expected, LpmQmpDone done, void *data)
{
    run_guarded(&(Guarded){.qmp = qmp,
                           .command = "cont",
                           .in_run = may_cont_in_run,
                           .in_mig = may_cont_in_mig,
                           .expected = expected,
                           .done = done,
                           .data = data});
}

void lpm_qmp_cont_loaded(LpmQmp *qmp, LpmQmpDone done, void *data)
{
    if (qmp->last_migration == LPM_QMP_MIG_COMPLETED) {
        lpm_qmp_submit(qmp, "cont", NULL, -1, true, lpm_qmp_done_reply,
                       lpm_qmp_done_new(done, data));
    } else {
        lpm_qmp_cont(qmp, LPM_QMP_RUN_PAUSED, done, data);
    }
}

void lpm_qmp_migrate_cancel(LpmQmp *qmp, LpmQmpDone done, void *data)
{
    run_guarded(&(Guarded){.qmp = qmp,
                           .command = "migrate_cancel",
                           .in_mig = may_cancel_in_mig,
                           .expected = LPM_QMP_RUN_UNKNOWN,
                           .done = done,
                           .data = data});
}
