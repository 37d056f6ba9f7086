/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Harm for tests: wraps a transport and spoils what is sent. Never part of the installed program.
 *   flip=N   changes one bit of the N-th byte sent
 *   asked    changes one bit of what is sent next after SIGUSR1
 *   lie=N    changes one bit in the first DATA that begins at or after byte N of the stream, and
 * makes the checksum right again cut=N    cuts the link after N bytes delay=MS waits before every
 * send
 */
#include "transport.h"

#include "clock.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    Transport base;
    Transport *inner;
    uint64_t flip, lie, cut, delay_ms; /* 0: not asked for */
    uint64_t sent;
    bool when_asked;
    uint8_t *copy;
} FaultTransport;

static atomic_bool asked;

static void note_asked(int number)
{
    (void)number;
    atomic_store(&asked, true);
}

/* Before the sandbox closes; whoever is not asked does no harm. */
__attribute__((constructor)) static void listen_for_asking(void)
{
    struct sigaction action = {.sa_handler = note_asked, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
}

static FaultTransport *fault(Transport *transport)
{
    return (FaultTransport *)transport;
}

/* The wrapper shows what the inner one says; each thread its own part of it. */
static bool mirror_receive(FaultTransport *f, bool good)
{
    f->base.receive_error = f->inner->receive_error;
    atomic_store(&f->base.wire_in, atomic_load(&f->inner->wire_in));
    return good;
}

static bool mirror_send(FaultTransport *f, bool good)
{
    f->base.send_error = f->inner->send_error;
    f->base.ended_by_receiving = f->inner->ended_by_receiving;
    atomic_store(&f->base.wire_out, atomic_load(&f->inner->wire_out));
    return good;
}

/* Changed only before the two threads part. */
static void set_deadline(FaultTransport *f)
{
    if (f->inner->deadline_ns != f->base.deadline_ns)
        f->inner->deadline_ns = f->base.deadline_ns;
}

static bool fault_handshake(Transport *transport)
{
    FaultTransport *f = fault(transport);
    set_deadline(f);
    bool good = mirror_receive(f, f->inner->ops->handshake(f->inner));
    memcpy(transport->cipher, f->inner->cipher, sizeof(transport->cipher));
    return good;
}

static void tell_lie(FaultTransport *f, uint8_t *frame, size_t size)
{
    LpmStreamHeader header;
    LpmStreamMessage message;
    size_t used;
    if (lpm_stream_unpack(frame, size, &header, &message, &used) != LPM_STREAM_OK ||
        header.type != LPM_STREAM_DATA || message.data.offset < f->lie)
        return;
    frame[used - 1] ^= 1;
    lpm_stream_encode_header(&header, frame + LPM_STREAM_HEADER_SIZE, frame);
    f->lie = 0;
}

static bool fault_send(Transport *transport, const uint8_t *data, size_t size)
{
    FaultTransport *f = fault(transport);
    set_deadline(f);
    memcpy(f->copy, data, size);
    if (f->flip > f->sent && f->flip <= f->sent + size)
        f->copy[f->flip - f->sent - 1] ^= 0x10;
    if (f->lie)
        tell_lie(f, f->copy, size);
    if (f->when_asked && atomic_exchange(&asked, false))
        f->copy[size / 2] ^= 0x10;
    if (f->delay_ms) {
        struct timespec pause = {.tv_nsec = (long)(f->delay_ms % 1000 * NS_PER_MS)};
        nanosleep(&pause, NULL);
    }
    f->sent += size;
    if (f->cut && f->sent >= f->cut)
        transport_cut(f->inner);
    return mirror_send(f, f->inner->ops->send(f->inner, f->copy, size));
}

static bool fault_receive(Transport *transport, uint8_t *data, size_t size)
{
    FaultTransport *f = fault(transport);
    set_deadline(f);
    return mirror_receive(f, f->inner->ops->receive(f->inner, data, size));
}

static bool fault_exporter(Transport *transport, uint8_t out[LPM_EXPORTER_SIZE])
{
    return fault(transport)->inner->ops->exporter(fault(transport)->inner, out);
}

static void fault_finish(Transport *transport)
{
    fault(transport)->inner->ops->finish(fault(transport)->inner);
}

static void fault_free(Transport *transport)
{
    transport_free(fault(transport)->inner);
    free(fault(transport)->copy);
    free(transport);
}

static const TransportOps fault_ops = {
    .handshake = fault_handshake,
    .send = fault_send,
    .receive = fault_receive,
    .exporter = fault_exporter,
    .finish = fault_finish,
    .free = fault_free,
};

Transport *transport_fault_new(Transport *inner, const char *spec)
{
    FaultTransport *f = calloc(1, sizeof(*f));
    if (!f || !(f->copy = malloc(LPM_STREAM_HEADER_SIZE + LPM_STREAM_BODY_MAX))) {
        free(f);
        return NULL;
    }
    f->base.ops = &fault_ops;
    f->base.fd = inner->fd;
    f->inner = inner;
    f->when_asked = strcmp(spec, "asked") == 0;
    const struct {
        const char *name;
        uint64_t *value;
    } kinds[] = {
        {"flip=", &f->flip}, {"lie=", &f->lie}, {"cut=", &f->cut}, {"delay=", &f->delay_ms}};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strncmp(spec, kinds[i].name, strlen(kinds[i].name)) == 0)
            *kinds[i].value = strtoull(spec + strlen(kinds[i].name), NULL, 10);
    return &f->base;
}
