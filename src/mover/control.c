/* SPDX-License-Identifier: Apache-2.0 */
#include "control.h"

#include "bytes/bytes.h"
#include "clock.h"
#include "link.h"
#include "verify.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
    TICK_MS = 100,
    CONFIG_MS = 10000,
    ABORT_MS = 200,  /* for telling the peer why */
    LINGER_MS = 500, /* for the peer to see CLOSE before the socket goes */
    LINGER_STEP_MS = 5,
    LAST_WORD_MS = 200, /* for lpm-host to take the last event */
    PING_TICKS = 3,
    RATE_TICKS = 10, /* rates are over this many ticks: a second */
    STOP_MS = 1000,
};

typedef struct {
    Mover *mover;
    LpmStreamVerifier verifier;
    uint8_t in[FRAME_MAX];
    size_t in_size;
    int socket; /* that came with the frames not yet served; -1 */
    uint8_t out[FRAME_MAX];
    size_t out_at, out_size;
    uint64_t next_tick_ns, ticks, last_stats_ns;
    uint64_t sent_then[RATE_TICKS], handed_then[RATE_TICKS]; /* by tick */
} Control;

static Control control; /* one process, one control descriptor; too large for a stack */

/* --- to lpm-host --- */

/* What is left of the last frame; false when it could not be written whole. */
static bool flush_out(Control *c)
{
    while (c->out_at < c->out_size) {
        ssize_t n = send(c->mover->options.control, c->out + c->out_at, c->out_size - c->out_at,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        c->out_at += (size_t)n;
    }
    return true;
}

/* Puts a frame in the empty out buffer. */
static void fill_out(Control *c, uint32_t type, const uint8_t *body, size_t size)
{
    LpmStreamHeader header = {
        .version = LPM_STREAM_VERSION, .type = type, .length = (uint32_t)size};
    memcpy(header.migration, c->mover->config.migration, LPM_STREAM_ID_SIZE);
    memcpy(c->out + LPM_STREAM_HEADER_SIZE, body, size);
    lpm_stream_encode_header(&header, c->out + LPM_STREAM_HEADER_SIZE, c->out);
    c->out_at = 0;
    c->out_size = LPM_STREAM_HEADER_SIZE + size;
}

static void send_events(Control *c)
{
    while (flush_out(c)) {
        QueueItem *item = queue_pop(&c->mover->to_host);
        if (!item)
            return;
        fill_out(c, item->type, item->body, item->size);
        free(item);
    }
}

static uint64_t over_last_second(const uint64_t then[RATE_TICKS], uint64_t ticks, uint64_t now)
{
    uint64_t span = ticks < RATE_TICKS ? ticks : RATE_TICKS;
    uint64_t before = ticks < RATE_TICKS ? 0 : then[ticks % RATE_TICKS];
    return span ? (now - before) * 1000 / (span * TICK_MS) : 0;
}

static void send_stats(Control *c)
{
    Mover *m = c->mover;
    /* Numbers of the past are of no use: who does not read gets the next ones. */
    if (!flush_out(c) || queue_peek(&m->to_host) >= 0)
        return;
    LinkTotals links = link_totals(m);
    uint64_t sent = atomic_load(&m->out_offset), handed = atomic_load(&m->in.handed_offset);
    LpmStreamMessage s = {.stats = {.state = atomic_load(&m->state),
                                    .stream_out = sent,
                                    .stream_in = handed,
                                    .wire_out = links.wire_out,
                                    .wire_in = links.wire_in,
                                    .acked = atomic_load(&m->acked_offset),
                                    .rate_out = over_last_second(c->sent_then, c->ticks, sent),
                                    .rate_in = over_last_second(c->handed_then, c->ticks, handed),
                                    .stalls = atomic_load(&m->stalls),
                                    .stall_us = atomic_load(&m->stall_ns) / 1000,
                                    .rtt_us = atomic_load(&m->rtt_us),
                                    .verified_pages = atomic_load(&m->verify.done),
                                    .reconnects = links.reconnects,
                                    .resent_bytes = outbox_level(&m->out.box).resent_bytes,
                                    .links_up = (uint8_t)links.up}};
    pthread_mutex_lock(&m->link_lock);
    s.stats.coded = m->counts;
    pthread_mutex_unlock(&m->link_lock);
    mover_tell(m, LPM_STREAM_STATS, &s);
    c->last_stats_ns = clock_ns();
}

/* --- from lpm-host --- */

static bool wrong_time(Mover *m, const char *what)
{
    return mover_fail(m, LPM_STREAM_ERR_COMMAND, "lpm-host asked for what is not allowed now: %s",
                      what);
}

static bool on_check(Control *c, const LpmStreamMessage *message)
{
    (void)message;
    Mover *m = c->mover;
    if (is_source(m) || !atomic_load(&m->connected))
        return wrong_time(m, "CHECK is for the target, once connected");
    LpmStreamMessage answer;
    pthread_mutex_lock(&m->in.check_lock);
    answer.end = m->in.verified;
    bool known = answer.end.total > 0 && answer.end.total == m->in.accepted;
    m->in.digest_ok |= known;
    m->in.check_wanted = !known;
    uint64_t handed = m->in.accepted;
    pthread_mutex_unlock(&m->in.check_lock);
    if (!known)
        answer.total.total = handed;
    if (known)
        mover_tell(m, LPM_STREAM_DIGEST_OK, &answer);
    else
        mover_send(m, LPM_STREAM_CHECK, &answer);
    return true;
}

static bool on_loaded(Control *c, const LpmStreamMessage *message)
{
    Mover *m = c->mover;
    pthread_mutex_lock(&m->in.check_lock);
    bool right = m->in.digest_ok && m->in.verified.total == message->end.total &&
                 memcmp(m->in.verified.digest, message->end.digest, LPM_STREAM_DIGEST_SIZE) == 0;
    pthread_mutex_unlock(&m->in.check_lock);
    if (is_source(m) || !right)
        return wrong_time(m, "LOADED before DIGEST_OK, or with another digest");
    atomic_store(&m->state, LPM_STREAM_STATE_LOADED);
    mover_send(m, LPM_STREAM_LOADED, message);
    return true;
}

static bool on_switchover(Control *c, const LpmStreamMessage *message)
{
    (void)message;
    if (!is_source(c->mover))
        return wrong_time(c->mover, "SWITCHOVER is for the source");
    atomic_store(&c->mover->out.end_eager, true);
    queue_wake(&c->mover->to_peer);
    return true;
}

static bool on_verify(Control *c, const LpmStreamMessage *message)
{
    (void)message;
    /* The source answers whatever the target asks: when the target's QEMU is complete, the source's
     * is stopped. */
    return is_source(c->mover) || verify_start(c->mover);
}

static bool on_pass_on(Control *c, uint32_t type, const LpmStreamMessage *message)
{
    if (!atomic_load(&c->mover->connected))
        return wrong_time(c->mover, "a message to the peer before CONNECTED");
    mover_send(c->mover, type, message);
    return true;
}

static bool on_peer(Control *c, const LpmStreamMessage *message)
{
    return on_pass_on(c, LPM_STREAM_PEER, message);
}

static bool on_hint(Control *c, const LpmStreamMessage *message)
{
    return on_pass_on(c, LPM_STREAM_HINT, message);
}

static bool on_rate(Control *c, const LpmStreamMessage *message)
{
    throttle_set_rate(&c->mover->throttle, message->rate.max_rate);
    return true;
}

static bool on_get_stats(Control *c, const LpmStreamMessage *message)
{
    (void)message;
    send_stats(c);
    return true;
}

static bool on_finish(Control *c, const LpmStreamMessage *message)
{
    Mover *m = c->mover;
    atomic_store(&m->state, LPM_STREAM_STATE_CLOSING);
    if (!atomic_exchange(&m->finishing, true) && atomic_load(&m->connected))
        mover_send(m, LPM_STREAM_CLOSE, message);
    /* Nobody is there to be told; who is lost from now on is seen by link_lost(). */
    if (link_totals(m).up == 0)
        atomic_store(&m->sender_done, true);
    link_wake_all(m);
    return true;
}

static bool on_link(Control *c, const LpmStreamMessage *message)
{
    if (c->socket < 0)
        return mover_fail(c->mover, LPM_STREAM_ERR_PROTOCOL, "LINK came without its socket");
    /* Not wanted any more: it came up another way meanwhile. */
    link_take_socket(c->mover, message->link.connection, lpm_bytes_steal_fd(&c->socket));
    return true;
}

static bool on_channel(Control *c, const LpmStreamMessage *message)
{
    if (c->socket < 0)
        return mover_fail(c->mover, LPM_STREAM_ERR_PROTOCOL, "CHANNEL came without its socket");
    return channel_take(c->mover, message->channel.channel, lpm_bytes_steal_fd(&c->socket)) ||
           wrong_time(c->mover, "CHANNEL that is there already, or was not announced");
}

static bool on_abort(Control *c, const LpmStreamMessage *message)
{
    return mover_fail(c->mover, LPM_STREAM_ERR_ABORTED, "lpm-host gave up: %.230s",
                      message->reason.reason);
}

static bool handle(Control *c, uint32_t type, const LpmStreamMessage *message)
{
    static const struct {
        uint32_t type;
        bool (*handle)(Control *c, const LpmStreamMessage *message);
    } handlers[] = {
        {LPM_STREAM_CHECK, on_check},
        {LPM_STREAM_LOADED, on_loaded},
        {LPM_STREAM_SWITCHOVER, on_switchover},
        {LPM_STREAM_VERIFY, on_verify},
        {LPM_STREAM_PEER, on_peer},
        {LPM_STREAM_HINT, on_hint},
        {LPM_STREAM_RATE, on_rate},
        {LPM_STREAM_GET_STATS, on_get_stats},
        {LPM_STREAM_LINK, on_link},
        {LPM_STREAM_CHANNEL, on_channel},
        {LPM_STREAM_FINISH, on_finish},
        {LPM_STREAM_ABORT, on_abort},
    };
    for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++)
        if (handlers[i].type == type)
            return handlers[i].handle(c, message);
    return wrong_time(c->mover, lpm_stream_type_name(type));
}

