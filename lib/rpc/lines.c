/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/lines.h"

#include "rpc/rpc.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_SIZE 65536
/* Handed out before others of the main loop have their turn: who sends many short lines, each of
 * which makes work, must not be heard alone. */
#define LINES_A_TURN 32
/* Not before what others put off until the main loop has nothing else to do: that would be never.
 */
#define PRIORITY G_PRIORITY_DEFAULT_IDLE

typedef struct {
    GBytes *bytes;
    size_t sent;
    int fd; /* own copy; -1: none, or sent */
} Chunk;

struct LpmRpcLines {
    unsigned refs;     /* held by the owner and by each handler that runs */
    GIOStream *stream; /* NULL: closed */
    GSource *reader;
    GSource *writer;
    GSource *failing; /* an idle source that tells a failure of sending */
    GSource *more;    /* hands out what is left of the input; nothing is read meanwhile */
    GByteArray *input;
    size_t searched; /* bytes of the input without a line end */
    size_t line_max;
    GQueue output; /* of Chunk */
    size_t unsent;
    const LpmRpcLinesHandlers *handlers;
    void *data;
};

static void chunk_free(void *data)
{
    Chunk *chunk = data;

    if (chunk->fd >= 0) {
        close(chunk->fd);
    }
    g_bytes_unref(chunk->bytes);
    g_free(chunk);
}

static void drop_source(GSource **source)
{
    if (*source) {
        g_source_destroy(*source);
        g_clear_pointer(source, g_source_unref);
    }
}

/*
 * Only the socket below a TLS stream is closed: TLS's own goodbye may block on a peer that reads no
 * more, and a message that was cut off is recognised by its missing line end.
 */
static void close_stream(LpmRpcLines *lines)
{
    g_autoptr(GIOStream) stream = g_steal_pointer(&lines->stream);

    drop_source(&lines->reader);
    drop_source(&lines->writer);
    drop_source(&lines->failing);
    drop_source(&lines->more);
    if (stream && G_IS_TLS_CONNECTION(stream)) {
        g_autoptr(GIOStream) base = NULL;

        g_object_get(stream, "base-io-stream", &base, NULL);
        g_io_stream_close(base, NULL, NULL);
    } else if (stream) {
        g_io_stream_close(stream, NULL, NULL);
    }
    g_queue_clear_full(&lines->output, chunk_free);
    lines->unsent = 0;
}

static void lines_unref(LpmRpcLines *lines)
{
    if (--lines->refs == 0) {
        g_byte_array_unref(lines->input);
        g_free(lines);
    }
}

/* Ends the connection and tells so; @error is stolen. */
static void fail(LpmRpcLines *lines, GError *error)
{
    const LpmRpcLinesHandlers *handlers = lines->handlers;

    close_stream(lines);
    lines->handlers = NULL;
    if (handlers && handlers->closed) {
        handlers->closed(error, lines->data);
    }
    g_error_free(error);
}

static GError *lost(const char *why)
{
    return g_error_new(LPM_ERROR, LPM_ERROR_UNREACHABLE, "the connection is closed: %s", why);
}

/* --- in --- */

/* Hands out the complete lines in the buffer, as many as a turn has. False: too long a line. */
static bool deliver(LpmRpcLines *lines, bool *ret_all)
{
    size_t start = 0;
    unsigned turn = 0;

    *ret_all = false;
    while (lines->handlers && turn++ < LINES_A_TURN) {
        char *text = (char *)lines->input->data + start;
        char *end = memchr((char *)lines->input->data + lines->searched, '\n',
                           lines->input->len - lines->searched);
        size_t length;

        if (!end) {
            lines->searched = lines->input->len;
            *ret_all = true;
            break;
        }
        length = (size_t)(end - text);
        start += length + 1;
        lines->searched = start;
        if (length > lines->line_max) {
            return false;
        }
        length -= length > 0 && text[length - 1] == '\r';
        text[length] = '\0';
        if (length > 0) {
            lines->handlers->line(text, length, lines->data);
        }
    }
    g_byte_array_remove_range(lines->input, 0, (guint)start);
    lines->searched -= start;
    return !*ret_all || lines->input->len <= lines->line_max;
}

