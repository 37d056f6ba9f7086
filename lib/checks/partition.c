/* SPDX-License-Identifier: Apache-2.0 */
/* The partition itself. */
#include "checks/internal.h"

static void check_state(LpmCheckRun *run)
{
    const char *wanted;
    const char *state;
    bool active;

    if (!lpm_fact_bool(run, NULL, "options.active", &active) ||
        !lpm_fact_text(run, NULL, "partition.state", &state)) {
        return;
    }
    wanted = lpm_partition_state_name(active ? LPM_PARTITION_RUNNING : LPM_PARTITION_NOT_ACTIVATED);
    if (!g_str_equal(state, wanted)) {
        lpm_check_fail(run, TEXT("partition %s", run->partition), TEXT("state %s", wanted),
                       TEXT("state %s", state),
                       active ? TEXT("start it, or move it inactive when it is not activated")
                              : TEXT("shut it down first, or move it active"));
    }
}

static bool has_no_agent_by_choice(const LpmCheckRun *run)
{
    return !lpm_json_bool(run->facts, "partition.profile.guest_agent", true);
}

static void check_agent(LpmCheckRun *run)
{
    const char *agent;

    if (has_no_agent_by_choice(run) || !lpm_fact_text(run, NULL, "partition.agent", &agent) ||
        g_str_equal(agent, "active")) {
        return;
    }
    lpm_check_fail(
        run, TEXT("partition %s", run->partition), TEXT("RMC active: its guest agent answers"),
        TEXT("it is %s", agent),
        TEXT("start qemu-guest-agent in the partition, wait until it has booted, or override"));
}

static void check_no_agent(LpmCheckRun *run)
{
    if (has_no_agent_by_choice(run)) {
        lpm_check_fail(run, TEXT("partition %s", run->partition), TEXT("a guest agent"),
                       TEXT("the profile has none"),
                       TEXT("nothing in the partition will be asked or told about the move"));
    }
}

static void check_local_devices(LpmCheckRun *run)
{
    g_autofree const char **devices = NULL;

    if (!lpm_fact_texts(run, NULL, "partition.local_devices", &devices)) {
        return;
    }
    for (size_t i = 0; devices[i]; i++) {
        lpm_check_fail(run, TEXT("partition %s", run->partition),
                       TEXT("no device that ties it to its server"), TEXT("%s", devices[i]),
                       TEXT("detach it, or replace it by a virtual device"));
    }
}

static void check_consoles(LpmCheckRun *run)
{
    int64_t open;

    if (lpm_fact_int(run, NULL, "partition.consoles_open", &open) && open > 0) {
        lpm_check_fail(
            run, TEXT("partition %s", run->partition), TEXT("no console session"),
            TEXT("%" G_GINT64_FORMAT " open", open),
            TEXT("nothing need be done; the sessions end here and can be opened again on %s",
                 run->target));
    }
}

static void check_memory_backing(LpmCheckRun *run)
{
    const char *backing;
    bool verify;

    if (lpm_fact_bool(run, NULL, "options.verify", &verify) && verify &&
        lpm_fact_text(run, NULL, "partition.memory_backing", &backing) &&
        !g_str_equal(backing, lpm_memory_backing_name(LPM_BACKING_SHARED))) {
        lpm_check_fail(
            run, TEXT("partition %s", run->partition),
            TEXT("shared memory, to compare it in the blackout"), TEXT("%s memory", backing),
            TEXT("set memory_backing to shared and restart it, or move without --verify"));
    }
}

static const LpmCheckRow rows[] = {
    {"partition.state", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, "HSCL05DF",
     "The partition is in the state that the move needs",
     "An active move takes a running partition, an inactive one a partition that is not activated.",
     check_state},
    {"partition.agent", LPM_WHEN_ACTIVE, LPM_SEVERITY_ERROR, true, "HSCLA246",
     "RMC is active: the guest agent answers",
     "The operating system is asked before the move and told after it. Override it for a partition "
     "that must leave although it does not answer.",
     check_agent},
    {"partition.no-agent", LPM_WHEN_ACTIVE, LPM_SEVERITY_INFO, false, NULL,
     "The partition has a guest agent",
     "A profile without one waives the question to the operating system.", check_no_agent},
    {"partition.local-devices", LPM_WHEN_ACTIVE, LPM_SEVERITY_ERROR, false, NULL,
     "Nothing in the partition belongs to this server alone",
     "Host devices, passed-through adapters and local back ends cannot follow a partition.",
     check_local_devices},
    {"partition.consoles", LPM_WHEN_ACTIVE, LPM_SEVERITY_INFO, false, NULL,
     "No console session is open", "Open sessions do not hinder a move, but they end with it.",
     check_consoles},
    {"partition.memory-backing", LPM_WHEN_ACTIVE, LPM_SEVERITY_ERROR, false, NULL,
     "A verified move can reach the partition's memory",
     "With --verify both systems hash the memory while the partition stands still, which needs "
     "memory that lpm-host shares with QEMU.",
     check_memory_backing},
};

const LpmCheckGroup lpm_check_group_partition = {"partition", "Partition", rows,
                                                 G_N_ELEMENTS(rows)};
