/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source half of a move while nothing is wrong: mover, switchover, offer (to be read from the
 * bottom up). It begins in mobility-src-start.c and copies in mobility-src-copy.c; what happens
 * after the offer, and whenever something is wrong, is in mobility-src-rows.c.
 */
#include "host/mobility-src.h"
#include "host/grow.h"

#include "base/log.h"
#include "bytes/bytes.h"
#include "crash/crash.h"

#include <string.h>
#include <unistd.h>

enum {
    ASK_AGAIN_MS = 1,
    ARBITER_AGAIN_MS = 250,
    LINK_AGAIN_MS = 20,
    HURRY_MS = 150, /* between two attempts to connect; the kernel's own come after 1 s and more */
    LINK_JUST_NOW_MS = 30000, /* the arbiter may be behind the same link, and comes back later */
    LOST_LIMIT_MS = 700,      /* the same while the link is lost */
    VERIFY_MS_PER_MIB = 10,   /* several times what hashing takes */
};

static LpmLogFields fields_of(const SrcMove *move)
{
    return (LpmLogFields){.migration = move->base.id, .partition = move->base.name};
}

/* Whether the normal way is over: the rows decide, or everything has ended. */
static bool off_course(const SrcMove *move)
{
    return move->base.rows || move->base.ended;
}

static SrcMove *src(LpmMigration *migration)
{
    return (SrcMove *)migration;
}

static LpmQmp *qmp_of(const SrcMove *move)
{
    return move->base.partition ? move->base.partition->qmp : NULL;
}

/* --- offer --- */

/* The partition stands still: a target that was lost is not given the whole of the offer's time. */
static void expect_little(SrcMove *move)
{
    LpmMigration *migration = &move->base;
    int64_t soon = lpm_clock_monotonic_us(migration->host->clock) + LOST_LIMIT_MS * 1000;
    migration->patient_until_us = MIN(migration->patient_until_us, soon);
}

/* How long the partition has stood still: its clock is behind by that. */
static void tell_stood(const SrcMove *move)
{
    int64_t stood_us = move->offer_mono_us - move->stop_mono_us;
    if (move->stop_mono_us == 0 || move->base.postcopy) {
        return;
    }
    g_autoptr(json_t) message =
        lpm_json_pack("{s:s, s:I}", "event", "stood", "us", (json_int_t)stood_us);
    g_autofree char *text = lpm_json_text(message);
    lpm_mover_send_peer(move->base.mover, text);
}

static void offered(LpmMigration *migration, LpmArbiterResult result, const GError *error)
{
    SrcMove *move = src(migration);
    (void)error;
    migration->patient_until_us =
        lpm_clock_monotonic_us(migration->host->clock) + migration->options.offer_timeout_ms * 1000;
    if (!migration->mover || migration->links.lost_us > 0) {
        expect_little(move);
    }
    if (result == LPM_ARBITER_DONE && migration->mover) {
        move->offer_mono_us = lpm_clock_monotonic_us(migration->host->clock);
        LPM_CRASH_POINT("src", "tell-offer", "before");
        lpm_mover_send_hint(migration->mover, migration->record.epoch, LPM_HINT_OFFER);
        LPM_CRASH_POINT("src", "tell-offer", "after");
        tell_stood(move);
    }
    lpm_mig_publish(migration);
    lpm_mig_look(migration);
}

void lpm_src_offer(SrcMove *move)
{
    move->offering = true;
    lpm_mig_mark(&move->base, LPM_COMMIT_BEGUN);
    lpm_mig_enter_phase(&move->base, LPM_PHASE_COMMIT);
    lpm_mig_swap(&move->base, LPM_RECORD_OFFER, LPM_RECORD_BY_OWNER, "offer", offered);
}

/* Everything that must be true before the partition is offered. */
static void maybe_offer(SrcMove *move)
{
    LpmMigration *migration = &move->base;
    bool verified = !migration->options.verify || migration->verified_known;
    if (off_course(move) || migration->journal != LPM_MOB_SRC_POST || !move->peer_loaded ||
        !verified || move->offering) {
        return;
    }
    g_clear_handle_id(&move->limit_timer, g_source_remove);
    lpm_mover_send(migration->mover, LPM_STREAM_GET_STATS, NULL);
    lpm_src_offer(move);
}

/* --- switchover --- */

