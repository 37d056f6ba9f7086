/* SPDX-License-Identifier: Apache-2.0 */
#include "listen.h"

#include "base/log.h"

#include <string.h>

#define BATCH    50 /* events that are read and sent at a time */
#define RETRY_MS 2000

typedef struct {
    LpmConsole *console;
    LpmHttpStream *stream;
    char *kinds, *object;
    int64_t sent; /* number of the last event that it has, or that is not for it */
    guint alive;
} Listener;

bool lpm_event_is_of(const json_t *event, const char *kinds)
{
    g_auto(GStrv) names = kinds && *kinds ? g_strsplit(kinds, ",", -1) : NULL;

    return !names || g_strv_contains((const char *const *)names, lpm_json_str(event, "kind", ""));
}

static bool is_wanted(const Listener *listener, const json_t *event)
{
    const char *object = listener->object;

    return lpm_event_is_of(event, listener->kinds) &&
           (!object || strcmp(lpm_json_str(event, "object", ""), object) == 0 ||
            strcmp(lpm_json_str(event, "move.partition", ""), object) == 0);
}

/* --- one listener --- */

static void append_event(GString *text, const json_t *event)
{
    g_autofree char *data = lpm_json_text(event); /* one line */

    g_string_append_printf(text, "id: %" G_GINT64_FORMAT "\nevent: %s\ndata: %s\n\n",
                           lpm_json_int(event, "number", 0), lpm_json_str(event, "kind", "event"),
                           data);
}

/* Events that were thrown away before it could have them. */
static void append_lost(GString *text, int64_t first, int64_t last)
{
    g_string_append_printf(text,
                           "event: lost\ndata: {\"first\": %" G_GINT64_FORMAT
                           ", \"last\": %" G_GINT64_FORMAT "}\n\n",
                           first, last);
}

/* Reads the next batch for @listener into @text; false: there is none. */
static bool read_batch(Listener *listener, GString *text)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) batch = lpm_events_after(listener->console, listener->sent, BATCH, &error);
    json_t *event;
    size_t i;

    if (!batch) {
        lpm_log_error(NULL, "listeners hear nothing: %s", error->message);
        return false;
    }
    json_array_foreach (batch, i, event) {
        int64_t number = lpm_json_int(event, "number", 0);

        if (number > listener->sent + 1) {
            append_lost(text, listener->sent + 1, number - 1);
        }
        listener->sent = number;
        if (is_wanted(listener, event)) {
            append_event(text, event);
        }
    }
    return json_array_size(batch) > 0;
}

/* One batch: what is sent calls again when it is taken. */
static void pump(Listener *listener)
{
    g_autoptr(GString) text = g_string_new(NULL);

    if (!lpm_http_stream_is_drained(listener->stream) || !read_batch(listener, text)) {
        return;
    }
    if (text->len > 0) {
        lpm_http_stream_send(listener->stream, text->str);
    } else {
        lpm_listeners_wake(listener->console); /* nothing was for it; others have their turn now */
    }
}

/* Where it is, too: so that one who comes again need not go through what was not for it. */
static gboolean say_alive(gpointer data)
{
    Listener *listener = data;

    if (lpm_http_stream_is_drained(listener->stream)) {
        g_autofree char *text =
            g_strdup_printf(": alive\nid: %" G_GINT64_FORMAT "\n\n", listener->sent);

        lpm_http_stream_send(listener->stream, text);
    }
    return G_SOURCE_CONTINUE;
}

static void listener_free(Listener *listener)
{
    LpmConsole *console = listener->console;

    console->listeners = g_list_remove(console->listeners, listener);
    g_source_remove(listener->alive);
    g_free(listener->kinds);
    g_free(listener->object);
    g_free(listener);
}

static void on_drained(LpmHttpStream *stream, void *data)
{
    (void)stream;
    pump(data);
}

static void on_gone(LpmHttpStream *stream, void *data)
{
    (void)stream;
    listener_free(data);
}

static const LpmHttpStreamCalls calls = {on_drained, on_gone};

/* --- all of them --- */

bool lpm_listeners_add(LpmConsole *console, LpmHttpRequest *request, const LpmListen *listen,
                       GError **error)
{
    Listener *listener = g_new0(Listener, 1);
    g_autofree char *hello = NULL;

    listener->stream = lpm_http_request_stream(request, &calls, listener, error);
    if (!listener->stream) {
        g_free(listener);
        return false;
    }
    listener->console = console;
    listener->kinds = g_strdup(listen->kinds);
    listener->object = g_strdup(listen->object);
    listener->alive =
        g_timeout_add_seconds((guint)console->config->events_alive_s, say_alive, listener);
    console->listeners = g_list_prepend(console->listeners, listener);
    /* A number from before the database was made anew: everything is new to it. */
    listener->sent = listen->after < 0                     ? console->last_event
                     : listen->after > console->last_event ? 0
                                                           : listen->after;
    hello = g_strdup_printf("retry: %d\nid: %" G_GINT64_FORMAT "\n\n", RETRY_MS, listener->sent);
    lpm_http_stream_send(listener->stream, hello); /* the rest when that is taken */
    return true;
}

static gboolean tell_all(gpointer data)
{
    LpmConsole *console = data;

    console->listeners_idle = 0;
    for (GList *item = console->listeners; item; item = item->next) {
        pump(item->data);
    }
    return G_SOURCE_REMOVE;
}

void lpm_listeners_wake(LpmConsole *console)
{
    if (!console->listeners_idle) {
        console->listeners_idle = g_idle_add(tell_all, console);
    }
}

void lpm_listeners_end(LpmConsole *console)
{
    g_clear_handle_id(&console->listeners_idle, g_source_remove);
}
