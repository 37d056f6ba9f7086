/* SPDX-License-Identifier: Apache-2.0 */
#include "queue.h"

#include "bytes/bytes.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

bool queue_init(Queue *queue)
{
    memset(queue, 0, sizeof(*queue));
    queue->end = &queue->first;
    queue->scratch = malloc(LPM_STREAM_BODY_MAX);
    queue->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->drained, NULL);
    return queue->scratch && queue->wake >= 0;
}

void queue_clear(Queue *queue)
{
    for (QueueItem *item = queue_pop(queue); item; item = queue_pop(queue))
        free(item);
    free(queue->scratch);
    queue->scratch = NULL;
    lpm_bytes_close(&queue->wake);
}

void queue_close(Queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->closed = true;
    pthread_cond_broadcast(&queue->drained);
    pthread_mutex_unlock(&queue->lock);
    queue_wake(queue);
}

static bool append_locked(Queue *queue, uint32_t type, const LpmStreamMessage *message)
{
    size_t size;
    if (lpm_stream_encode_body(type, message, queue->scratch, LPM_STREAM_BODY_MAX, &size) !=
        LPM_STREAM_OK)
        return false;
    QueueItem *item = malloc(sizeof(*item) + size);
    if (!item)
        return false;
    item->next = NULL;
    item->type = type;
    item->size = (uint32_t)size;
    memcpy(item->body, queue->scratch, size);
    *queue->end = item;
    queue->end = &item->next;
    queue->bytes += sizeof(*item) + size;
    return true;
}

static bool push(Queue *queue, uint32_t type, const LpmStreamMessage *message, bool wait)
{
    pthread_mutex_lock(&queue->lock);
    while (wait && !queue->closed && queue->bytes >= QUEUE_LIMIT / 2)
        pthread_cond_wait(&queue->drained, &queue->lock);
    bool pushed =
        !queue->closed && queue->bytes < QUEUE_LIMIT && append_locked(queue, type, message);
    pthread_mutex_unlock(&queue->lock);
    if (pushed)
        queue_wake(queue);
    return pushed;
}

bool queue_push(Queue *queue, uint32_t type, const LpmStreamMessage *message)
{
    return push(queue, type, message, false);
}

bool queue_push_wait(Queue *queue, uint32_t type, const LpmStreamMessage *message)
{
    return push(queue, type, message, true);
}

int64_t queue_peek(Queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    int64_t size = queue->first ? (int64_t)queue->first->size : -1;
    pthread_mutex_unlock(&queue->lock);
    return size;
}

QueueItem *queue_pop(Queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    QueueItem *item = queue->first;
    if (item) {
        queue->first = item->next;
        if (!queue->first)
            queue->end = &queue->first;
        queue->bytes -= sizeof(*item) + item->size;
        pthread_cond_broadcast(&queue->drained);
    }
    pthread_mutex_unlock(&queue->lock);
    return item;
}

void queue_wake(Queue *queue)
{
    uint64_t one = 1;
    /* Cannot fail in a way that matters: a full counter wakes as well. */
    ssize_t n = write(queue->wake, &one, sizeof(one));
    (void)n;
}

void queue_clear_wake(Queue *queue)
{
    uint64_t count;
    ssize_t n = read(queue->wake, &count, sizeof(count));
    (void)n;
}