/* Takes one frame from the front of the in buffer. SHORT when there is none. */
static LpmStreamStatus take_frame(Control *c, LpmStreamHeader *ret_header,
                                  LpmStreamMessage *ret_message, size_t *ret_used)
{
    LpmStreamStatus status =
        lpm_stream_unpack(c->in, c->in_size, ret_header, ret_message, ret_used);
    if (status != LPM_STREAM_OK && status != LPM_STREAM_SKIP)
        return status;
    LpmStreamStatus verdict = lpm_stream_verify(&c->verifier, ret_header);
    return verdict == LPM_STREAM_OK ? status : verdict;
}

static void drop_front(Control *c, size_t used)
{
    memmove(c->in, c->in + used, c->in_size - used);
    c->in_size -= used;
}

static bool read_control(Control *c)
{
    Mover *m = c->mover;
    size_t n_fds = 0;
    int fd = -1;
    ssize_t n = lpm_bytes_recv_fds(m->options.control, c->in + c->in_size,
                                   sizeof(c->in) - c->in_size, &fd, 1, &n_fds);
    if (n_fds == 1) {
        lpm_bytes_close(&c->socket);
        c->socket = fd;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n <= 0)
        return mover_fail(m, LPM_STREAM_ERR_HOST_GONE, "lpm-host closed the control descriptor");
    c->in_size += (size_t)n;
    return true;
}

