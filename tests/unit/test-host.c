/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of lpm-host that are pure, or need nothing but files. */
#include "host/emulator.h"
#include "host/facts.h"
#include "host/partition.h"
#include "host/server.h"

#include <fcntl.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* --- configuration --- */

static LpmHostConfig *load(const char *text, GError **error)
{
    g_autofree char *path = g_build_filename(g_get_tmp_dir(), "lpm-host-config-XXXXXX", NULL);
    int fd = g_mkstemp(path);
    LpmHostConfig *config;

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(write(fd, text, strlen(text)), ==, (gssize)strlen(text));
    close(fd);
    config = lpm_host_config_load(path, error);
    (void)g_unlink(path);
    return config;
}

static void test_config_defaults(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(LpmHostConfig) config = lpm_host_config_load(NULL, &error);

    g_assert_no_error(error);
    g_assert_true(lpm_name_is_valid(config->name));
    g_assert_cmpuint(config->rpc_port, ==, 7600);
    g_assert_cmpstr(config->qemu_user, ==, "lpm-qemu");
    g_assert_cmpuint(config->n_pools, ==, 0);
    g_assert_null(lpm_host_config_pool(config, "san"));
}

static void test_config_all(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(LpmHostConfig) config =
        load("[system]\nname=system-a\nstate_dir=/s\nrun_dir=/r\n"
             "[rpc]\naddress=192.0.2.1\nport=0\n"
             "[mover]\naddresses=192.0.2.1;192.0.2.2\nport_first=7700\nport_last=7799\n"
             "[power]\nprocessor=POWER8\nfirmware=vof\n"
             "[limits]\nactive_moves=2\nmemory_mib=4096\nstart_timeout_ms=5000\n"
             "[storage:san]\npath=/srv/san\nshared=true\n[network:lan]\nbridge=br0\n"
             "vlan.100=br100\nvlan.4094= br-top\n[network:tagged]\nvlan.1=br100\n",
             &error);

    g_assert_no_error(error);
    g_assert_cmpstr(config->name, ==, "system-a");
    g_assert_cmpuint(config->rpc_port, ==, 0);
    g_assert_cmpstr(config->mover_addresses[1], ==, "192.0.2.2");
    g_assert_cmpuint(config->mover_port_last, ==, 7799);
    g_assert_cmpstr(config->power_processor, ==, "POWER8");
    g_assert_cmpint(config->active_moves, ==, 2);
    g_assert_cmpint(config->memory_mib, ==, 4096);
    g_assert_cmpuint(config->start_timeout_ms, ==, 5000);
    g_assert_true(lpm_host_config_pool(config, "san")->shared);
    const LpmSwitchConfig *lan = lpm_host_config_switch(config, "lan");
    const LpmSwitchConfig *tagged = lpm_host_config_switch(config, "tagged");
    g_assert_cmpstr(lpm_switch_config_bridge(lan, 0), ==, "br0");
    g_assert_cmpstr(lpm_switch_config_bridge(lan, 100), ==, "br100");
    g_assert_cmpstr(lpm_switch_config_bridge(lan, 4094), ==, "br-top");
    g_assert_null(lpm_switch_config_bridge(lan, 101));
    g_assert_null(lpm_switch_config_bridge(tagged, 0));
    g_assert_cmpstr(lpm_switch_config_bridge(tagged, 1), ==, "br100");
}

static void test_config_pools(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(LpmHostConfig) config =
        load("[storage:f]\nkind=file\npath=/x\n"
             "[storage:i]\nkind=iscsi\nportal=[fd00::1]:3260\ntarget=iqn.t\ninitiator=iqn.i\n"
             "user=u\npassword_file=/nonexistent/secret\n"
             "[storage:n]\nkind=nbd\nserver=san:10809\ntls=x509\ntls_dir=/tls\n"
             "[storage:r]\nkind=rbd\npool=p\nid=lpm\nconf=/etc/ceph/c.conf\n",
             &error);
    const LpmPoolConfig *iscsi, *nbd, *rbd;

    g_assert_no_error(error);
    iscsi = lpm_host_config_pool(config, "i");
    nbd = lpm_host_config_pool(config, "n");
    rbd = lpm_host_config_pool(config, "r");
    g_assert_false(lpm_host_config_pool(config, "f")->shared);
    g_assert_true(iscsi->kind == LPM_POOL_ISCSI && iscsi->shared && !iscsi->path);
    g_assert_cmpstr(iscsi->initiator, ==, "iqn.i");
    g_assert_cmpstr(nbd->tls_dir, ==, "/tls");
    g_assert_cmpstr(rbd->user, ==, "lpm");
    g_assert_cmpstr(rbd->rbd_pool, ==, "p");
    g_assert_null(lpm_pool_password(iscsi, &error));
    g_assert_error(error, LPM_ERROR, LPM_ERROR_STORAGE);
    g_assert_nonnull(strstr(error->message, "/nonexistent/secret"));
}

