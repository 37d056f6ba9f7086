/* SPDX-License-Identifier: Apache-2.0 */
/* Machine, processors, memory, boot. */
#include "qemuargs/internal.h"

#include <string.h>

/* How a machine in a profile says that it has the small firmware. */
#define VOF "+vof"

/* Each family's properties of the board that are not the profile's to choose: no device that nobody
 * asked for. */
static const char *const board[LPM_FAMILY_N] = {
    [LPM_FAMILY_X86_64] = ",usb=off,vmport=off,smbus=off,sata=off",
    [LPM_FAMILY_POWER] = ",usb=off",
};

/*
 * Those added since the start are among the first ones: whoever comes in has them from its own
 * start, with the numbers that they were given.
 */
static void add_processors(LpmQemuArgs *args)
{
    const LpmProfile *profile = args->spec->profile;
    int now = lpm_profile_total_processors(profile);
    int most = MAX(profile->processors_max, now);

    if (most > profile->processors) {
        lpm_qemu_addf(args, "-smp", "%d,maxcpus=%d,sockets=%d,cores=1,threads=1", now, most, most);
    } else {
        lpm_qemu_addf(args, "-smp", "%d,sockets=%d,cores=1,threads=1", now, now);
    }
}

char *lpm_qemu_queues(const LpmProfile *profile, const char *property)
{
    return profile->processors_max > profile->processors
               ? g_strdup_printf(",%s=%d", property, profile->processors)
               : g_strdup("");
}

/*
 * No cap-* on POWER, on purpose: their defaults depend on the processor's generation, and one that
 * is pinned to the same value on both sides makes moves between generations fail.
 */
void lpm_qemu_add_machine(LpmQemuArgs *args)
{
    const LpmQemuSpec *spec = args->spec;
    const LpmProfile *profile = spec->profile;
    g_autofree char *type = lpm_qemuargs_machine_type(profile->machine);
    g_autoptr(GString) machine = g_string_new(type);

    if (lpm_qemu_machine_has_vof(profile->machine)) {
        g_string_append(machine, ",x-vof=on");
    }
    g_string_append(machine, board[profile->family]);
    g_string_append(machine, ",memory-backend=" LPM_QEMU_MEMORY_ID);
    if (profile->firmware == LPM_FIRMWARE_UEFI) {
        g_string_append(machine,
                        ",pflash0=" LPM_QEMU_FLASH_CODE ",pflash1=" LPM_QEMU_FLASH_VARIABLES);
    }
    if (profile->family == LPM_FAMILY_POWER) {
        g_string_append_printf(machine, ",ic-mode=%s", profile->interrupt_mode);
        if (spec->max_cpu_compat) {
            g_string_append_printf(machine, ",max-cpu-compat=%s", spec->max_cpu_compat);
        }
    }
    lpm_qemu_addf(args, "-machine", "%s", machine->str);
    /* Left to itself QEMU may fall back to one thread for all processors. */
    lpm_qemu_addf(args, "-accel", "%s%s", spec->accel,
                  g_str_equal(spec->accel, "tcg") ? ",thread=multi" : "");
    lpm_qemu_addf(args, "-cpu", "%s", spec->cpu);
    add_processors(args);
}

/* In the order in which they were added, so that QEMU gives them the same places. */
static void add_modules(LpmQemuArgs *args)
{
    const LpmProfile *profile = args->spec->profile;
    int64_t offset = profile->memory_mib;

    for (size_t i = 0; i < profile->n_added_memory; i++) {
        int64_t mib = profile->added_memory[i].mib;

        if (lpm_profile_adds_to_file(profile)) {
            lpm_qemu_addf(args, "-object",
                          "memory-backend-file,id=" LPM_QEMU_MODULE_MEMORY ",size=%" G_GINT64_FORMAT
                          "M,mem-path=/proc/self/fd/%d,offset=%" G_GINT64_FORMAT "M,share=on",
                          i, mib, args->spec->memory_fd, offset);
        } else {
            lpm_qemu_addf(args, "-object",
                          "memory-backend-ram,id=" LPM_QEMU_MODULE_MEMORY ",size=%" G_GINT64_FORMAT
                          "M",
                          i, mib);
        }
        offset += mib;
        lpm_qemu_addf(args, "-device",
                      "pc-dimm,id=" LPM_QEMU_MODULE ",memdev=" LPM_QEMU_MODULE_MEMORY ",slot=%zu",
                      i, i, i);
    }
}

