/* SPDX-License-Identifier: Apache-2.0 */
/* Processor compatibility modes: the rules of lib/compat over the facts. */
#include "checks/internal.h"

/* Modes of the target for the partition's family; to be g_free()d. */
static bool target_modes(LpmCheckRun *run, const char ***ret_modes)
{
    LpmFactPlace emulator;

    return lpm_fact_emulator(run, "target", &emulator) &&
           lpm_fact_texts(run, &emulator, "modes", ret_modes);
}

/* The highest mode that both systems have, for a remedy; "none" when there is none or the source's
 * are not known. */
static const char *common_mode(const LpmCheckRun *run, const char *const *target)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    g_autofree char *path = NULL;
    const char *const *sets[2] = {target, NULL};
    const LpmMode *mode;
    json_t *item;
    size_t i;

    if (run->family == LPM_FAMILY_N) {
        return "none";
    }
    path = g_strdup_printf("source.emulators.%s.modes", lpm_family_name(run->family));
    json_array_foreach (lpm_json_at(run->facts, path), i, item) {
        if (json_is_string(item)) {
            g_ptr_array_add(names, (char *)json_string_value(item));
        }
    }
    g_ptr_array_add(names, NULL);
    sets[1] = (const char *const *)names->pdata;
    mode = lpm_compat_common(run->compat, sets, 2);
    return mode ? mode->name : "none";
}

static void check_preferred_mode(LpmCheckRun *run)
{
    g_autofree const char **modes = NULL;
    g_autofree char *list = NULL;
    const char *preferred;

    if (!lpm_fact_text(run, NULL, "partition.profile.preferred_mode", &preferred) ||
        !target_modes(run, &modes) ||
        lpm_compat_can_move(run->compat, preferred, NULL, modes, false) == LPM_COMPAT_OK) {
        return;
    }
    list = lpm_fact_join(modes);
    lpm_check_fail(run, TEXT("partition %s", run->partition),
                   TEXT("preferred mode %s supported by %s", preferred, run->target),
                   TEXT("%s supports %s", run->target, list),
                   TEXT("set the preferred mode to default or to one that both systems support "
                        "(the highest: %s)",
                        common_mode(run, modes)));
}

static void check_current_mode(LpmCheckRun *run)
{
    g_autofree const char **modes = NULL;
    g_autofree char *list = NULL;
    const char *current;

    if (!lpm_fact_text(run, NULL, "partition.current_mode", &current) ||
        !target_modes(run, &modes) ||
        lpm_compat_can_move(run->compat, LPM_COMPAT_DEFAULT, current, modes, true) ==
            LPM_COMPAT_OK) {
        return;
    }
    list = lpm_fact_join(modes);
    lpm_check_fail(run, TEXT("partition %s", run->partition),
                   TEXT("current mode %s supported by %s", current, run->target),
                   TEXT("%s supports %s", run->target, list),
                   TEXT("set the preferred mode to one that both systems support (the highest: "
                        "%s), restart the partition, then move it; or move it inactive",
                        common_mode(run, modes)));
}

static void check_features(LpmCheckRun *run)
{
    g_autofree const char **wanted = NULL;
    g_autofree const char **available = NULL;
    g_auto(GStrv) missing = NULL;
    g_autofree char *list = NULL;
    LpmFactPlace emulator;

    if (run->family != LPM_FAMILY_X86_64) {
        return; /* POWER has modes; a family that is not known is said by server.emulator */
    }
    if (!lpm_fact_texts(run, NULL, "partition.features", &wanted) ||
        !lpm_fact_emulator(run, "target", &emulator) ||
        !lpm_fact_texts(run, &emulator, "features", &available)) {
        return;
    }
    missing = lpm_compat_missing_features(wanted, available);
    if (missing[0]) {
        list = g_strjoinv(", ", missing);
        lpm_check_fail(run, TEXT("partition %s", run->partition),
                       TEXT("all its processor features on %s", run->target),
                       TEXT("missing there: %s", list),
                       TEXT("set a preferred mode that both systems support, restart the "
                            "partition, then move it"));
    }
}

