/* SPDX-License-Identifier: Apache-2.0 */
/* The RPC verbs about one partition, or all. */
#include "base/log.h"
#include "host/emulator.h"
#include "host/grow.h"
#include "host/guest.h"
#include "host/pagestore.h"
#include "host/partition.h"
#include "host/server.h"
#include "host/storage.h"

#include <string.h>

#define STOP_TIMEOUT_MS     60000
#define STOP_TIMEOUT_MS_MAX 3600000
#define PEOPLE              (1u << LPM_RPC_CONSOLE | 1u << LPM_RPC_LOCAL)

/* One request about one partition; what it needs on its way. */
typedef struct {
    LpmRpcRequest *request;
    LpmHost *host;
    LpmPartition *partition; /* owned reference */
    json_t *answer;
    size_t next; /* disk */
    bool disks;  /* delete: the disks too */
    unsigned open;
} Call;

static Call *call_new(LpmRpcRequest *request, LpmHost *host, LpmPartition *partition)
{
    Call *call = g_new0(Call, 1);

    call->request = request;
    call->host = host;
    call->partition = partition ? lpm_partition_ref(partition) : NULL;
    return call;
}

static void call_end(Call *call, json_t *result, const GError *error)
{
    if (error) {
        lpm_rpc_request_fail(call->request, error);
    } else {
        lpm_rpc_request_return(call->request, result);
    }
    json_decref(call->answer);
    lpm_partition_unref(call->partition);
    g_free(call);
}

static void on_state_answer(const GError *error, void *data)
{
    Call *call = data;

    call_end(
        call,
        error ? NULL
              : lpm_json_pack("{s:s}", "state", lpm_partition_state_name(call->partition->state)),
        error);
}

/* --- list --- */

/* What is about to be started by itself is not "not activated": "off" may be said for that. */
static LpmPartitionState state_of(const LpmPartition *partition)
{
    return partition->restart_due ? LPM_PARTITION_STARTING : partition->state;
}

static json_t *row_of(const LpmPartition *partition)
{
    const LpmProfile *profile = partition->profile;
    int64_t memory_mib;
    int processors;

    lpm_partition_size(partition, &memory_mib, &processors);
    return lpm_json_pack(
        "{s:s, s:s, s:s, s:s, s:s?, s:b, s:i, s:I, s:s, s:s, s:s?, s:s?, s:o}", "name",
        profile->name, "uuid", profile->uuid, "family", lpm_family_name(profile->family), "state",
        lpm_partition_state_name(state_of(partition)), "reason", partition->reason, "process",
        partition->pid != 0, "processors", processors, "memory_mib", (json_int_t)memory_mib,
        "profile", lpm_profile_current(profile), "preferred_mode", profile->preferred_mode,
        "current_mode", partition->current_mode, "migration",
        partition->link ? partition->link->id : NULL, "macs", lpm_partition_macs(partition));
}

static int compare_names(const void *one, const void *other)
{
    const LpmPartition *a = one, *b = other;

    return strcmp(a->profile->name, b->profile->name);
}

static void list_part(Call *call)
{
    g_autoptr(GList) sorted = NULL;
    json_t *rows;

    if (--call->open > 0) {
        return;
    }
    sorted = g_list_sort(g_hash_table_get_values(call->host->partitions), compare_names);
    rows = json_array();
    for (GList *item = sorted; item; item = item->next) {
        json_array_append_new(rows, row_of(item->data));
    }
    call_end(call, lpm_json_pack("{s:o}", "partitions", rows), NULL);
}

static void on_list_mode(const GError *error G_GNUC_UNUSED, void *data)
{
    list_part(data);
}

static bool mode_may_change(const LpmPartition *partition)
{
    return partition->profile->family == LPM_FAMILY_POWER && !partition->link && partition->qmp &&
           partition->state == LPM_PARTITION_RUNNING;
}

