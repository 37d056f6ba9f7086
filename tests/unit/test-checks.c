/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every check against a healthy facts document (it must be silent), the same with one thing wrong
 * (it and nothing else must speak) and with the fact left out (it must say so).
 */
#include "checks/checks.h"
#include "compat-data.h"

static LpmCompat *compat;

typedef enum { X86, POWER, INACTIVE } Base;

static json_t *load(Base base)
{
    g_autofree char *path =
        g_build_filename(g_getenv("G_TEST_SRCDIR"), "facts",
                         base == POWER ? "healthy-power.json" : "healthy-x86.json", NULL);
    g_autofree char *text = test_read_file(path);
    g_autoptr(GError) error = NULL;
    json_t *facts = lpm_json_parse(text, strlen(text), &error);

    g_assert_no_error(error);
    if (base == INACTIVE) {
        json_object_set_new(lpm_json_at(facts, "options"), "active", json_false());
        json_object_set_new(lpm_json_at(facts, "partition"), "state", json_string("not-activated"));
        json_object_del(facts, "mover");
        json_object_del(lpm_json_at(facts, "partition"), "current_mode");
        json_object_del(lpm_json_at(facts, "partition"), "agent");
    }
    return facts;
}

/* Sets the value at @path (which exists, or whose parent does); NULL removes it. */
static void set_at(json_t *facts, const char *path, const char *json)
{
    const char *dot = strrchr(path, '.');
    g_autofree char *parent = g_strndup(path, dot ? (gsize)(dot - path) : 0);
    const char *member = dot ? dot + 1 : path;
    json_t *owner = lpm_json_at(facts, parent);

    g_assert_true(json_is_object(owner));
    if (!json) {
        g_assert_cmpint(json_object_del(owner, member), ==, 0);
    } else {
        json_t *value = json_loads(json, JSON_DECODE_ANY, NULL);

        g_assert_nonnull(value);
        g_assert_cmpint(json_object_set_new(owner, member, value), ==, 0);
    }
}

static const LpmFinding *find(const GPtrArray *findings, const char *check)
{
    for (guint i = 0; i < findings->len; i++) {
        const LpmFinding *finding = findings->pdata[i];

        if (g_str_equal(finding->check, check)) {
            return finding;
        }
    }
    return NULL;
}

static void show(const GPtrArray *findings)
{
    for (guint i = 0; i < findings->len; i++) {
        const LpmFinding *f = findings->pdata[i];

        g_test_message("%s %s: %s: expected %s; found %s; %s", lpm_severity_name(f->severity),
                       f->check, f->object, f->expected, f->found, f->remedy);
    }
}

/*
 * @path set to @value makes @check speak with @severity about @object, and no other check but @also
 * (a list with commas).
 * @optional: the check can do without the fact.
 */
typedef struct {
    const char *check;
    Base base;
    const char *path, *value;
    const char *object;
    const char *also;
    bool optional;
} Case;

#define P "partition."
#define LOOKS(first, second)                                                                       \
    "{\"unit_bytes\":262144,\"looks\":[{\"ms\":100,\"bytes\":" first                               \
    "},{\"ms\":400,\"bytes\":" second "}]}"
#define PP "partition.profile."
#define TC "target_check."

