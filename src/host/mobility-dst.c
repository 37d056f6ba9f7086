/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The target half of a move, in the order of time: prepare, listen, load, say so. From then on, and
 * whenever something is wrong, the rows decide: mobility-dst-rows.c.
 */
#include "host/mobility-dst.h"

#include "base/log.h"
#include "bytes/bytes.h"
#include "crash/crash.h"
#include "host/pagestore.h"
#include "host/redeliver.h"

#include <string.h>

enum { ASK_AGAIN_MS = 1 };
#define STOOD_MAX_US (3600 * G_TIME_SPAN_SECOND)

void lpm_dst_answer(DstMove *move, json_t *result, const GError *error)
{
    LpmHostReply prepared = move->prepared;
    move->prepared = NULL;
    if (prepared) {
        LPM_CRASH_POINT("dst", "answer", "before");
        prepared(result, error, move->prepared_data);
        LPM_CRASH_POINT("dst", "answer", "after");
    }
}

void lpm_dst_trouble(DstMove *move, const GError *error)
{
    lpm_mig_ref(&move->base);
    lpm_dst_answer(move, NULL, error);
    lpm_mig_trouble(&move->base, error);
    lpm_mig_unref(&move->base);
}

/* --- loaded --- */

/* Once QEMU has it all and the digest is right, in whichever order that became known. */
static void maybe_loaded(DstMove *move)
{
    LpmMigration *migration = &move->base;
    g_autoptr(GError) error = NULL;
    if (off_course(move) || !move->loaded_known || !move->digest_known) {
        return;
    }
    if (!lpm_mig_journal(migration, LPM_MOB_EV_LOADED, &error)) {
        lpm_dst_trouble(move, error);
        return;
    }
    LpmStreamMessage message = {.end = move->end};
    LPM_CRASH_POINT("dst", "tell-loaded", "before");
    lpm_mover_send(migration->mover, LPM_STREAM_LOADED, &message);
    LPM_CRASH_POINT("dst", "tell-loaded", "after");
    if (migration->options.verify) {
        lpm_mover_send(migration->mover, LPM_STREAM_VERIFY, NULL);
        lpm_mig_enter_phase(migration, LPM_PHASE_VERIFY);
    } else {
        lpm_mig_enter_phase(migration, LPM_PHASE_COMMIT);
    }
    lpm_mig_look_soon(migration); /* the source is about to offer it, and says so */
}

static gboolean ask_completed(gpointer data);

static void redelivered(const GError *error, void *data)
{
    DstMove *move = data;
    if (!off_course(move)) {
        if (error) {
            lpm_dst_trouble(move, error);
        } else {
            move->loaded_known = true;
            maybe_loaded(move);
        }
    }
    lpm_mig_unref(&move->base);
}

/* QEMU has completed and is paused. Before anything says that it is loaded, it is made whole. */
static void arrived(DstMove *move)
{
    lpm_mig_ref(&move->base);
    if (lpm_redeliver_needed(move->base.partition)) {
        lpm_redeliver(move->base.partition, redelivered, move);
    } else {
        redelivered(NULL, move);
    }
}

/* --- completed --- */

static void completed_state(const LpmQmpStatus *status, const LpmQmpMigration *mig,
                            const GError *error, void *data)
{
    DstMove *move = data;
    g_autoptr(GError) failure = NULL;
    if (!off_course(move)) {
        bool completed = !error && mig->status == LPM_QMP_MIG_COMPLETED;
        if (error) {
            lpm_dst_trouble(move, error);
        } else if (completed && status->state == LPM_QMP_RUN_INMIGRATE) {
            /* QEMU tells the end a moment before it changes its state. */
            move->ask_timer = g_timeout_add(ASK_AGAIN_MS, ask_completed, move);
        } else if (!completed || status->state != LPM_QMP_RUN_PAUSED) {
            lpm_error_set(&failure, LPM_ERROR_QEMU, "QEMU on %s said completed, but is %s and %s",
                          lpm_host_name(move->base.host), lpm_qmp_mig_name(mig->status),
                          lpm_qmp_run_name(status->state));
            lpm_dst_trouble(move, failure);
        } else {
            arrived(move);
        }
    }
    lpm_mig_unref(&move->base);
}

