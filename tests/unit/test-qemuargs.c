/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's command lines against golden files, one argument a line; LPM_UPDATE_GOLDEN=1 writes them
 * anew. */
#include "base/error.h"
#include "qemuargs/qemuargs.h"

#include <string.h>

#define UUID "6f1c1d2e-0b7a-4d8f-9c55-0123456789ab"

static const char x86_kernel[] =
    "{\"name\":\"web1\",\"uuid\":\"" UUID "\",\"family\":\"x86-64\",\"processors\":2,"
    "\"memory_mib\":256,\"machine\":\"pc-q35-10.0\","
    "\"boot\":{\"kernel\":{\"pool\":\"images\",\"file\":\"vmlinuz\"},"
    "\"initrd\":{\"pool\":\"images\",\"file\":\"initrd\"},\"cmdline\":\"console=ttyS0 quiet\"},"
    "\"disks\":[{\"name\":\"disk0\",\"pool\":\"san\",\"file\":\"web1.raw\"}],"
    "\"networks\":[{\"name\":\"net0\",\"switch\":\"lan\",\"mac\":\"52:54:00:00:00:01\"},"
    "{\"name\":\"net1\",\"switch\":\"san\",\"mac\":\"52:54:00:00:00:02\"}],"
    "\"memory_backing\":\"shared\"}";

static const char x86_disk[] =
    "{\"name\":\"db1\",\"uuid\":\"" UUID "\",\"family\":\"x86-64\",\"processors\":1,"
    "\"memory_mib\":1024,\"machine\":\"pc-q35-10.0\",\"guest_agent\":false,\"console\":false,"
    "\"disks\":[{\"name\":\"a-disk-with-quite-a-long-name\",\"pool\":\"san\",\"file\":\"db1,old."
    "qcow2\","
    "\"format\":\"qcow2\",\"cache\":\"directsync\"},"
    "{\"name\":\"data\",\"pool\":\"san\",\"file\":\"data.raw\",\"cache\":\"writeback\","
    "\"read_only\":true}]}";

static const char power_slof[] =
    "{\"name\":\"aix1\",\"uuid\":\"" UUID "\",\"family\":\"power\",\"processors\":1,"
    "\"memory_mib\":512,\"machine\":\"pseries-10.0\",\"interrupt_mode\":\"xics\","
    "\"boot\":{\"kernel\":{\"pool\":\"images\",\"file\":\"vmlinux\"}},"
    "\"disks\":[{\"name\":\"disk0\",\"pool\":\"san\",\"file\":\"aix1.raw\"}],"
    "\"networks\":[{\"name\":\"net0\",\"switch\":\"lan\",\"mac\":\"52:54:00:00:00:03\"}]}";

static const char power_vof[] =
    "{\"name\":\"aix1\",\"uuid\":\"" UUID "\",\"family\":\"power\",\"processors\":1,"
    "\"memory_mib\":512,\"machine\":\"pseries-10.0+vof\",\"interrupt_mode\":\"xics\","
    "\"preferred_mode\":\"POWER8\",\"boot\":{\"kernel\":{\"pool\":\"images\",\"file\":\"vmlinux\"},"
    "\"cmdline\":\"console=hvc0\"},"
    "\"disks\":[{\"name\":\"disk0\",\"pool\":\"san\",\"file\":\"aix1.raw\"}],"
    "\"networks\":[{\"name\":\"net0\",\"switch\":\"lan\",\"mac\":\"52:54:00:00:00:03\"}],"
    "\"memory_backing\":\"shared\"}";

static const char x86_network_disks[] =
    "{\"name\":\"db2\",\"uuid\":\"" UUID "\",\"family\":\"x86-64\",\"processors\":1,"
    "\"memory_mib\":256,\"machine\":\"pc-q35-10.0\",\"guest_agent\":false,\"console\":false,"
    "\"disks\":["
    "{\"name\":\"lun\",\"pool\":\"lab\",\"file\":\"3\",\"adapter\":\"scsi\"},"
    "{\"name\":\"chap\",\"pool\":\"secret\",\"file\":\"1\"},"
    "{\"name\":\"socket\",\"pool\":\"nbd\",\"file\":\"db2/log\",\"format\":\"qcow2\"},"
    "{\"name\":\"x509\",\"pool\":\"nbds\",\"file\":\"db2\"},"
    "{\"name\":\"psk\",\"pool\":\"nbdk\",\"file\":\"db2\"},"
    "{\"name\":\"rbd\",\"pool\":\"ceph\",\"file\":\"db2\"},"
    "{\"name\":\"rbd-key\",\"pool\":\"ceph2\",\"file\":\"db2\",\"cache\":\"writeback\"},"
    "{\"name\":\"cd0\",\"pool\":\"san\",\"file\":\"media.iso\",\"adapter\":\"scsi\","
    "\"media\":\"optical\"}]}";

