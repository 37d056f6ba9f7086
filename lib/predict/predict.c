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
static const Range first_ratio = {{0.1, 0.33, 1.05}};   /* what coding leaves of a first move */
static const Range later_ratio = {{0.02, 0.25, 1.05}};  /* and of what is written again */
static const Range changed_ratio = {{0.02, 0.1, 1.0}};  /* and of what the image has otherwise */
static const Range changed_part = {{0.001, 0.01, 0.5}}; /* besides what the dirty rate explains */
static const Range learned = {{0.6, 1.0, 1.8}};         /* around a ratio that was seen */
static const Range paced = {{1.5, 1.0, 1 / 1.5}};       /* around a speed that was seen */
static const Range link_part = {{1.2, 1.0, 0.7}};       /* around a rate that was measured */
static const Range dirty_part = {{0.7, 1.0, 1.5}};      /* a partition is not always as it was */
#define PLAIN_RATIO    1.02
#define REVISITS_S     5.0  /* what is written later is mostly where it was written before */
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
        return (Writing){fmax(d1 / t1, d2 / t2), fmin(fmax(d1, d2), input->used)};
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
    double age_s = fmin(fmax(input->image_age_s, 0), REVISITS_S);
    double written = lpm_predict_dirtied(writing->rate, writing->hot, age_s * 1e3);

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

/* Bytes a second that the processors code, and that the link takes. */
typedef struct {
    double coding, link;
} Speeds;

/* A pair of systems that was seen to be slow or quick is not much better or worse than that. */
static Speeds speeds_of(const LpmPredictInput *input, CaseName name, const LpmPredictLesson *coding,
                        const LpmPredictLesson *link)
{
    const Range *rate = input->raw ? &plain_rate : &coded_rate;

    return (Speeds){
        .coding =
            coding->moves > 0 ? rate->of[LIKELY] / coding->factor * paced.of[name] : rate->of[name],
        .link = link_of(input, name) / link->factor,
    };
}

/* By what the bytes of the first pass were found to be more: all in all, and where the link is
 * full. */
typedef struct {
    double seen, full;
} More;

