/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"

#include <glib/gstdio.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- a file layer that writes down every change, so that each of them can be the last one --- */

enum { FILE_DB, FILE_WAL, FILE_JOURNAL, FILE_N };
static const char *const suffixes[FILE_N] = {"", "-wal", "-journal"};

typedef enum { OP_WRITE, OP_TRUNCATE, OP_SYNC, OP_DELETE, OP_STARTED, OP_ACKNOWLEDGED } OpKind;

typedef struct {
    OpKind kind;
    int file;
    gsize offset; /* of a write; size of a truncate; number of a step */
    GBytes *data;
} Op;

typedef struct {
    sqlite3_file base;
    int file;
    sqlite3_file *real;
} CutFile;

static sqlite3_vfs cut_vfs;
static sqlite3_vfs *real_vfs;
static GArray *ops;
static bool disk_is_full;

static void record(OpKind kind, int file, gsize offset, GBytes *data)
{
    Op op = {kind, file, offset, data};

    g_array_append_val(ops, op);
}

static sqlite3_file *real_of(sqlite3_file *file)
{
    return ((CutFile *)file)->real;
}

static int cut_close(sqlite3_file *file)
{
    return real_of(file)->pMethods ? real_of(file)->pMethods->xClose(real_of(file)) : SQLITE_OK;
}

static int cut_read(sqlite3_file *file, void *data, int n, sqlite3_int64 offset)
{
    return real_of(file)->pMethods->xRead(real_of(file), data, n, offset);
}

static int cut_write(sqlite3_file *file, const void *data, int n, sqlite3_int64 offset)
{
    if (disk_is_full) {
        return SQLITE_FULL;
    }
    record(OP_WRITE, ((CutFile *)file)->file, (gsize)offset, g_bytes_new(data, (gsize)n));
    return real_of(file)->pMethods->xWrite(real_of(file), data, n, offset);
}

static int cut_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    record(OP_TRUNCATE, ((CutFile *)file)->file, (gsize)size, NULL);
    return real_of(file)->pMethods->xTruncate(real_of(file), size);
}

static int cut_sync(sqlite3_file *file, int flags)
{
    record(OP_SYNC, ((CutFile *)file)->file, 0, NULL);
    return real_of(file)->pMethods->xSync(real_of(file), flags);
}

static int cut_size(sqlite3_file *file, sqlite3_int64 *size)
{
    return real_of(file)->pMethods->xFileSize(real_of(file), size);
}

static int cut_lock(sqlite3_file *file, int level)
{
    return real_of(file)->pMethods->xLock(real_of(file), level);
}

static int cut_unlock(sqlite3_file *file, int level)
{
    return real_of(file)->pMethods->xUnlock(real_of(file), level);
}

static int cut_reserved(sqlite3_file *file, int *result)
{
    return real_of(file)->pMethods->xCheckReservedLock(real_of(file), result);
}

static int cut_control(sqlite3_file *file, int operation, void *argument)
{
    return real_of(file)->pMethods->xFileControl(real_of(file), operation, argument);
}

static int cut_sector(sqlite3_file *file)
{
    return real_of(file)->pMethods->xSectorSize(real_of(file));
}

static int cut_characteristics(sqlite3_file *file)
{
    return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
}

/* Version 1: no shared memory, which an exclusively locked database must do without. */
static const sqlite3_io_methods cut_methods = {
    1,        cut_close,  cut_read,     cut_write,   cut_truncate, cut_sync,           cut_size,
    cut_lock, cut_unlock, cut_reserved, cut_control, cut_sector,   cut_characteristics};

static int cut_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                    int *ret_flags)
{
    CutFile *cut = (CutFile *)file;

    (void)vfs;
    cut->base.pMethods = &cut_methods;
    cut->file = flags & SQLITE_OPEN_WAL            ? FILE_WAL
                : flags & SQLITE_OPEN_MAIN_JOURNAL ? FILE_JOURNAL
                                                   : FILE_DB;
    cut->real = (sqlite3_file *)(cut + 1);
    cut->real->pMethods = NULL;
    return real_vfs->xOpen(real_vfs, name, cut->real, flags, ret_flags);
}