static const Case cases[] = {
    {"general.source-answers", X86, "rpc.source.answered", "false", "system system-a"},
    {"general.target-answers", X86, "rpc.target.answered", "false", "system system-b"},
    {"general.two-systems", X86, "target.name", "\"system-a\"", "system system-a"},
    {"general.protocol", X86, "target.rpc_versions", "[2,3]", "systems system-a and system-b"},
    {"general.stream-version", X86, "source.stream_versions", "[]",
     "systems system-a and system-b"},
    {"general.mobility-allowed", X86, PP "migration_disabled", "true", "partition web1"},
    {"general.owner", X86, P "owner", "\"system-c\"", "partition web1"},
    {"general.other-move", X86, P "other_move", "\"abc\"", "partition web1"},
    {"general.unfinished-move", X86, P "unfinished_move", "\"abc\"",
     "partition web1 on system system-a"},
    {"general.unfinished-move", X86, TC "unfinished_move", "\"abc\"",
     "partition web1 on system system-b"},
    {"general.slots", X86, "source.slots.active_used", "4", "system system-a"},
    {"general.slots", X86, "target.slots.active_limit", "0", "system system-b"},
    {"general.slots", INACTIVE, "target.slots.inactive_used", "5", "system system-b"},
    {"general.name-free", X86, TC "name_used_by", "\"uuid\"", "partition web1"},
    {"general.uuid-free", X86, TC "uuid_used_by", "\"copy\"", "partition web1"},
    {"general.mac-free", X86, TC "macs_used",
     "[{\"mac\":\"52:54:00:00:00:01\",\"partition\":\"copy\"}]", "MAC address 52:54:00:00:00:01"},
    {"general.machine-type", X86, TC "machine_known", "false", "partition web1"},
    {"general.device-models", X86, TC "unknown_devices", "[\"virtio-sound-pci\"]",
     "device model virtio-sound-pci"},
    {"general.arbiter", X86, TC "arbiter_reachable", "false", "ownership record of partition web1"},
    {"general.arbiter-same", X86, TC "record_revision", "4", "ownership record of partition web1"},
    {"general.arbiter-quick", X86, TC "arbiter_ms", "51", "ownership record of partition web1"},
    {"general.arbiter-console", X86, P "arbiter", "\"console\"",
     "ownership record of partition web1"},
    {"general.overrides", X86, "options.overrides", "[\"network.swich\"]",
     "override network.swich"},
    {"general.overrides", X86, "options.overrides", "[\"server.memory\"]",
     "override server.memory"},
    {"server.operating", X86, "target.state", "\"maintenance\"", "system system-b"},
    {"server.clock", X86, "rpc.target.clock_offset_us", "5000000",
     "clocks of system-a and system-b"},
    {"server.clock", X86, "rpc.source.clock_offset_us", "-5003000",
     "clocks of system-a and system-b"},
    {"server.clock", X86, "rpc.target.clock_error_us", "5000000",
     "clocks of system-a and system-b"},
    {"server.clock", X86, "rpc.source.clock_error_us", "4999000",
     "clocks of system-a and system-b"},
    {"server.clock", X86, "options.clock_limit_ms", "1", "clocks of system-a and system-b", NULL,
     true},
    {"server.huge-pages", X86, P "huge_page_kib", "65536", "system system-b"},
    {"server.room", X86, "source.room.free_mib", "15", "system system-a"},
    {"server.room", POWER, "target.room.free_mib", "0", "system system-b"},
    {"server.room", INACTIVE, "target.room.free_mib", "0", "system system-b"},
    {"server.partitions", X86, "target.room.partitions_used", "10", "system system-b"},
    {"server.affinity", X86, "options.min_affinity", "101", "system system-b", NULL, true},
    {"server.affinity-score", X86, "target.numa",
     "[{\"free_mib\":200,\"processors\":4,\"distances\":[10,20]},"
     "{\"free_mib\":200,\"processors\":4,\"distances\":[20,10]}]",
     "partition web1", NULL, true},
    {"server.certificate", X86, "source.certificate_ends_us", "1700864000000000",
     "certificate of system system-a", NULL, true},
    {"server.certificate", X86, "target.certificate_ends_us", "1700864000000000",
     "certificate of system system-b", NULL, true},
    {"server.certificate", X86, "console.certificate_ends_us", "1700864000000000",
     "certificate of console console", NULL, true},
    {"server.power", X86, "source.power.state", "\"battery\"", "system system-a"},
    {"server.power", X86, "target.power.state", "\"battery\"", "system system-b"},
    {"server.memory", X86, "target.memory.free_mib", "255", "system system-b"},
    {"server.processors", X86, "target.processors.free", "1", "system system-b"},
    {"server.emulator", X86, "target.emulators", "{}", "system system-b",
     "processor.preferred-mode,processor.current-mode,processor.features,processor.mode-rises"},
    {"server.accelerator", X86, "target.emulators.x86-64.accel", "\"kvm\"", "partition web1"},
    {"server.emulator-safe", X86, "target.emulators.x86-64.version", "\"7.2.22\"",
     "QEMU 7.2.22 (tcg) on system system-b"},
    {"server.emulator-safe", X86, P "emulator_version", "\"7.2.22\"",
     "QEMU 7.2.22 (tcg) on system system-a"},
    {"server.emulator-safe", POWER, PP "processors", "2", "QEMU 10.0.13 (tcg) on system system-a"},
    {"server.emulator-safe", POWER, "target.emulators.power.version", "\"10.0.2\"",
     "QEMU 10.0.2 (tcg) on system system-b"},
    {"mover.available", X86, "source.mover.present", "false", "system system-a"},
    {"mover.available", X86, "target.mover.present", "false", "system system-b"},
    {"mover.slots", X86, "target.mover.used", "4", "system system-b"},
    {"mover.slots", X86, "source.mover.limit", "0", "system system-a"},
    {"mover.vasi", X86, "source.vasi.possible", "false", "system system-a"},
    {"mover.vasi", X86, "target.vasi.possible", "false", "system system-b"},
    {"mover.connection", X86, "mover.connected", "false", "movers of system-a and system-b"},
    {"mover.rate", X86, "mover.rate_bytes_s", "400000", "movers of system-a and system-b"},
    {"mover.rate", X86, "options.long_move_s", "1", "movers of system-a and system-b", NULL, true},
    {"mover.postcopy", POWER, "options.postcopy", "true", "system system-b", "mover.postcopy-risk",
     true},
    {"mover.postcopy", POWER, "options.postcopy_after_s", "60", "system system-b",
     "mover.postcopy-risk", true},
    {"mover.link", X86, "mover.round_trip_us", "300", "movers of system-a and system-b"},
    {"mover.postcopy-risk", X86, "options.postcopy", "true", "systems system-a and system-b", NULL,
     true},
    {"partition.state", X86, P "state", "\"paused\"", "partition web1"},
    {"partition.state", X86, P "state", "\"not-activated\"", "partition web1"},
    {"partition.state", INACTIVE, P "state", "\"running\"", "partition web1"},
    {"partition.agent", X86, P "agent", "\"silent\"", "partition web1"},
    {"partition.no-agent", X86, PP "guest_agent", "false", "partition web1", NULL, true},
    {"partition.local-devices", X86, P "local_devices", "[\"host USB device 1-2\"]",
     "partition web1"},
    {"partition.consoles", X86, P "consoles_open", "1", "partition web1"},
    {"guest.scripts", X86, "guest",
     "{\"result\": \"no\", \"scripts\": [{\"kind\": \"script\", \"name\": \"all/web\", "
     "\"action\": \"checkmigrate\", \"answer\": \"no\", \"words\": \"a backup runs\"}, "
     "{\"kind\": \"hook\", \"name\": \"pmig/a\", \"action\": \"undocheck\", "
     "\"answer\": \"failed\"}]}",
     "script all/web in partition web1", NULL, true},
    {"guest.asked", X86, "guest", "{\"result\": \"silent\", \"error\": \"no answer\"}",
     "partition web1", NULL, true},
    {"guest.framework", X86, "guest", "{\"result\": \"absent\"}", "partition web1", NULL, true},
    {"guest.skipped", X86, "options.skip_scripts", "true", "partition web1", NULL, true},
    {"guest.said", X86, "guest",
     "{\"result\": \"ok\", \"scripts\": [{\"action\": \"checkmigrate\", \"answer\": \"yes\", "
     "\"log\": [{\"level\": \"warning\", \"text\": \"slow today\"}]}]}",
     "script ? in partition web1", NULL, true},
    {"guest.cluster", X86, "guest",
     "{\"result\": \"ok\", \"scripts\": [{\"answer\": \"yes\", \"facts\": {\"cluster_members\": "
     "\"3\", \"cluster_token_ms\": \"500\"}}]}",
     "partition web1", NULL, true},
    {"guest.cluster-margin", X86, "guest",
     "{\"result\": \"ok\", \"scripts\": [{\"answer\": \"yes\", \"facts\": {\"cluster_members\": "
     "\"3\", \"cluster_token_ms\": \"500\", "
     "\"cluster_during_ms\": \"5000\"}}]}",
     "partition web1", NULL, true},
    {"partition.memory-backing", X86, P "memory_backing", "\"private\"", "partition web1"},
    {"partition.activated-once", INACTIVE, PP "machine", "null", "partition web1", NULL, true},
    {"partition.profiles", X86, PP "profile", "\"big\"", "partition web1", NULL, true},
    {"partition.profiles", POWER, "target.profiles_max", "1", "partition web1", NULL, true},
    {"partition.uefi", X86, "target.uefi_code_bytes", "0", "system system-b"},
    {"partition.uefi", X86, "target.uefi_code_bytes", "4096", "system system-b"},
    {"storage.visible", X86, TC "disks.0.visible", "false", "disk disk0"},
    {"storage.same-disk", X86, TC "disks.0.nonce", "\"\"", "disk disk0"},
    {"storage.same-disk", X86, TC "disks.0.nonce", "\"77\"", "disk disk0"},
    {"storage.same-disk", X86, P "disks.0.nonce", "\"\"", "disk disk0"},
    {"storage.size", X86, TC "disks.0.size_bytes", "4096", "disk disk0"},
    {"storage.format", X86, TC "disks.0.format", "\"qcow2\"", "disk disk0"},
    {"storage.locks", X86, P "disks.0.locked_by", "\"process 7\"", "disk disk0"},
    {"storage.locks", X86, TC "disks.0.locked_by", "\"process 8\"", "disk disk0"},
    {"storage.locks", X86, P "disks.0.lock", "\"elsewhere\"", "disk disk0", NULL, true},
    {"storage.locks", X86, P "disks.0.lock", "\"none\"", "disk disk0", NULL, true},
    {"storage.driver", X86, TC "disks.1.driver_reason", "\"no such module\"", "disk disk1"},
    {"storage.visible", X86, TC "disks.1.visible", "false", "disk disk1"},
    {"storage.same-disk", X86, TC "disks.1.identity", "\"naa.6001405aa0000002\"", "disk disk1"},
    {"storage.same-disk", X86, TC "disks.1.identity", "\"\"", "disk disk1"},
    {"storage.same-disk", X86, P "disks.1.identity", "\"\"", "disk disk1"},
    {"storage.same-disk", X86, TC "disks.0.kind", "\"rbd\"", "disk disk0",
     "storage.driver,storage.writable", true},
    {"storage.same-content", X86, TC "disks.1.sample", "[\"ab\",\"bc\",\"aa\",\"\"]", "disk disk1"},
    {"storage.same-content", INACTIVE, TC "disks.1.sample", "[\"aa\",\"bc\",\"aa\",\"\"]",
     "disk disk1"},
    {"storage.same-content", X86, P "disks.1.sample", "[\"\",\"\",\"\",\"\"]", "disk disk1"},
    {"storage.size", X86, TC "disks.1.size_bytes", "4096", "disk disk1"},
    {"storage.backing", X86, TC "disks.2.backing_reason", "\"/san/base.raw: No such file\"",
     "disk disk2"},
    {"storage.backing", X86, TC "disks.2.backing", "[]", "disk disk2"},
    {"storage.backing", X86, TC "disks.2.backing.0.size_bytes", "8192", "disk disk2", NULL, true},
    {"storage.backing", X86, TC "disks.2.backing.0.format", "\"qcow2\"", "disk disk2", NULL, true},
    {"storage.backing", X86, TC "disks.2.backing.0.sample", "[\"cc\",\"\",\"de\"]", "disk disk2",
     NULL, true},
    {"storage.optical", X86, TC "disks.3.visible", "false", "optical drive cd0", NULL, true},
    {"storage.optical", X86, TC "disks.3.nonce", "\"\"", "optical drive cd0"},
    {"storage.writable", X86, P "disks.1.write_protected", "true", "disk disk1"},
    {"storage.writable", X86, TC "disks.1.write_protected", "true", "disk disk1"},
    {"storage.reserve-policy", X86, PP "disks.1.reserve_policy", "\"single_path\"", "disk disk1",
     NULL, true},
    {"storage.reservation", X86, P "disks.1.reservation.type", "\"write exclusive\"", "disk disk1"},
    {"storage.reservation", X86, TC "disks.1.reservation.type", "\"exclusive access\"",
     "disk disk1"},
    {"storage.registrations", X86, TC "disks.1.registered", "[\"0x17\"]", "disk disk1"},
    {"storage.paths", X86, TC "disks.1.paths", "[{\"portal\":\"10.77.1.20:3260\",\"reason\":\"\"}]",
     "disk disk1"},
    {"storage.paths-dead", X86, TC "disks.1.paths",
     "[{\"portal\":\"a:1\",\"reason\":\"\"},{\"portal\":\"a:2\",\"reason\":\"\"},"
     "{\"portal\":\"a:3\",\"reason\":\"no answer\"}]",
     "disk disk1", NULL, true},
    {"storage.boot-files", X86, TC "boot_files.0.visible", "false", "boot file images/vmlinuz"},
    {"storage.boot-files-same", X86, TC "boot_files.0.digest", "\"bb22\"",
     "boot file images/vmlinuz"},
    {"network.switch", X86, TC "switches.0.exists", "false", "network net0"},
    {"network.bridged", X86, TC "switches.0.bridge", "\"\"", "network net0"},
    {"network.bridged", X86, TC "switches.0.uplinks", "0", "network net0"},
    {"network.up", X86, TC "switches.0.up", "false", "network net0"},
    {"network.forward-delay", X86, TC "switches.0.forward_delay_ms", "30000", "network net0"},
    {"network.mac-unique", X86, "fleet.macs_used",
     "[{\"mac\":\"52:54:00:00:00:01\",\"partition\":\"twin\",\"system\":\"system-c\"}]",
     "MAC address 52:54:00:00:00:01"},
    {"network.adapter", X86, TC "switches.0.adapter_known", "false", "network net0", NULL, true},
    {"network.taps", X86, TC "taps.possible", "false", "system system-b"},
    {"network.mtu", X86, TC "switches.0.mtu", "1400", "network net0"},
    {"network.mtu", X86, P "networks.0.mtu", "9000", "network net0"},
    {"processor.preferred-mode", X86, PP "preferred_mode", "\"x86-64-v4\"", "partition web1"},
    {"processor.preferred-mode", INACTIVE, PP "preferred_mode", "\"x86-64-v4\"", "partition web1"},
    {"processor.preferred-mode", POWER, "target.emulators.power.modes", "[\"POWER7\"]",
     "partition web1", "processor.current-mode"},
    {"processor.current-mode", X86, P "current_mode", "\"x86-64-v4\"", "partition web1"},
    {"processor.features", X86, P "features", "[\"sse\",\"avx512f\"]", "partition web1"},
    {"processor.features", X86, "target.emulators.x86-64.features", "[\"sse\"]", "partition web1"},
    {"processor.mode-rises", POWER, PP "preferred_mode", "\"default\"", "partition web1"},
    {"prediction.unsure", X86, P "dirty", LOOKS("20000000", "80000000"), "partition web1", NULL,
     true},
};

