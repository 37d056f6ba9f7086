/* SPDX-License-Identifier: Apache-2.0 */
/* partition-facts: asked one after the other, in the order of the functions below. */
#include "host/background.h"
#include "host/dirty.h"
#include "host/facts.h"
#include "host/grow.h"
#include "host/guest.h"
#include "host/logs.h"
#include "host/network.h"
#include "host/pagestore.h"
#include "host/partition.h"
#include "host/storage.h"

#include <string.h>

enum { NODES_MS = 1000 }; /* for where its memory is */

typedef struct {
    LpmPartition *partition;
    LpmProfile *profile; /* as it was built, when asked: it may be changed meanwhile */
    json_t *facts;
    json_t *boot_files;
    size_t next_boot;
    LpmHostReply done;
    void *data;
} Job;

static void ask_rest(Job *job);
static void ask_rmc(const GError *error, void *data);
static void on_rmc(const char *state, void *data);
static void on_devices(json_t *list, void *data);
static void ask_consoles(Job *job);
static void on_consoles(json_t *result, const GError *error, void *data);
static void ask_disks(Job *job);
static void on_disks(json_t *rows, void *data);
static void ask_boot(Job *job);
static void on_boot(const char *digest, void *data);
static void ask_mobility(Job *job);
static void on_mobility(const GError *error, void *data);

static void set_networks(const Job *job);

/* With what it was given since its start. */
static void set_size(const LpmPartition *partition, json_t *facts)
{
    int64_t memory_mib;
    int processors;

    lpm_partition_size(partition, &memory_mib, &processors);
    json_object_set_new(facts, "memory_mib", json_integer(memory_mib));
    json_object_set_new(facts, "processors", json_integer(processors));
}

/* With what its console said last, which goes on at the other system. */
static json_t *runtime_to_send(const LpmPartition *partition)
{
    json_t *runtime = json_copy(partition->runtime);
    g_autofree char *tail = lpm_log_console_tail(partition);

    if (*tail) {
        json_object_set_new(runtime, "console_tail", json_string(tail));
    }
    return runtime;
}

/* What a running partition was built as; the same names at the top, where the checks look. */
static void set_runtime(const LpmPartition *partition, json_t *facts)
{
    static const char *const members[] = {"features",      "interrupt_mode",   "machine",
                                          "accel",         "emulator_version", "devices",
                                          "local_devices", "memory_backing",   "huge_page_kib"};

    json_object_set_new(facts, "runtime", runtime_to_send(partition));
    for (size_t i = 0; i < G_N_ELEMENTS(members); i++) {
        json_t *value = json_object_get(partition->runtime, members[i]);

        if (value) {
            json_object_set(facts, members[i], value);
        }
    }
}

static void set_used(const LpmPartition *partition, json_t *facts)
{
    int64_t memory_mib, used;
    int processors;

    lpm_partition_size(partition, &memory_mib, &processors);
    used = lpm_dirty_used_bytes(partition->pid, memory_mib << 20);
    if (used >= 0) {
        json_object_set_new(facts, "used_bytes", json_integer((json_int_t)used));
    }
}

/* --- where its memory is, for the affinity score of its own system --- */

typedef struct {
    pid_t pid;
    size_t n_nodes;
    json_t *mib;
} Nodes;

static void nodes_work(void *data)
{
    Nodes *nodes = data;

    nodes->mib = lpm_facts_numa_of(nodes->pid, nodes->n_nodes);
}

/* Not known in time is as where there is one node only: all 0. */
static void nodes_done(void *data, bool late, void *owner)
{
    Job *job = owner;
    const Nodes *nodes = data;

    if (!late) {
        json_object_set(job->facts, "numa_mib", nodes->mib);
    }
    ask_rest(job);
}

static void nodes_free(void *data)
{
    Nodes *nodes = data;

    json_decref(nodes->mib);
    g_free(nodes);
}

static void ask_nodes(Job *job)
{
    static const LpmBackgroundOps ops = {nodes_work, nodes_done, nodes_free};
    g_autoptr(json_t) list = lpm_facts_numa(job->partition->host);
    size_t n_nodes = json_array_size(list);
    pid_t pid = job->partition->pid;
    Nodes *nodes;

    json_object_set_new(job->facts, "numa_mib", lpm_facts_numa_of(0, n_nodes));
    if (n_nodes < 2 || !pid) {
        ask_rest(job);
        return;
    }
    nodes = g_new0(Nodes, 1);
    *nodes = (Nodes){pid, n_nodes, NULL};
    lpm_background_run(&ops, NODES_MS, nodes, job);
}

void lpm_facts_partition(LpmPartition *partition, LpmHostReply done, void *data)
{
    g_autoptr(GError) error = NULL;
    LpmProfile *built = lpm_partition_built(partition, &error);
    json_t *profile;
    Job *job;

    if (!built) {
        done(NULL, error, data);
        return;
    }
    profile = lpm_profile_to_json(partition->profile);
    job = g_new0(Job, 1);
    job->partition = lpm_partition_ref(partition);
    job->profile = built;
    job->done = done;
    job->data = data;
    job->boot_files = json_array();
    job->facts =
        lpm_json_pack("{s:o, s:s, s:s, s:o}", "profile", profile, "state",
                      lpm_partition_state_name(partition->state), "other_move",
                      partition->link ? partition->link->id : "", "boot_files", job->boot_files);
    set_networks(job);
    set_size(partition, job->facts);
    lpm_images_facts(partition->host, partition->profile->uuid, job->facts);
    ask_nodes(job);
}

