/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the inbox to QEMU: hands the frames on in order, decoding what is coded, and acknowledges
 * them.
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

enum { IDLE_WAIT_MS = 1000 };
#define MISS_AGAIN_NS (1ull * NS_PER_S)

typedef struct {
    Mover *mover;
    LpmDecoder *decoder; /* NULL: nothing coded may come */
    uint8_t *raw;        /* for the next batch to be decoded */
    Frame *frame;        /* that is being handed on; NULL once somebody else has it */
} Writer;

/* --- QEMU's bytes --- */

/* Bytes of a stream that are to be handed to QEMU, in memory that goes with them. */
typedef struct {
    unsigned channel;
    uint64_t offset;
    void *owner;
    const uint8_t *data;
    size_t size;
} Piece;

/* Counts the piece as QEMU's; false when it cannot be. */
static bool accept_piece(Mover *mover, const Piece *piece)
{
    Inflow *in = &mover->in;
    if (piece->channel >= mover->n_channels || in->channel_ended[piece->channel] ||
        piece->offset != in->channel_offset[piece->channel])
        return mover_fail(mover, LPM_STREAM_ERR_PROTOCOL,
                          "stream %u has a hole before byte %llu, or has ended", piece->channel,
                          (unsigned long long)piece->offset);
    pthread_mutex_lock(&in->check_lock);
    bool too_late = in->digest_ok;
    in->accepted += piece->size;
    if (!is_source(mover))
        stream_digest_add(&in->digest[piece->channel], piece->data, piece->size);
    pthread_mutex_unlock(&in->check_lock);
    return !too_late || mover_fail(mover, LPM_STREAM_ERR_DIGEST,
                                   "more of the stream came after its digest was reported");
}

/* Hands it to QEMU, or to the channel's own thread; takes its owner. */
static bool hand_to_qemu(Mover *mover, const Piece *piece)
{
    Inflow *in = &mover->in;
    bool good = accept_piece(mover, piece);
    if (good && mover->outlets) {
        in->channel_offset[piece->channel] += piece->size;
        atomic_fetch_add(&in->handed_offset, piece->size);
        return outlet_put(&mover->outlets[piece->channel], piece->owner, piece->data, piece->size);
    }
    if (good && lpm_bytes_write_full(channel_wait(mover, 0), piece->data, piece->size) != 0 &&
        !is_source(mover))
        good = mover_fail(mover, LPM_STREAM_ERR_VASI, "writing to QEMU's socket failed: %s",
                          strerror(errno));
    /* QEMU on the source may have left; the coder sees that end and lpm-host asks QEMU why. */
    in->channel_offset[piece->channel % CHANNELS_MAX] += piece->size;
    atomic_fetch_add(&in->handed_offset, piece->size);
    free(piece->owner);
    return good;
}

/* The frame that is being handed on goes with its bytes. */
static bool hand_frame(Writer *w, unsigned channel, uint64_t offset, const uint8_t *data,
                       size_t size)
{
    Piece piece = {channel, offset, w->frame, data, size};
    w->frame = NULL;
    return hand_to_qemu(w->mover, &piece);
}

static bool on_data(Writer *w, const LpmStreamMessage *m)
{
    return hand_frame(w, 0, m->data.offset, m->data.data, m->data.size);
}

static bool on_channel_data(Writer *w, const LpmStreamMessage *m)
{
    const LpmStreamChannelData *d = &m->channel_data;
    return hand_frame(w, d->channel, d->offset, d->data, d->size);
}

static bool on_channel_fin(Writer *w, const LpmStreamMessage *m)
{
    Mover *mover = w->mover;
    unsigned channel = m->channel_fin.channel;
    if (!mover->outlets || channel >= mover->n_channels ||
        m->channel_fin.total != mover->in.channel_offset[channel])
        return mover_fail(mover, LPM_STREAM_ERR_DIGEST, "stream %u ended elsewhere than it came to",
                          channel);
    mover->in.channel_ended[channel] = true;
    outlet_end(&mover->outlets[channel]);
    return true;
}

static void wait_for_frames(Mover *mover)
{
    struct pollfd waiting = {.fd = mover->in.box.wake, .events = POLLIN};
    poll(&waiting, 1, IDLE_WAIT_MS);
    if (waiting.revents)
        inbox_clear_wake(&mover->in.box);
}

