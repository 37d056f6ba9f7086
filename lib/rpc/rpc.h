/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QMP-shaped messages over any stream: one JSON object a line. {"execute","arguments","id"} out,
 * {"return","id"} or {"error":{"class","desc"},"id"} back, {"event","data","timestamp"} at any
 * time. The class is the name of a LpmErrorInfo. Used by lpm-host and lpm-console as servers, and
 * by the QMP and console-to-host clients. Everything runs on the default main context; nothing
 * blocks except lpm_rpc_call_sync(). docs/spec/rpc.md says the rest.
 */
#pragma once

#include "base/error.h"
#include "base/json.h"

#include <gio/gio.h>

#define LPM_RPC_LINE_MAX ((size_t)1 << 20) /* longest accepted line, bytes */
#define LPM_RPC_OUTPUT_MAX                                                                         \
    ((size_t)8 << 20)               /* most unsent bytes; a peer that reads no more is closed */
#define LPM_RPC_PEERS_MAX     1024u /* connections of one server whose other end is known */
#define LPM_RPC_SAME_PEER_MAX 64u   /* of them with the same name; "local" is one */
/* TLS connections that are in their handshake or anonymous; one more ends the oldest that waits for
 * nothing, so that strangers who say nothing shut nobody out */
#define LPM_RPC_STRANGERS_MAX  64u
#define LPM_RPC_HANDSHAKES_MAX 8u   /* of them in their handshake, each in a thread of GIO's pool */
#define LPM_RPC_ACCEPTS_MAX    200u /* in LPM_RPC_ACCEPTS_MS; then no more for as long */
#define LPM_RPC_ACCEPTS_MS     100u
#define LPM_RPC_REQUESTS_MAX   64u /* unanswered requests of one peer; more are BUSY */
#define LPM_RPC_HANDSHAKE_MS                                                                       \
    10000u /* a TLS peer that is not through its handshake by then is closed */
#define LPM_RPC_ANONYMOUS_MS                                                                       \
    30000u /* so is one without certificate that then has no request running */

typedef struct LpmRpcClient LpmRpcClient;
typedef struct LpmRpcServer LpmRpcServer;
typedef struct LpmRpcPeer LpmRpcPeer; /* one connection of a server */
typedef struct LpmRpcRequest LpmRpcRequest;

/* --- client --- */

/* @result is borrowed, NULL on failure; @error is borrowed, NULL on success. Called exactly once
 * for each call. */
typedef void (*LpmRpcReply)(json_t *result, const GError *error, void *data);
typedef void (*LpmRpcEvent)(const char *event, json_t *data, void *user_data);
/* The connection ended; @error says why. Called once; outstanding calls have been failed before. */
typedef void (*LpmRpcClosed)(const GError *error, void *data);

/* Takes over @stream, whose two sides are pollable. Callbacks may be NULL. Speaks first only when a
 * call is made. */
LpmRpcClient *lpm_rpc_client_new(GIOStream *stream, LpmRpcEvent on_event, LpmRpcClosed on_closed,
                                 void *data);
/* Closes; outstanding calls are failed with ABORTED before this returns; no callback comes after.
 * NULL is fine. */
void lpm_rpc_client_free(LpmRpcClient *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LpmRpcClient, lpm_rpc_client_free)

/*
 * For another end than ours (QEMU). Errors get code @foreign whatever their class (UNSUPPORTED for
 * "CommandNotFound"), and @message sees each message that is no answer, before it is looked at as
 * an event; true: it is dealt with.
 */
typedef struct {
    LpmErrorCode foreign;
    bool (*message)(json_t *message, void *data); /* @data as given to lpm_rpc_client_new() */
} LpmRpcDialect;
/* @dialect is borrowed (a constant). Before the first call. */
void lpm_rpc_client_set_dialect(LpmRpcClient *client, const LpmRpcDialect *dialect);

/*
 * Sends a call. @arguments is stolen, NULL for none. After @timeout_ms without an answer the reply
 * is a TIMEOUT error and a late answer is dropped: what was asked may still happen. @data_free (may
 * be NULL) frees @data after the reply. The reply never comes from inside the call, except on a
 * client that is being freed. @fd is sent along with the line where the stream is a Unix socket
 * (QMP getfd); it stays the caller's.
 */
void lpm_rpc_call(LpmRpcClient *client, const char *verb, json_t *arguments, unsigned timeout_ms,
                  LpmRpcReply reply, void *data, GDestroyNotify data_free);
void lpm_rpc_call_oob(LpmRpcClient *client, const char *verb, json_t *arguments,
                      unsigned timeout_ms, LpmRpcReply reply, void *data,
                      GDestroyNotify data_free); /* "exec-oob" */
void lpm_rpc_call_fd(LpmRpcClient *client, const char *verb, json_t *arguments, int fd,
                     unsigned timeout_ms, LpmRpcReply reply, void *data, GDestroyNotify data_free);

