/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A QEMU is started: for an activation from disk, or to receive a move. Functions stand in the
 * order in which they run. Written down first (the intent, then the pid of a process that still
 * waits), then let go.
 */
#include "base/log.h"
#include "crash/crash.h"
#include "host/emulator.h"
#include "host/facts.h"
#include "host/logs.h"
#include "host/network.h"
#include "host/partition.h"
#include "host/storage.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HUGE_SHIFT 26 /* MFD_HUGE_SHIFT of <linux/memfd.h>, which does not go with <sys/mman.h> */

typedef struct LpmActivation {
    LpmPartition *partition;
    LpmQemuRole role;
    json_t *wanted;   /* incoming: runtime of the source */
    bool unconnected; /* incoming: an adapter whose network is not here comes without one */
    LpmHostDone done;
    void *data;
    LpmPlan *plan;
    LpmQemuDisk *disks; /* one for each of the plan's profile */
    size_t n_disks;
    char *kernel, *initrd;
    int *taps;
    size_t n_taps;
    char **argv;
    uid_t uid;
    gid_t gid;
    bool connecting; /* the connection's callback still comes */
    bool ended;      /* done was called */
} Activation;

static void begin(LpmPartition *partition, const char *profile, Activation *activation);
static void on_may_start(const GError *error, void *data);
static void on_emulators(const GError *error, void *data);
static bool resolve_files(Activation *activation, GError **error);
static bool make_taps(Activation *activation, GError **error);
static bool make_memory(Activation *activation, GError **error);
static bool make_run_dir(Activation *activation, GError **error);
static bool make_argv(Activation *activation, GError **error);
static bool launch(Activation *activation, GError **error);
static void on_connected(LpmQmp *qmp, const GError *error, void *data);
static void on_running(const GError *error, void *data);

/* --- ending it, well or not --- */

static void close_taps(Activation *activation)
{
    for (size_t i = 0; i < activation->n_taps; i++) {
        close(activation->taps[i]);
    }
    g_clear_pointer(&activation->taps, g_free);
    activation->n_taps = 0;
}

/* Those with secrets are QEMU's now, or nobody's. */
static void clear_disks(Activation *activation)
{
    for (size_t i = 0; i < activation->n_disks; i++) {
        lpm_storage_place_clear(&activation->disks[i]);
    }
    g_clear_pointer(&activation->disks, g_free);
    activation->n_disks = 0;
}

static void activation_free(Activation *activation)
{
    close_taps(activation);
    clear_disks(activation);
    json_decref(activation->wanted);
    lpm_plan_free(activation->plan);
    g_free(activation->kernel);
    g_free(activation->initrd);
    g_strfreev(activation->argv);
    lpm_partition_unref(activation->partition);
    g_free(activation);
}

/* Says how it ended; afterwards only a connection's callback may still come. */
static void finish(Activation *activation, const GError *error)
{
    LpmPartition *partition = activation->partition;

    activation->ended = true;
    partition->activation = NULL;
    partition->busy = NULL;
    activation->done(error, activation->data);
    if (!activation->connecting) {
        activation_free(activation);
    }
}

typedef struct {
    Activation *activation;
    GError *error;
} Failure;

static void on_failed_ended(const GError *ended G_GNUC_UNUSED, void *data)
{
    Failure *failure = data;

    finish(failure->activation, failure->error);
    g_error_free(failure->error);
    g_free(failure);
}

static void fail(Activation *activation, const GError *error)
{
    LpmPartition *partition = activation->partition;
    Failure *failure = g_new0(Failure, 1);

    failure->activation = activation;
    failure->error = g_error_copy(error);
    g_prefix_error(&failure->error, "partition %s cannot be %s on %s: ", partition->profile->name,
                   activation->role == LPM_QEMU_START ? "activated" : "received",
                   lpm_host_name(partition->host));
    close_taps(activation);
    partition->activation = NULL;
    if (!partition->pid) {
        if (partition->memory_fd >= 0) {
            close(partition->memory_fd);
            partition->memory_fd = -1;
        }
        g_clear_pointer(&partition->runtime, json_decref);
        partition->incoming = false;
        g_clear_pointer(&partition->activating, g_free);
        lpm_partition_drop_runtime(partition);
    }
    lpm_partition_end_qemu(partition, failure->error->message, on_failed_ended, failure);
}

