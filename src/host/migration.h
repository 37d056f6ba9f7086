/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both halves of a move have in common: journal, record, phases, status, and the loop that
 * looks at everything and takes the one row of lib/mobility that applies. The halves are
 * mobility-src.c and mobility-dst.c.
 */
#pragma once

#include "host/arbiter.h"
#include "host/convergence.h"
#include "host/host.h"
#include "host/mover-ctl.h"
#include "mobility/advice.h"

#define LPM_KIND_JOURNAL "journal" /* key: migration id */

enum {
    LPM_MIG_HISTORY = 100,       /* ended moves that are kept */
    LPM_MIG_LOOK_MS = 250,       /* between two looks while waiting for the other side */
    LPM_MIG_SLOW_LOOK_MS = 2000, /* the same after LPM_MIG_QUICK_LOOKS of them */
    LPM_MIG_QUICK_LOOKS = 40,
    LPM_MIG_STATUS_MS = 250,
    LPM_MIG_JUST_NOW_MS = 1500,
    LPM_MIG_QUICK_ANSWER_MS = 50,
    LPM_MIG_HOLD_MS = 50, /* events, while the partition stands still for us */
    LPM_MIG_EXPLAIN_MS = 300,
    LPM_MIG_SWITCHOVER_LIMIT_MS = 5000, /* and the blackout limit */
    LPM_MIG_DEFAULT_BLACKOUT_MS = 300,
    LPM_MIG_CHANNELS_MAX = 1, /* QEMU's: see docs/decisions/multifd.md before raising it */
};

typedef struct LpmMigration LpmMigration;

typedef struct {
    bool verify, auto_converge, postcopy;
    int64_t max_blackout_ms, max_rate, offer_timeout_ms, connect_timeout_ms;
    int64_t give_up_after_s;  /* 0: never */
    int64_t postcopy_after_s; /* 0: never */
    int64_t connections, link_retry_ms;
    int64_t channels; /* of QEMU besides the main stream (multifd); 0: none */
    bool raw;         /* the stream is not coded */
    bool unconnected; /* target: an adapter whose network is not there comes without one */
    bool scripts;     /* there are some in the partition, as they have answered to the check */
    bool skip_scripts, force_scripts; /* nobody in the partition is told; a no is not heard */
} LpmMoveOptions;

typedef enum {
    LPM_PHASE_PREPARE,
    LPM_PHASE_COPY,
    LPM_PHASE_SWITCHOVER,
    LPM_PHASE_VERIFY,
    LPM_PHASE_COMMIT,
    LPM_PHASE_FILL, /* post-copy: the rest of the memory follows */
    LPM_PHASE_FINISH,
    LPM_PHASE_N,
} LpmMovePhase;

typedef struct {
    int64_t start_real_us, start_mono_us, end_mono_us; /* 0: not yet */
} LpmPhaseTime;

/* The commit while the partition stands still: the first two at the source, the others at the
 * target. */
typedef enum {
    LPM_COMMIT_BEGUN,
    LPM_COMMIT_OFFERED, /* the record says OFFER */
    LPM_COMMIT_HEARD,   /* the source's hint */
    LPM_COMMIT_TAKEN,
    LPM_COMMIT_INTENT, /* written */
    LPM_COMMIT_RESUMED,
    LPM_COMMIT_N,
} LpmCommitStep;

/* The TCP connections of the two movers, as the mover here tells it. */
typedef struct {
    struct {
        bool known, up;
    } each[LPM_STREAM_CONNECTIONS_MAX];
    int64_t lost_us; /* monotonic: when the last one that was up was lost; 0: one is up */
    int64_t back_us; /* monotonic: when one was back after that; 0: never */
    char *reason;    /* of the last loss; NULL: none was lost */
    guint record_timer;
} LpmLinks;

/* HINT's "what": why the other lpm-host should look now. */
enum { LPM_HINT_OFFER = 1, LPM_HINT_RUN = 2, LPM_HINT_BACK = 3 };

/* What a half adds to the loop. */
typedef struct {
    /* Finds out what QEMU does, then calls lpm_mig_decide() with it; later, or from inside. */
    void (*look)(LpmMigration *migration);
    /* Takes the row's action and ends with exactly one lpm_mig_next(). */
    void (*act)(LpmMigration *migration, unsigned action);
    void (*free)(LpmMigration *migration);
} LpmHalfOps;

