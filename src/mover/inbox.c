/* SPDX-License-Identifier: Apache-2.0 */
#include "inbox.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

bool inbox_init(Inbox *inbox, size_t window)
{
    memset(inbox, 0, sizeof(*inbox));
    inbox->next = 1;
    inbox->limit = window + LPM_STREAM_HEADER_SIZE + LPM_STREAM_BODY_MAX;
    inbox->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&inbox->lock, NULL);
    return inbox->wake >= 0;
}

static void wake(Inbox *inbox)
{
    uint64_t one = 1;
    ssize_t n = write(inbox->wake, &one, sizeof(one)); /* a full counter wakes as well */
    (void)n;
}

void inbox_clear_wake(Inbox *inbox)
{
    uint64_t count;
    ssize_t n = read(inbox->wake, &count, sizeof(count));
    (void)n;
}

void inbox_close(Inbox *inbox)
{
    pthread_mutex_lock(&inbox->lock);
    inbox->closed = true;
    pthread_mutex_unlock(&inbox->lock);
    wake(inbox);
}

bool inbox_is_closed(Inbox *inbox)
{
    pthread_mutex_lock(&inbox->lock);
    bool closed = inbox->closed;
    pthread_mutex_unlock(&inbox->lock);
    return closed;
}

static Frame **slot(Inbox *inbox, uint64_t sequence)
{
    return &inbox->frames[sequence % FRAMES_MAX];
}

InboxVerdict inbox_put(Inbox *inbox, Frame *frame)
{
    InboxVerdict verdict = INBOX_TAKEN;
    pthread_mutex_lock(&inbox->lock);
    bool wanted = frame->sequence == inbox->next;
    if (frame->sequence <= inbox->received)
        verdict = INBOX_SEEN;
    else if (frame->sequence >= inbox->next + FRAMES_MAX ||
             inbox->held_bytes + frame->size > inbox->limit)
        verdict = INBOX_BEYOND;
    else if (*slot(inbox, frame->sequence))
        verdict = INBOX_SEEN;
    if (verdict == INBOX_TAKEN) {
        *slot(inbox, frame->sequence) = frame;
        inbox->held_bytes += frame->size;
        while (inbox->received + 1 < inbox->next + FRAMES_MAX && *slot(inbox, inbox->received + 1))
            inbox->received++;
    }
    pthread_mutex_unlock(&inbox->lock);
    if (verdict == INBOX_TAKEN && wanted)
        wake(inbox);
    return verdict;
}

bool inbox_put_replacement(Inbox *inbox, Frame *frame)
{
    pthread_mutex_lock(&inbox->lock);
    bool wanted = !inbox->replacement && inbox->asked != 0 && frame->sequence == inbox->asked;
    if (wanted)
        inbox->replacement = frame;
    pthread_mutex_unlock(&inbox->lock);
    if (wanted)
        wake(inbox);
    return wanted;
}

uint64_t inbox_received(Inbox *inbox)
{
    pthread_mutex_lock(&inbox->lock);
    uint64_t received = inbox->received;
    pthread_mutex_unlock(&inbox->lock);
    return received;
}

Frame *inbox_next(Inbox *inbox)
{
    pthread_mutex_lock(&inbox->lock);
    Frame *frame = inbox->closed ? NULL : *slot(inbox, inbox->next);
    if (frame) {
        *slot(inbox, inbox->next++) = NULL;
        inbox->held_bytes -= frame->size;
    }
    pthread_mutex_unlock(&inbox->lock);
    return frame;
}

Frame *inbox_take_replacement(Inbox *inbox, uint64_t sequence)
{
    pthread_mutex_lock(&inbox->lock);
    Frame *frame = inbox->replacement;
    inbox->replacement = NULL;
    /* A second answer, to a MISS that was said twice, is for nobody. */
    inbox->asked = frame ? 0 : sequence;
    pthread_mutex_unlock(&inbox->lock);
    return frame;
}
