/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both halves have in common, after src/host/look.c: read the record, ask QEMU, take the one
 * row that applies, look again. Each call to the arbiter, to QEMU and to the database is a step of
 * its own, so that everything else can happen in between.
 */
#include "sim.h"

#include <string.h>

enum { TIME_OUT_ONCE_IN = 24, LOOK_ONCE_IN = 2 };

const char *const sim_names[SIM_HOSTS] = {"a", "b"};

void sim_move_id(uint8_t move, uint8_t out[LPM_RECORD_ID_SIZE])
{
    memset(out, 0, LPM_RECORD_ID_SIZE);
    out[0] = 1;
    out[LPM_RECORD_ID_SIZE - 1] = move;
}

bool sim_host_is_open(const SimHost *host)
{
    return host->is_target
               ? host->journal != LPM_MOB_DST_NONE && host->journal != LPM_MOB_DST_CLEANED
               : host->journal != LPM_MOB_SRC_NONE && host->journal != LPM_MOB_SRC_CLEANED;
}

bool sim_host_is_off_course(const SimHost *host)
{
    return host->rows || !sim_host_is_open(host);
}

/* --- what it knows of the record --- */

LpmMobRecordView sim_host_view(const Sim *sim, unsigned h)
{
    const SimHost *host = &sim->host[h];
    uint8_t id[LPM_RECORD_ID_SIZE];
    sim_move_id(host->move, id);
    unsigned source = host->is_target ? 1 - h : h;
    LpmRecordHalf half = {
        .side = host->is_target ? LPM_MOB_DST : LPM_MOB_SRC,
        .source = sim_names[source],
        .target = sim->mutant == SIM_MUTANT_THIRD ? sim->record.owner : sim_names[1 - source],
        .move = id,
        .revision = host->base_revision,
        .epoch = host->base_epoch,
    };
    return lpm_record_view_at(host->known ? &host->record : NULL, &half);
}

static void note_record(SimHost *host, const LpmRecord *now)
{
    if (now && host->known && now->revision < host->record.revision) {
        return;
    }
    host->known = now != NULL;
    host->believed = false;
    if (now) {
        host->record = *now;
    }
}

void sim_host_read_answered(Sim *sim, unsigned h, const LpmRecord *record)
{
    SimHost *host = &sim->host[h];
    note_record(host, record);
    host->pc = host->rows ? SIM_PC_LOOK : SIM_PC_IDLE;
}

/* An offer that was only believed has a higher revision than the record which a lost swap tells. */
static void note_swap(SimHost *host, bool known, bool won, const LpmRecord *record)
{
    if (known && !won && record->revision < host->record.revision) {
        host->known = false;
    }
    note_record(host, record);
    host->fresh = known;
}

void sim_host_overtaken(Sim *sim, unsigned h, bool won, const LpmRecord *record)
{
    SimHost *host = &sim->host[h];
    if (!sim_host_is_open(host)) {
        return;
    }
    note_swap(host, true, won, record);
    if (won && record->state == LPM_RECORD_OFFER && !host->is_target) {
        sim_say(sim, h, SIM_SAY_OFFER);
    }
}

void sim_host_swap_answered(Sim *sim, unsigned h, bool known, bool won, const LpmRecord *record)
{
    SimHost *host = &sim->host[h];
    note_swap(host, known, won, record);
    sim_host_next(sim, h, known);
    (host->is_target ? sim_target_swapped : sim_source_swapped)(sim, h, won);
}

void sim_host_swap(Sim *sim, unsigned h, LpmRecordState to, LpmRecordBy by)
{
    SimHost *host = &sim->host[h];
    uint8_t id[LPM_RECORD_ID_SIZE];
    LpmRecord next;
    sim_move_id(host->move, id);
    if (!host->known ||
        !lpm_record_next(&host->record, to, by, id, sim_names[1 - h], sim->step, &next)) {
        sim_host_next(sim, h, true);
        return;
    }
    host->pc = SIM_PC_SWAP;
    sim_arbiter_swap(sim, h, &next);
}

/* --- the journal --- */

static bool write_entry(Sim *sim, unsigned h, unsigned to)
{
    SimHost *host = &sim->host[h];
    LpmMobMachine machine = host->is_target ? LPM_MOB_DST : LPM_MOB_SRC;
    if (host->disk_full) {
        SIM_TELL(sim, "%s cannot write its journal", sim_names[h]);
        return false;
    }
    host->journal = (uint8_t)to;
    host->durable = (uint8_t)to;
    host->postcopy_durable = host->postcopy;
    SIM_TELL(sim, "%s writes \"%s\"", sim_names[h], lpm_mob_state_name(machine, to));
    return true;
}

