/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the link to QEMU. The receiver takes frames off the link into the ring and never waits for
 * QEMU, so that answers, acknowledgements and ABORT get through however slow QEMU is; the writer
 * hands them on in order.
 */
#include "bytes/bytes.h"
#include "clock.h"
#include "link.h"
#include "verify.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

enum { SMALL_BODY = 1024 };

/* --- receiver: what is not ordered --- */

static bool on_ack(Mover *mover, const LpmStreamMessage *m)
{
    if (!ring_acknowledge(&mover->out.ring, m->ack.sequence))
        return mover_fail(mover, LPM_STREAM_ERR_PROTOCOL,
                          "the peer acknowledged what was never sent");
    atomic_store(&mover->acked_offset, m->ack.offset);
    queue_wake(&mover->to_peer);
    return true;
}

static bool on_ping(Mover *mover, const LpmStreamMessage *m)
{
    atomic_store(&mover->out.pong_stamp, m->stamp.stamp);
    queue_wake(&mover->to_peer);
    return true;
}

static bool on_pong(Mover *mover, const LpmStreamMessage *m)
{
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
        atomic_store(&mover->out.ping_due, true);
    else if (probing)
        atomic_store(&mover->probe.go, true);
    if (probing)
        queue_wake(&mover->to_peer);
    return true;
}

static bool on_abort(Mover *mover, const LpmStreamMessage *m)
{
    return mover_fail(mover, LPM_STREAM_ERR_PEER, "the other system's mover gave up (%s): %.200s",
                      lpm_stream_error_name(m->reason.code), m->reason.reason);
}

static bool receive_small(Mover *mover, const uint8_t *raw, const LpmStreamHeader *header)
{
    static const struct {
        uint32_t type;
        bool (*handle)(Mover *mover, const LpmStreamMessage *message);
    } handlers[] = {
        {LPM_STREAM_ACK, on_ack},
        {LPM_STREAM_PING, on_ping},
        {LPM_STREAM_PONG, on_pong},
        {LPM_STREAM_ABORT, on_abort},
    };
    uint8_t body[SMALL_BODY];
    LpmStreamMessage m;
    if (header->length > sizeof(body))
        return mover_fail(mover, LPM_STREAM_ERR_PROTOCOL, "a record of %u bytes outside the order",
                          header->length);
    if (!link_receive_body(mover->transport, raw, header, body))
        return false;
    for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++)
        if (handlers[i].type == header->type) {
            if (lpm_stream_decode_body(header->type, body, header->length, &m) != LPM_STREAM_OK)
                break;
            return handlers[i].handle(mover, &m);
        }
    /* Optional and unknown: skipped. Anything else has no business after the greeting. */
    return (header->type & LPM_STREAM_OPTIONAL) != 0 ||
           mover_fail(mover, LPM_STREAM_ERR_PROTOCOL,
                      "record %s from the peer at the wrong time or malformed",
                      lpm_stream_type_name(header->type));
}

/* --- receiver: frames in order --- */

static bool receive_ordered(Mover *mover, const uint8_t *raw, const LpmStreamHeader *header)
{
    size_t size = LPM_STREAM_HEADER_SIZE + header->length;
    uint8_t *frame = ring_reserve(&mover->in.ring, size);
    if (!frame)
        return mover_fail(mover, LPM_STREAM_ERR_PROTOCOL,
                          "the peer sent more than the window allows");
    memcpy(frame, raw, LPM_STREAM_HEADER_SIZE);
    if (!link_receive_body(mover->transport, raw, header, frame + LPM_STREAM_HEADER_SIZE))
        return false;
    if (header->type == LPM_STREAM_CLOSE)
        atomic_store(&mover->peer_closed, true);
    ring_put(&mover->in.ring, header->type, size);
    return true;
}

/*
 * While the sender says why we give up, and until the peer has heard it: closing a socket with
 * bytes unread would take the words back.
 */
static void drain_link(Mover *mover)
{
    uint8_t nothing[SMALL_BODY];
    while (mover->transport->ops->receive(mover->transport, nothing, sizeof(nothing)))
        continue;
}

void *receiver_main(void *context)
{
    Mover *mover = context;
    bool good = link_establish(mover);
    gate_open(mover);
    while (good && !atomic_load(&mover->stopping)) {
        uint8_t raw[LPM_STREAM_HEADER_SIZE];
        LpmStreamHeader header;
        LpmStreamStatus status;
        good = link_receive_header(mover->transport, &mover->in.verifier, raw, &header, &status) &&
               (header.sequence ? receive_ordered(mover, raw, &header)
                                : receive_small(mover, raw, &header));
        if (good)
            atomic_store_explicit(&mover->heard_ns, clock_ns(), memory_order_relaxed);
    }
    bool was_connected = atomic_load(&mover->connected);
    bool expected = atomic_load(&mover->peer_closed) || atomic_load(&mover->finishing);
    if (was_connected && !expected && !atomic_load(&mover->stopping))
        mover_fail(mover, mover->transport->receive_error.code, "%s",
                   mover->transport->receive_error.reason);
    if (was_connected && atomic_load(&mover->stopping))
        drain_link(mover);
    return NULL;
}