static gboolean ask_completed(gpointer data)
{
    DstMove *move = data;
    move->ask_timer = 0;
    if (!off_course(move) && qmp_of(move)) {
        lpm_mig_ref(&move->base);
        lpm_qmp_query_state(qmp_of(move), completed_state, move);
    }
    return G_SOURCE_REMOVE;
}

static void on_migration(DstMove *move, LpmQmpMigStatus status)
{
    LpmMigration *migration = &move->base;
    bool completed = status == LPM_QMP_MIG_COMPLETED;
    if (migration->postcopy) {
        lpm_dst_filling(move, status);
    }
    if (completed && migration->mover && (migration->postcopy || !off_course(move))) {
        lpm_mover_send(migration->mover, LPM_STREAM_CHECK, NULL);
    }
    if (migration->postcopy) {
        lpm_mig_look(migration);
    } else if (off_course(move)) {
        return;
    } else if (completed) {
        ask_completed(move);
    } else if (status == LPM_QMP_MIG_POSTCOPY_ACTIVE) {
        lpm_dst_ask_half(move);
    }
}

void lpm_dst_qmp_event(LpmPartition *partition, const LpmQmpEvent *event, void *data)
{
    DstMove *move = data;
    LpmLogFields fields = {.migration = move->base.id, .partition = move->base.name};
    (void)partition;
    lpm_log_debug(&fields, "QEMU: %s %s", event->name, lpm_json_str(event->data, "status", ""));
    if (strcmp(event->name, "RESUME") == 0) {
        move->resume_mono_us = lpm_mig_mono_of(&move->base, event->realtime_us);
        lpm_mig_mark_at(&move->base, LPM_COMMIT_RESUMED, move->resume_mono_us);
    } else if (strcmp(event->name, "STOP") == 0) {
        move->loaded_known = false;
    }
    if (strcmp(event->name, "MIGRATION") == 0) {
        on_migration(move, lpm_qmp_mig_from_name(lpm_json_str(event->data, "status", NULL)));
    }
}

/* --- mover --- */

static void incoming(const GError *error, void *data)
{
    DstMove *move = data;
    g_autoptr(GError) failure = NULL;
    bool several = move->base.options.channels > 0;
    if (!off_course(move) &&
        (error || (several && !lpm_channels_incoming(&move->channels, &failure)))) {
        lpm_dst_trouble(move, error ? error : failure);
    }
    lpm_mig_unref(&move->base);
}

static void on_connected(DstMove *move, const LpmStreamConnected *connected)
{
    LpmMigration *migration = &move->base;
    migration->mover_connected = true;
    lpm_links_connected(migration);
    migration->round_trip_us = connected->rtt_us;
    if (move->relinking) {
        move->relinking = false; /* QEMU waits already */
        return;
    }
    /* Without QMP its QEMU has just ended, and what explains that is being waited for. */
    if (off_course(move) || !qmp_of(move)) {
        return;
    }
    lpm_mig_enter_phase(migration, LPM_PHASE_COPY);
    lpm_mig_publish_always(migration, true);
    lpm_mig_ref(migration);
    LPM_CRASH_POINT("dst", "incoming", "before");
    if (migration->options.channels > 0) {
        g_autofree char *uri = lpm_channels_uri(&move->channels, migration);
        lpm_qmp_migrate_incoming(qmp_of(move), uri, incoming, move);
        return;
    }
    lpm_qmp_migrate_incoming_fd(qmp_of(move), move->vasi, incoming, move);
    lpm_bytes_close(&move->vasi);
}

