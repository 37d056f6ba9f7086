/* SPDX-License-Identifier: Apache-2.0 */
#include "host/config-internal.h"

#include <string.h>
#include <unistd.h>

#define POWER_PREFIX "/opt/openlpm/qemu-power/bin/qemu-system-ppc64"

typedef enum { TYPE_TEXT, TYPE_LIST, TYPE_NUMBER, TYPE_CHOICE } KeyType;

/* One key of a group that exists once. Numbers are kept in int64_t, whatever the member's size
 * says. */
typedef struct {
    const char *group, *key;
    KeyType type;
    size_t offset;
    size_t size; /* of a number: sizeof the member */
    int64_t minimum, maximum;
    const char *choices; /* space-separated */
} KeyRow;

#define TEXT(group, key, member)                                                                   \
    {                                                                                              \
        group, key, TYPE_TEXT, G_STRUCT_OFFSET(LpmHostConfig, member)                              \
    }
#define LIST(group, key, member)                                                                   \
    {                                                                                              \
        group, key, TYPE_LIST, G_STRUCT_OFFSET(LpmHostConfig, member)                              \
    }
#define CHOICE(group, key, member, choices)                                                        \
    {                                                                                              \
        group, key, TYPE_CHOICE, G_STRUCT_OFFSET(LpmHostConfig, member), 0, 0, 0, choices          \
    }
#define NUMBER(group, key, member, minimum, maximum)                                               \
    {                                                                                              \
        group, key, TYPE_NUMBER, G_STRUCT_OFFSET(LpmHostConfig, member),                           \
            sizeof(((LpmHostConfig *)NULL)->member), minimum, maximum                              \
    }

static const KeyRow rows[] = {
    TEXT("system", "name", name),
    TEXT("system", "state_dir", state_dir),
    TEXT("system", "run_dir", run_dir),
    TEXT("system", "sysfs", sysfs),
    TEXT("rpc", "address", rpc_address),
    NUMBER("rpc", "port", rpc_port, 0, 65535),
    TEXT("mover", "program", mover_program),
    LIST("mover", "addresses", mover_addresses),
    NUMBER("mover", "port_first", mover_port_first, 0, 65535),
    NUMBER("mover", "port_last", mover_port_last, 0, 65535),
    TEXT("qemu", "user", qemu_user),
    TEXT("qemu", "x86-64", emulators[LPM_FAMILY_X86_64]),
    TEXT("qemu", "power", emulators[LPM_FAMILY_POWER]),
    CHOICE("qemu", "accelerator", accelerator, "auto tcg"),
    TEXT("qemu", "img", qemu_img),
    TEXT("qemu", "uefi_code", uefi_code),
    TEXT("qemu", "uefi_variables", uefi_variables),
    CHOICE("store", "use", store_use, "on off"),
    TEXT("store", "directory", store_directory),
    NUMBER("store", "budget_mib", store_budget_mib, 0, INT64_C(1) << 30),
    CHOICE("power", "processor", power_processor, "POWER8 POWER9 POWER10"),
    CHOICE("power", "firmware", power_firmware, "slof vof"),
    TEXT("power", "supply", power_supply),
    LIST("arbiter:etcd", "endpoints", etcd_endpoints),
    TEXT("arbiter:etcd", "ca", etcd_ca),
    TEXT("arbiter:etcd", "cert", etcd_cert),
    TEXT("arbiter:etcd", "key", etcd_key),
    TEXT("arbiter:etcd", "prefix", etcd_prefix),
    TEXT("arbiter:scsi", "portal", scsi_portal),
    TEXT("arbiter:scsi", "target", scsi_target),
    NUMBER("arbiter:scsi", "lun", scsi_lun, 0, 16383),
    TEXT("arbiter:scsi", "initiator", scsi_initiator),
    TEXT("arbiter:scsi", "chap_user", scsi_chap_user),
    TEXT("arbiter:scsi", "chap_secret", scsi_chap_secret),
    NUMBER("limits", "partitions", partitions, 0, 10000),
    NUMBER("limits", "active_moves", active_moves, 0, 64),
    NUMBER("limits", "inactive_moves", inactive_moves, 0, 64),
    NUMBER("limits", "memory_mib", memory_mib, 0, LPM_MEMORY_MIB_MAX),
    NUMBER("limits", "reserve_mib", reserve_mib, 0, LPM_MEMORY_MIB_MAX),
    NUMBER("limits", "processors", processors, 0, 65536),
    NUMBER("limits", "start_timeout_ms", start_timeout_ms, 1000, 600000),
    NUMBER("limits", "agent_timeout_ms", agent_timeout_ms, 100, 60000),
    NUMBER("limits", "script_check_s", script_check_s, 1, 150),
    NUMBER("limits", "script_s", script_s, 1, 3600),
    NUMBER("limits", "clock_step_ms", clock_step_ms, 0, 60000),
};

