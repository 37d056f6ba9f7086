/* SPDX-License-Identifier: Apache-2.0 */
/*
 * partition-media: another medium, or none, into an optical drive, while the partition runs or not.
 * Written down as empty before the old medium is taken out, as full before the new one is put in:
 * whoever dies in between leaves a drive that the same verb brings in order.
 */
#include "host/partition.h"
#include "host/server.h"
#include "host/storage.h"

#include <string.h>
#include <unistd.h>

/* Asked in this order; a step that may fail finds nothing to do then. */
typedef struct {
    const char *command;
    json_t *arguments; /* owned until it is sent */
    bool may_fail;
} Step;

enum { STEPS_MAX = 8 };

typedef struct {
    LpmRpcRequest *request;
    LpmPartition *partition; /* a reference */
    size_t index;            /* of the disk */
    char *file;              /* the new medium; NULL: none */
    char *pool;
    char *old_file, *old_pool;
    bool force;
    LpmQemuDisk place;
    Step steps[STEPS_MAX];
    size_t n_steps, next;
} Change;

static void on_step(json_t *result, const GError *error, void *data);

/* --- ending it --- */

static void change_end(Change *change, const GError *error)
{
    LpmPartition *partition = change->partition;

    partition->busy = NULL;
    if (error) {
        lpm_rpc_request_fail(change->request, error);
    } else {
        lpm_rpc_request_return(change->request,
                               lpm_json_pack("{s:s, s:s?, s:s?}", "disk",
                                             partition->profile->disks[change->index].name, "pool",
                                             change->pool, "file", change->file));
    }
    for (size_t i = change->next; i < change->n_steps; i++) {
        json_decref(change->steps[i].arguments);
    }
    lpm_storage_place_clear(&change->place);
    lpm_partition_unref(partition);
    g_free(change->file);
    g_free(change->pool);
    g_free(change->old_file);
    g_free(change->old_pool);
    g_free(change);
}

/* --- writing it down --- */

static void set_text(char **slot, const char *text)
{
    g_free(*slot);
    *slot = g_strdup(text);
}

/* In the profile, and in what the target of a move builds its machine from. */
static bool write_down(Change *change, const char *pool, const char *file, GError **error)
{
    LpmPartition *partition = change->partition;
    LpmDisk *disk = &partition->profile->disks[change->index];
    json_t *running = (json_t *)lpm_json_at(partition->runtime, "profile.disks");
    json_t *row = json_array_get(running, change->index);

    set_text(&disk->at.file, file);
    set_text(&disk->at.pool, pool);
    if (row) {
        json_object_set_new(row, "pool", json_string(pool));
        if (file) {
            json_object_set_new(row, "file", json_string(file));
        } else {
            json_object_del(row, "file");
        }
    }
    return lpm_partition_keep(partition, error) &&
           (!row || lpm_partition_put_grown(partition, error));
}

/* --- what QEMU is told --- */

static void add(Change *change, const char *command, json_t *arguments, bool may_fail)
{
    g_assert(change->n_steps < STEPS_MAX);
    change->steps[change->n_steps++] = (Step){command, arguments, may_fail};
}

static json_t *of_drive(const char *id)
{
    return lpm_json_pack("{s:s}", "id", id);
}

static void plan_removal(Change *change, const char *id, const char *node)
{
    g_autofree char *file_node = g_strconcat(node, "-file", NULL);

    add(change, "blockdev-open-tray", lpm_json_pack("{s:s, s:b}", "id", id, "force", change->force),
        false);
    add(change, "blockdev-remove-medium", of_drive(id), false);
    add(change, "blockdev-del", lpm_json_pack("{s:s}", "node-name", node), true);
    add(change, "blockdev-del", lpm_json_pack("{s:s}", "node-name", file_node), true);
}

static void plan_insertion(Change *change, const char *id, const char *node)
{
    const LpmDisk *disk = &change->partition->profile->disks[change->index];

    add(change, "blockdev-add", lpm_qemuargs_disk_node(disk, change->index, &change->place, false),
        false);
    add(change, "blockdev-add", lpm_qemuargs_disk_node(disk, change->index, &change->place, true),
        false);
    add(change, "blockdev-insert-medium", lpm_json_pack("{s:s, s:s}", "id", id, "node-name", node),
        false);
}

