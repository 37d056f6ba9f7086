/* SPDX-License-Identifier: Apache-2.0 */
/* What the software inside the partition says to the move. */
#include "checks/internal.h"
#include "predict/cluster.h"
#include "predict/predict.h"

#include <string.h>

static const char *result_of(const LpmCheckRun *run)
{
    return lpm_json_str(run->facts, "guest.result", NULL);
}

static bool result_is(const LpmCheckRun *run, const char *name)
{
    return g_strcmp0(result_of(run), name) == 0;
}

/* Those that were asked whether, not told that somebody else said no. */
static bool was_asked(const json_t *script)
{
    return strcmp(lpm_json_str(script, "action", ""), "undocheck") != 0;
}

static bool said_yes(const json_t *script)
{
    return strcmp(lpm_json_str(script, "answer", ""), "yes") == 0;
}

static char *name_of(const LpmCheckRun *run, const json_t *script)
{
    return TEXT("%s %s in partition %s", lpm_json_str(script, "kind", "script"),
                lpm_json_str(script, "name", "?"), run->partition);
}

static void check_scripts(LpmCheckRun *run)
{
    json_t *script;
    size_t i;

    run->overridden = lpm_json_bool(run->facts, "options.force_scripts", false);
    json_array_foreach (lpm_json_at(run->facts, "guest.scripts"), i, script) {
        if (was_asked(script) && !said_yes(script)) {
            lpm_check_fail(run, name_of(run, script), TEXT("its consent"),
                           TEXT("%s", lpm_json_str(script, "words", "no reason")),
                           TEXT("see to what it says and try again; --force-scripts goes on "
                                "against its no, --skip-guest-scripts asks nobody"));
        }
    }
}

static void check_asked(LpmCheckRun *run)
{
    static const char *const answered[] = {"ok", "no", "absent", NULL};
    const char *result = result_of(run);

    if (!result || g_strv_contains(answered, result) ||
        !g_str_equal(lpm_json_str(run->facts, "partition.agent", "active"), "active")) {
        return; /* an agent that does not answer at all is another check's */
    }
    lpm_check_fail(run, TEXT("partition %s", run->partition), TEXT("an answer of its scripts"),
                   TEXT("%s: %s", result, lpm_json_str(run->facts, "guest.error", "")),
                   TEXT("look at it with \"lpm-drmgr --status\" in the partition, or override"));
}

static void check_framework(LpmCheckRun *run)
{
    if (result_is(run, "absent") &&
        lpm_json_bool(run->facts, "partition.profile.guest_agent", true)) {
        lpm_check_fail(run, TEXT("partition %s", run->partition), TEXT("lpm-drmgr in it"),
                       TEXT("%s", lpm_json_str(run->facts, "guest.error", "it is not there")),
                       TEXT("nothing need be done; with lpm-drmgr its scripts would be asked"));
    }
}

static void check_skipped(LpmCheckRun *run)
{
    if (lpm_json_bool(run->facts, "options.skip_scripts", false)) {
        lpm_check_fail(run, TEXT("partition %s", run->partition),
                       TEXT("its scripts are asked and told"),
                       TEXT("the move is to go on without them (--skip-guest-scripts)"),
                       TEXT("what depends on them, a cluster for one, learns nothing of the move"));
    }
}

static void check_said(LpmCheckRun *run)
{
    json_t *script, *entry;
    size_t i, k;

    json_array_foreach (lpm_json_at(run->facts, "guest.scripts"), i, script) {
        json_array_foreach (lpm_json_at(script, "log"), k, entry) {
            const char *level = lpm_json_str(entry, "level", "");

            if (was_asked(script) && strcmp(level, "debug") != 0) {
                lpm_check_fail(run, name_of(run, script), TEXT("nothing to say"),
                               TEXT("%s: %s", level, lpm_json_str(entry, "text", "")),
                               TEXT("nothing need be done: it consents or not by its answer"));
            }
        }
    }
}

/* Whether there is a cluster, and something was predicted that it has to bear. */
static bool cluster_and_blackout(const LpmCheckRun *run, LpmCluster *ret_cluster,
                                 LpmPredictBand *ret_band)
{
    LpmPredictInput input;
    LpmPrediction prediction;

    if (!lpm_cluster_read(lpm_json_at(run->facts, "guest.scripts"), ret_cluster) ||
        !lpm_predict_read(run->facts, &input)) {
        return false;
    }
    lpm_predict(&input, &prediction);
    *ret_band = prediction.figures[LPM_PREDICT_BLACKOUT];
    return ret_band->value >= 0;
}

/* To be g_free()d, as the next. */
static char *what_it_bears(const LpmCluster *cluster)
{
    int64_t bears = lpm_cluster_bears_ms(cluster);

    if (cluster->during > 0) {
        return TEXT("a blackout of at most %" G_GINT64_FORMAT " ms, which is what its failure "
                    "detection of %" G_GINT64_FORMAT " s during the move is enough for",
                    bears, cluster->during / 1000);
    }
    return TEXT("a blackout of at most %" G_GINT64_FORMAT " ms, half of the %" G_GINT64_FORMAT
                " ms of silence after which its cluster of %" G_GINT64_FORMAT
                " members declares it lost",
                bears, lpm_cluster_lost_ms(cluster), cluster->members);
}

