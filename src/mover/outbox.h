/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ordered frames of our direction. One thread puts them in, the senders of all connections take
 * them out, whoever has time; a frame stays until the peer has acknowledged it, and goes again when
 * the connection it went on is lost.
 */
#pragma once

#include "frame.h"

#include <pthread.h>

enum { OUTBOX_UNSENT = -1 };

typedef struct {
    Frame *frames[FRAMES_MAX]; /* by sequence modulo FRAMES_MAX */
    uint64_t first, put;       /* sequence of the oldest held, of the newest; none: first > put */
    uint64_t unsent;           /* none below this sequence is unsent */
    uint64_t held_bytes;       /* of frames */
    uint64_t raw_bytes;        /* of stream kept beside them */
    uint64_t untaken;          /* frames that wait for a sender */
    uint64_t resent_bytes;     /* ever */
    uint64_t nudges, misses;   /* wishes ever; frames with a miss that waits for a sender */
    unsigned waiting;          /* senders without work */
    bool closed;
    pthread_mutex_t lock;
    pthread_cond_t changed;
} Outbox;

void outbox_init(Outbox *outbox);
/* Senders get nothing more. */
void outbox_close(Outbox *outbox);

/* Sequence that the next frame put will have. Putting thread. */
uint64_t outbox_next_sequence(Outbox *outbox);
/* False when FRAMES_MAX are held. Putting thread. */
bool outbox_has_place(Outbox *outbox);
/* Takes @frame, whose header is complete. There must be a place. */
void outbox_put(Outbox *outbox, Frame *frame);

/*
 * Sender of connection @link: the next frame to be sent, waiting for one; NULL when outbox_nudge()
 * was called since the @seen one (which is then brought up to date), or when it is closed.
 * @ret_raw: the peer asks for the frame's raw bytes instead.
 */
Frame *outbox_take(Outbox *outbox, int link, uint64_t *seen, bool *ret_raw);
/* The frame has gone out, or could not; it may be freed by this. */
void outbox_sent(Outbox *outbox, Frame *frame);
/* Lets the senders look for other work. */
void outbox_nudge(Outbox *outbox);

/* Connection @link is lost, and the peer has frames up to @received: what else went on it is to be
 * sent again. */
void outbox_lost(Outbox *outbox, int link, uint64_t received);
/* The peer has handed on the frames up to @sequence. False when it cannot have. */
bool outbox_acknowledge(Outbox *outbox, uint64_t sequence);
/* The peer wants the raw bytes of a CODED frame. False when it cannot want them. */
bool outbox_miss(Outbox *outbox, uint64_t sequence);

typedef struct {
    uint64_t held_bytes, raw_bytes, untaken, resent_bytes;
    bool idle; /* a sender waits for work */
} OutboxLevel;
OutboxLevel outbox_level(Outbox *outbox);
