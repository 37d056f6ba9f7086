/* SPDX-License-Identifier: Apache-2.0 */
/* The client, against our server and against an other end that does as the test likes. */
#include "rpc-fixture.h"
#include "rpc/message.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- client --- */

typedef struct {
    unsigned replies;
    int code; /* of the last error; -1: success */
    LpmRpcClient *client;
    bool free_in_reply;
    unsigned closed;
    unsigned events;
    unsigned freed;
} Seen;

static void on_reply(json_t *result, const GError *error, void *data)
{
    Seen *seen = data;

    g_assert_true(!result == !!error);
    seen->replies++;
    seen->code = error ? error->code : -1;
    if (seen->free_in_reply) {
        seen->free_in_reply = false;
        lpm_rpc_client_free(g_steal_pointer(&seen->client));
    }
}

static void on_event(const char *event, json_t *data, void *user_data)
{
    Seen *seen = user_data;

    g_assert_cmpstr(event, ==, "tick");
    g_assert_true(json_is_object(data));
    seen->events++;
}

static void on_closed(const GError *error, void *data)
{
    Seen *seen = data;

    g_assert_nonnull(error);
    seen->closed++;
}

static void count_free(void *data)
{
    Seen *seen = data;

    seen->freed++;
}

static Seen *seen_open(Fixture *fixture)
{
    Seen *seen = g_new0(Seen, 1);
    g_autoptr(GError) error = NULL;

    seen->client = lpm_rpc_connect_unix(fixture->path, on_event, on_closed, seen, &error);
    g_assert_no_error(error);
    return seen;
}

static void seen_free(Seen *seen)
{
    lpm_rpc_client_free(seen->client);
    g_free(seen);
}

static void test_client_sync(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    Seen *seen = seen_open(fixture);
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) result = lpm_rpc_call_sync(
        seen->client, "echo", lpm_json_pack("{s:s}", "text", "hello"), WAIT_MS, &error);

    g_assert_no_error(error);
    g_assert_cmpstr(lpm_json_str(result, "text", ""), ==, "hello");
    for (int code = 0; code < LPM_ERROR_N; code++) {
        const char *name = lpm_error_info(code)->name;

        g_assert_null(lpm_rpc_call_sync(seen->client, "fail", lpm_json_pack("{s:s}", "class", name),
                                        WAIT_MS, &error));
        g_assert_error(error, LPM_ERROR, code);
        g_clear_error(&error);
    }
    lpm_rpc_client_free(g_steal_pointer(&seen->client));
    seen_free(seen);
}

static void test_client_timeout(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    Seen *seen = seen_open(fixture);
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) result = NULL;

    lpm_rpc_call(seen->client, "hold", NULL, 30, on_reply, seen, count_free);
    g_assert_cmpuint(seen->replies, ==, 0);
    WAIT_FOR(seen->replies == 1);
    g_assert_cmpint(seen->code, ==, LPM_ERROR_TIMEOUT);
    g_assert_cmpuint(seen->freed, ==, 1);
    /* The late answer goes nowhere, and the connection is as good as before. */
    g_assert_cmpuint(fixture->held.length, ==, 1);
    lpm_rpc_request_return(g_queue_pop_head(&fixture->held), NULL);
    result = lpm_rpc_call_sync(seen->client, "whoami", NULL, WAIT_MS, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(seen->replies, ==, 1);
    seen_free(seen);
}

static void test_client_free(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    Seen *seen = seen_open(fixture);

    for (int i = 0; i < 3; i++) {
        lpm_rpc_call(seen->client, "hold", NULL, WAIT_MS, on_reply, seen, count_free);
    }
    WAIT_FOR(fixture->held.length == 3);
    lpm_rpc_client_free(g_steal_pointer(&seen->client));
    g_assert_cmpuint(seen->replies, ==, 3);
    g_assert_cmpuint(seen->freed, ==, 3);
    g_assert_cmpint(seen->code, ==, LPM_ERROR_ABORTED);
    g_assert_cmpuint(seen->closed, ==, 0);
    seen_free(seen);

    /* From inside a reply: the other calls end too, nothing comes afterwards. */
    seen = seen_open(fixture);
    seen->free_in_reply = true;
    lpm_rpc_call(seen->client, "whoami", NULL, WAIT_MS, on_reply, seen, count_free);
    lpm_rpc_call(seen->client, "hold", NULL, WAIT_MS, on_reply, seen, count_free);
    WAIT_FOR(seen->replies == 2);
    g_assert_cmpuint(seen->freed, ==, 2);
    g_assert_null(seen->client);
    seen_free(seen);
}

