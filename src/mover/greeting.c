/* SPDX-License-Identifier: Apache-2.0 */
#include "greeting.h"

#include "bytes/bytes.h"
#include "clock.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum {
    SMALL_FRAME = 2048,
    /* That the kernel takes before the link does: so a sender that waits tells that the link is
       full. */
    UNSENT_MAX = 512 * 1024,
};

/* --- one record at a time --- */

bool link_send(Mover *mover, Transport *transport, uint32_t type, const LpmStreamMessage *message)
{
    uint8_t frame[SMALL_FRAME];
    size_t size;
    LpmStreamStatus status =
        lpm_stream_pack(type, message, mover->config.migration, 0, frame, sizeof(frame), &size);
    if (status == LPM_STREAM_OK)
        return transport->ops->send(transport, frame, size);
    transport_fail_send(transport, LPM_STREAM_ERR_INTERNAL, "record %s: %s",
                        lpm_stream_type_name(type), lpm_stream_status_text(status));
    return false;
}

LpmStreamError link_error_of(LpmStreamStatus bad)
{
    if (bad == LPM_STREAM_BAD_CHECKSUM || bad == LPM_STREAM_BAD_MAGIC)
        return LPM_STREAM_ERR_CHECKSUM;
    if (bad == LPM_STREAM_BAD_VERSION)
        return LPM_STREAM_ERR_VERSION;
    return bad == LPM_STREAM_UNKNOWN_TYPE ? LPM_STREAM_ERR_UNKNOWN : LPM_STREAM_ERR_PROTOCOL;
}

static bool reject(Transport *transport, const LpmStreamHeader *header, LpmStreamStatus status)
{
    transport_fail_receive(transport, link_error_of(status),
                           "frame %llu of type %s (%u) from the peer: %s",
                           (unsigned long long)header->sequence, lpm_stream_type_name(header->type),
                           header->type, lpm_stream_status_text(status));
    return false;
}

bool link_receive_header(Transport *transport, LpmStreamVerifier *verifier,
                         uint8_t raw[LPM_STREAM_HEADER_SIZE], LpmStreamHeader *ret_header,
                         LpmStreamStatus *ret_bad)
{
    *ret_bad = LPM_STREAM_OK;
    if (!transport->ops->receive(transport, raw, LPM_STREAM_HEADER_SIZE))
        return false;
    LpmStreamHeader none = {0};
    LpmStreamPlace place;
    *ret_bad = lpm_stream_decode_header(raw, ret_header);
    if (*ret_bad != LPM_STREAM_OK)
        return reject(transport, &none, *ret_bad);
    LpmStreamStatus status = lpm_stream_verify_place(verifier, ret_header, &place);
    if (status == LPM_STREAM_OK || status == LPM_STREAM_SKIP)
        return true;
    *ret_bad = status;
    return reject(transport, ret_header, status);
}

bool link_receive_body(Transport *transport, const uint8_t raw[LPM_STREAM_HEADER_SIZE],
                       const LpmStreamHeader *header, uint8_t *body, LpmStreamStatus *ret_bad)
{
    *ret_bad = LPM_STREAM_OK;
    if (!transport->ops->receive(transport, body, header->length))
        return false;
    *ret_bad = lpm_stream_check_body(raw, body, header->length);
    return *ret_bad == LPM_STREAM_OK || reject(transport, header, *ret_bad);
}

/* --- the greeting --- */

typedef struct {
    Mover *mover;
    Transport *transport;
    LpmStreamVerifier verifier;
    uint8_t exporter[LPM_EXPORTER_SIZE];
    unsigned connection;
    uint64_t received;       /* the peer has so much of ours */
    LpmStreamReason verdict; /* why we do not want the peer, or why we could not greet it */
} Greeting;

static bool greeting_fails(Greeting *g, LpmStreamError code, const char *reason)
{
    g->verdict.code = code;
    snprintf(g->verdict.reason, sizeof(g->verdict.reason), "%s", reason);
    return false;
}

static bool connection_fails(Greeting *g)
{
    return greeting_fails(g, g->transport->receive_error.code, g->transport->receive_error.reason);
}

/* Receives the one record that may come now. */
static bool receive_expected(Greeting *g, uint32_t type, LpmStreamMessage *ret_message)
{
    uint8_t raw[LPM_STREAM_HEADER_SIZE], body[SMALL_FRAME];
    LpmStreamHeader header;
    LpmStreamStatus bad;
    if (!link_receive_header(g->transport, &g->verifier, raw, &header, &bad))
        return connection_fails(g);
    if ((header.type != type && header.type != LPM_STREAM_ABORT) || header.length > sizeof(body))
        return greeting_fails(g, LPM_STREAM_ERR_PROTOCOL,
                              "the peer began with another record than a greeting");
    if (!link_receive_body(g->transport, raw, &header, body, &bad))
        return connection_fails(g);
    if (lpm_stream_decode_body(header.type, body, header.length, ret_message) != LPM_STREAM_OK)
        return greeting_fails(g, LPM_STREAM_ERR_PROTOCOL,
                              "the peer's greeting has a field out of range");
    if (header.type == type)
        return true;
    /* Its own words and code: the user should hear "wrong key" on both sides. */
    return greeting_fails(g, ret_message->reason.code, ret_message->reason.reason);
}

