/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection to the other mover, as bytes in order. One thread sends, one receives, any may cut
 * it. All calls wait; they fail at once after transport_cut().
 */
#pragma once

#include "digest.h"

#include <stdatomic.h>

typedef struct Transport Transport;

typedef struct {
    /* The greeting of the protocol below ours (TLS); both sides at once. On failure error is set.
     */
    bool (*handshake)(Transport *transport);
    /* All of @data, on the link when it returns. */
    bool (*send)(Transport *transport, const uint8_t *data, size_t size);
    /* Exactly @size bytes. */
    bool (*receive)(Transport *transport, uint8_t *data, size_t size);
    /* A secret of this session; zeros where there is none. */
    bool (*exporter)(Transport *transport, uint8_t out[LPM_EXPORTER_SIZE]);
    /* Nothing more will be sent. */
    void (*finish)(Transport *transport);
    void (*free)(Transport *transport);
} TransportOps;

enum { TRANSPORT_REASON_MAX = 200 };

struct Transport {
    const TransportOps *ops;
    int fd;                       /* owned */
    _Atomic uint64_t deadline_ns; /* of the handshake; 0 afterwards */
    char cipher[64];
    _Atomic uint64_t wire_in, wire_out;
    _Atomic uint64_t *blocked_ns; /* counts what sending waits for the link; NULL: nobody asks */
    /* Why the last call failed. Sending and receiving fail in different threads: each has its own.
     */
    struct {
        LpmStreamError code;
        char reason[TRANSPORT_REASON_MAX];
    } send_error, receive_error;
    /* Sending failed because receiving has ended the session: receive_error says why, or is about
     * to. */
    bool ended_by_receiving;
};

/* Certificate, key and authority in memory, loaded before the sandbox closes. */
typedef struct TransportCredentials TransportCredentials;

/* PEM texts. NULL with @reason filled when they are unusable. */
TransportCredentials *transport_credentials_new(const char *cert, const char *key, const char *ca,
                                                char reason[TRANSPORT_REASON_MAX]);
void transport_credentials_free(TransportCredentials *credentials);

/* Plain TCP: for measurements and tests. Takes @fd. NULL when out of memory. */
Transport *transport_tcp_new(int fd);
/*
 * TLS 1.3, both sides with certificates of one authority; the peer's must carry the name @peer and
 * be a system's. Takes
 * @fd; borrows the others for its life.
 */
Transport *transport_tls_new(int fd, bool server, const TransportCredentials *credentials,
                             const char *peer);
#ifdef LPM_FAULTS
/* Tests only: wraps @inner and does harm to what is sent, as @spec says (transport-fault.c). Takes
 * @inner. */
Transport *transport_fault_new(Transport *inner, const char *spec);
#endif

/* Ends both directions; waiting calls return. From any thread, several times. */
void transport_cut(Transport *transport);
void transport_free(Transport *transport);

/* --- for the implementations --- */

/* One send() or recv() with the handshake's deadline, counted. Bytes, 0 at the end, -1 with errno.
 */
ssize_t transport_raw_receive(Transport *transport, void *data, size_t size);
bool transport_raw_send(Transport *transport, const void *data, size_t size);
void transport_fail_send(Transport *transport, LpmStreamError code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void transport_fail_receive(Transport *transport, LpmStreamError code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
