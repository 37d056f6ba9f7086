/* SPDX-License-Identifier: Apache-2.0 */
/* The guest agent's client, against agents that lie, babble, stall and vanish. */
#include "qga/qga.h"

#include "fake.h"

#include <string.h>

#define STEPS(...) ((const char *const[]){__VA_ARGS__, NULL})

typedef struct {
    unsigned replies;
    int code; /* of the last reply's error; -1: success */
    char *message;
    char *text; /* what a typed reply said */
    unsigned count;
} Seen;

static void saw(Seen *seen, const GError *error, char *text)
{
    seen->replies++;
    seen->code = error ? error->code : -1;
    g_free(seen->message);
    seen->message = error ? g_strdup(error->message) : NULL;
    g_free(seen->text);
    seen->text = text;
}

static void on_done(const GError *error, void *data)
{
    saw(data, error, NULL);
}

static void on_result(json_t *result, const GError *error, void *data)
{
    g_assert_true(!result == !!error);
    saw(data, error, result ? lpm_json_text(result) : NULL);
}

static void on_info(const LpmQgaInfo *info, const GError *error, void *data)
{
    g_autofree char *commands = info ? g_strjoinv(",", (char **)info->commands) : NULL;

    saw(data, error, info ? g_strdup_printf("%s: %s", info->version, commands) : NULL);
}

static void on_os(const LpmQgaOs *os, const GError *error, void *data)
{
    saw(data, error,
        os ? g_strjoin("|", os->id, os->name, os->version, os->kernel, os->machine, NULL) : NULL);
}

static void on_interfaces(const LpmQgaInterface *interfaces, size_t n, const GError *error,
                          void *data)
{
    GString *text = g_string_new(NULL);

    for (size_t i = 0; i < n; i++) {
        g_autofree char *addresses = g_strjoinv(",", (char **)interfaces[i].addresses);

        g_string_append_printf(text, "%s %s %s;", interfaces[i].name, interfaces[i].mac, addresses);
    }
    saw(data, error, g_string_free(text, FALSE));
}

static void on_count(unsigned count, const GError *error, void *data)
{
    Seen *seen = data;

    seen->count = count;
    saw(seen, error, NULL);
}

static void on_exec(const LpmQgaExec *result, const GError *error, void *data)
{
    Seen *seen = data;

    seen->count = result ? (unsigned)g_bytes_get_size(result->out) : 0;
    saw(seen, error,
        result ? g_strdup_printf("status %d signal %d out %.*s err %.*s%s", result->status,
                                 result->signal, (int)MIN(g_bytes_get_size(result->out), 100),
                                 (const char *)g_bytes_get_data(result->out, NULL),
                                 (int)g_bytes_get_size(result->err),
                                 (const char *)g_bytes_get_data(result->err, NULL),
                                 result->truncated ? " truncated" : "")
               : NULL);
}

/* Waits for one more reply and judges it; @code -1: success. */
static void wait_reply(Seen *seen, int code)
{
    unsigned before = seen->replies;

    WAIT_FOR(seen->replies > before);
    if (seen->code != code) {
        g_error("code %d, not %d: %s", seen->code, code, seen->message ? seen->message : "");
    }
}

static void seen_clear(Seen *seen)
{
    g_free(seen->message);
    g_free(seen->text);
}

/* --- the handshake --- */

/* Rubbish and answers to others come first; the sentinel cuts them off. */
static void test_sync(void)
{
    Fake *fake = fake_start(STEPS("send:{\"return\":7}", "send:rubbish", "hex:00010aff0a",
                                  "send:{\"error\":{\"class\":\"GenericError\",\"desc\":\"?\"}}",
                                  "hex:7878ff7b2272657475726e223a317d0a", "hex:6a756e6b", "sync",
                                  "expect:guest-ping", "answer:{}", "expect:guest-ping",
                                  "answer:{}", "eof"));
    LpmQga *qga = lpm_qga_new(fake->path);
    Seen seen = {0};

    lpm_qga_ping(qga, WAIT_MS, on_done, &seen);
    lpm_qga_ping(qga, WAIT_MS, on_done, &seen);
    g_assert_cmpuint(seen.replies, ==, 0);
    WAIT_FOR(seen.replies == 2);
    g_assert_cmpint(seen.code, ==, -1);
    lpm_qga_free(qga);
    fake_end(fake);
    seen_clear(&seen);
}

