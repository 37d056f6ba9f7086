/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/lines.h"
#include "rpc/message.h"
#include "rpc/rpc.h"

/* A deadline that is noticed so late says that the main loop stood still: the answer may be here.
 */
enum { LATE_MS = 250, GRACE_MS = 1000 };

typedef struct {
    LpmRpcClient *client;
    json_int_t id;
    char *verb;
    unsigned timeout_ms;
    gint64 due_us; /* monotonic; 0: it was given grace */
    GSource *timer;
    LpmRpcReply reply;
    void *data;
    GDestroyNotify data_free;
} Call;

struct LpmRpcClient {
    unsigned refs;      /* held by the owner and by each function of ours that calls back */
    LpmRpcLines *lines; /* NULL: closed */
    bool freed;
    GHashTable *calls; /* id -> Call */
    json_int_t last_id;
    LpmRpcEvent event;
    LpmRpcClosed closed;
    void *data;
    const LpmRpcDialect *dialect;
};

static void client_unref(LpmRpcClient *client)
{
    if (--client->refs == 0) {
        g_hash_table_unref(client->calls);
        g_free(client);
    }
}

/* Ends a call that is out of the table already. */
static void call_finish(Call *call, json_t *result, const GError *error)
{
    g_source_destroy(call->timer);
    g_source_unref(call->timer);
    if (call->reply) {
        call->reply(result, error, call->data);
    }
    if (call->data_free) {
        call->data_free(call->data);
    }
    g_free(call->verb);
    g_free(call);
}

static Call *call_steal(LpmRpcClient *client, json_int_t id)
{
    gint64 key = id;
    void *call = NULL;

    g_hash_table_steal_extended(client->calls, &key, NULL, &call);
    return call;
}

static void fail_all(LpmRpcClient *client, const GError *error)
{
    GHashTableIter iter;
    void *call;

    /* A reply may make calls; those end the same way. */
    while (g_hash_table_iter_init(&iter, client->calls),
           g_hash_table_iter_next(&iter, NULL, &call)) {
        g_hash_table_iter_steal(&iter);
        call_finish(call, NULL, error);
    }
}

static void client_closed(LpmRpcClient *client, const GError *error)
{
    g_clear_pointer(&client->lines, lpm_rpc_lines_free);
    client->refs++;
    fail_all(client, error);
    if (!client->freed && client->closed) {
        client->closed(error, client->data);
    }
    client_unref(client);
}

/* --- what comes --- */

static void on_answer(LpmRpcClient *client, json_t *message)
{
    const json_t *id = json_object_get(message, "id");
    const json_t *error = json_object_get(message, "error");
    json_t *result = json_object_get(message, "return");
    Call *call;

    if (error && !json_is_integer(id)) {
        g_autoptr(GError) fault = NULL;

        lpm_error_set(&fault, LPM_ERROR_PROTOCOL,
                      "the connection is closed: the other side could not read what we sent: %s",
                      lpm_json_str(error, "desc", "no reason was given"));
        client_closed(client, fault);
        return;
    }
    call = call_steal(client, json_integer_value(id));
    if (!call) {
        return; /* its time was over */
    }
    if (error) {
        int foreign = client->dialect ? (int)client->dialect->foreign : -1;
        g_autoptr(GError) failure = lpm_rpc_message_failure(error, foreign);

        call_finish(call, NULL, failure);
    } else {
        call_finish(call, result, NULL);
    }
}

static void on_message(LpmRpcClient *client, json_t *message)
{
    const char *event = json_string_value(json_object_get(message, "event"));
    json_t *data = json_object_get(message, "data");

    if (json_object_get(message, "return") || json_object_get(message, "error")) {
        on_answer(client, message);
    } else if (client->dialect && client->dialect->message &&
               client->dialect->message(message, client->data)) {
        return;
    } else if (event && client->event && !client->freed) {
        g_autoptr(json_t) empty = json_object();

        client->event(event, data ? data : empty, client->data);
    }
}

static void on_line(const char *text, size_t length, void *data)
{
    LpmRpcClient *client = data;
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) message = client->dialect
                                    ? lpm_rpc_message_parse_foreign(text, length, &error)
                                    : lpm_rpc_message_parse(text, length, &error);

    client->refs++;
    if (message) {
        on_message(client, message);
    } else {
        g_prefix_error(&error, "the connection is closed: ");
        client_closed(client, error);
    }
    client_unref(client);
}

static void on_closed(const GError *error, void *data)
{
    client_closed(data, error);
}

static const LpmRpcLinesHandlers line_handlers = {on_line, on_closed};

/* --- what goes --- */

static gboolean on_deadline(void *data);

static void arm(Call *call, unsigned ms)
{
    call->timer = g_timeout_source_new(ms);
    g_source_set_callback(call->timer, on_deadline, call, NULL);
}

/* Once: what has come meanwhile is read first. */
static bool gets_grace(Call *call)
{
    gint64 late_us = call->due_us ? g_get_monotonic_time() - call->due_us : 0;

    if (!call->client->lines || late_us < LATE_MS * 1000) {
        return false;
    }
    call->due_us = 0;
    g_source_unref(call->timer);
    arm(call, MIN(call->timeout_ms, GRACE_MS));
    g_source_attach(call->timer, NULL);
    return true;
}