/* Each names the group and the key, or the group alone. */
static const struct {
    const char *text, *group, *word;
} wrong_configs[] = {
    {"[sytem]\nname=a\n", "[sytem]", "group"},
    {"[system]\nnmae=a\n", "[system]", "nmae"},
    {"[system]\nname=a b\n", "[system]", "name"},
    {"[system]\nrun_dir=run\n", "[system]", "run_dir"},
    {"[rpc]\nport=70000\n", "[rpc]", "port"},
    {"[rpc]\nport=many\n", "[rpc]", "port"},
    {"[power]\nprocessor=POWER11\n", "[power]", "processor"},
    {"[limits]\nactive_moves=-1\n", "[limits]", "active_moves"},
    {"[storage:san]\npath=relative\n", "[storage:san]", "path"},
    {"[storage:san]\npath=/x\nshare=true\n", "[storage:san]", "share"},
    {"[storage:san]\nkind=nfs\npath=/x\n", "[storage:san]", "nfs"},
    {"[storage:san]\nkind=iscsi\npath=/x\n", "[storage:san]", "it has: kind portal target"},
    {"[storage:san]\nkind=iscsi\ntarget=iqn.x\ninitiator=iqn.y\n", "[storage:san]", "portal"},
    {"[storage:san]\nkind=iscsi\nportal=a\ntarget=iqn.x\ninitiator=iqn.y\n", "[storage:san]",
     "ADDRESS:PORT"},
    {"[storage:san]\nkind=iscsi\nportal=a:1\ntarget=iqn.x\ninitiator=iqn.y\nuser=x\n",
     "[storage:san]", "belong together"},
    {"[storage:san]\nkind=nbd\n", "[storage:san]", "one of server and socket"},
    {"[storage:san]\nkind=nbd\nserver=a:1\nsocket=/x\n", "[storage:san]", "not both"},
    {"[storage:san]\nkind=nbd\nserver=a:1\ntls=x509\n", "[storage:san]", "tls_dir"},
    {"[storage:san]\nkind=nbd\nserver=a:1\ntls=ssl\ntls_dir=/x\n", "[storage:san]", "psk"},
    {"[storage:san]\nkind=nbd\nsocket=/x\ntls=psk\ntls_dir=/x\n", "[storage:san]", "tls"},
    {"[storage:san]\nkind=rbd\n", "[storage:san]", "pool"},
    {"[storage:san]\nkind=rbd\npool=p\nconf=ceph.conf\n", "[storage:san]", "absolute"},
    {"[storage:san]\nkind=rbd\npool=p\npassword_file=/x\n", "[storage:san]", "id"},
    {"[storage:a b]\npath=/x\n", "[storage:a b]", "name"},
    {"[network:lan]\nbridge=abcdefghijklmnop\n", "[network:lan]", "bridge"},
    {"[network:lan]\n", "[network:lan]", "bridge"},
    {"[network:lan]\nbridge=br0\nvlan.0=br1\n", "[network:lan]", "vlan.0"},
    {"[network:lan]\nbridge=br0\nvlan.4095=br1\n", "[network:lan]", "vlan.4095"},
    {"[network:lan]\nbridge=br0\nvlan.7=\n", "[network:lan]", "vlan.7"},
    {"[network:lan]\nbridge=br0\nvlan.7=br0\n", "[network:lan]", "vlan.7"},
    {"[network:lan]\nvlan.7=br0\nvlan.07=br1\n", "[network:lan]", "vlan.07"},
    {"[network:lan]\nbridge=br0\nvlans=7\n", "[network:lan]", "vlans"},
    {"[disk:x]\na=b\n", "[disk:x]", "group"},
    {"[store]\nuse=maybe\n", "[store]", "use"},
    {"[store]\ndirectory=images\n", "[store]", "directory"},
    {"[mover]\nport_first=9\nport_last=8\n", "[mover]", "port_last"},
    {"[arbiter:paper]\na=b\n", "[arbiter:paper]", "group"},
    {"[arbiter:etcd]\nendpoint=x\n", "[arbiter:etcd]", "endpoint"},
    {"[arbiter:etcd]\nendpoints=https://a:1;b:2\n", "[arbiter:etcd]", "endpoints"},
    {"[arbiter:etcd]\nkey=/x\n", "[arbiter:etcd]", "together"},
    {"[arbiter:scsi]\nportal=192.0.2.1:3260\n", "[arbiter:scsi]", "target"},
    {"[arbiter:scsi]\nportal=192.0.2.1:3260\ntarget=iqn.x\n", "[arbiter:scsi]", "initiator"},
    {"[arbiter:scsi]\nlun=-1\n", "[arbiter:scsi]", "lun"},
    {"[arbiter:scsi]\nchap_user=x\n", "[arbiter:scsi]", "chap_secret"},
};

