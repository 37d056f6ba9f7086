/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices that are in a running partition and that lpm-host has not put there: somebody with a hand
 * on QEMU's monitor has, and no target would build them.
 */
#include "host/facts.h"

#include <string.h>

typedef struct {
    LpmPartition *partition;
    json_t *found;
    size_t next;
    LpmDevicesDone done;
    void *data;
} Job;

static const char *const places[] = {"/machine/peripheral", "/machine/peripheral-anon"};

static void ask(Job *job);

static void end(Job *job, bool known)
{
    job->done(known ? job->found : NULL, job->data);
    json_decref(job->found);
    lpm_partition_unref(job->partition);
    g_free(job);
}

static bool is_ours(const LpmPartition *partition, const char *model)
{
    const json_t *devices = lpm_json_at(partition->runtime, "devices");
    json_t *device;
    size_t i;

    json_array_foreach (devices, i, device) {
        if (g_strcmp0(json_string_value(device), model) == 0) {
            return true;
        }
    }
    return false;
}

/* A processor that grow.c plugged in: "cpu" and its number, counted from those of the start. */
static bool is_given(const LpmPartition *partition, const char *name)
{
    int64_t first = lpm_json_int(partition->runtime, "profile.processors", 0);
    int64_t added = lpm_json_int(partition->runtime, "profile.added_processors", 0);

    for (int64_t number = first; number < first + added; number++) {
        g_autofree char *given = g_strdup_printf("cpu%" G_GINT64_FORMAT, number);

        if (strcmp(name, given) == 0) {
            return true;
        }
    }
    return false;
}

/* An item is {"name": "net0", "type": "child<virtio-net-pci>"}. */
static void look(Job *job, const json_t *item)
{
    const char *type = lpm_json_str(item, "type", "");
    g_autofree char *model = NULL;

    if (!g_str_has_prefix(type, "child<") || !g_str_has_suffix(type, ">")) {
        return;
    }
    model = g_strndup(type + strlen("child<"), strlen(type) - strlen("child<>"));
    if (!is_ours(job->partition, model) &&
        !is_given(job->partition, lpm_json_str(item, "name", ""))) {
        g_autofree char *text = g_strdup_printf("%s %s, which lpm-host has not put there", model,
                                                lpm_json_str(item, "name", ""));

        json_array_append_new(job->found, json_string(text));
    }
}

static void on_list(json_t *result, const GError *error, void *data)
{
    Job *job = data;
    json_t *item;
    size_t i;

    if (error || !json_is_array(result)) {
        end(job, false);
        return;
    }
    json_array_foreach (result, i, item) {
        look(job, item);
    }
    job->next++;
    ask(job);
}

static void ask(Job *job)
{
    if (job->next >= G_N_ELEMENTS(places)) {
        end(job, true);
    } else if (!job->partition->qmp) {
        end(job, false);
    } else {
        lpm_qmp_call(job->partition->qmp, "qom-list",
                     lpm_json_pack("{s:s}", "path", places[job->next]), on_list, job);
    }
}

void lpm_facts_devices(LpmPartition *partition, LpmDevicesDone done, void *data)
{
    Job *job = g_new0(Job, 1);

    job->partition = lpm_partition_ref(partition);
    job->found = json_array();
    job->done = done;
    job->data = data;
    ask(job);
}