#include "checks-pairs.h"

/* One that tells what was measured, whatever it is. */
static bool only_tells(const LpmFinding *finding)
{
    return g_str_equal(finding->check, "mover.link") && finding->severity == LPM_SEVERITY_INFO;
}

static void assert_only(const GPtrArray *findings, const Case *c)
{
    for (guint i = 0; i < findings->len; i++) {
        const LpmFinding *f = findings->pdata[i];
        g_auto(GStrv) also = g_strsplit(c->also ? c->also : "", ",", -1);

        if (!only_tells(f) && !g_str_equal(f->check, c->check) &&
            !g_strv_contains((const char *const *)also, f->check)) {
            g_error("%s = %s: %s spoke too", c->path, c->value, f->check);
        }
    }
}

static LpmSeverity severity_of(const char *check)
{
    g_autoptr(json_t) list = lpm_checks_list();
    json_t *row;
    size_t i;

    json_array_foreach (list, i, row) {
        if (g_str_equal(lpm_json_str(row, "check", ""), check)) {
            const char *name = lpm_json_str(row, "severity", "");

            return g_str_equal(name, "error")     ? LPM_SEVERITY_ERROR
                   : g_str_equal(name, "warning") ? LPM_SEVERITY_WARNING
                                                  : LPM_SEVERITY_INFO;
        }
    }
    g_error("no check %s", check);
}