typedef struct {
    const char *steps[4]; /* after these the fake waits for the end of the connection */
    int code;
} SyncCase;

static void test_sync_failures(void)
{
    static const SyncCase rows[] = {
        {{"sleep:0"}, LPM_ERROR_TIMEOUT},
        {{"send:{\"return\":1}"}, LPM_ERROR_TIMEOUT},
        {{"hex:ff", "send:{\"return\":1.0}"}, LPM_ERROR_TIMEOUT},
        {{"fill:1000000"}, LPM_ERROR_TIMEOUT},
        {{"fill:2000000"}, LPM_ERROR_PROTOCOL},
        {{"hex:ff", "fill:2000000"}, LPM_ERROR_PROTOCOL},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GPtrArray) steps = g_ptr_array_new();
        Seen seen = {0};
        LpmQga *qga;
        Fake *fake;

        g_ptr_array_add(steps, (void *)"expect:guest-sync-delimited");
        for (size_t j = 0; rows[i].steps[j]; j++) {
            g_ptr_array_add(steps, (void *)rows[i].steps[j]);
        }
        g_ptr_array_add(steps, (void *)"eof");
        g_ptr_array_add(steps, NULL);
        fake = fake_start((const char *const *)steps->pdata);
        qga = lpm_qga_new(fake->path);
        lpm_qga_ping(qga, 400, on_done, &seen);
        wait_reply(&seen, rows[i].code);
        lpm_qga_free(qga);
        fake_end(fake);
        seen_clear(&seen);
    }
}

/* A guest that answers the handshake wrongly for ever is given up before its time is. */
static void test_sync_babble(void)
{
    g_autoptr(GPtrArray) steps = g_ptr_array_new();
    Seen seen = {0};
    LpmQga *qga;
    Fake *fake;

    g_ptr_array_add(steps, (void *)"expect:guest-sync-delimited");
    for (int i = 0; i < 80; i++) {
        g_ptr_array_add(steps, (void *)"send:{\"return\":{}}");
    }
    g_ptr_array_add(steps, (void *)"eof");
    g_ptr_array_add(steps, NULL);
    fake = fake_start((const char *const *)steps->pdata);
    qga = lpm_qga_new(fake->path);
    lpm_qga_ping(qga, WAIT_MS, on_done, &seen);
    wait_reply(&seen, LPM_ERROR_PROTOCOL);
    lpm_qga_free(qga);
    fake_end(fake);
    seen_clear(&seen);
}

static void test_no_socket(void)
{
    LpmQga *qga = lpm_qga_new("/nonexistent/agent");
    Seen seen = {0};

    lpm_qga_ping(qga, WAIT_MS, on_done, &seen);
    lpm_qga_ping(qga, WAIT_MS, on_done, &seen);
    wait_reply(&seen, LPM_ERROR_UNREACHABLE);
    wait_reply(&seen, LPM_ERROR_UNREACHABLE);
    lpm_qga_free(qga);
    seen_clear(&seen);
}

/* After a time-out the late answer belongs to nobody: a new connection and a new handshake. */
static void test_late_answer(void)
{
    Fake *fake =
        fake_start(STEPS("sync", "expect:guest-ping", "eof", "accept", "send:{\"return\":{}}",
                         "sync", "expect:guest-get-osinfo", "answer:{\"id\":\"debian\"}", "eof"));
    LpmQga *qga = lpm_qga_new(fake->path);
    Seen seen = {0};

    lpm_qga_ping(qga, 400, on_done, &seen);
    lpm_qga_osinfo(qga, WAIT_MS, on_os, &seen);
    wait_reply(&seen, LPM_ERROR_TIMEOUT);
    wait_reply(&seen, -1);
    g_assert_cmpstr(seen.text, ==, "debian||||");
    lpm_qga_free(qga);
    fake_end(fake);
    seen_clear(&seen);
}

