/* SPDX-License-Identifier: Apache-2.0 */
#include "model/names.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

const char *const lpm_family_names[LPM_FAMILY_N] = {"x86-64", "power"};
const char *const lpm_disk_format_names[LPM_FORMAT_N] = {"raw", "qcow2"};
const char *const lpm_disk_adapter_names[LPM_ADAPTER_N] = {"virtio", "scsi", "vscsi"};
const char *const lpm_disk_media_names[LPM_MEDIA_N] = {"disk", "optical"};
const char *const lpm_arbiter_kind_names[LPM_ARBITER_N] = {"auto", "file", "console", "etcd",
                                                           "scsi"};
const char *const lpm_firmware_names[LPM_FIRMWARE_N] = {"default", "uefi"};
const char *const lpm_disk_purpose_names[LPM_PURPOSE_N] = {"data", "firmware"};
const char *const lpm_memory_backing_names[LPM_BACKING_N] = {"private", "shared"};
const char *const lpm_reserve_policy_names[LPM_RESERVE_N] = {"no_reserve", "single_path"};
const char *const lpm_network_adapter_names[LPM_NET_N] = {"virtio", "spapr-vlan"};
static const char *const partition_state_names[LPM_PARTITION_N] = {
    [LPM_PARTITION_NOT_ACTIVATED] = "not-activated",
    [LPM_PARTITION_STARTING] = "starting",
    [LPM_PARTITION_RUNNING] = "running",
    [LPM_PARTITION_PAUSED] = "paused",
    [LPM_PARTITION_STOPPING] = "stopping",
    [LPM_PARTITION_INCOMING] = "incoming",
    [LPM_PARTITION_ERROR] = "error",
};

/* A value outside its enum is a defect; it shows as "?" rather than as another value's name. */
static const char *name_of(const char *const *names, size_t n, size_t value)
{
    return value < n ? names[value] : "?";
}

static bool value_of(const char *const *names, size_t n, const char *name, size_t *ret_value)
{
    for (size_t i = 0; name && i < n; i++) {
        if (strcmp(names[i], name) == 0) {
            *ret_value = i;
            return true;
        }
    }
    return false;
}

const char *lpm_family_name(LpmFamily family)
{
    return name_of(lpm_family_names, LPM_FAMILY_N, family);
}

const char *lpm_disk_format_name(LpmDiskFormat format)
{
    return name_of(lpm_disk_format_names, LPM_FORMAT_N, format);
}

const char *lpm_disk_adapter_name(LpmDiskAdapter adapter)
{
    return name_of(lpm_disk_adapter_names, LPM_ADAPTER_N, adapter);
}

const char *lpm_disk_media_name(LpmDiskMedia media)
{
    return name_of(lpm_disk_media_names, LPM_MEDIA_N, media);
}

const char *lpm_arbiter_kind_name(LpmArbiterKind kind)
{
    return name_of(lpm_arbiter_kind_names, LPM_ARBITER_N, kind);
}

const char *lpm_memory_backing_name(LpmMemoryBacking backing)
{
    return name_of(lpm_memory_backing_names, LPM_BACKING_N, backing);
}

const char *lpm_network_adapter_name(LpmNetworkAdapter adapter)
{
    return name_of(lpm_network_adapter_names, LPM_NET_N, adapter);
}

const char *lpm_partition_state_name(LpmPartitionState state)
{
    return name_of(partition_state_names, LPM_PARTITION_N, state);
}

bool lpm_family_from_name(const char *name, LpmFamily *ret_family)
{
    size_t value;

    if (!value_of(lpm_family_names, LPM_FAMILY_N, name, &value)) {
        return false;
    }
    *ret_family = (LpmFamily)value;
    return true;
}

bool lpm_partition_state_from_name(const char *name, LpmPartitionState *ret_state)
{
    size_t value;

    if (!value_of(partition_state_names, LPM_PARTITION_N, name, &value)) {
        return false;
    }
    *ret_state = (LpmPartitionState)value;
    return true;
}