static void test_server_goes(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    Seen *seen = seen_open(fixture);

    lpm_rpc_call(seen->client, "hold", NULL, WAIT_MS, on_reply, seen, NULL);
    WAIT_FOR(fixture->held.length == 1);
    lpm_rpc_server_free(g_steal_pointer(&fixture->server));
    WAIT_FOR(seen->closed == 1);
    g_assert_cmpuint(seen->replies, ==, 1);
    g_assert_cmpint(seen->code, ==, LPM_ERROR_UNREACHABLE);
    g_assert_false(lpm_rpc_client_is_open(seen->client));
    /* A call on what is closed fails too, but not from inside the call. */
    lpm_rpc_call(seen->client, "hold", NULL, WAIT_MS, on_reply, seen, NULL);
    g_assert_cmpuint(seen->replies, ==, 1);
    WAIT_FOR(seen->replies == 2);
    g_assert_cmpint(seen->code, ==, LPM_ERROR_UNREACHABLE);
    seen_free(seen);
    /* The request that is left outlives its peer and its server; teardown answers it. */
    g_assert_cmpuint(fixture->held.length, ==, 1);
}

static void test_client_events(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    Seen *seen = seen_open(fixture);
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) result = lpm_rpc_call_sync(seen->client, "subscribe", NULL, WAIT_MS, &error);

    g_assert_no_error(error);
    lpm_rpc_server_emit(fixture->server, "tick", NULL);
    lpm_rpc_server_emit(fixture->server, "tick", json_object());
    WAIT_FOR(seen->events == 2);
    seen_free(seen);
}

/* --- integers that only QEMU writes --- */

static void test_foreign_integers(void)
{
    const char *text =
        "{\"a\":18446744073709551615,\"b\":9223372036854775807,\"c\":\"\\\"99999999999999999999\","
        "\"d\":[9223372036854775808,12345678901234567890.5,0.12345678901234567890],\"e\":7}";
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) message = lpm_rpc_message_parse_foreign(text, strlen(text), &error);

    g_assert_no_error(error);
    g_assert_cmpfloat(lpm_json_real(message, "a", 0), ==, 18446744073709551615.0);
    g_assert_cmpint(lpm_json_int(message, "b", 0), ==, G_MAXINT64);
    g_assert_cmpstr(lpm_json_str(message, "c", ""), ==, "\"99999999999999999999");
    g_assert_cmpfloat(lpm_json_real(message, "d.0", 0), ==, 9223372036854775808.0);
    g_assert_cmpint(lpm_json_int(message, "e", 0), ==, 7);
    g_assert_null(lpm_rpc_message_parse(text, strlen(text), NULL));
    g_assert_null(lpm_rpc_message_parse_foreign("{\"a\":99999999999999999999", 25, &error));
    g_assert_error(error, LPM_ERROR, LPM_ERROR_PROTOCOL);
}

/* --- against an other end of our own making --- */

static GIOStream *stream_of(int fd)
{
    g_autoptr(GSocket) socket = g_socket_new_from_fd(fd, NULL);

    return G_IO_STREAM(g_socket_connection_factory_create_connection(socket));
}

