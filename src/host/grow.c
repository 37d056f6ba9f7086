/* SPDX-License-Identifier: Apache-2.0 */
#include "host/grow.h"

#include "base/log.h"
#include "crash/crash.h"
#include "host/partition.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    LpmPartition *partition;
    int64_t mib;    /* memory: size of the module */
    int processors; /* how many are still to be added */
    bool in_file;   /* memory: it is to lie in the partition's memory file */
    unsigned index; /* of the module, or of the slot that gets the processor */
    GError *error;  /* why it failed; told once it is known what QEMU has */
    LpmHostDone done;
    void *data;
} Grow;

static void ask_slots(Grow *grow);
static void on_module_memory(json_t *result, const GError *error, void *data);
static void on_module(json_t *result, const GError *error, void *data);
static void on_slots(json_t *result, const GError *error, void *data);
static void on_processor(json_t *result, const GError *error, void *data);

/* --- what is written down --- */

void lpm_partition_size(const LpmPartition *partition, int64_t *ret_memory_mib, int *ret_processors)
{
    const json_t *built = lpm_json_at(partition->runtime, "profile");
    const json_t *added = json_object_get(built, "added_memory");

    *ret_memory_mib = lpm_json_int(built, "memory_mib", partition->profile->memory_mib);
    *ret_processors = (int)lpm_json_int(built, "processors", partition->profile->processors) +
                      (int)lpm_json_int(built, "added_processors", 0);
    for (size_t i = 0; i < json_array_size(added); i++) {
        *ret_memory_mib += lpm_json_int(json_array_get(added, i), "mib", 0);
    }
}

static size_t count_shared(const json_t *runtime)
{
    return (size_t)lpm_json_int(runtime, "shared_modules", 0);
}

int64_t lpm_runtime_file_mib(const json_t *runtime)
{
    const json_t *built = lpm_json_at(runtime, "profile");
    const json_t *added = json_object_get(built, "added_memory");
    int64_t mib = lpm_json_int(built, "memory_mib", 0);

    for (size_t i = 0; i < MIN(count_shared(runtime), json_array_size(added)); i++) {
        mib += lpm_json_int(json_array_get(added, i), "mib", 0);
    }
    return mib;
}

static json_t *built_of(const LpmPartition *partition)
{
    return lpm_json_at(partition->runtime, "profile");
}

static void set_modules(LpmPartition *partition, json_t *modules)
{
    json_object_set_new(built_of(partition), "added_memory", modules);
}

static void set_shared(LpmPartition *partition, size_t n)
{
    json_object_set_new(partition->runtime, "shared_modules", json_integer((json_int_t)n));
}

static size_t count_modules(const LpmPartition *partition)
{
    return json_array_size(json_object_get(built_of(partition), "added_memory"));
}

/* A target that does not know the model must say so before the move. */
static void add_model(LpmPartition *partition, const char *model)
{
    json_t *devices = json_object_get(partition->runtime, "devices");

    for (size_t i = 0; i < json_array_size(devices); i++) {
        if (g_strcmp0(json_string_value(json_array_get(devices, i)), model) == 0) {
            return;
        }
    }
    json_array_append_new(devices, json_string(model));
}

/* --- its end --- */

static void grow_free(Grow *grow)
{
    lpm_partition_unref(grow->partition);
    g_clear_error(&grow->error);
    g_free(grow);
}

static void finish(Grow *grow, const GError *error)
{
    LpmPartition *partition = grow->partition;

    partition->busy = NULL;
    grow->done(error, grow->data);
    if (!error) {
        lpm_host_emit(partition->host, "partition", lpm_partition_event(partition));
    }
    grow_free(grow);
}

static void succeed(Grow *grow)
{
    GError *error = NULL;

    LPM_CRASH_POINT("grow", "plug", "after");
    grow->partition->unsettled = false;
    if (!lpm_partition_put_grown(grow->partition, &error)) {
        /* QEMU has it, and the document says so already: only the mark stays, which makes the next
         * lpm-host ask once more. */
        lpm_log_warning(&(LpmLogFields){.partition = grow->partition->profile->name}, "%s",
                        error->message);
        g_clear_error(&error);
    }
    finish(grow, NULL);
}

