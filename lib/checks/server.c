/* SPDX-License-Identifier: Apache-2.0 */
/* The two servers: state, clock, power, capacity, emulator. */
#include "checks/internal.h"

#include "checks/affinity.h"

#define CLOCK_LIMIT_MS   5000
#define CERTIFICATE_DAYS 30

static void check_operating(LpmCheckRun *run)
{
    const char *state;

    if (lpm_fact_text(run, NULL, "target.state", &state) && !g_str_equal(state, "operating")) {
        lpm_check_fail(run, TEXT("system %s", run->target), TEXT("state operating"),
                       TEXT("state %s", state),
                       TEXT("end its maintenance, or choose another target"));
    }
}

/* Both offsets are against the console's clock, each known to within half a round trip. */
static void check_clock(LpmCheckRun *run)
{
    int64_t limit = lpm_json_int(run->facts, "options.clock_limit_ms", CLOCK_LIMIT_MS) * 1000;
    int64_t source, target, source_error, target_error;
    int64_t apart, error;
    bool known = lpm_fact_int(run, NULL, "rpc.source.clock_offset_us", &source);

    known &= lpm_fact_int(run, NULL, "rpc.source.clock_error_us", &source_error);
    known &= lpm_fact_int(run, NULL, "rpc.target.clock_offset_us", &target);
    known &= lpm_fact_int(run, NULL, "rpc.target.clock_error_us", &target_error);
    if (!known) {
        return;
    }
    apart = ABS(target - source);
    error = ABS(source_error) + ABS(target_error);
    if (apart + error > limit) {
        lpm_check_fail(
            run, TEXT("clocks of %s and %s", run->source, run->target),
            TEXT("less than %.3f s apart", (double)limit / 1e6),
            TEXT("%.3f s apart, known to within %.3f s", (double)apart / 1e6, (double)error / 1e6),
            TEXT("set both clocks by the same time service (chronyd, systemd-timesyncd)"));
    }
}

static void check_power(LpmCheckRun *run)
{
    for (size_t i = 0; i < G_N_ELEMENTS(lpm_check_sides); i++) {
        g_autofree char *path = g_strdup_printf("%s.power.state", lpm_check_sides[i]);
        const char *state;

        if (lpm_fact_text(run, NULL, path, &state) && !g_str_equal(state, "mains")) {
            g_autofree char *reason_path = g_strdup_printf("%s.power.reason", lpm_check_sides[i]);
            const char *reason = lpm_json_str(run->facts, reason_path, "");

            lpm_check_fail(
                run, TEXT("system %s", lpm_check_system(run, lpm_check_sides[i])),
                TEXT("on mains power"), TEXT("on %s%s%s", state, *reason ? ": " : "", reason),
                TEXT("restore its power, or override when the move is to get away from it"));
        }
    }
}

