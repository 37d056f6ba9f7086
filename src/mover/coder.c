/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From QEMU to the outbox: one thread reads QEMU's sockets in turn, numbers the frames, and says in
 * order what others want said (the queue to_peer) and what is to be said at the end.
 */
#include "coder.h"

#include "clock.h"
#include "link.h"
#include "verify.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum {
    PROBE_WINDOW = 768 * 1024,
    PROBE_BYTES_PER_US = 1250, /* 10 Gbit/s */
    SMALLEST_ROOM = 32 * 1024, /* less window than this is not worth a frame */
    IDLE_WAIT_MS = 1000,
    REST_WAIT_MS = 2, /* while some bytes of a batch wait for more */
};

/* --- room --- */

/* A probe has no more under way than a quick link of this length holds: what is under way when it
 * knows enough has to go all the same. */
static uint64_t window_of(Mover *mover)
{
    uint64_t quick = PROBE_WINDOW + (uint64_t)atomic_load(&mover->rtt_us) * PROBE_BYTES_PER_US;
    return is_probing(mover) && quick < mover->window ? quick : mover->window;
}

uint64_t coder_room(Mover *mover)
{
    OutboxLevel level = outbox_level(&mover->out.box);
    uint64_t window = window_of(mover);
    bool full = level.held_bytes >= window || level.raw_bytes >= RAW_WINDOW ||
                !outbox_has_place(&mover->out.box);
    return full ? 0 : window - level.held_bytes;
}

static bool has_room(Mover *mover)
{
    return coder_room(mover) >= SMALLEST_ROOM;
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

void coder_put(Mover *mover, Frame *frame)
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
    return mover_fail(mover, LPM_STREAM_ERR_INTERNAL, "out of memory for the coder");
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
    coder_put(mover, frame_trim(frame));
    return true;
}

static Step send_queued(Mover *mover)
{
    int64_t size = queue_peek(&mover->to_peer);
    if (size < 0 || (uint64_t)size + LPM_STREAM_HEADER_SIZE > coder_room(mover))
        return STEP_NOTHING;
    QueueItem *item = queue_pop(&mover->to_peer);
    Frame *frame = frame_new(item->type, LPM_STREAM_HEADER_SIZE + item->size);
    if (frame)
        memcpy(frame_body(frame), item->body, item->size);
    free(item);
    if (!frame)
        return no_memory(mover), STEP_FAILED;
    mover->out.close_queued |= frame->type == LPM_STREAM_CLOSE;
    coder_put(mover, frame);
    return STEP_DONE;
}

/* --- the stream --- */

static void judge_effort(Coder *c)
{
    if (c->encoder)
        effort_judge(&c->mover->effort, clock_ns(), atomic_load(&c->mover->blocked_ns),
                     link_totals(c->mover).up);
}

/* One step of the input whose turn it is, or of the next one that has work. */
static Step send_stream(Coder *c)
{
    Mover *mover = c->mover;
    if (c->waits_for_base)
        return STEP_NOTHING;
    bool room = has_room(mover);
    count_stall(mover, !room);
    if (!room)
        return STEP_NOTHING;
    judge_effort(c);
    for (unsigned i = 0; i < c->n_inputs; i++) {
        Input *input = &c->inputs[c->next];
        c->next = (c->next + 1) % c->n_inputs;
        Step step = input_step(c, input);
        if (step != STEP_NOTHING)
            return step;
    }
    return STEP_NOTHING;
}

static bool holds_bytes(const Coder *c)
{
    for (unsigned i = 0; i < c->n_inputs; i++)
        if (c->inputs[i].fill > 0)
            return true;
    return false;
}

static bool digest_of_all(Mover *mover, LpmStreamEnd *ret_end)
{
    LpmStreamEnd ends[CHANNELS_MAX];
    for (unsigned i = 0; i < mover->n_channels; i++)
        if (!stream_digest_snapshot(&mover->channels[i].digest, &ends[i]))
            return false;
    return channels_digest(ends, mover->n_channels, ret_end);
}

