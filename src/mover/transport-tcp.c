/* SPDX-License-Identifier: Apache-2.0 */
/* Plain TCP, and what all transports share. */
#include "transport.h"

#include "bytes/bytes.h"
#include "clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

static void fail(LpmStreamError *code, char *reason, LpmStreamError new_code, const char *format,
                 va_list args)
{
    *code = new_code;
    vsnprintf(reason, TRANSPORT_REASON_MAX, format, args);
}

void transport_fail_send(Transport *transport, LpmStreamError code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fail(&transport->send_error.code, transport->send_error.reason, code, format, args);
    va_end(args);
}

void transport_fail_receive(Transport *transport, LpmStreamError code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fail(&transport->receive_error.code, transport->receive_error.reason, code, format, args);
    va_end(args);
}

/* Until the handshake is over no single wait may go beyond its deadline. */
static bool arm_deadline(Transport *transport, int option)
{
    if (transport->deadline_ns == 0)
        return true;
    uint64_t now = clock_ns();
    if (now >= transport->deadline_ns) {
        errno = ETIMEDOUT;
        return false;
    }
    uint64_t left = transport->deadline_ns - now;
    struct timeval tv = {.tv_sec = (time_t)(left / NS_PER_S),
                         .tv_usec = (suseconds_t)(left % NS_PER_S / 1000) + 1};
    return setsockopt(transport->fd, SOL_SOCKET, option, &tv, sizeof(tv)) == 0;
}

ssize_t transport_raw_receive(Transport *transport, void *data, size_t size)
{
    ssize_t n;
    do {
        if (!arm_deadline(transport, SO_RCVTIMEO))
            return -1;
        n = recv(transport->fd, data, size, 0);
    } while (n < 0 && errno == EINTR);
    if (n > 0)
        atomic_fetch_add_explicit(&transport->wire_in, (uint64_t)n, memory_order_relaxed);
    if (n < 0 && errno == EAGAIN)
        errno = ETIMEDOUT;
    return n;
}

/* One send(), with the time that it waits for the link counted. */
static ssize_t send_or_wait(Transport *transport, const void *data, size_t size)
{
    ssize_t n = send(transport->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
        return n;
    uint64_t begin = clock_ns();
    n = send(transport->fd, data, size, MSG_NOSIGNAL);
    if (transport->blocked_ns)
        atomic_fetch_add_explicit(transport->blocked_ns, clock_ns() - begin, memory_order_relaxed);
    return n;
}

bool transport_raw_send(Transport *transport, const void *data, size_t size)
{
    const uint8_t *at = data;
    while (size > 0) {
        if (!arm_deadline(transport, SO_SNDTIMEO))
            return false;
        ssize_t n = send_or_wait(transport, at, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        atomic_fetch_add_explicit(&transport->wire_out, (uint64_t)n, memory_order_relaxed);
        at += n;
        size -= (size_t)n;
    }
    return true;
}

void transport_cut(Transport *transport)
{
    shutdown(transport->fd, SHUT_RDWR);
}

void transport_free(Transport *transport)
{
    if (transport)
        transport->ops->free(transport);
}

static bool tcp_handshake(Transport *transport)
{
    snprintf(transport->cipher, sizeof(transport->cipher), "plain");
    return true;
}

static bool tcp_send(Transport *transport, const uint8_t *data, size_t size)
{
    if (transport_raw_send(transport, data, size))
        return true;
    transport_fail_send(transport, LPM_STREAM_ERR_LINK, "sending to the peer failed: %s",
                        strerror(errno));
    return false;
}

static bool tcp_receive(Transport *transport, uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t n = transport_raw_receive(transport, data, size);
        if (n <= 0) {
            transport_fail_receive(transport, LPM_STREAM_ERR_LINK,
                                   "receiving from the peer failed: %s",
                                   n == 0 ? "it closed the connection" : strerror(errno));
            return false;
        }
        data += n;
        size -= (size_t)n;
    }
    return true;
}

static bool tcp_exporter(Transport *transport, uint8_t out[LPM_EXPORTER_SIZE])
{
    (void)transport;
    memset(out, 0, LPM_EXPORTER_SIZE);
    return true;
}

static void tcp_finish(Transport *transport)
{
    shutdown(transport->fd, SHUT_WR);
}

static void tcp_free(Transport *transport)
{
    lpm_bytes_close(&transport->fd);
    free(transport);
}

static const TransportOps tcp_ops = {
    .handshake = tcp_handshake,
    .send = tcp_send,
    .receive = tcp_receive,
    .exporter = tcp_exporter,
    .finish = tcp_finish,
    .free = tcp_free,
};

Transport *transport_tcp_new(int fd)
{
    Transport *transport = calloc(1, sizeof(*transport));
    if (transport) {
        transport->ops = &tcp_ops;
        transport->fd = fd;
    }
    return transport;
}
