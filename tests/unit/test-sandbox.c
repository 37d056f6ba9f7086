/* SPDX-License-Identifier: Apache-2.0 */
/* What the mover may not do once it has locked itself in: each is tried, and kills it. */
#include "clock.h"
#include "sandbox.h"

#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void try_open(void)
{
    (void)!open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void try_socket(void)
{
    (void)!socket(AF_INET, SOCK_STREAM, 0);
}

static void try_connect(void)
{
    struct sockaddr address = {.sa_family = AF_INET};
    (void)!connect(0, &address, sizeof(address));
}

static void try_exec(void)
{
    execl("/bin/true", "true", NULL);
}

static void try_fork(void)
{
    (void)!fork();
}

static void try_kill(void)
{
    kill(1, 0);
}

static void try_executable_memory(void)
{
    (void)!mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void try_making_code(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(page, 4096, PROT_READ | PROT_EXEC);
}

static void try_ptrace(void)
{
    syscall(SYS_ptrace, 0, 0, 0, 0);
}

static void try_unlink(void)
{
    unlink("/nonexistent/file");
}

static void try_privileges(void)
{
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static void try_memory_of_others(void)
{
    syscall(SYS_process_vm_readv, 1, NULL, 0, NULL, 0, 0);
}

/* Calls that need no more than their number to be refused. */
static const struct {
    const char *name;
    long number;
} forbidden_calls[] = {
    {"openat2", SYS_openat2},
    {"creat", SYS_creat},
    {"clone3", SYS_clone3},
    {"execveat", SYS_execveat},
    {"bind", SYS_bind},
    {"listen", SYS_listen},
    {"sendmsg", SYS_sendmsg},
    {"unshare", SYS_unshare},
    {"setns", SYS_setns},
    {"mount", SYS_mount},
    {"chroot", SYS_chroot},
    {"setuid", SYS_setuid},
    {"capset", SYS_capset},
    {"bpf", SYS_bpf},
    {"io_uring_setup", SYS_io_uring_setup},
    {"perf_event_open", SYS_perf_event_open},
    {"pidfd_getfd", SYS_pidfd_getfd},
    {"memfd_create", SYS_memfd_create},
    {"userfaultfd", SYS_userfaultfd},
    {"keyctl", SYS_keyctl},
    {"tgkill", SYS_tgkill},
    {"ioctl", SYS_ioctl},
};
static long forbidden_number;

static void try_number(void)
{
    (void)syscall(forbidden_number, -1, 0, 0, 0, 0, 0);
}

static void do_what_is_allowed(void)
{
    uint8_t random[8];
    int pair[2] = {-1, -1};
    (void)!write(pair[0], random, 0);
    free(malloc(8 << 20));
    struct timespec nap = {.tv_nsec = 1000};
    nanosleep(&nap, NULL);
    (void)clock_ns();
    (void)!pread(-1, random, 1, 0);
}

/* Wait status of a child that locks itself in and then does @what. */
static int locked_in(void (*what)(void))
{
    pid_t child = fork();
    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        char reason[128];
        if (!sandbox_enter(reason, sizeof(reason)))
            _exit(99);
        what();
        _exit(42);
    }
    int status;
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    return status;
}

static void sandbox_kills_what_is_forbidden(void)
{
    static const struct {
        const char *name;
        void (*what)(void);
    } forbidden[] = {
        {"open", try_open},
        {"socket", try_socket},
        {"connect", try_connect},
        {"execve", try_exec},
        {"fork", try_fork},
        {"kill", try_kill},
        {"mmap with PROT_EXEC", try_executable_memory},
        {"mprotect with PROT_EXEC", try_making_code},
        {"ptrace", try_ptrace},
        {"unlink", try_unlink},
        {"prctl", try_privileges},
        {"process_vm_readv", try_memory_of_others},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(forbidden); i++) {
        g_test_message("%s", forbidden[i].name);
        int status = locked_in(forbidden[i].what);
        g_assert_true(WIFSIGNALED(status));
        g_assert_cmpint(WTERMSIG(status), ==, SIGSYS);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(forbidden_calls); i++) {
        g_test_message("%s", forbidden_calls[i].name);
        forbidden_number = forbidden_calls[i].number;
        int status = locked_in(try_number);
        g_assert_true(WIFSIGNALED(status));
        g_assert_cmpint(WTERMSIG(status), ==, SIGSYS);
    }
}

static void sandbox_allows_what_is_needed(void)
{
    int status = locked_in(do_what_is_allowed);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 42);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/mover/sandbox/forbidden", sandbox_kills_what_is_forbidden);
    g_test_add_func("/mover/sandbox/allowed", sandbox_allows_what_is_needed);
    return g_test_run();
}