static void test_config_wrong(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(wrong_configs); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(LpmHostConfig) config = load(wrong_configs[i].text, &error);

        g_assert_null(config);
        g_assert_error(error, LPM_ERROR, LPM_ERROR_USAGE);
        g_assert_nonnull(strstr(error->message, wrong_configs[i].group));
        g_assert_nonnull(strstr(error->message, wrong_configs[i].word));
        g_assert_nonnull(strstr(error->message, "lpm-host-config-"));
    }
}

static void test_config_missing(void)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(lpm_host_config_load("/nonexistent/host.conf", &error));
    g_assert_error(error, LPM_ERROR, LPM_ERROR_STORAGE);
}

/* --- plan --- */

static void test_devices(void)
{
    char *argv[] = {(char *)"qemu",    (char *)"-device",    (char *)"virtio-blk-pci,id=a",
                    (char *)"-m",      (char *)"-device",    (char *)"virtio-blk-pci,id=b",
                    (char *)"-device", (char *)"isa-serial", NULL};
    g_autoptr(json_t) devices = lpm_plan_devices(argv);

    g_assert_cmpuint(json_array_size(devices), ==, 2);
    g_assert_cmpstr(json_string_value(json_array_get(devices, 0)), ==, "virtio-blk-pci");
    g_assert_cmpstr(json_string_value(json_array_get(devices, 1)), ==, "isa-serial");
}

static void test_newest_machine(void)
{
    const char *const machines[] = {
        "pseries",     "pseries-9.2", "pseries-10.0", "pseries-2.12", "pseries-10.0-x",
        "pc-q35-11.0", NULL};
    g_autofree char *power = lpm_emulator_newest_machine(machines, "pseries");
    g_autofree char *x86 = lpm_emulator_newest_machine(machines, "pc-q35");

    g_assert_cmpstr(power, ==, "pseries-10.0");
    g_assert_cmpstr(x86, ==, "pc-q35-11.0");
    g_assert_null(lpm_emulator_newest_machine(machines, "virt"));
}

/* --- power supply --- */

static void supply(const char *base, const char *name, const char *type, const char *status,
                   const char *scope)
{
    const char *const files[][2] = {{"type", type}, {"status", status}, {"scope", scope}};
    g_autofree char *directory = g_build_filename(base, name, NULL);

    g_assert_cmpint(g_mkdir_with_parents(directory, 0700), ==, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = g_build_filename(directory, files[i][0], NULL);

        g_assert_true(!files[i][1] || g_file_set_contents(path, files[i][1], -1, NULL));
    }
}

