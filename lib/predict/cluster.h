/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cluster that a partition is a member of, as its script has told (docs/spec/drmgr.md, facts
 * "cluster_..."), and the blackout that it bears. What a guest says is bounded here; at worst it
 * keeps itself from being moved. Pure.
 */
#pragma once

#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

/* Times in ms; 0: not told. */
typedef struct {
    int64_t members;
    int64_t token, consensus, hold, ping; /* Corosync's, in force now */
    int64_t during; /* its failure detection during a move; 0: nothing is lengthened */
} LpmCluster;

/* @scripts: the answers (`guest.scripts` of the facts). False: no script spoke of a cluster whose
 * failure detection is known. */
bool lpm_cluster_read(const json_t *scripts, LpmCluster *ret_cluster);

/*
 * How long a member may be silent now before the others declare it lost, and the longest blackout
 * to allow, in ms and above 0: as things are half of that, and with @during what it is enough for
 * (1.25 x blackout + 4 s).
 */
int64_t lpm_cluster_lost_ms(const LpmCluster *cluster);
int64_t lpm_cluster_bears_ms(const LpmCluster *cluster);
/* Failure detection in whole seconds that a blackout of so much needs during a move. */
int64_t lpm_cluster_needed_s(double blackout_ms);

/*
 * The limit that a move's blackout of @limit_ms has to be lowered to because nothing is lengthened;
 * 0: it may stay.
 */
int64_t lpm_cluster_lower_ms(const LpmCluster *cluster, int64_t limit_ms);