/* What lpm_mig_next() does. */
typedef enum { LPM_NEXT_NOW, LPM_NEXT_LATER, LPM_NEXT_NEVER } LpmNext;

/* The common part, first member of each half. */
struct LpmMigration {
    const LpmHalfOps *ops;
    LpmMobMachine side; /* LPM_MOB_SRC or LPM_MOB_DST */
    unsigned refs;
    LpmHost *host;
    LpmPartition *partition; /* a reference; NULL when this system does not know it (any more) */
    char *id, *name, *uuid, *peer;
    char *self; /* this system's name when the move began: as the record has it */
    uint8_t id_bytes[LPM_RECORD_ID_SIZE];
    bool active;
    LpmMoveOptions options;
    json_t *profile, *runtime; /* target, until it is cleaned; else NULL */
    LpmMigrationLink link;
    bool attached;
    char *stuck;  /* why its partition or its arbiter cannot be found; NULL */
    bool damaged; /* its journal cannot be read: nothing is done */
    int64_t started_us;
    int64_t stood_since_us; /* realtime: of the first entry that knows it to stand still; 0: none */

    unsigned journal; /* LpmMobSrcJournal or LpmMobDstJournal, as written down */
    json_t *words;    /* what people vouched for: an array, in the journal; NULL: nothing */
    char *outcome;    /* "completed", "aborted"; NULL while open */
    GError *error;    /* what went wrong first; NULL */

    LpmArbiter *arbiter;
    uint64_t base_epoch;    /* of the record when the journal began; 0: not known */
    uint64_t base_revision; /* of the record when the journal began */
    LpmRecord record;
    int64_t arbiter_ok_us;           /* monotonic: when it answered last */
    int64_t arbiter_took_us;         /* how long that took */
    unsigned arbiter_reads;          /* under way */
    bool record_none;                /* the arbiter said that there is none */
    bool record_known, record_fresh; /* fresh: the last answer's, not to be read again */
    bool record_believed;            /* an offer that nobody has read: lpm_mig_believe_offer() */

    /* the loop */
    bool rows; /* the rows decide from now on */
    bool looking, look_again;
    unsigned looks; /* that ended with "later", in a row */
    guint look_timer;
    int64_t patient_until_us; /* monotonic; rows that are patient wait for it */
    const LpmMobRow *last_row;
    bool seen; /* what the row was taken for */
    LpmMobRecordView seen_view;
    unsigned seen_qemu;
    guint later_timer;
    GError *later_error;
    bool ended;

    LpmMover *mover;
    bool mover_connected;
    LpmLinks links;
    /* status */
    LpmPhaseTime phases[LPM_PHASE_N];
    LpmMovePhase phase;
    int64_t commit_mono_us[LPM_COMMIT_N]; /* when each step was done; 0: not (yet) */
    LpmStreamStats stats;
    LpmStreamVerified verified;
    bool verified_known;
    uint32_t round_trip_us;
    int64_t predicted_blackout_ms, blackout_us, eta_ms; /* -1: not known */
    int64_t stood_us;           /* target: until the offer, as the source says; -1: not known */
    bool clock_looked;          /* the clock of the partition's operating system */
    bool postcopy;              /* QEMU has gone on to post-copy; in the journal from then on */
    bool link_broken;           /* post-copy: no memory comes, until it is recovered */
    bool copied;                /* source: the next one means something */
    LpmConvergence convergence; /* how the copy goes */
    uint64_t total_bytes, remaining_bytes, dirty_rate_bytes, passes;
    struct {
        int64_t ms;
        uint64_t stream, wire;
    } first_pass; /* when it was over; ms 0: it is not */
    guint status_timer, publish_timer;
};

/* --- life (migration.c) --- */

/* Fills the common part of a half made with g_new0(). Texts are copied. */
void lpm_mig_init(LpmMigration *migration, LpmHost *host, LpmMobMachine side, const LpmHalfOps *ops,
                  const char *id);