static gboolean on_deadline(void *data)
{
    Call *call = data;
    LpmRpcClient *client = call->client;
    g_autoptr(GError) error = NULL;

    if (gets_grace(call)) {
        return G_SOURCE_REMOVE;
    }
    if (client->lines) {
        lpm_error_set(&error, LPM_ERROR_TIMEOUT, "%s: no answer within %u ms; it may still happen",
                      call->verb, call->timeout_ms);
    } else {
        lpm_error_set(&error, LPM_ERROR_UNREACHABLE, "%s: the connection is closed", call->verb);
    }
    client->refs++;
    call_finish(call_steal(client, call->id), NULL, error);
    client_unref(client);
    return G_SOURCE_REMOVE;
}

static void send_call(LpmRpcClient *client, const char *member, json_t *arguments, int fd,
                      Call *call)
{
    g_autoptr(json_t) message = NULL;

    call->client = client;
    call->id = ++client->last_id;
    message = lpm_rpc_message_call(member, call->verb, arguments, call->id);
    call->due_us = g_get_monotonic_time() + (gint64)call->timeout_ms * 1000;
    arm(call, client->lines ? call->timeout_ms : 0);
    if (client->freed) {
        g_autoptr(GError) error = NULL;

        lpm_error_set(&error, LPM_ERROR_ABORTED, "%s: the connection is being closed", call->verb);
        call_finish(call, NULL, error);
        return;
    }
    g_source_attach(call->timer, NULL);
    g_hash_table_insert(client->calls, &call->id, call);
    if (client->lines) {
        g_autofree char *text = lpm_json_text(message);

        lpm_rpc_lines_send(client->lines, text, strlen(text), fd);
    }
}

static Call *call_new(const char *verb, unsigned timeout_ms, LpmRpcReply reply, void *data,
                      GDestroyNotify data_free)
{
    Call *call = g_new0(Call, 1);

    call->verb = g_strdup(verb);
    call->timeout_ms = timeout_ms;
    call->reply = reply;
    call->data = data;
    call->data_free = data_free;
    return call;
}

void lpm_rpc_call(LpmRpcClient *client, const char *verb, json_t *arguments, unsigned timeout_ms,
                  LpmRpcReply reply, void *data, GDestroyNotify data_free)
{
    send_call(client, "execute", arguments, -1, call_new(verb, timeout_ms, reply, data, data_free));
}

void lpm_rpc_call_oob(LpmRpcClient *client, const char *verb, json_t *arguments,
                      unsigned timeout_ms, LpmRpcReply reply, void *data, GDestroyNotify data_free)
{
    send_call(client, "exec-oob", arguments, -1,
              call_new(verb, timeout_ms, reply, data, data_free));
}

void lpm_rpc_call_fd(LpmRpcClient *client, const char *verb, json_t *arguments, int fd,
                     unsigned timeout_ms, LpmRpcReply reply, void *data, GDestroyNotify data_free)
{
    send_call(client, "execute", arguments, fd, call_new(verb, timeout_ms, reply, data, data_free));
}

typedef struct {
    bool done;
    json_t *result;
    GError *error;
} Waiting;

static void on_waited(json_t *result, const GError *error, void *data)
{
    Waiting *waiting = data;

    waiting->done = true;
    waiting->result = json_incref(result);
    waiting->error = error ? g_error_copy(error) : NULL;
}

json_t *lpm_rpc_call_sync(LpmRpcClient *client, const char *verb, json_t *arguments,
                          unsigned timeout_ms, GError **error)
{
    Waiting waiting = {0};

    lpm_rpc_call(client, verb, arguments, timeout_ms, on_waited, &waiting, NULL);
    while (!waiting.done) {
        g_main_context_iteration(NULL, TRUE);
    }
    if (waiting.error) {
        g_propagate_error(error, waiting.error);
    }
    return waiting.result;
}

/* --- life --- */

LpmRpcClient *lpm_rpc_client_new(GIOStream *stream, LpmRpcEvent on_event,
                                 LpmRpcClosed on_client_closed, void *data)
{
    LpmRpcClient *client = g_new0(LpmRpcClient, 1);

    client->refs = 1;
    client->calls = g_hash_table_new(g_int64_hash, g_int64_equal);
    client->event = on_event;
    client->closed = on_client_closed;
    client->data = data;
    client->lines = lpm_rpc_lines_new(stream, LPM_RPC_LINE_MAX, &line_handlers, client);
    return client;
}

void lpm_rpc_client_set_dialect(LpmRpcClient *client, const LpmRpcDialect *dialect)
{
    client->dialect = dialect;
}

void lpm_rpc_client_free(LpmRpcClient *client)
{
    g_autoptr(GError) error = NULL;

    if (!client || client->freed) {
        return;
    }
    client->freed = true;
    g_clear_pointer(&client->lines, lpm_rpc_lines_free);
    lpm_error_set(&error, LPM_ERROR_ABORTED, "the connection was closed on this side");
    fail_all(client, error);
    client_unref(client);
}

bool lpm_rpc_client_is_open(const LpmRpcClient *client)
{
    return client->lines;
}
