/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The movers and the words that the two lpm-host say to each other through them. Words get lost,
 * come twice and overtake each other: more than the real wire does, since nothing may depend on
 * them.
 */
#include "sim.h"

enum { LOST_ONCE_IN = 12, DOUBLE_ONCE_IN = 12, CONNECT_ONCE_IN = 40, SOON_ONCE_IN = 4 };

/* Frames of these are sent until they are acknowledged, or a mover ends. */
static bool is_safe(unsigned word)
{
    return word == SIM_SAY_WHOLE || word == SIM_SAY_CLOSED;
}

/* Where there is no room any more, another word gets lost. */
static void post(Sim *sim, unsigned to, SimWord word)
{
    SimLetter *place = NULL;
    for (unsigned i = 0; i < SIM_LETTERS; i++) {
        SimLetter *letter = &sim->letter[i];
        if (!letter->used || (!place && !is_safe(letter->word))) {
            place = letter;
        }
    }
    if (place) {
        *place = (SimLetter){true, (uint8_t)to, (uint8_t)word, sim->move};
    }
}

void sim_say(Sim *sim, unsigned from, SimWord word)
{
    if (!sim->stream.mover[from] || !sim->host[from].up || sim->host[from].move != sim->move) {
        return;
    }
    SIM_TELL(sim, "%s says: %s", sim_names[from], sim_word_name(word));
    if (!sim->settling && !is_safe(word) && sim_once_in(&sim->random, LOST_ONCE_IN)) {
        SIM_TELL(sim, "  (it gets lost)");
        return;
    }
    post(sim, 1 - from, word);
    if (!sim->settling && sim_once_in(&sim->random, DOUBLE_ONCE_IN)) {
        post(sim, 1 - from, word);
    }
}

void sim_lie(Sim *sim, unsigned h, SimWord word)
{
    SIM_TELL(sim, "a lie is on its way to %s: %s", sim_names[h], sim_word_name(word));
    post(sim, h, word);
}

/* A word of a mover that has died may still arrive; one for a mover that has died does not. */
void sim_wire_step(Sim *sim)
{
    SimLetter *letter = &sim->letter[sim_pick(&sim->random, SIM_LETTERS)];
    if (!letter->used || !sim->stream.link) {
        return;
    }
    SimLetter read = *letter;
    letter->used = false;
    const SimHost *host = &sim->host[read.to];
    if (!host->up || !sim->stream.mover[read.to] || read.move != host->move ||
        !sim_host_is_open(host)) {
        return;
    }
    SIM_TELL(sim, "%s hears: %s", sim_names[read.to], sim_word_name((SimWord)read.word));
    sim_host_hear(sim, read.to, (SimWord)read.word);
}

void sim_mover_end(Sim *sim, unsigned h)
{
    if (sim->stream.mover[h]) {
        sim->stream.mover[h] = false;
        SIM_TELL(sim, "mover at %s ends", sim_names[h]);
    }
}

static bool is_of_this_move(const Sim *sim, const SimHost *host)
{
    return host->up && host->move == sim->move && sim_host_is_open(host);
}

/* A mover whose peer has gone finds out, and ends; its lpm-host is told. */
void sim_mover_step(Sim *sim)
{
    unsigned h = sim_pick(&sim->random, SIM_HOSTS);
    if (!sim->stream.mover[h] || sim->stream.mover[1 - h] ||
        (!sim->stream.connected &&
         !sim_once_in(&sim->random, sim->settling ? SOON_ONCE_IN : CONNECT_ONCE_IN))) {
        return;
    }
    sim_mover_end(sim, h);
    if (is_of_this_move(sim, &sim->host[h])) {
        sim_host_mover_gone(sim, h);
    }
}