LpmMigration *lpm_mig_ref(LpmMigration *migration);
void lpm_mig_unref(LpmMigration *migration); /* NULL is fine */
/* Name of the system that owned the partition when the move began. */
const char *lpm_mig_source_name(const LpmMigration *migration);
/* Puts it into the host's table; the table owns a reference until lpm_mig_end(). */
void lpm_mig_register(LpmMigration *migration);
/* Takes the partition (a reference) and attaches to it. BUSY when another move has it. */
bool lpm_mig_attach(LpmMigration *migration, LpmPartition *partition, GError **error);
void lpm_mig_detach(LpmMigration *migration);

/* --- journal (migration.c) --- */

/* Follows the edge of @event and writes the entry down; it is durable when this returns true. */
bool lpm_mig_journal(LpmMigration *migration, LpmMobEvent event, GError **error);
/* Last entry: outcome, error, and the status for later questions. Then takes it out of the table.
 */
bool lpm_mig_cleaned(LpmMigration *migration, const char *outcome, GError **error);
/* Common part from a journal document; false when it is damaged. */
bool lpm_mig_load(LpmMigration *migration, const json_t *document, GError **error);

/*
 * Writes @word down with the present entry: {"word", "say", "who", "from"} and the time. Durable
 * when this returns true; nothing is done for it before.
 */
bool lpm_mig_note_word(LpmMigration *migration, const json_t *word, GError **error);

/* Options from their JSON form with the defaults; @json may be NULL. */
bool lpm_move_options_read(const json_t *json, LpmMoveOptions *ret, GError **error);
/* @now with those of max_rate, max_blackout_ms and give_up_after_s that @changes has. USAGE. */
bool lpm_move_options_change(const LpmMoveOptions *now, const json_t *changes, LpmMoveOptions *ret,
                             GError **error);
/* Whether QEMU must be able to go on to post-copy. */
bool lpm_move_may_postcopy(const LpmMoveOptions *options);
/* What they say about convergence. */
LpmConvergenceRules lpm_move_rules(const LpmMoveOptions *options);

/* --- record and loop (look.c) --- */

/*
 * Swaps the record that was seen last to @to, with crash points named @what. @done gets the result;
 * the record is up to date then. A swap that the rules do not allow is LOST.
 */
typedef void (*LpmSwapDone)(LpmMigration *migration, LpmArbiterResult result, const GError *error);
void lpm_mig_swap(LpmMigration *migration, LpmRecordState to, LpmRecordBy by, const char *what,
                  LpmSwapDone done);
typedef void (*LpmReadDone)(LpmMigration *migration, const GError *error);
/* Reads the record; an answer that did not come leaves it unknown. */
void lpm_mig_read(LpmMigration *migration, unsigned deadline_ms, LpmReadDone done);
/*
 * Target: takes for granted what the source's hint says, that it has offered the record which was
 * read before. If that is not so, the next swap loses and tells what is.
 */
void lpm_mig_believe_offer(LpmMigration *migration);
/*
 * Whether the arbiter has answered within the last LPM_MIG_JUST_NOW_MS, within
 * LPM_MIG_QUICK_ANSWER_MS, and owes no answer.
 */
bool lpm_mig_arbiter_is_quick(const LpmMigration *migration);
LpmMobRecordView lpm_mig_record_view(const LpmMigration *migration);

/* Looks and takes a row, now. Does nothing once it has ended. */
void lpm_mig_look(LpmMigration *migration);
/*
 * The rows decide from now on, but nothing is looked at before LPM_MIG_LOOK_MS are over or there is
 * news: who is about to change the record need not wait until it has been read.
 */
void lpm_mig_look_soon(LpmMigration *migration);
/* For the half's look(): what QEMU does. */
void lpm_mig_decide(LpmMigration *migration, unsigned qemu);
void lpm_mig_next(LpmMigration *migration, LpmNext next);
/* Something is wrong: keeps the first reason (copied, may be NULL), and from now on the rows
 * decide. */
void lpm_mig_trouble(LpmMigration *migration, const GError *error);
/*
 * Trouble that a mover, which still lives, may be about to explain better: waits LPM_MIG_EXPLAIN_MS
 * for that.
 */
void lpm_mig_trouble_soon(LpmMigration *migration, const GError *error);
/* Post-copy: memory does not come any more, for @error; says what to do, and that nobody may die.
 */
