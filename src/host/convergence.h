/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a copy will come to its end, and what is done to help it: pure policy. It is fed with
 * what QEMU and the mover say, and answers with the blackout limit to give to QEMU, predictions and
 * a verdict. It knows no clock, no QEMU and no mover.
 *
 * A pass begins with what became dirty during the one before. Copying converges when that gets
 * smaller from pass to pass, until it can be sent within the blackout limit.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    LPM_CONVERGENCE_FIRST, /* the first pass, or the second: nothing to compare yet */
    LPM_CONVERGENCE_GOOD,
    LPM_CONVERGENCE_NONE, /* what becomes dirty in a pass does not get smaller, and is too much */
} LpmConvergenceState;

/* "first-pass", "converging", "does-not-converge". Static. */
const char *lpm_convergence_name(LpmConvergenceState state);

/* What the move's options say; may change while it copies. Times 0: never. */
typedef struct {
    int64_t max_blackout_ms;  /* above 0 */
    int64_t give_up_after_s;  /* of lasting failure to converge */
    int64_t postcopy_after_s; /* of copying */
    bool postcopy;            /* as soon as everything was sent once */
    bool auto_converge;       /* QEMU slows the partition down */
} LpmConvergenceRules;

typedef struct {
    int64_t now_ms;          /* since copying began; never goes back */
    uint64_t pass;           /* QEMU's count of passes; 1 is the first */
    uint64_t remaining;      /* bytes of memory that QEMU has still to send */
    uint64_t dirty_rate;     /* bytes a second, by QEMU */
    uint64_t rate;           /* stream bytes a second that the mover takes; 0: not known yet */
    uint64_t in_flight;      /* stream bytes that the peer has not handed on yet */
    int64_t overhead_ms;     /* of a switchover, besides the memory */
    int64_t qemu_expects_ms; /* QEMU's expected-downtime; -1: none. Used only without a rate */
    unsigned throttle;       /* percent by which auto-converge slows the partition down now */
} LpmConvergenceSample;

enum { LPM_CONVERGENCE_FIRST_LIMIT_MS = 30 };

typedef struct {
    LpmConvergenceState state;
    int64_t limit_ms;     /* for QEMU's downtime-limit */
    int64_t predicted_ms; /* blackout if it goes on like this; -1: not known */
    int64_t eta_ms;       /* to the switchover; -1: not known, or never */
    int64_t needed_ms;    /* a limit that would do, rounded up; -1: not known */
    int64_t since_ms;     /* when the present state began */
    /* its own */
    uint64_t passes;    /* whole ones that were seen */
    uint64_t counted;   /* QEMU's count when the present pass began */
    uint64_t dirty_set; /* bytes at the beginning of the present pass */
    uint64_t smallest;  /* of the beginnings since it stopped getting smaller; 0: none */
    unsigned stalled;   /* passes in a row that began with about as much as the one before */
    LpmConvergenceSample last;
} LpmConvergence;

void lpm_convergence_init(LpmConvergence *convergence, const LpmConvergenceRules *rules);
void lpm_convergence_feed(LpmConvergence *convergence, const LpmConvergenceRules *rules,
                          const LpmConvergenceSample *sample);

/* What the rules say is due after the last sample. */
bool lpm_convergence_give_up(const LpmConvergence *convergence, const LpmConvergenceRules *rules);
bool lpm_convergence_go_postcopy(const LpmConvergence *convergence,
                                 const LpmConvergenceRules *rules);

/* What would help a copy that does not converge, for people: one piece of advice after the other.
 * @max_rate: the user's limit in bytes a second, 0: none. Returns how many; texts are written into
 * @ret (each cut at its size). */
enum { LPM_CONVERGENCE_ADVICE = 4, LPM_CONVERGENCE_ADVICE_SIZE = 96 };
size_t lpm_convergence_advice(const LpmConvergence *convergence, const LpmConvergenceRules *rules,
                              uint64_t max_rate,
                              char ret[LPM_CONVERGENCE_ADVICE][LPM_CONVERGENCE_ADVICE_SIZE]);

/*
 * QEMU's own bandwidth limit, bytes a second of its stream, for a @max_rate on the wire. A stream
 * that shrinks on its way may be faster than the wire: while the wire is not full, @now is raised.
 * @stream_rate and @wire_rate are what is measured. Returns @now when nothing is to change.
 */
uint64_t lpm_convergence_qemu_rate(uint64_t now, uint64_t max_rate, uint64_t stream_rate,
                                   uint64_t wire_rate);