static gboolean switchover_too_long(gpointer data)
{
    SrcMove *move = data;
    move->limit_timer = 0;
    g_autoptr(GError) error = NULL;
    const LpmLinks *links = &move->base.links;
    if (links->lost_us > 0) {
        lpm_error_set(&error, LPM_ERROR_NETWORK,
                      "the link with %s was lost in the switchover (%s) and was not back within "
                      "%u ms",
                      move->base.peer, links->reason ? links->reason : "?", move->limit_ms);
    } else {
        lpm_error_set(&error, LPM_ERROR_TIMEOUT, "the switchover took longer than %u ms",
                      move->limit_ms);
    }
    lpm_mig_trouble(&move->base, error);
    return G_SOURCE_REMOVE;
}

/*
 * The partition stands still meanwhile, and may wait for a system that is dead. Not in post-copy
 * once QEMU was told to go on: there is no way back from it.
 */
static bool must_hurry(const SrcMove *move)
{
    bool no_way_back = move->base.postcopy || (move->going_postcopy && move->continued);
    return move->base.links.lost_us > 0 && !no_way_back;
}

static gboolean hurry(gpointer data)
{
    SrcMove *move = data;
    if (move->limit_timer == 0 || !must_hurry(move)) {
        move->hurry_timer = 0;
        return G_SOURCE_REMOVE;
    }
    lpm_src_dial_again(move);
    return G_SOURCE_CONTINUE;
}

/* Armed anew when the link is lost or back; all in all it is counted from where it stood still. */
static void limit_switchover(SrcMove *move)
{
    const LpmMigration *migration = &move->base;
    int64_t stood_us = lpm_clock_monotonic_us(migration->host->clock) - move->switch_mono_us;
    unsigned verify =
        migration->options.verify
            ? (unsigned)lpm_runtime_file_mib(migration->partition->runtime) * VERIFY_MS_PER_MIB
            : 0;
    move->limit_ms =
        LPM_MIG_SWITCHOVER_LIMIT_MS + (unsigned)migration->options.max_blackout_ms + verify;
    int64_t left_ms = MAX(0, (int64_t)move->limit_ms - stood_us / 1000);
    if (must_hurry(move)) {
        move->limit_ms = LOST_LIMIT_MS;
        left_ms = MIN(left_ms, LOST_LIMIT_MS);
        if (move->hurry_timer == 0) {
            unsigned trip_ms = (unsigned)(migration->round_trip_us / 1000);
            /* An attempt begins after the pause, and must not be given up before it can answer. */
            unsigned every_ms = MAX(HURRY_MS, LPM_DIAL_PAUSE_MS + 2 * trip_ms);
            move->hurry_timer = g_timeout_add(every_ms, hurry, move);
        }
    }
    g_clear_handle_id(&move->limit_timer, g_source_remove);
    move->limit_timer = g_timeout_add((unsigned)left_ms, switchover_too_long, move);
}

static void continued(const GError *error, void *data)
{
    SrcMove *move = data;
    if (error && !off_course(move)) {
        lpm_mig_trouble(&move->base, error);
    }
    lpm_mig_unref(&move->base);
}

static void ready_to_switch(LpmMigration *migration, const GError *error);

static void ask_arbiter(SrcMove *move)
{
    if (lpm_mig_arbiter_is_quick(&move->base)) {
        ready_to_switch(&move->base, NULL);
    } else {
        lpm_mig_read(&move->base, LPM_ARBITER_QUICK_MS, ready_to_switch);
    }
}

static gboolean ask_ready(gpointer data)
{
    SrcMove *move = data;
    move->ask_timer = 0;
    if (!off_course(move)) {
        ask_arbiter(move);
    }
    return G_SOURCE_REMOVE;
}

/*
 * The arbiter has answered while QEMU stands in pre-switchover. With the link lost nothing goes on:
 * here QEMU can be told to cancel, later it can only be yanked.
 */
static void ready_to_switch(LpmMigration *migration, const GError *error)
{
    SrcMove *move = src(migration);
    g_autoptr(GError) failure = NULL;
    if (off_course(move)) {
        return;
    }
    bool lost = migration->links.lost_us > 0;
    if (lost || (error && lpm_links_were_lost(migration, LINK_JUST_NOW_MS))) {
        unsigned again_ms = error ? ARBITER_AGAIN_MS : LINK_AGAIN_MS;
        move->ask_timer = g_timeout_add(again_ms, ask_ready, move); /* until limit_switchover */
        return;
    }
    if (error) {
        lpm_mig_trouble(migration, error);
        return;
    }
    if (lpm_mig_record_view(migration) != LPM_MOB_REC_SOURCE) {
        lpm_error_set(&failure, LPM_ERROR_CONFLICT,
                      "the ownership record of partition %s was changed during the copy",
                      migration->name);
    } else {
        lpm_mover_send(migration->mover, LPM_STREAM_SWITCHOVER, NULL);
        if (migration->options.max_rate > 0) {
            LpmStreamMessage message = {.rate.max_rate = 0};
            lpm_mover_send(migration->mover, LPM_STREAM_RATE, &message);
        }
        lpm_mig_ref(migration);
        move->continued = true;
        limit_switchover(move); /* post-copy: what was armed for a lost link must not end it now */
        LPM_CRASH_POINT("src", "continue", "before");
        lpm_qmp_migrate_continue(qmp_of(move), continued, move);
        LPM_CRASH_POINT("src", "continue", "after");
        /* Written while QEMU works: the rows of precopy and switch are the same. */
        (void)lpm_mig_journal(migration, LPM_MOB_EV_READY, &failure);
    }
    if (failure) {
        lpm_mig_trouble(migration, failure);
    }
}

