/* SPDX-License-Identifier: Apache-2.0 */
/* The source half's beginning and its stop by request: migration-start, migration-stop. */
#include "host/mobility-src.h"

#include <string.h>

static SrcMove *src(LpmMigration *migration)
{
    return (SrcMove *)migration;
}

void lpm_src_answer(SrcMove *move, const GError *error)
{
    LpmHostDone done = move->started;
    move->started = NULL;
    if (done) {
        done(error, move->started_data);
    }
}

/* Refused before the journal began: nothing is left of it. */
static void refuse(SrcMove *move, const GError *error)
{
    LpmMigration *migration = &move->base;
    migration->ended = true;
    lpm_src_answer(move, error);
    lpm_mig_detach(migration);
    g_hash_table_remove(migration->host->mobility->migrations, migration->id);
}

static void begin_active(SrcMove *move)
{
    LpmMigration *migration = &move->base;
    lpm_mig_enter_phase(migration, LPM_PHASE_PREPARE);
    lpm_mig_ref(migration);
    lpm_dial_new(move->addresses, move->port, (unsigned)migration->options.connect_timeout_ms, 0,
                 lpm_src_tcp_connected, move);
}

static void begin_inactive(SrcMove *move)
{
    LpmMigration *migration = &move->base;
    g_autoptr(GError) failure = NULL;
    if (!lpm_mig_journal(migration, LPM_MOB_EV_OFFER_NOW, &failure)) {
        lpm_mig_trouble(migration, failure);
        return;
    }
    lpm_src_offer(move);
}

static void first_read(LpmMigration *migration, const GError *error)
{
    SrcMove *move = src(migration);
    g_autoptr(GError) failure = NULL;
    const LpmRecord *record = &migration->record;
    if (migration->rows) { /* stopped, or QEMU ended, before the journal could begin */
        const GError *why = migration->error;
        bool stopped = !why || g_error_matches(why, LPM_ERROR, LPM_ERROR_ABORTED);
        /* Else the console would take "closed" for an answer that was lost, and wait for us. */
        lpm_error_set(&failure, stopped ? LPM_ERROR_ABORTED : LPM_ERROR_STATE,
                      "the move of partition %s ended before it began%s%s", migration->name,
                      why ? ": " : "", why ? why->message : "");
        refuse(move, failure);
        return;
    }
    if (error) {
        refuse(move, error);
        return;
    }
    if (!lpm_record_settled(record->state) ||
        strcmp(record->owner, lpm_host_name(migration->host)) != 0) {
        lpm_error_set(&failure, LPM_ERROR_STATE,
                      "the ownership record of partition %s says %s of system %s, so it cannot be "
                      "moved from %s; recover its last migration first",
                      migration->name, lpm_record_state_name(record->state), record->owner,
                      lpm_host_name(migration->host));
        refuse(move, failure);
        return;
    }
    migration->base_revision = record->revision;
    migration->base_epoch = record->epoch;
    if (!lpm_mig_journal(migration, LPM_MOB_EV_ACCEPT, &failure)) {
        refuse(move, failure);
        return;
    }
    lpm_mig_ref(migration);
    lpm_src_answer(move, NULL);
    if (migration->active) {
        begin_active(move);
    } else {
        begin_inactive(move);
    }
    lpm_mig_unref(migration);
}

static bool check_state(SrcMove *move, LpmPartition *partition, GError **error)
{
    const LpmMigration *migration = &move->base;
    const char *name = partition->profile->name;
    LpmPartitionState wanted =
        migration->active ? LPM_PARTITION_RUNNING : LPM_PARTITION_NOT_ACTIVATED;
    if (partition->state != wanted || !partition->stored) {
        return lpm_error_set(error, LPM_ERROR_STATE, "partition %s is %s; an %s move needs it %s",
                             name, lpm_partition_state_name(partition->state),
                             migration->active ? "active" : "inactive",
                             lpm_partition_state_name(wanted));
    }
    if (partition->profile->migration_disabled) {
        return lpm_error_set(error, LPM_ERROR_STATE,
                             "mobility of partition %s is switched off in its profile; change "
                             "migration_disabled to move it",
                             name);
    }
    if (!migration->options.verify || !migration->active) {
        return true;
    }
    move->memory_fd = lpm_partition_memory_fd(partition, error);
    if (move->memory_fd < 0) {
        g_prefix_error(error, "a verified move compares the memory of partition %s: ", name);
        return false;
    }
    return true;
}

