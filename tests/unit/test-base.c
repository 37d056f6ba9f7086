/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/directory.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/service.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static void test_error_table(void)
{
    g_autoptr(GHashTable) exits = g_hash_table_new(NULL, NULL);

    for (int code = 0; code < LPM_ERROR_N; code++) {
        const LpmErrorInfo *info = lpm_error_info(code);

        g_assert_cmpint(info->code, ==, code);
        g_assert_nonnull(info->name);
        g_assert_nonnull(info->remedy);
        g_assert_cmpstr(info->anchor, ==, info->name);
        g_assert_cmpint(lpm_error_from_name(info->name), ==, code);
        g_assert_cmpint(info->exit, >=, 2);
        g_assert_cmpint(info->exit, <=, 125);
        g_assert_cmpuint(info->http, >=, 400);
        g_assert_cmpuint(info->http, <, 600);
        g_assert_true(g_hash_table_add(exits, GINT_TO_POINTER(info->exit)));
    }
    g_assert_cmpint(lpm_error_from_name("nonsense"), ==, LPM_ERROR_INTERNAL);
    g_assert_cmpint(lpm_error_from_name(NULL), ==, LPM_ERROR_INTERNAL);
    g_assert_cmpint(lpm_error_info(-1)->code, ==, LPM_ERROR_INTERNAL);
    g_assert_cmpint(lpm_error_info(LPM_ERROR_N)->code, ==, LPM_ERROR_INTERNAL);
}

/* The guide has exactly the table's rows, in the table's order, and a heading for each anchor. */
static void test_error_guide(void)
{
    g_autofree char *path =
        g_build_filename(g_getenv("G_TEST_SRCDIR"), "..", "..", "docs", "guide", "errors.md", NULL);
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    int code = 0;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        const LpmErrorInfo *info = lpm_error_info(code);
        g_autofree char *row = NULL;
        g_autofree char *heading = NULL;

        if (!g_str_has_prefix(*line, "| `")) {
            continue;
        }
        g_assert_cmpint(code, <, LPM_ERROR_N);
        row = g_strdup_printf("| `%s` | %d | %u | %s |", info->name, info->exit, info->http,
                              info->remedy);
        g_assert_cmpstr(*line, ==, row);
        heading = g_strdup_printf("## %s", info->anchor);
        g_assert_true(g_strv_contains((const char *const *)lines, heading));
        code++;
    }
    g_assert_cmpint(code, ==, LPM_ERROR_N);
}

static void test_error_set(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GError) foreign = g_error_new_literal(G_FILE_ERROR, G_FILE_ERROR_IO, "x");

    g_assert_false(lpm_error_set(&error, LPM_ERROR_BUSY, "partition %s: %d moves", "p1", 3));
    g_assert_error(error, LPM_ERROR, (int)LPM_ERROR_BUSY);
    g_assert_cmpstr(error->message, ==, "partition p1: 3 moves");
    g_assert_cmpint(lpm_error_exit_code(error), ==, 6);
    g_assert_cmpint(lpm_error_exit_code(foreign), ==, 70);
    g_assert_cmpint(lpm_error_exit_code(NULL), ==, 0);
    g_assert_false(lpm_error_set(NULL, LPM_ERROR_BUSY, "ignored"));
    g_clear_error(&error);
    g_assert_false(lpm_error_set(&error, LPM_ERROR_STORAGE, "file %s", "\xff"));
    g_assert_true(g_utf8_validate(error->message, -1, NULL));
}

static void test_clock(void)
{
    const LpmClock *clock = lpm_clock_system();
    int64_t before = lpm_clock_monotonic_us(clock);

    g_usleep(2000);
    g_assert_cmpint(lpm_clock_monotonic_us(clock) - before, >=, 2000);
    g_assert_cmpint(ABS(lpm_clock_realtime_us(clock) - g_get_real_time()), <, 1000000);
}

static void refuse_json(const char *text, size_t length, const char *part)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(lpm_json_parse(text, length, &error));
    g_assert_error(error, LPM_ERROR, (int)LPM_ERROR_USAGE);
    g_assert_nonnull(strstr(error->message, part));
}

