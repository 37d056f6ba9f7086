/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

#include "bytes/bytes.h"
#include "clock.h"
#include "greeting.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* A stranger who connects and says nothing may keep the right peer waiting no longer than this. */
#define GREETING_NS (3ull * NS_PER_S)
/* Between two greetings that failed at once. */
#define PAUSE_NS (200u * NS_PER_MS)
/* A tick that comes so late says that this process stood still. */
#define OWN_STOP_NS (1ull * NS_PER_S)
/* One that comes so late cannot say that an answer was owed all the time. */
#define LATE_NS (300ull * NS_PER_MS)
/* So long an answer must have been seen to be owed, tick by tick. */
#define OWED_NS (300ull * NS_PER_MS)
enum {
    ACCEPT_WAIT_MS = 1000,
    SYSTEM_SILENT_MS = 1200, /* four PINGs, each of which the kernel there acknowledges */
};

/* Whether a loss is the expected end: the peer owes us nothing more, or we are leaving. */
static bool is_over(Mover *mover)
{
    return atomic_load(&mover->stopping) || atomic_load(&mover->peer_closed) ||
           atomic_load(&mover->finishing);
}

static void tell_state(const Link *link, bool up, uint64_t ms_down)
{
    LpmStreamMessage m = {
        .link_state = {.connection = (uint8_t)link->index, .up = up, .ms_down = (uint32_t)ms_down}};
    if (!up)
        memcpy(m.link_state.reason, link->reason.reason, sizeof(m.link_state.reason));
    mover_tell(link->mover, LPM_STREAM_LINK_STATE, &m);
}

static void ask_for_socket(const Link *link)
{
    LpmStreamMessage m = {.need_link = {.connection = (uint8_t)link->index}};
    memcpy(m.need_link.reason, link->reason.reason, sizeof(m.need_link.reason));
    mover_tell(link->mover, LPM_STREAM_NEED_LINK, &m);
}

/* --- up --- */

static void tell_connected(Mover *mover, const Transport *transport)
{
    LpmStreamMessage m = {.connected = {.version = LPM_STREAM_VERSION,
                                        .features = mover->features,
                                        .rtt_us = atomic_load(&mover->rtt_us)}};
    memcpy(m.connected.system, mover->config.peer, sizeof(m.connected.system));
    memcpy(m.connected.cipher, transport->cipher, sizeof(transport->cipher));
    /* First true, then told: lpm-host may answer at once. */
    atomic_store(&mover->state, LPM_STREAM_STATE_COPYING);
    atomic_store(&mover->connected, true);
    mover_tell(mover, LPM_STREAM_CONNECTED, &m);
    gate_open(mover);
}

/* With the lock. What the peer lacks of what went over lost connections goes again. */
static void install_locked(Link *link, Transport *transport, uint64_t received)
{
    Mover *mover = link->mover;
    bool again = link->used;
    uint64_t now = clock_ns();
    link->transport = transport;
    link->used = true;
    link->owed_ns = 0; /* the last one's debt */
    atomic_store(&link->heard_ns, now);
    atomic_store(&link->ping_due, true);
    for (unsigned i = 0; i < mover->n_links; i++)
        if (!mover->links[i].up)
            outbox_lost(&mover->out.box, (int)i, received);
    link->up = true;
    mover->links_up++;
    mover->all_down_ns = 0;
    mover->reconnects += again;
    pthread_cond_broadcast(&mover->link_changed);
    if (again)
        tell_state(link, true, (now - link->lost_ns) / NS_PER_MS);
}

static void install_first(Link *link, Transport *transport)
{
    pthread_mutex_lock(&link->mover->link_lock);
    install_locked(link, transport, 0);
    tell_connected(link->mover, transport);
    if (is_source(link->mover) && link->mover->features & LPM_STREAM_FEATURE_RESUME)
        for (unsigned i = 0; i < link->mover->n_links; i++)
            if (i != link->index)
                ask_for_socket(&link->mover->links[i]);
    pthread_mutex_unlock(&link->mover->link_lock);
}