void lpm_activation_qemu_gone(LpmPartition *partition, const char *reason)
{
    Activation *activation = partition->activation;
    g_autoptr(GError) error = NULL;

    if (activation && !activation->ended) {
        lpm_error_set(&error, LPM_ERROR_QEMU, "%s", reason ? reason : "QEMU was ended");
        fail(activation, error);
    }
}

/* --- start --- */

void lpm_partition_start(LpmPartition *partition, const char *profile, LpmHostDone done, void *data)
{
    Activation *activation = g_new0(Activation, 1);

    activation->role = LPM_QEMU_START;
    activation->done = done;
    activation->data = data;
    begin(partition, profile, activation);
}

void lpm_partition_start_incoming(LpmPartition *partition, const json_t *runtime, bool unconnected,
                                  LpmHostDone done, void *data)
{
    Activation *activation = g_new0(Activation, 1);

    activation->role = LPM_QEMU_INCOMING;
    activation->wanted = runtime ? json_deep_copy(runtime) : NULL;
    activation->unconnected = unconnected;
    activation->done = done;
    activation->data = data;
    begin(partition, NULL, activation);
}

static void on_refused(gpointer data)
{
    Failure *failure = data;

    failure->activation->done(failure->error, failure->activation->data);
    activation_free(failure->activation);
    g_error_free(failure->error);
    g_free(failure);
}

/* Known already, so that nothing is begun with a name that there is not. */
static void check_profile(const LpmPartition *partition, const char *profile, GError **error)
{
    g_autoptr(LpmProfile) chosen = lpm_profile_select(partition->profile, profile, error);
}

static void begin(LpmPartition *partition, const char *profile, Activation *activation)
{
    const LpmMobilityHooks *hooks = partition->host->hooks;
    LpmQemuRole role = activation->role;
    g_autoptr(GError) error = NULL;

    activation->partition = lpm_partition_ref(partition);
    activation->uid = (uid_t)-1;
    activation->gid = (gid_t)-1;
    if (partition->pid || partition->activation) {
        lpm_error_set(&error, LPM_ERROR_STATE, "partition %s is %s on %s: it has a QEMU already",
                      partition->profile->name, lpm_partition_state_name(partition->state),
                      lpm_host_name(partition->host));
    } else if (role == LPM_QEMU_START) {
        if (lpm_partition_check_idle(partition, "be activated", &error)) {
            check_profile(partition, profile, &error);
        }
    }
    if (error) {
        Failure *failure = g_new0(Failure, 1);

        failure->activation = activation;
        failure->error = g_steal_pointer(&error);
        g_idle_add_once(on_refused, failure);
        return;
    }
    partition->activation = activation;
    partition->busy = "being activated";
    if (profile && strcmp(profile, lpm_profile_current(partition->profile)) != 0) {
        partition->activating = g_strdup(profile);
    }
    lpm_partition_set_state(partition, LPM_PARTITION_STARTING, NULL);
    if (role == LPM_QEMU_START && hooks && hooks->record_may_start) {
        hooks->record_may_start(partition, on_may_start, activation);
    } else {
        lpm_emulators_when_ready(partition->host, on_emulators, activation);
    }
}

static void on_may_start(const GError *error, void *data)
{
    Activation *activation = data;

    if (error) {
        fail(activation, error);
    } else {
        lpm_emulators_when_ready(activation->partition->host, on_emulators, activation);
    }
}

/* A machine type and interrupt mode that were chosen now hold for the partition's life: written
 * down before QEMU has them. */