static void ask_next(Change *change)
{
    LpmPartition *partition = change->partition;
    g_autoptr(GError) error = NULL;
    Step *step;

    if (change->next == change->n_steps) {
        change_end(change, NULL);
        return;
    }
    step = &change->steps[change->next++];
    if (!partition->qmp) {
        json_decref(step->arguments);
        lpm_error_set(&error, LPM_ERROR_QEMU, "partition %s: its QEMU does not answer",
                      partition->profile->name);
        change_end(change, error);
        return;
    }
    lpm_qmp_call(partition->qmp, step->command, step->arguments, on_step, change);
}

/* What is in the drive after all: a target must be built with just that. */
static void write_failure(Change *change, const char *command)
{
    bool old = strcmp(command, "blockdev-open-tray") == 0 ||
               strcmp(command, "blockdev-remove-medium") == 0;
    bool full = strcmp(command, "blockdev-close-tray") == 0;

    (void)write_down(change, old ? change->old_pool : change->pool,
                     old    ? change->old_file
                     : full ? change->file
                            : NULL,
                     NULL);
}

/* The tray stays shut while the partition's operating system has it locked. */
static void on_step(json_t *result G_GNUC_UNUSED, const GError *error, void *data)
{
    Change *change = data;
    const Step *step = &change->steps[change->next - 1];
    LpmPartition *partition = change->partition;
    const char *disk = partition->profile->disks[change->index].name;
    g_autoptr(GError) whole = NULL;

    if (!error || step->may_fail) {
        if (change->file && strcmp(step->command, "blockdev-remove-medium") == 0 &&
            !write_down(change, change->pool, change->file, &whole)) {
            change_end(change, whole);
            return;
        }
        ask_next(change);
        return;
    }
    write_failure(change, step->command);
    if (strcmp(step->command, "blockdev-remove-medium") == 0) {
        lpm_error_set(&whole, LPM_ERROR_STATE,
                      "partition %s, drive %s: the medium cannot be taken out: %s; unmount it in "
                      "the partition and ask again, or use --force",
                      partition->profile->name, disk, error->message);
    } else {
        lpm_error_set(&whole, LPM_ERROR_QEMU, "partition %s, drive %s: %s: %s; ask again",
                      partition->profile->name, disk, step->command, error->message);
    }
    change_end(change, whole);
}

/* --- the verb --- */

static bool find_drive(const LpmPartition *partition, const char *name, size_t *ret_index,
                       GError **error)
{
    const LpmProfile *profile = partition->profile;

    for (size_t i = 0; i < profile->n_disks; i++) {
        if (strcmp(profile->disks[i].name, name) != 0) {
            continue;
        }
        if (profile->disks[i].media != LPM_MEDIA_OPTICAL) {
            return lpm_error_set(error, LPM_ERROR_USAGE,
                                 "partition %s: %s is a disk, not an optical drive: its medium "
                                 "cannot be changed",
                                 profile->name, name);
        }
        *ret_index = i;
        return true;
    }
    return lpm_error_set(error, LPM_ERROR_NOT_FOUND,
                         "partition %s has no drive %s; lpm partition show --json lists its disks",
                         profile->name, name);
}

/* The drive that runs must be the one that the profile has now. */
static bool same_drive(const LpmPartition *partition, size_t index, GError **error)
{
    const json_t *row = json_array_get(lpm_json_at(partition->runtime, "profile.disks"), index);
    const LpmDisk *disk = &partition->profile->disks[index];

    if (!partition->pid || (g_strcmp0(lpm_json_str(row, "name", NULL), disk->name) == 0 &&
                            g_strcmp0(lpm_json_str(row, "media", NULL), "optical") == 0)) {
        return true;
    }
    return lpm_error_set(error, LPM_ERROR_STATE,
                         "partition %s: drive %s is there at its next restart only",
                         partition->profile->name, disk->name);
}