/* By the clock of whoever shows it; what a neighbouring release does not tell is not judged. */
static void check_certificate(LpmCheckRun *run)
{
    static const struct {
        const char *part, *what, *remedy;
    } owners[] = {
        {"source", "system", "`lpm system add` with its name, and there `lpm-host join`"},
        {"target", "system", "`lpm system add` with its name, and there `lpm-host join`"},
        {"console", "console", "on its machine `lpm-console renew`, and restart lpm-console"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(owners); i++) {
        const json_t *owner = json_object_get(run->facts, owners[i].part);
        int64_t ends_us = lpm_json_int(owner, "certificate_ends_us", 0);
        int64_t left_us = ends_us - lpm_json_int(owner, "clock_us", 0);

        if (ends_us != 0 && left_us < CERTIFICATE_DAYS * G_TIME_SPAN_DAY) {
            lpm_check_fail(
                run, TEXT("certificate of %s %s", owners[i].what, lpm_json_str(owner, "name", "?")),
                TEXT("good for %d days or more", CERTIFICATE_DAYS),
                TEXT("it ends in %.1f days, and then nothing reaches it any more",
                     (double)left_us / (double)G_TIME_SPAN_DAY),
                TEXT("%s; partitions and moves go on meanwhile", owners[i].remedy));
        }
    }
}

/* What the partition has: with what it was given since its start, which an older system does not
 * tell. */
static const char *memory_path(const LpmCheckRun *run)
{
    return lpm_json_at(run->facts, "partition.memory_mib") ? "partition.memory_mib"
                                                           : "partition.profile.memory_mib";
}

static const char *processors_path(const LpmCheckRun *run)
{
    return lpm_json_at(run->facts, "partition.processors") ? "partition.processors"
                                                           : "partition.profile.processors";
}

/* Of the pages that its memory is made of; what it runs with counts, else what it will be started
 * with. */
static bool huge_page_size(LpmCheckRun *run, int64_t *ret_kib)
{
    *ret_kib = lpm_json_int(run->facts, "partition.profile.huge_pages_kib", 0);
    return !run->active || lpm_fact_int(run, NULL, "partition.huge_page_kib", ret_kib);
}

static void check_memory(LpmCheckRun *run)
{
    int64_t wanted, available, huge = 0;

    if (!huge_page_size(run, &huge) || !lpm_fact_int(run, NULL, memory_path(run), &wanted)) {
        return;
    }
    if (huge > 0) {
        /* What it was started with is server.huge-pages' to look at. */
        wanted -= lpm_json_int(run->facts, "partition.profile.memory_mib", wanted);
    }
    if (wanted > 0 && lpm_fact_int(run, NULL, "target.memory.free_mib", &available) &&
        wanted > available) {
        lpm_check_fail(
            run, TEXT("system %s", run->target),
            TEXT("%" G_GINT64_FORMAT " MiB of memory for partition %s", wanted, run->partition),
            TEXT("%" G_GINT64_FORMAT " MiB are free", available),
            TEXT("stop or move a partition there, or choose another target"));
    }
}

static char *huge_pages_text(const json_t *list)
{
    GString *text = g_string_new(NULL);
    json_t *item;
    size_t i;

    json_array_foreach (list, i, item) {
        g_string_append_printf(
            text, "%s%" G_GINT64_FORMAT " MiB are free in pages of %" G_GINT64_FORMAT " KiB",
            text->len ? ", " : "", lpm_json_int(item, "free_mib", 0), lpm_json_int(item, "kib", 0));
    }
    return g_string_free(text->len ? text : g_string_append(text, "it has no huge pages"), FALSE);
}

static void check_huge_pages(LpmCheckRun *run)
{
    int64_t wanted, size, available = 0;
    json_t *list, *item;
    size_t i;

    if (!huge_page_size(run, &wanted) || wanted == 0 ||
        !lpm_fact_list(run, NULL, "target.memory.huge_pages", &list) ||
        !lpm_fact_int(run, NULL, "partition.profile.memory_mib", &size)) {
        return;
    }
    json_array_foreach (list, i, item) {
        if (lpm_json_int(item, "kib", 0) == wanted) {
            available = lpm_json_int(item, "free_mib", 0);
        }
    }
    if (available < size) {
        lpm_check_fail(run, TEXT("system %s", run->target),
                       TEXT("%" G_GINT64_FORMAT " MiB in huge pages of %" G_GINT64_FORMAT
                            " KiB for partition %s",
                            size, wanted, run->partition),
                       huge_pages_text(list),
                       TEXT("reserve huge pages of that size there (nr_hugepages), or choose "
                            "another target"));
    }
}

static void check_room(LpmCheckRun *run)
{
    for (size_t i = 0; i < G_N_ELEMENTS(lpm_check_sides); i++) {
        const char *side = lpm_check_sides[i];
        g_autofree char *place_path = g_strdup_printf("%s.room.path", side);
        g_autofree char *free_path = g_strdup_printf("%s.room.free_mib", side);
        g_autofree char *needed_path = g_strdup_printf("%s.room.needed_mib", side);
        int64_t available, needed;

        if (lpm_fact_int(run, NULL, free_path, &available) &&
            lpm_fact_int(run, NULL, needed_path, &needed) && available < needed) {
            lpm_check_fail(run, TEXT("system %s", lpm_check_system(run, side)),
                           TEXT("%" G_GINT64_FORMAT " MiB for the journal of a move in %s", needed,
                                lpm_json_str(run->facts, place_path, "its state directory")),
                           TEXT("%" G_GINT64_FORMAT " MiB are free", available),
                           TEXT("make room there"));
        }
    }
}

static void check_partitions(LpmCheckRun *run)
{
    int64_t limit, used;

    if (lpm_fact_int(run, NULL, "target.room.partitions_limit", &limit) &&
        lpm_fact_int(run, NULL, "target.room.partitions_used", &used) && used >= limit) {
        lpm_check_fail(
            run, TEXT("system %s", run->target),
            TEXT("fewer than %" G_GINT64_FORMAT " partitions", limit),
            TEXT("it has %" G_GINT64_FORMAT, used),
            TEXT("delete or move one there, or raise its limit (partitions in [limits])"));
    }
}

static void check_processors(LpmCheckRun *run)
{
    int64_t wanted, available;

    if (lpm_fact_int(run, NULL, processors_path(run), &wanted) &&
        lpm_fact_int(run, NULL, "target.processors.free", &available) && wanted > available) {
        lpm_check_fail(run, TEXT("system %s", run->target),
                       TEXT("%" G_GINT64_FORMAT " virtual processors for partition %s", wanted,
                            run->partition),
                       TEXT("%" G_GINT64_FORMAT " are free", available),
                       TEXT("stop or move a partition there, or choose another target"));
    }
}

/* --- affinity --- */

static void read_node(const json_t *item, int64_t own_mib, LpmNode *ret)
{
    const json_t *distances = lpm_json_at(item, "distances");

    *ret = (LpmNode){.free_mib = lpm_json_int(item, "free_mib", 0) + own_mib,
                     .processors = (int)lpm_json_int(item, "processors", 0)};
    for (size_t i = 0; i < json_array_size(distances) && i < LPM_NODES; i++) {
        ret->distances[i] = (int)json_integer_value(json_array_get(distances, i));
        ret->n_distances = i + 1;
    }
}

int lpm_checks_affinity(const json_t *facts, const char *side)
{
    bool source = g_str_equal(side, "source");
    g_autofree char *path = g_strdup_printf("%s.numa", side);
    const json_t *list = lpm_json_at(facts, path);
    const json_t *own = lpm_json_at(facts, "partition.numa_mib");
    g_autofree LpmNode *nodes = g_new0(LpmNode, LPM_NODES);
    LpmAffinityNeed need = {
        .memory_mib = lpm_json_int(facts, "partition.memory_mib",
                                   lpm_json_int(facts, "partition.profile.memory_mib", 0)),
        .processors = (int)lpm_json_int(facts, "partition.processors",
                                        lpm_json_int(facts, "partition.profile.processors", 0))};
    size_t n = json_array_size(list);

    if (n == 0 || n > LPM_NODES) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        /* Where it is, its own memory could be its own again. */
        int64_t mine = source ? json_integer_value(json_array_get(own, i)) : 0;

        read_node(json_array_get(list, i), mine, &nodes[i]);
    }
    return lpm_affinity_score(nodes, n, &need);
}

