/* SPDX-License-Identifier: Apache-2.0 */
#include "mobility/mobility.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define SRC(from, event, to)                                                                       \
    {                                                                                              \
        LPM_MOB_SRC_##from, LPM_MOB_EV_##event, LPM_MOB_SRC_##to                                   \
    }
#define DST(from, event, to)                                                                       \
    {                                                                                              \
        LPM_MOB_DST_##from, LPM_MOB_EV_##event, LPM_MOB_DST_##to                                   \
    }
#define DRV(from, event, to)                                                                       \
    {                                                                                              \
        LPM_MOB_DRV_##from, LPM_MOB_EV_##event, LPM_MOB_DRV_##to                                   \
    }

/* CLEAN leaves every open state, because the record may say that the partition has gone. */
static const LpmMobEdge src_edges[] = {
    SRC(NONE, ACCEPT, PLANNED),    SRC(PLANNED, CONNECTED, PRECOPY), SRC(PLANNED, OFFER_NOW, POST),
    SRC(PRECOPY, QEMU_DONE, POST), SRC(PRECOPY, READY, SWITCH),      SRC(SWITCH, QEMU_DONE, POST),
    SRC(PLANNED, ABORT, ABORT),    SRC(PRECOPY, ABORT, ABORT),       SRC(SWITCH, ABORT, ABORT),
    SRC(POST, ABORT, ABORT),       SRC(PLANNED, CLEAN, CLEANED),     SRC(PRECOPY, CLEAN, CLEANED),
    SRC(SWITCH, CLEAN, CLEANED),   SRC(POST, CLEAN, CLEANED),        SRC(ABORT, CLEAN, CLEANED),
};

static const LpmMobEdge dst_edges[] = {
    DST(NONE, ACCEPT, PREPARED), DST(PREPARED, LOADED, LOADED), DST(LOADED, TAKEN, INTENT),
    DST(INTENT, RUNS, RUNNING),  DST(PREPARED, CLEAN, CLEANED), DST(LOADED, CLEAN, CLEANED),
    DST(INTENT, CLEAN, CLEANED), DST(RUNNING, CLEAN, CLEANED),
};

static const LpmMobEdge drv_edges[] = {
    DRV(ACCEPTED, VALIDATE, VALIDATING), DRV(ACCEPTED, FAIL, FAILED),
    DRV(VALIDATING, PREPARE, PREPARING), DRV(VALIDATING, FAIL, FAILED),
    DRV(PREPARING, START, STARTING),     DRV(PREPARING, STOP, STOPPING),
    DRV(PREPARING, FAIL, FAILED),        DRV(STARTING, STARTED, MOVING),
    DRV(STARTING, STOP, STOPPING),       DRV(STARTING, FAIL, FAILED),
    DRV(MOVING, STOP, STOPPING),         DRV(MOVING, SUCCEED, COMPLETED),
    DRV(MOVING, FAIL, FAILED),           DRV(STOPPING, SUCCEED, COMPLETED),
    DRV(STOPPING, FAIL, FAILED),
};

static const struct {
    const LpmMobEdge *edges;
    size_t n;
} machines[LPM_MOB_MACHINE_N] = {
    [LPM_MOB_SRC] = {src_edges, COUNT(src_edges)},
    [LPM_MOB_DST] = {dst_edges, COUNT(dst_edges)},
    [LPM_MOB_DRV] = {drv_edges, COUNT(drv_edges)},
};

const LpmMobEdge *lpm_mob_edges(LpmMobMachine machine, size_t *ret_n)
{
    *ret_n = machines[machine].n;
    return machines[machine].edges;
}

bool lpm_mob_step(LpmMobMachine machine, unsigned from, LpmMobEvent event, unsigned *ret_to)
{
    for (size_t i = 0; i < machines[machine].n; i++) {
        const LpmMobEdge *edge = &machines[machine].edges[i];
        if (edge->from == from && edge->event == (unsigned)event) {
            *ret_to = edge->to;
            return true;
        }
    }
    return false;
}
