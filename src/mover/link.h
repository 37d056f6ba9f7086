/* SPDX-License-Identifier: Apache-2.0 */
/* One record at a time on a transport: used for the greeting, and by the sender and receiver for
 * what is not ordered. */
#pragma once

#include "mover.h"

/* Sends a record that is not ordered. On failure the transport's send_error is set. */
bool link_send(Mover *mover, Transport *transport, uint32_t type, const LpmStreamMessage *message);
/*
 * Next header, checked by the verifier; @raw keeps it for the checksum. @ret_status is OK or SKIP.
 * On failure the transport's receive_error is set.
 */
bool link_receive_header(Transport *transport, LpmStreamVerifier *verifier,
                         uint8_t raw[LPM_STREAM_HEADER_SIZE], LpmStreamHeader *ret_header,
                         LpmStreamStatus *ret_status);
/* Body of that header into @body (header->length bytes), its checksum checked. */
bool link_receive_body(Transport *transport, const uint8_t raw[LPM_STREAM_HEADER_SIZE],
                       const LpmStreamHeader *header, uint8_t *body);
