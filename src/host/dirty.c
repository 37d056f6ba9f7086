/* SPDX-License-Identifier: Apache-2.0 */
#include "host/dirty.h"

#include "host/grow.h"

#include <string.h>

#define MIB 1048576.0
enum {
    SAMPLED_PAGES = 4096, /* of each GiB; QEMU takes no more */
    LOOKS = 2,
    SHORTER = 4,   /* so much shorter is the first look */
    SLACK_MS = 10, /* more than QEMU says that it takes */
    AGAIN_MS = 20, /* when it is not ready then */
    TRIES = 50,
    MS = 1000,
};

typedef struct {
    LpmHostReply done;
    void *data;
} Waiter;

/* One measurement; freed when all who wait for it have been answered. */
typedef struct LpmDirty {
    LpmPartition *partition;
    unsigned ms[LOOKS], look, tries;
    json_t *looks;
    GArray *waiters; /* Waiter */
} LpmDirty;

static void finish(LpmDirty *dirty, const GError *error)
{
    LpmPartition *partition = dirty->partition;
    int64_t memory_mib, sampled;
    int processors;

    lpm_partition_size(partition, &memory_mib, &processors);
    sampled = MAX(memory_mib * SAMPLED_PAGES / 1024, 1);
    g_autoptr(json_t) facts = lpm_json_pack(
        "{s:I, s:O}", "unit_bytes", (json_int_t)((double)memory_mib * MIB / (double)sampled),
        "looks", dirty->looks);

    partition->dirty = NULL;
    for (guint i = 0; i < dirty->waiters->len; i++) {
        const Waiter *waiter = &g_array_index(dirty->waiters, Waiter, i);

        waiter->done(error ? NULL : facts, error, waiter->data);
    }
    g_array_unref(dirty->waiters);
    json_decref(dirty->looks);
    lpm_partition_unref(partition);
    g_free(dirty);
}

static bool can_ask(const LpmPartition *partition, GError **error)
{
    return (partition->qmp && !partition->link) ||
           lpm_error_set(
               error, LPM_ERROR_STATE,
               "what partition %s writes cannot be measured: it does not run, or it moves",
               partition->profile->name);
}

static void begin_look(LpmDirty *dirty);
static void end_look(LpmDirty *dirty, unsigned ms);

/* QEMU's rate is in whole MiB a second; all that it has seen is that many times the time. */
static void on_result(json_t *result, const GError *error, void *data)
{
    LpmDirty *dirty = data;
    unsigned ms = dirty->ms[dirty->look];
    int64_t rate = lpm_json_int(result, "dirty-rate", -1);
    g_autoptr(GError) late = NULL;

    if (error) {
        finish(dirty, error);
    } else if (rate >= 0) {
        double bytes = (double)rate * MIB * ms / MS;

        json_array_append_new(
            dirty->looks, lpm_json_pack("{s:i, s:I}", "ms", (int)ms, "bytes", (json_int_t)bytes));
        dirty->look++;
        begin_look(dirty);
    } else if (++dirty->tries < TRIES) {
        end_look(dirty, AGAIN_MS);
    } else {
        lpm_error_set(&late, LPM_ERROR_TIMEOUT,
                      "QEMU did not come to an end with looking at what "
                      "partition %s writes",
                      dirty->partition->profile->name);
        finish(dirty, late);
    }
}

static gboolean ask_result(gpointer data)
{
    LpmDirty *dirty = data;
    g_autoptr(GError) error = NULL;

    if (can_ask(dirty->partition, &error)) {
        lpm_qmp_call(dirty->partition->qmp, "query-dirty-rate",
                     lpm_json_pack("{s:s}", "calc-time-unit", "millisecond"), on_result, dirty);
    } else {
        finish(dirty, error);
    }
    return G_SOURCE_REMOVE;
}

static void end_look(LpmDirty *dirty, unsigned ms)
{
    g_timeout_add(ms, ask_result, dirty);
}

static void on_begun(json_t *result G_GNUC_UNUSED, const GError *error, void *data)
{
    LpmDirty *dirty = data;

    if (error) {
        finish(dirty, error);
    } else {
        end_look(dirty, dirty->ms[dirty->look] + SLACK_MS);
    }
}

static void begin_look(LpmDirty *dirty)
{
    g_autoptr(GError) error = NULL;

    if (dirty->look >= LOOKS || !can_ask(dirty->partition, &error)) {
        finish(dirty, error);
        return;
    }
    dirty->tries = 0;
    lpm_qmp_call(dirty->partition->qmp, "calc-dirty-rate",
                 lpm_json_pack("{s:i, s:s, s:i}", "calc-time", (int)dirty->ms[dirty->look],
                               "calc-time-unit", "millisecond", "sample-pages", SAMPLED_PAGES),
                 on_begun, dirty);
}

void lpm_dirty_measure(LpmPartition *partition, unsigned ms, LpmHostReply done, void *data)
{
    g_autoptr(GError) error = NULL;
    const Waiter waiter = {done, data};
    LpmDirty *dirty = partition->dirty;

    if (!dirty && !can_ask(partition, &error)) {
        done(NULL, error, data);
        return;
    }
    if (dirty) {
        g_array_append_val(dirty->waiters, waiter);
        return;
    }
    dirty = partition->dirty = g_new0(LpmDirty, 1);
    dirty->partition = lpm_partition_ref(partition);
    dirty->ms[0] = ms / SHORTER;
    dirty->ms[1] = ms;
    dirty->looks = json_array();
    dirty->waiters = g_array_new(FALSE, FALSE, sizeof(Waiter));
    g_array_append_val(dirty->waiters, waiter);
    begin_look(dirty);
}

/* --- used memory --- */

/* Anonymous, shared and huge pages: a partition's memory is one of these; QEMU's own comes on top.
 */
int64_t lpm_dirty_used_bytes(pid_t pid, int64_t memory_bytes)
{
    static const char *const members[] = {"RssAnon:", "RssShmem:", "HugetlbPages:"};
    g_autofree char *path = g_strdup_printf("/proc/%d/status", (int)pid);
    g_autofree char *text = NULL;
    int64_t kib = 0;

    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        return -1;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(members); i++) {
        const char *at = strstr(text, members[i]);

        kib += at ? g_ascii_strtoll(at + strlen(members[i]), NULL, 10) : 0;
    }
    return kib > 0 ? MIN(kib * 1024, memory_bytes) : -1;
}