static void check_interrupts(LpmCheckRun *run)
{
    LpmFactPlace emulator;
    const char *mode;
    const char *generation;
    const LpmMode *native;

    if (run->family != LPM_FAMILY_POWER) {
        return;
    }
    if (!lpm_fact_text(run, NULL, "partition.interrupt_mode", &mode) || g_str_equal(mode, "xics") ||
        !lpm_fact_emulator(run, "target", &emulator) ||
        !lpm_fact_text(run, &emulator, "processor", &generation)) {
        return;
    }
    native = lpm_compat_find(run->compat, generation);
    if (!native ||
        g_str_equal(lpm_compat_interrupts_in_use(run->compat, "dual", native->name), "xics")) {
        lpm_check_fail(
            run, TEXT("partition %s", run->partition),
            TEXT("interrupt mode %s available on a %s server", mode, generation),
            TEXT("such a server has only xics"),
            TEXT("shut the partition down, set its interrupt mode to xics and start it again"));
    }
}

static void check_mode_rises(LpmCheckRun *run)
{
    g_autofree const char **modes = NULL;
    const char *preferred;
    const char *current;
    const LpmMode *now;
    const LpmMode *then;

    if (run->family == LPM_FAMILY_N) {
        lpm_check_unknown(run, "", "partition.profile.family");
        return;
    }
    if (!lpm_fact_text(run, NULL, "partition.profile.preferred_mode", &preferred) ||
        !lpm_fact_text(run, NULL, "partition.current_mode", &current) ||
        !target_modes(run, &modes)) {
        return;
    }
    now = lpm_compat_find(run->compat, current);
    then = lpm_compat_at_activation(run->compat, run->family, preferred, modes, NULL);
    if (now && then && then->rank > now->rank) {
        lpm_check_fail(
            run, TEXT("partition %s", run->partition),
            TEXT("mode %s after its next restart too", now->name),
            TEXT("it may rise to %s when it is restarted on %s", then->name, run->target),
            TEXT("it could then not go back running to a system without %s; set the preferred mode "
                 "to %s to "
                 "keep the way back open",
                 then->name, now->name));
    }
}

static const LpmCheckRow rows[] = {
    {"processor.preferred-mode", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "The preferred mode is default or supported by the target",
     "A move changes neither the preferred nor the current mode; the target must be able to honour "
     "both.",
     check_preferred_mode},
    {"processor.current-mode", LPM_WHEN_ACTIVE, LPM_SEVERITY_ERROR, false, NULL,
     "The target supports the mode that the partition runs in",
     "The operating system has set itself up for this mode and cannot change it while it runs. "
     "QEMU itself does not refuse "
     "such a move.",
     check_current_mode},
    {"processor.features", LPM_WHEN_ACTIVE, LPM_SEVERITY_ERROR, false, NULL,
     "The target has every processor feature of the partition",
     "For x86-64: programs in the partition use what the processor showed when it was started.",
     check_features},
    {"processor.interrupts", LPM_WHEN_ACTIVE, LPM_SEVERITY_ERROR, false, NULL,
     "The target has the partition's interrupt controller",
     "For POWER: a partition that was started with XIVE at hand does not load on a server that has "
     "only XICS, whatever its "
     "mode.",
     check_interrupts},
    {"processor.mode-rises", LPM_WHEN_ACTIVE, LPM_SEVERITY_INFO, false, NULL,
     "A restart on the target keeps the mode",
     "Each restart evaluates the mode anew: a partition that came from an older server may rise, "
     "and then not go back alive.",
     check_mode_rises},
};

const LpmCheckGroup lpm_check_group_processor = {"processor", "Processor", rows,
                                                 G_N_ELEMENTS(rows)};
