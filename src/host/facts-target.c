/* SPDX-License-Identifier: Apache-2.0 */
/* target-check: what stands in the way of a partition that is to come, asked in the order of the
 * functions below. */
#include "host/emulator.h"
#include "host/facts.h"
#include "host/network.h"
#include "host/pagestore.h"
#include "host/partition.h"
#include "host/storage.h"
#include "qemuargs/qemuargs.h"

#include <string.h>

typedef struct {
    LpmHost *host;
    LpmProfile *profile; /* as it runs: what its QEMU here would be built as */
    LpmProfile *later;   /* as it is defined: what it would be here at its next start */
    json_t *runtime;
    json_t *nonces;
    json_t *facts;
    json_t *boot_files;
    size_t next_boot;
    LpmHostReply done;
    void *data;
} Job;

static void on_emulators(const GError *error, void *data);
static void ask_disks(Job *job);
static void on_disks(json_t *rows, void *data);
static void ask_boot(Job *job);
static void on_boot(const char *digest, void *data);
static void on_mobility(const GError *error, void *data);

/* --- what needs no waiting --- */

static bool has_mac(const LpmProfile *profile, const char *mac)
{
    for (size_t i = 0; i < profile->n_networks; i++) {
        if (g_ascii_strcasecmp(profile->networks[i].mac, mac) == 0) {
            return true;
        }
    }
    return false;
}

/*
 * The same partition is no conflict when it is here without being ours: it came in, or was left
 * behind. Mobility says so for one that the record gives to somebody else.
 */
static void set_conflicts(const Job *job)
{
    const char *name_used = "", *uuid_used = "";
    json_t *macs = json_array();
    GHashTableIter iter;
    gpointer value;
    json_t *one;
    size_t j;

    g_hash_table_iter_init(&iter, job->host->partitions);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const LpmProfile *other = ((LpmPartition *)value)->profile;
        bool same = strcmp(other->uuid, job->later->uuid) == 0;

        if (same && ((LpmPartition *)value)->stored) {
            uuid_used = other->name;
        }
        if (!same && strcmp(other->name, job->later->name) == 0) {
            name_used = other->uuid;
        }
        g_autoptr(json_t) its = same ? NULL : lpm_partition_macs(value);

        json_array_foreach (its, j, one) {
            const char *mac = json_string_value(one);

            if (has_mac(job->profile, mac) || has_mac(job->later, mac)) {
                json_array_append_new(
                    macs, lpm_json_pack("{s:s, s:s}", "mac", mac, "partition", other->name));
            }
        }
    }
    json_object_set_new(job->facts, "name_used_by", json_string(name_used));
    json_object_set_new(job->facts, "uuid_used_by", json_string(uuid_used));
    json_object_set_new(job->facts, "macs_used", macs);
}

static const char *adapter_model(const LpmNetwork *network)
{
    return network->adapter == LPM_NET_SPAPR_VLAN ? "spapr-vlan" : "virtio-net-pci";
}

/* One for each adapter of the profile. */
static void set_switches(const Job *job)
{
    const LpmEmulator *emulator = lpm_emulator_get(job->host, job->profile->family, NULL);
    json_t *list = json_array();

    for (size_t i = 0; i < job->profile->n_networks; i++) {
        const LpmNetwork *network = &job->profile->networks[i];
        LpmNetworkLook look;
        json_t *row;

        lpm_network_look(job->host, network, &look);
        row = lpm_json_pack("{s:s, s:s, s:i, s:b, s:b, s:s, s:i}", "network", network->name, "name",
                            network->switch_name, "vlan", network->vlan, "exists", look.exists,
                            "up", look.up, "bridge", look.bridge, "mtu", look.mtu);
        if (look.uplinks >= 0) {
            json_object_set_new(row, "uplinks", json_integer(look.uplinks));
        }
        if (look.forward_delay_ms >= 0) {
            json_object_set_new(row, "forward_delay_ms", json_integer(look.forward_delay_ms));
        }
        if (emulator) {
            json_object_set_new(
                row, "adapter_known",
                json_boolean(lpm_emulator_knows_device(emulator, adapter_model(network))));
        }
        json_array_append_new(list, row);
    }
    json_object_set_new(job->facts, "switches", list);
}

static void set_taps(const Job *job)
{
    g_autoptr(GError) error = NULL;
    bool possible = lpm_network_can_tap(job->profile->n_networks, &error);

    json_object_set_new(job->facts, "taps",
                        lpm_json_pack("{s:b, s:s}", "possible", possible, "reason",
                                      possible ? "" : error->message));
}

