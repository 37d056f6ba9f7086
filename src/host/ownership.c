/* SPDX-License-Identifier: Apache-2.0 */
#include "host/ownership.h"

#include "crash/crash.h"
#include "host/arbiter.h"
#include "host/etcd.h"
#include "host/lock-lun.h"

#include <string.h>

/* --- which arbiter --- */

/* A pool that is not there may be mounted later: its record is looked for where it was. */
static bool holds_files(const LpmHost *host, const LpmDisk *disk)
{
    const LpmPoolConfig *pool = lpm_host_config_pool(host->config, disk->at.pool);
    return !pool || pool->kind == LPM_POOL_FILE;
}

/* Beside the first disk that the partition may write to and that is in a pool of files; NULL
 * without one. */
static const LpmFileRef *first_disk(const LpmHost *host, const LpmProfile *profile)
{
    for (size_t i = 0; i < profile->n_disks; i++) {
        if (!profile->disks[i].read_only && holds_files(host, &profile->disks[i])) {
            return &profile->disks[i].at;
        }
    }
    return NULL;
}

/* Whether it may write to a disk at all, in whatever kind of pool. */
static bool writes(const LpmProfile *profile)
{
    for (size_t i = 0; i < profile->n_disks; i++) {
        if (!profile->disks[i].read_only) {
            return true;
        }
    }
    return false;
}

static LpmArbiter *file_in(const char *directory, const LpmProfile *profile,
                           const uint8_t id[LPM_RECORD_ID_SIZE])
{
    g_autofree char *name = g_strdup_printf("%s.record", profile->uuid);
    g_autofree char *path = g_build_filename(directory, ".lpm", name, NULL);
    return lpm_arbiter_file_new(path, id);
}

/*
 * What "auto" means for it here and now. Beside a disk that is no file there is no room: the lock
 * LUN, where there is one, is at the same storage as the disks mostly, and needs nobody else.
 */
static LpmArbiterKind kind_for(const LpmHost *host, const LpmProfile *profile)
{
    if (profile->arbiter != LPM_ARBITER_AUTO) {
        return profile->arbiter;
    }
    if (first_disk(host, profile)) {
        return LPM_ARBITER_FILE;
    }
    if (writes(profile) && *host->config->scsi_portal) {
        return LPM_ARBITER_SCSI;
    }
    if (writes(profile) && *host->config->etcd_endpoints) {
        return LPM_ARBITER_ETCD;
    }
    return host->credentials ? LPM_ARBITER_CONSOLE : LPM_ARBITER_FILE;
}

/* The client of etcd is made when it is needed first, and kept with its connections. */
static LpmArbiter *etcd_for(LpmHost *host, const uint8_t id[LPM_RECORD_ID_SIZE], GError **error)
{
    const LpmHostConfig *config = host->config;
    LpmEtcdConfig etcd = {config->etcd_endpoints, config->etcd_ca, config->etcd_cert,
                          config->etcd_key, config->etcd_prefix};
    if (!host->etcd) {
        host->etcd = lpm_etcd_new(&etcd, error);
    }
    return host->etcd ? lpm_arbiter_etcd_new(host->etcd, id) : NULL;
}

/* The same with the lock LUN and its session. */
static LpmArbiter *scsi_for(LpmHost *host, const uint8_t id[LPM_RECORD_ID_SIZE], GError **error)
{
    const LpmHostConfig *config = host->config;
    LpmLockLunConfig lun = {config->scsi_portal,    config->scsi_target,
                            config->scsi_lun,       config->scsi_initiator,
                            config->scsi_chap_user, config->scsi_chap_secret};
    if (!host->lock_lun) {
        host->lock_lun = lpm_lock_lun_new(&lun, error);
    }
    return host->lock_lun ? lpm_arbiter_scsi_new(host->lock_lun, id) : NULL;
}

