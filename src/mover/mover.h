/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One mover: what its threads share. The main thread has the control descriptor and the clock.
 *
 *   out: the coder (VASI to outbox: reads QEMU, codes, hashes), a sender for each connection
 *
 *   in: a receiver for each connection (link to inbox), the writer (inbox to VASI: decodes, hashes)
 *
 *   target only: the greeter, who lets connections in; with several channels an outlet for each
 *
 * Locks: failure, gate, throttle, digest, check, and those of outbox, inbox, queues and outlets are
 * held for moments and take no other one; link_lock may be held while any of them is taken.
 *
 * All are made before the sandbox closes, and wait at the gate.
 */
#pragma once

#include "channel.h"
#include "digest.h"
#include "effort.h"
#include "image.h"
#include "inbox.h"
#include "outbox.h"
#include "outlet.h"
#include "queue.h"
#include "throttle.h"
#include "transport.h"

#include "codec/codec.h"

typedef struct Mover Mover;

enum { BASE_UNKNOWN, BASE_NONE, BASE_USABLE };

enum {
    DEFAULT_WINDOW = 4 * 1024 * 1024,
    MIN_WINDOW = 1024 * 1024,
    RAW_WINDOW = 24 * 1024 * 1024, /* bytes of stream kept for a MISS */
    FRAME_MAX = LPM_STREAM_HEADER_SIZE + LPM_STREAM_BODY_MAX,
    LINKS_MAX = LPM_STREAM_CONNECTIONS_MAX,
    CHANNELS_MAX = LPM_STREAM_CHANNELS_MAX + 1, /* with the main stream, number 0 */
    LISTENERS_MAX = 8,
    THREADS_MAX = 2 * LINKS_MAX + CHANNELS_MAX + 3,
    PROBE_PINGS = 10,
    PROBE_BURST = 512 * 1024, /* of a probe's bytes: not counted */
};

typedef struct {
    int control, memory, image, cert, key, ca; /* -1: not given */
    int net[LISTENERS_MAX];                    /* source: the first connection; target: listeners */
    unsigned n_net;
    int vasi;          /* QEMU's only connection; -1 with several channels */
    const char *fault; /* test builds only */
} MoverOptions;

/* One of QEMU's sockets and what went through it from QEMU; but for @fd the coder's. */
typedef struct {
    _Atomic int fd;  /* -1: not here yet */
    uint64_t offset; /* bytes read */
    bool ended;      /* QEMU closed its side */
    StreamDigest digest;
} Channel;

/* One connection to the peer. Its two threads own the transport while it is up. */
typedef struct {
    Mover *mover;
    unsigned index;
    _Atomic bool ping_due;
    _Atomic uint64_t pong_stamp; /* 0: none due */
    _Atomic uint64_t heard_ns;
    uint64_t nudges; /* seen by the sender */
    /* What follows is under the mover's link_lock. */
    uint64_t owed_ns; /* since when the other kernel owes an answer; 0: it does not */
    Transport *transport;
    bool up;
    bool sending;           /* the sender uses the transport */
    bool used;              /* was up before */
    int fd;                 /* source: from lpm-host, to be greeted; -1 */
    int greeting_fd;        /* what to shut down to wake who greets; target: link 0's; -1 */
    Transport *newcomer;    /* target: greeted, to take over */
    uint64_t peer_received; /* what the peer said it has, when the connection came up */
    uint64_t lost_ns;
    LpmStreamReason reason; /* of the loss */
} Link;

/* From QEMU to the peer. Owned by the coder; the others as said. */
typedef struct {
    Outbox box;
    uint64_t offset; /* bytes of stream read, of all channels */
    bool vasi_ended; /* QEMU closed its side of the main stream */
    bool fin_sent;
    bool close_queued; /* nothing more is put */
    _Atomic bool close_sent;
    uint64_t stall_began_ns;

    pthread_mutex_t digest_lock; /* last_end */
    LpmStreamEnd last_end;       /* last END sent */
    _Atomic bool end_wanted;     /* by the peer (CHECK) or by FIN */
    _Atomic bool end_eager;      /* after SWITCHOVER: at every pause */

    _Atomic bool ack_due;    /* also after a loss, which may have taken one with it */
    _Atomic bool wants_room; /* the coder waits for an acknowledgement */
} Outflow;

/* From the peer to QEMU. Owned by the writer. */
typedef struct {
    Inbox box;
    _Atomic uint64_t handed_frames, handed_offset; /* offset: of all channels */
    _Atomic uint64_t close_sequence;               /* of the peer's CLOSE; 0: not come */
    uint64_t channel_offset[CHANNELS_MAX];
    bool channel_ended[CHANNELS_MAX];
    /* Handed on since the last wish for an ACK; stream: of all channels, as QEMU wrote it. */
    uint64_t unacked_bytes, unacked_frames, acked_stream;

    pthread_mutex_t check_lock; /* what follows */
    uint64_t accepted;          /* bytes of stream taken for QEMU, before they are written */
    StreamDigest digest[CHANNELS_MAX];
    LpmStreamEnd verified; /* last END that was right */
    bool check_wanted;     /* lpm-host waits for DIGEST_OK */
    bool digest_ok;        /* said */
} Inflow;