static char *what_helps(const LpmCluster *cluster, double blackout_ms)
{
    int64_t needed = lpm_cluster_needed_s(blackout_ms);

    return cluster->during > 0
               ? TEXT("set HEARTBEAT_FREQUENCY_DURING_LPM to %" G_GINT64_FORMAT
                      " s or more in /etc/lpm/pacemaker.conf, move it when it writes less, or "
                      "override",
                      needed)
               : TEXT("let the cluster wait longer during the move (\"lpm-pacemaker setup\" on one "
                      "member, once; docs/guide/clusters.md), move it when it writes less, or "
                      "override");
}

static void cluster_finding(LpmCheckRun *run, const LpmCluster *cluster, const LpmPredictBand *band)
{
    lpm_check_fail(run, TEXT("partition %s", run->partition), what_it_bears(cluster),
                   TEXT("about %.0f ms, at worst %.0f ms, are predicted", band->value,
                        MAX(band->high, band->value)),
                   what_helps(cluster, MAX(band->high, band->value)));
}

static void check_cluster(LpmCheckRun *run)
{
    LpmCluster cluster;
    LpmPredictBand band;

    if (cluster_and_blackout(run, &cluster, &band) &&
        band.value > (double)lpm_cluster_bears_ms(&cluster)) {
        cluster_finding(run, &cluster, &band);
    }
}

static void check_cluster_margin(LpmCheckRun *run)
{
    LpmCluster cluster;
    LpmPredictBand band;

    if (cluster_and_blackout(run, &cluster, &band)) {
        double bears = (double)lpm_cluster_bears_ms(&cluster);

        if (band.value <= bears && band.high > bears) {
            cluster_finding(run, &cluster, &band);
        }
    }
}

static void check_cluster_limit(LpmCheckRun *run)
{
    int64_t asked = lpm_json_int(run->facts, "options.asked_blackout_ms", 0); /* 0: not lowered */
    LpmCluster cluster;

    if (asked > 0 && lpm_cluster_read(lpm_json_at(run->facts, "guest.scripts"), &cluster)) {
        lpm_check_fail(run, TEXT("partition %s", run->partition), what_it_bears(&cluster),
                       TEXT("up to %" G_GINT64_FORMAT
                            " ms were asked for; the move accepts %" G_GINT64_FORMAT " ms",
                            asked, lpm_cluster_bears_ms(&cluster)),
                       TEXT("nothing need be done; \"lpm-pacemaker setup\" on one member of the "
                            "cluster, once, lets it wait longer"));
    }
}

static const LpmCheckRow rows[] = {
    {"guest.scripts", LPM_WHEN_ACTIVE, LPM_SEVERITY_ERROR, false, NULL,
     "Every script in the partition consents",
     "Scripts that are registered with lpm-drmgr, and hooks of /etc/drmgr.d/pmig, are asked "
     "whether "
     "it may move now. Their no is heard, unless the move is forced.",
     check_scripts},
    {"guest.asked", LPM_WHEN_ACTIVE, LPM_SEVERITY_ERROR, true, NULL,
     "The scripts in the partition have answered",
     "The guest agent is there, but the question whether the partition may move got no answer.",
     check_asked},
    {"guest.framework", LPM_WHEN_ACTIVE, LPM_SEVERITY_INFO, false, NULL,
     "lpm-drmgr is in the partition",
     "Without it nothing in the partition is asked or told about the move.", check_framework},
    {"guest.skipped", LPM_WHEN_ACTIVE, LPM_SEVERITY_WARNING, false, NULL,
     "The scripts in the partition take part",
     "With --skip-guest-scripts nobody in the partition is asked or told.", check_skipped},
    {"guest.said", LPM_WHEN_ACTIVE, LPM_SEVERITY_INFO, false, NULL,
     "The scripts in the partition have nothing to remark",
     "What a script logs when it is asked (DR_LOG_WARNING and others) is shown here.", check_said},
    {"guest.cluster", LPM_WHEN_ACTIVE, LPM_SEVERITY_ERROR, true, NULL,
     "The partition's cluster bears the predicted blackout",
     "A cluster declares a member lost that is silent for too long, and then starts its services a "
     "second time, or fences it.",
     check_cluster},
    {"guest.cluster-margin", LPM_WHEN_ACTIVE, LPM_SEVERITY_WARNING, false, NULL,
     "It bears the blackout also if that is as long as it may become",
     "A prediction is a band; this is about its upper end.", check_cluster_margin},
    {"guest.cluster-limit", LPM_WHEN_ACTIVE, LPM_SEVERITY_INFO, false, NULL,
     "The blackout limit is one that the partition's cluster bears",
     "Where nothing lengthens the cluster's failure detection for the move, the limit of the "
     "blackout is lowered to what it bears as it is.",
     check_cluster_limit},
};

const LpmCheckGroup lpm_check_group_guest = {"guest", "Guest", rows, G_N_ELEMENTS(rows)};