/* --- writer --- */

static bool on_data(Mover *mover, const LpmStreamMessage *m)
{
    Inflow *in = &mover->in;
    if (m->data.offset != atomic_load(&in->handed_offset))
        return mover_fail(mover, LPM_STREAM_ERR_PROTOCOL, "the stream has a hole before byte %llu",
                          (unsigned long long)m->data.offset);
    pthread_mutex_lock(&in->check_lock);
    bool too_late = in->digest_ok;
    in->accepted += m->data.size;
    pthread_mutex_unlock(&in->check_lock);
    if (too_late)
        return mover_fail(mover, LPM_STREAM_ERR_DIGEST,
                          "more of the stream came after its digest was reported");
    if (lpm_bytes_write_full(mover->options.vasi, m->data.data, m->data.size) != 0) {
        if (!is_source(mover))
            return mover_fail(mover, LPM_STREAM_ERR_VASI, "writing to QEMU's socket failed: %s",
                              strerror(errno));
        /* QEMU on the source has left; the sender sees that end and lpm-host asks QEMU why. */
    }
    if (!is_source(mover)) {
        pthread_mutex_lock(&in->check_lock);
        stream_digest_add(&in->digest, m->data.data, m->data.size);
        pthread_mutex_unlock(&in->check_lock);
    }
    atomic_fetch_add(&in->handed_offset, m->data.size);
    return true;
}

static bool on_end(Mover *mover, const LpmStreamMessage *m)
{
    Inflow *in = &mover->in;
    LpmStreamEnd ours;
    bool tell = false;
    pthread_mutex_lock(&in->check_lock);
    bool good = stream_digest_snapshot(&in->digest, &ours);
    bool right = good && ours.total == m->end.total &&
                 memcmp(ours.digest, m->end.digest, sizeof(ours.digest)) == 0;
    if (right) {
        in->verified = ours;
        tell = in->check_wanted;
        in->check_wanted = false;
        in->digest_ok |= tell;
    }
    pthread_mutex_unlock(&in->check_lock);
    if (!good)
        return mover_fail(mover, LPM_STREAM_ERR_INTERNAL, "SHA-256 of the stream: out of memory");
    if (!right)
        return mover_fail(
            mover, LPM_STREAM_ERR_DIGEST,
            "what QEMU was given (%llu bytes) is not what the source read (%llu bytes)",
            (unsigned long long)ours.total, (unsigned long long)m->end.total);
    if (tell)
        mover_tell(mover, LPM_STREAM_DIGEST_OK, m);
    return true;
}

static bool on_check(Mover *mover, const LpmStreamMessage *m)
{
    (void)m; /* the count is for people who read a capture; END says it all */
    atomic_store(&mover->out.end_wanted, true);
    queue_wake(&mover->to_peer);
    return true;
}

static bool on_fin(Mover *mover, const LpmStreamMessage *m)
{
    Inflow *in = &mover->in;
    if (mover->config.mode == LPM_STREAM_MODE_PROBE) {
        LpmStreamMessage done = {
            .probe_done = {.bytes = mover->probe.bytes,
                           .time_us = (mover->probe.last_ns - mover->probe.first_ns) / 1000}};
        mover_send(mover, LPM_STREAM_PROBE_DONE, &done);
        return true;
    }
    if (m->total.total != atomic_load(&in->handed_offset))
        return mover_fail(mover, LPM_STREAM_ERR_DIGEST,
                          "the peer's stream ended at byte %llu, QEMU was given %llu",
                          (unsigned long long)m->total.total,
                          (unsigned long long)atomic_load(&in->handed_offset));
    shutdown(mover->options.vasi, SHUT_WR); /* QEMU sees what it would see on a direct connection */
    return true;
}

static bool on_loaded(Mover *mover, const LpmStreamMessage *m)
{
    pthread_mutex_lock(&mover->out.digest_lock);
    LpmStreamEnd ours = mover->out.last_end;
    pthread_mutex_unlock(&mover->out.digest_lock);
    if (ours.total != m->end.total || memcmp(ours.digest, m->end.digest, sizeof(ours.digest)) != 0)
        return mover_fail(mover, LPM_STREAM_ERR_DIGEST,
                          "the target loaded another stream than the source sent");
    atomic_store(&mover->state, LPM_STREAM_STATE_LOADED);
    mover_tell(mover, LPM_STREAM_LOADED, m);
    return true;
}

