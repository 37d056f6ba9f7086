/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/peer.h"

#include "rpc/message.h"
#include "rpc/verbs.h"

#include <string.h>

struct LpmRpcRequest {
    LpmRpcPeer *peer;
    json_t *id; /* NULL: none was given */
};

static void send_message(LpmRpcPeer *peer, const json_t *message)
{
    if (peer->lines) {
        g_autofree char *text = lpm_json_text(message);

        lpm_rpc_lines_send(peer->lines, text, strlen(text), -1);
    }
}

/* --- requests --- */

static void request_end(LpmRpcRequest *request, json_t *message)
{
    LpmRpcPeer *peer = request->peer;

    send_message(peer, message);
    json_decref(message);
    peer->running--;
    if (peer->role == LPM_RPC_ANONYMOUS && peer->running == 0 && peer->lines) {
        lpm_rpc_peer_set_deadline(peer, LPM_RPC_ANONYMOUS_MS);
    }
    lpm_rpc_peer_unref(peer);
    json_decref(request->id);
    g_free(request);
}

void lpm_rpc_request_return(LpmRpcRequest *request, json_t *result)
{
    request_end(request, lpm_rpc_message_return(result, request->id));
}

void lpm_rpc_request_fail(LpmRpcRequest *request, const GError *error)
{
    request_end(request, lpm_rpc_message_error(error, request->id));
}

LpmRpcRole lpm_rpc_request_role(const LpmRpcRequest *request)
{
    return request->peer->role;
}

const char *lpm_rpc_request_peer_name(const LpmRpcRequest *request)
{
    return request->peer->name;
}

/* --- built-in verbs --- */

#define IDENTIFIED (1u << LPM_RPC_LOCAL | 1u << LPM_RPC_CONSOLE | 1u << LPM_RPC_SYSTEM)

static void run_query_verbs(LpmRpcRequest *request, json_t *arguments, void *data);

static void run_subscribe(LpmRpcRequest *request, json_t *arguments, G_GNUC_UNUSED void *data)
{
    json_t *events = json_object_get(arguments, "events");
    json_t *event;
    size_t i;

    json_array_foreach (events, i, event) {
        if (!json_is_string(event)) {
            g_autoptr(GError) error = NULL;

            lpm_error_set(&error, LPM_ERROR_USAGE,
                          "subscribe: argument \"events\" is not a list of names of events");
            lpm_rpc_request_fail(request, error);
            return;
        }
    }
    request->peer->subscribed = true;
    json_decref(request->peer->events);
    request->peer->events = json_incref(events);
    lpm_rpc_request_return(request, NULL);
}

static const LpmRpcArg subscribe_args[] = {
    {"events", 'a', false, "names of the wanted events; without it, all"},
    {NULL},
};

static const LpmRpcVerb builtin_verbs[] = {
    {"query-verbs", IDENTIFIED, run_query_verbs, NULL, "Lists the verbs that the asker may call."},
    {"subscribe", IDENTIFIED, run_subscribe, subscribe_args,
     "Sends events on this connection from now on; asking again changes which."},
    {NULL},
};

static void run_query_verbs(LpmRpcRequest *request, G_GNUC_UNUSED json_t *arguments,
                            G_GNUC_UNUSED void *data)
{
    LpmRpcPeer *peer = request->peer;
    json_t *rows = json_array();

    lpm_rpc_verbs_describe(builtin_verbs, peer->role, rows);
    lpm_rpc_verbs_describe(peer->server->verbs, peer->role, rows);
    lpm_rpc_request_return(request, rows);
}

/* --- dispatch --- */

static const LpmRpcVerb *choose_verb(LpmRpcPeer *peer, const LpmRpcCallParts *parts, GError **error)
{
    const LpmRpcVerb *verb = lpm_rpc_verb_find(builtin_verbs, parts->verb);

    if (!verb) {
        verb = lpm_rpc_verb_find(peer->server->verbs, parts->verb);
    }
    if (!verb) {
        lpm_error_set(error, LPM_ERROR_USAGE,
                      "there is no verb \"%s\"; query-verbs lists those that there are",
                      parts->verb);
        return NULL;
    }
    if (!(verb->roles & 1u << peer->role)) {
        lpm_error_set(error, LPM_ERROR_DENIED, "%s: \"%s\" may not call this verb", verb->name,
                      peer->name);
        return NULL;
    }
    if (peer->running >= LPM_RPC_REQUESTS_MAX) {
        lpm_error_set(error, LPM_ERROR_BUSY,
                      "%s: %u requests of this connection are unanswered; wait for answers",
                      verb->name, peer->running);
        return NULL;
    }
    return lpm_rpc_verb_check(verb, parts->arguments, error) ? verb : NULL;
}

static void refuse(LpmRpcPeer *peer, const GError *error, json_t *id)
{
    g_autoptr(json_t) answer = lpm_rpc_message_error(error, id);

    send_message(peer, answer);
}

static void run_verb(LpmRpcPeer *peer, const LpmRpcVerb *verb, const LpmRpcCallParts *parts)
{
    LpmRpcRequest *request = g_new0(LpmRpcRequest, 1);
    g_autoptr(json_t) arguments = parts->arguments ? json_incref(parts->arguments) : json_object();

    request->peer = lpm_rpc_peer_ref(peer);
    request->id = json_incref(parts->id);
    peer->running++;
    if (peer->role == LPM_RPC_ANONYMOUS) {
        lpm_rpc_peer_set_deadline(peer, 0);
    }
    verb->run(request, arguments, peer->server->data);
}

