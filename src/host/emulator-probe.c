/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One emulator is asked: its version, whether KVM really runs a partition with it, then, in a
 * machine without devices, what machine types, device models and processor features it has.
 */
#include "base/log.h"
#include "host/emulator.h"
#include "host/process.h"
#include "host/subprocess.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define VERSION_TIMEOUT_MS 10000
#define KVM_TIMEOUT_MS     5000
#define QMP_TIMEOUT_MS     15000

/*
 * A boot sector that writes 0x10 to port 0xf4 and halts; the debug device there ends QEMU with
 * status 2 * 0x10 + 1. It shows that the processor ran code and came back to QEMU.
 */
static const unsigned char boot_code[] = {
    0xb0, 0x10, /* mov $0x10,%al */
    0xe6, 0xf4, /* out %al,$0xf4 */
    0xf4,       /* hlt */
    0xeb, 0xfd, /* jmp to the hlt */
};
#define BOOT_STATUS 33

/* Every processor that can be virtualised has it: a KVM that hides it is no real one. */
#define LEAST_FEATURE "pni"

typedef struct {
    LpmHost *host;
    LpmEmulator *emulator;
    void (*done)(void *data);
    void *data;
    char *sector; /* path of the boot sector's file */
    char *socket;
    GSubprocess *process;
    LpmQmp *qmp;
    guint kill_timer;
} Probe;

static void begin_version(Probe *probe);
static void begin_accel(Probe *probe);
static void begin_questions(Probe *probe);
static void ask_machines(Probe *probe);
static void ask_devices(Probe *probe);
static void ask_features(Probe *probe);

static void probe_end(Probe *probe, const GError *error)
{
    if (error) {
        g_free(probe->emulator->reason);
        probe->emulator->reason = g_strdup_printf("%s: %s", probe->emulator->path, error->message);
        g_clear_pointer(&probe->emulator->path, g_free);
    }
    if (probe->qmp) {
        /* Not from inside one of its own callbacks. */
        g_idle_add_once((GSourceOnceFunc)lpm_qmp_free, probe->qmp);
    }
    if (probe->kill_timer) {
        g_source_remove(probe->kill_timer);
    }
    if (probe->process) {
        g_subprocess_force_exit(probe->process);
        g_object_unref(probe->process);
    }
    if (probe->sector) {
        (void)unlink(probe->sector);
    }
    if (probe->socket) {
        (void)unlink(probe->socket);
    }
    g_free(probe->sector);
    g_free(probe->socket);
    probe->done(probe->data);
    g_free(probe);
}

void lpm_emulator_probe(LpmHost *host, LpmEmulator *emulator, void (*done)(void *data), void *data)
{
    Probe *probe = g_new0(Probe, 1);

    probe->host = host;
    probe->emulator = emulator;
    probe->done = done;
    probe->data = data;
    begin_version(probe);
}

/* --- version --- */

static void on_version(const char *output, const GError *error, void *data)
{
    Probe *probe = data;
    unsigned major = 0, minor = 0, micro = 0;
    g_autoptr(GError) failure = NULL;

    if (error) {
        probe_end(probe, error);
        return;
    }
    if (sscanf(output, "QEMU emulator version %u.%u.%u", &major, &minor, &micro) != 3) {
        lpm_error_set(&failure, LPM_ERROR_QEMU, "it does not say its version");
        probe_end(probe, failure);
        return;
    }
    probe->emulator->version = g_strdup_printf("%u.%u.%u", major, minor, micro);
    begin_accel(probe);
}

static void begin_version(Probe *probe)
{
    lpm_subprocess_run((const char *[]){probe->emulator->path, "--version", NULL}, 0,
                       VERSION_TIMEOUT_MS, on_version, probe);
}

/* --- accelerator --- */

static bool machine_is(const char *prefix)
{
    struct utsname name;

    return uname(&name) == 0 && g_str_has_prefix(name.machine, prefix);
}

/* QEMU will run as another user than we do; it is given the device's group, unless that is root's.
 */
