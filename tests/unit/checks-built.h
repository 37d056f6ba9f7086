/* SPDX-License-Identifier: Apache-2.0 */
/* Part of test-checks.c: what a partition was built as, and disks that are only read. */
#pragma once

static void assert_found(const json_t *facts, const char *check, bool expected)
{
    g_autoptr(GPtrArray) findings = lpm_checks_run(facts, compat);

    show(findings);
    g_assert_cmpint(find(findings, check) != NULL, ==, expected);
}

/* Of a running partition what it was built as counts, not its profile for the next start. */
static void test_as_it_runs(void)
{
    static const Base bases[] = {X86, INACTIVE};

    for (size_t i = 0; i < G_N_ELEMENTS(bases); i++) {
        g_autoptr(json_t) facts = load(bases[i]);
        json_t *built = json_deep_copy(lpm_json_at(facts, "partition.profile"));
        json_t *huge = json_deep_copy(built);

        set_at(facts, P "runtime", "{}");
        set_at(facts, PP "disks.0.reserve_policy", "\"single_path\"");
        set_at(facts, PP "networks.0.name", "\"another\"");
        assert_found(facts, "storage.reserve-policy", true);
        json_object_set_new(lpm_json_at(facts, P "runtime"), "profile", built);
        assert_found(facts, "storage.reserve-policy", bases[i] == INACTIVE);
        assert_found(facts, "network.switch", bases[i] == INACTIVE);

        /* Lowered for the next start; 2 GiB in huge pages are what the target needs now. */
        set_at(facts, P "huge_page_kib", "2048");
        set_at(facts, PP "huge_pages_kib", "2048");
        set_at(facts, PP "memory_mib", "64");
        json_object_set_new(huge, "memory_mib", json_integer(2048));
        json_object_set_new(lpm_json_at(facts, P "runtime"), "profile", huge);
        assert_found(facts, "server.huge-pages", bases[i] == X86);
    }
}

/* Many may read one image; QEMU's lock keeps writers away from it. */
static void test_read_by_many(void)
{
    g_autoptr(json_t) facts = load(X86);

    set_at(facts, P "disks.3.locked_by", "\"process 7\"");
    set_at(facts, TC "disks.3.lock", "\"elsewhere\"");
    assert_found(facts, "storage.locks", false);
    set_at(facts, P "disks.0.locked_by", "\"process 7\"");
    assert_found(facts, "storage.locks", true);
    set_at(facts, PP "disks.0.read_only", "true");
    assert_found(facts, "storage.locks", false);
}
