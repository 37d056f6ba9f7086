/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/connect.h"
#include "rpc/peer.h"

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
    g_clear_handle_id(&server->accepts_timer, g_source_remove);
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

static gboolean on_pause_over(gpointer data)
{
    LpmRpcServer *server = data;

    server->accepts_timer = 0;
    for (guint i = 0; i < server->services->len; i++) {
        g_socket_service_start(server->services->pdata[i]);
    }
    return G_SOURCE_REMOVE;
}

void lpm_rpc_server_took_one(LpmRpcServer *server)
{
    gint64 now = g_get_monotonic_time();

    if (now - server->accepts_us > LPM_RPC_ACCEPTS_MS * 1000) {
        server->accepts_us = now;
        server->accepts = 0;
    }
    if (++server->accepts < LPM_RPC_ACCEPTS_MAX || server->accepts_timer) {
        return;
    }
    for (guint i = 0; i < server->services->len; i++) {
        g_socket_service_stop(server->services->pdata[i]);
    }
    server->accepts_timer = g_timeout_add(LPM_RPC_ACCEPTS_MS, on_pause_over, server);
}

/* --- Unix socket --- */

/* Who the kernel says it is, for what is written down about it; NULL: it may not connect. */
static char *who_connects(GSocketConnection *connection)
{
    g_autoptr(GCredentials) credentials =
        g_socket_get_credentials(g_socket_connection_get_socket(connection), NULL);
    uid_t uid = credentials ? g_credentials_get_unix_user(credentials, NULL) : (uid_t)-1;
    pid_t pid = credentials ? g_credentials_get_unix_pid(credentials, NULL) : 0;

    if (!credentials || (uid != 0 && uid != geteuid())) {
        return NULL;
    }
    return g_strdup_printf("local user %u, process %d", (unsigned)uid, (int)pid);
}

static gboolean on_incoming_unix(G_GNUC_UNUSED GSocketService *service,
                                 GSocketConnection *connection, G_GNUC_UNUSED GObject *source,
                                 void *data)
{
    g_autofree char *who = who_connects(connection);
    LpmRpcPeer *peer = who ? lpm_rpc_peer_add(data) : NULL;

    lpm_rpc_server_took_one(data);
    if (peer) {
        lpm_rpc_peer_serve(peer, G_IO_STREAM(g_object_ref(connection)), LPM_RPC_LOCAL, who);
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
