/* SPDX-License-Identifier: Apache-2.0 */
/* Who talks to whom, what must be free, what both sides must know. */
#include "checks/internal.h"

#include <inttypes.h>
#include <string.h>

static void check_answers(LpmCheckRun *run, const char *side)
{
    g_autofree char *answered_path = g_strdup_printf("rpc.%s.answered", side);
    g_autofree char *error_path = g_strdup_printf("rpc.%s.error", side);
    bool answered;

    if (!lpm_fact_bool(run, NULL, answered_path, &answered) || answered) {
        return;
    }
    lpm_check_fail(run, TEXT("system %s", lpm_check_system(run, side)), TEXT("an answer"),
                   TEXT("none: %s", lpm_json_str(run->facts, error_path, "no reason given")),
                   TEXT("see that lpm-host runs there and that the network to it is up"));
}

static void check_source_answers(LpmCheckRun *run)
{
    check_answers(run, "source");
}

static void check_target_answers(LpmCheckRun *run)
{
    check_answers(run, "target");
}

static void check_two_systems(LpmCheckRun *run)
{
    const char *source;
    const char *target;

    if (!lpm_fact_text(run, NULL, "source.name", &source) ||
        !lpm_fact_text(run, NULL, "target.name", &target)) {
        return;
    }
    if (g_str_equal(source, target)) {
        lpm_check_fail(run, TEXT("system %s", target), TEXT("a target other than the source"),
                       TEXT("the same system"), TEXT("name another target system"));
    }
}

static bool has_number(const json_t *list, json_int_t number)
{
    json_t *item;
    size_t i;

    json_array_foreach (list, i, item) {
        if (json_is_integer(item) && json_integer_value(item) == number) {
            return true;
        }
    }
    return false;
}

static bool have_common_number(const json_t *a, const json_t *b)
{
    json_t *item;
    size_t i;

    json_array_foreach (a, i, item) {
        if (json_is_integer(item) && has_number(b, json_integer_value(item))) {
            return true;
        }
    }
    return false;
}

static void check_versions(LpmCheckRun *run, const char *what, const char *member)
{
    g_autofree char *source_path = g_strdup_printf("source.%s", member);
    g_autofree char *target_path = g_strdup_printf("target.%s", member);
    g_autofree char *here = NULL;
    g_autofree char *there = NULL;
    json_t *source;
    json_t *target;

    if (!lpm_fact_list(run, NULL, source_path, &source) ||
        !lpm_fact_list(run, NULL, target_path, &target) || have_common_number(source, target)) {
        return;
    }
    here = lpm_json_text(source);
    there = lpm_json_text(target);
    lpm_check_fail(run, TEXT("systems %s and %s", run->source, run->target),
                   TEXT("a common version of the %s", what),
                   TEXT("%s speaks %s, %s speaks %s", run->source, here, run->target, there),
                   TEXT("bring OpenLPM on both systems to versions that have one in common"));
}

static void check_protocol(LpmCheckRun *run)
{
    check_versions(run, "RPC protocol", "rpc_versions");
}

static void check_stream_version(LpmCheckRun *run)
{
    check_versions(run, "mover's wire", "stream_versions");
}

static void check_mobility_allowed(LpmCheckRun *run)
{
    bool disabled;

    if (lpm_fact_bool(run, NULL, "partition.profile.migration_disabled", &disabled) && disabled) {
        lpm_check_fail(run, TEXT("partition %s", run->partition), TEXT("mobility allowed"),
                       TEXT("migration_disabled is set"),
                       TEXT("clear migration_disabled in the profile, if it may move"));
    }
}

static void check_owner(LpmCheckRun *run)
{
    const char *owner;
    const char *source;

    if (lpm_fact_text(run, NULL, "partition.owner", &owner) &&
        lpm_fact_text(run, NULL, "source.name", &source) && !g_str_equal(owner, source)) {
        lpm_check_fail(run, TEXT("partition %s", run->partition),
                       TEXT("ownership record naming %s", source),
                       TEXT("it names %s", *owner ? owner : "nobody"),
                       TEXT("recover its last move: lpm migration recover"));
    }
}

