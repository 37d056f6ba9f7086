/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A partition that begins to run somewhere says so on each of its networks, so that switches send
 * its frames to the new place. QEMU sends reverse ARP for every adapter, whatever its kind, and
 * asks a guest with virtio adapters to send gratuitous ARP too. What it sends by itself at the end
 * of a move waits until processors run; this is for what comes after that.
 */
#include "base/log.h"
#include "host/network.h"

/* As QEMU's own defaults: five rounds within about a second, the first at once. */
#define ANNOUNCE_INITIAL_MS 50
#define ANNOUNCE_MAX_MS     550
#define ANNOUNCE_ROUNDS     5
#define ANNOUNCE_STEP_MS    100

/* A bridge with a spanning tree keeps a new port from sending for two of its delays, 60 s at most.
 */
#define LOOK_EACH_MS 200
#define LOOKS_MAX    (70 * 1000 / LOOK_EACH_MS)

static void on_announced(const GError *error, void *data)
{
    g_autoptr(LpmPartition) partition = data;

    if (error) {
        lpm_log_warning(
            &(LpmLogFields){.partition = partition->profile->name},
            "its new place was not announced on its networks: %s; traffic to it finds it once it "
            "sends something",
            error->message);
    }
}

static void announce(LpmPartition *partition)
{
    lpm_qmp_announce_self(partition->qmp, ANNOUNCE_INITIAL_MS, ANNOUNCE_MAX_MS, ANNOUNCE_ROUNDS,
                          ANNOUNCE_STEP_MS, on_announced, lpm_partition_ref(partition));
}

static gboolean on_look(gpointer data);

/* Once more when all ports forward: what was sent before went no further than the bridge. */
static void look_at_ports(LpmPartition *partition)
{
    unsigned waiting = lpm_network_waiting_ports(partition->pid);

    if (waiting && partition->announce_looks < LOOKS_MAX) {
        partition->announce_looks++;
        partition->announce_timer = g_timeout_add(LOOK_EACH_MS, on_look, partition);
    } else if (partition->announce_looks) {
        lpm_log_warning(&(LpmLogFields){.partition = partition->profile->name},
                        "%s for %u ms after it began to run here: the spanning tree of its bridge "
                        "keeps new ports waiting; switch that off, or set forward_delay to 2 s",
                        waiting ? "it has been cut off" : "it was cut off",
                        partition->announce_looks * LOOK_EACH_MS);
        announce(partition);
    }
}

static gboolean on_look(gpointer data)
{
    LpmPartition *partition = data;

    partition->announce_timer = 0;
    if (partition->qmp && partition->pid) {
        look_at_ports(partition);
    }
    return G_SOURCE_REMOVE;
}

void lpm_partition_announce(LpmPartition *partition)
{
    if (!partition->qmp || partition->profile->n_networks == 0) {
        return;
    }
    announce(partition);
    g_clear_handle_id(&partition->announce_timer, g_source_remove);
    partition->announce_looks = 0;
    partition->announce_timer = g_timeout_add(LOOK_EACH_MS, on_look, partition);
}