/*
 * The same, waited for on a private iteration of the default main context; for command lines and
 * tests only. New reference, or NULL with @error.
 */
json_t *lpm_rpc_call_sync(LpmRpcClient *client, const char *verb, json_t *arguments,
                          unsigned timeout_ms, GError **error) G_GNUC_WARN_UNUSED_RESULT;

bool lpm_rpc_client_is_open(const LpmRpcClient *client);

/* --- server --- */

/* Who is on the other end: from the certificate (TLS) or the peer credentials (Unix socket). */
typedef enum { LPM_RPC_LOCAL, LPM_RPC_CONSOLE, LPM_RPC_SYSTEM, LPM_RPC_ANONYMOUS } LpmRpcRole;

/*
 * A verb's function answers with exactly one of lpm_rpc_request_return/_fail, now or later. The row
 * lists its arguments, so that help, documentation and checking come from one place.
 */
typedef struct {
    const char *name;
    char type; /* 's' string, 'i' integer, 'b' boolean, 'o' object, 'a' array */
    bool required;
    const char *help;
} LpmRpcArg;

typedef struct {
    const char *name;
    unsigned roles; /* bit mask of 1u << LpmRpcRole that may call it */
    void (*run)(LpmRpcRequest *request, json_t *arguments, void *server_data);
    const LpmRpcArg *args; /* ends with a row of name NULL; NULL: no arguments */
    const char *help;
} LpmRpcVerb;

/*
 * Checks @arguments (NULL: none) against @verb's rows: USAGE naming the member that is unknown,
 * missing or of the wrong type. The server does this before a verb runs; a command line may do it
 * before it sends.
 */
bool lpm_rpc_verb_check(const LpmRpcVerb *verb, const json_t *arguments,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Appends the reference of @verbs: a heading, a paragraph, and a table of arguments for each, in
 * Markdown. */
void lpm_rpc_verbs_markdown(const LpmRpcVerb *verbs, GString *text);

/* @verbs is borrowed and ends with a row of name NULL. Two verbs are built in: "query-verbs" and
 * "subscribe" (events). */
LpmRpcServer *lpm_rpc_server_new(const LpmRpcVerb *verbs, void *data);
void lpm_rpc_server_free(LpmRpcServer *server);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LpmRpcServer, lpm_rpc_server_free)

/*
 * Unix socket at @path, mode 0600, only peers of uid 0 or of this process's own uid; replaces a
 * stale socket file. BUSY when another process serves it, EXISTS when the file is no socket.
 * lpm_rpc_server_free() removes the file.
 */
bool lpm_rpc_server_listen_unix(LpmRpcServer *server, const char *path,
                                GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Mutual TLS on @address:@port (port 0: any). @credentials is a LpmTlsCredentials (tls/tls.h),
 * borrowed, may be reloaded while serving. A peer without a certificate is ANONYMOUS when
 * @allow_anonymous (console: join), else refused.
 */
struct LpmTlsCredentials;
bool lpm_rpc_server_listen_tls(LpmRpcServer *server, const char *address, uint16_t port,
                               struct LpmTlsCredentials *credentials, bool allow_anonymous,
                               uint16_t *ret_port, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Sends an event to every subscribed peer. @data is stolen. */
void lpm_rpc_server_emit(LpmRpcServer *server, const char *event, json_t *data);

/* A request lives until it is answered; its peer may be gone by then, which is no error. */
void lpm_rpc_request_return(LpmRpcRequest *request, json_t *result); /* steals; NULL: {} */
void lpm_rpc_request_fail(LpmRpcRequest *request, const GError *error);
LpmRpcRole lpm_rpc_request_role(const LpmRpcRequest *request);
const char *lpm_rpc_request_peer_name(
    const LpmRpcRequest *request); /* system or console name; "local" */

/* --- connecting --- */

typedef void (*LpmRpcConnected)(LpmRpcClient *client, const GError *error,
                                void *data); /* @client is given away */

/*
 * Blocking-free connect over mutual TLS; checks that the peer's certificate names @expected_name.
 * UNREACHABLE when there is no connection and finished handshake within @timeout_ms, DENIED when
 * the other side is not who it should be or does not accept us. The attempt cannot be called off;
 * @done comes by the deadline.
 */
void lpm_rpc_connect_tls(const char *address, uint16_t port, struct LpmTlsCredentials *credentials,
                         const char *expected_name, unsigned timeout_ms, LpmRpcEvent on_event,
                         LpmRpcClosed on_closed, void *event_data, LpmRpcConnected done,
                         void *done_data);
/* Connects to a Unix socket; blocking but local. NULL with UNREACHABLE. */
LpmRpcClient *lpm_rpc_connect_unix(const char *path, LpmRpcEvent on_event, LpmRpcClosed on_closed,
                                   void *data, GError **error) G_GNUC_WARN_UNUSED_RESULT;