static char *default_name(void)
{
    char name[LPM_NAME_MAX + 1] = "";

    if (gethostname(name, sizeof(name) - 1) != 0 || !lpm_name_is_valid(name)) {
        return g_strdup("system");
    }
    return g_strdup(name);
}

static char *default_mover(void)
{
    static const char *const places[] = {"/usr/local/libexec/openlpm/lpm-mover",
                                         "/usr/libexec/openlpm/lpm-mover"};

    for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
        if (access(places[i], X_OK) == 0) {
            return g_strdup(places[i]);
        }
    }
    return g_strdup("lpm-mover");
}

static LpmHostConfig *defaults(void)
{
    LpmHostConfig *config = g_new0(LpmHostConfig, 1);
    bool prefix = access(POWER_PREFIX, X_OK) == 0;

    config->name = default_name();
    config->state_dir = g_strdup("/var/lib/openlpm");
    config->run_dir = g_strdup("/run/openlpm");
    config->sysfs = g_strdup("/sys");
    config->rpc_address = g_strdup("0.0.0.0");
    config->rpc_port = 7600;
    config->mover_program = default_mover();
    config->mover_addresses = g_strsplit("", ";", 0);
    config->qemu_user = g_strdup("lpm-qemu");
    config->emulators[LPM_FAMILY_X86_64] = g_strdup("qemu-system-x86_64");
    config->emulators[LPM_FAMILY_POWER] = g_strdup(prefix ? POWER_PREFIX : "qemu-system-ppc64");
    config->accelerator = g_strdup("auto");
    config->qemu_img = g_strdup("qemu-img");
    config->uefi_code = g_strdup("/usr/share/OVMF/OVMF_CODE_4M.fd");
    config->uefi_variables = g_strdup("/usr/share/OVMF/OVMF_VARS_4M.fd");
    config->store_use = g_strdup("on");
    config->store_directory = g_strdup("");
    config->power_processor = g_strdup("POWER9");
    config->power_firmware = g_strdup("slof");
    config->power_supply = g_strdup("/sys/class/power_supply");
    config->etcd_endpoints = g_strsplit("", ";", 0);
    config->etcd_ca = g_strdup("");
    config->etcd_cert = g_strdup("");
    config->etcd_key = g_strdup("");
    config->etcd_prefix = g_strdup("/openlpm/records/");
    config->scsi_portal = g_strdup("");
    config->scsi_target = g_strdup("");
    config->scsi_initiator = g_strdup("");
    config->scsi_chap_user = g_strdup("");
    config->scsi_chap_secret = g_strdup("");
    config->partitions = 1000;
    config->active_moves = 4;
    config->inactive_moves = 8;
    config->reserve_mib = 256;
    config->start_timeout_ms = 30000;
    config->agent_timeout_ms = 1500;
    config->script_check_s = 120;
    config->script_s = 600;
    config->clock_step_ms = 500; /* what a time service takes away by itself soon */
    return config;
}

static void switch_clear(LpmSwitchConfig *config)
{
    for (size_t i = 0; i < config->n_vlans; i++) {
        g_free(config->vlans[i].bridge);
    }
    g_free(config->vlans);
    g_free(config->name);
}

