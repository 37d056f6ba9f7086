/* SPDX-License-Identifier: Apache-2.0 */
#include "host/background.h"

#include <string.h>

enum { MORE = 3, SOON_MS = 50, LATER_MS = 10000 };

typedef struct {
    GMutex lock;
    GCond changed;
    bool hangs;
    unsigned at_work, most; /* with the lock */
    unsigned done, late, freed;
} Storage;

static void work(void *data)
{
    Storage *storage = data;
    g_mutex_lock(&storage->lock);
    storage->at_work++;
    storage->most = MAX(storage->most, storage->at_work);
    while (storage->hangs) {
        g_cond_wait(&storage->changed, &storage->lock);
    }
    storage->at_work--;
    g_mutex_unlock(&storage->lock);
}

static void done(void *data, bool late, void *owner)
{
    Storage *storage = owner;
    g_assert_true(data == owner);
    storage->done += !late;
    storage->late += late;
}

static void freed(void *data)
{
    ((Storage *)data)->freed++;
}

static void run(Storage *storage, unsigned n, unsigned deadline_ms)
{
    static const LpmBackgroundOps ops = {work, done, freed};
    for (unsigned i = 0; i < n; i++) {
        lpm_background_run(&ops, deadline_ms, storage, storage);
    }
}

static void storage_that_hangs_takes_no_more_threads_than_there_may_be(void)
{
    Storage storage = {.hangs = true};
    char *text = NULL;
    run(&storage, LPM_BACKGROUND_MAX, SOON_MS);
    run(&storage, MORE, SOON_MS);
    while (storage.late < LPM_BACKGROUND_MAX + MORE) {
        g_main_context_iteration(NULL, TRUE);
    }
    g_assert_cmpuint(storage.done, ==, 0);
    g_assert_cmpuint(storage.freed, ==, MORE); /* which never had a thread */
    text = lpm_background_late("LUN 1", SOON_MS);
    g_assert_nonnull(strstr(text, "LUN 1 was not looked at within 50 ms: 32 looks"));
    g_free(text);
    run(&storage, MORE, LATER_MS); /* wait for a thread */
    g_mutex_lock(&storage.lock);
    storage.hangs = false;
    g_cond_broadcast(&storage.changed);
    g_mutex_unlock(&storage.lock);
    while (storage.freed < LPM_BACKGROUND_MAX + 2 * MORE) {
        g_main_context_iteration(NULL, TRUE);
    }
    g_assert_cmpuint(storage.done, ==, MORE);
    g_assert_cmpuint(storage.most, ==, LPM_BACKGROUND_MAX);
    text = lpm_background_late("LUN 1", SOON_MS);
    g_assert_cmpstr(text, ==, "LUN 1 does not answer within 50 ms");
    g_free(text);
}

/* The deadline passed while this loop stood still, not the storage. */
static void a_late_loop_calls_no_storage_late(void)
{
    Storage storage = {0};
    run(&storage, 1, SOON_MS);
    g_usleep(4 * SOON_MS * 1000);
    while (storage.freed < 1) {
        g_main_context_iteration(NULL, TRUE);
    }
    g_assert_cmpuint(storage.done, ==, 1);
    g_assert_cmpuint(storage.late, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/background/bound",
                    storage_that_hangs_takes_no_more_threads_than_there_may_be);
    g_test_add_func("/background/late-loop", a_late_loop_calls_no_storage_late);
    return g_test_run();
}
