/* SPDX-License-Identifier: Apache-2.0 */
#include "model/details.h"
#include "model/fields.h"
#include "model/model.h"
#include "model/names.h"
#include "model/profiles.h"

#include <string.h>

#define CMDLINE_MAX        2048
#define FILE_MAX           1024
#define MEMORY_MIB_MIN     16
#define DISK_MIB_MAX       ((int64_t)64 << 20) /* 64 TiB */
#define BLACKOUT_MS_MAX    (10 * 60 * 1000)
#define HUGE_PAGES_KIB_MIN 64
#define HUGE_PAGES_KIB_MAX (16 * 1024 * 1024)
/* QEMU's pseries machine hands memory to its guest in blocks of this size. */
#define POWER_MEMORY_BLOCK_MIB 256

#define NAME_RULE "1 to 63 letters, digits, \".\", \"_\" and \"-\", with a letter or digit first"
#define FILE_RULE                                                                                  \
    "a path inside the pool: relative, without \".\", \"..\" and empty parts, at most 1024 bytes"

_Static_assert(sizeof(LpmFamily) == sizeof(int), "choices are stored as int");

#define TABLE(array)                                                                               \
    {                                                                                              \
        (array), G_N_ELEMENTS(array)                                                               \
    }

static const Field file_fields[] = {
    {"pool", FIELD_TEXT, true, offsetof(LpmFileRef, pool), .valid = lpm_name_is_valid,
     .allowed = NAME_RULE},
    {"file", FIELD_TEXT, true, offsetof(LpmFileRef, file), .valid = text_is_file,
     .maximum = FILE_MAX, .allowed = FILE_RULE},
};
static const FieldTable file_table = TABLE(file_fields);

static const Field boot_fields[] = {
    {"kernel", FIELD_OBJECT, false, offsetof(LpmBoot, kernel), .inner = &file_table},
    {"initrd", FIELD_OBJECT, false, offsetof(LpmBoot, initrd), .inner = &file_table},
    {"cmdline", FIELD_TEXT, false, offsetof(LpmBoot, cmdline), .valid = text_is_printable,
     .maximum = CMDLINE_MAX, .allowed = "at most 2048 bytes without control characters"},
};
static const FieldTable boot_table = TABLE(boot_fields);

static const Field disk_fields[] = {
    {"name", FIELD_TEXT, true, offsetof(LpmDisk, name), .valid = lpm_name_is_valid,
     .allowed = NAME_RULE},
    {"pool", FIELD_TEXT, true, offsetof(LpmDisk, at.pool), .valid = lpm_name_is_valid,
     .allowed = NAME_RULE},
    {"file", FIELD_TEXT, false, offsetof(LpmDisk, at.file), .valid = text_is_file,
     .maximum = FILE_MAX, .allowed = FILE_RULE},
    {"format", FIELD_CHOICE, false, offsetof(LpmDisk, format), .names = lpm_disk_format_names,
     .n_names = LPM_FORMAT_N},
    {"size_mib", FIELD_INT64, false, offsetof(LpmDisk, size_mib), .minimum = 0,
     .maximum = DISK_MIB_MAX},
    {"cache", FIELD_TEXT, false, offsetof(LpmDisk, cache), .valid = text_is_cache,
     .fallback = "none", .allowed = "\"none\", \"directsync\" or \"writeback\""},
    {"read_only", FIELD_BOOL, false, offsetof(LpmDisk, read_only)},
    {"adapter", FIELD_CHOICE, false, offsetof(LpmDisk, adapter), .quiet = true,
     .names = lpm_disk_adapter_names, .n_names = LPM_ADAPTER_N},
    {"media", FIELD_CHOICE, false, offsetof(LpmDisk, media), .quiet = true,
     .names = lpm_disk_media_names, .n_names = LPM_MEDIA_N},
    {"purpose", FIELD_CHOICE, false, offsetof(LpmDisk, purpose), .quiet = true,
     .names = lpm_disk_purpose_names, .n_names = LPM_PURPOSE_N},
    {"reserve_policy", FIELD_CHOICE, false, offsetof(LpmDisk, reserve_policy), .quiet = true,
     .names = lpm_reserve_policy_names, .n_names = LPM_RESERVE_N},
};
static const FieldTable disk_table = TABLE(disk_fields);

