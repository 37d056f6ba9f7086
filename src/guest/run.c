/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs one program and ends it with all its children. Between us and the program stands a keeper
 * that only waits for it: a program that kills its parent kills the keeper, and we notice. We are
 * the reaper of orphans, so whatever loses its parent becomes our child, in whatever session it
 * is; when we have no children any more, nothing is left of the program.
 */
#include "drmgr.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { GRACE_MS = 100, KILL_MS = 5000, AGAIN_US = 2000, PIECE = 65536 };

/* What the keeper tells. */
typedef struct {
    enum { BEGUN, NOT_BEGUN, ENDED } what;
    int value; /* process, errno, wait status */
} Word;

typedef struct {
    int out, err, words; /* -1: at its end */
    pid_t keeper, program;
    unsigned strangers; /* that were reaped, neither keeper nor program */
    bool ended;         /* the keeper has told its end */
} Run;

static volatile sig_atomic_t stopped;

static void on_stop(int number)
{
    (void)number;
    stopped = 1;
}

bool dr_is_stopped(void)
{
    return stopped;
}

void dr_run_prepare(void)
{
    struct sigaction act = {.sa_handler = on_stop};
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    sigaction(SIGTERM, &act, NULL);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGHUP, &act, NULL);
    signal(SIGPIPE, SIG_IGN); /* whoever asked may be gone; what was begun goes on */
    signal(SIGCHLD, SIG_DFL);
}

const char *dr_end_name(DrEnd end)
{
    static const char *const names[] = {
        [DR_END_EXITED] = "exited", [DR_END_SIGNAL] = "signal",        [DR_END_TIME] = "timed-out",
        [DR_END_FLOOD] = "flooded", [DR_END_PARENT] = "killed-parent", [DR_END_STOPPED] = "stopped",
        [DR_END_UNFIT] = "not-run",
    };
    return names[end];
}

const char *dr_pair(const DrResult *result, const char *name)
{
    for (size_t i = result->n_pairs; i-- > 0;) {
        if (strcmp(result->pairs[i].name, name) == 0) {
            return result->pairs[i].value;
        }
    }
    return NULL;
}

bool dr_is_trusted(const char *path)
{
    struct stat at;
    return stat(path, &at) == 0 && S_ISREG(at.st_mode) && (at.st_mode & 0111) != 0 &&
           (at.st_mode & 022) == 0 && at.st_uid == geteuid();
}

/* --- the program's side --- */

static void say(int fd, int what, int value)
{
    Word word = {.what = what, .value = value};
    ssize_t n = write(fd, &word, sizeof word);
    (void)n; /* nobody hears it any more: then nothing is to be done */
}

static _Noreturn void become(const char *path, char *const *argv, char *const *envp,
                             const int fds[3])
{
    sigset_t none;
    sigemptyset(&none);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setsid();
    int empty = open("/dev/null", O_RDONLY);
    dup2(empty, 0);
    dup2(fds[0], 1);
    dup2(fds[1], 2);
    close(empty);
    umask(022);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (chdir("/") == 0) {
        execve(path, argv, envp);
    }
    say(fds[2], NOT_BEGUN, errno);
    _exit(127);
}

static volatile sig_atomic_t orphaned, keeps;

/* Nobody waits for the keeper any more: it ends the program, with its session. */
static void on_orphaned(int number)
{
    (void)number;
    orphaned = 1;
    if (keeps > 0) {
        kill(-keeps, SIGKILL);
    }
}

