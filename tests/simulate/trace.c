/* SPDX-License-Identifier: Apache-2.0 */
/* What happened, in words. */
#include "sim.h"

#include <stdio.h>

void sim_tell(const Sim *sim, const char *format, ...)
{
    va_list arguments;
    printf("%5u  ", sim->step);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}

const char *sim_qemu_name(SimQemuState state)
{
    static const char *const names[SIM_Q_N] = {
        [SIM_Q_NONE] = "none",     [SIM_Q_RUNNING] = "running",   [SIM_Q_PRE] = "pre-switchover",
        [SIM_Q_DEVICE] = "device", [SIM_Q_DONE] = "completed",    [SIM_Q_SERVING] = "serving",
        [SIM_Q_GIVEN] = "given",   [SIM_Q_INCOMING] = "incoming", [SIM_Q_LOADING] = "loading",
        [SIM_Q_LOADED] = "loaded", [SIM_Q_HALF] = "half",         [SIM_Q_FILLING] = "filling",
    };
    return names[state];
}

const char *sim_word_name(SimWord word)
{
    static const char *const names[SIM_SAY_N] = {
        [SIM_SAY_LOADED] = "loaded",
        [SIM_SAY_OFFER] = "it is offered",
        [SIM_SAY_LOOK] = "the record has changed",
        [SIM_SAY_ABORT] = "the move is off",
        [SIM_SAY_WHOLE] = "all has come, and is right",
        [SIM_SAY_MEMORY_LOST] = "memory is lost",
        [SIM_SAY_CLOSED] = "closed",
    };
    return names[word];
}

void sim_tell_state(const Sim *sim)
{
    printf("at the end: record %s of %s (revision %u, epoch %u), newest state %u%s\n",
           lpm_record_state_name(sim->record.state), sim->record.owner,
           (unsigned)sim->record.revision, (unsigned)sim->record.epoch, sim->newest,
           sim->elsewhere ? ", at c" : "");
    for (unsigned h = 0; h < SIM_HOSTS; h++) {
        const SimHost *host = &sim->host[h];
        const SimQemu *qemu = &sim->qemu[h];
        LpmMobMachine machine = host->is_target ? LPM_MOB_DST : LPM_MOB_SRC;
        printf("  %s: move %u, %s, journal %s (in the database %s), lpm-host %s, QEMU %s of state "
               "%u%s%s%s\n",
               sim_names[h], host->move, host->is_target ? "target" : "source",
               lpm_mob_state_name(machine, host->journal),
               lpm_mob_state_name(machine, host->durable), host->up ? "up" : "down",
               sim_qemu_name(qemu->state), qemu->version, qemu->filled ? ", filled" : "",
               host->profile ? ", keeps the partition" : "", host->postcopy ? ", post-copy" : "");
    }
}

static const struct {
    const char *name, *text;
} mutants[SIM_MUTANT_N] = {
    [SIM_MUTANT_NONE] = {"none", "the rules as they are"},
    [SIM_MUTANT_AUTOSTART] = {"autostart", "QEMU of the target without -S"},
    [SIM_MUTANT_NO_SWAP] = {"no-swap", "the source resumes on time-out without the swap to BACK"},
    [SIM_MUTANT_NO_INTENT] = {"no-intent", "the target runs without a durable intent"},
    [SIM_MUTANT_QUEUED_CONT] = {"queued-cont", "cont in the place of yank; QEMU does it later"},
    [SIM_MUTANT_ENDED_AT_TAKEN] = {"ended-at-taken", "the source's QEMU is ended at TAKEN"},
    [SIM_MUTANT_ENDED_AT_OFFER] = {"ended-at-offer", "the source's QEMU is ended at OFFER"},
    [SIM_MUTANT_NO_POST] = {"no-post", "OFFER without a durable post"},
    [SIM_MUTANT_NO_BACK] = {"no-back", "a source that gives up does not write BACK"},
    [SIM_MUTANT_NO_COMPARE] = {"no-compare", "the arbiter compares the revision only"},
    [SIM_MUTANT_RETURN_ALIVE] = {"return-alive", "BACK for want of intent, with QEMU still there"},
    [SIM_MUTANT_WORD_ALIVE] = {"word-alive", "the word at TAKEN leaves the source's QEMU as it is"},
    [SIM_MUTANT_THIRD] = {"third", "a target takes whoever came after it for itself"},
    [SIM_MUTANT_NO_RELEASE] = {"no-release", "a source that did not hear the end serves for ever"},
    [SIM_MUTANT_REFUSE_BELIEVED] = {"refuse-believed", "BACK is made from a believed offer"},
};

const char *sim_mutant_name(SimMutant mutant)
{
    return mutants[mutant].name;
}

const char *sim_mutant_text(SimMutant mutant)
{
    return mutants[mutant].text;
}
