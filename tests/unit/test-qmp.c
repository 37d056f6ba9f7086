/* SPDX-License-Identifier: Apache-2.0 */
#include "qmp/qmp.h"

#include "qmp-seen.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- names --- */

static void test_names(void)
{
    for (unsigned i = 1; i < LPM_QMP_RUN_N; i++) {
        g_assert_cmpint(lpm_qmp_run_from_name(lpm_qmp_run_name((LpmQmpRunState)i)), ==, i);
    }
    for (unsigned i = 1; i < LPM_QMP_MIG_N; i++) {
        g_assert_cmpint(lpm_qmp_mig_from_name(lpm_qmp_mig_name((LpmQmpMigStatus)i)), ==, i);
    }
    g_assert_cmpint(lpm_qmp_run_from_name("new-state"), ==, LPM_QMP_RUN_UNKNOWN);
    g_assert_cmpint(lpm_qmp_run_from_name(NULL), ==, LPM_QMP_RUN_UNKNOWN);
    g_assert_cmpint(lpm_qmp_mig_from_name("new-status"), ==, LPM_QMP_MIG_UNKNOWN);
    g_assert_cmpint(lpm_qmp_mig_from_name(NULL), ==, LPM_QMP_MIG_NONE);
    g_assert_true(lpm_qmp_mig_is_final(LPM_QMP_MIG_FAILED));
    g_assert_false(lpm_qmp_mig_is_final(LPM_QMP_MIG_DEVICE));
}

/* --- connecting --- */

static void assert_connect_fails(const char *path, unsigned timeout_ms, int code)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(lpm_qmp_connect_sync(path, timeout_ms, NULL, &error));
    g_assert_error(error, LPM_ERROR, code);
    g_assert_nonnull(strstr(error->message, path));
}

static void test_connect_failures(void)
{
    Fake *fake;

    assert_connect_fails("/nonexistent/qmp", 50, LPM_ERROR_UNREACHABLE);

    fake = fake_start(STEPS("eof"));
    assert_connect_fails(fake->path, 100, LPM_ERROR_TIMEOUT);
    fake_end(fake);

    fake = fake_start(STEPS("send:{\"QMP\":{\"version\":{},\"capabilities\":[]}}", "eof"));
    assert_connect_fails(fake->path, WAIT_MS, LPM_ERROR_UNSUPPORTED);
    fake_end(fake);

    fake = fake_start(STEPS("send:{\"QMP\":{\"capabilities\":[\"oob\"]}}",
                            "expect:qmp_capabilities", "fail:GenericError:no such thing", "eof"));
    assert_connect_fails(fake->path, WAIT_MS, LPM_ERROR_QEMU);
    fake_end(fake);

    fake = fake_start(STEPS("send:garbage", "eof"));
    assert_connect_fails(fake->path, WAIT_MS, LPM_ERROR_PROTOCOL);
    fake_end(fake);

    fake = fake_start(STEPS("fill:1500000", "eof"));
    assert_connect_fails(fake->path, WAIT_MS, LPM_ERROR_PROTOCOL);
    fake_end(fake);

    fake = fake_start(STEPS("sleep:0"));
    assert_connect_fails(fake->path, WAIT_MS, LPM_ERROR_UNREACHABLE);
    fake_end(fake);
}

static void test_version_and_events(void)
{
    Fake *fake =
        fake_start(STEPS("greet", "event:STOP:{}", "event:MIGRATION:{\"status\":\"device\"}",
                         "send:{\"event\":\"ODD\",\"data\":7,\"timestamp\":{\"seconds\":-1}}"));
    Seen *seen = seen_new();
    LpmQmp *qmp = connect_to(fake->path, seen);

    g_assert_cmpuint(lpm_qmp_version(qmp)->major, ==, 10);
    g_assert_cmpuint(lpm_qmp_version(qmp)->micro, ==, 2);
    g_assert_cmpstr(lpm_qmp_version(qmp)->package, ==, "fake");
    WAIT_FOR(seen->closed == 1);
    g_assert_cmpint(seen->first_event_time, ==, 1500000);
    g_assert_cmpstr(seen->events->str, ==, "STOP MIGRATION:device ODD ");
    g_assert_cmpint(lpm_qmp_last_migration(qmp), ==, LPM_QMP_MIG_DEVICE);
    g_assert_cmpint(ABS(seen->event_time - g_get_real_time()), <, 60 * G_USEC_PER_SEC);
    g_assert_false(lpm_qmp_is_open(qmp));
    lpm_qmp_stop(qmp, on_done, seen);
    g_assert_cmpuint(seen->replies, ==, 0);
    wait_reply(seen, LPM_ERROR_UNREACHABLE);
    lpm_qmp_free(qmp);
    fake_end(fake);
    seen_free(seen);
}