static void on_settled(const GError *error G_GNUC_UNUSED, void *data)
{
    Grow *grow = data;

    finish(grow, grow->error);
}

/* QEMU refused, or did not answer: it is asked what it has. */
static void fail(Grow *grow, const GError *error)
{
    grow->error = g_error_copy(error);
    g_prefix_error(&grow->error,
                   "partition %s cannot be given more: ", grow->partition->profile->name);
    lpm_grow_settle(grow->partition, on_settled, grow);
}

static void on_refused(gpointer data)
{
    Grow *grow = data;

    grow->done(grow->error, grow->data);
    grow_free(grow);
}

/* Refused before anything was done. */
static void refuse(Grow *grow)
{
    g_idle_add_once(on_refused, grow);
}

/* --- begin --- */

static bool can_grow(const LpmPartition *partition, GError **error)
{
    if (!lpm_partition_check_idle(partition, "be given more", error) ||
        !lpm_partition_check_settled(partition, "be given more", error)) {
        return false;
    }
    if (partition->state == LPM_PARTITION_RUNNING && partition->qmp &&
        lpm_qmp_is_open(partition->qmp) && built_of(partition)) {
        return true;
    }
    return lpm_error_set(error, LPM_ERROR_STATE,
                         "partition %s is %s on %s: only one that runs can be given more; change "
                         "its profile for its next start",
                         partition->profile->name, lpm_partition_state_name(partition->state),
                         lpm_host_name(partition->host));
}

/* What it was started with decides: the room is built into its machine. */
static LpmProfile *built_profile(const LpmPartition *partition, GError **error)
{
    return can_grow(partition, error) ? lpm_profile_from_json(built_of(partition), error) : NULL;
}

static bool check_limit(const LpmPartition *partition, const char *what, const char *member,
                        int64_t wanted, int64_t now, int64_t most, GError **error)
{
    if (wanted < 1 || now + wanted > MAX(most, now)) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "partition %s has %" G_GINT64_FORMAT " %s and was started with "
                             "room for %" G_GINT64_FORMAT ": %" G_GINT64_FORMAT
                             " more cannot be added; raise %s in its profile and restart it",
                             partition->profile->name, now, what, MAX(most, now), wanted, member);
    }
    return true;
}

static bool check_room(const LpmPartition *partition, int64_t mib, int processors, GError **error)
{
    LpmHost *host = partition->host;
    int64_t free_mib;
    int free_processors;

    lpm_host_free(host, &free_mib, &free_processors);
    if (mib > free_mib || processors > free_processors) {
        return lpm_error_set(error, LPM_ERROR_BUSY,
                             "partition %s: %s has %" G_GINT64_FORMAT
                             " MiB of memory and %d processors to give; stop or move other "
                             "partitions, or raise its limits",
                             partition->profile->name, lpm_host_name(host), free_mib,
                             free_processors);
    }
    return true;
}

static Grow *begin(LpmPartition *partition, LpmHostDone done, void *data)
{
    Grow *grow = g_new0(Grow, 1);

    grow->partition = lpm_partition_ref(partition);
    grow->done = done;
    grow->data = data;
    return grow;
}

/* Written down: from here on a failure asks QEMU. */
static bool note(Grow *grow)
{
    LpmPartition *partition = grow->partition;

    partition->busy = "being given more";
    partition->unsettled = true;
    if (lpm_partition_put_grown(partition, &grow->error)) {
        LPM_CRASH_POINT("grow", "plug", "before");
        return true;
    }
    return false;
}

/* --- memory --- */

