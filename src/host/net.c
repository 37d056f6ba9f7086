/* SPDX-License-Identifier: Apache-2.0 */
/* TCP for the movers: lpm-host opens, the movers carry. Addresses are numbers; nothing is resolved.
 */
#include "host/migration.h"

#include "bytes/bytes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- listen --- */

static int listen_at(GSocketAddress *address, GError **error)
{
    struct sockaddr_storage native;
    gssize size = g_socket_address_get_native_size(address);
    if (size < 0 || !g_socket_address_to_native(address, &native, sizeof native, error)) {
        return -1;
    }
    LPM_AUTO_FD int fd = socket(native.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1, off = 0;
    if (fd < 0) {
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (native.ss_family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    }
    if (bind(fd, (struct sockaddr *)&native, (socklen_t)size) != 0 || listen(fd, 4) != 0) {
        return -1;
    }
    return lpm_bytes_steal_fd(&fd);
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage native;
    socklen_t size = sizeof native;
    if (getsockname(fd, (struct sockaddr *)&native, &size) != 0) {
        return 0;
    }
    return native.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)(void *)&native)->sin6_port)
                                        : ntohs(((struct sockaddr_in *)(void *)&native)->sin_port);
}

int lpm_mobility_listen(LpmHost *host, uint16_t *ret_port, GError **error)
{
    const LpmHostConfig *config = host->config;
    /* One socket serves all addresses: with several of them it listens everywhere. */
    const char *only = config->mover_addresses[0] && !config->mover_addresses[1]
                           ? config->mover_addresses[0]
                           : "::";
    int saved = 0;
    for (unsigned port = config->mover_port_first; port <= config->mover_port_last; port++) {
        g_autoptr(GSocketAddress) address = g_inet_socket_address_new_from_string(only, port);
        int fd = address ? listen_at(address, NULL) : -1;
        saved = address ? errno : EINVAL;
        if (fd >= 0) {
            *ret_port = port_of(fd);
            return fd;
        }
    }
    lpm_error_set(error, LPM_ERROR_NETWORK,
                  "no port from %u to %u of the mover address %s of system %s can be listened at: "
                  "%s; see [mover] in the configuration of lpm-host",
                  config->mover_port_first, config->mover_port_last, only, lpm_host_name(host),
                  g_strerror(saved));
    return -1;
}

/* --- connect --- */

typedef struct {
    json_t *addresses;
    size_t next;
    uint16_t port;
    unsigned timeout_s;
    LpmConnectDone done;
    void *data;
    GString *reasons;
} Connecting;

static void try_next(Connecting *connecting);

static void connecting_end(Connecting *connecting, int fd, const GError *error)
{
    connecting->done(fd, error, connecting->data);
    json_decref(connecting->addresses);
    g_string_free(connecting->reasons, TRUE);
    g_free(connecting);
}

static void tried(GObject *client, GAsyncResult *result, gpointer data)
{
    Connecting *connecting = data;
    g_autoptr(GError) failure = NULL;
    g_autoptr(GSocketConnection) connection =
        g_socket_client_connect_finish(G_SOCKET_CLIENT(client), result, &failure);
    if (!connection) {
        g_string_append_printf(connecting->reasons, "%s%s", connecting->reasons->len ? "; " : "",
                               failure->message);
        try_next(connecting);
        return;
    }
    int fd = g_socket_get_fd(g_socket_connection_get_socket(connection));
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    connecting_end(connecting, copy, NULL);
}

static void try_next(Connecting *connecting)
{
    const char *address =
        json_string_value(json_array_get(connecting->addresses, connecting->next++));
    if (!address) {
        g_autoptr(GError) error = NULL;
        lpm_error_set(&error, LPM_ERROR_UNREACHABLE,
                      "the target's mover does not answer at port %u: %s; check the link between "
                      "the systems and [mover] addresses of the target",
                      connecting->port, connecting->reasons->str);
        connecting_end(connecting, -1, error);
        return;
    }
    g_autoptr(GSocketAddress) where =
        g_inet_socket_address_new_from_string(address, connecting->port);
    if (!where) {
        g_string_append_printf(connecting->reasons, "%s%s is no address",
                               connecting->reasons->len ? "; " : "", address);
        try_next(connecting);
        return;
    }
    g_autoptr(GSocketClient) client = g_socket_client_new();
    g_socket_client_set_enable_proxy(client, FALSE);
    g_socket_client_set_timeout(client, connecting->timeout_s);
    g_socket_client_connect_async(client, G_SOCKET_CONNECTABLE(where), NULL, tried, connecting);
}

static gboolean first_try(gpointer data)
{
    try_next(data);
    return G_SOURCE_REMOVE;
}

void lpm_mobility_connect(const json_t *addresses, uint16_t port, unsigned timeout_ms,
                          LpmConnectDone done, void *data)
{
    Connecting *connecting = g_new0(Connecting, 1);
    connecting->addresses = json_deep_copy(addresses);
    connecting->port = port;
    connecting->timeout_s = MAX(1, timeout_ms / 1000);
    connecting->done = done;
    connecting->data = data;
    connecting->reasons = g_string_new(NULL);
    g_idle_add_full(G_PRIORITY_DEFAULT, first_try, connecting, NULL);
}
