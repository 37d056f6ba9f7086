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

int64_t lpm_check_modules(const LpmCheckRun *run)
{
    return (int64_t)json_array_size(
        lpm_json_at(run->facts, "partition.runtime.profile.added_memory"));
}

int64_t lpm_check_modules_outside(const LpmCheckRun *run)
{
    return lpm_check_modules(run) - lpm_json_int(run->facts, "partition.runtime.shared_modules", 0);
}

static void check_memory_backing(LpmCheckRun *run)
{
    int64_t outside = lpm_check_modules_outside(run);
    const char *backing;
    bool verify;

    if (!lpm_fact_bool(run, NULL, "options.verify", &verify) || !verify ||
        !lpm_fact_text(run, NULL, "partition.memory_backing", &backing)) {
        return;
    }
    if (!g_str_equal(backing, lpm_memory_backing_name(LPM_BACKING_SHARED))) {
        lpm_check_fail(
            run, TEXT("partition %s", run->partition),
            TEXT("shared memory, to compare it in the blackout"), TEXT("%s memory", backing),
            TEXT("set memory_backing to shared and restart it, or move without --verify"));
    } else if (outside > 0) {
        lpm_check_fail(run, TEXT("partition %s", run->partition),
                       TEXT("shared memory, to compare all of it in the blackout"),
                       TEXT("%" G_GINT64_FORMAT " of the %" G_GINT64_FORMAT
                            " pieces that were added since its start are outside its memory file "
                            "(huge pages, or added by an earlier release)",
                            outside, lpm_check_modules(run)),
                       TEXT("raise memory_mib in its profile and restart it, or move without "
                            "--verify"));
    }
}

static bool has_profile(LpmCheckRun *run)
{
    if (json_is_object(lpm_json_at(run->facts, "partition.profile"))) {
        return true;
    }
    lpm_check_unknown(run, "", "partition.profile");
    return false;
}

/* The machine type is pinned at the first start, for the partition's life. */
static void check_activated_once(LpmCheckRun *run)
{
    if (has_profile(run) && !lpm_json_str(run->facts, "partition.profile.machine", NULL)) {
        lpm_check_fail(run, TEXT("partition %s", run->partition),
                       TEXT("a profile that it was activated with"), TEXT("it never was activated"),
                       TEXT("start it once, create it on %s instead, or override", run->target));
    }
}

static bool has_named_profiles(LpmCheckRun *run)
{
    return has_profile(run) && lpm_json_str(run->facts, "partition.profile.profile", NULL);
}

/* It would refuse the definition by the name of a member that it does not know. */
static void check_profiles(LpmCheckRun *run)
{
    size_t n = json_array_size(lpm_json_at(run->facts, "partition.profile.profiles")) + 1;
    int64_t most = lpm_json_int(run->facts, "target.profiles_max", 1);

    if (has_named_profiles(run) && json_is_object(lpm_json_at(run->facts, "target")) &&
        (most <= 1 || n > (size_t)most)) {
        lpm_check_fail(
            run, TEXT("partition %s", run->partition),
            TEXT("%s knows that a partition has several profiles, and takes its %zu", run->target,
                 n),
            most > 1 ? TEXT("it takes %" G_GINT64_FORMAT, most)
                     : TEXT("it is of a release that knows one, which has no name"),
            TEXT("bring OpenLPM there to the release of %s, or delete profiles until one is left "
                 "and call it %s (lpm profile delete, lpm profile change --rename)",
                 run->source, LPM_PROFILE_FIRST));
    }
}

/* Its code is in the stream and must have the same place there; its variables are a disk. */
static void check_uefi(LpmCheckRun *run)
{
    int64_t here, there;

    if (!has_profile(run) ||
        !g_str_equal(lpm_json_str(run->facts, "partition.profile.firmware", ""), "uefi") ||
        !lpm_fact_int(run, NULL, "source.uefi_code_bytes", &here) ||
        !lpm_fact_int(run, NULL, "target.uefi_code_bytes", &there)) {
        return;
    }
    if (there == 0 || (run->active && there != here)) {
        lpm_check_fail(
            run, TEXT("system %s", run->target),
            TEXT("UEFI firmware of %" G_GINT64_FORMAT " bytes, as on %s", here, run->source),
            there ? TEXT("one of %" G_GINT64_FORMAT " bytes", there) : TEXT("none"),
            TEXT("install the package ovmf there, or set uefi_code in group [qemu] of "
                 "its configuration to the same firmware"));
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
    {"partition.activated-once", LPM_WHEN_INACTIVE, LPM_SEVERITY_ERROR, true, NULL,
     "The partition was activated before",
     "An inactive move takes the profile that a partition was last activated with; one that never "
     "was has none.",
     check_activated_once},
    {"partition.profiles", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "The target takes all profiles of the partition",
     "They come along in a move; a system of a release that knows only one refuses the others.",
     check_profiles},
    {"partition.uefi", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "The target has the UEFI firmware that the partition needs",
     "The firmware's code lies in the running partition's memory at its size; its variables are "
     "one of the partition's disks, and the checks of storage are about them too.",
     check_uefi},
};

const LpmCheckGroup lpm_check_group_partition = {"partition", "Partition", rows,
                                                 G_N_ELEMENTS(rows)};
