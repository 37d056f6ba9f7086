/* SPDX-License-Identifier: Apache-2.0 */
/* The virtual networks that the partition is connected to. */
#include "checks/internal.h"

typedef void (*SwitchCheck)(LpmCheckRun *run, const char *network, const LpmFactPlace *there);

static void each_network(LpmCheckRun *run, SwitchCheck check)
{
    json_t *networks;
    json_t *item;
    size_t i;

    if (!lpm_fact_list(run, NULL, "partition.profile.networks", &networks)) {
        return;
    }
    json_array_foreach (networks, i, item) {
        LpmFactPlace there;

        if (lpm_fact_item(run, "target_check.switches", "name",
                          lpm_json_str(item, "switch", "(unknown)"), &there)) {
            check(run, lpm_json_str(item, "name", "(unknown)"), &there);
        }
    }
}

static const char *switch_name(const LpmFactPlace *there)
{
    return lpm_json_str(there->value, "name", "(unknown)");
}

static bool is_absent(const LpmFactPlace *there)
{
    return !lpm_json_bool(there->value, "exists", true);
}

static void check_switch_one(LpmCheckRun *run, const char *network, const LpmFactPlace *there)
{
    bool exists;

    if (lpm_fact_bool(run, there, "exists", &exists) && !exists) {
        lpm_check_fail(run, TEXT("network %s", network),
                       TEXT("virtual network %s on %s", switch_name(there), run->target),
                       TEXT("it is not defined there"),
                       TEXT("define it in the configuration of lpm-host on %s, or override and "
                            "connect it later",
                            run->target));
    }
}

static void check_switch(LpmCheckRun *run)
{
    each_network(run, check_switch_one);
}

static void check_bridged_one(LpmCheckRun *run, const char *network, const LpmFactPlace *there)
{
    const char *bridge;

    if (!is_absent(there) && lpm_fact_text(run, there, "bridge", &bridge) && !*bridge) {
        lpm_check_fail(
            run, TEXT("network %s", network),
            TEXT("virtual network %s bridged on %s", switch_name(there), run->target),
            TEXT("its bridge is missing"),
            TEXT("create the bridge on %s, or override and connect it later", run->target));
    }
}

static void check_bridged(LpmCheckRun *run)
{
    each_network(run, check_bridged_one);
}

static void check_up_one(LpmCheckRun *run, const char *network, const LpmFactPlace *there)
{
    bool up;

    if (!is_absent(there) && lpm_fact_bool(run, there, "up", &up) && !up) {
        lpm_check_fail(run, TEXT("network %s", network),
                       TEXT("virtual network %s up on %s", switch_name(there), run->target),
                       TEXT("it is down"), TEXT("set the bridge up on %s", run->target));
    }
}

static void check_up(LpmCheckRun *run)
{
    each_network(run, check_up_one);
}

static void check_mtu_one(LpmCheckRun *run, const char *network, const LpmFactPlace *there)
{
    LpmFactPlace here;
    int64_t mtu, other;

    if (is_absent(there) || !*lpm_json_str(there->value, "bridge", "?")) {
        return; /* network.switch or network.bridged say it */
    }
    if (lpm_fact_item(run, "partition.networks", "name", network, &here) &&
        lpm_fact_int(run, &here, "mtu", &mtu) && lpm_fact_int(run, there, "mtu", &other) &&
        other < mtu) {
        lpm_check_fail(run, TEXT("network %s", network),
                       TEXT("an MTU of at least %" G_GINT64_FORMAT, mtu),
                       TEXT("%" G_GINT64_FORMAT " on %s", other, run->target),
                       TEXT("raise the MTU of virtual network %s there", switch_name(there)));
    }
}

static void check_mtu(LpmCheckRun *run)
{
    each_network(run, check_mtu_one);
}

static const LpmCheckRow rows[] = {
    {"network.switch", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, true, NULL,
     "Every virtual network of the partition exists on the target",
     "A partition keeps its addresses, so it needs the same networks. Overridden, it arrives with "
     "the adapter "
     "unconnected.",
     check_switch},
    {"network.bridged", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, true, NULL,
     "Every virtual network has its bridge there",
     "Without the bridge nothing beyond the server is reached. Overridden, it arrives with the "
     "adapter unconnected.",
     check_bridged},
    {"network.up", LPM_WHEN_ALWAYS, LPM_SEVERITY_WARNING, false, NULL,
     "Every virtual network is up on the target",
     "A network that is down cuts the partition off until it is set up.", check_up},
    {"network.mtu", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, true, NULL,
     "The MTU on the target is not smaller",
     "The partition does not learn of a smaller one, and its large packets would vanish.",
     check_mtu},
};

const LpmCheckGroup lpm_check_group_network = {"network", "Network", rows, G_N_ELEMENTS(rows)};