static bool check_memory(Grow *grow)
{
    LpmPartition *partition = grow->partition;
    g_autoptr(LpmProfile) built = built_profile(partition, &grow->error);
    int64_t step = built ? lpm_family_memory_step_mib(built->family) : 1;

    if (!built ||
        !check_limit(partition, "MiB of memory", "memory_max_mib", grow->mib,
                     lpm_profile_total_memory_mib(built), built->memory_max_mib, &grow->error)) {
        return false;
    }
    if (grow->mib % step != 0) {
        return lpm_error_set(&grow->error, LPM_ERROR_USAGE,
                             "partition %s: memory is added in multiples of %" G_GINT64_FORMAT
                             " MiB, not %" G_GINT64_FORMAT,
                             partition->profile->name, step, grow->mib);
    }
    if (built->n_added_memory >= LPM_ADDED_MEMORY_MAX) {
        return lpm_error_set(&grow->error, LPM_ERROR_USAGE,
                             "partition %s was given memory %d times since its start, and has no "
                             "slot left; raise memory_mib in its profile and restart it",
                             partition->profile->name, LPM_ADDED_MEMORY_MAX);
    }
    return check_room(partition, grow->mib, 0, &grow->error);
}

/* @format holds one "%zu". */
static char *name_of(const char *format, unsigned index)
{
    g_autofree char *text = g_strdup_printf("%u", index);
    g_auto(GStrv) parts = g_strsplit(format, "%zu", 2);

    return g_strjoinv(text, parts);
}

/* A module that is not in the file, of an earlier release, is followed by none that is. */
static bool goes_to_file(const LpmPartition *partition)
{
    g_autoptr(LpmProfile) built = lpm_profile_from_json(built_of(partition), NULL);

    return built && lpm_profile_adds_to_file(built) &&
           count_shared(partition->runtime) == count_modules(partition);
}

/* The file ends where the last module does; that it is longer for a while harms nothing. */
static bool make_room(Grow *grow)
{
    LpmPartition *partition = grow->partition;
    int fd;

    grow->in_file = goes_to_file(partition);
    if (!grow->in_file) {
        return true;
    }
    fd = lpm_partition_memory_fd(partition, &grow->error);
    return fd >= 0 &&
           (ftruncate(fd, (lpm_runtime_file_mib(partition->runtime) + grow->mib) << 20) == 0 ||
            lpm_error_set(&grow->error, LPM_ERROR_INTERNAL,
                          "partition %s: its memory file cannot be made %" G_GINT64_FORMAT
                          " MiB larger: %s",
                          partition->profile->name, grow->mib, g_strerror(errno)));
}

/* The document has the module already. */
static json_t *module_memory(const Grow *grow, const char *id)
{
    LpmPartition *partition = grow->partition;
    g_autofree char *path = NULL;

    if (!grow->in_file) {
        return lpm_json_pack("{s:s, s:s, s:I}", "qom-type", "memory-backend-ram", "id", id, "size",
                             (json_int_t)grow->mib << 20);
    }
    path = g_strdup_printf("/proc/self/fd/%d", lpm_partition_memory_number(partition));
    return lpm_json_pack("{s:s, s:s, s:s, s:b, s:I, s:I}", "qom-type", "memory-backend-file", "id",
                         id, "mem-path", path, "share", 1, "size", (json_int_t)grow->mib << 20,
                         "offset",
                         (json_int_t)(lpm_runtime_file_mib(partition->runtime) - grow->mib) << 20);
}

void lpm_partition_add_memory(LpmPartition *partition, int64_t mib, LpmHostDone done, void *data)
{
    Grow *grow = begin(partition, done, data);
    g_autofree char *memory = NULL;
    json_t *modules;

    grow->mib = mib;
    if (!check_memory(grow)) {
        refuse(grow);
        return;
    }
    grow->index = (unsigned)count_modules(partition);
    memory = name_of(LPM_QEMU_MODULE_MEMORY, grow->index);
    if (!make_room(grow)) {
        refuse(grow);
        return;
    }
    modules = json_object_get(built_of(partition), "added_memory");
    modules = modules ? json_deep_copy(modules) : json_array();
    json_array_append_new(modules, lpm_json_pack("{s:I}", "mib", (json_int_t)mib));
    set_modules(partition, modules);
    if (grow->in_file) {
        set_shared(partition, grow->index + 1);
    }
    add_model(partition, "pc-dimm");
    if (!note(grow)) {
        on_module(NULL, grow->error, grow);
        return;
    }
    lpm_qmp_call(partition->qmp, "object-add", module_memory(grow, memory), on_module_memory, grow);
}

