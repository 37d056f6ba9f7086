/* SPDX-License-Identifier: Apache-2.0 */
/* Pre-copy, pass after pass: what is sent in one was written during the one before. */
#include "predict/internal.h"

#include <math.h>

enum {
    ROUNDS_MAX = 60,
    FIRST_LIMIT_MS =
        30, /* lpm-host begins with it and raises it by half with each pass. (And at once as far as
           needed when passes get no smaller; here not: more writing must never be quicker) */
    PASSES_BEFORE_STEP = 2,
    SWITCHOVER_MS = 70, /* device state, LOADED, two swaps of the record */
    AROUND_MS = 90,     /* before the copy and after the switchover */
    MS = 1000,
};
#define COMPARE_RATE 1e9 /* bytes a second, both sides at once */
#define EMPTY_RATE   4e9 /* bytes a second of memory that is found to be zeros */
#define OVERHEAD     5e4 /* bytes of a move besides memory: greetings, device state */

double lpm_predict_dirtied(double rate, double hot, double ms)
{
    return hot <= 0 ? 0 : hot * -expm1(-rate * ms / MS / hot);
}

static double time_ms(double bytes, double rate)
{
    return bytes * MS / rate;
}

static void finish(const LpmPredictCase *c, LpmPredictRun *run, double copy_ms, double bytes)
{
    double standing = SWITCHOVER_MS + 2 * c->round_trip_ms + time_ms(c->compared, COMPARE_RATE);

    /* QEMU switches once the rest fits: a little may be left, and mostly something is. */
    standing += c->postcopy ? 0 : fmax(time_ms(run->left, c->later_rate), FIRST_LIMIT_MS / 2.0);
    run->figures[LPM_PREDICT_BLACKOUT] = standing;
    run->figures[LPM_PREDICT_DURATION] =
        AROUND_MS + copy_ms + standing + (c->postcopy ? time_ms(run->left, c->later_rate) : 0);
    run->figures[LPM_PREDICT_BYTES] = OVERHEAD + bytes + run->left * c->later_ratio;
}

LpmPredictRun lpm_predict_run(const LpmPredictCase *c)
{
    LpmPredictRun run = {.rounds = 1};
    /* What is found to be empty keeps the processors busy, and nobody waits for the link then. */
    double copy_ms = fmax(time_ms(c->stream, c->first_rate),
                          time_ms(c->stream, c->coding_rate) + time_ms(c->empty, EMPTY_RATE));
    double bytes = c->stream * c->first_ratio;
    double limit = fmin(FIRST_LIMIT_MS, c->max_blackout_ms), took = copy_ms;

    run.left = lpm_predict_dirtied(c->dirty_rate, c->hot, took);
    for (run.ends = c->postcopy; !run.ends && run.rounds < ROUNDS_MAX; run.rounds++) {
        took = time_ms(run.left, c->later_rate);
        if (took <= limit) {
            run.ends = true;
            break;
        }
        copy_ms += took;
        bytes += run.left * c->later_ratio;
        run.left = lpm_predict_dirtied(c->dirty_rate, c->hot, took);
        if (run.rounds >= PASSES_BEFORE_STEP) {
            limit = fmin(limit * 1.5, c->max_blackout_ms);
        }
    }
    finish(c, &run, copy_ms, bytes);
    return run;
}