static int wait_as_keeper(pid_t program)
{
    int status = 0;
    keeps = program;
    if (orphaned) {
        kill(-program, SIGKILL);
    }
    while (waitpid(program, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

static _Noreturn void keep(const char *path, char *const *argv, char *const *envp, const int fds[3],
                           pid_t parent)
{
    struct sigaction act = {.sa_handler = on_orphaned};
    static const int ours[] = {SIGTERM, SIGINT, SIGHUP};
    for (size_t i = 0; i < 3; i++) {
        signal(ours[i], SIG_IGN);
    }
    sigaction(SIGUSR1, &act, NULL);
    prctl(PR_SET_PDEATHSIG, SIGUSR1);
    pid_t program = getppid() == parent ? fork() : -1;
    if (program == 0) {
        for (size_t i = 0; i < 3; i++) {
            signal(ours[i], SIG_DFL);
        }
        become(path, argv, envp, fds);
    }
    if (program < 0) {
        say(fds[2], NOT_BEGUN, errno);
        _exit(1);
    }
    close(fds[0]);
    close(fds[1]);
    say(fds[2], BEGUN, program);
    say(fds[2], ENDED, wait_as_keeper(program));
    _exit(0);
}

/* --- its output --- */

static void take_pair(DrResult *result)
{
    static const char *const known[] = {
        "DR_ERROR",     "DR_LOG_EMERG",  "DR_LOG_ERR", "DR_LOG_WARNING", "DR_LOG_INFO",
        "DR_LOG_DEBUG", "DR_SCRIPTINFO", "DR_VERSION", "DR_DATE",        "DR_VENDOR",
        "DR_TIMEOUT",   "DR_RESOURCE",   "DR_USAGE",   "LPM_FACT",
    };
    char *value = strchr(result->line, '=');
    if (!value) {
        return;
    }
    *value++ = '\0';
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(result->line, known[i]) != 0) {
            continue;
        }
        if (i == 0) {
            dr_copy(result->error, sizeof result->error, value);
        }
        if (result->n_pairs < DR_PAIRS) {
            DrPair *pair = &result->pairs[result->n_pairs++];
            dr_copy(pair->name, sizeof pair->name, known[i]);
            dr_copy(pair->value, sizeof pair->value, value);
        }
    }
}

static void take_byte(DrResult *result, char byte)
{
    if (byte != '\n') {
        if (result->line_length + 1 < sizeof result->line) {
            result->line[result->line_length++] = byte;
        }
        return;
    }
    result->line[result->line_length] = '\0';
    take_pair(result);
    result->line_length = 0;
}

static void take(DrResult *result, DrOutput *output, const char *piece, size_t n)
{
    size_t kept = n < DR_KEPT - output->length ? n : DR_KEPT - output->length;
    memcpy(output->kept + output->length, piece, kept);
    output->length += kept;
    output->total += n;
    for (size_t i = 0; i < n && output == &result->out; i++) {
        take_byte(result, piece[i]);
    }
}

/* What is there now, at most one pipe full; closes *@fd at the end. */
static void drain(DrResult *result, DrOutput *output, int *fd)
{
    static char piece[PIECE];
    ssize_t n = *fd < 0 ? -1 : read(*fd, piece, sizeof piece);
    if (n > 0) {
        take(result, output, piece, (size_t)n);
    } else if (*fd >= 0 && (n == 0 || (errno != EAGAIN && errno != EINTR))) {
        close(*fd);
        *fd = -1;
    }
}

static void finish_output(DrResult *result, Run *run)
{
    drain(result, &result->out, &run->out);
    drain(result, &result->err, &run->err);
    if (result->line_length > 0) {
        take_byte(result, '\n');
    }
    int *const fds[] = {&run->out, &run->err, &run->words};
    for (size_t i = 0; i < 3; i++) {
        if (*fds[i] >= 0) {
            close(*fds[i]);
            *fds[i] = -1;
        }
    }
    for (size_t i = 0; i < result->out.length; i++) {
        result->out.kept[i] = result->out.kept[i] ? result->out.kept[i] : '?';
    }
    for (size_t i = 0; i < result->err.length; i++) {
        result->err.kept[i] = result->err.kept[i] ? result->err.kept[i] : '?';
    }
}

/* --- the end --- */

/* Reaps what has ended; false when there is no child any more. */
static bool reap(Run *run)
{
    pid_t pid = 0;
    int status = 0;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        run->strangers += pid != run->keeper && pid != run->program;
    }
    return pid == 0;
}

/* Number of the parent of process @pid; 0 when it is gone. */
static pid_t parent_of(pid_t pid)
{
    char path[64], text[512];
    int parent = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    if (fd >= 0) {
        close(fd);
    }
    text[n > 0 ? n : 0] = '\0';
    const char *after = strrchr(text, ')'); /* the name before it may hold anything, newlines too */
    return after && sscanf(after, ") %*c %d", &parent) == 1 ? parent : 0;
}

static void kill_children(void)
{
    DIR *all = opendir("/proc");
    for (struct dirent *entry; all && (entry = readdir(all));) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid > 0 && parent_of(pid) == getpid()) {
            kill(pid, SIGKILL);
        }
    }
    if (all) {
        closedir(all);
    }
}

/*
 * Ends everything that is left. What ends by itself within a moment was not left behind. Each
 * child that dies hands its own children on to us; false when something does not die.
 */
