/* SPDX-License-Identifier: Apache-2.0 */
/* From profile, modes and emulator to what QEMU is told; pure but for looking at the host's tables.
 */
#include "host/emulator.h"
#include "host/partition.h"
#include "host/storage.h"

#include <string.h>

void lpm_plan_free(LpmPlan *plan)
{
    if (!plan) {
        return;
    }
    lpm_profile_free(plan->profile);
    g_free(plan->cpu);
    g_free(plan->max_cpu_compat);
    g_free(plan->mode);
    g_free(plan->activated_with);
    g_strfreev(plan->features);
    g_free(plan);
}

static LpmProfile *copy_profile(const LpmProfile *profile, GError **error)
{
    g_autoptr(json_t) json = lpm_profile_to_json(profile);

    return lpm_profile_from_json(json, error);
}

LpmProfile *lpm_partition_built(const LpmPartition *partition, GError **error)
{
    const json_t *built = partition->pid ? lpm_json_at(partition->runtime, "profile") : NULL;
    LpmProfile *profile =
        built ? lpm_profile_from_json(built, error) : copy_profile(partition->profile, error);

    if (!profile) {
        g_prefix_error(error, "partition %s: what it runs with: ", partition->profile->name);
    }
    return profile;
}

static bool check_machine(const LpmHost *host, const LpmEmulator *emulator,
                          const LpmProfile *profile, GError **error)
{
    g_autofree char *type = profile->machine ? lpm_qemuargs_machine_type(profile->machine) : NULL;

    if (type && lpm_emulator_knows_machine(emulator, type)) {
        return true;
    }
    return lpm_error_set(error, LPM_ERROR_UNSUPPORTED,
                         "partition %s: %s %s on %s does not know machine "
                         "type %s; install a QEMU that does",
                         profile->name, emulator->path, emulator->version, lpm_host_name(host),
                         type ? type : "(none)");
}

/* --- processors --- */

static bool plan_power(const LpmHost *host, const LpmEmulator *emulator, LpmPlan *plan,
                       GError **error)
{
    const LpmCompat *compat = lpm_emulators_compat(host);
    const char *generation = host->config->power_processor;
    const char *cpu =
        strcmp(emulator->accel, "kvm") == 0 ? "host" : lpm_compat_power_cpu(compat, generation);

    if (!cpu) {
        return lpm_error_set(error, LPM_ERROR_UNSUPPORTED,
                             "QEMU has no processor for a %s server; "
                             "correct [power] processor of the configuration",
                             generation);
    }
    plan->cpu = g_strdup(cpu);
    plan->max_cpu_compat =
        g_strdup(lpm_compat_power_max(compat, generation, plan->profile->preferred_mode));
    return true;
}

static bool plan_x86(const LpmHost *host, const char *mode_name, LpmPlan *plan, GError **error)
{
    const LpmCompat *compat = lpm_emulators_compat(host);
    const LpmMode *mode = lpm_compat_find(compat, mode_name);
    const char *cpu = mode ? lpm_compat_x86_cpu(compat, mode->name) : NULL;

    if (!cpu) {
        return lpm_error_set(error, LPM_ERROR_UNSUPPORTED,
                             "partition %s: %s knows no processor mode %s", plan->profile->name,
                             lpm_host_name(host), mode_name ? mode_name : "");
    }
    plan->cpu = g_strdup(cpu);
    plan->mode = g_strdup(mode->name);
    plan->features = g_strdupv(mode->features);
    return true;
}

static const LpmMode *mode_at_activation(const LpmHost *host, const LpmEmulator *emulator,
                                         const LpmProfile *profile)
{
    return lpm_compat_at_activation(lpm_emulators_compat(host), profile->family,
                                    profile->preferred_mode, (const char *const *)emulator->modes,
                                    NULL);
}

/* --- plans --- */

static bool pin(const LpmHost *host, const LpmEmulator *emulator, LpmProfile *profile,
                GError **error)
{
    bool vof = strcmp(host->config->power_firmware, "vof") == 0;

    if (!profile->machine) {
        if (!emulator->machine) {
            return lpm_error_set(error, LPM_ERROR_UNSUPPORTED,
                                 "%s has no machine type for %s "
                                 "partitions",
                                 emulator->path, lpm_family_name(profile->family));
        }
        profile->machine = lpm_qemuargs_pin_machine(profile, emulator->machine, vof);
    }
    if (profile->family == LPM_FAMILY_POWER && !profile->interrupt_mode) {
        profile->interrupt_mode = g_strdup(
            lpm_compat_interrupt_mode(lpm_emulators_compat(host), profile->preferred_mode));
    }
    return true;
}

/* --- disks of other partitions --- */

/* Two pools may be one directory. */
static bool same_file(const LpmHost *host, const LpmFileRef *one, const LpmFileRef *other)
{
    g_autofree char *path = NULL, *other_path = NULL;

    if (!one->file || g_strcmp0(one->file, other->file) != 0) {
        return false;
    }
    if (g_strcmp0(one->pool, other->pool) == 0) {
        return true;
    }
    path = lpm_host_file_path(host, one, NULL);
    other_path = lpm_host_file_path(host, other, NULL);
    return path && g_strcmp0(path, other_path) == 0;
}