static void on_need_channel(DstMove *move, const LpmStreamChannel *wanted)
{
    g_autoptr(GError) failure = NULL;
    if (!off_course(move) && !lpm_channels_want(&move->channels, wanted->channel, &failure)) {
        lpm_dst_trouble(move, failure);
    }
}

static void on_ready(DstMove *move)
{
    g_autoptr(json_t) result = json_object();
    json_object_set(result, "addresses", move->listeners.addresses);
    json_object_set_new(result, "port", json_integer(move->listeners.port));
    lpm_listeners_close(&move->listeners);
    if (move->image_key && !move->relinking) {
        json_object_set_new(result, "image_key", json_string(move->image_key));
    }
    lpm_dst_answer(move, result, NULL);
}

static void on_hint(DstMove *move, const LpmStreamHint *hint)
{
    LpmMigration *migration = &move->base;
    if (!migration->rows) {
        return; /* nothing can be offered before it is loaded */
    }
    if (hint->what == LPM_HINT_OFFER && move->hint_mono_us == 0) {
        move->hint_mono_us = lpm_clock_monotonic_us(migration->host->clock);
        lpm_mig_mark_at(migration, LPM_COMMIT_HEARD, move->hint_mono_us);
        if (migration->phase != LPM_PHASE_COMMIT) {
            lpm_mig_enter_phase(migration, LPM_PHASE_COMMIT);
        }
    }
    if (hint->what == LPM_HINT_OFFER) {
        LPM_CRASH_POINT("dst", "hear-offer", "before");
        lpm_mig_believe_offer(migration);
    }
    lpm_mig_look(migration);
}

/*
 * A record that was changed between prepare and start would make this half take the record for
 * another move's, and what has come would be discarded: in post-copy too late. So nothing may come
 * from here on, however long the record takes to be read.
 */
static void on_begun(DstMove *move, const json_t *message)
{
    LpmMigration *migration = &move->base;
    g_autoptr(GError) error = NULL;
    if (off_course(move) ||
        lpm_json_int(message, "revision", 0) == (int64_t)migration->base_revision) {
        return;
    }
    lpm_error_set(&error, LPM_ERROR_CONFLICT,
                  "the ownership record of partition %s was changed by another move between "
                  "prepare and start; nothing was copied yet, start the move again",
                  migration->name);
    lpm_mover_abort(migration->mover, error->message);
    migration->mover = NULL;
    lpm_dst_trouble(move, error);
}

/* Words of the source's lpm-host. */
static void on_peer(DstMove *move, const LpmStreamPeer *peer)
{
    g_autoptr(json_t) message = lpm_json_parse((const char *)peer->data, peer->size, NULL);
    const char *event = lpm_json_str(message, "event", "");
    if (strcmp(event, "begun") == 0) {
        on_begun(move, message);
    }
    if (strcmp(event, "stood") == 0) {
        move->base.stood_us = CLAMP(lpm_json_int(message, "us", 0), 0, STOOD_MAX_US);
    }
    if (strcmp(event, "memory-lost") == 0 && move->base.postcopy && !move->filled) {
        lpm_dst_lost(move, "its QEMU there ended");
    }
}

