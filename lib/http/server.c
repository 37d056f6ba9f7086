/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon on the main loop: its epoll descriptor and its own time-outs make one GSource. */
#include "http/internal.h"

#include <gio/gio.h>
#include <string.h>
#include <sys/socket.h>

#define IDLE_SECONDS      30u
#define CONNECTION_MEMORY ((size_t)64 << 10) /* request line, headers and read buffer */

typedef struct {
    GSource source;
    LpmHttpServer *server;
    gpointer tag;
} DaemonSource;

static gboolean source_prepare(GSource *base, gint *timeout)
{
    LpmHttpServer *server = ((DaemonSource *)base)->server;
    MHD_UNSIGNED_LONG_LONG wanted;

    *timeout = -1;
    if (server->kick) {
        return TRUE;
    }
    if (MHD_get_timeout(server->daemon, &wanted) == MHD_YES) {
        *timeout = (gint)MIN(wanted, 60000);
    }
    return *timeout == 0;
}

static gboolean source_check(GSource *base)
{
    DaemonSource *source = (DaemonSource *)base;
    MHD_UNSIGNED_LONG_LONG wanted;

    return source->server->kick || g_source_query_unix_fd(base, source->tag) != 0 ||
           (MHD_get_timeout(source->server->daemon, &wanted) == MHD_YES && wanted == 0);
}

static gboolean source_dispatch(GSource *base, GSourceFunc callback, gpointer data)
{
    LpmHttpServer *server = ((DaemonSource *)base)->server;

    (void)callback;
    (void)data;
    server->kick = false;
    MHD_run(server->daemon);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs source_funcs = {
    .prepare = source_prepare, .check = source_check, .dispatch = source_dispatch};

/* --- connections and their deadline --- */

/* The daemon sees the end of the connection and closes it. */
static gboolean deadline_passed(gpointer data)
{
    LpmHttpConnection *connection = data;

    connection->deadline = 0;
    shutdown(connection->fd, SHUT_RDWR);
    return G_SOURCE_REMOVE;
}

static LpmHttpConnection *connection_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    return info ? info->socket_context : NULL;
}

void lpm_http_deadline_stop(struct MHD_Connection *connection)
{
    LpmHttpConnection *own = connection_of(connection);

    if (own && own->deadline) {
        g_source_remove(own->deadline);
        own->deadline = 0;
    }
}

void lpm_http_deadline_start(struct MHD_Connection *connection)
{
    LpmHttpConnection *own = connection_of(connection);

    lpm_http_deadline_stop(connection);
    if (own) {
        own->deadline = g_timeout_add_seconds(own->deadline_s, deadline_passed, own);
    }
}

static void connection_changed(void *data, struct MHD_Connection *connection, void **context,
                               enum MHD_ConnectionNotificationCode code)
{
    LpmHttpConnection *own = *context;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        own = g_new0(LpmHttpConnection, 1);
        own->fd =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        own->deadline_s = ((LpmHttpServer *)data)->deadline_s;
        own->deadline = g_timeout_add_seconds(own->deadline_s, deadline_passed, own);
        *context = own;
        return;
    }
    if (own && own->deadline) {
        g_source_remove(own->deadline);
    }
    g_free(own);
    *context = NULL;
}

/* --- server --- */

LpmHttpServer *lpm_http_server_new(const LpmHttpRoute *routes, LpmHttpWho who, void *data)
{
    LpmHttpServer *server = g_new0(LpmHttpServer, 1);

    server->routes = routes;
    server->who = who;
    server->data = data;
    server->deadline_s = LPM_HTTP_REQUEST_SECONDS;
    server->waiting = g_hash_table_new(NULL, NULL);
    server->streams = g_hash_table_new(NULL, NULL);
    return server;
}

static void attach(LpmHttpServer *server)
{
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    DaemonSource *source = (DaemonSource *)g_source_new(&source_funcs, sizeof(DaemonSource));

    source->server = server;
    source->tag = g_source_add_unix_fd(&source->source, info->epoll_fd, G_IO_IN);
    server->source = &source->source;
    /* As lib/rpc's: whoever asks without end must not keep the rest from its turn. */
    g_source_set_priority(server->source, G_PRIORITY_DEFAULT_IDLE);
    g_source_attach(server->source, NULL);
}

bool lpm_http_server_listen(LpmHttpServer *server, const char *address, uint16_t port,
                            const char *cert_pem, const char *key_pem, uint16_t *ret_port,
                            GError **error)
{
    g_autoptr(GSocketAddress) wanted = g_inet_socket_address_new_from_string(address, port);
    struct sockaddr_storage native;
    unsigned flags = MHD_USE_EPOLL | MHD_USE_TLS | MHD_ALLOW_SUSPEND_RESUME;

    g_return_val_if_fail(!server->daemon, false);
    if (!wanted || !g_socket_address_to_native(wanted, &native, sizeof(native), NULL)) {
        return lpm_error_set(error, LPM_ERROR_NETWORK, "\"%s\" is not an IP address to listen on",
                             address);
    }
    flags |= native.ss_family == AF_INET6 ? MHD_USE_IPv6 : 0;
    server->daemon = MHD_start_daemon(
        flags, port, NULL, NULL, lpm_http_handle, server, MHD_OPTION_SOCK_ADDR, &native,
        MHD_OPTION_HTTPS_MEM_CERT, cert_pem, MHD_OPTION_HTTPS_MEM_KEY, key_pem,
        MHD_OPTION_HTTPS_PRIORITIES, "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2",
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)LPM_HTTP_CONNECTIONS_MAX,
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)LPM_HTTP_SAME_IP_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        CONNECTION_MEMORY, MHD_OPTION_NOTIFY_CONNECTION, connection_changed, server,
        MHD_OPTION_NOTIFY_COMPLETED, lpm_http_completed, server, MHD_OPTION_END);
    if (!server->daemon) {
        return lpm_error_set(
            error, LPM_ERROR_NETWORK,
            "cannot serve HTTPS on %s port %u: the address is not of this machine, "
            "the port is in use, or the certificate cannot be used",
            address, port);
    }
    attach(server);
    if (ret_port) {
        *ret_port = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
    }
    return true;
}

/* The routes still hold these requests and may answer them later: that goes nowhere. */
static void abandon_waiting(LpmHttpServer *server)
{
    g_autoptr(GError) error = NULL;
    GHashTableIter iter;
    gpointer key;

    lpm_error_set(&error, LPM_ERROR_ABORTED, "the console is stopping");
    g_hash_table_iter_init(&iter, server->waiting);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        LpmHttpRequest *request = key;

        lpm_http_request_answer(request, lpm_error_info(LPM_ERROR_ABORTED)->http,
                                lpm_json_pack("{s:o}", "error", lpm_http_error_json(error)));
        request->server = NULL;
    }
}

void lpm_http_server_free(LpmHttpServer *server)
{
    if (!server) {
        return;
    }
    abandon_waiting(server);
    lpm_http_streams_end(server);
    if (server->daemon) {
        MHD_run(server->daemon); /* resumes the connections and sends what their sockets take */
        g_source_destroy(server->source);
        g_source_unref(server->source);
        MHD_stop_daemon(server->daemon);
    }
    g_hash_table_unref(server->waiting);
    g_hash_table_unref(server->streams);
    g_free(server);
}
