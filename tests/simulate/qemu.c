/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What QEMU does as it was measured: it resumes by itself when its stream breaks before it has
 * completed, it may say completed at the source before it does at the target, and what it is told
 * while the last part is on its way it does later.
 */
#include "sim.h"

#include <string.h>

bool sim_qemu_executes(const SimQemu *qemu)
{
    return qemu->state == SIM_Q_RUNNING || qemu->state == SIM_Q_FILLING;
}

/* The whole of the newest state is here. */
bool sim_qemu_holds_newest(const Sim *sim, unsigned h)
{
    static const bool whole[SIM_Q_N] = {
        [SIM_Q_RUNNING] = true, [SIM_Q_PRE] = true,   [SIM_Q_DEVICE] = true,
        [SIM_Q_DONE] = true,    [SIM_Q_GIVEN] = true, [SIM_Q_LOADED] = true,
    };
    const SimQemu *qemu = &sim->qemu[h];
    bool all = whole[qemu->state] || (qemu->state == SIM_Q_HALF && qemu->filled);
    return all && qemu->version == sim->newest;
}

bool sim_stream_flows(const Sim *sim)
{
    return sim->stream.mover[0] && sim->stream.mover[1] && sim->stream.link;
}

/* --- the process --- */

static void end(SimQemu *qemu)
{
    *qemu = (SimQemu){.state = SIM_Q_NONE};
}

void sim_qemu_incoming(Sim *sim, unsigned h)
{
    end(&sim->qemu[h]);
    sim->qemu[h].state = SIM_Q_INCOMING;
    sim->qemu[h].autostart = sim->mutant == SIM_MUTANT_AUTOSTART;
}

void sim_qemu_from_disk(Sim *sim, unsigned h)
{
    if (!sim->excused) {
        sim_violate(sim, "started from disk although the QEMU that owned had not crashed");
    }
    if (sim->must_survive) {
        sim_violate(sim, "started from disk although the target had the whole state");
    }
    end(&sim->qemu[h]);
    sim->qemu[h].state = SIM_Q_RUNNING;
    sim->qemu[h].version = ++sim->newest;
    sim->excused = false;
    SIM_TELL(sim, "%s starts the partition from its disks", sim_names[h]);
    sim_starts_to_run(sim, h);
}

/* Who may run the partition now, and so whose crash is the loss of it. */
static unsigned owner(const Sim *sim)
{
    unsigned s = sim->source;
    const SimHost *target = &sim->host[1 - s];
    if (sim->record.state == LPM_RECORD_TAKEN && target->durable >= LPM_MOB_DST_INTENT &&
        target->durable < LPM_MOB_DST_CLEANED) {
        return 1 - s;
    }
    return sim->record.owner[0] == sim_names[0][0] ? 0 : 1;
}

/* Nothing that was decided before can keep the target from going on without the source. */
static bool target_has_it(const Sim *sim, unsigned h)
{
    const SimHost *source = &sim->host[h], *target = &sim->host[1 - h];
    if (source->is_target || !source->active || source->move != target->move ||
        source->durable != LPM_MOB_SRC_POST || target->durable != LPM_MOB_DST_LOADED ||
        sim->qemu[1 - h].state != SIM_Q_LOADED || target->disk_full || target->pc == SIM_PC_ACT ||
        target->pc == SIM_PC_END || (source->pc != SIM_PC_IDLE && source->pc != SIM_PC_READ)) {
        return false;
    }
    for (unsigned i = 0; i < SIM_REQUESTS; i++) {
        const SimRequest *request = &sim->request[i];
        if (request->used && request->swap && request->record.state == LPM_RECORD_BACK) {
            return false;
        }
    }
    return sim->record.state == LPM_RECORD_OFFER || sim->record.state == LPM_RECORD_TAKEN ||
           sim->record.revision == source->base_revision;
}

void sim_qemu_crash(Sim *sim, unsigned h)
{
    SimQemu *qemu = &sim->qemu[h];
    if (qemu->state == SIM_Q_NONE) {
        return;
    }
    bool memory = qemu->state == SIM_Q_SERVING || qemu->state == SIM_Q_FILLING ||
                  (qemu->state == SIM_Q_HALF && owner(sim) == h);
    /* Between the decision to write intent and its writing: as if it had run. */
    const SimHost *host = &sim->host[h];
    bool begins = host->is_target && host->pc == SIM_PC_ACT && host->row &&
                  host->row->action == LPM_MOB_DST_DO_INTENT;
    if (memory || begins || (sim_qemu_holds_newest(sim, h) && owner(sim) == h)) {
        sim->excused = true;
    }
    sim->must_survive = sim_qemu_holds_newest(sim, h) && owner(sim) == h && target_has_it(sim, h);
    SIM_TELL(sim, "QEMU at %s ends (was %s)", sim_names[h], sim_qemu_name(qemu->state));
    end(qemu);
}

