/* SPDX-License-Identifier: Apache-2.0 */
/* The source's lpm-host, after src/host/mobility-src.c and mobility-src-rows.c. */
#include "sim.h"

#include <string.h>

enum { STEP_ONCE_IN = 2, LIMIT_ONCE_IN = 150, SOON_ONCE_IN = 20, QUICK_ONCE_IN = 2 };

/* --- while nothing is wrong --- */

static void offer(Sim *sim, unsigned h)
{
    sim->host[h].offering = true;
    sim_host_swap(sim, h, LPM_RECORD_OFFER, LPM_RECORD_BY_OWNER);
}

static void planned(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    SimStream *stream = &sim->stream;
    if (!host->active) {
        if (!sim_host_journal(sim, h, LPM_MOB_EV_OFFER_NOW)) {
            sim_host_trouble(sim, h);
        }
        return;
    }
    if (stream->mover[1 - h] && stream->link) {
        stream->mover[h] = true;
        stream->connected = true;
        SIM_TELL(sim, "the movers are connected");
        if (!sim_host_journal(sim, h, LPM_MOB_EV_CONNECTED)) {
            sim_host_trouble(sim, h);
        }
    }
}

/* The arbiter has just answered, or is asked now. */
static void ready_to_switch(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    if (!host->known) {
        sim_host_trouble(sim, h);
    } else if (!host->fresh && !sim_once_in(&sim->random, QUICK_ONCE_IN)) {
        host->fresh = true; /* what this read will tell */
        if (sim_arbiter_read(sim, h)) {
            host->pc = SIM_PC_READ;
        } else {
            sim_host_trouble(sim, h);
        }
    } else if (sim_host_view(sim, h) != LPM_MOB_REC_SOURCE) {
        sim_host_trouble(sim, h);
    } else {
        host->told = false; /* migrate-continue was sent, too */
        host->fresh = false;
        host->ticket = ++sim->tickets;
        sim_qemu_command(sim, h, SIM_CMD_CONTINUE);
        if (!sim_host_journal(sim, h, LPM_MOB_EV_READY)) {
            sim_host_trouble(sim, h);
        }
    }
}

static void post(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    if (sim->mutant == SIM_MUTANT_NO_POST) {
        host->journal = LPM_MOB_SRC_POST;
    } else if (!sim_host_journal(sim, h, LPM_MOB_EV_QEMU_DONE)) {
        sim_host_trouble(sim, h);
    }
}

static void copying(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    SimQemu *qemu = &sim->qemu[h];
    switch (qemu->state) {
    case SIM_Q_RUNNING:
        if (host->journal == LPM_MOB_SRC_PRECOPY && !host->told) {
            host->told = true;
            qemu->migrating = true;
        } else if (!qemu->migrating) {
            sim_host_trouble(sim, h);
        }
        break;
    case SIM_Q_PRE:
        if (host->journal == LPM_MOB_SRC_PRECOPY) {
            ready_to_switch(sim, h);
        }
        break;
    case SIM_Q_DONE:
        if (qemu->failed) {
            sim_host_trouble(sim, h);
        } else {
            post(sim, h);
        }
        break;
    case SIM_Q_SERVING:
    case SIM_Q_GIVEN:
        host->postcopy = true;
        post(sim, h);
        break;
    case SIM_Q_DEVICE:
        break;
    case SIM_Q_NONE:
    case SIM_Q_INCOMING:
    case SIM_Q_LOADING:
    case SIM_Q_LOADED:
    case SIM_Q_HALF:
    case SIM_Q_FILLING:
    case SIM_Q_N:
        sim_host_trouble(sim, h);
        break;
    }
}

void sim_source_go_on(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    const SimQemu *qemu = &sim->qemu[h];
    if (!sim_once_in(&sim->random, STEP_ONCE_IN)) {
        return;
    }
    bool late = qemu->state != SIM_Q_RUNNING || host->journal == LPM_MOB_SRC_PLANNED;
    bool dead = host->active && (qemu->state == SIM_Q_NONE || qemu->hung);
    if ((dead && !qemu->hung) ||
        (late && sim_once_in(&sim->random, sim->settling ? SOON_ONCE_IN : LIMIT_ONCE_IN))) {
        sim_host_trouble(sim, h);
    } else if (dead) {
        return;
    } else if (host->journal == LPM_MOB_SRC_PLANNED) {
        planned(sim, h);
    } else if (host->journal == LPM_MOB_SRC_POST) {
        if (host->loaded || !host->active) {
            offer(sim, h);
        }
    } else {
        copying(sim, h);
    }
}

