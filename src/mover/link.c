/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

#include "bytes/bytes.h"
#include "clock.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* A stranger who connects and says nothing may keep the right peer waiting no longer than this. */
#define GREETING_NS (3ull * NS_PER_S)
enum { SMALL_FRAME = 2048 };

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

static bool reject(Transport *transport, const LpmStreamHeader *header, LpmStreamStatus status)
{
    LpmStreamError code = LPM_STREAM_ERR_PROTOCOL;
    if (status == LPM_STREAM_BAD_CHECKSUM || status == LPM_STREAM_BAD_MAGIC)
        code = LPM_STREAM_ERR_CHECKSUM;
    else if (status == LPM_STREAM_BAD_VERSION)
        code = LPM_STREAM_ERR_VERSION;
    else if (status == LPM_STREAM_UNKNOWN_TYPE)
        code = LPM_STREAM_ERR_UNKNOWN;
    transport_fail_receive(transport, code, "frame %llu of type %s (%u) from the peer: %s",
                           (unsigned long long)header->sequence, lpm_stream_type_name(header->type),
                           header->type, lpm_stream_status_text(status));
    return false;
}

bool link_receive_header(Transport *transport, LpmStreamVerifier *verifier,
                         uint8_t raw[LPM_STREAM_HEADER_SIZE], LpmStreamHeader *ret_header,
                         LpmStreamStatus *ret_status)
{
    if (!transport->ops->receive(transport, raw, LPM_STREAM_HEADER_SIZE))
        return false;
    LpmStreamHeader none = {0};
    LpmStreamStatus status = lpm_stream_decode_header(raw, ret_header);
    if (status != LPM_STREAM_OK)
        return reject(transport, &none, status);
    status = lpm_stream_verify(verifier, ret_header);
    if (status != LPM_STREAM_OK && status != LPM_STREAM_SKIP)
        return reject(transport, ret_header, status);
    *ret_status = status;
    return true;
}

bool link_receive_body(Transport *transport, const uint8_t raw[LPM_STREAM_HEADER_SIZE],
                       const LpmStreamHeader *header, uint8_t *body)
{
    if (!transport->ops->receive(transport, body, header->length))
        return false;
    LpmStreamStatus status = lpm_stream_check_body(raw, body, header->length);
    return status == LPM_STREAM_OK || reject(transport, header, status);
}

/* --- the greeting --- */

typedef struct {
    Mover *mover;
    Transport *transport;
    LpmStreamVerifier verifier;
    uint8_t exporter[LPM_EXPORTER_SIZE];
    LpmStreamReason verdict; /* why we do not want the peer, or why we could not greet it */
} Greeting;

static bool greeting_fails(Greeting *g, LpmStreamError code, const char *reason)
{
    g->verdict.code = code;
    snprintf(g->verdict.reason, sizeof(g->verdict.reason), "%s", reason);
    return false;
}