static const LpmQemuDisk network_places[] = {
    {LPM_QEMU_DISK_ISCSI, .portal = (char *)"10.0.0.1:3260", .target = (char *)"iqn.2026-01.x:san",
     .initiator = (char *)"iqn.2026-01.x:system-a", .lun = 3, .secret_fd = -1},
    {LPM_QEMU_DISK_ISCSI, .portal = (char *)"[fd00::1]:3260", .target = (char *)"iqn.2026-01.x:s",
     .initiator = (char *)"iqn.2026-01.x:system-a", .lun = 1, .user = (char *)"lpm",
     .secret_fd = 11},
    {LPM_QEMU_DISK_NBD, .path = (char *)"/run/nbd.sock", .export_name = (char *)"db2/log",
     .secret_fd = -1},
    {LPM_QEMU_DISK_NBD, .host = (char *)"san.example", .port = (char *)"10809",
     .export_name = (char *)"db2", .tls = (char *)"x509", .tls_dir = (char *)"/etc/openlpm/nbd,1",
     .tls_hostname = (char *)"san", .secret_fd = -1},
    {LPM_QEMU_DISK_NBD, .host = (char *)"10.0.0.1", .port = (char *)"10810",
     .export_name = (char *)"db2", .tls = (char *)"psk", .tls_dir = (char *)"/etc/openlpm/psk",
     .user = (char *)"lpm", .secret_fd = -1},
    {LPM_QEMU_DISK_RBD, .pool = (char *)"partitions", .image = (char *)"db2", .secret_fd = -1},
    {LPM_QEMU_DISK_RBD, .pool = (char *)"partitions", .space = (char *)"lpm",
     .image = (char *)"db2", .conf = (char *)"/etc/ceph/lab.conf", .user = (char *)"lpm",
     .secret_fd = 12},
    {.path = (char *)"/srv/san/media.iso", .secret_fd = -1},
};

static const char power_vscsi[] =
    "{\"name\":\"aix2\",\"uuid\":\"" UUID "\",\"family\":\"power\",\"processors\":1,"
    "\"memory_mib\":512,\"machine\":\"pseries-10.0\",\"interrupt_mode\":\"xics\","
    "\"disks\":[{\"name\":\"disk0\",\"pool\":\"san\",\"file\":\"aix2.raw\",\"adapter\":\"vscsi\"},"
    "{\"name\":\"cd0\",\"pool\":\"san\",\"adapter\":\"vscsi\",\"media\":\"optical\"}]}";
static const char power_adapters[] =
    "{\"name\":\"aix2\",\"uuid\":\"" UUID "\",\"family\":\"power\",\"processors\":1,"
    "\"memory_mib\":512,\"machine\":\"pseries-10.0\",\"interrupt_mode\":\"xics\","
    "\"disks\":[{\"name\":\"disk0\",\"pool\":\"san\",\"file\":\"aix2.raw\"}],"
    "\"networks\":[{\"name\":\"net0\",\"switch\":\"lan\",\"mac\":\"52:54:00:00:00:03\","
    "\"adapter\":\"virtio\",\"vlan\":7},"
    "{\"name\":\"net1\",\"switch\":\"lan\",\"mac\":\"52:54:00:00:00:04\","
    "\"adapter\":\"spapr-vlan\"}]}";

static const char x86_grown[] =
    "{\"name\":\"big1\",\"uuid\":\"" UUID "\",\"family\":\"x86-64\",\"processors\":2,"
    "\"memory_mib\":256,\"machine\":\"pc-q35-10.0\",\"guest_agent\":false,"
    "\"processors_max\":8,\"memory_max_mib\":1024,\"added_processors\":1,"
    "\"added_memory\":[{\"mib\":128},{\"mib\":256}],\"rtc_offset_s\":3600,"
    "\"disks\":[{\"name\":\"disk0\",\"pool\":\"san\",\"file\":\"a.raw\"}]}";

static const char x86_grown_shared[] =
    "{\"name\":\"big1\",\"uuid\":\"" UUID "\",\"family\":\"x86-64\",\"processors\":2,"
    "\"memory_mib\":256,\"machine\":\"pc-q35-10.0\",\"guest_agent\":false,"
    "\"memory_max_mib\":1024,\"memory_backing\":\"shared\","
    "\"added_memory\":[{\"mib\":128},{\"mib\":256}],"
    "\"disks\":[{\"name\":\"disk0\",\"pool\":\"san\",\"file\":\"a.raw\"}]}";

