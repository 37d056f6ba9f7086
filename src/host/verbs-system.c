/* SPDX-License-Identifier: Apache-2.0 */
/* The RPC verbs about the system. */
#include "host/emulator.h"
#include "host/facts.h"
#include "host/server.h"

typedef struct {
    LpmRpcRequest *request;
    LpmHost *host;
} Info;

static void on_info_ready(const GError *error G_GNUC_UNUSED, void *data)
{
    Info *info = data;

    lpm_rpc_request_return(info->request, lpm_facts_system(info->host));
    g_free(info);
}

static void verb_info(LpmRpcRequest *request, json_t *arguments G_GNUC_UNUSED, void *data)
{
    Info *info = g_new0(Info, 1);

    info->request = request;
    info->host = data;
    lpm_emulators_when_ready(data, on_info_ready, info);
}

static void verb_set(LpmRpcRequest *request, json_t *arguments, void *data)
{
    LpmHost *host = data;
    bool wanted = lpm_json_bool(arguments, "maintenance", host->maintenance);
    g_autoptr(json_t) kept = lpm_json_pack("{s:b}", "maintenance", wanted);
    g_autoptr(GError) error = NULL;

    if (!lpm_store_put(host->store, LPM_KIND_SYSTEM, "maintenance", kept, NULL, &error)) {
        lpm_rpc_request_fail(request, error);
        return;
    }
    host->maintenance = wanted;
    lpm_host_emit(host, "system", lpm_json_pack("{s:b}", "maintenance", wanted));
    lpm_rpc_request_return(request, NULL);
}

static void verb_reload(LpmRpcRequest *request, json_t *arguments G_GNUC_UNUSED, void *data)
{
    LpmHost *host = data;
    g_autoptr(GError) error = NULL;

    if (!lpm_server_reload(host, &error)) {
        lpm_rpc_request_fail(request, error);
        return;
    }
    lpm_rpc_request_return(request, lpm_json_pack("{s:s, s:i}", "name", lpm_host_name(host), "port",
                                                  (int)host->rpc_port));
}

static const LpmRpcArg args_set[] = {
    {"maintenance", 'b', true, "while it is set, no partition may come here"}, {NULL}};

const LpmRpcVerb lpm_verbs_system[] = {
    {"system-info", 1u << LPM_RPC_CONSOLE | 1u << LPM_RPC_LOCAL, verb_info, NULL,
     "facts about this system (facts.md)"},
    {"system-set", 1u << LPM_RPC_CONSOLE | 1u << LPM_RPC_LOCAL, verb_set, args_set,
     "puts the system into maintenance, or back"},
    {"reload", 1u << LPM_RPC_LOCAL, verb_reload, NULL,
     "reads key and certificates anew, after joining"},
    {NULL},
};
