/* SPDX-License-Identifier: Apache-2.0 */
/* Databases of other releases: the one before, made here by its own SQL, and newer ones. */
#include "store/store.h"

#include <glib/gstdio.h>
#include <sqlite3.h>
#include <string.h>

/* What version 1 was, word for word, with the documents of a host in the middle of a move. */
#define VERSION_1                                                                                  \
    "PRAGMA application_id = 1280331057; PRAGMA journal_mode = WAL;"                               \
    "CREATE TABLE document (kind TEXT NOT NULL, key TEXT NOT NULL, revision INTEGER NOT NULL,"     \
    " value TEXT NOT NULL, PRIMARY KEY (kind, key)) STRICT, WITHOUT ROWID;"                        \
    "INSERT INTO document VALUES ('journal', 'm1', 7, '{\"journal\":\"post\"}'),"                  \
    " ('profile', 'u1', 1, '{\"name\":\"web\"}'); PRAGMA user_version = 1;"

typedef struct {
    char *directory, *path;
} Fixture;

static void set_up(Fixture *fixture, gconstpointer data)
{
    (void)data;
    fixture->directory = g_dir_make_tmp("lpm-upgrade-XXXXXX", NULL);
    g_assert_nonnull(fixture->directory);
    fixture->path = g_build_filename(fixture->directory, "s.db", NULL);
}

static void tear_down(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GDir) dir = g_dir_open(fixture->directory, 0, NULL);
    const char *name;

    (void)data;
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(fixture->directory, name, NULL);

        g_assert_cmpint(g_remove(path), ==, 0);
    }
    g_assert_cmpint(g_rmdir(fixture->directory), ==, 0);
    g_free(fixture->directory);
    g_free(fixture->path);
}

static void run_sql(const char *path, const char *sql)
{
    g_autofree char *message = NULL;
    sqlite3 *db = NULL;
    char *why = NULL;

    g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
    sqlite3_exec(db, sql, NULL, NULL, &why);
    message = g_strdup(why);
    sqlite3_free(why);
    sqlite3_close(db);
    g_assert_cmpstr(message, ==, NULL);
}

/* First column of the first row as text; g_free(). */
static char *ask(const char *path, const char *sql)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    char *text;

    g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
    g_assert_cmpint(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), ==, SQLITE_OK);
    g_assert_cmpint(sqlite3_step(statement), ==, SQLITE_ROW);
    text = g_strdup((const char *)sqlite3_column_text(statement, 0));
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return text;
}

#define ASSERT_ASK(path, sql, expected)                                                            \
    do {                                                                                           \
        g_autofree char *answer = ask(path, sql);                                                  \
        g_assert_cmpstr(answer, ==, expected);                                                     \
    } while (0)

static void open_and_check(const char *path)
{
    g_autoptr(GError) error = NULL;
    LpmStore *store = lpm_store_open(path, &error);
    int64_t revision = 0;
    g_autoptr(json_t) journal = NULL;
    g_autoptr(json_t) profile = NULL;

    g_assert_no_error(error);
    journal = lpm_store_get(store, "journal", "m1", &revision, &error);
    g_assert_no_error(error);
    g_assert_cmpint(revision, ==, 7);
    g_assert_cmpstr(lpm_json_str(journal, "journal", ""), ==, "post");
    profile = lpm_store_get(store, "profile", "u1", NULL, &error);
    g_assert_cmpstr(lpm_json_str(profile, "name", ""), ==, "web");
    lpm_store_close(store);
}

static void refuse(const char *path, const char *part)
{
    g_autoptr(GError) error = NULL;
    LpmStore *store = lpm_store_open(path, &error);

    g_assert_null(store);
    g_assert_error(error, LPM_ERROR, LPM_ERROR_STORAGE);
    if (!strstr(error->message, part)) {
        g_test_message("%s", error->message);
    }
    g_assert_nonnull(strstr(error->message, part));
    g_assert_nonnull(strstr(error->message, path));
}

static void test_from_the_version_before(Fixture *fixture, gconstpointer data)
{
    (void)data;
    run_sql(fixture->path, VERSION_1);
    open_and_check(fixture->path);
    ASSERT_ASK(fixture->path, "PRAGMA user_version", "2");
    ASSERT_ASK(fixture->path, "SELECT program FROM release WHERE version = 2",
               "OpenLPM " LPM_VERSION);
    ASSERT_ASK(fixture->path, "SELECT since > 1700000000 FROM release", "1");
    open_and_check(fixture->path); /* and it is not done again */
    ASSERT_ASK(fixture->path, "SELECT count(*) FROM release", "1");
}

/* A step that fails in its middle leaves nothing of itself. */
static void test_whole_or_not_at_all(Fixture *fixture, gconstpointer data)
{
    (void)data;
    run_sql(fixture->path, VERSION_1 "CREATE TABLE release (version INTEGER PRIMARY KEY,"
                                     " program TEXT CHECK (program = ''), since INTEGER)");
    refuse(fixture->path, "cannot bring it to version 2");
    ASSERT_ASK(fixture->path, "PRAGMA user_version", "1");
    run_sql(fixture->path, "DROP TABLE release");
    open_and_check(fixture->path);
    ASSERT_ASK(fixture->path, "PRAGMA user_version", "2");
}

static void test_newer(Fixture *fixture, gconstpointer data)
{
    (void)data;
    run_sql(fixture->path, VERSION_1);
    open_and_check(fixture->path);
    run_sql(fixture->path, "PRAGMA user_version = 3; CREATE TABLE more (x);"
                           "INSERT INTO release VALUES (3, 'OpenLPM 0.3.7', 1)");
    refuse(fixture->path,
           "its version 3 is newer than the 2 that this program (OpenLPM " LPM_VERSION
           ") knows; it was used by OpenLPM 0.3.7: install that again");
    ASSERT_ASK(fixture->path, "SELECT count(*) FROM document", "2");
    run_sql(fixture->path, "DROP TABLE release");
    refuse(fixture->path, "it was used by a newer OpenLPM");
}

static void test_new(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    (void)data;
    lpm_store_close(lpm_store_open(fixture->path, &error));
    g_assert_no_error(error);
    ASSERT_ASK(fixture->path, "PRAGMA user_version", "2");
    ASSERT_ASK(fixture->path, "SELECT count(*) FROM document", "0");
}

#define ADD(name, function)                                                                        \
    g_test_add("/store-upgrade/" name, Fixture, NULL, set_up, function, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("from-the-version-before", test_from_the_version_before);
    ADD("whole-or-not-at-all", test_whole_or_not_at_all);
    ADD("newer", test_newer);
    ADD("new", test_new);
    return g_test_run();
}
