/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The record in the console's database. The fallback where no disk is shared: slower, and the
 * console must be up during the switchover. One connection a call; a call that has no answer in
 * time may have happened.
 */
#include "host/arbiter.h"

#include "host/host.h"
#include "host/server.h"

#include <string.h>

typedef struct {
    LpmArbiter base;
    LpmHost *host;
    char *name, *address; /* of the console */
    uint16_t port;
} ConsoleArbiter;

typedef struct {
    ConsoleArbiter *arbiter; /* a reference */
    const char *verb;
    json_t *arguments;
    LpmRecord next; /* what is there if it was done */
    int64_t deadline_us;
    LpmArbiterReply reply;
    void *data;
    LpmRpcClient *client;
} Call;

static gboolean call_free(gpointer data)
{
    Call *call = data;
    lpm_rpc_client_free(call->client);
    json_decref(call->arguments);
    lpm_arbiter_unref(&call->arbiter->base);
    g_free(call);
    return G_SOURCE_REMOVE;
}

/* The connection is closed from the loop: it may be the one that calls us. */
static void call_end(Call *call, LpmArbiterResult result, const LpmRecord *now, const GError *error)
{
    call->reply(result, now, error, call->data);
    g_idle_add(call_free, call);
}

static void unknown(Call *call, const char *why)
{
    g_autoptr(GError) error = NULL;
    lpm_error_set(&error, LPM_ERROR_UNREACHABLE,
                  "console %s, which keeps the ownership record, does not answer: %s",
                  call->arbiter->base.where, why);
    call_end(call, LPM_ARBITER_UNKNOWN, NULL, error);
}

/* The record in an answer; revision 0 where there is none. */
static bool record_of(const json_t *answer, const Call *call, LpmRecord *ret)
{
    const char *text = lpm_json_str(answer, "record", NULL);
    if (!text) {
        *ret = (LpmRecord){.revision = 0};
        return true;
    }
    gsize size = 0;
    g_autofree guchar *bytes = g_base64_decode(text, &size);
    return size == LPM_RECORD_SIZE && lpm_record_decode(bytes, ret) == LPM_RECORD_OK &&
           memcmp(ret->partition, call->arbiter->base.partition, LPM_RECORD_ID_SIZE) == 0;
}

static void answered(json_t *result, const GError *error, void *data)
{
    Call *call = data;
    LpmRecord now;
    bool read = strcmp(call->verb, "record-read") == 0;
    bool done = read || lpm_json_bool(result, "done", false);
    if (error) {
        unknown(call, error->message);
    } else if (done && !read) {
        call_end(call, LPM_ARBITER_DONE, &call->next, NULL);
    } else if (record_of(result, call, &now)) {
        call_end(call, done ? LPM_ARBITER_DONE : LPM_ARBITER_LOST, &now, NULL);
    } else {
        unknown(call, "it sent no valid record");
    }
}

static unsigned left_ms(const Call *call)
{
    int64_t left = call->deadline_us - g_get_monotonic_time();
    return left > 1000 ? (unsigned)(left / 1000) : 1;
}

static void connected(LpmRpcClient *client, const GError *error, void *data)
{
    Call *call = data;
    call->client = client;
    if (error) {
        unknown(call, error->message);
        return;
    }
    lpm_rpc_call(client, call->verb, json_incref(call->arguments), left_ms(call), answered, call,
                 NULL);
}