static void run_case(json_t *facts, const Case *c)
{
    g_autoptr(GPtrArray) findings = NULL;
    g_autoptr(GPtrArray) without = NULL;
    const LpmFinding *found;

    set_at(facts, c->path, c->value);
    findings = lpm_checks_run(facts, compat);
    g_test_message("%s: %s = %s", c->check, c->path, c->value);
    show(findings);
    found = find(findings, c->check);
    g_assert_nonnull(found);
    g_assert_cmpint(found->severity, ==, severity_of(c->check));
    g_assert_cmpstr(found->object, ==, c->object);
    g_assert_false(found->not_checked);
    g_assert_true(*found->expected && *found->found && *found->remedy);
    assert_only(findings, c);
    g_assert_cmpint(lpm_findings_refuse(findings), ==,
                    lpm_findings_count(findings, LPM_SEVERITY_ERROR) > 0);
    if (c->optional) {
        return;
    }
    set_at(facts, c->path, NULL);
    without = lpm_checks_run(facts, compat);
    found = find(without, c->check);
    g_assert_nonnull(found);
    g_assert_true(found->not_checked);
    g_assert_cmpint(found->severity, ==, LPM_SEVERITY_ERROR);
    g_assert_true(lpm_findings_refuse(without));
}

static void test_case(const void *data)
{
    const Case *c = data;
    g_autoptr(json_t) facts = load(c->base);

    run_case(facts, c);
}