static void check_other_move(LpmCheckRun *run)
{
    const char *move;

    if (lpm_fact_text(run, NULL, "partition.other_move", &move) && *move) {
        lpm_check_fail(run, TEXT("partition %s", run->partition), TEXT("no move going on"),
                       TEXT("move %s is going on", move),
                       TEXT("wait for it, or stop it: lpm migration stop %s", move));
    }
}

static void check_unfinished_move(LpmCheckRun *run)
{
    static const char *const paths[] = {"partition.unfinished_move",
                                        "target_check.unfinished_move"};

    for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
        const char *move;

        if (lpm_fact_text(run, NULL, paths[i], &move) && *move) {
            lpm_check_fail(
                run,
                TEXT("partition %s on system %s", run->partition, i ? run->target : run->source),
                TEXT("no unfinished move"), TEXT("move %s has not been cleaned up", move),
                TEXT("recover it first: lpm migration recover %s", move));
        }
    }
}

static void check_slots(LpmCheckRun *run)
{
    const char *kind = run->active ? "active" : "inactive";

    for (size_t i = 0; i < G_N_ELEMENTS(lpm_check_sides); i++) {
        const char *side = lpm_check_sides[i];
        g_autofree char *limit_path = g_strdup_printf("%s.slots.%s_limit", side, kind);
        g_autofree char *used_path = g_strdup_printf("%s.slots.%s_used", side, kind);
        int64_t limit, used;

        if (lpm_fact_int(run, NULL, limit_path, &limit) &&
            lpm_fact_int(run, NULL, used_path, &used) && used >= limit) {
            lpm_check_fail(run, TEXT("system %s", lpm_check_system(run, side)),
                           TEXT("fewer than %" G_GINT64_FORMAT " %s moves", limit, kind),
                           TEXT("%" G_GINT64_FORMAT " are going on", used),
                           TEXT("wait for one of them to end, or raise the system's limit"));
        }
    }
}

static void check_name_free(LpmCheckRun *run)
{
    const char *user;

    if (lpm_fact_text(run, NULL, "target_check.name_used_by", &user) && *user) {
        lpm_check_fail(run, TEXT("partition %s", run->partition),
                       TEXT("name not in use on %s", run->target),
                       TEXT("another partition has it there, with UUID %s", user),
                       TEXT("rename one of the two"));
    }
}

static void check_uuid_free(LpmCheckRun *run)
{
    const char *user;

    if (lpm_fact_text(run, NULL, "target_check.uuid_used_by", &user) && *user) {
        lpm_check_fail(
            run, TEXT("partition %s", run->partition), TEXT("UUID not in use on %s", run->target),
            TEXT("partition %s has it there", user),
            TEXT("find out which of the two is the copy, and delete it or give it another UUID"));
    }
}

static void check_mac_free(LpmCheckRun *run)
{
    json_t *used;
    json_t *item;
    size_t i;

    if (!lpm_fact_list(run, NULL, "target_check.macs_used", &used)) {
        return;
    }
    json_array_foreach (used, i, item) {
        lpm_check_fail(
            run, TEXT("MAC address %s", lpm_json_str(item, "mac", "(unknown)")),
            TEXT("not in use on %s", run->target),
            TEXT("partition %s has it there", lpm_json_str(item, "partition", "(unknown)")),
            TEXT("give one of the two another address"));
    }
}

static void check_machine_type(LpmCheckRun *run)
{
    bool known;

    if (lpm_fact_bool(run, NULL, "target_check.machine_known", &known) && !known) {
        lpm_check_fail(
            run, TEXT("partition %s", run->partition),
            TEXT("machine type %s known to QEMU on %s",
                 lpm_json_str(run->facts, "partition.profile.machine", "(none)"), run->target),
            TEXT("it is not"),
            TEXT("install a QEMU on %s that is not older than the source's", run->target));
    }
}

