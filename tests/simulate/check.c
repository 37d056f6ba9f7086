/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold, whatever fails. Some more is asserted where it happens: qemu.c, host.c. */
#include "sim.h"

#include <inttypes.h>
#include <stdio.h>
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

/* --- which rows were taken --- */

enum { ROWS_MAX = 64 };

static uint64_t taken[LPM_MOB_DRV][ROWS_MAX];

static const LpmMobRow *rows_of(unsigned machine, size_t *ret_n)
{
    return machine == LPM_MOB_SRC ? lpm_mob_src_rows(ret_n) : lpm_mob_dst_rows(ret_n);
}

void sim_count_row(LpmMobMachine machine, const LpmMobRow *row)
{
    size_t n = 0;
    size_t i = (size_t)(row - rows_of(machine, &n));
    if (i < n && i < ROWS_MAX) {
        taken[machine][i]++;
    }
}

static void print_masks(unsigned machine, const LpmMobRow *row)
{
    for (unsigned j = 0; j < 8; j++) {
        if (row->journal >> j & 1 && lpm_mob_state_name((LpmMobMachine)machine, j)[0] != '?') {
            printf(" %s", lpm_mob_state_name((LpmMobMachine)machine, j));
        }
    }
    printf(" |");
    for (unsigned r = 0; r < LPM_MOB_REC_N; r++) {
        if (row->record >> r & 1) {
            printf(" %s", lpm_mob_record_view_name((LpmMobRecordView)r));
        }
    }
    printf(" |");
    for (unsigned q = 0; q < LPM_MOB_SRC_QEMU_N; q++) {
        if (row->qemu >> q & 1) {
            printf(" %s", lpm_mob_qemu_name((LpmMobMachine)machine, q));
        }
    }
    printf(" | %s\n", lpm_mob_action_text((LpmMobMachine)machine, row->action));
}

void sim_print_rows(void)
{
    for (unsigned machine = LPM_MOB_SRC; machine <= LPM_MOB_DST; machine++) {
        size_t n = 0;
        const LpmMobRow *rows = rows_of(machine, &n);
        for (size_t i = 0; i < n; i++) {
            printf("%12" PRIu64 " %s", taken[machine][i],
                   machine == LPM_MOB_SRC ? "source:" : "target:");
            print_masks(machine, &rows[i]);
        }
    }
}

/* Some millions of runs between two of these: a lie, a swap that comes late, and a target that was
 * cleaned meanwhile. */
static bool is_rare(unsigned machine, const LpmMobRow *row)
{
    return machine == LPM_MOB_DST && row->action == LPM_MOB_DST_DO_RETURN &&
           row->journal == 1u << LPM_MOB_DST_CLEANED;
}

bool sim_all_rows_taken(void)
{
    bool all = true;
    for (unsigned machine = LPM_MOB_SRC; machine <= LPM_MOB_DST; machine++) {
        size_t n = 0;
        const LpmMobRow *rows = rows_of(machine, &n);
        bool src = machine == LPM_MOB_SRC;
        unsigned report = src ? (unsigned)LPM_MOB_SRC_DO_REPORT : (unsigned)LPM_MOB_DST_DO_REPORT;
        unsigned nothing =
            src ? (unsigned)LPM_MOB_SRC_DO_NOTHING : (unsigned)LPM_MOB_DST_DO_NOTHING;
        for (size_t i = 0; i < n && i < ROWS_MAX; i++) {
            if (rows[i].action != report && rows[i].action != nothing && taken[machine][i] == 0 &&
                !is_rare(machine, &rows[i])) {
                printf("never taken: %s", src ? "source:" : "target:");
                print_masks(machine, &rows[i]);
                all = false;
            }
        }
    }
    return all;
}
