/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's TLS side. GIO carries a handshake out in one of the few threads of a pool that it
 * shares with everything else, so a stranger gets one only once its first message is there, and not
 * for long while others wait.
 */
#include "rpc/connect.h"
#include "rpc/peer.h"
#include "tls/tls.h"

#include <netinet/in.h>
#include <sys/socket.h>

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

    peer->shaking = false;
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

/* --- the first message --- */

/* A connection whose first message is not whole yet. */
typedef struct {
    LpmRpcPeer *peer;
    GSocketConnection *connection;
    const TlsListener *listener; /* borrowed: outlives the server's peers */
} Waiting;

enum { RECORD_HEADER = 5, RECORD_HANDSHAKE = 22, RECORD_MAX = 16384 };

static void set_low_water(int fd, int bytes)
{
    /* Best effort: without it the source is called for each piece that comes. */
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes));
}

/* Whether the TLS record at the beginning is there, or can never be: that is GnuTLS's to refuse. */
static bool is_whole(int fd)
{
    guint8 bytes[RECORD_HEADER + RECORD_MAX];
    ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
    int needed = RECORD_HEADER;

    if (n >= RECORD_HEADER) {
        needed += bytes[3] << 8 | bytes[4];
    }
    if (n <= 0 || bytes[0] != RECORD_HANDSHAKE || needed > (int)sizeof(bytes) || n >= needed) {
        set_low_water(fd, 1);
        return true;
    }
    set_low_water(fd, needed);
    return false;
}

static void begin_handshake(const Waiting *waiting)
{
    const TlsListener *listener = waiting->listener;
    LpmRpcPeer *peer = waiting->peer;
    GIOStream *stream = lpm_tls_server_stream(waiting->connection, listener->credentials,
                                              !listener->allow_anonymous, NULL);
    Handshake *handshake;

    if (!stream) {
        lpm_rpc_peer_close(peer);
        return;
    }
    lpm_rpc_peer_make_room(peer->server, true);
    peer->shaking = true;
    handshake = g_new0(Handshake, 1);
    handshake->peer = lpm_rpc_peer_ref(peer);
    handshake->stream = stream;
    handshake->allow_anonymous = listener->allow_anonymous;
    g_tls_connection_handshake_async(G_TLS_CONNECTION(stream), G_PRIORITY_DEFAULT, peer->handshake,
                                     on_handshake, handshake);
}

static gboolean on_hello(GSocket *socket, G_GNUC_UNUSED GIOCondition condition, void *data)
{
    Waiting *waiting = data;
    LpmRpcPeer *peer = waiting->peer;

    if (!is_whole(g_socket_get_fd(socket))) {
        return G_SOURCE_CONTINUE;
    }
    begin_handshake(waiting);
    g_clear_pointer(&peer->hello, g_source_unref);
    return G_SOURCE_REMOVE;
}

static void waiting_free(void *data)
{
    Waiting *waiting = data;

    lpm_rpc_peer_unref(waiting->peer);
    g_object_unref(waiting->connection);
    g_free(waiting);
}

static gboolean on_incoming_tls(G_GNUC_UNUSED GSocketService *service,
                                GSocketConnection *connection, G_GNUC_UNUSED GObject *source,
                                void *data)
{
    const TlsListener *listener = data;
    GSocket *socket = g_socket_connection_get_socket(connection);
    LpmRpcPeer *peer;
    Waiting *waiting;

    lpm_rpc_server_took_one(listener->server);
    if (!lpm_rpc_peer_make_room(listener->server, false)) {
        return TRUE;
    }
    peer = lpm_rpc_peer_add(listener->server);
    lpm_rpc_tune_socket(connection);
    waiting = g_new0(Waiting, 1);
    waiting->peer = lpm_rpc_peer_ref(peer);
    waiting->connection = g_object_ref(connection);
    waiting->listener = listener;
    lpm_rpc_peer_set_deadline(peer, LPM_RPC_HANDSHAKE_MS);
    peer->hello = g_socket_create_source(socket, G_IO_IN, NULL);
    g_source_set_callback(peer->hello, G_SOURCE_FUNC(on_hello), waiting, waiting_free);
    g_source_attach(peer->hello, NULL);
    return TRUE;
}

/* --- listening --- */

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
