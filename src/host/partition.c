/* SPDX-License-Identifier: Apache-2.0 */
/* The table of partitions, what is written down about each, and its state. */
#include "host/partition.h"

#include "base/log.h"
#include "host/rtc.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

/* Changes of a partition's state are told at once, up to so many in a row ... */
#define TELL_EVERY_US (100 * G_TIME_SPAN_MILLISECOND)
#define TELL_BURST_US (5 * G_TIME_SPAN_SECOND)
#define TELL_LATER_MS 250 /* ... and then the last of them after this time */

LpmPartition *lpm_partition_ref(LpmPartition *partition)
{
    partition->refs++;
    return partition;
}

void lpm_partition_unref(LpmPartition *partition)
{
    if (!partition || --partition->refs > 0) {
        return;
    }
    g_clear_handle_id(&partition->pidfd_watch, g_source_remove);
    g_clear_handle_id(&partition->end_timer, g_source_remove);
    g_clear_handle_id(&partition->timer, g_source_remove);
    g_clear_handle_id(&partition->tell_timer, g_source_remove);
    g_clear_handle_id(&partition->announce_timer, g_source_remove);
    g_clear_handle_id(&partition->nonce_timer, g_source_remove);
    lpm_qmp_free(partition->qmp);
    lpm_qga_free(partition->agent);
    if (partition->pidfd >= 0) {
        close(partition->pidfd);
    }
    if (partition->memory_fd >= 0) {
        close(partition->memory_fd);
    }
    if (partition->nonces) {
        g_ptr_array_unref(partition->nonces);
    }
    json_decref(partition->runtime);
    lpm_profile_free(partition->profile);
    g_list_free_full(partition->end_waiters, g_free);
    g_free(partition->reason);
    g_free(partition->run_dir);
    g_free(partition->current_mode);
    g_free(partition->shutdown);
    g_free(partition->end_reason);
    g_free(partition->activating);
    g_free(partition);
}

static bool has_mac(const json_t *macs, const char *mac)
{
    const json_t *one;
    size_t i;

    json_array_foreach (macs, i, one) {
        if (g_ascii_strcasecmp(json_string_value(one), mac) == 0) {
            return true;
        }
    }
    return false;
}

json_t *lpm_partition_macs(const LpmPartition *partition)
{
    const LpmProfile *profile = partition->profile;
    const json_t *built = NULL, *network;
    json_t *macs = json_array();
    size_t i;

    for (i = 0; i < profile->n_networks; i++) {
        json_array_append_new(macs, json_string(profile->networks[i].mac));
    }
    if (partition->pid && partition->runtime) {
        built = lpm_json_at(partition->runtime, "profile.networks");
    }
    json_array_foreach (built, i, network) {
        const char *mac = lpm_json_str(network, "mac", "");

        if (*mac && !has_mac(macs, mac)) {
            json_array_append_new(macs, json_string(mac));
        }
    }
    return macs;
}

static const char *shared_mac(const LpmProfile *profile, const LpmPartition *other)
{
    g_autoptr(json_t) macs = lpm_partition_macs(other);

    for (size_t i = 0; i < profile->n_networks; i++) {
        if (has_mac(macs, profile->networks[i].mac)) {
            return profile->networks[i].mac;
        }
    }
    return NULL;
}

/* @macs: also whether they are free; what does not change them says false. */
static bool is_free(LpmHost *host, const LpmProfile *profile, const LpmPartition *except, bool macs,
                    GError **error)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, host->partitions);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const LpmProfile *other = ((LpmPartition *)value)->profile;
        const char *mac = macs ? shared_mac(profile, value) : NULL;

        if (value == except) {
            continue;
        }
        if (strcmp(other->uuid, profile->uuid) == 0) {
            return lpm_error_set(error, LPM_ERROR_EXISTS,
                                 "%s has partition %s with UUID %s already", lpm_host_name(host),
                                 other->name, other->uuid);
        }
        if (strcmp(other->name, profile->name) == 0) {
            return lpm_error_set(error, LPM_ERROR_EXISTS,
                                 "%s has a partition %s already; choose "
                                 "another name",
                                 lpm_host_name(host), other->name);
        }
        if (mac) {
            return lpm_error_set(error, LPM_ERROR_EXISTS,
                                 "partition %s: MAC address %s belongs to "
                                 "partition %s already; leave it out to have one made",
                                 profile->name, mac, other->name);
        }
    }
    return true;
}

bool lpm_partition_is_free(const LpmPartition *partition, const LpmProfile *changed, bool macs,
                           GError **error)
{
    return is_free(partition->host, changed, partition, macs, error);
}