static bool affinity_scores(LpmCheckRun *run, int *ret_source, int *ret_target)
{
    json_t *list;

    *ret_source = lpm_checks_affinity(run->facts, "source");
    *ret_target = lpm_checks_affinity(run->facts, "target");
    if (*ret_source < 0) {
        (void)lpm_fact_list(run, NULL, "source.numa", &list);
    }
    if (*ret_target < 0) {
        (void)lpm_fact_list(run, NULL, "target.numa", &list);
    }
    return *ret_source >= 0 && *ret_target >= 0;
}

static void check_affinity(LpmCheckRun *run)
{
    bool not_lower = lpm_json_bool(run->facts, "options.affinity", false);
    int64_t least = lpm_json_int(run->facts, "options.min_affinity", 0);
    int source, target;

    if ((!not_lower && least == 0) || !affinity_scores(run, &source, &target)) {
        return;
    }
    least = MAX(least, not_lower ? source : 0);
    if (target < least) {
        lpm_check_fail(run, TEXT("system %s", run->target),
                       TEXT("an affinity score of %" G_GINT64_FORMAT " or more for partition %s",
                            least, run->partition),
                       TEXT("%d (%d on %s)", target, source, run->source),
                       TEXT("free memory on one of its nodes, choose another target, or move "
                            "without --affinity"));
    }
}