/* A descriptor that no frame took would be taken for the next one's. */
static bool nothing_left_over(Control *c)
{
    return c->socket < 0 || mover_fail(c->mover, LPM_STREAM_ERR_PROTOCOL,
                                       "a descriptor came with a control frame that takes none");
}

static bool serve_commands(Control *c)
{
    LpmStreamHeader header;
    LpmStreamMessage message;
    size_t used;
    for (;;) {
        LpmStreamStatus status = take_frame(c, &header, &message, &used);
        if (status == LPM_STREAM_SHORT)
            return c->in_size > 0 || nothing_left_over(c);
        if (status != LPM_STREAM_OK && status != LPM_STREAM_SKIP)
            return mover_fail(c->mover, LPM_STREAM_ERR_PROTOCOL, "control frame: %s",
                              lpm_stream_status_text(status));
        if (status == LPM_STREAM_OK && !handle(c, header.type, &message))
            return false;
        drop_front(c, used);
    }
}

/* --- configuration --- */

/* What this release, what was given to us and what is wanted allow. */
static uint64_t usable_features(const Mover *m, const LpmStreamConfig *c)
{
    uint64_t features = c->features ? c->features : LPM_STREAM_FEATURES_ALL;
    if (m->options.memory < 0 || c->memory_size == 0)
        features &= ~(uint64_t)LPM_STREAM_FEATURE_VERIFY;
    if (c->mode != LPM_STREAM_MODE_MOVE || c->codec != LPM_STREAM_CODEC_AUTO)
        features &= ~(uint64_t)LPM_STREAM_FEATURE_CODED;
    if (!(features & LPM_STREAM_FEATURE_CODED) || !m->image.store)
        features &= ~(uint64_t)LPM_STREAM_FEATURE_IMAGES;
    if (c->channels == 0)
        features &= ~(uint64_t)LPM_STREAM_FEATURE_CHANNELS;
    if (c->retry_ms == 0 && c->connections == 1)
        features &= ~(uint64_t)LPM_STREAM_FEATURE_RESUME;
    return features;
}