static bool kvm_is_open_to(const LpmHostConfig *config)
{
    struct stat info;
    uid_t uid;
    gid_t gid;

    if (strcmp(config->accelerator, "tcg") == 0) {
        return false;
    }
    if (stat("/dev/kvm", &info) != 0 || access("/dev/kvm", R_OK | W_OK) != 0) {
        return false;
    }
    if (geteuid() != 0 || !lpm_process_user(config->qemu_user, &uid, &gid) || info.st_uid == uid ||
        (info.st_mode & 0006) == 0006 || (info.st_gid != 0 && (info.st_mode & 0060) == 0060)) {
        return true;
    }
    lpm_log_info(NULL, "KVM is not used: /dev/kvm is not open to user %s; give it to group kvm",
                 config->qemu_user);
    return false;
}

static bool write_sector(Probe *probe)
{
    char sector[512] = {0};

    memcpy(sector, boot_code, sizeof(boot_code));
    sector[510] = 0x55;
    sector[511] = (char)0xaa;
    probe->sector = g_strdup_printf("%s/probe-%d.img", probe->host->config->run_dir, (int)getpid());
    return g_file_set_contents(probe->sector, sector, sizeof(sector), NULL);
}

static void on_kvm(const char *output G_GNUC_UNUSED, const GError *error, void *data)
{
    Probe *probe = data;

    if (error) {
        lpm_log_info(NULL, "KVM is there but does not run a partition, so it is not used: %s",
                     error->message);
    }
    probe->emulator->accel = error ? "tcg" : "kvm";
    begin_questions(probe);
}

static void begin_accel(Probe *probe)
{
    g_autofree char *drive = NULL;

    bool possible = kvm_is_open_to(probe->host->config);

    if (possible && probe->emulator->family == LPM_FAMILY_X86_64 && machine_is("x86_64") &&
        write_sector(probe)) {
        drive = g_strdup_printf("file=%s,format=raw,if=ide", probe->sector);
        const char *argv[] = {probe->emulator->path,
                              "-M",
                              "pc",
                              "-accel",
                              "kvm",
                              "-m",
                              "16",
                              "-nodefaults",
                              "-display",
                              "none",
                              "-drive",
                              drive,
                              "-device",
                              "isa-debug-exit,iobase=0xf4,iosize=4",
                              NULL};

        /* Only the status of the debug device counts: a clean exit proves nothing, but cannot
         * happen either. */
        lpm_subprocess_run(argv, BOOT_STATUS, KVM_TIMEOUT_MS, on_kvm, probe);
        return;
    }
    /* A POWER server's KVM is tried by starting the questions' machine with it. */
    if (possible && probe->emulator->family == LPM_FAMILY_POWER && machine_is("ppc64")) {
        probe->emulator->accel = "kvm";
    }
    begin_questions(probe);
}

/* --- questions --- */

static gboolean on_kill_timer(gpointer data)
{
    Probe *probe = data;

    probe->kill_timer = 0;
    g_subprocess_force_exit(probe->process);
    return G_SOURCE_REMOVE;
}

/* All questions once more, of a QEMU without KVM. */
static void ask_again(Probe *probe)
{
    if (probe->qmp) {
        g_idle_add_once((GSourceOnceFunc)lpm_qmp_free, g_steal_pointer(&probe->qmp));
    }
    g_subprocess_force_exit(probe->process);
    g_clear_object(&probe->process);
    g_clear_pointer(&probe->emulator->machines, g_strfreev);
    g_clear_pointer(&probe->emulator->devices, g_strfreev);
    begin_questions(probe);
}

static void failed_question(Probe *probe, const GError *error)
{
    if (probe->emulator->family == LPM_FAMILY_POWER && !strcmp(probe->emulator->accel, "kvm")) {
        probe->emulator->accel = "tcg";
        ask_again(probe);
        return;
    }
    probe_end(probe, error);
}

static void on_connected(LpmQmp *qmp, const GError *error, void *data)
{
    Probe *probe = data;

    if (error) {
        failed_question(probe, error);
        return;
    }
    probe->qmp = qmp;
    ask_machines(probe);
}