static bool connect_first(Link *link)
{
    Mover *mover = link->mover;
    Greeted greeted;
    uint64_t deadline_ns = clock_ns() + (uint64_t)mover->config.connect_ms * NS_PER_MS;
    pthread_mutex_lock(&mover->link_lock);
    int fd = lpm_bytes_steal_fd(&mover->options.net[0]);
    pthread_mutex_unlock(&mover->link_lock);
    if (!greet(mover, fd, link->index, deadline_ns, &greeted)) {
        mover_fail(mover, greeted.verdict.code, "no agreement with the target's mover: %.200s",
                   greeted.verdict.reason);
        gate_open(mover);
        return false;
    }
    install_first(link, greeted.transport);
    return true;
}

/* Waits on the lock; at most @ns when it is not 0. */
static void wait_locked(Mover *mover, uint64_t ns)
{
    if (ns == 0) {
        pthread_cond_wait(&mover->link_changed, &mover->link_lock);
        return;
    }
    uint64_t until = clock_ns() + ns;
    struct timespec ts = {.tv_sec = (time_t)(until / NS_PER_S),
                          .tv_nsec = (long)(until % NS_PER_S)};
    pthread_cond_timedwait(&mover->link_changed, &mover->link_lock, &ts);
}

/* With the lock, on the source: greets on the socket that lpm-host gave. */
static void greet_again_locked(Link *link)
{
    Mover *mover = link->mover;
    int fd = lpm_bytes_steal_fd(&link->fd);
    Greeted greeted;
    pthread_mutex_unlock(&mover->link_lock);
    bool good = greet(mover, fd, link->index, clock_ns() + GREETING_NS, &greeted);
    pthread_mutex_lock(&mover->link_lock);
    if (good) {
        install_locked(link, greeted.transport, greeted.received);
        return;
    }
    link->reason = greeted.verdict;
    wait_locked(mover, PAUSE_NS);
    if (!is_over(mover))
        ask_for_socket(link);
}

bool link_bring_up(Link *link)
{
    Mover *mover = link->mover;
    if (is_source(mover) && link->index == 0 && !link->used)
        return connect_first(link);
    pthread_mutex_lock(&mover->link_lock);
    while (!link->up && !is_over(mover)) {
        if (link->newcomer) {
            Transport *transport = link->newcomer;
            link->newcomer = NULL;
            install_locked(link, transport, link->peer_received);
        } else if (link->fd >= 0) {
            greet_again_locked(link);
        } else {
            wait_locked(mover, 0);
        }
    }
    bool up = link->up && !atomic_load(&mover->stopping);
    pthread_mutex_unlock(&mover->link_lock);
    return up;
}

/* --- down --- */

void link_lost(Link *link, LpmStreamError code, const char *reason)
{
    Mover *mover = link->mover;
    pthread_mutex_lock(&mover->link_lock);
    if (!link->up) {
        pthread_mutex_unlock(&mover->link_lock);
        return;
    }
    link->up = false;
    link->lost_ns = clock_ns();
    link->reason = (LpmStreamReason){.code = code};
    snprintf(link->reason.reason, sizeof(link->reason.reason), "%s", reason);
    if (!atomic_load(&mover->stopping)) /* while stopping the last words are still on their way */
        transport_cut(link->transport);
    bool last = --mover->links_up == 0, over = is_over(mover);
    if (last)
        mover->all_down_ns = link->lost_ns;
    else
        outbox_lost(&mover->out.box, (int)link->index, 0);
    if (!over && can_resume(mover)) {
        tell_state(link, false, 0);
        if (is_source(mover))
            ask_for_socket(link);
    }
    pthread_cond_broadcast(&mover->link_changed);
    pthread_mutex_unlock(&mover->link_lock);
    outbox_nudge(&mover->out.box);
    if (!over && last && !can_resume(mover))
        mover_fail(mover, code, "%s", reason);
    /* CLOSE has nowhere to go any more. */
    if (last && over)
        atomic_store(&mover->sender_done, true);
    queue_wake(&mover->to_host);
}