static bool accept_config(Mover *m, const LpmStreamConfig *config)
{
    m->config = *config;
    LpmStreamConfig *c = &m->config;
    if (c->window == 0)
        c->window = DEFAULT_WINDOW;
    if (c->window < MIN_WINDOW)
        c->window = MIN_WINDOW;
    if (c->connect_ms == 0)
        c->connect_ms = 10000;
    if (c->silence_ms == 0)
        c->silence_ms = 5000;
    if (c->stats_ms == 0)
        c->stats_ms = 100;
    if (c->connections == 0)
        c->connections = 1;
    if (c->image)
        image_open(&m->image, m->options.image, c->image_key);
    explicit_bzero(c->image_key, sizeof(c->image_key));
    c->features = usable_features(m, c);
    const char *missing = NULL;
    if (c->mode == LPM_STREAM_MODE_MOVE && (m->options.vasi < 0) != (c->channels > 0))
        missing = "a move needs the VASI descriptor, or channels";
    else if (c->transport == LPM_STREAM_TRANSPORT_TLS && !m->credentials)
        missing = "TLS needs certificate, key and authority";
    else if (c->peer[0] == 0 || c->system[0] == 0)
        missing = "a system's name is missing";
    else if (c->memory_size % LPM_STREAM_PAGE_SIZE != 0)
        missing = "the memory's size is not a multiple of 4096";
    return !missing || mover_fail(m, LPM_STREAM_ERR_CONFIG, "CONFIG: %s", missing);
}

bool control_read_config(Mover *mover)
{
    Control *c = &control;
    c->mover = mover;
    c->socket = -1;
    c->verifier = lpm_stream_verifier(LPM_STREAM_FROM_HOST, NULL);
    uint64_t deadline_ns = clock_ns() + (uint64_t)CONFIG_MS * NS_PER_MS;
    LpmStreamHeader header;
    LpmStreamMessage message;
    size_t used;
    for (;;) {
        LpmStreamStatus status = take_frame(c, &header, &message, &used);
        if (status == LPM_STREAM_OK && header.type == LPM_STREAM_CONFIG &&
            memcmp(header.migration, message.config.migration, LPM_STREAM_ID_SIZE) == 0)
            break;
        if (status != LPM_STREAM_SHORT)
            return mover_fail(mover, LPM_STREAM_ERR_CONFIG,
                              "the first control frame is not a good CONFIG: %s",
                              lpm_stream_status_text(status));
        if (clock_ns() >= deadline_ns)
            return mover_fail(mover, LPM_STREAM_ERR_CONFIG, "no CONFIG from lpm-host for %d ms",
                              CONFIG_MS);
        struct pollfd waiting = {.fd = mover->options.control, .events = POLLIN};
        poll(&waiting, 1, TICK_MS);
        if (waiting.revents && !read_control(c))
            return false;
    }
    LpmStreamConfig config = message.config;
    drop_front(c, used);
    return accept_config(mover, &config);
}

/* --- the loop --- */

static void tick(Control *c)
{
    Mover *m = c->mover;
    uint64_t now = clock_ns();
    if (now < c->next_tick_ns)
        return;
    c->next_tick_ns = now + (uint64_t)TICK_MS * NS_PER_MS;
    if (now - c->last_stats_ns + NS_PER_MS >= (uint64_t)m->config.stats_ms * NS_PER_MS)
        send_stats(c);
    c->sent_then[c->ticks % RATE_TICKS] = atomic_load(&m->out_offset);
    c->handed_then[c->ticks % RATE_TICKS] = atomic_load(&m->in.handed_offset);
    c->ticks++;
    link_watch(m, now, c->ticks % PING_TICKS == 0);
}

