/* SPDX-License-Identifier: Apache-2.0 */
#include "store/database.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* "LPM1": marks the file as ours, so that another program's database is not taken for an old
 * version. */
#define APPLICATION_ID 0x4c504d31

/* Row n brings a database from user_version n to n + 1. Rows are added, never changed. */
static const char *const migrations[] = {
    "CREATE TABLE document ("
    "  kind TEXT NOT NULL,"
    "  key TEXT NOT NULL,"
    "  revision INTEGER NOT NULL,"
    "  value TEXT NOT NULL,"
    "  PRIMARY KEY (kind, key)"
    ") STRICT, WITHOUT ROWID",
    "CREATE TABLE release ("
    "  version INTEGER PRIMARY KEY,"
    "  program TEXT NOT NULL,"
    "  since INTEGER NOT NULL"
    ") STRICT",
};

#define RELEASE_SINCE 2 /* the version from which on each step is noted in its table */

static const char *remedy_for(int code)
{
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return "another process has it open: end that one first";
    case SQLITE_FULL:
        return "make room on its file system";
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return "it is damaged or not a database: restore it from a backup, or move it away to "
               "start empty";
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_READONLY:
        return "check that its directory exists and that this user may write there";
    default:
        return "check the disk and the kernel's log";
    }
}

bool database_failed(sqlite3 *db, const char *path, const char *what, GError **error)
{
    int code = sqlite3_extended_errcode(db);

    return lpm_error_set(error, LPM_ERROR_STORAGE, "database %s: %s: %s (%d); %s", path, what,
                         sqlite3_errmsg(db), code, remedy_for(code));
}

bool database_run(sqlite3 *db, const char *path, const char *what, const char *sql, GError **error)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK) {
        return database_failed(db, path, what, error);
    }
    return true;
}

/* First column of the first row of @sql as text, to be g_free()d. */
static bool ask(sqlite3 *db, const char *path, const char *what, const char *sql, char **ret_text,
                GError **error)
{
    sqlite3_stmt *statement = NULL;
    bool good = sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK &&
                sqlite3_step(statement) == SQLITE_ROW;

    if (good) {
        *ret_text = g_strdup((const char *)sqlite3_column_text(statement, 0));
    } else {
        database_failed(db, path, what, error);
    }
    sqlite3_finalize(statement);
    return good;
}

static bool ask_number(sqlite3 *db, const char *path, const char *what, const char *sql,
                       gint64 *ret_number, GError **error)
{
    g_autofree char *text = NULL;

    if (!ask(db, path, what, sql, &text, error)) {
        return false;
    }
    *ret_number = g_ascii_strtoll(text ? text : "0", NULL, 10);
    return true;
}

/*
 * Creates an empty file with mode 0600 and makes its name durable. A file that is there is left
 * alone, and not even opened: closing a second descriptor would drop the locks that SQLite holds
 * for this process.
 */
static bool create_file(const char *path, GError **error)
{
    g_autofree char *directory = g_path_get_dirname(path);
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    int saved;

    if (fd < 0 && errno == EEXIST) {
        return true;
    }
    if (fd >= 0) {
        close(fd);
        fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0 && fsync(fd) == 0) {
            close(fd);
            return true;
        }
    }
    saved = errno;
    if (fd >= 0) {
        close(fd);
    }
    return lpm_error_set(error, LPM_ERROR_STORAGE, "database %s: cannot create it: %s; %s", path,
                         g_strerror(saved), remedy_for(SQLITE_CANTOPEN));
}

/* One that was just killed lets go of its locks only when the last of its threads has ended. */
enum { OPEN_PATIENCE_MS = 2000 };

/*
 * The exclusive lock comes first: it keeps a second process out, and lets the write-ahead log live
 * without a shared memory file.
 */
