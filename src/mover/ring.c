/* SPDX-License-Identifier: Apache-2.0 */
#include "ring.h"

#include <stdlib.h>
#include <string.h>

bool ring_init(Ring *ring, size_t window, size_t longest, bool worker, bool peer)
{
    memset(ring, 0, sizeof(*ring));
    /* One longest frame beyond the window may be started, another's room be lost at the end of the
     * block. */
    ring->size = window + 2 * longest + 1;
    ring->processed = worker ? 0 : UINT64_MAX;
    ring->acknowledged = peer ? 0 : UINT64_MAX;
    ring->block = malloc(ring->size);
    pthread_mutex_init(&ring->lock, NULL);
    pthread_cond_init(&ring->changed, NULL);
    return ring->block != NULL;
}

void ring_clear(Ring *ring)
{
    free(ring->block);
    ring->block = NULL;
}

void ring_close(Ring *ring)
{
    pthread_mutex_lock(&ring->lock);
    ring->closed = true;
    pthread_cond_broadcast(&ring->changed);
    pthread_mutex_unlock(&ring->lock);
}

static RingFrame *frame_at(Ring *ring, uint64_t number)
{
    return &ring->frames[number % RING_FRAMES];
}

/* Where @size bytes in a row are free, or SIZE_MAX. The head never catches up with the tail
 * exactly. */
static size_t find_room(const Ring *ring, size_t size)
{
    if (ring->put == ring->released)
        return size <= ring->size ? 0 : SIZE_MAX;
    if (ring->put - ring->released == RING_FRAMES)
        return SIZE_MAX;
    size_t tail = ring->frames[ring->released % RING_FRAMES].at;
    if (ring->write_at <= tail)
        return tail - ring->write_at > size ? ring->write_at : SIZE_MAX;
    if (ring->size - ring->write_at >= size)
        return ring->write_at;
    return tail > size ? 0 : SIZE_MAX;
}

uint8_t *ring_reserve(Ring *ring, size_t size)
{
    pthread_mutex_lock(&ring->lock);
    size_t at = find_room(ring, size);
    if (at != SIZE_MAX)
        ring->write_at = at;
    pthread_mutex_unlock(&ring->lock);
    return at == SIZE_MAX ? NULL : ring->block + at;
}

static void release(Ring *ring)
{
    uint64_t done = ring->processed < ring->acknowledged ? ring->processed : ring->acknowledged;
    ring->released = done < ring->put ? done : ring->put;
}

/* Bytes that wait for the worker. */
static uint64_t unprocessed(Ring *ring)
{
    if (ring->processed >= ring->put)
        return 0;
    return ring->bytes_put - (ring->processed ? frame_at(ring, ring->processed - 1)->filled : 0);
}

void ring_put(Ring *ring, uint32_t type, size_t size)
{
    pthread_mutex_lock(&ring->lock);
    ring->bytes_put += size;
    *frame_at(ring, ring->put) = (RingFrame){
        .type = type, .size = (uint32_t)size, .at = ring->write_at, .filled = ring->bytes_put};
    ring->write_at += size;
    ring->put++;
    if (unprocessed(ring) > ring->patience)
        pthread_cond_signal(&ring->changed);
    pthread_mutex_unlock(&ring->lock);
}

void ring_nudge(Ring *ring)
{
    pthread_mutex_lock(&ring->lock);
    if (ring->processed < ring->put)
        pthread_cond_signal(&ring->changed);
    pthread_mutex_unlock(&ring->lock);
}

uint64_t ring_held(Ring *ring)
{
    pthread_mutex_lock(&ring->lock);
    uint64_t released = ring->released ? frame_at(ring, ring->released - 1)->filled : 0;
    uint64_t held =
        ring->put - ring->released == RING_FRAMES ? UINT64_MAX : ring->bytes_put - released;
    pthread_mutex_unlock(&ring->lock);
    return held;
}

uint8_t *ring_next(Ring *ring, RingFrame *ret_frame)
{
    uint8_t *at = NULL;
    pthread_mutex_lock(&ring->lock);
    while (!ring->closed && ring->processed == ring->put)
        pthread_cond_wait(&ring->changed, &ring->lock);
    if (!ring->closed) {
        *ret_frame = *frame_at(ring, ring->processed);
        at = ring->block + ret_frame->at;
    }
    pthread_mutex_unlock(&ring->lock);
    return at;
}

bool ring_processed(Ring *ring)
{
    pthread_mutex_lock(&ring->lock);
    ring->processed++;
    bool idle = ring->processed == ring->put;
    release(ring);
    pthread_mutex_unlock(&ring->lock);
    return idle;
}

bool ring_acknowledge(Ring *ring, uint64_t count)
{
    pthread_mutex_lock(&ring->lock);
    bool possible = count >= ring->acknowledged && count <= ring->put;
    if (possible) {
        ring->acknowledged = count;
        release(ring);
    }
    pthread_mutex_unlock(&ring->lock);
    return possible;
}
