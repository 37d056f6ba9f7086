/* SPDX-License-Identifier: Apache-2.0 */
#include "host/guest.h"

#include "base/log.h"
#include "host/emulator.h"
#include "host/partition.h"

/* --- RMC --- */

typedef struct {
    LpmPartition *partition;
    const char *state;
    LpmGuestRmc done;
    void *data;
} Rmc;

static void rmc_end(gpointer data)
{
    Rmc *rmc = data;

    rmc->done(rmc->state, rmc->data);
    lpm_partition_unref(rmc->partition);
    g_free(rmc);
}

static void on_ping(const GError *error, void *data)
{
    Rmc *rmc = data;

    rmc->state = error ? "silent" : "active";
    rmc_end(rmc);
}

void lpm_guest_rmc(LpmPartition *partition, LpmGuestRmc done, void *data)
{
    Rmc *rmc = g_new0(Rmc, 1);

    rmc->partition = lpm_partition_ref(partition);
    rmc->done = done;
    rmc->data = data;
    rmc->state = "absent";
    if (!partition->agent) {
        g_idle_add_once(rmc_end, rmc);
    } else if (partition->state != LPM_PARTITION_RUNNING) {
        rmc->state = "silent";
        g_idle_add_once(rmc_end, rmc);
    } else {
        lpm_qga_ping(partition->agent, partition->host->config->agent_timeout_ms, on_ping, rmc);
    }
}

/* --- mode --- */

typedef struct {
    LpmPartition *partition;
    LpmHostDone done;
    void *data;
} ReadMode;

static void read_mode_end(ReadMode *job, const GError *error)
{
    if (job->done) {
        job->done(error, job->data);
    }
    lpm_partition_unref(job->partition);
    g_free(job);
}

static void on_mode_known(gpointer data)
{
    read_mode_end(data, NULL);
}

static void on_pcr(uint64_t value, const GError *error, void *data)
{
    ReadMode *job = data;
    LpmPartition *partition = job->partition;
    const LpmMode *mode;

    if (error) {
        lpm_qemu_heal(partition);
    } else if (partition->runtime) {
        mode = lpm_compat_mode_from_pcr(lpm_emulators_compat(partition->host), value,
                                        partition->host->config->power_processor,
                                        lpm_json_str(partition->runtime, "activated_with", NULL));
        g_free(partition->current_mode);
        partition->current_mode = mode ? g_strdup(mode->name) : NULL;
    }
    read_mode_end(job, error);
}

void lpm_partition_read_mode(LpmPartition *partition, LpmHostDone done, void *data)
{
    ReadMode *job = g_new0(ReadMode, 1);

    job->partition = lpm_partition_ref(partition);
    job->done = done;
    job->data = data;
    if (partition->profile->family == LPM_FAMILY_POWER && partition->qmp) {
        lpm_qmp_query_pcr(partition->qmp, on_pcr, job);
        return;
    }
    if (partition->runtime) {
        g_free(partition->current_mode);
        partition->current_mode = g_strdup(lpm_json_str(partition->runtime, "mode", NULL));
    }
    g_idle_add_once(on_mode_known, job);
}