/* Who talks without being asked is cut off, and asked anew next time. */
static void test_unsolicited(void)
{
    Fake *fake =
        fake_start(STEPS("sync", "expect:guest-ping", "answer:{}", "send:{\"return\":{}}", "eof",
                         "accept", "sync", "expect:guest-ping", "answer:{}", "eof"));
    LpmQga *qga = lpm_qga_new(fake->path);
    Seen seen = {0};
    bool waited = false;

    lpm_qga_ping(qga, WAIT_MS, on_done, &seen);
    wait_reply(&seen, -1);
    g_timeout_add(100, fake_wait_over, &waited);
    WAIT_FOR(waited);
    lpm_qga_ping(qga, WAIT_MS, on_done, &seen);
    wait_reply(&seen, -1);
    lpm_qga_free(qga);
    fake_end(fake);
    seen_clear(&seen);
}

/* --- answers --- */

typedef struct {
    const char *step;
    int code;
} AnswerCase;

static void test_bad_answers(void)
{
    static const AnswerCase rows[] = {
        {"fail:CommandNotFound:disabled", LPM_ERROR_UNSUPPORTED},
        {"fail:GenericError:no", LPM_ERROR_STATE},
        {"send:{\"error\":{}}", LPM_ERROR_STATE},
        {"send:{\"error\":7}", LPM_ERROR_PROTOCOL},
        {"send:nonsense", LPM_ERROR_PROTOCOL},
        {"send:{}", LPM_ERROR_PROTOCOL},
        {"send:[]", LPM_ERROR_PROTOCOL},
        {"send:{\"event\":\"x\"}", LPM_ERROR_PROTOCOL},
        {"hex:ff00feff0a", LPM_ERROR_PROTOCOL},
        {"fill:2000000", LPM_ERROR_PROTOCOL},
        {"answer:7", LPM_ERROR_PROTOCOL},
        {"answer:[]", LPM_ERROR_PROTOCOL},
        {"send:{\"return\":null}", LPM_ERROR_PROTOCOL},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Fake *fake = fake_start(STEPS("sync", "expect:guest-get-osinfo", rows[i].step, "eof"));
        LpmQga *qga = lpm_qga_new(fake->path);
        Seen seen = {0};

        lpm_qga_osinfo(qga, WAIT_MS, on_os, &seen);
        wait_reply(&seen, rows[i].code);
        lpm_qga_free(qga);
        fake_end(fake);
        seen_clear(&seen);
    }
}

static void test_typed_answers(void)
{
    Fake *fake = fake_start(STEPS(
        "sync", "expect:guest-info",
        "answer:{\"version\":\"7.2\",\"supported_commands\":[{\"name\":\"guest-exec\",\"enabled\":"
        "true},{\"name\":\"guest-x\",\"enabled\":false},7]}",
        "expect:guest-get-osinfo",
        "answer:{\"id\":\"debian\",\"pretty-name\":\"De\\nb\\u202eian\",\"version-id\":\"12\","
        "\"kernel-release\":6,\"machine\":\"ppc64le\"}",
        "expect:guest-network-get-interfaces",
        "answer:[{\"name\":\"eth0\",\"hardware-address\":\"52:54:00:00:00:01\",\"ip-addresses\":[{"
        "\"ip-"
        "address\":\"192.0.2.1\",\"prefix\":24},{\"ip-address\":\"fe80::1\",\"prefix\":64},{\"ip-"
        "address\":\"192.0.2.2\",\"prefix\":33},{\"ip-address\":\"$(reboot)\",\"prefix\":1},7]},{"
        "\"name\":\"x\",\"hardware-address\":\"52:54:00:00:00:01;\"},8]",
        "expect:guest-fsfreeze-freeze", "answer:2", "expect:guest-fsfreeze-status",
        "answer:\"frozen\"", "expect:guest-fsfreeze-thaw", "answer:-1",
        "expect:guest-fsfreeze-status", "answer:\"molten\"", "eof"));
    LpmQga *qga = lpm_qga_new(fake->path);
    Seen seen = {0};

    lpm_qga_info(qga, WAIT_MS, on_info, &seen);
    wait_reply(&seen, -1);
    g_assert_cmpstr(seen.text, ==, "7.2: guest-exec");
    lpm_qga_osinfo(qga, WAIT_MS, on_os, &seen);
    wait_reply(&seen, -1);
    g_assert_cmpstr(seen.text, ==, "debian|De?b?ian|12||ppc64le");
    lpm_qga_interfaces(qga, WAIT_MS, on_interfaces, &seen);
    wait_reply(&seen, -1);
    g_assert_cmpstr(seen.text, ==, "eth0 52:54:00:00:00:01 192.0.2.1/24,fe80::1/64;x  ;  ;");
    lpm_qga_fsfreeze_freeze(qga, WAIT_MS, on_count, &seen);
    wait_reply(&seen, -1);
    g_assert_cmpuint(seen.count, ==, 2);
    lpm_qga_fsfreeze_status(qga, WAIT_MS, on_count, &seen);
    wait_reply(&seen, -1);
    g_assert_cmpuint(seen.count, ==, 1);
    lpm_qga_fsfreeze_thaw(qga, WAIT_MS, on_count, &seen);
    wait_reply(&seen, LPM_ERROR_PROTOCOL);
    lpm_qga_fsfreeze_status(qga, WAIT_MS, on_count, &seen);
    wait_reply(&seen, LPM_ERROR_PROTOCOL);
    lpm_qga_free(qga);
    fake_end(fake);
    seen_clear(&seen);
}

