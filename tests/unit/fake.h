/* SPDX-License-Identifier: Apache-2.0 */
/* Spawns tests/fake/fake_qemu.py, and waits with the main loop running; for test-qmp and test-qga.
 */
#pragma once

#include <gio/gio.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdbool.h>

#define WAIT_MS 20000

typedef struct {
    char *directory;
    char *path; /* of the socket */
    GSubprocess *process;
    bool ended;
} Fake;

static inline gboolean fake_wait_over(void *data)
{
    *(bool *)data = true;
    return G_SOURCE_REMOVE;
}

/* Runs the loop until @condition holds; fails the test after WAIT_MS. */
#define WAIT_FOR(condition)                                                                        \
    do {                                                                                           \
        bool over = false;                                                                         \
        guint id = g_timeout_add(WAIT_MS, fake_wait_over, &over);                                  \
        while (!(condition) && !over) {                                                            \
            g_main_context_iteration(NULL, TRUE);                                                  \
        }                                                                                          \
        g_assert_true(condition);                                                                  \
        if (!over) {                                                                               \
            g_source_remove(id);                                                                   \
        }                                                                                          \
    } while (0)

static inline void fake_make_directory(Fake *fake)
{
    fake->directory = g_dir_make_tmp("lpm-fake-XXXXXX", NULL);
    g_assert_nonnull(fake->directory);
    fake->path = g_build_filename(fake->directory, "socket", NULL);
}

/* Returns when the socket is there. @steps ends with NULL. */
static inline Fake *fake_start(const char *const *steps)
{
    Fake *fake = g_new0(Fake, 1);
    g_autoptr(GStrvBuilder) argv = g_strv_builder_new();
    g_autofree char *script =
        g_build_filename(g_getenv("G_TEST_SRCDIR"), "..", "fake", "fake_qemu.py", NULL);
    g_auto(GStrv) words = NULL;
    g_autoptr(GError) error = NULL;
    char byte;

    fake_make_directory(fake);
    g_strv_builder_add_many(argv, "/usr/bin/python3", script, fake->path, NULL);
    g_strv_builder_addv(argv, (const char **)steps);
    words = g_strv_builder_end(argv);
    fake->process =
        g_subprocess_newv((const char *const *)words, G_SUBPROCESS_FLAGS_STDOUT_PIPE, &error);
    g_assert_no_error(error);
    g_assert_cmpint(
        g_input_stream_read(g_subprocess_get_stdout_pipe(fake->process), &byte, 1, NULL, NULL), ==,
        1);
    return fake;
}

static inline void fake_on_end(G_GNUC_UNUSED GObject *object, G_GNUC_UNUSED GAsyncResult *result,
                               void *data)
{
    Fake *fake = data;

    fake->ended = true;
}

static inline void fake_remove(Fake *fake)
{
    g_unlink(fake->path);
    g_rmdir(fake->directory);
    g_free(fake->path);
    g_free(fake->directory);
    g_clear_object(&fake->process);
    g_free(fake);
}

/* The script must have been met. */
static inline void fake_end(Fake *fake)
{
    g_subprocess_wait_async(fake->process, NULL, fake_on_end, fake);
    WAIT_FOR(fake->ended);
    g_assert_true(g_subprocess_get_if_exited(fake->process));
    g_assert_cmpint(g_subprocess_get_exit_status(fake->process), ==, 0);
    fake_remove(fake);
}