static gboolean on_more(void *data);

/* Delivers now, and arranges for what is left. */
static void take_turn(LpmRpcLines *lines)
{
    bool all;

    if (!deliver(lines, &all)) {
        if (lines->handlers) {
            fail(lines, g_error_new(LPM_ERROR, LPM_ERROR_PROTOCOL,
                                    "the connection is closed: a line of more than %zu bytes came",
                                    lines->line_max));
        }
    } else if (all) {
        drop_source(&lines->more);
    } else if (!lines->more && lines->stream) {
        lines->more = g_idle_source_new();
        g_source_set_priority(lines->more, PRIORITY);
        g_source_set_callback(lines->more, on_more, lines, NULL);
        g_source_attach(lines->more, NULL);
    }
}

static gboolean on_more(void *data)
{
    LpmRpcLines *lines = data;

    lines->refs++;
    take_turn(lines);
    lines_unref(lines);
    /* A source that was destroyed meanwhile stays so whatever is returned. */
    return G_SOURCE_CONTINUE;
}

static gboolean on_readable(GObject *object, void *data)
{
    LpmRpcLines *lines = data;
    GPollableInputStream *in = G_POLLABLE_INPUT_STREAM(object);
    g_autoptr(GError) error = NULL;
    size_t before = lines->input->len;
    gssize n;

    if (lines->more) {
        return G_SOURCE_CONTINUE;
    }
    g_byte_array_set_size(lines->input, (guint)(before + READ_SIZE));
    n = g_pollable_input_stream_read_nonblocking(in, lines->input->data + before, READ_SIZE, NULL,
                                                 &error);
    g_byte_array_set_size(lines->input, (guint)(before + (n > 0 ? (size_t)n : 0)));
    if (n < 0 && g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK)) {
        return G_SOURCE_CONTINUE;
    }
    lines->refs++;
    if (n < 0) {
        fail(lines, lost(error->message));
    } else if (n == 0) {
        fail(lines, lost("the other side closed it"));
    } else {
        take_turn(lines);
    }
    lines_unref(lines);
    return G_SOURCE_CONTINUE;
}

/* --- out --- */