static void test_long_text(void)
{
    g_autofree char *word = g_strnfill(5000, 'a');
    g_autofree char *answer = g_strdup_printf("answer:{\"id\":\"%s\"}", word);
    Fake *fake = fake_start(STEPS("sync", "expect:guest-get-osinfo", answer, "eof"));
    LpmQga *qga = lpm_qga_new(fake->path);
    Seen seen = {0};

    lpm_qga_osinfo(qga, WAIT_MS, on_os, &seen);
    wait_reply(&seen, -1);
    g_assert_cmpuint(strlen(seen.text), ==, LPM_QGA_TEXT_MAX + strlen("||||"));
    lpm_qga_free(qga);
    fake_end(fake);
    seen_clear(&seen);
}

/* --- shutdown --- */

static void test_shutdown(void)
{
    Fake *fake = fake_start(STEPS("sync", "expect:guest-shutdown", "eof", "accept", "sync",
                                  "expect:guest-shutdown", "fail:GenericError:not today",
                                  "expect:guest-shutdown"));
    LpmQga *qga = lpm_qga_new(fake->path);
    Seen seen = {0};

    lpm_qga_shutdown(qga, "powerdown", WAIT_MS, on_done, &seen);
    wait_reply(&seen, -1);
    lpm_qga_shutdown(qga, "powerdown", WAIT_MS, on_done, &seen);
    wait_reply(&seen, LPM_ERROR_STATE);
    g_assert_nonnull(strstr(seen.message, "\"not today\""));
    /* QEMU ends before the second is over. */
    lpm_qga_shutdown(qga, "powerdown", WAIT_MS, on_done, &seen);
    wait_reply(&seen, -1);
    lpm_qga_free(qga);
    fake_end(fake);
    seen_clear(&seen);
}

static void test_shutdown_without_agent(void)
{
    Fake *fake = fake_start(STEPS("expect:guest-sync-delimited", "eof"));
    LpmQga *qga = lpm_qga_new(fake->path);
    Seen seen = {0};

    lpm_qga_shutdown(qga, "powerdown", 300, on_done, &seen);
    wait_reply(&seen, LPM_ERROR_TIMEOUT);
    lpm_qga_free(qga);
    fake_end(fake);
    seen_clear(&seen);
}

/* --- exec --- */