void lpm_src_stands_still(SrcMove *move)
{
    int64_t now = lpm_clock_monotonic_us(move->base.host->clock);
    move->switch_mono_us = now;
    if (move->stop_mono_us == 0) {
        move->stop_mono_us = now;
    }
    limit_switchover(move);
}

static void on_pre_switchover(SrcMove *move)
{
    g_clear_handle_id(&move->poll_timer, g_source_remove);
    lpm_src_stands_still(move);
    lpm_mig_enter_phase_at(&move->base, LPM_PHASE_SWITCHOVER, move->stop_mono_us);
    ask_arbiter(move);
}

static gboolean ask_completed(gpointer data);

static void completed_state(const LpmQmpStatus *status, const LpmQmpMigration *mig,
                            const GError *error, void *data)
{
    SrcMove *move = data;
    LpmMigration *migration = &move->base;
    g_autoptr(GError) failure = NULL;
    if (!off_course(move)) {
        bool completed = !error && mig->status == LPM_QMP_MIG_COMPLETED;
        if (error) {
            lpm_mig_trouble(migration, error);
        } else if (completed && status->state == LPM_QMP_RUN_FINISH_MIGRATE) {
            /* QEMU tells the end a moment before it changes its state. */
            move->ask_timer = g_timeout_add(ASK_AGAIN_MS, ask_completed, move);
        } else if (!completed || status->state != LPM_QMP_RUN_POSTMIGRATE) {
            lpm_error_set(&failure, LPM_ERROR_QEMU, "QEMU said completed, but is %s and %s",
                          lpm_qmp_mig_name(mig->status), lpm_qmp_run_name(status->state));
            lpm_mig_trouble(migration, failure);
        } else if (!lpm_mig_journal(migration, LPM_MOB_EV_QEMU_DONE, &failure)) {
            lpm_mig_trouble(migration, failure);
        } else {
            maybe_offer(move);
            migration->total_bytes = mig->total;
            migration->passes = mig->dirty_sync_count;
            migration->remaining_bytes = 0;
            migration->eta_ms = -1;
        }
    }
    lpm_mig_unref(migration);
}

static gboolean ask_completed(gpointer data)
{
    SrcMove *move = data;
    move->ask_timer = 0;
    if (!off_course(move) && qmp_of(move)) {
        lpm_mig_ref(&move->base);
        lpm_qmp_query_state(qmp_of(move), completed_state, move);
    }
    return G_SOURCE_REMOVE;
}

/* QEMU's own words for why it failed; the mover or the other side may have told before. */
static void failed_state(const LpmQmpMigration *mig, const GError *error, void *data)
{
    SrcMove *move = data;
    g_autoptr(GError) failure = NULL;
    lpm_error_set(&failure, LPM_ERROR_QEMU, "QEMU gave the move up: %s",
                  error             ? error->message
                  : mig->error_desc ? mig->error_desc
                                    : lpm_qmp_mig_name(mig->status));
    lpm_mig_trouble_soon(&move->base, failure);
    lpm_mig_unref(&move->base);
}

/* Post-copy: from here on there is no way back. */
static void on_serving(SrcMove *move)
{
    LpmMigration *migration = &move->base;
    g_autoptr(GError) failure = NULL;
    migration->postcopy = true;
    if (lpm_mig_journal(migration, LPM_MOB_EV_QEMU_DONE, &failure)) {
        maybe_offer(move);
    } else {
        lpm_mig_trouble(migration, failure);
    }
}