/* Source: END, when it is wanted: everything read is hashed and sent. */
static Step send_end(Coder *c)
{
    Outflow *out = &c->mover->out;
    LpmStreamMessage m;
    bool news = out->last_end.total != out->offset;
    if (!atomic_load(&out->end_wanted) && !(atomic_load(&out->end_eager) && news))
        return STEP_NOTHING;
    if (!digest_of_all(c->mover, &m.end))
        return no_memory(c->mover), STEP_FAILED;
    pthread_mutex_lock(&out->digest_lock);
    out->last_end = m.end;
    pthread_mutex_unlock(&out->digest_lock);
    atomic_store(&out->end_wanted, false);
    return coder_send(c->mover, LPM_STREAM_END, &m) ? STEP_DONE : STEP_FAILED;
}

/* The name under which both sides keep the image, when the move is good. */
static bool send_seal(Mover *mover)
{
    LpmStreamMessage m = {0};
    if (!image_codec(&mover->image) || !is_source(mover))
        return true;
    memcpy(m.seal.image, mover->config.migration, sizeof(m.seal.image));
    image_will_seal(&mover->image, m.seal.image);
    return coder_send(mover, LPM_STREAM_SEAL, &m);
}

/* QEMU has closed: the total behind the last byte. */
static Step send_fin(Mover *mover)
{
    Outflow *out = &mover->out;
    if (!out->vasi_ended || out->fin_sent || atomic_load(&out->end_wanted))
        return STEP_NOTHING;
    LpmStreamMessage m = {.total = {.total = mover->channels[0].offset}};
    out->fin_sent = true;
    return send_seal(mover) && coder_send(mover, LPM_STREAM_FIN, &m) ? STEP_DONE : STEP_FAILED;
}

/* What happens when QEMU has nothing to say at the moment. */
static Step use_the_pause(Coder *c)
{
    Mover *mover = c->mover;
    Step step = STEP_NOTHING;
    if (!has_room(mover) || holds_bytes(c))
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
    struct pollfd waiting[1 + CHANNELS_MAX] = {{.fd = mover->to_peer.wake, .events = POLLIN}};
    bool full = !has_room(mover);
    atomic_store(&mover->out.wants_room, full);
    /* Looked at again: who frees room looks at the wish only after it has freed it. */
    if (!full || !has_room(mover)) {
        bool listen = !full && !c->waits_for_base;
        for (unsigned i = 0; i < c->n_inputs; i++)
            waiting[1 + i] = (struct pollfd){
                .fd = listen && !mover->channels[i].ended ? channel_fd(mover, i) : -1,
                .events = POLLIN};
        poll(waiting, 1 + c->n_inputs, holds_bytes(c) && !full ? REST_WAIT_MS : IDLE_WAIT_MS);
        if (waiting[0].revents)
            queue_clear_wake(&mover->to_peer);
    }
    atomic_store(&mover->out.wants_room, false);
}

/* --- the beginning --- */

static bool begin_coding(Coder *c)
{
    Mover *mover = c->mover;
    bool known = atomic_load(&mover->base_answer) == BASE_USABLE;
    c->waits_for_base = false;
    c->encoder = lpm_encoder_new(&c->blocks, image_codec(&mover->image));
    bool good = c->encoder != NULL;
    for (unsigned i = 0; good && i < c->n_inputs; i++)
        good = (c->inputs[i].reader = lpm_qstream_new(&c->blocks)) != NULL;
    effort_init(&mover->effort, clock_ns(), known);
    return good || no_memory(mover);
}

/* With images: what both hold is agreed on first. */
static bool begin(Coder *c)
{
    Mover *mover = c->mover;
    /* Only the main stream has a way back. */
    c->n_inputs = is_source(mover) ? mover->n_channels : 1;
    for (unsigned i = 0; i < c->n_inputs; i++)
        c->inputs[i].channel = i;
    bool codes =
        is_source(mover) && !is_probing(mover) && mover->features & LPM_STREAM_FEATURE_CODED;
    if (!codes)
        return true;
    c->units = calloc(LPM_CODEC_UNITS_MAX, sizeof(*c->units));
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
    static Coder c; /* one thread of this kind; too large for a stack */
    c.mover = mover;
    if (!gate_wait(mover) || !begin(&c))
        return;
    while (!atomic_load(&mover->stopping) && !atomic_load(&mover->sender_done) &&
           !mover->out.close_queued) {
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