static void on_line(const char *text, size_t length, void *data)
{
    LpmRpcPeer *peer = lpm_rpc_peer_ref(data);
    LpmRpcCallParts parts = {0};
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) message = lpm_rpc_message_parse(text, length, &error);
    const LpmRpcVerb *verb = NULL;

    if (message && lpm_rpc_message_request(message, &parts, &error)) {
        verb = choose_verb(peer, &parts, &error);
    }
    if (verb) {
        run_verb(peer, verb, &parts);
    } else {
        refuse(peer, error, parts.id);
    }
    lpm_rpc_peer_unref(peer);
}

static void on_closed(G_GNUC_UNUSED const GError *error, void *data)
{
    lpm_rpc_peer_close(data);
}

static const LpmRpcLinesHandlers line_handlers = {on_line, on_closed};

/* --- events --- */

static bool wants(const LpmRpcPeer *peer, const char *event)
{
    json_t *name;
    size_t i;

    if (!peer->subscribed || !peer->events) {
        return peer->subscribed;
    }
    json_array_foreach (peer->events, i, name) {
        if (strcmp(json_string_value(name), event) == 0) {
            return true;
        }
    }
    return false;
}

void lpm_rpc_server_emit(LpmRpcServer *server, const char *event, json_t *data)
{
    g_autoptr(json_t) message = lpm_rpc_message_event(event, data, g_get_real_time());
    g_autofree char *text = lpm_json_text(message);

    for (GList *item = server->peers.head; item; item = item->next) {
        LpmRpcPeer *peer = item->data;

        if (peer->lines && wants(peer, event)) {
            lpm_rpc_lines_send(peer->lines, text, strlen(text), -1);
        }
    }
}

/* --- life --- */

bool lpm_rpc_peer_make_room(LpmRpcServer *server, bool shaking)
{
    unsigned most = shaking ? LPM_RPC_HANDSHAKES_MAX : LPM_RPC_STRANGERS_MAX, there = 0;
    LpmRpcPeer *oldest = NULL;

    for (GList *item = server->peers.head; item; item = item->next) {
        LpmRpcPeer *peer = item->data;

        if (peer->role == LPM_RPC_ANONYMOUS && (peer->shaking || !shaking)) {
            there++;
            oldest = oldest || peer->running > 0 ? oldest : peer;
        }
    }
    if (there >= most && oldest) {
        lpm_rpc_peer_close(oldest);
    }
    return there < most || oldest;
}

/* Whether one more of @name may be served. */
static bool is_within_limits(const LpmRpcServer *server, LpmRpcRole role, const char *name)
{
    unsigned known = 0, same = 0;

    for (GList *item = server->peers.head; item; item = item->next) {
        const LpmRpcPeer *peer = item->data;

        known += peer->role != LPM_RPC_ANONYMOUS;
        same += peer->role == role && g_strcmp0(peer->name, name) == 0;
    }
    return role == LPM_RPC_ANONYMOUS || (known < LPM_RPC_PEERS_MAX && same < LPM_RPC_SAME_PEER_MAX);
}

LpmRpcPeer *lpm_rpc_peer_add(LpmRpcServer *server)
{
    LpmRpcPeer *peer = g_new0(LpmRpcPeer, 1);

    peer->refs = 1;
    peer->server = server;
    peer->role = LPM_RPC_ANONYMOUS;
    peer->handshake = g_cancellable_new();
    g_queue_push_tail(&server->peers, peer);
    return peer;
}

LpmRpcPeer *lpm_rpc_peer_ref(LpmRpcPeer *peer)
{
    peer->refs++;
    return peer;
}

void lpm_rpc_peer_unref(LpmRpcPeer *peer)
{
    if (--peer->refs == 0) {
        g_object_unref(peer->handshake);
        json_decref(peer->events);
        g_free(peer->name);
        g_free(peer);
    }
}

void lpm_rpc_peer_serve(LpmRpcPeer *peer, GIOStream *stream, LpmRpcRole role, const char *name)
{
    if (!is_within_limits(peer->server, role, name)) {
        g_object_unref(stream);
        lpm_rpc_peer_close(peer);
        return;
    }
    peer->role = role;
    peer->name = g_strdup(name);
    peer->lines = lpm_rpc_lines_new(stream, LPM_RPC_LINE_MAX, &line_handlers, peer);
    lpm_rpc_peer_set_deadline(peer, role == LPM_RPC_ANONYMOUS ? LPM_RPC_ANONYMOUS_MS : 0);
}

void lpm_rpc_peer_close(LpmRpcPeer *peer)
{
    LpmRpcServer *server = g_steal_pointer(&peer->server);

    lpm_rpc_peer_ref(peer);
    lpm_rpc_peer_set_deadline(peer, 0);
    if (peer->hello) {
        GSource *hello = g_steal_pointer(&peer->hello);

        g_source_destroy(hello); /* and gives back its reference of the peer */
        g_source_unref(hello);
    }
    g_clear_pointer(&peer->lines, lpm_rpc_lines_free);
    g_cancellable_cancel(peer->handshake);
    if (server) {
        g_queue_remove(&server->peers, peer);
        lpm_rpc_peer_unref(peer);
    }
    lpm_rpc_peer_unref(peer);
}

static gboolean on_deadline(void *data)
{
    lpm_rpc_peer_close(data);
    return G_SOURCE_REMOVE;
}

void lpm_rpc_peer_set_deadline(LpmRpcPeer *peer, unsigned timeout_ms)
{
    if (peer->deadline) {
        g_source_destroy(peer->deadline);
        g_clear_pointer(&peer->deadline, g_source_unref);
    }
    if (timeout_ms > 0) {
        peer->deadline = g_timeout_source_new(timeout_ms);
        g_source_set_callback(peer->deadline, on_deadline, peer, NULL);
        g_source_attach(peer->deadline, NULL);
    }
}
