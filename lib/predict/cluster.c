/* SPDX-License-Identifier: Apache-2.0 */
#include "predict/cluster.h"

#include <glib.h>
#include <math.h>
#include <stdlib.h>

enum {
    TIME_MAX_MS = 3600000,
    MEMBERS_MAX = 1000,
    SLACK_MS = 4000, /* 1.25 x blackout + this was measured to be enough */
    MS_PER_S = 1000,
};
#define BLACKOUT_SHARE 1.25

static int64_t number(const json_t *facts, const char *name, int64_t maximum)
{
    return CLAMP(g_ascii_strtoll(lpm_json_str(facts, name, "0"), NULL, 10), 0, maximum);
}

bool lpm_cluster_read(const json_t *scripts, LpmCluster *ret)
{
    json_t *script;
    size_t i;

    json_array_foreach (scripts, i, script) {
        const json_t *facts = json_object_get(script, "facts");
        LpmCluster cluster = {
            .members = number(facts, "cluster_members", MEMBERS_MAX),
            .token = number(facts, "cluster_token_ms", TIME_MAX_MS),
            .consensus = number(facts, "cluster_consensus_ms", TIME_MAX_MS),
            .hold = number(facts, "cluster_hold_ms", TIME_MAX_MS),
            .ping = number(facts, "cluster_ping_ms", TIME_MAX_MS),
            .during = number(facts, "cluster_during_ms", TIME_MAX_MS),
        };

        if (cluster.token > 0) {
            *ret = cluster;
            return true;
        }
    }
    return false;
}

/*
 * The others wait for the token, then gather who is left. A token is held for a while, and knet
 * needs two of its pings to call a link up again after the silence.
 */
int64_t lpm_cluster_lost_ms(const LpmCluster *cluster)
{
    int64_t lost = cluster->token + cluster->consensus - cluster->hold - 2 * cluster->ping;

    return MAX(lost, cluster->token / 2);
}

int64_t lpm_cluster_bears_ms(const LpmCluster *cluster)
{
    int64_t now = lpm_cluster_lost_ms(cluster) / 2;
    int64_t then = (int64_t)((double)(cluster->during - SLACK_MS) / BLACKOUT_SHARE);

    return MAX(MAX(now, then), 1);
}

int64_t lpm_cluster_needed_s(double blackout_ms)
{
    return (int64_t)ceil((blackout_ms * BLACKOUT_SHARE + SLACK_MS) / MS_PER_S);
}

int64_t lpm_cluster_lower_ms(const LpmCluster *cluster, int64_t limit_ms)
{
    int64_t bears = lpm_cluster_bears_ms(cluster);

    return cluster->during == 0 && limit_ms > bears ? bears : 0;
}