static bool send_greeting(Greeting *g, uint32_t type, const LpmStreamMessage *message)
{
    if (link_send(g->mover, g->transport, type, message))
        return true;
    return greeting_fails(g, g->transport->send_error.code, g->transport->send_error.reason);
}

static bool proof_is_right(Greeting *g, LpmStreamSide side,
                           const uint8_t proof[LPM_STREAM_KEY_SIZE])
{
    uint8_t expected[LPM_STREAM_KEY_SIZE];
    return key_proof(&g->mover->config, side, g->exporter, expected) &&
           key_proof_equal(proof, expected);
}

/* Features that need another one go with it. */
static uint64_t complete(uint64_t features)
{
    if (!(features & LPM_STREAM_FEATURE_CODED))
        features &= ~(uint64_t)LPM_STREAM_FEATURE_IMAGES;
    return features;
}

/* The first connection settles it; the others only repeat it. */
static bool settle(Greeting *g, uint64_t features, uint32_t window)
{
    Mover *mover = g->mover;
    features = complete(features);
    window = window < mover->config.window ? window : mover->config.window;
    if (!atomic_load(&mover->connected)) {
        mover->features = features;
        mover->window = window;
        return true;
    }
    return features == mover->features ||
           greeting_fails(g, LPM_STREAM_ERR_PROTOCOL,
                          "a further connection offers other features than the first");
}

static uint64_t offered(const Mover *mover)
{
    return atomic_load(&mover->connected) ? mover->features : complete(mover->config.features);
}

static bool greet_as_source(Greeting *g)
{
    Mover *mover = g->mover;
    const LpmStreamConfig *config = &mover->config;
    LpmStreamMessage m = {.hello = {.version_min = LPM_STREAM_VERSION,
                                    .version_max = LPM_STREAM_VERSION,
                                    .features = offered(mover),
                                    .side = config->side,
                                    .mode = config->mode,
                                    .codec = config->codec,
                                    .connection = (uint8_t)g->connection,
                                    .connections = (uint8_t)mover->n_links,
                                    .window = config->window,
                                    .received = inbox_received(&mover->in.box)}};
    memcpy(m.hello.system, config->system, sizeof(m.hello.system));
    if (!key_proof(config, LPM_STREAM_SIDE_SRC, g->exporter, m.hello.proof))
        return greeting_fails(g, LPM_STREAM_ERR_INTERNAL,
                              "the proof of the key cannot be computed");
    uint64_t offer = m.hello.features;
    if (!send_greeting(g, LPM_STREAM_HELLO, &m) || !receive_expected(g, LPM_STREAM_HELLO_ACK, &m))
        return false;
    if (!proof_is_right(g, LPM_STREAM_SIDE_DST, m.hello_ack.proof))
        return greeting_fails(g, LPM_STREAM_ERR_KEY,
                              "the target's mover does not hold this migration's key");
    if (m.hello_ack.version != LPM_STREAM_VERSION || m.hello_ack.window < MIN_WINDOW)
        return greeting_fails(g, LPM_STREAM_ERR_VERSION,
                              "the target's mover chose what was not offered");
    g->received = m.hello_ack.received;
    return settle(g, m.hello_ack.features & offer, m.hello_ack.window);
}

/* What must be true of a HELLO; the first that is not is the verdict. */
static bool hello_is_welcome(Greeting *g, const LpmStreamHello *hello)
{
    const LpmStreamConfig *config = &g->mover->config;
    if (!proof_is_right(g, LPM_STREAM_SIDE_SRC, hello->proof))
        return greeting_fails(g, LPM_STREAM_ERR_KEY,
                              "the source's mover does not hold this migration's key");
    if (hello->version_min > LPM_STREAM_VERSION || hello->version_max < LPM_STREAM_VERSION)
        return greeting_fails(g, LPM_STREAM_ERR_VERSION,
                              "the two movers have no version of the wire in common");
    if (strcmp(hello->system, config->peer) != 0)
        return greeting_fails(g, LPM_STREAM_ERR_IDENTITY,
                              "the source's mover is of another system than the named one");
    bool first = !atomic_load(&g->mover->connected);
    if (hello->side != LPM_STREAM_SIDE_SRC || hello->mode != config->mode ||
        hello->codec != config->codec || hello->connection >= g->mover->n_links ||
        (first && hello->received != 0) || hello->window < MIN_WINDOW)
        return greeting_fails(g, LPM_STREAM_ERR_PROTOCOL,
                              "the source's mover asks for what this one was not told");
    return true;
}

