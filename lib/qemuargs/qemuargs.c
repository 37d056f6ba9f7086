/* SPDX-License-Identifier: Apache-2.0 */
#include "qemuargs/internal.h"

#include <string.h>

/* A POWER partition's memory comes in blocks of this size. */
#define POWER_BLOCK_MIB 256

static const char *const buses[LPM_FAMILY_N] = {
    [LPM_FAMILY_X86_64] = "pcie.0",
    [LPM_FAMILY_POWER] = "pci.0",
};

void lpm_qemu_add(LpmQemuArgs *args, const char *argument)
{
    g_ptr_array_add(args->argv, g_strdup(argument));
}

void lpm_qemu_addf(LpmQemuArgs *args, const char *option, const char *format, ...)
{
    va_list values;

    lpm_qemu_add(args, option);
    va_start(values, format);
    g_ptr_array_add(args->argv, g_strdup_vprintf(format, values));
    va_end(values);
}

char *lpm_qemu_quote(const char *value)
{
    g_auto(GStrv) parts = g_strsplit(value, ",", -1);

    return g_strjoinv(",,", parts);
}

/* What must be there, and when. */
static bool check_texts(const LpmQemuSpec *spec, GError **error)
{
    const LpmProfile *profile = spec->profile;
    bool power = profile->family == LPM_FAMILY_POWER;
    const struct {
        const char *what;
        const char *value;
        bool needed;
    } texts[] = {
        {"program", spec->program, true},
        {"machine type", profile->machine, true},
        {"interrupt mode", profile->interrupt_mode, power},
        {"accelerator", spec->accel, true},
        {"processor", spec->cpu, true},
        {"QMP socket", spec->qmp_socket, true},
        {"console socket", spec->console_socket, profile->console},
        {"guest agent socket", spec->agent_socket, profile->guest_agent},
        {"kernel path", spec->kernel, profile->boot.kernel.pool != NULL},
        {"UEFI firmware", spec->uefi_code, profile->firmware == LPM_FIRMWARE_UEFI},
        {"initrd path", spec->initrd, profile->boot.initrd.pool != NULL},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        if (texts[i].needed && (!texts[i].value || !*texts[i].value)) {
            return lpm_error_set(error, LPM_ERROR_USAGE, "partition %s: no %s to start QEMU with",
                                 profile->name, texts[i].what);
        }
    }
    return true;
}

static bool check_machine(const LpmProfile *profile, GError **error)
{
    const char *option = strchr(profile->machine, '+');

    if (option && (profile->family != LPM_FAMILY_POWER ||
                   !lpm_qemu_machine_has_vof(profile->machine) || strrchr(option, '+') != option)) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "partition %s: machine \"%s\": \"%s\" is not known; only a POWER "
                             "machine may end in \"+vof\"",
                             profile->name, profile->machine, option);
    }
    if (option && !profile->boot.kernel.pool) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "partition %s: machine \"%s\" cannot boot from a disk; give the "
                             "profile a kernel, or a machine without \"+vof\"",
                             profile->name, profile->machine);
    }
    if (profile->family == LPM_FAMILY_POWER && profile->memory_mib % POWER_BLOCK_MIB != 0) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "partition %s: memory of %" G_GINT64_FORMAT
                             " MiB is not a multiple of %d MiB, which a POWER partition needs",
                             profile->name, profile->memory_mib, POWER_BLOCK_MIB);
    }
    return true;
}

static bool check_devices(const LpmQemuSpec *spec, GError **error)
{
    const LpmProfile *profile = spec->profile;

    for (size_t i = 0; i < profile->n_disks; i++) {
        const LpmDisk *disk = &profile->disks[i];

        if (disk->at.file &&
            (!spec->disks || (spec->disks[i].kind == LPM_QEMU_DISK_FILE && !spec->disks[i].path))) {
            return lpm_error_set(error, LPM_ERROR_USAGE, "partition %s: disk %s has no path here",
                                 profile->name, disk->name);
        }
    }
    for (size_t i = 0; i < profile->n_networks; i++) {
        if (!spec->network_fds || spec->network_fds[i] < 0) {
            return lpm_error_set(error, LPM_ERROR_USAGE,
                                 "partition %s: network %s has no tap descriptor", profile->name,
                                 profile->networks[i].name);
        }
    }
    if (profile->memory_backing == LPM_BACKING_SHARED && spec->memory_fd < 0) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "partition %s: shared memory without a memory descriptor",
                             profile->name);
    }
    if (!profile->boot.kernel.pool && profile->n_disks == 0) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "partition %s: neither a kernel nor a disk to boot from",
                             profile->name);
    }
    return true;
}

static void add_identity(LpmQemuArgs *args)
{
    const LpmProfile *profile = args->spec->profile;

    lpm_qemu_addf(args, "-name", "guest=%s,debug-threads=on", profile->name);
    lpm_qemu_addf(args, "-uuid", "%s", profile->uuid);
    lpm_qemu_add(args, "-no-user-config");
    lpm_qemu_add(args, "-nodefaults");
    lpm_qemu_addf(args, "-display", "none");
    lpm_qemu_addf(args, "-vga", "none");
}

/* What the clock of the guest's board says at QEMU's start; one that comes in brings its own. */
static void add_clock(LpmQemuArgs *args)
{
    int64_t offset = args->spec->profile->rtc_offset_s;
    g_autoptr(GDateTime) base = g_date_time_new_from_unix_utc(args->spec->now_s + offset);
    g_autofree char *text = offset && base ? g_date_time_format(base, "%Y-%m-%dT%H:%M:%S") : NULL;

    lpm_qemu_addf(args, "-rtc", "base=%s", text ? text : "utc");
}

static void add_conduct(LpmQemuArgs *args)
{
    add_clock(args);
    lpm_qemu_addf(args, "-sandbox",
                  "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    lpm_qemu_addf(args, "-msg", "timestamp=on");
    if (args->spec->pid_file) {
        lpm_qemu_addf(args, "-pidfile", "%s", args->spec->pid_file);
    }
    /* Never runs by itself: only lpm-host's cont starts it, after the record allowed that. */
    lpm_qemu_add(args, "-S");
    if (args->spec->role == LPM_QEMU_INCOMING) {
        lpm_qemu_addf(args, "-incoming", "defer");
    }
}

char **lpm_qemuargs_build(const LpmQemuSpec *spec, GError **error)
{
    LpmQemuArgs args = {.spec = spec, .bus = buses[spec->profile->family]};

    if (!check_texts(spec, error) || !check_machine(spec->profile, error) ||
        !check_devices(spec, error)) {
        return NULL;
    }
    args.argv = g_ptr_array_new();
    lpm_qemu_add(&args, spec->program);
    add_identity(&args);
    lpm_qemu_add_machine(&args);
    lpm_qemu_add_memory(&args);
    lpm_qemu_add_boot(&args);
    lpm_qemu_add_monitors(&args);
    lpm_qemu_add_console(&args);
    lpm_qemu_add_agent(&args);
    lpm_qemu_add_random(&args);
    lpm_qemu_add_networks(&args);
    lpm_qemu_add_disks(&args);
    add_conduct(&args);
    g_ptr_array_add(args.argv, NULL);
    return (char **)g_ptr_array_free(args.argv, FALSE);
}