static const char x86_uefi[] =
    "{\"name\":\"uefi1\",\"uuid\":\"" UUID "\",\"family\":\"x86-64\",\"memory_mib\":256,"
    "\"machine\":\"pc-q35-10.0\",\"guest_agent\":false,\"firmware\":\"uefi\","
    "\"boot_order\":\"disk1,disk0\","
    "\"disks\":[{\"name\":\"disk0\",\"pool\":\"san\",\"file\":\"a.raw\"},"
    "{\"name\":\"disk1\",\"pool\":\"san\",\"file\":\"b.raw\"}]}";

static const char power_grown[] =
    "{\"name\":\"aix2\",\"uuid\":\"" UUID "\",\"family\":\"power\",\"processors\":1,"
    "\"memory_mib\":512,\"machine\":\"pseries-10.0\",\"interrupt_mode\":\"xics\","
    "\"processors_max\":4,\"memory_max_mib\":1024,\"added_memory\":[{\"mib\":256}],"
    "\"disks\":[{\"name\":\"disk0\",\"pool\":\"san\",\"file\":\"a.raw\"},"
    "{\"name\":\"nvram\",\"pool\":\"san\",\"file\":\"a.nvram\",\"size_mib\":1,\"purpose\":"
    "\"firmware\"}]}";

typedef struct {
    const char *file; /* in tests/golden/qemuargs */
    const char *profile;
    LpmQemuRole role;
    const char *cpu, *max_compat;
    const LpmQemuDisk *disks; /* NULL: files */
} Golden;

static const Golden goldens[] = {
    {"x86-start-verify", x86_kernel, LPM_QEMU_START, "qemu64-v1,enforce,-svm", NULL},
    {"x86-incoming-verify", x86_kernel, LPM_QEMU_INCOMING, "qemu64-v1,enforce,-svm", NULL},
    {"x86-disk-qcow2-no-network", x86_disk, LPM_QEMU_START, "qemu64-v1", NULL},
    {"power8-start", power_slof, LPM_QEMU_START, "power8", NULL},
    {"power9-incoming", power_slof, LPM_QEMU_INCOMING, "power9", NULL},
    {"x86-grown-incoming", x86_grown, LPM_QEMU_INCOMING, "qemu64-v1", NULL},
    {"x86-grown-incoming-verify", x86_grown_shared, LPM_QEMU_INCOMING, "qemu64-v1", NULL},
    {"x86-uefi", x86_uefi, LPM_QEMU_START, "qemu64-v1", NULL},
    {"power-grown-incoming", power_grown, LPM_QEMU_INCOMING, "power9", NULL},
    {"power8-incoming-spapr-vlan", power_adapters, LPM_QEMU_INCOMING, "power8", NULL},
    {"power9-incoming-preferred-vof-verify", power_vof, LPM_QEMU_INCOMING, "power9", "power8"},
    {"x86-network-disks", x86_network_disks, LPM_QEMU_START, "qemu64-v1", NULL, network_places},
    {"power8-vscsi", power_vscsi, LPM_QEMU_START, "power8", NULL},
};

static const int network_fds[] = {7, 8};
static const LpmQemuDisk disk_paths[] = {
    {.path = (char *)"/srv/san/first,disk", .secret_fd = -1},
    {.path = (char *)"/srv/san/second", .secret_fd = -1},
    {.path = (char *)"/srv/san/third", .secret_fd = -1},
};

static LpmProfile *read_profile(const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) json = lpm_json_parse(text, strlen(text), &error);
    LpmProfile *profile;

    g_assert_no_error(error);
    profile = lpm_profile_from_json(json, &error);
    g_assert_no_error(error);
    return profile;
}

static LpmQemuSpec make_spec_with(const LpmProfile *profile, const LpmQemuDisk *disks)
{
    bool shared = profile->memory_backing == LPM_BACKING_SHARED;

    return (LpmQemuSpec){
        .program = "qemu",
        .profile = profile,
        .accel = "tcg",
        .cpu = "power8",
        .qmp_socket = "/run/p/qmp,1.sock",
        .oob_socket = shared ? "/run/p/oob.sock" : NULL,
        .console_socket = "/run/p/console.sock",
        .console_log = shared ? "/run/p/console.log" : NULL,
        .agent_socket = "/run/p/agent.sock",
        .disks = disks ? disks : disk_paths,
        .kernel = profile->boot.kernel.pool ? "/srv/images/kernel" : NULL,
        .initrd = profile->boot.initrd.pool ? "/srv/images/initrd" : NULL,
        .network_fds = network_fds,
        .memory_fd = shared ? 9 : -1,
        .uefi_code = "/usr/share/OVMF/OVMF_CODE_4M.fd",
        .now_s = 1700000000,
        .pid_file = shared ? "/run/p/qemu.pid" : NULL,
    };
}

