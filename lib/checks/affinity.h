/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Affinity score: how near the memory of a partition can be to its processors on a system, from the
 * free memory and the processors of its NUMA nodes. 100: all of it local; 50: on average twice as
 * far as local memory; 0: it does not fit on several nodes. One node alone: 100. PowerVM's
 * --affinity asks that it is not lower on the target than on the source.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define LPM_NODES 64

typedef struct {
    int64_t free_mib;         /* that the partition could have there */
    int processors;           /* of the machine, there */
    int distances[LPM_NODES]; /* to each node, 10 is local; of the first @n_distances */
    size_t n_distances;
} LpmNode;

typedef struct {
    int64_t memory_mib;
    int processors;
} LpmAffinityNeed;

/*
 * The best score of all placements that begin at one node and go on to the nearest ones. More
 * processors than there are run beside each other on those that are there. 0 also for more than
 * LPM_NODES nodes. Pure.
 */
int lpm_affinity_score(const LpmNode *nodes, size_t n, const LpmAffinityNeed *need);
