/* SPDX-License-Identifier: Apache-2.0 */
#include "checks/internal.h"

#include <string.h>

static const char *const severity_names[LPM_SEVERITY_N] = {
    [LPM_SEVERITY_INFO] = "info",
    [LPM_SEVERITY_WARNING] = "warning",
    [LPM_SEVERITY_ERROR] = "error",
};

const char *lpm_severity_name(LpmSeverity severity)
{
    return severity < LPM_SEVERITY_N ? severity_names[severity] : "error";
}

void lpm_finding_free(LpmFinding *finding)
{
    g_free(finding->object);
    g_free(finding->expected);
    g_free(finding->found);
    g_free(finding->remedy);
    g_free(finding);
}

static LpmFinding *add(LpmCheckRun *run, LpmSeverity severity, char *object, char *expected,
                       char *found, char *remedy)
{
    LpmFinding *finding = g_new0(LpmFinding, 1);

    finding->check = run->row->id;
    finding->overridden = run->overridden && severity == LPM_SEVERITY_ERROR;
    finding->severity = finding->overridden ? LPM_SEVERITY_WARNING : severity;
    finding->object = object;
    finding->expected = expected;
    finding->found = found;
    finding->remedy = remedy;
    finding->hmc_code = run->row->hmc_code;
    finding->overridable = run->row->overridable;
    g_ptr_array_add(run->findings, finding);
    return finding;
}

void lpm_check_fail(LpmCheckRun *run, char *object, char *expected, char *found, char *remedy)
{
    add(run, run->row->severity, object, expected, found, remedy);
}

/* Who should have said it: by the first member of the path. */
static char *teller(const LpmCheckRun *run, const char *fact)
{
    static const struct {
        const char *prefix;
        bool target;
        bool console;
    } tellers[] = {
        {"source", false, false},    {"target", true, false}, {"target_check", true, false},
        {"partition", false, false}, {"mover", false, true},  {"rpc", false, true},
        {"options", false, true},    {"guest", false, false},
    };
    size_t length = strcspn(fact, ".[");

    for (size_t i = 0; i < G_N_ELEMENTS(tellers); i++) {
        if (strlen(tellers[i].prefix) == length && strncmp(fact, tellers[i].prefix, length) == 0) {
            return tellers[i].console
                       ? g_strdup("console")
                       : TEXT("system %s", tellers[i].target ? run->target : run->source);
        }
    }
    return g_strdup("console");
}

/* A system that does not answer says nothing; general.source-answers and general.target-answers say
 * so, once. */
static bool is_of_silent_system(const LpmCheckRun *run, const char *fact)
{
    static const struct {
        const char *prefix, *answered;
    } rows[] = {
        {"source.", "rpc.source.answered"},       {"partition.", "rpc.source.answered"},
        {"rpc.source.", "rpc.source.answered"},   {"target.", "rpc.target.answered"},
        {"target_check.", "rpc.target.answered"}, {"rpc.target.", "rpc.target.answered"},
        {"mover.", "rpc.target.answered"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (g_str_has_prefix(fact, rows[i].prefix)) {
            return !lpm_json_bool(run->facts, rows[i].answered, true);
        }
    }
    return false;
}

void lpm_check_unknown(LpmCheckRun *run, const char *where, const char *path)
{
    g_autofree char *fact = g_strconcat(where, *where && *path ? "." : "", path, NULL);
    g_autofree char *who = teller(run, fact);
    g_autofree char *expected = TEXT("fact %s", fact);

    if (is_of_silent_system(run, fact)) {
        return;
    }
    for (guint i = 0; i < run->findings->len; i++) {
        const LpmFinding *finding = run->findings->pdata[i];

        if (finding->check == run->row->id && finding->not_checked &&
            g_str_equal(finding->expected, expected)) {
            return;
        }
    }
    add(run, LPM_SEVERITY_ERROR, g_strdup(who), g_steal_pointer(&expected),
        g_strdup("not checked: the fact is missing"),
        TEXT("see that %s answers and that it can find this out; its log says why not", who))
        ->not_checked = true;
}

bool lpm_findings_refuse(const GPtrArray *findings)
{
    return lpm_findings_count(findings, LPM_SEVERITY_ERROR) > 0;
}

unsigned lpm_findings_count(const GPtrArray *findings, LpmSeverity severity)
{
    unsigned count = 0;

    for (guint i = 0; i < findings->len; i++) {
        const LpmFinding *finding = findings->pdata[i];

        count += finding->severity == severity;
    }
    return count;
}

json_t *lpm_findings_to_json(const GPtrArray *findings)
{
    json_t *list = json_array();

    for (guint i = 0; i < findings->len; i++) {
        const LpmFinding *finding = findings->pdata[i];

        json_array_append_new(
            list,
            lpm_json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s?, s:b, s:b, s:b}", "check",
                          finding->check, "severity", lpm_severity_name(finding->severity),
                          "object", finding->object, "expected", finding->expected, "found",
                          finding->found, "remedy", finding->remedy, "hmc_code", finding->hmc_code,
                          "overridable", finding->overridable, "overridden", finding->overridden,
                          "not_checked", finding->not_checked));
    }
    return list;
}
