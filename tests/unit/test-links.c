/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections of a move: dialing, and handing one to a mover. The mover is this program itself,
 * started with --control.
 */
#include "host/dial.h"
#include "host/migration.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <glib.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char *own_path;

/* --- sockets on loopback addresses --- */

/* Listens at 127.0.0.@last; @port 0: any. */
static int listener(uint8_t last, uint16_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(*port),
                                  .sin_addr.s_addr = htonl(0x7f000000u + last)};
    socklen_t size = sizeof(address);
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    g_assert_cmpint(listen(fd, 4), ==, 0);
    g_assert_cmpint(getsockname(fd, (struct sockaddr *)&address, &size), ==, 0);
    *port = ntohs(address.sin_port);
    return fd;
}

/* A port where nobody listens. */
static uint16_t free_port(void)
{
    uint16_t port = 0;
    close(listener(1, &port));
    return port;
}

/* The last byte of the address that a connected socket leads to. */
static unsigned peer_of(int fd)
{
    struct sockaddr_in address;
    socklen_t size = sizeof(address);
    g_assert_cmpint(getpeername(fd, (struct sockaddr *)&address, &size), ==, 0);
    return ntohl(address.sin_addr.s_addr) & 0xff;
}

/* --- dialing --- */

typedef struct {
    GMainLoop *loop;
    int fd;
    char *error;
    int code;
} Result;

static void dialed(int fd, const GError *error, void *data)
{
    Result *result = data;
    result->fd = fd;
    result->error = error ? g_strdup(error->message) : NULL;
    result->code = error ? error->code : 0;
    g_main_loop_quit(result->loop);
}

static Result dial(const char *one, const char *two, uint16_t port, unsigned timeout_ms)
{
    Result result = {g_main_loop_new(NULL, FALSE), -1, NULL, 0};
    g_autoptr(json_t) addresses = json_array();
    json_array_append_new(addresses, json_string(one));
    if (two)
        json_array_append_new(addresses, json_string(two));
    lpm_dial_new(addresses, port, timeout_ms, 0, dialed, &result);
    g_main_loop_run(result.loop);
    g_main_loop_unref(result.loop);
    return result;
}

static void the_first_that_answers_is_taken(void)
{
    uint16_t port = 0;
    int two = listener(2, &port);
    Result result = dial("127.0.0.1", "127.0.0.2", port, 5000);
    g_assert_cmpint(result.fd, >=, 0);
    g_assert_cmpuint(peer_of(result.fd), ==, 2);
    g_assert_cmpint(fcntl(result.fd, F_GETFL) & O_NONBLOCK, ==, 0);
    g_assert_cmpint(fcntl(result.fd, F_GETFD) & FD_CLOEXEC, !=, 0);
    close(result.fd);
    int one = listener(1, &port);
    result = dial("127.0.0.1", "127.0.0.2", port, 5000);
    g_assert_cmpuint(peer_of(result.fd), ==, 1); /* it is back: the preferred one again */
    close(result.fd);
    close(one);
    close(two);
}

static void every_refusal_is_told(void)
{
    Result result = dial("127.0.0.1", "no address", free_port(), 5000);
    g_assert_cmpint(result.fd, ==, -1);
    g_assert_cmpint(result.code, ==, LPM_ERROR_UNREACHABLE);
    g_assert_nonnull(strstr(result.error, "127.0.0.1: "));
    g_assert_nonnull(strstr(result.error, "no address: is no address"));
    g_free(result.error);
}

static void a_mover_that_has_ended_is_not_waited_for(void)
{
    gint64 began = g_get_monotonic_time();
    Result result = dial("127.0.0.1", "127.0.0.2", free_port(), 0);
    g_assert_cmpint(result.fd, ==, -1);
    g_assert_cmpint(result.code, ==, LPM_ERROR_STATE);
    g_assert_nonnull(strstr(result.error, "nobody listens"));
    g_assert_cmpint(g_get_monotonic_time() - began, >, 600 * 1000); /* it may be on its way */
    g_free(result.error);
}

typedef struct {
    int fd;
    uint16_t port;
} Late;

static gboolean listen_late(gpointer data)
{
    Late *late = data;
    late->fd = listener(2, &late->port);
    return G_SOURCE_REMOVE;
}

static void it_goes_on_until_somebody_answers(void)
{
    Late late = {-1, free_port()};
    g_timeout_add(400, listen_late, &late);
    Result result = dial("127.0.0.1", "127.0.0.2", late.port, 0);
    g_assert_cmpint(late.fd, >=, 0);
    g_assert_cmpuint(peer_of(result.fd), ==, 2);
    close(result.fd);
    close(late.fd);
}

