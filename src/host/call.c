/* SPDX-License-Identifier: Apache-2.0 */
/* lpm-host call VERB [JSON]: one call on the local socket, for people and tests. */
#include "host/server.h"

#include <stdio.h>
#include <string.h>

#define CALL_TIMEOUT_MS 120000

int lpm_call_command(const LpmHostConfig *config, int argc, char **argv)
{
    g_autofree char *path = lpm_server_socket_path(config);
    g_autoptr(GError) error = NULL;
    g_autoptr(LpmRpcClient) client = NULL;
    g_autoptr(json_t) answer = NULL;
    json_t *arguments = NULL;
    g_autofree char *text = NULL;

    if (argc < 2 || argc > 3) {
        fprintf(
            stderr,
            "lpm-host call: VERB and, where it needs them, its arguments as one JSON object are "
            "needed; --print-verbs lists the verbs\n");
        return lpm_error_info(LPM_ERROR_USAGE)->exit;
    }
    if (argc == 3) {
        arguments = lpm_json_parse(argv[2], strlen(argv[2]), &error);
    }
    if (!error) {
        client = lpm_rpc_connect_unix(path, NULL, NULL, NULL, &error);
    }
    if (client) {
        answer = lpm_rpc_call_sync(client, argv[1], g_steal_pointer(&arguments), CALL_TIMEOUT_MS,
                                   &error);
    }
    json_decref(arguments);
    if (!answer) {
        fprintf(stderr, "lpm-host call: %s\n", error->message);
        return lpm_error_exit_code(error);
    }
    text = json_dumps(answer, JSON_INDENT(2) | JSON_ENCODE_ANY);
    puts(text);
    return 0;
}
