/* SPDX-License-Identifier: Apache-2.0 */
/* The shapes of messages, pure: text in, request or error out. Private to lib/rpc, its tests and
 * its fuzzer. */
#pragma once

#include "base/error.h"
#include "base/json.h"

typedef struct {
    const char *verb;  /* borrowed from the message */
    json_t *arguments; /* borrowed; NULL when there are none */
    json_t *id;        /* borrowed; NULL when there is none */
} LpmRpcCallParts;

/* A line as an object; PROTOCOL when it is none. New reference. */
json_t *lpm_rpc_message_parse(const char *text, size_t length,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * The same for QEMU, which writes unsigned 64-bit integers: those that no json_int_t holds become
 * reals.
 */
json_t *lpm_rpc_message_parse_foreign(const char *text, size_t length,
                                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Takes a request apart; PROTOCOL when it is none. @ret_parts->id is set also on failure where the
 * message has a usable one, so that the answer can carry it.
 */
bool lpm_rpc_message_request(json_t *message, LpmRpcCallParts *ret_parts,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* New references. @arguments, @result and @data are stolen; NULL gives {} (a call has no member
 * then). @id: may be NULL. */
json_t *lpm_rpc_message_call(const char *member, const char *verb, json_t *arguments,
                             json_int_t id);
json_t *lpm_rpc_message_return(json_t *result, json_t *id);
json_t *lpm_rpc_message_error(const GError *error, json_t *id);
json_t *lpm_rpc_message_event(const char *event, json_t *data, int64_t realtime_us);

/*
 * The GError of an answer's "error" member; @foreign: see LpmRpcDialect, -1 for our own kind.
 * Whatever @error is, the result is not NULL; its text is bounded and printable.
 */
GError *lpm_rpc_message_failure(const json_t *error, int foreign);
