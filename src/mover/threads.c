/* SPDX-License-Identifier: Apache-2.0 */
/* The mover's threads, their gate, and what they call when something goes wrong. */
#include "mover.h"

#include "clock.h"
#include "crash/crash.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>

bool mover_fail(Mover *mover, LpmStreamError code, const char *format, ...)
{
    pthread_mutex_lock(&mover->failure_lock);
    if (mover->failure.code == LPM_STREAM_ERR_NONE) {
        va_list args;
        va_start(args, format);
        vsnprintf(mover->failure.reason, sizeof(mover->failure.reason), format, args);
        va_end(args);
        mover->failure.code = code ? code : LPM_STREAM_ERR_INTERNAL;
    }
    pthread_mutex_unlock(&mover->failure_lock);
    atomic_store(&mover->stopping, true);
    queue_wake(&mover->to_host);
    queue_wake(&mover->to_peer);
    outbox_nudge(&mover->out.box);
    return false;
}

/* Of the messages that say how far a move is; of a probe there are none. */
static void message_point(const Mover *mover, const char *way, uint32_t type, const char *when)
{
    static const struct {
        uint32_t type;
        const char *name;
    } names[] = {
        {LPM_STREAM_READY, "ready"},         {LPM_STREAM_CONNECTED, "connected"},
        {LPM_STREAM_DIGEST_OK, "digest-ok"}, {LPM_STREAM_LOADED, "loaded"},
        {LPM_STREAM_HINT, "hint"},           {LPM_STREAM_CLOSE, "close"},
    };
    char what[32];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (names[i].type == type && mover->config.mode == LPM_STREAM_MODE_MOVE) {
            snprintf(what, sizeof(what), "%s-%s", way, names[i].name);
            LPM_CRASH_POINT(is_source(mover) ? "mover-src" : "mover-dst", what, when);
        }
}

void mover_tell(Mover *mover, uint32_t type, const LpmStreamMessage *message)
{
    message_point(mover, "tell", type, "before");
    if (!queue_push(&mover->to_host, type, message) && !atomic_load(&mover->stopping))
        mover_fail(mover, LPM_STREAM_ERR_COMMAND, "lpm-host does not take what it is told (%s)",
                   lpm_stream_type_name(type));
}

void mover_send(Mover *mover, uint32_t type, const LpmStreamMessage *message)
{
    if (atomic_load(&mover->peer_closed) && type != LPM_STREAM_CLOSE)
        return;
    message_point(mover, "send", type, "before");
    if (!queue_push(&mover->to_peer, type, message) && !atomic_load(&mover->stopping))
        mover_fail(mover, LPM_STREAM_ERR_COMMAND, "too many records wait for the peer (%s)",
                   lpm_stream_type_name(type));
}

void mover_publish_counts(Mover *mover, const LpmCodecCounts *counts)
{
    pthread_mutex_lock(&mover->link_lock);
    mover->counts = (LpmStreamCodedCounts){.pages_zero = counts->pages_zero,
                                           .pages_same = counts->pages_same,
                                           .pages_reference = counts->pages_reference,
                                           .pages_delta = counts->pages_delta,
                                           .pages_literal = counts->pages_literal,
                                           .raw_bytes = counts->bytes_raw,
                                           .coded_bytes = counts->bytes_coded};
    pthread_mutex_unlock(&mover->link_lock);
}

typedef struct {
    const char *name; /* what people see in top and in a debugger */
    Mover *mover;
    void (*of_mover)(Mover *mover);
    void (*of_link)(Link *link);
    Link *link;
    void (*of_outlet)(Outlet *outlet);
    Outlet *outlet;
} Start;

static Start starts[THREADS_MAX];

static void *thread_main(void *context)
{
    const Start *start = context;
    Mover *mover = start->mover;
    pthread_mutex_lock(&mover->gate_lock);
    mover->running++;
    pthread_cond_broadcast(&mover->gate_changed);
    while (!mover->sandboxed)
        pthread_cond_wait(&mover->gate_changed, &mover->gate_lock);
    pthread_mutex_unlock(&mover->gate_lock);
    if (start->link)
        start->of_link(start->link);
    else if (start->outlet)
        start->of_outlet(start->outlet);
    else
        start->of_mover(mover);
    pthread_mutex_lock(&mover->gate_lock);
    mover->running--;
    pthread_cond_broadcast(&mover->gate_changed);
    /* Stays until the process ends: giving back a stack asks for system calls that the sandbox need
     * not allow. */
    for (;;)
        pthread_cond_wait(&mover->gate_changed, &mover->gate_lock);
    return NULL;
}

static bool start_thread(Start start)
{
    Mover *mover = start.mover;
    unsigned n = mover->n_threads;
    pthread_t thread;
    starts[n] = start;
    if (pthread_create(&thread, NULL, thread_main, &starts[n]) != 0)
        return false;
    (void)pthread_setname_np(thread, start.name);
    mover->n_threads = n + 1;
    return true;
}

bool gate_start_threads(Mover *mover)
{
    bool good = start_thread((Start){"coder", .mover = mover, .of_mover = coder_main}) &&
                start_thread((Start){"writer", .mover = mover, .of_mover = writer_main}) &&
                (is_source(mover) ||
                 start_thread((Start){"greeter", .mover = mover, .of_mover = greeter_main}));
    for (unsigned i = 0; good && i < mover->n_links; i++) {
        Link *link = &mover->links[i];
        good =
            start_thread(
                (Start){"receiver", .mover = mover, .of_link = receiver_main, .link = link}) &&
            start_thread((Start){"sender", .mover = mover, .of_link = sender_main, .link = link});
    }
    for (unsigned i = 0; good && mover->outlets && i < mover->n_channels; i++)
        good = start_thread((Start){"outlet", .mover = mover, .of_outlet = outlet_main,
                                    .outlet = &mover->outlets[i]});
    /* A thread's first steps are the C library's, with calls that the sandbox need not allow. */
    pthread_mutex_lock(&mover->gate_lock);
    while (mover->running < mover->n_threads)
        pthread_cond_wait(&mover->gate_changed, &mover->gate_lock);
    pthread_mutex_unlock(&mover->gate_lock);
    return good;
}

void gate_sandboxed(Mover *mover)
{
    pthread_mutex_lock(&mover->gate_lock);
    mover->sandboxed = true;
    pthread_cond_broadcast(&mover->gate_changed);
    pthread_mutex_unlock(&mover->gate_lock);
}

bool gate_wait(Mover *mover)
{
    pthread_mutex_lock(&mover->gate_lock);
    while (!mover->gate_open)
        pthread_cond_wait(&mover->gate_changed, &mover->gate_lock);
    pthread_mutex_unlock(&mover->gate_lock);
    return atomic_load(&mover->connected);
}

void gate_open(Mover *mover)
{
    pthread_mutex_lock(&mover->gate_lock);
    mover->gate_open = true;
    pthread_cond_broadcast(&mover->gate_changed);
    pthread_mutex_unlock(&mover->gate_lock);
}

bool gate_join(Mover *mover, unsigned ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + (uint64_t)ms * NS_PER_MS;
    until.tv_sec += (time_t)(ns / NS_PER_S);
    until.tv_nsec = (long)(ns % NS_PER_S);
    int rc = 0;
    pthread_mutex_lock(&mover->gate_lock);
    while (mover->running > 0 && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&mover->gate_changed, &mover->gate_lock, &until);
    bool all = mover->running == 0;
    pthread_mutex_unlock(&mover->gate_lock);
    return all;
}