static LpmQemuSpec make_spec(const LpmProfile *profile)
{
    return make_spec_with(profile, NULL);
}

static void test_golden(const void *data)
{
    const Golden *golden = data;
    g_autoptr(LpmProfile) profile = read_profile(golden->profile);
    g_autofree char *name = g_strconcat(golden->file, ".args", NULL);
    g_autofree char *path =
        g_build_filename(g_getenv("G_TEST_SRCDIR"), "..", "golden", "qemuargs", name, NULL);
    LpmQemuSpec spec = make_spec_with(profile, golden->disks);
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) argv = NULL;
    g_autofree char *lines = NULL;
    g_autofree char *found = NULL;
    g_autofree char *expected = NULL;

    spec.role = golden->role;
    spec.cpu = golden->cpu;
    spec.max_cpu_compat = golden->max_compat;
    argv = lpm_qemuargs_build(&spec, &error);
    g_assert_no_error(error);
    lines = g_strjoinv("\n", argv);
    found = g_strconcat(lines, "\n", NULL);
    if (g_getenv("LPM_UPDATE_GOLDEN")) {
        g_assert_true(g_file_set_contents(path, found, -1, NULL));
    }
    g_file_get_contents(path, &expected, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(found, ==, expected);
}

/* What must never be missing, whatever the profile. */
static void test_safety(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(goldens); i++) {
        g_autoptr(LpmProfile) profile = read_profile(goldens[i].profile);
        LpmQemuSpec spec = make_spec_with(profile, goldens[i].disks);
        g_auto(GStrv) argv = lpm_qemuargs_build(&spec, NULL);
        g_autofree char *line = g_strjoinv(" ", argv);

        g_assert_true(g_strv_contains((const char *const *)argv, "-S"));
        g_assert_true(g_strv_contains((const char *const *)argv, "-sandbox"));
        g_assert_nonnull(strstr(line, "memory-backend=mem"));
        g_assert_nonnull(strstr(line, ",id=mem,size="));
        g_assert_null(strstr(line, "cap-"));
        g_assert_false(g_strv_contains((const char *const *)argv, "-incoming"));
    }
}

/* qemu-img gets the same node and the same objects, and the secret by a file. */
static void test_look(void)
{
    g_auto(GStrv) objects = NULL;
    g_autofree char *name =
        lpm_qemuargs_look_name(&network_places[1], "raw", "/proc/5/fd/11", &objects);
    g_auto(GStrv) more = NULL;
    g_autofree char *tls = lpm_qemuargs_look_name(&network_places[3], "qcow2", NULL, &more);

    g_assert_cmpstr(objects[0], ==, "secret,id=look-secret,file=/proc/5/fd/11");
    g_assert_null(objects[1]);
    g_assert_nonnull(strstr(name, "\"password-secret\":\"look-secret\""));
    g_assert_true(
        g_str_has_prefix(name, "json:{\"driver\":\"raw\",\"file\":{\"driver\":\"iscsi\""));
    g_assert_true(g_str_has_prefix(more[0], "tls-creds-x509,id=look-tls,endpoint=client,"));
    g_assert_nonnull(strstr(tls, "\"tls-creds\":\"look-tls\""));
}

/* What the guest sees must not depend on the role or the system. */
static void test_sides_agree(void)
{
    g_autoptr(LpmProfile) profile = read_profile(power_vof);
    LpmQemuSpec spec = make_spec(profile);
    g_auto(GStrv) source = NULL;
    g_auto(GStrv) target = NULL;
    size_t n;

    source = lpm_qemuargs_build(&spec, NULL);
    spec.role = LPM_QEMU_INCOMING;
    target = lpm_qemuargs_build(&spec, NULL);
    n = g_strv_length(source);
    g_assert_cmpuint(g_strv_length(target), ==, n + 2);
    for (size_t i = 0; i < n; i++) {
        g_assert_cmpstr(source[i], ==, target[i]);
    }
    g_assert_cmpstr(target[n], ==, "-incoming");
    g_assert_cmpstr(target[n + 1], ==, "defer");
}

