/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that reads lines from somebody else: the message shapes, our server, our client,
 * QEMU's and the guest agent's clients. The first byte chooses; the rest is what the other end
 * sends. Handshakes that a guesser cannot pass are done for it, so that what lies behind them is
 * reached.
 */
#include "qga/qga.h"
#include "qmp/qmp.h"
#include "rpc/connect.h"
#include "rpc/message.h"
#include "rpc/peer.h"

#include <gio/gio.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TIMEOUT_MS 2000

/* --- one end of a connection for the code, the other for the input --- */

static GIOStream *stream_of(int fd)
{
    g_autoptr(GSocket) end = g_socket_new_from_fd(fd, NULL);

    return G_IO_STREAM(g_socket_connection_factory_create_connection(end));
}

/* All of @data comes, then the connection ends. */
static GIOStream *stream_with(const uint8_t *data, size_t size)
{
    int fds[2];

    g_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    g_assert(send(fds[1], data, size, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)size);
    shutdown(fds[1], SHUT_WR);
    /* Nothing reads what the code answers. */
    close(fds[1]);
    return stream_of(fds[0]);
}

static void run_until(const bool *over)
{
    while (!*over) {
        g_main_context_iteration(NULL, TRUE);
    }
}

static void run_what_is_ready(void)
{
    while (g_main_context_iteration(NULL, FALSE)) {
    }
}

/* --- message shapes --- */

static void run_verb(LpmRpcRequest *request, json_t *arguments, G_GNUC_UNUSED void *data)
{
    lpm_rpc_request_return(request, json_incref(arguments));
}

static const LpmRpcArg args[] = {
    {"s", 's', true, ""},  {"i", 'i', false, ""}, {"b", 'b', false, ""},
    {"o", 'o', false, ""}, {"a", 'a', false, ""}, {NULL},
};
static const LpmRpcVerb verbs[] = {{"v", 15u, run_verb, args, ""}, {NULL}};

static void fuzz_messages(const uint8_t *data, size_t size)
{
    g_autoptr(json_t) message = lpm_rpc_message_parse((const char *)data, size, NULL);
    g_autoptr(json_t) foreign = lpm_rpc_message_parse_foreign((const char *)data, size, NULL);
    LpmRpcCallParts parts;

    g_assert(!message || json_is_object(message));
    /* What the strict parser takes, the lenient one takes as the same. */
    g_assert(!message || json_equal(message, foreign));
    if (message && lpm_rpc_message_request(message, &parts, NULL)) {
        g_autoptr(GError) error = NULL;
        bool right = lpm_rpc_verb_check(verbs, parts.arguments, &error);

        g_assert(right == !error);
    }
    if (foreign) {
        g_autoptr(GError) error = lpm_rpc_message_failure(json_object_get(foreign, "error"), -1);
        g_autoptr(json_t) again = lpm_rpc_message_error(error, NULL);

        g_assert(again);
    }
}

/* --- server and client --- */

static void fuzz_server(const uint8_t *data, size_t size)
{
    LpmRpcServer *server = lpm_rpc_server_new(verbs, NULL);
    LpmRpcPeer *peer = lpm_rpc_peer_add(server);

    lpm_rpc_peer_serve(peer, stream_with(data, size), LPM_RPC_LOCAL, "local");
    run_what_is_ready();
    lpm_rpc_server_emit(server, "event", NULL);
    lpm_rpc_server_free(server);
}

static void on_closed(G_GNUC_UNUSED const GError *error, void *data)
{
    *(bool *)data = true;
}

static void fuzz_client(const uint8_t *data, size_t size)
{
    bool over = false;
    LpmRpcClient *client = lpm_rpc_client_new(stream_with(data, size), NULL, on_closed, &over);

    lpm_rpc_call(client, "a", NULL, TIMEOUT_MS, NULL, NULL, NULL);
    lpm_rpc_call(client, "b", json_object(), TIMEOUT_MS, NULL, NULL, NULL);
    run_until(&over);
    lpm_rpc_client_free(client);
}

/* --- clients that connect to a path --- */

typedef struct {
    int listener;
    char *path;
} Place;

static Place *place(void)
{
    static Place here = {-1, NULL};
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (here.listener < 0) {
        here.path = g_strdup_printf("%s/lpm-fuzz-%d", g_get_tmp_dir(), (int)getpid());
        g_strlcpy(address.sun_path, here.path, sizeof(address.sun_path));
        g_unlink(here.path);
        here.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        g_assert(bind(here.listener, (struct sockaddr *)&address, sizeof(address)) == 0);
        g_assert(listen(here.listener, 64) == 0);
    }
    return &here;
}

static void send_all(int fd, const void *data, size_t size)
{
    /* More than the socket holds cannot come here: inputs are short. */
    g_assert(send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size);
}

static void on_json(json_t *result, const GError *error, G_GNUC_UNUSED void *data)
{
    g_assert(!result == !!error);
}

