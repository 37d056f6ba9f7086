/* SPDX-License-Identifier: Apache-2.0 */
/* The movers and the way between them. */
#include "checks/internal.h"

#define LONG_MOVE_S 600

static void check_available(LpmCheckRun *run)
{
    for (size_t i = 0; i < G_N_ELEMENTS(lpm_check_sides); i++) {
        const char *side = lpm_check_sides[i];
        g_autofree char *path = g_strdup_printf("%s.mover.present", side);
        g_autofree char *reason_path = g_strdup_printf("%s.mover.reason", side);
        bool present;

        if (lpm_fact_bool(run, NULL, path, &present) && !present) {
            lpm_check_fail(
                run, TEXT("system %s", lpm_check_system(run, side)), TEXT("a mover can be started"),
                TEXT("it cannot: %s", lpm_json_str(run->facts, reason_path, "no reason given")),
                TEXT("install lpm-mover there, of the same release as lpm-host"));
        }
    }
}

static void check_slots(LpmCheckRun *run)
{
    for (size_t i = 0; i < G_N_ELEMENTS(lpm_check_sides); i++) {
        const char *side = lpm_check_sides[i];
        g_autofree char *limit_path = g_strdup_printf("%s.mover.limit", side);
        g_autofree char *used_path = g_strdup_printf("%s.mover.used", side);
        int64_t limit, used;

        if (lpm_fact_int(run, NULL, limit_path, &limit) &&
            lpm_fact_int(run, NULL, used_path, &used) && used >= limit) {
            lpm_check_fail(run, TEXT("system %s", lpm_check_system(run, side)),
                           TEXT("fewer than %" G_GINT64_FORMAT " movers", limit),
                           TEXT("%" G_GINT64_FORMAT " are running", used),
                           TEXT("wait for a move to end, or raise the system's limit"));
        }
    }
}

static void check_vasi(LpmCheckRun *run)
{
    for (size_t i = 0; i < G_N_ELEMENTS(lpm_check_sides); i++) {
        const char *side = lpm_check_sides[i];
        g_autofree char *path = g_strdup_printf("%s.vasi.possible", side);
        g_autofree char *reason_path = g_strdup_printf("%s.vasi.reason", side);
        bool possible;

        if (lpm_fact_bool(run, NULL, path, &possible) && !possible) {
            lpm_check_fail(run, TEXT("system %s", lpm_check_system(run, side)),
                           TEXT("a socket between QEMU and the mover"),
                           TEXT("it cannot be made: %s",
                                lpm_json_str(run->facts, reason_path, "no reason given")),
                           TEXT("see that lpm-host may open more descriptors there (LimitNOFILE) "
                                "and write in its run directory"));
        }
    }
}

static void check_connection(LpmCheckRun *run)
{
    bool connected;

    if (!lpm_json_bool(run->facts, "rpc.target.answered", true)) {
        return; /* general.target-answers says it */
    }
    if (lpm_fact_bool(run, NULL, "mover.connected", &connected) && !connected) {
        lpm_check_fail(
            run, TEXT("movers of %s and %s", run->source, run->target),
            TEXT("a TLS connection to %s", lpm_json_str(run->facts, "mover.address", "the target")),
            TEXT("none: %s", lpm_json_str(run->facts, "mover.error", "no reason given")),
            TEXT("see that the mover network is up, that no firewall is in the way, and that both "
                 "systems "
                 "have certificates of this console"));
    }
}

static void check_rate(LpmCheckRun *run)
{
    int64_t limit = lpm_json_int(run->facts, "options.long_move_s", LONG_MOVE_S);
    int64_t rate, memory;
    double seconds;

    if (!lpm_json_bool(run->facts, "mover.connected", true) || /* mover.connection says it */
        !lpm_fact_int(run, NULL, "mover.rate_bytes_s", &rate) ||
        !lpm_fact_int(run, NULL, "partition.profile.memory_mib", &memory)) {
        return;
    }
    seconds = (double)memory * 1048576.0 / (double)MAX(rate, 1);
    if (seconds > (double)limit) {
        lpm_check_fail(run, TEXT("movers of %s and %s", run->source, run->target),
                       TEXT("a first copy within %" G_GINT64_FORMAT " s", limit),
                       TEXT("%.1f MB/s were measured: it would take up to %.0f s",
                            (double)rate / 1e6, seconds),
                       TEXT("use a faster network between the systems, or allow for the time"));
    }
}

static void check_link(LpmCheckRun *run)
{
    int64_t rate, trip;

    if (!lpm_json_bool(run->facts, "mover.connected", true)) {
        return; /* mover.connection says it */
    }
    if (lpm_fact_int(run, NULL, "mover.rate_bytes_s", &rate) &&
        lpm_fact_int(run, NULL, "mover.round_trip_us", &trip)) {
        lpm_check_fail(run, TEXT("movers of %s and %s", run->source, run->target),
                       TEXT("a link whose rate and round trip are known"),
                       TEXT("%.1f MB/s and %.3f ms were measured to %s", (double)rate / 1e6,
                            (double)trip / 1e3, lpm_json_str(run->facts, "mover.address", "it")),
                       TEXT("nothing need be done"));
    }
}

