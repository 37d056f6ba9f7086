/* SPDX-License-Identifier: Apache-2.0 */
/* The server, judged by what a raw connection sends and gets. */
#include "rpc-fixture.h"
#include "rpc/connect.h"
#include "rpc/lines.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* --- a raw connection --- */

typedef struct {
    LpmRpcLines *lines;
    GQueue got; /* of json_t */
    bool closed;
} Raw;

static void raw_line(const char *text, size_t length, void *data)
{
    Raw *raw = data;
    g_autoptr(GError) error = NULL;
    json_t *message = lpm_json_parse(text, length, &error);

    g_assert_no_error(error);
    g_queue_push_tail(&raw->got, message);
}

static void raw_closed(G_GNUC_UNUSED const GError *error, void *data)
{
    Raw *raw = data;

    raw->closed = true;
}

static const LpmRpcLinesHandlers raw_handlers = {raw_line, raw_closed};

static Raw *raw_open(Fixture *fixture)
{
    Raw *raw = g_new0(Raw, 1);
    g_autoptr(GError) error = NULL;
    GIOStream *stream = lpm_rpc_unix_stream(fixture->path, &error);

    g_assert_no_error(error);
    raw->lines = lpm_rpc_lines_new(stream, LPM_JSON_MAX_BYTES, &raw_handlers, raw);
    return raw;
}

static void raw_free(Raw *raw)
{
    lpm_rpc_lines_free(raw->lines);
    g_queue_clear_full(&raw->got, (GDestroyNotify)json_decref);
    g_free(raw);
}

static json_t *raw_ask(Raw *raw, const char *text)
{
    lpm_rpc_lines_send(raw->lines, text, strlen(text), -1);
    WAIT_FOR(raw->got.length > 0 || raw->closed);
    return g_queue_pop_head(&raw->got);
}

/* What whoami answers to this process, by what the kernel says of it. */
static const char *me(const char *more)
{
    static char text[200];

    g_snprintf(text, sizeof(text),
               "{\"return\":{\"role\":0,\"name\":\"local user %u, process %d\"}%s}", geteuid(),
               getpid(), more);
    return text;
}

static void assert_answer(Raw *raw, const char *request, const char *expected)
{
    g_autoptr(json_t) answer = raw_ask(raw, request);
    g_autofree char *text = NULL;

    g_assert_nonnull(answer);
    text = lpm_json_text(answer);
    g_assert_cmpstr(text, ==, expected);
}

/* The answer to @request is an error of @class whose text has @part in it. */
static void assert_refused(Raw *raw, const char *request, const char *class, const char *part)
{
    g_autoptr(json_t) answer = raw_ask(raw, request);
    const char *desc = lpm_json_str(answer, "error.desc", "");

    g_assert_cmpstr(lpm_json_str(answer, "error.class", ""), ==, class);
    if (!strstr(desc, part)) {
        g_error("\"%s\" does not say \"%s\"", desc, part);
    }
}

/* --- server --- */

static void test_answers(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    Raw *raw = raw_open(fixture);

    assert_answer(raw, "{\"execute\":\"echo\",\"arguments\":{\"text\":\"a\"},\"id\":7}",
                  "{\"return\":{\"text\":\"a\"},\"id\":7}");
    assert_answer(raw, "{\"id\":\"x\",\"execute\":\"echo\",\"arguments\":{\"text\":\"\\n\"}}\r",
                  "{\"return\":{\"text\":\"\\n\"},\"id\":\"x\"}");
    assert_answer(raw, "\n\r\n{\"execute\":\"whoami\"}", me(""));
    assert_answer(
        raw, "{\"execute\":\"fail\",\"arguments\":{\"class\":\"conflict\"},\"id\":1}",
        "{\"error\":{\"class\":\"conflict\",\"desc\":\"partition \\\"p\xef\xbf\xbd\\\" is "
        "not there\"},\"id\":1}");
    raw_free(raw);
}

typedef struct {
    const char *request, *class, *part;
} Refusal;

