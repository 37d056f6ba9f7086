/* SPDX-License-Identifier: Apache-2.0 */
#include "host/pagestore.h"
#include "host/server.h"

#include <string.h>

LpmRpcVerb *lpm_verbs_all(const LpmMobilityHooks *hooks)
{
    const LpmRpcVerb *const tables[] = {
        lpm_verbs_system,   lpm_verbs_partition, lpm_verbs_profile,          lpm_verbs_grow,
        lpm_verbs_validate, lpm_verbs_store,     hooks ? hooks->verbs : NULL};
    g_autoptr(GArray) all = g_array_new(TRUE, TRUE, sizeof(LpmRpcVerb));

    for (size_t i = 0; i < G_N_ELEMENTS(tables); i++) {
        for (const LpmRpcVerb *verb = tables[i]; verb && verb->name; verb++) {
            g_array_append_vals(all, verb, 1);
        }
    }
    return (LpmRpcVerb *)g_array_steal(all, NULL);
}

LpmPartition *lpm_verb_partition(LpmRpcRequest *request, json_t *arguments, LpmHost *host)
{
    g_autoptr(GError) error = NULL;
    const char *name = NULL;
    LpmPartition *partition = NULL;

    if (lpm_json_need_str(arguments, "partition", &name, &error)) {
        partition = lpm_host_find(host, name, &error);
    }
    if (!partition) {
        lpm_rpc_request_fail(request, error);
    }
    return partition;
}