static void assert_refused(const LpmQemuSpec *spec, const char *pattern)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(lpm_qemuargs_build(spec, &error));
    g_assert_error(error, LPM_ERROR, LPM_ERROR_USAGE);
    g_test_message("%s", error->message);
    g_assert_true(g_pattern_match_simple(pattern, error->message));
}

static void test_missing(void)
{
    g_autoptr(LpmProfile) profile = read_profile(power_vof);
    static const int no_fd[] = {-1};
    static const LpmQemuDisk no_path[1];
    LpmQemuSpec spec;

#define REFUSED(assignment, pattern)                                                               \
    spec = make_spec(profile);                                                                     \
    spec.assignment;                                                                               \
    assert_refused(&spec, pattern)

    REFUSED(program = NULL, "partition aix1: no program*");
    REFUSED(accel = NULL, "partition aix1: no accelerator*");
    REFUSED(cpu = "", "partition aix1: no processor*");
    REFUSED(qmp_socket = NULL, "partition aix1: no QMP socket*");
    REFUSED(console_socket = NULL, "partition aix1: no console socket*");
    REFUSED(agent_socket = NULL, "partition aix1: no guest agent socket*");
    REFUSED(kernel = NULL, "partition aix1: no kernel path*");
    REFUSED(memory_fd = -1, "partition aix1: shared memory without*");
    REFUSED(network_fds = no_fd, "partition aix1: network net0 has no tap*");
    REFUSED(disks = no_path, "partition aix1: disk disk0 has no path*");
#undef REFUSED
}

static void set_text(char **place, const char *text)
{
    g_free(*place);
    *place = g_strdup(text);
}

static void test_bad_profiles(void)
{
    g_autoptr(LpmProfile) profile = read_profile(power_vof);
    LpmQemuSpec spec = make_spec(profile);

    profile->memory_mib = 300;
    assert_refused(&spec, "partition aix1: memory of 300 MiB is not a multiple of 256 MiB*");
    profile->memory_mib = 512;
    set_text(&profile->interrupt_mode, "");
    assert_refused(&spec, "partition aix1: no interrupt mode*");
    set_text(&profile->interrupt_mode, "xics");
    set_text(&profile->machine, "pseries-10.0+x");
    assert_refused(&spec, "partition aix1: machine \"pseries-10.0+x\": \"+x\" is not known*");
    set_text(&profile->machine, "pseries-10.0+vof");
    set_text(&profile->boot.kernel.pool, NULL);
    assert_refused(&spec, "*cannot boot from a disk*");
    set_text(&profile->machine, "pseries-10.0");
    profile->family = LPM_FAMILY_X86_64;
    profile->n_disks = 0;
    assert_refused(&spec, "partition aix1: neither a kernel nor a disk*");
    profile->n_disks = 1;
}

static void test_pin_machine(void)
{
    g_autoptr(LpmProfile) power = read_profile(power_slof);
    g_autoptr(LpmProfile) x86 = read_profile(x86_kernel);
    g_autofree char *vof = lpm_qemuargs_pin_machine(power, "pseries-10.0", true);
    g_autofree char *slof = lpm_qemuargs_pin_machine(power, "pseries-10.0", false);
    g_autofree char *q35 = lpm_qemuargs_pin_machine(x86, "pc-q35-10.0", true);
    g_autofree char *type = lpm_qemuargs_machine_type(vof);
    g_autofree char *disk = NULL;

    g_assert_cmpstr(vof, ==, "pseries-10.0+vof");
    g_assert_cmpstr(slof, ==, "pseries-10.0");
    g_assert_cmpstr(q35, ==, "pc-q35-10.0");
    g_assert_cmpstr(type, ==, "pseries-10.0");
    set_text(&power->boot.kernel.pool, NULL);
    disk = lpm_qemuargs_pin_machine(power, "pseries-10.0", true);
    g_assert_cmpstr(disk, ==, "pseries-10.0");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(goldens); i++) {
        g_autofree char *path = g_strconcat("/qemuargs/golden/", goldens[i].file, NULL);

        g_test_add_data_func(path, &goldens[i], test_golden);
    }
    g_test_add_func("/qemuargs/safety", test_safety);
    g_test_add_func("/qemuargs/look", test_look);
    g_test_add_func("/qemuargs/sides-agree", test_sides_agree);
    g_test_add_func("/qemuargs/missing", test_missing);
    g_test_add_func("/qemuargs/bad-profiles", test_bad_profiles);
    g_test_add_func("/qemuargs/pin-machine", test_pin_machine);
    return g_test_run();
}