static void check_affinity_score(LpmCheckRun *run)
{
    int source = lpm_checks_affinity(run->facts, "source");
    int target = lpm_checks_affinity(run->facts, "target");

    if (source >= 0 && target >= 0 && target < source) {
        lpm_check_fail(
            run, TEXT("partition %s", run->partition),
            TEXT("an affinity score of %d, as on %s", source, run->source),
            TEXT("%d on %s: its memory will be farther from its processors", target, run->target),
            TEXT("--affinity refuses such a move"));
    }
}

static void check_emulator(LpmCheckRun *run)
{
    const char *name = lpm_family_name(run->family);
    g_autofree char *path = NULL;

    if (run->family == LPM_FAMILY_N) {
        lpm_check_unknown(run, "", "partition.profile.family");
        return;
    }
    if (!json_is_object(lpm_json_at(run->facts, "target.emulators"))) {
        lpm_check_unknown(run, "", "target.emulators");
        return;
    }
    path = g_strdup_printf("target.emulators.%s", name);
    if (!lpm_json_at(run->facts, path)) {
        lpm_check_fail(run, TEXT("system %s", run->target), TEXT("it can run %s partitions", name),
                       TEXT("it cannot"),
                       TEXT("install a QEMU for %s there, or choose another target", name));
    }
}

/* Whether the target is known to have no emulator for this family: server.emulator says so, once.
 */
static bool has_no_emulator(const LpmCheckRun *run)
{
    g_autofree char *path = g_strdup_printf(
        "target.emulators.%s", run->family < LPM_FAMILY_N ? lpm_family_name(run->family) : "");

    return json_is_object(lpm_json_at(run->facts, "target.emulators")) &&
           run->family < LPM_FAMILY_N && !lpm_json_at(run->facts, path);
}

static void check_accelerator(LpmCheckRun *run)
{
    LpmFactPlace emulator;
    const char *here;
    const char *there;

    if (has_no_emulator(run) || !lpm_fact_text(run, NULL, "partition.accel", &here) ||
        !lpm_fact_emulator(run, "target", &emulator) ||
        !lpm_fact_text(run, &emulator, "accel", &there)) {
        return;
    }
    if (!g_str_equal(here, there)) {
        lpm_check_fail(run, TEXT("partition %s", run->partition),
                       TEXT("accelerator %s on %s", here, run->target),
                       TEXT("accelerator %s", there),
                       TEXT("choose a target with the same accelerator, or move it inactive"));
    }
}

/* The memory file's modules are compared in a verified move; all others never are. */
static bool has_uncompared_modules(const LpmCheckRun *run)
{
    return lpm_check_modules(run) > 0 && (!lpm_json_bool(run->facts, "options.verify", false) ||
                                          lpm_check_modules_outside(run) > 0);
}

static void judge_emulator(LpmCheckRun *run, const char *side, const char *version,
                           const char *accel)
{
    const char *current = lpm_json_str(run->facts, "partition.current_mode", NULL);
    const char *mode = lpm_json_str(run->facts, "partition.interrupt_mode", NULL);
    const char *machine;
    int64_t processors;
    LpmEmulatorUse use = {.family = run->family, .accel = accel, .version = version};
    LpmEmulatorVerdict verdict;

    if (!lpm_fact_int(run, NULL, processors_path(run), &processors) ||
        !lpm_fact_text(run, NULL, "partition.machine", &machine)) {
        return;
    }
    use.processors = (int)CLAMP(processors, 0, LPM_PROCESSORS_MAX);
    use.machine = machine;
    use.modules_uncompared = has_uncompared_modules(run);
    if (run->family == LPM_FAMILY_POWER) {
        use.interrupts = lpm_compat_interrupts_in_use(run->compat, mode, current);
    }
    verdict = lpm_compat_emulator(run->compat, &use);
    if (!verdict.safe) {
        lpm_check_fail(
            run, TEXT("QEMU %s (%s) on system %s", version, accel, lpm_check_system(run, side)),
            TEXT("one that moves running %s partitions of this kind safely",
                 lpm_family_name(run->family)),
            TEXT("%s", verdict.reason),
            TEXT("use a QEMU that is known to be safe (docs/guide/modes.md lists them), or move it "
                 "inactive"));
    }
}

