/* SPDX-License-Identifier: Apache-2.0 */
#include "model/details.h"

#include <string.h>

int64_t lpm_profile_total_memory_mib(const LpmProfile *profile)
{
    int64_t mib = profile->memory_mib;

    for (size_t i = 0; i < profile->n_added_memory; i++) {
        mib += profile->added_memory[i].mib;
    }
    return mib;
}

int lpm_profile_total_processors(const LpmProfile *profile)
{
    return profile->processors + profile->added_processors;
}

/* A module need not be a multiple of a huge page. */
bool lpm_profile_adds_to_file(const LpmProfile *profile)
{
    return profile->memory_backing == LPM_BACKING_SHARED && profile->huge_pages_kib == 0;
}

int64_t lpm_family_memory_step_mib(LpmFamily family)
{
    /* Linux brings memory into use in blocks of 128 MiB on x86-64; a POWER hypervisor gives it in
     * blocks of 256 MiB. */
    return family == LPM_FAMILY_POWER ? 256 : 128;
}

/* --- room to grow --- */

static bool check_room(const LpmProfile *profile, GError **error)
{
    int64_t step = lpm_family_memory_step_mib(profile->family);
    int64_t most = profile->memory_max_mib;

    if (profile->processors_max && profile->processors_max < profile->processors) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "profile: member \"processors_max\" is %d: allowed is \"processors\", "
                             "%d, or more; leave it out for no more than that",
                             profile->processors_max, profile->processors);
    }
    if (most && (most < profile->memory_mib || (most - profile->memory_mib) % step != 0)) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "profile: member \"memory_max_mib\" is %" G_GINT64_FORMAT
                             ": allowed is \"memory_mib\", %" G_GINT64_FORMAT
                             ", and a multiple of %" G_GINT64_FORMAT " more",
                             most, profile->memory_mib, step);
    }
    return true;
}

/* A runtime's document, which comes from another system too. */
static bool check_added(const LpmProfile *profile, GError **error)
{
    int64_t step = lpm_family_memory_step_mib(profile->family);

    for (size_t i = 0; i < profile->n_added_memory; i++) {
        if (profile->added_memory[i].mib % step != 0) {
            return lpm_error_set(error, LPM_ERROR_USAGE,
                                 "profile: member \"added_memory[%zu].mib\" is %" G_GINT64_FORMAT
                                 ": allowed is a multiple of %" G_GINT64_FORMAT,
                                 i, profile->added_memory[i].mib, step);
        }
    }
    if (profile->n_added_memory &&
        lpm_profile_total_memory_mib(profile) > profile->memory_max_mib) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "profile: member \"added_memory\" makes %" G_GINT64_FORMAT
                             " MiB of memory: allowed is \"memory_max_mib\", %" G_GINT64_FORMAT,
                             lpm_profile_total_memory_mib(profile), profile->memory_max_mib);
    }
    if (profile->added_processors &&
        lpm_profile_total_processors(profile) > profile->processors_max) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "profile: member \"added_processors\" makes %d processors: allowed is "
                             "\"processors_max\", %d",
                             lpm_profile_total_processors(profile), profile->processors_max);
    }
    return true;
}

/* --- firmware and boot order --- */

static size_t firmware_disks(const LpmProfile *profile)
{
    size_t n = 0;

    for (size_t i = 0; i < profile->n_disks; i++) {
        n += profile->disks[i].purpose == LPM_PURPOSE_FIRMWARE;
    }
    return n;
}