static void mover_event(uint32_t type, const LpmStreamMessage *message, void *data)
{
    DstMove *move = data;
    LpmMigration *migration = &move->base;
    lpm_mig_ref(migration);
    if (type != LPM_STREAM_STATS) {
        LpmLogFields fields = {.migration = migration->id, .partition = migration->name};
        lpm_log_debug(&fields, "mover: %s", lpm_stream_type_name(type));
    }
    if (type == LPM_STREAM_READY) {
        on_ready(move);
    } else if (type == LPM_STREAM_CONNECTED) {
        on_connected(move, &message->connected);
    } else if (type == LPM_STREAM_STATS) {
        migration->stats = message->stats;
        migration->round_trip_us =
            message->stats.rtt_us ? message->stats.rtt_us : migration->round_trip_us;
    } else if (type == LPM_STREAM_NEED_CHANNEL) {
        on_need_channel(move, &message->need_channel);
    } else if (type == LPM_STREAM_LINK_STATE) {
        lpm_links_changed(migration, &message->link_state);
    } else if (type == LPM_STREAM_REFUSED) {
        LpmLogFields fields = {.migration = migration->id, .partition = migration->name};
        lpm_log_warning(&fields, "the mover turned somebody away: %s", message->reason.reason);
    } else if (type == LPM_STREAM_DIGEST_OK) {
        move->digest_known = true;
        move->end = message->end;
        if (migration->postcopy) {
            lpm_mover_send_peer(migration->mover, "{\"event\": \"whole\"}");
            lpm_mig_look(migration);
        } else {
            maybe_loaded(move);
        }
    } else if (type == LPM_STREAM_PEER) {
        on_peer(move, &message->peer);
    } else if (type == LPM_STREAM_PEER_CLOSED && migration->postcopy) {
        move->peer_closed = true;
        lpm_mig_look(migration);
    } else if (type == LPM_STREAM_VERIFIED) {
        migration->verified = message->verified;
        migration->verified_known = true;
        lpm_mig_publish(migration);
    } else if (type == (uint32_t)LPM_STREAM_HINT) {
        on_hint(move, &message->hint);
    }
    lpm_mig_unref(migration);
}

static void mover_gone(const GError *error, void *data)
{
    DstMove *move = data;
    LpmMigration *migration = &move->base;
    migration->mover_connected = false;
    lpm_mover_kill(migration->mover);
    migration->mover = NULL;
    if (migration->journal < LPM_MOB_DST_INTENT) {
        lpm_dst_trouble(move, error);
    } else if (migration->postcopy && !move->filled) {
        lpm_dst_answer(move, NULL, error);
        lpm_mig_link_broke(migration, error);
        lpm_mig_look(migration);
    } /* else it runs here, and the movers are not needed any more */
}

/* --- prepare --- */

/* The source is told of its key. */
static void take_image(DstMove *move, LpmMoverSpec *spec)
{
    LpmHost *host = move->base.host;
    const LpmProfile *profile = move->base.partition->profile;
    g_autofree char *key = lpm_images_key(host, profile);
    lpm_mobility_mover_image(host, profile, key, spec);
    if (spec->image >= 0) {
        move->image_key = g_steal_pointer(&key);
    }
}

bool lpm_dst_start_mover(DstMove *move, int qemu, GError **error)
{
    LpmMigration *migration = &move->base;
    LpmMoverHandlers handlers = {mover_event, mover_gone, move};
    LpmMoverSpec spec;
    LPM_AUTO_FD int vasi = -1;
    LPM_AUTO_FD int image = -1;
    int memory = -1;
    if (migration->options.verify) {
        memory = lpm_partition_memory_fd(migration->partition, error);
        if (memory < 0) {
            return false;
        }
    }
    if (!lpm_mobility_listen(migration->host, &move->listeners, error) ||
        (qemu < 0 && migration->options.channels == 0 &&
         !lpm_mover_vasi(&move->vasi, &vasi, error)) ||
        !lpm_mobility_mover_spec(migration->host, migration->peer, move->key, migration->id_bytes,
                                 &spec, error)) {
        return false;
    }
    spec.config.side = LPM_STREAM_SIDE_DST;
    spec.config.mode = LPM_STREAM_MODE_MOVE;
    spec.config.connect_ms = (uint32_t)migration->options.connect_timeout_ms;
    spec.config.memory_size = lpm_mobility_memory_size(
        memory, migration->runtime ? migration->runtime : migration->partition->runtime);
    lpm_links_configure(migration, &spec.config);
    spec.nets = move->listeners.fds;
    spec.n_nets = move->listeners.n;
    spec.vasi = qemu >= 0 ? qemu : vasi;
    spec.memory = memory;
    if (!migration->postcopy) {
        take_image(move, &spec);
        image = spec.image;
    }
    migration->mover = lpm_mover_start(&spec, &handlers, error);
    return migration->mover != NULL;
}