static LpmPredictCase case_of(const LpmPredictInput *input, CaseName name, Speeds speeds, More more)
{
    Writing writing = writing_in(input, name);
    double ratio = first_ratio_in(input, name, &writing);
    LpmPredictCase c = {
        .stream = input->used * written_part.of[name],
        .coding_rate = speeds.coding,
        .first_ratio = ratio * more.seen,
        .later_ratio = later_ratio_in(input, name),
        .dirty_rate = writing.rate,
        .hot = writing.hot,
        .max_blackout_ms = input->max_blackout_ms,
        .round_trip_ms = fmax(input->round_trip_ms, 0),
        .compared = input->verify ? input->memory : 0,
        .postcopy = input->postcopy,
    };

    c.empty = fmax(input->memory - c.stream, 0);
    c.first_rate = fmin(speeds.coding, speeds.link / (ratio * more.full));
    c.later_rate = fmin(speeds.coding, speeds.link / c.later_ratio);
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
static LpmPredictBand band(const LpmPredictRun runs[CASES], LpmPredictFigure figure, double value,
                           double spread)
{
    if (!runs[LIKELY].ends) {
        return (LpmPredictBand){-1, -1, -1};
    }
    if (spread >= 0) {
        return (LpmPredictBand){value, value * exp(-spread), value * exp(spread)};
    }
    if (figure == LPM_PREDICT_BLACKOUT) { /* mostly the handover itself, which nothing measures */
        return (LpmPredictBand){value, value / BLACKOUT_LEAST, value * BLACKOUT_MOST};
    }
    return (LpmPredictBand){value,
                            fmin(runs[BEST].ends ? runs[BEST].figures[figure] : value, value),
                            runs[WORST].ends ? fmax(runs[WORST].figures[figure], value) : -1};
}

/* With its bytes as they are on a full link: one that is not full has fewer of them packed. */
static bool is_link_bound(const LpmPredictInput *input, const LpmPredictLesson *coding,
                          const LpmPredictLesson *link)
{
    Speeds speeds = speeds_of(input, LIKELY, coding, link);
    LpmPredictLesson full = lpm_predict_learn(input, LPM_PREDICT_BYTES, true);

    return case_of(input, LIKELY, speeds, (More){1, full.factor}).first_rate < speeds.coding;
}

/*
 * What is kept to learn from: the figures as they would be had nothing been learned. Of the time,
 * that of what limits it alone, so that each of the two is learned by itself.
 */
static void set_model(const LpmPredictInput *input, bool link_bound, More more,
                      double ret_model[LPM_PREDICT_N])
{
    const LpmPredictLesson nothing = {.factor = 1};
    Speeds speeds = speeds_of(input, LIKELY, &nothing, &nothing);
    LpmPredictCase plain = case_of(input, LIKELY, speeds, (More){1, 1});
    LpmPredictRun run = lpm_predict_run(&plain);

    for (int figure = 0; figure < LPM_PREDICT_N; figure++) {
        ret_model[figure] = run.ends ? run.figures[figure] : -1; /* nothing to compare with */
    }
    *(link_bound ? &speeds.coding : &speeds.link) = INFINITY;
    plain = case_of(input, LIKELY, speeds, more);
    run = lpm_predict_run(&plain);
    ret_model[LPM_PREDICT_DURATION] = run.ends ? run.figures[LPM_PREDICT_DURATION] : -1;
}

void lpm_predict(const LpmPredictInput *input, LpmPrediction *ret)
{
    LpmPredictLesson coding = lpm_predict_learn(input, LPM_PREDICT_DURATION, false);
    LpmPredictLesson link = lpm_predict_learn(input, LPM_PREDICT_DURATION, true);
    bool link_bound = is_link_bound(input, &coding, &link);
    LpmPredictLesson bytes = lpm_predict_learn(input, LPM_PREDICT_BYTES, link_bound);
    More more = {bytes.factor, lpm_predict_learn(input, LPM_PREDICT_BYTES, true).factor};
    LpmPredictCase of[CASES];
    LpmPredictRun runs[CASES];

    for (CaseName name = BEST; name < CASES; name++) {
        of[name] = case_of(input, name, speeds_of(input, name, &coding, &link),
                           name == LIKELY ? more : (More){1, 1});
        runs[name] = lpm_predict_run(&of[name]);
    }
    const LpmPredictCase *likely = &of[LIKELY];
    const LpmPredictLesson *duration = link_bound ? &link : &coding;
    const LpmPredictLesson *other = link_bound ? &coding : &link;
    /* That the processors are quick enough for the link is learned, too. */
    const LpmPredictLesson *told = duration->moves > 0 ? duration : other;
    LpmPredictLesson blackout = lpm_predict_learn(input, LPM_PREDICT_BLACKOUT, link_bound);
    *ret = (LpmPrediction){
        .verdict = verdict_of(input, runs),
        .from = told->from,
        .moves = told->moves,
        .rounds = runs[LIKELY].ends ? runs[LIKELY].rounds + 1 : 0,
        .again = input->again,
        .link_bound = link_bound,
        .raw = input->raw,
        .verify = input->verify,
        .dirty_known = input->n_looks > 0,
        .dirty_rate = likely->dirty_rate,
        .send_rate = likely->later_rate,
        .needed_blackout_ms =
            input->n_looks > 0 ? runs[LIKELY].left / likely->later_rate * 1e3 * 1.25 : -1,
        .factor = {duration->factor, bytes.factor, blackout.factor},
    };
    set_model(input, link_bound, more, ret->model);
    const LpmPredictLesson *const lessons[LPM_PREDICT_N] = {duration, &bytes, &blackout};
    for (int figure = 0; figure < LPM_PREDICT_N; figure++) {
        /* The speeds have their lessons already; bytes and blackout get theirs here. */
        bool corrected = figure == LPM_PREDICT_DURATION || ret->model[figure] < 0;
        double value =
            corrected ? runs[LIKELY].figures[figure] : ret->model[figure] * lessons[figure]->factor;

        ret->figures[figure] = band(runs, (LpmPredictFigure)figure, value, lessons[figure]->spread);
    }
}