/* A disk of @profile that @other has too, where one of the two may write. */
static const LpmDisk *shared_disk(const LpmHost *host, const LpmProfile *profile,
                                  const LpmProfile *other)
{
    for (size_t i = 0; i < profile->n_disks; i++) {
        for (size_t j = 0; j < other->n_disks; j++) {
            if (same_file(host, &profile->disks[i].at, &other->disks[j].at) &&
                !(profile->disks[i].read_only && other->disks[j].read_only)) {
                return &profile->disks[i];
            }
        }
    }
    return NULL;
}

/* Another partition here that has a disk of @profile: in what it runs with, or, unless @running,
 * in what is defined. NULL: none. */
static const LpmPartition *find_sharer(const LpmPartition *partition, const LpmProfile *profile,
                                       bool running, const LpmDisk **ret_disk)
{
    const LpmHost *host = partition->host;
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, host->partitions);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const LpmPartition *other = value;
        g_autoptr(LpmProfile) built = NULL;

        if (other == partition || (running && !other->pid && !other->activation)) {
            continue;
        }
        built = lpm_partition_built(other, NULL);
        *ret_disk = built ? shared_disk(host, profile, built) : NULL;
        if (!*ret_disk && !running) {
            *ret_disk = shared_disk(host, profile, other->profile);
        }
        if (*ret_disk) {
            return other;
        }
    }
    return NULL;
}

/* For files QEMU's own lock would say it, less well; a LUN or an export has none. */
static bool check_running(const LpmPartition *partition, const LpmProfile *profile, GError **error)
{
    const LpmDisk *disk;
    const LpmPartition *other = find_sharer(partition, profile, true, &disk);

    return !other || lpm_error_set(error, LPM_ERROR_STORAGE,
                                   "partition %s: its disk %s, %s of pool %s, is in use by "
                                   "partition %s, which is active here, and two would write to "
                                   "it; stop that one, or give one of them another disk",
                                   profile->name, disk->name, disk->at.file, disk->at.pool,
                                   other->profile->name);
}

/* What comes in is the other system's word, and must not reach what other partitions have here. */
static bool check_others(const LpmPartition *partition, const LpmProfile *profile, GError **error)
{
    const LpmDisk *disk;
    const LpmPartition *other;

    if (strcmp(profile->uuid, partition->profile->uuid) != 0) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "partition %s: its runtime says UUID %s, its profile %s",
                             partition->profile->name, profile->uuid, partition->profile->uuid);
    }
    other = find_sharer(partition, profile, false, &disk);
    return !other || lpm_error_set(error, LPM_ERROR_STORAGE,
                                   "partition %s: its disk %s, file %s of pool %s, belongs to "
                                   "partition %s here; correct the profile at its source",
                                   profile->name, disk->name, disk->at.file, disk->at.pool,
                                   other->profile->name);
}

bool lpm_plan_may_delete(const LpmPartition *partition, GError **error)
{
    for (size_t i = 0; i < partition->profile->n_disks; i++) {
        LpmDisk *disk = &partition->profile->disks[i];
        const LpmProfile one = {.disks = disk, .n_disks = 1};
        const LpmDisk *shared;
        const LpmPartition *other =
            disk->read_only || strcmp(lpm_storage_kind(partition->host, &disk->at), "file") != 0
                ? NULL
                : find_sharer(partition, &one, false, &shared);

        if (other) {
            return lpm_error_set(error, LPM_ERROR_STATE,
                                 "partition %s: its disk %s, file %s of pool %s, is one of "
                                 "partition %s too; nothing was deleted: delete it without its "
                                 "disks, or give the other one another disk",
                                 partition->profile->name, disk->name, disk->at.file, disk->at.pool,
                                 other->profile->name);
        }
    }
    return true;
}

/* --- the plan itself --- */

LpmPlan *lpm_plan_activation(LpmPartition *partition, GError **error)
{
    LpmHost *host = partition->host;
    const LpmEmulator *emulator = lpm_emulator_get(host, partition->profile->family, error);
    g_autoptr(LpmPlan) plan = g_new0(LpmPlan, 1);
    const LpmMode *mode;

    plan->profile =
        emulator ? lpm_profile_select(partition->profile, partition->activating, error) : NULL;
    if (plan->profile) {
        lpm_profile_drop_others(plan->profile);
    }
    if (!plan->profile || !pin(host, emulator, plan->profile, error) ||
        !check_machine(host, emulator, plan->profile, error) ||
        !check_running(partition, plan->profile, error)) {
        return NULL;
    }
    mode = mode_at_activation(host, emulator, plan->profile);
    if (!mode) {
        lpm_error_set(error, LPM_ERROR_UNSUPPORTED,
                      "partition %s: %s has no processor mode at or below "
                      "the preferred one, %s; set preferred_mode to default or to a lower mode",
                      plan->profile->name, lpm_host_name(host), plan->profile->preferred_mode);
        return NULL;
    }
    plan->activated_with = g_strdup(plan->profile->preferred_mode);
    if (!(plan->profile->family == LPM_FAMILY_POWER ? plan_power(host, emulator, plan, error)
                                                    : plan_x86(host, mode->name, plan, error))) {
        return NULL;
    }
    return g_steal_pointer(&plan);
}

