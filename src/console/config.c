/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>

#define GROUP "console"

typedef enum { TYPE_TEXT, TYPE_LIST, TYPE_PORT, TYPE_INT, TYPE_INT64 } KeyType;

typedef struct {
    const char *key;
    KeyType type;
    size_t offset;
    int64_t minimum, maximum;
} KeyRow;

#define OFFSET(member) G_STRUCT_OFFSET(LpmConsoleConfig, member)

static const KeyRow rows[] = {
    {"state_dir", TYPE_TEXT, OFFSET(state_dir), 0, 0},
    {"name", TYPE_TEXT, OFFSET(name), 0, 0},
    {"addresses", TYPE_LIST, OFFSET(addresses), 0, 0},
    {"listen", TYPE_TEXT, OFFSET(listen), 0, 0},
    {"https_port", TYPE_PORT, OFFSET(https_port), 1, 65535},
    {"rpc_port", TYPE_PORT, OFFSET(rpc_port), 1, 65535},
    {"data_dir", TYPE_TEXT, OFFSET(data_dir), 0, 0},
    {"max_moves", TYPE_INT, OFFSET(max_moves), 1, 1000},
    {"history", TYPE_INT64, OFFSET(history), 10, 1000000},
};

LpmConsoleConfig *lpm_console_config_new(void)
{
    LpmConsoleConfig *config = g_new0(LpmConsoleConfig, 1);
    const char *data = g_getenv("LPM_DATA_DIR"); /* a build that is not installed */

    config->name = g_strdup("console");
    config->addresses = g_new0(char *, 1);
    config->listen = g_strdup("0.0.0.0");
    config->https_port = 7443;
    config->rpc_port = 7600;
    config->data_dir = g_strdup(data ? data : LPM_DATA_DIR);
    config->max_moves = 16;
    config->history = 1000;
    return config;
}

void lpm_console_config_free(LpmConsoleConfig *config)
{
    if (!config) {
        return;
    }
    g_free(config->state_dir);
    g_free(config->name);
    g_strfreev(config->addresses);
    g_free(config->listen);
    g_free(config->data_dir);
    g_free(config);
}

static const KeyRow *find_row(const char *key)
{
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (strcmp(rows[i].key, key) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}

static bool set_number(void *member, const KeyRow *row, int64_t number)
{
    if (number < row->minimum || number > row->maximum) {
        return false;
    }
    if (row->type == TYPE_PORT) {
        *(uint16_t *)member = (uint16_t)number;
    } else if (row->type == TYPE_INT) {
        *(int *)member = (int)number;
    } else {
        *(int64_t *)member = number;
    }
    return true;
}

static bool set_key(LpmConsoleConfig *config, GKeyFile *keys, const KeyRow *row, const char *file,
                    GError **error)
{
    void *member = (char *)config + row->offset;

    if (row->type == TYPE_TEXT) {
        g_free(*(char **)member);
        *(char **)member = g_key_file_get_string(keys, GROUP, row->key, NULL);
        if (*(char **)member && **(char **)member) {
            return true;
        }
    } else if (row->type == TYPE_LIST) {
        g_strfreev(*(char ***)member);
        *(char ***)member = g_key_file_get_string_list(keys, GROUP, row->key, NULL, NULL);
        if (*(char ***)member && **(char ***)member) {
            return true;
        }
    } else {
        g_autoptr(GError) bad = NULL;
        int64_t number = g_key_file_get_int64(keys, GROUP, row->key, &bad);

        if (!bad && set_number(member, row, number)) {
            return true;
        }
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "%s: [%s] %s must be a number from %" G_GINT64_FORMAT
                             " to %" G_GINT64_FORMAT,
                             file, GROUP, row->key, row->minimum, row->maximum);
    }
    return lpm_error_set(error, LPM_ERROR_USAGE, "%s: [%s] %s has no value", file, GROUP, row->key);
}

static bool read_groups(LpmConsoleConfig *config, GKeyFile *keys, const char *file, GError **error)
{
    g_auto(GStrv) groups = g_key_file_get_groups(keys, NULL);
    g_auto(GStrv) names = g_key_file_get_keys(keys, GROUP, NULL, NULL);

    for (char **group = groups; *group; group++) {
        if (strcmp(*group, GROUP) != 0) {
            return lpm_error_set(error, LPM_ERROR_USAGE, "%s: unknown group [%s]; there is [%s]",
                                 file, *group, GROUP);
        }
    }
    for (char **name = names; name && *name; name++) {
        const KeyRow *row = find_row(*name);

        if (!row) {
            return lpm_error_set(error, LPM_ERROR_USAGE, "%s: [%s] has no key \"%s\"", file, GROUP,
                                 *name);
        }
        if (!set_key(config, keys, row, file, error)) {
            return false;
        }
    }
    return true;
}

LpmConsoleConfig *lpm_console_config_load(const char *file, GError **error)
{
    g_autoptr(LpmConsoleConfig) config = lpm_console_config_new();
    g_autoptr(GKeyFile) keys = g_key_file_new();
    g_autoptr(GError) cause = NULL;

    if (!g_key_file_load_from_file(keys, file, G_KEY_FILE_NONE, &cause)) {
        bool missing = g_error_matches(cause, G_FILE_ERROR, G_FILE_ERROR_NOENT);

        lpm_error_set(error, missing ? LPM_ERROR_NOT_FOUND : LPM_ERROR_USAGE, "%s: %s%s", file,
                      cause->message,
                      missing ? "; \"lpm-console init\" makes a console and this file" : "");
        return NULL;
    }
    if (!read_groups(config, keys, file, error)) {
        return NULL;
    }
    if (!config->state_dir) {
        config->state_dir = g_path_get_dirname(file);
    }
    if (!config->addresses[0]) {
        lpm_error_set(error, LPM_ERROR_USAGE, "%s: [%s] addresses is missing", file, GROUP);
        return NULL;
    }
    return g_steal_pointer(&config);
}

char *lpm_console_config_text(const LpmConsoleConfig *config)
{
    g_autofree char *addresses = g_strjoinv(";", config->addresses);

    return g_strdup_printf("# lpm-console; docs/spec/config.md lists the keys\n"
                           "[%s]\nname=%s\naddresses=%s\nhttps_port=%u\nrpc_port=%u\n",
                           GROUP, config->name, addresses, config->https_port, config->rpc_port);
}
