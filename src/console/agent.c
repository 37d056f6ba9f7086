/* SPDX-License-Identifier: Apache-2.0 */
#include "agent.h"

#include <errno.h>
#include <gio/gio.h>
#include <gio/gunixinputstream.h>
#include <gio/gunixoutputstream.h>
#include <glib-unix.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS_MAX     1024 /* of each output that are kept: the last ones */
#define LAST_WORDS_MS 200  /* for them to come once it has ended */

typedef struct Run Run;

typedef struct {
    Run *run;
    GInputStream *stream;
    char chunk[WORDS_MAX];
    GString *words;
    bool cut; /* they do not begin at the beginning */
} Output;

struct Run {
    unsigned refs; /* the process, its input, its outputs */
    pid_t pid;
    int pidfd;
    guint pidfd_watch, timer;
    GCancellable *cancel; /* of input and outputs, once it has ended */
    GOutputStream *stdin_stream;
    char *input;
    Output said, complained; /* standard output and error */
    unsigned listening;      /* outputs that have not ended */
    char *failure;           /* why it was not started; NULL */
    bool timed_out, ended;
    int status;
    unsigned timeout_ms;
    LpmAgentDone done;
    void *data;
};

static void output_clear(Output *output)
{
    g_clear_object(&output->stream);
    g_string_free(output->words, TRUE);
}

static void run_unref(Run *run)
{
    if (--run->refs > 0) {
        return;
    }
    output_clear(&run->said);
    output_clear(&run->complained);
    g_clear_object(&run->stdin_stream);
    g_clear_object(&run->cancel);
    if (run->pidfd >= 0) {
        close(run->pidfd);
    }
    explicit_bzero(run->input, strlen(run->input)); /* it has secrets */
    g_free(run->input);
    g_free(run->failure);
    g_free(run);
}

/*
 * The last line, without what a terminal would obey. What is left of a line that was cut is not
 * shown: it may begin in the middle of a secret, which nobody would recognise.
 */
static char *last_line(const Output *output)
{
    const char *from = output->words->str;
    const char *end = from + output->words->len;
    if (output->cut) {
        const char *first = memchr(from, '\n', output->words->len);
        from = first ? first + 1 : end;
    }
    g_autofree char *text = g_strstrip(g_utf8_make_valid(from, end - from));
    const char *line = strrchr(text, '\n');
    char *copy = g_strdup(line ? line + 1 : text);

    if (!*copy && output->cut) {
        g_free(copy);
        return g_strdup("(a line that is too long to be shown)");
    }
    for (char *at = copy; *at; at++) {
        if (g_ascii_iscntrl(*at)) {
            *at = ' ';
        }
    }
    return copy;
}

static void finish(Run *run)
{
    g_autofree char *said = last_line(&run->said);
    g_autofree char *words = last_line(&run->complained);
    LpmAgentEnd end = {.status = -1, .said = said, .words = words};
    g_autofree char *late = NULL;

    g_clear_handle_id(&run->timer, g_source_remove);
    g_cancellable_cancel(run->cancel);
    if (run->failure) {
        end.words = run->failure;
    } else if (run->timed_out) {
        late = g_strdup_printf("it did not end within %u s and was killed%s%s",
                               run->timeout_ms / 1000, *words ? ": " : "", words);
        end.words = late;
    } else {
        end.status = run->status;
    }
    run->done(&end, run->data);
    run_unref(run);
}

static gboolean on_late(gpointer data)
{
    Run *run = data;

    run->timer = 0;
    finish(run);
    return G_SOURCE_REMOVE;
}

/*
 * It has ended but was not waited for yet, so that its number, and its group's, is nobody else's:
 * what it has started and left behind ends with it.
 */
static gboolean on_end(gint fd, GIOCondition condition, gpointer data)
{
    Run *run = data;
    int status = 0;

    (void)fd;
    (void)condition;
    run->pidfd_watch = 0;
    (void)kill(-run->pid, SIGKILL);
    while (waitpid(run->pid, &status, 0) < 0 && errno == EINTR) {
    }
    g_clear_handle_id(&run->timer, g_source_remove);
    run->ended = true;
    run->status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (!WIFEXITED(status) && !run->timed_out) {
        run->failure = g_strdup_printf("it was ended by signal %d", WTERMSIG(status));
    }
    if (run->listening == 0) {
        finish(run);
    } else {
        run->timer = g_timeout_add(LAST_WORDS_MS, on_late, run);
    }
    return G_SOURCE_REMOVE;
}