/* Receives the one record that may come now. */
static bool receive_expected(Greeting *g, uint32_t type, LpmStreamMessage *ret_message)
{
    uint8_t raw[LPM_STREAM_HEADER_SIZE], body[SMALL_FRAME];
    LpmStreamHeader header;
    LpmStreamStatus status;
    if (!link_receive_header(g->transport, &g->verifier, raw, &header, &status))
        return greeting_fails(g, g->transport->receive_error.code,
                              g->transport->receive_error.reason);
    if ((header.type != type && header.type != LPM_STREAM_ABORT) || header.length > sizeof(body))
        return greeting_fails(g, LPM_STREAM_ERR_PROTOCOL,
                              "the peer began with another record than a greeting");
    if (!link_receive_body(g->transport, raw, &header, body))
        return greeting_fails(g, g->transport->receive_error.code,
                              g->transport->receive_error.reason);
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

static void agree(Mover *mover, uint64_t features, uint32_t window)
{
    mover->features = features;
    mover->window = window < mover->config.window ? window : mover->config.window;
}

static bool greet_as_source(Greeting *g)
{
    const LpmStreamConfig *config = &g->mover->config;
    LpmStreamMessage m = {.hello = {.version_min = LPM_STREAM_VERSION,
                                    .version_max = LPM_STREAM_VERSION,
                                    .features = config->features,
                                    .side = config->side,
                                    .mode = config->mode,
                                    .codec = config->codec,
                                    .connections = 1,
                                    .window = config->window}};
    memcpy(m.hello.system, config->system, sizeof(m.hello.system));
    if (!key_proof(config, LPM_STREAM_SIDE_SRC, g->exporter, m.hello.proof))
        return greeting_fails(g, LPM_STREAM_ERR_INTERNAL,
                              "the proof of the key cannot be computed");
    if (!send_greeting(g, LPM_STREAM_HELLO, &m) || !receive_expected(g, LPM_STREAM_HELLO_ACK, &m))
        return false;
    if (!proof_is_right(g, LPM_STREAM_SIDE_DST, m.hello_ack.proof))
        return greeting_fails(g, LPM_STREAM_ERR_KEY,
                              "the target's mover does not hold this migration's key");
    if (m.hello_ack.version != LPM_STREAM_VERSION || m.hello_ack.window < MIN_WINDOW)
        return greeting_fails(g, LPM_STREAM_ERR_VERSION,
                              "the target's mover chose what was not offered");
    agree(g->mover, m.hello_ack.features & config->features, m.hello_ack.window);
    return true;
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
    if (hello->side != LPM_STREAM_SIDE_SRC || hello->mode != config->mode ||
        hello->codec != config->codec || hello->connections != 1 || hello->received != 0 ||
        hello->window < MIN_WINDOW)
        return greeting_fails(g, LPM_STREAM_ERR_PROTOCOL,
                              "the source's mover asks for what this one was not told");
    return true;
}

static bool greet_as_target(Greeting *g)
{
    const LpmStreamConfig *config = &g->mover->config;
    LpmStreamMessage m;
    if (!receive_expected(g, LPM_STREAM_HELLO, &m) || !hello_is_welcome(g, &m.hello))
        return false;
    agree(g->mover, m.hello.features & config->features, m.hello.window);
    LpmStreamMessage answer = {.hello_ack = {.version = LPM_STREAM_VERSION,
                                             .features = g->mover->features,
                                             .window = config->window}};
    if (!key_proof(config, LPM_STREAM_SIDE_DST, g->exporter, answer.hello_ack.proof))
        return greeting_fails(g, LPM_STREAM_ERR_INTERNAL,
                              "the proof of the key cannot be computed");
    return send_greeting(g, LPM_STREAM_HELLO_ACK, &answer);
}

static bool greet(Greeting *g)
{
    Transport *t = g->transport;
    if (!t->ops->handshake(t))
        return greeting_fails(g, t->receive_error.code, t->receive_error.reason);
    if (!t->ops->exporter(t, g->exporter))
        return greeting_fails(g, LPM_STREAM_ERR_TLS,
                              "this TLS session gives no secret to bind the key to");
    bool good = is_source(g->mover) ? greet_as_source(g) : greet_as_target(g);
    LpmStreamMessage bye = {.reason = g->verdict};
    if (!good && g->verdict.code != LPM_STREAM_ERR_LINK)
        link_send(g->mover, t, LPM_STREAM_ABORT, &bye);
    return good;
}

/* --- finding the peer --- */

static void set_tcp_options(int fd)
{
    /* Best effort: all of this only makes it faster, or a loss noticed earlier. */
    int one = 1, user_timeout_ms = 10000;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
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

/* Greets whoever is at @fd (taken). */
static bool try_peer(Mover *mover, int fd, uint64_t deadline_ns, LpmStreamReason *ret_verdict)
{
    set_tcp_options(fd);
    Transport *transport = make_transport(mover, fd);
    if (!transport) {
        lpm_bytes_close(&fd);
        return mover_fail(mover, LPM_STREAM_ERR_INTERNAL, "out of memory for the connection");
    }
    LpmStreamSender peer = is_source(mover) ? LPM_STREAM_FROM_DST : LPM_STREAM_FROM_SRC;
    Greeting g = {.mover = mover,
                  .transport = transport,
                  .verifier = lpm_stream_verifier(peer, mover->config.migration)};
    transport->deadline_ns = deadline_ns;
    atomic_store(&mover->link_fd, fd);
    bool good = greet(&g);
    if (!good) {
        *ret_verdict = g.verdict;
        atomic_store(&mover->link_fd, is_source(mover) ? -1 : mover->options.net);
        transport_free(transport);
        return false;
    }
    transport->deadline_ns = 0;
    struct timeval forever = {0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof(forever));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &forever, sizeof(forever));
    atomic_store(&mover->rtt_us, tcp_round_trip_us(fd));
    mover->in.verifier = g.verifier;
    mover->transport = transport;
    return true;
}

static int accept_until(Mover *mover, uint64_t deadline_ns)
{
    while (!atomic_load(&mover->stopping)) {
        uint64_t now = clock_ns();
        if (now >= deadline_ns)
            break;
        struct pollfd waiting = {.fd = mover->options.net, .events = POLLIN};
        if (poll(&waiting, 1, (int)((deadline_ns - now) / NS_PER_MS) + 1) <= 0)
            continue;
        int fd = accept4(mover->options.net, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            return fd;
        if (errno != EINTR && errno != EAGAIN && errno != ECONNABORTED)
            break;
    }
    return -1;
}

static bool establish_target(Mover *mover, uint64_t deadline_ns)
{
    LpmStreamMessage last = {.reason = {.reason = "nobody connected"}};
    for (;;) {
        int fd = accept_until(mover, deadline_ns);
        if (fd < 0)
            return mover_fail(mover, LPM_STREAM_ERR_CONNECT,
                              "the source's mover did not come within %u ms (last: %.120s)",
                              mover->config.connect_ms, last.reason.reason);
        uint64_t greeting = clock_ns() + GREETING_NS;
        if (try_peer(mover, fd, greeting < deadline_ns ? greeting : deadline_ns, &last.reason)) {
            lpm_bytes_close(&mover->options.net);
            return true;
        }
        if (atomic_load(&mover->stopping))
            return false;
        mover_tell(mover, LPM_STREAM_REFUSED, &last);
    }
}

static bool establish_source(Mover *mover, uint64_t deadline_ns)
{
    LpmStreamReason verdict = {0};
    if (try_peer(mover, lpm_bytes_steal_fd(&mover->options.net), deadline_ns, &verdict))
        return true;
    return mover_fail(mover, verdict.code, "no agreement with the target's mover: %.200s",
                      verdict.reason);
}

bool link_establish(Mover *mover)
{
    uint64_t deadline_ns = clock_ns() + (uint64_t)mover->config.connect_ms * NS_PER_MS;
    if (!(is_source(mover) ? establish_source(mover, deadline_ns)
                           : establish_target(mover, deadline_ns)))
        return false;
    LpmStreamMessage m = {.connected = {.version = LPM_STREAM_VERSION,
                                        .features = mover->features,
                                        .rtt_us = atomic_load(&mover->rtt_us)}};
    memcpy(m.connected.system, mover->config.peer, sizeof(m.connected.system));
    memcpy(m.connected.cipher, mover->transport->cipher, sizeof(mover->transport->cipher));
    /* First true, then told: lpm-host may answer at once. */
    atomic_store(&mover->heard_ns, clock_ns());
    atomic_store(&mover->state, LPM_STREAM_STATE_COPYING);
    atomic_store(&mover->connected, true);
    mover_tell(mover, LPM_STREAM_CONNECTED, &m);
    return true;
}
