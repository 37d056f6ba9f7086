/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console, which begins moves, connects a post-copy again and asks for recovery; the operator,
 * who stops moves, gives the word where its precondition holds, and starts a partition again; and
 * other moves of the same partition, with a third system.
 */
#include "sim.h"

#include <string.h>

enum {
    THIRD_MOVE = 100,
    PATIENCE_ONCE_IN = 40,
    RECOVER_ONCE_IN = 40,
    STOP_ONCE_IN = 400,
    WORD_ONCE_IN = 30,
    THIRD_ONCE_IN = 60,
};

static bool owns(const Sim *sim, unsigned h)
{
    return lpm_record_settled(sim->record.state) && strcmp(sim->record.owner, sim_names[h]) == 0;
}

/* Up, and not in a move. */
static bool is_free(const Sim *sim, unsigned h)
{
    return sim->host[h].up && !sim_host_is_open(&sim->host[h]) && sim->host[h].pc == SIM_PC_IDLE &&
           sim->reachable[h];
}

/* --- a move begins --- */

/* False when it cannot write its journal: nothing is left of it then. */
static bool accept(Sim *sim, unsigned h, bool target)
{
    SimHost *host = &sim->host[h];
    const SimHost old = *host;
    *host = (SimHost){
        .durable = old.durable,
        .journal = LPM_MOB_SRC_NONE,
        .is_target = target,
        .active = !sim->inactive,
        .profile = old.profile,
        .move = sim->move,
        .base_revision = sim->record.revision,
        .base_epoch = sim->record.epoch,
        .machine = true,
        .disk_full = old.disk_full,
        .up = true,
        .known = true,
        .record = sim->record,
        .first_ticket = ++sim->tickets,
    };
    SIM_TELL(sim, "%s is asked to be the %s of move %u", sim_names[h], target ? "target" : "source",
             sim->move);
    host->attached = sim_host_journal(sim, h, LPM_MOB_EV_ACCEPT);
    if (!host->attached) {
        *host = old;
    }
    return sim_host_is_open(host);
}

static void begin_at_target(Sim *sim)
{
    unsigned s = sim->host[0].profile ? 0 : 1;
    const SimHost *source = &sim->host[s], *target = &sim->host[1 - s];
    bool ready =
        is_free(sim, s) && is_free(sim, 1 - s) && owns(sim, s) && source->profile &&
        !target->profile && !source->may_start && !target->may_start &&
        sim->qemu[1 - s].state == SIM_Q_NONE && sim->stream.link &&
        (sim->inactive ? sim->qemu[s].state == SIM_Q_NONE : sim->qemu[s].state == SIM_Q_RUNNING);
    if (!ready) {
        return;
    }
    sim->source = (uint8_t)s;
    sim->move++;
    sim->begun++;
    sim->stream = (SimStream){.link = true, .postcopy = sim_once_in(&sim->random, 4)};
    sim->memory_given_up = false;
    (void)accept(sim, 1 - s, true);
}

/* The console hears that the target listens, and tells the source. */
static void begin_at_source(Sim *sim)
{
    unsigned s = sim->source;
    const SimHost *source = &sim->host[s], *target = &sim->host[1 - s];
    bool listens = target->up && target->is_target && target->move == sim->move &&
                   target->active != sim->inactive &&
                   (sim->inactive ? target->journal == LPM_MOB_DST_LOADED
                                  : target->journal == LPM_MOB_DST_PREPARED && target->started &&
                                        !target->rows);
    bool runs =
        sim->inactive ? sim->qemu[s].state == SIM_Q_NONE : sim->qemu[s].state == SIM_Q_RUNNING;
    if (!listens || !runs || !is_free(sim, s) || source->move == sim->move || !owns(sim, s) ||
        !source->profile || source->may_start) {
        return;
    }
    if (accept(sim, s, false) &&
        source->base_revision != target->base_revision) { /* the source's first word */
        SIM_TELL(sim, "the record was changed between prepare and start");
        sim_mover_end(sim, 1 - s); /* nothing may come any more, however long its look takes */
        sim_host_trouble(sim, 1 - s);
    }
}