static void on_migration_status(SrcMove *move, LpmQmpMigStatus status)
{
    LpmMigration *migration = &move->base;
    if (status == LPM_QMP_MIG_PRE_SWITCHOVER) {
        on_pre_switchover(move);
    } else if (status == LPM_QMP_MIG_POSTCOPY_ACTIVE) {
        on_serving(move);
    } else if (status == LPM_QMP_MIG_COMPLETED && !migration->postcopy) {
        ask_completed(move); /* post-copy may be over before the target has said that it has half */
    } else if (status == LPM_QMP_MIG_FAILED || status == LPM_QMP_MIG_CANCELLED) {
        lpm_mig_ref(migration);
        lpm_qmp_query_migrate(qmp_of(move), failed_state, move);
    }
}

void lpm_src_qmp_event(LpmPartition *partition, const LpmQmpEvent *event, void *data)
{
    SrcMove *move = data;
    LpmLogFields fields = fields_of(move);
    (void)partition;
    lpm_log_debug(&fields, "QEMU: %s %s", event->name, lpm_json_str(event->data, "status", ""));
    if (strcmp(event->name, "STOP") == 0) {
        move->stop_mono_us = lpm_mig_mono_of(&move->base, event->realtime_us);
    }
    if (strcmp(event->name, "RESUME") == 0) {
        move->stop_mono_us = 0;
    }
    if (strcmp(event->name, "MIGRATION") == 0) {
        LpmQmpMigStatus status = lpm_qmp_mig_from_name(lpm_json_str(event->data, "status", NULL));
        if (!off_course(move)) {
            on_migration_status(move, status);
            return;
        }
    }
    if (strcmp(event->name, "MIGRATION_PASS") == 0) {
        lpm_src_copy_look(move);
    }
    if (move->base.rows && !move->base.ended) {
        lpm_mig_look(&move->base);
    }
}

/* --- mover --- */

static void resumed(const GError *error, void *data)
{
    SrcMove *move = data;
    if (error) {
        lpm_mig_link_broke(&move->base, error);
    }
    lpm_mig_look(&move->base);
    lpm_mig_unref(&move->base);
}

/* Both halves must have begun with the same record, or the target will not know its offer. */
static void tell_base(SrcMove *move)
{
    g_autoptr(json_t) message = lpm_json_pack("{s:s, s:I}", "event", "begun", "revision",
                                              (json_int_t)move->base.base_revision);
    g_autofree char *text = lpm_json_text(message);
    lpm_mover_send_peer(move->base.mover, text);
}

static void on_connected(SrcMove *move, const LpmStreamConnected *connected)
{
    LpmMigration *migration = &move->base;
    migration->mover_connected = true;
    lpm_links_connected(migration);
    migration->round_trip_us = connected->rtt_us;
    if (move->relinking) {
        move->relinking = false;
        if (!qmp_of(move)) {
            return; /* QEMU ended meanwhile: the rows know what that means */
        }
        lpm_mover_send(migration->mover, LPM_STREAM_SWITCHOVER, NULL);
        lpm_mig_ref(migration);
        lpm_qmp_migrate_resume_fd(qmp_of(move), move->vasi, resumed, move);
        lpm_bytes_close(&move->vasi);
        return;
    }
    if (off_course(move)) {
        return;
    }
    tell_base(move);
    lpm_src_copy(move);
}

/* Words of the target's lpm-host. The blackout needs no clock in common: see handover.md. */
static void on_peer(SrcMove *move, const LpmStreamPeer *peer)
{
    LpmMigration *migration = &move->base;
    g_autoptr(json_t) message = lpm_json_parse((const char *)peer->data, peer->size, NULL);
    const char *event = lpm_json_str(message, "event", "");
    if (strcmp(event, "half") == 0) { /* post-copy: in the place of LOADED */
        move->peer_loaded = true;
        maybe_offer(move);
    }
    if (strcmp(event, "whole") == 0) {
        move->whole = true;
        lpm_mig_look(migration);
    }
    if (strcmp(event, "running") != 0) {
        return;
    }
    if (migration->postcopy &&
        migration->options.max_rate > 0) { /* until now it had the whole link */
        LpmStreamMessage rate = {.rate.max_rate = (uint64_t)migration->options.max_rate};
        lpm_mover_send(migration->mover, LPM_STREAM_RATE, &rate);
    }
    int64_t since = lpm_json_int(message, "since_offer_us", -1);
    if (since >= 0 && move->offer_mono_us > 0 && move->stop_mono_us > 0) {
        migration->blackout_us =
            move->offer_mono_us - move->stop_mono_us + since + migration->round_trip_us / 2;
    }
    lpm_mig_publish(migration);
}

static void on_link_state(SrcMove *move, const LpmStreamLinkState *state)
{
    LpmMigration *migration = &move->base;
    bool was_lost = migration->links.lost_us > 0;
    lpm_links_changed(migration, state);
    bool is_lost = migration->links.lost_us > 0;
    if (was_lost != is_lost) {
        lpm_src_copy_link(move);
    }
    if (move->limit_timer && was_lost != is_lost) {
        limit_switchover(move);
    }
    if (move->offering && is_lost && !migration->postcopy) {
        expect_little(move);
    }
}

