/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/connect.h"
#include "rpc/peer.h"
#include "tls/tls.h"

#include <gio/gunixsocketaddress.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

LpmRpcServer *lpm_rpc_server_new(const LpmRpcVerb *verbs, void *data)
{
    LpmRpcServer *server = g_new0(LpmRpcServer, 1);

    server->verbs = verbs;
    server->data = data;
    server->services = g_ptr_array_new_with_free_func(g_object_unref);
    server->paths = g_ptr_array_new_with_free_func(g_free);
    g_queue_init(&server->peers);
    return server;
}

void lpm_rpc_server_free(LpmRpcServer *server)
{
    LpmRpcPeer *peer;

    if (!server) {
        return;
    }
    for (guint i = 0; i < server->services->len; i++) {
        GSocketService *service = server->services->pdata[i];

        g_signal_handlers_disconnect_by_data(service, server);
        g_socket_service_stop(service);
        g_socket_listener_close(G_SOCKET_LISTENER(service));
    }
    while ((peer = g_queue_peek_head(&server->peers))) {
        lpm_rpc_peer_close(peer);
    }
    for (guint i = 0; i < server->paths->len; i++) {
        g_unlink(server->paths->pdata[i]);
    }
    g_ptr_array_unref(server->services);
    g_ptr_array_unref(server->paths);
    g_free(server);
}

/* --- Unix socket --- */

static bool may_connect(GSocketConnection *connection)
{
    g_autoptr(GCredentials) credentials =
        g_socket_get_credentials(g_socket_connection_get_socket(connection), NULL);
    uid_t uid = credentials ? g_credentials_get_unix_user(credentials, NULL) : (uid_t)-1;

    return credentials && (uid == 0 || uid == geteuid());
}

static gboolean on_incoming_unix(G_GNUC_UNUSED GSocketService *service,
                                 GSocketConnection *connection, G_GNUC_UNUSED GObject *source,
                                 void *data)
{
    LpmRpcPeer *peer = may_connect(connection) ? lpm_rpc_peer_add(data) : NULL;

    if (peer) {
        lpm_rpc_peer_serve(peer, G_IO_STREAM(g_object_ref(connection)), LPM_RPC_LOCAL, "local");
    }
    return TRUE;
}

/* A socket file that nobody serves is what a crash leaves behind. */
static bool remove_stale(const char *path, GError **error)
{
    g_autoptr(GIOStream) stream = NULL;
    struct stat status;

    if (lstat(path, &status) != 0) {
        return true;
    }
    if (!S_ISSOCK(status.st_mode)) {
        return lpm_error_set(error, LPM_ERROR_EXISTS,
                             "%s exists and is not a socket: remove it or choose another path",
                             path);
    }
    stream = lpm_rpc_unix_stream(path, NULL);
    if (stream) {
        return lpm_error_set(error, LPM_ERROR_BUSY,
                             "%s is served by another process: stop that one first", path);
    }
    unlink(path);
    return true;
}

bool lpm_rpc_server_listen_unix(LpmRpcServer *server, const char *path, GError **error)
{
    g_autoptr(GSocketService) service = g_socket_service_new();
    g_autoptr(GSocketAddress) address = NULL;
    g_autoptr(GError) cause = NULL;
    mode_t mask;
    bool bound;

    if (!lpm_rpc_path_fits(path, error) || !remove_stale(path, error)) {
        return false;
    }
    address = g_unix_socket_address_new(path);
    mask = umask(0177);
    bound = g_socket_listener_add_address(G_SOCKET_LISTENER(service), address, G_SOCKET_TYPE_STREAM,
                                          G_SOCKET_PROTOCOL_DEFAULT, NULL, NULL, &cause);
    umask(mask);
    if (!bound) {
        return lpm_error_set(error, LPM_ERROR_STATE, "cannot listen on %s: %s", path,
                             cause->message);
    }
    g_signal_connect(service, "incoming", G_CALLBACK(on_incoming_unix), server);
    g_ptr_array_add(server->services, g_steal_pointer(&service));
    g_ptr_array_add(server->paths, g_strdup(path));
    return true;
}

/* --- TLS --- */

typedef struct {
    LpmTlsCredentials *credentials; /* borrowed from who listens */
    LpmRpcServer *server;
    bool allow_anonymous;
} TlsListener;

typedef struct {
    LpmRpcPeer *peer;
    GIOStream *stream;
    bool allow_anonymous;
} Handshake;