static bool keep_pins(Activation *activation, GError **error)
{
    LpmPartition *partition = activation->partition;
    LpmProfile *profile = partition->profile;

    if (activation->role != LPM_QEMU_START ||
        (profile->machine && (profile->interrupt_mode || profile->family != LPM_FAMILY_POWER))) {
        return true;
    }
    g_free(profile->machine);
    profile->machine = g_strdup(activation->plan->profile->machine);
    g_free(profile->interrupt_mode);
    profile->interrupt_mode = g_strdup(activation->plan->profile->interrupt_mode);
    return lpm_partition_keep(partition, error);
}

/* This one is among those that are promised something already. */
static bool has_room(Activation *activation, GError **error)
{
    LpmHost *host = activation->partition->host;
    const LpmProfile *profile = activation->plan->profile;
    int64_t wanted_mib = lpm_profile_total_memory_mib(profile);
    int wanted_processors = lpm_profile_total_processors(profile);
    int64_t memory_mib;
    int processors;

    activation->partition->activation = NULL;
    lpm_host_free(host, &memory_mib, &processors);
    activation->partition->activation = activation;
    if (profile->huge_pages_kib > 0) {
        memory_mib = lpm_facts_huge_free_mib(host, profile->huge_pages_kib);
        if (profile->memory_mib > memory_mib) {
            return lpm_error_set(error, LPM_ERROR_BUSY,
                                 "it needs %" G_GINT64_FORMAT " MiB in huge pages of "
                                 "%" G_GINT64_FORMAT " KiB, and %s has %" G_GINT64_FORMAT
                                 " MiB of them free; reserve more of them there",
                                 profile->memory_mib, profile->huge_pages_kib, lpm_host_name(host),
                                 memory_mib);
        }
    } else if (wanted_mib > memory_mib) {
        return lpm_error_set(error, LPM_ERROR_BUSY,
                             "it needs %" G_GINT64_FORMAT " MiB of memory, and %s "
                             "has %" G_GINT64_FORMAT
                             " MiB to give; stop other partitions, or raise "
                             "memory_mib in group [limits]",
                             wanted_mib, lpm_host_name(host), memory_mib);
    }
    if (wanted_processors > processors) {
        return lpm_error_set(error, LPM_ERROR_BUSY,
                             "it needs %d processors, and %s has %d to give; stop "
                             "other partitions, or raise processors in group [limits]",
                             wanted_processors, lpm_host_name(host), processors);
    }
    return true;
}

static void on_emulators(const GError *none G_GNUC_UNUSED, void *data)
{
    Activation *activation = data;
    LpmPartition *partition = activation->partition;
    LpmQmpHandlers handlers;
    g_autofree char *socket = lpm_qemu_path(partition, "qmp.sock");
    g_autoptr(GError) error = NULL;

    activation->plan = activation->role == LPM_QEMU_START
                           ? lpm_plan_activation(partition, &error)
                           : lpm_plan_incoming(partition, activation->wanted, &error);
    if (geteuid() == 0) {
        (void)lpm_process_user(partition->host->config->qemu_user, &activation->uid,
                               &activation->gid);
    }
    if (!activation->plan || !has_room(activation, &error) || !keep_pins(activation, &error) ||
        !resolve_files(activation, &error) || !make_taps(activation, &error) ||
        !make_memory(activation, &error) || !make_run_dir(activation, &error) ||
        !make_argv(activation, &error) || !launch(activation, &error)) {
        fail(activation, error);
        return;
    }
    close_taps(activation);
    clear_disks(activation);
    lpm_qemu_handlers(partition, &handlers);
    activation->connecting = true;
    lpm_qmp_connect(socket, partition->host->config->start_timeout_ms, &handlers, on_connected,
                    activation);
}

/* --- what QEMU is given --- */

static bool resolve(Activation *activation, const LpmFileRef *at, bool read_only, LpmQemuDisk *ret,
                    GError **error)
{
    LpmHost *host = activation->partition->host;
    const LpmStorageOps *ops = lpm_storage_for(host, at, error);

    return ops && ops->activate(host, at, read_only, activation->uid, activation->gid, ret, error);
}

