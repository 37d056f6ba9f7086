/* SPDX-License-Identifier: Apache-2.0 */
#include "qmp/connection.h"

#include "rpc/connect.h"

#define RETRY_MS 20u /* how often a socket that is not there yet is looked for */

struct Attempt {
    GSource *deadline;
    GSource *retry;
    unsigned timeout_ms;
    GError *last;              /* why the newest try failed; NULL: it is connected */
    LpmQmpConnected connected; /* of lpm_qmp_connect(), or */
    LpmQmpDone reconnected;    /* of lpm_qmp_reconnect() */
    void *data;
};

/* --- life --- */

void lpm_qmp_ref(LpmQmp *qmp)
{
    qmp->refs++;
}

void lpm_qmp_unref(LpmQmp *qmp)
{
    if (--qmp->refs == 0) {
        g_free(qmp->package);
        g_free(qmp->path);
        g_free(qmp);
    }
}

static void drop_source(GSource **source)
{
    if (*source) {
        g_source_destroy(*source);
        g_clear_pointer(source, g_source_unref);
    }
}

static void attempt_free(Attempt *attempt)
{
    drop_source(&attempt->deadline);
    drop_source(&attempt->retry);
    g_clear_error(&attempt->last);
    g_free(attempt);
}

/* Ends the connection and all that was asked on it. */
static void drop(LpmQmp *qmp, const GError *error)
{
    LpmRpcClient *client = g_steal_pointer(&qmp->client);

    qmp->ready = false;
    lpm_rpc_client_free(client);
    lpm_qmp_fail_waiting(qmp, error);
}

void lpm_qmp_free(LpmQmp *qmp)
{
    g_autoptr(GError) error = NULL;
    Attempt *attempt;

    if (!qmp || qmp->freed) {
        return;
    }
    qmp->freed = true;
    lpm_error_set(&error, LPM_ERROR_ABORTED, "the connection to QEMU was closed on this side");
    drop(qmp, error);
    drop_source(&qmp->refusing);
    attempt = g_steal_pointer(&qmp->attempt);
    if (attempt) {
        if (attempt->reconnected) {
            attempt->reconnected(error, attempt->data);
        }
        attempt_free(attempt);
    }
    lpm_qmp_unref(qmp);
}

/* --- what comes --- */

void lpm_qmp_saw_migration(LpmQmp *qmp, const char *status)
{
    qmp->last_migration = lpm_qmp_mig_from_name(status);
}

static int64_t event_time(const json_t *message)
{
    int64_t seconds = lpm_json_int(message, "timestamp.seconds", -1);
    int64_t microseconds = lpm_json_int(message, "timestamp.microseconds", 0);

    /* QEMU gives -1 where its clock failed. */
    if (seconds < 0 || seconds > G_MAXINT64 / G_USEC_PER_SEC - 1) {
        return g_get_real_time();
    }
    return seconds * G_USEC_PER_SEC + CLAMP(microseconds, 0, G_USEC_PER_SEC - 1);
}

static void on_event(LpmQmp *qmp, const json_t *message)
{
    json_t *data = json_object_get(message, "data");
    g_autoptr(json_t) empty = json_object();
    LpmQmpEvent event = {.name = lpm_json_str(message, "event", ""),
                         .realtime_us = event_time(message),
                         .data = json_is_object(data) ? data : empty};

    if (g_strcmp0(event.name, "MIGRATION") == 0) {
        lpm_qmp_saw_migration(qmp, lpm_json_str(data, "status", ""));
    }
    if (qmp->ready && !qmp->freed && qmp->handlers.event) {
        qmp->handlers.event(&event, qmp->handlers.data);
    }
}

/* --- connecting --- */

static void attempt_fail(LpmQmp *qmp, const GError *error)
{
    Attempt *attempt = g_steal_pointer(&qmp->attempt);

    lpm_qmp_ref(qmp);
    qmp->doubtful = true;
    drop(qmp, error);
    if (attempt->connected) {
        attempt->connected(NULL, error, attempt->data);
        lpm_qmp_free(qmp);
    } else if (attempt->reconnected) {
        attempt->reconnected(error, attempt->data);
    }
    attempt_free(attempt);
    lpm_qmp_unref(qmp);
}

static void attempt_done(LpmQmp *qmp)
{
    Attempt *attempt = g_steal_pointer(&qmp->attempt);

    qmp->ready = true;
    qmp->doubtful = false;
    lpm_qmp_ref(qmp);
    if (attempt->connected) {
        attempt->connected(qmp, NULL, attempt->data);
    } else if (attempt->reconnected) {
        attempt->reconnected(NULL, attempt->data);
    }
    attempt_free(attempt);
    lpm_qmp_unref(qmp);
}

