/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"

#include "store/database.h"

#include <string.h>

typedef enum {
    SQL_PUT,
    SQL_INSERT,
    SQL_UPDATE,
    SQL_GET,
    SQL_DELETE,
    SQL_LIST,
    SQL_AFTER,
    SQL_N
} SqlId;

/* ?1 kind, ?2 key, ?3 value, ?4 expected revision, or most rows. */
static const char *const sql_texts[SQL_N] = {
    [SQL_PUT] = "INSERT INTO document (kind, key, revision, value) VALUES (?1, ?2, 1, ?3)"
                " ON CONFLICT (kind, key) DO UPDATE"
                " SET revision = revision + 1, value = excluded.value RETURNING revision",
    [SQL_INSERT] = "INSERT INTO document (kind, key, revision, value) VALUES (?1, ?2, 1, ?3)"
                   " ON CONFLICT (kind, key) DO NOTHING RETURNING revision",
    [SQL_UPDATE] = "UPDATE document SET revision = revision + 1, value = ?3"
                   " WHERE kind = ?1 AND key = ?2 AND revision = ?4 RETURNING revision",
    [SQL_GET] = "SELECT revision, value FROM document WHERE kind = ?1 AND key = ?2",
    [SQL_DELETE] = "DELETE FROM document WHERE kind = ?1 AND key = ?2",
    [SQL_LIST] = "SELECT key, value FROM document WHERE kind = ?1 ORDER BY key",
    [SQL_AFTER] = "SELECT key, value FROM document WHERE kind = ?1 AND key > ?2 ORDER BY key"
                  " LIMIT ?4",
};

struct LpmStore {
    sqlite3 *db;
    char *path;
    sqlite3_stmt *statements[SQL_N];
    bool in_transaction; /* as the caller sees it: SQLite may have rolled back by itself after an
                            error */
};

LpmStore *lpm_store_open(const char *path, GError **error)
{
    g_autoptr(LpmStore) store = g_new0(LpmStore, 1);

    store->path = g_strdup(path);
    store->db = database_open(path, error);
    if (!store->db) {
        return NULL;
    }
    for (int i = 0; i < SQL_N; i++) {
        if (sqlite3_prepare_v3(store->db, sql_texts[i], -1, SQLITE_PREPARE_PERSISTENT,
                               &store->statements[i], NULL) != SQLITE_OK) {
            database_failed(store->db, path, "cannot use its tables", error);
            return NULL;
        }
    }
    return g_steal_pointer(&store);
}

void lpm_store_close(LpmStore *store)
{
    if (!store) {
        return;
    }
    for (int i = 0; i < SQL_N; i++) {
        sqlite3_finalize(store->statements[i]);
    }
    sqlite3_close(store->db);
    g_free(store->path);
    g_free(store);
}

/* A change after SQLite gave up the caller's transaction would become durable without its
 * companions. */
static bool transaction_lives(const LpmStore *store, GError **error)
{
    if (store->in_transaction && sqlite3_get_autocommit(store->db)) {
        return lpm_error_set(error, LPM_ERROR_STORAGE,
                             "database %s: the transaction was undone after an earlier error; roll "
                             "it back and start again",
                             store->path);
    }
    return true;
}

static bool check_name(const LpmStore *store, const char *what, const char *name, GError **error)
{
    if (!*name || !g_utf8_validate(name, -1, NULL)) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "database %s: %s \"%s\" of a document: give non-empty UTF-8",
                             store->path, what, name);
    }
    return true;
}

/* The statement with @id, bound to @kind and, where it has them, the rest. Texts stay the caller's.
 */
static sqlite3_stmt *bind(LpmStore *store, SqlId id, const char *kind, const char *key,
                          const char *value, int64_t expected)
{
    sqlite3_stmt *statement = store->statements[id];

    sqlite3_bind_text(statement, 1, kind, -1, SQLITE_STATIC);
    if (key) {
        sqlite3_bind_text(statement, 2, key, -1, SQLITE_STATIC);
    }
    if (value) {
        sqlite3_bind_text(statement, 3, value, -1, SQLITE_STATIC);
    }
    if (expected) {
        sqlite3_bind_int64(statement, 4, expected);
    }
    return statement;
}

static void release(sqlite3_stmt *statement)
{
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
}

static bool failed_on(LpmStore *store, const char *verb, const char *kind, const char *key,
                      GError **error)
{
    g_autofree char *what =
        g_strdup_printf("cannot %s %s%s%s", verb, kind, key ? "/" : "", key ? key : "");

    return database_failed(store->db, store->path, what, error);
}

/* Runs a change; *ret_revision is 0 when no row was changed. Durable when it returns, outside a
 * transaction. */
static bool change(LpmStore *store, SqlId id, const char *kind, const char *key,
                   const json_t *value, int64_t expected, int64_t *ret_revision, GError **error)
{
    g_autofree char *text = lpm_json_text(value);
    sqlite3_stmt *statement;
    int64_t revision = 0;
    int result;

    if (!transaction_lives(store, error) || !check_name(store, "kind", kind, error) ||
        !check_name(store, "key", key, error)) {
        return false;
    }
    if (strlen(text) > LPM_JSON_MAX_BYTES) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "database %s: document %s/%s has %zu bytes: at most %zu are allowed",
                             store->path, kind, key, strlen(text), LPM_JSON_MAX_BYTES);
    }
    statement = bind(store, id, kind, key, text, expected);
    while ((result = sqlite3_step(statement)) == SQLITE_ROW) {
        revision = sqlite3_column_int64(statement, 0);
    }
    if (result != SQLITE_DONE) {
        failed_on(store, "write", kind, key, error);
        release(statement);
        return false;
    }
    release(statement);
    *ret_revision = revision;
    return true;
}

