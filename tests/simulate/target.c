/* SPDX-License-Identifier: Apache-2.0 */
/* The target's lpm-host, after src/host/mobility-dst.c, -dst-rows.c and -dst-postcopy.c. */
#include "sim.h"

enum { STEP_ONCE_IN = 2 };

/* --- while nothing is wrong --- */

static void loaded(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    if (!sim_host_journal(sim, h, LPM_MOB_EV_LOADED)) {
        sim_host_trouble(sim, h);
        return;
    }
    host->loaded = true;
    sim_say(sim, h, SIM_SAY_LOADED);
    host->rows = true;
}

void sim_target_go_on(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    const SimQemu *qemu = &sim->qemu[h];
    if (!sim_once_in(&sim->random, STEP_ONCE_IN) || qemu->hung) {
        return;
    }
    if (!host->active) {
        loaded(sim, h);
        return;
    }
    if (!host->started) {
        host->runtime = true;
        host->started = true;
        sim_qemu_incoming(sim, h);
        sim->stream.mover[h] = true;
        SIM_TELL(sim, "%s has started QEMU and its mover", sim_names[h]);
        return;
    }
    if (qemu->state == SIM_Q_NONE || !sim->stream.mover[h]) {
        sim_host_trouble(sim, h);
    } else if (qemu->state == SIM_Q_LOADED) {
        loaded(sim, h);
    } else if (qemu->state == SIM_Q_HALF) {
        host->postcopy = true;
        loaded(sim, h);
    }
}

/* --- words --- */

static void believe_offer(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    uint8_t id[LPM_RECORD_ID_SIZE];
    LpmRecord offer;
    sim_move_id(host->move, id);
    if (sim_host_view(sim, h) == LPM_MOB_REC_SOURCE &&
        lpm_record_next(&host->record, LPM_RECORD_OFFER, LPM_RECORD_BY_OWNER, id, sim_names[h],
                        host->record.changed_us, &offer)) {
        SIM_TELL(sim, "%s believes the offer", sim_names[h]);
        host->record = offer;
        host->fresh = true;
        host->believed = true;
    }
}

void sim_target_lost(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    if (!host->lost) {
        host->lost = true;
        SIM_TELL(sim, "%s: memory is lost", sim_names[h]);
        sim_qemu_end(sim, h);
    }
}

void sim_target_hears(Sim *sim, unsigned h, SimWord word)
{
    SimHost *host = &sim->host[h];
    if (word == SIM_SAY_OFFER && host->rows) {
        believe_offer(sim, h);
    } else if (word == SIM_SAY_MEMORY_LOST && host->postcopy && !sim->qemu[h].filled) {
        sim_target_lost(sim, h);
    } else if (word == SIM_SAY_CLOSED) {
        host->closed = true;
    } else if (word == SIM_SAY_ABORT) {
        sim_mover_end(sim, h);
        sim_host_mover_gone(sim, h);
    }
}

/* --- what QEMU does --- */

static bool ran_here(const SimHost *host)
{
    return host->runs || host->journal == LPM_MOB_DST_RUNNING;
}

static unsigned view_of(const Sim *sim, unsigned h)
{
    const SimHost *host = &sim->host[h];
    const SimQemu *qemu = &sim->qemu[h];
    switch (qemu->state) {
    case SIM_Q_NONE:
        return LPM_MOB_DST_QEMU_DEAD;
    case SIM_Q_LOADED:
        return ran_here(host) ? LPM_MOB_DST_QEMU_RUNNING : LPM_MOB_DST_QEMU_PAUSED;
    case SIM_Q_HALF:
        return qemu->filled     ? LPM_MOB_DST_QEMU_PAUSED
               : ran_here(host) ? LPM_MOB_DST_QEMU_FILLING
                                : LPM_MOB_DST_QEMU_HALF;
    case SIM_Q_FILLING:
        return LPM_MOB_DST_QEMU_FILLING;
    case SIM_Q_INCOMING:
    case SIM_Q_LOADING:
        return LPM_MOB_DST_QEMU_INCOMING;
    case SIM_Q_RUNNING:
        return LPM_MOB_DST_QEMU_RUNNING;
    case SIM_Q_PRE:
    case SIM_Q_DEVICE:
    case SIM_Q_DONE:
    case SIM_Q_SERVING:
    case SIM_Q_GIVEN:
    case SIM_Q_N:
        break;
    }
    return LPM_MOB_DST_QEMU_UNSURE;
}

