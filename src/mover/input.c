/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One of QEMU's sockets on its way into frames: coded batches as far as that pays, else every read
 * a frame as it is. Nothing is held back: a batch that is not full waits only while the link has
 * other work.
 */
#include "bytes/bytes.h"
#include "clock.h"
#include "coder.h"
#include "link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
    GATHER_WAIT_MS = 2, /* for the rest of a page that came in two */
    PROBE_FRAME = 128 * 1024,
    /* Enough to know a link, in round trips; what goes on slow ones is somebody's. */
    PROBE_TRIPS = 20,
    PROBE_SHORT_MS = 25,
    PROBE_LONG_MS = 200,
    PROBE_LEAST = 1024 * 1024, /* more than the buffers on the way */
    OFFSET_PREFIX = 8,         /* of DATA: offset */
    CHANNEL_PREFIX = 9,        /* of CODED and CHANNEL_DATA: channel and offset */
};

static Channel *channel_of(Coder *c, const Input *input)
{
    return &c->mover->channels[input->channel];
}

bool is_probing(const Mover *mover)
{
    return mover->config.mode == LPM_STREAM_MODE_PROBE;
}

static Step no_memory(Coder *c)
{
    mover_fail(c->mover, LPM_STREAM_ERR_INTERNAL, "out of memory for a frame");
    return STEP_FAILED;
}

/* --- QEMU --- */

static void end_of_channel(Coder *c, const Input *input)
{
    Mover *mover = c->mover;
    Channel *channel = channel_of(c, input);
    channel->ended = true;
    if (input->channel > 0)
        return;
    LpmStreamMessage m = {.total = {.total = mover->out.offset}};
    for (unsigned i = 0; i < c->n_inputs; i++)
        m.total.total += c->inputs[i].fill;
    mover->out.vasi_ended = true;
    atomic_store(&mover->out.end_wanted, true);
    mover_tell(mover, LPM_STREAM_VASI_EOF, &m);
}

static bool is_probed_enough(const Mover *mover, uint64_t sent, uint64_t now_ns)
{
    uint64_t ms = (uint64_t)atomic_load(&mover->rtt_us) * PROBE_TRIPS / 1000;
    ms = ms < PROBE_SHORT_MS ? PROBE_SHORT_MS : ms > PROBE_LONG_MS ? PROBE_LONG_MS : ms;
    return sent >= PROBE_LEAST && now_ns - mover->probe.began_ns > ms * NS_PER_MS;
}

/* The probe's bytes instead of QEMU's. */
static ssize_t read_probe(Mover *mover, uint8_t *at, size_t size)
{
    uint64_t sent = mover->out.offset, left = mover->config.probe_bytes - sent;
    uint64_t now_ns = clock_ns();
    if (!atomic_load(&mover->probe.go) || mover->out.vasi_ended)
        return 0;
    if (sent == 0)
        mover->probe.began_ns = now_ns;
    if (left == 0 || is_probed_enough(mover, sent, now_ns)) {
        mover->out.vasi_ended = mover->channels[0].ended = true;
        return 0;
    }
    size = size > PROBE_FRAME ? PROBE_FRAME : size;
    size = size > left ? (size_t)left : size;
    memset(at, 0x5a, size);
    return (ssize_t)size;
}

/* QEMU's next bytes into @at: their number, 0 at none (yet or any more), -1 on failure. */
static ssize_t read_input(Coder *c, Input *input, uint8_t *at, size_t size)
{
    Mover *mover = c->mover;
    if (is_probing(mover))
        return read_probe(mover, at, size);
    ssize_t n = recv(channel_fd(mover, input->channel), at, size, MSG_DONTWAIT);
    if (n > 0)
        return n;
    /* QEMU that closes with bytes unread is seen as a reset: an end like any other, since totals
     * decide. */
    if (n == 0 || errno == ECONNRESET) {
        end_of_channel(c, input);
        return 0;
    }
    if (errno == EAGAIN || errno == EINTR)
        return 0;
    mover_fail(mover, LPM_STREAM_ERR_VASI, "reading QEMU's socket %u failed: %s", input->channel,
               strerror(errno));
    return -1;
}