/* --- QEMU --- */

static void parameters_set(const GError *error, void *data)
{
    DstMove *move = data;
    g_autoptr(GError) failure = NULL;
    if (!off_course(move)) {
        if (error || !lpm_dst_start_mover(move, -1, &failure)) {
            lpm_dst_trouble(move, error ? error : failure);
        }
    }
    lpm_mig_unref(&move->base);
}

static void capabilities_set(const GError *error, void *data)
{
    DstMove *move = data;
    const LpmQmpParameter wanted[] = {lpm_channels_parameter(&move->base), {NULL}};
    if (off_course(move) || error) {
        parameters_set(error, data);
    } else {
        lpm_qmp_set_parameters(qmp_of(move), wanted, parameters_set, move);
    }
}

static void qemu_started(const GError *error, void *data)
{
    DstMove *move = data;
    if (off_course(move)) {
        lpm_mig_unref(&move->base);
        return;
    }
    if (error) {
        lpm_dst_trouble(move, error);
        lpm_mig_unref(&move->base);
        return;
    }
    bool postcopy = lpm_move_may_postcopy(&move->base.options);
    const LpmQmpCapability more[] = {
        {"postcopy-ram", postcopy, postcopy}, lpm_channels_capability(&move->base), {NULL}};
    lpm_qmp_set_move_capabilities(qmp_of(move), more, capabilities_set, move);
}

/* One that never came to be here. */
static void drop_partition(const LpmMigration *migration, LpmPartition *partition)
{
    g_autoptr(GError) error = NULL;
    if (!lpm_partition_forget(partition, &error)) {
        LpmLogFields fields = {.migration = migration->id, .partition = migration->name};
        lpm_log_warning(&fields, "%s", error->message);
    }
}

/* Refused before the journal began: nothing is left of it. */
static void refuse(DstMove *move, const GError *error)
{
    LpmMigration *migration = &move->base;
    LpmPartition *partition = migration->partition;
    migration->ended = true;
    lpm_dst_answer(move, NULL, error);
    lpm_mig_detach(migration);
    if (partition && !partition->stored) {
        drop_partition(migration, partition);
    }
    g_hash_table_remove(migration->host->mobility->migrations, migration->id);
}

static void begin_inactive(DstMove *move)
{
    LpmMigration *migration = &move->base;
    g_autoptr(GError) error = NULL;
    if (!lpm_mig_journal(migration, LPM_MOB_EV_LOADED, &error)) {
        lpm_dst_trouble(move, error);
        return;
    }
    g_autoptr(json_t) result = lpm_json_pack("{s:[], s:n}", "addresses", "port");
    lpm_dst_answer(move, result, NULL);
    lpm_mig_look(migration);
}

static bool check_record(const LpmMigration *migration, GError **error)
{
    const LpmRecord *record = &migration->record;
    if (lpm_record_settled(record->state) && strcmp(record->owner, migration->peer) == 0) {
        return true;
    }
    return lpm_error_set(error, LPM_ERROR_STATE,
                         "the ownership record of partition %s says %s of system %s: %s cannot "
                         "move it; recover its last migration first",
                         migration->name, lpm_record_state_name(record->state), record->owner,
                         migration->peer);
}

static void first_read(LpmMigration *migration, const GError *error)
{
    DstMove *move = dst(migration);
    g_autoptr(GError) failure = NULL;
    if (error || !check_record(migration, &failure)) {
        refuse(move, error ? error : failure);
        return;
    }
    migration->base_revision = migration->record.revision;
    if (!lpm_mig_journal(migration, LPM_MOB_EV_ACCEPT, &failure)) {
        refuse(move, failure);
        return;
    }
    lpm_mig_enter_phase(migration, LPM_PHASE_PREPARE);
    if (!migration->active) {
        begin_inactive(move);
        return;
    }
    lpm_mig_ref(migration);
    lpm_partition_start_incoming(migration->partition, migration->runtime,
                                 migration->options.unconnected, qemu_started, move);
}