static LpmPartition *insert(LpmHost *host, LpmProfile *profile)
{
    LpmPartition *partition = g_new0(LpmPartition, 1);

    partition->host = host;
    partition->refs = 1;
    partition->profile = profile;
    partition->pidfd = -1;
    partition->memory_fd = -1;
    partition->run_dir = g_build_filename(host->config->run_dir, "partitions", profile->uuid, NULL);
    g_hash_table_insert(host->partitions, g_strdup(profile->uuid), partition);
    return partition;
}

LpmPartition *lpm_partition_add(LpmHost *host, LpmProfile *profile, GError **error)
{
    if (!is_free(host, profile, NULL, true, error)) {
        lpm_profile_free(profile);
        return NULL;
    }
    return insert(host, profile);
}

LpmPartition *lpm_partition_load(LpmHost *host, LpmProfile *profile, GError **error)
{
    g_autoptr(GError) taken = NULL;

    if (g_hash_table_contains(host->partitions, profile->uuid)) {
        lpm_error_set(error, LPM_ERROR_EXISTS, "UUID %s is there twice", profile->uuid);
        lpm_profile_free(profile);
        return NULL;
    }
    if (!is_free(host, profile, NULL, true, &taken)) {
        lpm_log_warning(&(LpmLogFields){.partition = profile->name},
                        "%s; it is there all the same: change one of the two", taken->message);
    }
    return insert(host, profile);
}

LpmPartition *lpm_partition_add_new(LpmHost *host, LpmProfile *profile, GError **error)
{
    if (g_hash_table_size(host->partitions) >= (unsigned)host->config->partitions) {
        lpm_error_set(error, LPM_ERROR_BUSY,
                      "%s has %u partitions, as many as [limits] partitions of its configuration "
                      "lets it have; delete one, move one away, or raise the limit",
                      lpm_host_name(host), g_hash_table_size(host->partitions));
        lpm_profile_free(profile);
        return NULL;
    }
    return lpm_partition_add(host, profile, error);
}

bool lpm_partition_keep(LpmPartition *partition, GError **error)
{
    g_autoptr(json_t) json = lpm_profile_to_json(partition->profile);

    if (!lpm_store_put(partition->host->store, LPM_KIND_PROFILE, partition->profile->uuid, json,
                       NULL, error)) {
        g_prefix_error(error, "partition %s: its profile: ", partition->profile->name);
        return false;
    }
    partition->stored = true;
    return true;
}

bool lpm_partition_redefine(LpmPartition *partition, LpmProfile *profile, GError **error)
{
    LpmProfile *before = partition->profile;
    bool kept;

    partition->profile = profile;
    kept = lpm_partition_keep(partition, error);
    if (!kept) {
        partition->profile = before;
    }
    lpm_profile_free(kept ? before : profile);
    return kept;
}

static void remove_run_dir(const LpmPartition *partition)
{
    g_autoptr(GDir) dir = g_dir_open(partition->run_dir, 0, NULL);
    g_autofree char *log = g_strconcat(partition->run_dir, ".log", NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(partition->run_dir, name, NULL);

        (void)g_unlink(path);
    }
    (void)g_rmdir(partition->run_dir);
    (void)g_unlink(log);
}

bool lpm_partition_begin_deletion(LpmPartition *partition, GError **error)
{
    g_autoptr(json_t) document = json_object();

    return lpm_store_put(partition->host->store, LPM_KIND_DELETION, partition->profile->uuid,
                         document, NULL, error);
}

bool lpm_partition_deletion_begun(LpmPartition *partition)
{
    g_autoptr(json_t) document = lpm_store_get(partition->host->store, LPM_KIND_DELETION,
                                               partition->profile->uuid, NULL, NULL);

    return document != NULL;
}

bool lpm_partition_forget(LpmPartition *partition, GError **error)
{
    LpmHost *host = partition->host;
    const char *uuid = partition->profile->uuid;

    if (partition->pid) {
        return lpm_error_set(error, LPM_ERROR_STATE, "partition %s still has a QEMU on %s",
                             partition->profile->name, lpm_host_name(host));
    }
    if (!lpm_store_begin(host->store, error)) {
        return false;
    }
    if (!lpm_store_delete(host->store, LPM_KIND_PROFILE, uuid, error) ||
        !lpm_store_delete(host->store, LPM_KIND_RUNTIME, uuid, error) ||
        !lpm_store_delete(host->store, LPM_KIND_DELETION, uuid, error)) {
        lpm_store_rollback(host->store);
        return false;
    }
    if (!lpm_store_commit(host->store, error)) {
        return false;
    }
    partition->stored = false;
    remove_run_dir(partition);
    g_clear_handle_id(&partition->timer, g_source_remove);
    g_hash_table_remove(host->partitions, uuid);
    return true;
}