static void count_stream(Coder *c, const Input *input, const uint8_t *data, size_t size)
{
    Mover *mover = c->mover;
    Channel *channel = channel_of(c, input);
    if (is_source(mover) && !is_probing(mover))
        stream_digest_add(&channel->digest, data, size);
    channel->offset += size;
    mover->out.offset += size;
    atomic_store(&mover->out_offset, mover->out.offset);
}

/* Where the stream's bytes begin in a frame of @type; the prefix is written. */
static uint32_t put_prefix(Coder *c, const Input *input, Frame *frame)
{
    bool channel = frame->type == LPM_STREAM_CODED || frame->type == LPM_STREAM_CHANNEL_DATA;
    uint32_t size = channel ? CHANNEL_PREFIX : OFFSET_PREFIX;
    LpmByteWriter w = lpm_bytes_writer(frame_body(frame), size);
    if (channel)
        lpm_bytes_put_u8(&w, (uint8_t)input->channel);
    lpm_bytes_put_u64(&w, channel_of(c, input)->offset);
    return LPM_STREAM_HEADER_SIZE + size;
}

/* --- as it is --- */

static uint32_t plain_type(const Coder *c, const Input *input)
{
    if (is_probing(c->mover))
        return LPM_STREAM_PROBE_DATA;
    return input->channel > 0 ? LPM_STREAM_CHANNEL_DATA : LPM_STREAM_DATA;
}

/* To know the place in the stream, should coding pay again. */
static void follow(Coder *c, Input *input, const uint8_t *data, size_t size)
{
    size_t units, consumed = 0;
    while (input->reader && consumed < size)
        consumed += lpm_qstream_read(input->reader, data + consumed, size - consumed, true,
                                     c->units, LPM_CODEC_UNITS_MAX, &units);
}

/* One read, one frame. */
static Step pass_on(Coder *c, Input *input)
{
    uint64_t room = coder_room(c->mover);
    size_t want = room < LPM_STREAM_DATA_MAX ? (size_t)room : LPM_STREAM_DATA_MAX;
    Frame *frame =
        frame_new(plain_type(c, input), LPM_STREAM_HEADER_SIZE + CHANNEL_PREFIX + (uint32_t)want);
    if (!frame)
        return no_memory(c);
    uint32_t head = put_prefix(c, input, frame);
    ssize_t n = read_input(c, input, frame->bytes + head, want);
    if (n <= 0) {
        frame_free(frame);
        return n < 0 ? STEP_FAILED : STEP_NOTHING;
    }
    frame->size = head + (uint32_t)n;
    frame = (size_t)n < want ? frame_trim(frame) : frame;
    effort_note(&c->mover->effort, (uint64_t)n, (uint64_t)n);
    count_stream(c, input, frame->bytes + head, (size_t)n);
    follow(c, input, frame->bytes + head, (size_t)n);
    coder_put(c->mover, frame);
    return STEP_DONE;
}

/* --- coded --- */

static bool fresh_batch(Input *input, const uint8_t *rest, size_t size)
{
    input->raw = malloc(LPM_CODEC_RAW_MAX);
    input->fill = size;
    if (input->raw && size > 0)
        memcpy(input->raw, rest, size);
    return input->raw != NULL;
}

/* The batch's own bytes stay with the frame: all of a nearly full one, a copy of a short one. */
static bool keep_raw(Input *input, Frame *frame, size_t size)
{
    uint8_t *raw = input->raw;
    size_t rest = input->fill - size;
    frame->raw_size = (uint32_t)size;
    if (size >= LPM_CODEC_RAW_MAX / 2) {
        frame->raw = raw;
        return fresh_batch(input, raw + size, rest);
    }
    frame->raw = malloc(size);
    if (!frame->raw)
        return false;
    memcpy(frame->raw, raw, size);
    memmove(raw, raw + size, rest);
    input->fill = rest;
    return true;
}

/* What the coder could not say in a few bytes, ever. */
static uint64_t unpacked_bytes(const Coder *c)
{
    const LpmCodecCounts *counts = lpm_encoder_counts(c->encoder);
    return counts->pages_literal * LPM_QSTREAM_PAGE_SIZE + counts->bytes_opaque +
           counts->bytes_delta;
}

