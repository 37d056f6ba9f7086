/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records on their way to the one thread that sends them: to the peer, or to lpm-host. Any thread
 * pushes, one pops; the popping thread waits in poll() on @wake.
 */
#pragma once

#include "stream/stream.h"

#include <pthread.h>

enum { QUEUE_LIMIT = 1024 * 1024 }; /* bytes of items: of a peer's empty records, too */

typedef struct QueueItem {
    struct QueueItem *next;
    uint32_t type;
    uint32_t size;
    uint8_t body[];
} QueueItem;

typedef struct {
    QueueItem *first, **end;
    size_t bytes;
    bool closed;
    int wake; /* eventfd */
    uint8_t *scratch;
    pthread_mutex_t lock;
    pthread_cond_t drained;
} Queue;

bool queue_init(Queue *queue);
void queue_clear(Queue *queue);
/* Later pushes fail, waiting ones return. */
void queue_close(Queue *queue);
/* False when it is closed, full, out of memory, or @message breaks a limit of its record. Never
 * waits. */
bool queue_push(Queue *queue, uint32_t type, const LpmStreamMessage *message);
/* The same, but waits until the queue is at most half full, so that who cannot wait finds room. */
bool queue_push_wait(Queue *queue, uint32_t type, const LpmStreamMessage *message);
/* Size of the first item's body, or -1 when there is none. */
int64_t queue_peek(Queue *queue);
/* First item, the caller's to free(); NULL when there is none. */
QueueItem *queue_pop(Queue *queue);
/* Wakes the popping thread, for news that are not in the queue. */
void queue_wake(Queue *queue);
/* Forgets wake-ups so far; to be called before looking for news. */
void queue_clear_wake(Queue *queue);