void lpm_mig_link_broke(LpmMigration *migration, const GError *error);
/* Post-copy, and no memory comes: the movers have lost each other, or one of them is gone. */
bool lpm_mig_wants_relink(const LpmMigration *migration);
enum { LPM_RELINK_ASK_MS = 50, LPM_RELINK_TRIES = 60 };
/* Post-copy: memory comes again. */
void lpm_mig_link_mended(LpmMigration *migration);
/* Keeps the reason and tells, without changing who decides. */
void lpm_mig_note_error(LpmMigration *migration, const GError *error);

/* --- status (status.c) --- */

void lpm_mig_enter_phase(LpmMigration *migration, LpmMovePhase phase);
/* Same, begun at @mono_us. */
void lpm_mig_enter_phase_at(LpmMigration *migration, LpmMovePhase phase, int64_t mono_us);
void lpm_mig_end_phases(LpmMigration *migration);
json_t *lpm_mig_status(const LpmMigration *migration); /* new reference */
/* Notes that this step of the commit is done, now or at @mono_us; the first time counts. */
void lpm_mig_mark(LpmMigration *migration, LpmCommitStep step);
void lpm_mig_mark_at(LpmMigration *migration, LpmCommitStep step, int64_t mono_us);
/* Sends the event "migration"; a moment later while the partition stands still for us. */
void lpm_mig_publish(LpmMigration *migration);
/* Publishes every LPM_MIG_STATUS_MS from now on, or no longer. */
void lpm_mig_publish_always(LpmMigration *migration, bool on);
/* Wall clock of another process on this machine, as our monotonic time; never later than now. */
int64_t lpm_mig_mono_of(const LpmMigration *migration, int64_t realtime_us);

/* --- links (links.c) --- */

/* CONNECTED, and LINK_STATE, of the mover. */
void lpm_links_connected(LpmMigration *migration);
void lpm_links_changed(LpmMigration *migration, const LpmStreamLinkState *state);
/* Whether all were lost within the last @ms, or still are. */
bool lpm_links_were_lost(const LpmMigration *migration, int64_t ms);
/* For the status; new reference; null before there is one. */
json_t *lpm_links_json(const LpmMigration *migration);
/* What CONFIG says of connections, at both sides. */
void lpm_links_configure(const LpmMigration *migration, LpmStreamConfig *config);
void lpm_links_clear(LpmLinks *links);

/* --- the halves --- */

LpmMigration *lpm_mig_src_new(LpmHost *host, const char *id);
LpmMigration *lpm_mig_dst_new(LpmHost *host, const char *id);

/* @arguments of migration-start; @done when the journal says planned (or post), or why not. */
void lpm_mig_src_start(LpmHost *host, json_t *arguments, LpmHostDone done, void *data);
/* @arguments of migration-prepare; @done with {"addresses","port"}. */
void lpm_mig_dst_prepare(LpmHost *host, json_t *arguments, LpmHostReply done, void *data);
/*
 * Changes max_rate, max_blackout_ms and give_up_after_s of a move that copies, as far as @arguments
 * has them. USAGE names a bad one; STATE when it does not copy (any more).
 */
bool lpm_mig_src_set(LpmMigration *migration, const json_t *arguments, GError **error);
/*
 * Post-copy that is paused: a new mover, with the one-time key of @arguments, to which the source's
 * connects; @done with {"addresses", "port"}. STATE when QEMU is not paused in post-copy.
 */
void lpm_mig_dst_relink(LpmMigration *migration, const json_t *arguments, LpmHostReply done,
                        void *data);
/* The source's side of it, with that key and those addresses. @done when it has begun. */
void lpm_mig_src_relink(LpmMigration *migration, const json_t *arguments, LpmHostDone done,
                        void *data);
/* Stops a move at the source; STATE once it was offered. */
bool lpm_mig_src_stop(LpmMigration *migration, GError **error);
/*
 * The target is off, by somebody's @word (see lpm_mig_note_word()): see handover.md. STATE when
 * that changes nothing here.
 */
void lpm_mig_src_target_off(LpmMigration *migration, const json_t *word, LpmHostDone done,
                            void *data);