static bool is_name(const char *text, const char *punctuation)
{
    size_t length = text ? strlen(text) : 0;

    if (length == 0 || length > LPM_NAME_MAX || !g_ascii_isalnum(text[0])) {
        return false;
    }
    for (size_t i = 1; i < length; i++) {
        if (!g_ascii_isalnum(text[i]) && !strchr(punctuation, text[i])) {
            return false;
        }
    }
    return true;
}

bool lpm_name_is_valid(const char *name)
{
    return is_name(name, "._-");
}

bool text_is_mode(const char *text)
{
    return is_name(text, "._-+");
}

bool text_is_uuid(const char *text)
{
    for (const char *c = text; *c; c++) {
        if (g_ascii_isupper(*c)) {
            return false;
        }
    }
    return g_uuid_string_is_valid(text);
}

bool text_is_interrupt_mode(const char *text)
{
    return strcmp(text, "xics") == 0 || strcmp(text, "dual") == 0;
}

bool text_is_cache(const char *text)
{
    return strcmp(text, "none") == 0 || strcmp(text, "directsync") == 0 ||
           strcmp(text, "writeback") == 0;
}

static bool is_lower_hex(char c)
{
    return g_ascii_isxdigit(c) && !g_ascii_isupper(c);
}

bool text_is_mac(const char *text)
{
    if (strlen(text) != 17) {
        return false;
    }
    for (size_t i = 0; i < 17; i++) {
        if (i % 3 == 2 ? text[i] != ':' : !is_lower_hex(text[i])) {
            return false;
        }
    }
    /* The lowest bit of the first byte marks a group address, which no adapter may have. */
    return g_ascii_xdigit_value(text[1]) % 2 == 0;
}

bool text_is_printable(const char *text)
{
    for (; *text; text++) {
        if (g_ascii_iscntrl(*text)) {
            return false;
        }
    }
    return true;
}

bool text_is_names(const char *text)
{
    g_auto(GStrv) names = g_strsplit(text, ",", -1);

    for (size_t i = 0; names[i]; i++) {
        if (!lpm_name_is_valid(names[i])) {
            return false;
        }
    }
    return names[0] != NULL;
}

bool text_is_profile(const char *text)
{
    return lpm_name_is_valid(text) && strlen(text) <= 31;
}

bool text_is_file(const char *text)
{
    g_auto(GStrv) parts = NULL;

    if (!*text || !text_is_printable(text)) {
        return false;
    }
    parts = g_strsplit(text, "/", -1);
    for (char **part = parts; *part; part++) {
        if (!**part || strcmp(*part, ".") == 0 || strcmp(*part, "..") == 0 || strlen(*part) > 255) {
            return false;
        }
    }
    return true;
}

void random_bytes(void *bytes, size_t length)
{
    ssize_t n;

    /* Requests of up to 256 bytes are never cut short; only early boot can interrupt them. */
    g_assert(length <= 256);
    do {
        n = getrandom(bytes, length, 0);
    } while (n < 0 && errno == EINTR);
    g_assert(n == (ssize_t)length);
}

char *lpm_new_migration_id(void)
{
    GString *text = g_string_sized_new(32);
    guint8 bytes[16];

    random_bytes(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++) {
        g_string_append_printf(text, "%02x", bytes[i]);
    }
    return g_string_free(text, FALSE);
}

char *lpm_new_uuid(void)
{
    guint8 b[16];

    random_bytes(b, sizeof b);
    /* Version 4, variant 1 (RFC 4122). */
    b[6] = (guint8)((b[6] & 0x0f) | 0x40);
    b[8] = (guint8)((b[8] & 0x3f) | 0x80);
    return g_strdup_printf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
                           b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11],
                           b[12], b[13], b[14], b[15]);
}
