/* SPDX-License-Identifier: Apache-2.0 */
/* A server and its connections; private to lib/rpc. server.c accepts and identifies, peer.c serves.
 */
#pragma once

#include "rpc/lines.h"
#include "rpc/rpc.h"

struct LpmRpcServer {
    const LpmRpcVerb *verbs;
    void *data;
    GPtrArray *services; /* of GSocketService */
    GPtrArray *paths;    /* of socket files to remove */
    GQueue peers;        /* of LpmRpcPeer; the server holds one reference of each */
    gint64 accepts_us;   /* monotonic: when @accepts was 0 */
    unsigned accepts;
    guint accepts_timer; /* no connections are taken until then; 0: they are */
};

/* One more connection was taken: pauses when they come faster than anybody needs, since taking them
 * goes before everything else. */
void lpm_rpc_server_took_one(LpmRpcServer *server);

struct LpmRpcPeer {
    unsigned refs;        /* held by the server, by each request and by what runs */
    LpmRpcServer *server; /* NULL: gone, or this peer is out of its list */
    LpmRpcLines *lines;   /* NULL: not through the handshake, or closed */
    GSource *deadline;    /* of the handshake, then of an anonymous peer */
    GSource *hello;       /* waits for the first message; NULL: it is there */
    GCancellable *handshake;
    bool shaking; /* in its handshake */
    LpmRpcRole role;
    char *name;
    bool subscribed;
    json_t *events;   /* names that it subscribed to; NULL: all */
    unsigned running; /* requests */
};

/*
 * Before one more stranger is let in, or into its handshake (@shaking): ends the oldest such one
 * when there are as many as may be. False: those that there are have requests running.
 */
bool lpm_rpc_peer_make_room(LpmRpcServer *server, bool shaking);
/* Adds a peer that is not identified yet. Borrowed from the server. */
LpmRpcPeer *lpm_rpc_peer_add(LpmRpcServer *server);
LpmRpcPeer *lpm_rpc_peer_ref(LpmRpcPeer *peer);
void lpm_rpc_peer_unref(LpmRpcPeer *peer);
/* From now on it is @name, and its lines on @stream (taken over) are served. @name is copied. It is
 * closed instead when there are too many that are known, or of that name. */
void lpm_rpc_peer_serve(LpmRpcPeer *peer, GIOStream *stream, LpmRpcRole role, const char *name);
/* Closes it and takes it off its server's list; its requests may still be answered, to nobody. */
void lpm_rpc_peer_close(LpmRpcPeer *peer);
/* Calls lpm_rpc_peer_close() after @timeout_ms, unless it is armed anew (0: disarmed). */
void lpm_rpc_peer_set_deadline(LpmRpcPeer *peer, unsigned timeout_ms);