static bool on_peer(Mover *mover, const LpmStreamMessage *m)
{
    mover_tell(mover, LPM_STREAM_PEER, m);
    return true;
}

static bool on_hint(Mover *mover, const LpmStreamMessage *m)
{
    mover_tell(mover, LPM_STREAM_HINT, m);
    return true;
}

static bool on_close(Mover *mover, const LpmStreamMessage *m)
{
    mover_tell(mover, LPM_STREAM_PEER_CLOSED, m);
    return true;
}

static bool on_probe_data(Mover *mover, const LpmStreamMessage *m)
{
    Probe *probe = &mover->probe;
    probe->last_ns = clock_ns();
    if (probe->first_ns == 0)
        probe->first_ns = probe->last_ns;
    probe->bytes += m->data.size;
    return true;
}

static bool on_probe_done(Mover *mover, const LpmStreamMessage *m)
{
    uint64_t us = m->probe_done.time_us ? m->probe_done.time_us : 1;
    LpmStreamMessage probed = {
        .probed = {.rtt_us = atomic_load(&mover->rtt_us),
                   .bytes = m->probe_done.bytes,
                   .time_us = m->probe_done.time_us,
                   .rate = (uint64_t)((double)m->probe_done.bytes * 1e6 / (double)us)}};
    mover_tell(mover, LPM_STREAM_PROBED, &probed);
    return true;
}

typedef struct {
    uint32_t type;
    LpmStreamMode mode; /* in which it may come; 0: any */
    bool (*handle)(Mover *mover, const LpmStreamMessage *message);
} Handler;

static const Handler handlers[] = {
    {LPM_STREAM_DATA, LPM_STREAM_MODE_MOVE, on_data},
    {LPM_STREAM_END, LPM_STREAM_MODE_MOVE, on_end},
    {LPM_STREAM_CHECK, LPM_STREAM_MODE_MOVE, on_check},
    {LPM_STREAM_FIN, 0, on_fin},
    {LPM_STREAM_LOADED, LPM_STREAM_MODE_MOVE, on_loaded},
    {LPM_STREAM_PEER, 0, on_peer},
    {LPM_STREAM_HINT, 0, on_hint},
    {LPM_STREAM_CLOSE, 0, on_close},
    {LPM_STREAM_PROBE_DATA, LPM_STREAM_MODE_PROBE, on_probe_data},
    {LPM_STREAM_PROBE_DONE, LPM_STREAM_MODE_PROBE, on_probe_done},
    {LPM_STREAM_VERIFY_HASHES, LPM_STREAM_MODE_MOVE, verify_compare},
    {LPM_STREAM_VERIFY_PAGES_DATA, LPM_STREAM_MODE_MOVE, verify_repair},
    {LPM_STREAM_VERIFY_END, LPM_STREAM_MODE_MOVE, verify_end},
    {LPM_STREAM_VERIFY_REPORT, LPM_STREAM_MODE_MOVE, verify_report},
};

/* The frame's record to its handler; who may send it was checked by the receiver. */
static bool hand_on(Mover *mover, const uint8_t *frame, const RingFrame *place)
{
    for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++) {
        const Handler *h = &handlers[i];
        if (h->type != place->type)
            continue;
        LpmStreamMessage m;
        LpmStreamStatus status = lpm_stream_decode_body(place->type, frame + LPM_STREAM_HEADER_SIZE,
                                                        place->size - LPM_STREAM_HEADER_SIZE, &m);
        if (status != LPM_STREAM_OK || (h->mode && h->mode != mover->config.mode))
            return mover_fail(mover, LPM_STREAM_ERR_PROTOCOL, "record %s from the peer: %s",
                              lpm_stream_type_name(place->type),
                              status != LPM_STREAM_OK ? lpm_stream_status_text(status)
                                                      : "not in this mode");
        return h->handle(mover, &m);
    }
    return true; /* optional and unknown */
}

/* An eighth of the window at a time keeps the peer going without a record for every frame. */
static void count_handed(Mover *mover, uint32_t size)
{
    Inflow *in = &mover->in;
    atomic_fetch_add(&in->handed_frames, 1);
    in->unacked_bytes += size;
    if (in->unacked_bytes < mover->config.window / 8 && ++in->unacked_frames < RING_FRAMES / 8)
        return;
    in->unacked_bytes = 0;
    in->unacked_frames = 0;
    atomic_store(&mover->out.ack_due, true);
    queue_wake(&mover->to_peer);
}

void *writer_main(void *context)
{
    Mover *mover = context;
    Ring *ring = &mover->in.ring;
    if (!gate_wait(mover))
        return NULL;
    RingFrame place;
    for (uint8_t *frame = ring_next(ring, &place); frame; frame = ring_next(ring, &place)) {
        if (!hand_on(mover, frame, &place))
            break;
        ring_processed(ring);
        count_handed(mover, place.size);
    }
    return NULL;
}