static LpmArbiter *file_for(LpmHost *host, const LpmProfile *profile,
                            const uint8_t id[LPM_RECORD_ID_SIZE], GError **error)
{
    const LpmFileRef *disk = first_disk(host, profile);
    if (!disk && writes(profile)) {
        lpm_error_set(error, LPM_ERROR_UNSUPPORTED,
                      "partition %s: its ownership record cannot be beside a disk, since none that "
                      "it may write to is in a pool of kind file on %s; choose arbiter \"scsi\", "
                      "\"etcd\" or \"console\", after this system has [arbiter:scsi] or "
                      "[arbiter:etcd] in its configuration or has joined a console",
                      profile->name, lpm_host_name(host));
        return NULL;
    }
    if (!disk) {
        return file_in(host->config->state_dir, profile, id);
    }
    const char *pool = lpm_host_pool_path(host, disk->pool, error);
    return pool ? file_in(pool, profile, id) : NULL;
}

LpmArbiter *lpm_arbiter_for(struct LpmHost *host, const LpmProfile *profile, GError **error)
{
    uint8_t id[LPM_RECORD_ID_SIZE];
    if (!lpm_record_id_from_text(profile->uuid, id)) {
        lpm_error_set(error, LPM_ERROR_USAGE, "partition %s: \"%s\" is not a UUID", profile->name,
                      profile->uuid);
        return NULL;
    }
    switch (kind_for(host, profile)) {
    case LPM_ARBITER_CONSOLE:
        return lpm_arbiter_console_new(host, id, error);
    case LPM_ARBITER_ETCD:
        return etcd_for(host, id, error);
    case LPM_ARBITER_SCSI:
        return scsi_for(host, id, error);
    case LPM_ARBITER_AUTO:
    case LPM_ARBITER_FILE:
    case LPM_ARBITER_N:
        break;
    }
    return file_for(host, profile, id, error);
}

bool lpm_ownership_stays(LpmPartition *partition, const LpmProfile *changed, GError **error)
{
    LpmHost *host = partition->host;
    g_autoptr(LpmArbiter) before = lpm_arbiter_for(host, partition->profile, error);
    g_autoptr(LpmArbiter) after = before ? lpm_arbiter_for(host, changed, error) : NULL;
    if (!before || !after) {
        g_prefix_error(error, "partition %s: where its ownership record would be is not known: ",
                       partition->profile->name);
        return false;
    }
    return g_str_equal(before->where, after->where) ||
           lpm_error_set(error, LPM_ERROR_STATE,
                         "partition %s: its ownership record is %s, and with these disks it would "
                         "be looked for in %s; keep the first disk that it may write to, or create "
                         "another partition",
                         partition->profile->name, before->where, after->where);
}

/* --- calls --- */

typedef struct {
    LpmPartition *partition; /* references */
    LpmArbiter *arbiter;
    LpmHostDone done;
    LpmHostReply reply;
    void *data;
    bool only_if_ours;
    GError *error; /* told later, when there is no arbiter to ask */
} Call;

static void call_end(Call *call, json_t *result, const GError *error)
{
    if (call->reply) {
        call->reply(result, error, call->data);
    } else {
        call->done(error, call->data);
    }
    lpm_arbiter_unref(call->arbiter);
    lpm_partition_unref(call->partition);
    g_clear_error(&call->error);
    g_free(call);
}

static gboolean tell_later(gpointer data)
{
    Call *call = data;
    call_end(call, NULL, call->error);
    return G_SOURCE_REMOVE;
}

/* A call with its arbiter; NULL when there is none and the failure is on its way. */
static Call *call_new(LpmPartition *partition, LpmHostDone done, LpmHostReply reply, void *data)
{
    Call *call = g_new0(Call, 1);
    call->partition = lpm_partition_ref(partition);
    call->done = done;
    call->reply = reply;
    call->data = data;
    call->arbiter = lpm_arbiter_for(partition->host, partition->profile, &call->error);
    if (!call->arbiter) {
        g_idle_add(tell_later, call);
        return NULL;
    }
    return call;
}

