/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kinds.h"
#include "model/model.h"

#include <string.h>

#define GROUP         "console"
#define FENCING_GROUP "fencing "
#define WEBHOOK_GROUP "webhook "

typedef enum { TYPE_TEXT, TYPE_LIST, TYPE_PORT, TYPE_INT, TYPE_INT64 } KeyType;

typedef struct {
    const char *key;
    KeyType type;
    size_t offset;
    int64_t minimum, maximum;
} KeyRow;

#define OFFSET(member) G_STRUCT_OFFSET(LpmConsoleConfig, member)

static const KeyRow console_rows[] = {
    {"state_dir", TYPE_TEXT, OFFSET(state_dir), 0, 0},
    {"name", TYPE_TEXT, OFFSET(name), 0, 0},
    {"addresses", TYPE_LIST, OFFSET(addresses), 0, 0},
    {"listen", TYPE_TEXT, OFFSET(listen), 0, 0},
    {"https_port", TYPE_PORT, OFFSET(https_port), 1, 65535},
    {"rpc_port", TYPE_PORT, OFFSET(rpc_port), 1, 65535},
    {"data_dir", TYPE_TEXT, OFFSET(data_dir), 0, 0},
    {"max_moves", TYPE_INT, OFFSET(max_moves), 1, 1000},
    {"max_systems", TYPE_INT, OFFSET(max_systems), 1, 10000},
    {"events_alive_s", TYPE_INT, OFFSET(events_alive_s), 1, 25},
    {"history", TYPE_INT64, OFFSET(history), 10, 1000000},
    {"takeover", TYPE_TEXT, OFFSET(takeover), 0, 0},
    {NULL, TYPE_TEXT, 0, 0, 0},
};

#define FENCING(member) G_STRUCT_OFFSET(LpmFencing, member)

static const KeyRow fencing_rows[] = {
    {"agent", TYPE_TEXT, FENCING(agent), 0, 0},
    {"plug", TYPE_TEXT, FENCING(plug), 0, 0},
    {"options", TYPE_LIST, FENCING(option), 0, 0},
    {"secrets", TYPE_LIST, FENCING(secret), 0, 0},
    {"after_s", TYPE_INT, FENCING(after_s), 0, 86400},
    {"timeout_s", TYPE_INT, FENCING(timeout_s), 1, 600},
    {NULL, TYPE_TEXT, 0, 0, 0},
};

#define WEBHOOK(member) G_STRUCT_OFFSET(LpmWebhookConfig, member)

static const KeyRow webhook_rows[] = {
    {"url", TYPE_TEXT, WEBHOOK(url), 0, 0},
    {"secret", TYPE_TEXT, WEBHOOK(secret), 0, 0},
    {"ca", TYPE_TEXT, WEBHOOK(ca), 0, 0},
    {"events", TYPE_LIST, WEBHOOK(events), 0, 0},
    {"timeout_s", TYPE_INT, WEBHOOK(timeout_s), 1, 60},
    {"give_up_s", TYPE_INT, WEBHOOK(give_up_s), 1, 30 * 86400},
    {NULL, TYPE_TEXT, 0, 0, 0},
};

enum { WEBHOOK_TIMEOUT_S = 10, WEBHOOK_GIVE_UP_S = 86400, WEBHOOKS_MAX = 32 };
enum { FENCING_TIMEOUT_S = 60, FENCING_AFTER_MIN_S = 5 };

static void fencing_free(gpointer data)
{
    LpmFencing *fencing = data;

    g_free(fencing->agent);
    g_free(fencing->plug);
    g_strfreev(fencing->option);
    g_strfreev(fencing->secret);
    g_free(fencing);
}

static void webhook_free(gpointer data)
{
    LpmWebhookConfig *webhook = data;

    g_free(webhook->url);
    g_free(webhook->secret);
    g_free(webhook->ca);
    g_strfreev(webhook->events);
    g_free(webhook);
}

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
    config->max_systems = 1000;
    config->events_alive_s = 15; /* less than the 30 s after which much on the way gives up */
    config->history = 1000;
    config->takeover = g_strdup("alarm");
    config->fencing = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, fencing_free);
    config->webhooks = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, webhook_free);
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
    g_free(config->takeover);
    g_hash_table_unref(config->fencing);
    g_hash_table_unref(config->webhooks);
    g_free(config);
}

