/* SPDX-License-Identifier: Apache-2.0 */
/* The RPC verbs about the profiles of one partition. */
#include "host/partition.h"
#include "host/server.h"

#define PEOPLE (1u << LPM_RPC_CONSOLE | 1u << LPM_RPC_LOCAL)

static void answer(LpmRpcRequest *request, const LpmPartition *partition)
{
    lpm_rpc_request_return(
        request, lpm_json_pack("{s:o}", "profiles", lpm_profile_list(partition->profile)));
}

static void verb_list(LpmRpcRequest *request, json_t *arguments, void *data)
{
    const LpmPartition *partition = lpm_verb_partition(request, arguments, data);

    if (partition) {
        answer(request, partition);
    }
}

/* @changed: the definition with another set of profiles, stolen; NULL: @error says why not. */
static void redefine(LpmRpcRequest *request, LpmPartition *partition, LpmProfile *changed,
                     GError *error)
{
    if (changed && !lpm_verb_check_profiles(partition->host, changed, &error)) {
        g_clear_pointer(&changed, lpm_profile_free);
    }
    if (changed && lpm_partition_redefine(partition, changed, &error)) {
        lpm_qemu_set_reset(partition);
        lpm_host_emit(partition->host, "partition", lpm_partition_event(partition));
        answer(request, partition);
        return;
    }
    lpm_rpc_request_fail(request, error);
    g_error_free(error);
}

static LpmPartition *idle_partition(LpmRpcRequest *request, json_t *arguments, LpmHost *host)
{
    LpmPartition *partition = lpm_verb_partition(request, arguments, host);
    g_autoptr(GError) error = NULL;

    if (partition && !lpm_partition_check_idle(partition, "be changed", &error)) {
        lpm_rpc_request_fail(request, error);
        return NULL;
    }
    return partition;
}

static void verb_create(LpmRpcRequest *request, json_t *arguments, void *data)
{
    LpmPartition *partition = idle_partition(request, arguments, data);
    GError *error = NULL;

    if (partition) {
        LpmProfile *changed = lpm_profile_add(
            partition->profile, lpm_json_str(arguments, "profile", ""),
            lpm_json_str(arguments, "from", NULL), json_object_get(arguments, "changes"), &error);

        redefine(request, partition, changed, error);
    }
}

static void verb_change(LpmRpcRequest *request, json_t *arguments, void *data)
{
    LpmPartition *partition = idle_partition(request, arguments, data);
    GError *error = NULL;

    if (partition) {
        const LpmProfileEdit edit = {json_object_get(arguments, "changes"),
                                     lpm_json_str(arguments, "rename", NULL),
                                     lpm_json_bool(arguments, "default", false)};
        LpmProfile *changed = lpm_profile_edit(
            partition->profile, lpm_json_str(arguments, "profile", ""), &edit, &error);

        redefine(request, partition, changed, error);
    }
}

static void verb_delete(LpmRpcRequest *request, json_t *arguments, void *data)
{
    LpmPartition *partition = idle_partition(request, arguments, data);
    GError *error = NULL;

    if (partition) {
        LpmProfile *changed =
            lpm_profile_remove(partition->profile, lpm_json_str(arguments, "profile", ""), &error);

        redefine(request, partition, changed, error);
    }
}

#define PARTITION                                                                                  \
    {                                                                                              \
        "partition", 's', true, "name or UUID"                                                     \
    }
#define PROFILE                                                                                    \
    {                                                                                              \
        "profile", 's', true, "name of the profile"                                                \
    }

static const LpmRpcArg args_list[] = {PARTITION, {NULL}};
static const LpmRpcArg args_create[] = {
    PARTITION,
    PROFILE,
    {"from", 's', false, "the profile that it is a copy of; default: the last activated one"},
    {"changes", 'o', false, "members of it that differ"},
    {NULL}};
static const LpmRpcArg args_change[] = {PARTITION,
                                        PROFILE,
                                        {"changes", 'o', false, "members and their new values"},
                                        {"rename", 's', false, "its new name"},
                                        {"default", 'b', false,
                                         "true: a start without a name "
                                         "takes this one"},
                                        {NULL}};
static const LpmRpcArg args_delete[] = {PARTITION, PROFILE, {NULL}};

const LpmRpcVerb lpm_verbs_profile[] = {
    {"profile-list", PEOPLE, verb_list, args_list, "profiles of a partition"},
    {"profile-create", PEOPLE, verb_create, args_create, "gives a partition one more profile"},
    {"profile-change", PEOPLE, verb_change, args_change,
     "changes, renames a profile, or makes it the default one"},
    {"profile-delete", PEOPLE, verb_delete, args_delete,
     "deletes a profile that is not the default one and was not activated last"},
    {NULL},
};