static void on_module_memory(json_t *result G_GNUC_UNUSED, const GError *error, void *data)
{
    Grow *grow = data;
    g_autofree char *memory = name_of(LPM_QEMU_MODULE_MEMORY, grow->index);
    g_autofree char *module = name_of(LPM_QEMU_MODULE, grow->index);

    if (error || !grow->partition->qmp) {
        on_module(NULL, error, grow);
        return;
    }
    lpm_qmp_call(grow->partition->qmp, "device_add",
                 lpm_json_pack("{s:s, s:s, s:s, s:i}", "driver", "pc-dimm", "id", module, "memdev",
                               memory, "slot", (int)grow->index),
                 on_module, grow);
}

static void on_module(json_t *result G_GNUC_UNUSED, const GError *error, void *data)
{
    Grow *grow = data;
    g_autoptr(GError) gone = NULL;

    if (!error && !grow->partition->qmp) {
        lpm_error_set(&gone, LPM_ERROR_QEMU, "its QEMU has ended");
        error = gone;
    }
    if (error) {
        g_autoptr(GError) why = g_error_copy(error);

        g_clear_error(&grow->error);
        fail(grow, why);
    } else {
        succeed(grow);
    }
}

/* --- processors --- */

static bool check_processors(Grow *grow)
{
    LpmPartition *partition = grow->partition;
    g_autoptr(LpmProfile) built = built_profile(partition, &grow->error);

    return built &&
           check_limit(partition, "processors", "processors_max", grow->processors,
                       lpm_profile_total_processors(built), built->processors_max, &grow->error) &&
           check_room(partition, 0, grow->processors, &grow->error);
}

void lpm_partition_add_processors(LpmPartition *partition, int count, LpmHostDone done, void *data)
{
    Grow *grow = begin(partition, done, data);
    json_t *built = built_of(partition);

    grow->processors = count;
    if (!check_processors(grow)) {
        refuse(grow);
        return;
    }
    json_object_set_new(
        built, "added_processors",
        json_integer(lpm_json_int(built, "added_processors", 0) + grow->processors));
    if (!note(grow)) {
        on_module(NULL, grow->error, grow);
        return;
    }
    ask_slots(grow);
}

static void ask_slots(Grow *grow)
{
    lpm_qmp_call(grow->partition->qmp, "query-hotpluggable-cpus", NULL, on_slots, grow);
}

static int64_t place_of(const json_t *slot)
{
    return (lpm_json_int(slot, "props.socket-id", 0) << 16) +
           lpm_json_int(slot, "props.core-id", 0);
}

static bool is_free(const json_t *slot)
{
    return !json_object_get(slot, "qom-path");
}

/* The first one: an incoming QEMU has its processors in the first slots too. */
static const json_t *first_free(const json_t *slots)
{
    const json_t *found = NULL;
    const json_t *slot;
    size_t i;

    json_array_foreach (slots, i, slot) {
        if (is_free(slot) && (!found || place_of(slot) < place_of(found))) {
            found = slot;
        }
    }
    return found;
}

static unsigned count_taken(const json_t *slots)
{
    const json_t *slot;
    unsigned n = 0;
    size_t i;

    json_array_foreach (slots, i, slot) {
        n += !is_free(slot);
    }
    return n;
}