static void check_emulator_safe(LpmCheckRun *run)
{
    LpmFactPlace emulator;
    const char *version;
    const char *accel;

    if (lpm_fact_text(run, NULL, "partition.emulator_version", &version) &&
        lpm_fact_text(run, NULL, "partition.accel", &accel)) {
        judge_emulator(run, "source", version, accel);
    }
    if (!has_no_emulator(run) && lpm_fact_emulator(run, "target", &emulator) &&
        lpm_fact_text(run, &emulator, "version", &version) &&
        lpm_fact_text(run, &emulator, "accel", &accel)) {
        judge_emulator(run, "target", version, accel);
    }
}

static const LpmCheckRow rows[] = {
    {"server.operating", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "The target is operating",
     "A system in maintenance takes no partitions. A source in maintenance may give them away.",
     check_operating},
    {"server.clock", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, true, NULL,
     "The clocks of both servers agree",
     "The partition takes the time of its server with it; a jump disturbs clusters, tickets and "
     "logs. The difference is "
     "measured over the connections to both systems, and its uncertainty counts against it.",
     check_clock},
    {"server.certificate", LPM_WHEN_ALWAYS, LPM_SEVERITY_WARNING, false, NULL,
     "The certificates of both systems and of the console are good for another month",
     "Without one nobody is listened to: no console reaches the system, and no move begins or ends "
     "there.",
     check_certificate},
    {"server.power", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, true, NULL,
     "Both servers are on mains power",
     "A server that runs on battery may go down in the middle of the move.", check_power},
    {"server.memory", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "The target has the partition's memory free", "All of it is reserved before the move starts.",
     check_memory},
    {"server.huge-pages", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "The target has huge pages of the same size where the partition uses them",
     "A running partition keeps the kind of pages it was started with.", check_huge_pages},
    {"server.room", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "Both systems have room for the journal of a move",
     "Every step is written down before it is done; a disk that is full would stop the move in the "
     "middle.",
     check_room},
    {"server.partitions", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "The target may have one more partition",
     "Each system limits how many partitions it has, activated or not.", check_partitions},
    {"server.processors", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "The target has the partition's processors free",
     "Counted in virtual processors that the target may give out.", check_processors},
    {"server.affinity", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, true, NULL,
     "The affinity score on the target is as high as was asked for",
     "Asked for by --affinity (not lower than on the source) and --min-affinity. The score says "
     "how "
     "near the partition's memory can be to its processors: 100 when one NUMA node can hold both, "
     "50 when memory is on average twice as far.",
     check_affinity},
    {"server.affinity-score", LPM_WHEN_ALWAYS, LPM_SEVERITY_INFO, false, NULL,
     "The affinity score on the target is not lower",
     "Told also when nobody asked for it, since a partition may run slower there.",
     check_affinity_score},
    {"server.emulator", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "The target can run partitions of this family",
     "Each family needs its own QEMU, and one that really starts.", check_emulator},
    {"server.accelerator", LPM_WHEN_ACTIVE, LPM_SEVERITY_ERROR, false, NULL,
     "The target runs the partition with the same accelerator",
     "State saved under KVM does not load under software emulation, nor the other way.",
     check_accelerator},
    {"server.emulator-safe", LPM_WHEN_ACTIVE, LPM_SEVERITY_ERROR, true, NULL,
     "Both emulators are known to move such a partition unharmed",
     "Some versions of QEMU's software emulation lose memory, timers or interrupts in a move "
     "without saying so. What is "
     "known is a table of the project; what it does not name is refused. Override only for a "
     "partition that may be lost.",
     check_emulator_safe},
};

const LpmCheckGroup lpm_check_group_server = {"server", "Server", rows, G_N_ELEMENTS(rows)};
