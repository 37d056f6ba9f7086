/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The target half in post-copy: QEMU has all but memory, and stands still until the rows say so;
 * and a new mover when memory has stopped to come.
 */
#include "bytes/bytes.h"
#include "host/mobility-dst.h"
#include "host/redeliver.h"

#include <glib/gstdio.h>

enum { ASK_AGAIN_MS = 1 };

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

static gboolean try_relink(gpointer data);

static char *relink_path(const DstMove *move)
{
    return g_build_filename(move->base.partition->run_dir, "relink.sock", NULL);
}

/* An error may mean that QEMU has not yet noticed that its mover is gone. */
static void listening(const GError *error, void *data)
{
    DstMove *move = data;
    LpmMigration *migration = &move->base;
    g_autoptr(GError) failure = NULL;
    if (error && move->relink_tries++ < LPM_RELINK_TRIES && migration->partition) {
        move->ask_timer = g_timeout_add(LPM_RELINK_ASK_MS, try_relink, move);
    } else if (error || !migration->partition) {
        lpm_dst_answer(move, NULL, error);
    } else {
        g_autofree char *path = relink_path(move);
        LPM_AUTO_FD int vasi = lpm_channels_connect(path, &failure);
        (void)g_unlink(path);
        move->relinking = vasi >= 0 && lpm_dst_start_mover(move, vasi, &failure);
        if (!move->relinking) {
            lpm_dst_answer(move, NULL, failure);
        }
    }
    lpm_mig_unref(migration);
}

static gboolean try_relink(gpointer data)
{
    DstMove *move = data;
    g_autoptr(GError) error = NULL;
    move->ask_timer = 0;
    if (!qmp_of(move)) {
        lpm_error_set(&error, LPM_ERROR_QEMU,
                      "QEMU of partition %s does not answer: it may wait for the memory itself",
                      move->base.name);
        lpm_dst_answer(move, NULL, error);
        return G_SOURCE_REMOVE;
    }
    g_autofree char *path = relink_path(move);
    g_autofree char *uri = g_strconcat("unix:", path, NULL);
    (void)g_unlink(path);
    lpm_mig_ref(&move->base);
    lpm_qmp_migrate_recover(qmp_of(move), uri, listening, move);
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
    (void)try_relink(move);
}
