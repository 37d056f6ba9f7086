/* SPDX-License-Identifier: Apache-2.0 */
/* Virtual networks that are Linux bridges. */
#include "host/network.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netlink/route/link.h>
#include <netlink/route/link/bridge.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

typedef struct nl_sock NlSock;
typedef struct rtnl_link RtnlLink;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NlSock, nl_socket_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RtnlLink, rtnl_link_put)

static NlSock *netlink_open(void)
{
    NlSock *sock = nl_socket_alloc();

    if (sock && nl_connect(sock, NETLINK_ROUTE) < 0) {
        g_clear_pointer(&sock, nl_socket_free);
    }
    return sock;
}

static void bridge_look(const LpmHost *host G_GNUC_UNUSED, const LpmSwitchConfig *config,
                        LpmNetworkLook *ret_look)
{
    g_autoptr(NlSock) sock = netlink_open();
    g_autoptr(RtnlLink) link = NULL;

    memset(ret_look, 0, sizeof(*ret_look));
    if (!sock || rtnl_link_get_kernel(sock, 0, config->bridge, &link) < 0) {
        return;
    }
    ret_look->exists = true;
    ret_look->up = (rtnl_link_get_flags(link) & IFF_UP) != 0;
    ret_look->mtu = (int)rtnl_link_get_mtu(link);
    if (g_strcmp0(rtnl_link_get_type(link), "bridge") == 0) {
        g_strlcpy(ret_look->bridge, config->bridge, sizeof(ret_look->bridge));
    }
}

static int tap_open(char *ret_name, GError **error)
{
    struct ifreq request = {0};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        lpm_error_set(error, LPM_ERROR_NETWORK,
                      "/dev/net/tun cannot be opened: %s; run lpm-host with the right to make taps",
                      g_strerror(errno));
        return -1;
    }
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    g_strlcpy(request.ifr_name, "lpm%d", IFNAMSIZ);
    if (ioctl(fd, TUNSETIFF, &request) != 0) {
        lpm_error_set(error, LPM_ERROR_NETWORK,
                      "a tap cannot be made: %s; run lpm-host with the "
                      "right to make taps (CAP_NET_ADMIN)",
                      g_strerror(errno));
        close(fd);
        return -1;
    }
    g_strlcpy(ret_name, request.ifr_name, IFNAMSIZ);
    return fd;
}

/* A bridge takes the lowest address of its ports as its own: one that starts with fe: never changes
 * it. */
static void set_high_address(RtnlLink *link, RtnlLink *change)
{
    struct nl_addr *now = rtnl_link_get_addr(link);
    struct nl_addr *high = now ? nl_addr_clone(now) : NULL;

    if (high && nl_addr_get_len(high) == 6) {
        ((uint8_t *)nl_addr_get_binary_addr(high))[0] = 0xfe;
        rtnl_link_set_addr(change, high);
    }
    if (high) {
        nl_addr_put(high);
    }
}

static bool tap_attach(const char *name, const char *bridge, GError **error)
{
    g_autoptr(NlSock) sock = netlink_open();
    g_autoptr(RtnlLink) tap = NULL;
    g_autoptr(RtnlLink) master = NULL;
    g_autoptr(RtnlLink) change = rtnl_link_alloc();
    int code = sock ? rtnl_link_get_kernel(sock, 0, bridge, &master) : -NLE_FAILURE;

    if (code >= 0 && g_strcmp0(rtnl_link_get_type(master), "bridge") != 0) {
        return lpm_error_set(error, LPM_ERROR_NETWORK,
                             "%s is not a bridge; make one of that name "
                             "or correct the configuration",
                             bridge);
    }
    if (code < 0) {
        return lpm_error_set(error, LPM_ERROR_NETWORK,
                             "there is no bridge %s; make it or correct "
                             "the configuration",
                             bridge);
    }
    code = rtnl_link_get_kernel(sock, 0, name, &tap);
    if (code >= 0) {
        rtnl_link_set_master(change, rtnl_link_get_ifindex(master));
        rtnl_link_set_mtu(change, rtnl_link_get_mtu(master));
        rtnl_link_set_flags(change, IFF_UP);
        set_high_address(tap, change);
        code = rtnl_link_change(sock, tap, change, 0);
    }
    if (code < 0) {
        return lpm_error_set(error, LPM_ERROR_NETWORK, "tap %s cannot be attached to bridge %s: %s",
                             name, bridge, nl_geterror(code));
    }
    return true;
}

static int bridge_tap(const LpmHost *host, const LpmSwitchConfig *config, GError **error)
{
    char name[IFNAMSIZ] = "";
    int fd = tap_open(name, error);

    if (fd >= 0 && !tap_attach(name, config->bridge, error)) {
        g_prefix_error(error, "virtual network %s on %s: ", config->name, lpm_host_name(host));
        close(fd);
        fd = -1;
    }
    return fd;
}

const LpmNetworkOps lpm_network_bridge = {
    .kind = "bridge",
    .look = bridge_look,
    .tap = bridge_tap,
};
