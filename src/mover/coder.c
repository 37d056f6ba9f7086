/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From QEMU to the outbox: reads QEMU's socket, codes what it reads as far as that pays, numbers
 * the frames. What others want said in order comes through the queue to_peer. Nothing is held back:
 * a batch that is not full waits only while the link has other work.
 */
#include "coder.h"

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
    SMALLEST_ROOM = 32 * 1024, /* less window than this is not worth a frame */
    IDLE_WAIT_MS = 1000,
    GATHER_WAIT_MS = 2, /* for the rest of a page that came in two */
    PROBE_FRAME = 128 * 1024,
    DATA_PREFIX = 8,  /* offset */
    CODED_PREFIX = 9, /* channel and offset */
};

typedef enum { STEP_DONE, STEP_NOTHING, STEP_FAILED } Step;

/* --- room --- */

static uint64_t window_left(Mover *mover)
{
    OutboxLevel level = outbox_level(&mover->out.box);
    if (level.held_bytes >= mover->window || level.raw_bytes >= RAW_WINDOW ||
        !outbox_has_place(&mover->out.box))
        return 0;
    return mover->window - level.held_bytes;
}

static bool has_room(Mover *mover)
{
    return window_left(mover) >= SMALLEST_ROOM;
}

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

/* --- frames --- */

/* The frame, complete but for its header, into the outbox. */
static void put_frame(Mover *mover, Frame *frame)
{
    LpmStreamHeader header = {.version = LPM_STREAM_VERSION,
                              .type = frame->type,
                              .sequence = outbox_next_sequence(&mover->out.box),
                              .length = frame->size - LPM_STREAM_HEADER_SIZE};
    memcpy(header.migration, mover->config.migration, LPM_STREAM_ID_SIZE);
    lpm_stream_encode_header(&header, frame_body(frame), frame->bytes);
    outbox_put(&mover->out.box, frame);
}

static bool no_memory(Mover *mover)
{
    return mover_fail(mover, LPM_STREAM_ERR_INTERNAL, "out of memory for a frame");
}

bool coder_send(Mover *mover, uint32_t type, const LpmStreamMessage *message)
{
    size_t size;
    Frame *frame = frame_new(type, FRAME_MAX);
    if (!frame)
        return no_memory(mover);
    if (lpm_stream_encode_body(type, message, frame_body(frame), LPM_STREAM_BODY_MAX, &size) !=
        LPM_STREAM_OK) {
        frame_free(frame);
        return mover_fail(mover, LPM_STREAM_ERR_INTERNAL, "record %s does not fit",
                          lpm_stream_type_name(type));
    }
    frame->size = (uint32_t)(LPM_STREAM_HEADER_SIZE + size);
    put_frame(mover, frame_trim(frame));
    return true;
}

static Step send_queued(Mover *mover)
{
    int64_t size = queue_peek(&mover->to_peer);
    if (size < 0 || (uint64_t)size + LPM_STREAM_HEADER_SIZE > window_left(mover))
        return STEP_NOTHING;
    QueueItem *item = queue_pop(&mover->to_peer);
    Frame *frame = frame_new(item->type, LPM_STREAM_HEADER_SIZE + item->size);
    if (frame)
        memcpy(frame_body(frame), item->body, item->size);
    free(item);
    if (!frame)
        return no_memory(mover), STEP_FAILED;
    mover->out.close_queued |= frame->type == LPM_STREAM_CLOSE;
    put_frame(mover, frame);
    return STEP_DONE;
}

/* --- QEMU --- */

static void end_of_vasi(Mover *mover)
{
    LpmStreamMessage m = {.total = {.total = mover->out.offset[0]}};
    mover->out.vasi_ended = true;
    atomic_store(&mover->out.end_wanted, true);
    mover_tell(mover, LPM_STREAM_VASI_EOF, &m);
}

