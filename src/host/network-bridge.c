/* SPDX-License-Identifier: Apache-2.0 */
/* Virtual networks that are Linux bridges. */
#include "host/network.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netlink/msg.h>
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

/* --- looking --- */

typedef struct {
    bool known;
    uint32_t stp, forward_delay; /* in hundredths of a second */
} BridgeTree;

/* libnl has no words for a bridge's spanning tree: read from the kernel's message as it is. */
static int on_tree(struct nl_msg *message, void *data)
{
    BridgeTree *tree = data;
    struct nlattr *info =
        nlmsg_find_attr(nlmsg_hdr(message), sizeof(struct ifinfomsg), IFLA_LINKINFO);
    struct nlattr *bridge = info ? nla_find(nla_data(info), nla_len(info), IFLA_INFO_DATA) : NULL;
    struct nlattr *stp =
        bridge ? nla_find(nla_data(bridge), nla_len(bridge), IFLA_BR_STP_STATE) : NULL;
    struct nlattr *delay =
        bridge ? nla_find(nla_data(bridge), nla_len(bridge), IFLA_BR_FORWARD_DELAY) : NULL;

    if (stp && delay && nla_len(stp) >= 4 && nla_len(delay) >= 4) {
        *tree = (BridgeTree){true, nla_get_u32(stp), nla_get_u32(delay)};
    }
    return NL_OK;
}

/* -1: not known. */
static int forward_delay_ms(const char *bridge)
{
    g_autoptr(NlSock) sock = netlink_open();
    struct nl_msg *request = NULL;
    BridgeTree tree = {0};

    if (!sock || rtnl_link_build_get_request(0, bridge, &request) < 0) {
        return -1;
    }
    nl_socket_modify_cb(sock, NL_CB_VALID, NL_CB_CUSTOM, on_tree, &tree);
    nl_socket_disable_auto_ack(sock);
    if (nl_send_auto(sock, request) >= 0) {
        nl_recvmsgs_default(sock);
    }
    nlmsg_free(request);
    if (!tree.known) {
        return -1;
    }
    /* A port listens for one delay and learns for another. */
    return tree.stp ? (int)MIN(tree.forward_delay, 6000u) * 2 * 10 : 0;
}

static int uplinks_of(NlSock *sock, RtnlLink *bridge)
{
    struct nl_cache *all = NULL;
    int uplinks = 0;

    if (rtnl_link_alloc_cache(sock, AF_UNSPEC, &all) < 0) {
        return -1;
    }
    for (struct nl_object *one = nl_cache_get_first(all); one; one = nl_cache_get_next(one)) {
        struct rtnl_link *link = (struct rtnl_link *)one;

        uplinks += rtnl_link_get_master(link) == rtnl_link_get_ifindex(bridge) &&
                   rtnl_link_get_carrier(link) && g_strcmp0(rtnl_link_get_type(link), "tun") != 0;
    }
    nl_cache_free(all);
    return uplinks;
}

static void bridge_look(const LpmHost *host G_GNUC_UNUSED, const LpmSwitchConfig *config, int vlan,
                        LpmNetworkLook *ret_look)
{
    g_autoptr(NlSock) sock = netlink_open();
    g_autoptr(RtnlLink) link = NULL;
    const char *bridge = lpm_switch_config_bridge(config, vlan);

    *ret_look = (LpmNetworkLook){.exists = bridge != NULL, .uplinks = -1, .forward_delay_ms = -1};
    if (!bridge || !sock || rtnl_link_get_kernel(sock, 0, bridge, &link) < 0) {
        return;
    }
    ret_look->up = (rtnl_link_get_flags(link) & IFF_UP) != 0;
    ret_look->mtu = (int)rtnl_link_get_mtu(link);
    if (g_strcmp0(rtnl_link_get_type(link), "bridge") == 0) {
        g_strlcpy(ret_look->bridge, bridge, sizeof(ret_look->bridge));
        ret_look->uplinks = uplinks_of(sock, link);
        ret_look->forward_delay_ms = forward_delay_ms(bridge);
    }
}

/* --- making --- */

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

static int bridge_tap(const LpmHost *host, const LpmSwitchConfig *config, int vlan, GError **error)
{
    const char *bridge = lpm_switch_config_bridge(config, vlan);
    char name[IFNAMSIZ] = "";
    int fd;

    if (!bridge) {
        lpm_error_set(error, LPM_ERROR_NOT_FOUND,
                      "virtual network %s has no VLAN %d on %s; add %s%.0d to [network:%s] of its "
                      "configuration",
                      config->name, vlan, lpm_host_name(host), vlan ? "vlan." : "bridge", vlan,
                      config->name);
        return -1;
    }
    fd = tap_open(name, error);
    if (fd >= 0 && !tap_attach(name, bridge, error)) {
        g_prefix_error(error, "virtual network %s (VLAN %d) on %s: ", config->name, vlan,
                       lpm_host_name(host));
        close(fd);
        fd = -1;
    }
    return fd;
}

int lpm_network_lone_tap(char *ret_name, GError **error)
{
    g_autoptr(NlSock) sock = netlink_open();
    g_autoptr(RtnlLink) tap = NULL;
    g_autoptr(RtnlLink) change = rtnl_link_alloc();
    int fd = tap_open(ret_name, error);
    int code = fd >= 0 && sock ? rtnl_link_get_kernel(sock, 0, ret_name, &tap) : -NLE_FAILURE;

    if (fd < 0) {
        return -1;
    }
    if (code >= 0) {
        rtnl_link_set_flags(change, IFF_UP);
        code = rtnl_link_change(sock, tap, change, 0);
    }
    if (code < 0) {
        lpm_error_set(error, LPM_ERROR_NETWORK, "tap %s cannot be set up: %s", ret_name,
                      nl_geterror(code));
        close(fd);
        return -1;
    }
    return fd;
}

/* --- ports of a running partition --- */

/* Name of the interface that a descriptor is the other end of; NULL when it is no tap. g_free(). */
static char *tap_of(const char *directory, const char *fd)
{
    g_autofree char *path = g_build_filename(directory, fd, NULL);
    g_autofree char *text = NULL;
    const char *line;

    if (!g_file_get_contents(path, &text, NULL, NULL) || !(line = strstr(text, "\niff:\t"))) {
        return NULL;
    }
    line += strlen("\niff:\t");
    return g_strndup(line, strcspn(line, "\n"));
}

static bool is_waiting(struct nl_cache *ports, const char *tap)
{
    g_autoptr(RtnlLink) port = rtnl_link_get_by_name(ports, tap);
    int state = port ? rtnl_link_bridge_get_port_state(port) : -1;

    return state == BR_STATE_LISTENING || state == BR_STATE_LEARNING;
}

unsigned lpm_network_waiting_ports(pid_t pid)
{
    g_autofree char *directory = g_strdup_printf("/proc/%d/fdinfo", (int)pid);
    g_autoptr(GDir) fds = g_dir_open(directory, 0, NULL);
    g_autoptr(NlSock) sock = netlink_open();
    struct nl_cache *ports = NULL;
    unsigned waiting = 0;
    const char *fd;

    if (!fds || !sock || rtnl_link_alloc_cache(sock, AF_BRIDGE, &ports) < 0) {
        return 0;
    }
    while ((fd = g_dir_read_name(fds))) {
        g_autofree char *tap = tap_of(directory, fd);

        waiting += tap && is_waiting(ports, tap);
    }
    nl_cache_free(ports);
    return waiting;
}

const LpmNetworkOps lpm_network_bridge = {
    .kind = "bridge",
    .look = bridge_look,
    .tap = bridge_tap,
};
