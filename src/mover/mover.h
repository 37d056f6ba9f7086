/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One mover: what its threads share. The main thread has the control descriptor and the clock; each
 * direction has two more.
 *
 *   out: the sender (VASI to link), and on the source the hasher (digest of what was sent)
 *   in:  the receiver (link to memory) and the writer (memory to VASI, digest)
 *
 * All are made before the sandbox closes, and wait at the gate.
 */
#pragma once

#include "queue.h"
#include "ring.h"
#include "throttle.h"
#include "transport.h"

typedef struct Mover Mover;

enum {
    DEFAULT_WINDOW = 4 * 1024 * 1024,
    MIN_WINDOW = 1024 * 1024,
    FRAME_MAX = LPM_STREAM_HEADER_SIZE + LPM_STREAM_BODY_MAX,
    THREADS_MAX = 4,
    PROBE_PINGS = 10,
};

typedef struct {
    int control, net, vasi, memory, cert, key, ca; /* -1: not given */
    const char *fault;                             /* test builds only */
} MoverOptions;

/* From QEMU to the peer. Owned by the sender; the others as said. */
typedef struct {
    Ring ring;
    uint64_t sequence; /* of the last ordered record sent */
    uint64_t offset;   /* bytes of stream sent */
    bool vasi_ended;   /* QEMU closed its side */
    bool fin_sent, close_sent;
    uint64_t acked_frames; /* last ACK sent */
    uint64_t stall_began_ns;

    pthread_mutex_t digest_lock; /* the digest and last_end */
    StreamDigest digest;         /* fed by the hasher */
    LpmStreamEnd last_end;       /* last END sent */
    _Atomic bool end_wanted;     /* by the peer (CHECK) or by FIN */
    _Atomic bool end_eager;      /* after SWITCHOVER: at every pause */

    /* Not ordered: what the other threads want said. */
    _Atomic bool ping_due, ack_due;
    _Atomic bool wants_room;     /* the sender waits for the ring to be emptied */
    _Atomic uint64_t pong_stamp; /* 0: none due */
} Outflow;

/* From the peer to QEMU. Owned by the writer. */
typedef struct {
    Ring ring;
    LpmStreamVerifier verifier; /* the receiver's */
    _Atomic uint64_t handed_frames, handed_offset;
    uint64_t unacked_bytes, unacked_frames; /* handed on since the last wish for an ACK */

    pthread_mutex_t check_lock; /* what follows */
    uint64_t accepted;          /* bytes of stream taken for QEMU, before they are written */
    StreamDigest digest;
    LpmStreamEnd verified; /* last END that was right */
    bool check_wanted;     /* lpm-host waits for DIGEST_OK */
    bool digest_ok;        /* said */
} Inflow;

/* Memory comparison; see verify.h. */
typedef struct {
    uint64_t seed, pages;
    uint8_t *buffer;
    _Atomic bool running; /* target, sender: hashes are being sent */
    uint64_t next;        /* target, sender: page */
    _Atomic uint64_t done;
    LpmStreamVerified result; /* writer */
    uint8_t *outgoing;        /* source, writer: pages not yet sent */
    uint32_t outgoing_size;
} Verify;

typedef struct {
    uint64_t first_ns, last_ns, bytes; /* target, writer */
    _Atomic unsigned pongs;
    _Atomic bool go;
} Probe;

struct Mover {
    MoverOptions options;
    LpmStreamConfig config;
    TransportCredentials *credentials;
    Transport *transport; /* valid once connected */
    uint64_t features;    /* agreed */
    uint64_t window;      /* what the peer takes unacknowledged */
    Queue to_peer, to_host;
    Outflow out;
    Inflow in;
    Verify verify;
    Probe probe;
    Throttle throttle;

    _Atomic uint8_t state; /* LpmStreamState */
    _Atomic bool connected, stopping, peer_closed, finishing;
    _Atomic bool sender_done; /* it has said CLOSE, or after the peer's CLOSE found nobody there */
    _Atomic int link_fd;      /* what to shut down to wake the receiver while connecting; -1 */
    _Atomic uint64_t heard_ns;
    _Atomic uint64_t stalls, stall_ns, acked_offset, out_offset;
    _Atomic uint32_t rtt_us;

    pthread_mutex_t gate_lock;
    pthread_cond_t gate_changed;
    bool gate_open; /* connected, or stopping */
    bool sandboxed;
    unsigned running; /* threads at the gate or at work */
    pthread_t threads[THREADS_MAX];
    unsigned n_threads;

    /* The first failure; later ones are consequences. */
    pthread_mutex_t failure_lock;
    LpmStreamReason failure;
};

static inline bool is_source(const Mover *mover)
{
    return mover->config.side == LPM_STREAM_SIDE_SRC;
}

/* Notes why the mover ends and wakes everybody; returns false, for `return mover_fail(...)`. From
 * any thread. */
bool mover_fail(Mover *mover, LpmStreamError code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* A record to lpm-host. */
void mover_tell(Mover *mover, uint32_t type, const LpmStreamMessage *message);
/* A record to the peer; fails the mover when it cannot be taken. Nothing when the peer has said
 * CLOSE. */
void mover_send(Mover *mover, uint32_t type, const LpmStreamMessage *message);

/* Threads; each takes a Mover and returns NULL when it stops. */
void *receiver_main(void *mover);
void *writer_main(void *mover);
void *sender_main(void *mover);
void *hasher_main(void *mover);

/* Sender: an ordered record into the ring and onto the link. */
bool sender_send(Mover *mover, uint32_t type, const LpmStreamMessage *message);
/* Sender: bytes that may still go before the peer must acknowledge. */
uint64_t sender_window_left(Mover *mover);
/* Starts the threads; they wait for gate_sandboxed(), then gate_open(). */
bool gate_start_threads(Mover *mover);
void gate_sandboxed(Mover *mover);
/* Waits until the mover is connected; false when it stops instead. */
bool gate_wait(Mover *mover);
void gate_open(Mover *mover);
/* Waits at most @ms until all threads have ended. */
bool gate_join(Mover *mover, unsigned ms);

/* Finds the peer and agrees with it; in the receiver. On success transport and all that was agreed
 * are set. */
bool link_establish(Mover *mover);