/* First bytes of a chunk together with its descriptor. -1 with @error, of WOULD_BLOCK too. */
static gssize send_with_fd(LpmRpcLines *lines, Chunk *chunk, const void *bytes, size_t length,
                           GError **error)
{
    union {
        struct cmsghdr align;
        char buffer[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = (void *)bytes, .iov_len = length};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.buffer,
                             .msg_controllen = sizeof(control.buffer)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    ssize_t n;

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &chunk->fd, sizeof(int));
    do {
        n = sendmsg(
            g_socket_get_fd(g_socket_connection_get_socket(G_SOCKET_CONNECTION(lines->stream))),
            &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        g_set_error_literal(error, G_IO_ERROR, g_io_error_from_errno(errno), g_strerror(errno));
        return -1;
    }
    close(chunk->fd);
    chunk->fd = -1;
    return n;
}

/* Writes what the stream takes now. False with @error when it is broken. */
static bool flush(LpmRpcLines *lines, GError **error)
{
    GPollableOutputStream *out =
        G_POLLABLE_OUTPUT_STREAM(g_io_stream_get_output_stream(lines->stream));
    Chunk *chunk;

    while ((chunk = g_queue_peek_head(&lines->output))) {
        g_autoptr(GError) cause = NULL;
        size_t size;
        const char *bytes = g_bytes_get_data(chunk->bytes, &size);
        gssize n;

        if (chunk->fd >= 0) {
            n = send_with_fd(lines, chunk, bytes, size, &cause);
        } else {
            n = g_pollable_output_stream_write_nonblocking(out, bytes + chunk->sent,
                                                           size - chunk->sent, NULL, &cause);
        }
        if (n < 0) {
            if (g_error_matches(cause, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK)) {
                return true;
            }
            g_propagate_error(error, lost(cause->message));
            return false;
        }
        chunk->sent += (size_t)n;
        lines->unsent -= (size_t)n;
        if (chunk->sent == size) {
            chunk_free(g_queue_pop_head(&lines->output));
        }
    }
    return true;
}

static gboolean on_writable(G_GNUC_UNUSED GObject *object, void *data)
{
    LpmRpcLines *lines = data;
    GError *error = NULL;

    if (!flush(lines, &error)) {
        lines->refs++;
        fail(lines, error);
        lines_unref(lines);
        return G_SOURCE_REMOVE;
    }
    if (!g_queue_is_empty(&lines->output)) {
        return G_SOURCE_CONTINUE;
    }
    drop_source(&lines->writer);
    return G_SOURCE_REMOVE;
}

static gboolean on_send_failed(void *data)
{
    LpmRpcLines *lines = data;
    GError *error = NULL;

    if (lines->unsent > LPM_RPC_OUTPUT_MAX) {
        error =
            g_error_new(LPM_ERROR, LPM_ERROR_UNREACHABLE,
                        "the connection is closed: %zu bytes wait and the other side reads none",
                        lines->unsent);
    } else if (flush(lines, &error)) {
        drop_source(&lines->failing);
        return G_SOURCE_REMOVE;
    }
    lines->refs++;
    fail(lines, error);
    lines_unref(lines);
    return G_SOURCE_REMOVE;
}

static void fail_later(LpmRpcLines *lines)
{
    if (!lines->failing) {
        lines->failing = g_idle_source_new();
        g_source_set_priority(lines->failing, G_PRIORITY_DEFAULT);
        g_source_set_callback(lines->failing, on_send_failed, lines, NULL);
        g_source_attach(lines->failing, NULL);
    }
}

void lpm_rpc_lines_send(LpmRpcLines *lines, const char *text, size_t length, int fd)
{
    char *copy;
    Chunk *chunk;

    if (!lines->stream || lines->failing) {
        return;
    }
    copy = g_malloc(length + 1);
    memcpy(copy, text, length);
    copy[length] = '\n';
    chunk = g_new0(Chunk, 1);
    chunk->bytes = g_bytes_new_take(copy, length + 1);
    chunk->fd =
        fd >= 0 && G_IS_SOCKET_CONNECTION(lines->stream) ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
    g_queue_push_tail(&lines->output, chunk);
    lines->unsent += length + 1;
    if (lines->writer) {
        if (lines->unsent > LPM_RPC_OUTPUT_MAX) {
            fail_later(lines);
        }
        return;
    }
    if (!flush(lines, NULL)) {
        fail_later(lines);
    } else if (!g_queue_is_empty(&lines->output)) {
        lines->writer = g_pollable_output_stream_create_source(
            G_POLLABLE_OUTPUT_STREAM(g_io_stream_get_output_stream(lines->stream)), NULL);
        g_source_set_callback(lines->writer, G_SOURCE_FUNC(on_writable), lines, NULL);
        g_source_attach(lines->writer, NULL);
    }
}

/* --- life --- */

LpmRpcLines *lpm_rpc_lines_new(GIOStream *stream, size_t line_max,
                               const LpmRpcLinesHandlers *handlers, void *data)
{
    LpmRpcLines *lines = g_new0(LpmRpcLines, 1);
    GInputStream *in = g_io_stream_get_input_stream(stream);

    lines->refs = 1;
    lines->stream = stream;
    lines->input = g_byte_array_new();
    lines->line_max = line_max;
    lines->handlers = handlers;
    lines->data = data;
    g_queue_init(&lines->output);
    lines->reader = g_pollable_input_stream_create_source(G_POLLABLE_INPUT_STREAM(in), NULL);
    g_source_set_priority(lines->reader, PRIORITY);
    g_source_set_callback(lines->reader, G_SOURCE_FUNC(on_readable), lines, NULL);
    g_source_attach(lines->reader, NULL);
    return lines;
}

void lpm_rpc_lines_free(LpmRpcLines *lines)
{
    if (lines) {
        close_stream(lines);
        lines->handlers = NULL;
        lines_unref(lines);
    }
}

bool lpm_rpc_lines_is_open(const LpmRpcLines *lines)
{
    return lines->stream;
}
