/* SPDX-License-Identifier: Apache-2.0 */
/* Groups [storage:NAME]: a pool's kind, and the keys that each kind has. */
#include "host/config-internal.h"

#include <string.h>

#define PASSWORD_MAX 4096 /* bytes that are read of a file with a secret */

static const char *const kind_names[LPM_POOL_N] = {
    [LPM_POOL_FILE] = "file",
    [LPM_POOL_ISCSI] = "iscsi",
    [LPM_POOL_NBD] = "nbd",
    [LPM_POOL_RBD] = "rbd",
};

typedef enum { POOL_TEXT, POOL_PATH, POOL_BOOL } PoolKeyType;

static const struct {
    LpmPoolKind kind;
    const char *key;
    PoolKeyType type;
    bool needed;
    size_t offset;
    const char *meaning; /* completes "... is needed" */
} keys_of_kinds[] = {
    {LPM_POOL_FILE, "path", POOL_PATH, true, offsetof(LpmPoolConfig, path), "an absolute path"},
    {LPM_POOL_FILE, "shared", POOL_BOOL, false, offsetof(LpmPoolConfig, shared), "true or false"},
    {LPM_POOL_ISCSI, "portal", POOL_TEXT, true, offsetof(LpmPoolConfig, portal),
     "ADDRESS:PORT of the target"},
    {LPM_POOL_ISCSI, "target", POOL_TEXT, true, offsetof(LpmPoolConfig, target),
     "the target's IQN"},
    {LPM_POOL_ISCSI, "initiator", POOL_TEXT, true, offsetof(LpmPoolConfig, initiator),
     "this system's IQN"},
    {LPM_POOL_ISCSI, "portals", POOL_TEXT, false, offsetof(LpmPoolConfig, portals),
     "more of its portals, with commas"},
    {LPM_POOL_ISCSI, "user", POOL_TEXT, false, offsetof(LpmPoolConfig, user), "CHAP user"},
    {LPM_POOL_ISCSI, "password_file", POOL_PATH, false, offsetof(LpmPoolConfig, password_file),
     "an absolute path"},
    {LPM_POOL_NBD, "server", POOL_TEXT, false, offsetof(LpmPoolConfig, server), "ADDRESS:PORT"},
    {LPM_POOL_NBD, "socket", POOL_PATH, false, offsetof(LpmPoolConfig, socket), "an absolute path"},
    {LPM_POOL_NBD, "tls", POOL_TEXT, false, offsetof(LpmPoolConfig, tls), "x509 or psk"},
    {LPM_POOL_NBD, "tls_dir", POOL_PATH, false, offsetof(LpmPoolConfig, tls_dir),
     "an absolute path"},
    {LPM_POOL_NBD, "tls_hostname", POOL_TEXT, false, offsetof(LpmPoolConfig, tls_hostname),
     "the name in the server's certificate"},
    {LPM_POOL_NBD, "user", POOL_TEXT, false, offsetof(LpmPoolConfig, user), "PSK user"},
    {LPM_POOL_RBD, "pool", POOL_TEXT, true, offsetof(LpmPoolConfig, rbd_pool),
     "the name of Ceph's pool"},
    {LPM_POOL_RBD, "namespace", POOL_TEXT, false, offsetof(LpmPoolConfig, rbd_namespace), "a name"},
    {LPM_POOL_RBD, "conf", POOL_PATH, false, offsetof(LpmPoolConfig, conf), "an absolute path"},
    {LPM_POOL_RBD, "id", POOL_TEXT, false, offsetof(LpmPoolConfig, user), "Ceph's user"},
    {LPM_POOL_RBD, "password_file", POOL_PATH, false, offsetof(LpmPoolConfig, password_file),
     "an absolute path"},
};

const char *lpm_pool_kind_name(LpmPoolKind kind)
{
    return kind < LPM_POOL_N ? kind_names[kind] : "?";
}

void lpm_pool_config_clear(LpmPoolConfig *pool)
{
    g_free(pool->name);
    for (size_t i = 0; i < G_N_ELEMENTS(keys_of_kinds); i++) {
        if (keys_of_kinds[i].type != POOL_BOOL && keys_of_kinds[i].kind == pool->kind) {
            g_clear_pointer((char **)((char *)pool + keys_of_kinds[i].offset), g_free);
        }
    }
}

static bool read_kind(LpmPoolConfig *pool, GKeyFile *keys, const char *group, const char *file,
                      GError **error)
{
    g_autofree char *text = g_key_file_get_string(keys, group, "kind", NULL);
    g_autofree char *why = NULL;

    for (size_t i = 0; i < LPM_POOL_N; i++) {
        if (strcmp(text ? text : "file", kind_names[i]) == 0) {
            pool->kind = (LpmPoolKind)i;
            return true;
        }
    }
    why = g_strdup_printf("\"%s\" is not one of: file iscsi nbd rbd", text);
    return lpm_config_wrong(file, group, "kind", error, why);
}

