/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arbiter: one record, changed by a compare that is the product's own. Requests and answers are
 * on their way for as long as the generator likes; one that nobody waits for any more still
 * arrives.
 */
#include "sim.h"

#include <string.h>

/* What nobody waits for any more takes its time, so that much can happen before it arrives. */
enum { LATE_ONCE_IN = 12 };

/* A free place; when there is none, the oldest one gets lost on its way. */
static SimRequest *place(Sim *sim)
{
    SimRequest *oldest = &sim->request[0];
    for (unsigned i = 0; i < SIM_REQUESTS; i++) {
        SimRequest *request = &sim->request[i];
        if (!request->used) {
            return request;
        }
        oldest = request->ticket < oldest->ticket ? request : oldest;
    }
    return oldest;
}

static SimRequest *send_request(Sim *sim, unsigned h)
{
    SimRequest *request = place(sim);
    *request =
        (SimRequest){.used = true, .awaited = true, .host = (uint8_t)h, .ticket = ++sim->tickets};
    sim->host[h].ticket = request->ticket;
    return request;
}

bool sim_arbiter_read(Sim *sim, unsigned h)
{
    if (!sim->reachable[h]) {
        return false;
    }
    (void)send_request(sim, h);
    return true;
}

void sim_arbiter_swap(Sim *sim, unsigned h, const LpmRecord *next)
{
    SimRequest *request = send_request(sim, h);
    request->swap = true;
    request->expected = sim->host[h].record.revision;
    request->record = *next;
    SIM_TELL(sim, "%s asks the arbiter for %s (revision %u)", sim_names[h],
             lpm_record_state_name(next->state), (unsigned)next->revision);
}

static bool compare(const Sim *sim, const SimRequest *request)
{
    return sim->record.revision == request->expected &&
           (sim->mutant == SIM_MUTANT_NO_COMPARE ||
            lpm_record_follows(&sim->record, &request->record));
}

static void execute(Sim *sim, SimRequest *request)
{
    request->executed = true;
    if (request->swap) {
        request->won = compare(sim, request);
        SIM_TELL(sim, "arbiter: %s of %s %s", lpm_record_state_name(request->record.state),
                 sim_names[request->host], request->won ? "is done" : "is lost");
    }
    if (request->won) {
        sim->record = request->record;
    }
    request->record = sim->record;
}

static void answer(Sim *sim, const SimRequest *done)
{
    SimRequest request = *done;
    SimHost *host = &sim->host[request.host];
    if (!host->up || !request.awaited || request.ticket <= host->first_ticket) {
        return; /* nobody waits for it any more */
    }
    bool waits = host->ticket == request.ticket;
    if (request.swap && waits && host->pc == SIM_PC_SWAP) {
        sim_host_swap_answered(sim, request.host, true, request.won, &request.record);
    } else if (request.swap) {
        sim_host_overtaken(sim, request.host, request.won, &request.record);
    } else if (waits && host->pc == SIM_PC_READ) {
        sim_host_read_answered(sim, request.host, &request.record);
    }
}

void sim_arbiter_timed_out(Sim *sim, unsigned h)
{
    for (unsigned i = 0; i < SIM_REQUESTS; i++) {
        if (sim->request[i].ticket == sim->host[h].ticket) {
            sim->request[i].awaited = false;
        }
    }
}

/* One request goes one step on its way, or gets lost. */
void sim_arbiter_step(Sim *sim)
{
    SimRequest *request = &sim->request[sim_pick(&sim->random, SIM_REQUESTS)];
    bool late = !request->awaited && !request->executed;
    if (!request->used || (late && !sim_once_in(&sim->random, LATE_ONCE_IN))) {
        return;
    }
    bool trouble = !sim->reachable[request->host];
    if (trouble && !sim_once_in(&sim->random, 8)) {
        return;
    }
    if (!request->executed && (!trouble || sim_once_in(&sim->random, 2))) {
        execute(sim, request);
        return;
    }
    if (request->executed && !trouble) {
        answer(sim, request);
    }
    request->used = false;
}

void sim_arbiter_force(Sim *sim, LpmRecordState to, LpmRecordBy by, uint8_t move, const char *peer)
{
    uint8_t id[LPM_RECORD_ID_SIZE];
    LpmRecord next;
    sim_move_id(move, id);
    if (lpm_record_next(&sim->record, to, by, id, peer, 0, &next)) {
        sim->record = next;
        SIM_TELL(sim, "arbiter: %s of %s (revision %u)", lpm_record_state_name(to), next.owner,
                 (unsigned)next.revision);
    }
}