static void test_refusals(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    static const Refusal rows[] = {
        {"{\"execute\":\"nonsense\"}", "usage", "\"nonsense\""},
        {"{\"execute\":\"secret\"}", "denied", "secret"},
        {"{\"execute\":\"echo\"}", "usage", "\"text\" is missing"},
        {"{\"execute\":\"echo\",\"arguments\":{\"text\":1}}", "usage", "\"text\" is of the wrong"},
        {"{\"execute\":\"echo\",\"arguments\":{\"text\":null}}", "usage", "type string"},
        {"{\"execute\":\"echo\",\"arguments\":{\"text\":\"a\",\"count\":1.0}}", "usage", "integer"},
        {"{\"execute\":\"echo\",\"arguments\":{\"text\":\"a\",\"loud\":0}}", "usage", "boolean"},
        {"{\"execute\":\"echo\",\"arguments\":{\"text\":\"a\",\"more\":[]}}", "usage", "object"},
        {"{\"execute\":\"echo\",\"arguments\":{\"text\":\"a\",\"list\":{}}}", "usage", "array"},
        {"{\"execute\":\"echo\",\"arguments\":{\"text\":\"a\",\"tset\":1}}", "usage",
         "unknown argument \"tset\"; its arguments are: text, count, loud, more, list"},
        {"{\"execute\":\"hold\",\"arguments\":{\"a\":1}}", "usage", "are: none"},
        {"{\"execute\":\"subscribe\",\"arguments\":{\"events\":[1]}}", "usage", "events"},
        {"{\"execute\":\"echo\",\"arguments\":[]}", "protocol", "arguments"},
        {"{\"execute\":1}", "protocol", "execute"},
        {"{\"exec-oob\":\"echo\"}", "protocol", "exec-oob"},
        {"{\"execute\":\"echo\",\"id\":{}}", "protocol", "id"},
        {"{}", "protocol", "execute"},
        {"[]", "protocol", "object"},
        {"7", "protocol", "object"},
        {"{\"execute\":", "protocol", "not a message"},
        {"{'execute':'echo'}", "protocol", "not a message"},
        {"{\"execute\":\"echo\",\"execute\":\"hold\"}", "protocol", "not a message"},
        {"\xff\xfe", "protocol", "not a message"},
        {"GET / HTTP/1.1", "protocol", "not a message"},
    };
    Raw *raw = raw_open(fixture);

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        assert_refused(raw, rows[i].request, rows[i].class, rows[i].part);
    }
    /* After all of that the connection lives. */
    assert_answer(raw, "{\"execute\":\"whoami\",\"id\":1}", me(",\"id\":1"));
    raw_free(raw);
}

static void test_deep_and_long(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    Raw *raw = raw_open(fixture);
    g_autofree char *deep = g_strnfill(100000, '[');
    g_autofree char *fits = g_strnfill(LPM_RPC_LINE_MAX, 'x');
    g_autofree char *longer = g_strnfill(LPM_RPC_LINE_MAX + 1, 'x');

    assert_refused(raw, deep, "protocol", "not a message");
    assert_refused(raw, fits, "protocol", "not a message");
    g_assert_null(raw_ask(raw, longer));
    g_assert_true(raw->closed);
    raw_free(raw);

    /* Nor does it wait for the end of a line that has none. */
    raw = raw_open(fixture);
    lpm_rpc_lines_send(raw->lines, longer, LPM_RPC_LINE_MAX / 2, -1);
    WAIT_FOR(raw->got.length == 1);
    g_assert_false(raw->closed);
    raw_free(raw);
}

/* Many short requests at once wait in line behind one of somebody else. */
static void test_turns(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    const char *ask = "{\"execute\":\"whoami\"}";
    Raw *loud = raw_open(fixture);
    Raw *quiet = raw_open(fixture);

    assert_answer(quiet, ask, me(""));
    for (int i = 0; i < 3000; i++) {
        lpm_rpc_lines_send(loud->lines, ask, strlen(ask), -1);
    }
    assert_answer(quiet, ask, me(""));
    g_assert_cmpuint(loud->got.length, <, 1000);
    WAIT_FOR(loud->got.length == 3000);
    raw_free(loud);
    raw_free(quiet);
}

static void test_too_many_requests(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    Raw *raw = raw_open(fixture);
    const char *hold = "{\"execute\":\"hold\"}";

    for (unsigned i = 0; i < LPM_RPC_REQUESTS_MAX; i++) {
        lpm_rpc_lines_send(raw->lines, hold, strlen(hold), -1);
    }
    assert_refused(raw, hold, "busy", "64 requests");
    g_assert_cmpuint(fixture->held.length, ==, LPM_RPC_REQUESTS_MAX);
    lpm_rpc_request_return(g_queue_pop_head(&fixture->held), NULL);
    WAIT_FOR(raw->got.length == 1);
    json_decref(g_queue_pop_head(&raw->got));
    assert_answer(raw, "{\"execute\":\"whoami\"}", me(""));
    raw_free(raw);
}

