/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From one connection to the inbox. The receiver never waits for QEMU, so that answers,
 * acknowledgements and ABORT get through however slow QEMU is.
 */
#include "clock.h"
#include "greeting.h"
#include "link.h"

#include <string.h>

enum { SMALL_BODY = 1024 };

/* --- what is not ordered --- */

static bool on_ack(Link *link, const LpmStreamMessage *m)
{
    Mover *mover = link->mover;
    if (!outbox_acknowledge(&mover->out.box, m->ack.sequence))
        return mover_fail(mover, LPM_STREAM_ERR_PROTOCOL,
                          "the peer acknowledged what was never sent");
    if (m->ack.offset > atomic_load(&mover->acked_offset))
        atomic_store(&mover->acked_offset, m->ack.offset);
    if (atomic_load(&mover->out.wants_room))
        queue_wake(&mover->to_peer);
    return true;
}

static bool on_ping(Link *link, const LpmStreamMessage *m)
{
    atomic_store(&link->pong_stamp, m->stamp.stamp);
    outbox_nudge(&link->mover->out.box);
    return true;
}

static bool on_pong(Link *link, const LpmStreamMessage *m)
{
    Mover *mover = link->mover;
    uint64_t now = clock_ns();
    uint64_t us = now > m->stamp.stamp ? (now - m->stamp.stamp) / 1000 : 0;
    bool probing = mover->config.mode == LPM_STREAM_MODE_PROBE;
    uint32_t best = atomic_load(&mover->rtt_us);
    unsigned pongs = atomic_fetch_add(&mover->probe.pongs, 1) + 1;
    /* Down at once, up slowly: a PING behind a full window of data says little about the link. */
    if (pongs > 1 && us > best)
        us = probing ? best : best + (us - best) / 8;
    atomic_store(&mover->rtt_us, us > UINT32_MAX ? UINT32_MAX : (uint32_t)us);
    if (probing && pongs < PROBE_PINGS)
        atomic_store(&link->ping_due, true);
    else if (probing)
        atomic_store(&mover->probe.go, true);
    if (probing) {
        outbox_nudge(&mover->out.box);
        queue_wake(&mover->to_peer);
    }
    return true;
}

static bool on_abort(Link *link, const LpmStreamMessage *m)
{
    return mover_fail(link->mover, LPM_STREAM_ERR_PEER,
                      "the other system's mover gave up (%s): %.200s",
                      lpm_stream_error_name(m->reason.code), m->reason.reason);
}

/* The connection's last call failed: lost, or a frame that ends the move. */
static bool receiving_failed(Link *link, LpmStreamStatus bad)
{
    Transport *t = link->transport;
    if (bad != LPM_STREAM_OK)
        return mover_fail(link->mover, link_error_of(bad), "%s", t->receive_error.reason);
    /* The peer has said all it had to say; we may not have, and it still listens. */
    if (!atomic_load(&link->mover->peer_closed))
        link_lost(link, t->receive_error.code, t->receive_error.reason);
    return false;
}

static bool receive_small(Link *link, const uint8_t *raw, const LpmStreamHeader *header)
{
    static const struct {
        uint32_t type;
        bool (*handle)(Link *link, const LpmStreamMessage *message);
    } handlers[] = {
        {LPM_STREAM_ACK, on_ack},
        {LPM_STREAM_PING, on_ping},
        {LPM_STREAM_PONG, on_pong},
        {LPM_STREAM_ABORT, on_abort},
    };
    uint8_t body[SMALL_BODY];
    LpmStreamMessage m;
    LpmStreamStatus bad;
    if (header->length > sizeof(body))
        return mover_fail(link->mover, LPM_STREAM_ERR_PROTOCOL,
                          "a record of %u bytes outside the order", header->length);
    if (!link_receive_body(link->transport, raw, header, body, &bad))
        return receiving_failed(link, bad);
    for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++)
        if (handlers[i].type == header->type) {
            if (lpm_stream_decode_body(header->type, body, header->length, &m) != LPM_STREAM_OK)
                break;
            return handlers[i].handle(link, &m);
        }
    /* Optional and unknown: skipped. Anything else has no business after the greeting. */
    return (header->type & LPM_STREAM_OPTIONAL) != 0 ||
           mover_fail(link->mover, LPM_STREAM_ERR_PROTOCOL,
                      "record %s from the peer at the wrong time or malformed",
                      lpm_stream_type_name(header->type));
}

