/* SPDX-License-Identifier: Apache-2.0 */
/* How near a partition's memory can be to its processors on a system: pure. */
#include "checks/affinity.h"

enum { LOCAL = 10, REMOTE = 20 }; /* distances as the firmware tells them, when it tells none */

static int distance(const LpmNode *nodes, size_t from, size_t to)
{
    int told = nodes[from].n_distances > to ? nodes[from].distances[to] : 0;

    return told >= LOCAL ? told : from == to ? LOCAL : REMOTE;
}

typedef struct {
    double memory[LPM_NODES], processors[LPM_NODES]; /* shares, each adds up to 1 */
} Placement;

static double take(double wanted, double available, double *left)
{
    double taken = MIN(MIN(wanted, available), *left);

    *left -= taken;
    return taken;
}

/* Fills @first, then again and again the node that is nearest to it; false when it does not fit. */
static bool place(const LpmNode *nodes, size_t n, size_t first, const LpmAffinityNeed *need,
                  Placement *ret)
{
    double memory = (double)need->memory_mib, processors = need->processors;
    bool used[LPM_NODES] = {false};

    *ret = (Placement){{0}, {0}};
    for (size_t round = 0; round < n && (memory > 0 || processors > 0); round++) {
        size_t best = n;

        for (size_t i = 0; i < n; i++) {
            if (!used[i] &&
                (best == n || distance(nodes, first, i) < distance(nodes, first, best))) {
                best = i;
            }
        }
        used[best] = true;
        ret->memory[best] = take((double)need->memory_mib, (double)nodes[best].free_mib, &memory) /
                            (double)need->memory_mib;
        ret->processors[best] =
            take(need->processors, nodes[best].processors, &processors) / need->processors;
    }
    return memory <= 0;
}

/* 100 for memory that is all local, half of it for memory that is on average twice as far. */
static double score_of(const LpmNode *nodes, size_t n, const Placement *placed)
{
    double mean = 0, spread = 0;

    for (size_t i = 0; i < n; i++) {
        spread += placed->processors[i];
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) {
            /* Processors that do not fit on the nodes' share them: counted where the others are. */
            mean += placed->processors[i] / spread * placed->memory[j] * distance(nodes, i, j);
        }
    }
    return mean > 0 ? 100.0 * LOCAL / mean : 0;
}

int lpm_affinity_score(const LpmNode *nodes, size_t n, const LpmAffinityNeed *need)
{
    double best = 0;

    if (n == 1) {
        return 100; /* there is nowhere else; whether it fits is another question */
    }
    if (n > LPM_NODES || need->memory_mib <= 0 || need->processors <= 0) {
        return 0;
    }
    for (size_t first = 0; first < n; first++) {
        Placement placed;

        /* A node of memory only has no processors to be near to. */
        if (nodes[first].processors > 0 && place(nodes, n, first, need, &placed)) {
            best = MAX(best, score_of(nodes, n, &placed));
        }
    }
    return (int)(MIN(best, 100.0) + 0.5);
}
