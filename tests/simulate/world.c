/* SPDX-License-Identifier: Apache-2.0 */
/* One run: moves among faults, then everything becomes whole, then nothing may be left open. */
#include "sim.h"

#include <string.h>

enum {
    STEPS = 250,
    SETTLE_STEPS = 20000,
    LOOK_EVERY = 16,
    HEAL_ONCE_IN = 12,
    GONE_ONCE_IN = 3,
    LIE_ONCE_IN = 10
};

uint64_t sim_random(SimRandom *random)
{
    uint64_t z = random->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

unsigned sim_pick(SimRandom *random, unsigned n)
{
    return (unsigned)((sim_random(random) >> 32) * n >> 32);
}

bool sim_once_in(SimRandom *random, unsigned n)
{
    return sim_pick(random, n) == 0;
}

void sim_begin(Sim *sim, uint64_t seed, SimMutant mutant, bool tell)
{
    static const uint8_t partition[LPM_RECORD_ID_SIZE] = {7};
    static const unsigned rates[] = {16, 30, 60, 120, 250, 1000000};
    memset(sim, 0, sizeof *sim);
    sim->random.state = seed;
    sim->mutant = mutant;
    sim->tell = tell;
    sim->newest = 1;
    sim->stream.link = true;
    sim->inactive = sim_once_in(&sim->random, 16);
    sim->excused = sim->inactive;
    sim->liar = sim_once_in(&sim->random, 6);
    sim->moves_wanted = 1 + sim_pick(&sim->random, 3);
    sim->fault_rate = rates[sim_pick(&sim->random, sizeof rates / sizeof *rates)];
    sim->faults = 1 + sim_pick(&sim->random, 6);
    lpm_record_first(partition, sim_names[0], 0, &sim->record);
    for (unsigned h = 0; h < SIM_HOSTS; h++) {
        sim->reachable[h] = true;
        sim->host[h].machine = sim->host[h].up = true;
    }
    sim->host[0].profile = true;
    if (!sim->inactive) {
        sim->qemu[0] = (SimQemu){.state = SIM_Q_RUNNING, .version = 1};
    }
}

/* Somebody's turn. */
static void sim_turn(Sim *sim)
{
    unsigned who = sim_pick(&sim->random, 16);
    if (who < 4) {
        sim_host_step(sim, who & 1);
    } else if (who < 8) {
        sim_qemu_step(sim, who & 1);
    } else if (who < 12) {
        sim_arbiter_step(sim);
    } else if (who < 14) {
        sim_wire_step(sim);
    } else if (who == 14) {
        sim_mover_step(sim);
    } else {
        sim_people_step(sim);
    }
    sim->step++;
    sim_check(sim);
}

static void among_faults(Sim *sim)
{
    unsigned steps = STEPS * sim->moves_wanted;
    while (sim->step < steps && !sim->violation) {
        if (sim->faults > 0 && sim_once_in(&sim->random, sim->fault_rate)) {
            sim->faults--;
            sim_fault(sim);
        }
        if (sim->liar && sim_once_in(&sim->random, LIE_ONCE_IN)) {
            sim_liar(sim);
        }
        if (sim_once_in(&sim->random, HEAL_ONCE_IN)) {
            sim_heal(sim);
        }
        sim_turn(sim);
    }
}

/* No more faults; of the machines that are dead now, one may stay so. */
static void settle(Sim *sim)
{
    unsigned h = sim_pick(&sim->random, SIM_HOSTS);
    sim->settling = true;
    SIM_TELL(sim, "--- no more faults");
    if (!sim->host[h].machine && !sim_once_in(&sim->random, GONE_ONCE_IN)) {
        sim->host[h].gone_for_good = true;
        SIM_TELL(sim, "machine %s stays dead", sim_names[h]);
    }
    unsigned end = sim->step + SETTLE_STEPS;
    while (sim->step < end && !sim->violation) {
        if (sim->step % LOOK_EVERY == 0 && sim_is_settled(sim)) {
            break;
        }
        if (sim_once_in(&sim->random, HEAL_ONCE_IN)) {
            sim_heal(sim);
        }
        sim_turn(sim);
    }
    sim_check_end(sim);
}

const char *sim_run(Sim *sim, uint64_t seed, SimMutant mutant, bool tell)
{
    sim_begin(sim, seed, mutant, tell);
    among_faults(sim);
    if (!sim->violation) {
        settle(sim);
    }
    if (sim->violation && tell) {
        sim_tell_state(sim);
    }
    return sim->violation;
}
