/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of lib/http share; not for others. */
#pragma once

#include "http/http.h"

#include <microhttpd.h>

/* A route found for a path, with the variable parts of that path. */
typedef struct {
    const LpmHttpRoute *route;
    char *parameters[LPM_HTTP_PARAMETERS_MAX]; /* in the order of the path; owned */
    size_t n_parameters;
} LpmHttpMatch;

void lpm_http_match_clear(LpmHttpMatch *match);
/* NOT_FOUND for an unknown path, USAGE for a method that the path does not have. */
bool lpm_http_match(const LpmHttpRoute *routes, const char *method, const char *path,
                    LpmHttpMatch *ret_match, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Text of path, query or a header as the argument @arg of @arguments; USAGE names it. */
bool lpm_http_argument_add(json_t *arguments, const LpmHttpArg *arg, const char *text,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * All arguments of a request but those in headers as one object; new reference, NULL with USAGE
 * naming the argument.
 * @query is an object of strings, @body the text that was sent.
 */
json_t *lpm_http_arguments(const LpmHttpMatch *match, const json_t *query, const char *body,
                           size_t length, GError **error) G_GNUC_WARN_UNUSED_RESULT;

struct LpmHttpServer {
    const LpmHttpRoute *routes;
    LpmHttpWho who;
    void *data;
    struct MHD_Daemon *daemon;
    GSource *source;
    GHashTable *waiting; /* requests whose route was called and that are not answered */
    GHashTable *streams; /* LpmHttpStream: those that are not closed */
    bool kick;           /* a connection was resumed: the daemon must run soon */
    unsigned deadline_s; /* LPM_HTTP_REQUEST_SECONDS; tests shorten it */
};

/* One connection; its deadline is armed except while a route works on an answer. */
typedef struct {
    int fd;
    unsigned deadline_s;
    guint deadline;
} LpmHttpConnection;

/* Owned by the daemon's connection and by the route until it has answered: two references. */
struct LpmHttpRequest {
    unsigned refs;
    LpmHttpServer *server;             /* NULL once that is gone */
    struct MHD_Connection *connection; /* NULL once that has ended */
    LpmHttpMatch match;
    GByteArray *body;
    char *user, *from;
    char *answer;          /* NULL: not answered, or by @stream */
    LpmHttpStream *stream; /* owned; NULL: none */
    unsigned status;
    bool dispatched, suspended, too_long;
};

void lpm_http_request_unref(LpmHttpRequest *request);
/* Keeps the answer for the connection; wakes it when it is suspended. */
void lpm_http_request_answer(LpmHttpRequest *request, unsigned status, json_t *answer);

/* --- stream.c --- */

/* The beginning of a stream's answer: queues it. */
enum MHD_Result lpm_http_stream_begin(LpmHttpRequest *request);
/* The connection is gone. */
void lpm_http_stream_cut(LpmHttpRequest *request);
/* The server stops: all streams end. */
void lpm_http_streams_end(LpmHttpServer *server);
/* Wakes a connection that is suspended. */
void lpm_http_request_wake(LpmHttpRequest *request);

/* (Re)starts or ends the deadline of @connection. */
void lpm_http_deadline_start(struct MHD_Connection *connection);
void lpm_http_deadline_stop(struct MHD_Connection *connection);

/* The daemon's handler of requests, and its end of a request. */
enum MHD_Result lpm_http_handle(void *server, struct MHD_Connection *connection, const char *url,
                                const char *method, const char *version, const char *upload,
                                size_t *upload_size, void **context);
void lpm_http_completed(void *server, struct MHD_Connection *connection, void **context,
                        enum MHD_RequestTerminationCode code);