static bool greet_as_target(Greeting *g)
{
    Mover *mover = g->mover;
    LpmStreamMessage m;
    if (!receive_expected(g, LPM_STREAM_HELLO, &m) || !hello_is_welcome(g, &m.hello))
        return false;
    if (!settle(g, m.hello.features & offered(mover), m.hello.window))
        return false;
    g->connection = m.hello.connection;
    g->received = m.hello.received;
    LpmStreamMessage answer = {.hello_ack = {.version = LPM_STREAM_VERSION,
                                             .features = mover->features,
                                             .window = mover->config.window,
                                             .received = inbox_received(&mover->in.box)}};
    if (!key_proof(&mover->config, LPM_STREAM_SIDE_DST, g->exporter, answer.hello_ack.proof))
        return greeting_fails(g, LPM_STREAM_ERR_INTERNAL,
                              "the proof of the key cannot be computed");
    return send_greeting(g, LPM_STREAM_HELLO_ACK, &answer);
}

static bool exchange(Greeting *g)
{
    Transport *t = g->transport;
    if (!t->ops->handshake(t))
        return connection_fails(g);
    if (!t->ops->exporter(t, g->exporter))
        return greeting_fails(g, LPM_STREAM_ERR_TLS,
                              "this TLS session gives no secret to bind the key to");
    bool good = is_source(g->mover) ? greet_as_source(g) : greet_as_target(g);
    LpmStreamMessage bye = {.reason = g->verdict};
    if (!good && g->verdict.code != LPM_STREAM_ERR_LINK)
        link_send(g->mover, t, LPM_STREAM_ABORT, &bye);
    return good;
}

/* --- the connection --- */

static void set_tcp_options(int fd)
{
    /* Best effort: all of this only makes it faster, or a loss noticed earlier. */
    int one = 1, user_timeout_ms = 10000, unsent = UNSENT_MAX;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms, sizeof(user_timeout_ms));
}

static uint32_t tcp_round_trip_us(int fd)
{
    struct tcp_info info;
    socklen_t size = sizeof(info);
    memset(&info, 0, sizeof(info));
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 ? info.tcpi_rtt : 0;
}

static Transport *make_transport(Mover *mover, int fd)
{
    Transport *t =
        mover->config.transport == LPM_STREAM_TRANSPORT_PLAIN
            ? transport_tcp_new(fd)
            : transport_tls_new(fd, !is_source(mover), mover->credentials, mover->config.peer);
#ifdef LPM_FAULTS
    if (t && mover->options.fault)
        t = transport_fault_new(t, mover->options.fault);
#endif
    return t;
}

/* Whom to wake when the mover stops meanwhile. */
static void note_greeting(Mover *mover, unsigned connection, int fd)
{
    pthread_mutex_lock(&mover->link_lock);
    mover->links[connection].greeting_fd = fd;
    if (fd >= 0 && atomic_load(&mover->stopping))
        shutdown(fd, SHUT_RDWR);
    pthread_mutex_unlock(&mover->link_lock);
}

bool greet(Mover *mover, int fd, unsigned connection, uint64_t deadline_ns, Greeted *ret_greeted)
{
    *ret_greeted = (Greeted){.connection = connection};
    set_tcp_options(fd);
    Transport *transport = make_transport(mover, fd);
    if (!transport) {
        lpm_bytes_close(&fd);
        return mover_fail(mover, LPM_STREAM_ERR_INTERNAL, "out of memory for the connection");
    }
    LpmStreamSender peer = is_source(mover) ? LPM_STREAM_FROM_DST : LPM_STREAM_FROM_SRC;
    Greeting g = {.mover = mover,
                  .transport = transport,
                  .connection = connection,
                  .verifier = lpm_stream_verifier(peer, mover->config.migration)};
    transport->deadline_ns = deadline_ns;
    transport->blocked_ns = &mover->blocked_ns;
    note_greeting(mover, connection, fd);
    bool good = exchange(&g);
    note_greeting(mover, connection, -1);
    *ret_greeted = (Greeted){.transport = good ? transport : NULL,
                             .connection = g.connection,
                             .received = g.received,
                             .verdict = g.verdict};
    if (!good) {
        transport_free(transport);
        return false;
    }
    transport->deadline_ns = 0;
    struct timeval forever = {0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof(forever));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &forever, sizeof(forever));
    atomic_store(&mover->rtt_us, tcp_round_trip_us(fd));
    return true;
}
