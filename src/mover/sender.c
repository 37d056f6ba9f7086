/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From QEMU to the link. The sender is the only thread that sends; what others want said comes
 * through the queue to_peer. Whatever is read from QEMU goes out at once, as one DATA frame; the
 * frame stays in the ring until it is hashed and acknowledged, and is there to be sent again after
 * a reconnect.
 */
#include "bytes/bytes.h"
#include "clock.h"
#include "link.h"
#include "verify.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
    DATA_HEAD = LPM_STREAM_HEADER_SIZE + 8, /* of a DATA frame before its bytes */
    SMALLEST_ROOM = 32 * 1024,              /* less window than this is not worth a frame */
    IDLE_WAIT_MS = 1000,
    PROBE_FRAME = 128 * 1024,
};

typedef enum { STEP_DONE, STEP_NOTHING, STEP_FAILED } Step;

uint64_t sender_window_left(Mover *mover)
{
    uint64_t used = ring_held(&mover->out.ring);
    return used < mover->window ? mover->window - used : 0;
}

static bool link_failed(Mover *mover)
{
    /* A peer that has said CLOSE owes us nothing more. */
    if (atomic_load(&mover->peer_closed))
        return false;
    return mover_fail(mover, mover->transport->send_error.code, "%s",
                      mover->transport->send_error.reason);
}

/* Waits for news or @timeout_ms; for QEMU's bytes, too, when @for_qemu. */
static void wait_for_news(Mover *mover, bool for_qemu, int timeout_ms)
{
    struct pollfd waiting[2] = {{.fd = mover->to_peer.wake, .events = POLLIN},
                                {.fd = for_qemu ? mover->options.vasi : -1, .events = POLLIN}};
    poll(waiting, 2, timeout_ms);
    if (waiting[0].revents)
        queue_clear_wake(&mover->to_peer);
}

static void obey_throttle(Mover *mover, size_t size)
{
    for (;;) {
        uint64_t delay_ns = throttle_delay_ns(&mover->throttle, clock_ns());
        if (delay_ns == 0 || atomic_load(&mover->stopping))
            break;
        wait_for_news(mover, false, (int)(delay_ns / NS_PER_MS) + 1);
    }
    throttle_spend(&mover->throttle, size);
}

/* The frame of @size bytes at @frame, complete but for its header. */
static bool send_frame(Mover *mover, uint32_t type, uint8_t *frame, size_t size)
{
    Outflow *out = &mover->out;
    LpmStreamHeader header = {.version = LPM_STREAM_VERSION,
                              .type = type,
                              .sequence = ++out->sequence,
                              .length = (uint32_t)(size - LPM_STREAM_HEADER_SIZE)};
    memcpy(header.migration, mover->config.migration, LPM_STREAM_ID_SIZE);
    lpm_stream_encode_header(&header, frame + LPM_STREAM_HEADER_SIZE, frame);
    obey_throttle(mover, size);
    ring_put(&out->ring, type, size); /* from here on the hasher works beside us */
    return mover->transport->ops->send(mover->transport, frame, size) || link_failed(mover);
}

bool sender_send(Mover *mover, uint32_t type, const LpmStreamMessage *message)
{
    size_t size;
    uint8_t *frame = ring_reserve(&mover->out.ring, FRAME_MAX);
    if (!frame || lpm_stream_encode_body(type, message, frame + LPM_STREAM_HEADER_SIZE,
                                         LPM_STREAM_BODY_MAX, &size) != LPM_STREAM_OK)
        return mover_fail(mover, LPM_STREAM_ERR_INTERNAL, "record %s does not fit",
                          lpm_stream_type_name(type));
    return send_frame(mover, type, frame, LPM_STREAM_HEADER_SIZE + size);
}

/* --- what is not ordered --- */

static bool send_small(Mover *mover, uint32_t type, const LpmStreamMessage *message)
{
    return link_send(mover, mover->transport, type, message) || link_failed(mover);
}

static bool send_small_records(Mover *mover)
{
    Outflow *out = &mover->out;
    LpmStreamMessage m = {0};
    m.stamp.stamp = atomic_exchange(&out->pong_stamp, 0);
    if (m.stamp.stamp != 0 && !send_small(mover, LPM_STREAM_PONG, &m))
        return false;
    if (atomic_exchange(&out->ping_due, false)) {
        m.stamp.stamp = clock_ns();
        if (!send_small(mover, LPM_STREAM_PING, &m))
            return false;
    }
    uint64_t frames = atomic_load(&mover->in.handed_frames);
    if (atomic_exchange(&out->ack_due, false) && frames > out->acked_frames) {
        out->acked_frames = frames;
        m.ack = (LpmStreamAck){.sequence = frames, .offset = atomic_load(&mover->in.handed_offset)};
        return send_small(mover, LPM_STREAM_ACK, &m);
    }
    return true;
}

/* --- the queue --- */

