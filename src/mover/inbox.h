/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ordered frames of the peer's direction: the receivers of all connections put them in as they
 * come, one thread hands them on in order. What was there before is dropped.
 */
#pragma once

#include "frame.h"

#include <pthread.h>

typedef struct {
    Frame *frames[FRAMES_MAX]; /* by sequence modulo FRAMES_MAX */
    uint64_t next;             /* sequence to be handed on */
    uint64_t received;         /* all up to this one have come */
    uint64_t held_bytes, limit;
    uint64_t asked;     /* sequence of the frame that the writer waits with; 0: none */
    Frame *replacement; /* REPLACE for it */
    bool closed;
    int wake; /* eventfd: news for the writer */
    pthread_mutex_t lock;
} Inbox;

typedef enum { INBOX_TAKEN, INBOX_SEEN, INBOX_BEYOND } InboxVerdict;

/* Frames of @window bytes in all, and one more. False when there is no descriptor. */
bool inbox_init(Inbox *inbox, size_t window);
void inbox_close(Inbox *inbox);

/* Takes @frame unless BEYOND: more than the window allows. */
InboxVerdict inbox_put(Inbox *inbox, Frame *frame);
/* Takes the answer to a MISS for @frame->sequence. False when nobody asked. */
bool inbox_put_replacement(Inbox *inbox, Frame *frame);
/* Sequence up to which all have come. */
uint64_t inbox_received(Inbox *inbox);

/* Next frame in order, the caller's; NULL when it has not come yet. */
Frame *inbox_next(Inbox *inbox);
/* The answer to a MISS for @sequence, the caller's; NULL while it has not come: it is then waited
 * for. */
Frame *inbox_take_replacement(Inbox *inbox, uint64_t sequence);
bool inbox_is_closed(Inbox *inbox);
/* Forgets wake-ups so far; to be called before looking for frames. */
void inbox_clear_wake(Inbox *inbox);