/* --- the queue --- */

/* The second command is not even sent before the first is answered. */
static void test_one_at_a_time(void)
{
    Fake *fake = fake_start(STEPS("greet", "expect:stop", "sleep:50", "answer:{}",
                                  "expect:query-block", "answer:[]", "eof"));
    Seen *seen = seen_new();
    LpmQmp *qmp = connect_to(fake->path, seen);

    lpm_qmp_stop(qmp, on_done, seen);
    lpm_qmp_query_block(qmp, on_result, seen);
    wait_reply(seen, -1);
    wait_reply(seen, -1);
    g_assert_true(json_is_array(seen->result));
    lpm_qmp_free(qmp);
    fake_end(fake);
    seen_free(seen);
}

static void test_errors_are_translated(void)
{
    Fake *fake =
        fake_start(STEPS("greet", "expect:stop", "fail:GenericError:not now", "expect:x-y",
                         "fail:CommandNotFound:what?", "expect:query-chardev", "answer:7", "eof"));
    Seen *seen = seen_new();
    LpmQmp *qmp = connect_to(fake->path, seen);

    lpm_qmp_stop(qmp, on_done, seen);
    wait_reply(seen, LPM_ERROR_QEMU);
    g_assert_cmpstr(seen->message, ==, "QEMU refused stop: not now");
    lpm_qmp_call(qmp, "x-y", NULL, on_result, seen);
    wait_reply(seen, LPM_ERROR_UNSUPPORTED);
    lpm_qmp_query_chardev(qmp, on_result, seen);
    wait_reply(seen, LPM_ERROR_PROTOCOL);
    lpm_qmp_free(qmp);
    fake_end(fake);
    seen_free(seen);
}

/* After a time-out nothing but yank is sent, what waited was not sent, and a new connection is
 * needed. */
static void test_doubtful(void)
{
    Fake *fake = fake_start(STEPS(
        "greet", "expect:query-status", "expect:exec-oob:yank", "answer:{}", "eof", "accept",
        "greet", "expect:query-status", "answer:{\"status\":\"running\",\"running\":true}",
        "expect:query-migrate", "answer:{\"status\":\"failed\",\"error-desc\":\"yanked\"}", "eof"));
    Seen *seen = seen_new();
    LpmQmp *qmp = connect_to(fake->path, seen);

    lpm_qmp_set_timeout(qmp, 50);
    lpm_qmp_query_state(qmp, on_state, seen);
    lpm_qmp_stop(qmp, on_done, seen);
    wait_reply(seen, LPM_ERROR_TIMEOUT);
    g_assert_true(lpm_qmp_is_doubtful(qmp));
    wait_reply(seen, LPM_ERROR_STATE);
    lpm_qmp_cont(qmp, LPM_QMP_RUN_UNKNOWN, on_done, seen);
    wait_reply(seen, LPM_ERROR_STATE);
    lpm_qmp_yank(qmp, on_done, seen);
    wait_reply(seen, -1);
    lpm_qmp_set_timeout(qmp, WAIT_MS);
    lpm_qmp_reconnect(qmp, WAIT_MS, on_done, seen);
    wait_reply(seen, -1);
    g_assert_false(lpm_qmp_is_doubtful(qmp));
    lpm_qmp_query_state(qmp, on_state, seen);
    wait_reply(seen, -1);
    g_assert_cmpint(seen->status.state, ==, LPM_QMP_RUN_RUNNING);
    g_assert_cmpint(seen->migration.status, ==, LPM_QMP_MIG_FAILED);
    g_assert_cmpuint(seen->closed, ==, 0);
    lpm_qmp_free(qmp);
    fake_end(fake);
    seen_free(seen);
}