static void set_machine(const Job *job)
{
    const LpmEmulator *emulator = lpm_emulator_get(job->host, job->profile->family, NULL);
    const char *machine = lpm_json_str(job->runtime, "machine", job->profile->machine);
    const json_t *devices = lpm_json_at(job->runtime, "devices");
    g_autofree char *type = machine ? lpm_qemuargs_machine_type(machine) : NULL;
    json_t *unknown = json_array();

    for (size_t i = 0; i < json_array_size(devices); i++) {
        const char *model = json_string_value(json_array_get(devices, i));

        if (model && !(emulator && lpm_emulator_knows_device(emulator, model))) {
            json_array_append_new(unknown, json_string(model));
        }
    }
    /* One that was never activated has no type yet: it gets one here. */
    json_object_set_new(
        job->facts, "machine_known",
        json_boolean(emulator && (!type || lpm_emulator_knows_machine(emulator, type))));
    json_object_set_new(job->facts, "unknown_devices", unknown);
}

/* --- what does --- */

void lpm_facts_target(LpmHost *host, const LpmProfile *profile, const json_t *runtime,
                      const json_t *nonces, LpmHostReply done, void *data)
{
    Job *job = g_new0(Job, 1);
    g_autoptr(json_t) json = lpm_profile_to_json(profile);
    const json_t *built = lpm_json_at(runtime, "profile");

    job->host = host;
    job->later = lpm_profile_from_json(json, NULL);
    job->profile = lpm_profile_from_json(built ? built : json, NULL);
    if (!job->profile) {
        job->profile = lpm_profile_from_json(json, NULL); /* migration-prepare says what is wrong */
    }
    job->runtime = runtime ? json_deep_copy(runtime) : json_object();
    job->nonces = nonces ? json_deep_copy(nonces) : json_array();
    job->done = done;
    job->data = data;
    job->boot_files = json_array();
    job->facts = lpm_json_pack("{s:o}", "boot_files", job->boot_files);
    lpm_emulators_when_ready(host, on_emulators, job);
}

static void on_emulators(const GError *error G_GNUC_UNUSED, void *data)
{
    Job *job = data;

    set_conflicts(job);
    set_switches(job);
    set_taps(job);
    set_machine(job);
    lpm_images_facts(job->host, job->profile->uuid, job->facts);
    ask_disks(job);
}

static json_t *disk_row(const LpmDisk *disk, const LpmStorageLook *look, void *data)
{
    const Job *job = data;
    g_autofree char *nonce = lpm_nonce_read(job->host, job->nonces, disk->name);
    json_t *row =
        lpm_json_pack("{s:s, s:b, s:s, s:s}", "name", disk->name, "visible", look->reason == NULL,
                      "reason", look->reason ? look->reason : "", "nonce", nonce);

    if (!look->reason) {
        json_object_set_new(row, "coherent", json_boolean(look->coherent));
    }
    return row;
}

static void ask_disks(Job *job)
{
    lpm_facts_disks(job->host, job->profile, job->profile->uuid, true, disk_row, on_disks, job);
}

static void on_disks(json_t *rows, void *data)
{
    Job *job = data;

    json_object_set(job->facts, "disks", rows);
    ask_boot(job);
}

static void ask_boot(Job *job)
{
    const LpmMobilityHooks *hooks = job->host->hooks;
    const LpmFileRef *at = lpm_facts_boot_file(job->profile, job->next_boot);
    g_autofree char *path = at ? lpm_host_file_path(job->host, at, NULL) : NULL;

    if (at && path) {
        lpm_facts_digest(job->host, path, on_boot, job);
    } else if (at) {
        on_boot(NULL, job);
    } else if (hooks && hooks->target_facts) {
        hooks->target_facts(job->host, job->later, job->facts, on_mobility, job);
    } else {
        on_mobility(NULL, job);
    }
}

static void on_boot(const char *digest, void *data)
{
    Job *job = data;
    const LpmFileRef *at = lpm_facts_boot_file(job->profile, job->next_boot++);
    g_autofree char *name = g_strdup_printf("%s/%s", at->pool, at->file);

    json_array_append_new(job->boot_files,
                          lpm_json_pack("{s:s, s:b, s:s}", "file", name, "visible", digest != NULL,
                                        "digest", digest ? digest : ""));
    ask_boot(job);
}

static void on_mobility(const GError *error, void *data)
{
    Job *job = data;

    job->done(error ? NULL : job->facts, error, job->data);
    json_decref(job->facts);
    json_decref(job->runtime);
    json_decref(job->nonces);
    lpm_profile_free(job->profile);
    lpm_profile_free(job->later);
    g_free(job);
}