static const Field network_fields[] = {
    {"name", FIELD_TEXT, true, offsetof(LpmNetwork, name), .valid = lpm_name_is_valid,
     .allowed = NAME_RULE},
    {"switch", FIELD_TEXT, true, offsetof(LpmNetwork, switch_name), .valid = lpm_name_is_valid,
     .allowed = NAME_RULE},
    {"mac", FIELD_TEXT, false, offsetof(LpmNetwork, mac), .valid = text_is_mac,
     .allowed = "a unicast address in lower case, such as \"52:54:00:12:34:56\""},
    {"vlan", FIELD_INT, false, offsetof(LpmNetwork, vlan), .quiet = true, .minimum = 0,
     .maximum = LPM_VLAN_MAX},
    {"adapter", FIELD_CHOICE, false, offsetof(LpmNetwork, adapter), .quiet = true,
     .names = lpm_network_adapter_names, .n_names = LPM_NET_N},
};
static const FieldTable network_table = TABLE(network_fields);

static const Field added_memory_fields[] = {
    {"mib", FIELD_INT64, true, offsetof(LpmAddedMemory, mib), .minimum = 1,
     .maximum = LPM_MEMORY_MIB_MAX},
};
static const FieldTable added_memory_table = TABLE(added_memory_fields);

static const Field profile_fields[] = {
    {"name", FIELD_TEXT, true, offsetof(LpmProfile, name), .valid = lpm_name_is_valid,
     .allowed = NAME_RULE},
    {"uuid", FIELD_TEXT, false, offsetof(LpmProfile, uuid), .valid = text_is_uuid,
     .allowed = "a UUID in lower case"},
    {"family", FIELD_CHOICE, true, offsetof(LpmProfile, family), .names = lpm_family_names,
     .n_names = LPM_FAMILY_N},
    {"processors", FIELD_INT, false, offsetof(LpmProfile, processors), .minimum = 1,
     .maximum = LPM_PROCESSORS_MAX},
    {"memory_mib", FIELD_INT64, true, offsetof(LpmProfile, memory_mib), .minimum = MEMORY_MIB_MIN,
     .maximum = LPM_MEMORY_MIB_MAX},
    {"preferred_mode", FIELD_TEXT, false, offsetof(LpmProfile, preferred_mode),
     .valid = text_is_mode, .allowed = "\"default\" or the name of a compatibility mode"},
    {"machine", FIELD_TEXT, false, offsetof(LpmProfile, machine), .valid = text_is_mode,
     .allowed = "a versioned machine type of QEMU, such as \"pc-q35-10.0\""},
    {"interrupt_mode", FIELD_TEXT, false, offsetof(LpmProfile, interrupt_mode),
     .valid = text_is_interrupt_mode, .allowed = "\"xics\" or \"dual\""},
    {"boot", FIELD_OBJECT, false, offsetof(LpmProfile, boot), .inner = &boot_table},
    {"disks", FIELD_LIST, false, offsetof(LpmProfile, disks), .inner = &disk_table,
     .maximum = LPM_DISKS_MAX, .count_offset = offsetof(LpmProfile, n_disks),
     .item_size = sizeof(LpmDisk)},
    {"networks", FIELD_LIST, false, offsetof(LpmProfile, networks), .inner = &network_table,
     .maximum = LPM_NETWORKS_MAX, .count_offset = offsetof(LpmProfile, n_networks),
     .item_size = sizeof(LpmNetwork)},
    {"console", FIELD_BOOL, false, offsetof(LpmProfile, console)},
    {"guest_agent", FIELD_BOOL, false, offsetof(LpmProfile, guest_agent)},
    {"migration_disabled", FIELD_BOOL, false, offsetof(LpmProfile, migration_disabled)},
    {"memory_backing", FIELD_CHOICE, false, offsetof(LpmProfile, memory_backing),
     .names = lpm_memory_backing_names, .n_names = LPM_BACKING_N},
    {"huge_pages_kib", FIELD_INT64, false, offsetof(LpmProfile, huge_pages_kib), .quiet = true,
     .minimum = 0, .maximum = HUGE_PAGES_KIB_MAX},
    {"arbiter", FIELD_CHOICE, false, offsetof(LpmProfile, arbiter), .names = lpm_arbiter_kind_names,
     .n_names = LPM_ARBITER_N},
    {"max_blackout_ms", FIELD_INT, false, offsetof(LpmProfile, max_blackout_ms), .minimum = 0,
     .maximum = BLACKOUT_MS_MAX},
    {"firmware", FIELD_CHOICE, false, offsetof(LpmProfile, firmware), .quiet = true,
     .names = lpm_firmware_names, .n_names = LPM_FIRMWARE_N},
    {"tpm", FIELD_BOOL, false, offsetof(LpmProfile, tpm), .quiet = true},
    {"rtc_offset_s", FIELD_INT64, false, offsetof(LpmProfile, rtc_offset_s), .quiet = true,
     .minimum = -LPM_RTC_OFFSET_MAX, .maximum = LPM_RTC_OFFSET_MAX},
    {"boot_order", FIELD_TEXT, false, offsetof(LpmProfile, boot_order), .valid = text_is_names,
     .allowed = "names of its disks with commas between them"},
    {"processors_max", FIELD_INT, false, offsetof(LpmProfile, processors_max), .quiet = true,
     .minimum = 0, .maximum = LPM_PROCESSORS_MAX},
    {"memory_max_mib", FIELD_INT64, false, offsetof(LpmProfile, memory_max_mib), .quiet = true,
     .minimum = 0, .maximum = LPM_MEMORY_MIB_MAX},
    {"added_memory", FIELD_LIST, false, offsetof(LpmProfile, added_memory), .quiet = true,
     .inner = &added_memory_table, .maximum = LPM_ADDED_MEMORY_MAX,
     .count_offset = offsetof(LpmProfile, n_added_memory), .item_size = sizeof(LpmAddedMemory)},
    {"added_processors", FIELD_INT, false, offsetof(LpmProfile, added_processors), .quiet = true,
     .minimum = 0, .maximum = LPM_PROCESSORS_MAX},
    {"profile", FIELD_TEXT, false, offsetof(LpmProfile, profile_name), .valid = text_is_profile,
     .allowed = PROFILE_RULE},
    {"default_profile", FIELD_TEXT, false, offsetof(LpmProfile, default_profile),
     .valid = text_is_profile, .allowed = PROFILE_RULE},
    {"profiles", FIELD_ARRAY, false, offsetof(LpmProfile, profiles),
     .maximum = LPM_PROFILES_MAX - 1},
};
static const FieldTable profile_table = TABLE(profile_fields);

