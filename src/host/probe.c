/* SPDX-License-Identifier: Apache-2.0 */
/* The link between two systems, measured by two movers in probe mode: what a move would use,
 * without a partition. */
#include "host/migration.h"

#include "bytes/bytes.h"
#include "host/dial.h"

/* A validation waits for the probe: a way that takes longer to open is as good as closed. */
enum { LIFE_MS = 10 * 1000, DIAL_MS = 1500, CONNECT_MS = 5000, BYTES_MAX = 1 << 30 };

typedef struct {
    LpmHost *host;
    LpmMover *mover;
    LpmRpcRequest *request; /* NULL once answered */
    guint timer;
    LpmListeners listeners; /* until the mover is ready */
    /* probe-run */
    char *peer, *key;
    uint8_t id[LPM_RECORD_ID_SIZE];
    uint64_t bytes;
} Probe;

static void probe_free(Probe *probe)
{
    g_clear_handle_id(&probe->timer, g_source_remove);
    lpm_listeners_close(&probe->listeners);
    g_free(probe->peer);
    g_free(probe->key);
    g_free(probe);
}

static void answer(Probe *probe, json_t *result, const GError *error)
{
    LpmRpcRequest *request = g_steal_pointer(&probe->request);
    if (request && error) {
        lpm_rpc_request_fail(request, error);
    } else if (request) {
        lpm_rpc_request_return(request, result);
    }
}

/* Lets the mover go, in good order or not, and ends the probe. */
static void probe_end(Probe *probe, bool good)
{
    if (good) {
        lpm_mover_finish(probe->mover);
    } else {
        lpm_mover_kill(probe->mover);
    }
    probe_free(probe);
}

static Probe *probe_new(LpmHost *host, LpmRpcRequest *request, const json_t *arguments,
                        GError **error)
{
    const char *id = lpm_json_str(arguments, "probe", "");
    uint8_t bytes[LPM_RECORD_ID_SIZE];
    if (!lpm_record_id_from_text(id, bytes)) {
        lpm_error_set(error, LPM_ERROR_USAGE, "probe: \"%s\" is not 32 hexadecimal digits", id);
        return NULL;
    }
    Probe *probe = g_new0(Probe, 1);
    probe->host = host;
    probe->request = request;
    probe->peer = g_strdup(lpm_json_str(arguments, "peer", ""));
    probe->key = g_strdup(lpm_json_str(arguments, "key", ""));
    memcpy(probe->id, bytes, sizeof bytes);
    return probe;
}

static void refuse(Probe *probe, LpmRpcRequest *request, const GError *error)
{
    if (probe) {
        answer(probe, NULL, error);
        probe_end(probe, false);
    } else {
        lpm_rpc_request_fail(request, error);
    }
}

/* --- target --- */

static void listen_event(uint32_t type, const LpmStreamMessage *message, void *data)
{
    Probe *probe = data;
    (void)message;
    if (type == LPM_STREAM_READY) {
        answer(probe,
               lpm_json_pack("{s:O, s:i}", "addresses", probe->listeners.addresses, "port",
                             probe->listeners.port),
               NULL);
        lpm_listeners_close(&probe->listeners);
    } else if (type == LPM_STREAM_PEER_CLOSED) {
        probe_end(probe, true);
    }
}

static void listen_gone(const GError *error, void *data)
{
    Probe *probe = data;
    answer(probe, NULL, error);
    probe_end(probe, false);
}

static gboolean listen_over(gpointer data)
{
    Probe *probe = data;
    g_autoptr(GError) error = NULL;
    probe->timer = 0;
    lpm_error_set(&error, LPM_ERROR_TIMEOUT, "the mover was not ready in time");
    answer(probe, NULL, error);
    probe_end(probe, false);
    return G_SOURCE_REMOVE;
}