/* --- frames --- */

/* A frame of the order, or the answer to a MISS, into memory. */
static Frame *receive_frame(Link *link, const uint8_t *raw, const LpmStreamHeader *header)
{
    LpmStreamStatus bad;
    Frame *frame = frame_new(header->type, LPM_STREAM_HEADER_SIZE + header->length);
    if (!frame) {
        mover_fail(link->mover, LPM_STREAM_ERR_INTERNAL, "out of memory for a frame");
        return NULL;
    }
    frame->sequence = header->sequence;
    memcpy(frame->bytes, raw, LPM_STREAM_HEADER_SIZE);
    if (link_receive_body(link->transport, raw, header, frame_body(frame), &bad))
        return frame;
    receiving_failed(link, bad);
    frame_free(frame);
    return NULL;
}

static bool receive_ordered(Link *link, const uint8_t *raw, const LpmStreamHeader *header)
{
    Mover *mover = link->mover;
    Frame *frame = receive_frame(link, raw, header);
    if (!frame)
        return false;
    if (header->type == LPM_STREAM_CLOSE)
        atomic_store(&mover->in.close_sequence, header->sequence);
    InboxVerdict verdict = inbox_put(&mover->in.box, frame);
    if (verdict != INBOX_TAKEN)
        frame_free(frame);
    if (verdict == INBOX_BEYOND)
        return mover_fail(mover, LPM_STREAM_ERR_PROTOCOL,
                          "the peer sent more than the window allows");
    /* Over several connections CLOSE may come before what was said before it. */
    uint64_t close = atomic_load(&mover->in.close_sequence);
    if (close != 0 && inbox_received(&mover->in.box) >= close)
        atomic_store(&mover->peer_closed, true);
    return true;
}

static bool receive_replacement(Link *link, const uint8_t *raw, const LpmStreamHeader *header)
{
    Frame *frame = receive_frame(link, raw, header);
    LpmStreamMessage m;
    if (!frame)
        return false;
    bool sound = lpm_stream_decode_body(header->type, frame_body(frame), header->length, &m) ==
                 LPM_STREAM_OK;
    frame->sequence = sound ? m.replace.sequence : 0;
    if (!sound || !inbox_put_replacement(&link->mover->in.box, frame))
        frame_free(frame); /* asked for twice, over a connection that was lost */
    return sound || mover_fail(link->mover, LPM_STREAM_ERR_PROTOCOL, "malformed REPLACE");
}

static bool receive_one(Link *link, LpmStreamVerifier *verifier)
{
    uint8_t raw[LPM_STREAM_HEADER_SIZE];
    LpmStreamHeader header;
    LpmStreamStatus bad;
    if (!link_receive_header(link->transport, verifier, raw, &header, &bad))
        return receiving_failed(link, bad);
    if (header.sequence)
        return receive_ordered(link, raw, &header);
    return header.type == LPM_STREAM_REPLACE ? receive_replacement(link, raw, &header)
                                             : receive_small(link, raw, &header);
}

/*
 * While the sender says why we give up, and until the peer has heard it: closing a socket with
 * bytes unread would take the words back.
 */
static void drain_link(Link *link)
{
    uint8_t nothing[SMALL_BODY];
    while (link->transport->ops->receive(link->transport, nothing, sizeof(nothing)))
        continue;
}

void receiver_main(Link *link)
{
    Mover *mover = link->mover;
    LpmStreamSender peer = is_source(mover) ? LPM_STREAM_FROM_DST : LPM_STREAM_FROM_SRC;
    while (link_bring_up(link)) {
        LpmStreamVerifier verifier = lpm_stream_verifier(peer, mover->config.migration);
        while (!atomic_load(&mover->stopping) && receive_one(link, &verifier))
            atomic_store_explicit(&link->heard_ns, clock_ns(), memory_order_relaxed);
        if (atomic_load(&mover->stopping)) {
            if (link_is_up(link))
                drain_link(link);
            return;
        }
        if (atomic_load(&mover->peer_closed))
            return;
        link_retire(link);
    }
}