static void verb_list(LpmRpcRequest *request, json_t *arguments G_GNUC_UNUSED, void *data)
{
    LpmHost *host = data;
    Call *call = call_new(request, host, NULL);
    GHashTableIter iter;
    gpointer value;

    call->open = 1;
    g_hash_table_iter_init(&iter, host->partitions);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        if (mode_may_change(value)) {
            call->open++;
            lpm_partition_read_mode(value, on_list_mode, call);
        }
    }
    list_part(call);
}

/* --- show --- */

static void show_end(Call *call)
{
    const LpmPartition *partition = call->partition;
    g_autofree char *pending = lpm_plan_pending_mode(partition);
    g_autofree char *console = lpm_qemu_path(partition, "console.sock");
    json_t *answer = json_incref(call->answer);
    json_t *disks = json_array();

    for (size_t i = 0; i < partition->profile->n_disks; i++) {
        const LpmDisk *disk = &partition->profile->disks[i];
        g_autofree char *path = lpm_host_file_path(call->host, &disk->at, NULL);

        json_array_append_new(disks,
                              lpm_json_pack("{s:s, s:s?}", "name", disk->name, "path", path));
    }
    json_object_set_new(answer, "profile", lpm_profile_to_json(partition->profile));
    json_object_set_new(answer, "profile_name",
                        json_string(lpm_profile_current(partition->profile)));
    json_object_set_new(answer, "state", json_string(lpm_partition_state_name(partition->state)));
    json_object_set_new(answer, "reason",
                        partition->reason ? json_string(partition->reason) : json_null());
    json_object_set_new(answer, "current_mode",
                        partition->current_mode ? json_string(partition->current_mode)
                                                : json_null());
    json_object_set_new(answer, "pending_mode", pending ? json_string(pending) : json_null());
    json_object_set_new(answer, "runtime",
                        partition->runtime ? json_incref(partition->runtime) : json_null());
    json_object_set_new(answer, "pid", partition->pid ? json_integer(partition->pid) : json_null());
    json_object_set_new(answer, "disks", disks);
    json_object_set_new(answer, "console_socket",
                        partition->pid && partition->profile->console ? json_string(console)
                                                                      : json_null());
    json_object_set_new(answer, "migration",
                        partition->link ? json_string(partition->link->id) : json_null());
    call_end(call, answer, NULL);
}

static void on_show_record(json_t *result, const GError *error, void *data)
{
    Call *call = data;

    if (error) {
        json_object_set_new(call->answer, "record",
                            lpm_json_pack("{s:s}", "error", error->message));
    } else {
        json_object_set_new(call->answer, "record", result ? json_incref(result) : json_null());
    }
    show_end(call);
}

static void on_show_mode(const GError *error G_GNUC_UNUSED, void *data)
{
    Call *call = data;

    if (call->host->hooks && call->host->hooks->record_show) {
        call->host->hooks->record_show(call->partition, on_show_record, call);
    } else {
        on_show_record(NULL, NULL, call);
    }
}

static void on_show_rmc(const char *state, void *data)
{
    Call *call = data;

    json_object_set_new(call->answer, "rmc", json_string(state));
    if (mode_may_change(call->partition)) {
        lpm_partition_read_mode(call->partition, on_show_mode, call);
    } else {
        on_show_mode(NULL, call);
    }
}

static void verb_show(LpmRpcRequest *request, json_t *arguments, void *data)
{
    LpmPartition *partition = lpm_verb_partition(request, arguments, data);
    Call *call;

    if (partition) {
        call = call_new(request, data, partition);
        call->answer = json_object();
        lpm_guest_rmc(partition, on_show_rmc, call);
    }
}

/* --- create --- */

static void create_undo(Call *call, const GError *error)
{
    g_autoptr(GError) failure = NULL;

    /* Disks that were made stay: a second try finds them. */
    if (!lpm_partition_forget(call->partition, &failure)) {
        lpm_log_error(&(LpmLogFields){.partition = call->partition->profile->name}, "%s",
                      failure->message);
    }
    call_end(call, NULL, error);
}