static Step send_queued(Mover *mover)
{
    int64_t size = queue_peek(&mover->to_peer);
    if (size < 0 || (uint64_t)size + LPM_STREAM_HEADER_SIZE > sender_window_left(mover))
        return STEP_NOTHING;
    QueueItem *item = queue_pop(&mover->to_peer);
    uint32_t type = item->type;
    uint8_t *frame = ring_reserve(&mover->out.ring, LPM_STREAM_HEADER_SIZE + item->size);
    if (frame)
        memcpy(frame + LPM_STREAM_HEADER_SIZE, item->body, item->size);
    size_t frame_size = LPM_STREAM_HEADER_SIZE + item->size;
    free(item);
    if (!frame)
        return mover_fail(mover, LPM_STREAM_ERR_INTERNAL, "no room for a record"), STEP_FAILED;
    if (!send_frame(mover, type, frame, frame_size))
        return STEP_FAILED;
    if (type == LPM_STREAM_CLOSE) {
        mover->out.close_sent = true;
        mover->transport->ops->finish(mover->transport);
    }
    return STEP_DONE;
}

/* --- the stream --- */

static void count_stall(Mover *mover, bool stalled)
{
    Outflow *out = &mover->out;
    if (stalled && out->stall_began_ns == 0) {
        out->stall_began_ns = clock_ns();
        atomic_fetch_add(&mover->stalls, 1);
    } else if (!stalled && out->stall_began_ns != 0) {
        atomic_fetch_add(&mover->stall_ns, clock_ns() - out->stall_began_ns);
        out->stall_began_ns = 0;
    }
}

static void end_of_vasi(Mover *mover)
{
    LpmStreamMessage m = {.total = {.total = mover->out.offset}};
    mover->out.vasi_ended = true;
    atomic_store(&mover->out.end_wanted, true);
    mover_tell(mover, LPM_STREAM_VASI_EOF, &m);
}

/* QEMU's next bytes into @at: their number, 0 at none (yet or any more), -1 on failure. */
static ssize_t read_vasi(Mover *mover, uint8_t *at, size_t size)
{
    ssize_t n = recv(mover->options.vasi, at, size, MSG_DONTWAIT);
    if (n > 0)
        return n;
    /* QEMU that closes with bytes unread is seen as a reset: an end like any other, since totals
     * decide. */
    if (n == 0 || errno == ECONNRESET) {
        end_of_vasi(mover);
        return 0;
    }
    if (errno == EAGAIN || errno == EINTR)
        return 0;
    mover_fail(mover, LPM_STREAM_ERR_VASI, "reading QEMU's socket failed: %s", strerror(errno));
    return -1;
}

/* The probe's bytes instead of QEMU's. */
static ssize_t read_probe(Mover *mover, uint8_t *at, size_t size)
{
    uint64_t left = mover->config.probe_bytes - mover->out.offset;
    if (!atomic_load(&mover->probe.go) || mover->out.vasi_ended)
        return 0;
    if (left == 0) {
        mover->out.vasi_ended = true;
        return 0;
    }
    size = size > PROBE_FRAME ? PROBE_FRAME : size;
    size = size > left ? (size_t)left : size;
    memset(at, 0x5a, size);
    return (ssize_t)size;
}

static Step send_stream(Mover *mover)
{
    Outflow *out = &mover->out;
    bool probing = mover->config.mode == LPM_STREAM_MODE_PROBE;
    if (out->vasi_ended || (probing && !is_source(mover)))
        return STEP_NOTHING;
    uint64_t room = sender_window_left(mover);
    bool stalled = room < SMALLEST_ROOM;
    size_t want =
        room < DATA_HEAD + LPM_STREAM_DATA_MAX ? (size_t)room - DATA_HEAD : LPM_STREAM_DATA_MAX;
    uint8_t *frame = stalled ? NULL : ring_reserve(&out->ring, DATA_HEAD + want);
    count_stall(mover, !frame);
    if (!frame)
        return STEP_NOTHING;
    ssize_t n = probing ? read_probe(mover, frame + DATA_HEAD, want)
                        : read_vasi(mover, frame + DATA_HEAD, want);
    if (n <= 0)
        return n < 0 ? STEP_FAILED : STEP_NOTHING;
    LpmByteWriter w = lpm_bytes_writer(frame + LPM_STREAM_HEADER_SIZE, 8);
    lpm_bytes_put_u64(&w, out->offset);
    out->offset += (uint64_t)n;
    if (!send_frame(mover, probing ? LPM_STREAM_PROBE_DATA : LPM_STREAM_DATA, frame,
                    DATA_HEAD + (size_t)n))
        return STEP_FAILED;
    atomic_store(&mover->out_offset, out->offset);
    return STEP_DONE;
}

/* Source: END, when it is wanted and everything sent has been hashed. The hasher wakes us when it
 * has caught up. */
