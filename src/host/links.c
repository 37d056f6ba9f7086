/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The TCP connections of a move: what the mover says of them, for people, and at the source those
 * that it wants made. The mover alone decides how long a lost one is waited for.
 */
#include "host/mobility-src.h"

#include "base/log.h"

#include <unistd.h>

enum { US = 1000, DIAL_AGAIN_US = 1000 * 1000, DIAL_AGAIN_MS = 500, RECORD_MS = 1000 };

/* --- what there is --- */

static int64_t now_of(const LpmMigration *migration)
{
    return lpm_clock_monotonic_us(migration->host->clock);
}

static unsigned count_up(const LpmLinks *links)
{
    unsigned up = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(links->each); i++) {
        up += links->each[i].up;
    }
    return up;
}

void lpm_links_connected(LpmMigration *migration)
{
    migration->links.each[0].known = true;
    migration->links.each[0].up = true;
}

static void tell(const LpmMigration *migration, const LpmStreamLinkState *state)
{
    LpmLogFields fields = {.migration = migration->id, .partition = migration->name};
    unsigned up = count_up(&migration->links);
    if (state->up && migration->links.each[state->connection].known) {
        lpm_log_info(&fields, "connection %u with %s is back after %u ms", state->connection,
                     migration->peer, state->ms_down);
    } else if (!state->up && up > 0) {
        lpm_log_warning(&fields, "connection %u with %s lost: %s; %u others carry on",
                        state->connection, migration->peer, state->reason, up);
    } else if (!state->up) {
        lpm_log_warning(&fields,
                        "link with %s lost: %s; it is waited for, %d s at most, and the partition "
                        "stays where it runs",
                        migration->peer, state->reason,
                        (int)(migration->options.link_retry_ms / 1000));
    }
}

/* --- target: whether the source still wants it --- */

/* Whoever cannot say it any more, because its mover died, says it in the record. */
static void record_read(LpmMigration *migration, const GError *error)
{
    g_autoptr(GError) off = NULL;
    LpmMobRecordView view = lpm_mig_record_view(migration);
    if (error || migration->ended || migration->rows ||
        (view != LPM_MOB_REC_BACK && view != LPM_MOB_REC_LATER && view != LPM_MOB_REC_TARGET)) {
        return;
    }
    lpm_error_set(&off, LPM_ERROR_NETWORK,
                  "the link with %s was lost (%s), and %s has given the move up meanwhile",
                  migration->peer, migration->links.reason ? migration->links.reason : "?",
                  migration->peer);
    lpm_mig_trouble(migration, off);
}

static gboolean look_at_record(gpointer data)
{
    LpmMigration *migration = data;
    LpmLinks *links = &migration->links;
    if (migration->ended || migration->rows || links->lost_us == 0) {
        links->record_timer = 0;
        return G_SOURCE_REMOVE;
    }
    if (migration->arbiter_reads == 0) {
        lpm_mig_read(migration, LPM_ARBITER_QUICK_MS, record_read);
    }
    return G_SOURCE_CONTINUE;
}

void lpm_links_changed(LpmMigration *migration, const LpmStreamLinkState *state)
{
    LpmLinks *links = &migration->links;
    bool were_up = count_up(links) > 0;
    links->each[state->connection].up = state->up;
    tell(migration, state);
    links->each[state->connection].known = true;
    if (!state->up) {
        g_free(links->reason);
        links->reason = g_strdup(state->reason);
    }
    if (were_up && count_up(links) == 0) {
        links->lost_us = now_of(migration);
        if (migration->side == LPM_MOB_DST && links->record_timer == 0) {
            links->record_timer = g_timeout_add(RECORD_MS, look_at_record, migration);
        }
    } else if (state->up && links->lost_us > 0) {
        links->lost_us = 0;
        links->back_us = now_of(migration);
    }
    lpm_mig_publish(migration);
}

bool lpm_links_were_lost(const LpmMigration *migration, int64_t ms)
{
    const LpmLinks *links = &migration->links;
    return links->lost_us > 0 ||
           (links->back_us > 0 && now_of(migration) - links->back_us < ms * US);
}

