/* SPDX-License-Identifier: Apache-2.0 */
/* From what was measured to three cases, and from their runs to figures with bands. */
#include "predict/internal.h"

#include <math.h>

const char *const lpm_predict_names[LPM_PREDICT_N] = {"duration_ms", "wire_bytes", "blackout_ms"};

/* The best, the likely and the worst of what is not known. */
typedef enum { BEST, LIKELY, WORST, CASES } CaseName;

typedef struct {
    double of[CASES];
} Range;

/* Shares and rates of software emulation on two processors, before anything has been learned. */
static const Range written_part = {{0.6, 0.95, 1.0}}; /* of used memory that is not zeros */
static const Range coded_rate = {{1000e6, 200e6, 80e6}};
static const Range plain_rate = {{2000e6, 400e6, 120e6}};
static const Range first_ratio = {{0.1, 0.33, 1.05}};    /* what coding leaves of a first move */
static const Range later_ratio = {{0.02, 0.25, 1.05}};   /* and of what is written again */
static const Range changed_ratio = {{0.02, 0.15, 1.0}};  /* and of what the image has otherwise */
static const Range changed_part = {{0.001, 0.015, 0.1}}; /* besides what the dirty rate explains */
static const Range learned = {{0.6, 1.0, 1.8}};          /* around a ratio that was seen */
static const Range link_part = {{1.2, 1.0, 0.7}};        /* around a rate that was measured */
static const Range dirty_part = {{0.7, 1.0, 1.5}};       /* a partition is not always as it was */
#define PLAIN_RATIO    1.02
#define CHANGED_MOST   0.5  /* of the image */
#define SATURATED      0.85 /* a longer look that sees less than so much of the expected */
#define FACTOR_SPEED   1.5
#define BLACKOUT_LEAST 2.0 /* before anything was learned */
#define BLACKOUT_MOST  3.0

const char *lpm_predict_verdict_name(LpmPredictVerdict verdict)
{
    static const char *const names[] = {"unsure", "yes", "no"};

    return names[verdict];
}

/* --- what it writes --- */

typedef struct {
    double rate, hot;
} Writing;

/*
 * Two looks at different times tell a partition that writes everywhere from one that writes to the
 * same pages again: bytes = hot (1 - exp(-rate t / hot)). With x = exp(-rate t1 / hot) the two are
 * in the ratio (1 - x^a) / (1 - x), a = t2 / t1, which falls from a to 1 as x falls from 1 to 0.
 */
static Writing writing_of(const LpmPredictInput *input)
{
    double t1 = input->looks[0].ms / 1e3, d1 = input->looks[0].bytes;
    const size_t last = input->n_looks - 1;
    double t2 = input->looks[last].ms / 1e3, d2 = input->looks[last].bytes;
    double a = t2 / t1, low = 0, high = 1;

    if (last == 0 || d1 <= 0 || d2 >= SATURATED * a * d1) {
        return (Writing){d2 / t2, input->used};
    }
    if (d2 <= d1 * 1.01) {
        return (Writing){fmax(d1 / t1, d2 / t2), fmax(d1, d2)};
    }
    for (unsigned i = 0; i < 50; i++) {
        double x = (low + high) / 2;

        if ((1 - pow(x, a)) / (1 - x) < d2 / d1) {
            low = x;
        } else {
            high = x;
        }
    }
    double hot = fmin(d1 / (1 - low), input->used);
    return (Writing){-log(low) * hot / t1, hot};
}

/* A look samples pages: what it counts is as uncertain as any count, and a rate is as it is now. */
static Writing writing_in(const LpmPredictInput *input, CaseName name)
{
    Writing likely = {0, input->used};

    if (input->n_looks == 0) {
        return likely; /* the verdict is unsure then */
    }
    likely = writing_of(input);
    double seconds = input->looks[input->n_looks - 1].ms / 1e3;
    double unit = input->look_unit, seen = likely.rate * seconds;
    switch (name) {
    case BEST:
        return (Writing){fmax(0, seen - 2 * sqrt(seen * unit) - unit) / seconds *
                             dirty_part.of[BEST],
                         likely.hot};
    case WORST:
        return (Writing){(seen + 3 * sqrt(seen * unit) + 3 * unit) / seconds * dirty_part.of[WORST],
                         input->used};
    case LIKELY:
    case CASES:
        break;
    }
    return likely;
}

/* --- cases --- */

static double link_of(const LpmPredictInput *input, CaseName name)
{
    double rate = input->link_rate * link_part.of[name];

    return input->max_rate > 0 ? fmin(rate, input->max_rate) : rate;
}

/* How much of the image is other than the partition's memory now. */
static double changed(const LpmPredictInput *input, CaseName name, const Writing *writing)
{
    double written =
        lpm_predict_dirtied(writing->rate, writing->hot, fmax(input->image_age_s, 0) * 1e3);

    return fmin(changed_part.of[name] + written / fmax(input->used, 1), CHANGED_MOST);
}

static double first_ratio_in(const LpmPredictInput *input, CaseName name, const Writing *writing)
{
    return input->raw     ? PLAIN_RATIO
           : input->again ? 0.0005 + changed(input, name, writing) * changed_ratio.of[name]
                          : first_ratio.of[name];
}

static double later_ratio_in(const LpmPredictInput *input, CaseName name)
{
    double seen = lpm_predict_later_ratio(input);

    return input->raw ? PLAIN_RATIO
           : seen > 0 ? fmin(seen * learned.of[name], fmax(seen, 1.05))
                      : later_ratio.of[name];
}

/* @speed: what is known of the processors' part, by which the usual rate is multiplied; @ratio: the
 * same of the bytes. */
