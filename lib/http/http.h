/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTPS with JSON bodies on the calling thread's default main context: libmicrohttpd driven through
 * its epoll descriptor. A table of routes says everything about a request: the library matches the
 * path, reads and checks the arguments from path, query and body into one object, asks who the
 * bearer of the token is, and only then calls the route's function.
 *
 * Limits: LPM_HTTP_BODY_MAX, LPM_HTTP_CONNECTIONS_MAX, LPM_HTTP_SAME_IP_MAX, and
 * LPM_HTTP_REQUEST_SECONDS from the start of a connection, or from the end of the answer before, to
 * the last byte of the request; then the connection is closed.
 */
#pragma once

#include "base/error.h"
#include "base/json.h"

#include <stdint.h>
#include <stdio.h>

#define LPM_HTTP_BODY_MAX        ((size_t)1 << 20)
#define LPM_HTTP_CONNECTIONS_MAX 512
#define LPM_HTTP_SAME_IP_MAX     128 /* of them from one address */
#define LPM_HTTP_REQUEST_SECONDS 30
#define LPM_HTTP_PARAMETERS_MAX  4  /* variable parts of one path */
#define LPM_HTTP_STREAMS_MAX     64 /* answers that go on, of all clients */
#define LPM_HTTP_STREAMS_SAME_IP 32 /* of them to one address */

typedef struct LpmHttpServer LpmHttpServer;
typedef struct LpmHttpRequest LpmHttpRequest;
typedef struct LpmHttpStream LpmHttpStream;

typedef enum { LPM_HTTP_PATH, LPM_HTTP_QUERY, LPM_HTTP_BODY, LPM_HTTP_HEADER } LpmHttpPlace;

/* One argument; names are unique in a route, whatever their place. */
typedef struct {
    const char *name;
    LpmHttpPlace place;
    char type; /* 's' string, 'i' integer, 'b' boolean, 'o' object, 'a' array; path, query and
                  header: 's', 'i', 'b' */
    bool required;
    const char *help;
} LpmHttpArg;

typedef struct {
    const char *method;
    const char *path; /* "/v1/systems/{system}"; a part in braces matches one part of the path */
    unsigned status;  /* of success, e.g. 200 */
    bool open;        /* needs no token */
    /* Answers with exactly one of lpm_http_request_return/_fail/_stream, now or later. @arguments
     * is borrowed for the call. */
    void (*run)(LpmHttpRequest *request, json_t *arguments, void *server_data);
    const LpmHttpArg *args; /* ends with a row of name NULL; NULL: none */
    const char *help;
    const char *answer; /* JSON of an answer as an example, for the documentation */
} LpmHttpRoute;

/* Name of whom @token belongs to (borrowed until the next call), or NULL: denied. @token is NULL
 * when there was none. */
typedef const char *(*LpmHttpWho)(const char *token, void *data);

/* @routes is borrowed and ends with a row of method NULL. */
LpmHttpServer *lpm_http_server_new(const LpmHttpRoute *routes, LpmHttpWho who, void *data);
/* Unanswered requests are failed with ABORTED; they stay valid for their late answers, which go
 * nowhere. */
void lpm_http_server_free(LpmHttpServer *server);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LpmHttpServer, lpm_http_server_free)

/*
 * TLS (1.2 and up) on @address:@port (port 0: any) with the PEM texts of a certificate chain and
 * its key. NETWORK error naming the address when it cannot be had.
 */
bool lpm_http_server_listen(LpmHttpServer *server, const char *address, uint16_t port,
                            const char *cert_pem, const char *key_pem, uint16_t *ret_port,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* @result is stolen; NULL: {}. The client may be gone by then, which is no error. */
void lpm_http_request_return(LpmHttpRequest *request, json_t *result);
/* {"error": {"class", "message", "remedy"}} with the status of the error's class. */
void lpm_http_request_fail(LpmHttpRequest *request, const GError *error);
/* The same with findings beside them; @findings is borrowed and may be NULL. */
void lpm_http_request_fail_findings(LpmHttpRequest *request, const GError *error, json_t *findings);
/* Who asks; "" on an open route. Borrowed as long as the request is not answered. */
const char *lpm_http_request_user(const LpmHttpRequest *request);
/* The address that it came from, in numbers; "?" when that is not known. Borrowed likewise. */
const char *lpm_http_request_from(const LpmHttpRequest *request);

/*
 * An answer that goes on: server-sent events. At most LPM_HTTP_STREAMS_MAX. A reader that does not
 * take what is there for it within LPM_HTTP_REQUEST_SECONDS is cut off; nobody else is held up.
 */
typedef struct {
    /* All that was sent is taken: time for more. May send and close. */
    void (*drained)(LpmHttpStream *stream, void *data);
    /* The reader is gone, or the server stops; the stream is no longer valid after this. Not called
     * after lpm_http_stream_close. */
    void (*gone)(LpmHttpStream *stream, void *data);
} LpmHttpStreamCalls;

/* Answers @request so; NULL with BUSY when there are too many: the request is then still to be
 * answered. Neither of @calls is called from within this. */
LpmHttpStream *lpm_http_request_stream(LpmHttpRequest *request, const LpmHttpStreamCalls *calls,
                                       void *data, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Whether all that was sent has been taken. */
bool lpm_http_stream_is_drained(const LpmHttpStream *stream);
void lpm_http_stream_send(LpmHttpStream *stream, const char *text);
/* The end of the answer, once what was sent is taken. @stream is not valid any more. */
void lpm_http_stream_close(LpmHttpStream *stream);

/* The error object of an answer: {"class", "message", "remedy"}. New reference. */
json_t *lpm_http_error_json(const GError *error);

/* Prints @routes as a page of Markdown. */
void lpm_http_print_routes(const LpmHttpRoute *routes, FILE *out);
