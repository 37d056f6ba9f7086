/* SPDX-License-Identifier: Apache-2.0 */
/* The virtual networks that the partition is connected to. */
#include "checks/internal.h"

/* @network: name of the adapter in the profile; @there: its network as the target sees it. */
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
        const char *name = lpm_json_str(item, "name", "(unknown)");
        LpmFactPlace there;

        if (lpm_fact_item(run, "target_check.switches", "network", name, &there)) {
            check(run, name, &there);
        }
    }
}

/* "virtual network lan", "VLAN 100 of virtual network lan". To be g_free()d. */
static char *place_name(const LpmFactPlace *there)
{
    const char *name = lpm_json_str(there->value, "name", "(unknown)");
    int64_t vlan = lpm_json_int(there->value, "vlan", 0);

    return vlan ? TEXT("VLAN %" G_GINT64_FORMAT " of virtual network %s", vlan, name)
                : TEXT("virtual network %s", name);
}

static bool is_absent(const LpmFactPlace *there)
{
    return !lpm_json_bool(there->value, "exists", true);
}

static bool has_bridge(const LpmFactPlace *there)
{
    return !is_absent(there) && *lpm_json_str(there->value, "bridge", "?");
}

static void check_switch_one(LpmCheckRun *run, const char *network, const LpmFactPlace *there)
{
    g_autofree char *place = place_name(there);
    bool exists;

    if (lpm_fact_bool(run, there, "exists", &exists) && !exists) {
        lpm_check_fail(run, TEXT("network %s", network), TEXT("%s on %s", place, run->target),
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

/* Only what reaches beyond the source has to reach beyond the target. */
static void check_uplink(LpmCheckRun *run, const char *network, const LpmFactPlace *there)
{
    g_autofree char *place = place_name(there);
    LpmFactPlace here;
    int64_t uplinks;

    if (!lpm_fact_item(run, "partition.networks", "name", network, &here) ||
        lpm_json_int(here.value, "uplinks", 0) == 0) {
        return;
    }
    if (lpm_fact_int(run, there, "uplinks", &uplinks) && uplinks == 0) {
        lpm_check_fail(
            run, TEXT("network %s", network),
            TEXT("%s bridged to the outside on %s, as on %s", place, run->target, run->source),
            TEXT("bridge %s has no port with a carrier but those of partitions",
                 lpm_json_str(there->value, "bridge", "?")),
            TEXT("add the card to the bridge and see to its cable on %s, or override "
                 "and connect it later",
                 run->target));
    }
}

static void check_bridged_one(LpmCheckRun *run, const char *network, const LpmFactPlace *there)
{
    g_autofree char *place = place_name(there);
    const char *bridge;

    if (is_absent(there) || !lpm_fact_text(run, there, "bridge", &bridge)) {
        return;
    }
    if (*bridge) {
        check_uplink(run, network, there);
        return;
    }
    lpm_check_fail(run, TEXT("network %s", network), TEXT("%s bridged on %s", place, run->target),
                   TEXT("its bridge is missing"),
                   TEXT("create the bridge on %s, or override and connect it later", run->target));
}

static void check_bridged(LpmCheckRun *run)
{
    each_network(run, check_bridged_one);
}

static void check_up_one(LpmCheckRun *run, const char *network, const LpmFactPlace *there)
{
    g_autofree char *place = place_name(there);
    bool up;

    if (has_bridge(there) && lpm_fact_bool(run, there, "up", &up) && !up) {
        lpm_check_fail(run, TEXT("network %s", network), TEXT("%s up on %s", place, run->target),
                       TEXT("bridge %s is down", lpm_json_str(there->value, "bridge", "?")),
                       TEXT("set the bridge up on %s, or override and do so later", run->target));
    }
}

static void check_up(LpmCheckRun *run)
{
    each_network(run, check_up_one);
}

static void check_forward_delay_one(LpmCheckRun *run, const char *network,
                                    const LpmFactPlace *there)
{
    int64_t delay;

    if (has_bridge(there) && lpm_fact_int(run, there, "forward_delay_ms", &delay) && delay > 0) {
        lpm_check_fail(
            run, TEXT("network %s", network), TEXT("a bridge that forwards at once"),
            TEXT("bridge %s on %s runs a spanning tree and keeps a new port waiting for %g s",
                 lpm_json_str(there->value, "bridge", "?"), run->target, (double)delay / 1000),
            TEXT("a move that copies for a shorter time leaves the partition cut off for the rest: "
                 "switch the spanning tree off there, or set forward_delay to 2 s"));
    }
}

static void check_forward_delay(LpmCheckRun *run)
{
    each_network(run, check_forward_delay_one);
}

static void check_mtu_one(LpmCheckRun *run, const char *network, const LpmFactPlace *there)
{
    g_autofree char *place = place_name(there);
    LpmFactPlace here;
    int64_t mtu, other;

    if (!has_bridge(there)) {
        return; /* network.switch or network.bridged say it */
    }
    if (lpm_fact_item(run, "partition.networks", "name", network, &here) &&
        *lpm_json_str(here.value, "bridge", "?") && /* it may have come here unconnected */
        lpm_fact_int(run, &here, "mtu", &mtu) && lpm_fact_int(run, there, "mtu", &other) &&
        other < mtu) {
        lpm_check_fail(run, TEXT("network %s", network),
                       TEXT("an MTU of at least %" G_GINT64_FORMAT, mtu),
                       TEXT("%" G_GINT64_FORMAT " on %s", other, run->target),
                       TEXT("raise the MTU of %s there", place));
    }
}

static void check_mtu(LpmCheckRun *run)
{
    each_network(run, check_mtu_one);
}

static void check_mac(LpmCheckRun *run)
{
    json_t *used;
    json_t *item;
    size_t i;

    if (!lpm_fact_list(run, NULL, "fleet.macs_used", &used)) {
        return;
    }
    json_array_foreach (used, i, item) {
        lpm_check_fail(
            run, TEXT("MAC address %s", lpm_json_str(item, "mac", "(unknown)")),
            TEXT("in no other partition that the console knows"),
            TEXT("partition %s on %s has it too", lpm_json_str(item, "partition", "?"),
                 lpm_json_str(item, "system", "?")),
            TEXT("change one of the two, or override when they never meet in one network"));
    }
}

static void check_adapter_one(LpmCheckRun *run, const char *network, const LpmFactPlace *there)
{
    bool known;

    /* Without an emulator of the family server.emulator says so. */
    if (lpm_json_at(there->value, "adapter_known") &&
        lpm_fact_bool(run, there, "adapter_known", &known) && !known) {
        lpm_check_fail(
            run, TEXT("network %s", network),
            TEXT("its kind of adapter known to QEMU on %s", run->target),
            TEXT("QEMU there does not have it"),
            TEXT("install a QEMU there that does, or give the partition another adapter"));
    }
}

static void check_adapter(LpmCheckRun *run)
{
    each_network(run, check_adapter_one);
}

static void check_taps(LpmCheckRun *run)
{
    const char *reason;
    bool possible;

    if (lpm_fact_bool(run, NULL, "target_check.taps.possible", &possible) && !possible &&
        lpm_fact_text(run, NULL, "target_check.taps.reason", &reason)) {
        lpm_check_fail(run, TEXT("system %s", run->target),
                       TEXT("a tap made for each adapter of the partition"),
                       TEXT("%s", *reason ? reason : "a tap cannot be made"),
                       TEXT("load the module tun, and run lpm-host with CAP_NET_ADMIN"));
    }
}

static const LpmCheckRow rows[] = {
    {"network.switch", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, true, NULL,
     "Every virtual network and VLAN of the partition exists on the target",
     "A partition keeps its addresses, so it needs the same networks. Overridden, it arrives with "
     "the adapter "
     "unconnected.",
     check_switch},
    {"network.bridged", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, true, NULL,
     "Every virtual network has its bridge there, and leads out of the server where it does now",
     "Without the bridge, and a card in it, nothing beyond the server is reached. Overridden, it "
     "arrives with the adapter unconnected where the bridge is missing.",
     check_bridged},
    {"network.up", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, true, NULL,
     "Every virtual network is up on the target",
     "A network that is down cuts the partition off until it is set up.", check_up},
    {"network.forward-delay", LPM_WHEN_ACTIVE, LPM_SEVERITY_WARNING, false, NULL,
     "Bridges on the target forward at once",
     "A spanning tree keeps a new port from sending for twice its forward delay, 30 s by default, "
     "and the partition is not reached in that time.",
     check_forward_delay},
    {"network.mtu", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, true, NULL,
     "The MTU on the target is not smaller",
     "The partition does not learn of a smaller one, and its large packets would vanish.",
     check_mtu},
    {"network.mac-unique", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, true, NULL,
     "No partition on any other system has one of its MAC addresses",
     "Two adapters with one address in one network take each other's traffic, wherever they are.",
     check_mac},
    {"network.adapter", LPM_WHEN_ALWAYS, LPM_SEVERITY_ERROR, false, NULL,
     "QEMU on the target has its kinds of adapter",
     "The machine that is built there must have every adapter at the same address.", check_adapter},
    {"network.taps", LPM_WHEN_ACTIVE, LPM_SEVERITY_ERROR, false, NULL,
     "The target can make the taps", "Each adapter is one. They are made for a moment, to see.",
     check_taps},
};

const LpmCheckGroup lpm_check_group_network = {"network", "Network", rows, G_N_ELEMENTS(rows)};