/* QEMU reads it by its path: NULL where the pool has none. */
static char *resolve_boot_file(Activation *activation, const LpmFileRef *at, GError **error)
{
    g_autofree char *path = lpm_host_file_path(activation->partition->host, at, error);
    LpmQemuDisk place = {.secret_fd = -1};
    bool good = path && resolve(activation, at, true, &place, error);

    lpm_storage_place_clear(&place);
    return good ? g_steal_pointer(&path) : NULL;
}

static bool resolve_disks(Activation *activation, GError **error)
{
    const LpmProfile *profile = activation->plan->profile;

    activation->disks = g_new0(LpmQemuDisk, profile->n_disks + 1);
    while (activation->n_disks < profile->n_disks) {
        const LpmDisk *disk = &profile->disks[activation->n_disks];
        LpmQemuDisk *place = &activation->disks[activation->n_disks++];

        place->secret_fd = -1;
        /* An optical drive without a medium has nothing to be found. */
        if (disk->at.file && !resolve(activation, &disk->at, disk->read_only, place, error)) {
            g_prefix_error(error, "disk %s: ", disk->name);
            return false;
        }
    }
    return true;
}

static bool resolve_files(Activation *activation, GError **error)
{
    const LpmProfile *profile = activation->plan->profile;

    if (!resolve_disks(activation, error)) {
        return false;
    }
    /* An incoming machine has them in its memory, but boots from them again after a reset. */
    if (profile->boot.kernel.pool) {
        activation->kernel = resolve_boot_file(activation, &profile->boot.kernel, error);
    }
    if (profile->boot.initrd.pool && (!error || !*error)) {
        activation->initrd = resolve_boot_file(activation, &profile->boot.initrd, error);
    }
    return !profile->boot.kernel.pool ||
           (activation->kernel && (!profile->boot.initrd.pool || activation->initrd));
}

static int make_tap(Activation *activation, const LpmNetwork *network, GError **error)
{
    LpmHost *host = activation->partition->host;
    const LpmSwitchConfig *config = NULL;
    const LpmNetworkOps *ops = lpm_network_for(host, network->switch_name, &config, error);
    int fd = ops ? ops->tap(host, config, network->vlan, error) : -1;

    if (fd < 0) {
        g_prefix_error(error, "network %s: ", network->name);
    }
    return fd;
}

/* Somebody has overridden the check that the network is here. */
static int make_lone_tap(Activation *activation, const LpmNetwork *network, GError **error)
{
    g_autofree char *why = g_strdup(error && *error ? (*error)->message : "");
    char name[16] = "";
    int fd;

    g_clear_error(error);
    fd = lpm_network_lone_tap(name, error);
    if (fd >= 0) {
        lpm_log_warning(&(LpmLogFields){.partition = activation->partition->profile->name},
                        "%s; as the check was overridden it arrives unconnected: make the bridge "
                        "and give it the tap (ip link set %s master BRIDGE)",
                        why, name);
    } else {
        g_prefix_error(error, "network %s: ", network->name);
    }
    return fd;
}

static bool make_taps(Activation *activation, GError **error)
{
    const LpmProfile *profile = activation->plan->profile;

    activation->taps = g_new0(int, profile->n_networks + 1);
    for (size_t i = 0; i < profile->n_networks; i++) {
        int fd = make_tap(activation, &profile->networks[i], error);

        if (fd < 0 && activation->unconnected) {
            fd = make_lone_tap(activation, &profile->networks[i], error);
        }
        if (fd < 0) {
            return false;
        }
        activation->taps[activation->n_taps++] = fd;
    }
    return true;
}

