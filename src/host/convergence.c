/* SPDX-License-Identifier: Apache-2.0 */
#include "host/convergence.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    PASSES_BEFORE_STEP = 2, /* what became dirty during the long first pass is not yet a sign */
    STALLS_FOR_VERDICT = 2, /* comparisons that must agree */
    STALLS_WHEN_SLOWED = 5, /* the same while auto-converge has not done all that it can */
    THROTTLE_MOST = 99,     /* percent */
    SIMULATED_PASSES = 40,
    NEEDED_STEP_MS = 50,
    SECOND_MS = 1000,
};

static const char *const names[] = {"first-pass", "converging", "does-not-converge"};

const char *lpm_convergence_name(LpmConvergenceState state)
{
    return names[state];
}

static int64_t min_ms(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t max_ms(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Milliseconds that @bytes take at @rate, which is not 0. */
static int64_t time_ms(uint64_t bytes, uint64_t rate)
{
    return (int64_t)((double)bytes * SECOND_MS / (double)rate);
}

static uint64_t sent_in(int64_t ms, uint64_t rate)
{
    return (uint64_t)((double)ms / SECOND_MS * (double)rate);
}

static int64_t next_limit(int64_t limit, int64_t most)
{
    return min_ms(limit + limit / 2, most);
}

void lpm_convergence_init(LpmConvergence *convergence, const LpmConvergenceRules *rules)
{
    *convergence = (LpmConvergence){
        .limit_ms = min_ms(LPM_CONVERGENCE_FIRST_LIMIT_MS, rules->max_blackout_ms),
        .predicted_ms = -1,
        .eta_ms = -1,
        .needed_ms = -1,
    };
}

/* --- passes --- */

/*
 * QEMU also counts when it looks at the dirty pages in the middle of a pass (auto-converge). A pass
 * is over when little was left of it.
 */
static bool pass_is_over(const LpmConvergence *c, const LpmConvergenceSample *sample)
{
    if (sample->pass <= c->counted) {
        return false;
    }
    uint64_t meanwhile = sent_in(sample->now_ms - c->last.now_ms, sample->rate);
    uint64_t left = c->last.remaining > meanwhile ? c->last.remaining - meanwhile : 0;
    uint64_t little = c->dirty_set / 4 + sent_in(c->limit_ms, sample->rate);
    return c->counted == 0 || left <= little;
}

static bool about_as_much(uint64_t now, uint64_t before)
{
    return now >= before - before / 10;
}

static bool fits(uint64_t bytes, int64_t limit_ms, uint64_t rate)
{
    return bytes <= sent_in(limit_ms, rate);
}

/* One step up at the end of each pass; at once as far as needed when it gets no smaller. */
static void raise_limit(LpmConvergence *c, const LpmConvergenceRules *rules)
{
    if (c->passes < PASSES_BEFORE_STEP) {
        return;
    }
    int64_t wanted = next_limit(c->limit_ms, rules->max_blackout_ms);
    if (c->stalled > 0 && c->needed_ms > 0 && c->needed_ms <= rules->max_blackout_ms) {
        wanted = max_ms(wanted, c->needed_ms);
    }
    c->limit_ms = wanted;
}

static void note_needed(LpmConvergence *c, const LpmConvergenceSample *sample)
{
    if (sample->rate == 0 || c->smallest == 0) {
        c->needed_ms = -1;
        return;
    }
    int64_t exact = time_ms(c->smallest, sample->rate);
    int64_t ample = exact + exact / 4 + 1;
    c->needed_ms = (ample + NEEDED_STEP_MS - 1) / NEEDED_STEP_MS * NEEDED_STEP_MS;
}

/* What has left QEMU and not arrived is not sent yet, either: a window takes small passes whole. */
static uint64_t behind(const LpmConvergenceSample *sample)
{
    return sample->remaining + sample->in_flight;
}

static void begin_pass(LpmConvergence *c, const LpmConvergenceRules *rules,
                       const LpmConvergenceSample *sample)
{
    uint64_t now = behind(sample);
    if (c->counted > 0) {
        c->passes++;
    }
    /* What became dirty during the first pass, which sends everything, compares with nothing. */
    bool stalls = c->passes >= PASSES_BEFORE_STEP && about_as_much(now, c->smallest);
    c->stalled = stalls ? c->stalled + 1 : 0;
    c->smallest = stalls && c->smallest < now ? c->smallest : now;
    c->dirty_set = sample->remaining;
    note_needed(c, sample);
    raise_limit(c, rules);
}

/* --- verdict --- */

static LpmConvergenceState judge(const LpmConvergence *c, const LpmConvergenceRules *rules,
                                 const LpmConvergenceSample *sample)
{
    if (c->passes < PASSES_BEFORE_STEP) {
        return LPM_CONVERGENCE_FIRST;
    }
    if (sample->rate == 0) {
        return c->state;
    }
    unsigned enough = STALLS_FOR_VERDICT;
    if (rules->auto_converge && sample->throttle < THROTTLE_MOST) {
        enough = STALLS_WHEN_SLOWED;
    } else if (about_as_much(sample->dirty_rate, sample->rate)) {
        enough = 1; /* QEMU says so, too */
    }
    bool too_much = !fits(c->smallest, rules->max_blackout_ms, sample->rate);
    return too_much && c->stalled >= enough ? LPM_CONVERGENCE_NONE : LPM_CONVERGENCE_GOOD;
}

/* --- prediction --- */

/* Goes through the passes that are still to come, if everything stays as it is. */
static void predict(LpmConvergence *c, const LpmConvergenceRules *rules,
                    const LpmConvergenceSample *sample)
{
    uint64_t rate = sample->rate, left = behind(sample);
    c->eta_ms = -1;
    if (rate == 0) {
        c->predicted_ms =
            sample->qemu_expects_ms < 0 ? -1 : sample->qemu_expects_ms + sample->overhead_ms;
        return;
    }
    int64_t fixed = sample->overhead_ms + time_ms(sample->in_flight, rate);
    int64_t limit = min_ms(c->limit_ms, rules->max_blackout_ms), eta = 0;
    for (unsigned pass = 0; c->state != LPM_CONVERGENCE_NONE && pass < SIMULATED_PASSES; pass++) {
        int64_t takes = time_ms(left, rate);
        uint64_t next = sent_in(takes, sample->dirty_rate);
        if (c->passes > 0 && c->smallest > 0 && next > c->smallest) {
            next = c->smallest; /* it writes to the same pages again */
        }
        eta += takes;
        if (fits(next, limit, rate)) {
            c->predicted_ms = fixed + max_ms(time_ms(next, rate), limit / 2);
            c->eta_ms = eta;
            return;
        }
        left = next;
        limit = c->passes + pass + 1 >= PASSES_BEFORE_STEP
                    ? next_limit(limit, rules->max_blackout_ms)
                    : limit;
    }
    c->predicted_ms = fixed + time_ms(c->smallest > 0 ? c->smallest : left, rate);
}

void lpm_convergence_feed(LpmConvergence *c, const LpmConvergenceRules *rules,
                          const LpmConvergenceSample *sample)
{
    if (sample->pass > c->counted) {
        if (pass_is_over(c, sample)) {
            begin_pass(c, rules, sample);
        }
        c->counted = sample->pass;
    }
    LpmConvergenceState before = c->state;
    note_needed(c, sample);
    c->state = judge(c, rules, sample);
    if (c->state != before) {
        c->since_ms = sample->now_ms;
    }
    c->limit_ms = min_ms(c->limit_ms, rules->max_blackout_ms);
    if (c->state == LPM_CONVERGENCE_GOOD && c->stalled > 0) { /* the most may just have risen */
        c->limit_ms = max_ms(c->limit_ms, min_ms(c->needed_ms, rules->max_blackout_ms));
    }
    predict(c, rules, sample);
    c->last = *sample;
}

/* --- what is due --- */

bool lpm_convergence_give_up(const LpmConvergence *c, const LpmConvergenceRules *rules)
{
    return rules->give_up_after_s > 0 && c->state == LPM_CONVERGENCE_NONE &&
           c->last.now_ms - c->since_ms >= rules->give_up_after_s * SECOND_MS;
}

bool lpm_convergence_go_postcopy(const LpmConvergence *c, const LpmConvergenceRules *rules)
{
    bool late =
        rules->postcopy_after_s > 0 && c->last.now_ms >= rules->postcopy_after_s * SECOND_MS;
    return c->passes > 0 && (rules->postcopy || late);
}

/* --- advice --- */

size_t lpm_convergence_advice(const LpmConvergence *c, const LpmConvergenceRules *rules,
                              uint64_t max_rate,
                              char ret[LPM_CONVERGENCE_ADVICE][LPM_CONVERGENCE_ADVICE_SIZE])
{
    size_t n = 0;
    if (c->state != LPM_CONVERGENCE_NONE) {
        return 0;
    }
    if (max_rate > 0) {
        snprintf(ret[n++], LPM_CONVERGENCE_ADVICE_SIZE,
                 "a higher --max-rate (it writes %.0f MB/s, %.0f MB/s are sent)",
                 (double)c->last.dirty_rate / 1e6, (double)c->last.rate / 1e6);
    } else {
        snprintf(ret[n++], LPM_CONVERGENCE_ADVICE_SIZE,
                 "more bandwidth (it writes %.0f MB/s, %.0f MB/s are sent)",
                 (double)c->last.dirty_rate / 1e6, (double)c->last.rate / 1e6);
    }
    if (c->needed_ms > rules->max_blackout_ms) {
        snprintf(ret[n++], LPM_CONVERGENCE_ADVICE_SIZE,
                 "--max-blackout %" PRId64 " (it is %" PRId64 ")", c->needed_ms,
                 rules->max_blackout_ms);
    }
    if (!rules->auto_converge) {
        snprintf(ret[n++], LPM_CONVERGENCE_ADVICE_SIZE,
                 "--auto-converge, which slows the partition down");
    }
    if (!rules->postcopy && rules->postcopy_after_s == 0) {
        snprintf(ret[n++], LPM_CONVERGENCE_ADVICE_SIZE,
                 "--postcopy, which needs both systems until the end");
    }
    return n;
}

/* --- throttle --- */

uint64_t lpm_convergence_qemu_rate(uint64_t now, uint64_t max_rate, uint64_t stream_rate,
                                   uint64_t wire_rate)
{
    bool full = wire_rate >= max_rate - max_rate / 5;
    bool held_back = stream_rate >= now - now / 4;
    if (max_rate == 0 || full || !held_back || now > UINT64_MAX / 2) {
        return now;
    }
    return now * 2;
}