/* All is here, and the source has still to hear it. */
static bool awaits_source(const Sim *sim, unsigned h)
{
    const SimHost *host = &sim->host[h];
    return host->postcopy && sim->qemu[h].filled && !host->closed && sim->stream.mover[h];
}

unsigned sim_target_sees(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    const SimQemu *qemu = &sim->qemu[h];
    unsigned view = view_of(sim, h);
    if (!host->active) {
        return host->journal >= LPM_MOB_DST_INTENT ? LPM_MOB_DST_QEMU_RUNNING
                                                   : LPM_MOB_DST_QEMU_PAUSED;
    }
    if (view == LPM_MOB_DST_QEMU_DEAD) {
        return view;
    }
    if (host->runs || host->loaded) { /* known without a question */
        return host->postcopy && !host->runs ? LPM_MOB_DST_QEMU_HALF
               : host->postcopy && (!qemu->filled || awaits_source(sim, h))
                   ? LPM_MOB_DST_QEMU_FILLING
               : host->runs ? LPM_MOB_DST_QEMU_RUNNING
                            : LPM_MOB_DST_QEMU_PAUSED;
    }
    if (qemu->hung) {
        return host->postcopy && ran_here(host) && !qemu->filled ? LPM_MOB_DST_QEMU_FILLING
                                                                 : LPM_MOB_DST_QEMU_UNSURE;
    }
    host->postcopy |= view == LPM_MOB_DST_QEMU_HALF || view == LPM_MOB_DST_QEMU_FILLING;
    host->runs |= host->postcopy && view == LPM_MOB_DST_QEMU_FILLING;
    bool waits = ran_here(host) && awaits_source(sim, h);
    return waits ? (unsigned)LPM_MOB_DST_QEMU_FILLING : view;
}

/* --- actions --- */

static void do_loaded(Sim *sim, unsigned h)
{
    sim->host[h].postcopy = true;
    if (sim_host_journal(sim, h, LPM_MOB_EV_LOADED)) {
        sim_say(sim, h, SIM_SAY_LOADED);
    }
    sim_host_next(sim, h, true);
}

/* Where it cannot be written it never runs here: its QEMU is ended first. */
static void intent_unwritten(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    if (sim->mutant == SIM_MUTANT_RETURN_ALIVE || !host->active) {
        sim_host_swap(sim, h, LPM_RECORD_BACK, LPM_RECORD_BY_PEER);
        return;
    }
    if (!host->postcopy) {
        host->loaded = false;
        sim_qemu_end(sim, h);
    }
    sim_host_next(sim, h, true);
}

static void do_intent(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    if (sim->mutant == SIM_MUTANT_NO_INTENT) {
        host->journal = LPM_MOB_DST_INTENT;
    } else if (!sim_host_journal(sim, h, LPM_MOB_EV_TAKEN)) {
        intent_unwritten(sim, h);
        return;
    }
    host->fresh = true;
    sim_host_next(sim, h, true);
}

static void do_running(Sim *sim, unsigned h)
{
    sim->host[h].fresh = sim_host_journal(sim, h, LPM_MOB_EV_RUNS);
    sim_host_next(sim, h, true);
}

/* Never from an offer that nobody has read. */
static void do_refuse(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    if (host->believed && sim->mutant != SIM_MUTANT_REFUSE_BELIEVED) {
        host->known = false;
        host->fresh = false;
        sim_host_next(sim, h, true);
        return;
    }
    sim_host_swap(sim, h, LPM_RECORD_BACK, LPM_RECORD_BY_PEER);
}