json_t *lpm_links_json(const LpmMigration *migration)
{
    const LpmLinks *links = &migration->links;
    unsigned cleaned = migration->side == LPM_MOB_SRC ? (unsigned)LPM_MOB_SRC_CLEANED
                                                      : (unsigned)LPM_MOB_DST_CLEANED;
    /* Those of a mover that died are gone with it. */
    bool alive = migration->mover || migration->journal == cleaned;
    if (!links->each[0].known) {
        return json_null();
    }
    json_t *json = lpm_json_pack(
        "{s:i, s:I, s:i, s:I, s:s?}", "up", alive ? (int)count_up(links) : 0, "of",
        (json_int_t)migration->options.connections, "reconnects", (int)migration->stats.reconnects,
        "resent_bytes", (json_int_t)migration->stats.resent_bytes, "reason", links->reason);
    json_object_set_new(json, "lost_ms",
                        links->lost_us > 0 && !migration->ended
                            ? json_integer((now_of(migration) - links->lost_us) / US)
                            : json_null());
    return json;
}

void lpm_links_configure(const LpmMigration *migration, LpmStreamConfig *config)
{
    config->connections = (uint8_t)migration->options.connections;
    config->channels = (uint8_t)migration->options.channels;
    config->codec = migration->options.raw ? LPM_STREAM_CODEC_RAW : LPM_STREAM_CODEC_AUTO;
    config->retry_ms = (uint32_t)migration->options.link_retry_ms;
}

void lpm_links_clear(LpmLinks *links)
{
    g_clear_handle_id(&links->record_timer, g_source_remove);
    g_clear_pointer(&links->reason, g_free);
}

/* --- making one --- */

/* The target's mover keeps listening as long as it lives, so it has ended, and with it the move. */
static void nobody_listens(SrcMove *move, const GError *error)
{
    LpmMigration *migration = &move->base;
    g_autoptr(GError) gone = NULL;
    if (move->offering || migration->rows || migration->ended) {
        return;
    }
    lpm_error_set(&gone, LPM_ERROR_NETWORK,
                  "the mover of %s has ended: %s; the log of lpm-host there says why",
                  migration->peer, error->message);
    lpm_mig_trouble(migration, gone);
}

static void redialed(int fd, const GError *error, void *data)
{
    LpmRedial *redial = data;
    SrcMove *move = redial->move;
    uint8_t connection = (uint8_t)(redial - move->redials);
    redial->dial = NULL;
    redial->handed_us = now_of(&move->base);
    if (fd < 0) {
        nobody_listens(move, error);
    } else if (move->base.mover) {
        lpm_mover_send_link(move->base.mover, connection, fd);
    } else {
        close(fd);
    }
}

void lpm_src_redial(SrcMove *move, const LpmStreamNeedLink *wanted)
{
    LpmRedial *redial = &move->redials[wanted->connection];
    LpmLogFields fields = {.migration = move->base.id, .partition = move->base.name};
    if (redial->dial) {
        return;
    }
    lpm_log_debug(&fields, "the mover wants connection %u: %s", wanted->connection, wanted->reason);
    /* One that did not live long: whatever ended it is given time to go away. */
    bool again = redial->handed_us > 0 && now_of(&move->base) - redial->handed_us < DIAL_AGAIN_US;
    redial->move = move;
    redial->dial =
        lpm_dial_new(move->addresses, move->port, 0, again ? DIAL_AGAIN_MS : 0, redialed, redial);
}

void lpm_src_dial_again(SrcMove *move)
{
    for (size_t i = 0; i < G_N_ELEMENTS(move->redials); i++) {
        lpm_dial_again(move->redials[i].dial);
    }
}

void lpm_src_stop_dialing(SrcMove *move)
{
    for (size_t i = 0; i < G_N_ELEMENTS(move->redials); i++) {
        g_clear_pointer(&move->redials[i].dial, lpm_dial_cancel);
    }
}
