/* SPDX-License-Identifier: Apache-2.0 */
/* The RPC verbs that give a running partition more. */
#include "host/grow.h"
#include "host/server.h"

#define PEOPLE (1u << LPM_RPC_CONSOLE | 1u << LPM_RPC_LOCAL)

typedef struct {
    LpmRpcRequest *request;
    LpmPartition *partition; /* owned reference */
} Call;

static void on_grown(const GError *error, void *data)
{
    Call *call = data;
    int64_t memory_mib;
    int processors;

    if (error) {
        lpm_rpc_request_fail(call->request, error);
    } else {
        lpm_partition_size(call->partition, &memory_mib, &processors);
        lpm_rpc_request_return(call->request,
                               lpm_json_pack("{s:I, s:i}", "memory_mib", (json_int_t)memory_mib,
                                             "processors", processors));
    }
    lpm_partition_unref(call->partition);
    g_free(call);
}

static Call *call_new(LpmRpcRequest *request, json_t *arguments, LpmHost *host)
{
    LpmPartition *partition = lpm_verb_partition(request, arguments, host);
    Call *call = partition ? g_new0(Call, 1) : NULL;

    if (call) {
        call->request = request;
        call->partition = lpm_partition_ref(partition);
    }
    return call;
}

static void verb_add_memory(LpmRpcRequest *request, json_t *arguments, void *data)
{
    Call *call = call_new(request, arguments, data);
    int64_t mib = lpm_json_int(arguments, "mib", 0);

    if (call) {
        lpm_partition_add_memory(call->partition, CLAMP(mib, 0, LPM_MEMORY_MIB_MAX), on_grown,
                                 call);
    }
}

static void verb_add_processors(LpmRpcRequest *request, json_t *arguments, void *data)
{
    Call *call = call_new(request, arguments, data);
    int64_t count = lpm_json_int(arguments, "count", 0);

    if (call) {
        lpm_partition_add_processors(call->partition, (int)CLAMP(count, 0, LPM_PROCESSORS_MAX),
                                     on_grown, call);
    }
}

#define PARTITION                                                                                  \
    {                                                                                              \
        "partition", 's', true, "name or UUID"                                                     \
    }

static const LpmRpcArg args_memory[] = {
    PARTITION, {"mib", 'i', true, "how much more, MiB: whole blocks of its family"}, {NULL}};
static const LpmRpcArg args_processors[] = {
    PARTITION, {"count", 'i', true, "how many more"}, {NULL}};

const LpmRpcVerb lpm_verbs_grow[] = {
    {"partition-add-memory", PEOPLE, verb_add_memory, args_memory,
     "gives a running partition more memory, until its next start"},
    {"partition-add-processors", PEOPLE, verb_add_processors, args_processors,
     "gives a running partition more processors, until its next start"},
    {NULL},
};