/* Asks for the batch's own bytes and waits for them; NULL when the mover stops. */
static Frame *ask_for_raw(Writer *w)
{
    Mover *mover = w->mover;
    LpmStreamMessage m = {.miss = {.sequence = w->frame->sequence}};
    /* Asked again now and then: a connection that was lost may have taken the answer with it. */
    for (uint64_t asked_ns = 0;;) {
        Frame *frame = inbox_take_replacement(&mover->in.box, w->frame->sequence);
        if (frame || atomic_load(&mover->stopping) || inbox_is_closed(&mover->in.box))
            return frame;
        uint64_t now = clock_ns();
        if (asked_ns == 0 || now - asked_ns > MISS_AGAIN_NS) {
            mover_send(mover, LPM_STREAM_MISS, &m);
            asked_ns = now;
        }
        wait_for_frames(mover);
    }
}

static LpmCodecStatus decode_repaired(Writer *w, const LpmStreamMessage *m, size_t *ret_size)
{
    Frame *frame = ask_for_raw(w);
    LpmStreamMessage r;
    if (!frame)
        return LPM_CODEC_MISS;
    LpmCodecStatus status = LPM_CODEC_MALFORMED;
    if (lpm_stream_decode_body(LPM_STREAM_REPLACE, frame_body(frame),
                               frame->size - LPM_STREAM_HEADER_SIZE, &r) == LPM_STREAM_OK)
        status = lpm_decoder_repair(w->decoder, m->channel_data.data, m->channel_data.size,
                                    r.replace.data, r.replace.size);
    if (status == LPM_CODEC_OK) {
        memcpy(w->raw, r.replace.data, r.replace.size);
        *ret_size = r.replace.size;
    }
    frame_free(frame);
    return status;
}

/* Many short batches may wait for QEMU: those go without the room of a long one. */
static uint8_t *take_raw(Writer *w, size_t size)
{
    uint8_t *raw = w->raw;
    if (size >= LPM_CODEC_RAW_MAX / 2) {
        w->raw = NULL;
        return raw;
    }
    uint8_t *copy = malloc(size);
    if (copy)
        memcpy(copy, raw, size);
    return copy;
}

static bool on_coded(Writer *w, const LpmStreamMessage *m)
{
    Mover *mover = w->mover;
    size_t size = 0;
    if (!w->raw)
        w->raw = malloc(LPM_CODEC_RAW_MAX);
    if (!w->decoder || !w->raw)
        return mover_fail(mover, LPM_STREAM_ERR_PROTOCOL, "a coded batch that was not agreed");
    LpmCodecStatus status =
        lpm_decoder_decode(w->decoder, m->channel_data.data, m->channel_data.size, w->raw, &size);
    if (status == LPM_CODEC_MISS || status == LPM_CODEC_WRONG)
        status = decode_repaired(w, m, &size);
    if (status != LPM_CODEC_OK)
        return atomic_load(&mover->stopping) ||
               mover_fail(mover, LPM_STREAM_ERR_PROTOCOL, "coded batch %llu: %s",
                          (unsigned long long)w->frame->sequence, lpm_codec_status_text(status));
    mover_publish_counts(mover, lpm_decoder_counts(w->decoder));
    uint8_t *raw = take_raw(w, size);
    if (!raw)
        return mover_fail(mover, LPM_STREAM_ERR_INTERNAL, "out of memory for a batch");
    Piece piece = {m->channel_data.channel, m->channel_data.offset, raw, raw, size};
    return hand_to_qemu(mover, &piece);
}

/* --- the image --- */

static bool begin_decoding(Writer *w)
{
    w->decoder = lpm_decoder_new(image_codec(&w->mover->image));
    return w->decoder ||
           mover_fail(w->mover, LPM_STREAM_ERR_INTERNAL, "out of memory for decoding");
}

/* Target: what the source holds; ours is the same, or both begin with nothing. */
static bool on_base(Writer *w, const LpmStreamMessage *m)
{
    Mover *mover = w->mover;
    static const LpmStreamBase none;
    LpmStreamBase ours;
    if (w->decoder || !(mover->features & LPM_STREAM_FEATURE_IMAGES))
        return mover_fail(mover, LPM_STREAM_ERR_PROTOCOL, "BASE at the wrong time");
    image_base(&mover->image, &ours);
    bool usable = memcmp(&ours, &none, sizeof(ours)) != 0 &&
                  memcmp(ours.image, m->base.image, sizeof(ours.image)) == 0 &&
                  memcmp(ours.root, m->base.root, sizeof(ours.root)) == 0;
    image_begin(&mover->image, usable);
    usable = usable && image_codec(&mover->image);
    LpmStreamMessage answer = {.base_ack = {.usable = usable}};
    mover_send(mover, LPM_STREAM_BASE_ACK, &answer);
    return begin_decoding(w);
}

