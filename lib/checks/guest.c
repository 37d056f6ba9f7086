/* SPDX-License-Identifier: Apache-2.0 */
/* What the software inside the partition says to the move. */
#include "checks/internal.h"

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
};

const LpmCheckGroup lpm_check_group_guest = {"guest", "Guest", rows, G_N_ELEMENTS(rows)};