static void do_discard(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    host->loaded = false;
    sim_say(sim, h, SIM_SAY_ABORT);
    sim_mover_end(sim, h);
    sim_qemu_end(sim, h);
    host->pc = SIM_PC_END;
}

static bool must_tell_source(const Sim *sim, unsigned h)
{
    const SimHost *host = &sim->host[h];
    bool heard = host->closed || sim->mutant == SIM_MUTANT_NO_RELEASE;
    return host->postcopy && !(sim->qemu[h].filled && heard) && host->known &&
           host->record.state == LPM_RECORD_RUN;
}

static void do_arrived(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    if (must_tell_source(sim, h)) {
        sim_host_swap(sim, h, LPM_RECORD_BACK, LPM_RECORD_BY_OWNER);
        return;
    }
    if (!host->profile) { /* a step of its own */
        host->profile = true;
        SIM_TELL(sim, "%s keeps the partition", sim_names[h]);
        return;
    }
    sim_mover_end(sim, h);
    (void)sim_host_cleaned(sim, h, true);
    sim_host_next(sim, h, false);
}

void sim_target_ended(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    if (host->profile) {
        host->profile = false;
        return;
    }
    (void)sim_host_cleaned(sim, h, false);
}

/* Asked for by force, or after a minute without an offer: only while the record is the source's. */
static bool discard_by_force(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    bool early =
        host->journal == LPM_MOB_DST_PREPARED ||
        (host->journal == LPM_MOB_DST_LOADED && sim_host_view(sim, h) == LPM_MOB_REC_SOURCE);
    bool may = host->forced && early;
    host->forced = false;
    if (may) {
        do_discard(sim, h);
    }
    return may;
}

void sim_target_look(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    if (host->postcopy && sim->qemu[h].filled && !host->told && sim->stream.mover[h]) {
        host->told = true;
        sim_say(sim, h, SIM_SAY_WHOLE);
    }
    if (!discard_by_force(sim, h)) {
        sim_host_decide(sim, h);
    }
}

void sim_target_act(Sim *sim, unsigned h, const LpmMobRow *row)
{
    switch ((LpmMobDstAction)row->action) {
    case LPM_MOB_DST_DO_LOADED:
        do_loaded(sim, h);
        break;
    case LPM_MOB_DST_DO_TAKE:
        sim_host_swap(sim, h, LPM_RECORD_TAKEN, LPM_RECORD_BY_PEER);
        break;
    case LPM_MOB_DST_DO_REFUSE:
        do_refuse(sim, h);
        break;
    case LPM_MOB_DST_DO_RETURN:
        sim_host_swap(sim, h, LPM_RECORD_BACK, LPM_RECORD_BY_PEER);
        break;
    case LPM_MOB_DST_DO_INTENT:
        do_intent(sim, h);
        break;
    case LPM_MOB_DST_DO_CONT:
        sim_host_command(sim, h, SIM_CMD_CONT);
        break;
    case LPM_MOB_DST_DO_RUNNING:
        do_running(sim, h);
        break;
    case LPM_MOB_DST_DO_OWN:
        sim_host_swap(sim, h, LPM_RECORD_RUN, LPM_RECORD_BY_PEER);
        break;
    case LPM_MOB_DST_DO_DISCARD:
        do_discard(sim, h);
        break;
    case LPM_MOB_DST_DO_ARRIVED:
        do_arrived(sim, h);
        break;
    case LPM_MOB_DST_DO_WAIT:
    case LPM_MOB_DST_DO_NOTHING:
    case LPM_MOB_DST_DO_REPORT:
    case LPM_MOB_DST_DO_N:
        sim_host_next(sim, h, false);
        break;
    }
}

/* The source is told; the record says it in any case. */
void sim_target_swapped(Sim *sim, unsigned h, bool won)
{
    if (won && sim->host[h].record.state != LPM_RECORD_TAKEN) {
        sim_say(sim, h, SIM_SAY_LOOK);
    }
    sim->host[h].rows = true;
}
