/* SPDX-License-Identifier: Apache-2.0 */
/* One record at a time on a transport, and the greeting of a new connection made of them. */
#pragma once

#include "mover.h"

/* Sends a record that is not ordered. On failure the transport's send_error is set. */
bool link_send(Mover *mover, Transport *transport, uint32_t type, const LpmStreamMessage *message);
/*
 * Next header, checked by the verifier but for its place in the order; @raw keeps it for the
 * checksum. False when the connection is lost (the transport's receive_error), or @ret_bad is not
 * OK: a header that nobody of ours sends.
 */
bool link_receive_header(Transport *transport, LpmStreamVerifier *verifier,
                         uint8_t raw[LPM_STREAM_HEADER_SIZE], LpmStreamHeader *ret_header,
                         LpmStreamStatus *ret_bad);
/* Body of that header into @body (header->length bytes), its checksum checked; false as above. */
bool link_receive_body(Transport *transport, const uint8_t raw[LPM_STREAM_HEADER_SIZE],
                       const LpmStreamHeader *header, uint8_t *body, LpmStreamStatus *ret_bad);
/* What a bad frame is called when the move ends with it. */
LpmStreamError link_error_of(LpmStreamStatus bad);

typedef struct {
    Transport *transport; /* the caller's, greeted; NULL when it failed */
    unsigned connection;
    uint64_t received;       /* what the peer has of our direction */
    LpmStreamReason verdict; /* why it failed */
} Greeted;

/*
 * Greets whoever is at @fd (taken) until @deadline_ns; on the source as connection @connection. The
 * first good one settles what both sides agree on.
 */
bool greet(Mover *mover, int fd, unsigned connection, uint64_t deadline_ns, Greeted *ret_greeted);