static void test_json_parse(void)
{
    g_autofree char *deep = g_strnfill(100000, '[');
    g_autofree char *big = g_strnfill(LPM_JSON_MAX_BYTES + 1, ' ');
    g_autoptr(json_t) value = lpm_json_parse("{\"b\":1,\"a\":[9007199254740993]}", 30, NULL);
    g_autofree char *text = NULL;

    g_assert_nonnull(value);
    text = lpm_json_text(value);
    g_assert_cmpstr(text, ==, "{\"b\":1,\"a\":[9007199254740993]}");
    refuse_json("{\"a\":1,\"a\":2}", 13, "duplicate");
    refuse_json("{\"a\":1} x", 9, "line 1");
    refuse_json("{\"a\":1", 6, "not JSON");
    refuse_json("\"\xff\"", 3, "decode byte");
    refuse_json("\"a\\u0000b\"", 10, "not JSON");
    refuse_json("", 0, "not JSON");
    refuse_json(deep, 100000, "depth");
    refuse_json(big, LPM_JSON_MAX_BYTES + 1, "at most");
}

static void test_json_shown(void)
{
    g_autofree char *long_text = g_strnfill(200, 'x');
    g_autoptr(json_t) accent = json_string("caf\u00e9");
    g_autoptr(json_t) big = json_string(long_text);
    g_autofree char *small_shown = lpm_json_shown(accent);
    g_autofree char *big_shown = lpm_json_shown(big);
    g_autofree char *none_shown = lpm_json_shown(NULL);

    g_assert_cmpstr(small_shown, ==, "\"caf\\u00E9\"");
    g_assert_cmpuint(strlen(big_shown), ==, 63);
    g_assert_true(g_str_has_suffix(big_shown, "x..."));
    g_assert_cmpstr(none_shown, ==, "missing");
}

static void test_json_paths(void)
{
    g_autoptr(json_t) root =
        lpm_json_pack("{s:{s:{s:i}, s:b, s:f, s:n}, s:[{s:s}]}", "source", "memory", "free_mib",
                      512, "on", 1, "rate", 1.5, "none", "disks", "name", "disk0");

    g_assert_cmpint(lpm_json_int(root, "source.memory.free_mib", -1), ==, 512);
    g_assert_cmpint(lpm_json_int(root, "source.memory.used_mib", -1), ==, -1);
    g_assert_cmpint(lpm_json_int(root, "disks.0.name", -1), ==, -1);
    g_assert_cmpstr(lpm_json_str(root, "disks.0.name", NULL), ==, "disk0");
    g_assert_cmpstr(lpm_json_str(root, "disks.1.name", "x"), ==, "x");
    g_assert_cmpstr(lpm_json_str(root, "disks.-1.name", "x"), ==, "x");
    g_assert_cmpstr(lpm_json_str(root, "disks.name", "x"), ==, "x");
    g_assert_true(lpm_json_bool(root, "source.on", false));
    g_assert_true(lpm_json_bool(root, "source.rate", true));
    g_assert_cmpfloat(lpm_json_real(root, "source.rate", 0), ==, 1.5);
    g_assert_cmpfloat(lpm_json_real(root, "source.memory.free_mib", 0), ==, 512);
    g_assert_null(lpm_json_at(root, "source.none"));
    g_assert_null(lpm_json_at(root, "source.none.deeper"));
    g_assert_null(lpm_json_at(NULL, "source"));
    g_assert_true(lpm_json_at(root, "") == root);
}

static void test_json_need(void)
{
    g_autoptr(json_t) root = lpm_json_pack("{s:s, s:i, s:f}", "name", "p1", "n", 7, "real", 7.0);
    g_autoptr(GError) error = NULL;
    const char *name = NULL;
    int64_t n = 0;

    g_assert_true(lpm_json_need_str(root, "name", &name, NULL));
    g_assert_cmpstr(name, ==, "p1");
    g_assert_true(lpm_json_need_int(root, "n", 1, 7, &n, NULL));
    g_assert_cmpint(n, ==, 7);
    g_assert_false(lpm_json_need_str(root, "n", &name, &error));
    g_assert_cmpstr(error->message, ==, "member \"n\" is 7: give a string");
    g_clear_error(&error);
    g_assert_false(lpm_json_need_str(root, "missing", &name, &error));
    g_assert_cmpstr(error->message, ==, "member \"missing\" is missing: give a string");
    g_clear_error(&error);
    g_assert_false(lpm_json_need_int(root, "n", 1, 6, &n, &error));
    g_assert_cmpstr(error->message, ==, "member \"n\" is 7: give a whole number from 1 to 6");
    g_assert_false(lpm_json_need_int(root, "real", 1, 8, &n, NULL));
    g_assert_cmpstr(name, ==, "p1");
    g_assert_cmpint(n, ==, 7);
}

