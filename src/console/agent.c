/* SPDX-License-Identifier: Apache-2.0 */
#include "agent.h"

#include <gio/gio.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define WORDS_MAX 1024 /* of standard error that are kept: the last ones */
#define LAST_WORDS_MS                                                                              \
    200 /* for them to come once it has ended: what it started may keep the pipe */

typedef struct {
    unsigned refs; /* the process, its input, its words */
    GSubprocess *process;
    GCancellable *cancel; /* of input and words, once it has ended */
    char *input;
    char chunk[WORDS_MAX];
    GString *words;
    char *failure; /* why it was not started; NULL */
    guint timer;
    bool timed_out, ended, heard; /* heard: all of its words */
    int status;
    unsigned timeout_ms;
    LpmAgentDone done;
    void *data;
} Run;

static void run_unref(Run *run)
{
    if (--run->refs > 0) {
        return;
    }
    g_clear_object(&run->process);
    g_clear_object(&run->cancel);
    g_string_free(run->words, TRUE);
    explicit_bzero(run->input, strlen(run->input)); /* it has secrets */
    g_free(run->input);
    g_free(run->failure);
    g_free(run);
}

/* The last line, without what a terminal would obey. */
static char *last_line(const GString *words)
{
    g_autofree char *text = g_strstrip(g_utf8_make_valid(words->str, (gssize)words->len));
    const char *line = strrchr(text, '\n');
    char *copy = g_strdup(line ? line + 1 : text);

    for (char *at = copy; *at; at++) {
        if (g_ascii_iscntrl(*at)) {
            *at = ' ';
        }
    }
    return copy;
}

static void finish(Run *run)
{
    g_autofree char *words = last_line(run->words);

    g_clear_handle_id(&run->timer, g_source_remove);
    g_cancellable_cancel(run->cancel);
    if (run->failure) {
        run->done(-1, run->failure, run->data);
    } else if (run->timed_out) {
        g_autofree char *late = g_strdup_printf("it did not end within %u s and was killed%s%s",
                                                run->timeout_ms / 1000, *words ? ": " : "", words);

        run->done(-1, late, run->data);
    } else {
        run->done(run->status, words, run->data);
    }
    run_unref(run);
}

static gboolean on_late(gpointer data)
{
    Run *run = data;

    run->timer = 0;
    finish(run);
    return G_SOURCE_REMOVE;
}

static void on_end(GObject *source, GAsyncResult *result, gpointer data)
{
    Run *run = data;

    (void)source;
    (void)g_subprocess_wait_finish(run->process, result, NULL);
    g_clear_handle_id(&run->timer, g_source_remove);
    run->ended = true;
    run->status = -1;
    if (g_subprocess_get_if_exited(run->process)) {
        run->status = g_subprocess_get_exit_status(run->process);
    } else if (!run->timed_out) {
        run->failure =
            g_strdup_printf("it was ended by signal %d", g_subprocess_get_term_sig(run->process));
    }
    if (run->heard) {
        finish(run);
    } else {
        run->timer = g_timeout_add(LAST_WORDS_MS, on_late, run);
    }
}

/* It was not waited for yet, so that its number is still its own, and that of its group. */
static gboolean on_timeout(gpointer data)
{
    Run *run = data;
    const char *number = g_subprocess_get_identifier(run->process);
    pid_t pid = number ? (pid_t)g_ascii_strtoll(number, NULL, 10) : 0;

    run->timer = 0;
    run->timed_out = true;
    if (pid > 1) {
        (void)kill(-pid, SIGKILL);
    }
    g_subprocess_force_exit(run->process);
    return G_SOURCE_REMOVE;
}

/* Reads to the end, so that it never waits for us, and keeps the last words. */
static void on_words(GObject *source, GAsyncResult *result, gpointer data)
{
    Run *run = data;
    gssize n = g_input_stream_read_finish(G_INPUT_STREAM(source), result, NULL);

    if (n <= 0) {
        run->heard = true;
        if (run->ended && run->timer) {
            finish(run);
        }
        run_unref(run);
        return;
    }
    g_string_append_len(run->words, run->chunk, n);
    if (run->words->len > WORDS_MAX) {
        g_string_erase(run->words, 0, (gssize)(run->words->len - WORDS_MAX));
    }
    g_input_stream_read_async(G_INPUT_STREAM(source), run->chunk, sizeof(run->chunk),
                              G_PRIORITY_DEFAULT, run->cancel, on_words, run);
}

static void on_written(GObject *source, GAsyncResult *result, gpointer data)
{
    Run *run = data;

    /* An agent that does not read its options says so by how it ends. */
    (void)g_output_stream_write_all_finish(G_OUTPUT_STREAM(source), result, NULL, NULL);
    (void)g_output_stream_close(G_OUTPUT_STREAM(source), NULL, NULL);
    run_unref(run);
}

static gboolean on_not_started(gpointer data)
{
    finish(data);
    return G_SOURCE_REMOVE;
}

/* Between fork and exec: nothing but calls that are safe there. */
static void own_group(gpointer data)
{
    (void)data;
    (void)signal(SIGPIPE, SIG_DFL);
    if (setpgid(0, 0) != 0) {
        _exit(127);
    }
}

static GSubprocess *spawn(const char *program, GError **error)
{
    const char *argv[] = {program, NULL};
    g_autoptr(GSubprocessLauncher) launcher =
        g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDIN_PIPE | G_SUBPROCESS_FLAGS_STDERR_PIPE |
                                  G_SUBPROCESS_FLAGS_STDOUT_SILENCE);

    g_subprocess_launcher_set_child_setup(launcher, own_group, NULL, NULL);
    g_subprocess_launcher_set_cwd(launcher, "/");
    return g_subprocess_launcher_spawnv(launcher, argv, error);
}

void lpm_agent_run(const char *program, const char *input, unsigned timeout_ms, LpmAgentDone done,
                   void *data)
{
    Run *run = g_new0(Run, 1);
    g_autoptr(GError) error = NULL;

    run->refs = 1;
    run->words = g_string_new(NULL);
    run->cancel = g_cancellable_new();
    run->input = g_strdup(input);
    run->timeout_ms = timeout_ms;
    run->done = done;
    run->data = data;
    run->process = spawn(program, &error);
    if (!run->process) {
        run->failure = g_strdup_printf("it cannot be started: %s", error->message);
        g_idle_add(on_not_started, run);
        return;
    }
    run->refs = 3;
    run->timer = g_timeout_add(timeout_ms, on_timeout, run);
    g_output_stream_write_all_async(g_subprocess_get_stdin_pipe(run->process), run->input,
                                    strlen(run->input), G_PRIORITY_DEFAULT, run->cancel, on_written,
                                    run);
    g_input_stream_read_async(g_subprocess_get_stderr_pipe(run->process), run->chunk,
                              sizeof(run->chunk), G_PRIORITY_DEFAULT, run->cancel, on_words, run);
    g_subprocess_wait_async(run->process, NULL, on_end, run);
}