static const char *name_of(const Call *call)
{
    return call->partition->profile->name;
}

/* Ends the call when the arbiter did not answer. */
static bool no_answer(Call *call, LpmArbiterResult result, const GError *error)
{
    if (result != LPM_ARBITER_UNKNOWN) {
        return false;
    }
    g_autoptr(GError) whole = g_error_copy(error);
    g_prefix_error(&whole, "partition %s: ", name_of(call));
    call_end(call, NULL, whole);
    return true;
}

/* --- create --- */

static void created(LpmArbiterResult result, const LpmRecord *now, const GError *error, void *data)
{
    Call *call = data;
    g_autoptr(GError) failure = NULL;
    if (no_answer(call, result, error)) {
        return;
    }
    if (result == LPM_ARBITER_LOST) {
        lpm_error_set(&failure, LPM_ERROR_EXISTS,
                      "partition %s has an ownership record already (%s), owner %s; delete it on "
                      "that system, or give the new partition another UUID",
                      name_of(call), call->arbiter->where, now->owner);
    }
    call_end(call, NULL, failure);
}

/*
 * The choice is made once: a disk more, or a console that is joined later, must not have the record
 * looked for elsewhere.
 */
static bool settle_arbiter(Call *call)
{
    LpmPartition *partition = call->partition;
    partition->profile->arbiter = kind_for(partition->host, partition->profile);
    if (!lpm_partition_keep(partition, &call->error)) {
        g_idle_add(tell_later, call);
        return false;
    }
    return true;
}

void lpm_ownership_create(LpmPartition *partition, LpmHostDone done, void *data)
{
    Call *call = call_new(partition, done, NULL, data);
    LpmRecord first;
    if (call && settle_arbiter(call)) {
        lpm_record_first(call->arbiter->partition, lpm_host_name(partition->host),
                         (uint64_t)lpm_clock_realtime_us(partition->host->clock), &first);
        lpm_arbiter_swap(call->arbiter, 0, &first, LPM_ARBITER_DEADLINE_MS, created, call);
    }
}

/* --- may start --- */

static void may_start(LpmArbiterResult result, const LpmRecord *now, const GError *error,
                      void *data)
{
    Call *call = data;
    g_autoptr(GError) failure = NULL;
    if (no_answer(call, result, error)) {
        return;
    }
    const char *self = lpm_host_name(call->partition->host);
    if (now->revision == 0) {
        lpm_error_set(
            &failure, LPM_ERROR_STATE,
            "partition %s has no ownership record at %s, so nobody knows where it may run; "
            "check that the storage pool is there",
            name_of(call), call->arbiter->where);
    } else if (strcmp(now->owner, self) != 0) {
        lpm_error_set(&failure, LPM_ERROR_STATE,
                      "partition %s belongs to system %s; start it there", name_of(call),
                      now->owner);
    } else if (!lpm_record_settled(now->state)) {
        lpm_error_set(&failure, LPM_ERROR_STATE,
                      "partition %s is on its way to system %s (%s); recover its migration first",
                      name_of(call), now->peer, lpm_record_state_name(now->state));
    }
    call_end(call, NULL, failure);
}

void lpm_ownership_may_start(LpmPartition *partition, LpmHostDone done, void *data)
{
    Call *call = call_new(partition, done, NULL, data);
    if (call) {
        lpm_arbiter_read(call->arbiter, LPM_ARBITER_DEADLINE_MS, may_start, call);
    }
}

/* --- delete --- */

static void removed(LpmArbiterResult result, const LpmRecord *now, const GError *error, void *data)
{
    Call *call = data;
    g_autoptr(GError) failure = NULL;
    if (no_answer(call, result, error)) {
        return;
    }
    if (result == LPM_ARBITER_LOST) {
        lpm_error_set(
            &failure, LPM_ERROR_CONFLICT,
            "the ownership record of partition %s has just changed (%s of %s); look again",
            name_of(call), lpm_record_state_name(now->state), now->owner);
    }
    LPM_CRASH_POINT("delete", "record", "after");
    call_end(call, NULL, failure);
}

