/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold, whatever fails. Some more is asserted where it happens: qemu.c, host.c. */
#include "sim.h"

#include <string.h>

void sim_violate(Sim *sim, const char *rule)
{
    if (!sim->violation) {
        sim->violation = rule;
        SIM_TELL(sim, "*** %s", rule);
    }
}

void sim_starts_to_run(Sim *sim, unsigned h)
{
    if (sim->qemu[h].version != sim->newest) {
        sim_violate(sim, "an out-of-date image was started");
    }
    if (sim->elsewhere || sim_qemu_executes(&sim->qemu[1 - h])) {
        sim_violate(sim, "two copies run");
    }
}

/* After each step. */
void sim_check(Sim *sim)
{
    bool a = sim_qemu_executes(&sim->qemu[0]), b = sim_qemu_executes(&sim->qemu[1]);
    if ((a && b) || (sim->elsewhere && (a || b))) {
        sim_violate(sim, "two copies run");
    }
    bool known = sim->elsewhere;
    for (unsigned h = 0; h < SIM_HOSTS; h++) {
        const SimHost *host = &sim->host[h];
        known |= host->profile || (host->is_target && host->durable != LPM_MOB_DST_NONE &&
                                   host->durable != LPM_MOB_DST_CLEANED);
    }
    if (!known) {
        sim_violate(sim, "no system knows the partition any more");
    }
}

/* --- the end --- */

/* The partition is another system's, which is off and may come back: its memory is kept here. */
static bool serves_a_dead_owner(const Sim *sim, unsigned h)
{
    return sim->host[1 - h].gone_for_good && sim->qemu[h].state == SIM_Q_SERVING &&
           strcmp(sim->record.owner, sim_names[1 - h]) == 0;
}

static const char *unsettled_host(const Sim *sim, unsigned h)
{
    const SimHost *host = &sim->host[h];
    bool owner = strcmp(sim->record.owner, sim_names[h]) == 0;
    SimQemuState state = sim->qemu[h].state;
    if (host->gone_for_good) {
        return NULL;
    }
    if (serves_a_dead_owner(sim, h)) {
        return NULL;
    }
    if (!host->up || sim_host_is_open(host) || host->pc != SIM_PC_IDLE) {
        return "a journal stays open";
    }
    if (owner != host->profile) {
        return owner ? "the owner does not keep the partition" : "a system keeps what it has not";
    }
    if (!owner && state != SIM_Q_NONE) {
        return "a QEMU is left over";
    }
    if (owner && state != (sim->inactive ? SIM_Q_NONE : SIM_Q_RUNNING)) {
        return "the owner does not run the partition";
    }
    return NULL;
}

static const char *unsettled(const Sim *sim)
{
    const SimHost *a = &sim->host[0], *b = &sim->host[1];
    if (!lpm_record_settled(sim->record.state)) {
        return "the record stays unsettled";
    }
    for (unsigned h = 0; h < SIM_HOSTS; h++) {
        const char *why = unsettled_host(sim, h);
        if (why) {
            return why;
        }
    }
    bool both = !a->gone_for_good && !b->gone_for_good && a->move == b->move && a->move > 0;
    if (both && a->completed != b->completed) {
        return "the two systems disagree about how the move ended";
    }
    return NULL;
}

bool sim_is_settled(const Sim *sim)
{
    return unsettled(sim) == NULL;
}

void sim_check_end(Sim *sim)
{
    const char *why = unsettled(sim);
    if (why) {
        sim_violate(sim, why);
    }
}