static void power_file(const char *base, const char *name, const char *file, const char *text)
{
    g_autofree char *path = g_build_filename(base, name, file, NULL);

    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void assert_power(const char *directory, const char *state, const char *reason)
{
    g_autoptr(json_t) power = lpm_facts_power(directory);

    g_assert_cmpstr(lpm_json_str(power, "state", NULL), ==, state);
    g_assert_cmpstr(lpm_json_str(power, "reason", NULL), ==, reason);
}

static void test_power(void)
{
    g_autofree char *base = g_dir_make_tmp("lpm-power-XXXXXX", NULL);
    g_autofree char *remove = g_strdup_printf("rm -rf '%s'", base);

    assert_power("/nonexistent", "mains", "");
    assert_power(base, "mains", "");
    supply(base, "AC", "Mains\n", NULL, NULL);
    supply(base, "mouse", "Battery\n", "Discharging\n", "Device\n");
    supply(base, "BAT0", "Battery\n", "Charging\n", NULL);
    assert_power(base, "mains", "");
    supply(base, "BAT0", "Battery\n", "Discharging\n", NULL);
    assert_power(base, "battery", "BAT0 is discharging");
    supply(base, "BAT0", "Battery\n", "Full\n", NULL);
    supply(base, "ups", "UPS\n", "Discharging\n", "System\n");
    assert_power(base, "battery", "ups is discharging");
    supply(base, "ups", "UPS\n", "Full\n", NULL);
    power_file(base, "AC", "online", "0\n");
    assert_power(base, "battery", "no mains supply is online");
    power_file(base, "AC", "online", "1\n");
    assert_power(base, "mains", "");
    supply(base, "ups", "UPS\n", "Discharging\n", NULL);
    power_file(base, "ups", "capacity", "57\n");
    assert_power(base, "battery", "ups is discharging with 57 % left");
    g_assert_cmpint(system(remove), ==, 0);
}

/* --- process --- */

static void spawn_cat(int input, int output, LpmProcess *process)
{
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", input);
    char *argv[] = {(char *)"/bin/cat", path, NULL};
    g_autoptr(GError) error = NULL;
    bool good = lpm_process_spawn(
        &(LpmProcessSpec){.argv = argv, .output_fd = output, .fds = &input, .n_fds = 1}, process,
        &error);

    g_assert_no_error(error);
    g_assert_true(good);
}

static int open_process(pid_t pid, uint64_t start_time)
{
    g_autoptr(GError) error = NULL;
    int pidfd;
    bool good = lpm_process_open(pid, start_time, &pidfd, &error);

    g_assert_no_error(error);
    g_assert_true(good);
    return pidfd;
}

static void wait_end(int pidfd)
{
    GPollFD poll = {.fd = pidfd, .events = G_IO_IN};

    g_assert_cmpint(g_poll(&poll, 1, 10000), ==, 1);
}

/* It waits until it is let go, inherits what it is given, and its end is seen although it is no
 * child of ours. */
static void test_process(void)
{
    int in[2], out[2];
    char text[16] = "";
    LpmProcess process;
    g_autoptr(GError) error = NULL;
    uint64_t start = 0;

    g_assert_true(g_unix_open_pipe(in, FD_CLOEXEC, NULL));
    g_assert_true(g_unix_open_pipe(out, FD_CLOEXEC, NULL));
    spawn_cat(in[0], out[1], &process);
    g_assert_true(lpm_process_start_time(process.pid, &start));
    g_assert_cmpuint(start, ==, process.start_time);
    g_assert_true(lpm_process_release(&process, "cat", &error));
    g_assert_no_error(error);
    g_assert_cmpint(write(in[1], "hello", 5), ==, 5);
    g_assert_cmpint(read(out[0], text, 5), ==, 5);
    g_assert_cmpstr(text, ==, "hello");
    g_assert_cmpint(open_process(process.pid, process.start_time + 1), ==, -1);
    lpm_process_kill(process.pidfd);
    wait_end(process.pidfd);
    g_assert_cmpint(open_process(process.pid, process.start_time), ==, -1);
    lpm_process_discard(&process);
    for (int i = 0; i < 2; i++) {
        close(in[i]);
        close(out[i]);
    }
}

static void test_process_discard(void)
{
    int in[2], out[2], pidfd;
    char text;
    LpmProcess process;

    g_assert_true(g_unix_open_pipe(in, FD_CLOEXEC, NULL));
    g_assert_true(g_unix_open_pipe(out, FD_CLOEXEC, NULL));
    spawn_cat(in[0], out[1], &process);
    pidfd = open_process(process.pid, process.start_time);
    g_assert_cmpint(pidfd, >=, 0);
    lpm_process_discard(&process);
    wait_end(pidfd);
    close(pidfd);
    close(out[1]);
    g_assert_cmpint(read(out[0], &text, 1), ==, 0);
    close(out[0]);
    close(in[0]);
    close(in[1]);
}

static void test_process_no_program(void)
{
    char *argv[] = {(char *)"/nonexistent/qemu", NULL};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    LpmProcess process;
    g_autoptr(GError) error = NULL;

    g_assert_true(
        lpm_process_spawn(&(LpmProcessSpec){.argv = argv, .output_fd = null}, &process, NULL));
    g_assert_false(lpm_process_release(&process, argv[0], &error));
    g_assert_error(error, LPM_ERROR, LPM_ERROR_QEMU);
    g_assert_nonnull(strstr(error->message, "/nonexistent/qemu"));
    lpm_process_discard(&process);
    close(null);
}

/* --- adoption --- */

static void on_not_adopted(const GError *error, void *data)
{
    g_assert_error(error, LPM_ERROR, LPM_ERROR_INTERNAL);
    g_assert_nonnull(strstr(error->message, "the QEMU of partition p1"));
    *(bool *)data = true;
}

/* Out of descriptors lpm-host cannot look whether a QEMU lives: it does not start then, and what
 * finds that QEMU again is still in the database. "Ended" would be "off" for a fence agent. */
static void test_adoption_cannot_look(void)
{
    static const char *const uuid = "6c1e4b6e-0000-4000-8000-000000000001";
    g_autofree char *dir = g_dir_make_tmp("lpm-adopt-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "host.db", NULL);
    LpmHostConfig config = {.name = (char *)"beta", .run_dir = dir};
    LpmHost host = {.config = &config, .clock = lpm_clock_system()};
    g_autoptr(json_t) before = NULL, after = NULL;
    struct rlimit few, limit;
    uint64_t start = 0;
    bool told = false;

    host.store = lpm_store_open(path, NULL);
    g_assert_true(lpm_process_start_time(getpid(), &start));
    before = lpm_json_pack("{s:I, s:I, s:{s:{s:s}}}", "pid", (json_int_t)getpid(), "start_time",
                           (json_int_t)start, "runtime", "profile", "name", "p1");
    g_assert_true(lpm_store_put(host.store, LPM_KIND_RUNTIME, uuid, before, NULL, NULL));
    host.partitions = g_hash_table_new(g_str_hash, g_str_equal);

    g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &limit), ==, 0);
    few = limit;
    few.rlim_cur = 0;
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &few), ==, 0);
    lpm_adopt_all(&host, on_not_adopted, &told);
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);

    g_assert_true(told);
    g_assert_cmpuint(g_hash_table_size(host.partitions), ==, 0);
    after = lpm_store_get(host.store, LPM_KIND_RUNTIME, uuid, NULL, NULL);
    g_assert_true(json_equal(before, after));
    g_hash_table_unref(host.partitions);
    lpm_store_close(host.store);
    (void)g_unlink(path);
    (void)g_rmdir(dir);
}