bool sim_host_journal(Sim *sim, unsigned h, LpmMobEvent event)
{
    SimHost *host = &sim->host[h];
    unsigned to = 0;
    if (!lpm_mob_step(host->is_target ? LPM_MOB_DST : LPM_MOB_SRC, host->journal, event, &to)) {
        sim_violate(sim, "a journal was to take an edge that does not exist");
        return false;
    }
    return write_entry(sim, h, to);
}

bool sim_host_cleaned(Sim *sim, unsigned h, bool completed)
{
    SimHost *host = &sim->host[h];
    if (!sim_host_journal(sim, h, LPM_MOB_EV_CLEAN)) {
        return false;
    }
    host->completed = completed;
    host->attached = false;
    host->pc = SIM_PC_IDLE;
    SIM_TELL(sim, "  (%s)", completed ? "completed" : "aborted");
    return true;
}

/* --- QEMU --- */

void sim_host_command(Sim *sim, unsigned h, SimCommand command)
{
    SimHost *host = &sim->host[h];
    host->ticket = ++sim->tickets;
    host->pc = SIM_PC_COMMAND;
    sim_qemu_command(sim, h, command);
}

void sim_host_command_answered(Sim *sim, unsigned h, bool good)
{
    SimHost *host = &sim->host[h];
    bool cont = host->rows && host->row &&
                host->row->action == (host->is_target ? (unsigned)LPM_MOB_DST_DO_CONT
                                                      : (unsigned)LPM_MOB_SRC_DO_CONT);
    host->ticket = ++sim->tickets; /* later answers are not heard */
    if (cont && good) {
        host->fresh = true;
        host->runs = host->is_target;
    } else if (host->is_target) {
        host->loaded = false; /* ask QEMU itself */
    }
    sim_host_next(sim, h, good);
}

/* --- the loop --- */

/* @now is only a hint: the generator may let other things happen first in any case. */
void sim_host_next(Sim *sim, unsigned h, bool now)
{
    (void)now;
    sim->host[h].pc = SIM_PC_IDLE;
}

void sim_host_trouble(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    if (sim_host_is_open(host) && !host->rows) {
        host->rows = true;
        host->pc = SIM_PC_IDLE;
        SIM_TELL(sim, "%s: something is wrong, the rows decide", sim_names[h]);
    }
}

static void begin_look(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    bool ours = !host->is_target && host->journal < LPM_MOB_SRC_POST &&
                sim_host_view(sim, h) == LPM_MOB_REC_SOURCE;
    if (host->fresh || ours) {
        host->fresh = false;
        host->pc = SIM_PC_LOOK;
    } else if (sim_arbiter_read(sim, h)) {
        host->pc = SIM_PC_READ;
    } else {
        sim_host_read_answered(sim, h, NULL);
    }
}

void sim_host_recover(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    if (host->up && host->pc == SIM_PC_IDLE) {
        if (!sim_host_is_open(host)) {
            host->known = false;
            host->fresh = false;
        }
        host->rows = true;
        begin_look(sim, h);
    }
}

void sim_host_decide(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    LpmMobRecordView view = sim_host_view(sim, h);
    LpmMobMachine machine = host->is_target ? LPM_MOB_DST : LPM_MOB_SRC;
    if (!host->is_target && sim_source_ends_early(sim, h)) {
        sim_host_next(sim, h, true);
        return;
    }
    unsigned qemu = host->is_target ? sim_target_sees(sim, h) : sim_source_sees(sim, h);
    const LpmMobRow *row =
        host->is_target
            ? lpm_mob_dst_decide((LpmMobDstJournal)host->journal, view, (LpmMobDstQemu)qemu)
            : lpm_mob_src_decide((LpmMobSrcJournal)host->journal, view, (LpmMobSrcQemu)qemu);
    unsigned wait = host->is_target ? (unsigned)LPM_MOB_DST_DO_WAIT : (unsigned)LPM_MOB_SRC_DO_WAIT;
    unsigned nothing =
        host->is_target ? (unsigned)LPM_MOB_DST_DO_NOTHING : (unsigned)LPM_MOB_SRC_DO_NOTHING;
    unsigned report =
        host->is_target ? (unsigned)LPM_MOB_DST_DO_REPORT : (unsigned)LPM_MOB_SRC_DO_REPORT;
    if (row != host->row && row->action != nothing) {
        SIM_TELL(sim, "%s: journal %s, record %s, QEMU %s: %s", sim_names[h],
                 lpm_mob_state_name(machine, host->journal), lpm_mob_record_view_name(view),
                 lpm_mob_qemu_name(machine, qemu), lpm_mob_action_text(machine, row->action));
    }
    host->row = row;
    host->pc = SIM_PC_ACT;
    sim_count_row(machine, row);
    if (row->action == report) {
        sim_violate(sim, "a row of \"cannot be\" applied");
    }
    if (row->action == wait || row->action == nothing || row->action == report ||
        (row->patient && !host->patient)) {
        sim_host_next(sim, h, false);
    }
}