static void test_too_many_peers(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    Raw *raws[LPM_RPC_SAME_PEER_MAX];
    Raw *excess;

    for (unsigned i = 0; i < LPM_RPC_SAME_PEER_MAX; i++) {
        raws[i] = raw_open(fixture);
        /* The backlog of the listening socket is shorter than this. */
        while (g_main_context_iteration(NULL, FALSE)) {
        }
    }
    assert_answer(raws[LPM_RPC_SAME_PEER_MAX - 1], "{\"execute\":\"whoami\"}", me(""));
    excess = raw_open(fixture);
    WAIT_FOR(excess->closed);
    raw_free(excess);
    for (unsigned i = 0; i < LPM_RPC_SAME_PEER_MAX; i++) {
        g_assert_false(raws[i]->closed);
        raw_free(raws[i]);
    }
    for (int i = 0; i < 50; i++) {
        g_main_context_iteration(NULL, FALSE);
    }
    raws[0] = raw_open(fixture);
    assert_answer(raws[0], "{\"execute\":\"whoami\"}", me(""));
    raw_free(raws[0]);
}

static void test_events(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    Raw *all = raw_open(fixture);
    Raw *one = raw_open(fixture);
    Raw *none = raw_open(fixture);
    json_t *event;

    assert_answer(all, "{\"execute\":\"subscribe\"}", "{\"return\":{}}");
    assert_answer(one, "{\"execute\":\"subscribe\",\"arguments\":{\"events\":[\"b\"]}}",
                  "{\"return\":{}}");
    lpm_rpc_server_emit(fixture->server, "a", lpm_json_pack("{s:i}", "n", 1));
    lpm_rpc_server_emit(fixture->server, "b", NULL);
    WAIT_FOR(all->got.length == 2 && one->got.length == 1);
    event = g_queue_peek_head(&all->got);
    g_assert_cmpstr(lpm_json_str(event, "event", ""), ==, "a");
    g_assert_cmpint(lpm_json_int(event, "data.n", 0), ==, 1);
    g_assert_cmpint(ABS(lpm_json_int(event, "timestamp.seconds", 0) - g_get_real_time() / 1000000),
                    <=, 5);
    g_assert_cmpstr(lpm_json_str(g_queue_peek_head(&one->got), "event", ""), ==, "b");
    assert_answer(none, "{\"execute\":\"whoami\"}", me(""));
    raw_free(all);
    raw_free(one);
    raw_free(none);
}

/* A subscriber that does not read is closed, it does not fill our memory; the others lose nothing.
 */
static void test_slow_reader(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    g_autofree char *filling = g_strnfill(100000, 'x');
    g_autoptr(GError) error = NULL;
    GIOStream *slow = lpm_rpc_unix_stream(fixture->path, &error);
    const char *subscribe = "{\"execute\":\"subscribe\"}\n";
    Raw *raw = raw_open(fixture);
    char buffer[65536];
    size_t total = 0;
    gssize n;

    g_assert_no_error(error);
    g_assert_true(g_output_stream_write_all(g_io_stream_get_output_stream(slow), subscribe,
                                            strlen(subscribe), NULL, NULL, NULL));
    assert_answer(raw, subscribe, "{\"return\":{}}");
    for (unsigned i = 0; i < 100; i++) {
        lpm_rpc_server_emit(fixture->server, "e", lpm_json_pack("{s:s}", "x", filling));
        WAIT_FOR(raw->got.length == i + 1);
    }
    while ((n = g_input_stream_read(g_io_stream_get_input_stream(slow), buffer, sizeof(buffer),
                                    NULL, NULL)) > 0) {
        total += (size_t)n;
    }
    g_assert_cmpuint(total, <, 100 * 100000);
    g_assert_false(raw->closed);
    raw_free(raw);
    g_object_unref(slow);
}

static void test_query_verbs(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    Raw *raw = raw_open(fixture);
    g_autoptr(json_t) answer = raw_ask(raw, "{\"execute\":\"query-verbs\"}");
    const json_t *rows = json_object_get(answer, "return");

    g_assert_cmpuint(json_array_size(rows), ==, 6);
    g_assert_cmpstr(lpm_json_str(rows, "0.name", ""), ==, "query-verbs");
    g_assert_cmpstr(lpm_json_str(rows, "2.name", ""), ==, "echo");
    g_assert_cmpstr(lpm_json_str(rows, "2.arguments.1.name", ""), ==, "count");
    g_assert_cmpstr(lpm_json_str(rows, "2.arguments.1.type", ""), ==, "integer");
    g_assert_false(lpm_json_bool(rows, "2.arguments.1.required", true));
    g_assert_cmpstr(lpm_json_str(rows, "2.roles.1", ""), ==, "console");
    raw_free(raw);
}