static void check_device_models(LpmCheckRun *run)
{
    g_autofree const char **unknown = NULL;

    if (!lpm_fact_texts(run, NULL, "target_check.unknown_devices", &unknown)) {
        return;
    }
    for (size_t i = 0; unknown[i]; i++) {
        lpm_check_fail(run, TEXT("device model %s", unknown[i]),
                       TEXT("known to QEMU on %s", run->target), TEXT("it is not"),
                       TEXT("install a QEMU on %s that has it", run->target));
    }
}

enum { ARBITER_QUICK_MS = 50 }; /* what lpm-host waits for before a switchover */

static const char *remedy_for_arbiter(const LpmCheckRun *run)
{
    static const struct {
        const char *kind, *remedy;
    } rows[] = {
        {"etcd", "give both systems the same [arbiter:etcd] in their configuration, and see that "
                 "its endpoints answer both"},
        {"scsi", "give both systems the same LUN in [arbiter:scsi] of their configuration, and see "
                 "that its target lets both in"},
        {"console", "see that lpm-console runs, and that both systems have joined it"},
    };
    const char *kind = lpm_json_str(run->facts, "partition.arbiter", "");

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (g_str_equal(kind, rows[i].kind)) {
            return rows[i].remedy;
        }
    }
    return "give both systems the storage that holds the record, or use another arbiter";
}

static void check_arbiter(LpmCheckRun *run)
{
    bool reachable;

    if (lpm_fact_bool(run, NULL, "target_check.arbiter_reachable", &reachable) && !reachable) {
        lpm_check_fail(run, TEXT("ownership record of partition %s", run->partition),
                       TEXT("%s can read and change it", run->target),
                       TEXT("it cannot: %s", lpm_json_str(run->facts, "target_check.arbiter_reason",
                                                          "no reason given")),
                       TEXT("%s", remedy_for_arbiter(run)));
    }
}

/* A target that does not reach the record says nothing else about it; general.arbiter tells why. */
static bool record_fact(LpmCheckRun *run, const char *path, int64_t *ret_value)
{
    bool reachable = lpm_json_bool(run->facts, "target_check.arbiter_reachable", true);

    return (reachable || lpm_json_at(run->facts, path)) && lpm_fact_int(run, NULL, path, ret_value);
}

/* One etcd, or one LUN, configured here and another one there, each with a record. */
static void check_arbiter_same(LpmCheckRun *run)
{
    int64_t here, there;
    bool known = lpm_fact_int(run, NULL, "partition.record_revision", &here);

    if (record_fact(run, "target_check.record_revision", &there) && known && here != there) {
        lpm_check_fail(run, TEXT("ownership record of partition %s", run->partition),
                       TEXT("revision %" PRId64 " on %s, as on %s", here, run->target, run->source),
                       TEXT("revision %" PRId64, there), TEXT("%s", remedy_for_arbiter(run)));
    }
}

static void check_arbiter_quick(LpmCheckRun *run)
{
    int64_t took;

    if (record_fact(run, "target_check.arbiter_ms", &took) && took > ARBITER_QUICK_MS) {
        lpm_check_fail(run, TEXT("ownership record of partition %s", run->partition),
                       TEXT("an answer to %s within %d ms", run->target, ARBITER_QUICK_MS),
                       TEXT("%" PRId64 " ms", took),
                       TEXT("the switchover waits until the answers are quick; see what keeps the "
                            "record, and the network to it, busy"));
    }
}

static void check_arbiter_console(LpmCheckRun *run)
{
    const char *kind;

    if (lpm_fact_text(run, NULL, "partition.arbiter", &kind) && g_str_equal(kind, "console")) {
        lpm_check_fail(run, TEXT("ownership record of partition %s", run->partition),
                       TEXT("kept on storage that both systems reach"), TEXT("kept by the console"),
                       TEXT("keep lpm-console up and reachable until the move has ended"));
    }
}