static bool make_memory(Activation *activation, GError **error)
{
    LpmPartition *partition = activation->partition;
    const LpmProfile *profile = activation->plan->profile;
    g_autofree char *name = g_strconcat("lpm-", profile->uuid, NULL);
    int64_t mib = lpm_profile_adds_to_file(profile) ? lpm_profile_total_memory_mib(profile)
                                                    : profile->memory_mib;
    unsigned flags = MFD_CLOEXEC;

    if (profile->memory_backing != LPM_BACKING_SHARED) {
        return true;
    }
    if (profile->huge_pages_kib > 0) {
        unsigned order = (unsigned)g_bit_nth_msf((gulong)profile->huge_pages_kib << 10, -1);

        flags |= MFD_HUGETLB | order << HUGE_SHIFT;
    }
    partition->memory_fd = memfd_create(name, flags);
    if (partition->memory_fd < 0 || ftruncate(partition->memory_fd, mib << 20) != 0) {
        return lpm_error_set(error, LPM_ERROR_INTERNAL,
                             "%" G_GINT64_FORMAT " MiB of shared memory "
                             "cannot be had: %s",
                             mib, g_strerror(errno));
    }
    return true;
}

static bool make_run_dir(Activation *activation, GError **error)
{
    const char *path = activation->partition->run_dir;

    if ((g_mkdir(path, 0700) != 0 && errno != EEXIST) ||
        (activation->uid != (uid_t)-1 && lchown(path, activation->uid, activation->gid) != 0)) {
        return lpm_error_set(error, LPM_ERROR_INTERNAL, "directory %s cannot be made: %s", path,
                             g_strerror(errno));
    }
    if (lpm_json_str(activation->wanted, "console_tail", NULL)) {
        lpm_log_console_begin(activation->partition,
                              lpm_json_str(activation->wanted, "console_tail", ""), activation->uid,
                              activation->gid);
    }
    return true;
}

static bool make_argv(Activation *activation, GError **error)
{
    LpmPartition *partition = activation->partition;
    const LpmPlan *plan = activation->plan;
    const LpmEmulator *emulator = lpm_emulator_get(partition->host, plan->profile->family, error);
    g_autofree char *qmp = lpm_qemu_path(partition, "qmp.sock");
    g_autofree char *oob = lpm_qemu_path(partition, "qmp2.sock");
    g_autofree char *console = lpm_qemu_path(partition, "console.sock");
    g_autofree char *console_log = lpm_qemu_path(partition, "console.log");
    g_autofree char *agent = lpm_qemu_path(partition, "agent.sock");

    if (!emulator) {
        return false;
    }
    activation->argv = lpm_qemuargs_build(
        &(LpmQemuSpec){
            .program = emulator->path,
            .profile = plan->profile,
            .role = activation->role,
            .accel = emulator->accel,
            .cpu = plan->cpu,
            .max_cpu_compat = plan->max_cpu_compat,
            .qmp_socket = qmp,
            .oob_socket = oob,
            .console_socket = plan->profile->console ? console : NULL,
            .console_log = plan->profile->console ? console_log : NULL,
            .agent_socket = plan->profile->guest_agent ? agent : NULL,
            .disks = activation->disks,
            .kernel = activation->kernel,
            .initrd = activation->initrd,
            .network_fds = activation->taps,
            .memory_fd = partition->memory_fd,
            .uefi_code = partition->host->config->uefi_code,
            .now_s = lpm_clock_realtime_us(partition->host->clock) / G_USEC_PER_SEC,
        },
        error);
    if (!activation->argv) {
        return false;
    }
    partition->runtime = lpm_plan_runtime(partition->host, plan, activation->argv);
    partition->incoming = activation->role == LPM_QEMU_INCOMING;
    return true;
}

/* --- the process --- */

static int open_log(const LpmPartition *partition, GError **error)
{
    g_autofree char *path = g_strconcat(partition->run_dir, ".log", NULL);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0) {
        lpm_error_set(error, LPM_ERROR_INTERNAL, "log %s cannot be made: %s", path,
                      g_strerror(errno));
    }
    return fd;
}