static bool end_all(DrResult *result, Run *run, bool at_once)
{
    int64_t grace = dr_now_ms() + (at_once ? 0 : GRACE_MS);
    int64_t last = grace + KILL_MS;
    bool killing = false;
    unsigned before = run->strangers;
    while (reap(run)) {
        int64_t now = dr_now_ms();
        if (now >= last) {
            return false;
        }
        if (now >= grace) {
            before = killing ? before : run->strangers;
            killing = true;
            kill_children();
            if (run->program > 0 && !run->ended) {
                kill(-run->program, SIGKILL); /* also where /proc is not mounted */
            }
        }
        drain(result, &result->out, &run->out);
        drain(result, &result->err, &run->err);
        usleep(AGAIN_US);
    }
    result->children = killing ? run->strangers - before : 0;
    return true;
}

/* --- all of it --- */

/* Takes one word of the keeper; false when it says nothing any more. */
static bool hear(DrResult *result, Run *run)
{
    Word word;
    ssize_t n = read(run->words, &word, sizeof word);
    if (n != (ssize_t)sizeof word) {
        return n < 0 && (errno == EINTR || errno == EAGAIN);
    }
    if (word.what == BEGUN) {
        run->program = word.value;
    } else if (word.what == NOT_BEGUN) {
        result->end = DR_END_UNFIT;
        result->status = word.value;
    } else {
        run->ended = true;
        if (result->end != DR_END_UNFIT) {
            bool exited = WIFEXITED(word.value);
            result->end = exited ? DR_END_EXITED : DR_END_SIGNAL;
            result->status = exited ? WEXITSTATUS(word.value) : WTERMSIG(word.value);
        }
    }
    return true;
}

/* Until the keeper has told the end, or something else ends it; true: nothing has to be killed. */
static bool wait_for(DrResult *result, Run *run, int64_t deadline)
{
    sigset_t open;
    sigprocmask(SIG_SETMASK, NULL, &open);
    sigdelset(&open, SIGTERM);
    sigdelset(&open, SIGINT);
    sigdelset(&open, SIGHUP);
    while (!run->ended) {
        struct pollfd fds[] = {
            {run->out, POLLIN, 0}, {run->err, POLLIN, 0}, {run->words, POLLIN, 0}};
        int64_t left = deadline - dr_now_ms();
        struct timespec timeout = {left / 1000, left % 1000 * 1000000};
        if (left <= 0) {
            result->end = DR_END_TIME;
            return false;
        }
        ppoll(fds, 3, &timeout, &open);
        if (stopped) {
            result->end = DR_END_STOPPED;
            return false;
        }
        drain(result, &result->out, &run->out);
        drain(result, &result->err, &run->err);
        if (result->out.total + result->err.total > DR_FLOOD) {
            result->end = DR_END_FLOOD;
            return false;
        }
        if (fds[2].revents && !hear(result, run)) {
            result->end = DR_END_PARENT;
            return false;
        }
    }
    return true;
}

static bool open_pipes(int out[2], int err[2], int words[2])
{
    if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0 || pipe2(words, O_CLOEXEC) != 0) {
        return false;
    }
    return fcntl(out[0], F_SETFL, O_NONBLOCK) == 0 && fcntl(err[0], F_SETFL, O_NONBLOCK) == 0 &&
           fcntl(words[0], F_SETFL, O_NONBLOCK) == 0;
}

static void start(Run *run, const char *path, char *const *argv, char *const *envp)
{
    int out[2] = {-1, -1}, err[2] = {-1, -1}, words[2] = {-1, -1};
    pid_t parent = getpid();
    if (open_pipes(out, err, words)) {
        run->keeper = fork();
    }
    if (run->keeper == 0) {
        const int fds[3] = {out[1], err[1], words[1]};
        keep(path, argv, envp, fds, parent);
    }
    close(out[1]);
    close(err[1]);
    close(words[1]);
    run->out = out[0];
    run->err = err[0];
    run->words = words[0];
}

void dr_run(const char *path, char *const *argv, char *const *envp, int64_t limit_ms,
            DrResult *result)
{
    Run run = {.keeper = -1};
    sigset_t block, before;
    int64_t begun = dr_now_ms();
    memset(result, 0, sizeof *result);
    sigemptyset(&block);
    sigaddset(&block, SIGTERM);
    sigaddset(&block, SIGINT);
    sigaddset(&block, SIGHUP);
    sigprocmask(SIG_BLOCK, &block, &before);
    fflush(stdout);
    start(&run, path, argv, envp);
    bool good = run.keeper > 0 && wait_for(result, &run, begun + limit_ms);
    if (run.keeper < 0) {
        result->end = DR_END_UNFIT;
        result->status = errno;
    } else {
        result->leaks = !end_all(result, &run, !good);
    }
    finish_output(result, &run);
    sigprocmask(SIG_SETMASK, &before, NULL);
    result->ms = dr_now_ms() - begun;
}
