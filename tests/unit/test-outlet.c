/* SPDX-License-Identifier: Apache-2.0 */
/* The threads that write to QEMU, one a channel. */
#include "bytes/bytes.h"
#include "mover.h"

#include <fcntl.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PIECE = 64 * 1024, OUTLETS = 2 };

typedef struct {
    Mover mover;
    Outlet outlets[OUTLETS];
    int qemu[OUTLETS]; /* QEMU's ends; -1 */
    GThread *threads[OUTLETS];
} Outlets;

static void *run_outlet(void *outlet)
{
    outlet_main(outlet);
    return NULL;
}

/* A target's mover with two channels, whose sockets QEMU has not given yet. */
static Outlets *outlets_new(void)
{
    Outlets *o = g_new0(Outlets, 1);
    o->mover.config.side = LPM_STREAM_SIDE_DST;
    o->mover.n_channels = OUTLETS;
    o->mover.outlets = o->outlets;
    pthread_mutex_init(&o->mover.link_lock, NULL);
    pthread_cond_init(&o->mover.link_changed, NULL);
    g_assert_true(queue_init(&o->mover.to_host) && queue_init(&o->mover.to_peer));
    for (unsigned i = 0; i < OUTLETS; i++) {
        o->qemu[i] = o->mover.channels[i].fd = -1;
        outlet_init(&o->outlets[i], &o->mover, i);
        o->threads[i] = g_thread_new("outlet", run_outlet, &o->outlets[i]);
    }
    return o;
}

static void outlets_free(Outlets *o)
{
    atomic_store(&o->mover.stopping, true);
    channel_shut_all(&o->mover);
    for (unsigned i = 0; i < OUTLETS; i++) {
        g_thread_join(o->threads[i]);
        int fd = channel_fd(&o->mover, i);
        lpm_bytes_close(&fd);
        lpm_bytes_close(&o->qemu[i]);
    }
    g_free(o);
}

static void give_channel(Outlets *o, unsigned channel)
{
    int ends[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), ==, 0);
    o->qemu[channel] = ends[0];
    g_assert_true(channel_take(&o->mover, channel, ends[1]));
}

/* Its @number-th piece of @size bytes. */
static bool put_piece(Outlet *outlet, uint8_t number, size_t size)
{
    uint8_t *bytes = malloc(size);
    memset(bytes, number, size);
    return outlet_put(outlet, bytes, bytes, size);
}

static uint32_t told(Outlets *o, uint8_t *ret_channel)
{
    for (;;) {
        g_autofree QueueItem *item = queue_pop(&o->mover.to_host);
        if (item) {
            *ret_channel = item->body[0];
            return item->type;
        }
        g_usleep(1000);
    }
}

/* QEMU is asked for its socket with the first bytes, gets them in order, and then the end. */
static void outlet_asks_and_hands_on(void)
{
    Outlets *o = outlets_new();
    uint8_t channel = 0;
    static uint8_t got[PIECE];
    g_usleep(20000);
    g_assert_cmpint(queue_peek(&o->mover.to_host), ==, -1); /* not earlier */
    for (uint8_t i = 0; i < 20; i++)
        g_assert_true(put_piece(&o->outlets[1], i, PIECE));
    outlet_end(&o->outlets[1]);
    g_assert_cmpuint(told(o, &channel), ==, LPM_STREAM_NEED_CHANNEL);
    g_assert_cmpuint(channel, ==, 1);
    give_channel(o, 1);
    int extra = dup(o->qemu[1]);
    g_assert_false(channel_take(&o->mover, 1, extra)); /* there already */
    g_assert_cmpint(fcntl(extra, F_GETFD), ==, -1);
    for (uint8_t i = 0; i < 20; i++) {
        g_assert_cmpint(lpm_bytes_read_full(o->qemu[1], got, PIECE), ==, 1);
        g_assert_true(got[0] == i && got[PIECE - 1] == i);
    }
    g_assert_cmpint(read(o->qemu[1], got, PIECE), ==, 0);
    g_assert_cmpint(queue_peek(&o->mover.to_host), ==, -1); /* nobody wants channel 0 */
    outlets_free(o);
}

typedef struct {
    Outlet *outlet;
    _Atomic unsigned put;
} Filler;

static void *fill(void *context)
{
    Filler *filler = context;
    while (put_piece(filler->outlet, 1, PIECE))
        filler->put++;
    return NULL;
}

/* One that QEMU does not read takes so much and no more; the other one goes on meanwhile. */
static void outlet_is_bounded_and_alone(void)
{
    Outlets *o = outlets_new();
    static uint8_t got[PIECE];
    Filler filler = {.outlet = &o->outlets[0]};
    GThread *thread = g_thread_new("fill", fill, &filler);
    while (filler.put < OUTLET_BYTES / PIECE)
        g_usleep(1000);
    give_channel(o, 1);
    for (uint8_t i = 0; i < 100; i++) {
        g_assert_true(put_piece(&o->outlets[1], i, PIECE));
        g_assert_cmpint(lpm_bytes_read_full(o->qemu[1], got, PIECE), ==, 1);
        g_assert_cmpuint(got[PIECE / 2], ==, i);
    }
    g_assert_cmpuint(filler.put, ==, OUTLET_BYTES / PIECE);
    give_channel(o, 0);
    for (unsigned i = 0; i < 10; i++)
        g_assert_cmpint(lpm_bytes_read_full(o->qemu[0], got, PIECE), ==, 1);
    while (filler.put < OUTLET_BYTES / PIECE + 10)
        g_usleep(1000);
    outlet_close(&o->outlets[0]); /* wakes who waits, and refuses */
    g_thread_join(thread);
    g_assert_false(put_piece(&o->outlets[0], 1, 1));
    outlets_free(o);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/outlet/asks-and-hands-on", outlet_asks_and_hands_on);
    g_test_add_func("/outlet/bounded-and-alone", outlet_is_bounded_and_alone);
    return g_test_run();
}