static void check_overrides(LpmCheckRun *run)
{
    g_autofree const char **overrides = NULL;

    if (!lpm_fact_texts(run, NULL, "options.overrides", &overrides)) {
        return;
    }
    for (size_t i = 0; overrides[i]; i++) {
        bool exists;

        if (!lpm_checks_is_overridable(overrides[i], &exists)) {
            lpm_check_fail(
                run, TEXT("override %s", overrides[i]), TEXT("a check that can be overridden"),
                exists ? TEXT("this one cannot") : TEXT("no check has this name"),
                TEXT("lpm validate --list shows the checks and which can be overridden"));
        }
    }
}

static const LpmCheckRow rows[] = {
    {"general.source-answers", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "The source system answers",
     "Without its lpm-host nothing is known about the partition and nothing can be moved away.",
     check_source_answers},
    {"general.target-answers", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "The target system answers", "Without its lpm-host the partition cannot be received.",
     check_target_answers},
    {"general.two-systems", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "Source and target are two systems", "A partition that is already there has nowhere to go.",
     check_two_systems},
    {"general.protocol", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "Both systems speak a common version of the RPC protocol",
     "Systems of different releases can work together as long as there is one.", check_protocol},
    {"general.stream-version", LPM_WHEN_ACTIVE, LPM_SEVERITY_ERROR, false, NULL,
     "Both movers speak a common version of the wire",
     "Memory and state travel in a format that both movers must know.", check_stream_version},
    {"general.mobility-allowed", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "Mobility is allowed for the partition",
     "An administrator can pin a partition to its system by setting migration_disabled in its "
     "profile.",
     check_mobility_allowed},
    {"general.owner", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "The ownership record names the source system",
     "The record decides where a partition may run; a system that it does not name must not give "
     "the partition away.",
     check_owner},
    {"general.other-move", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "No other move of the partition is going on", "A partition moves one way at a time.",
     check_other_move},
    {"general.unfinished-move", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "No move of the partition waits for recovery",
     "What an interrupted move left behind on either system must be cleaned up first.",
     check_unfinished_move},
    {"general.slots", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "Both systems have room for one more move",
     "Each system limits how many moves it takes part in at once.", check_slots},
    {"general.name-free", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "The name is free on the target", "Partitions are addressed by name.", check_name_free},
    {"general.uuid-free", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "The UUID is free on the target",
     "Two partitions with one UUID are usually a copy that was forgotten.", check_uuid_free},
    {"general.mac-free", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "The MAC addresses are free on the target",
     "Two adapters with one address take each other's traffic.", check_mac_free},
    {"general.machine-type", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "QEMU on the target knows the machine type",
     "A running partition keeps its machine type, and a stopped one is promised the same at its "
     "next start.",
     check_machine_type},
    {"general.device-models", LPM_WHEN_ACTIVE, LPM_SEVERITY_ERROR, false, NULL,
     "QEMU on the target knows every device of the running partition",
     "The state of a device can be loaded only into the same device.", check_device_models},
    {"general.arbiter", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "The target reaches the ownership record",
     "The moment of the handover is one change of that record by both systems in turn.",
     check_arbiter},
    {"general.arbiter-same", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "Both systems see the same ownership record",
     "Two records, each with its own owner, would let the partition run twice.",
     check_arbiter_same},
    {"general.arbiter-quick", LPM_WHEN_ACTIVE, LPM_SEVERITY_WARNING, false, NULL,
     "The ownership record answers the target quickly",
     "It is changed twice while the partition stands still, and the switchover waits for quick "
     "answers.",
     check_arbiter_quick},
    {"general.arbiter-console", LPM_WHEN_ALWAYS, LPM_SEVERITY_INFO, false, NULL,
     "The ownership record does not depend on the console",
     "Where no common storage keeps the record, the console does, and is then needed during the "
     "handover.",
     check_arbiter_console},
    {"general.overrides", LPM_WHEN_ALWAYS, LPM_SEVERITY_WARNING, false, NULL,
     "Every override names such a check", "A misspelled override has no effect; this says so.",
     check_overrides},
};

const LpmCheckGroup lpm_check_group_general = {"general", "General", rows, G_N_ELEMENTS(rows)};