static void begin_questions(Probe *probe)
{
    const LpmQmpHandlers none = {NULL, NULL, NULL};
    g_autoptr(GError) error = NULL;
    g_autofree char *qmp = NULL;

    if (!probe->socket) {
        probe->socket = g_strdup_printf("%s/probe-%s.sock", probe->host->config->run_dir,
                                        lpm_family_name(probe->emulator->family));
    }
    (void)unlink(probe->socket);
    qmp = g_strdup_printf("unix:%s,server=on,wait=off", probe->socket);
    const char *const argv[] = {
        probe->emulator->path,  "-M",   "none", "-nodefaults", "-display", "none", "-S", "-accel",
        probe->emulator->accel, "-qmp", qmp,    NULL};
    probe->process = lpm_subprocess_new(
        argv, G_SUBPROCESS_FLAGS_STDERR_SILENCE | G_SUBPROCESS_FLAGS_STDOUT_SILENCE, &error);
    if (!probe->process) {
        probe_end(probe, error);
        return;
    }
    if (!probe->kill_timer) {
        probe->kill_timer = g_timeout_add(2 * QMP_TIMEOUT_MS, on_kill_timer, probe);
    }
    lpm_qmp_connect(probe->socket, QMP_TIMEOUT_MS, &none, on_connected, probe);
}

static char **names_of(const json_t *array)
{
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();

    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *item = json_array_get(array, i);
        const char *name =
            json_is_string(item) ? json_string_value(item) : lpm_json_str(item, "name", NULL);

        if (name) {
            g_strv_builder_add(builder, name);
        }
    }
    return g_strv_builder_end(builder);
}

static void on_machines(json_t *result, const GError *error, void *data)
{
    Probe *probe = data;

    if (error) {
        probe_end(probe, error);
        return;
    }
    probe->emulator->machines = names_of(result);
    ask_devices(probe);
}

static void ask_machines(Probe *probe)
{
    lpm_qmp_query_machines(probe->qmp, on_machines, probe);
}

static void on_devices(json_t *result, const GError *error, void *data)
{
    Probe *probe = data;

    if (error) {
        probe_end(probe, error);
        return;
    }
    probe->emulator->devices = names_of(result);
    ask_features(probe);
}

static void ask_devices(Probe *probe)
{
    lpm_qmp_qom_list_types(probe->qmp, "device", on_devices, probe);
}

static void on_features(json_t *result, const GError *error, void *data)
{
    Probe *probe = data;

    g_autoptr(json_t) answer = error ? NULL : lpm_json_pack("{s:O}", "model", result);

    if (error) {
        probe_end(probe, error);
        return;
    }
    probe->emulator->features = lpm_compat_features_from_expansion(answer);
    if (strcmp(probe->emulator->accel, "kvm") == 0 &&
        !g_strv_contains((const char *const *)probe->emulator->features, LEAST_FEATURE)) {
        lpm_log_info(
            NULL, "KVM is not used: it hides %s, without which usual operating systems do not run",
            LEAST_FEATURE);
        probe->emulator->accel = "tcg";
        g_clear_pointer(&probe->emulator->features, g_strfreev);
        ask_again(probe);
        return;
    }
    probe_end(probe, NULL);
}

static void ask_features(Probe *probe)
{
    if (probe->emulator->family != LPM_FAMILY_X86_64) {
        probe->emulator->features = g_strsplit("", ",", 0);
        probe_end(probe, NULL);
        return;
    }
    /* "static" lists every feature, and none of the settings that "full" has besides. */
    lpm_qmp_query_cpu_model_expansion(probe->qmp, "static",
                                      strcmp(probe->emulator->accel, "kvm") ? "max" : "host", NULL,
                                      on_features, probe);
}

/* --- machine types --- */

char *lpm_emulator_newest_machine(const char *const *machines, const char *prefix)
{
    unsigned best_major = 0, best_minor = 0;
    const char *best = NULL;

    for (; machines && *machines; machines++) {
        unsigned major, minor;
        char rest;

        if (g_str_has_prefix(*machines, prefix) && (*machines)[strlen(prefix)] == '-' &&
            sscanf(*machines + strlen(prefix) + 1, "%u.%u%c", &major, &minor, &rest) == 2 &&
            (!best || major > best_major || (major == best_major && minor > best_minor))) {
            best = *machines;
            best_major = major;
            best_minor = minor;
        }
    }
    return g_strdup(best);
}