/* What the certificate says; false: this peer is not served. */
static bool identify(const Handshake *handshake, LpmRpcRole *ret_role, const char **ret_name)
{
    const char *role = lpm_tls_stream_peer_role(handshake->stream);
    const char *name = lpm_tls_stream_peer_name(handshake->stream);

    *ret_name = name;
    if (!name) {
        *ret_role = LPM_RPC_ANONYMOUS;
        *ret_name = "anonymous";
        return handshake->allow_anonymous;
    }
    if (g_strcmp0(role, "console") == 0) {
        *ret_role = LPM_RPC_CONSOLE;
        return true;
    }
    *ret_role = LPM_RPC_SYSTEM;
    return g_strcmp0(role, "system") == 0;
}

static void on_handshake(GObject *object, GAsyncResult *result, void *data)
{
    Handshake *handshake = data;
    LpmRpcPeer *peer = handshake->peer;
    bool done = g_tls_connection_handshake_finish(G_TLS_CONNECTION(object), result, NULL);
    LpmRpcRole role;
    const char *name;

    if (peer->server) {
        if (done && identify(handshake, &role, &name)) {
            lpm_rpc_peer_serve(peer, g_object_ref(handshake->stream), role, name);
        } else {
            lpm_rpc_peer_close(peer);
        }
    }
    lpm_rpc_peer_unref(peer);
    g_object_unref(handshake->stream);
    g_free(handshake);
}

static gboolean on_incoming_tls(G_GNUC_UNUSED GSocketService *service,
                                GSocketConnection *connection, G_GNUC_UNUSED GObject *source,
                                void *data)
{
    TlsListener *listener = data;
    LpmRpcPeer *peer = lpm_rpc_peer_add(listener->server);
    GIOStream *stream;
    Handshake *handshake;

    if (!peer) {
        return TRUE;
    }
    stream =
        lpm_tls_server_stream(connection, listener->credentials, !listener->allow_anonymous, NULL);
    if (!stream) {
        lpm_rpc_peer_close(peer);
        return TRUE;
    }
    lpm_rpc_tune_socket(connection);
    handshake = g_new0(Handshake, 1);
    handshake->peer = lpm_rpc_peer_ref(peer);
    handshake->stream = stream;
    handshake->allow_anonymous = listener->allow_anonymous;
    lpm_rpc_peer_set_deadline(peer, LPM_RPC_HANDSHAKE_MS);
    g_tls_connection_handshake_async(G_TLS_CONNECTION(stream), G_PRIORITY_DEFAULT, peer->handshake,
                                     on_handshake, handshake);
    return TRUE;
}

static GSocketAddress *bind_tls(GSocketService *service, const char *address, uint16_t port,
                                GError **error)
{
    g_autoptr(GSocketAddress) wanted = g_inet_socket_address_new_from_string(address, port);
    g_autoptr(GError) cause = NULL;
    GSocketAddress *effective = NULL;

    if (!wanted) {
        lpm_error_set(error, LPM_ERROR_USAGE,
                      "cannot listen on \"%s\": give a numeric IPv4 or IPv6 address", address);
        return NULL;
    }
    if (!g_socket_listener_add_address(G_SOCKET_LISTENER(service), wanted, G_SOCKET_TYPE_STREAM,
                                       G_SOCKET_PROTOCOL_TCP, NULL, &effective, &cause)) {
        lpm_error_set(error, LPM_ERROR_NETWORK, "cannot listen on %s, port %u: %s", address, port,
                      cause->message);
        return NULL;
    }
    return effective;
}

bool lpm_rpc_server_listen_tls(LpmRpcServer *server, const char *address, uint16_t port,
                               struct LpmTlsCredentials *credentials, bool allow_anonymous,
                               uint16_t *ret_port, GError **error)
{
    g_autoptr(GSocketService) service = g_socket_service_new();
    g_autoptr(GSocketAddress) effective = bind_tls(service, address, port, error);
    TlsListener *listener;

    if (!effective) {
        return false;
    }
    listener = g_new0(TlsListener, 1);
    listener->server = server;
    listener->credentials = credentials;
    listener->allow_anonymous = allow_anonymous;
    g_object_set_data_full(G_OBJECT(service), "lpm-listener", listener, g_free);
    g_signal_connect(service, "incoming", G_CALLBACK(on_incoming_tls), listener);
    g_ptr_array_add(server->services, g_steal_pointer(&service));
    if (ret_port) {
        *ret_port = g_inet_socket_address_get_port(G_INET_SOCKET_ADDRESS(effective));
    }
    return true;
}
