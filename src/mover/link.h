/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a connection: made, lost, made again. A lost connection ends nothing as long as the
 * peer can resume and retry_ms have not passed without any.
 */
#pragma once

#include "mover.h"

/* Receiver: waits until the connection is up, or makes it; false when the mover stops. */
bool link_bring_up(Link *link);
/* Receiver: after a loss, once the sender has left it: gives the transport back. */
void link_retire(Link *link);
/* Sender: waits until the connection is up and holds it; false when the mover stops. */
bool link_hold(Link *link);
void link_leave(Link *link);
/* True while the connection is up; for its two threads. */
bool link_is_up(Link *link);

/* The connection failed, as both its threads and the clock may notice. Ends the mover when nothing
 * can be resumed. */
void link_lost(Link *link, LpmStreamError code, const char *reason);
/* Lets the connection's other thread say first why it failed; waits at most a moment. */
void link_await_lost(Link *link);

/* Main thread. */
/* A connected socket for @connection from lpm-host (taken). */
bool link_take_socket(Mover *mover, unsigned connection, int fd);
/* Once a tick: silence, and the time without any connection. */
void link_watch(Mover *mover, uint64_t now_ns, bool ping);
/* Lets who waits for a connection see that the mover ends. */
void link_wake_all(Mover *mover);
/* Cuts all of them, and wakes everybody who waits for or on one. */
void link_cut_all(Mover *mover);
/* Bytes on the wire, ever; how often a connection was replaced; how many are up. */
typedef struct {
    uint64_t wire_out, wire_in;
    uint32_t reconnects;
    unsigned up;
} LinkTotals;
LinkTotals link_totals(Mover *mover);
