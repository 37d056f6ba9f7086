/* SPDX-License-Identifier: Apache-2.0 */
/* POSTs of lpm-console where the name server is dead: the main loop goes on. */
#include "console/post.h"

#include <netdb.h>
#include <unistd.h>

#define DEAD_S  4  /* how long a name is asked for in vain */
#define BEAT_MS 20 /* the loop's own work */
#define LATE_US (DEAD_S * G_USEC_PER_SEC / 2)

typedef struct {
    int64_t last_us, worst_us; /* between two beats */
    bool over;
    long status;
} Seen;

static gint asked; /* names that are still asked for, or were */
static gint ended;

/* Stands before that of the C library: libcurl's threads call it. */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **found)
{
    (void)name;
    (void)service;
    (void)hints;
    *found = NULL;
    g_atomic_int_inc(&asked);
    sleep(DEAD_S);
    g_atomic_int_inc(&ended);
    return EAI_AGAIN;
}

static gboolean on_beat(gpointer data)
{
    Seen *seen = data;
    int64_t now_us = g_get_monotonic_time();

    seen->worst_us = MAX(seen->worst_us, now_us - seen->last_us);
    seen->last_us = now_us;
    return G_SOURCE_CONTINUE;
}

static void on_done(long status, const char *reason, void *data)
{
    Seen *seen = data;

    g_test_message("%s", reason);
    seen->status = status;
    seen->over = true;
}

static LpmPost *start(LpmPoster *poster, Seen *seen)
{
    static const char *const headers[] = {"Content-Type: application/json", NULL};
    LpmPostRequest request = {"http://receiver.invalid/", NULL, headers, "{}", 1};

    return lpm_post_start(poster, &request, on_done, seen);
}

static void wait_for(gint *counter, gint count)
{
    int64_t deadline_us = g_get_monotonic_time() + 10 * DEAD_S * G_USEC_PER_SEC;

    while (g_atomic_int_get(counter) < count && g_get_monotonic_time() < deadline_us) {
        g_main_context_iteration(NULL, FALSE);
        g_usleep(1000);
    }
    g_assert_cmpint(g_atomic_int_get(counter), ==, count);
}

/* A try that is over, one that is called off, and the end of all: nothing waits for the name. */
static void test_dead_name_server(void)
{
    LpmPoster *poster = lpm_poster_new();
    Seen seen = {.status = -1};
    guint beat;
    int64_t begin_us;
    LpmPost *other;

    start(poster, &seen);
    wait_for(&asked, 1);
    seen.last_us = g_get_monotonic_time();
    beat = g_timeout_add(BEAT_MS, on_beat, &seen);
    while (!seen.over) {
        g_main_context_iteration(NULL, TRUE);
    }
    on_beat(&seen);
    g_source_remove(beat);
    g_assert_cmpint(seen.status, ==, 0);
    g_assert_cmpint(seen.worst_us, <, LATE_US);
    g_assert_cmpint(g_atomic_int_get(&ended), ==, 0);

    other = start(poster, &seen);
    wait_for(&asked, 2);
    begin_us = g_get_monotonic_time();
    lpm_post_cancel(other);
    lpm_poster_free(poster);
    g_assert_cmpint(g_get_monotonic_time() - begin_us, <, LATE_US);
    wait_for(&ended, 2); /* their threads clear up behind themselves */
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/post/dead-name-server", test_dead_name_server);
    return g_test_run();
}