void lpm_host_config_free(LpmHostConfig *config)
{
    if (!config) {
        return;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        void *at = (char *)config + rows[i].offset;

        if (rows[i].type == TYPE_LIST) {
            g_strfreev(*(char ***)at);
        } else if (rows[i].type != TYPE_NUMBER) {
            g_free(*(char **)at);
        }
    }
    for (size_t i = 0; i < config->n_pools; i++) {
        lpm_pool_config_clear(&config->pools[i]);
    }
    for (size_t i = 0; i < config->n_switches; i++) {
        switch_clear(&config->switches[i]);
    }
    g_free(config->pools);
    g_free(config->switches);
    g_free(config->file);
    g_free(config);
}

static void store_number(void *at, size_t size, int64_t value)
{
    switch (size) {
    case sizeof(uint16_t):
        *(uint16_t *)at = (uint16_t)value;
        break;
    case sizeof(int):
        *(int *)at = (int)value;
        break;
    default:
        *(int64_t *)at = value;
        break;
    }
}

bool lpm_config_wrong(const char *file, const char *group, const char *key, GError **error,
                      const char *why)
{
    return lpm_error_set(error, LPM_ERROR_USAGE,
                         "%s: [%s] %s: %s; docs/spec/config.md lists what "
                         "may stand there",
                         file, group, key, why);
}

static bool read_number(const KeyRow *row, const char *text, const char *file, void *at,
                        GError **error)
{
    gint64 value = 0;
    g_autoptr(GError) cause = NULL;

    if (!g_ascii_string_to_signed(text, 10, row->minimum, row->maximum, &value, &cause)) {
        return lpm_config_wrong(file, row->group, row->key, error, cause->message);
    }
    store_number(at, row->size, value);
    return true;
}

static bool is_choice(const char *choices, const char *text)
{
    g_auto(GStrv) list = g_strsplit(choices, " ", -1);

    return g_strv_contains((const char *const *)list, text);
}

static bool read_row(LpmHostConfig *config, const KeyRow *row, GKeyFile *keys, const char *file,
                     GError **error)
{
    void *at = (char *)config + row->offset;
    g_autofree char *text = g_key_file_get_string(keys, row->group, row->key, NULL);

    if (!text) {
        return lpm_config_wrong(file, row->group, row->key, error, "not readable as text");
    }
    g_strstrip(text);
    switch (row->type) {
    case TYPE_NUMBER:
        return read_number(row, text, file, at, error);
    case TYPE_LIST:
        g_strfreev(*(char ***)at);
        *(char ***)at = g_key_file_get_string_list(keys, row->group, row->key, NULL, NULL);
        return true;
    case TYPE_CHOICE:
        if (!is_choice(row->choices, text)) {
            g_autofree char *why = g_strdup_printf("\"%s\" is not one of: %s", text, row->choices);
            return lpm_config_wrong(file, row->group, row->key, error, why);
        }
        break;
    case TYPE_TEXT:
        break;
    }
    g_free(*(char **)at);
    *(char **)at = g_steal_pointer(&text);
    return true;
}

static bool read_plain_group(LpmHostConfig *config, GKeyFile *keys, const char *group,
                             const char *file, GError **error)
{
    g_auto(GStrv) names = g_key_file_get_keys(keys, group, NULL, NULL);
    bool known_group = false;

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        known_group = known_group || strcmp(rows[i].group, group) == 0;
    }
    if (!known_group) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "%s: there is no group [%s]; "
                             "docs/spec/config.md lists them",
                             file, group);
    }
    for (char **name = names; name && *name; name++) {
        const KeyRow *row = NULL;

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
            if (strcmp(rows[i].group, group) == 0 && strcmp(rows[i].key, *name) == 0) {
                row = &rows[i];
            }
        }
        if (!row) {
            return lpm_config_wrong(file, group, *name, error, "no such key");
        }
        if (!read_row(config, row, keys, file, error)) {
            return false;
        }
    }
    return true;
}

