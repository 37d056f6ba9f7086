/* SPDX-License-Identifier: Apache-2.0 */
/* One LUN: over its own portal everything, over the other portals whether it is the same one. */
#include "host/background.h"
#include "host/identity.h"
#include "host/scsi-look.h"

#include <string.h>

/* The thread gives up before the main loop does, so that its reason is the one that is told. */
#define MARGIN_MS 100
#define PATHS_MAX 16 /* a target may name any number */

typedef struct {
    char *portal, *more_portals, *target, *initiator, *user, *secret, *group;
    int lun;
    int64_t deadline_us;
    json_t *facts; /* NULL: */
    char *reason;
} Job;

static LpmScsiTarget target_at(const Job *job, const char *portal)
{
    return (LpmScsiTarget){.portal = portal,
                           .target = job->target,
                           .lun = job->lun,
                           .initiator = job->initiator,
                           .user = job->user,
                           .chap_secret = job->secret,
                           .group = job->group};
}

/* --- other paths --- */

typedef struct {
    const Job *job;
    const char *portal;
    const char *identity; /* over the first path */
    char *reason;
} Path;

static gpointer try_path(gpointer data)
{
    Path *path = data;
    LpmScsiTarget target = target_at(path->job, path->portal);
    g_autoptr(GError) error = NULL;
    LpmScsi *scsi = lpm_scsi_connect(&target, path->job->deadline_us, &error);
    g_autofree char *identity = scsi ? lpm_scsi_look_path(scsi, &error) : NULL;

    if (!identity) {
        path->reason = g_utf8_make_valid(error->message, -1);
    } else if (strcmp(identity, path->identity) != 0) {
        path->reason = g_strdup_printf("another disk answers there: %s", identity);
    }
    lpm_scsi_close(scsi);
    return NULL;
}

static json_t *path_json(const char *portal, const char *reason)
{
    return lpm_json_pack("{s:s, s:s}", "portal", portal, "reason", reason ? reason : "");
}

static bool is_loopback(const char *portal)
{
    return g_str_has_prefix(portal, "127.") || g_str_has_prefix(portal, "[::1]");
}

/* The one that has been used already, and what a target says of itself that is good for itself. */
static bool is_other(const Job *job, const char *portal)
{
    return strcmp(portal, job->portal) != 0 && (!is_loopback(portal) || is_loopback(job->portal));
}

/* All at once: each has what is left of the time. */
static json_t *try_paths(const Job *job, const GPtrArray *portals, const char *identity)
{
    g_autofree Path *paths = g_new0(Path, portals->len + 1);
    g_autofree GThread **threads = g_new0(GThread *, portals->len + 1);
    json_t *list = json_array();

    json_array_append_new(list, path_json(job->portal, NULL));
    for (guint i = 0; i < portals->len; i++) {
        paths[i] = (Path){job, portals->pdata[i], identity, NULL};
        if (is_other(job, portals->pdata[i])) {
            threads[i] = g_thread_try_new("path", try_path, &paths[i], NULL);
            if (!threads[i]) {
                try_path(&paths[i]);
            }
        }
    }
    for (guint i = 0; i < portals->len; i++) {
        if (is_other(job, portals->pdata[i])) {
            if (threads[i]) {
                g_thread_join(threads[i]);
            }
            json_array_append_new(list, path_json(paths[i].portal, paths[i].reason));
            g_free(paths[i].reason);
        }
    }
    return list;
}

/* A target may name anything; what is no plain text cannot be an address. */
static void add_portal(GPtrArray *portals, const char *portal)
{
    if (portals->len < PATHS_MAX && *portal && g_str_is_ascii(portal) &&
        !g_ptr_array_find_with_equal_func(portals, portal, g_str_equal, NULL)) {
        g_ptr_array_add(portals, g_strdup(portal));
    }
}

/* Those that are configured, and those that the target names, where it does. */
static GPtrArray *all_portals(const Job *job, const LpmScsiTarget *target)
{
    GPtrArray *portals = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) named = lpm_scsi_portals(target, job->deadline_us, NULL);
    g_auto(GStrv) words = g_strsplit(job->more_portals ? job->more_portals : "", ",", -1);

    for (char **word = words; *word; word++) {
        add_portal(portals, g_strstrip(*word));
    }
    for (guint i = 0; named && i < named->len; i++) {
        add_portal(portals, named->pdata[i]);
    }
    return portals;
}

/* --- the look --- */

static void work(void *data)
{
    Job *job = data;
    LpmScsiTarget target = target_at(job, job->portal);
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) portals = NULL;
    LpmScsi *scsi = lpm_scsi_connect(&target, job->deadline_us, &error);

    job->facts = scsi ? lpm_scsi_look(scsi, &error) : NULL;
    if (!job->facts) {
        job->reason = g_utf8_make_valid(error->message, -1);
        lpm_scsi_close(scsi);
        return;
    }
    json_object_set_new(job->facts, "proof", json_string("vpd"));
    portals = all_portals(job, &target);
    json_object_set_new(job->facts, "paths",
                        try_paths(job, portals, lpm_json_str(job->facts, "identity", "")));
    lpm_scsi_look_sample(scsi, job->facts);
    lpm_scsi_close(scsi);
}

static void done(void *data, bool late, void *owner)
{
    const Job *job = data;

    lpm_identity_answer(owner, late ? NULL : job->facts, late ? NULL : job->reason);
}

static void job_free(void *data)
{
    Job *job = data;

    json_decref(job->facts);
    g_free(job->portal);
    g_free(job->more_portals);
    g_free(job->target);
    g_free(job->initiator);
    g_free(job->user);
    g_free(job->secret);
    g_free(job->group);
    g_free(job->reason);
    g_free(job);
}

void lpm_identity_look_iscsi(const LpmScsiTarget *target, const char *portals, const char *format,
                             LpmStorageLooked looked, void *data)
{
    static const LpmBackgroundOps ops = {work, done, job_free};
    Job *job = g_new0(Job, 1);

    job->portal = g_strdup(target->portal);
    job->more_portals = g_strdup(portals);
    job->target = g_strdup(target->target);
    job->initiator = g_strdup(target->initiator);
    job->user = g_strdup(target->user);
    job->secret = g_strdup(target->chap_secret);
    job->group = g_strdup(target->group);
    job->lun = target->lun;
    job->deadline_us = g_get_monotonic_time() + (LPM_IDENTITY_MS - MARGIN_MS) * 1000;
    char *path = g_strdup_printf("LUN %d of %s at %s", target->lun, target->target, target->portal);
    lpm_background_run(&ops, LPM_IDENTITY_MS, job,
                       lpm_identity_owner_new(path, format, looked, data));
}