static const KeyRow *find_row(const KeyRow *rows, const char *key)
{
    for (const KeyRow *row = rows; row->key; row++) {
        if (strcmp(row->key, key) == 0) {
            return row;
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

static bool set_key(void *object, GKeyFile *keys, const char *group, const KeyRow *row,
                    const char *file, GError **error)
{
    void *member = (char *)object + row->offset;

    if (row->type == TYPE_TEXT) {
        g_free(*(char **)member);
        *(char **)member = g_key_file_get_string(keys, group, row->key, NULL);
        if (*(char **)member && **(char **)member) {
            return true;
        }
    } else if (row->type == TYPE_LIST) {
        g_strfreev(*(char ***)member);
        *(char ***)member = g_key_file_get_string_list(keys, group, row->key, NULL, NULL);
        if (*(char ***)member && **(char ***)member) {
            return true;
        }
    } else {
        g_autoptr(GError) bad = NULL;
        int64_t number = g_key_file_get_int64(keys, group, row->key, &bad);

        if (!bad && set_number(member, row, number)) {
            return true;
        }
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "%s: [%s] %s must be a number from %" G_GINT64_FORMAT
                             " to %" G_GINT64_FORMAT,
                             file, group, row->key, row->minimum, row->maximum);
    }
    return lpm_error_set(error, LPM_ERROR_USAGE, "%s: [%s] %s has no value", file, group, row->key);
}

/* All keys of @group into @object by @rows. */
static bool read_group(void *object, const KeyRow *rows, GKeyFile *keys, const char *group,
                       const char *file, GError **error)
{
    g_auto(GStrv) names = g_key_file_get_keys(keys, group, NULL, NULL);

    for (char **name = names; name && *name; name++) {
        const KeyRow *row = find_row(rows, *name);

        if (!row) {
            return lpm_error_set(error, LPM_ERROR_USAGE, "%s: [%s] has no key \"%s\"", file, group,
                                 *name);
        }
        if (!set_key(object, keys, group, row, file, error)) {
            return false;
        }
    }
    return true;
}

/* Each one becomes a line of the agent's input: "key=value" and nothing that would make two. */
static bool check_pairs(char *const *pairs, const char *group, const char *file, GError **error)
{
    static const char *const ours[] = {"action=", "plug=", "port="};

    for (char *const *pair = pairs; pair && *pair; pair++) {
        const char *equals = strchr(*pair, '=');

        if (!equals || equals == *pair || strpbrk(*pair, "\n\r")) {
            return lpm_error_set(error, LPM_ERROR_USAGE,
                                 "%s: [%s] options and secrets are lists of key=value and "
                                 "key=FILE; number %td of one is not",
                                 file, group, pair - pairs + 1);
        }
        for (size_t i = 0; i < G_N_ELEMENTS(ours); i++) {
            if (g_str_has_prefix(*pair, ours[i])) {
                return lpm_error_set(error, LPM_ERROR_USAGE,
                                     "%s: [%s] \"%s\" is set by the console; the key \"plug\" "
                                     "says what the agent calls the system",
                                     file, group, ours[i]);
            }
        }
    }
    return true;
}

static bool read_fencing(LpmConsoleConfig *config, GKeyFile *keys, const char *group,
                         const char *file, GError **error)
{
    const char *system = group + strlen(FENCING_GROUP);
    LpmFencing *fencing = g_new0(LpmFencing, 1);

    g_hash_table_insert(config->fencing, g_strdup(system), fencing);
    fencing->timeout_s = FENCING_TIMEOUT_S;
    fencing->plug = g_strdup(system);
    if (!read_group(fencing, fencing_rows, keys, group, file, error) ||
        !check_pairs(fencing->option, group, file, error) ||
        !check_pairs(fencing->secret, group, file, error)) {
        return false;
    }
    if (!fencing->agent || !g_path_is_absolute(fencing->agent)) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "%s: [%s] agent must be the absolute path of a program", file, group);
    }
    if (strpbrk(fencing->plug, "\n\r")) {
        return lpm_error_set(error, LPM_ERROR_USAGE, "%s: [%s] plug must be one line", file, group);
    }
    if (fencing->after_s > 0 && fencing->after_s < FENCING_AFTER_MIN_S) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "%s: [%s] after_s must be 0 (never) or at least %d", file, group,
                             FENCING_AFTER_MIN_S);
    }
    return true;
}