/* Memory comparison; see verify.h. */
typedef struct {
    uint64_t seed, pages;
    uint8_t *buffer;
    _Atomic bool running; /* target, coder: hashes are being sent */
    uint64_t next;        /* target, coder: page */
    _Atomic uint64_t done;
    LpmStreamVerified result; /* writer */
    uint8_t *outgoing;        /* source, writer: pages not yet sent */
    uint32_t outgoing_size;
} Verify;

typedef struct {
    uint64_t first_ns, last_ns, bytes; /* target, writer */
    uint64_t began_ns;                 /* source, coder */
    _Atomic unsigned pongs;
    _Atomic bool go;
} Probe;

struct Mover {
    MoverOptions options;
    LpmStreamConfig config;
    TransportCredentials *credentials;
    uint64_t features; /* agreed */
    uint64_t window;   /* bytes of frames that may be unacknowledged, in each direction */
    Queue to_peer, to_host;
    Outflow out;
    Inflow in;
    Image image;
    _Atomic int base_answer; /* source: BASE_ACK's */
    Effort effort;
    Verify verify;
    Probe probe;
    Throttle throttle;
    pthread_mutex_t throttle_lock;

    Channel channels[CHANNELS_MAX];
    unsigned n_channels; /* with the main stream */
    Outlet *outlets;     /* target with several channels: as many */

    Link links[LINKS_MAX];
    unsigned n_links;
    pthread_mutex_t link_lock;
    pthread_cond_t link_changed;
    unsigned links_up;
    uint64_t watched_ns;                  /* main thread: the last link_watch() */
    uint64_t all_down_ns;                 /* since when none is up; 0: one is */
    uint64_t lost_wire_out, lost_wire_in; /* of connections that are gone */
    uint32_t reconnects;

    LpmStreamCodedCounts counts; /* under link_lock */

    _Atomic uint8_t state; /* LpmStreamState */
    _Atomic bool connected, stopping, finishing;
    _Atomic bool peer_closed; /* its CLOSE is here, and all that it said before */
    _Atomic bool sender_done; /* CLOSE is said, or nobody is there for it */
    _Atomic uint64_t stalls, stall_ns, acked_offset, out_offset;
    _Atomic uint64_t blocked_ns; /* senders waited for the link */
    _Atomic uint32_t rtt_us;

    pthread_mutex_t gate_lock;
    pthread_cond_t gate_changed;
    bool gate_open; /* connected, or stopping */
    bool sandboxed;
    unsigned running; /* threads at the gate or at work */
    unsigned n_threads;

    /* The first failure; later ones are consequences. */
    pthread_mutex_t failure_lock;
    LpmStreamReason failure;
};

static inline bool is_source(const Mover *mover)
{
    return mover->config.side == LPM_STREAM_SIDE_SRC;
}

/* Whether a lost connection ends nothing. */
static inline bool can_resume(const Mover *mover)
{
    return mover->config.retry_ms > 0 && mover->features & LPM_STREAM_FEATURE_RESUME;
}

/* Notes why the mover ends and wakes everybody; returns false, for `return mover_fail(...)`. From
 * any thread. */
bool mover_fail(Mover *mover, LpmStreamError code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* A record to lpm-host. */
void mover_tell(Mover *mover, uint32_t type, const LpmStreamMessage *message);
/* An ordered record to the peer; fails the mover when it cannot be taken. Nothing when the peer has
 * said CLOSE. */
void mover_send(Mover *mover, uint32_t type, const LpmStreamMessage *message);
/* The counters of coding, for STATS. From one thread only. */
void mover_publish_counts(Mover *mover, const LpmCodecCounts *counts);

/* Threads. */
void receiver_main(Link *link);
void sender_main(Link *link);
void coder_main(Mover *mover);
void writer_main(Mover *mover);
void greeter_main(Mover *mover);

/* Coder: an ordered record into the outbox. */
bool coder_send(Mover *mover, uint32_t type, const LpmStreamMessage *message);

/* Starts the threads; they wait for gate_sandboxed(), then gate_open(). */
bool gate_start_threads(Mover *mover);
void gate_sandboxed(Mover *mover);
/* Waits until the mover is connected; false when it stops instead. */
bool gate_wait(Mover *mover);
void gate_open(Mover *mover);
/* Waits at most @ms until all threads have ended. */
bool gate_join(Mover *mover, unsigned ms);