void lpm_qemu_add_memory(LpmQemuArgs *args)
{
    const LpmQemuSpec *spec = args->spec;
    int64_t mib = spec->profile->memory_mib;
    int64_t most = spec->profile->memory_max_mib;

    if (most > mib) {
        lpm_qemu_addf(args, "-m",
                      "size=%" G_GINT64_FORMAT "M,slots=%d,maxmem=%" G_GINT64_FORMAT "M", mib,
                      LPM_ADDED_MEMORY_MAX, most);
    } else {
        lpm_qemu_addf(args, "-m", "size=%" G_GINT64_FORMAT "M", mib);
    }
    if (spec->profile->memory_backing == LPM_BACKING_SHARED) {
        /* lpm-host's own memfd: it maps the same memory to compare it in the blackout. */
        lpm_qemu_addf(args, "-object",
                      "memory-backend-file,id=" LPM_QEMU_MEMORY_ID ",size=%" G_GINT64_FORMAT
                      "M,mem-path=/proc/self/fd/%d,share=on",
                      mib, spec->memory_fd);
    } else if (spec->profile->huge_pages_kib > 0) {
        lpm_qemu_addf(args, "-object",
                      "memory-backend-memfd,id=" LPM_QEMU_MEMORY_ID ",size=%" G_GINT64_FORMAT
                      "M,share=off,hugetlb=on,hugetlbsize=%" G_GINT64_FORMAT "K",
                      mib, spec->profile->huge_pages_kib);
    } else {
        lpm_qemu_addf(args, "-object",
                      "memory-backend-ram,id=" LPM_QEMU_MEMORY_ID ",size=%" G_GINT64_FORMAT "M",
                      mib);
    }
    add_modules(args);
}

/* The code is the system's; the variables are a disk of the partition. */
static void add_uefi(LpmQemuArgs *args)
{
    g_autoptr(json_t) json = lpm_json_pack("{s:s, s:s, s:b, s:{s:s, s:s}}", "driver", "raw",
                                           "node-name", LPM_QEMU_FLASH_CODE, "read-only", 1, "file",
                                           "driver", "file", "filename", args->spec->uefi_code);
    g_autofree char *text = lpm_json_text(json);

    lpm_qemu_addf(args, "-blockdev", "%s", text);
}

/* QEMU takes these three as they are: no quoting. */
void lpm_qemu_add_boot(LpmQemuArgs *args)
{
    const LpmQemuSpec *spec = args->spec;

    lpm_qemu_addf(args, "-boot", "strict=on");
    if (spec->profile->firmware == LPM_FIRMWARE_UEFI) {
        add_uefi(args);
    }
    if (!spec->kernel) {
        return;
    }
    lpm_qemu_addf(args, "-kernel", "%s", spec->kernel);
    if (spec->initrd) {
        lpm_qemu_addf(args, "-initrd", "%s", spec->initrd);
    }
    if (spec->profile->boot.cmdline) {
        lpm_qemu_addf(args, "-append", "%s", spec->profile->boot.cmdline);
    }
}

char *lpm_qemuargs_machine_type(const char *machine)
{
    return g_strndup(machine, strcspn(machine, "+"));
}

bool lpm_qemu_machine_has_vof(const char *machine)
{
    return g_str_has_suffix(machine, VOF);
}

char *lpm_qemuargs_pin_machine(const LpmProfile *profile, const char *newest, bool vof)
{
    bool small = vof && profile->family == LPM_FAMILY_POWER && profile->boot.kernel.pool;

    return g_strconcat(newest, small ? VOF : "", NULL);
}