static bool wants_postcopy(const LpmCheckRun *run)
{
    return lpm_json_bool(run->facts, "options.postcopy", false) ||
           lpm_json_int(run->facts, "options.postcopy_after_s", 0) > 0;
}

static void check_postcopy(LpmCheckRun *run)
{
    bool possible;

    if (wants_postcopy(run) && lpm_fact_bool(run, NULL, "target.postcopy.possible", &possible) &&
        !possible) {
        lpm_check_fail(run, TEXT("system %s", run->target),
                       TEXT("QEMU may handle page faults there, as post-copy needs it"),
                       TEXT("it may not: %s",
                            lpm_json_str(run->facts, "target.postcopy.reason", "no reason given")),
                       TEXT("give QEMU's user /dev/userfaultfd by a udev rule, or set "
                            "vm.unprivileged_userfaultfd to 1 there; or move without --postcopy"));
    }
}

/* QEMU asks for whole huge pages then, which the movers' accounts of pages do not follow. */
static void check_postcopy_pages(LpmCheckRun *run)
{
    int64_t kib;

    if (wants_postcopy(run) && lpm_fact_int(run, NULL, "partition.huge_page_kib", &kib) &&
        kib > 0) {
        lpm_check_fail(run, TEXT("partition %s", run->partition),
                       TEXT("ordinary pages, as post-copy needs them here"),
                       TEXT("huge pages of %" G_GINT64_FORMAT " KiB", kib),
                       TEXT("move without --postcopy"));
    }
}

static void check_postcopy_risk(LpmCheckRun *run)
{
    if (wants_postcopy(run)) {
        lpm_check_fail(
            run, TEXT("systems %s and %s", run->source, run->target),
            TEXT("a move that survives the loss of one of them"),
            TEXT("post-copy: from the switchover to the end of the move both are needed, "
                 "and the loss of one of them or of its QEMU loses the partition's "
                 "memory"),
            TEXT("switch neither off until the move has ended; without --postcopy "
                 "nothing is lost"));
    }
}

static const LpmCheckRow rows[] = {
    {"mover.available", LPM_WHEN_ACTIVE, LPM_SEVERITY_ERROR, false, "HSCLA27C",
     "A mover can be started on both systems",
     "The mover carries memory and state from one system to the other.", check_available},
    {"mover.slots", LPM_WHEN_ACTIVE, LPM_SEVERITY_ERROR, false, NULL,
     "Both systems have room for one more mover",
     "Each active move has a mover of its own on either side.", check_slots},
    {"mover.vasi", LPM_WHEN_ACTIVE, LPM_SEVERITY_ERROR, false, NULL,
     "QEMU and the mover can be connected",
     "QEMU writes its stream into a local socket that lpm-host hands to both.", check_vasi},
    {"mover.connection", LPM_WHEN_ACTIVE, LPM_SEVERITY_ERROR, false, "HSCLA27C",
     "The movers reach each other",
     "Tried for real: movers started on both systems, TLS 1.3, both certificates, on the network "
     "that the move will use.",
     check_connection},
    {"mover.rate", LPM_WHEN_ACTIVE, LPM_SEVERITY_WARNING, false, NULL,
     "The first copy will not take long",
     "Estimated from the partition's memory and the rate measured between the movers.", check_rate},
    {"mover.link", LPM_WHEN_ACTIVE, LPM_SEVERITY_INFO, false, NULL,
     "The link between the movers was measured",
     "What a real connection between two movers carried for a moment, and the time there and back.",
     check_link},
    {"mover.postcopy", LPM_WHEN_ACTIVE, LPM_SEVERITY_ERROR, false, NULL,
     "The target's QEMU can wait for memory that is still at the source",
     "Asked for by --postcopy and --postcopy-after: the partition runs there before its memory has "
     "come.",
     check_postcopy},
    {"mover.postcopy-pages", LPM_WHEN_ACTIVE, LPM_SEVERITY_ERROR, false, NULL,
     "Post-copy is not asked for with huge pages",
     "A page that is missing would be waited for until all of its huge page has come; such moves "
     "are not supported.",
     check_postcopy_pages},
    {"mover.postcopy-risk", LPM_WHEN_ACTIVE, LPM_SEVERITY_WARNING, false, NULL,
     "The move does not need both systems until its end",
     "With post-copy the partition's memory is on two systems for a while.", check_postcopy_risk},
};

const LpmCheckGroup lpm_check_group_mover = {"mover", "Mover", rows, G_N_ELEMENTS(rows)};