static void test_reconnect_fails(void)
{
    Fake *fake = fake_start(STEPS("greet", "expect:stop", "eof"));
    Seen *seen = seen_new();
    LpmQmp *qmp = connect_to(fake->path, seen);

    lpm_qmp_stop(qmp, on_done, seen);
    lpm_qmp_reconnect(qmp, 100, on_done, seen);
    g_assert_cmpint(seen->code, ==, LPM_ERROR_ABORTED);
    lpm_qmp_reconnect(qmp, 100, on_done, seen);
    wait_reply(seen, LPM_ERROR_BUSY);
    WAIT_FOR(seen->replies == 3);
    g_assert_cmpint(seen->code, !=, -1);
    g_assert_true(lpm_qmp_is_doubtful(qmp));
    g_assert_false(lpm_qmp_is_open(qmp));
    g_assert_cmpuint(seen->closed, ==, 0);
    lpm_qmp_free(qmp);
    fake_end(fake);
    seen_free(seen);
}

/* Calls that are outstanding, waiting and refused all end when the connection is freed. */
static void test_free(void)
{
    /* yank is sent at once, beside the unanswered command. */
    Fake *fake = fake_start(STEPS("greet", "expect:stop", "expect:exec-oob:yank", "eof"));
    Seen *seen = seen_new();
    LpmQmp *qmp = connect_to(fake->path, seen);

    lpm_qmp_stop(qmp, on_done, seen);
    lpm_qmp_query_pci(qmp, on_result, seen);
    lpm_qmp_cont(qmp, LPM_QMP_RUN_UNKNOWN, on_done, seen);
    lpm_qmp_call(qmp, "cont", NULL, on_result, seen);
    lpm_qmp_yank(qmp, on_done, seen);
    lpm_qmp_free(qmp);
    g_assert_cmpuint(seen->replies, ==, 5);
    g_assert_cmpint(seen->code, ==, LPM_ERROR_ABORTED);
    while (g_main_context_iteration(NULL, FALSE)) {
    }
    g_assert_cmpuint(seen->replies, ==, 5);
    g_assert_cmpuint(seen->closed, ==, 0);
    fake_end(fake);
    seen_free(seen);
}

/* --- guards --- */

typedef struct {
    const char *run, *mig; /* what QEMU says */
    LpmQmpRunState expected;
    bool sent;
} ContCase;

static void check_cont(const ContCase *row)
{
    g_autofree char *run = g_strdup_printf("answer:{\"status\":\"%s\"}", row->run);
    g_autofree char *mig =
        row->mig ? g_strdup_printf("answer:{\"status\":\"%s\"}", row->mig) : g_strdup("answer:{}");
    Fake *fake = row->sent
                     ? fake_start(STEPS("greet", "expect:query-status", run, "expect:query-migrate",
                                        mig, "expect:cont", "answer:{}", "eof"))
                     : fake_start(STEPS("greet", "expect:query-status", run, "expect:query-migrate",
                                        mig, "eof"));
    Seen *seen = seen_new();
    LpmQmp *qmp = connect_to(fake->path, seen);

    lpm_qmp_cont(qmp, row->expected, on_done, seen);
    wait_reply(seen, row->sent ? -1 : LPM_ERROR_STATE);
    lpm_qmp_free(qmp);
    fake_end(fake);
    seen_free(seen);
}

static void test_cont_guard(void)
{
    static const ContCase rows[] = {
        {"paused", "completed", LPM_QMP_RUN_PAUSED, true},
        {"prelaunch", NULL, LPM_QMP_RUN_UNKNOWN, true},
        {"postmigrate", "completed", LPM_QMP_RUN_POSTMIGRATE, true},
        {"postmigrate", "completed", LPM_QMP_RUN_PAUSED, false},
        {"paused", "completed", LPM_QMP_RUN_POSTMIGRATE, false},
        {"paused", "device", LPM_QMP_RUN_UNKNOWN, false},
        {"paused", "pre-switchover", LPM_QMP_RUN_PAUSED, false},
        {"paused", "new-status", LPM_QMP_RUN_PAUSED, false},
        {"finish-migrate", "active", LPM_QMP_RUN_UNKNOWN, false},
        {"inmigrate", NULL, LPM_QMP_RUN_UNKNOWN, false},
        {"inmigrate", NULL, LPM_QMP_RUN_INMIGRATE, false},
        {"new-state", NULL, LPM_QMP_RUN_UNKNOWN, false},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        check_cont(&rows[i]);
    }
}

