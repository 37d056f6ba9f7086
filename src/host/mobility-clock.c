/* SPDX-License-Identifier: Apache-2.0 */
/* The clock of a partition's operating system after a move, or after one that was given up. */
#include "host/guest-clock.h"
#include "host/mobility-scripts.h"

#include <string.h>

typedef struct {
    LpmHost *host;
    char *id, *partition, *uuid;
} Looked;

static void looked_free(Looked *looked)
{
    g_free(looked->id);
    g_free(looked->partition);
    g_free(looked->uuid);
    g_free(looked);
}

static void on_looked(const json_t *result, void *data)
{
    static const char *const no_news[] = {"right", "absent", "silent", NULL};
    Looked *looked = data;
    bool news = !g_strv_contains(no_news, lpm_json_str(result, "result", ""));
    lpm_mig_scripts_note(looked->host, looked->id, looked->partition, looked->uuid, result, news);
    looked_free(looked);
}

/*
 * What a standstill of which nobody can say how long it was cannot have exceeded: the switchover's
 * own limit up to the journal entry that knows of it, and all the time since.
 */
static int64_t most_us(const LpmMigration *migration)
{
    const LpmMoveOptions *options = &migration->options;
    int64_t limit_ms = LPM_MIG_SWITCHOVER_LIMIT_MS + options->max_blackout_ms;
    int64_t since_ms = options->offer_timeout_ms;
    if (migration->stood_since_us > 0) {
        int64_t now_us = lpm_clock_realtime_us(migration->host->clock);
        since_ms = MAX(0, now_us - migration->stood_since_us) / 1000;
    }
    return (limit_ms + since_ms) * 1000;
}

void lpm_mig_clock_arrived(LpmMigration *migration, int64_t stood_us)
{
    if (migration->clock_looked || !migration->active || !migration->partition ||
        lpm_mig_scripts_has(migration->host, migration->id, "clock")) {
        return;
    }
    migration->clock_looked = true;
    Looked *looked = g_new0(Looked, 1);
    looked->host = migration->host;
    looked->id = g_strdup(migration->id);
    looked->partition = g_strdup(migration->name);
    looked->uuid = g_strdup(migration->uuid);
    if (!lpm_guest_clock(migration->partition, stood_us, most_us(migration), on_looked, looked)) {
        looked_free(looked);
    }
}

void lpm_mig_clock_ended(LpmMigration *migration, bool completed)
{
    int64_t stopped = migration->phases[LPM_PHASE_SWITCHOVER].start_mono_us;
    if (migration->side == LPM_MOB_DST && completed) {
        lpm_mig_clock_arrived(migration, -1);
    } else if (migration->side == LPM_MOB_SRC && !completed && stopped > 0) {
        int64_t now = lpm_clock_monotonic_us(migration->host->clock);
        lpm_mig_clock_arrived(migration, now - stopped); /* it has run on since: at most so much */
    } else if (migration->side == LPM_MOB_SRC && !completed && migration->stood_since_us > 0) {
        lpm_mig_clock_arrived(migration, -1); /* lpm-host was started anew in between */
    }
}