static bool check_url(const char *url, const char *group, const char *file, GError **error)
{
    g_autoptr(GUri) uri = url ? g_uri_parse(url, G_URI_FLAGS_PARSE_RELAXED, NULL) : NULL;
    const char *scheme = uri ? g_uri_get_scheme(uri) : "";

    if ((strcmp(scheme, "https") != 0 && strcmp(scheme, "http") != 0) || !g_uri_get_host(uri) ||
        !*g_uri_get_host(uri)) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "%s: [%s] url must be there and begin with https:// or http://", file,
                             group);
    }
    if (g_uri_get_userinfo(uri)) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "%s: [%s] url must have no user and password: everybody may see it; "
                             "the receiver knows the console by its signature",
                             file, group);
    }
    return true;
}

static bool read_webhook(LpmConsoleConfig *config, GKeyFile *keys, const char *group,
                         const char *file, GError **error)
{
    const char *name = group + strlen(WEBHOOK_GROUP);
    LpmWebhookConfig *webhook = g_new0(LpmWebhookConfig, 1);

    webhook->timeout_s = WEBHOOK_TIMEOUT_S;
    webhook->give_up_s = WEBHOOK_GIVE_UP_S;
    g_hash_table_insert(config->webhooks, g_strdup(name), webhook);
    if (!lpm_name_is_valid(name) || g_hash_table_size(config->webhooks) > WEBHOOKS_MAX) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "%s: [%s]: \"%s\" is no legal name, or there are more than %d", file,
                             group, name, WEBHOOKS_MAX);
    }
    if (!read_group(webhook, webhook_rows, keys, group, file, error) ||
        !check_url(webhook->url, group, file, error)) {
        return false;
    }
    if (!webhook->secret || !g_path_is_absolute(webhook->secret)) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "%s: [%s] secret must be the absolute path of a file with the key of "
                             "the signatures",
                             file, group);
    }
    if (!lpm_event_kinds_check((const char *const *)webhook->events, error)) {
        g_prefix_error(error, "%s: [%s] events: ", file, group);
        return false;
    }
    return true;
}

static bool read_groups(LpmConsoleConfig *config, GKeyFile *keys, const char *file, GError **error)
{
    g_auto(GStrv) groups = g_key_file_get_groups(keys, NULL);

    for (char **group = groups; *group; group++) {
        if (strcmp(*group, GROUP) == 0) {
            if (!read_group(config, console_rows, keys, GROUP, file, error)) {
                return false;
            }
        } else if (g_str_has_prefix(*group, WEBHOOK_GROUP)) {
            if (!read_webhook(config, keys, *group, file, error)) {
                return false;
            }
        } else if (!g_str_has_prefix(*group, FENCING_GROUP)) {
            return lpm_error_set(error, LPM_ERROR_USAGE,
                                 "%s: unknown group [%s]; there are [%s], [%sSYSTEM] and [%sNAME]",
                                 file, *group, GROUP, FENCING_GROUP, WEBHOOK_GROUP);
        } else if (!read_fencing(config, keys, *group, file, error)) {
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
    if (!lpm_name_is_valid(config->name)) {
        lpm_error_set(error, LPM_ERROR_USAGE, "%s: [%s] name: \"%s\" is no legal name", file, GROUP,
                      config->name);
        return NULL;
    }
    if (!config->addresses[0]) {
        lpm_error_set(error, LPM_ERROR_USAGE, "%s: [%s] addresses is missing", file, GROUP);
        return NULL;
    }
    if (strcmp(config->takeover, "alarm") != 0 && strcmp(config->takeover, "auto") != 0) {
        lpm_error_set(error, LPM_ERROR_USAGE, "%s: [%s] takeover: \"%s\" is neither alarm nor auto",
                      file, GROUP, config->takeover);
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