void sim_source_hears(Sim *sim, unsigned h, SimWord word)
{
    SimHost *host = &sim->host[h];
    if (word == SIM_SAY_LOADED) {
        host->loaded = true;
    } else if (word == SIM_SAY_WHOLE) {
        host->whole = true;
    } else if (word == SIM_SAY_ABORT) {
        sim_mover_end(sim, h);
        sim_host_mover_gone(sim, h);
    }
}

/* --- what QEMU does --- */

static bool no_longer_needed(const Sim *sim, unsigned h)
{
    const SimHost *host = &sim->host[h];
    uint8_t id[LPM_RECORD_ID_SIZE];
    sim_move_id(host->move, id);
    return sim_host_view(sim, h) == LPM_MOB_REC_TARGET &&
           (host->record.state != LPM_RECORD_RUN || memcmp(host->record.move, id, sizeof id) != 0);
}

static unsigned view_of(const SimQemu *qemu, unsigned journal)
{
    switch (qemu->state) {
    case SIM_Q_RUNNING:
        return qemu->migrating && journal == LPM_MOB_SRC_ABORT ? LPM_MOB_SRC_QEMU_PRE
                                                               : LPM_MOB_SRC_QEMU_RUNNING;
    case SIM_Q_PRE:
        return LPM_MOB_SRC_QEMU_PRE;
    case SIM_Q_DEVICE:
        return LPM_MOB_SRC_QEMU_DEVICE;
    case SIM_Q_SERVING:
        return LPM_MOB_SRC_QEMU_SERVING;
    case SIM_Q_DONE:
    case SIM_Q_GIVEN:
        return LPM_MOB_SRC_QEMU_COMPLETED;
    case SIM_Q_NONE:
        return LPM_MOB_SRC_QEMU_DEAD;
    case SIM_Q_INCOMING:
    case SIM_Q_LOADING:
    case SIM_Q_LOADED:
    case SIM_Q_HALF:
    case SIM_Q_FILLING:
    case SIM_Q_N:
        break;
    }
    return LPM_MOB_SRC_QEMU_UNSURE;
}

unsigned sim_source_sees(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    const SimQemu *qemu = &sim->qemu[h];
    unsigned view = view_of(qemu, host->journal);
    if (!host->active) {
        return host->journal == LPM_MOB_SRC_ABORT ? LPM_MOB_SRC_QEMU_RUNNING
                                                  : LPM_MOB_SRC_QEMU_COMPLETED;
    }
    if (qemu->hung && view != LPM_MOB_SRC_QEMU_DEAD) {
        bool serves = host->postcopy && !host->given && sim_host_view(sim, h) != LPM_MOB_REC_BACK;
        view = serves ? LPM_MOB_SRC_QEMU_SERVING : LPM_MOB_SRC_QEMU_UNSURE;
    } else {
        host->postcopy |= view == LPM_MOB_SRC_QEMU_SERVING;
        host->given |= qemu->state == SIM_Q_GIVEN;
        if (host->postcopy && host->given && !host->whole && sim->stream.mover[h] &&
            sim_host_view(sim, h) != LPM_MOB_REC_BACK) {
            view = LPM_MOB_SRC_QEMU_SERVING; /* the target's word must not be cut off */
        }
    }
    bool over = view == LPM_MOB_SRC_QEMU_SERVING && no_longer_needed(sim, h);
    return over ? (unsigned)LPM_MOB_SRC_QEMU_COMPLETED : view;
}

/* --- actions --- */

/* Before post the mover is ended even when nothing can be written. */
static bool write_abort(Sim *sim, unsigned h)
{
    const SimHost *host = &sim->host[h];
    bool written = host->journal == LPM_MOB_SRC_ABORT || sim_host_journal(sim, h, LPM_MOB_EV_ABORT);
    if (written || host->journal < LPM_MOB_SRC_POST) {
        sim_say(sim, h, SIM_SAY_ABORT);
        sim_mover_end(sim, h);
    }
    return written;
}

static void do_cancel(Sim *sim, unsigned h)
{
    (void)write_abort(sim, h);
    sim_host_command(sim, h, SIM_CMD_CANCEL);
}

static void do_yank(Sim *sim, unsigned h)
{
    if (sim->mutant == SIM_MUTANT_QUEUED_CONT) { /* "it did not help, so nothing has happened" */
        sim_qemu_command(sim, h, SIM_CMD_CONT);
        sim->host[h].rows = false;
        sim_host_next(sim, h, false);
        return;
    }
    (void)write_abort(sim, h);
    sim_qemu_yank(sim, h);
    sim_host_next(sim, h, false);
}