LpmPlan *lpm_plan_incoming(LpmPartition *partition, const json_t *runtime, GError **error)
{
    LpmHost *host = partition->host;
    const LpmEmulator *emulator = lpm_emulator_get(host, partition->profile->family, error);
    const json_t *as_built = lpm_json_at(runtime, "profile");
    g_autoptr(LpmPlan) plan = g_new0(LpmPlan, 1);

    if (!emulator) {
        return NULL;
    }
    /* What runs may differ from the profile in things that were changed for the next start. */
    plan->profile =
        as_built ? lpm_profile_from_json(as_built, error) : copy_profile(partition->profile, error);
    if (plan->profile) {
        lpm_profile_drop_others(plan->profile);
    }
    if (!plan->profile || !check_others(partition, plan->profile, error) ||
        !check_machine(host, emulator, plan->profile, error)) {
        return NULL;
    }
    plan->activated_with =
        g_strdup(lpm_json_str(runtime, "activated_with", partition->profile->preferred_mode));
    if (!(plan->profile->family == LPM_FAMILY_POWER
              ? plan_power(host, emulator, plan, error)
              : plan_x86(host, lpm_json_str(runtime, "mode", NULL), plan, error))) {
        return NULL;
    }
    return g_steal_pointer(&plan);
}

/* --- what is known of a running partition --- */

json_t *lpm_plan_devices(char *const *argv)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    json_t *devices = json_array();

    for (; argv[0] && argv[1]; argv++) {
        g_autofree char *model = NULL;

        if (strcmp(argv[0], "-device") != 0) {
            continue;
        }
        model = g_strndup(argv[1], strcspn(argv[1], ","));
        if (*model && *model != '{' && !g_hash_table_contains(seen, model)) {
            json_array_append_new(devices, json_string(model));
            g_hash_table_add(seen, g_steal_pointer(&model));
        }
    }
    return devices;
}

json_t *lpm_plan_runtime(const LpmHost *host, const LpmPlan *plan, char *const *argv)
{
    const LpmProfile *profile = plan->profile;
    const LpmEmulator *emulator = lpm_emulator_get(host, profile->family, NULL);
    bool power = profile->family == LPM_FAMILY_POWER;
    json_t *features = json_array();

    for (char **feature = plan->features; feature && *feature; feature++) {
        json_array_append_new(features, json_string(*feature));
    }
    return lpm_json_pack(
        "{s:o, s:s, s:s, s:s, s:s, s:s, s:s?, s:s, s:s, s:s?, s:o, s:o, s:[], s:s, s:i, s:i}",
        "profile", lpm_profile_to_json(profile), "machine", profile->machine, "interrupt_mode",
        power ? profile->interrupt_mode : "", "accel", emulator->accel, "emulator", emulator->path,
        "emulator_version", emulator->version, "mode", plan->mode, "activated_with",
        plan->activated_with, "cpu", plan->cpu, "max_cpu_compat", plan->max_cpu_compat, "features",
        features, "devices", lpm_plan_devices(argv), "local_devices", "memory_backing",
        lpm_memory_backing_name(profile->memory_backing), "huge_page_kib",
        (int)profile->huge_pages_kib, "shared_modules",
        lpm_profile_adds_to_file(profile) ? (int)profile->n_added_memory : 0);
}

/* --- what a restart would change --- */

char *lpm_plan_pending_mode(const LpmPartition *partition)
{
    const LpmEmulator *emulator =
        lpm_emulator_get(partition->host, partition->profile->family, NULL);
    const LpmMode *mode =
        emulator ? mode_at_activation(partition->host, emulator, partition->profile) : NULL;

    return mode ? g_strdup(mode->name) : NULL;
}

bool lpm_plan_needs_new_qemu(const LpmPartition *partition)
{
    const LpmHost *host = partition->host;
    g_autofree char *pending = NULL;

    if (!partition->runtime) {
        return false;
    }
    if (partition->profile->family == LPM_FAMILY_POWER) {
        /* The guest negotiates anew by itself at each reboot, under the ceiling that QEMU was
         * started with. */
        return g_strcmp0(lpm_json_str(partition->runtime, "max_cpu_compat", NULL),
                         lpm_compat_power_max(lpm_emulators_compat(host),
                                              host->config->power_processor,
                                              partition->profile->preferred_mode)) != 0;
    }
    pending = lpm_plan_pending_mode(partition);
    return g_strcmp0(pending, lpm_json_str(partition->runtime, "mode", NULL)) != 0;
}