static int cut_delete(sqlite3_vfs *vfs, const char *name, int sync_directory)
{
    (void)vfs;
    record(OP_DELETE, g_str_has_suffix(name, "-wal") ? FILE_WAL : FILE_JOURNAL, 0, NULL);
    return real_vfs->xDelete(real_vfs, name, sync_directory);
}

static void clear_op(gpointer op)
{
    g_clear_pointer(&((Op *)op)->data, g_bytes_unref);
}

static void recording_start(void)
{
    ops = g_array_new(FALSE, FALSE, sizeof(Op));
    g_array_set_clear_func(ops, clear_op);
    real_vfs = sqlite3_vfs_find(NULL);
    cut_vfs = *real_vfs;
    cut_vfs.zName = "cut";
    cut_vfs.szOsFile = (int)sizeof(CutFile) + real_vfs->szOsFile;
    cut_vfs.xOpen = cut_open;
    cut_vfs.xDelete = cut_delete;
    g_assert_cmpint(sqlite3_vfs_register(&cut_vfs, 1), ==, SQLITE_OK);
}

static void recording_stop(void)
{
    sqlite3_vfs_unregister(&cut_vfs);
    sqlite3_vfs_register(real_vfs, 1);
}

/* --- fixture: a directory of its own for each test --- */

typedef struct {
    char *directory;
    char *path;
} Fixture;

static void set_up(Fixture *fixture, gconstpointer data)
{
    (void)data;
    fixture->directory = g_dir_make_tmp("lpm-store-XXXXXX", NULL);
    fixture->path = g_build_filename(fixture->directory, "s.db", NULL);
}

static void tear_down(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GDir) directory = g_dir_open(fixture->directory, 0, NULL);
    const char *name;

    (void)data;
    while ((name = g_dir_read_name(directory))) {
        g_autofree char *path = g_build_filename(fixture->directory, name, NULL);

        g_remove(path);
    }
    g_rmdir(fixture->directory);
    g_free(fixture->directory);
    g_free(fixture->path);
}

static LpmStore *open_store(const char *path)
{
    g_autoptr(GError) error = NULL;
    LpmStore *store = lpm_store_open(path, &error);

    g_assert_no_error(error);
    return store;
}

static void refuse_to_open(const char *path, const char *part)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(lpm_store_open(path, &error));
    g_assert_error(error, LPM_ERROR, (int)LPM_ERROR_STORAGE);
    g_assert_nonnull(strstr(error->message, path));
    g_assert_nonnull(strstr(error->message, part));
}

static void put(LpmStore *store, const char *key, int value)
{
    g_autoptr(json_t) json = lpm_json_pack("{s:i}", "n", value);
    g_autoptr(GError) error = NULL;

    g_assert_true(lpm_store_put(store, "kind", key, json, NULL, &error));
    g_assert_no_error(error);
}

static int get(LpmStore *store, const char *key)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) json = lpm_store_get(store, "kind", key, NULL, &error);

    g_assert_no_error(error);
    return (int)lpm_json_int(json, "n", 0);
}

/* --- tests --- */