void sim_qemu_end(Sim *sim, unsigned h)
{
    SimQemu *qemu = &sim->qemu[h];
    const SimQemu *other = &sim->qemu[1 - h];
    if (qemu->state == SIM_Q_NONE) {
        return;
    }
    bool needed = qemu->state == SIM_Q_SERVING && !other->filled &&
                  (other->state == SIM_Q_HALF || other->state == SIM_Q_FILLING);
    bool wasted = qemu->state == SIM_Q_FILLING && !qemu->filled && other->state == SIM_Q_SERVING;
    bool unready = sim->host[1 - h].durable < LPM_MOB_DST_LOADED; /* of the target's half */
    if (((needed && !unready) || wasted) && !sim->memory_given_up) {
        sim_violate(sim, "half of a post-copy was ended though both halves were there");
    }
    /* What post-copy costs: one half alone cannot go on, and QEMU has no way back. */
    bool early =
        sim->stream.postcopy && sim->host[h].is_target && sim->host[h].durable < LPM_MOB_DST_LOADED;
    sim->excused |= qemu->state == SIM_Q_SERVING || qemu->state == SIM_Q_FILLING ||
                    (early && other->state == SIM_Q_SERVING);
    if (sim_qemu_holds_newest(sim, h) && !sim_qemu_holds_newest(sim, 1 - h) &&
        (!sim->excused || sim->must_survive)) {
        sim_violate(sim, "QEMU that held the only newest state was ended by lpm-host");
    }
    SIM_TELL(sim, "%s ends its QEMU (was %s)", sim_names[h], sim_qemu_name(qemu->state));
    end(qemu);
}

/* --- commands --- */

/* What waits longer than QEMU's buffer holds was sent on a connection that is gone. */
void sim_qemu_command(Sim *sim, unsigned h, SimCommand command)
{
    SimQemu *qemu = &sim->qemu[h];
    if (qemu->state != SIM_Q_NONE && qemu->queued < SIM_QUEUE) {
        qemu->queue[qemu->queued].command = (uint8_t)command;
        qemu->queue[qemu->queued++].ticket = sim->host[h].ticket;
    }
}

static void run(Sim *sim, unsigned h)
{
    SimQemu *qemu = &sim->qemu[h];
    qemu->state = qemu->state == SIM_Q_HALF && !qemu->filled ? SIM_Q_FILLING : SIM_Q_RUNNING;
    qemu->migrating = false;
    sim_starts_to_run(sim, h);
}

static bool command_cont(Sim *sim, unsigned h)
{
    SimQemu *qemu = &sim->qemu[h];
    switch (qemu->state) {
    case SIM_Q_DONE:
    case SIM_Q_GIVEN:
    case SIM_Q_LOADED:
    case SIM_Q_HALF:
        SIM_TELL(sim, "QEMU at %s: cont", sim_names[h]);
        run(sim, h);
        return true;
    case SIM_Q_INCOMING:
    case SIM_Q_LOADING:
        qemu->autostart = true; /* as without file locks */
        return true;
    case SIM_Q_RUNNING:
    case SIM_Q_FILLING:
        return true;
    case SIM_Q_NONE:
    case SIM_Q_PRE:
    case SIM_Q_DEVICE:
    case SIM_Q_SERVING:
    case SIM_Q_N:
        break;
    }
    return false;
}

static bool command_cancel(Sim *sim, unsigned h)
{
    SimQemu *qemu = &sim->qemu[h];
    if (qemu->state == SIM_Q_PRE) {
        SIM_TELL(sim, "QEMU at %s: migrate_cancel, it runs again", sim_names[h]);
        run(sim, h);
    }
    qemu->migrating = false;
    return true;
}

static bool command_continue(Sim *sim, unsigned h)
{
    SimQemu *qemu = &sim->qemu[h];
    if (qemu->state != SIM_Q_PRE) {
        return false;
    }
    bool postcopy = sim->stream.postcopy;
    qemu->state = postcopy ? SIM_Q_SERVING : SIM_Q_DEVICE;
    if (postcopy) {
        sim->stream.sent = true;
        sim->stream.version = qemu->version;
    }
    SIM_TELL(sim, "QEMU at %s: migrate-continue, %s", sim_names[h], sim_qemu_name(qemu->state));
    return true;
}

/* While the last part is on its way, commands wait. */
static bool run_queue(Sim *sim, unsigned h)
{
    static bool (*const commands[])(Sim * sim, unsigned h) = {
        [SIM_CMD_CONT] = command_cont,
        [SIM_CMD_CANCEL] = command_cancel,
        [SIM_CMD_CONTINUE] = command_continue,
    };
    SimQemu *qemu = &sim->qemu[h];
    if (qemu->queued == 0 || qemu->state == SIM_Q_DEVICE) {
        return false;
    }
    unsigned command = qemu->queue[0].command, ticket = qemu->queue[0].ticket;
    qemu->queued--;
    memmove(qemu->queue, qemu->queue + 1, qemu->queued * sizeof *qemu->queue);
    bool good = commands[command](sim, h);
    const SimHost *host = &sim->host[h];
    if (host->up && host->pc == SIM_PC_COMMAND && host->ticket == ticket) {
        sim_host_command_answered(sim, h, good);
    }
    return true;
}

/* --- the move --- */

