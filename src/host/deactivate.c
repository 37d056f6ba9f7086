/* SPDX-License-Identifier: Apache-2.0 */
/* A partition is stopped, or stopped and started anew. Functions stand in the order in which they
 * run. */
#include "base/log.h"
#include "host/partition.h"

#define AGENT_SHUTDOWN_MS 5000

typedef struct LpmStop {
    LpmPartition *partition;
    bool hard;
    bool restart;
    char *profile; /* to be started anew with; NULL: the one of before */
    unsigned timeout_ms;
    guint timer;
    bool asking; /* a question to agent or QEMU is open: its callback still comes */
    bool over;
    GError *refused; /* why nothing was done; NULL */
    LpmHostDone done;
    void *data;
} Stop;

static void on_ping(const GError *error, void *data);
static void on_asked(const GError *error, void *data);
static void on_gone(LpmPartition *partition, void *data);

static void stop_free(Stop *stop)
{
    if (stop->over && !stop->asking) {
        lpm_partition_unref(stop->partition);
        g_clear_error(&stop->refused);
        g_free(stop->profile);
        g_free(stop);
    }
}

static void finish(Stop *stop, const GError *error)
{
    g_clear_handle_id(&stop->timer, g_source_remove);
    stop->partition->busy = NULL;
    stop->partition->orderly_stop = NULL;
    stop->over = true;
    stop->done(error, stop->data);
    stop_free(stop);
}

static void on_started(const GError *error, void *data)
{
    finish(data, error);
}

/* An orderly stop was not done in time, or could not be asked for: everything is as before. */
static void give_up(Stop *stop, LpmErrorCode code, const char *why)
{
    LpmPartition *partition = stop->partition;
    g_autoptr(GError) error = NULL;

    lpm_qemu_end_cancel(partition, on_gone, stop);
    partition->pending_stop = false;
    if (partition->qmp) {
        lpm_qemu_refresh(partition, NULL, NULL);
    }
    lpm_error_set(&error, code,
                  "partition %s: %s; it still runs: look at its console, or stop it hard",
                  partition->profile->name, why);
    finish(stop, error);
}

static gboolean on_timeout(gpointer data)
{
    Stop *stop = data;
    g_autofree char *why =
        g_strdup_printf("its operating system did not shut down within %u ms", stop->timeout_ms);

    stop->timer = 0;
    give_up(stop, LPM_ERROR_TIMEOUT, why);
    return G_SOURCE_REMOVE;
}

static void on_refused(gpointer data)
{
    Stop *stop = data;

    stop->over = true;
    stop->done(stop->refused, stop->data);
    stop_free(stop);
}

/* STATE says that there is no QEMU: nothing but that is reported so. */
static bool may_begin(Stop *stop)
{
    LpmPartition *partition = stop->partition;

    return lpm_partition_check_idle(partition, "be stopped", &stop->refused) &&
           (partition->pid ||
            lpm_error_set(&stop->refused, LPM_ERROR_STATE, "partition %s is not activated on %s",
                          partition->profile->name, lpm_host_name(partition->host)));
}

static Stop *stop_new(LpmPartition *partition, bool hard, unsigned timeout_ms, LpmHostDone done,
                      void *data)
{
    Stop *stop = g_new0(Stop, 1);

    stop->partition = lpm_partition_ref(partition);
    stop->hard = hard;
    stop->timeout_ms = timeout_ms;
    stop->done = done;
    stop->data = data;
    return stop;
}

/* An orderly one may take minutes, or never be obeyed, and a fence agent must not wait for that. It
 * is over then and starts nothing anew: whoever stops it hard is told that it is off. */
static void overtake(Stop *stop)
{
    LpmPartition *partition = stop->partition;
    g_autoptr(GError) error = NULL;

    lpm_qemu_end_cancel(partition, on_gone, stop);
    lpm_error_set(&error, LPM_ERROR_ABORTED,
                  "partition %s: while it was %s a hard stop was asked for, which is done instead",
                  partition->profile->name, partition->busy);
    finish(stop, error);
}

static void begin(Stop *stop)
{
    LpmPartition *partition = stop->partition;

    if (stop->hard && partition->orderly_stop) {
        overtake(partition->orderly_stop);
    }
    if (!may_begin(stop)) {
        g_idle_add_once(on_refused, stop);
        return;
    }
    partition->busy = stop->restart ? "being restarted" : "being stopped";
    partition->pending_stop = true;
    lpm_partition_set_state(partition, LPM_PARTITION_STOPPING, NULL);
    lpm_qemu_end_wait(partition, on_gone, stop);
    if (stop->hard || !partition->qmp) {
        lpm_process_kill(partition->pidfd);
        return;
    }
    partition->orderly_stop = stop;
    stop->timer = g_timeout_add(stop->timeout_ms, on_timeout, stop);
    stop->asking = true;
    if (partition->agent) {
        lpm_qga_ping(partition->agent, partition->host->config->agent_timeout_ms, on_ping, stop);
    } else {
        lpm_qmp_system_powerdown(partition->qmp, on_asked, stop);
    }
}

/* With an agent it is asked itself; else the power button is pressed (on POWER: an EPOW event). */
static void on_ping(const GError *error, void *data)
{
    Stop *stop = data;
    LpmPartition *partition = stop->partition;

    if (stop->over || !partition->qmp) {
        stop->asking = false;
        stop_free(stop);
    } else if (error) {
        lpm_qmp_system_powerdown(partition->qmp, on_asked, stop);
    } else {
        lpm_qga_shutdown(partition->agent, "powerdown", AGENT_SHUTDOWN_MS, on_asked, stop);
    }
}

static void on_asked(const GError *error, void *data)
{
    Stop *stop = data;

    stop->asking = false;
    if (stop->over) {
        stop_free(stop);
    } else if (error && stop->partition->pid) {
        /* The time-out decides: what was asked may still happen. */
        lpm_log_warning(&(LpmLogFields){.partition = stop->partition->profile->name},
                        "asked to shut down: %s", error->message);
    }
}

static void on_gone(LpmPartition *partition, void *data)
{
    Stop *stop = data;

    g_clear_handle_id(&stop->timer, g_source_remove);
    partition->orderly_stop = NULL;
    if (!stop->restart) {
        finish(stop, NULL);
        return;
    }
    partition->busy = NULL;
    lpm_partition_start(partition, stop->profile, on_started, stop);
}

void lpm_partition_stop(LpmPartition *partition, bool hard, unsigned timeout_ms, LpmHostDone done,
                        void *data)
{
    begin(stop_new(partition, hard, timeout_ms, done, data));
}

void lpm_partition_restart(LpmPartition *partition, const char *profile, bool hard,
                           unsigned timeout_ms, LpmHostDone done, void *data)
{
    Stop *stop = stop_new(partition, hard, timeout_ms, done, data);

    stop->restart = true;
    stop->profile = g_strdup(profile);
    begin(stop);
}