static void test_documents(Fixture *fixture, gconstpointer data)
{
    LpmStore *store = open_store(fixture->path);
    g_autoptr(json_t) value =
        lpm_json_pack("{s:s, s:I}", "t", "\"q\" caf\xc3\xa9", "n", (json_int_t)9007199254740993);
    g_autoptr(json_t) found = NULL;
    g_autoptr(json_t) list = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    int64_t revision = 0;

    (void)data;
    g_assert_true(lpm_store_put(store, "partition", "p2", value, &revision, NULL));
    g_assert_cmpint(revision, ==, 1);
    g_assert_true(lpm_store_put(store, "partition", "p2", value, &revision, NULL));
    g_assert_cmpint(revision, ==, 2);
    g_assert_true(lpm_store_put(store, "partition", "p1", json_true(), NULL, NULL));
    g_assert_true(lpm_store_put(store, "other", "p0", json_true(), NULL, NULL));
    lpm_store_close(store);

    store = open_store(fixture->path);
    found = lpm_store_get(store, "partition", "p2", &revision, NULL);
    g_assert_true(json_equal(found, value));
    g_assert_cmpint(revision, ==, 2);
    g_assert_null(lpm_store_get(store, "partition", "p9", NULL, &error));
    g_assert_no_error(error);
    list = lpm_store_list(store, "partition", NULL);
    text = lpm_json_text(list);
    g_assert_cmpstr(
        text, ==, "{\"p1\":true,\"p2\":{\"t\":\"\\\"q\\\" caf\xc3\xa9\",\"n\":9007199254740993}}");
    g_assert_true(lpm_store_delete(store, "partition", "p2", NULL));
    g_assert_true(lpm_store_delete(store, "partition", "p2", NULL));
    g_assert_null(lpm_store_get(store, "partition", "p2", NULL, NULL));
    g_assert_false(lpm_store_put(store, "partition", "", value, NULL, &error));
    g_assert_error(error, LPM_ERROR, (int)LPM_ERROR_USAGE);
    lpm_store_close(store);
    lpm_store_close(NULL);
}

static void test_cas(Fixture *fixture, gconstpointer data)
{
    g_autoptr(LpmStore) store = open_store(fixture->path);
    g_autoptr(GError) error = NULL;
    int64_t revision = 0;

    (void)data;
    g_assert_false(lpm_store_cas(store, "kind", "k", 1, json_true(), &revision, &error));
    g_assert_error(error, LPM_ERROR, (int)LPM_ERROR_CONFLICT);
    g_clear_error(&error);
    g_assert_true(lpm_store_cas(store, "kind", "k", 0, json_true(), &revision, NULL));
    g_assert_cmpint(revision, ==, 1);
    g_assert_false(lpm_store_cas(store, "kind", "k", 0, json_false(), &revision, &error));
    g_assert_error(error, LPM_ERROR, (int)LPM_ERROR_CONFLICT);
    g_assert_nonnull(strstr(error->message, "kind/k"));
    g_clear_error(&error);
    g_assert_true(lpm_store_cas(store, "kind", "k", 1, json_false(), &revision, NULL));
    g_assert_cmpint(revision, ==, 2);
    g_assert_false(lpm_store_cas(store, "kind", "k", 1, json_true(), &revision, NULL));
    g_assert_true(json_is_false(lpm_store_get(store, "kind", "k", &revision, NULL)));
    g_assert_cmpint(revision, ==, 2);
}

static void test_transactions(Fixture *fixture, gconstpointer data)
{
    LpmStore *store = open_store(fixture->path);
    g_autoptr(GError) error = NULL;

    (void)data;
    put(store, "a", 1);
    g_assert_true(lpm_store_begin(store, NULL));
    put(store, "a", 2);
    g_assert_false(lpm_store_begin(store, &error));
    g_assert_error(error, LPM_ERROR, (int)LPM_ERROR_STATE);
    g_clear_error(&error);
    lpm_store_rollback(store);
    lpm_store_rollback(store);
    g_assert_cmpint(get(store, "a"), ==, 1);
    g_assert_false(lpm_store_commit(store, &error));
    g_assert_error(error, LPM_ERROR, (int)LPM_ERROR_STATE);
    g_assert_true(lpm_store_begin(store, NULL));
    put(store, "a", 3);
    put(store, "b", 3);
    g_assert_true(lpm_store_commit(store, NULL));
    g_assert_true(lpm_store_begin(store, NULL));
    put(store, "a", 4);
    lpm_store_close(store);
    store = open_store(fixture->path);
    g_assert_cmpint(get(store, "a"), ==, 3);
    g_assert_cmpint(get(store, "b"), ==, 3);
    lpm_store_close(store);
}