LpmProfile *lpm_profile_new(void)
{
    LpmProfile *profile = g_new0(LpmProfile, 1);

    profile->processors = 1;
    profile->preferred_mode = g_strdup("default");
    profile->console = true;
    profile->guest_agent = true;
    return profile;
}

void lpm_profile_free(LpmProfile *profile)
{
    if (profile) {
        fields_clear(&profile_table, profile);
        g_free(profile);
    }
}

static bool check_huge_pages(const LpmProfile *profile, GError **error)
{
    int64_t kib = profile->huge_pages_kib;

    if (kib == 0) {
        return true;
    }
    if (kib < HUGE_PAGES_KIB_MIN || (kib & (kib - 1)) != 0) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "profile: member \"huge_pages_kib\" is %" G_GINT64_FORMAT
                             ": allowed is 0, or a power of two from %d, such as 2048",
                             kib, HUGE_PAGES_KIB_MIN);
    }
    if (profile->memory_mib * 1024 % kib != 0) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "profile: member \"memory_mib\" is %" G_GINT64_FORMAT
                             ": allowed is a multiple of its huge pages of %" G_GINT64_FORMAT
                             " KiB",
                             profile->memory_mib, kib);
    }
    return true;
}

static bool check_machine(const LpmProfile *profile, GError **error)
{
    if (!check_huge_pages(profile, error)) {
        return false;
    }
    if (profile->family == LPM_FAMILY_POWER && profile->memory_mib % POWER_MEMORY_BLOCK_MIB != 0) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "profile: member \"memory_mib\" is %" G_GINT64_FORMAT
                             ": allowed is a multiple of %d for family \"power\"",
                             profile->memory_mib, POWER_MEMORY_BLOCK_MIB);
    }
    if (profile->family != LPM_FAMILY_POWER && profile->interrupt_mode) {
        return lpm_error_set(
            error, LPM_ERROR_USAGE,
            "profile: member \"interrupt_mode\" is \"%s\": allowed only for family "
            "\"power\"; leave it out",
            profile->interrupt_mode);
    }
    if (!profile->boot.kernel.pool && (profile->boot.initrd.pool || profile->boot.cmdline)) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "profile: member \"boot.%s\" is given without \"boot.kernel\": give a "
                             "kernel, or leave it out to boot from the first disk",
                             profile->boot.initrd.pool ? "initrd" : "cmdline");
    }
    return true;
}

static bool duplicate(const char *list, size_t i, const char *member, const char *value, size_t j,
                      GError **error)
{
    return lpm_error_set(error, LPM_ERROR_USAGE,
                         "profile: member \"%s[%zu].%s\" is \"%s\", as in %s[%zu]: allowed once",
                         list, i, member, value, list, j);
}