static bool check_firmware(const LpmProfile *profile, GError **error)
{
    size_t n = firmware_disks(profile);
    bool uefi = profile->firmware == LPM_FIRMWARE_UEFI;
    bool power = profile->family == LPM_FAMILY_POWER;

    if (uefi && profile->family != LPM_FAMILY_X86_64) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "profile: member \"firmware\" is \"uefi\": allowed only for family "
                             "\"x86-64\"; leave it out");
    }
    if (n > (uefi || power ? 1 : 0)) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "profile: member \"disks\" has %zu with purpose \"firmware\": allowed "
                             "is one, for family \"power\" or with \"firmware\": \"uefi\"",
                             n);
    }
    if (uefi && n == 0 && (profile->n_disks == 0 || profile->n_disks >= LPM_DISKS_MAX)) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "profile: member \"firmware\" is \"uefi\": give a disk with purpose "
                             "\"firmware\" in a shared pool, which keeps its variables");
    }
    for (size_t i = 0; i < profile->n_disks; i++) {
        const LpmDisk *disk = &profile->disks[i];

        if (disk->purpose == LPM_PURPOSE_FIRMWARE &&
            (disk->format != LPM_FORMAT_RAW || disk->read_only)) {
            return lpm_error_set(error, LPM_ERROR_USAGE,
                                 "profile: member \"disks[%zu]\" has purpose \"firmware\": allowed "
                                 "is format \"raw\" and not \"read_only\"",
                                 i);
        }
        if (disk->purpose == LPM_PURPOSE_FIRMWARE && power && disk->size_mib > 1) {
            return lpm_error_set(error, LPM_ERROR_USAGE,
                                 "profile: member \"disks[%zu].size_mib\" is %" G_GINT64_FORMAT
                                 ": an NVRAM has 1 MiB at most",
                                 i, disk->size_mib);
        }
    }
    return true;
}

static bool can_boot(const LpmProfile *profile, const char *name)
{
    for (size_t i = 0; i < profile->n_disks; i++) {
        if (strcmp(profile->disks[i].name, name) == 0) {
            return profile->disks[i].purpose == LPM_PURPOSE_DATA;
        }
    }
    return false;
}

static bool check_boot_order(const LpmProfile *profile, GError **error)
{
    g_auto(GStrv) names = g_strsplit(profile->boot_order ? profile->boot_order : "", ",", -1);

    for (size_t i = 0; names[i]; i++) {
        if (!can_boot(profile, names[i]) ||
            g_strv_contains((const char *const *)names + i + 1, names[i])) {
            return lpm_error_set(error, LPM_ERROR_USAGE,
                                 "profile: member \"boot_order\" has \"%s\": allowed are names of "
                                 "its disks, each once, with commas between them",
                                 names[i]);
        }
    }
    return true;
}

static bool check_tpm(const LpmProfile *profile, GError **error)
{
    return !profile->tpm ||
           lpm_error_set(error, LPM_ERROR_USAGE,
                         "profile: member \"tpm\" is true: a TPM's state cannot move with its "
                         "partition yet, so none can be had; leave it out");
}

bool details_check(const LpmProfile *profile, GError **error)
{
    return check_room(profile, error) && check_added(profile, error) &&
           check_firmware(profile, error) && check_boot_order(profile, error) &&
           check_tpm(profile, error);
}

static const char *free_disk_name(const LpmProfile *profile)
{
    static const char *const names[] = {"firmware", "uefi", "uefi-variables"};

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        bool taken = false;

        for (size_t j = 0; j < profile->n_disks; j++) {
            taken |= strcmp(profile->disks[j].name, names[i]) == 0;
        }
        if (!taken) {
            return names[i];
        }
    }
    return "openlpm-uefi-variables";
}

void details_fill_in(LpmProfile *profile)
{
    LpmDisk disk = {.purpose = LPM_PURPOSE_FIRMWARE, .cache = NULL};

    if (profile->firmware != LPM_FIRMWARE_UEFI || firmware_disks(profile) > 0) {
        return;
    }
    disk.name = g_strdup(free_disk_name(profile));
    disk.at.pool = g_strdup(profile->disks[0].at.pool);
    /* By the UUID: two partitions may be named alike, one after the other. */
    disk.at.file = g_strdup_printf("%s.uefi", profile->uuid);
    disk.cache = g_strdup("none");
    profile->disks = g_renew(LpmDisk, profile->disks, profile->n_disks + 1);
    profile->disks[profile->n_disks++] = disk;
}