/* --- verbs --- */

static void test_verbs(void)
{
    g_autofree LpmRpcVerb *verbs = lpm_verbs_all(NULL);
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    for (const LpmRpcVerb *verb = verbs; verb->name; verb++) {
        g_assert_true(g_hash_table_add(seen, (gpointer)verb->name));
        g_assert_nonnull(verb->run);
        g_assert_nonnull(verb->help);
        g_assert_cmpuint(verb->roles & 1u << LPM_RPC_ANONYMOUS, ==, 0);
    }
    g_assert_true(g_hash_table_contains(seen, "partition-start"));
    g_assert_true(g_hash_table_contains(seen, "target-check"));
    g_assert_true(g_hash_table_contains(seen, "store-drop"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/config/defaults", test_config_defaults);
    g_test_add_func("/config/all", test_config_all);
    g_test_add_func("/config/pools", test_config_pools);
    g_test_add_func("/config/wrong", test_config_wrong);
    g_test_add_func("/config/missing", test_config_missing);
    g_test_add_func("/plan/devices", test_devices);
    g_test_add_func("/emulator/newest-machine", test_newest_machine);
    g_test_add_func("/facts/power", test_power);
    g_test_add_func("/process/run", test_process);
    g_test_add_func("/process/discard", test_process_discard);
    g_test_add_func("/process/no-program", test_process_no_program);
    g_test_add_func("/adoption/cannot-look", test_adoption_cannot_look);
    g_test_add_func("/verbs", test_verbs);
    return g_test_run();
}