/* --- while it lasts --- */

static void stop(Sim *sim)
{
    unsigned s = sim->source;
    const SimHost *host = &sim->host[s];
    if (host->up && !host->is_target && sim_host_is_open(host) && !host->offering &&
        !host->postcopy) {
        SIM_TELL(sim, "the operator stops the move");
        sim_host_trouble(sim, s);
    }
}

static void relink(Sim *sim)
{
    unsigned s = sim->source;
    const SimHost *source = &sim->host[s], *target = &sim->host[1 - s];
    const SimQemu *there = &sim->qemu[1 - s];
    if (source->up && target->up && sim_host_is_open(source) && sim_host_is_open(target) &&
        source->move == target->move && sim->stream.link && !sim_stream_flows(sim) &&
        source->rows && target->rows && source->postcopy && target->postcopy &&
        sim->qemu[s].state == SIM_Q_SERVING && !sim->qemu[s].hung && !there->filled &&
        !there->hung && (there->state == SIM_Q_HALF || there->state == SIM_Q_FILLING)) {
        SIM_TELL(sim, "the console connects the post-copy again");
        sim->stream.mover[0] = sim->stream.mover[1] = true;
    }
}

/* --- the word --- */

static void word_at_source(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    LpmMobRecordView view = sim_host_view(sim, h);
    bool taken = view == LPM_MOB_REC_TAKEN;
    bool offered =
        view == LPM_MOB_REC_OFFER && (sim->qemu[h].state == SIM_Q_NONE || host->postcopy);
    if (host->pc != SIM_PC_IDLE || !host->rows || (!taken && !offered)) {
        return;
    }
    SIM_TELL(sim, "the operator says that %s is off", sim_names[1 - h]);
    sim->must_survive = false;
    sim->memory_given_up = true;
    sim->excused |= taken;
    if (taken &&
        sim->mutant !=
            SIM_MUTANT_WORD_ALIVE) { /* the target may have run: what is here may be out of date */
        sim_qemu_end(sim, h);
    }
    sim_host_swap(sim, h, LPM_RECORD_BACK, taken ? LPM_RECORD_BY_WORD : LPM_RECORD_BY_OWNER);
}

static void word_at_target(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    bool fills = host->postcopy && host->journal == LPM_MOB_DST_RUNNING &&
                 sim_host_view(sim, h) == LPM_MOB_REC_TARGET && !sim->stream.mover[h] &&
                 !sim->qemu[h].filled && sim->qemu[h].state == SIM_Q_FILLING;
    bool early =
        host->journal == LPM_MOB_DST_PREPARED ||
        (host->journal == LPM_MOB_DST_LOADED && sim_host_view(sim, h) == LPM_MOB_REC_SOURCE);
    if (!host->rows || (!fills && !early)) {
        return;
    }
    SIM_TELL(sim, "the operator says that %s is off", sim_names[1 - h]);
    sim->must_survive = false;
    sim->memory_given_up = true;
    if (fills) {
        sim_target_lost(sim, h);
    } else {
        host->forced = true;
        host->fresh = false;
    }
}

/* Only where it is true: the other machine is off, and at the end only one that stays so. */
static void word(Sim *sim, unsigned h)
{
    const SimHost *host = &sim->host[h], *peer = &sim->host[1 - h];
    bool off = sim->settling ? peer->gone_for_good : !peer->machine;
    bool lost = host->is_target && host->postcopy && sim->qemu[1 - h].state == SIM_Q_NONE;
    if (!host->up || !sim_host_is_open(host) || !(off || (lost && sim->settling))) {
        return;
    }
    (host->is_target ? word_at_target : word_at_source)(sim, h);
}

/* An inactive target waits for a minute only. */
static void give_up(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    if (host->up && host->is_target && !host->active && host->journal == LPM_MOB_DST_LOADED) {
        host->forced = true;
        host->fresh = false;
    }
}

/* --- a start from disks --- */