/* A question to QEMU is answered after what this lpm-host has told it before. */
static bool answer_is_due(const Sim *sim, unsigned h)
{
    const SimQemu *qemu = &sim->qemu[h];
    for (unsigned i = 0; i < qemu->queued; i++) {
        if (qemu->queue[i].ticket > sim->host[h].first_ticket && !qemu->hung &&
            qemu->state != SIM_Q_DEVICE) {
            return false;
        }
    }
    return true;
}

static void wait_for_answer(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    SimPc pc = host->pc;
    if (!sim_once_in(&sim->random, TIME_OUT_ONCE_IN)) {
        return;
    }
    SIM_TELL(sim, "%s: time-out", sim_names[h]);
    sim_arbiter_timed_out(sim, h);
    host->ticket = ++sim->tickets;
    if (pc == SIM_PC_READ) {
        sim_host_read_answered(sim, h, NULL);
    } else if (pc == SIM_PC_SWAP) {
        sim_host_swap_answered(sim, h, false, false, NULL);
    } else {
        sim_host_command_answered(sim, h, false);
    }
}

void sim_host_step(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    if (!host->up || (host->pc == SIM_PC_IDLE && !sim_host_is_open(host))) {
        return;
    }
    switch (host->pc) {
    case SIM_PC_IDLE:
        if (!host->rows) {
            (host->is_target ? sim_target_go_on : sim_source_go_on)(sim, h);
        } else if (sim_once_in(&sim->random, LOOK_ONCE_IN)) {
            begin_look(sim, h);
        }
        break;
    case SIM_PC_READ:
    case SIM_PC_SWAP:
    case SIM_PC_COMMAND:
        wait_for_answer(sim, h);
        break;
    case SIM_PC_LOOK:
        if (!answer_is_due(sim, h)) {
            break;
        }
        (host->is_target ? sim_target_look : sim_host_decide)(sim, h);
        break;
    case SIM_PC_ACT:
        (host->is_target ? sim_target_act : sim_source_act)(sim, h, host->row);
        break;
    case SIM_PC_END:
        (host->is_target ? sim_target_ended : sim_source_ended)(sim, h);
        break;
    }
}

/* --- words --- */

void sim_host_hear(Sim *sim, unsigned h, SimWord word)
{
    (sim->host[h].is_target ? sim_target_hears : sim_source_hears)(sim, h, word);
}

void sim_host_mover_gone(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    bool needed = host->is_target ? host->journal < LPM_MOB_DST_INTENT : !host->offering;
    if (needed) {
        sim_host_trouble(sim, h);
    }
}

/* --- life --- */

/* Its mover dies with it; what it has sent stays on its way. */
void sim_host_die(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    if (!host->up) {
        return;
    }
    SIM_TELL(sim, "lpm-host at %s dies", sim_names[h]);
    sim_mover_end(sim, h);
    host->up = false;
}

/* From its database and nothing else. */
void sim_host_start(Sim *sim, unsigned h)
{
    const SimHost old = sim->host[h];
    SimHost *host = &sim->host[h];
    *host = (SimHost){
        .durable = old.durable,
        .journal = old.durable,
        .is_target = old.is_target,
        .active = old.active,
        .postcopy = old.postcopy_durable,
        .postcopy_durable = old.postcopy_durable,
        .completed = old.completed,
        .profile = old.profile,
        .runtime = old.runtime,
        .move = old.move,
        .base_revision = old.base_revision,
        .base_epoch = old.base_epoch,
        .machine = old.machine,
        .disk_full = old.disk_full,
        .up = true,
        .rows = true,
        .started = true,
        .first_ticket = ++sim->tickets,
    };
    host->attached = sim_host_is_open(host);
    SIM_TELL(sim, "lpm-host at %s starts", sim_names[h]);
    if (host->attached && !host->is_target && !host->profile) {
        (void)sim_host_cleaned(sim, h, true); /* forgotten, which is done last */
    }
}