void link_await_lost(Link *link)
{
    Mover *mover = link->mover;
    uint64_t until_ns = clock_ns() + PAUSE_NS, now_ns;
    pthread_mutex_lock(&mover->link_lock);
    while (link->up && !is_over(mover) && (now_ns = clock_ns()) < until_ns)
        wait_locked(mover, until_ns - now_ns);
    pthread_mutex_unlock(&mover->link_lock);
}

void link_retire(Link *link)
{
    Mover *mover = link->mover;
    pthread_mutex_lock(&mover->link_lock);
    while (link->sending && !atomic_load(&mover->stopping))
        pthread_cond_wait(&mover->link_changed, &mover->link_lock);
    if (!link->sending && !link->up && link->transport) {
        mover->lost_wire_out += atomic_load(&link->transport->wire_out);
        mover->lost_wire_in += atomic_load(&link->transport->wire_in);
        transport_free(link->transport);
        link->transport = NULL;
    }
    pthread_mutex_unlock(&mover->link_lock);
}

bool link_hold(Link *link)
{
    Mover *mover = link->mover;
    pthread_mutex_lock(&mover->link_lock);
    while (!link->up && !is_over(mover))
        pthread_cond_wait(&mover->link_changed, &mover->link_lock);
    bool held = link->up; /* also while stopping: the peer is to be told why */
    link->sending = held;
    pthread_mutex_unlock(&mover->link_lock);
    return held;
}

void link_leave(Link *link)
{
    Mover *mover = link->mover;
    pthread_mutex_lock(&mover->link_lock);
    bool lost = !link->up;
    link->sending = false;
    /* What the sender took, or acknowledged, between the loss and now went nowhere, either. */
    if (lost && mover->links_up > 0)
        outbox_lost(&mover->out.box, (int)link->index, 0);
    if (lost)
        atomic_store(&mover->out.ack_due, true);
    pthread_cond_broadcast(&mover->link_changed);
    pthread_mutex_unlock(&mover->link_lock);
    if (lost)
        outbox_nudge(&mover->out.box);
}

bool link_is_up(Link *link)
{
    pthread_mutex_lock(&link->mover->link_lock);
    bool up = link->up;
    pthread_mutex_unlock(&link->mover->link_lock);
    return up;
}

/* --- target: who comes --- */

static int accept_one(Mover *mover, uint64_t deadline_ns)
{
    struct pollfd waiting[LISTENERS_MAX];
    for (unsigned i = 0; i < mover->options.n_net; i++)
        waiting[i] = (struct pollfd){.fd = mover->options.net[i], .events = POLLIN};
    while (!is_over(mover) && clock_ns() < deadline_ns) {
        uint64_t left_ms = (deadline_ns - clock_ns()) / NS_PER_MS + 1;
        int wait_ms = left_ms < ACCEPT_WAIT_MS ? (int)left_ms : ACCEPT_WAIT_MS;
        if (poll(waiting, mover->options.n_net, wait_ms) <= 0)
            continue;
        for (unsigned i = 0; i < mover->options.n_net; i++) {
            int fd = waiting[i].revents ? accept4(waiting[i].fd, NULL, NULL, SOCK_CLOEXEC) : -1;
            if (fd >= 0)
                return fd;
        }
    }
    return -1;
}

static void let_in(Mover *mover, const Greeted *greeted)
{
    Link *link = &mover->links[greeted->connection];
    if (!atomic_load(&mover->connected)) {
        install_first(link, greeted->transport);
        return;
    }
    /* The source knew earlier that the old one is gone. */
    link_lost(link, LPM_STREAM_ERR_LINK, "the source's mover connected anew");
    pthread_mutex_lock(&mover->link_lock);
    Transport *superseded = link->newcomer;
    link->newcomer = greeted->transport;
    link->peer_received = greeted->received;
    pthread_cond_broadcast(&mover->link_changed);
    pthread_mutex_unlock(&mover->link_lock);
    transport_free(superseded);
}