static void on_slots(json_t *result, const GError *error, void *data)
{
    Grow *grow = data;
    const json_t *slot = error ? NULL : first_free(result);
    g_autoptr(GError) full = NULL;
    g_autofree char *id = NULL;
    json_t *arguments;

    if (!slot || !grow->partition->qmp) {
        lpm_error_set(&full, LPM_ERROR_QEMU, "its QEMU has no free slot for a processor");
        on_module(NULL, error ? error : full, grow);
        return;
    }
    id = g_strdup_printf("cpu%u", count_taken(result));
    arguments = json_deep_copy(json_object_get(slot, "props"));
    json_object_set_new(arguments, "driver", json_string(lpm_json_str(slot, "type", "")));
    json_object_set_new(arguments, "id", json_string(id));
    lpm_qmp_call(grow->partition->qmp, "device_add", arguments, on_processor, grow);
}

static void on_processor(json_t *result, const GError *error, void *data)
{
    Grow *grow = data;

    if (!error && grow->partition->qmp && --grow->processors > 0) {
        ask_slots(grow);
    } else {
        on_module(result, error, grow);
    }
}

/* --- what does QEMU have? --- */

typedef struct {
    LpmPartition *partition;
    LpmHostDone done;
    void *data;
} Settle;

static void settle_end(Settle *settle, const GError *error)
{
    if (error) {
        lpm_log_warning(&(LpmLogFields){.partition = settle->partition->profile->name},
                        "it is not known whether it has what it was to be given: %s",
                        error->message);
        lpm_qemu_heal(settle->partition);
    }
    if (settle->done) {
        settle->done(error, settle->data);
    }
    lpm_partition_unref(settle->partition);
    g_free(settle);
}

/* Memory that was made for a module which never came; mostly there is none. */
static void on_leftover(json_t *result G_GNUC_UNUSED, const GError *error G_GNUC_UNUSED, void *data)
{
    Settle *settle = data;
    LpmPartition *partition = settle->partition;
    g_autoptr(GError) failure = NULL;

    partition->unsettled = false;
    if (!lpm_partition_put_grown(partition, &failure)) {
        partition->unsettled = true;
    }
    settle_end(settle, failure);
}

static void on_settle_slots(json_t *result, const GError *error, void *data)
{
    Settle *settle = data;
    LpmPartition *partition = settle->partition;
    json_t *built = built_of(partition);
    g_autofree char *memory = NULL;

    if (error || !partition->qmp || !built) {
        settle_end(settle, error);
        return;
    }
    if (lpm_json_int(built, "added_processors", 0) > 0) {
        json_object_set_new(
            built, "added_processors",
            json_integer((json_int_t)count_taken(result) - lpm_json_int(built, "processors", 0)));
    }
    memory = name_of(LPM_QEMU_MODULE_MEMORY, (unsigned)count_modules(partition));
    lpm_qmp_call(partition->qmp, "object-del", lpm_json_pack("{s:s}", "id", memory), on_leftover,
                 settle);
}

static void on_settle_modules(json_t *result, const GError *error, void *data)
{
    Settle *settle = data;
    LpmPartition *partition = settle->partition;
    json_t *modules = json_object_get(built_of(partition), "added_memory");

    if (error || !partition->qmp || !partition->runtime) {
        settle_end(settle, error);
        return;
    }
    while (json_array_size(modules) > json_array_size(result)) {
        json_array_remove(modules, json_array_size(modules) - 1);
    }
    set_shared(partition, MIN(count_shared(partition->runtime), json_array_size(modules)));
    lpm_qmp_call(partition->qmp, "query-hotpluggable-cpus", NULL, on_settle_slots, settle);
}

void lpm_grow_settle(LpmPartition *partition, LpmHostDone done, void *data)
{
    Settle *settle = g_new0(Settle, 1);
    g_autoptr(GError) error = NULL;

    settle->partition = lpm_partition_ref(partition);
    settle->done = done;
    settle->data = data;
    if (!partition->qmp || !partition->runtime) {
        lpm_error_set(&error, LPM_ERROR_QEMU, "its QEMU has ended");
        settle_end(settle, error);
        return;
    }
    lpm_qmp_call(partition->qmp, "query-memory-devices", NULL, on_settle_modules, settle);
}
