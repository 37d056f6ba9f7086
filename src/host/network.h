/* SPDX-License-Identifier: Apache-2.0 */
/* Network drivers: a virtual network (switch) of a partition becomes a tap on whatever the system
 * has for it. */
#pragma once

#include "host/host.h"

/* What a virtual network looks like on this system. */
typedef struct {
    bool exists; /* the switch, and this VLAN of it, are in the configuration */
    bool up;
    char bridge[16]; /* "" when there is no bridge of the configured name */
    int mtu;         /* 0: not known */
    int uplinks;     /* ports of the bridge that have a carrier and are no taps; -1: not known */
    int forward_delay_ms; /* how long a new port learns before it forwards (spanning tree); 0: not
                             at all; -1: not known */
} LpmNetworkLook;

typedef struct {
    const char *kind;
    /* @vlan 0: what is not tagged. */
    void (*look)(const LpmHost *host, const LpmSwitchConfig *config, int vlan,
                 LpmNetworkLook *ret_look);
    /*
     * A tap on that VLAN, up; not persistent, so that it vanishes with the last process that has it
     * open. With virtio-net headers. The descriptor is the caller's; -1 with NETWORK,
     * NOT_FOUND when the switch has no such VLAN.
     */
    int (*tap)(const LpmHost *host, const LpmSwitchConfig *config, int vlan, GError **error);
} LpmNetworkOps;

extern const LpmNetworkOps lpm_network_bridge;

/* Driver and configuration of a virtual network; NOT_FOUND when it is not defined here. */
const LpmNetworkOps *lpm_network_for(const LpmHost *host, const char *switch_name,
                                     const LpmSwitchConfig **ret_config, GError **error);

/* As look() of the driver; nothing exists for a switch that is not defined here. */
void lpm_network_look(const LpmHost *host, const LpmNetwork *network, LpmNetworkLook *ret_look);

/* A tap that is connected with nothing, up; its name in @ret_name (16 bytes). -1 with NETWORK. */
int lpm_network_lone_tap(char *ret_name, GError **error);
/* Whether @n taps can be made here, tried by making them for a moment. NETWORK says why not. */
bool lpm_network_can_tap(size_t n, GError **error);
/*
 * How many taps of process @pid are ports of bridges that do not forward yet (a spanning tree
 * listens and learns first). 0 also where it cannot be seen.
 */
unsigned lpm_network_waiting_ports(pid_t pid);
