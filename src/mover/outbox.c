/* SPDX-License-Identifier: Apache-2.0 */
#include "outbox.h"

#include <string.h>

void outbox_init(Outbox *outbox)
{
    memset(outbox, 0, sizeof(*outbox));
    outbox->first = outbox->unsent = 1;
    pthread_mutex_init(&outbox->lock, NULL);
    pthread_cond_init(&outbox->changed, NULL);
}

static Frame **slot(Outbox *outbox, uint64_t sequence)
{
    return &outbox->frames[sequence % FRAMES_MAX];
}

void outbox_close(Outbox *outbox)
{
    pthread_mutex_lock(&outbox->lock);
    outbox->closed = true;
    pthread_cond_broadcast(&outbox->changed);
    pthread_mutex_unlock(&outbox->lock);
}

uint64_t outbox_next_sequence(Outbox *outbox)
{
    return outbox->put + 1;
}

bool outbox_has_place(Outbox *outbox)
{
    pthread_mutex_lock(&outbox->lock);
    bool has = outbox->put + 1 - outbox->first < FRAMES_MAX;
    pthread_mutex_unlock(&outbox->lock);
    return has;
}

void outbox_put(Outbox *outbox, Frame *frame)
{
    pthread_mutex_lock(&outbox->lock);
    frame->sequence = ++outbox->put;
    frame->link = OUTBOX_UNSENT;
    *slot(outbox, frame->sequence) = frame;
    outbox->held_bytes += frame->size;
    outbox->raw_bytes += frame->raw ? frame->raw_size : 0;
    outbox->untaken++;
    if (outbox->waiting > 0)
        pthread_cond_signal(&outbox->changed);
    pthread_mutex_unlock(&outbox->lock);
}

static Frame *find_miss(Outbox *outbox)
{
    for (uint64_t s = outbox->first; outbox->misses > 0 && s <= outbox->put; s++)
        if ((*slot(outbox, s))->miss)
            return *slot(outbox, s);
    return NULL;
}

static Frame *find_unsent(Outbox *outbox)
{
    if (outbox->unsent < outbox->first)
        outbox->unsent = outbox->first;
    for (; outbox->unsent <= outbox->put; outbox->unsent++)
        if ((*slot(outbox, outbox->unsent))->link == OUTBOX_UNSENT)
            return *slot(outbox, outbox->unsent);
    return NULL;
}

static Frame *take_locked(Outbox *outbox, int link, bool *ret_raw)
{
    Frame *frame = find_miss(outbox);
    *ret_raw = frame != NULL;
    if (frame) {
        frame->miss = false;
        outbox->misses--;
    } else {
        frame = find_unsent(outbox);
        if (!frame)
            return NULL;
        outbox->untaken--;
        outbox->resent_bytes += frame->given_once ? frame->size : 0;
        frame->given_once = true;
        frame->link = link;
    }
    frame->senders++;
    return frame;
}

Frame *outbox_take(Outbox *outbox, int link, uint64_t *seen, bool *ret_raw)
{
    Frame *frame = NULL;
    pthread_mutex_lock(&outbox->lock);
    while (!outbox->closed && outbox->nudges == *seen &&
           !(frame = take_locked(outbox, link, ret_raw))) {
        outbox->waiting++;
        pthread_cond_wait(&outbox->changed, &outbox->lock);
        outbox->waiting--;
    }
    *seen = outbox->nudges;
    pthread_mutex_unlock(&outbox->lock);
    return frame;
}

void outbox_sent(Outbox *outbox, Frame *frame)
{
    pthread_mutex_lock(&outbox->lock);
    bool gone = --frame->senders == 0 && frame->released;
    pthread_mutex_unlock(&outbox->lock);
    if (gone)
        frame_free(frame);
}

void outbox_nudge(Outbox *outbox)
{
    pthread_mutex_lock(&outbox->lock);
    outbox->nudges++;
    pthread_cond_broadcast(&outbox->changed);
    pthread_mutex_unlock(&outbox->lock);
}

void outbox_lost(Outbox *outbox, int link, uint64_t received)
{
    pthread_mutex_lock(&outbox->lock);
    for (uint64_t s = outbox->first; s <= outbox->put; s++) {
        Frame *frame = *slot(outbox, s);
        if (frame->link != link || s <= received)
            continue;
        frame->link = OUTBOX_UNSENT;
        outbox->untaken++;
        if (outbox->unsent > s)
            outbox->unsent = s;
    }
    pthread_cond_broadcast(&outbox->changed);
    pthread_mutex_unlock(&outbox->lock);
}

static void release(Outbox *outbox, Frame *frame)
{
    outbox->held_bytes -= frame->size;
    outbox->raw_bytes -= frame->raw ? frame->raw_size : 0;
    outbox->untaken -= frame->link == OUTBOX_UNSENT ? 1 : 0;
    outbox->misses -= frame->miss ? 1 : 0;
    *slot(outbox, frame->sequence) = NULL;
    frame->released = true;
    if (frame->senders == 0)
        frame_free(frame);
}

bool outbox_acknowledge(Outbox *outbox, uint64_t sequence)
{
    pthread_mutex_lock(&outbox->lock);
    bool possible = sequence <= outbox->put;
    for (; possible && outbox->first <= sequence; outbox->first++) {
        Frame *frame = *slot(outbox, outbox->first);
        /* What was never sent cannot have come. */
        possible = frame->given_once;
        if (!possible)
            break;
        release(outbox, frame);
    }
    pthread_mutex_unlock(&outbox->lock);
    return possible;
}

bool outbox_miss(Outbox *outbox, uint64_t sequence)
{
    pthread_mutex_lock(&outbox->lock);
    bool possible = sequence >= outbox->first && sequence <= outbox->put;
    Frame *frame = possible ? *slot(outbox, sequence) : NULL;
    possible = frame && frame->raw && frame->given_once;
    if (possible && !frame->miss) {
        frame->miss = true;
        outbox->misses++;
        pthread_cond_signal(&outbox->changed);
    }
    pthread_mutex_unlock(&outbox->lock);
    return possible;
}

OutboxLevel outbox_level(Outbox *outbox)
{
    pthread_mutex_lock(&outbox->lock);
    OutboxLevel level = {.held_bytes = outbox->held_bytes,
                         .raw_bytes = outbox->raw_bytes,
                         .untaken = outbox->untaken,
                         .resent_bytes = outbox->resent_bytes,
                         .idle = outbox->waiting > 0};
    pthread_mutex_unlock(&outbox->lock);
    return level;
}
