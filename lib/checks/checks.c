/* SPDX-License-Identifier: Apache-2.0 */
/* The engine: runs every row that applies, stops at nothing. */
#include "checks/internal.h"

#include <string.h>

const LpmCheckGroup *const lpm_check_groups[] = {
    &lpm_check_group_general,   &lpm_check_group_server,
    &lpm_check_group_mover,     &lpm_check_group_partition,
    &lpm_check_group_storage,   &lpm_check_group_network,
    &lpm_check_group_processor, &lpm_check_group_prediction,
    &lpm_check_group_guest,     NULL,
};

static bool is_named(const json_t *facts, const char *id)
{
    json_t *item;
    size_t i;

    json_array_foreach (lpm_json_at(facts, "options.overrides"), i, item) {
        if (g_strcmp0(json_string_value(item), id) == 0) {
            return true;
        }
    }
    return false;
}

static void run_group(LpmCheckRun *run, const LpmCheckGroup *group)
{
    LpmCheckWhen when = run->active ? LPM_WHEN_ACTIVE : LPM_WHEN_INACTIVE;

    for (size_t i = 0; i < group->n_rows; i++) {
        run->row = &group->rows[i];
        if (run->row->when & when) {
            run->overridden = run->row->overridable && is_named(run->facts, run->row->id);
            run->row->run(run);
        }
    }
}

/* Errors first, each severity in the order of the table. */
static GPtrArray *sorted(GPtrArray *findings)
{
    GPtrArray *result = g_ptr_array_new_with_free_func((GDestroyNotify)lpm_finding_free);

    for (int severity = LPM_SEVERITY_ERROR; severity >= LPM_SEVERITY_INFO; severity--) {
        for (guint i = 0; i < findings->len; i++) {
            LpmFinding *finding = findings->pdata[i];

            if ((int)finding->severity == severity) {
                g_ptr_array_add(result, finding);
            }
        }
    }
    g_ptr_array_unref(findings);
    return result;
}

/* What a running partition keeps until it is started anew, and what the target builds it with. */
static const char *const built_members[] = {
    "processors", "memory_mib",  "memory_backing", "huge_pages_kib", "boot", "disks",
    "networks",   "guest_agent", "console",        "firmware",       "tpm",  NULL};

/*
 * Of a running partition the profile may have been changed for its next start: the checks look at
 * what is going to move, which is what it was built as. A new reference.
 */
static json_t *as_it_runs(const json_t *facts)
{
    const json_t *built = lpm_json_at(facts, "partition.runtime.profile");
    const json_t *profile = lpm_json_at(facts, "partition.profile");
    json_t *all, *partition, *mixed;

    if (!lpm_json_bool(facts, "options.active", true) || !lpm_json_at(built, "memory_mib") ||
        !json_is_object(profile)) {
        return json_incref((json_t *)facts);
    }
    mixed = json_copy((json_t *)profile);
    for (size_t i = 0; built_members[i]; i++) {
        json_t *value = json_object_get(built, built_members[i]);

        if (value) {
            json_object_set(mixed, built_members[i], value);
        } else {
            json_object_del(mixed, built_members[i]);
        }
    }
    partition = json_copy(json_object_get(facts, "partition"));
    json_object_set_new(partition, "profile", mixed);
    all = json_copy((json_t *)facts);
    json_object_set_new(all, "partition", partition);
    return all;
}

GPtrArray *lpm_checks_run(const json_t *facts_given, const LpmCompat *compat)
{
    g_autoptr(json_t) facts = as_it_runs(facts_given);
    LpmCheckRun run = {
        .facts = facts,
        .compat = compat,
        .active = lpm_json_bool(facts, "options.active", true),
        .partition = lpm_json_str(facts, "partition.profile.name", "(unknown)"),
        /* One that does not answer has at least the name that the console knows it by. */
        .source =
            lpm_json_str(facts, "source.name", lpm_json_str(facts, "rpc.source.name", "(source)")),
        .target =
            lpm_json_str(facts, "target.name", lpm_json_str(facts, "rpc.target.name", "(target)")),
        .findings = g_ptr_array_new(), /* sorted() takes them over one by one */
    };

    if (!lpm_family_from_name(lpm_json_str(facts, "partition.profile.family", ""), &run.family)) {
        run.family = LPM_FAMILY_N;
    }
    for (size_t i = 0; lpm_check_groups[i]; i++) {
        run_group(&run, lpm_check_groups[i]);
    }
    return sorted(run.findings);
}

bool lpm_checks_is_overridable(const char *id, bool *ret_exists)
{
    for (size_t i = 0; lpm_check_groups[i]; i++) {
        for (size_t j = 0; j < lpm_check_groups[i]->n_rows; j++) {
            if (g_strcmp0(lpm_check_groups[i]->rows[j].id, id) == 0) {
                *ret_exists = true;
                return lpm_check_groups[i]->rows[j].overridable;
            }
        }
    }
    *ret_exists = false;
    return false;
}
