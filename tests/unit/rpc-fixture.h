/* SPDX-License-Identifier: Apache-2.0 */
/* A server with a few verbs on a Unix socket; for test-rpc and test-rpc-client. */
#pragma once

#include "rpc/rpc.h"

#include "fake.h"

typedef struct {
    char *directory;
    char *path;
    LpmRpcServer *server;
    GQueue held; /* of LpmRpcRequest, by verb "hold" */
} Fixture;

static inline void run_echo(LpmRpcRequest *request, json_t *arguments, G_GNUC_UNUSED void *data)
{
    lpm_rpc_request_return(request, json_incref(arguments));
}

static inline void run_fail(LpmRpcRequest *request, json_t *arguments, G_GNUC_UNUSED void *data)
{
    g_autoptr(GError) error = NULL;

    lpm_error_set(&error, lpm_error_from_name(lpm_json_str(arguments, "class", "")),
                  "partition \"p\xff\" is not there");
    lpm_rpc_request_fail(request, error);
}

static inline void run_hold(LpmRpcRequest *request, G_GNUC_UNUSED json_t *arguments, void *data)
{
    Fixture *fixture = data;

    g_queue_push_tail(&fixture->held, request);
}

static inline void run_whoami(LpmRpcRequest *request, G_GNUC_UNUSED json_t *arguments,
                              G_GNUC_UNUSED void *data)
{
    lpm_rpc_request_return(request,
                           lpm_json_pack("{s:i, s:s}", "role", lpm_rpc_request_role(request),
                                         "name", lpm_rpc_request_peer_name(request)));
}

#define ANYBODY (1u << LPM_RPC_LOCAL | 1u << LPM_RPC_CONSOLE)

static const LpmRpcArg echo_args[] = {
    {"text", 's', true, "what to say"},    {"count", 'i', false, "how often"},
    {"loud", 'b', false, "louder"},        {"more", 'o', false, "anything"},
    {"list", 'a', false, "anything else"}, {NULL},
};
static const LpmRpcArg fail_args[] = {{"class", 's', true, "of the error"}, {NULL}};

static const LpmRpcVerb verbs[] = {
    {"echo", ANYBODY, run_echo, echo_args, "Says it again."},
    {"fail", ANYBODY, run_fail, fail_args, "Fails."},
    {"hold", ANYBODY, run_hold, NULL, "Answers later."},
    {"whoami", ANYBODY, run_whoami, NULL, "Tells who asks."},
    {"secret", 1u << LPM_RPC_SYSTEM, run_echo, NULL, "Not for everybody."},
    {NULL},
};

static inline void setup(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    g_autoptr(GError) error = NULL;

    fixture->directory = g_dir_make_tmp("lpm-rpc-XXXXXX", &error);
    g_assert_no_error(error);
    fixture->path = g_build_filename(fixture->directory, "socket", NULL);
    g_queue_init(&fixture->held);
    fixture->server = lpm_rpc_server_new(verbs, fixture);
    g_assert_true(lpm_rpc_server_listen_unix(fixture->server, fixture->path, &error));
    g_assert_no_error(error);
}

static inline void teardown(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    LpmRpcRequest *request;

    while ((request = g_queue_pop_head(&fixture->held))) {
        lpm_rpc_request_return(request, NULL);
    }
    lpm_rpc_server_free(fixture->server);
    g_assert_false(g_file_test(fixture->path, G_FILE_TEST_EXISTS));
    g_rmdir(fixture->directory);
    g_free(fixture->path);
    g_free(fixture->directory);
}
