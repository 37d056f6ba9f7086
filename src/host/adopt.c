/* SPDX-License-Identifier: Apache-2.0 */
/*
 * At start: partitions are read from the database, and those whose QEMU lives are taken over. A
 * process is the right one when its pid and its start time are those that were written down before
 * it was let go.
 */
#include "base/log.h"
#include "host/partition.h"

#include <string.h>
#include <unistd.h>

#define ADOPT_TIMEOUT_MS 5000

typedef struct {
    LpmHost *host;
    unsigned open; /* partitions that have not answered yet, and one for the loop that asks */
    LpmHostDone done;
    void *data;
} Adoption;

typedef struct {
    Adoption *adoption;
    LpmPartition *partition;
} One;

static void one_less(Adoption *adoption)
{
    if (--adoption->open == 0) {
        adoption->done(NULL, adoption->data);
        g_free(adoption);
    }
}

static void one_end(One *one)
{
    Adoption *adoption = one->adoption;

    lpm_partition_unref(one->partition);
    g_free(one);
    one_less(adoption);
}

static void on_state_known(const GError *error, void *data)
{
    One *one = data;

    if (error && one->partition->pid) {
        lpm_partition_set_state(one->partition, LPM_PARTITION_ERROR, error->message);
    } else if (one->partition->pid) {
        lpm_log_info(&(LpmLogFields){.partition = one->partition->profile->name},
                     "adopted its QEMU, process %d", (int)one->partition->pid);
        lpm_qemu_set_reset(one->partition);
    }
    one_end(one);
}

/* The last lpm-host ended between QEMU's start and cont: nobody was told that it was started, and
 * nothing ran. */
static void on_half_started(const GError *error G_GNUC_UNUSED, void *data)
{
    one_end(data);
}

static void on_first_state(const GError *error, void *data)
{
    One *one = data;
    LpmPartition *partition = one->partition;
    bool never_ran = !error && !partition->incoming && partition->state == LPM_PARTITION_PAUSED &&
                     g_strcmp0(partition->reason, "not started") == 0;

    if (never_ran) {
        lpm_partition_end_qemu(partition,
                               "lpm-host ended while it was being activated; start it again",
                               on_half_started, one);
        return;
    }
    on_state_known(error, one);
}

static void on_connected(LpmQmp *qmp, const GError *error, void *data)
{
    One *one = data;
    LpmPartition *partition = one->partition;

    if (!partition->pid) {
        if (qmp) {
            g_idle_add_once((GSourceOnceFunc)lpm_qmp_free, qmp);
        }
        one_end(one);
    } else if (error) {
        g_autofree char *reason = g_strdup_printf(
            "its QEMU, process %d, does not answer: %s; wait, or end it by a hard stop",
            (int)partition->pid, error->message);
        lpm_partition_set_state(partition, LPM_PARTITION_ERROR, reason);
        lpm_qemu_heal(partition);
        one_end(one);
    } else {
        lpm_qemu_connected(partition, qmp);
        lpm_qemu_refresh(partition, on_first_state, one);
    }
}

static void adopt(Adoption *adoption, LpmPartition *partition, const json_t *document, int pidfd)
{
    pid_t pid = (pid_t)lpm_json_int(document, "pid", 0);
    g_autofree char *socket = lpm_qemu_path(partition, "qmp.sock");
    LpmQmpHandlers handlers;
    One *one;

    if (pidfd < 0) {
        g_autofree char *words = lpm_qemu_last_words(partition);
        g_autofree char *reason =
            pid > 0 ? g_strdup_printf("QEMU ended while lpm-host was not there; its last words: %s",
                                      words)
                    : g_strdup("lpm-host ended while it was being activated; start it again");

        lpm_partition_drop_runtime(partition);
        lpm_partition_set_state(
            partition, pid > 0 ? LPM_PARTITION_ERROR : LPM_PARTITION_NOT_ACTIVATED, reason);
        return;
    }
    partition->runtime = json_incref(lpm_json_at(document, "runtime"));
    partition->incoming = lpm_json_bool(document, "incoming", false);
    partition->unsettled = lpm_json_bool(document, "unsettled", false);
    partition->activating = g_strdup(lpm_json_str(document, "activating", NULL));
    lpm_qemu_watch(partition, pid, pidfd);
    one = g_new0(One, 1);
    one->adoption = adoption;
    one->partition = lpm_partition_ref(partition);
    adoption->open++;
    lpm_qemu_handlers(partition, &handlers);
    lpm_qmp_connect(socket, ADOPT_TIMEOUT_MS, &handlers, on_connected, one);
}

