/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/connect.h"

#include "rpc/rpc.h"
#include "tls/tls.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* A system that is gone is noticed within 3 s; what a slow link delays is still heard. */
#define KEEPALIVE_IDLE_S     1
#define KEEPALIVE_INTERVAL_S 1
#define KEEPALIVE_COUNT      2
#define USER_TIMEOUT_MS      2500

void lpm_rpc_tune_socket(GSocketConnection *connection)
{
    GSocket *tcp = g_socket_connection_get_socket(connection);

    /* Best effort: without them a lost peer is noticed later, by the deadlines of calls. */
    g_socket_set_keepalive(tcp, TRUE);
    g_socket_set_option(tcp, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S, NULL);
    g_socket_set_option(tcp, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S, NULL);
    g_socket_set_option(tcp, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT, NULL);
    g_socket_set_option(tcp, IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS, NULL);
    g_socket_set_option(tcp, IPPROTO_TCP, TCP_NODELAY, 1, NULL);
}

/* --- Unix socket --- */

bool lpm_rpc_path_fits(const char *path, GError **error)
{
    size_t most = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;

    if (strlen(path) > most) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "socket path %s is too long: at most %zu bytes are possible", path,
                             most);
    }
    return true;
}

/* Not through GSocketClient: that one blocks when the listener's backlog is full, and QEMU's holds
 * one connection. */
static GSocket *connect_now(const char *path, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    GSocket *socket_object;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    memcpy(address.sun_path, path, strlen(path) + 1);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        const char *why = errno == EAGAIN ? "too many others wait for it" : g_strerror(errno);

        lpm_error_set(error, LPM_ERROR_UNREACHABLE, "cannot connect to %s: %s", path, why);
        if (fd >= 0) {
            close(fd);
        }
        return NULL;
    }
    socket_object = g_socket_new_from_fd(fd, NULL);
    g_assert(socket_object);
    return socket_object;
}

GIOStream *lpm_rpc_unix_stream(const char *path, GError **error)
{
    g_autoptr(GSocket) socket_object = NULL;

    if (!lpm_rpc_path_fits(path, error)) {
        return NULL;
    }
    socket_object = connect_now(path, error);
    return socket_object ? G_IO_STREAM(g_socket_connection_factory_create_connection(socket_object))
                         : NULL;
}

LpmRpcClient *lpm_rpc_connect_unix(const char *path, LpmRpcEvent on_event, LpmRpcClosed on_closed,
                                   void *data, GError **error)
{
    GIOStream *stream = lpm_rpc_unix_stream(path, error);

    return stream ? lpm_rpc_client_new(stream, on_event, on_closed, data) : NULL;
}

/* --- TLS --- */

typedef struct {
    char *where; /* "ADDRESS, port N", for messages */
    unsigned timeout_ms;
    LpmTlsCredentials *credentials; /* borrowed from the caller */
    char *expected_name;
    LpmRpcEvent event;
    LpmRpcClosed closed;
    void *event_data;
    LpmRpcConnected done;
    void *done_data;
    GCancellable *cancellable;
    GSource *deadline;
    GIOStream *stream;
} Attempt;

static void attempt_end(Attempt *attempt, LpmRpcClient *client, const GError *error)
{
    attempt->done(client, error, attempt->done_data);
    g_source_destroy(attempt->deadline);
    g_source_unref(attempt->deadline);
    g_object_unref(attempt->cancellable);
    g_clear_object(&attempt->stream);
    g_free(attempt->expected_name);
    g_free(attempt->where);
    g_free(attempt);
}

static void attempt_fail(Attempt *attempt, const GError *cause)
{
    g_autoptr(GError) error = NULL;

    if (g_error_matches(cause, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
        lpm_error_set(&error, LPM_ERROR_UNREACHABLE, "cannot connect to %s: no answer within %u ms",
                      attempt->where, attempt->timeout_ms);
    } else if (cause->domain == LPM_ERROR) {
        error = g_error_copy(cause);
        g_prefix_error(&error, "cannot connect to %s: ", attempt->where);
    } else {
        int code = cause->domain == G_TLS_ERROR ? LPM_ERROR_DENIED : LPM_ERROR_UNREACHABLE;

        lpm_error_set(&error, (LpmErrorCode)code, "cannot connect to %s: %s", attempt->where,
                      cause->message);
    }
    attempt_end(attempt, NULL, error);
}

static void on_handshake(GObject *object, GAsyncResult *result, void *data)
{
    Attempt *attempt = data;
    g_autoptr(GError) error = NULL;
    const char *name;

    if (!g_tls_connection_handshake_finish(G_TLS_CONNECTION(object), result, &error)) {
        attempt_fail(attempt, error);
        return;
    }
    name = lpm_tls_stream_peer_name(attempt->stream);
    if (attempt->expected_name && g_strcmp0(name, attempt->expected_name) != 0) {
        lpm_error_set(&error, LPM_ERROR_DENIED, "its certificate names \"%s\", not \"%s\"",
                      name ? name : "", attempt->expected_name);
        attempt_fail(attempt, error);
        return;
    }
    attempt_end(attempt,
                lpm_rpc_client_new(g_steal_pointer(&attempt->stream), attempt->event,
                                   attempt->closed, attempt->event_data),
                NULL);
}

static void on_connected(GObject *object, GAsyncResult *result, void *data)
{
    Attempt *attempt = data;
    g_autoptr(GError) error = NULL;
    g_autoptr(GSocketConnection) connection =
        g_socket_client_connect_to_host_finish(G_SOCKET_CLIENT(object), result, &error);

    if (connection) {
        lpm_rpc_tune_socket(connection);
        attempt->stream =
            lpm_tls_client_stream(connection, attempt->credentials, attempt->expected_name, &error);
    }
    if (!attempt->stream) {
        attempt_fail(attempt, error);
        return;
    }
    g_tls_connection_handshake_async(G_TLS_CONNECTION(attempt->stream), G_PRIORITY_DEFAULT,
                                     attempt->cancellable, on_handshake, attempt);
}

static gboolean on_deadline(void *data)
{
    Attempt *attempt = data;

    g_cancellable_cancel(attempt->cancellable);
    return G_SOURCE_REMOVE;
}

void lpm_rpc_connect_tls(const char *address, uint16_t port, struct LpmTlsCredentials *credentials,
                         const char *expected_name, unsigned timeout_ms, LpmRpcEvent on_event,
                         LpmRpcClosed on_closed, void *event_data, LpmRpcConnected done,
                         void *done_data)
{
    g_autoptr(GSocketClient) client = g_socket_client_new();
    Attempt *attempt = g_new0(Attempt, 1);

    attempt->where = g_strdup_printf("%s, port %u", address, port);
    attempt->timeout_ms = timeout_ms;
    attempt->credentials = credentials;
    attempt->expected_name = g_strdup(expected_name);
    attempt->event = on_event;
    attempt->closed = on_closed;
    attempt->event_data = event_data;
    attempt->done = done;
    attempt->done_data = done_data;
    attempt->cancellable = g_cancellable_new();
    attempt->deadline = g_timeout_source_new(timeout_ms);
    g_source_set_callback(attempt->deadline, on_deadline, attempt, NULL);
    g_source_attach(attempt->deadline, NULL);
    g_socket_client_set_enable_proxy(client, FALSE);
    g_socket_client_connect_to_host_async(client, address, port, attempt->cancellable, on_connected,
                                          attempt);
}
