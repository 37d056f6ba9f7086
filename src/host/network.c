/* SPDX-License-Identifier: Apache-2.0 */
#include "host/network.h"

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
