/* SPDX-License-Identifier: Apache-2.0 */
#include "qga/channel.h"

#include "qga/text.h"

#include "rpc/connect.h"
#include "rpc/lines.h"
#include "rpc/message.h"

#include <string.h>

/* Lines that are skipped before the agent's sign of synchronising; old answers mostly. */
#define SKIP_MAX 64u
#define SENTINEL 0xff

typedef struct {
    char *command;
    json_t *arguments;
    unsigned timeout_ms;
    bool silent_ok;
    LpmQgaReply reply;
    void *data;
    GError *refusal;
} Request;

typedef enum { IDLE, SYNCING, WAITING } State;

struct LpmQga {
    unsigned refs; /* held by the owner and by each function of ours that calls back */
    bool freed;
    char *path;
    LpmRpcLines *lines; /* NULL: not connected */
    bool synced;
    State state;
    json_int_t sync_id;
    unsigned skipped;
    Request *running;
    GQueue waiting;    /* of Request */
    GSource *next;     /* an idle source that begins the next request */
    GSource *deadline; /* of the running request */
    GQueue refused;    /* of Request; @refusing calls back */
    GSource *refusing;
    GPtrArray *jobs; /* of LpmQgaJob, borrowed */
};

static void qga_unref(LpmQga *qga)
{
    if (--qga->refs == 0) {
        g_ptr_array_unref(qga->jobs);
        g_free(qga->path);
        g_free(qga);
    }
}

static void drop_source(GSource **source)
{
    if (*source) {
        g_source_destroy(*source);
        g_clear_pointer(source, g_source_unref);
    }
}

/* Whatever the guest still sends on the old connection is not listened to. */
static void disconnect(LpmQga *qga)
{
    g_clear_pointer(&qga->lines, lpm_rpc_lines_free);
    qga->synced = false;
    qga->state = IDLE;
}

/* --- ending a request --- */

static void request_end(Request *request, json_t *result, const GError *error)
{
    if (request->reply) {
        request->reply(result, error, request->data);
    }
    json_decref(request->arguments);
    g_clear_error(&request->refusal);
    g_free(request->command);
    g_free(request);
}

static void schedule(LpmQga *qga);

static void running_end(LpmQga *qga, json_t *result, const GError *error)
{
    Request *request = g_steal_pointer(&qga->running);

    drop_source(&qga->deadline);
    qga->state = IDLE;
    qga->refs++;
    request_end(request, result, error);
    schedule(qga);
    qga_unref(qga);
}

/* Ends the running request; the connection is not trusted any more. @code as in qga.h. */
static void running_fail(LpmQga *qga, LpmErrorCode code, const char *why)
{
    g_autoptr(GError) error = NULL;
    bool obeyed = qga->running->silent_ok && qga->state == WAITING && code != LPM_ERROR_PROTOCOL;

    disconnect(qga);
    if (obeyed) {
        g_autoptr(json_t) nothing = json_object();

        running_end(qga, nothing, NULL);
        return;
    }
    lpm_error_set(&error, code, "guest agent at %s: %s: %s", qga->path, qga->running->command, why);
    running_end(qga, NULL, error);
}

/* --- what comes --- */

static void send_command(LpmQga *qga);

/* The agent writes the sentinel byte, then its answer; whatever was in the channel before is cut
 * off by it. */
static void on_sync_line(LpmQga *qga, const char *text, size_t length)
{
    const char *sentinel = memrchr(text, SENTINEL, length);
    g_autoptr(json_t) answer = NULL;

    if (sentinel) {
        length -= (size_t)(sentinel + 1 - text);
        answer = lpm_rpc_message_parse(sentinel + 1, length, NULL);
    }
    if (answer && json_is_integer(json_object_get(answer, "return")) &&
        lpm_json_int(answer, "return", -1) == qga->sync_id) {
        qga->synced = true;
        send_command(qga);
    } else if (++qga->skipped > SKIP_MAX) {
        running_fail(qga, LPM_ERROR_PROTOCOL, "it does not answer the synchronising handshake");
    }
}

