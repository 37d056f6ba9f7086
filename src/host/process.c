/* SPDX-License-Identifier: Apache-2.0 */
#include "host/process.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the child needs, all worked out before fork: after it only async-signal-safe calls are
 * allowed. */
typedef struct {
    const LpmProcessSpec *spec;
    bool drop;
    uid_t uid;
    gid_t gid;
    gid_t groups[1];
    size_t n_groups;
    int null_fd;
    int report_fd;  /* the pid, then the errno of a failed exec; close-on-exec */
    int release_fd; /* one byte: go; end of file: give up */
} Child;

bool lpm_process_user(const char *name, uid_t *ret_uid, gid_t *ret_gid)
{
    struct passwd entry, *found = NULL;
    char buffer[4096];

    if (!name || !*name || getpwnam_r(name, &entry, buffer, sizeof(buffer), &found) != 0 ||
        !found) {
        return false;
    }
    *ret_uid = found->pw_uid;
    *ret_gid = found->pw_gid;
    return true;
}

/* The text of /proc/PID/stat after the command's name, which may hold anything, also spaces and
 * parentheses; NULL, and errno is set. To be freed. */
static char *read_stat(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)pid);
    char text[4096]; /* three times what its 52 fields can take */
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : TEMP_FAILURE_RETRY(read(fd, text, sizeof(text) - 1));
    int code = errno;
    const char *after;

    if (fd >= 0) {
        close(fd);
    }
    if (got < 0) {
        errno = code;
        return NULL;
    }
    text[got] = '\0';
    after = strrchr(text, ')');
    if (!after || after[1] != ' ') {
        errno = EPROTO;
        return NULL;
    }
    return g_strdup(after + 2);
}

static bool start_time_from(const char *stat, uint64_t *ret_start_time)
{
    enum { START = 22 - 3 }; /* proc(5) */
    g_auto(GStrv) fields = g_strsplit(stat, " ", START + 2);

    if (g_strv_length(fields) < START + 2) {
        return false;
    }
    *ret_start_time = g_ascii_strtoull(fields[START], NULL, 10);
    return true;
}

bool lpm_process_start_time(pid_t pid, uint64_t *ret_start_time)
{
    g_autofree char *stat = pid > 0 ? read_stat(pid) : NULL;

    return stat && stat[0] != 'Z' && stat[0] != 'X' && start_time_from(stat, ret_start_time);
}

/* All its threads: the first one of a large process may be a zombie while others still write. */
static bool has_ended(int pidfd)
{
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};

    return poll(&ended, 1, 0) > 0;
}

bool lpm_process_is_ending(pid_t pid, int pidfd)
{
    enum { FLAGS = 9 - 3, PENDING = 31 - 3, FIELDS = PENDING + 2, EXITING = 4 }; /* proc(5) */
    g_autofree char *stat = NULL;
    g_auto(GStrv) fields = NULL;

    if (has_ended(pidfd)) {
        return true;
    }
    stat = read_stat(pid);
    fields = stat ? g_strsplit(stat, " ", FIELDS) : NULL;
    if (!fields || g_strv_length(fields) < FIELDS) {
        return has_ended(pidfd);
    }
    return g_ascii_strtoull(fields[FLAGS], NULL, 10) & EXITING ||
           g_ascii_strtoull(fields[PENDING], NULL, 10) & 1ULL << (SIGKILL - 1);
}

/* It is not that one: nothing has the number now, or it is that of a thread of another process. */
static bool is_not_there(int code)
{
    return code == ESRCH || code == EINVAL || code == ENOENT;
}

bool lpm_process_open(pid_t pid, uint64_t start_time, int *ret_pidfd, GError **error)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    g_autofree char *stat = NULL;
    uint64_t now = 0;
    int code;

    *ret_pidfd = -1;
    if (fd < 0) {
        return is_not_there(errno) ||
               lpm_error_set(error, LPM_ERROR_INTERNAL,
                             "whether process %d lives cannot be told: pidfd_open: %s", (int)pid,
                             g_strerror(errno));
    }
    /* Looked at after the pidfd is there, so that it can only be this very process. */
    stat = has_ended(fd) ? NULL : read_stat(pid);
    code = errno;
    if (stat && start_time_from(stat, &now) && now == start_time) {
        *ret_pidfd = fd;
        return true;
    }
    if (now || has_ended(fd)) {
        close(fd);
        return true;
    }
    close(fd);
    return lpm_error_set(error, LPM_ERROR_INTERNAL,
                         "whether process %d lives cannot be told: /proc/%d/stat: %s", (int)pid,
                         (int)pid, stat ? "it is not understood" : g_strerror(code));
}

