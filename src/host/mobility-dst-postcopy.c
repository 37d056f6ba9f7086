/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The target half in post-copy: QEMU has all but memory, and stands still until the rows say so;
 * and a new mover when memory has stopped to come.
 */
#include "host/mobility-dst.h"
#include "host/redeliver.h"

enum { ASK_AGAIN_MS = 1 };

static DstMove *dst(LpmMigration *migration)
{
    return (DstMove *)migration;
}

static bool off_course(const DstMove *move)
{
    return move->base.rows || move->base.ended;
}

static LpmQmp *qmp_of(const DstMove *move)
{
    return move->base.partition ? move->base.partition->qmp : NULL;
}

/* --- all but memory is here --- */

bool lpm_dst_half(DstMove *move, GError **error)
{
    LpmMigration *migration = &move->base;
    migration->postcopy = true;
    if (!lpm_mig_journal(migration, LPM_MOB_EV_LOADED, error)) {
        return false;
    }
    if (migration->mover) {
        lpm_mover_send_peer(migration->mover, "{\"event\": \"half\"}");
    }
    return true;
}

static void half_redelivered(const GError *error, void *data)
{
    DstMove *move = data;
    LpmMigration *migration = &move->base;
    g_autoptr(GError) failure = NULL;
    if (!off_course(move)) {
        if (error || !lpm_dst_half(move, &failure)) {
            lpm_dst_trouble(move, error ? error : failure);
        } else {
            move->loaded_known = true;
            lpm_mig_enter_phase(migration, LPM_PHASE_COMMIT);
            lpm_mig_look(migration);
        }
    }
    lpm_mig_unref(migration);
}

static gboolean ask_half(gpointer data);

static void half_state(const LpmQmpStatus *status, const LpmQmpMigration *mig, const GError *error,
                       void *data)
{
    DstMove *move = data;
    if (off_course(move)) {
        lpm_mig_unref(&move->base);
    } else if (error) {
        lpm_dst_trouble(move, error);
        lpm_mig_unref(&move->base);
    } else if (lpm_qmp_mig_is_postcopy(mig->status) && status->state == LPM_QMP_RUN_PAUSED) {
        if (lpm_redeliver_needed(move->base.partition)) {
            lpm_redeliver(move->base.partition, half_redelivered, move);
        } else {
            half_redelivered(NULL, move);
        }
    } else { /* QEMU says that it can be served before it has loaded the rest */
        move->ask_timer = g_timeout_add(ASK_AGAIN_MS, ask_half, move);
        lpm_mig_unref(&move->base);
    }
}

static gboolean ask_half(gpointer data)
{
    DstMove *move = data;
    move->ask_timer = 0;
    if (!off_course(move) && qmp_of(move)) {
        lpm_mig_ref(&move->base);
        lpm_qmp_query_state(qmp_of(move), half_state, move);
    }
    return G_SOURCE_REMOVE;
}

void lpm_dst_ask_half(DstMove *move)
{
    (void)ask_half(move);
}

/* --- a post-copy that is paused --- */

static gboolean ask_relink(gpointer data);

/* Its mover is gone; QEMU notices that in a moment. */
static void relink_state(const LpmQmpMigration *mig, const GError *error, void *data)
{
    DstMove *move = data;
    LpmMigration *migration = &move->base;
    g_autoptr(GError) failure = NULL;
    bool paused = !error && mig->status == LPM_QMP_MIG_POSTCOPY_PAUSED && qmp_of(move);
    if (!error && !paused && move->relink_tries++ < LPM_RELINK_TRIES) {
        move->ask_timer = g_timeout_add(LPM_RELINK_ASK_MS, ask_relink, move);
        lpm_mig_unref(migration);
        return;
    }
    if (!error && !paused) {
        lpm_error_set(&failure, LPM_ERROR_STATE, "QEMU of partition %s on %s is %s, not paused",
                      migration->name, migration->self, lpm_qmp_mig_name(mig->status));
    }
    move->relinking = paused && lpm_dst_start_mover(move, &failure);
    if (!move->relinking) {
        lpm_dst_answer(move, NULL, error ? error : failure);
    }
    lpm_mig_unref(migration);
}

static gboolean ask_relink(gpointer data)
{
    DstMove *move = data;
    g_autoptr(GError) error = NULL;
    move->ask_timer = 0;
    if (qmp_of(move)) {
        lpm_mig_ref(&move->base);
        lpm_qmp_query_migrate(qmp_of(move), relink_state, move);
    } else {
        lpm_error_set(&error, LPM_ERROR_QEMU, "QEMU of partition %s has ended", move->base.name);
        lpm_dst_answer(move, NULL, error);
    }
    return G_SOURCE_REMOVE;
}

void lpm_mig_dst_relink(LpmMigration *migration, const json_t *arguments, LpmHostReply done,
                        void *data)
{
    DstMove *move = dst(migration);
    g_autoptr(GError) error = NULL;
    const char *key = NULL;
    if (!lpm_json_need_str(arguments, "key", &key, &error)) {
        done(NULL, error, data);
        return;
    }
    if (!lpm_mig_wants_relink(migration) || move->filled || move->prepared || move->relinking) {
        lpm_error_set(&error, LPM_ERROR_STATE,
                      "migration %s of partition %s is not a post-copy that waits for a connection",
                      migration->id, migration->name);
        done(NULL, error, data);
        return;
    }
    move->prepared = done;
    move->prepared_data = data;
    g_free(move->key);
    move->key = g_strdup(key);
    move->relink_tries = 0;
    lpm_mover_kill(migration->mover);
    migration->mover = NULL;
    (void)ask_relink(move);
}