/* What one member of a disk says about another. */
static bool check_disk(const LpmProfile *profile, size_t i, GError **error)
{
    const LpmDisk *disk = &profile->disks[i];
    bool optical = disk->media == LPM_MEDIA_OPTICAL;
    const struct {
        bool bad;
        const char *member, *allowed;
    } rules[] = {
        {!optical && !disk->at.file, "file",
         "missing: give " FILE_RULE "; only a drive of media \"optical\" may be without"},
        {disk->adapter == LPM_ADAPTER_VSCSI && profile->family != LPM_FAMILY_POWER, "adapter",
         "\"vscsi\": allowed only for family \"power\"; use \"scsi\""},
        {optical && disk->adapter == LPM_ADAPTER_VIRTIO, "adapter",
         "\"virtio\": a drive of media \"optical\" needs \"scsi\", or \"vscsi\" on POWER"},
        {optical && disk->size_mib > 0, "size_mib",
         "given: a medium of a drive of media \"optical\" is never made; leave it out"},
    };

    for (size_t rule = 0; rule < G_N_ELEMENTS(rules); rule++) {
        if (rules[rule].bad) {
            return lpm_error_set(error, LPM_ERROR_USAGE, "profile: member \"disks[%zu].%s\" is %s",
                                 i, rules[rule].member, rules[rule].allowed);
        }
    }
    return true;
}

static bool check_disks(const LpmProfile *profile, GError **error)
{
    for (size_t i = 0; i < profile->n_disks; i++) {
        const LpmDisk *disk = &profile->disks[i];

        if (!check_disk(profile, i, error)) {
            return false;
        }
        for (size_t j = 0; j < i; j++) {
            const LpmDisk *other = &profile->disks[j];

            if (strcmp(disk->name, other->name) == 0) {
                return duplicate("disks", i, "name", disk->name, j, error);
            }
            if (strcmp(disk->at.pool, other->at.pool) == 0 && disk->at.file &&
                g_strcmp0(disk->at.file, other->at.file) == 0) {
                return duplicate("disks", i, "file", disk->at.file, j, error);
            }
        }
    }
    return true;
}

static bool check_adapters(const LpmProfile *profile, GError **error)
{
    for (size_t i = 0; i < profile->n_networks; i++) {
        if (profile->networks[i].adapter == LPM_NET_SPAPR_VLAN &&
            profile->family != LPM_FAMILY_POWER) {
            return lpm_error_set(error, LPM_ERROR_USAGE,
                                 "profile: member \"networks[%zu].adapter\" is \"spapr-vlan\": "
                                 "allowed only for family \"power\"; leave it out",
                                 i);
        }
    }
    return true;
}

static bool check_networks(const LpmProfile *profile, GError **error)
{
    for (size_t i = 1; i < profile->n_networks; i++) {
        const LpmNetwork *network = &profile->networks[i];

        for (size_t j = 0; j < i; j++) {
            const LpmNetwork *other = &profile->networks[j];

            if (strcmp(network->name, other->name) == 0) {
                return duplicate("networks", i, "name", network->name, j, error);
            }
            if (g_strcmp0(network->mac, other->mac) == 0 && network->mac) {
                return duplicate("networks", i, "mac", network->mac, j, error);
            }
        }
    }
    return true;
}

static bool mac_is_taken(const LpmProfile *profile, const char *mac)
{
    for (size_t i = 0; i < profile->n_networks; i++) {
        if (g_strcmp0(profile->networks[i].mac, mac) == 0) {
            return true;
        }
    }
    return false;
}

static void fill_in(LpmProfile *profile)
{
    for (size_t i = 0; i < profile->n_disks; i++) {
        profile->disks[i].read_only |= profile->disks[i].media == LPM_MEDIA_OPTICAL;
    }
    if (!profile->uuid) {
        profile->uuid = lpm_new_uuid();
    }
    for (size_t i = 0; i < profile->n_networks; i++) {
        while (!profile->networks[i].mac) {
            g_autofree char *mac = NULL;
            guint8 b[3];

            random_bytes(b, sizeof b);
            mac = g_strdup_printf("52:54:00:%02x:%02x:%02x", b[0], b[1], b[2]);
            if (!mac_is_taken(profile, mac)) {
                profile->networks[i].mac = g_steal_pointer(&mac);
            }
        }
    }
}

LpmProfile *lpm_profile_from_json(const json_t *json, GError **error)
{
    g_autoptr(LpmProfile) profile = lpm_profile_new();

    if (!fields_read(&profile_table, json, "", profile, error) || !check_machine(profile, error) ||
        !check_disks(profile, error) || !check_adapters(profile, error) ||
        !check_networks(profile, error) || !details_check(profile, error)) {
        return NULL;
    }
    fill_in(profile);
    details_fill_in(profile);
    if (!profiles_check(profile, error)) {
        return NULL;
    }
    return g_steal_pointer(&profile);
}

json_t *lpm_profile_to_json(const LpmProfile *profile)
{
    return fields_write(&profile_table, profile);
}