static bool read_pool(LpmHostConfig *config, GKeyFile *keys, const char *group, const char *file,
                      GError **error)
{
    config->pools = g_renew(LpmPoolConfig, config->pools, config->n_pools + 1);
    return lpm_pool_config_read(&config->pools[config->n_pools++], keys, group, file, error);
}

/* VLAN that a key of [network:NAME] is about: "bridge" (0), "vlan.1" to "vlan.4094"; -1: no such
 * key. */
static int vlan_of_key(const char *key)
{
    guint64 vlan = 0;

    if (strcmp(key, "bridge") == 0) {
        return 0;
    }
    if (!g_str_has_prefix(key, "vlan.") ||
        !g_ascii_string_to_unsigned(key + 5, 10, 1, LPM_VLAN_MAX, &vlan, NULL)) {
        return -1;
    }
    return (int)vlan;
}

static bool read_vlan(LpmSwitchConfig *found, GKeyFile *keys, const char *group, const char *key,
                      const char *file, GError **error)
{
    int vlan = vlan_of_key(key);
    g_autofree char *bridge = g_key_file_get_string(keys, group, key, NULL);

    if (vlan < 0) {
        return lpm_config_wrong(file, group, key, error,
                                "no such key: bridge, or vlan.1 to vlan.4094");
    }
    if (!bridge || !*g_strstrip(bridge) || strlen(bridge) > 15) {
        return lpm_config_wrong(file, group, key, error,
                                "the name of a bridge (1 to 15 characters) is needed");
    }
    for (size_t i = 0; i < found->n_vlans; i++) {
        if (strcmp(found->vlans[i].bridge, bridge) == 0 || found->vlans[i].vlan == vlan) {
            return lpm_config_wrong(file, group, key, error,
                                    "each VLAN has a bridge of its own, and is named once");
        }
    }
    found->vlans = g_renew(LpmVlanConfig, found->vlans, found->n_vlans + 1);
    found->vlans[found->n_vlans++] = (LpmVlanConfig){vlan, g_steal_pointer(&bridge)};
    return true;
}

static bool read_switch(LpmHostConfig *config, GKeyFile *keys, const char *group, const char *file,
                        GError **error)
{
    g_auto(GStrv) names = g_key_file_get_keys(keys, group, NULL, NULL);
    LpmSwitchConfig found = {.name = g_strdup(strchr(group, ':') + 1)};
    bool good = true;

    for (char **name = names; good && name && *name; name++) {
        good = read_vlan(&found, keys, group, *name, file, error);
    }
    if (good && found.n_vlans == 0) {
        good = lpm_config_wrong(file, group, "bridge", error,
                                "the name of a bridge is needed, or one for a VLAN (vlan.100)");
    }
    if (!good) {
        switch_clear(&found);
        return false;
    }
    config->switches = g_renew(LpmSwitchConfig, config->switches, config->n_switches + 1);
    config->switches[config->n_switches++] = found;
    return true;
}

static bool read_named_group(LpmHostConfig *config, GKeyFile *keys, const char *group,
                             const char *file, GError **error)
{
    bool pool = g_str_has_prefix(group, "storage:");

    if (!pool && !g_str_has_prefix(group, "network:")) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "%s: there is no group [%s]; named groups are "
                             "[storage:NAME] and [network:NAME]",
                             file, group);
    }
    if (!lpm_name_is_valid(strchr(group, ':') + 1)) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "%s: group [%s]: \"%s\" is not a legal name; "
                             "use letters, digits, dots, underscores and dashes",
                             file, group, strchr(group, ':') + 1);
    }
    return pool ? read_pool(config, keys, group, file, error)
                : read_switch(config, keys, group, file, error);
}