void greeter_main(Mover *mover)
{
    uint64_t deadline_ns = clock_ns() + (uint64_t)mover->config.connect_ms * NS_PER_MS;
    LpmStreamMessage last = {.reason = {.reason = "nobody connected"}};
    while (!is_over(mover)) {
        bool connected = atomic_load(&mover->connected);
        if (connected && !can_resume(mover) && mover->n_links == 1)
            break;
        int fd = accept_one(mover, connected ? UINT64_MAX : deadline_ns);
        if (fd < 0 && !connected && !is_over(mover))
            mover_fail(mover, LPM_STREAM_ERR_CONNECT,
                       "the source's mover did not come within %u ms (last: %.120s)",
                       mover->config.connect_ms, last.reason.reason);
        if (fd < 0)
            continue;
        uint64_t greeting = clock_ns() + GREETING_NS;
        Greeted greeted;
        uint64_t until = !connected && deadline_ns < greeting ? deadline_ns : greeting;
        if (greet(mover, fd, 0, until, &greeted)) {
            let_in(mover, &greeted);
        } else if (!atomic_load(&mover->stopping)) {
            last.reason = greeted.verdict;
            mover_tell(mover, LPM_STREAM_REFUSED, &last);
        }
    }
    pthread_mutex_lock(&mover->link_lock);
    for (unsigned i = 0; i < mover->options.n_net; i++)
        lpm_bytes_close(&mover->options.net[i]);
    pthread_mutex_unlock(&mover->link_lock);
    gate_open(mover);
}

/* --- main thread --- */

bool link_take_socket(Mover *mover, unsigned connection, int fd)
{
    pthread_mutex_lock(&mover->link_lock);
    bool wanted = is_source(mover) && connection < mover->n_links && !mover->links[connection].up &&
                  mover->links[connection].fd < 0;
    if (wanted)
        mover->links[connection].fd = lpm_bytes_steal_fd(&fd);
    pthread_cond_broadcast(&mover->link_changed);
    pthread_mutex_unlock(&mover->link_lock);
    lpm_bytes_close(&fd);
    return wanted;
}

/*
 * Milliseconds since the other system's kernel answered anything; 0 where that cannot be known, or
 * says nothing: to a full window nothing is sent that it could answer soon.
 */
