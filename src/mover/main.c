/* SPDX-License-Identifier: Apache-2.0 */
#include "bytes/bytes.h"
#include "clock.h"
#include "control.h"
#include "sandbox.h"
#include "verify.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    PEM_MAX = 256 * 1024,
    SOCKET_BUFFER = 1024 * 1024,
    HASHER_PATIENCE = 512 * 1024,
};

static Mover mover; /* one process, one migration, one side */

static const struct option long_options[] = {
    {"control", required_argument, NULL, 'c'},
    {"net", required_argument, NULL, 'n'},
    {"vasi", required_argument, NULL, 'v'},
    {"memory", required_argument, NULL, 'm'},
    {"cert", required_argument, NULL, 'C'},
    {"key", required_argument, NULL, 'K'},
    {"ca", required_argument, NULL, 'A'},
#ifdef LPM_FAULTS
    {"fault", required_argument, NULL, 'f'},
#endif
    {NULL, 0, NULL, 0},
};

static int usage(const char *problem)
{
    fprintf(
        stderr,
        "lpm-mover: %s\n"
        "usage: lpm-mover --control=N --net=N [--vasi=N] [--memory=N] [--cert=N --key=N --ca=N]\n"
        "Each N is an inherited descriptor; lpm-host starts this program (docs/spec/mover.md).\n",
        problem);
    return LPM_STREAM_ERR_USAGE;
}

/* An open descriptor's number, or -1. */
static int parse_fd(const char *text)
{
    char *end;
    long fd = strtol(text, &end, 10);
    if (*text == 0 || *end != 0 || fd < 3 || fd > 4096 || fcntl((int)fd, F_GETFD) < 0)
        return -1;
    fcntl((int)fd, F_SETFD, FD_CLOEXEC);
    return (int)fd;
}

static bool parse_options(int argc, char **argv, MoverOptions *o)
{
    const struct {
        int letter;
        int *fd;
    } fds[] = {{'c', &o->control}, {'n', &o->net}, {'v', &o->vasi}, {'m', &o->memory},
               {'C', &o->cert},    {'K', &o->key}, {'A', &o->ca}};
    for (int letter = getopt_long(argc, argv, "", long_options, NULL); letter != -1;
         letter = getopt_long(argc, argv, "", long_options, NULL)) {
        bool known = false;
        for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
            if (fds[i].letter == letter)
                known = (*fds[i].fd = parse_fd(optarg)) >= 0;
        if (letter == 'f') {
            o->fault = optarg;
            known = true;
        }
        if (!known)
            return false;
    }
    return optind == argc;
}

static char *read_pem(int *fd)
{
    char *pem = calloc(1, PEM_MAX + 1);
    ssize_t n = pem ? lpm_bytes_read_all(*fd, pem, PEM_MAX) : -1;
    lpm_bytes_close(fd);
    if (n >= 0 && strlen(pem) == (size_t)n)
        return pem;
    free(pem);
    return NULL;
}

static bool load_credentials(Mover *m)
{
    MoverOptions *o = &m->options;
    if (o->cert < 0 && o->key < 0 && o->ca < 0)
        return true;
    char *cert = read_pem(&o->cert), *key = read_pem(&o->key), *ca = read_pem(&o->ca);
    char reason[TRANSPORT_REASON_MAX] = "one of the files cannot be read";
    if (cert && key && ca)
        m->credentials = transport_credentials_new(cert, key, ca, reason);
    if (key)
        explicit_bzero(key, PEM_MAX);
    free(cert);
    free(key);
    free(ca);
    return m->credentials ||
           mover_fail(m, LPM_STREAM_ERR_CREDENTIALS, "certificate, key or authority: %s", reason);
}

/* What GIO and others leave on a socket, and room for more than a few pages. All best effort. */
static void prepare_sockets(const MoverOptions *o)
{
    const int fds[] = {o->net, o->vasi};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        if (fds[i] >= 0)
            fcntl(fds[i], F_SETFL, fcntl(fds[i], F_GETFL) & ~O_NONBLOCK);
    int size = SOCKET_BUFFER;
    if (o->vasi >= 0 && setsockopt(o->vasi, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) != 0)
        setsockopt(o->vasi, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

static void init_locks(Mover *m)
{
    pthread_mutex_init(&m->failure_lock, NULL);
    pthread_mutex_init(&m->gate_lock, NULL);
    pthread_mutex_init(&m->out.digest_lock, NULL);
    pthread_mutex_init(&m->in.check_lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&m->gate_changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

/* Everything that needs memory or threads, before the sandbox closes. */
static bool prepare(Mover *m)
{
    const LpmStreamConfig *config = &m->config;
    throttle_init(&m->throttle, config->max_rate, clock_ns());
    atomic_store(&m->state, LPM_STREAM_STATE_CONNECTING);
    atomic_store(&m->link_fd, m->options.net);
    bool rings = ring_init(&m->out.ring, config->window, FRAME_MAX, is_source(m), true) &&
                 ring_init(&m->in.ring, config->window, FRAME_MAX, true, false);
    /* Nobody waits for the hasher until the sender pauses: it is woken for several frames at once.
     */
    m->out.ring.patience = HASHER_PATIENCE;
    if (rings && stream_digest_init(&m->out.digest) && stream_digest_init(&m->in.digest) &&
        verify_init(m) && gate_start_threads(m))
        return true;
    return mover_fail(m, LPM_STREAM_ERR_INTERNAL, "not enough memory or threads to start");
}

static bool lock_in(Mover *m)
{
    char reason[128];
    if (!sandbox_enter(reason, sizeof(reason)))
        return mover_fail(m, LPM_STREAM_ERR_SANDBOX, "%s", reason);
    mover_tell(m, LPM_STREAM_READY, NULL);
    gate_sandboxed(m);
    return true;
}

int main(int argc, char **argv)
{
    Mover *m = &mover;
    m->options = (MoverOptions){-1, -1, -1, -1, -1, -1, -1, NULL};
    if (!parse_options(argc, argv, &m->options))
        return usage("unknown option, or a descriptor that is not open");
    if (m->options.control < 0 || m->options.net < 0)
        return usage("--control and --net are needed");
    signal(SIGPIPE, SIG_IGN);
    /* One heap: to make another, the C library would look into /sys, which the sandbox forbids. */
    mallopt(M_ARENA_MAX, 1);
    init_locks(m);
    if (!queue_init(&m->to_peer) || !queue_init(&m->to_host))
        return LPM_STREAM_ERR_INTERNAL;
    prepare_sockets(&m->options);
    if (load_credentials(m) && control_read_config(m) && prepare(m))
        lock_in(m);
    int status = control_run(m);
    /* No clean-up: threads that could not be joined may still hold what would be freed. */
    _exit(status);
}
