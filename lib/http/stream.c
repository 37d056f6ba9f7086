/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An answer that goes on. Its connection is suspended while there is nothing to send; while there
 * is, its deadline runs, so that a reader that has stopped reading costs a buffer and half a
 * minute.
 */
#include "http/internal.h"

#include <string.h>

#define BLOCK ((size_t)16 << 10)

/* Lives as long as its request. The owner holds one reference of that until close or gone. */
struct LpmHttpStream {
    LpmHttpRequest *request;
    const LpmHttpStreamCalls *calls;
    void *data;
    GString *text; /* NULL: closed, and all is taken */
    size_t taken;  /* of it */
    bool closed;   /* by the owner, or it was told that the reader is gone */
};

bool lpm_http_stream_is_drained(const LpmHttpStream *stream)
{
    return stream->taken == stream->text->len;
}

static bool has_room(const LpmHttpServer *server, const char *from)
{
    GHashTableIter iter;
    gpointer key;
    unsigned same = 0;

    g_hash_table_iter_init(&iter, server->streams);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        same += strcmp(((LpmHttpStream *)key)->request->from, from) == 0;
    }
    return g_hash_table_size(server->streams) < LPM_HTTP_STREAMS_MAX &&
           same < LPM_HTTP_STREAMS_SAME_IP;
}

LpmHttpStream *lpm_http_request_stream(LpmHttpRequest *request, const LpmHttpStreamCalls *calls,
                                       void *data, GError **error)
{
    LpmHttpStream *stream;

    if (!request->server || !request->connection) {
        lpm_error_set(error, LPM_ERROR_ABORTED, "who asked is gone");
        return NULL;
    }
    if (!has_room(request->server, request->from)) {
        lpm_error_set(error, LPM_ERROR_BUSY,
                      "too many listen already: at most %d in all, and %d from one address (%s); "
                      "end one of them",
                      LPM_HTTP_STREAMS_MAX, LPM_HTTP_STREAMS_SAME_IP, request->from);
        return NULL;
    }
    stream = g_new0(LpmHttpStream, 1);
    stream->request = request;
    stream->calls = calls;
    stream->data = data;
    stream->text = g_string_new(NULL);
    request->stream = stream;
    g_hash_table_remove(request->server->waiting, request);
    g_hash_table_add(request->server->streams, stream);
    lpm_http_request_wake(request);
    return stream;
}

void lpm_http_stream_send(LpmHttpStream *stream, const char *text)
{
    if (lpm_http_stream_is_drained(stream)) {
        g_string_truncate(stream->text, 0);
        stream->taken = 0;
        if (stream->request->connection) {
            lpm_http_deadline_start(stream->request->connection);
        }
    }
    g_string_append(stream->text, text);
    lpm_http_request_wake(stream->request);
}

/* The owner has no more to do with it: its reference goes. */
static void leave(LpmHttpStream *stream)
{
    LpmHttpRequest *request = stream->request;

    stream->closed = true;
    if (request->server) {
        g_hash_table_remove(request->server->streams, stream);
    }
    if (!request->connection) {
        g_string_free(g_steal_pointer(&stream->text), TRUE);
    }
    lpm_http_request_unref(request);
}

void lpm_http_stream_close(LpmHttpStream *stream)
{
    lpm_http_request_wake(stream->request);
    leave(stream);
}

void lpm_http_stream_cut(LpmHttpRequest *request)
{
    LpmHttpStream *stream = request->stream;

    if (stream && !stream->closed) {
        stream->calls->gone(stream, stream->data);
        leave(stream);
    } else if (stream && stream->text) {
        g_string_free(g_steal_pointer(&stream->text), TRUE);
    }
}

void lpm_http_streams_end(LpmHttpServer *server)
{
    GList *all = g_hash_table_get_keys(server->streams);

    for (GList *item = all; item; item = item->next) {
        LpmHttpStream *stream = item->data;

        stream->calls->gone(stream, stream->data);
        lpm_http_stream_close(stream);
    }
    g_list_free(all);
}

/* --- the daemon takes it --- */

static ssize_t take(void *data, uint64_t position, char *buffer, size_t max)
{
    LpmHttpRequest *request = data;
    LpmHttpStream *stream = request->stream;
    size_t length;

    (void)position;
    if (lpm_http_stream_is_drained(stream)) {
        lpm_http_deadline_stop(request->connection);
        if (!stream->closed) {
            stream->calls->drained(stream, stream->data);
        }
    }
    length = MIN(stream->text->len - stream->taken, max);
    if (length > 0) {
        memcpy(buffer, stream->text->str + stream->taken, length);
        stream->taken += length;
        return (ssize_t)length;
    }
    if (stream->closed) {
        return MHD_CONTENT_READER_END_OF_STREAM;
    }
    request->suspended = true;
    MHD_suspend_connection(request->connection);
    return 0;
}

enum MHD_Result lpm_http_stream_begin(LpmHttpRequest *request)
{
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, take, request, NULL);
    enum MHD_Result result;

    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "text/event-stream");
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    result = MHD_queue_response(request->connection, request->match.route->status, response);
    MHD_destroy_response(response);
    return result;
}