static void start_from_disk(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    bool may =
        is_free(sim, h) && host->profile && sim->qemu[h].state == SIM_Q_NONE && !sim->inactive;
    if (may && host->may_start) {
        sim_qemu_from_disk(sim, h);
        host->may_start = false;
    } else {
        host->may_start = may && owns(sim, h); /* the record was read */
    }
}

/* --- other moves --- */

static void third_system(Sim *sim, unsigned h)
{
    SimHost *host = &sim->host[h];
    uint8_t move = (uint8_t)(THIRD_MOVE + sim->other_moves);
    if (!is_free(sim, h) || sim->other_moves > 50 || host->may_start) {
        return;
    }
    if (sim->elsewhere && !host->profile && sim->qemu[h].state == SIM_Q_NONE) {
        sim->other_moves++;
        SIM_TELL(sim, "the partition moves from c to %s", sim_names[h]);
        sim_arbiter_force(sim, LPM_RECORD_OFFER, LPM_RECORD_BY_OWNER, move, sim_names[h]);
        sim_arbiter_force(sim, LPM_RECORD_TAKEN, LPM_RECORD_BY_PEER, move, NULL);
        sim_arbiter_force(sim, LPM_RECORD_RUN, LPM_RECORD_BY_PEER, move, NULL);
        sim->elsewhere = false;
        host->profile = true;
        if (!sim->inactive) {
            sim->qemu[h] = (SimQemu){.state = SIM_Q_RUNNING, .version = ++sim->newest};
        }
    } else if (!sim->elsewhere && owns(sim, h) && host->profile &&
               sim->qemu[h].state == (sim->inactive ? SIM_Q_NONE : SIM_Q_RUNNING)) {
        bool stays = sim_once_in(&sim->random, 2);
        sim->other_moves++;
        SIM_TELL(sim, "the partition %s from %s to c", stays ? "is refused" : "moves",
                 sim_names[h]);
        sim_arbiter_force(sim, LPM_RECORD_OFFER, LPM_RECORD_BY_OWNER, move, "c");
        if (stays) {
            sim_arbiter_force(sim, LPM_RECORD_BACK, LPM_RECORD_BY_PEER, move, NULL);
            return;
        }
        sim_arbiter_force(sim, LPM_RECORD_TAKEN, LPM_RECORD_BY_PEER, move, NULL);
        sim_arbiter_force(sim, LPM_RECORD_RUN, LPM_RECORD_BY_PEER, move, NULL);
        sim->elsewhere = true;
        host->profile = false;
        sim->qemu[h] = (SimQemu){.state = SIM_Q_NONE};
        sim->newest++;
    }
}

/* --- each step --- */

void sim_people_step(Sim *sim)
{
    SimRandom *random = &sim->random;
    unsigned h = sim_pick(random, SIM_HOSTS);
    begin_at_source(sim);
    if (sim->begun < sim->moves_wanted && !sim->settling) {
        begin_at_target(sim);
    }
    if (sim_once_in(random, PATIENCE_ONCE_IN / 4)) {
        sim->host[h].patient |= sim->host[h].rows;
    }
    if (sim_once_in(random, 4)) {
        start_from_disk(sim, h);
    }
    if (sim_once_in(random, 4)) {
        relink(sim);
    }
    if (sim_once_in(random, RECOVER_ONCE_IN / 4)) {
        const SimHost *host = &sim->host[h];
        bool late = host->is_target && host->journal == LPM_MOB_DST_CLEANED && !host->completed;
        if (host->up && (late || (host->rows && sim_host_is_open(host)))) {
            sim_host_recover(sim, h);
        }
    }
    if (!sim->settling && sim_once_in(random, STOP_ONCE_IN / 4)) {
        stop(sim);
    }
    if (sim->settling || sim_once_in(random, WORD_ONCE_IN / 4)) {
        word(sim, h);
        if (sim_once_in(random, 4)) {
            give_up(sim, h);
        }
    }
    if (!sim->settling && sim_once_in(random, THIRD_ONCE_IN)) {
        third_system(sim, h);
    }
}