static void test_pairs(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(pairs); i++) {
        g_autoptr(json_t) facts = load(pairs[i].last.base);
        g_autoptr(GPtrArray) findings = NULL;

        /* One of the two alone is nothing to this check. */
        set_at(facts, pairs[i].path, pairs[i].value);
        findings = lpm_checks_run(facts, compat);
        g_assert_null(find(findings, pairs[i].last.check));
        run_case(facts, &pairs[i].last);
    }
}

static void test_healthy(void)
{
    for (Base base = X86; base <= INACTIVE; base++) {
        g_autoptr(json_t) facts = load(base);
        g_autoptr(GPtrArray) findings = lpm_checks_run(facts, compat);

        show(findings);
        for (guint i = 0; i < findings->len; i++) {
            g_assert_true(only_tells(findings->pdata[i]));
        }
        g_assert_false(lpm_findings_refuse(findings));
    }
}

/* Each row of the table has a case, and each case a row. */
static void test_every_row_is_tested(void)
{
    g_autoptr(json_t) list = lpm_checks_list();
    json_t *row;
    size_t i;

    g_assert_cmpuint(json_array_size(list), >, 40);
    json_array_foreach (list, i, row) {
        const char *id = lpm_json_str(row, "check", NULL);
        bool tested = false;

        for (size_t j = 0; j < G_N_ELEMENTS(cases) && !tested; j++) {
            tested = g_str_equal(cases[j].check, id);
        }
        for (size_t j = 0; j < G_N_ELEMENTS(pairs) && !tested; j++) {
            tested = g_str_equal(pairs[j].last.check, id);
        }
        if (!tested) {
            g_error("check %s has no case", id);
        }
        g_assert_true(g_str_has_prefix(id, lpm_json_str(row, "group", "?")));
    }
}

