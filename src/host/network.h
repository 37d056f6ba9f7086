/* SPDX-License-Identifier: Apache-2.0 */
/* Network drivers: a virtual network (switch) of a partition becomes a tap on whatever the system
 * has for it. */
#pragma once

#include "host/host.h"

/* What a virtual network looks like on this system. */
typedef struct {
    bool exists; /* its bridge is there */
    bool up;
    char bridge[16]; /* "" when it is not bridged */
    int mtu;         /* 0: not known */
} LpmNetworkLook;

typedef struct {
    const char *kind;
    void (*look)(const LpmHost *host, const LpmSwitchConfig *config, LpmNetworkLook *ret_look);
    /*
     * A tap on that network, up, with virtio-net headers; not persistent, so that it vanishes with
     * the last process that has it open. The descriptor is the caller's; -1 with NETWORK.
     */
    int (*tap)(const LpmHost *host, const LpmSwitchConfig *config, GError **error);
} LpmNetworkOps;

extern const LpmNetworkOps lpm_network_bridge;

/* Driver and configuration of a virtual network; NOT_FOUND when it is not defined here. */
const LpmNetworkOps *lpm_network_for(const LpmHost *host, const char *switch_name,
                                     const LpmSwitchConfig **ret_config, GError **error);