static void test_exec(void)
{
    Fake *fake = fake_start(STEPS(
        "sync", "expect:guest-exec", "answer:{\"pid\":9}", "expect:guest-exec-status",
        "answer:{\"exited\":false}", "expect:guest-exec-status",
        "answer:{\"exited\":true,\"exitcode\":3,\"out-data\":\"aGVsbG8=\",\"err-data\":\"b2g=\"}",
        "expect:guest-exec", "answer:{\"pid\":10}", "expect:guest-exec-status",
        "answer:{\"exited\":true,\"signal\":9,\"out-truncated\":true}", "expect:guest-exec",
        "answer:{\"pid\":\"x\"}", "expect:guest-exec", "answer:{\"pid\":11}",
        "expect:guest-exec-status", "answer:{\"exited\":7}", "expect:guest-exec",
        "fail:GenericError:Failed to execute child process", "eof"));
    LpmQga *qga = lpm_qga_new(fake->path);
    const char *const argv[] = {"/bin/true", "-x", NULL};
    const char *const environment[] = {"A=b", NULL};
    const char *const bad[] = {"/bin/true", "\xff", NULL};
    Seen seen = {0};

    lpm_qga_exec(qga, argv, environment, "input", WAIT_MS, on_exec, &seen);
    wait_reply(&seen, -1);
    g_assert_cmpstr(seen.text, ==, "status 3 signal 0 out hello err oh");
    lpm_qga_exec(qga, argv, NULL, NULL, WAIT_MS, on_exec, &seen);
    wait_reply(&seen, -1);
    g_assert_cmpstr(seen.text, ==, "status -1 signal 9 out  err  truncated");
    lpm_qga_exec(qga, argv, NULL, NULL, WAIT_MS, on_exec, &seen);
    wait_reply(&seen, LPM_ERROR_PROTOCOL);
    lpm_qga_exec(qga, argv, NULL, NULL, WAIT_MS, on_exec, &seen);
    wait_reply(&seen, LPM_ERROR_PROTOCOL);
    lpm_qga_exec(qga, argv, NULL, NULL, WAIT_MS, on_exec, &seen);
    wait_reply(&seen, LPM_ERROR_STATE);
    lpm_qga_exec(qga, bad, NULL, NULL, WAIT_MS, on_exec, &seen);
    wait_reply(&seen, LPM_ERROR_USAGE);
    lpm_qga_free(qga);
    fake_end(fake);
    seen_clear(&seen);
}

static void test_exec_big_output(void)
{
    Fake *fake;
    Seen seen = {0};
    LpmQga *qga;
    const char *const argv[] = {"/bin/cat", NULL};

    /* The hexadecimal digits: {"return":{"exited":true,"out-data":" */
    fake = fake_start(
        STEPS("sync", "expect:guest-exec", "answer:{\"pid\":9}", "expect:guest-exec-status",
              "hex:7b2272657475726e223a7b22657869746564223a747275652c226f75742d64617461223a22",
              "fill:400000", "send:\"}}", "eof"));
    qga = lpm_qga_new(fake->path);
    lpm_qga_exec(qga, argv, NULL, NULL, WAIT_MS, on_exec, &seen);
    wait_reply(&seen, -1);
    g_assert_cmpuint(seen.count, ==, LPM_QGA_OUTPUT_MAX);
    g_assert_true(g_str_has_suffix(seen.text, " truncated"));
    lpm_qga_free(qga);
    fake_end(fake);
    seen_clear(&seen);
}

static void test_exec_timeout(void)
{
    Fake *fake =
        fake_start(STEPS("sync", "expect:guest-exec", "answer:{\"pid\":9}",
                         "expect:guest-exec-status", "answer:{\"exited\":false}", "sleep:1000"));
    LpmQga *qga = lpm_qga_new(fake->path);
    const char *const argv[] = {"/bin/sleep", NULL};
    Seen seen = {0};

    lpm_qga_exec(qga, argv, NULL, NULL, 500, on_exec, &seen);
    wait_reply(&seen, LPM_ERROR_TIMEOUT);
    lpm_qga_free(qga);
    fake_end(fake);
    seen_clear(&seen);
}

/* --- the queue and the end --- */

