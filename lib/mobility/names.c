/* SPDX-License-Identifier: Apache-2.0 */
#include "mobility/mobility.h"

#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

typedef struct {
    const char *const *names;
    size_t n;
} Names;

static const char *const src_states[LPM_MOB_SRC_N] = {
    "none", "planned", "precopy", "switch", "post", "abort", "cleaned",
};
static const char *const dst_states[LPM_MOB_DST_N] = {
    "none", "prepared", "loaded", "intent", "running", "cleaned",
};
static const char *const drv_states[LPM_MOB_DRV_N] = {
    "accepted", "validating", "preparing", "starting", "moving", "stopping", "completed", "failed",
};
static const char *const events[LPM_MOB_EV_N] = {
    "accept", "connected", "ready", "qemu-done", "offer-now", "loaded",
    "taken",  "runs",      "abort", "clean",     "validate",  "prepare",
    "start",  "started",   "stop",  "succeed",   "fail",
};
static const char *const views[LPM_MOB_REC_N] = {
    "source", "BACK", "OFFER", "TAKEN", "target", "later", "unknown",
};
static const char *const src_qemus[LPM_MOB_SRC_QEMU_N] = {
    "running", "pre-switchover", "device", "completed", "dead", "unsure", "serving",
};
static const char *const dst_qemus[LPM_MOB_DST_QEMU_N] = {
    "incoming", "paused", "running", "dead", "unsure", "half", "filling",
};
static const char *const src_actions[LPM_MOB_SRC_DO_N] = {
    [LPM_MOB_SRC_DO_WAIT] = "wait, look again",
    [LPM_MOB_SRC_DO_CANCEL] = "write `abort`; end the mover; `migrate_cancel`",
    [LPM_MOB_SRC_DO_YANK] = "write `abort`; end the mover; yank out of band",
    [LPM_MOB_SRC_DO_ABORT] = "write `abort`",
    [LPM_MOB_SRC_DO_OFFER] = "swap to OFFER",
    [LPM_MOB_SRC_DO_BACK] = "swap to BACK",
    [LPM_MOB_SRC_DO_CONT] = "`cont`",
    [LPM_MOB_SRC_DO_STAYED] = "release; `cleaned` (aborted)",
    [LPM_MOB_SRC_DO_POST] = "write `post`",
    [LPM_MOB_SRC_DO_LOST] = "end QEMU; release; `cleaned` (aborted)",
    [LPM_MOB_SRC_DO_LEFT] = "end QEMU; release; forget the profile; `cleaned` (completed)",
    [LPM_MOB_SRC_DO_NOTHING] = "nothing",
    [LPM_MOB_SRC_DO_REPORT] = "change nothing; report",
};
static const char *const dst_actions[LPM_MOB_DST_DO_N] = {
    [LPM_MOB_DST_DO_WAIT] = "wait, look again",
    [LPM_MOB_DST_DO_LOADED] = "write `loaded`",
    [LPM_MOB_DST_DO_TAKE] = "swap to TAKEN",
    [LPM_MOB_DST_DO_REFUSE] = "swap to BACK",
    [LPM_MOB_DST_DO_INTENT] = "write `intent`",
    [LPM_MOB_DST_DO_CONT] = "`cont`",
    [LPM_MOB_DST_DO_RUNNING] = "write `running`",
    [LPM_MOB_DST_DO_OWN] = "swap to RUN",
    [LPM_MOB_DST_DO_RETURN] = "swap to BACK",
    [LPM_MOB_DST_DO_DISCARD] = "end QEMU; release; `cleaned` (aborted)",
    [LPM_MOB_DST_DO_ARRIVED] = "announce; keep the profile; `cleaned` (completed)",
    [LPM_MOB_DST_DO_NOTHING] = "nothing",
    [LPM_MOB_DST_DO_REPORT] = "change nothing; report",
};

static const Names states[LPM_MOB_MACHINE_N] = {{src_states, COUNT(src_states)},
                                                {dst_states, COUNT(dst_states)},
                                                {drv_states, COUNT(drv_states)}};
static const Names qemus[] = {{src_qemus, COUNT(src_qemus)}, {dst_qemus, COUNT(dst_qemus)}};
static const Names actions[] = {{src_actions, COUNT(src_actions)},
                                {dst_actions, COUNT(dst_actions)}};

static const char *name_of(Names names, unsigned value)
{
    return value < names.n ? names.names[value] : "?";
}

const char *lpm_mob_state_name(LpmMobMachine machine, unsigned state)
{
    return machine < LPM_MOB_MACHINE_N ? name_of(states[machine], state) : "?";
}

/* False, and @ret_value untouched, when @name is none of them; NULL is none. */
static bool value_of(Names names, const char *name, unsigned *ret_value)
{
    for (unsigned i = 0; name && i < names.n; i++) {
        if (strcmp(names.names[i], name) == 0) {
            *ret_value = i;
            return true;
        }
    }
    return false;
}

bool lpm_mob_state_from_name(LpmMobMachine machine, const char *name, unsigned *ret_state)
{
    return machine < LPM_MOB_MACHINE_N && value_of(states[machine], name, ret_state);
}

const char *lpm_mob_event_name(LpmMobEvent event)
{
    return name_of((Names){events, COUNT(events)}, event);
}

const char *lpm_mob_record_view_name(LpmMobRecordView view)
{
    return name_of((Names){views, COUNT(views)}, view);
}

bool lpm_mob_record_view_from_name(const char *name, unsigned *ret_view)
{
    return value_of((Names){views, COUNT(views)}, name, ret_view);
}

bool lpm_mob_qemu_from_name(LpmMobMachine machine, const char *name, unsigned *ret_qemu)
{
    return machine < COUNT(qemus) && value_of(qemus[machine], name, ret_qemu);
}

const char *lpm_mob_qemu_name(LpmMobMachine machine, unsigned qemu)
{
    return machine < COUNT(qemus) ? name_of(qemus[machine], qemu) : "?";
}

const char *lpm_mob_action_text(LpmMobMachine machine, unsigned action)
{
    return machine < COUNT(actions) ? name_of(actions[machine], action) : "?";
}