/*
 * A profile of the same UUID may still be here from an earlier time; the record says that the
 * partition is the source's, so it is of no more use.
 */
static LpmPartition *take_partition(DstMove *move, GError **error)
{
    LpmHost *host = move->base.host;
    LpmProfile *profile = lpm_profile_from_json(move->base.profile, error);
    if (!profile) {
        return NULL;
    }
    LpmPartition *old = g_hash_table_lookup(host->partitions, profile->uuid);
    if (old) {
        lpm_error_set(error, LPM_ERROR_EXISTS,
                      "partition %s (%s) exists on %s already; delete it there, or recover the "
                      "migration that left it behind",
                      old->profile->name, old->profile->uuid, lpm_host_name(host));
        lpm_profile_free(profile);
        return NULL;
    }
    return lpm_partition_add_new(host, profile, error);
}

static bool read_arguments(DstMove *move, const json_t *arguments, GError **error)
{
    LpmMigration *migration = &move->base;
    const char *source = NULL, *key = NULL;
    if (!lpm_json_need_str(arguments, "source", &source, error) ||
        !lpm_move_options_read(lpm_json_at(arguments, "options"), &migration->options, error)) {
        return false;
    }
    migration->active = lpm_json_bool(arguments, "active", true);
    if (!lpm_name_is_valid(source) || strcmp(source, lpm_host_name(migration->host)) == 0) {
        return lpm_error_set(error, LPM_ERROR_USAGE, "\"%s\" cannot be the source of a move to %s",
                             source, lpm_host_name(migration->host));
    }
    if (migration->host->maintenance) {
        return lpm_error_set(error, LPM_ERROR_STATE,
                             "system %s is in maintenance and takes no partitions",
                             lpm_host_name(migration->host));
    }
    if (migration->active && !lpm_json_need_str(arguments, "key", &key, error)) {
        return false;
    }
    migration->peer = g_strdup(source);
    move->key = g_strdup(key);
    migration->profile = json_incref(lpm_json_at(arguments, "profile"));
    migration->runtime = json_incref(lpm_json_at(arguments, "runtime"));
    if (!json_is_object(migration->profile) ||
        (migration->active && !json_is_object(migration->runtime))) {
        return lpm_error_set(error, LPM_ERROR_USAGE, "profile and runtime: objects are needed");
    }
    return true;
}

static bool accept(DstMove *move, const json_t *arguments, GError **error)
{
    LpmMigration *migration = &move->base;
    if (!read_arguments(move, arguments, error) ||
        !lpm_mobility_slot(migration->host, migration->active, error)) {
        return false;
    }
    LpmPartition *partition = take_partition(move, error);
    if (!partition) {
        return false;
    }
    g_autoptr(GError) failure = NULL;
    migration->name = g_strdup(partition->profile->name);
    migration->uuid = g_strdup(partition->profile->uuid);
    migration->arbiter = lpm_arbiter_for(migration->host, partition->profile, &failure);
    if (!migration->arbiter || !lpm_mig_attach(migration, partition, &failure)) {
        g_propagate_error(error, g_steal_pointer(&failure));
        drop_partition(migration, partition);
        return false;
    }
    return true;
}

void lpm_mig_dst_prepare(LpmHost *host, json_t *arguments, LpmHostReply done, void *data)
{
    g_autoptr(GError) error = NULL;
    const char *id = lpm_mobility_new_id(host, arguments, &error);
    if (!id) {
        done(NULL, error, data);
        return;
    }
    DstMove *move = dst(lpm_mig_dst_new(host, id));
    if (!accept(move, arguments, &error)) {
        done(NULL, error, data);
        lpm_mig_unref(&move->base);
        return;
    }
    move->prepared = done;
    move->prepared_data = data;
    lpm_mig_register(&move->base);
    lpm_mig_read(&move->base, LPM_ARBITER_DEADLINE_MS, first_read);
    lpm_mig_unref(&move->base);
}
