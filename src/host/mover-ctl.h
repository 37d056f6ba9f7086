/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts one lpm-mover, talks to it over its control descriptor, and notices its end
 * (docs/spec/mover.md). It never decides: what it hears goes to its handlers.
 */
#pragma once

#include "base/error.h"
#include "stream/stream.h"

typedef struct LpmMover LpmMover;

typedef struct {
    /* One event of the mover; @message is valid during the call. May let go of the mover. */
    void (*event)(uint32_t type, const LpmStreamMessage *message, void *data);
    /*
     * It has ended, or its control descriptor is of no more use, although it was not let go. @error
     * has its own words (MOVER, NETWORK or ABORTED). Called once; the mover is still to be let go.
     */
    void (*gone)(const GError *error, void *data);
    void *data;
} LpmMoverHandlers;

enum { LPM_MOVER_NETS_MAX = 8 };

/* Descriptors are duplicated for the mover and stay the caller's; -1: none. */
typedef struct {
    const char *program;
    const int *nets; /* source: one connected socket; target: those that listen */
    unsigned n_nets; /* 1 to LPM_MOVER_NETS_MAX */
    int vasi, memory, image;
    const char *cert_path, *key_path, *ca_path; /* files of the identity */
    LpmStreamConfig config;                     /* sent at once */
} LpmMoverSpec;

LpmMover *lpm_mover_start(const LpmMoverSpec *spec, const LpmMoverHandlers *handlers,
                          GError **error);

/* Sends one control record; @message may be NULL for those without a body. Never blocks. */
void lpm_mover_send(LpmMover *mover, uint32_t type, const LpmStreamMessage *message);
/* LINK: @fd, a connected socket, is this connection. Takes @fd. */
void lpm_mover_send_link(LpmMover *mover, uint8_t connection, int fd);
/* CHANNEL: @fd is QEMU's socket of this channel. Takes @fd. */
void lpm_mover_send_channel(LpmMover *mover, uint8_t channel, int fd);
/* PEER with @text, a message of at most LPM_STREAM_PEER_MAX bytes. */
void lpm_mover_send_peer(LpmMover *mover, const char *text);
void lpm_mover_send_hint(LpmMover *mover, uint64_t epoch, uint32_t what);

bool lpm_mover_is_alive(const LpmMover *mover);

/*
 * Lets go: no handler is called any more, @mover is not to be used. _finish asks for an orderly end
 * (FINISH), _abort for a quick one with a reason for the peer (ABORT); either way it is killed when
 * it has not ended in time, and reaped. NULL is fine.
 */
void lpm_mover_finish(LpmMover *mover);
void lpm_mover_abort(LpmMover *mover, const char *reason);
/* Lets go and kills at once. */
void lpm_mover_kill(LpmMover *mover);

/*
 * A socketpair for QEMU's stream with big buffers, close-on-exec. False with errno's reason.
 */
bool lpm_mover_vasi(int *ret_qemu, int *ret_mover, GError **error);
