/* SPDX-License-Identifier: Apache-2.0 */
#include "host/dial.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <glib-unix.h>

struct LpmDial {
    json_t *addresses;
    size_t next;
    uint16_t port;
    unsigned timeout_ms, pause_ms; /* timeout 0: no end */
    LpmDialDone done;
    void *data;
    GString *reasons;  /* of this round */
    bool refused;      /* by one of them in this round */
    unsigned refusals; /* rounds in a row with one */
    GCancellable *cancel;
    guint timer;  /* the next round */
    bool trying;  /* a connection is under way and will call back */
    bool is_over; /* cancelled */
};

static void try_next(LpmDial *dial);

static void dial_free(LpmDial *dial)
{
    g_clear_handle_id(&dial->timer, g_source_remove);
    json_decref(dial->addresses);
    g_string_free(dial->reasons, TRUE);
    g_object_unref(dial->cancel);
    g_free(dial);
}

static void dial_end(LpmDial *dial, int fd, const GError *error)
{
    LpmDialDone done = dial->done;
    void *data = dial->data;
    g_autoptr(GError) kept = error ? g_error_copy(error) : NULL;
    dial_free(dial);
    done(fd, kept, data);
}

void lpm_dial_cancel(LpmDial *dial)
{
    if (!dial) {
        return;
    }
    dial->is_over = true;
    g_cancellable_cancel(dial->cancel);
    if (!dial->trying) {
        dial_free(dial);
    }
}

static gboolean next_round(gpointer data)
{
    LpmDial *dial = data;
    dial->timer = 0;
    try_next(dial);
    return G_SOURCE_REMOVE;
}

void lpm_dial_again(LpmDial *dial)
{
    if (!dial || dial->is_over) {
        return;
    }
    dial->pause_ms = LPM_DIAL_PAUSE_MS;
    if (dial->trying) {
        g_cancellable_cancel(dial->cancel);
        g_object_unref(dial->cancel);
        dial->cancel = g_cancellable_new();
    } else if (dial->timer) {
        g_source_remove(dial->timer);
        dial->timer = g_timeout_add(LPM_DIAL_PAUSE_MS, next_round, dial);
    }
}

static void round_failed(LpmDial *dial)
{
    g_autoptr(GError) error = NULL;
    if (dial->timeout_ms > 0) {
        lpm_error_set(&error, LPM_ERROR_UNREACHABLE,
                      "the target's mover does not answer at port %u: %s; check the link between "
                      "the systems and [mover] addresses of the target",
                      dial->port, dial->reasons->str);
        dial_end(dial, -1, error);
        return;
    }
    dial->refusals = dial->refused ? dial->refusals + 1 : 0;
    if (dial->refusals >= LPM_DIAL_REFUSALS) {
        lpm_error_set(&error, LPM_ERROR_STATE, "nobody listens at port %u any more: %s", dial->port,
                      dial->reasons->str);
        dial_end(dial, -1, error);
        return;
    }
    dial->next = 0;
    dial->refused = false;
    g_string_truncate(dial->reasons, 0);
    dial->timer = g_timeout_add(dial->pause_ms, next_round, dial);
    dial->pause_ms = MIN(dial->pause_ms * 2, LPM_DIAL_PAUSE_MAX_MS);
}

static void note(LpmDial *dial, const char *address, const char *reason)
{
    g_string_append_printf(dial->reasons, "%s%s: %s", dial->reasons->len ? "; " : "", address,
                           reason);
}

static void tried(GObject *client, GAsyncResult *result, gpointer data)
{
    LpmDial *dial = data;
    g_autoptr(GError) failure = NULL;
    g_autoptr(GSocketConnection) connection =
        g_socket_client_connect_finish(G_SOCKET_CLIENT(client), result, &failure);
    dial->trying = false;
    if (dial->is_over) {
        dial_free(dial);
        return;
    }
    int fd = connection ? g_socket_get_fd(g_socket_connection_get_socket(connection)) : -1;
    int copy = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
    if (copy >= 0) {
        g_unix_set_fd_nonblocking(copy, FALSE, NULL); /* GIO's own doing; movers block */
        dial_end(dial, copy, NULL);
        return;
    }
    dial->refused |= g_error_matches(failure, G_IO_ERROR, G_IO_ERROR_CONNECTION_REFUSED);
    note(dial, json_string_value(json_array_get(dial->addresses, dial->next - 1)),
         failure ? failure->message : g_strerror(errno));
    try_next(dial);
}

/* Whole seconds are all that GSocketClient knows. */
static unsigned attempt_s(const LpmDial *dial)
{
    bool alone = json_array_size(dial->addresses) == 1 && dial->timeout_ms > 0;
    unsigned ms = alone ? dial->timeout_ms : LPM_DIAL_ATTEMPT_MS;
    return MAX(1, (dial->timeout_ms > 0 ? MIN(ms, dial->timeout_ms) : ms) / 1000);
}

static void try_next(LpmDial *dial)
{
    const char *address = json_string_value(json_array_get(dial->addresses, dial->next));
    if (!address) {
        round_failed(dial);
        return;
    }
    dial->next++;
    g_autoptr(GSocketAddress) where = g_inet_socket_address_new_from_string(address, dial->port);
    if (!where) {
        note(dial, address, "is no address");
        try_next(dial);
        return;
    }
    g_autoptr(GSocketClient) client = g_socket_client_new();
    g_socket_client_set_enable_proxy(client, FALSE);
    g_socket_client_set_timeout(client, attempt_s(dial));
    dial->trying = true;
    g_socket_client_connect_async(client, G_SOCKET_CONNECTABLE(where), dial->cancel, tried, dial);
}

LpmDial *lpm_dial_new(const json_t *addresses, uint16_t port, unsigned timeout_ms,
                      unsigned delay_ms, LpmDialDone done, void *data)
{
    LpmDial *dial = g_new0(LpmDial, 1);
    dial->addresses = addresses ? json_deep_copy(addresses) : json_array();
    dial->port = port;
    dial->timeout_ms = timeout_ms;
    dial->pause_ms = LPM_DIAL_PAUSE_MS;
    dial->done = done;
    dial->data = data;
    dial->reasons = g_string_new(NULL);
    dial->cancel = g_cancellable_new();
    dial->timer = g_timeout_add(delay_ms, next_round, dial);
    return dial;
}