static gboolean quit(gpointer loop)
{
    g_main_loop_quit(loop);
    return G_SOURCE_REMOVE;
}

static void never(int fd, const GError *error, void *data)
{
    (void)fd;
    (void)error;
    (void)data;
    g_assert_not_reached();
}

static void a_cancelled_one_is_silent(void)
{
    g_autoptr(json_t) addresses = json_pack("[s]", "127.0.0.1");
    uint16_t port = 0;
    int fd = listener(1, &port);
    LpmDial *at_once = lpm_dial_new(addresses, port, 0, 0, never, NULL);
    LpmDial *pausing = lpm_dial_new(addresses, free_port(), 0, 0, never, NULL);
    LpmDial *connecting = lpm_dial_new(addresses, port, 0, 0, never, NULL);
    lpm_dial_cancel(at_once);
    g_main_context_iteration(NULL, TRUE);
    lpm_dial_cancel(connecting);
    GMainLoop *loop = g_main_loop_new(NULL, FALSE);
    g_timeout_add(150, quit, loop);
    g_main_loop_run(loop);
    lpm_dial_cancel(pausing);
    g_timeout_add(250, quit, loop);
    g_main_loop_run(loop);
    g_main_loop_unref(loop);
    close(fd);
}

/* --- handing over --- */

enum { NUMBER = 3, BIG = 60000 };

static void say(uint32_t type, const LpmStreamMessage *message, const uint8_t *id)
{
    static uint8_t frame[4096];
    size_t size;
    g_assert_cmpint(lpm_stream_pack(type, message, id, 0, frame, sizeof(frame), &size), ==, 0);
    g_assert_cmpint(write(3, frame, size), ==, (gssize)size);
}

/* One recvmsg() into @buffer; the descriptor that came with it, or -1. */
static int receive(uint8_t *buffer, size_t size, size_t *ret_got)
{
    char control[CMSG_SPACE(sizeof(int))];
    struct iovec part = {buffer, size};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    ssize_t got = recvmsg(3, &message, MSG_CMSG_CLOEXEC);
    struct cmsghdr *header = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    int fd = -1;
    if (header)
        memcpy(&fd, CMSG_DATA(header), sizeof(fd));
    *ret_got = got > 0 ? (size_t)got : 0;
    return fd;
}

/* What was read from the connection, as the reason of a LINK_STATE. */
static void report(uint8_t connection, int fd, const uint8_t *id)
{
    LpmStreamMessage message = {.link_state = {.connection = connection, .up = 1}};
    g_assert_cmpint(read(fd, message.link_state.reason, 5), ==, 5);
    close(fd);
    say(LPM_STREAM_LINK_STATE, &message, id);
}

/* Wants a connection, takes it, and says what it read from it. */
static int fake_mover(void)
{
    static uint8_t in[1024 * 1024];
    size_t had = 0, got, used;
    int waiting = -1;
    for (;;) {
        LpmStreamHeader header;
        LpmStreamMessage message;
        while (lpm_stream_unpack(in, had, &header, &message, &used) == LPM_STREAM_OK) {
            if (header.type == LPM_STREAM_CONFIG) {
                LpmStreamMessage need = {.need_link = {.connection = NUMBER, .reason = "cut"}};
                g_assert_cmpuint(message.config.connections, ==, 4);
                say(LPM_STREAM_NEED_LINK, &need, header.migration);
            } else if (header.type == LPM_STREAM_LINK) {
                g_assert_cmpint(waiting, >=, 0); /* it came with the first byte, not later */
                report(message.link.connection, waiting, header.migration);
                waiting = -1;
            } else if (header.type == LPM_STREAM_FINISH) {
                return 0;
            }
            memmove(in, in + used, had - used);
            had -= used;
        }
        g_usleep(20 * 1000); /* lets lpm-host's side become full */
        int fd = receive(in + had, sizeof(in) - had, &got);
        if (fd >= 0)
            waiting = fd;
        if (got == 0)
            return 1;
        had += got;
    }
}

typedef struct {
    LpmMover *mover;
    GMainLoop *loop;
    int ends[2];
    char *read;
    uint8_t connection;
} Hand;

static void event(uint32_t type, const LpmStreamMessage *message, void *data)
{
    Hand *hand = data;
    if (type == LPM_STREAM_NEED_LINK) {
        static char big[BIG + 1];
        memset(big, 'x', BIG);
        for (int i = 0; i < 20; i++) /* more than the socket takes at once */
            lpm_mover_send_peer(hand->mover, big);
        lpm_mover_send_link(hand->mover, message->need_link.connection, hand->ends[1]);
        lpm_mover_send_peer(hand->mover, "behind it");
    } else if (type == LPM_STREAM_LINK_STATE) {
        hand->read = g_strdup(message->link_state.reason);
        hand->connection = message->link_state.connection;
        g_main_loop_quit(hand->loop);
    }
}

