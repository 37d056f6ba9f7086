/* SPDX-License-Identifier: Apache-2.0 */
/* The queue of commands: at most one is unanswered. */
#include "qmp/connection.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

typedef struct LpmQmpCommand {
    LpmQmp *qmp;
    char *name;
    json_t *arguments;
    int fd; /* own copy; -1: none */
    LpmQmpReply reply;
    void *data;
    GError *refusal;
} Command;

static void command_end(Command *command, json_t *result, const GError *error)
{
    if (command->reply) {
        command->reply(result, error, command->data);
    }
    if (command->fd >= 0) {
        close(command->fd);
    }
    json_decref(command->arguments);
    g_clear_error(&command->refusal);
    g_free(command->name);
    g_free(command);
}

/* --- refusing --- */

static gboolean on_refusing(void *data)
{
    LpmQmp *qmp = data;
    Command *command;

    g_source_unref(g_steal_pointer(&qmp->refusing));
    lpm_qmp_ref(qmp);
    for (unsigned n = qmp->refused.length; n > 0 && (command = g_queue_pop_head(&qmp->refused));
         n--) {
        command_end(command, NULL, command->refusal);
    }
    lpm_qmp_unref(qmp);
    return G_SOURCE_REMOVE;
}

static void refuse_command(Command *command, GError *error)
{
    LpmQmp *qmp = command->qmp;

    command->refusal = error;
    g_queue_push_tail(&qmp->refused, command);
    if (!qmp->refusing) {
        qmp->refusing = g_idle_source_new();
        g_source_set_priority(qmp->refusing, G_PRIORITY_DEFAULT);
        g_source_set_callback(qmp->refusing, on_refusing, qmp, NULL);
        g_source_attach(qmp->refusing, NULL);
    }
}

void lpm_qmp_refuse(LpmQmp *qmp, GError *error, LpmQmpReply reply, void *data)
{
    Command *command = g_new0(Command, 1);

    command->qmp = qmp;
    command->fd = -1;
    command->reply = reply;
    command->data = data;
    if (qmp->freed) {
        command->refusal = error;
        command_end(command, NULL, error);
        return;
    }
    refuse_command(command, error);
}

void lpm_qmp_fail_waiting(LpmQmp *qmp, const GError *error)
{
    Command *command;

    while ((command = g_queue_pop_head(&qmp->waiting))) {
        command_end(command, NULL, error);
    }
    while (qmp->freed && (command = g_queue_pop_head(&qmp->refused))) {
        command_end(command, NULL, error);
    }
}

/* Why nothing can be sent now; NULL: it can. */
static GError *why_not(const LpmQmp *qmp, const char *command)
{
    if (qmp->freed) {
        return g_error_new(LPM_ERROR, LPM_ERROR_ABORTED,
                           "%s: the connection to QEMU is being closed", command);
    }
    if (qmp->doubtful) {
        return g_error_new(
            LPM_ERROR, LPM_ERROR_STATE,
            "%s was not sent to QEMU at %s: an earlier command is unanswered and may "
            "still run; connect again and read the state first",
            command, qmp->path);
    }
    if (!lpm_qmp_is_open(qmp)) {
        return g_error_new(LPM_ERROR, LPM_ERROR_UNREACHABLE,
                           "%s was not sent to QEMU at %s: there is no connection", command,
                           qmp->path);
    }
    return NULL;
}

/* --- sending --- */

static void pump(LpmQmp *qmp);

static void doubt(LpmQmp *qmp)
{
    GQueue unsent = qmp->waiting;
    Command *command;

    qmp->doubtful = true;
    g_queue_init(&qmp->waiting);
    while ((command = g_queue_pop_head(&unsent))) {
        refuse_command(command, why_not(qmp, command->name));
    }
}

static void on_answer(json_t *result, const GError *error, void *data)
{
    Command *command = data;
    LpmQmp *qmp = command->qmp;
    g_autoptr(GError) own = error ? g_error_copy(error) : NULL;

    lpm_qmp_ref(qmp);
    qmp->running = NULL;
    if (own && (own->code == LPM_ERROR_QEMU || own->code == LPM_ERROR_UNSUPPORTED)) {
        g_prefix_error(&own, "QEMU refused %s: ", command->name);
    } else if (own) {
        g_prefix_error(&own, "QEMU at %s: ", qmp->path);
    }
    if (own && own->code == LPM_ERROR_TIMEOUT) {
        doubt(qmp);
    }
    command_end(command, result, own);
    pump(qmp);
    lpm_qmp_unref(qmp);
}

static void pump(LpmQmp *qmp)
{
    Command *command;

    if (qmp->running || !lpm_qmp_is_open(qmp)) {
        return;
    }
    command = g_queue_pop_head(&qmp->waiting);
    if (!command) {
        return;
    }
    qmp->running = command;
    lpm_rpc_call_fd(qmp->client, command->name, g_steal_pointer(&command->arguments), command->fd,
                    qmp->timeout_ms, on_answer, command, NULL);
}

void lpm_qmp_submit(LpmQmp *qmp, const char *name, json_t *arguments, int fd, bool next,
                    LpmQmpReply reply, void *data)
{
    Command *command = g_new0(Command, 1);
    GError *error = why_not(qmp, name);

    command->qmp = qmp;
    command->name = g_strdup(name);
    command->arguments = arguments;
    command->fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
    command->reply = reply;
    command->data = data;
    if (error && qmp->freed) {
        command->refusal = error;
        command_end(command, NULL, error);
    } else if (error) {
        refuse_command(command, error);
    } else if (next) {
        g_queue_push_head(&qmp->waiting, command);
        pump(qmp);
    } else {
        g_queue_push_tail(&qmp->waiting, command);
        pump(qmp);
    }
}

/* --- for callers --- */

void lpm_qmp_call(LpmQmp *qmp, const char *command, json_t *arguments, LpmQmpReply reply,
                  void *data)
{
    if (strcmp(command, "cont") == 0 || strcmp(command, "migrate_cancel") == 0) {
        json_decref(arguments);
        lpm_qmp_refuse(qmp,
                       g_error_new(LPM_ERROR, LPM_ERROR_USAGE,
                                   "%s is sent only by the function that reads QEMU's state first",
                                   command),
                       reply, data);
        return;
    }
    lpm_qmp_submit(qmp, command, arguments, -1, false, reply, data);
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

json_t *lpm_qmp_call_sync(LpmQmp *qmp, const char *command, json_t *arguments, GError **error)
{
    Waiting waiting = {0};

    lpm_qmp_call(qmp, command, arguments, on_waited, &waiting);
    while (!waiting.done) {
        g_main_context_iteration(NULL, TRUE);
    }
    if (waiting.error) {
        g_propagate_error(error, waiting.error);
    }
    return waiting.result;
}

typedef struct {
    LpmQmpDone done;
    void *data;
} Done;

void *lpm_qmp_done_new(LpmQmpDone done, void *data)
{
    Done *waiting = g_new0(Done, 1);

    waiting->done = done;
    waiting->data = data;
    return waiting;
}

void lpm_qmp_done_reply(G_GNUC_UNUSED json_t *result, const GError *error, void *data)
{
    g_autofree Done *waiting = data;

    if (waiting->done) {
        waiting->done(error, waiting->data);
    }
}
