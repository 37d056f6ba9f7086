/* SPDX-License-Identifier: Apache-2.0 */
/* The RPC verbs that collect facts for validation; nothing that lasts is changed by them. */
#include "host/dirty.h"
#include "host/facts.h"
#include "host/server.h"

#define CONSOLE (1u << LPM_RPC_CONSOLE | 1u << LPM_RPC_LOCAL)

static void on_facts(json_t *result, const GError *error, void *data)
{
    if (error) {
        lpm_rpc_request_fail(data, error);
    } else {
        lpm_rpc_request_return(data, json_incref(result));
    }
}

static void verb_facts(LpmRpcRequest *request, json_t *arguments, void *data)
{
    LpmPartition *partition = lpm_verb_partition(request, arguments, data);

    if (partition) {
        lpm_facts_partition(partition, on_facts, request);
    }
}

static void verb_measure(LpmRpcRequest *request, json_t *arguments, void *data)
{
    int64_t ms = lpm_json_int(arguments, "ms", LPM_DIRTY_LEAST_MS);
    LpmPartition *partition = lpm_verb_partition(request, arguments, data);
    g_autoptr(GError) error = NULL;

    if (partition && (ms < LPM_DIRTY_LEAST_MS || ms > LPM_DIRTY_MOST_MS)) {
        lpm_error_set(&error, LPM_ERROR_USAGE, "ms: must be from %d to %d", LPM_DIRTY_LEAST_MS,
                      LPM_DIRTY_MOST_MS);
        lpm_rpc_request_fail(request, error);
    } else if (partition) {
        lpm_dirty_measure(partition, (unsigned)ms, on_facts, request);
    }
}

static void verb_nonce_put(LpmRpcRequest *request, json_t *arguments, void *data)
{
    LpmPartition *partition = lpm_verb_partition(request, arguments, data);

    if (partition) {
        lpm_rpc_request_return(request, lpm_nonce_put(partition));
    }
}

static void verb_nonce_drop(LpmRpcRequest *request, json_t *arguments, void *data)
{
    LpmPartition *partition = lpm_verb_partition(request, arguments, data);

    if (partition) {
        lpm_nonce_drop(partition);
        lpm_rpc_request_return(request, NULL);
    }
}

static void verb_target_check(LpmRpcRequest *request, json_t *arguments, void *data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(LpmProfile) profile =
        lpm_profile_from_json(json_object_get(arguments, "profile"), &error);

    if (!profile) {
        lpm_rpc_request_fail(request, error);
        return;
    }
    lpm_facts_target(data, profile, json_object_get(arguments, "runtime"),
                     json_object_get(arguments, "nonces"), on_facts, request);
}

static const LpmRpcArg args_partition[] = {{"partition", 's', true, "name or UUID"}, {NULL}};
static const LpmRpcArg args_measure[] = {
    {"partition", 's', true, "name or UUID"}, {"ms", 'i', false, "200 to 5000"}, {NULL}};
static const LpmRpcArg args_target[] = {
    {"profile", 'o', true, "profile of the partition that is to come"},
    {"runtime", 'o', false, "what it was built as (partition-facts); absent: it is not active"},
    {"nonces", 'a', false, "what nonce-put at the source answered"},
    {NULL}};

const LpmRpcVerb lpm_verbs_validate[] = {
    {"partition-facts", CONSOLE, verb_facts, args_partition, "facts about a partition (facts.md)"},
    {"partition-measure", CONSOLE, verb_measure, args_measure,
     "what it writes to its memory in so much time (facts.md)"},
    {"nonce-put", CONSOLE, verb_nonce_put, args_partition,
     "writes a nonce beside each disk, for 60 s"},
    {"nonce-drop", CONSOLE, verb_nonce_drop, args_partition, "removes them"},
    {"target-check", CONSOLE, verb_target_check, args_target,
     "what stands in the way of a partition that is to come (facts.md)"},
    {NULL},
};