/* The row of @key for the pool's kind, -1: it has none. */
static int row_of(LpmPoolKind kind, const char *key)
{
    for (size_t i = 0; i < G_N_ELEMENTS(keys_of_kinds); i++) {
        if (keys_of_kinds[i].kind == kind && strcmp(keys_of_kinds[i].key, key) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static bool no_such_key(LpmPoolKind kind, const char *key, const char *group, const char *file,
                        GError **error)
{
    g_autoptr(GString) why = g_string_new(NULL);

    g_string_append_printf(why, "a pool of kind %s has no such key; it has: kind",
                           kind_names[kind]);
    for (size_t i = 0; i < G_N_ELEMENTS(keys_of_kinds); i++) {
        if (keys_of_kinds[i].kind == kind) {
            g_string_append_printf(why, " %s", keys_of_kinds[i].key);
        }
    }
    return lpm_config_wrong(file, group, key, error, why->str);
}

static bool needed(int row, const char *group, const char *file, GError **error)
{
    g_autofree char *why = g_strconcat(keys_of_kinds[row].meaning, " is needed", NULL);

    return lpm_config_wrong(file, group, keys_of_kinds[row].key, error, why);
}

static bool read_key(LpmPoolConfig *pool, GKeyFile *keys, const char *group, const char *key,
                     const char *file, GError **error)
{
    int row = row_of(pool->kind, key);
    g_autofree char *text = g_key_file_get_string(keys, group, key, NULL);
    g_autoptr(GError) cause = NULL;
    char *at;

    if (row < 0) {
        return no_such_key(pool->kind, key, group, file, error);
    }
    at = (char *)pool + keys_of_kinds[row].offset;
    if (keys_of_kinds[row].type == POOL_BOOL) {
        *(bool *)at = g_key_file_get_boolean(keys, group, key, &cause);
        return !cause || needed(row, group, file, error);
    }
    if (!text || !*g_strstrip(text) || (keys_of_kinds[row].type == POOL_PATH && text[0] != '/')) {
        return needed(row, group, file, error);
    }
    g_free(*(char **)at);
    *(char **)at = g_steal_pointer(&text);
    return true;
}

static bool has_port(const char *text)
{
    const char *colon = text ? strrchr(text, ':') : NULL;
    guint64 port = 0;

    return colon && colon > text &&
           g_ascii_string_to_unsigned(colon + 1, 10, 1, 65535, &port, NULL);
}

/* What one key says about another. */
static bool check_together(const LpmPoolConfig *pool, const char *group, const char *file,
                           GError **error)
{
    const char *tls = pool->tls;
    bool x509 = g_strcmp0(tls, "x509") == 0;
    const struct {
        bool bad;
        const char *key, *why;
    } rules[] = {
        {pool->kind == LPM_POOL_ISCSI && !has_port(pool->portal), "portal",
         "ADDRESS:PORT is needed"},
        {pool->kind == LPM_POOL_ISCSI && !pool->user != !pool->password_file, "user",
         "user and password_file belong together"},
        {pool->kind == LPM_POOL_NBD && !pool->server == !pool->socket, "server",
         "one of server and socket is needed, not both"},
        {pool->server && !has_port(pool->server), "server", "ADDRESS:PORT is needed"},
        {tls && !x509 && strcmp(tls, "psk") != 0, "tls", "x509 or psk is needed"},
        {tls && pool->socket, "tls", "only with server: a socket needs none"},
        {!tls != !pool->tls_dir, "tls_dir", "tls and tls_dir belong together"},
        {pool->tls_hostname && !x509, "tls_hostname", "only with tls = x509"},
        {pool->kind == LPM_POOL_NBD && pool->user && (!tls || x509), "user", "only with tls = psk"},
        {pool->kind == LPM_POOL_RBD && pool->password_file && !pool->user, "id",
         "needed beside password_file"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rules); i++) {
        if (rules[i].bad) {
            return lpm_config_wrong(file, group, rules[i].key, error, rules[i].why);
        }
    }
    return true;
}

bool lpm_pool_config_read(LpmPoolConfig *pool, GKeyFile *keys, const char *group, const char *file,
                          GError **error)
{
    g_auto(GStrv) names = g_key_file_get_keys(keys, group, NULL, NULL);

    memset(pool, 0, sizeof(*pool));
    if (!read_kind(pool, keys, group, file, error)) {
        return false;
    }
    pool->name = g_strdup(strchr(group, ':') + 1);
    pool->shared = pool->kind != LPM_POOL_FILE;
    for (char **name = names; name && *name; name++) {
        if (strcmp(*name, "kind") != 0 && !read_key(pool, keys, group, *name, file, error)) {
            return false;
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(keys_of_kinds); i++) {
        if (keys_of_kinds[i].kind == pool->kind && keys_of_kinds[i].needed &&
            !*(char **)((char *)pool + keys_of_kinds[i].offset)) {
            return needed((int)i, group, file, error);
        }
    }
    return check_together(pool, group, file, error);
}

char *lpm_pool_password(const LpmPoolConfig *pool, GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) cause = NULL;
    gsize length = 0;

    if (!g_file_get_contents(pool->password_file, &text, &length, &cause) ||
        length > PASSWORD_MAX) {
        lpm_error_set(error, LPM_ERROR_STORAGE,
                      "storage pool %s: its password_file %s cannot be used: %s; correct "
                      "password_file in [storage:%s]",
                      pool->name, pool->password_file,
                      cause ? cause->message : "it is longer than 4096 bytes", pool->name);
        return NULL;
    }
    /* What an editor puts at the end is not part of it. */
    text[strcspn(text, "\r\n")] = '\0';
    return g_steal_pointer(&text);
}