/* Where the target's mover is, and its one-time key. */
static bool read_way(SrcMove *move, const json_t *arguments, GError **error)
{
    const char *key = NULL;
    int64_t port = 0;
    if (!lpm_json_need_str(arguments, "key", &key, error) ||
        !lpm_json_need_int(arguments, "port", 1, 65535, &port, error)) {
        return false;
    }
    json_t *addresses = lpm_json_at(arguments, "addresses");
    if (!json_is_array(addresses) || json_array_size(addresses) == 0) {
        return lpm_error_set(error, LPM_ERROR_USAGE, "addresses: at least one is needed");
    }
    json_decref(move->addresses);
    move->addresses = json_incref(addresses);
    move->port = (uint16_t)port;
    g_free(move->key);
    move->key = g_strdup(key);
    return true;
}

static bool read_arguments(SrcMove *move, const json_t *arguments, GError **error)
{
    LpmMigration *migration = &move->base;
    const char *target = NULL;
    if (!lpm_json_need_str(arguments, "target", &target, error) ||
        !lpm_move_options_read(lpm_json_at(arguments, "options"), &migration->options, error)) {
        return false;
    }
    if (!lpm_name_is_valid(target) || strcmp(target, lpm_host_name(migration->host)) == 0) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "\"%s\" cannot be the target of a move from %s", target,
                             lpm_host_name(migration->host));
    }
    migration->active = lpm_json_bool(arguments, "active", true);
    migration->peer = g_strdup(target);
    move->image_key = g_strdup(lpm_json_str(arguments, "image_key", NULL));
    return !migration->active || read_way(move, arguments, error);
}

static bool accept(SrcMove *move, json_t *arguments, GError **error)
{
    LpmMigration *migration = &move->base;
    const char *name = NULL;
    if (!read_arguments(move, arguments, error) ||
        !lpm_json_need_str(arguments, "partition", &name, error) ||
        !lpm_mobility_slot(migration->host, migration->active, error)) {
        return false;
    }
    LpmPartition *partition = lpm_host_find(migration->host, name, error);
    if (!partition || !check_state(move, partition, error)) {
        return false;
    }
    migration->name = g_strdup(partition->profile->name);
    migration->uuid = g_strdup(partition->profile->uuid);
    if (migration->options.max_blackout_ms == 0) {
        int own = partition->profile->max_blackout_ms;
        migration->options.max_blackout_ms = own > 0 ? own : LPM_MIG_DEFAULT_BLACKOUT_MS;
    }
    migration->arbiter = lpm_arbiter_for(migration->host, partition->profile, error);
    return migration->arbiter && lpm_mig_attach(migration, partition, error);
}

void lpm_mig_src_start(LpmHost *host, json_t *arguments, LpmHostDone done, void *data)
{
    g_autoptr(GError) error = NULL;
    const char *id = lpm_mobility_new_id(host, arguments, &error);
    if (!id) {
        done(error, data);
        return;
    }
    SrcMove *move = src(lpm_mig_src_new(host, id));
    if (!accept(move, arguments, &error)) {
        done(error, data);
        lpm_mig_unref(&move->base);
        return;
    }
    move->started = done;
    move->started_data = data;
    lpm_mig_register(&move->base);
    lpm_mig_read(&move->base, LPM_ARBITER_DEADLINE_MS, first_read);
    lpm_mig_unref(&move->base);
}

/* --- a post-copy that is paused --- */

static gboolean ask_relink(gpointer data);

