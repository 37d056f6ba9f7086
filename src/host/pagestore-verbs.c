/* SPDX-License-Identifier: Apache-2.0 */
/* The RPC verbs about images that are kept (docs/spec/host-rpc.md). */
#include "host/pagestore.h"

static void verb_list(LpmRpcRequest *request, json_t *arguments G_GNUC_UNUSED, void *data)
{
    lpm_rpc_request_return(request, lpm_images_list(data));
}

static void verb_show(LpmRpcRequest *request, json_t *arguments, void *data)
{
    g_autoptr(GError) error = NULL;
    json_t *row = lpm_images_show(data, lpm_json_str(arguments, "partition", ""), &error);
    if (row) {
        lpm_rpc_request_return(request, row);
    } else {
        lpm_rpc_request_fail(request, error);
    }
}

/* Those of others that are in use stay. */
static unsigned drop_all(LpmHost *host)
{
    g_autoptr(json_t) store = lpm_images_list(host);
    unsigned dropped = 0;
    json_t *row;
    size_t i;
    json_array_foreach (json_object_get(store, "images"), i, row) {
        dropped += lpm_images_remove(host, lpm_json_str(row, "uuid", ""), NULL);
    }
    return dropped;
}

static void verb_drop(LpmRpcRequest *request, json_t *arguments, void *data)
{
    const char *partition = lpm_json_str(arguments, "partition", NULL);
    bool all = lpm_json_bool(arguments, "all", false);
    g_autoptr(GError) error = NULL;
    unsigned dropped = 0;
    if (all == (partition != NULL)) {
        lpm_error_set(&error, LPM_ERROR_USAGE, "give a partition, or all: one of the two");
    } else if (all) {
        dropped = drop_all(data);
    } else {
        dropped = lpm_images_remove(data, partition, &error);
    }
    if (error) {
        lpm_rpc_request_fail(request, error);
    } else {
        lpm_rpc_request_return(request, lpm_json_pack("{s:i}", "dropped", (int)dropped));
    }
}

#define ROLES (1u << LPM_RPC_CONSOLE | 1u << LPM_RPC_LOCAL)

static const LpmRpcArg args_show[] = {{"partition", 's', true, "name or UUID"}, {NULL}};
static const LpmRpcArg args_drop[] = {{"partition", 's', false, "name or UUID"},
                                      {"all", 'b', false, "every one that is not in use"},
                                      {NULL}};

const LpmRpcVerb lpm_verbs_store[] = {
    {"store-list", ROLES, verb_list, NULL, "the images that are kept, and the room for them"},
    {"store-show", ROLES, verb_show, args_show, "one image"},
    {"store-drop", ROLES, verb_drop, args_drop, "removes images; the next move sends everything"},
    {NULL},
};