static Seen *seen_pair(int *ret_fd)
{
    Seen *seen = g_new0(Seen, 1);
    int fds[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    seen->client = lpm_rpc_client_new(stream_of(fds[0]), on_event, on_closed, seen);
    *ret_fd = fds[1];
    return seen;
}

/* A main loop that stood still beyond a call's deadline reads what has come, and then judges. */
static void test_client_stood_still(void)
{
    static const char answer[] = "{\"return\":{},\"id\":1}\n";
    int fd;
    Seen *seen = seen_pair(&fd);

    lpm_rpc_call(seen->client, "first", NULL, 30, on_reply, seen, NULL);
    g_assert_cmpint(write(fd, answer, sizeof(answer) - 1), ==, sizeof(answer) - 1);
    g_usleep(400 * 1000);
    WAIT_FOR(seen->replies == 1);
    g_assert_cmpint(seen->code, ==, -1);
    lpm_rpc_call(seen->client, "second", NULL, 30, on_reply, seen, NULL);
    g_usleep(400 * 1000);
    WAIT_FOR(seen->replies == 2);
    g_assert_cmpint(seen->code, ==, LPM_ERROR_TIMEOUT);
    close(fd);
    seen_free(seen);
}

static void test_client_odd_answers(void)
{
    static const char *const harmless[] = {
        "{\"return\":{},\"id\":99}\n",
        "{\"return\":{},\"id\":\"1\"}\n",
        "{\"return\":{}}\n",
        "{\"event\":7}\n",
        "{\"hello\":1}\n",
        "{}\n",
        "{\"event\":\"tick\"}\n",
        "\r\n\n",
    };
    static const char *const fatal[] = {"nonsense\n", "[]\n", "{\"error\":{\"desc\":\"?\"}}\n",
                                        "\xff\n"};

    for (size_t i = 0; i < G_N_ELEMENTS(fatal); i++) {
        int fd;
        Seen *seen = seen_pair(&fd);

        lpm_rpc_call(seen->client, "x", NULL, WAIT_MS, on_reply, seen, NULL);
        for (size_t j = 0; j < G_N_ELEMENTS(harmless); j++) {
            g_assert_cmpint(write(fd, harmless[j], strlen(harmless[j])), >, 0);
        }
        WAIT_FOR(seen->events == 1);
        g_assert_cmpuint(seen->replies, ==, 0);
        g_assert_cmpint(write(fd, fatal[i], strlen(fatal[i])), >, 0);
        WAIT_FOR(seen->closed == 1);
        g_assert_cmpuint(seen->replies, ==, 1);
        g_assert_cmpint(seen->code, ==, LPM_ERROR_PROTOCOL);
        seen_free(seen);
        close(fd);
    }
}

/* Byte by byte, several at once: lines are lines. */
static void test_client_fragments(void)
{
    int fd;
    Seen *seen = seen_pair(&fd);
    const char *text =
        "{\"return\":{},\"id\":1}\n{\"event\":\"tick\"}\n{\"return\":{},\"id\":2}\n{\"ev";

    lpm_rpc_call(seen->client, "x", NULL, WAIT_MS, on_reply, seen, NULL);
    lpm_rpc_call(seen->client, "x", NULL, WAIT_MS, on_reply, seen, NULL);
    for (const char *c = text; *c; c++) {
        g_assert_cmpint(write(fd, c, 1), ==, 1);
        g_main_context_iteration(NULL, FALSE);
    }
    WAIT_FOR(seen->replies == 2 && seen->events == 1);
    close(fd);
    WAIT_FOR(seen->closed == 1);
    seen_free(seen);
}

static void test_call_fd(void)
{
    int fd;
    Seen *seen = seen_pair(&fd);
    int pipe_fds[2];
    char buffer[256];
    char control[CMSG_SPACE(sizeof(int))];
    struct iovec iov = {buffer, sizeof(buffer)};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    struct cmsghdr *header;
    int got;

    g_assert_cmpint(pipe2(pipe_fds, O_CLOEXEC), ==, 0);
    lpm_rpc_call_fd(seen->client, "getfd", lpm_json_pack("{s:s}", "fdname", "f"), pipe_fds[1],
                    WAIT_MS, on_reply, seen, NULL);
    g_assert_cmpint(recvmsg(fd, &message, MSG_CMSG_CLOEXEC), >, 0);
    header = CMSG_FIRSTHDR(&message);
    g_assert_nonnull(header);
    g_assert_cmpint(header->cmsg_type, ==, SCM_RIGHTS);
    memcpy(&got, CMSG_DATA(header), sizeof(got));
    g_assert_cmpint(write(got, "!", 1), ==, 1);
    g_assert_cmpint(read(pipe_fds[0], buffer, 1), ==, 1);
    /* Still ours. */
    g_assert_cmpint(write(pipe_fds[1], "!", 1), ==, 1);
    close(got);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    close(fd);
    seen_free(seen);
}

static void test_connect_unix_fails(void)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(lpm_rpc_connect_unix("/nonexistent/socket", NULL, NULL, NULL, &error));
    g_assert_error(error, LPM_ERROR, LPM_ERROR_UNREACHABLE);
    g_assert_nonnull(strstr(error->message, "/nonexistent/socket"));
}

#define ADD(name, function) g_test_add("/rpc/" name, Fixture, NULL, setup, function, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("client/sync", test_client_sync);
    ADD("client/timeout", test_client_timeout);
    ADD("client/free", test_client_free);
    ADD("client/server-goes", test_server_goes);
    ADD("client/events", test_client_events);
    g_test_add_func("/rpc/foreign-integers", test_foreign_integers);
    g_test_add_func("/rpc/client/stood-still", test_client_stood_still);
    g_test_add_func("/rpc/client/odd-answers", test_client_odd_answers);
    g_test_add_func("/rpc/client/fragments", test_client_fragments);
    g_test_add_func("/rpc/client/fd", test_call_fd);
    g_test_add_func("/rpc/connect-unix", test_connect_unix_fails);
    return g_test_run();
}