static void call_start(LpmArbiter *arbiter, const char *verb, json_t *arguments,
                       const LpmRecord *next, unsigned deadline_ms, LpmArbiterReply reply,
                       void *data)
{
    Call *call = g_new0(Call, 1);
    char id[2 * LPM_RECORD_ID_SIZE + 1];
    call->arbiter = (ConsoleArbiter *)lpm_arbiter_ref(arbiter);
    call->verb = verb;
    call->arguments = arguments;
    call->next = *next;
    call->deadline_us = g_get_monotonic_time() + (int64_t)deadline_ms * 1000;
    call->reply = reply;
    call->data = data;
    lpm_record_id_to_text(arbiter->partition, id);
    g_autofree char *uuid =
        g_strdup_printf("%.8s-%.4s-%.4s-%.4s-%s", id, id + 8, id + 12, id + 16, id + 20);
    json_object_set_new(arguments, "partition", json_string(uuid));
    ConsoleArbiter *console = call->arbiter;
    lpm_rpc_connect_tls(console->address, console->port, console->host->credentials, console->name,
                        deadline_ms, NULL, NULL, NULL, connected, call);
}

static const LpmRecord nothing;

static void console_read(LpmArbiter *arbiter, unsigned deadline_ms, LpmArbiterReply reply,
                         void *data)
{
    call_start(arbiter, "record-read", json_object(), &nothing, deadline_ms, reply, data);
}

static void console_swap(LpmArbiter *arbiter, uint64_t expected, const LpmRecord *next,
                         unsigned deadline_ms, LpmArbiterReply reply, void *data)
{
    uint8_t bytes[LPM_RECORD_SIZE];
    lpm_record_encode(next, bytes);
    g_autofree char *text = g_base64_encode(bytes, sizeof bytes);
    json_t *arguments =
        lpm_json_pack("{s:I, s:s}", "expected", (json_int_t)expected, "record", text);
    call_start(arbiter, "record-cas", arguments, next, deadline_ms, reply, data);
}

static void console_remove(LpmArbiter *arbiter, uint64_t expected, unsigned deadline_ms,
                           LpmArbiterReply reply, void *data)
{
    json_t *arguments = lpm_json_pack("{s:I}", "expected", (json_int_t)expected);
    call_start(arbiter, "record-delete", arguments, &nothing, deadline_ms, reply, data);
}

static void console_free(LpmArbiter *arbiter)
{
    ConsoleArbiter *console = (ConsoleArbiter *)arbiter;
    g_free(console->name);
    g_free(console->address);
}

static const LpmArbiterOps console_ops = {
    .name = "console",
    .read = console_read,
    .swap = console_swap,
    .remove = console_remove,
    .free = console_free,
};

/* console.json is written by `lpm-host join`: {"name", "address", "port"}. */
LpmArbiter *lpm_arbiter_console_new(struct LpmHost *host,
                                    const uint8_t partition[LPM_RECORD_ID_SIZE], GError **error)
{
    g_autofree char *directory = lpm_server_tls_dir(host->config);
    g_autofree char *path = g_build_filename(directory, "console.json", NULL);
    g_autofree char *text = NULL;
    gsize size = 0;
    g_autoptr(json_t) console = NULL;
    if (host->credentials && g_file_get_contents(path, &text, &size, NULL)) {
        console = lpm_json_parse(text, size, NULL);
    }
    const char *name = lpm_json_str(console, "name", NULL);
    const char *address = lpm_json_str(console, "address", NULL);
    int64_t port = lpm_json_int(console, "port", 0);
    if (!name || !address || port < 1 || port > 65535) {
        lpm_error_set(
            error, LPM_ERROR_STATE,
            "the ownership record is to be kept by the console, but %s does not say where "
            "it is; join system %s to its console",
            path, lpm_host_name(host));
        return NULL;
    }
    ConsoleArbiter *arbiter = g_new0(ConsoleArbiter, 1);
    arbiter->base.ops = &console_ops;
    arbiter->base.refs = 1;
    memcpy(arbiter->base.partition, partition, LPM_RECORD_ID_SIZE);
    arbiter->base.where = g_strdup_printf("%s (%s port %d)", name, address, (int)port);
    arbiter->host = host;
    arbiter->name = g_strdup(name);
    arbiter->address = g_strdup(address);
    arbiter->port = (uint16_t)port;
    return &arbiter->base;
}