json_t *lpm_partition_event(const LpmPartition *partition)
{
    return lpm_json_pack("{s:s, s:s, s:s, s:s?}", "partition", partition->profile->name, "uuid",
                         partition->profile->uuid, "state",
                         lpm_partition_state_name(partition->state), "reason", partition->reason);
}

static void tell_state(LpmPartition *partition)
{
    const LpmLogFields fields = {.partition = partition->profile->name};
    const char *reason = partition->reason;

    if (partition->state == LPM_PARTITION_ERROR) {
        lpm_log_error(&fields, "error: %s", reason ? reason : "no reason known");
    } else {
        lpm_log_info(&fields, "%s%s%s", lpm_partition_state_name(partition->state),
                     reason ? ": " : "", reason ? reason : "");
    }
    lpm_host_emit(partition->host, "partition", lpm_partition_event(partition));
}

static gboolean on_tell_later(gpointer data)
{
    LpmPartition *partition = data;

    partition->tell_timer = 0;
    tell_state(partition);
    return G_SOURCE_REMOVE;
}

/* A state that QEMU changes all the time is told now and then: its words would fill the log, and
 * drown those of other partitions. */
static bool may_tell(LpmPartition *partition)
{
    int64_t now = lpm_clock_monotonic_us(partition->host->clock);

    partition->told_until_us = MAX(partition->told_until_us, now - TELL_BURST_US) + TELL_EVERY_US;
    if (partition->told_until_us <= now) {
        return true;
    }
    partition->told_until_us -= TELL_EVERY_US;
    return false;
}

void lpm_partition_set_state(LpmPartition *partition, LpmPartitionState state, const char *reason)
{
    if (partition->state == state && g_strcmp0(partition->reason, reason) == 0) {
        return;
    }
    partition->state = state;
    if (reason != partition->reason) {
        g_free(partition->reason);
        partition->reason = g_strdup(reason);
    }
    if (partition->tell_timer) {
        return;
    }
    if (may_tell(partition)) {
        tell_state(partition);
    } else {
        partition->tell_timer = g_timeout_add(TELL_LATER_MS, on_tell_later, partition);
    }
}

bool lpm_partition_check_settled(const LpmPartition *partition, const char *what, GError **error)
{
    return !partition->unsettled ||
           lpm_error_set(error, LPM_ERROR_BUSY,
                         "partition %s cannot %s before its QEMU has said what it was given last; "
                         "wait a moment",
                         partition->profile->name, what);
}

bool lpm_partition_attach(LpmPartition *partition, const LpmMigrationLink *link, GError **error)
{
    if (!lpm_partition_check_idle(partition, "be moved", error) ||
        !lpm_partition_check_settled(partition, "be moved", error)) {
        return false;
    }
    /* From now on the connection is the migration's alone. */
    g_clear_handle_id(&partition->announce_timer, g_source_remove);
    partition->link = link;
    return true;
}

/* Later: whoever detaches may be about to forget it, because it has left. */
static void restart_later(gpointer data)
{
    g_autoptr(LpmPartition) partition = data;

    if (g_hash_table_lookup(partition->host->partitions, partition->profile->uuid) == partition) {
        lpm_qemu_restart_due(partition);
    }
}

void lpm_partition_detach(LpmPartition *partition)
{
    if (!partition->link) {
        return;
    }
    partition->link = NULL;
    if (partition->restart_due) {
        g_idle_add_once(restart_later, lpm_partition_ref(partition));
    }
    lpm_qemu_heal(partition);
    if (partition->pid && partition->qmp && lpm_qmp_is_open(partition->qmp)) {
        lpm_qemu_refresh(partition, NULL, NULL);
        lpm_qemu_set_reset(partition);
        lpm_rtc_look(partition);
    }
}

bool lpm_partition_check_idle(const LpmPartition *partition, const char *what, GError **error)
{
    const char *name = partition->profile->name;

    if (partition->link && partition->link->stuck) {
        return lpm_error_set(error, LPM_ERROR_BUSY,
                             "partition %s cannot %s: migration %s, which was not finished, has it "
                             "and cannot be taken up: %s",
                             name, what, partition->link->id, partition->link->stuck);
    }
    if (partition->link) {
        return lpm_error_set(error, LPM_ERROR_BUSY,
                             "partition %s cannot %s while migration %s is "
                             "under way; wait for its end or stop it",
                             name, what, partition->link->id);
    }
    if (partition->busy) {
        return lpm_error_set(error, LPM_ERROR_BUSY,
                             "partition %s cannot %s while it is busy with %s; "
                             "wait for its end",
                             name, what, partition->busy);
    }
    return true;
}