static void test_markdown(void)
{
    g_autoptr(GString) text = g_string_new(NULL);
    LpmRpcVerb two[] = {verbs[1], verbs[2], {NULL}};

    lpm_rpc_verbs_markdown(two, text);
    g_assert_cmpstr(text->str, ==,
                    "### `fail`\n\nFails.\n\nFor: local, console.\n\n"
                    "| argument | type | | meaning |\n| --- | --- | --- | --- |\n"
                    "| `class` | string | required | of the error |\n\n"
                    "### `hold`\n\nAnswers later.\n\nFor: local, console.\n\n");
}

/* --- the socket file --- */

static void test_socket_file(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    g_autoptr(LpmRpcServer) other = lpm_rpc_server_new(verbs, NULL);
    g_autoptr(GError) error = NULL;
    g_autofree char *stale = g_build_filename(fixture->directory, "stale", NULL);
    g_autofree char *file = g_build_filename(fixture->directory, "file", NULL);
    g_autofree char *letters = g_strnfill(120, 'a');
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat status;
    int fd;

    g_assert_cmpint(stat(fixture->path, &status), ==, 0);
    g_assert_cmpint(status.st_mode & 0777, ==, 0600);

    g_assert_false(lpm_rpc_server_listen_unix(other, fixture->path, &error));
    g_assert_error(error, LPM_ERROR, LPM_ERROR_BUSY);
    g_clear_error(&error);

    g_assert_true(g_file_set_contents(file, "x", 1, NULL));
    g_assert_false(lpm_rpc_server_listen_unix(other, file, &error));
    g_assert_error(error, LPM_ERROR, LPM_ERROR_EXISTS);
    g_clear_error(&error);
    g_unlink(file);

    g_assert_false(lpm_rpc_server_listen_unix(other, letters, &error));
    g_assert_error(error, LPM_ERROR, LPM_ERROR_USAGE);
    g_clear_error(&error);

    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_strlcpy(address.sun_path, stale, sizeof(address.sun_path));
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    close(fd);
    g_assert_true(lpm_rpc_server_listen_unix(other, stale, &error));
    g_assert_no_error(error);
}

/* In a child: 0 when the server closes us without an answer. */
static int try_as_nobody(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *request = "{\"execute\":\"whoami\"}\n";
    char byte;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memcpy(address.sun_path, path, strlen(path) + 1);
    if (setgid(65534) != 0 || setuid(65534) != 0 ||
        connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        return 2;
    }
    /* The server may close before or after it has read this. */
    (void)!send(fd, request, strlen(request), MSG_NOSIGNAL);
    return recv(fd, &byte, 1, 0) > 0;
}

static void on_child_end(G_GNUC_UNUSED GPid pid, int wait_status, void *data)
{
    *(int *)data = wait_status;
}

static void test_other_user(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    pid_t child;
    int status = -1;

    if (geteuid() != 0) {
        g_test_skip("only root can become another user");
        return;
    }
    /* Only the credentials stand in the way then. */
    g_assert_cmpint(chmod(fixture->directory, 0755), ==, 0);
    g_assert_cmpint(chmod(fixture->path, 0666), ==, 0);
    child = fork();
    if (child == 0) {
        _exit(try_as_nobody(fixture->path));
    }
    g_child_watch_add(child, on_child_end, &status);
    WAIT_FOR(status != -1);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 0);
}

#define ADD(name, function) g_test_add("/rpc/" name, Fixture, NULL, setup, function, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("answers", test_answers);
    ADD("refusals", test_refusals);
    ADD("deep-and-long", test_deep_and_long);
    ADD("turns", test_turns);
    ADD("too-many-requests", test_too_many_requests);
    ADD("too-many-peers", test_too_many_peers);
    ADD("events", test_events);
    ADD("slow-reader", test_slow_reader);
    ADD("query-verbs", test_query_verbs);
    ADD("socket-file", test_socket_file);
    ADD("other-user", test_other_user);
    g_test_add_func("/rpc/markdown", test_markdown);
    return g_test_run();
}