static void on_create_record(const GError *error, void *data)
{
    Call *call = data;
    g_autoptr(GError) failure = NULL;

    if (error) {
        create_undo(call, error);
        return;
    }
    call->partition->busy = NULL;
    lpm_host_emit(call->host, "partition", lpm_partition_event(call->partition));
    call_end(call, lpm_json_pack("{s:o}", "profile", lpm_profile_to_json(call->partition->profile)),
             NULL);
}

static void on_create_disk(const GError *error, void *data)
{
    Call *call = data;
    LpmPartition *partition = call->partition;
    const LpmMobilityHooks *hooks = call->host->hooks;
    g_autoptr(GError) failure = error ? g_error_copy(error) : NULL;

    while (!failure && call->next < partition->profile->n_disks) {
        const LpmDisk *disk = &partition->profile->disks[call->next++];
        const LpmStorageOps *ops = lpm_storage_for(call->host, &disk->at, &failure);

        if (ops && !disk->at.file) {
            continue; /* an optical drive without a medium */
        }
        if (ops) {
            ops->create(call->host, disk, on_create_disk, call);
            return;
        }
        g_prefix_error(&failure, "disk %s: ", disk->name);
    }
    /* Written down before the record says that it is ours: a record without a profile would name a
     * partition that nobody has. */
    if (failure || !lpm_partition_keep(partition, &failure)) {
        create_undo(call, failure);
    } else if (hooks && hooks->record_create) {
        hooks->record_create(partition, on_create_record, call);
    } else {
        on_create_record(NULL, call);
    }
}

/* What a running partition was given since its start is no part of a definition. */
static bool is_definition(const json_t *members, GError **error)
{
    static const char *const given[] = {"added_memory", "added_processors"};

    for (size_t i = 0; i < G_N_ELEMENTS(given); i++) {
        if (json_object_get(members, given[i])) {
            return lpm_error_set(error, LPM_ERROR_USAGE,
                                 "profile: member \"%s\" is of a running partition only; set "
                                 "memory_mib and processors, or give it more while it runs",
                                 given[i]);
        }
    }
    return true;
}

static bool check_profile(const LpmHost *host, const LpmProfile *profile, GError **error)
{
    const LpmFileRef *const boot[] = {&profile->boot.kernel, &profile->boot.initrd};

    if (!lpm_compat_is_preferable(lpm_emulators_compat(host), profile->family,
                                  profile->preferred_mode)) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "partition %s: preferred_mode %s is not a mode of "
                             "family %s; system-info lists those of this system",
                             profile->name, profile->preferred_mode,
                             lpm_family_name(profile->family));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(boot); i++) {
        g_autofree char *path = NULL;

        if (!boot[i]->pool) {
            continue;
        }
        path = lpm_host_file_path(host, boot[i], error);
        if (!path) {
            return false;
        }
        if (!g_file_test(path, G_FILE_TEST_IS_REGULAR)) {
            return lpm_error_set(error, LPM_ERROR_STORAGE,
                                 "partition %s: boot file %s does not exist on "
                                 "%s; put it there",
                                 profile->name, path, lpm_host_name(host));
        }
    }
    return true;
}

bool lpm_verb_check_profiles(const LpmHost *host, const LpmProfile *profile, GError **error)
{
    json_t *other;
    size_t i;

    json_array_foreach (profile->profiles, i, other) {
        g_autoptr(LpmProfile) chosen =
            lpm_profile_select(profile, lpm_json_str(other, "name", ""), error);

        if (!chosen || !check_profile(host, chosen, error)) {
            g_prefix_error(error, "profile %s: ", lpm_json_str(other, "name", ""));
            return false;
        }
    }
    return check_profile(host, profile, error);
}

