/* SPDX-License-Identifier: Apache-2.0 */
#include "host/background.h"

typedef struct {
    const LpmBackgroundOps *ops;
    void *data;
    void *owner;
    guint timer; /* 0: done() was called */
    gint ended;  /* atomic: the thread is through */
} Background;

/* Main loop only. Threads cannot be ended, so those that hang are what there may not be many of. */
static unsigned running;
static GQueue waiting = G_QUEUE_INIT; /* Background: for a thread */

static void start_next(void);

static void background_free(Background *background)
{
    background->ops->free(background->data);
    g_free(background);
}

static gboolean on_ended(gpointer data)
{
    Background *background = data;

    running--;
    start_next();
    if (background->timer) {
        g_clear_handle_id(&background->timer, g_source_remove);
        background->ops->done(background->data, false, background->owner);
    }
    background_free(background);
    return G_SOURCE_REMOVE;
}

static gboolean on_late(gpointer data)
{
    Background *background = data;
    bool never_ran;

    if (g_atomic_int_get(&background->ended)) {
        return G_SOURCE_CONTINUE; /* it is this loop that is late: on_ended() comes next */
    }
    never_ran = g_queue_remove(&waiting, background);
    background->timer = 0;
    background->ops->done(background->data, true, background->owner);
    if (never_ran) {
        background_free(background);
    }
    return G_SOURCE_REMOVE;
}

static gpointer run(gpointer data)
{
    Background *background = data;

    background->ops->work(background->data);
    g_atomic_int_set(&background->ended, 1);
    g_idle_add_full(G_PRIORITY_DEFAULT, on_ended, background, NULL);
    return NULL;
}

static void start_next(void)
{
    while (running < LPM_BACKGROUND_MAX && !g_queue_is_empty(&waiting)) {
        GThread *thread = g_thread_try_new("look", run, g_queue_peek_head(&waiting), NULL);

        if (!thread) {
            return; /* the next end, or its deadline, is soon enough */
        }
        g_queue_pop_head(&waiting);
        g_thread_unref(thread);
        running++;
    }
}

void lpm_background_run(const LpmBackgroundOps *ops, unsigned deadline_ms, void *data, void *owner)
{
    Background *background = g_new0(Background, 1);

    background->ops = ops;
    background->data = data;
    background->owner = owner;
    background->timer = g_timeout_add(deadline_ms, on_late, background);
    g_queue_push_tail(&waiting, background);
    start_next();
}

char *lpm_background_late(const char *what, unsigned deadline_ms)
{
    if (running < LPM_BACKGROUND_MAX) {
        return g_strdup_printf("%s does not answer within %u ms", what, deadline_ms);
    }
    return g_strdup_printf("%s was not looked at within %u ms: %u looks at other storage of this "
                           "system hang; mend that storage, or the way to it, and try again",
                           what, deadline_ms, running);
}