/* Once an event has said "device", not even a question is asked. */
static void test_device_guard(void)
{
    Fake *fake = fake_start(STEPS("greet", "event:MIGRATION:{\"status\":\"device\"}", "eof"));
    Seen *seen = seen_new();
    LpmQmp *qmp = connect_to(fake->path, seen);

    WAIT_FOR(seen->events->len > 0);
    lpm_qmp_cont(qmp, LPM_QMP_RUN_UNKNOWN, on_done, seen);
    wait_reply(seen, LPM_ERROR_STATE);
    lpm_qmp_migrate_cancel(qmp, on_done, seen);
    wait_reply(seen, LPM_ERROR_STATE);
    lpm_qmp_call(qmp, "cont", NULL, on_result, seen);
    wait_reply(seen, LPM_ERROR_USAGE);
    lpm_qmp_call(qmp, "migrate_cancel", json_object(), on_result, seen);
    wait_reply(seen, LPM_ERROR_USAGE);
    lpm_qmp_free(qmp);
    fake_end(fake);
    seen_free(seen);
}

/* What a guard sends follows its questions directly, whatever waits. */
static void test_guard_goes_first(void)
{
    Fake *fake = fake_start(STEPS("greet", "expect:query-status", "answer:{\"status\":\"paused\"}",
                                  "expect:query-migrate", "answer:{}", "expect:cont", "answer:{}",
                                  "expect:stop", "answer:{}", "eof"));
    Seen *seen = seen_new();
    LpmQmp *qmp = connect_to(fake->path, seen);

    lpm_qmp_cont(qmp, LPM_QMP_RUN_PAUSED, on_done, seen);
    lpm_qmp_stop(qmp, on_done, seen);
    WAIT_FOR(seen->replies == 2);
    g_assert_cmpint(seen->code, ==, -1);
    lpm_qmp_free(qmp);
    fake_end(fake);
    seen_free(seen);
}

static void test_cancel_guard(void)
{
    Fake *fake = fake_start(STEPS("greet", "expect:query-status", "answer:{\"status\":\"running\"}",
                                  "expect:query-migrate", "answer:{\"status\":\"active\"}",
                                  "expect:migrate_cancel", "answer:{}", "expect:query-status",
                                  "answer:{\"status\":\"postmigrate\"}", "expect:query-migrate",
                                  "answer:{\"status\":\"completed\"}", "eof"));
    Seen *seen = seen_new();
    LpmQmp *qmp = connect_to(fake->path, seen);

    lpm_qmp_migrate_cancel(qmp, on_done, seen);
    wait_reply(seen, -1);
    lpm_qmp_migrate_cancel(qmp, on_done, seen);
    wait_reply(seen, LPM_ERROR_STATE);
    lpm_qmp_free(qmp);
    fake_end(fake);
    seen_free(seen);
}

/* --- typed answers --- */

static void test_migration_answer(void)
{
    Fake *fake = fake_start(
        STEPS("greet", "expect:query-status", "answer:{\"status\":\"running\",\"running\":true}",
              "expect:query-migrate",
              "answer:{\"status\":\"active\",\"total-time\":12,\"setup-time\":1,\"expected-"
              "downtime\":300,"
              "\"ram\":{\"transferred\":5000000000,\"remaining\":7,\"total\":9,\"duplicate\":3,"
              "\"normal\":4,"
              "\"page-size\":4096,\"dirty-pages-rate\":11,\"dirty-sync-count\":2,\"mbps\":12.5}}",
              "eof"));
    Seen *seen = seen_new();
    LpmQmp *qmp = connect_to(fake->path, seen);

    lpm_qmp_query_state(qmp, on_state, seen);
    wait_reply(seen, -1);
    g_assert_true(seen->status.running);
    g_assert_cmpuint(seen->migration.transferred, ==, 5000000000);
    g_assert_cmpuint(seen->migration.remaining, ==, 7);
    g_assert_cmpuint(seen->migration.zero_pages, ==, 3);
    g_assert_cmpuint(seen->migration.page_size, ==, 4096);
    g_assert_cmpuint(seen->migration.dirty_pages_rate, ==, 11);
    g_assert_cmpuint(seen->migration.dirty_sync_count, ==, 2);
    g_assert_cmpfloat(seen->migration.mbps, ==, 12.5);
    g_assert_cmpint(seen->migration.total_time_ms, ==, 12);
    g_assert_cmpint(seen->migration.downtime_ms, ==, -1);
    g_assert_cmpint(seen->migration.expected_downtime_ms, ==, 300);
    g_assert_cmpint(lpm_qmp_last_migration(qmp), ==, LPM_QMP_MIG_ACTIVE);
    lpm_qmp_free(qmp);
    fake_end(fake);
    seen_free(seen);
}

