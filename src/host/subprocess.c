/* SPDX-License-Identifier: Apache-2.0 */
#include "host/subprocess.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

typedef struct {
    GSubprocess *process;
    char *program;
    int accept;
    guint timer;
    bool timed_out;
    LpmSubprocessDone done;
    void *data;
} Run;

static void run_free(Run *run)
{
    if (run->timer) {
        g_source_remove(run->timer);
    }
    g_clear_object(&run->process);
    g_free(run->program);
    g_free(run);
}

static gboolean on_timeout(gpointer data)
{
    Run *run = data;

    run->timer = 0;
    run->timed_out = true;
    g_subprocess_force_exit(run->process);
    return G_SOURCE_REMOVE;
}

static void describe(Run *run, const char *words, GError **error)
{
    g_autofree char *text = g_strstrip(g_strdup(words ? words : ""));
    const char *last = strrchr(text, '\n');

    if (run->timed_out) {
        lpm_error_set(error, LPM_ERROR_TIMEOUT, "%s did not end in time", run->program);
    } else if (g_subprocess_get_if_signaled(run->process)) {
        lpm_error_set(error, LPM_ERROR_QEMU, "%s was ended by signal %d", run->program,
                      g_subprocess_get_term_sig(run->process));
    } else {
        lpm_error_set(error, LPM_ERROR_QEMU, "%s failed with status %d: %s", run->program,
                      g_subprocess_get_exit_status(run->process), last ? last + 1 : text);
    }
}

static void on_end(GObject *source, GAsyncResult *result, gpointer data)
{
    Run *run = data;
    g_autofree char *out = NULL, *err = NULL;
    g_autoptr(GError) cause = NULL;
    g_autoptr(GError) error = NULL;

    if (!g_subprocess_communicate_utf8_finish(G_SUBPROCESS(source), result, &out, &err, &cause)) {
        lpm_error_set(&error, LPM_ERROR_QEMU, "%s: %s", run->program, cause->message);
    } else if (!(g_subprocess_get_if_exited(run->process) &&
                 (g_subprocess_get_exit_status(run->process) == 0 ||
                  g_subprocess_get_exit_status(run->process) == run->accept))) {
        describe(run, err, &error);
    }
    run->done(error ? NULL : out, error, run->data);
    run_free(run);
}

static gboolean on_not_started(gpointer data)
{
    Run *run = data;
    g_autoptr(GError) error = NULL;

    lpm_error_set(&error, LPM_ERROR_NOT_FOUND, "%s", run->program);
    run->done(NULL, error, run->data);
    run_free(run);
    return G_SOURCE_REMOVE;
}

/* Between fork and exec: nothing but calls that are safe there. */
static void end_with_us(gpointer parent)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 || getppid() != GPOINTER_TO_INT(parent)) {
        _exit(127);
    }
}

GSubprocess *lpm_subprocess_new(const char *const *argv, GSubprocessFlags flags, GError **error)
{
    g_autoptr(GSubprocessLauncher) launcher = g_subprocess_launcher_new(flags);

    g_subprocess_launcher_set_child_setup(launcher, end_with_us, GINT_TO_POINTER(getpid()), NULL);
    return g_subprocess_launcher_spawnv(launcher, argv, error);
}

void lpm_subprocess_run(const char *const *argv, int accept, unsigned timeout_ms,
                        LpmSubprocessDone done, void *data)
{
    Run *run = g_new0(Run, 1);
    g_autoptr(GError) error = NULL;

    run->program = g_strdup(argv[0]);
    run->accept = accept;
    run->done = done;
    run->data = data;
    run->process = lpm_subprocess_new(
        argv, G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_PIPE, &error);
    if (!run->process) {
        g_free(run->program);
        run->program = g_strdup_printf("%s cannot be started: %s", argv[0], error->message);
        g_idle_add(on_not_started, run);
        return;
    }
    run->timer = g_timeout_add(timeout_ms, on_timeout, run);
    g_subprocess_communicate_utf8_async(run->process, NULL, NULL, on_end, run);
}