static void on_negotiated(G_GNUC_UNUSED json_t *result, const GError *error, void *data)
{
    LpmQmp *qmp = data;

    if (!qmp->attempt) {
        return; /* given up meanwhile */
    }
    if (error && error->code == LPM_ERROR_QEMU) {
        g_autoptr(GError) own = g_error_copy(error);

        g_prefix_error(&own, "QEMU at %s does not enable out-of-band commands: ", qmp->path);
        attempt_fail(qmp, own);
    } else if (error) {
        attempt_fail(qmp, error);
    } else {
        attempt_done(qmp);
    }
}

static bool offers_oob(const json_t *greeting)
{
    const json_t *capabilities = lpm_json_at(greeting, "capabilities");
    json_t *capability;
    size_t i;

    json_array_foreach (capabilities, i, capability) {
        if (g_strcmp0(json_string_value(capability), "oob") == 0) {
            return true;
        }
    }
    return false;
}

static void on_greeting(LpmQmp *qmp, const json_t *greeting)
{
    if (!qmp->attempt || qmp->package) {
        return; /* a second greeting means nothing */
    }
    qmp->version.major = (unsigned)lpm_json_int(greeting, "version.qemu.major", 0);
    qmp->version.minor = (unsigned)lpm_json_int(greeting, "version.qemu.minor", 0);
    qmp->version.micro = (unsigned)lpm_json_int(greeting, "version.qemu.micro", 0);
    qmp->package = g_strdup(lpm_json_str(greeting, "version.package", ""));
    qmp->version.package = qmp->package;
    if (!offers_oob(greeting)) {
        g_autoptr(GError) error = NULL;

        lpm_error_set(&error, LPM_ERROR_UNSUPPORTED,
                      "QEMU at %s offers no out-of-band commands: use a version that does",
                      qmp->path);
        attempt_fail(qmp, error);
        return;
    }
    lpm_rpc_call(qmp->client, "qmp_capabilities", lpm_json_pack("{s:[s]}", "enable", "oob"),
                 qmp->attempt->timeout_ms, on_negotiated, qmp, NULL);
}

static bool on_message(json_t *message, void *data)
{
    LpmQmp *qmp = data;
    const json_t *greeting = json_object_get(message, "QMP");

    lpm_qmp_ref(qmp);
    if (greeting) {
        on_greeting(qmp, greeting);
    } else if (json_is_string(json_object_get(message, "event"))) {
        on_event(qmp, message);
    }
    lpm_qmp_unref(qmp);
    return true;
}

static const LpmRpcDialect qemu_dialect = {LPM_ERROR_QEMU, on_message};

static void on_closed(const GError *error, void *data)
{
    LpmQmp *qmp = data;
    g_autoptr(GError) own = g_error_copy(error);

    g_prefix_error(&own, "QEMU at %s: ", qmp->path);
    if (qmp->attempt) {
        attempt_fail(qmp, own);
        return;
    }
    lpm_qmp_ref(qmp);
    drop(qmp, own);
    if (!qmp->freed && qmp->handlers.closed) {
        qmp->handlers.closed(own, qmp->handlers.data);
    }
    lpm_qmp_unref(qmp);
}

static gboolean try_connect(void *data)
{
    LpmQmp *qmp = data;
    Attempt *attempt = qmp->attempt;
    GIOStream *stream;

    g_clear_error(&attempt->last);
    stream = lpm_rpc_unix_stream(qmp->path, &attempt->last);
    if (!stream) {
        return G_SOURCE_CONTINUE;
    }
    g_clear_pointer(&qmp->package, g_free);
    qmp->client = lpm_rpc_client_new(stream, NULL, on_closed, qmp);
    lpm_rpc_client_set_dialect(qmp->client, &qemu_dialect);
    return G_SOURCE_REMOVE;
}

static gboolean on_deadline(void *data)
{
    LpmQmp *qmp = data;
    g_autoptr(GError) error = g_steal_pointer(&qmp->attempt->last);

    if (!error) {
        lpm_error_set(&error, LPM_ERROR_TIMEOUT,
                      "QEMU at %s accepted the connection and said nothing for %u ms: it is stuck, "
                      "or somebody else is connected",
                      qmp->path, qmp->attempt->timeout_ms);
    }
    attempt_fail(qmp, error);
    return G_SOURCE_REMOVE;
}