static gboolean on_timeout(gpointer data)
{
    Run *run = data;

    run->timer = 0;
    run->timed_out = true;
    (void)kill(-run->pid, SIGKILL);
    return G_SOURCE_REMOVE;
}

/* Reads to the end, so that it never waits for us, and keeps the last words. */
static void on_words(GObject *source, GAsyncResult *result, gpointer data)
{
    Output *output = data;
    Run *run = output->run;
    gssize n = g_input_stream_read_finish(G_INPUT_STREAM(source), result, NULL);

    if (n <= 0) {
        run->listening--;
        if (run->ended && run->listening == 0 && run->timer) {
            finish(run);
        }
        run_unref(run);
        return;
    }
    g_string_append_len(output->words, output->chunk, n);
    if (output->words->len > WORDS_MAX) {
        g_string_erase(output->words, 0, (gssize)(output->words->len - WORDS_MAX));
        output->cut = true;
    }
    g_input_stream_read_async(output->stream, output->chunk, sizeof(output->chunk),
                              G_PRIORITY_DEFAULT, run->cancel, on_words, output);
}

static void listen_to(Run *run, Output *output, int fd)
{
    output->stream = g_unix_input_stream_new(fd, TRUE);
    run->refs++;
    run->listening++;
    g_input_stream_read_async(output->stream, output->chunk, sizeof(output->chunk),
                              G_PRIORITY_DEFAULT, run->cancel, on_words, output);
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

/* Started, with a descriptor that says when it has ended. It is waited for by on_end() alone. */
static bool spawn(Run *run, const char *program, int pipes[3], GError **error)
{
    char *argv[] = {(char *)program, NULL};

    if (!g_spawn_async_with_pipes("/", argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, own_group, NULL,
                                  &run->pid, &pipes[0], &pipes[1], &pipes[2], error)) {
        return false;
    }
    run->pidfd = (int)syscall(SYS_pidfd_open, run->pid, 0);
    if (run->pidfd >= 0) {
        return true;
    }
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "%s", g_strerror(errno));
    (void)kill(-run->pid, SIGKILL);
    while (waitpid(run->pid, NULL, 0) < 0 && errno == EINTR) {
    }
    for (unsigned i = 0; i < 3; i++) {
        close(pipes[i]);
    }
    return false;
}

void lpm_agent_run(const char *program, const char *input, unsigned timeout_ms, LpmAgentDone done,
                   void *data)
{
    Run *run = g_new0(Run, 1);
    g_autoptr(GError) error = NULL;
    int pipes[3];

    run->refs = 1;
    run->pidfd = -1;
    run->said = (Output){.run = run, .words = g_string_new(NULL)};
    run->complained = (Output){.run = run, .words = g_string_new(NULL)};
    run->cancel = g_cancellable_new();
    run->input = g_strdup(input);
    run->timeout_ms = timeout_ms;
    run->done = done;
    run->data = data;
    if (!spawn(run, program, pipes, &error)) {
        run->failure = g_strdup_printf("it cannot be started: %s", error->message);
        g_idle_add(on_not_started, run);
        return;
    }
    for (unsigned i = 0; i < 3; i++) {
        (void)g_unix_set_fd_nonblocking(pipes[i], TRUE, NULL);
    }
    run->timer = g_timeout_add(timeout_ms, on_timeout, run);
    run->pidfd_watch = g_unix_fd_add(run->pidfd, G_IO_IN, on_end, run);
    run->refs++;
    run->stdin_stream = g_unix_output_stream_new(pipes[0], TRUE);
    g_output_stream_write_all_async(run->stdin_stream, run->input, strlen(run->input),
                                    G_PRIORITY_DEFAULT, run->cancel, on_written, run);
    listen_to(run, &run->said, pipes[1]);
    listen_to(run, &run->complained, pipes[2]);
}
