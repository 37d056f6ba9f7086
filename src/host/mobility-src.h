/* SPDX-License-Identifier: Apache-2.0 */
/* The source half's own part, shared by its files. */
#pragma once

#include "host/channels.h"
#include "host/dial.h"
#include "host/migration.h"

struct SrcMove;
typedef void (*LpmSrcGoOn)(struct SrcMove *move);

/* One connection being made, again or besides the first. */
enum { LPM_SRC_ARRIVED = 12 };

typedef struct {
    struct SrcMove *move;
    LpmDial *dial;     /* NULL: none is wanted */
    int64_t handed_us; /* monotonic: when the last one was handed over; 0: never */
} LpmRedial;

typedef struct SrcMove {
    LpmMigration base;
    /* migration-start */
    LpmHostDone started; /* NULL once answered */
    void *started_data;
    json_t *addresses;
    uint16_t port;
    char *key;
    char *image_key; /* of the image that the target keeps; NULL: none */
    LpmRedial redials[LPM_STREAM_CONNECTIONS_MAX]; /* connections that the mover wants */
    int vasi;             /* QEMU's end, until QEMU has it; -1 with several channels */
    LpmChannels channels; /* QEMU's connections, until the mover has them */
    int memory_fd;        /* borrowed from the partition; -1: not verified */
    /* copying */
    guint poll_timer, ask_timer, limit_timer, hurry_timer;
    bool polling, holding;
    unsigned polls, limit_ms;
    int64_t copy_mono_us; /* when copying began */
    int64_t told_ms;      /* downtime-limit that QEMU was given last */
    uint64_t qemu_rate;   /* max-bandwidth that QEMU has */
    uint64_t wire_then, stream_then;
    int64_t then_us; /* when those were read */
    struct {
        int64_t at_us;
        uint64_t acked;
    } arrived[LPM_SRC_ARRIVED]; /* a ring: what the target had handed on, and when */
    unsigned n_arrived;
    uint64_t rate;       /* bytes/s of stream over that time */
    bool going_postcopy; /* migrate-start-postcopy was sent, or will be */
    bool held;           /* the partition was stopped before that, by us */
    bool relinking;      /* the mover is one that goes on with a paused post-copy */
    unsigned relink_tries;
    bool given;               /* post-copy: QEMU has given all memory */
    bool whole;               /* and the target has found it right */
    LpmSrcGoOn scripts_go_on; /* once they were told; NULL */
    /* switchover */
    bool continued; /* migrate-continue was sent */
    bool peer_loaded, offering;
    int64_t stop_mono_us, offer_mono_us; /* of the last STOP without a RESUME; 0: none */
    int64_t switch_mono_us;              /* when QEMU came to pre-switchover */
    /* rows */
    bool device_over;    /* QEMU said that there is nothing to yank any more */
    bool doubt_seen;     /* a doubtful connection was used for what it still takes */
    bool explained;      /* the error has its second half */
    bool ending_qemu;    /* its end is our doing */
    bool word_ends_qemu; /* and somebody's word's, which may have been given up since */
    guint word_timer;
    uint64_t word_revision; /* of the record that the word was given for */
    LpmQmpRunState state;   /* seen last */
} SrcMove;

void lpm_src_qmp_event(LpmPartition *partition, const LpmQmpEvent *event, void *data);
/* Tells QEMU how to copy and lets it begin, now that the mover is connected. */
void lpm_src_copy(SrcMove *move);
/* The link is lost or back: QEMU must not come to the switchover while it is lost. */
void lpm_src_copy_link(SrcMove *move);
/* A pass has ended: looks how far it is. */
void lpm_src_copy_look(SrcMove *move);
void lpm_src_set_parameter(SrcMove *move, const char *name, int64_t value);
/* The partition stands still from now on at the latest, and only for so long. */
void lpm_src_stands_still(SrcMove *move);
/* Once the arbiter answers: stops the partition, then QEMU goes on to post-copy. */
void lpm_src_go_postcopy(SrcMove *move);
/* QEMU serves memory. */
void lpm_src_note_serving(SrcMove *move, const LpmQmpMigration *mig);
/* Nothing came of it: the partition that was stopped for post-copy was never offered. */
bool lpm_src_is_held(const SrcMove *move, LpmQmpRunState run, LpmQmpMigStatus mig);
/* Lets such a one run, and looks again. */
void lpm_src_let_run(SrcMove *move);
/* Calls @go_on once the scripts in the partition were told, at once where there are none. */
void lpm_src_scripts_first(SrcMove *move, LpmSrcGoOn go_on);
/* Offers the partition; from here on the rows decide. */
void lpm_src_offer(SrcMove *move);
/* The TCP connection to the target's mover stands, or does not. An LpmDialDone. */
void lpm_src_tcp_connected(int fd, const GError *error, void *data);
/* The mover wants this connection: makes it, however long that takes, and hands it over. */
void lpm_src_redial(SrcMove *move, const LpmStreamNeedLink *wanted);
/* Begins the attempts that are under way anew: what was sent into a link that was down is lost. */
void lpm_src_dial_again(SrcMove *move);
/* No connection is needed any more. */
void lpm_src_stop_dialing(SrcMove *move);
/* Answers who waits for migration-start, a new connection or a word, once. */
void lpm_src_answer(SrcMove *move, const GError *error);
/* Answers who asked for a new connection of a paused post-copy: something else came first. */
void lpm_src_relink_is_off(SrcMove *move);