static void on_connected(LpmQmp *qmp, const GError *error, void *data)
{
    g_assert(!qmp == !!error);
    *(LpmQmp **)data = qmp;
}

static void on_state(const LpmQmpStatus *status, G_GNUC_UNUSED const LpmQmpMigration *migration,
                     const GError *error, G_GNUC_UNUSED void *data)
{
    g_assert(!status == !!error);
}

static void on_text(const char *text, const GError *error, G_GNUC_UNUSED void *data)
{
    g_assert(!text == !!error);
}

static void fuzz_qmp(const uint8_t *data, size_t size)
{
    const char *hello =
        "{\"QMP\":{\"version\":{},\"capabilities\":[\"oob\"]}}\n{\"return\":{},\"id\":1}\n";
    bool over = false;
    LpmQmpHandlers handlers = {NULL, on_closed, &over};
    LpmQmp *qmp = NULL;
    int fd;

    lpm_qmp_connect(place()->path, TIMEOUT_MS, &handlers, on_connected, &qmp);
    fd = accept(place()->listener, NULL, NULL);
    send_all(fd, hello, strlen(hello));
    while (!qmp) {
        g_main_context_iteration(NULL, TRUE);
    }
    lpm_qmp_query_state(qmp, on_state, NULL);
    lpm_qmp_query_machines(qmp, on_json, NULL);
    lpm_qmp_query_cpu_model_expansion(qmp, "full", "max", NULL, on_json, NULL);
    lpm_qmp_set_capabilities(qmp, lpm_qmp_move_capabilities, NULL, NULL);
    lpm_qmp_hmp(qmp, "info status", on_text, NULL);
    lpm_qmp_cont(qmp, LPM_QMP_RUN_UNKNOWN, NULL, NULL);
    send_all(fd, data, size);
    shutdown(fd, SHUT_WR);
    run_until(&over);
    close(fd);
    lpm_qmp_free(qmp);
}

/* Connections that were made anew meanwhile, as the guest agent's client does after a failure. */
static void drop_pending(void)
{
    struct pollfd waiting = {.fd = place()->listener, .events = POLLIN};

    while (poll(&waiting, 1, 0) > 0) {
        close(accept(place()->listener, NULL, NULL));
    }
}

/* Reads the handshake's question and answers it. */
static void pass_sync(int fd)
{
    char question[512] = {0};
    g_autofree char *answer = NULL;
    ssize_t n = -1;
    char *id;

    while (n <= 0) {
        g_main_context_iteration(NULL, FALSE);
        n = recv(fd, question, sizeof(question) - 1, MSG_DONTWAIT);
    }
    id = strstr(question, "\"id\":");
    g_assert(id);
    answer = g_strdup_printf("\xff{\"return\":%" G_GUINT64_FORMAT "}\n",
                             g_ascii_strtoull(id + 5, NULL, 10));
    send_all(fd, answer, strlen(answer));
}

static void on_info(const LpmQgaInfo *info, const GError *error, G_GNUC_UNUSED void *data)
{
    g_assert(!info == !!error);
}

static void on_os(const LpmQgaOs *os, const GError *error, G_GNUC_UNUSED void *data)
{
    g_assert(!os == !!error);
    g_assert(!os || strlen(os->name) <= LPM_QGA_TEXT_MAX);
}

static void on_interfaces(const LpmQgaInterface *interfaces, size_t n,
                          G_GNUC_UNUSED const GError *error, G_GNUC_UNUSED void *data)
{
    for (size_t i = 0; i < n; i++) {
        g_assert(g_utf8_validate(interfaces[i].name, -1, NULL));
    }
}

static void on_exec(const LpmQgaExec *result, const GError *error, G_GNUC_UNUSED void *data)
{
    g_assert(!result == !!error);
}

static void fuzz_qga(const uint8_t *data, size_t size)
{
    const char *const argv[] = {"/bin/true", NULL};
    LpmQga *qga = lpm_qga_new(place()->path);
    int fd;

    lpm_qga_info(qga, TIMEOUT_MS, on_info, NULL);
    lpm_qga_osinfo(qga, TIMEOUT_MS, on_os, NULL);
    lpm_qga_interfaces(qga, TIMEOUT_MS, on_interfaces, NULL);
    lpm_qga_exec(qga, argv, NULL, NULL, TIMEOUT_MS, on_exec, NULL);
    g_main_context_iteration(NULL, TRUE);
    fd = accept(place()->listener, NULL, NULL);
    pass_sync(fd);
    send_all(fd, data, size);
    shutdown(fd, SHUT_WR);
    run_what_is_ready();
    lpm_qga_free(qga);
    close(fd);
    drop_pending();
}

/* --- the choice --- */

static void (*const targets[])(const uint8_t *data, size_t size) = {
    fuzz_messages, fuzz_server, fuzz_client, fuzz_qmp, fuzz_qga};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && size < 65536) {
        targets[data[0] % G_N_ELEMENTS(targets)](data + 1, size - 1);
    }
    return 0;
}