bool lpm_store_put(LpmStore *store, const char *kind, const char *key, const json_t *value,
                   int64_t *ret_revision, GError **error)
{
    int64_t revision = 0;

    if (!change(store, SQL_PUT, kind, key, value, 0, &revision, error)) {
        return false;
    }
    if (ret_revision) {
        *ret_revision = revision;
    }
    return true;
}

bool lpm_store_cas(LpmStore *store, const char *kind, const char *key, int64_t expected,
                   const json_t *value, int64_t *ret_revision, GError **error)
{
    int64_t revision = 0;

    if (!change(store, expected ? SQL_UPDATE : SQL_INSERT, kind, key, value, expected, &revision,
                error)) {
        return false;
    }
    if (revision == 0) {
        return lpm_error_set(error, LPM_ERROR_CONFLICT,
                             expected ? "document %s/%s is no longer at revision %" G_GINT64_FORMAT
                                        ": read it again"
                                      : "document %s/%s exists already, expected revision was "
                                        "%" G_GINT64_FORMAT ": read it again",
                             kind, key, expected);
    }
    if (ret_revision) {
        *ret_revision = revision;
    }
    return true;
}

/* The JSON in column @column, which this library wrote. */
static json_t *column_json(LpmStore *store, sqlite3_stmt *statement, int column, const char *kind,
                           const char *key, GError **error)
{
    const char *text = (const char *)sqlite3_column_text(statement, column);
    g_autoptr(GError) cause = NULL;
    json_t *value =
        lpm_json_parse(text ? text : "", (size_t)sqlite3_column_bytes(statement, column), &cause);

    if (!value) {
        lpm_error_set(error, LPM_ERROR_STORAGE,
                      "database %s: document %s/%s is damaged: %s; restore the file from a backup",
                      store->path, kind, key, cause->message);
    }
    return value;
}

json_t *lpm_store_get(LpmStore *store, const char *kind, const char *key, int64_t *ret_revision,
                      GError **error)
{
    sqlite3_stmt *statement;
    json_t *value = NULL;
    int result;

    if (!transaction_lives(store, error)) {
        return NULL;
    }
    statement = bind(store, SQL_GET, kind, key, NULL, 0);
    result = sqlite3_step(statement);
    if (result == SQLITE_ROW) {
        value = column_json(store, statement, 1, kind, key, error);
        if (value && ret_revision) {
            *ret_revision = sqlite3_column_int64(statement, 0);
        }
    } else if (result != SQLITE_DONE) {
        failed_on(store, "read", kind, key, error);
    }
    release(statement);
    return value;
}

bool lpm_store_delete(LpmStore *store, const char *kind, const char *key, GError **error)
{
    sqlite3_stmt *statement;
    bool done;

    if (!transaction_lives(store, error)) {
        return false;
    }
    statement = bind(store, SQL_DELETE, kind, key, NULL, 0);
    done = sqlite3_step(statement) == SQLITE_DONE;
    if (!done) {
        failed_on(store, "delete", kind, key, error);
    }
    release(statement);
    return done;
}

/* Rows of a bound @statement, which is released. */
static json_t *read_rows(LpmStore *store, sqlite3_stmt *statement, const char *kind, GError **error)
{
    g_autoptr(json_t) list = json_object();
    bool good = true;
    int result;

    while (good && (result = sqlite3_step(statement)) == SQLITE_ROW) {
        const char *key = (const char *)sqlite3_column_text(statement, 0);
        json_t *value = column_json(store, statement, 1, kind, key, error);

        good = value && json_object_set_new(list, key, value) == 0;
    }
    if (good && result != SQLITE_DONE) {
        good = failed_on(store, "list", kind, NULL, error);
    }
    release(statement);
    return good ? g_steal_pointer(&list) : NULL;
}

json_t *lpm_store_list(LpmStore *store, const char *kind, GError **error)
{
    if (!transaction_lives(store, error)) {
        return NULL;
    }
    return read_rows(store, bind(store, SQL_LIST, kind, NULL, NULL, 0), kind, error);
}

json_t *lpm_store_list_after(LpmStore *store, const char *kind, const char *after, int64_t limit,
                             GError **error)
{
    if (!transaction_lives(store, error)) {
        return NULL;
    }
    return read_rows(store, bind(store, SQL_AFTER, kind, after, NULL, MAX(limit, 1)), kind, error);
}

bool lpm_store_begin(LpmStore *store, GError **error)
{
    if (store->in_transaction) {
        return lpm_error_set(error, LPM_ERROR_STATE,
                             "database %s: a transaction is open already; commit or roll it back",
                             store->path);
    }
    if (!database_run(store->db, store->path, "cannot begin a transaction", "BEGIN IMMEDIATE",
                      error)) {
        return false;
    }
    store->in_transaction = true;
    return true;
}

bool lpm_store_commit(LpmStore *store, GError **error)
{
    if (!store->in_transaction) {
        return lpm_error_set(error, LPM_ERROR_STATE,
                             "database %s: no transaction is open; begin one first", store->path);
    }
    if (!transaction_lives(store, error) ||
        !database_run(store->db, store->path, "cannot commit a transaction", "COMMIT", error)) {
        lpm_store_rollback(store);
        return false;
    }
    store->in_transaction = false;
    return true;
}

void lpm_store_rollback(LpmStore *store)
{
    /* Fails only where SQLite has rolled back before. */
    if (store->in_transaction && !sqlite3_get_autocommit(store->db)) {
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    }
    store->in_transaction = false;
}