static void wait_for_events(Control *c)
{
    uint64_t now = clock_ns();
    int wait_ms = now >= c->next_tick_ns ? 0 : (int)((c->next_tick_ns - now) / NS_PER_MS) + 1;
    struct pollfd waiting[2] = {
        {.fd = c->mover->options.control,
         .events = (short)(POLLIN | (c->out_at < c->out_size ? POLLOUT : 0))},
        {.fd = c->mover->to_host.wake, .events = POLLIN}};
    poll(waiting, 2, wait_ms);
    if (waiting[1].revents)
        queue_clear_wake(&c->mover->to_host);
    if (waiting[0].revents & (POLLIN | POLLHUP | POLLERR) && read_control(c))
        serve_commands(c);
}

/* The rest of the events and one more; waits a little for a slow lpm-host. */
static void last_word(Control *c, uint32_t type, const LpmStreamMessage *message)
{
    queue_push(&c->mover->to_host, type, message);
    uint64_t deadline_ns = clock_ns() + (uint64_t)LAST_WORD_MS * NS_PER_MS;
    for (send_events(c); c->out_at < c->out_size && clock_ns() < deadline_ns; send_events(c)) {
        struct pollfd waiting = {.fd = c->mover->options.control, .events = POLLOUT};
        if (poll(&waiting, 1, LAST_WORD_MS) > 0 && waiting.revents & (POLLERR | POLLHUP))
            return;
    }
}

static void cut_links(Mover *m)
{
    link_cut_all(m);
    gate_open(m);
    inbox_close(&m->in.box);
    outbox_close(&m->out.box);
    queue_close(&m->to_peer);
}

/* FINISH was said, and CLOSE is on its way or nobody is there for it. */
static bool is_finished(const Mover *m)
{
    return atomic_load(&m->finishing) &&
           (atomic_load(&m->sender_done) || !atomic_load(&m->connected));
}

static int end_badly(Control *c)
{
    Mover *m = c->mover;
    channel_shut_all(m);
    pthread_mutex_lock(&m->failure_lock);
    LpmStreamMessage error = {.reason = m->failure};
    pthread_mutex_unlock(&m->failure_lock);
    fprintf(stderr, "lpm-mover: %s: %s\n", lpm_stream_error_name(error.reason.code),
            error.reason.reason);
    last_word(c, LPM_STREAM_ERROR, &error);
    inbox_close(&m->in.box);
    outbox_close(&m->out.box);
    /* The sender, unless it is stuck, tells the peer why before the link goes. */
    if (m->n_threads > 0 && link_totals(m).up > 0)
        gate_join(m, ABORT_MS);
    cut_links(m);
    if (m->n_threads > 0)
        gate_join(m, STOP_MS);
    return (int)error.reason.code;
}

/* Until the peer has said CLOSE, too, it may not have seen ours. */
static void linger(Mover *m)
{
    for (unsigned ms = 0; ms < LINGER_MS && !atomic_load(&m->peer_closed); ms += LINGER_STEP_MS)
        if (gate_join(m, LINGER_STEP_MS))
            return;
}

static int end_well(Control *c)
{
    Mover *m = c->mover;
    inbox_close(&m->in.box);
    outbox_close(&m->out.box);
    link_wake_all(m);
    linger(m);
    channel_shut_all(m);
    cut_links(m);
    bool quiet = gate_join(m, STOP_MS);
    last_word(c, LPM_STREAM_FINISHED, NULL);
    /* Nobody waits for the disk any more, and nobody works on the image. */
    if (quiet)
        image_finish(&m->image);
    return 0;
}

int control_run(Mover *mover)
{
    Control *c = &control;
    c->mover = mover;
    c->next_tick_ns = clock_ns();
    if (!atomic_load(&mover->stopping))
        serve_commands(c);
    while (!atomic_load(&mover->stopping) && !is_finished(mover)) {
        send_events(c);
        wait_for_events(c);
        tick(c);
    }
    return atomic_load(&mover->stopping) ? end_badly(c) : end_well(c);
}