bool lpm_partition_put_runtime(LpmPartition *partition, const LpmProcess *process,
                               char *const *argv, GError **error)
{
    g_autoptr(json_t) line = json_array();
    g_autoptr(json_t) document = NULL;

    for (; argv && *argv; argv++) {
        json_array_append_new(line, json_string(*argv));
    }
    document = lpm_json_pack("{s:b, s:O, s:O}", "incoming", partition->incoming, "runtime",
                             partition->runtime, "argv", line);
    if (partition->activating) {
        json_object_set_new(document, "activating", json_string(partition->activating));
    }
    if (process) {
        json_object_set_new(document, "pid", json_integer(process->pid));
        json_object_set_new(document, "start_time", json_integer((json_int_t)process->start_time));
    }
    if (!lpm_store_put(partition->host->store, LPM_KIND_RUNTIME, partition->profile->uuid, document,
                       NULL, error)) {
        g_prefix_error(error, "partition %s: what is needed to find its QEMU again: ",
                       partition->profile->name);
        return false;
    }
    return true;
}

bool lpm_partition_put_grown(LpmPartition *partition, GError **error)
{
    LpmStore *store = partition->host->store;
    const char *uuid = partition->profile->uuid;
    g_autoptr(json_t) document = lpm_store_get(store, LPM_KIND_RUNTIME, uuid, NULL, error);

    if (document && partition->runtime) {
        json_object_set(document, "runtime", partition->runtime);
        json_object_set_new(document, "unsettled", json_boolean(partition->unsettled));
        if (lpm_store_put(store, LPM_KIND_RUNTIME, uuid, document, NULL, error)) {
            return true;
        }
    } else if (document) {
        lpm_error_set(error, LPM_ERROR_STATE, "its QEMU has ended");
    }
    g_prefix_error(error, "partition %s: what it runs with: ", partition->profile->name);
    return false;
}

void lpm_partition_has_run(LpmPartition *partition)
{
    LpmStore *store = partition->host->store;
    const char *uuid = partition->profile->uuid;
    g_autoptr(json_t) document = NULL;
    g_autoptr(GError) error = NULL;

    if (!partition->incoming) {
        return;
    }
    partition->incoming = false;
    document = lpm_store_get(store, LPM_KIND_RUNTIME, uuid, NULL, &error);
    if (document) {
        json_object_set_new(document, "incoming", json_false());
    }
    if (document && !lpm_store_put(store, LPM_KIND_RUNTIME, uuid, document, NULL, &error)) {
        lpm_log_warning(&(LpmLogFields){.partition = partition->profile->name}, "%s",
                        error->message);
    }
}

/* Both documents in one step: whoever dies before has a runtime that says what to do. */
static bool keep_activated(LpmPartition *partition, GError **error)
{
    LpmStore *store = partition->host->store;
    const char *uuid = partition->profile->uuid;
    g_autoptr(json_t) document = lpm_store_get(store, LPM_KIND_RUNTIME, uuid, NULL, error);

    if (!document || !lpm_store_begin(store, error)) {
        return false;
    }
    json_object_del(document, "activating");
    if (!lpm_store_put(store, LPM_KIND_RUNTIME, uuid, document, NULL, error) ||
        !lpm_partition_keep(partition, error)) {
        lpm_store_rollback(store);
        return false;
    }
    return lpm_store_commit(store, error);
}

bool lpm_partition_has_activated(LpmPartition *partition, GError **error)
{
    LpmProfile *before = partition->profile;
    LpmProfile *chosen;

    if (!partition->activating) {
        return true;
    }
    chosen = lpm_profile_select(before, partition->activating, error);
    if (!chosen) {
        return false;
    }
    partition->profile = chosen;
    if (!keep_activated(partition, error)) {
        g_prefix_error(error, "partition %s: that profile %s was activated last: ", before->name,
                       partition->activating);
        partition->profile = before;
        lpm_profile_free(chosen);
        return false;
    }
    lpm_profile_free(before);
    g_clear_pointer(&partition->activating, g_free);
    lpm_qemu_set_reset(partition);
    return true;
}

void lpm_partition_drop_runtime(LpmPartition *partition)
{
    g_autoptr(GError) error = NULL;

    if (!lpm_store_delete(partition->host->store, LPM_KIND_RUNTIME, partition->profile->uuid,
                          &error)) {
        lpm_log_warning(&(LpmLogFields){.partition = partition->profile->name}, "%s",
                        error->message);
    }
}