void lpm_probe_listen(LpmRpcRequest *request, json_t *arguments, void *server_data)
{
    g_autoptr(GError) error = NULL;
    Probe *probe = probe_new(server_data, request, arguments, &error);
    LpmMoverSpec spec;
    if (!probe ||
        !lpm_mobility_mover_spec(probe->host, probe->peer, probe->key, probe->id, &spec, &error)) {
        refuse(probe, request, error);
        return;
    }
    bool listens = lpm_mobility_listen(probe->host, &probe->listeners, &error);
    LpmMoverHandlers handlers = {listen_event, listen_gone, probe};
    spec.config.side = LPM_STREAM_SIDE_DST;
    spec.config.mode = LPM_STREAM_MODE_PROBE;
    spec.nets = probe->listeners.fds;
    spec.n_nets = probe->listeners.n;
    probe->mover = listens ? lpm_mover_start(&spec, &handlers, &error) : NULL;
    if (!probe->mover) {
        refuse(probe, request, error);
        return;
    }
    probe->timer = g_timeout_add(LIFE_MS, listen_over, probe);
}

/* --- source --- */

/* A link that does not work is an answer, not a failure of the verb. */
static void run_failed(Probe *probe, const GError *error)
{
    answer(probe,
           lpm_json_pack("{s:b, s:n, s:n, s:s}", "connected", 0, "round_trip_us",
                         "bytes_per_second", "error", error->message),
           NULL);
    probe_end(probe, false);
}

static void run_event(uint32_t type, const LpmStreamMessage *message, void *data)
{
    Probe *probe = data;
    if (type == LPM_STREAM_PROBED) {
        answer(probe,
               lpm_json_pack("{s:b, s:i, s:I, s:s}", "connected", 1, "round_trip_us",
                             (int)message->probed.rtt_us, "bytes_per_second",
                             (json_int_t)message->probed.rate, "error", ""),
               NULL);
        probe_end(probe, true);
    }
}

static void run_gone(const GError *error, void *data)
{
    run_failed(data, error);
}

static gboolean run_over(gpointer data)
{
    Probe *probe = data;
    g_autoptr(GError) error = NULL;
    probe->timer = 0;
    lpm_error_set(&error, LPM_ERROR_TIMEOUT, "the probe took longer than %d ms", LIFE_MS);
    run_failed(probe, error);
    return G_SOURCE_REMOVE;
}

static void run_connected(int fd, const GError *error, void *data)
{
    Probe *probe = data;
    LPM_AUTO_FD int net = fd;
    g_autoptr(GError) failure = NULL;
    LpmMoverHandlers handlers = {run_event, run_gone, probe};
    LpmMoverSpec spec;
    if (!error &&
        lpm_mobility_mover_spec(probe->host, probe->peer, probe->key, probe->id, &spec, &failure)) {
        spec.config.side = LPM_STREAM_SIDE_SRC;
        spec.config.mode = LPM_STREAM_MODE_PROBE;
        spec.config.probe_bytes = probe->bytes;
        spec.config.connect_ms = CONNECT_MS;
        spec.nets = &net;
        spec.n_nets = 1;
        probe->mover = lpm_mover_start(&spec, &handlers, &failure);
    }
    if (probe->mover) {
        probe->timer = g_timeout_add(LIFE_MS, run_over, probe);
    } else {
        run_failed(probe, error ? error : failure);
    }
}

void lpm_probe_run(LpmRpcRequest *request, json_t *arguments, void *server_data)
{
    g_autoptr(GError) error = NULL;
    int64_t port = lpm_json_int(arguments, "port", 0);
    int64_t bytes = lpm_json_int(arguments, "bytes", 0);
    if (port < 1 || port > 65535 || bytes < 0 || bytes > BYTES_MAX) {
        lpm_error_set(&error, LPM_ERROR_USAGE, "port or bytes: out of range");
        lpm_rpc_request_fail(request, error);
        return;
    }
    Probe *probe = probe_new(server_data, request, arguments, &error);
    if (!probe) {
        lpm_rpc_request_fail(request, error);
        return;
    }
    probe->bytes = (uint64_t)bytes;
    lpm_dial_new(lpm_json_at(arguments, "addresses"), (uint16_t)port, DIAL_MS, 0, run_connected,
                 probe);
}
