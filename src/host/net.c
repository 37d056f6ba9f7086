/* SPDX-License-Identifier: Apache-2.0 */
/* Where this system's movers are reached: its addresses, and the sockets that listen there. */
#include "host/migration.h"

#include "base/log.h"
#include "bytes/bytes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <gio/gio.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

enum { TRIES_OF_ANY_PORT = 16 };

/* --- addresses --- */

static bool is_any(const char *address)
{
    return strcmp(address, "0.0.0.0") == 0 || strcmp(address, "::") == 0;
}

/* An address of an interface that others can reach; NULL when it is none. */
static char *usable(const struct ifaddrs *one)
{
    bool up = (one->ifa_flags & IFF_UP) && !(one->ifa_flags & IFF_LOOPBACK);
    if (!up || !one->ifa_addr ||
        (one->ifa_addr->sa_family != AF_INET && one->ifa_addr->sa_family != AF_INET6)) {
        return NULL;
    }
    bool six = one->ifa_addr->sa_family == AF_INET6;
    g_autoptr(GSocketAddress) address = g_socket_address_new_from_native(
        one->ifa_addr, six ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
    GInetAddress *inet =
        address ? g_inet_socket_address_get_address(G_INET_SOCKET_ADDRESS(address)) : NULL;
    return inet && !g_inet_address_get_is_link_local(inet) ? g_inet_address_to_string(inet) : NULL;
}

/* Of all interfaces: an administrator who named none lets movers use any. */
static void add_all(json_t *list)
{
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) != 0) {
        return;
    }
    for (struct ifaddrs *one = all; one && json_array_size(list) < LPM_MOVER_NETS_MAX;
         one = one->ifa_next) {
        g_autofree char *text = usable(one);
        if (text) {
            json_array_append_new(list, json_string(text));
        }
    }
    freeifaddrs(all);
}

json_t *lpm_mobility_addresses(const LpmHost *host)
{
    const LpmHostConfig *config = host->config;
    json_t *list = json_array();
    for (char **one = config->mover_addresses; *one; one++) {
        json_array_append_new(list, json_string(*one));
    }
    if (!config->mover_addresses[0] && is_any(config->rpc_address)) {
        add_all(list);
    } else if (!config->mover_addresses[0]) {
        json_array_append_new(list, json_string(config->rpc_address));
    }
    return list;
}

/* --- listening --- */

/* A socket that listens there; -1 with errno. */
static int listen_at(const char *text, uint16_t port)
{
    struct sockaddr_storage native;
    g_autoptr(GSocketAddress) address = g_inet_socket_address_new_from_string(text, port);
    gssize size = address ? g_socket_address_get_native_size(address) : -1;
    if (size < 0 || !g_socket_address_to_native(address, &native, sizeof native, NULL)) {
        errno = EINVAL;
        return -1;
    }
    LPM_AUTO_FD int fd = socket(native.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    if (fd < 0) {
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (native.ss_family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    }
    if (bind(fd, (struct sockaddr *)&native, (socklen_t)size) != 0 || listen(fd, 4) != 0) {
        int saved = errno;
        lpm_bytes_close(&fd);
        errno = saved;
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

void lpm_listeners_close(LpmListeners *listeners)
{
    for (unsigned i = 0; i < listeners->n; i++) {
        lpm_bytes_close(&listeners->fds[i]);
    }
    listeners->n = 0;
    g_clear_pointer(&listeners->addresses, json_decref);
}

/*
 * One port at all addresses. One that this system does not have just now (a card that is down) is
 * left out as long as there is another. False: this port cannot be had, with errno.
 */
static bool listen_everywhere(const json_t *addresses, uint16_t port, LpmListeners *ret)
{
    LpmListeners found = {.addresses = json_array(), .port = port};
    json_t *address = NULL;
    size_t i = 0;
    int saved = EADDRNOTAVAIL;
    json_array_foreach (addresses, i, address) {
        int fd =
            found.n < LPM_MOVER_NETS_MAX ? listen_at(json_string_value(address), found.port) : -1;
        if (fd >= 0) {
            found.fds[found.n++] = fd;
            found.port = found.port ? found.port : port_of(fd);
            json_array_append(found.addresses, address);
            continue;
        }
        saved = errno;
        if (saved != EADDRNOTAVAIL) {
            found.port = 0;
            break;
        }
    }
    if (found.n == 0 || found.port == 0) {
        lpm_listeners_close(&found);
        errno = saved;
        return false;
    }
    *ret = found;
    return true;
}

bool lpm_mobility_listen(LpmHost *host, LpmListeners *ret, GError **error)
{
    const LpmHostConfig *config = host->config;
    g_autoptr(json_t) addresses = lpm_mobility_addresses(host);
    bool any = config->mover_port_first == 0;
    unsigned last = any ? TRIES_OF_ANY_PORT : config->mover_port_last;
    for (unsigned port = any ? 1 : config->mover_port_first; port <= last; port++) {
        if (listen_everywhere(addresses, any ? 0 : (uint16_t)port, ret)) {
            return true;
        }
    }
    int saved = errno;
    g_autofree char *text = lpm_json_text(addresses);
    return lpm_error_set(
        error, LPM_ERROR_NETWORK,
        "no port from %u to %u of the mover addresses %s of system %s can be listened at: %s; see "
        "[mover] in the configuration of lpm-host",
        config->mover_port_first, config->mover_port_last, text, lpm_host_name(host),
        g_strerror(saved));
}