/* What of the batch can be cut into units goes out; all of it with @flush. */
static Step send_batch(Coder *c, Input *input, bool flush)
{
    Mover *mover = c->mover;
    size_t n;
    size_t size = lpm_qstream_read(input->reader, input->raw, input->fill, flush, c->units,
                                   LPM_CODEC_UNITS_MAX, &n);
    if (size == 0)
        return STEP_NOTHING;
    Frame *frame =
        frame_new(LPM_STREAM_CODED, LPM_STREAM_HEADER_SIZE + CHANNEL_PREFIX + LPM_CODEC_BODY_MAX);
    if (!frame)
        return no_memory(c);
    uint32_t head = put_prefix(c, input, frame);
    LpmCodecEffort effort = effort_now(&mover->effort, atomic_load(&mover->out.end_eager));
    uint64_t before = unpacked_bytes(c);
    frame->size =
        head + (uint32_t)lpm_encoder_encode(c->encoder, c->units, n, effort, frame->bytes + head);
    effort_note(&mover->effort, size, unpacked_bytes(c) - before);
    frame = frame_trim(frame);
    count_stream(c, input, input->raw, size);
    if (!keep_raw(input, frame, size)) {
        frame_free(frame);
        return no_memory(c);
    }
    coder_put(mover, frame);
    mover_publish_counts(mover, lpm_encoder_counts(c->encoder));
    return STEP_DONE;
}

/* Nothing more comes from QEMU just now. */
static Step send_rest(Coder *c, Input *input)
{
    if (input->fill == 0)
        return STEP_NOTHING;
    bool over = channel_of(c, input)->ended;
    bool late = clock_ns() - input->read_ns > (uint64_t)GATHER_WAIT_MS * NS_PER_MS;
    if (!over && !late && !outbox_level(&c->mover->out.box).idle)
        return STEP_NOTHING;
    return send_batch(c, input, over || late);
}

/* The main stream's beginning names the blocks that the other channels' pages belong to. */
static bool names_blocks(const Coder *c, const Input *input)
{
    return input->channel == 0 && c->n_inputs > 1 && c->blocks.n == 0 &&
           !lpm_qstream_is_opaque(input->reader);
}

static Step send_coded(Coder *c, Input *input)
{
    if (!input->raw && !fresh_batch(input, NULL, 0))
        return no_memory(c);
    ssize_t n = 0;
    if (input->fill < LPM_CODEC_RAW_MAX && !channel_of(c, input)->ended)
        n = read_input(c, input, input->raw + input->fill, LPM_CODEC_RAW_MAX - input->fill);
    if (n < 0)
        return STEP_FAILED;
    if (n > 0) {
        input->fill += (size_t)n;
        input->read_ns = clock_ns();
    }
    if (input->fill == LPM_CODEC_RAW_MAX)
        return send_batch(c, input, false);
    if (n > 0 && names_blocks(c, input))
        return send_batch(c, input, false) == STEP_FAILED ? STEP_FAILED : STEP_DONE;
    return n > 0 ? STEP_DONE : send_rest(c, input);
}

/* A further channel's end, behind its last byte. The main stream's is FIN. */
static Step send_channel_fin(Coder *c, Input *input)
{
    const Channel *channel = channel_of(c, input);
    if (!channel->ended || input->channel == 0 || input->fin_sent)
        return STEP_NOTHING;
    LpmStreamMessage m = {
        .channel_fin = {.channel = (uint8_t)input->channel, .total = channel->offset}};
    input->fin_sent = true;
    return coder_send(c->mover, LPM_STREAM_CHANNEL_FIN, &m) ? STEP_DONE : STEP_FAILED;
}

Step input_step(Coder *c, Input *input)
{
    Mover *mover = c->mover;
    bool over = channel_of(c, input)->ended || channel_fd(mover, input->channel) < 0;
    if (is_probing(mover))
        over = mover->out.vasi_ended || !is_source(mover);
    if (over && input->fill == 0)
        return send_channel_fin(c, input);
    if (!c->encoder)
        return pass_on(c, input);
    if (!effort_passes_through(&mover->effort))
        return send_coded(c, input);
    return input->fill > 0 ? send_batch(c, input, true) : pass_on(c, input);
}