static void mover_event(uint32_t type, const LpmStreamMessage *message, void *data)
{
    SrcMove *move = data;
    LpmMigration *migration = &move->base;
    lpm_mig_ref(migration);
    if (type != LPM_STREAM_STATS) {
        LpmLogFields fields = fields_of(move);
        lpm_log_debug(&fields, "mover: %s", lpm_stream_type_name(type));
    }
    if (type == LPM_STREAM_CONNECTED) {
        on_connected(move, &message->connected);
    } else if (type == LPM_STREAM_STATS) {
        migration->stats = message->stats;
        migration->round_trip_us =
            message->stats.rtt_us ? message->stats.rtt_us : migration->round_trip_us;
    } else if (type == LPM_STREAM_NEED_LINK) {
        lpm_src_redial(move, &message->need_link);
    } else if (type == LPM_STREAM_LINK_STATE) {
        on_link_state(move, &message->link_state);
    } else if (type == LPM_STREAM_LOADED) {
        LPM_CRASH_POINT("src", "hear-loaded", "before");
        move->peer_loaded = true;
        if (migration->options.verify && !off_course(move)) {
            lpm_mig_enter_phase(migration, LPM_PHASE_VERIFY);
        }
        maybe_offer(move);
    } else if (type == LPM_STREAM_VERIFIED) {
        migration->verified = message->verified;
        migration->verified_known = true;
        maybe_offer(move);
    } else if (type == (uint32_t)LPM_STREAM_HINT && move->offering) {
        LPM_CRASH_POINT("src", "hear-run", "before");
        lpm_mig_look(migration);
    } else if (type == LPM_STREAM_PEER) {
        on_peer(move, &message->peer);
    }
    lpm_mig_unref(migration);
}

static void mover_gone(const GError *error, void *data)
{
    SrcMove *move = data;
    LpmMigration *migration = &move->base;
    migration->mover_connected = false;
    lpm_src_stop_dialing(move);
    lpm_mover_kill(migration->mover);
    migration->mover = NULL;
    if (!move->offering) { /* from the offer on it is not needed any more, but for post-copy */
        lpm_mig_trouble(migration, error);
    } else if (migration->postcopy && !move->given) {
        lpm_mig_link_broke(migration, error);
    } else if (migration->postcopy) {
        lpm_mig_look(migration);
    } else {
        expect_little(move);
    }
}

/* The TCP connection stands: VASI, mover. */
void lpm_src_tcp_connected(int fd, const GError *error, void *data)
{
    SrcMove *move = data;
    LpmMigration *migration = &move->base;
    LPM_AUTO_FD int net = fd;
    LPM_AUTO_FD int vasi = -1;
    LPM_AUTO_FD int image = -1;
    LpmMoverSpec spec;
    LpmMoverHandlers handlers = {mover_event, mover_gone, move};
    g_autoptr(GError) failure = NULL;
    if (off_course(move) && !move->relinking) {
        lpm_mig_unref(migration);
        return;
    }
    if (!error &&
        (migration->options.channels > 0 || lpm_mover_vasi(&move->vasi, &vasi, &failure)) &&
        lpm_mobility_mover_spec(migration->host, migration->peer, move->key, migration->id_bytes,
                                &spec, &failure)) {
        spec.config.side = LPM_STREAM_SIDE_SRC;
        spec.config.mode = LPM_STREAM_MODE_MOVE;
        spec.config.max_rate = (uint64_t)migration->options.max_rate;
        spec.config.connect_ms = (uint32_t)migration->options.connect_timeout_ms;
        lpm_links_configure(migration, &spec.config);
        spec.nets = &net;
        spec.n_nets = 1;
        spec.vasi = vasi;
        spec.memory = move->memory_fd;
        spec.config.memory_size =
            lpm_mobility_memory_size(spec.memory, migration->partition->runtime);
        if (!migration->postcopy) {
            lpm_mobility_mover_image(migration->host, migration->partition->profile,
                                     move->image_key, &spec);
            image = spec.image;
        }
        migration->mover = lpm_mover_start(&spec, &handlers, &failure);
    }
    if (!migration->mover && move->relinking) {
        move->relinking = false;
        lpm_mig_link_broke(migration, error ? error : failure);
    } else if (!migration->mover) {
        lpm_mig_trouble(migration, error ? error : failure);
    }
    lpm_mig_unref(migration);
}