/* Whether a partition with this record may be deleted by us. */
static bool may_delete(Call *call, const LpmRecord *now, bool ours, GError **error)
{
    if (now->revision == 0 && call->only_if_ours &&
        !lpm_partition_deletion_begun(call->partition)) {
        return lpm_error_set(error, LPM_ERROR_STATE,
                             "partition %s has no ownership record (%s), so nothing says that its "
                             "disks are still its own: delete the profile without the disks, and "
                             "then those files that nobody uses by hand",
                             name_of(call), call->arbiter->where);
    }
    if (now->revision != 0 && !ours && call->only_if_ours) {
        return lpm_error_set(error, LPM_ERROR_STATE,
                             "partition %s belongs to system %s, and so do its disks: delete the "
                             "left-over profile here without the disks",
                             name_of(call), now->owner);
    }
    if (ours && !lpm_record_settled(now->state)) {
        return lpm_error_set(error, LPM_ERROR_STATE,
                             "partition %s is on its way to system %s (%s); recover its migration "
                             "first",
                             name_of(call), now->peer, lpm_record_state_name(now->state));
    }
    return true;
}

static void read_for_delete(LpmArbiterResult result, const LpmRecord *now, const GError *error,
                            void *data)
{
    Call *call = data;
    g_autoptr(GError) failure = NULL;
    if (no_answer(call, result, error)) {
        return;
    }
    bool ours = now->revision != 0 && strcmp(now->owner, lpm_host_name(call->partition->host)) == 0;
    if (!may_delete(call, now, ours, &failure) || !ours ||
        !lpm_partition_begin_deletion(call->partition, &failure)) {
        call_end(call, NULL, failure);
        return;
    }
    LPM_CRASH_POINT("delete", "record", "before");
    lpm_arbiter_remove(call->arbiter, now->revision, LPM_ARBITER_DEADLINE_MS, removed, call);
}

void lpm_ownership_delete(LpmPartition *partition, bool only_if_ours, LpmHostDone done, void *data)
{
    Call *call = call_new(partition, done, NULL, data);
    if (call) {
        call->only_if_ours = only_if_ours;
        lpm_arbiter_read(call->arbiter, LPM_ARBITER_DEADLINE_MS, read_for_delete, call);
    }
}

/* --- show --- */

static void shown(LpmArbiterResult result, const LpmRecord *now, const GError *error, void *data)
{
    Call *call = data;
    char move[2 * LPM_RECORD_ID_SIZE + 1];
    if (no_answer(call, result, error)) {
        return;
    }
    if (now->revision == 0) {
        g_autoptr(GError) missing = NULL;
        lpm_error_set(&missing, LPM_ERROR_NOT_FOUND, "partition %s has no ownership record at %s",
                      name_of(call), call->arbiter->where);
        call_end(call, NULL, missing);
        return;
    }
    lpm_record_id_to_text(now->move, move);
    g_autoptr(json_t) json = lpm_json_pack(
        "{s:s, s:I, s:I, s:s, s:s, s:s, s:I, s:s, s:s}", "state", lpm_record_state_name(now->state),
        "epoch", (json_int_t)now->epoch, "revision", (json_int_t)now->revision, "owner", now->owner,
        "peer", now->peer, "move", move, "changed_us", (json_int_t)now->changed_us, "arbiter",
        call->arbiter->ops->name, "where", call->arbiter->where);
    call_end(call, json, NULL);
}

void lpm_ownership_show(LpmPartition *partition, LpmHostReply done, void *data)
{
    Call *call = call_new(partition, NULL, done, data);
    if (call) {
        lpm_arbiter_read(call->arbiter, LPM_ARBITER_DEADLINE_MS, shown, call);
    }
}
