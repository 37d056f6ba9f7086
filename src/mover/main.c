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
    HEAP_THRESHOLD = 64 * 1024 * 1024,
};

static Mover mover; /* one process, one migration, one side */

static const struct option long_options[] = {
    {"control", required_argument, NULL, 'c'},
    {"net", required_argument, NULL, 'n'},
    {"vasi", required_argument, NULL, 'v'},
    {"memory", required_argument, NULL, 'm'},
    {"image", required_argument, NULL, 'i'},
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
        "usage: lpm-mover --control=N --net=N[,N...] [--vasi=N] [--memory=N] [--image=N]\n"
        "                 [--cert=N --key=N --ca=N]\n"
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

/* Descriptors separated by commas into @fds. Their number, 0 when one is bad or there are too many.
 */
static unsigned parse_fds(const char *text, int *fds, unsigned max)
{
    char copy[256];
    if (strlen(text) >= sizeof(copy))
        return 0;
    strcpy(copy, text);
    unsigned n = 0;
    char *rest = NULL;
    for (char *word = strtok_r(copy, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
        if (n == max || (fds[n] = parse_fd(word)) < 0)
            return 0;
        n++;
    }
    return n;
}

static bool parse_options(int argc, char **argv, MoverOptions *o)
{
    const struct {
        int letter;
        int *fds;
        unsigned max, *n; /* NULL: exactly one */
    } options[] = {{'c', &o->control, 1, NULL}, {'n', o->net, LISTENERS_MAX, &o->n_net},
                   {'v', &o->vasi, 1, NULL},    {'m', &o->memory, 1, NULL},
                   {'i', &o->image, 1, NULL},   {'C', &o->cert, 1, NULL},
                   {'K', &o->key, 1, NULL},     {'A', &o->ca, 1, NULL}};
    for (int letter = getopt_long(argc, argv, "", long_options, NULL); letter != -1;
         letter = getopt_long(argc, argv, "", long_options, NULL)) {
        bool known = false;
        for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
            if (options[i].letter == letter) {
                unsigned n = parse_fds(optarg, options[i].fds, options[i].max);
                known = n > 0;
                if (options[i].n)
                    *options[i].n = n;
            }
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

/* What GIO and others leave on a socket. */
static void prepare_sockets(const MoverOptions *o)
{
    for (unsigned i = 0; i < o->n_net; i++)
        fcntl(o->net[i], F_SETFL, fcntl(o->net[i], F_GETFL) & ~O_NONBLOCK);
    if (o->vasi >= 0)
        fcntl(o->vasi, F_SETFL, fcntl(o->vasi, F_GETFL) & ~O_NONBLOCK);
}

static void init_locks(Mover *m)
{
    pthread_mutex_init(&m->failure_lock, NULL);
    pthread_mutex_init(&m->gate_lock, NULL);
    pthread_mutex_init(&m->link_lock, NULL);
    pthread_mutex_init(&m->throttle_lock, NULL);
    pthread_mutex_init(&m->out.digest_lock, NULL);
    pthread_mutex_init(&m->in.check_lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&m->gate_changed, &monotonic);
    pthread_cond_init(&m->link_changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

static bool prepare_channels(Mover *m)
{
    m->n_channels = 1u + m->config.channels;
    bool good = true;
    for (unsigned i = 0; good && i < m->n_channels; i++) {
        m->channels[i].fd = -1;
        good = stream_digest_init(&m->channels[i].digest) && stream_digest_init(&m->in.digest[i]);
    }
    if (m->options.vasi >= 0)
        channel_take(m, 0, m->options.vasi);
    if (is_source(m) || m->n_channels == 1)
        return good;
    m->outlets = calloc(m->n_channels, sizeof(*m->outlets));
    for (unsigned i = 0; m->outlets && i < m->n_channels; i++)
        outlet_init(&m->outlets[i], m, i);
    return good && m->outlets;
}

/* Everything that needs memory or threads, before the sandbox closes. */
static bool prepare(Mover *m)
{
    const LpmStreamConfig *config = &m->config;
    throttle_init(&m->throttle, config->max_rate, clock_ns());
    atomic_store(&m->state, LPM_STREAM_STATE_CONNECTING);
    outbox_init(&m->out.box);
    m->n_links = config->connections;
    for (unsigned i = 0; i < m->n_links; i++)
        m->links[i] = (Link){.mover = m, .index = i, .fd = -1, .greeting_fd = -1};
    if (inbox_init(&m->in.box, config->window) && prepare_channels(m) && verify_init(m) &&
        gate_start_threads(m))
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
    m->options = (MoverOptions){
        .control = -1, .vasi = -1, .memory = -1, .image = -1, .cert = -1, .key = -1, .ca = -1};
    if (!parse_options(argc, argv, &m->options))
        return usage("unknown option, or a descriptor that is not open");
    if (m->options.control < 0 || m->options.n_net == 0)
        return usage("--control and --net are needed");
    signal(SIGPIPE, SIG_IGN);
    /* One heap: to make another, the C library would look into /sys, which the sandbox forbids. */
    mallopt(M_ARENA_MAX, 1);
    /* Frames come and go: their memory stays ours, instead of being mapped and cleared anew. */
    mallopt(M_MMAP_THRESHOLD, HEAP_THRESHOLD);
    mallopt(M_TRIM_THRESHOLD, HEAP_THRESHOLD);
    init_locks(m);
    m->in.box.wake = -1;
    if (!queue_init(&m->to_peer) || !queue_init(&m->to_host))
        return LPM_STREAM_ERR_INTERNAL;
    prepare_sockets(&m->options);
    if (load_credentials(m) && control_read_config(m) && prepare(m))
        lock_in(m);
    int status = control_run(m);
    /* No clean-up: threads that could not be joined may still hold what would be freed. */
    _exit(status);
}
