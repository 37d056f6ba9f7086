/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ordered frames of one direction, in one block of memory: put in at the head, processed once
 * in the middle, released at the tail. The sender processes (hashes) beside the link and releases
 * what the peer acknowledged; the receiver releases what it has processed (handed on). One thread
 * puts, one processes, any releases.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RING_FRAMES = 4096 }; /* frames held at most, however small */

typedef struct {
    uint32_t type;
    uint32_t size;   /* header and body */
    size_t at;       /* offset in the block */
    uint64_t filled; /* bytes ever put, up to the end of this frame */
} RingFrame;

typedef struct {
    uint8_t *block;
    size_t size;
    size_t write_at;
    bool closed;
    size_t patience; /* bytes that may wait for the worker before ring_put() wakes it */
    /* Counts of frames ever (UINT64_MAX: all); a frame's place in the table is its number modulo
     * RING_FRAMES. */
    uint64_t put, processed, acknowledged, released;
    uint64_t bytes_put;
    RingFrame frames[RING_FRAMES];
    pthread_mutex_t lock;
    pthread_cond_t changed;
} Ring;

/*
 * Room for @window bytes of frames of which none is longer than @longest. Without @worker frames
 * count as processed when they are put, without @peer as acknowledged.
 */
bool ring_init(Ring *ring, size_t window, size_t longest, bool worker, bool peer);
void ring_clear(Ring *ring);
/* Wakes everybody; ring_next() then gives NULL. */
void ring_close(Ring *ring);

/* @size bytes in a row for the next frame, or NULL while there is no room. Not visible before
 * ring_put(). */
uint8_t *ring_reserve(Ring *ring, size_t size);
/* The frame in the reserved place is complete and @size bytes long. */
void ring_put(Ring *ring, uint32_t type, size_t size);
/* Wakes the worker for what waits. */
void ring_nudge(Ring *ring);
/* Bytes put and not yet released; UINT64_MAX when the table of frames is full. */
uint64_t ring_held(Ring *ring);

/* Next frame to be processed, waiting for it; NULL when the ring is closed. Stays valid until
 * ring_processed(). */
uint8_t *ring_next(Ring *ring, RingFrame *ret_frame);
/* The frame of the last ring_next() is done with. True when no other waits. */
bool ring_processed(Ring *ring);
/* The peer has handed on the first @count frames. False when it cannot have. */
bool ring_acknowledge(Ring *ring, uint64_t count);