static LpmPredictCase case_of(const LpmPredictInput *input, CaseName name, double speed,
                              double ratio)
{
    Writing writing = writing_in(input, name);
    double link = link_of(input, name);
    double coding = (input->raw ? plain_rate : coded_rate).of[name] * speed;
    LpmPredictCase c = {
        .stream = input->used * written_part.of[name],
        .first_ratio = first_ratio_in(input, name, &writing) * ratio,
        .later_ratio = later_ratio_in(input, name),
        .dirty_rate = writing.rate,
        .hot = writing.hot,
        .max_blackout_ms = input->max_blackout_ms,
        .round_trip_ms = fmax(input->round_trip_ms, 0),
        .compared = input->verify ? input->memory : 0,
        .postcopy = input->postcopy,
    };

    c.empty = fmax(input->memory - c.stream, 0);
    c.first_rate = fmin(coding, link / c.first_ratio);
    c.later_rate = fmin(coding, link / c.later_ratio);
    return c;
}

/* --- figures --- */

static LpmPredictVerdict verdict_of(const LpmPredictInput *input, const LpmPredictRun runs[CASES])
{
    if (input->postcopy) {
        return LPM_PREDICT_YES;
    }
    if (input->n_looks == 0) {
        return LPM_PREDICT_UNSURE;
    }
    if (runs[WORST].ends) {
        return LPM_PREDICT_YES;
    }
    /* Slowing it down may help, and may not. */
    return !runs[BEST].ends && !input->auto_converge ? LPM_PREDICT_NO : LPM_PREDICT_UNSURE;
}

/* Within what was learned; else as wide as from the best to the worst. */
static LpmPredictBand band(const LpmPredictRun runs[CASES], LpmPredictFigure figure,
                           const LpmPredictLesson *lesson)
{
    double value = runs[LIKELY].figures[figure] * lesson->factor;

    if (!runs[LIKELY].ends) {
        return (LpmPredictBand){-1, -1, -1};
    }
    if (lesson->spread >= 0) {
        return (LpmPredictBand){value, value * exp(-lesson->spread), value * exp(lesson->spread)};
    }
    if (figure == LPM_PREDICT_BLACKOUT) { /* mostly the handover itself, which nothing measures */
        return (LpmPredictBand){value, value / BLACKOUT_LEAST, value * BLACKOUT_MOST};
    }
    return (LpmPredictBand){value,
                            fmin(runs[BEST].ends ? runs[BEST].figures[figure] : value, value),
                            runs[WORST].ends ? fmax(runs[WORST].figures[figure], value) : -1};
}

void lpm_predict(const LpmPredictInput *input, LpmPrediction *ret)
{
    LpmPredictLesson bytes = lpm_predict_learn(input, LPM_PREDICT_BYTES, false);
    LpmPredictCase likely = case_of(input, LIKELY, 1, bytes.factor);
    bool link_bound = likely.first_rate * likely.first_ratio >= 0.99 * link_of(input, LIKELY);
    LpmPredictLesson lessons[LPM_PREDICT_N] = {
        [LPM_PREDICT_DURATION] = lpm_predict_learn(input, LPM_PREDICT_DURATION, link_bound),
        [LPM_PREDICT_BYTES] = bytes,
        [LPM_PREDICT_BLACKOUT] = lpm_predict_learn(input, LPM_PREDICT_BLACKOUT, link_bound),
    };
    const LpmPredictLesson *duration = &lessons[LPM_PREDICT_DURATION];
    LpmPredictRun runs[CASES] = {[LIKELY] = lpm_predict_run(&likely)};
    /* A pair of systems that was seen to be slow or quick is no better or worse than that. */
    bool paced = duration->moves > 0 && !link_bound;
    double best =
        paced ? FACTOR_SPEED * coded_rate.of[LIKELY] / coded_rate.of[BEST] / duration->factor : 1;
    double worst =
        paced ? coded_rate.of[LIKELY] / coded_rate.of[WORST] / duration->factor / FACTOR_SPEED : 1;
    LpmPredictCase fast = case_of(input, BEST, fmin(best, 1), 1);
    LpmPredictCase slow = case_of(input, WORST, worst, 1);

    runs[BEST] = lpm_predict_run(&fast);
    runs[WORST] = lpm_predict_run(&slow);
    *ret = (LpmPrediction){
        .verdict = verdict_of(input, runs),
        .from = duration->from,
        .moves = duration->moves,
        .rounds = runs[LIKELY].ends ? runs[LIKELY].rounds + 1 : 0,
        .again = input->again,
        .link_bound = link_bound,
        .raw = input->raw,
        .verify = input->verify,
        .dirty_known = input->n_looks > 0,
        .dirty_rate = likely.dirty_rate,
        .send_rate = likely.later_rate,
        .needed_blackout_ms =
            input->n_looks > 0 ? runs[LIKELY].left / likely.later_rate * 1e3 * 1.25 : -1,
    };
    for (int figure = 0; figure < LPM_PREDICT_N; figure++) {
        ret->figures[figure] = band(runs, (LpmPredictFigure)figure, &lessons[figure]);
        ret->factor[figure] = lessons[figure].factor;
        ret->model[figure] = runs[LIKELY].figures[figure];
    }
    /* The model's bytes are those without the factor, else it would be learned twice. */
    LpmPredictCase plain = case_of(input, LIKELY, 1, 1);
    LpmPredictRun unlearned = lpm_predict_run(&plain);
    ret->model[LPM_PREDICT_BYTES] = unlearned.figures[LPM_PREDICT_BYTES];
    ret->figures[LPM_PREDICT_BYTES] =
        band((LpmPredictRun[]){runs[BEST], unlearned, runs[WORST]}, LPM_PREDICT_BYTES, &bytes);
}