static void verb_create(LpmRpcRequest *request, json_t *arguments, void *data)
{
    LpmHost *host = data;
    g_autoptr(GError) error = NULL;
    LpmProfile *profile = lpm_profile_from_json(json_object_get(arguments, "profile"), &error);
    LpmPartition *partition = NULL;
    Call *call;

    if (profile && (!is_definition(json_object_get(arguments, "profile"), &error) ||
                    !lpm_verb_check_profiles(host, profile, &error))) {
        g_clear_pointer(&profile, lpm_profile_free);
    }
    if (profile) {
        partition = lpm_partition_add_new(host, profile, &error);
    }
    if (!partition) {
        lpm_rpc_request_fail(request, error);
        return;
    }
    partition->busy = "being created";
    call = call_new(request, host, partition);
    on_create_disk(NULL, call);
}

/* --- change --- */

/* What no change may touch, and what only a partition that is not activated can change. */
static const char *const fixed[] = {"uuid", "family", "machine"};
static const char *const inactive_only[] = {"name", "arbiter", "interrupt_mode"};

/* What a partition's profiles are is changed by verbs of their own. */
static const char *const profiles[] = {"profile", "default_profile", "profiles"};

static bool may_change(const LpmPartition *partition, const json_t *changes, GError **error)
{
    const char *name = partition->profile->name;

    for (size_t i = 0; i < G_N_ELEMENTS(profiles); i++) {
        if (json_object_get(changes, profiles[i])) {
            return lpm_error_set(
                error, LPM_ERROR_USAGE,
                "partition %s: %s is not changed like this; \"lpm profile\" makes, "
                "changes and deletes its profiles",
                name, profiles[i]);
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(fixed); i++) {
        if (json_object_get(changes, fixed[i])) {
            return lpm_error_set(error, LPM_ERROR_USAGE,
                                 "partition %s: %s cannot be changed; create "
                                 "another partition",
                                 name, fixed[i]);
        }
    }
    if (!is_definition(changes, error)) {
        return false;
    }
    for (size_t i = 0; partition->pid && i < G_N_ELEMENTS(inactive_only); i++) {
        if (json_object_get(changes, inactive_only[i])) {
            return lpm_error_set(error, LPM_ERROR_STATE,
                                 "partition %s: %s cannot be changed while it is "
                                 "activated; stop it first",
                                 name, inactive_only[i]);
        }
    }
    if (json_object_get(changes, "arbiter")) {
        return lpm_error_set(error, LPM_ERROR_STATE,
                             "partition %s: its ownership record is kept by an "
                             "arbiter already; create another partition to have another one",
                             name);
    }
    return lpm_partition_check_idle(partition, "be changed", error);
}

static LpmProfile *changed_profile(const LpmPartition *partition, json_t *changes, GError **error)
{
    g_autoptr(json_t) json = lpm_profile_to_json(partition->profile);

    json_object_update(json, changes);
    return lpm_profile_from_json(json, error);
}

/* Only the disks say where a record is. */
static bool record_stays(LpmPartition *partition, const json_t *changes, const LpmProfile *changed,
                         GError **error)
{
    const LpmMobilityHooks *hooks = partition->host->hooks;

    return !json_object_get(changes, "disks") || !hooks || !hooks->record_stays ||
           hooks->record_stays(partition, changed, error);
}

static void verb_change(LpmRpcRequest *request, json_t *arguments, void *data)
{
    LpmHost *host = data;
    LpmPartition *partition = lpm_verb_partition(request, arguments, host);
    json_t *changes = json_object_get(arguments, "changes");
    g_autoptr(LpmProfile) profile = NULL;
    g_autoptr(GError) error = NULL;

    if (!partition) {
        return;
    }
    if (may_change(partition, changes, &error)) {
        profile = changed_profile(partition, changes, &error);
    }
    if (!profile || !lpm_verb_check_profiles(host, profile, &error) ||
        !lpm_partition_is_free(partition, profile, json_object_get(changes, "networks") != NULL,
                               &error) ||
        !record_stays(partition, changes, profile, &error) ||
        !lpm_partition_redefine(partition, g_steal_pointer(&profile), &error)) {
        lpm_rpc_request_fail(request, error);
        return;
    }
    lpm_qemu_set_reset(partition);
    lpm_rpc_request_return(request, lpm_json_pack("{s:o, s:b}", "profile",
                                                  lpm_profile_to_json(partition->profile),
                                                  "pending_restart", partition->pid != 0));
}

/* --- start, stop, restart --- */

static void verb_start(LpmRpcRequest *request, json_t *arguments, void *data)
{
    LpmPartition *partition = lpm_verb_partition(request, arguments, data);

    if (partition) {
        const char *profile =
            lpm_json_str(arguments, "profile", lpm_profile_default(partition->profile));

        lpm_partition_start(partition, profile, on_state_answer,
                            call_new(request, data, partition));
    }
}

static void stop_or_restart(LpmRpcRequest *request, json_t *arguments, LpmHost *host, bool restart)
{
    LpmPartition *partition = lpm_verb_partition(request, arguments, host);
    const char *how = lpm_json_str(arguments, "how", "orderly");
    const char *profile = lpm_json_str(arguments, "profile", NULL);
    int64_t timeout_ms = lpm_json_int(arguments, "timeout_ms", STOP_TIMEOUT_MS);
    g_autoptr(LpmProfile) chosen = NULL;
    g_autoptr(GError) error = NULL;

    if (!partition) {
        return;
    }
    if (strcmp(how, "orderly") != 0 && strcmp(how, "hard") != 0) {
        lpm_error_set(&error, LPM_ERROR_USAGE, "how is \"%s\"; orderly and hard are possible", how);
    } else if (timeout_ms < 1 || timeout_ms > STOP_TIMEOUT_MS_MAX) {
        lpm_error_set(&error, LPM_ERROR_USAGE, "timeout_ms must be from 1 to %d",
                      STOP_TIMEOUT_MS_MAX);
    } else {
        chosen = lpm_profile_select(partition->profile, profile, &error);
    }
    if (error) {
        lpm_rpc_request_fail(request, error);
        return;
    }
    if (restart) {
        lpm_partition_restart(partition, profile, strcmp(how, "hard") == 0, (unsigned)timeout_ms,
                              on_state_answer, call_new(request, host, partition));
    } else {
        lpm_partition_stop(partition, strcmp(how, "hard") == 0, (unsigned)timeout_ms,
                           on_state_answer, call_new(request, host, partition));
    }
}

static void verb_stop(LpmRpcRequest *request, json_t *arguments, void *data)
{
    stop_or_restart(request, arguments, data, false);
}

static void verb_restart(LpmRpcRequest *request, json_t *arguments, void *data)
{
    stop_or_restart(request, arguments, data, true);
}

/* --- delete --- */

static void on_delete_record(const GError *error, void *data)
{
    Call *call = data;
    LpmPartition *partition = call->partition;
    g_autoptr(GError) failure = error ? g_error_copy(error) : NULL;

    partition->busy = NULL;
    for (size_t i = 0; call->disks && !failure && i < partition->profile->n_disks; i++) {
        const LpmDisk *disk = &partition->profile->disks[i];
        const LpmStorageOps *ops = lpm_storage_for(call->host, &disk->at, &failure);

        /* A medium is not the partition's own, nor is what it may only read. */
        if (ops && !disk->read_only) {
            (void)ops->remove(call->host, disk, &failure);
        }
    }
    if (!failure && lpm_partition_forget(partition, &failure)) {
        lpm_images_drop(call->host, partition->profile->uuid);
        json_t *event = lpm_partition_event(partition);

        json_object_set_new(event, "state", json_string("deleted"));
        lpm_host_emit(call->host, "partition", event);
    }
    call_end(call, failure ? NULL : json_object(), failure);
}

static void verb_delete(LpmRpcRequest *request, json_t *arguments, void *data)
{
    LpmHost *host = data;
    LpmPartition *partition = lpm_verb_partition(request, arguments, host);
    g_autoptr(GError) error = NULL;
    Call *call;

    if (!partition) {
        return;
    }
    if (partition->pid || partition->activation) {
        lpm_error_set(&error, LPM_ERROR_STATE, "partition %s is %s; stop it first",
                      partition->profile->name, lpm_partition_state_name(partition->state));
    } else if (lpm_partition_check_idle(partition, "be deleted", &error) &&
               lpm_json_bool(arguments, "disks", false)) {
        (void)lpm_plan_may_delete(partition, &error);
    }
    if (error) {
        lpm_rpc_request_fail(request, error);
        return;
    }
    call = call_new(request, host, partition);
    call->disks = lpm_json_bool(arguments, "disks", false);
    partition->busy = "being deleted";
    if (host->hooks && host->hooks->record_delete) {
        host->hooks->record_delete(partition, call->disks, on_delete_record, call);
    } else {
        on_delete_record(NULL, call);
    }
}

/* --- table --- */

#define PARTITION                                                                                  \
    {                                                                                              \
        "partition", 's', true, "name or UUID"                                                     \
    }

static const LpmRpcArg args_show[] = {PARTITION, {NULL}};
static const LpmRpcArg args_start[] = {
    PARTITION, {"profile", 's', false, "which of its profiles; default: its default one"}, {NULL}};
static const LpmRpcArg args_create[] = {{"profile", 'o', true, "the partition's definition"},
                                        {NULL}};
static const LpmRpcArg args_change[] = {
    PARTITION, {"changes", 'o', true, "members of the profile and their new values"}, {NULL}};
static const LpmRpcArg args_stop[] = {
    PARTITION,
    {"how", 's', false, "orderly (default): the operating system is asked; hard: QEMU is ended"},
    {"timeout_ms", 'i', false, "for an orderly stop, default 60000; then nothing is killed"},
    {NULL}};
static const LpmRpcArg args_restart[] = {
    PARTITION,
    {"how", 's', false, "as for partition-stop"},
    {"timeout_ms", 'i', false, "as for partition-stop"},
    {"profile", 's', false, "which of its profiles; default: the one that it was activated with"},
    {NULL}};
static const LpmRpcArg args_delete[] = {
    PARTITION, {"disks", 'b', false, "delete its disks too"}, {NULL}};

static const LpmRpcArg args_media[] = {
    PARTITION,
    {"disk", 's', true, "name of an optical drive of the profile"},
    {"file", 's', false, "the new medium; without it the drive is emptied"},
    {"pool", 's', false, "where it is; default: the drive's pool"},
    {"force", 'b', false, "also while the partition's operating system has it locked"},
    {NULL}};

const LpmRpcVerb lpm_verbs_partition[] = {
    {"partition-list", PEOPLE, verb_list, NULL, "all partitions of this system"},
    {"partition-show", PEOPLE, verb_show, args_show, "everything about one partition"},
    {"partition-diagnose", PEOPLE, lpm_verb_diagnose, args_show,
     "why the software in it cannot be reached, and what to do"},
    {"partition-create", PEOPLE, verb_create, args_create, "defines a partition, makes its disks"},
    {"partition-change", PEOPLE, verb_change, args_change,
     "changes a profile; a running partition gets most of it at its restart"},
    {"partition-start", PEOPLE, verb_start, args_start, "activates it"},
    {"partition-stop", PEOPLE, verb_stop, args_stop, "deactivates it"},
    {"partition-restart", PEOPLE, verb_restart, args_restart,
     "stops it and starts it anew; its mode is evaluated anew"},
    {"partition-media", PEOPLE, lpm_verb_media, args_media,
     "changes the medium of an optical drive, or takes it out"},
    {"partition-delete", PEOPLE, verb_delete, args_delete, "forgets it; only when not activated"},
    {NULL},
};
