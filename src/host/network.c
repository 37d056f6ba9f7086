/* SPDX-License-Identifier: Apache-2.0 */
#include "host/network.h"

#include <string.h>
#include <unistd.h>

const LpmNetworkOps *lpm_network_for(const LpmHost *host, const char *switch_name,
                                     const LpmSwitchConfig **ret_config, GError **error)
{
    *ret_config = lpm_host_config_switch(host->config, switch_name);
    if (!*ret_config) {
        lpm_error_set(
            error, LPM_ERROR_NOT_FOUND,
            "virtual network %s is not defined on %s; add [network:%s] to its configuration",
            switch_name, lpm_host_name(host), switch_name);
        return NULL;
    }
    return &lpm_network_bridge;
}

void lpm_network_look(const LpmHost *host, const LpmNetwork *network, LpmNetworkLook *ret_look)
{
    const LpmSwitchConfig *config = NULL;
    const LpmNetworkOps *ops = lpm_network_for(host, network->switch_name, &config, NULL);

    *ret_look = (LpmNetworkLook){.uplinks = -1, .forward_delay_ms = -1};
    if (ops) {
        ops->look(host, config, network->vlan, ret_look);
    }
}

bool lpm_network_can_tap(size_t n, GError **error)
{
    g_autofree int *taps = g_new0(int, n + 1);
    size_t made = 0;
    char name[16];

    while (made < n && (taps[made] = lpm_network_lone_tap(name, error)) >= 0) {
        made++;
    }
    for (size_t i = 0; i < made; i++) {
        close(taps[i]);
    }
    return made == n;
}
