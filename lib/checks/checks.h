/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Validation: facts in, findings out. One table of checks, each a small pure function; all of them
 * that apply run, always, so that everything wrong is said at once. The facts document is described
 * in docs/spec/facts.md.
 */
#pragma once

#include "compat/compat.h"

typedef enum {
    LPM_SEVERITY_INFO,
    LPM_SEVERITY_WARNING,
    LPM_SEVERITY_ERROR,
    LPM_SEVERITY_N
} LpmSeverity;

typedef struct {
    const char *check;    /* id of the check, "storage.same-disk"; static */
    LpmSeverity severity; /* an error stops the move */
    char *object;         /* what it is about: "disk disk0", "system system-b" */
    char *expected;
    char *found;
    char *remedy;
    const char *hmc_code; /* PowerVM's message code, NULL: it has none; static */
    bool overridable; /* naming the check in options.overrides turns this error into a warning */
    bool overridden;  /* that was done */
    bool not_checked; /* a fact was missing */
} LpmFinding;

/*
 * Runs every check that applies to the move in @facts. Gives an array of owned LpmFinding, errors
 * first, then warnings, then information, each in the order of the table; empty when there is
 * nothing to say. Never NULL. g_ptr_array_unref() it.
 */
GPtrArray *lpm_checks_run(const json_t *facts, const LpmCompat *compat);

/* Whether any of @findings is an error: the move must not start. */
bool lpm_findings_refuse(const GPtrArray *findings);
/* How many of @findings have @severity. */
unsigned lpm_findings_count(const GPtrArray *findings, LpmSeverity severity);

/*
 * [{"check","severity","object","expected","found","remedy","hmc_code" (or
 * null),"overridable","overridden","not_checked"}]. New reference.
 */
json_t *lpm_findings_to_json(const GPtrArray *findings);
const char *lpm_severity_name(LpmSeverity severity); /* "info", "warning", "error" */

/*
 * Affinity score of the partition on @side ("source", "target"), 0 to 100; -1 when the system has
 * not told of its nodes (checks/affinity.h).
 */
int lpm_checks_affinity(const json_t *facts, const char *side);

/*
 * The table:
 * [{"check","group","active","inactive","severity","overridable","hmc_code","hmc_verified","hmc",
 * "title","help","looks_at","fails","remedy"}], for
 * `lpm validate
 * --list`. New reference.
 */
json_t *lpm_checks_list(void);
/*
 * The mode that the partition of @facts would get if it were restarted where it is, and whether the
 * processors then let it move: {"mode", "changes", "processor_allows", "processor_allows_now"};
 * JSON null when that is not known. New reference.
 */
json_t *lpm_checks_after_restart(const json_t *facts, const LpmCompat *compat);
/* Whether @id names a check, and one that can be overridden. */
bool lpm_checks_is_overridable(const char *id, bool *ret_exists);
/* docs/guide/validation.md, whole. To be g_free()d. */
char *lpm_checks_markdown(void);