/* Each row can be read about, and each code is in the table of codes. */
static void test_every_row_is_told_of(void)
{
    g_autoptr(json_t) list = lpm_checks_list();
    json_t *row;
    size_t i;

    json_array_foreach (list, i, row) {
        g_test_message("%s", lpm_json_str(row, "check", ""));
        g_assert_cmpstr(lpm_json_str(row, "fails", ""), !=, "");
        g_assert_cmpstr(lpm_json_str(row, "remedy", ""), !=, "");
        g_assert_true((lpm_json_str(row, "hmc_code", NULL) != NULL) ==
                      (*lpm_json_str(row, "hmc", "") != '\0'));
    }
}

static json_t *break_everything(Base base, GHashTable *expected)
{
    json_t *facts = load(base);
    /* x */
    static const char *const hiding[] = {
        "general.two-systems",
        "server.emulator",
        "storage.visible",
        "storage.reservation",
        "storage.boot-files",
        "network.switch",
        "network.bridged",
        "mover.connection",
        "partition.no-agent",
        "partition.state",
        "processor.mode-rises",
        "server.huge-pages", /* its pages are no memory that server.memory looks at */
        "mover.postcopy-pages",
        NULL,
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        if (cases[i].base == base && !g_strv_contains(hiding, cases[i].check) &&
            !cases[i].optional) {
            set_at(facts, cases[i].path, cases[i].value);
            g_hash_table_add(expected, (char *)cases[i].check);
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(pairs); i++) {
        if (pairs[i].last.base == base && !g_strv_contains(hiding, pairs[i].last.check)) {
            set_at(facts, pairs[i].path, pairs[i].value);
            set_at(facts, pairs[i].last.path, pairs[i].last.value);
            g_hash_table_add(expected, (char *)pairs[i].last.check);
        }
    }
    return facts;
}

static void test_everything_at_once(void)
{
    for (Base base = X86; base <= POWER; base++) {
        g_autoptr(GHashTable) expected = g_hash_table_new(g_str_hash, g_str_equal);
        g_autoptr(json_t) facts = break_everything(base, expected);
        g_autoptr(GPtrArray) findings = lpm_checks_run(facts, compat);
        g_autoptr(json_t) json = lpm_findings_to_json(findings);
        GHashTableIter iter;
        void *check;

        g_hash_table_iter_init(&iter, expected);
        while (g_hash_table_iter_next(&iter, &check, NULL)) {
            g_test_message("%s", (const char *)check);
            g_assert_nonnull(find(findings, check));
        }
        g_assert_cmpuint(json_array_size(json), ==, findings->len);
        for (guint i = 1; i < findings->len; i++) {
            const LpmFinding *previous = findings->pdata[i - 1];
            const LpmFinding *f = findings->pdata[i];

            g_assert_cmpint(previous->severity, >=, f->severity);
        }
    }
}

/* A target that is silent is told of once, not once for each thing that it did not say. */
static void test_silent_target(void)
{
    g_autoptr(json_t) facts = load(X86);
    g_autoptr(GPtrArray) findings = NULL;

    set_at(facts, "target", NULL);
    set_at(facts, "target_check", NULL);
    set_at(facts, "mover", NULL);
    set_at(facts, "rpc.target", "{\"answered\": false, \"error\": \"no answer\"}");
    findings = lpm_checks_run(facts, compat);
    show(findings);
    g_assert_cmpuint(findings->len, ==, 1);
    g_assert_nonnull(find(findings, "general.target-answers"));
    g_assert_true(lpm_findings_refuse(findings));
}

/* With nothing known every check that applies says so, and the move is refused. */
static void test_nothing_known(void)
{
    g_autoptr(json_t) facts = json_object();
    g_autoptr(GPtrArray) findings = lpm_checks_run(facts, compat);
    g_autoptr(json_t) list = lpm_checks_list();
    /* These have nothing to ask once the family or the wish is not known, or their fact has a
     * default. */
    static const char *const silent[] = {"partition.no-agent",
                                         "processor.features",
                                         "processor.interrupts",
                                         "prediction.converges",
                                         "prediction.unsure",
                                         "mover.postcopy",
                                         "mover.postcopy-risk",
                                         "mover.postcopy-pages",
                                         "server.affinity",
                                         "partition.activated-once",
                                         "server.affinity-score",
                                         "guest.scripts",
                                         "guest.asked",
                                         "guest.framework",
                                         "guest.skipped",
                                         "guest.said",
                                         "guest.cluster",
                                         "guest.cluster-margin",
                                         "guest.cluster-limit",
                                         "server.certificate",
                                         NULL};
    json_t *row;
    size_t i;

    json_array_foreach (list, i, row) {
        const char *id = lpm_json_str(row, "check", "");

        g_test_message("%s", id);
        if (!g_strv_contains(silent, id)) {
            g_assert_nonnull(find(findings, id));
            g_assert_true(find(findings, id)->not_checked);
        }
    }
    g_assert_true(lpm_findings_refuse(findings));
}

static void test_override(void)
{
    g_autoptr(json_t) facts = load(X86);
    g_autoptr(GPtrArray) findings = NULL;
    g_autoptr(GPtrArray) refused = NULL;
    const LpmFinding *found;

    set_at(facts, TC "switches.0.exists", "false");
    set_at(facts, "options.overrides", "[\"network.switch\"]");
    findings = lpm_checks_run(facts, compat);
    found = find(findings, "network.switch");
    g_assert_nonnull(found);
    g_assert_cmpint(found->severity, ==, LPM_SEVERITY_WARNING);
    g_assert_true(found->overridden);
    g_assert_false(lpm_findings_refuse(findings));
    g_assert_null(find(findings, "general.overrides"));

    /* What cannot be overridden stays an error. */
    set_at(facts, "target.memory.free_mib", "1");
    set_at(facts, "options.overrides", "[\"network.switch\",\"server.memory\"]");
    refused = lpm_checks_run(facts, compat);
    g_assert_cmpint(find(refused, "server.memory")->severity, ==, LPM_SEVERITY_ERROR);
    g_assert_true(lpm_findings_refuse(refused));
}

/* The seed's cases as a user meets them. */
static void test_power_refusals(void)
{
    g_autoptr(json_t) facts = load(POWER);
    g_autoptr(GPtrArray) findings = NULL;
    const LpmFinding *found;

    set_at(facts, P "current_mode", "\"POWER9\"");
    set_at(facts, PP "preferred_mode", "\"default\"");
    set_at(facts, "source.emulators.power.modes",
           "[\"POWER9\",\"POWER9_base\",\"POWER8\",\"POWER7\"]");
    set_at(facts, "target.emulators.power.modes", "[\"POWER8\",\"POWER7\",\"POWER6\"]");
    findings = lpm_checks_run(facts, compat);
    found = find(findings, "processor.current-mode");
    g_assert_nonnull(found);
    g_assert_cmpstr(found->expected, ==, "current mode POWER9 supported by system-b");
    g_assert_cmpstr(found->found, ==, "system-b supports POWER8, POWER7, POWER6");
    g_assert_nonnull(strstr(found->remedy, "(the highest: POWER8)"));
    g_assert_cmpuint(lpm_findings_count(findings, LPM_SEVERITY_ERROR), ==, 1);
}

static void test_json(void)
{
    g_autoptr(json_t) facts = load(X86);
    g_autoptr(GPtrArray) findings = NULL;
    g_autoptr(json_t) json = NULL;

    set_at(facts, P "agent", "\"silent\"");
    findings = lpm_checks_run(facts, compat);
    json = lpm_findings_to_json(findings);
    g_assert_cmpuint(json_array_size(json), ==, 2); /* and that of the link */
    g_assert_cmpstr(lpm_json_str(json, "0.check", ""), ==, "partition.agent");
    g_assert_cmpstr(lpm_json_str(json, "0.severity", ""), ==, "error");
    g_assert_cmpstr(lpm_json_str(json, "0.hmc_code", ""), ==, "HSCLA246");
    g_assert_true(lpm_json_bool(json, "0.overridable", false));
    g_assert_false(lpm_json_bool(json, "0.overridden", true));
    g_assert_false(lpm_json_bool(json, "0.not_checked", true));
}

/* All of it lies in the memory file, and is compared. */
static void test_added_memory_compared(void)
{
    g_autoptr(json_t) facts = load(X86);
    g_autoptr(GPtrArray) findings = NULL;

    set_at(facts, P "runtime",
           "{\"profile\":{\"added_memory\":[{\"mib\":128}]},\"shared_modules\":1}");
    findings = lpm_checks_run(facts, compat);
    g_assert_null(find(findings, "server.emulator-safe"));
    g_assert_null(find(findings, "partition.memory-backing"));
}

#include "checks-built.h"

static void test_guide(void)
{
    g_autofree char *path = g_build_filename(g_getenv("G_TEST_SRCDIR"), "..", "..", "docs", "guide",
                                             "validation.md", NULL);
    g_autofree char *page = lpm_checks_markdown();
    g_autofree char *written = NULL;

    if (g_getenv("LPM_UPDATE_GOLDEN")) {
        g_assert_true(g_file_set_contents(path, page, -1, NULL));
    }
    written = test_read_file(path);
    g_assert_cmpstr(page, ==, written);
}

int main(int argc, char **argv)
{
    int result;

    g_test_init(&argc, &argv, NULL);
    compat = test_load_compat();
    g_test_add_func("/checks/healthy", test_healthy);
    g_test_add_func("/checks/every-row-is-tested", test_every_row_is_tested);
    g_test_add_func("/checks/every-row-is-told-of", test_every_row_is_told_of);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = g_strdup_printf("/checks/case/%zu-%s", i, cases[i].check);

        g_test_add_data_func(path, &cases[i], test_case);
    }
    g_test_add_func("/checks/pairs", test_pairs);
    g_test_add_func("/checks/added-memory-compared", test_added_memory_compared);
    g_test_add_func("/checks/as-it-runs", test_as_it_runs);
    g_test_add_func("/checks/read-by-many", test_read_by_many);
    g_test_add_func("/checks/everything-at-once", test_everything_at_once);
    g_test_add_func("/checks/nothing-known", test_nothing_known);
    g_test_add_func("/checks/silent-target", test_silent_target);
    g_test_add_func("/checks/override", test_override);
    g_test_add_func("/checks/power-refusals", test_power_refusals);
    g_test_add_func("/checks/json", test_json);
    g_test_add_func("/checks/guide", test_guide);
    result = g_test_run();
    lpm_compat_free(compat);
    return result;
}