static void test_pcr(void)
{
    Fake *fake =
        fake_start(STEPS("greet", "expect:human-monitor-command", "answer:\"0x10\\r\\n\"",
                         "expect:human-monitor-command", "answer:\"0x4000000000000002\\r\\n\"",
                         "expect:human-monitor-command", "answer:\"unknown register\\r\\n\"",
                         "expect:human-monitor-command", "answer:7", "eof"));
    Seen *seen = seen_new();
    LpmQmp *qmp = connect_to(fake->path, seen);

    lpm_qmp_query_pcr(qmp, on_number, seen);
    wait_reply(seen, -1);
    g_assert_cmphex(seen->number, ==, 0x10);
    lpm_qmp_query_pcr(qmp, on_number, seen);
    wait_reply(seen, -1);
    g_assert_cmphex(seen->number, ==, 0x4000000000000002);
    lpm_qmp_query_pcr(qmp, on_number, seen);
    wait_reply(seen, LPM_ERROR_UNSUPPORTED);
    lpm_qmp_query_pcr(qmp, on_number, seen);
    wait_reply(seen, LPM_ERROR_UNSUPPORTED);
    lpm_qmp_free(qmp);
    fake_end(fake);
    seen_free(seen);
}

static void test_features_missing(void)
{
    static const LpmQmpParameter wanted[] = {
        {"max-bandwidth", 1, true}, {"new-one", 1, false}, {"newer-one", 1, true}, {NULL}};
    Fake *fake =
        fake_start(STEPS("greet", "expect:query-migrate-capabilities",
                         "answer:[{\"capability\":\"events\",\"state\":false}]",
                         "expect:query-migrate-parameters", "answer:{\"max-bandwidth\":7}", "eof"));
    Seen *seen = seen_new();
    LpmQmp *qmp = connect_to(fake->path, seen);

    lpm_qmp_set_capabilities(qmp, lpm_qmp_move_capabilities, on_done, seen);
    wait_reply(seen, LPM_ERROR_UNSUPPORTED);
    g_assert_nonnull(strstr(seen->message, "\"return-path\", \"pause-before-switchover\""));
    g_assert_null(strstr(seen->message, "\"events\""));
    lpm_qmp_set_parameters(qmp, wanted, on_done, seen);
    wait_reply(seen, LPM_ERROR_UNSUPPORTED);
    g_assert_nonnull(strstr(seen->message, "\"newer-one\""));
    g_assert_null(strstr(seen->message, "\"new-one\""));
    lpm_qmp_free(qmp);
    fake_end(fake);
    seen_free(seen);
}

static void test_getfd(void)
{
    Fake *fake = fake_start(
        STEPS("greet", "expect:getfd", "fd", "answer:{}", "expect:migrate", "answer:{}", "eof"));
    Seen *seen = seen_new();
    LpmQmp *qmp = connect_to(fake->path, seen);
    int fds[2];

    g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
    lpm_qmp_migrate_fd(qmp, fds[1], on_done, seen);
    close(fds[1]);
    wait_reply(seen, -1);
    close(fds[0]);
    lpm_qmp_free(qmp);
    fake_end(fake);
    seen_free(seen);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qmp/names", test_names);
    g_test_add_func("/qmp/connect-failures", test_connect_failures);
    g_test_add_func("/qmp/version-and-events", test_version_and_events);
    g_test_add_func("/qmp/one-at-a-time", test_one_at_a_time);
    g_test_add_func("/qmp/errors", test_errors_are_translated);
    g_test_add_func("/qmp/doubtful", test_doubtful);
    g_test_add_func("/qmp/reconnect-fails", test_reconnect_fails);
    g_test_add_func("/qmp/free", test_free);
    g_test_add_func("/qmp/cont-guard", test_cont_guard);
    g_test_add_func("/qmp/device-guard", test_device_guard);
    g_test_add_func("/qmp/guard-goes-first", test_guard_goes_first);
    g_test_add_func("/qmp/cancel-guard", test_cancel_guard);
    g_test_add_func("/qmp/migration-answer", test_migration_answer);
    g_test_add_func("/qmp/pcr", test_pcr);
    g_test_add_func("/qmp/features-missing", test_features_missing);
    g_test_add_func("/qmp/getfd", test_getfd);
    return g_test_run();
}