static bool on_base_ack(Writer *w, const LpmStreamMessage *m)
{
    atomic_store(&w->mover->base_answer, m->base_ack.usable ? BASE_USABLE : BASE_NONE);
    queue_wake(&w->mover->to_peer);
    return true;
}

static bool on_seal(Writer *w, const LpmStreamMessage *m)
{
    image_will_seal(&w->mover->image, m->seal.image);
    return true;
}

/* --- the end of the stream --- */

static bool on_miss(Writer *w, const LpmStreamMessage *m)
{
    return outbox_miss(&w->mover->out.box, m->miss.sequence) ||
           mover_fail(w->mover, LPM_STREAM_ERR_PROTOCOL,
                      "the target misses a batch that it has handed on");
}

static bool on_end(Writer *w, const LpmStreamMessage *m)
{
    Mover *mover = w->mover;
    Inflow *in = &mover->in;
    LpmStreamEnd ours;
    bool tell = false;
    pthread_mutex_lock(&in->check_lock);
    LpmStreamEnd ends[CHANNELS_MAX];
    bool good = true;
    for (unsigned i = 0; good && i < mover->n_channels; i++)
        good = stream_digest_snapshot(&in->digest[i], &ends[i]);
    good = good && channels_digest(ends, mover->n_channels, &ours);
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

static bool on_check(Writer *w, const LpmStreamMessage *m)
{
    Mover *mover = w->mover;
    (void)m; /* the count is for people who read a capture; END says it all */
    atomic_store(&mover->out.end_wanted, true);
    queue_wake(&mover->to_peer);
    return true;
}

static bool on_fin(Writer *w, const LpmStreamMessage *m)
{
    Mover *mover = w->mover;
    Inflow *in = &mover->in;
    if (mover->config.mode == LPM_STREAM_MODE_PROBE) {
        uint64_t bytes = mover->probe.bytes;
        LpmStreamMessage done = {
            .probe_done = {.bytes = bytes > PROBE_BURST ? bytes - PROBE_BURST : 0,
                           .time_us = (mover->probe.last_ns - mover->probe.first_ns) / 1000}};
        mover_send(mover, LPM_STREAM_PROBE_DONE, &done);
        return true;
    }
    if (m->total.total != in->channel_offset[0])
        return mover_fail(mover, LPM_STREAM_ERR_DIGEST,
                          "the peer's stream ended at byte %llu, QEMU was given %llu",
                          (unsigned long long)m->total.total,
                          (unsigned long long)in->channel_offset[0]);
    /* QEMU sees what it would see on a direct connection. */
    if (mover->outlets)
        outlet_end(&mover->outlets[0]);
    else
        shutdown(channel_fd(mover, 0), SHUT_WR);
    return true;
}

static bool on_loaded(Writer *w, const LpmStreamMessage *m)
{
    Mover *mover = w->mover;
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

/* From lpm-host to lpm-host. */
static bool pass_on(Writer *w, const LpmStreamMessage *m)
{
    mover_tell(w->mover, w->frame->type, m);
    return true;
}

static bool on_close(Writer *w, const LpmStreamMessage *m)
{
    Mover *mover = w->mover;
    mover_tell(mover, LPM_STREAM_PEER_CLOSED, m);
    return true;
}

static bool on_probe_data(Writer *w, const LpmStreamMessage *m)
{
    Mover *mover = w->mover;
    Probe *probe = &mover->probe;
    probe->last_ns = clock_ns();
    probe->bytes += m->data.size;
    /* What buffers on the way took at once says nothing about the link. */
    if (probe->bytes <= PROBE_BURST)
        probe->first_ns = probe->last_ns;
    return true;
}

static bool on_probe_done(Writer *w, const LpmStreamMessage *m)
{
    Mover *mover = w->mover;
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
    bool (*handle)(Writer *w, const LpmStreamMessage *message);
    bool (*compare)(Mover *mover, const LpmStreamMessage *message); /* verify's, instead */
} Handler;

static const Handler handlers[] = {
    {LPM_STREAM_DATA, LPM_STREAM_MODE_MOVE, on_data, NULL},
    {LPM_STREAM_CODED, LPM_STREAM_MODE_MOVE, on_coded, NULL},
    {LPM_STREAM_CHANNEL_DATA, LPM_STREAM_MODE_MOVE, on_channel_data, NULL},
    {LPM_STREAM_CHANNEL_FIN, LPM_STREAM_MODE_MOVE, on_channel_fin, NULL},
    {LPM_STREAM_MISS, LPM_STREAM_MODE_MOVE, on_miss, NULL},
    {LPM_STREAM_BASE, LPM_STREAM_MODE_MOVE, on_base, NULL},
    {LPM_STREAM_BASE_ACK, LPM_STREAM_MODE_MOVE, on_base_ack, NULL},
    {LPM_STREAM_SEAL, LPM_STREAM_MODE_MOVE, on_seal, NULL},
    {LPM_STREAM_END, LPM_STREAM_MODE_MOVE, on_end, NULL},
    {LPM_STREAM_CHECK, LPM_STREAM_MODE_MOVE, on_check, NULL},
    {LPM_STREAM_FIN, 0, on_fin, NULL},
    {LPM_STREAM_LOADED, LPM_STREAM_MODE_MOVE, on_loaded, NULL},
    {LPM_STREAM_PEER, 0, pass_on, NULL},
    {LPM_STREAM_HINT, 0, pass_on, NULL},
    {LPM_STREAM_CLOSE, 0, on_close, NULL},
    {LPM_STREAM_PROBE_DATA, LPM_STREAM_MODE_PROBE, on_probe_data, NULL},
    {LPM_STREAM_PROBE_DONE, LPM_STREAM_MODE_PROBE, on_probe_done, NULL},
    {LPM_STREAM_VERIFY_HASHES, LPM_STREAM_MODE_MOVE, NULL, verify_compare},
    {LPM_STREAM_VERIFY_PAGES_DATA, LPM_STREAM_MODE_MOVE, NULL, verify_repair},
    {LPM_STREAM_VERIFY_END, LPM_STREAM_MODE_MOVE, NULL, verify_end},
    {LPM_STREAM_VERIFY_REPORT, LPM_STREAM_MODE_MOVE, NULL, verify_report},
};

static const Handler *find_handler(uint32_t type)
{
    for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++)
        if (handlers[i].type == type)
            return &handlers[i];
    return NULL;
}

/* The frame's record to its handler; who may send it was checked by the receiver. */
static bool hand_on(Writer *w)
{
    Frame *frame = w->frame;
    const Handler *h = find_handler(frame->type);
    if (!h)
        return frame->type & LPM_STREAM_OPTIONAL ||
               mover_fail(w->mover, LPM_STREAM_ERR_PROTOCOL, "record %s was not agreed",
                          lpm_stream_type_name(frame->type));
    LpmStreamMessage m;
    LpmStreamStatus status = lpm_stream_decode_body(frame->type, frame_body(frame),
                                                    frame->size - LPM_STREAM_HEADER_SIZE, &m);
    if (status != LPM_STREAM_OK || (h->mode && h->mode != w->mover->config.mode))
        return mover_fail(w->mover, LPM_STREAM_ERR_PROTOCOL, "record %s from the peer: %s",
                          lpm_stream_type_name(frame->type),
                          status != LPM_STREAM_OK ? lpm_stream_status_text(status)
                                                  : "not in this mode");
    return h->handle ? h->handle(w, &m) : h->compare(w->mover, &m);
}

/*
 * An eighth of the window at a time keeps the peer going without a record for every frame; so does
 * an eighth of what it keeps of the stream itself, which may have become a few bytes.
 */
static void count_handed(Mover *mover, uint32_t size)
{
    Inflow *in = &mover->in;
    atomic_fetch_add(&in->handed_frames, 1);
    in->unacked_bytes += size;
    uint64_t stream = atomic_load(&in->handed_offset);
    if (in->unacked_bytes < mover->window / 8 && ++in->unacked_frames < FRAMES_MAX / 8 &&
        stream - in->acked_stream < RAW_WINDOW / 8)
        return;
    in->acked_stream = stream;
    in->unacked_bytes = 0;
    in->unacked_frames = 0;
    atomic_store(&mover->out.ack_due, true);
    outbox_nudge(&mover->out.box);
}

void writer_main(Mover *mover)
{
    Writer w = {.mover = mover};
    if (!gate_wait(mover))
        return;
    bool coded = !is_source(mover) && mover->features & LPM_STREAM_FEATURE_CODED;
    if (coded && !(mover->features & LPM_STREAM_FEATURE_IMAGES) && !begin_decoding(&w))
        return;
    while (!inbox_is_closed(&mover->in.box)) {
        w.frame = inbox_next(&mover->in.box);
        if (!w.frame) {
            wait_for_frames(mover);
            continue;
        }
        uint32_t size = w.frame->size;
        bool good = hand_on(&w);
        frame_free(w.frame);
        if (!good)
            return;
        count_handed(mover, size);
    }
}
