/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the outbox to one connection. Only this thread sends on it; frames are striped over the
 * connections by whose sender has time.
 */
#include "clock.h"
#include "greeting.h"
#include "link.h"

#include <string.h>

static void link_failed(Link *link)
{
    if (link->transport->ended_by_receiving)
        link_await_lost(link);
    link_lost(link, link->transport->send_error.code, link->transport->send_error.reason);
}

/* --- what is not ordered --- */

static bool send_small(Link *link, uint32_t type, const LpmStreamMessage *message)
{
    if (link_send(link->mover, link->transport, type, message))
        return true;
    link_failed(link);
    return false;
}

static bool send_small_records(Link *link)
{
    Mover *mover = link->mover;
    Outflow *out = &mover->out;
    LpmStreamMessage m = {0};
    m.stamp.stamp = atomic_exchange(&link->pong_stamp, 0);
    if (m.stamp.stamp != 0 && !send_small(link, LPM_STREAM_PONG, &m))
        return false;
    if (atomic_exchange(&link->ping_due, false)) {
        m.stamp.stamp = clock_ns();
        if (!send_small(link, LPM_STREAM_PING, &m))
            return false;
    }
    if (!atomic_exchange(&out->ack_due, false))
        return true;
    m.ack = (LpmStreamAck){.sequence = atomic_load(&mover->in.handed_frames),
                           .offset = atomic_load(&mover->in.handed_offset)};
    return send_small(link, LPM_STREAM_ACK, &m);
}

/* --- frames --- */

/* True after a short nap when the limit forbids a frame just now: what is not a frame goes all the
 * same, and the limit may be changed meanwhile. */
static bool throttle_forbids(Mover *mover)
{
    pthread_mutex_lock(&mover->throttle_lock);
    uint64_t delay_ns = throttle_delay_ns(&mover->throttle, clock_ns());
    pthread_mutex_unlock(&mover->throttle_lock);
    if (delay_ns == 0)
        return false;
    uint64_t nap_ns = delay_ns < 20 * NS_PER_MS ? delay_ns : 20 * NS_PER_MS;
    atomic_fetch_add(&mover->blocked_ns, nap_ns);
    struct timespec nap = {.tv_nsec = (long)nap_ns};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
    return true;
}

static void spend(Mover *mover, size_t size)
{
    pthread_mutex_lock(&mover->throttle_lock);
    throttle_spend(&mover->throttle, size);
    pthread_mutex_unlock(&mover->throttle_lock);
}

/* The batch's own bytes, which the peer asked for because it cannot decode what it got. */
static bool send_raw(Link *link, Frame *frame)
{
    size_t size = LPM_STREAM_HEADER_SIZE + 8 + frame->raw_size;
    Frame *plain = frame_new(LPM_STREAM_REPLACE, (uint32_t)size);
    LpmStreamMessage m = {
        .replace = {.sequence = frame->sequence, .data = frame->raw, .size = frame->raw_size}};
    size_t used = 0;
    bool packed = plain && lpm_stream_pack(LPM_STREAM_REPLACE, &m, link->mover->config.migration, 0,
                                           plain->bytes, size, &used) == LPM_STREAM_OK;
    bool good = packed ? link->transport->ops->send(link->transport, plain->bytes, used)
                       : mover_fail(link->mover, LPM_STREAM_ERR_INTERNAL,
                                    "no memory for a batch's own bytes");
    frame_free(plain);
    return good;
}

static void note_close(Link *link)
{
    atomic_store(&link->mover->out.close_sent, true);
    link->transport->ops->finish(link->transport);
    atomic_store(&link->mover->sender_done, true);
    queue_wake(&link->mover->to_host);
}

/* False when the connection is lost. */
static bool send_frame(Link *link, Frame *frame, bool raw)
{
    Mover *mover = link->mover;
    Transport *t = link->transport;
    spend(mover, raw ? frame->raw_size : frame->size);
    bool good = raw ? send_raw(link, frame) : t->ops->send(t, frame->bytes, frame->size);
    if (good && frame->type == LPM_STREAM_CLOSE)
        note_close(link);
    outbox_sent(&mover->out.box, frame);
    if (!good)
        link_failed(link);
    return good;
}

static void say_why(Link *link)
{
    Mover *mover = link->mover;
    LpmStreamMessage m;
    pthread_mutex_lock(&mover->failure_lock);
    m.reason = mover->failure;
    pthread_mutex_unlock(&mover->failure_lock);
    if (m.reason.code == LPM_STREAM_ERR_NONE || m.reason.code == LPM_STREAM_ERR_LINK ||
        m.reason.code == LPM_STREAM_ERR_PEER || atomic_load(&mover->out.close_sent) ||
        !link_is_up(link))
        return;
    link_send(mover, link->transport, LPM_STREAM_ABORT, &m);
    link->transport->ops->finish(link->transport);
}

static bool says_no_more(Mover *mover)
{
    return atomic_load(&mover->out.close_sent) || atomic_load(&mover->sender_done);
}

void sender_main(Link *link)
{
    Mover *mover = link->mover;
    while (link_hold(link)) {
        while (!atomic_load(&mover->stopping) && link_is_up(link)) {
            if (!send_small_records(link))
                break;
            if (throttle_forbids(mover))
                continue;
            bool raw;
            Frame *frame = outbox_take(&mover->out.box, (int)link->index, &link->nudges, &raw);
            if (frame && !send_frame(link, frame, raw))
                break;
            if (says_no_more(mover))
                break;
        }
        if (atomic_load(&mover->stopping))
            say_why(link);
        link_leave(link);
        if (atomic_load(&mover->stopping) || says_no_more(mover))
            return;
    }
}