/* A damaged document must not keep the others from being taken over. */
static void load_profile(LpmHost *host, const char *uuid, const json_t *json, bool stored)
{
    g_autoptr(GError) error = NULL;
    LpmProfile *profile = lpm_profile_from_json(json, &error);
    LpmPartition *partition = profile ? lpm_partition_load(host, profile, &error) : NULL;

    if (partition) {
        partition->stored = stored;
    } else {
        lpm_log_error(&(LpmLogFields){.partition = uuid}, "its profile in the database: %s",
                      error->message);
    }
}

static void pidfd_free(gpointer value)
{
    if (GPOINTER_TO_INT(value) >= 0) {
        close(GPOINTER_TO_INT(value));
    }
}

/*
 * The QEMUs that live, by uuid; -1: has ended. All of them before anything is done about one: a
 * partition is not said to be off because this program could not look, and the next try finds all
 * as it was.
 */
static GHashTable *open_all(json_t *runtimes, GError **error)
{
    g_autoptr(GHashTable) pidfds = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, pidfd_free);
    const char *uuid;
    json_t *document;

    json_object_foreach (runtimes, uuid, document) {
        pid_t pid = (pid_t)lpm_json_int(document, "pid", 0);
        uint64_t start_time = (uint64_t)lpm_json_int(document, "start_time", 0);
        int pidfd = -1;

        if (pid > 0 && !lpm_process_open(pid, start_time, &pidfd, error)) {
            g_prefix_error(error, "the QEMU of partition %s: ",
                           lpm_json_str(document, "runtime.profile.name", uuid));
            return NULL;
        }
        g_hash_table_insert(pidfds, (gpointer)uuid, GINT_TO_POINTER(pidfd));
    }
    return g_steal_pointer(&pidfds);
}

static void adopt_each(Adoption *adoption, json_t *runtimes, GHashTable *pidfds)
{
    LpmHost *host = adoption->host;
    const char *uuid;
    json_t *document;

    json_object_foreach (runtimes, uuid, document) {
        LpmPartition *partition = lpm_host_find(host, uuid, NULL);
        gpointer pidfd;

        if (!partition) {
            /* It came in and is not ours yet: its profile is only in what it runs with. */
            load_profile(host, uuid, lpm_json_at(document, "runtime.profile"), false);
            partition = lpm_host_find(host, uuid, NULL);
        }
        if (partition && g_hash_table_steal_extended(pidfds, uuid, NULL, &pidfd)) {
            adopt(adoption, partition, document, GPOINTER_TO_INT(pidfd));
        }
    }
}

void lpm_adopt_all(LpmHost *host, LpmHostDone done, void *data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) profiles = lpm_store_list(host->store, LPM_KIND_PROFILE, &error);
    g_autoptr(json_t) runtimes =
        profiles ? lpm_store_list(host->store, LPM_KIND_RUNTIME, &error) : NULL;
    g_autoptr(GHashTable) pidfds = runtimes ? open_all(runtimes, &error) : NULL;
    Adoption *adoption;
    const char *uuid;
    json_t *document;

    if (!pidfds) {
        done(error, data);
        return;
    }
    adoption = g_new0(Adoption, 1);
    adoption->host = host;
    adoption->done = done;
    adoption->data = data;
    adoption->open = 1;
    json_object_foreach (profiles, uuid, document) {
        load_profile(host, uuid, document, true);
    }
    adopt_each(adoption, runtimes, pidfds);
    one_less(adoption);
}
