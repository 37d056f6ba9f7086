/* SPDX-License-Identifier: Apache-2.0 */
/* The table for people: as JSON for the command line, as the page of the guide. */
#include "checks/internal.h"

static json_t *row_to_json(const LpmCheckGroup *group, const LpmCheckRow *row)
{
    const LpmHmcCode *code = lpm_hmc_code(row->hmc_code);
    const LpmCheckGuide *guide = lpm_check_guide(row->id);
    g_autofree char *hmc =
        code ? g_strdup_printf("%s%s", code->code, code->verified ? "" : "?") : g_strdup("");
    json_t *json = lpm_json_pack("{s:s, s:s, s:b, s:b, s:s, s:b, s:s?, s:s, s:s}", "check", row->id,
                                 "group", group->name, "active", (row->when & LPM_WHEN_ACTIVE) != 0,
                                 "inactive", (row->when & LPM_WHEN_INACTIVE) != 0, "severity",
                                 lpm_severity_name(row->severity), "overridable", row->overridable,
                                 "hmc_code", row->hmc_code, "title", row->title, "help", row->help);

    /* The code for people; ? where it is not verified. */
    json_object_set_new(json, "hmc", json_string(hmc));
    json_object_set_new(json, "hmc_verified", code ? json_boolean(code->verified) : json_null());
    json_object_set_new(json, "looks_at", json_string(guide ? guide->looks : row->help));
    json_object_set_new(json, "fails", json_string(guide ? guide->fails : ""));
    json_object_set_new(json, "remedy", json_string(guide ? guide->remedy : ""));
    return json;
}

json_t *lpm_checks_list(void)
{
    json_t *list = json_array();

    for (size_t i = 0; lpm_check_groups[i]; i++) {
        for (size_t j = 0; j < lpm_check_groups[i]->n_rows; j++) {
            json_array_append_new(list,
                                  row_to_json(lpm_check_groups[i], &lpm_check_groups[i]->rows[j]));
        }
    }
    return list;
}

static const char introduction[] = "# Validation\n\n"
                                   "<!-- Printed from the table in lib/checks; a test compares. "
                                   "Run it with LPM_UPDATE_GOLDEN=1 after changing the\n"
                                   "table. -->\n\n"
                                   "`lpm validate PARTITION TARGET`, and the first step of every "
                                   "move, runs every check below that applies and shows all\n"
                                   "findings at once. An *error* stops the move, a *warning* and "
                                   "an *info* do not. `--override CHECK` turns the errors\n"
                                   "of one check into warnings, where its section says so. A check "
                                   "that cannot be made, because a system did not say what\n"
                                   "it needs, is an error too: nothing passes unseen. Validation "
                                   "changes nothing. `lpm validate --list` prints this table.\n";

static const char *when_text(LpmCheckWhen when)
{
    switch (when) {
    case LPM_WHEN_ACTIVE:
        return "active moves";
    case LPM_WHEN_INACTIVE:
        return "inactive moves";
    case LPM_WHEN_ALWAYS:
        return "active and inactive moves";
    }
    return "";
}

static void print_row(GString *page, const LpmCheckRow *row)
{
    const LpmCheckGuide *guide = lpm_check_guide(row->id);

    g_string_append_printf(page, "\n### %s\n\n**%s.** %s\n\n", row->id, row->title, row->help);
    if (guide) {
        g_string_append_printf(page, "* Looked at: %s\n* Fails: %s\n* What to do: %s\n\n",
                               guide->looks, guide->fails, guide->remedy);
    }
    g_string_append_printf(page, "Severity: %s. Applies to %s.%s", lpm_severity_name(row->severity),
                           when_text(row->when), row->overridable ? " Can be overridden." : "");
    if (row->hmc_code) {
        const LpmHmcCode *code = lpm_hmc_code(row->hmc_code);

        g_string_append_printf(page, " HMC message code: %s%s.", row->hmc_code,
                               code && !code->verified ? " (not verified)" : "");
    }
    g_string_append_c(page, '\n');
}

static void print_codes(GString *page)
{
    size_t n;
    const LpmHmcCode *codes = lpm_hmc_codes(&n);

    g_string_append(page,
                    "\n## HMC message codes\n\n"
                    "PowerVM's console has a code in front of its messages. Findings carry it "
                    "where the meaning is the same; the name of the\n"
                    "check says more. `lpm validate --list` marks those that are not verified "
                    "with a question mark.\n\n"
                    "| code | verified | meaning |\n| --- | --- | --- |\n");
    for (size_t i = 0; i < n; i++) {
        g_string_append_printf(page, "| %s | %s | %s |\n", codes[i].code,
                               codes[i].verified ? "yes" : "no", codes[i].meaning);
    }
}

char *lpm_checks_markdown(void)
{
    GString *page = g_string_new(introduction);

    for (size_t i = 0; lpm_check_groups[i]; i++) {
        g_string_append_printf(page, "\n## %s\n", lpm_check_groups[i]->title);
        for (size_t j = 0; j < lpm_check_groups[i]->n_rows; j++) {
            print_row(page, &lpm_check_groups[i]->rows[j]);
        }
    }
    print_codes(page);
    return g_string_free(page, FALSE);
}