/* Its mover is gone; QEMU notices that in a moment. */
static void relink_state(const LpmQmpMigration *mig, const GError *error, void *data)
{
    SrcMove *move = data;
    LpmMigration *migration = &move->base;
    g_autoptr(GError) failure = NULL;
    bool paused = !error && mig->status == LPM_QMP_MIG_POSTCOPY_PAUSED;
    if (!error && !paused && move->relink_tries++ < LPM_RELINK_TRIES) {
        move->ask_timer = g_timeout_add(LPM_RELINK_ASK_MS, ask_relink, move);
        lpm_mig_unref(migration);
        return;
    }
    if (!error && !paused) {
        lpm_error_set(&failure, LPM_ERROR_STATE, "QEMU of partition %s on %s is %s, not paused",
                      migration->name, migration->self, lpm_qmp_mig_name(mig->status));
    }
    lpm_src_answer(move, error ? error : failure);
    if (!paused) {
        lpm_mig_unref(migration);
        return;
    }
    move->relinking = true;
    lpm_dial_new(move->addresses, move->port, (unsigned)migration->options.connect_timeout_ms, 0,
                 lpm_src_tcp_connected, move);
}

static gboolean ask_relink(gpointer data)
{
    SrcMove *move = data;
    LpmQmp *qmp = move->base.partition ? move->base.partition->qmp : NULL;
    g_autoptr(GError) error = NULL;
    move->ask_timer = 0;
    if (qmp) {
        lpm_mig_ref(&move->base);
        lpm_qmp_query_migrate(qmp, relink_state, move);
    } else {
        lpm_error_set(&error, LPM_ERROR_QEMU, "QEMU of partition %s has ended", move->base.name);
        lpm_src_answer(move, error);
    }
    return G_SOURCE_REMOVE;
}

void lpm_src_relink_is_off(SrcMove *move)
{
    g_autoptr(GError) error = NULL;
    lpm_error_set(
        &error, LPM_ERROR_ABORTED,
        "migration %s of partition %s has gone another way while its connection was to be "
        "made anew; look at it again",
        move->base.id, move->base.name);
    lpm_src_answer(move, error);
}

void lpm_mig_src_relink(LpmMigration *migration, const json_t *arguments, LpmHostDone done,
                        void *data)
{
    SrcMove *move = src(migration);
    g_autoptr(GError) error = NULL;
    if (!lpm_mig_wants_relink(migration) || move->given || move->started || move->relinking) {
        lpm_error_set(&error, LPM_ERROR_STATE,
                      "migration %s of partition %s is not a post-copy that waits for a connection",
                      migration->id, migration->name);
    }
    if (error || !read_way(move, arguments, &error)) {
        done(error, data);
        return;
    }
    move->started = done;
    move->started_data = data;
    move->relink_tries = 0;
    lpm_src_stop_dialing(move);
    lpm_mover_kill(migration->mover);
    migration->mover = NULL;
    (void)ask_relink(move);
}

bool lpm_mig_src_stop(LpmMigration *migration, GError **error)
{
    SrcMove *move = src(migration);
    LpmMobRecordView view = lpm_mig_record_view(migration);
    if (move->offering || (view != LPM_MOB_REC_SOURCE && view != LPM_MOB_REC_UNKNOWN)) {
        return lpm_error_set(error, LPM_ERROR_STATE,
                             "migration %s of partition %s cannot be stopped any more: the "
                             "partition is already offered to %s",
                             migration->id, migration->name, migration->peer);
    }
    if (migration->postcopy) {
        return lpm_error_set(error, LPM_ERROR_STATE,
                             "migration %s of partition %s cannot be stopped any more: it has gone "
                             "on to post-copy",
                             migration->id, migration->name);
    }
    g_autoptr(GError) stopped = NULL;
    lpm_error_set(&stopped, LPM_ERROR_ABORTED, "the move was stopped on request");
    lpm_mig_trouble(migration, stopped);
    return true;
}