static void gone(const GError *error, void *data)
{
    (void)data;
    g_error("the mover ended: %s", error->message);
}

static void a_connection_reaches_the_mover(void)
{
    Hand hand = {.loop = g_main_loop_new(NULL, FALSE)};
    LpmMoverHandlers handlers = {event, gone, &hand};
    LpmMoverSpec spec = {.program = own_path, .vasi = -1, .memory = -1};
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int nets[2] = {null, null};
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, hand.ends), ==, 0);
    g_assert_cmpint(write(hand.ends[0], "hello", 5), ==, 5);
    spec.nets = nets;
    spec.n_nets = 2;
    spec.config = (LpmStreamConfig){.side = 1, .mode = 1, .transport = 1, .codec = 1};
    spec.config.connections = 4;
    hand.mover = lpm_mover_start(&spec, &handlers, NULL);
    g_assert_nonnull(hand.mover);
    g_main_loop_run(hand.loop);
    g_assert_cmpstr(hand.read, ==, "hello");
    g_assert_cmpuint(hand.connection, ==, NUMBER);
    /* Ours was closed when it had gone, and the mover closed its own: that is the end of it. */
    char byte;
    g_assert_cmpint(read(hand.ends[0], &byte, 1), ==, 0);
    lpm_mover_finish(hand.mover);
    g_free(hand.read);
    g_main_loop_unref(hand.loop);
    close(hand.ends[0]);
    close(null);
}

/* --- listening --- */

static void all_addresses_share_a_port(void)
{
    char *addresses[] = {"127.0.0.1", "127.0.0.2", "192.0.2.1", NULL}; /* nobody has the last */
    LpmHostConfig config = {.name = "s", .mover_addresses = addresses, .rpc_address = "127.0.0.3"};
    LpmHost host = {.config = &config};
    LpmListeners listeners = {0};
    g_autoptr(GError) error = NULL;
    g_assert_true(lpm_mobility_listen(&host, &listeners, &error));
    g_assert_cmpuint(listeners.n, ==, 2);
    g_assert_cmpuint(json_array_size(listeners.addresses), ==, 2);
    Result result = dial("127.0.0.2", NULL, listeners.port, 2000);
    g_assert_cmpuint(peer_of(result.fd), ==, 2);
    close(result.fd);
    LpmListeners more = {0};
    config.mover_port_first = config.mover_port_last = listeners.port;
    g_assert_false(lpm_mobility_listen(&host, &more, &error));
    g_assert_nonnull(strstr(error->message, "127.0.0.1"));
    lpm_listeners_close(&more);
    lpm_listeners_close(&listeners);
}

static void without_addresses_it_is_the_one_of_rpc(void)
{
    char *none[] = {NULL};
    LpmHostConfig config = {.name = "s", .mover_addresses = none, .rpc_address = "127.0.0.3"};
    LpmHost host = {.config = &config};
    g_autoptr(json_t) one = lpm_mobility_addresses(&host);
    g_assert_cmpuint(json_array_size(one), ==, 1);
    g_assert_cmpstr(json_string_value(json_array_get(one, 0)), ==, "127.0.0.3");
    config.rpc_address = "0.0.0.0";
    g_autoptr(json_t) all = lpm_mobility_addresses(&host);
    json_t *address = NULL;
    size_t i = 0;
    json_array_foreach (all, i, address) {
        g_assert_false(g_str_has_prefix(json_string_value(address), "127."));
        g_assert_cmpstr(json_string_value(address), !=, "0.0.0.0");
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && g_str_has_prefix(argv[1], "--control="))
        return fake_mover();
    own_path = argv[0];
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/links/dial/first", the_first_that_answers_is_taken);
    g_test_add_func("/links/dial/refused", every_refusal_is_told);
    g_test_add_func("/links/dial/again", it_goes_on_until_somebody_answers);
    g_test_add_func("/links/dial/ended", a_mover_that_has_ended_is_not_waited_for);
    g_test_add_func("/links/dial/cancel", a_cancelled_one_is_silent);
    g_test_add_func("/links/hand-over", a_connection_reaches_the_mover);
    g_test_add_func("/links/listen", all_addresses_share_a_port);
    g_test_add_func("/links/addresses", without_addresses_it_is_the_one_of_rpc);
    return g_test_run();
}