/* What can be said without asking etcd or the target. */
static bool check_arbiters(const LpmHostConfig *config, const char *file, GError **error)
{
    for (char **one = config->etcd_endpoints; *one; one++) {
        if (!g_str_has_prefix(*one, "https://") && !g_str_has_prefix(*one, "http://")) {
            return lpm_config_wrong(file, "arbiter:etcd", "endpoints", error,
                                    "each begins with https:// or http://");
        }
    }
    if (!*config->etcd_cert != !*config->etcd_key) {
        return lpm_config_wrong(file, "arbiter:etcd", "cert", error,
                                "cert and key belong together");
    }
    if (*config->scsi_portal && (!*config->scsi_target || !*config->scsi_initiator)) {
        return lpm_config_wrong(file, "arbiter:scsi", *config->scsi_target ? "initiator" : "target",
                                error, "needed beside portal");
    }
    if (!*config->scsi_chap_user != !*config->scsi_chap_secret) {
        return lpm_config_wrong(file, "arbiter:scsi", "chap_user", error,
                                "chap_user and chap_secret belong together");
    }
    return true;
}

static bool check(const LpmHostConfig *config, const char *file, GError **error)
{
    if (!lpm_name_is_valid(config->name)) {
        return lpm_config_wrong(file, "system", "name", error, "not a legal name of a system");
    }
    if (config->state_dir[0] != '/') {
        return lpm_config_wrong(file, "system", "state_dir", error, "an absolute path is needed");
    }
    if (config->run_dir[0] != '/') {
        return lpm_config_wrong(file, "system", "run_dir", error, "an absolute path is needed");
    }
    if (*config->store_directory && config->store_directory[0] != '/') {
        return lpm_config_wrong(file, "store", "directory", error, "an absolute path is needed");
    }
    /* Room for "/partitions/UUID/console.sock" in the 107 bytes of a socket's address. */
    if (strlen(config->run_dir) > 40) {
        return lpm_config_wrong(file, "system", "run_dir", error, "longer than 40 characters");
    }
    if (config->mover_port_last < config->mover_port_first) {
        return lpm_config_wrong(file, "mover", "port_last", error, "less than port_first");
    }
    return check_arbiters(config, file, error);
}

static bool read_file(LpmHostConfig *config, const char *file, GError **error)
{
    g_autoptr(GKeyFile) keys = g_key_file_new();
    g_autoptr(GError) cause = NULL;
    g_auto(GStrv) groups = NULL;

    if (!g_key_file_load_from_file(keys, file, G_KEY_FILE_NONE, &cause)) {
        return lpm_error_set(
            error, cause->domain == G_KEY_FILE_ERROR ? LPM_ERROR_USAGE : LPM_ERROR_STORAGE,
            "configuration %s cannot be read: %s", file, cause->message);
    }
    groups = g_key_file_get_groups(keys, NULL);
    for (char **group = groups; *group; group++) {
        bool named = strchr(*group, ':') != NULL && !g_str_has_prefix(*group, "arbiter:");

        if (!(named ? read_named_group(config, keys, *group, file, error)
                    : read_plain_group(config, keys, *group, file, error))) {
            return false;
        }
    }
    return check(config, file, error);
}

LpmHostConfig *lpm_host_config_load(const char *file, GError **error)
{
    g_autoptr(LpmHostConfig) config = defaults();

    config->file = g_strdup(file);
    if (file && !read_file(config, file, error)) {
        return NULL;
    }
    return g_steal_pointer(&config);
}

const LpmPoolConfig *lpm_host_config_pool(const LpmHostConfig *config, const char *name)
{
    for (size_t i = 0; i < config->n_pools; i++) {
        if (g_strcmp0(config->pools[i].name, name) == 0) {
            return &config->pools[i];
        }
    }
    return NULL;
}

const LpmSwitchConfig *lpm_host_config_switch(const LpmHostConfig *config, const char *name)
{
    for (size_t i = 0; i < config->n_switches; i++) {
        if (g_strcmp0(config->switches[i].name, name) == 0) {
            return &config->switches[i];
        }
    }
    return NULL;
}

const char *lpm_switch_config_bridge(const LpmSwitchConfig *config, int vlan)
{
    for (size_t i = 0; i < config->n_vlans; i++) {
        if (config->vlans[i].vlan == vlan) {
            return config->vlans[i].bridge;
        }
    }
    return NULL;
}