/* Opens the new medium to QEMU before anything is changed. */
static bool resolve(Change *change, GError **error)
{
    LpmHost *host = change->partition->host;
    LpmFileRef at = {change->pool, change->file};
    g_autofree char *path = change->file ? lpm_host_file_path(host, &at, error) : NULL;
    const LpmStorageOps *ops = path ? lpm_storage_for(host, &at, error) : NULL;
    uid_t uid = (uid_t)-1;
    gid_t gid = (gid_t)-1;

    if (!change->file) {
        return true;
    }
    if (geteuid() == 0) {
        (void)lpm_process_user(host->config->qemu_user, &uid, &gid);
    }
    return ops && ops->activate(host, &at, true, uid, gid, &change->place, error);
}

/* @definition with the new medium in the drive at @index is still one that can be read again. */
static bool stays_sound(const Change *change, const json_t *definition, GError **error)
{
    g_autoptr(json_t) json = json_deep_copy(definition);
    json_t *row = json_array_get(json_object_get(json, "disks"), change->index);
    g_autoptr(LpmProfile) profile = NULL;

    json_object_set_new(row, "pool", json_string(change->pool));
    json_object_set_new(row, "file", json_string(change->file));
    profile = lpm_profile_from_json(json, error);
    return profile != NULL;
}

/* What is written down without being sound would be lost, with the partition, at the next start of
 * lpm-host. */
static bool check_sound(const Change *change, GError **error)
{
    const LpmPartition *partition = change->partition;
    const json_t *built = lpm_json_at(partition->runtime, "profile");
    g_autoptr(json_t) json = lpm_profile_to_json(partition->profile);

    if (change->file && (!stays_sound(change, json, error) ||
                         (partition->pid && built && !stays_sound(change, built, error)))) {
        g_prefix_error(error, "partition %s, drive %s: this medium cannot be put in: ",
                       partition->profile->name, partition->profile->disks[change->index].name);
        return false;
    }
    return true;
}

static void begin(Change *change)
{
    LpmPartition *partition = change->partition;
    g_autofree char *node = g_strdup_printf("disk%zu", change->index);
    g_autofree char *id = g_strconcat("dev-", node, NULL);
    g_autoptr(GError) error = NULL;

    partition->busy = "a change of its medium";
    if (!write_down(change, change->pool, partition->pid ? NULL : change->file, &error)) {
        change_end(change, error);
        return;
    }
    if (partition->pid) {
        plan_removal(change, id, node);
        if (change->file) {
            plan_insertion(change, id, node);
        }
        add(change, "blockdev-close-tray", of_drive(id), false);
    }
    ask_next(change);
}

void lpm_verb_media(LpmRpcRequest *request, json_t *arguments, void *data)
{
    LpmPartition *partition = lpm_verb_partition(request, arguments, data);
    const char *name = lpm_json_str(arguments, "disk", "");
    g_autoptr(GError) error = NULL;
    Change *change;
    size_t index = 0;

    if (!partition) {
        return;
    }
    if (!lpm_partition_check_idle(partition, "have a medium changed", &error) ||
        !find_drive(partition, name, &index, &error) || !same_drive(partition, index, &error)) {
        lpm_rpc_request_fail(request, error);
        return;
    }
    change = g_new0(Change, 1);
    change->request = request;
    change->partition = lpm_partition_ref(partition);
    change->index = index;
    change->file = g_strdup(lpm_json_str(arguments, "file", NULL));
    change->pool =
        g_strdup(lpm_json_str(arguments, "pool", partition->profile->disks[index].at.pool));
    change->old_file = g_strdup(partition->profile->disks[index].at.file);
    change->old_pool = g_strdup(partition->profile->disks[index].at.pool);
    change->force = lpm_json_bool(arguments, "force", false);
    change->place.secret_fd = -1;
    if (!check_sound(change, &error) || !resolve(change, &error)) {
        change_end(change, error);
        return;
    }
    begin(change);
}