void lpm_process_kill(int pidfd)
{
    if (pidfd >= 0) {
        (void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
    }
}

static void child_fail(const Child *child)
{
    int code = errno;

    (void)!write(child->report_fd, &code, sizeof(code));
    _exit(127);
}

static void child_descriptors(const Child *child)
{
    const LpmProcessSpec *spec = child->spec;

    if (dup2(child->null_fd, 0) < 0 || dup2(spec->output_fd, 1) < 0 ||
        dup2(spec->output_fd, 2) < 0 ||
        syscall(SYS_close_range, 3, ~0U, 4 /* CLOSE_RANGE_CLOEXEC */) != 0) {
        child_fail(child);
    }
    for (size_t i = 0; i < spec->n_fds; i++) {
        if (fcntl(spec->fds[i], F_SETFD, 0) != 0) {
            child_fail(child);
        }
    }
}

static void child_privileges(const Child *child)
{
    struct rlimit none = {0, 0};

    if (setrlimit(RLIMIT_CORE, &none) != 0) {
        child_fail(child);
    }
    if (child->drop && (setgroups(child->n_groups, child->groups) != 0 ||
                        setresgid(child->gid, child->gid, child->gid) != 0 ||
                        setresuid(child->uid, child->uid, child->uid) != 0)) {
        child_fail(child);
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        child_fail(child);
    }
}

G_NORETURN static void child_run(const Child *child)
{
    static char *const environment[] = {"PATH=/usr/bin:/bin", "LC_ALL=C", NULL};
    sigset_t empty;
    char go;

    for (int number = 1; number < 32; number++) {
        if (number != SIGKILL && number != SIGSTOP) {
            (void)signal(number, SIG_DFL);
        }
    }
    sigemptyset(&empty);
    sigprocmask(SIG_SETMASK, &empty, NULL);
    umask(0077);
    if (read(child->release_fd, &go, 1) != 1) {
        _exit(0);
    }
    if (chdir("/") != 0) {
        child_fail(child);
    }
    child_descriptors(child);
    child_privileges(child);
    execve(child->spec->argv[0], child->spec->argv, environment);
    child_fail(child);
    _exit(127);
}

/* In the first child: makes the second, which is reparented to init as soon as this one ends. */
G_NORETURN static void child_fork(Child *child, int release_write_fd)
{
    pid_t pid;

    close(release_write_fd);
    if (setsid() < 0) {
        _exit(1);
    }
    pid = fork();
    if (pid == 0) {
        child_run(child);
    }
    (void)!write(child->report_fd, &pid, sizeof(pid));
    _exit(pid < 0);
}

static bool work_out(const LpmProcessSpec *spec, Child *child, GError **error)
{
    struct stat kvm;

    child->spec = spec;
    child->drop = geteuid() == 0 && lpm_process_user(spec->user, &child->uid, &child->gid);
    if (spec->keep_kvm_group && stat("/dev/kvm", &kvm) == 0 && kvm.st_gid != 0) {
        child->groups[child->n_groups++] = kvm.st_gid;
    }
    child->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (child->null_fd < 0) {
        return lpm_error_set(error, LPM_ERROR_INTERNAL, "/dev/null cannot be opened: %s",
                             g_strerror(errno));
    }
    return true;
}

static bool fork_twice(Child *child, int release_write, int report_read, LpmProcess *process,
                       GError **error)
{
    pid_t first = fork();
    pid_t pid = -1;

    if (first == 0) {
        child_fork(child, release_write);
    }
    close(child->report_fd);
    if (first < 0 || TEMP_FAILURE_RETRY(read(report_read, &pid, sizeof(pid))) != sizeof(pid) ||
        pid <= 0) {
        return lpm_error_set(error, LPM_ERROR_INTERNAL, "a process for %s cannot be made: %s",
                             child->spec->argv[0], g_strerror(errno));
    }
    (void)TEMP_FAILURE_RETRY(waitpid(first, NULL, 0));
    process->pid = pid;
    process->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (process->pidfd < 0 || !lpm_process_start_time(pid, &process->start_time)) {
        return lpm_error_set(error, LPM_ERROR_INTERNAL, "process %d of %s ended at once", (int)pid,
                             child->spec->argv[0]);
    }
    return true;
}

static void close_fd(int *fd)
{
    if (*fd > 2) {
        close(*fd);
    }
    *fd = -1;
}

void lpm_process_discard(LpmProcess *process)
{
    close_fd(&process->release_fd);
    close_fd(&process->report_fd);
    close_fd(&process->pidfd);
}

bool lpm_process_spawn(const LpmProcessSpec *spec, LpmProcess *ret_process, GError **error)
{
    Child child = {.null_fd = -1};
    int release[2] = {-1, -1}, report[2] = {-1, -1};
    LpmProcess process = {.pidfd = -1, .release_fd = -1, .report_fd = -1};
    bool done = work_out(spec, &child, error) && g_unix_open_pipe(report, FD_CLOEXEC, error) &&
                g_unix_open_pipe(release, FD_CLOEXEC, error);

    process.report_fd = report[0];
    process.release_fd = release[1];
    if (done) {
        child.report_fd = report[1];
        child.release_fd = release[0];
        done = fork_twice(&child, release[1], report[0], &process, error);
        report[1] = -1;
    }
    close_fd(&child.null_fd);
    close_fd(&release[0]);
    close_fd(&report[1]);
    if (!done) {
        lpm_process_discard(&process);
        return false;
    }
    *ret_process = process;
    return true;
}

bool lpm_process_release(LpmProcess *process, const char *program, GError **error)
{
    int code = 0;
    ssize_t got;

    got = write(process->release_fd, "g", 1);
    close(process->release_fd);
    process->release_fd = -1;
    if (got == 1) {
        /* End of file: exec closed it. */
        got = TEMP_FAILURE_RETRY(read(process->report_fd, &code, sizeof(code)));
    } else {
        code = errno;
    }
    close(process->report_fd);
    process->report_fd = -1;
    if (got == 0) {
        return true;
    }
    return lpm_error_set(error, LPM_ERROR_QEMU, "%s cannot be started: %s", program,
                         g_strerror(code));
}