static void test_log_line(void)
{
    if (g_test_subprocess()) {
        LpmLogFields fields = {.migration = "abc", .partition = "p\n1"};

        lpm_log_init("lpm-x", FALSE);
        lpm_log_debug(NULL, "hidden");
        lpm_log_error(&fields, "disk %d", 5);
        lpm_log_info(NULL, "two\nlines");
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_passed();
    g_test_trap_assert_stderr("lpm-x: error: disk 5 [migration=abc, partition=p\\x0a1]\n"
                              "lpm-x: info: two\\x0alines\n");
}

/* A stale JOURNAL_STREAM, inherited by a program whose stderr was redirected, must not swallow the
 * lines. */
static void test_log_not_the_journal(void)
{
    if (g_test_subprocess()) {
        g_setenv("JOURNAL_STREAM", "1:2", TRUE);
        lpm_log_init("lpm-x", TRUE);
        lpm_log_debug(NULL, "shown");
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_passed();
    g_test_trap_assert_stderr("lpm-x: debug: shown\n");
}

/* The next message to the service manager whose socket is @fd. */
static char *next_notification(int fd)
{
    char text[256];
    ssize_t n = recv(fd, text, sizeof text - 1, 0);

    g_assert_cmpint(n, >, 0);
    text[n] = '\0';
    return g_strdup(text);
}

static void expect_notification(int fd, const char *wanted)
{
    g_autofree char *text = next_notification(fd);

    g_assert_cmpstr(text, ==, wanted);
}

static void test_service(void)
{
    g_autofree char *directory = g_dir_make_tmp("lpm-base-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(directory, "notify", NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof address), ==, 0);
    lpm_service_ready();
    g_setenv("NOTIFY_SOCKET", path, TRUE);
    g_setenv("WATCHDOG_USEC", "20000", TRUE);
    lpm_service_ready();
    expect_notification(fd, "READY=1");
    lpm_service_status("2 partitions");
    expect_notification(fd, "STATUS=2 partitions");
    g_main_context_iteration(NULL, TRUE);
    expect_notification(fd, "WATCHDOG=1");
    lpm_service_stopping();
    expect_notification(fd, "STOPPING=1");
    g_assert_false(g_main_context_pending(NULL));
    g_unsetenv("NOTIFY_SOCKET");
    g_unsetenv("WATCHDOG_USEC");
    close(fd);
    g_unlink(path);
    g_rmdir(directory);
}

static void expect_mode(const char *path, mode_t mode)
{
    struct stat info;

    g_assert_cmpint(stat(path, &info), ==, 0);
    g_assert_cmpint(info.st_mode & 07777, ==, mode);
}

/* A unit's umask makes a directory of QEMU's no narrower than it has to be. */
static void test_directory(void)
{
    g_autofree char *base = g_dir_make_tmp("lpm-directory-XXXXXX", NULL);
    g_autofree char *outer = g_build_filename(base, "outer", NULL);
    g_autofree char *inner = g_build_filename(outer, "inner", NULL);
    g_autofree char *file = g_build_filename(base, "file", NULL);
    g_autofree char *below = g_build_filename(file, "below", NULL);
    mode_t mask = umask(0077);

    g_assert_cmpint(lpm_directory_make(inner, 0711), ==, 0);
    expect_mode(base, 0700);
    expect_mode(outer, 0711);
    expect_mode(inner, 0711);
    g_assert_cmpint(lpm_directory_make(inner, 0755), ==, 0);
    expect_mode(inner, 0711);
    g_assert_true(g_file_set_contents(file, "", 0, NULL));
    g_assert_cmpint(lpm_directory_make(file, 0755), ==, -1);
    g_assert_cmpint(errno, ==, EEXIST);
    g_assert_cmpint(lpm_directory_make(below, 0755), ==, -1);
    umask(mask);
    g_unlink(file);
    g_rmdir(inner);
    g_rmdir(outer);
    g_rmdir(base);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/base/error/table", test_error_table);
    g_test_add_func("/base/error/guide", test_error_guide);
    g_test_add_func("/base/error/set", test_error_set);
    g_test_add_func("/base/clock", test_clock);
    g_test_add_func("/base/directory", test_directory);
    g_test_add_func("/base/json/parse", test_json_parse);
    g_test_add_func("/base/json/shown", test_json_shown);
    g_test_add_func("/base/json/paths", test_json_paths);
    g_test_add_func("/base/json/need", test_json_need);
    g_test_add_func("/base/log/line", test_log_line);
    g_test_add_func("/base/log/not-the-journal", test_log_not_the_journal);
    g_test_add_func("/base/service", test_service);
    return g_test_run();
}