static bool configure(sqlite3 *db, const char *path, GError **error)
{
    g_autofree char *mode = NULL;

    sqlite3_busy_timeout(db, OPEN_PATIENCE_MS);
    sqlite3_extended_result_codes(db, 1);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    if (!database_run(db, path, "cannot lock it",
                      "PRAGMA locking_mode = EXCLUSIVE; PRAGMA trusted_schema = OFF;"
                      "PRAGMA cell_size_check = ON",
                      error) ||
        !ask(db, path, "cannot open it", "PRAGMA journal_mode = WAL", &mode, error)) {
        return false;
    }
    if (g_strcmp0(mode, "wal") != 0) {
        return lpm_error_set(
            error, LPM_ERROR_STORAGE,
            "database %s: its file system gives no write-ahead log (mode %s); keep "
            "it on a local disk",
            path, mode);
    }
    return database_run(db, path, "cannot configure it",
                        "PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 4194304;"
                        "BEGIN IMMEDIATE; COMMIT",
                        error);
}

/* Which release brought it to its version, for an older one's message; "a newer OpenLPM". g_free().
 */
static char *brought_by(sqlite3 *db)
{
    g_autofree char *program = NULL;
    g_autoptr(GError) error = NULL;

    if (!ask(db, "", "", "SELECT program FROM release ORDER BY version DESC LIMIT 1", &program,
             &error) ||
        !program) {
        return g_strdup("a newer OpenLPM");
    }
    return g_utf8_make_valid(program, -1);
}

static bool check(sqlite3 *db, const char *path, gint64 *ret_version, GError **error)
{
    g_autofree char *verdict = NULL;
    gint64 id, objects;

    if (!ask(db, path, "cannot check it", "PRAGMA quick_check(1)", &verdict, error) ||
        !ask_number(db, path, "cannot read it", "PRAGMA application_id", &id, error) ||
        !ask_number(db, path, "cannot read it", "PRAGMA user_version", ret_version, error) ||
        !ask_number(db, path, "cannot read it", "SELECT count(*) FROM sqlite_schema", &objects,
                    error)) {
        return false;
    }
    if (g_strcmp0(verdict, "ok") != 0) {
        return lpm_error_set(error, LPM_ERROR_STORAGE, "database %s: %s; %s", path, verdict,
                             remedy_for(SQLITE_CORRUPT));
    }
    if (id != APPLICATION_ID && (objects > 0 || *ret_version != 0)) {
        return lpm_error_set(error, LPM_ERROR_STORAGE,
                             "database %s: it belongs to another program; give another path", path);
    }
    if (*ret_version > (gint64)G_N_ELEMENTS(migrations)) {
        g_autofree char *program = brought_by(db);

        return lpm_error_set(error, LPM_ERROR_STORAGE,
                             "database %s: its version %" G_GINT64_FORMAT
                             " is newer than the %zu that this program (OpenLPM " LPM_VERSION
                             ") knows; it was used by %.64s: install that again",
                             path, *ret_version, G_N_ELEMENTS(migrations), program);
    }
    return true;
}

/* One step, whole or not at all: what it does, its note and the new version. */
static bool migrate_once(sqlite3 *db, const char *path, gint64 to, GError **error)
{
    g_autofree char *what = g_strdup_printf("cannot bring it to version %" G_GINT64_FORMAT, to);
    g_autofree char *note =
        g_strdup_printf("INSERT INTO release VALUES (%" G_GINT64_FORMAT ", 'OpenLPM " LPM_VERSION
                        "', CAST(strftime('%%s', 'now') AS INTEGER));",
                        to);
    g_autofree char *sql =
        g_strdup_printf("BEGIN IMMEDIATE; %s; %s PRAGMA application_id = %d;"
                        "PRAGMA user_version = %" G_GINT64_FORMAT "; COMMIT",
                        migrations[to - 1], to >= RELEASE_SINCE ? note : "", APPLICATION_ID, to);

    return database_run(db, path, what, sql, error);
}

static bool migrate(sqlite3 *db, const char *path, gint64 version, GError **error)
{
    for (gint64 to = version + 1; to <= (gint64)G_N_ELEMENTS(migrations); to++) {
        if (!migrate_once(db, path, to, error)) {
            return false;
        }
    }
    return true;
}

sqlite3 *database_open(const char *path, GError **error)
{
    sqlite3 *db = NULL;
    gint64 version;

    if (!create_file(path, error)) {
        return NULL;
    }
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
        SQLITE_OK) {
        database_failed(db, path, "cannot open it", error);
    } else if (configure(db, path, error) && check(db, path, &version, error) &&
               migrate(db, path, version, error)) {
        return db;
    }
    sqlite3_close(db);
    return NULL;
}