static void ask_rest(Job *job)
{
    LpmPartition *partition = job->partition;

    if (!partition->pid) {
        ask_disks(job);
        return;
    }
    set_used(partition, job->facts);
    if (partition->runtime) {
        set_runtime(partition, job->facts);
    }
    if (partition->qmp && !partition->link) {
        lpm_partition_read_mode(partition, ask_rmc, job);
    } else {
        ask_rmc(NULL, job);
    }
}

static void ask_rmc(const GError *error G_GNUC_UNUSED, void *data)
{
    Job *job = data;

    if (job->partition->current_mode) {
        json_object_set_new(job->facts, "current_mode", json_string(job->partition->current_mode));
    }
    lpm_guest_rmc(job->partition, on_rmc, job);
}

static void on_rmc(const char *state, void *data)
{
    Job *job = data;

    json_object_set_new(job->facts, "agent", json_string(state));
    if (job->partition->qmp && !job->partition->link) {
        lpm_facts_devices(job->partition, on_devices, job);
    } else {
        ask_consoles(job);
    }
}

static void ask_consoles(Job *job)
{
    LpmPartition *partition = job->partition;

    if (!partition->profile->console) {
        json_object_set_new(job->facts, "consoles_open", json_integer(0));
        ask_disks(job);
    } else if (partition->qmp && !partition->link) {
        lpm_qmp_query_chardev(partition->qmp, on_consoles, job);
    } else {
        ask_disks(job);
    }
}

/* A socket that nobody is connected to is "disconnected:unix:...". */
static void on_consoles(json_t *result, const GError *error, void *data)
{
    Job *job = data;
    int open = 0;

    for (size_t i = 0; i < json_array_size(result); i++) {
        const json_t *item = json_array_get(result, i);
        const char *file = lpm_json_str(item, "filename", "");

        open += strstr(file, "console.sock") && !g_str_has_prefix(file, "disconnected:");
    }
    if (!error) {
        json_object_set_new(job->facts, "consoles_open", json_integer(open));
    }
    ask_disks(job);
}

static void on_devices(json_t *list, void *data)
{
    Job *job = data;

    if (list) {
        json_object_set(job->facts, "local_devices", list);
    } else {
        json_object_del(job->facts, "local_devices");
    }
    ask_consoles(job);
}

static const char *storage_uuid(const LpmPartition *partition)
{
    /* Without a QEMU of ours nobody may hold it, not even one that says it is this partition. */
    return partition->pid ? partition->profile->uuid : NULL;
}

static json_t *disk_row(const LpmDisk *disk, const LpmStorageLook *look, void *data)
{
    const Job *job = data;
    const LpmNonce *nonce = lpm_nonce_of(job->partition, disk->name);
    json_t *row = lpm_json_pack("{s:s, s:s}", "name", disk->name, "cache", disk->cache);

    if (look->reason) {
        json_object_set_new(row, "reason", json_string(look->reason));
    }
    if (nonce) {
        json_object_set_new(row, "nonce", json_string(nonce->nonce));
        json_object_set_new(row, "nonce_file", json_string(nonce->file));
    }
    return row;
}

static void ask_disks(Job *job)
{
    lpm_facts_disks(job->partition->host, job->profile, storage_uuid(job->partition), false,
                    disk_row, on_disks, job);
}

static void on_disks(json_t *rows, void *data)
{
    Job *job = data;

    json_object_set(job->facts, "disks", rows);
    ask_boot(job);
}

static void set_networks(const Job *job)
{
    json_t *list = json_array();

    for (size_t i = 0; i < job->profile->n_networks; i++) {
        const LpmNetwork *network = &job->profile->networks[i];
        LpmNetworkLook look;
        json_t *row = NULL;

        lpm_network_look(job->partition->host, network, &look);
        row = lpm_json_pack("{s:s, s:s, s:i, s:s}", "name", network->name, "switch",
                            network->switch_name, "vlan", network->vlan, "bridge", look.bridge);
        if (look.mtu) {
            json_object_set_new(row, "mtu", json_integer(look.mtu));
        }
        if (look.uplinks >= 0) {
            json_object_set_new(row, "uplinks", json_integer(look.uplinks));
        }
        json_array_append_new(list, row);
    }
    json_object_set_new(job->facts, "networks", list);
}

static void ask_boot(Job *job)
{
    const LpmFileRef *at = lpm_facts_boot_file(job->profile, job->next_boot);
    g_autofree char *path = at ? lpm_host_file_path(job->partition->host, at, NULL) : NULL;

    if (!at) {
        ask_mobility(job);
    } else if (path) {
        lpm_facts_digest(job->partition->host, path, on_boot, job);
    } else {
        on_boot(NULL, job);
    }
}

static void on_boot(const char *digest, void *data)
{
    Job *job = data;
    const LpmFileRef *at = lpm_facts_boot_file(job->profile, job->next_boot++);
    g_autofree char *name = g_strdup_printf("%s/%s", at->pool, at->file);
    json_t *row = lpm_json_pack("{s:s}", "file", name);

    if (digest) {
        json_object_set_new(row, "digest", json_string(digest));
    }
    json_array_append_new(job->boot_files, row);
    ask_boot(job);
}

static void ask_mobility(Job *job)
{
    const LpmMobilityHooks *hooks = job->partition->host->hooks;

    if (hooks && hooks->partition_facts) {
        hooks->partition_facts(job->partition, job->facts, on_mobility, job);
    } else {
        on_mobility(NULL, job);
    }
}

static void on_mobility(const GError *error, void *data)
{
    Job *job = data;

    job->done(error ? NULL : job->facts, error, job->data);
    json_decref(job->facts);
    lpm_partition_unref(job->partition);
    lpm_profile_free(job->profile);
    g_free(job);
}