static void test_queue_limit(void)
{
    LpmQga *qga = lpm_qga_new("/nonexistent/agent");
    const char *const argv[] = {"/bin/true", NULL};
    Seen seen = {0};

    for (unsigned i = 0; i < LPM_QGA_QUEUE_MAX; i++) {
        lpm_qga_ping(qga, WAIT_MS, on_done, &seen);
    }
    lpm_qga_exec(qga, argv, NULL, NULL, WAIT_MS, on_exec, &seen);
    lpm_qga_ping(qga, WAIT_MS, on_done, &seen);
    g_assert_cmpuint(seen.replies, ==, 0);
    WAIT_FOR(seen.replies == LPM_QGA_QUEUE_MAX + 2);
    /* Freed while all of that waits: all of it ends at once. */
    for (unsigned i = 0; i < LPM_QGA_QUEUE_MAX + 1; i++) {
        lpm_qga_exec(qga, argv, NULL, NULL, WAIT_MS, on_exec, &seen);
    }
    lpm_qga_free(qga);
    g_assert_cmpuint(seen.replies, ==, 2 * LPM_QGA_QUEUE_MAX + 3);
    g_assert_cmpint(seen.code, ==, LPM_ERROR_ABORTED);
    seen_clear(&seen);
}

/* Freed while a program runs, between two questions and during one. */
static void test_free_during_exec(void)
{
    const char *const argv[] = {"/bin/sleep", NULL};

    for (unsigned wait_ms = 20; wait_ms <= 420; wait_ms += 100) {
        Fake *fake = fake_start(STEPS("sync", "expect:guest-exec", "answer:{\"pid\":9}",
                                      "expect:guest-exec-status", "answer:{\"exited\":false}",
                                      "sleep:1000"));
        LpmQga *qga = lpm_qga_new(fake->path);
        Seen seen = {0};
        bool waited = false;

        lpm_qga_exec(qga, argv, NULL, NULL, WAIT_MS, on_exec, &seen);
        g_timeout_add(wait_ms, fake_wait_over, &waited);
        WAIT_FOR(waited);
        lpm_qga_free(qga);
        g_assert_cmpuint(seen.replies, ==, 1);
        g_assert_cmpint(seen.code, ==, LPM_ERROR_ABORTED);
        g_subprocess_force_exit(fake->process);
        g_subprocess_wait(fake->process, NULL, NULL);
        fake_remove(fake);
        seen_clear(&seen);
    }
}

typedef struct {
    LpmQga *qga;
    unsigned replies;
} Freeing;

static void on_free_now(G_GNUC_UNUSED json_t *result, G_GNUC_UNUSED const GError *error, void *data)
{
    Freeing *freeing = data;

    freeing->replies++;
    lpm_qga_free(g_steal_pointer(&freeing->qga));
}

static void test_free_in_reply(void)
{
    Fake *fake = fake_start(STEPS("sync", "expect:guest-ping", "answer:{}", "eof"));
    Freeing freeing = {lpm_qga_new(fake->path), 0};
    Seen seen = {0};

    lpm_qga_call(freeing.qga, "guest-ping", NULL, WAIT_MS, on_free_now, &freeing);
    lpm_qga_call(freeing.qga, "guest-ping", NULL, WAIT_MS, on_result, &seen);
    WAIT_FOR(freeing.replies == 1);
    g_assert_cmpuint(seen.replies, ==, 1);
    g_assert_cmpint(seen.code, ==, LPM_ERROR_ABORTED);
    fake_end(fake);
    seen_clear(&seen);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qga/sync", test_sync);
    g_test_add_func("/qga/sync-failures", test_sync_failures);
    g_test_add_func("/qga/sync-babble", test_sync_babble);
    g_test_add_func("/qga/no-socket", test_no_socket);
    g_test_add_func("/qga/late-answer", test_late_answer);
    g_test_add_func("/qga/unsolicited", test_unsolicited);
    g_test_add_func("/qga/bad-answers", test_bad_answers);
    g_test_add_func("/qga/typed-answers", test_typed_answers);
    g_test_add_func("/qga/long-text", test_long_text);
    g_test_add_func("/qga/shutdown", test_shutdown);
    g_test_add_func("/qga/shutdown-without-agent", test_shutdown_without_agent);
    g_test_add_func("/qga/exec", test_exec);
    g_test_add_func("/qga/exec-big-output", test_exec_big_output);
    g_test_add_func("/qga/exec-timeout", test_exec_timeout);
    g_test_add_func("/qga/queue-limit", test_queue_limit);
    g_test_add_func("/qga/free-during-exec", test_free_during_exec);
    g_test_add_func("/qga/free-in-reply", test_free_in_reply);
    return g_test_run();
}