/* QEMU gives up and runs again by itself; rarely it cannot. */
static void fail(Sim *sim, unsigned h)
{
    SimQemu *qemu = &sim->qemu[h];
    qemu->migrating = false;
    if (sim_once_in(&sim->random, 8)) {
        qemu->state = SIM_Q_DONE;
        qemu->failed = true;
        SIM_TELL(sim, "QEMU at %s gives the move up and cannot resume", sim_names[h]);
    } else {
        SIM_TELL(sim, "QEMU at %s gives the move up and resumes by itself", sim_names[h]);
        run(sim, h);
    }
}

void sim_qemu_yank(Sim *sim, unsigned h)
{
    if (sim->qemu[h].state == SIM_Q_DEVICE && !sim->qemu[h].hung) {
        fail(sim, h);
    }
}

static void guest_goes_on(Sim *sim, unsigned h)
{
    SimQemu *qemu = &sim->qemu[h];
    if (qemu->version != sim->newest) {
        sim_violate(sim, "the guest's history has forked");
    }
    qemu->version = ++sim->newest;
    sim->excused = false;
    sim->must_survive = false;
}

static void device_step(Sim *sim, unsigned h)
{
    SimQemu *qemu = &sim->qemu[h];
    SimStream *stream = &sim->stream;
    if (!stream->mover[h]) {
        fail(sim, h);
    } else if (sim_stream_flows(sim) && !stream->sent) {
        stream->sent = true;
        stream->version = qemu->version;
        SIM_TELL(sim, "QEMU at %s has sent its last part", sim_names[h]);
    } else if (sim_stream_flows(sim) && stream->answered) {
        qemu->state = SIM_Q_DONE;
        qemu->failed = false;
        SIM_TELL(sim, "QEMU at %s: completed", sim_names[h]);
    }
}

static void incoming_step(Sim *sim, unsigned h)
{
    SimQemu *qemu = &sim->qemu[h];
    if (!sim->stream.mover[h] && sim->host[h].started) {
        SIM_TELL(sim, "QEMU at %s ends: its stream broke off", sim_names[h]);
        end(qemu);
    } else if (sim_stream_flows(sim) && sim->stream.sent) {
        bool half = sim->qemu[1 - h].state == SIM_Q_SERVING;
        qemu->state = half ? SIM_Q_HALF : SIM_Q_LOADING;
        qemu->version = sim->stream.version;
        sim->stream.answered = !half;
        SIM_TELL(sim, "QEMU at %s is %s", sim_names[h], sim_qemu_name(qemu->state));
        if (half && qemu->autostart) {
            run(sim, h);
        }
    }
}

static void loading_step(Sim *sim, unsigned h)
{
    SimQemu *qemu = &sim->qemu[h];
    qemu->state = SIM_Q_LOADED;
    qemu->filled = true;
    SIM_TELL(sim, "QEMU at %s: completed and paused", sim_names[h]);
    if (qemu->autostart) {
        run(sim, h);
    }
}

/* Memory comes whether it runs or stands; the source hears of the end only over the stream. */
static void fill_step(Sim *sim, unsigned h)
{
    SimQemu *qemu = &sim->qemu[h];
    if (qemu->filled || !sim_stream_flows(sim) || sim->qemu[1 - h].state != SIM_Q_SERVING ||
        !sim_once_in(&sim->random, 4)) {
        return;
    }
    qemu->filled = true;
    sim->stream.answered = true;
    if (qemu->state == SIM_Q_FILLING) {
        qemu->state = SIM_Q_RUNNING;
    }
    SIM_TELL(sim, "QEMU at %s has all memory", sim_names[h]);
}

void sim_qemu_step(Sim *sim, unsigned h)
{
    SimQemu *qemu = &sim->qemu[h];
    if (qemu->state == SIM_Q_NONE || qemu->hung || run_queue(sim, h)) {
        return;
    }
    if (sim_qemu_executes(qemu)) {
        guest_goes_on(sim, h);
    }
    if (qemu->state == SIM_Q_RUNNING && qemu->migrating) {
        if (!sim->stream.mover[h]) {
            qemu->migrating = false;
            SIM_TELL(sim, "QEMU at %s gives the move up; it was never stopped", sim_names[h]);
        } else if (sim_stream_flows(sim) && sim_once_in(&sim->random, 3)) {
            qemu->state = SIM_Q_PRE;
            qemu->migrating = false;
            SIM_TELL(sim, "QEMU at %s stops in pre-switchover", sim_names[h]);
        }
    } else if (qemu->state == SIM_Q_DEVICE) {
        device_step(sim, h);
    } else if (qemu->state == SIM_Q_INCOMING) {
        incoming_step(sim, h);
    } else if (qemu->state == SIM_Q_LOADING) {
        loading_step(sim, h);
    } else if (qemu->state == SIM_Q_HALF || qemu->state == SIM_Q_FILLING) {
        fill_step(sim, h);
    } else if (qemu->state == SIM_Q_SERVING && sim_stream_flows(sim) && sim->stream.answered) {
        qemu->state = SIM_Q_GIVEN;
        SIM_TELL(sim, "QEMU at %s: completed, all memory was given", sim_names[h]);
    }
}