static GSource *attach_timer(unsigned interval_ms, GSourceFunc function, void *data)
{
    GSource *source = g_timeout_source_new(interval_ms);

    g_source_set_callback(source, function, data, NULL);
    g_source_attach(source, NULL);
    return source;
}

static Attempt *attempt_start(LpmQmp *qmp, unsigned timeout_ms)
{
    Attempt *attempt = g_new0(Attempt, 1);

    qmp->attempt = attempt;
    qmp->last_migration = LPM_QMP_MIG_UNKNOWN;
    attempt->timeout_ms = timeout_ms;
    attempt->deadline = attach_timer(timeout_ms, on_deadline, qmp);
    if (try_connect(qmp) == G_SOURCE_CONTINUE) {
        attempt->retry = attach_timer(RETRY_MS, try_connect, qmp);
    }
    return attempt;
}

void lpm_qmp_connect(const char *path, unsigned timeout_ms, const LpmQmpHandlers *handlers,
                     LpmQmpConnected done, void *done_data)
{
    LpmQmp *qmp = g_new0(LpmQmp, 1);
    Attempt *attempt;

    qmp->refs = 1;
    qmp->path = g_strdup(path);
    qmp->timeout_ms = LPM_QMP_TIMEOUT_MS;
    if (handlers) {
        qmp->handlers = *handlers;
    }
    g_queue_init(&qmp->waiting);
    g_queue_init(&qmp->refused);
    attempt = attempt_start(qmp, timeout_ms);
    attempt->connected = done;
    attempt->data = done_data;
}

static void on_reconnect_busy(G_GNUC_UNUSED json_t *result, const GError *error, void *data)
{
    lpm_qmp_done_reply(NULL, error, data);
}

void lpm_qmp_reconnect(LpmQmp *qmp, unsigned timeout_ms, LpmQmpDone done, void *data)
{
    g_autoptr(GError) error = NULL;
    Attempt *attempt;

    if (qmp->attempt || qmp->freed) {
        lpm_qmp_refuse(qmp,
                       g_error_new(LPM_ERROR, LPM_ERROR_BUSY,
                                   "QEMU at %s: a connection is being made already", qmp->path),
                       on_reconnect_busy, lpm_qmp_done_new(done, data));
        return;
    }
    lpm_error_set(&error, LPM_ERROR_ABORTED,
                  "QEMU at %s: the connection is made anew; what was asked may still happen",
                  qmp->path);
    /* Nothing may slip onto the new connection from inside the replies. */
    qmp->doubtful = true;
    lpm_qmp_ref(qmp);
    drop(qmp, error);
    if (!qmp->freed) {
        attempt = attempt_start(qmp, timeout_ms);
        attempt->reconnected = done;
        attempt->data = data;
    } else if (done) {
        done(error, data);
    }
    lpm_qmp_unref(qmp);
}

typedef struct {
    bool done;
    LpmQmp *qmp;
    GError *error;
} Waiting;

static void on_waited(LpmQmp *qmp, const GError *error, void *data)
{
    Waiting *waiting = data;

    waiting->done = true;
    waiting->qmp = qmp;
    waiting->error = error ? g_error_copy(error) : NULL;
}

LpmQmp *lpm_qmp_connect_sync(const char *path, unsigned timeout_ms, const LpmQmpHandlers *handlers,
                             GError **error)
{
    Waiting waiting = {0};

    lpm_qmp_connect(path, timeout_ms, handlers, on_waited, &waiting);
    while (!waiting.done) {
        g_main_context_iteration(NULL, TRUE);
    }
    if (waiting.error) {
        g_propagate_error(error, waiting.error);
    }
    return waiting.qmp;
}

/* --- asking about the connection --- */

bool lpm_qmp_is_open(const LpmQmp *qmp)
{
    return qmp->client && qmp->ready && lpm_rpc_client_is_open(qmp->client);
}

bool lpm_qmp_is_doubtful(const LpmQmp *qmp)
{
    return qmp->doubtful;
}

void lpm_qmp_set_timeout(LpmQmp *qmp, unsigned timeout_ms)
{
    qmp->timeout_ms = timeout_ms;
}

const LpmQmpVersion *lpm_qmp_version(const LpmQmp *qmp)
{
    return &qmp->version;
}

LpmQmpMigStatus lpm_qmp_last_migration(const LpmQmp *qmp)
{
    return qmp->last_migration;
}