static uint64_t kernel_silent_ms(const Transport *transport)
{
    struct tcp_info info;
    socklen_t size = sizeof(info);
    memset(&info, 0, sizeof(info));
    bool known = getsockopt(transport->fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0;
    return known && info.tcpi_unacked > 0 ? info.tcpi_last_ack_recv : 0;
}

/*
 * One look does not tell: what is owed may have been sent just now, by a thread that was late, and
 * nothing for a long time before it.
 */
static bool kernel_is_silent(Link *link, uint64_t now_ns)
{
    pthread_mutex_lock(&link->mover->link_lock);
    uint64_t silent_ms = link->up ? kernel_silent_ms(link->transport) : 0;
    if (silent_ms == 0)
        link->owed_ns = 0;
    else if (link->owed_ns == 0)
        link->owed_ns = now_ns;
    bool silent = silent_ms > SYSTEM_SILENT_MS && now_ns - link->owed_ns >= OWED_NS;
    pthread_mutex_unlock(&link->mover->link_lock);
    return silent;
}

/*
 * Why a connection that is up counts as lost; false when it does not. The other mover may be late
 * because its system is busy: as long as the kernel there acknowledges what it gets, PINGs at
 * least, that is no dead system.
 */
static bool is_silent(Link *link, uint64_t now_ns, char reason[TRANSPORT_REASON_MAX])
{
    Mover *mover = link->mover;
    bool kernel_silent = kernel_is_silent(link, now_ns);
    uint64_t heard_ns = atomic_load(&link->heard_ns);
    uint64_t silent_ms = now_ns > heard_ns ? (now_ns - heard_ns) / NS_PER_MS : 0;
    if (silent_ms > mover->config.silence_ms) {
        snprintf(reason, TRANSPORT_REASON_MAX,
                 "nothing heard from the other system's mover for %u ms", mover->config.silence_ms);
        return true;
    }
    snprintf(reason, TRANSPORT_REASON_MAX, "no answer of any kind from the other system for %u ms",
             SYSTEM_SILENT_MS);
    return kernel_silent && silent_ms > SYSTEM_SILENT_MS;
}

/* Who was stopped itself has heard nobody: what came meanwhile is read first. */
static void forgive_own_stop(Mover *mover, uint64_t now_ns)
{
    uint64_t since_ns = mover->watched_ns ? now_ns - mover->watched_ns : 0;
    pthread_mutex_lock(&mover->link_lock);
    for (unsigned i = 0; i < mover->n_links; i++) {
        if (since_ns > LATE_NS)
            mover->links[i].owed_ns = 0;
        if (since_ns > OWN_STOP_NS)
            atomic_store(&mover->links[i].heard_ns, now_ns);
    }
    pthread_mutex_unlock(&mover->link_lock);
    mover->watched_ns = now_ns;
}

void link_watch(Mover *mover, uint64_t now_ns, bool ping)
{
    forgive_own_stop(mover, now_ns);
    if (is_over(mover) || !atomic_load(&mover->connected))
        return;
    char reason[TRANSPORT_REASON_MAX];
    for (unsigned i = 0; i < mover->n_links; i++) {
        Link *link = &mover->links[i];
        if (ping)
            atomic_store(&link->ping_due, true);
        if (link_is_up(link) && is_silent(link, now_ns, reason))
            link_lost(link, LPM_STREAM_ERR_LINK, reason);
    }
    if (ping)
        outbox_nudge(&mover->out.box);
    pthread_mutex_lock(&mover->link_lock);
    uint64_t since = mover->all_down_ns;
    LpmStreamReason last = mover->links[0].reason;
    pthread_mutex_unlock(&mover->link_lock);
    if (since && now_ns > since && now_ns - since > (uint64_t)mover->config.retry_ms * NS_PER_MS)
        mover_fail(mover, LPM_STREAM_ERR_LINK,
                   "no connection to the other system's mover for %u s (last: %.150s)",
                   mover->config.retry_ms / 1000, last.reason);
}

void link_wake_all(Mover *mover)
{
    pthread_mutex_lock(&mover->link_lock);
    pthread_cond_broadcast(&mover->link_changed);
    pthread_mutex_unlock(&mover->link_lock);
}

void link_cut_all(Mover *mover)
{
    pthread_mutex_lock(&mover->link_lock);
    for (unsigned i = 0; i < mover->n_links; i++) {
        if (mover->links[i].transport)
            transport_cut(mover->links[i].transport);
        if (mover->links[i].greeting_fd >= 0)
            shutdown(mover->links[i].greeting_fd, SHUT_RDWR);
    }
    for (unsigned i = 0; i < mover->options.n_net; i++)
        if (mover->options.net[i] >= 0)
            shutdown(mover->options.net[i], SHUT_RDWR);
    pthread_cond_broadcast(&mover->link_changed);
    pthread_mutex_unlock(&mover->link_lock);
}

LinkTotals link_totals(Mover *mover)
{
    pthread_mutex_lock(&mover->link_lock);
    LinkTotals t = {.wire_out = mover->lost_wire_out,
                    .wire_in = mover->lost_wire_in,
                    .reconnects = mover->reconnects,
                    .up = mover->links_up};
    for (unsigned i = 0; i < mover->n_links; i++)
        if (mover->links[i].transport) {
            t.wire_out += atomic_load(&mover->links[i].transport->wire_out);
            t.wire_in += atomic_load(&mover->links[i].transport->wire_in);
        }
    pthread_mutex_unlock(&mover->link_lock);
    return t;
}
