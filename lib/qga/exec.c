/* SPDX-License-Identifier: Apache-2.0 */
/* guest-exec: begin a program in the guest, then ask until it has ended. */
#include "qga/channel.h"

#include <string.h>

#define POLL_FIRST_MS 10u    /* most programs end at once, and a move may wait for it; */
#define POLL_MS       100u   /* growing, for those that do not */
#define BEGIN_MS      15000u /* an agent that does not even begin it */
#define ANSWER_MS     5000u  /* others wait behind a question: it is asked again after so long */

typedef struct {
    LpmQgaJob job; /* first: a job is an Exec */
    LpmQga *qga;
    char *path;
    json_int_t pid;
    gint64 deadline_us; /* monotonic */
    unsigned timeout_ms, poll_ms;
    GSource *poll;
    LpmQgaExecReply reply;
    void *data;
} Exec;

static void exec_free(Exec *exec)
{
    if (exec->poll) {
        g_source_destroy(exec->poll);
        g_source_unref(exec->poll);
    }
    g_free(exec->path);
    g_free(exec);
}

static void exec_end(Exec *exec, const LpmQgaExec *result, const GError *error)
{
    lpm_qga_job_remove(exec->qga, &exec->job);
    exec->reply(result, error, exec->data);
    exec_free(exec);
}

/* Only between two calls; during one its own reply, failed by then, has ended the job. */
static void on_abort(LpmQgaJob *job, const GError *error)
{
    Exec *exec = (Exec *)job;

    exec->reply(NULL, error, exec->data);
    exec_free(exec);
}

/* Milliseconds that are left, 0: none. */
static unsigned left_ms(const Exec *exec)
{
    gint64 left = (exec->deadline_us - g_get_monotonic_time()) / 1000;

    return left > 0 ? (unsigned)left : 0;
}

static void exec_fail(Exec *exec, LpmErrorCode code, const char *why)
{
    g_autoptr(GError) error = NULL;

    lpm_error_set(&error, code, "%s in the guest: %s", exec->path, why);
    exec_end(exec, NULL, error);
}

/* --- its end --- */

/* Decoded and cut; never NULL. */
static GBytes *output_of(const json_t *result, const char *member, bool *truncated)
{
    gsize length = 0;
    const char *text = lpm_json_str(result, member, "");
    g_autofree guchar *bytes = g_base64_decode(text, &length);

    if (length > LPM_QGA_OUTPUT_MAX) {
        length = LPM_QGA_OUTPUT_MAX;
        *truncated = true;
    }
    return g_bytes_new(bytes, length);
}

static void report(Exec *exec, const json_t *status)
{
    bool truncated = lpm_json_bool(status, "out-truncated", false) ||
                     lpm_json_bool(status, "err-truncated", false);
    g_autoptr(GBytes) out = output_of(status, "out-data", &truncated);
    g_autoptr(GBytes) err = output_of(status, "err-data", &truncated);
    int64_t signal = lpm_json_int(status, "signal", 0);
    int64_t code = lpm_json_int(status, "exitcode", -1);
    LpmQgaExec result = {.status = signal ? -1 : (int)CLAMP(code, -1, G_MAXINT),
                         .signal = (int)CLAMP(signal, 0, G_MAXINT),
                         .out = out,
                         .err = err,
                         .truncated = truncated};

    exec_end(exec, &result, NULL);
}

static void poll_later(Exec *exec);

static void on_status(json_t *result, const GError *error, void *data)
{
    Exec *exec = data;
    json_t *exited = json_object_get(result, "exited");

    if (g_error_matches(error, LPM_ERROR, LPM_ERROR_TIMEOUT) && left_ms(exec) > 0) {
        poll_later(exec);
    } else if (error) {
        exec_end(exec, NULL, error);
    } else if (!json_is_boolean(exited)) {
        exec_fail(exec, LPM_ERROR_PROTOCOL, "the agent does not say whether it has ended");
    } else if (json_is_true(exited)) {
        report(exec, result);
    } else {
        poll_later(exec);
    }
}

static gboolean on_poll(void *data)
{
    Exec *exec = data;
    unsigned left = left_ms(exec);

    g_source_unref(g_steal_pointer(&exec->poll));
    if (left == 0) {
        g_autofree char *why =
            g_strdup_printf("it has not ended within %u ms; it may go on", exec->timeout_ms);

        exec_fail(exec, LPM_ERROR_TIMEOUT, why);
        return G_SOURCE_REMOVE;
    }
    lpm_qga_submit(exec->qga, "guest-exec-status", lpm_json_pack("{s:I}", "pid", exec->pid),
                   MIN(left, ANSWER_MS), false, on_status, exec);
    return G_SOURCE_REMOVE;
}

static void poll_later(Exec *exec)
{
    exec->poll = g_timeout_source_new(MIN(exec->poll_ms, left_ms(exec)));
    exec->poll_ms = MIN(exec->poll_ms * 3 / 2, POLL_MS);
    g_source_set_callback(exec->poll, on_poll, exec, NULL);
    g_source_attach(exec->poll, NULL);
}

/* --- its beginning --- */

static void on_begun(json_t *result, const GError *error, void *data)
{
    Exec *exec = data;
    const json_t *pid = json_object_get(result, "pid");

    if (error) {
        exec_end(exec, NULL, error);
    } else if (!json_is_integer(pid)) {
        exec_fail(exec, LPM_ERROR_PROTOCOL, "the agent does not say which process it began");
    } else {
        exec->pid = json_integer_value(pid);
        poll_later(exec);
    }
}

/* NULL when one of @texts is not UTF-8, which JSON cannot carry. */
static json_t *strings(const char *const *texts)
{
    json_t *array = json_array();

    for (; texts && *texts; texts++) {
        if (json_array_append_new(array, json_string(*texts)) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static json_t *exec_arguments(const char *const *argv, const char *const *environment,
                              const char *input)
{
    g_autofree char *encoded = input ? g_base64_encode((const guchar *)input, strlen(input)) : NULL;
    g_autoptr(json_t) words = strings(argv);
    g_autoptr(json_t) variables = strings(environment);
    json_t *path;

    if (!words || !variables) {
        return NULL;
    }
    path = json_incref(json_array_get(words, 0));
    json_array_remove(words, 0);
    return lpm_json_pack("{s:o, s:O, s:O, s:b, s:s*}", "path", path, "arg", words, "env", variables,
                         "capture-output", true, "input-data", encoded);
}

void lpm_qga_exec(LpmQga *qga, const char *const *argv, const char *const *environment,
                  const char *input, unsigned timeout_ms, LpmQgaExecReply reply, void *data)
{
    Exec *exec = g_new0(Exec, 1);
    json_t *arguments = exec_arguments(argv, environment, input);

    exec->job.abort = on_abort;
    exec->qga = qga;
    exec->path = g_utf8_make_valid(argv[0], -1);
    exec->timeout_ms = timeout_ms;
    exec->poll_ms = POLL_FIRST_MS;
    exec->deadline_us = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    exec->reply = reply;
    exec->data = data;
    lpm_qga_job_add(qga, &exec->job);
    if (!arguments) {
        lpm_qga_refuse(qga,
                       g_error_new(LPM_ERROR, LPM_ERROR_USAGE,
                                   "%s in the guest: an argument or variable is not UTF-8",
                                   exec->path),
                       on_begun, exec);
        return;
    }
    lpm_qga_submit(qga, "guest-exec", arguments, MIN(timeout_ms, BEGIN_MS), false, on_begun, exec);
}
