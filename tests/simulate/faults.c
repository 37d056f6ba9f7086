/* SPDX-License-Identifier: Apache-2.0 */
/* What breaks, and what becomes whole again. */
#include "sim.h"

static void machine_dies(Sim *sim, unsigned h)
{
    SIM_TELL(sim, "machine %s dies", sim_names[h]);
    sim_host_die(sim, h);
    sim_qemu_crash(sim, h);
    sim->host[h].machine = false;
}

static void host_dies(Sim *sim, unsigned h)
{
    sim_host_die(sim, h);
}

static void qemu_crashes(Sim *sim, unsigned h)
{
    sim_qemu_crash(sim, h);
}

static void qemu_hangs(Sim *sim, unsigned h)
{
    if (sim->qemu[h].state != SIM_Q_NONE) {
        sim->qemu[h].hung = true;
        SIM_TELL(sim, "QEMU at %s hangs", sim_names[h]);
    }
}

static void mover_dies(Sim *sim, unsigned h)
{
    if (sim->stream.mover[h]) {
        SIM_TELL(sim, "a fault of the mover or of its stream at %s", sim_names[h]);
        sim_mover_end(sim, h);
        if (sim->host[h].up && sim->host[h].move == sim->move && sim_host_is_open(&sim->host[h])) {
            sim_host_mover_gone(sim, h);
        }
    }
}

/* A mover that somebody else has in his hands says what is not so. */
static void mover_lies(Sim *sim, unsigned h)
{
    static const SimWord words[] = {SIM_SAY_OFFER,  SIM_SAY_OFFER, SIM_SAY_OFFER,
                                    SIM_SAY_LOADED, SIM_SAY_LOOK,  SIM_SAY_WHOLE};
    if (sim->stream.mover[h]) {
        sim_lie(sim, h, words[sim_pick(&sim->random, sizeof words / sizeof *words)]);
    }
}

static void link_lost(Sim *sim, unsigned h)
{
    (void)h;
    sim->stream.link = false;
    SIM_TELL(sim, "the link is lost");
}

static void arbiter_lost(Sim *sim, unsigned h)
{
    sim->reachable[h] = false;
    SIM_TELL(sim, "%s does not reach the arbiter", sim_names[h]);
}

static void disk_full(Sim *sim, unsigned h)
{
    sim->host[h].disk_full = true;
    sim->must_survive &= !sim->host[h].is_target; /* it cannot write intent */
    SIM_TELL(sim, "the disk of %s is full", sim_names[h]);
}

void sim_liar(Sim *sim)
{
    mover_lies(sim, sim_pick(&sim->random, SIM_HOSTS));
}

void sim_fault(Sim *sim)
{
    static void (*const faults[])(Sim * sim, unsigned h) = {
        machine_dies, host_dies,  host_dies,    host_dies,    qemu_crashes,
        qemu_crashes, qemu_hangs, mover_dies,   link_lost,    mover_dies,
        mover_lies,   mover_lies, arbiter_lost, arbiter_lost, disk_full,
    };
    faults[sim_pick(&sim->random, sizeof faults / sizeof *faults)](
        sim, sim_pick(&sim->random, SIM_HOSTS));
}

/* Whoever gave the word leaves the machine off until the arbiter has answered. */
static bool word_is_on_its_way(const Sim *sim, unsigned h)
{
    for (unsigned i = 0; i < SIM_REQUESTS; i++) {
        const SimRequest *request = &sim->request[i];
        if (request->used && request->swap && !request->executed && request->host != h &&
            request->record.state == LPM_RECORD_BACK && request->expected == sim->record.revision &&
            sim->record.state == LPM_RECORD_TAKEN) {
            return true;
        }
    }
    return false;
}

static void heal_host(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    switch (sim_pick(&sim->random, 6)) {
    case 0:
        if (!host->machine && !host->gone_for_good && !word_is_on_its_way(sim, h)) {
            host->machine = true;
            SIM_TELL(sim, "machine %s comes back", sim_names[h]);
        }
        break;
    case 1:
        if (sim->qemu[h].hung) {
            sim->qemu[h].hung = false;
            SIM_TELL(sim, "QEMU at %s goes on", sim_names[h]);
        }
        break;
    case 2:
        if (!sim->stream.link) {
            sim->stream.link = true;
            SIM_TELL(sim, "the link is back");
        }
        break;
    case 3:
        if (!sim->reachable[h]) {
            sim->reachable[h] = true;
            SIM_TELL(sim, "%s reaches the arbiter again", sim_names[h]);
        }
        break;
    case 4:
        if (host->disk_full) {
            host->disk_full = false;
            SIM_TELL(sim, "the disk of %s has room again", sim_names[h]);
        }
        break;
    default:
        if (host->machine && !host->up) {
            sim_host_start(sim, h);
        }
        break;
    }
}

/* One thing, perhaps. A mover may also lose its patience with a lost link. */
void sim_heal(Sim *sim)
{
    unsigned h = sim_pick(&sim->random, SIM_HOSTS);
    if (!sim->stream.link && sim_once_in(&sim->random, 8)) {
        mover_dies(sim, h);
    }
    heal_host(sim, h);
}
