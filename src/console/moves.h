/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Migrations as the console sees them: operations that are written down before each step. The
 * states and edges are the driver's of lib/mobility; mobility.c does what a state says, follow.c
 * hears of both halves, view.c shows the whole.
 */
#pragma once

#include "fleet.h"
#include "mobility/advice.h"
#include "mobility/mobility.h"
#include "predict/predict.h"
#include "systems.h"
#include "validate.h"

typedef enum { LPM_HALF_SOURCE, LPM_HALF_TARGET, LPM_HALF_N } LpmHalfSide;

/* What one system says about its half. */
typedef struct {
    json_t *status;   /* docs/spec/host-rpc.md; NULL: nothing heard */
    bool unknown;     /* the system answered that it knows no such migration */
    bool asking;      /* a migration-query is under way */
    int64_t heard_us; /* monotonic */
} LpmHalf;

typedef struct {
    unsigned refs;
    LpmConsole *console;
    /* written down */
    char *id, *partition, *user;
    char *systems[LPM_HALF_N]; /* names of source and target */
    LpmMobDrvState state;
    bool active;
    bool started; /* the source may have begun: from now on its word counts */
    bool stop_requested;
    bool asking_stop;                   /* in memory only: migration-stop is under way */
    json_t *options, *findings, *error; /* error: {"class","message","remedy"} or NULL */
    json_t *prediction;                 /* made by the validation; NULL: none yet */
    char *note;
    int64_t created_us, ended_us; /* since 1970 UTC; ended_us 0: not ended */
    LpmHalf halves[LPM_HALF_N];
    /* in memory only */
    int64_t revision; /* rises with everything that a reader could see */
    LpmValidation *validation;
    json_t *profile, *runtime, *listening; /* between the steps */
    char *key;
    guint timer;
    bool relinking;       /* post-copy is being connected again */
    int64_t relinked_us;  /* monotonic: when that was tried last */
    int64_t decided_us;   /* monotonic: one half has ended; 0 */
    unsigned discards;    /* how often the target was told to discard */
    struct {              /* switching the target off, fencing.c */
        int64_t stuck_us; /* monotonic: since when that would help; 0: it would not */
        int64_t next_us;  /* monotonic: not before */
        unsigned tries;
        bool busy;
        char *result; /* of the last one, for people; NULL */
    } fencing;
    GList *waiters; /* LpmMoveWaiter */
} LpmMove;

LpmMove *lpm_move_ref(LpmMove *move);
void lpm_move_unref(LpmMove *move);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LpmMove, lpm_move_unref)

/* --- the set (moves.c) --- */

