/* SPDX-License-Identifier: Apache-2.0 */
#include "host/emulator.h"

#include "base/log.h"

#include <string.h>
#include <sys/stat.h>

typedef struct {
    LpmHostDone done;
    void *data;
} Waiter;

struct LpmEmulators {
    LpmHost *host;
    LpmCompat *compat;
    LpmEmulator of[LPM_FAMILY_N];
    int missing; /* families not looked at yet */
    GList *waiters;
    guint idle;
};

static const char *const machine_prefix[LPM_FAMILY_N] = {
    [LPM_FAMILY_X86_64] = "pc-q35",
    [LPM_FAMILY_POWER] = "pseries",
};

/* --- data files --- */

static bool add_modes(LpmCompat *compat, const char *data_dir, GError **error)
{
    g_autofree char *directory = g_build_filename(data_dir, "compat", NULL);
    g_autoptr(GDir) dir = g_dir_open(directory, 0, error);
    const char *name;

    if (!dir) {
        g_prefix_error(error, "the modes' data files: ");
        return false;
    }
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(directory, name, NULL);
        g_autofree char *text = NULL;

        if (g_str_has_suffix(name, ".json") && (!g_file_get_contents(path, &text, NULL, error) ||
                                                !lpm_compat_add_mode(compat, path, text, error))) {
            return false;
        }
    }
    return true;
}

static LpmCompat *load_compat(const char *data_dir, GError **error)
{
    g_autoptr(LpmCompat) compat = lpm_compat_new();
    g_autofree char *path = g_build_filename(data_dir, "emulators.json", NULL);
    g_autofree char *text = NULL;

    if (!add_modes(compat, data_dir, error) || !g_file_get_contents(path, &text, NULL, error) ||
        !lpm_compat_add_emulators(compat, path, text, error)) {
        return NULL;
    }
    return g_steal_pointer(&compat);
}

/* --- cache: document "emulator-FAMILY" of kind system --- */

static json_t *strv_to_json(char *const *list)
{
    json_t *array = json_array();

    for (; list && *list; list++) {
        json_array_append_new(array, json_string(*list));
    }
    return array;
}

static char **strv_from_json(const json_t *array)
{
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();

    for (size_t i = 0; i < json_array_size(array); i++) {
        const char *text = json_string_value(json_array_get(array, i));

        if (text) {
            g_strv_builder_add(builder, text);
        }
    }
    return g_strv_builder_end(builder);
}

/* What the answers depend on: the binary, and whether KVM is wanted and offered by this boot. */
static char *stamp_of(const LpmHost *host, const char *path)
{
    g_autofree char *boot = NULL;
    struct stat info = {0}, kvm = {0};

    (void)g_file_get_contents("/proc/sys/kernel/random/boot_id", &boot, NULL, NULL);
    (void)stat(path, &info);
    (void)stat("/dev/kvm", &kvm);
    return g_strdup_printf("%s %" G_GINT64_FORMAT " %" G_GINT64_FORMAT " %s %o:%u %s " LPM_VERSION,
                           path, (gint64)info.st_mtime, (gint64)info.st_size,
                           boot ? g_strstrip(boot) : "", (unsigned)kvm.st_mode,
                           (unsigned)kvm.st_gid, host->config->accelerator);
}

static char *cache_key(const LpmEmulator *emulator)
{
    return g_strconcat("emulator-", lpm_family_name(emulator->family), NULL);
}

static bool read_cache(LpmHost *host, LpmEmulator *emulator, const char *path)
{
    g_autofree char *key = cache_key(emulator);
    g_autofree char *stamp = stamp_of(host, path);
    g_autoptr(json_t) kept = lpm_store_get(host->store, LPM_KIND_SYSTEM, key, NULL, NULL);

    if (!kept || g_strcmp0(lpm_json_str(kept, "stamp", NULL), stamp) != 0) {
        return false;
    }
    emulator->path = g_strdup(path);
    emulator->version = g_strdup(lpm_json_str(kept, "version", ""));
    emulator->accel = g_strcmp0(lpm_json_str(kept, "accel", "tcg"), "kvm") == 0 ? "kvm" : "tcg";
    emulator->machines = strv_from_json(lpm_json_at(kept, "machines"));
    emulator->devices = strv_from_json(lpm_json_at(kept, "devices"));
    emulator->features = strv_from_json(lpm_json_at(kept, "features"));
    return true;
}

static void write_cache(LpmHost *host, const LpmEmulator *emulator)
{
    g_autofree char *key = cache_key(emulator);
    g_autofree char *stamp = stamp_of(host, emulator->path);
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) value = lpm_json_pack(
        "{s:s, s:s, s:s, s:o, s:o, s:o}", "stamp", stamp, "version", emulator->version, "accel",
        emulator->accel, "machines", strv_to_json(emulator->machines), "devices",
        strv_to_json(emulator->devices), "features", strv_to_json(emulator->features));

    if (!lpm_store_put(host->store, LPM_KIND_SYSTEM, key, value, NULL, &error)) {
        lpm_log_warning(NULL, "what was found out about %s cannot be kept: %s", emulator->path,
                        error->message);
    }
}

/* --- table --- */