static void do_stayed(Sim *sim, unsigned h)
{
    sim_mover_end(sim, h);
    (void)sim_host_cleaned(sim, h, false);
    sim_host_next(sim, h, false);
}

static void do_back(Sim *sim, unsigned h)
{
    const SimHost *host = &sim->host[h];
    bool settled = sim_host_view(sim, h) == LPM_MOB_REC_SOURCE;
    if (sim->mutant == SIM_MUTANT_NO_SWAP && host->journal == LPM_MOB_SRC_POST) {
        sim_host_command(sim, h, SIM_CMD_CONT);
    } else if (sim->mutant == SIM_MUTANT_NO_BACK && settled && sim->qemu[h].state == SIM_Q_DONE) {
        sim_host_command(sim, h, SIM_CMD_CONT);
    } else if (sim->mutant == SIM_MUTANT_NO_BACK && settled) {
        do_stayed(sim, h);
    } else {
        sim_host_swap(sim, h, LPM_RECORD_BACK, LPM_RECORD_BY_OWNER);
    }
}

static void do_left(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    if (host->postcopy && !host->given) {
        sim_say(sim, h, SIM_SAY_MEMORY_LOST);
    }
    sim_qemu_end(sim, h);
    host->pc = SIM_PC_END;
}

void sim_source_ended(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    if (host->row->action == LPM_MOB_SRC_DO_LOST) {
        do_stayed(sim, h);
        return;
    }
    if (host->profile) { /* a step of its own */
        host->profile = false;
        SIM_TELL(sim, "%s forgets the partition", sim_names[h]);
        return;
    }
    sim_say(sim, h, SIM_SAY_CLOSED);
    sim_mover_end(sim, h);
    (void)sim_host_cleaned(sim, h, true);
}

/* A rule that is broken on purpose: QEMU is ended before the record says RUN. */
bool sim_source_ends_early(Sim *sim, unsigned h)
{
    const SimHost *host = &sim->host[h];
    LpmMobRecordView view = sim_host_view(sim, h);
    bool early = (sim->mutant == SIM_MUTANT_ENDED_AT_OFFER && view == LPM_MOB_REC_OFFER) ||
                 (sim->mutant == SIM_MUTANT_ENDED_AT_TAKEN && view == LPM_MOB_REC_TAKEN);
    if (!early || !host->active || sim->qemu[h].state == SIM_Q_NONE) {
        return false;
    }
    sim_qemu_end(sim, h);
    return true;
}

void sim_source_act(Sim *sim, unsigned h, const LpmMobRow *row)
{
    SimHost *host = &sim->host[h];
    switch ((LpmMobSrcAction)row->action) {
    case LPM_MOB_SRC_DO_CANCEL:
        do_cancel(sim, h);
        break;
    case LPM_MOB_SRC_DO_YANK:
        do_yank(sim, h);
        break;
    case LPM_MOB_SRC_DO_ABORT:
        (void)write_abort(sim, h);
        sim_host_next(sim, h, true);
        break;
    case LPM_MOB_SRC_DO_OFFER:
        offer(sim, h);
        break;
    case LPM_MOB_SRC_DO_BACK:
        do_back(sim, h);
        break;
    case LPM_MOB_SRC_DO_CONT:
        sim_host_command(sim, h, SIM_CMD_CONT);
        break;
    case LPM_MOB_SRC_DO_STAYED:
        do_stayed(sim, h);
        break;
    case LPM_MOB_SRC_DO_POST:
        post(sim, h);
        sim_host_next(sim, h, true);
        break;
    case LPM_MOB_SRC_DO_LOST:
        sim_qemu_end(sim, h);
        host->pc = SIM_PC_END;
        break;
    case LPM_MOB_SRC_DO_LEFT:
        do_left(sim, h);
        break;
    case LPM_MOB_SRC_DO_WAIT:
    case LPM_MOB_SRC_DO_NOTHING:
    case LPM_MOB_SRC_DO_REPORT:
    case LPM_MOB_SRC_DO_N:
        sim_host_next(sim, h, false);
        break;
    }
}

/* Whoever offers tells the target, and follows the rows from here on. */
void sim_source_swapped(Sim *sim, unsigned h, bool won)
{
    SimHost *host = &sim->host[h];
    if (won && sim_host_view(sim, h) == LPM_MOB_REC_OFFER) {
        sim_say(sim, h, SIM_SAY_OFFER);
    }
    host->rows = true;
}