/* The source is off, likewise: post-copy is given up. */
bool lpm_mig_dst_source_off(LpmMigration *migration, const json_t *word, GError **error);
/*
 * Discards what has come, once the record has been read again and still says that the source has
 * it. @word: somebody asks for it, who also knows why there is no record any more; NULL: by itself.
 */
bool lpm_mig_dst_discard(LpmMigration *migration, const json_t *word, GError **error);

/* --- word.c --- */

/* Who asks over RPC, for a word that does not say who gave it. */
typedef struct {
    bool console;
    const char *name, *from;
} LpmWordGiver;

/*
 * The word in @arguments of migration-recover, and what lpm_mig_note_word() keeps of it (a new
 * reference); LPM_MOB_WORD_NONE and nothing without one. USAGE says what must be said.
 */
bool lpm_mig_word_read(const LpmMigration *migration, const json_t *arguments,
                       const LpmWordGiver *giver, LpmMobWord *ret_word, json_t **ret_entry,
                       GError **error);

/* --- mobility.c, recover.c, verbs-mobility.c --- */

struct LpmMobility {
    GHashTable *migrations; /* id -> LpmMigration, those not cleaned */
    GHashTable *scripts;    /* id -> Scripts of mobility-scripts.c */
};

/* Open move of this id; NULL. Borrowed. */
LpmMigration *lpm_mobility_find(LpmHost *host, const char *id);
/* Open move of this partition; NULL. Borrowed. */
LpmMigration *lpm_mobility_of(LpmHost *host, const char *uuid);
/* BUSY when this system has as many active (or inactive) moves as it may; STORAGE without room for
 * a journal. */
bool lpm_mobility_slot(LpmHost *host, bool active, GError **error);
/*
 * Finds, or tries once more to find, the partition (attached from then on) and the arbiter of a
 * move that is taken up.
 */
bool lpm_mobility_find_parts(LpmMigration *migration, GError **error);
/* Takes up every journal that is not cleaned. */
bool lpm_mobility_recover(LpmHost *host, GError **error);
/*
 * A target half that is cleaned looks once more: an offer that came too late is refused. A source
 * half has nothing to do.
 */
void lpm_mobility_refuse_late(LpmHost *host, const char *id, const json_t *document);
extern const LpmRpcVerb lpm_mobility_verbs[];
/* probe.c: the verbs probe-listen and probe-run. */
void lpm_probe_listen(LpmRpcRequest *request, json_t *arguments, void *server_data);
void lpm_probe_run(LpmRpcRequest *request, json_t *arguments, void *server_data);

/* Arguments of a mover from this system's configuration and identity; DENIED when not joined. */
bool lpm_mobility_mover_spec(LpmHost *host, const char *peer, const char *key_hex,
                             const uint8_t id[LPM_RECORD_ID_SIZE], LpmMoverSpec *ret,
                             GError **error);
/*
 * An image of the partition for the mover to use and to keep, if there can be one: in @spec, whose
 * descriptor is the caller's to close. @image_key NULL: the other side keeps none.
 */
void lpm_mobility_mover_image(LpmHost *host, const LpmProfile *profile, const char *image_key,
                              LpmMoverSpec *spec);
/*
 * How many bytes of the memory file @fd are compared: what the source's @runtime says that it has
 * in its own. 0 for -1.
 */
uint64_t lpm_mobility_memory_size(int fd, const json_t *runtime);
/*
 * The "migration" of @arguments when it is a good id that no open or kept move has. Borrowed from
 * @arguments; NULL: USAGE or EXISTS.
 */
const char *lpm_mobility_new_id(LpmHost *host, const json_t *arguments, GError **error);

/* --- net.c --- */

/* Where this system's movers are reached, the preferred address first; new reference. */
json_t *lpm_mobility_addresses(const LpmHost *host);
/* One socket for each address that could be had, all with the same port. */
typedef struct {
    int fds[LPM_MOVER_NETS_MAX];
    unsigned n;
    json_t *addresses; /* of the sockets */
    uint16_t port;
} LpmListeners;
/* NETWORK when there is not one. The sockets are the caller's. */
bool lpm_mobility_listen(LpmHost *host, LpmListeners *ret, GError **error);
/* Also of one that was never filled. */
void lpm_listeners_close(LpmListeners *listeners);