/* Fills console->moves from the store; unfinished ones are taken up by lpm_moves_resume(). */
bool lpm_moves_load(LpmConsole *console, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void lpm_moves_resume(LpmConsole *console);
/* NOT_FOUND names it. Borrowed. */
LpmMove *lpm_moves_find(LpmConsole *console, const char *id, GError **error);
/* BUSY when @partition is moving, or a system has its most moves. */
bool lpm_moves_allow(LpmConsole *console, const char *partition, const char *source,
                     const char *target, GError **error) G_GNUC_WARN_UNUSED_RESULT;

typedef struct {
    const char *partition, *source, *target, *user;
    bool active;
    json_t *options; /* borrowed */
} LpmMoveRequest;

/* Writes a new migration down and begins it. Borrowed; NULL with @error. */
LpmMove *lpm_moves_begin(LpmConsole *console, const LpmMoveRequest *request,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;
/*
 * A move that a system told of and the console does not know (its database was lost): taken up as
 * one that has begun. Borrowed; NULL with @error.
 */
LpmMove *lpm_moves_adopt(LpmConsole *console, const char *id, const LpmMoveRequest *request,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Writes @move down and tells whoever waits for news. */
bool lpm_move_save(LpmMove *move, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* News that need not be written down. */
void lpm_move_touch(LpmMove *move);
bool lpm_move_is_over(const LpmMove *move);
/* The migrations of @console, the newest first; free the list only. */
GList *lpm_moves_sorted(LpmConsole *console);

/* Calls @ready with @data at the next news after @since, or after @wait_ms, whichever comes first.
 */
typedef void (*LpmMoveReady)(LpmMove *move, void *data);
void lpm_move_wait(LpmMove *move, int64_t since, unsigned wait_ms, LpmMoveReady ready, void *data);

/* --- doing (mobility.c) --- */

/* Follows the edge of @event, writes down, and does what the new state says. */
void lpm_move_advance(LpmMove *move, LpmMobEvent event);
/* Sets the error (class @code) if there is none yet, and follows FAIL. */
void lpm_move_fail(LpmMove *move, int code, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* Keeps @error as the move's, unless it has one. */
void lpm_move_set_error(LpmMove *move, const GError *error);
/* Asks for a stop. Calls @done once the source has agreed or refused. */
typedef void (*LpmMoveDone)(LpmMove *move, const GError *error, void *data);
void lpm_move_stop(LpmMove *move, LpmMoveDone done, void *data);
/* Whether a failed call may have been heard, or may be heard later: no answer of the system came.
 */
bool lpm_call_is_unsure(const GError *error);
/* The state after a restart of the console, from what was written down. */
void lpm_move_resume(LpmMove *move);

/* --- following (follow.c) --- */

void lpm_move_follow(LpmMove *move);
/* An event "migration" of @system. */
void lpm_moves_status(LpmConsole *console, LpmSystem *system, json_t *status);
/* @system has connected: unfinished moves look at it, and what it was to discard is told. */
void lpm_moves_connected(LpmConsole *console, LpmSystem *system);
/* Looks whether what both halves said ends the move. */
void lpm_move_judge(LpmMove *move);
void lpm_half_set(LpmMove *move, LpmHalfSide side, json_t *status);
bool lpm_half_finished(const LpmHalf *half);
LpmSystem *lpm_move_system(const LpmMove *move, LpmHalfSide side); /* NULL: forgotten. Borrowed */

/* --- recovering (recover.c) --- */

/* What somebody vouches for, and who and where that is; all texts borrowed. */
typedef struct {
    LpmMobWord word;
    const char *say, *who, *from;
} LpmMoveWord;

/*
 * Both systems take the step that they can; with @word (else NULL), the one that it is given to
 * hears it, once the system that is said to be off has not answered. @done: why not.
 */
void lpm_move_recover(LpmMove *move, const LpmMoveWord *word, LpmMoveDone done, void *data);
/* USAGE that says what must be said, when that is not what @word says. */
bool lpm_move_check_say(const LpmMove *move, const LpmMoveWord *word,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* --- switching a system off (fencing.c) --- */

/* Looks whether it is time to run the target's fencing agent; called again and again. */
void lpm_move_consider_fencing(LpmMove *move);
/* Once systems are known: warns of agents for systems that there are not. */
void lpm_fencing_check(LpmConsole *console);

/* --- what is known (situation.c) --- */

/*
 * What is known of a move that waits for something, what is not, and what may be done:
 * docs/spec/rest.md. New reference; JSON null when there is nothing to say.
 */
json_t *lpm_move_situation(const LpmMove *move);
/* The words that were given, of both systems; new reference. */
json_t *lpm_move_words(const LpmMove *move);
/* The row that applies to what @side said last; NULL: it waits for nothing. */
const LpmMobAdvice *lpm_move_advice(const LpmMove *move, LpmHalfSide side);
LpmMobNames lpm_move_names(const LpmMove *move); /* borrowed */

/* --- predictions (history.c) --- */

/* What a completed move came to, by figures of lib/predict; below 0: not known, or not completed.
 */
void lpm_move_actual(const LpmMove *move, double ret_actual[LPM_PREDICT_N]);
/* How good the prediction of a completed move was (docs/spec/rest.md); JSON null otherwise. New
 * reference. */
json_t *lpm_move_score(const LpmMove *move);
/* `history` of docs/spec/facts.md: what earlier moves of the partition and between the two systems
 * teach, the newest first. New reference. */
json_t *lpm_moves_history(LpmConsole *console, const char *partition, const char *source,
                          const char *target);

/* Connects a post-copy that is paused again, at most every few seconds (relink.c). */
void lpm_move_relink(LpmMove *move);

/* --- showing (view.c) --- */

/* Answer of GET /v1/migrations/{migration}; @brief leaves out findings and halves. New reference.
 */
json_t *lpm_move_view(const LpmMove *move, bool brief);
/* The whole time of the move so far, all phases of both halves, ms. */
double lpm_move_total_ms(const LpmMove *move);
/* "completed", "refused", "stopped", "failed", or the state's name. Static. */
const char *lpm_move_state_name(const LpmMove *move);
