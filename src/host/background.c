/* SPDX-License-Identifier: Apache-2.0 */
#include "host/background.h"

typedef struct {
    const LpmBackgroundOps *ops;
    void *data;
    void *owner;
    guint timer; /* 0: done() was called */
} Background;

static gboolean on_ended(gpointer data)
{
    Background *background = data;

    if (background->timer) {
        g_clear_handle_id(&background->timer, g_source_remove);
        background->ops->done(background->data, false, background->owner);
    }
    background->ops->free(background->data);
    g_free(background);
    return G_SOURCE_REMOVE;
}

static gboolean on_late(gpointer data)
{
    Background *background = data;

    background->timer = 0;
    background->ops->done(background->data, true, background->owner);
    return G_SOURCE_REMOVE;
}

static gpointer run(gpointer data)
{
    Background *background = data;

    background->ops->work(background->data);
    g_idle_add_full(G_PRIORITY_DEFAULT, on_ended, background, NULL);
    return NULL;
}

void lpm_background_run(const LpmBackgroundOps *ops, unsigned deadline_ms, void *data, void *owner)
{
    Background *background = g_new0(Background, 1);

    background->ops = ops;
    background->data = data;
    background->owner = owner;
    background->timer = g_timeout_add(deadline_ms, on_late, background);
    g_thread_unref(g_thread_new("look", run, background));
}