static void derive(LpmEmulators *emulators, LpmEmulator *emulator)
{
    const LpmHostConfig *config = emulators->host->config;

    if (!emulator->path) {
        return;
    }
    emulator->machine = lpm_emulator_newest_machine((const char *const *)emulator->machines,
                                                    machine_prefix[emulator->family]);
    if (emulator->family == LPM_FAMILY_POWER) {
        emulator->modes =
            lpm_compat_system_modes_power(emulators->compat, config->power_processor, NULL);
    } else {
        emulator->modes =
            lpm_compat_system_modes_x86(emulators->compat, (const char *const *)emulator->features);
    }
}

static gboolean on_ready(gpointer data)
{
    LpmEmulators *emulators = data;
    g_autoptr(GList) waiters = g_steal_pointer(&emulators->waiters);

    emulators->idle = 0;
    for (GList *item = waiters; item; item = item->next) {
        Waiter *waiter = item->data;

        waiter->done(NULL, waiter->data);
        g_free(waiter);
    }
    return G_SOURCE_REMOVE;
}

static void schedule(LpmEmulators *emulators)
{
    if (emulators->missing == 0 && !emulators->idle) {
        emulators->idle = g_idle_add(on_ready, emulators);
    }
}

static void family_done(LpmEmulators *emulators, LpmEmulator *emulator)
{
    derive(emulators, emulator);
    emulators->missing--;
    if (emulator->path) {
        lpm_log_info(NULL, "%s partitions: %s %s with %s", lpm_family_name(emulator->family),
                     emulator->path, emulator->version, emulator->accel);
    } else {
        lpm_log_info(NULL, "%s partitions cannot run here: %s", lpm_family_name(emulator->family),
                     emulator->reason);
    }
    schedule(emulators);
}

static void on_probed(void *data)
{
    LpmEmulator *emulator = data;
    LpmEmulators *emulators =
        (LpmEmulators *)((char *)(emulator - emulator->family) - G_STRUCT_OFFSET(LpmEmulators, of));

    if (emulator->path) {
        write_cache(emulators->host, emulator);
    }
    family_done(emulators, emulator);
}

static void look_at(LpmEmulators *emulators, LpmEmulator *emulator)
{
    const char *wanted = emulators->host->config->emulators[emulator->family];
    g_autofree char *path = *wanted ? g_find_program_in_path(wanted) : NULL;

    if (!path) {
        emulator->reason = *wanted
                               ? g_strdup_printf("%s is not installed or not executable", wanted)
                               : g_strdup("switched off in the configuration");
        family_done(emulators, emulator);
    } else if (read_cache(emulators->host, emulator, path)) {
        family_done(emulators, emulator);
    } else {
        emulator->path = g_steal_pointer(&path);
        lpm_emulator_probe(emulators->host, emulator, on_probed, emulator);
    }
}

LpmEmulators *lpm_emulators_new(LpmHost *host, const char *data_dir, GError **error)
{
    LpmCompat *compat = load_compat(data_dir, error);
    LpmEmulators *emulators;

    if (!compat) {
        return NULL;
    }
    emulators = g_new0(LpmEmulators, 1);
    emulators->host = host;
    emulators->compat = compat;
    emulators->missing = LPM_FAMILY_N;
    for (int family = 0; family < LPM_FAMILY_N; family++) {
        emulators->of[family].family = (LpmFamily)family;
        emulators->of[family].accel = "tcg";
        look_at(emulators, &emulators->of[family]);
    }
    return emulators;
}

void lpm_emulators_free(LpmEmulators *emulators)
{
    if (!emulators) {
        return;
    }
    if (emulators->idle) {
        g_source_remove(emulators->idle);
    }
    for (int family = 0; family < LPM_FAMILY_N; family++) {
        LpmEmulator *emulator = &emulators->of[family];

        g_free(emulator->path);
        g_free(emulator->reason);
        g_free(emulator->version);
        g_free(emulator->machine);
        g_strfreev(emulator->machines);
        g_strfreev(emulator->devices);
        g_strfreev(emulator->features);
        g_strfreev(emulator->modes);
    }
    g_list_free_full(emulators->waiters, g_free);
    lpm_compat_free(emulators->compat);
    g_free(emulators);
}

void lpm_emulators_when_ready(LpmHost *host, LpmHostDone done, void *data)
{
    LpmEmulators *emulators = host->emulators;
    Waiter *waiter = g_new0(Waiter, 1);

    waiter->done = done;
    waiter->data = data;
    emulators->waiters = g_list_append(emulators->waiters, waiter);
    schedule(emulators);
}

const LpmEmulator *lpm_emulator_get(const LpmHost *host, LpmFamily family, GError **error)
{
    const LpmEmulator *emulator = &host->emulators->of[family];

    if (emulator->path && emulator->modes) {
        return emulator;
    }
    lpm_error_set(error, LPM_ERROR_UNSUPPORTED,
                  "%s cannot run %s partitions: %s; install the emulator "
                  "or name it in group [qemu] of the configuration",
                  lpm_host_name(host), lpm_family_name(family),
                  emulator->reason ? emulator->reason : "its emulator is still being looked at");
    return NULL;
}

const LpmCompat *lpm_emulators_compat(const LpmHost *host)
{
    return host->emulators->compat;
}

static bool contains(char *const *list, const char *name)
{
    return list && g_strv_contains((const char *const *)list, name);
}

bool lpm_emulator_knows_machine(const LpmEmulator *emulator, const char *type)
{
    return contains(emulator->machines, type);
}

bool lpm_emulator_knows_device(const LpmEmulator *emulator, const char *model)
{
    return contains(emulator->devices, model);
}