static void on_answer_line(LpmQga *qga, const char *text, size_t length)
{
    g_autoptr(json_t) answer = lpm_rpc_message_parse_foreign(text, length, NULL);
    json_t *result = json_object_get(answer, "return");
    const json_t *error = json_object_get(answer, "error");

    if (result) {
        running_end(qga, result, NULL);
    } else if (json_is_object(error)) {
        g_autoptr(GError) failure = lpm_rpc_message_failure(error, LPM_ERROR_STATE);
        g_autofree char *words = lpm_qga_clean(failure->message);
        g_autoptr(GError) own =
            g_error_new(LPM_ERROR, failure->code, "guest agent at %s: %s: it refused: \"%s\"",
                        qga->path, qga->running->command, words);

        running_end(qga, NULL, own);
    } else {
        running_fail(qga, LPM_ERROR_PROTOCOL, "its answer is none");
    }
}

static void on_line(const char *text, size_t length, void *data)
{
    LpmQga *qga = data;

    qga->refs++;
    switch (qga->state) {
    case IDLE:
        /* Nobody asked. A guest that just talks would keep us busy for ever. */
        disconnect(qga);
        break;
    case SYNCING:
        on_sync_line(qga, text, length);
        break;
    case WAITING:
        on_answer_line(qga, text, length);
        break;
    }
    qga_unref(qga);
}

static void on_closed(const GError *error, void *data)
{
    LpmQga *qga = data;

    qga->refs++;
    if (qga->running) {
        running_fail(qga, (LpmErrorCode)error->code, error->message);
    } else {
        disconnect(qga);
    }
    qga_unref(qga);
}

static const LpmRpcLinesHandlers line_handlers = {on_line, on_closed};

/* --- what goes --- */

static void send_text(LpmQga *qga, const json_t *message, bool sentinel)
{
    g_autofree char *text = lpm_json_text(message);
    g_autofree char *line = g_strdup_printf("%s%s", sentinel ? "\xff" : "", text);

    lpm_rpc_lines_send(qga->lines, line, strlen(line), -1);
}

static gboolean on_deadline(void *data)
{
    LpmQga *qga = data;

    qga->refs++;
    running_fail(qga, LPM_ERROR_TIMEOUT,
                 qga->state == SYNCING
                     ? "no agent answers; is qemu-guest-agent running in the partition?"
                     : "no answer in time; it may still happen");
    qga_unref(qga);
    return G_SOURCE_REMOVE;
}

static void arm_deadline(LpmQga *qga, unsigned timeout_ms)
{
    drop_source(&qga->deadline);
    qga->deadline = g_timeout_source_new(timeout_ms);
    g_source_set_callback(qga->deadline, on_deadline, qga, NULL);
    g_source_attach(qga->deadline, NULL);
}

static void send_command(LpmQga *qga)
{
    Request *request = qga->running;
    g_autoptr(json_t) message =
        lpm_json_pack("{s:s, s:O*}", "execute", request->command, "arguments", request->arguments);

    qga->state = WAITING;
    send_text(qga, message, false);
    if (request->silent_ok) {
        arm_deadline(qga, LPM_QGA_SILENCE_MS);
    }
}

static void send_sync(LpmQga *qga)
{
    g_autoptr(json_t) message = NULL;

    /* Unguessable, so that a guest cannot have put the answer into the channel before. */
    qga->sync_id = (json_int_t)g_random_int();
    message = lpm_json_pack("{s:s, s:{s:I}}", "execute", "guest-sync-delimited", "arguments", "id",
                            qga->sync_id);
    qga->state = SYNCING;
    qga->skipped = 0;
    send_text(qga, message, true);
}

static void begin(LpmQga *qga)
{
    g_autoptr(GError) error = NULL;
    GIOStream *stream;

    arm_deadline(qga, qga->running->timeout_ms);
    if (!qga->lines) {
        stream = lpm_rpc_unix_stream(qga->path, &error);
        if (!stream) {
            running_fail(qga, (LpmErrorCode)error->code, error->message);
            return;
        }
        qga->lines = lpm_rpc_lines_new(stream, LPM_QGA_LINE_MAX, &line_handlers, qga);
    }
    if (qga->synced) {
        send_command(qga);
    } else {
        send_sync(qga);
    }
}

static gboolean on_next(void *data)
{
    LpmQga *qga = data;

    drop_source(&qga->next);
    qga->running = g_queue_pop_head(&qga->waiting);
    begin(qga);
    return G_SOURCE_REMOVE;
}