static bool spawn(Activation *activation, int log, LpmProcess *process, GError **error)
{
    LpmPartition *partition = activation->partition;
    g_autofree int *fds = g_new0(int, activation->n_taps + activation->n_disks + 1);
    size_t n = 0;

    for (; n < activation->n_taps; n++) {
        fds[n] = activation->taps[n];
    }
    for (size_t i = 0; i < activation->n_disks; i++) {
        if (activation->disks[i].secret_fd >= 0) {
            fds[n++] = activation->disks[i].secret_fd;
        }
    }
    if (partition->memory_fd >= 0) {
        fds[n++] = partition->memory_fd;
    }
    return lpm_process_spawn(
        &(LpmProcessSpec){
            .argv = activation->argv,
            .user = partition->host->config->qemu_user,
            .keep_kvm_group = strcmp(lpm_json_str(partition->runtime, "accel", ""), "kvm") == 0,
            .output_fd = log,
            .fds = fds,
            .n_fds = n,
        },
        process, error);
}

static bool launch(Activation *activation, GError **error)
{
    LpmPartition *partition = activation->partition;
    LpmProcess process;
    int log;
    bool good;

    if (!lpm_partition_put_runtime(partition, NULL, activation->argv, error)) {
        return false;
    }
    LPM_CRASH_POINT("activate", "spawn", "before");
    log = open_log(partition, error);
    if (log < 0) {
        return false;
    }
    good = spawn(activation, log, &process, error);
    close(log);
    if (!good) {
        return false;
    }
    LPM_CRASH_POINT("activate", "spawn", "after");
    if (!lpm_partition_put_runtime(partition, &process, activation->argv, error)) {
        lpm_process_discard(&process);
        return false;
    }
    LPM_CRASH_POINT("activate", "release", "before");
    good = lpm_process_release(&process, activation->argv[0], error);
    if (!good) {
        lpm_process_discard(&process);
        return false;
    }
    lpm_qemu_watch(partition, process.pid, process.pidfd);
    LPM_CRASH_POINT("activate", "release", "after");
    return true;
}

/* --- it answers --- */

static void on_connected(LpmQmp *qmp, const GError *error, void *data)
{
    Activation *activation = data;
    LpmPartition *partition = activation->partition;

    activation->connecting = false;
    if (activation->ended || !partition->activation) {
        /* QEMU's end was seen first; that way reports it, or has. */
        if (qmp) {
            g_idle_add_once((GSourceOnceFunc)lpm_qmp_free, qmp);
        }
        if (activation->ended) {
            activation_free(activation);
        }
        return;
    }
    if (error) {
        /* Mostly it ended at once, and its log says why. */
        g_autofree char *words = lpm_qemu_last_words(partition);
        g_autoptr(GError) full = NULL;

        lpm_error_set(&full, LPM_ERROR_QEMU, "QEMU does not answer; its last words: %s (%s)", words,
                      error->message);
        fail(activation, full);
        return;
    }
    lpm_qemu_connected(partition, qmp);
    if (activation->role == LPM_QEMU_INCOMING) {
        lpm_partition_set_state(partition, LPM_PARTITION_INCOMING, NULL);
        finish(activation, NULL);
        return;
    }
    LPM_CRASH_POINT("activate", "cont", "before");
    lpm_qmp_cont(qmp, LPM_QMP_RUN_UNKNOWN, on_running, activation);
}

static void on_running(const GError *error, void *data)
{
    Activation *activation = data;
    LpmPartition *partition = activation->partition;
    g_autoptr(GError) failure = NULL;

    if (activation->ended || partition->activation != activation) {
        return;
    }
    LPM_CRASH_POINT("activate", "cont", "after");
    if (error) {
        fail(activation, error);
        return;
    }
    if (!lpm_partition_has_activated(partition, &failure)) {
        /* It runs, and is not ended for a full disk: tried again at each look (qemu.c). */
        lpm_log_error(&(LpmLogFields){.partition = partition->profile->name}, "%s",
                      failure->message);
    }
    g_free(partition->current_mode);
    partition->current_mode = g_strdup(activation->plan->mode);
    lpm_partition_set_state(partition, LPM_PARTITION_RUNNING, NULL);
    finish(activation, NULL);
}