static void test_mode(Fixture *fixture, gconstpointer data)
{
    mode_t before = umask(0);
    g_autoptr(LpmStore) store = open_store(fixture->path);
    g_autofree char *wal = g_strconcat(fixture->path, "-wal", NULL);
    g_autofree char *shm = g_strconcat(fixture->path, "-shm", NULL);
    struct stat st;

    (void)data;
    umask(before);
    put(store, "a", 1);
    g_assert_cmpint(stat(fixture->path, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 07777, ==, 0600);
    g_assert_cmpint(stat(wal, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 07777, ==, 0600);
    g_assert_cmpint(stat(shm, &st), ==, -1);
}

/* Runs SQL on the file behind the library's back. */
static void tamper(const char *path, const char *sql)
{
    sqlite3 *db = NULL;

    g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
    g_assert_cmpint(sqlite3_exec(db, sql, NULL, NULL, NULL), ==, SQLITE_OK);
    sqlite3_close(db);
}

static void test_wrong_files(Fixture *fixture, gconstpointer data)
{
    g_autofree char *nowhere = g_build_filename(fixture->directory, "no", "s.db", NULL);
    g_autofree char *foreign = g_build_filename(fixture->directory, "foreign.db", NULL);
    g_autofree char *text = g_build_filename(fixture->directory, "text.db", NULL);
    g_autofree char *noise = g_strnfill(8192, 'x');

    (void)data;
    lpm_store_close(open_store(fixture->path));
    tamper(fixture->path, "PRAGMA user_version = 99");
    refuse_to_open(fixture->path, "version 99 is newer than the 2");
    tamper(fixture->path, "PRAGMA user_version = 2");
    lpm_store_close(open_store(fixture->path));
    tamper(foreign, "CREATE TABLE t (x)");
    refuse_to_open(foreign, "another program");
    g_assert_true(g_file_set_contents(text, noise, 8192, NULL));
    refuse_to_open(text, "not a database");
    refuse_to_open(nowhere, "cannot create it");
    refuse_to_open(fixture->directory, "cannot open it");
}

static void test_damage(Fixture *fixture, gconstpointer data)
{
    LpmStore *store = open_store(fixture->path);
    g_autofree char *text = NULL;
    gsize length;

    (void)data;
    for (int i = 0; i < 300; i++) {
        g_autofree char *key = g_strdup_printf("key-%d", i);

        put(store, key, i);
    }
    lpm_store_close(store);
    g_assert_true(g_file_get_contents(fixture->path, &text, &length, NULL));
    g_assert_cmpuint(length, >, 3 * 4096);
    memset(text + 4096, 0xa5, 64);
    g_assert_true(g_file_set_contents(fixture->path, text, (gssize)length, NULL));
    refuse_to_open(fixture->path, "restore it from a backup");
}

static void test_second_process(void)
{
    const char *path = g_getenv("LPM_TEST_STORE");

    refuse_to_open(path, "another process has it open");
}

static void test_dying_process(void)
{
    LpmStore *store = open_store(g_getenv("LPM_TEST_STORE"));

    put(store, "a", 7);
    g_assert_true(lpm_store_begin(store, NULL));
    put(store, "a", 8);
    _exit(0);
}

static void test_two_processes(Fixture *fixture, gconstpointer data)
{
    LpmStore *store = open_store(fixture->path);

    (void)data;
    g_setenv("LPM_TEST_STORE", fixture->path, TRUE);
    put(store, "a", 1);
    g_test_trap_subprocess("/store/subprocess/second", 0, 0);
    g_test_trap_assert_passed();
    put(store, "a", 2);
    lpm_store_close(store);
    g_test_trap_subprocess("/store/subprocess/dying", 0, 0);
    store = open_store(fixture->path);
    g_assert_cmpint(get(store, "a"), ==, 7);
    lpm_store_close(store);
}

static void test_full_disk(Fixture *fixture, gconstpointer data)
{
    LpmStore *store;
    g_autoptr(GError) error = NULL;

    (void)data;
    recording_start();
    store = open_store(fixture->path);
    put(store, "a", 1);
    disk_is_full = true;
    g_assert_false(lpm_store_put(store, "kind", "a", json_true(), NULL, &error));
    g_assert_error(error, LPM_ERROR, (int)LPM_ERROR_STORAGE);
    g_assert_nonnull(strstr(error->message, fixture->path));
    g_assert_nonnull(strstr(error->message, "make room"));
    g_clear_error(&error);
    disk_is_full = false;
    g_assert_true(lpm_store_begin(store, NULL));
    put(store, "a", 2);
    disk_is_full = true;
    g_assert_false(lpm_store_commit(store, &error));
    g_assert_error(error, LPM_ERROR, (int)LPM_ERROR_STORAGE);
    disk_is_full = false;
    g_assert_cmpint(get(store, "a"), ==, 1);
    put(store, "b", 3);
    lpm_store_close(store);
    recording_stop();
    g_array_unref(ops);
    store = open_store(fixture->path);
    g_assert_cmpint(get(store, "a"), ==, 1);
    g_assert_cmpint(get(store, "b"), ==, 3);
    lpm_store_close(store);
}

/* How a cut treats what was written: all kept, the last write half done, or only what was synced
 * kept. */
typedef enum { CUT_CLEAN, CUT_TORN, CUT_UNSYNCED_LOST, CUT_N } CutKind;

static bool is_synced(guint index, guint end)
{
    const Op *op = &g_array_index(ops, Op, index);

    for (guint i = index + 1; i < end; i++) {
        const Op *later = &g_array_index(ops, Op, i);

        if (later->kind == OP_SYNC && later->file == op->file) {
            return true;
        }
    }
    return false;
}

static void apply(const Op *op, GByteArray *file, bool half)
{
    gsize length;
    const void *bytes;

    if (op->kind == OP_TRUNCATE) {
        g_byte_array_set_size(file, (guint)MIN(op->offset, file->len));
        return;
    }
    bytes = g_bytes_get_data(op->data, &length);
    length = half ? length / 2 : length;
    if (file->len < op->offset + length) {
        guint before = file->len;

        g_byte_array_set_size(file, (guint)(op->offset + length));
        memset(file->data + before, 0, file->len - before);
    }
    memcpy(file->data + op->offset, bytes, length);
}

/* Makes the files as they are when the machine stops after the first @end changes. */
static void replay(const char *path, guint end, CutKind cut, gsize *ret_started,
                   gsize *ret_acknowledged)
{
    GByteArray *files[FILE_N] = {g_byte_array_new(), NULL, NULL};

    for (guint i = 0; i < end; i++) {
        const Op *op = &g_array_index(ops, Op, i);

        if (op->kind == OP_STARTED) {
            *ret_started = op->offset;
        } else if (op->kind == OP_ACKNOWLEDGED) {
            *ret_acknowledged = op->offset;
        } else if (op->kind == OP_DELETE) {
            g_clear_pointer(&files[op->file], g_byte_array_unref);
        } else if (op->kind != OP_SYNC && (cut != CUT_UNSYNCED_LOST || is_synced(i, end))) {
            if (!files[op->file]) {
                files[op->file] = g_byte_array_new();
            }
            apply(op, files[op->file], cut == CUT_TORN && i + 1 == end);
        }
    }
    for (int i = 0; i < FILE_N; i++) {
        g_autofree char *name = g_strconcat(path, suffixes[i], NULL);

        g_remove(name);
        if (files[i]) {
            FILE *out = fopen(name, "wbe");

            g_assert_nonnull(out);
            g_assert_cmpuint(fwrite(files[i]->data, 1, files[i]->len, out), ==, files[i]->len);
            fclose(out);
            g_byte_array_unref(files[i]);
        }
    }
}

/* Two documents that change together, one of them of several pages. */
static void write_step(LpmStore *store, int step)
{
    g_autofree char *filler = g_strnfill(9000, (char)('a' + step % 26));
    g_autoptr(json_t) large = lpm_json_pack("{s:i, s:s}", "n", step, "filler", filler);

    record(OP_STARTED, 0, (gsize)step, NULL);
    g_assert_true(lpm_store_begin(store, NULL));
    put(store, "small", step);
    g_assert_true(lpm_store_put(store, "kind", "large", large, NULL, NULL));
    g_assert_true(lpm_store_commit(store, NULL));
    record(OP_ACKNOWLEDGED, 0, (gsize)step, NULL);
}

/* Stops the machine at every single write: what was acknowledged is there, and never half of a
 * transaction. */
static void test_cut_at_every_write(Fixture *fixture, gconstpointer data)
{
    g_autofree char *copy = g_build_filename(fixture->directory, "copy.db", NULL);
    int seen_new = 0;

    (void)data;
    recording_start();
    for (int round = 0; round < 2; round++) {
        LpmStore *store = open_store(fixture->path);

        for (int step = 1; step <= 4; step++) {
            write_step(store, round * 4 + step);
        }
        lpm_store_close(store);
    }
    recording_stop();
    g_assert_cmpuint(ops->len, >, 60);
    for (guint end = 0; end <= ops->len; end++) {
        for (int cut = 0; cut < CUT_N; cut++) {
            gsize started = 0, acknowledged = 0;
            LpmStore *store;
            int value;

            replay(copy, end, (CutKind)cut, &started, &acknowledged);
            store = open_store(copy);
            value = get(store, "small");
            g_assert_cmpint(value, ==, get(store, "large"));
            g_assert_cmpuint((gsize)value, >=, acknowledged);
            g_assert_cmpuint((gsize)value, <=, started);
            seen_new += (gsize)value > acknowledged;
            put(store, "small", value + 1);
            lpm_store_close(store);
        }
    }
    /* Some cuts fall between the last write of a commit and its acknowledgement. */
    g_assert_cmpint(seen_new, >, 0);
    g_array_unref(ops);
}

/* Some of a kind at a time, in order, and nothing of another kind. */
static void test_list_after(Fixture *fixture, gconstpointer data)
{
    static const struct {
        const char *after;
        int64_t limit;
        const char *text;
    } rows[] = {
        {"", 2, "{\"01\":1,\"02\":2}"}, {"02", 2, "{\"03\":3,\"10\":10}"},
        {"03", 9, "{\"10\":10}"},       {"10", 9, "{}"},
        {"025", 1, "{\"03\":3}"},       {"", 0, "{\"01\":1}"},
    };
    static const int numbers[] = {10, 2, 1, 3};
    LpmStore *store = open_store(fixture->path);

    (void)data;
    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++) {
        g_autofree char *key = g_strdup_printf("%02d", numbers[i]);
        g_autoptr(json_t) value = json_integer(numbers[i]);

        g_assert_true(lpm_store_put(store, "event", key, value, NULL, NULL));
        g_assert_true(lpm_store_put(store, "eventful", key, value, NULL, NULL));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(json_t) list =
            lpm_store_list_after(store, "event", rows[i].after, rows[i].limit, NULL);
        g_autofree char *text = lpm_json_text(list);

        g_assert_cmpstr(text, ==, rows[i].text);
    }
    lpm_store_close(store);
}

int main(int argc, char **argv)
{
#define ADD(name, function) g_test_add("/store/" name, Fixture, NULL, set_up, function, tear_down)
    g_test_init(&argc, &argv, NULL);
    ADD("documents", test_documents);
    ADD("cas", test_cas);
    ADD("transactions", test_transactions);
    ADD("mode", test_mode);
    ADD("wrong-files", test_wrong_files);
    ADD("damage", test_damage);
    ADD("two-processes", test_two_processes);
    ADD("full-disk", test_full_disk);
    ADD("cut-at-every-write", test_cut_at_every_write);
    ADD("list-after", test_list_after);
    g_test_add_func("/store/subprocess/second", test_second_process);
    g_test_add_func("/store/subprocess/dying", test_dying_process);
    return g_test_run();
}