/* Begins the next request soon, so that no function is called from inside a call. */
static void schedule(LpmQga *qga)
{
    if (qga->running || qga->next || qga->freed || g_queue_is_empty(&qga->waiting)) {
        return;
    }
    qga->next = g_idle_source_new();
    g_source_set_priority(qga->next, G_PRIORITY_DEFAULT);
    g_source_set_callback(qga->next, on_next, qga, NULL);
    g_source_attach(qga->next, NULL);
}

static gboolean on_refusing(void *data)
{
    LpmQga *qga = data;
    Request *request;

    drop_source(&qga->refusing);
    qga->refs++;
    for (unsigned n = qga->refused.length; n > 0 && (request = g_queue_pop_head(&qga->refused));
         n--) {
        request_end(request, NULL, request->refusal);
    }
    qga_unref(qga);
    return G_SOURCE_REMOVE;
}

static void refuse_later(LpmQga *qga, Request *request, GError *error)
{
    request->refusal = error;
    g_queue_push_tail(&qga->refused, request);
    if (!qga->refusing) {
        qga->refusing = g_idle_source_new();
        g_source_set_priority(qga->refusing, G_PRIORITY_DEFAULT);
        g_source_set_callback(qga->refusing, on_refusing, qga, NULL);
        g_source_attach(qga->refusing, NULL);
    }
}

void lpm_qga_refuse(LpmQga *qga, GError *error, LpmQgaReply reply, void *data)
{
    Request *request = g_new0(Request, 1);

    request->reply = reply;
    request->data = data;
    if (qga->freed) {
        request->refusal = error;
        request_end(request, NULL, error);
        return;
    }
    refuse_later(qga, request, error);
}

void lpm_qga_submit(LpmQga *qga, const char *command, json_t *arguments, unsigned timeout_ms,
                    bool silent_ok, LpmQgaReply reply, void *data)
{
    Request *request = g_new0(Request, 1);

    request->command = g_strdup(command);
    request->arguments = arguments;
    request->timeout_ms = timeout_ms;
    request->silent_ok = silent_ok;
    request->reply = reply;
    request->data = data;
    if (qga->freed) {
        g_autoptr(GError) error = NULL;

        lpm_error_set(&error, LPM_ERROR_ABORTED, "guest agent at %s: %s: it is being closed",
                      qga->path, command);
        request_end(request, NULL, error);
    } else if (qga->waiting.length >= LPM_QGA_QUEUE_MAX) {
        refuse_later(qga, request,
                     g_error_new(LPM_ERROR, LPM_ERROR_BUSY,
                                 "guest agent at %s: %s: %u calls wait already", qga->path, command,
                                 LPM_QGA_QUEUE_MAX));
    } else {
        g_queue_push_tail(&qga->waiting, request);
        schedule(qga);
    }
}

void lpm_qga_call(LpmQga *qga, const char *command, json_t *arguments, unsigned timeout_ms,
                  LpmQgaReply reply, void *data)
{
    lpm_qga_submit(qga, command, arguments, timeout_ms, false, reply, data);
}

/* --- life --- */

LpmQga *lpm_qga_new(const char *path)
{
    LpmQga *qga = g_new0(LpmQga, 1);

    qga->refs = 1;
    qga->path = g_strdup(path);
    qga->jobs = g_ptr_array_new();
    g_queue_init(&qga->waiting);
    g_queue_init(&qga->refused);
    return qga;
}

void lpm_qga_free(LpmQga *qga)
{
    g_autoptr(GError) error = NULL;
    Request *request;

    if (!qga || qga->freed) {
        return;
    }
    qga->freed = true;
    disconnect(qga);
    drop_source(&qga->next);
    drop_source(&qga->refusing);
    lpm_error_set(&error, LPM_ERROR_ABORTED, "guest agent at %s: closed on this side", qga->path);
    if (qga->running) {
        running_end(qga, NULL, error);
    }
    while ((request = g_queue_pop_head(&qga->waiting)) ||
           (request = g_queue_pop_head(&qga->refused))) {
        request_end(request, NULL, error);
    }
    while (qga->jobs->len > 0) {
        LpmQgaJob *job = g_ptr_array_steal_index_fast(qga->jobs, 0);

        job->abort(job, error);
    }
    qga_unref(qga);
}

void lpm_qga_job_add(LpmQga *qga, LpmQgaJob *job)
{
    g_ptr_array_add(qga->jobs, job);
}

void lpm_qga_job_remove(LpmQga *qga, LpmQgaJob *job)
{
    g_ptr_array_remove_fast(qga->jobs, job);
}