/* QEMU's next bytes into @at: their number, 0 at none (yet or any more), -1 on failure. */
static ssize_t read_vasi(Mover *mover, uint8_t *at, size_t size)
{
    ssize_t n = recv(mover->options.vasi[0], at, size, MSG_DONTWAIT);
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
    uint64_t left = mover->config.probe_bytes - mover->out.offset[0];
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

static bool is_probing(const Mover *mover)
{
    return mover->config.mode == LPM_STREAM_MODE_PROBE;
}

static bool stream_is_over(const Mover *mover)
{
    return mover->out.vasi_ended || (is_probing(mover) && !is_source(mover));
}

static void count_stream(Mover *mover, const uint8_t *data, size_t size)
{
    if (is_source(mover) && !is_probing(mover))
        stream_digest_add(&mover->out.digest, data, size);
    mover->out.offset[0] += size;
    atomic_store(&mover->out_offset, mover->out.offset[0]);
}

/* --- as it is --- */

/* One read, one frame. */
static Step pass_on(Coder *c)
{
    Mover *mover = c->mover;
    uint64_t room = window_left(mover);
    size_t want = room < LPM_STREAM_DATA_MAX ? (size_t)room : LPM_STREAM_DATA_MAX;
    uint32_t head = LPM_STREAM_HEADER_SIZE + DATA_PREFIX;
    Frame *frame = frame_new(is_probing(mover) ? LPM_STREAM_PROBE_DATA : LPM_STREAM_DATA,
                             head + (uint32_t)want);
    if (!frame)
        return no_memory(mover), STEP_FAILED;
    uint8_t *data = frame->bytes + head;
    ssize_t n = is_probing(mover) ? read_probe(mover, data, want) : read_vasi(mover, data, want);
    if (n <= 0) {
        frame_free(frame);
        return n < 0 ? STEP_FAILED : STEP_NOTHING;
    }
    LpmByteWriter w = lpm_bytes_writer(frame_body(frame), DATA_PREFIX);
    lpm_bytes_put_u64(&w, mover->out.offset[0]);
    frame->size = head + (uint32_t)n;
    frame = (size_t)n < want ? frame_trim(frame) : frame;
    count_stream(mover, frame->bytes + head, (size_t)n);
    /* To know the place in the stream, should coding pay again. */
    size_t units, consumed = 0;
    while (c->reader && consumed < (size_t)n)
        consumed +=
            lpm_qstream_read(c->reader, frame->bytes + head + consumed, (size_t)n - consumed, true,
                             c->units, LPM_CODEC_UNITS_MAX, &units);
    put_frame(mover, frame);
    return STEP_DONE;
}

/* --- coded --- */

static bool fresh_batch(Coder *c, const uint8_t *rest, size_t size)
{
    c->raw = malloc(LPM_CODEC_RAW_MAX);
    c->fill = size;
    if (!c->raw)
        return no_memory(c->mover);
    memcpy(c->raw, rest, size);
    return true;
}

/* The batch's own bytes stay with the frame: all of a nearly full one, a copy of a short one. */
static bool keep_raw(Coder *c, Frame *frame, size_t size)
{
    uint8_t *raw = c->raw;
    size_t rest = c->fill - size;
    frame->raw_size = (uint32_t)size;
    if (size >= LPM_CODEC_RAW_MAX / 2) {
        frame->raw = raw;
        return fresh_batch(c, raw + size, rest);
    }
    frame->raw = malloc(size);
    if (!frame->raw)
        return no_memory(c->mover);
    memcpy(frame->raw, raw, size);
    memmove(raw, raw + size, rest);
    c->fill = rest;
    return true;
}

/* What of the batch can be cut into units goes out; all of it with @flush. */
static Step send_batch(Coder *c, bool flush)
{
    Mover *mover = c->mover;
    size_t n;
    size_t size =
        lpm_qstream_read(c->reader, c->raw, c->fill, flush, c->units, LPM_CODEC_UNITS_MAX, &n);
    if (size == 0)
        return STEP_NOTHING;
    uint32_t head = LPM_STREAM_HEADER_SIZE + CODED_PREFIX;
    Frame *frame = frame_new(LPM_STREAM_CODED, head + LPM_CODEC_BODY_MAX);
    if (!frame)
        return no_memory(mover), STEP_FAILED;
    LpmByteWriter w = lpm_bytes_writer(frame_body(frame), CODED_PREFIX);
    lpm_bytes_put_u8(&w, 0);
    lpm_bytes_put_u64(&w, mover->out.offset[0]);
    frame->size =
        head + (uint32_t)lpm_encoder_encode(c->encoder, c->units, n, effort_now(&mover->effort),
                                            frame->bytes + head);
    frame = frame_trim(frame);
    count_stream(mover, c->raw, size);
    if (!keep_raw(c, frame, size)) {
        frame_free(frame);
        return STEP_FAILED;
    }
    put_frame(mover, frame);
    mover_publish_counts(mover, lpm_encoder_counts(c->encoder));
    return STEP_DONE;
}

static void judge_effort(Coder *c)
{
    Mover *mover = c->mover;
    unsigned up = link_totals(mover).up;
    effort_judge(&mover->effort, clock_ns(), atomic_load(&mover->blocked_ns), up ? up : 1);
}

/* Nothing more comes from QEMU just now. */
static Step send_rest(Coder *c)
{
    if (c->fill == 0)
        return STEP_NOTHING;
    uint64_t now = clock_ns();
    bool over = c->mover->out.vasi_ended;
    bool late = now - c->read_ns > (uint64_t)GATHER_WAIT_MS * NS_PER_MS;
    if (!over && !late && !outbox_level(&c->mover->out.box).idle)
        return STEP_NOTHING;
    return send_batch(c, over || late);
}

static Step send_coded(Coder *c)
{
    Mover *mover = c->mover;
    if (c->fill < LPM_CODEC_RAW_MAX && !mover->out.vasi_ended) {
        ssize_t n = read_vasi(mover, c->raw + c->fill, LPM_CODEC_RAW_MAX - c->fill);
        if (n < 0)
            return STEP_FAILED;
        if (n == 0)
            return send_rest(c);
        c->fill += (size_t)n;
        c->read_ns = clock_ns();
    }
    if (c->fill < LPM_CODEC_RAW_MAX)
        return mover->out.vasi_ended ? send_rest(c) : STEP_DONE;
    Step step = send_batch(c, false);
    judge_effort(c);
    return step;
}

/* --- the stream --- */

static Step send_stream(Coder *c)
{
    Mover *mover = c->mover;
    bool rest = c->fill > 0;
    if ((stream_is_over(mover) && !rest) || c->waits_for_base)
        return STEP_NOTHING;
    bool room = has_room(mover);
    count_stall(mover, !room);
    if (!room)
        return STEP_NOTHING;
    if (!c->encoder)
        return pass_on(c);
    if (!effort_passes_through(&mover->effort))
        return send_coded(c);
    judge_effort(c);
    return rest ? send_batch(c, true) : pass_on(c);
}

/* Source: END, when it is wanted: everything read is hashed and sent. */
static Step send_end(Coder *c)
{
    Outflow *out = &c->mover->out;
    LpmStreamMessage m;
    bool news = out->last_end.total != out->offset[0];
    if (!atomic_load(&out->end_wanted) && !(atomic_load(&out->end_eager) && news))
        return STEP_NOTHING;
    if (!stream_digest_snapshot(&out->digest, &m.end))
        return mover_fail(c->mover, LPM_STREAM_ERR_INTERNAL,
                          "SHA-256 of the stream: out of memory"),
               STEP_FAILED;
    pthread_mutex_lock(&out->digest_lock);
    out->last_end = m.end;
    pthread_mutex_unlock(&out->digest_lock);
    atomic_store(&out->end_wanted, false);
    return coder_send(c->mover, LPM_STREAM_END, &m) ? STEP_DONE : STEP_FAILED;
}

/* QEMU has closed: the image's next name, the totals, then FIN, after the last byte. */
static Step send_fin(Mover *mover)
{
    Outflow *out = &mover->out;
    if (!out->vasi_ended || out->fin_sent || atomic_load(&out->end_wanted))
        return STEP_NOTHING;
    out->fin_sent = true;
    LpmStreamMessage m = {0};
    if (image_codec(&mover->image) && is_source(mover)) {
        memcpy(m.seal.image, mover->config.migration, sizeof(m.seal.image));
        image_will_seal(&mover->image, m.seal.image);
        if (!coder_send(mover, LPM_STREAM_SEAL, &m))
            return STEP_FAILED;
    }
    m.total.total = out->offset[0];
    return coder_send(mover, LPM_STREAM_FIN, &m) ? STEP_DONE : STEP_FAILED;
}

/* What happens when QEMU has nothing to say at the moment. */
static Step use_the_pause(Coder *c)
{
    Mover *mover = c->mover;
    Step step = STEP_NOTHING;
    if (!has_room(mover) || c->fill > 0)
        return step;
    if (is_source(mover) && !is_probing(mover))
        step = send_end(c);
    else
        atomic_store(&mover->out.end_wanted, false);
    if (step == STEP_NOTHING)
        step = send_fin(mover);
    if (step == STEP_NOTHING && verify_wants_to_send(mover))
        step = verify_send_hashes(mover) ? STEP_DONE : STEP_FAILED;
    return step;
}

/* Waits for news, or QEMU's bytes; shortly when some bytes wait for their rest. */
static void wait_for_work(Coder *c)
{
    Mover *mover = c->mover;
    bool full = !has_room(mover);
    atomic_store(&mover->out.wants_room, full);
    /* Looked at again: who frees room looks at the wish only after it has freed it. */
    if (!full || !has_room(mover)) {
        bool listen = !full && !mover->out.vasi_ended && !c->waits_for_base;
        struct pollfd waiting[2] = {{.fd = mover->to_peer.wake, .events = POLLIN},
                                    {.fd = listen ? mover->options.vasi[0] : -1, .events = POLLIN}};
        poll(waiting, 2, c->fill > 0 && !full ? GATHER_WAIT_MS : IDLE_WAIT_MS);
        if (waiting[0].revents)
            queue_clear_wake(&mover->to_peer);
    }
    atomic_store(&mover->out.wants_room, false);
}

/* --- the beginning --- */

static bool begin_coding(Coder *c)
{
    Mover *mover = c->mover;
    c->waits_for_base = false;
    c->reader = lpm_qstream_new(&c->blocks);
    c->encoder = lpm_encoder_new(&c->blocks, image_codec(&mover->image));
    effort_init(&mover->effort, clock_ns(), atomic_load(&mover->base_answer) == BASE_USABLE);
    return (c->reader && c->encoder && fresh_batch(c, NULL, 0)) || no_memory(mover);
}

/* With images: what both hold is agreed on first. */
static bool begin(Coder *c)
{
    Mover *mover = c->mover;
    bool codes = is_source(mover) && !is_probing(mover) &&
                 mover->features & LPM_STREAM_FEATURE_CODED &&
                 mover->config.codec == LPM_STREAM_CODEC_AUTO;
    c->units = codes ? calloc(LPM_CODEC_UNITS_MAX, sizeof(*c->units)) : NULL;
    if (!codes)
        return true;
    if (!c->units)
        return no_memory(mover);
    if (!(mover->features & LPM_STREAM_FEATURE_IMAGES))
        return begin_coding(c);
    LpmStreamMessage m = {0};
    image_base(&mover->image, &m.base);
    c->waits_for_base = true;
    return coder_send(mover, LPM_STREAM_BASE, &m);
}

/* The writer has heard BASE_ACK. */
static bool base_is_answered(Coder *c)
{
    Mover *mover = c->mover;
    int answer = atomic_load(&mover->base_answer);
    if (!c->waits_for_base || answer == BASE_UNKNOWN)
        return true;
    image_begin(&mover->image, answer == BASE_USABLE);
    return begin_coding(c);
}

void coder_main(Mover *mover)
{
    Coder c = {.mover = mover};
    if (!gate_wait(mover) || !begin(&c))
        return;
    while (!atomic_load(&mover->stopping) && !mover->out.close_queued) {
        if (!base_is_answered(&c))
            break;
        Step step = send_queued(mover);
        if (step == STEP_NOTHING)
            step = send_stream(&c);
        if (step == STEP_NOTHING)
            step = use_the_pause(&c);
        if (step == STEP_FAILED)
            break;
        if (step == STEP_NOTHING)
            wait_for_work(&c);
    }
}