static Step send_end(Mover *mover)
{
    Outflow *out = &mover->out;
    LpmStreamMessage m;
    pthread_mutex_lock(&out->digest_lock);
    bool news = out->last_end.total != out->offset;
    bool due = atomic_load(&out->end_wanted) || (atomic_load(&out->end_eager) && news);
    bool ready = due && out->digest.total == out->offset;
    bool good = !ready || stream_digest_snapshot(&out->digest, &m.end);
    if (ready && good)
        out->last_end = m.end;
    pthread_mutex_unlock(&out->digest_lock);
    if (!good)
        return mover_fail(mover, LPM_STREAM_ERR_INTERNAL, "SHA-256 of the stream: out of memory"),
               STEP_FAILED;
    if (!ready)
        return STEP_NOTHING;
    atomic_store(&out->end_wanted, false);
    return sender_send(mover, LPM_STREAM_END, &m) ? STEP_DONE : STEP_FAILED;
}

/* QEMU has closed: the totals, then FIN, after the last byte. */
static Step send_fin(Mover *mover)
{
    Outflow *out = &mover->out;
    if (!out->vasi_ended || out->fin_sent || atomic_load(&out->end_wanted))
        return STEP_NOTHING;
    LpmStreamMessage m = {.total = {.total = out->offset}};
    out->fin_sent = true;
    return sender_send(mover, LPM_STREAM_FIN, &m) ? STEP_DONE : STEP_FAILED;
}

/* What happens when QEMU has nothing to say at the moment. */
static Step use_the_pause(Mover *mover)
{
    Step step = STEP_NOTHING;
    if (sender_window_left(mover) < SMALLEST_ROOM)
        return step;
    if (is_source(mover) && mover->config.mode == LPM_STREAM_MODE_MOVE)
        step = send_end(mover);
    else
        atomic_store(&mover->out.end_wanted, false);
    if (step == STEP_NOTHING)
        step = send_fin(mover);
    if (step == STEP_NOTHING && verify_wants_to_send(mover))
        step = verify_send_hashes(mover) ? STEP_DONE : STEP_FAILED;
    return step;
}

static void wait_for_work(Mover *mover)
{
    Outflow *out = &mover->out;
    ring_nudge(&out->ring);
    bool full = sender_window_left(mover) < SMALLEST_ROOM;
    atomic_store(&out->wants_room, full);
    /* Looked at again: who frees room looks at the wish only after it has freed it. */
    if (!full || sender_window_left(mover) < SMALLEST_ROOM)
        wait_for_news(mover, !full && !out->vasi_ended, IDLE_WAIT_MS);
    atomic_store(&out->wants_room, false);
}

static void say_why(Mover *mover)
{
    LpmStreamMessage m;
    pthread_mutex_lock(&mover->failure_lock);
    m.reason = mover->failure;
    pthread_mutex_unlock(&mover->failure_lock);
    if (m.reason.code != LPM_STREAM_ERR_NONE && m.reason.code != LPM_STREAM_ERR_LINK &&
        m.reason.code != LPM_STREAM_ERR_PEER && !mover->out.close_sent) {
        link_send(mover, mover->transport, LPM_STREAM_ABORT, &m);
        mover->transport->ops->finish(mover->transport);
    }
}

void *sender_main(void *context)
{
    Mover *mover = context;
    if (!gate_wait(mover))
        return NULL;
    atomic_store(&mover->out.ping_due, true);
    while (!atomic_load(&mover->stopping) && !mover->out.close_sent) {
        if (!send_small_records(mover))
            break;
        Step step = send_queued(mover);
        if (step == STEP_NOTHING)
            step = send_stream(mover);
        if (step == STEP_NOTHING)
            step = use_the_pause(mover);
        if (step == STEP_FAILED)
            break;
        if (step == STEP_NOTHING)
            wait_for_work(mover);
    }
    if (atomic_load(&mover->stopping))
        say_why(mover);
    atomic_store(&mover->sender_done, true);
    queue_wake(&mover->to_host);
    return NULL;
}

void *hasher_main(void *context)
{
    Mover *mover = context;
    Outflow *out = &mover->out;
    if (!gate_wait(mover))
        return NULL;
    RingFrame frame;
    for (uint8_t *at = ring_next(&out->ring, &frame); at; at = ring_next(&out->ring, &frame)) {
        if (frame.type == LPM_STREAM_DATA) {
            pthread_mutex_lock(&out->digest_lock);
            stream_digest_add(&out->digest, at + DATA_HEAD, frame.size - DATA_HEAD);
            pthread_mutex_unlock(&out->digest_lock);
        }
        bool caught_up = ring_processed(&out->ring);
        bool end_due = atomic_load(&out->end_wanted) || atomic_load(&out->end_eager);
        if ((caught_up && end_due) || atomic_load(&out->wants_room))
            queue_wake(&mover->to_peer);
    }
    return NULL;
}
