/* SPDX-License-Identifier: Apache-2.0 */
/* What earlier moves teach: by how much the model was wrong. */
#include "predict/internal.h"

#include <math.h>
#include <stdlib.h>

enum { LESSONS = 5 };     /* the newest that apply; the middle one of them counts */
#define LEAST_LATER  4e6  /* bytes after the first pass, below which their ratio says nothing */
#define SPREAD_ALONE 0.35 /* of one move; more moves tell it themselves */
#define SPREAD_LEAST 0.12
#define SPREAD_MOST  1.0

static int by_size(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return a < b ? -1 : a > b;
}

static double middle(double *values, size_t n)
{
    qsort(values, n, sizeof *values, by_size);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/* How often the middle distance from the middle is a spread that nearly all are within. */
#define DISTANCES 3.0

static double spread_of(const double *logs, size_t n, double centre)
{
    double distances[LESSONS];

    if (n == 1) {
        return SPREAD_ALONE;
    }
    for (size_t i = 0; i < n; i++) {
        distances[i] = fabs(logs[i] - centre);
    }
    /* Few moves may agree by chance. */
    return fmin(fmax(DISTANCES * middle(distances, n), SPREAD_LEAST) + SPREAD_ALONE / (double)n,
                SPREAD_MOST);
}

/* Whose moves, and which: what is asked first says most. */
typedef struct {
    LpmPredictFrom from;
    bool other_kind;  /* first moves teach returns, and the other way round */
    bool other_bound; /* what limited them does not matter */
    double more;      /* of a spread than the moves tell */
} Tier;

static const Tier tiers[] = {
    {LPM_PREDICT_FROM_PARTITION, false, false, 0}, {LPM_PREDICT_FROM_PARTITION, false, true, 0.2},
    {LPM_PREDICT_FROM_SYSTEMS, false, false, 0.3}, {LPM_PREDICT_FROM_PARTITION, true, true, 0.3},
    {LPM_PREDICT_FROM_SYSTEMS, true, true, 0.5},
};

/*
 * The bytes of one partition, or of one kind of move, say nothing of another's; and a link that is
 * full has more of them packed than one that is not, so that these teach nothing for it. How fast
 * the processors are is the same for all; how fast a link is, only where it was full.
 */
static bool teaches(const Tier *tier, LpmPredictFigure figure, bool link_bound)
{
    switch (figure) {
    case LPM_PREDICT_BYTES:
        return tier->from == LPM_PREDICT_FROM_PARTITION && !tier->other_kind &&
               !(tier->other_bound && link_bound);
    case LPM_PREDICT_DURATION:
        return !tier->other_kind || !link_bound;
    case LPM_PREDICT_BLACKOUT:
    case LPM_PREDICT_N:
        break;
    }
    return true;
}

static bool applies(const LpmPredictPast *past, const LpmPredictInput *input,
                    LpmPredictFigure figure, bool link_bound, const Tier *tier)
{
    bool whose = tier->from == LPM_PREDICT_FROM_PARTITION ? past->partition : past->systems;
    bool any_bound = tier->other_bound && figure != LPM_PREDICT_DURATION;

    return whose && past->raw == input->raw && past->model[figure] > 0 &&
           past->actual[figure] > 0 && (tier->other_kind || past->again == input->again) &&
           (figure == LPM_PREDICT_BYTES || past->verify == input->verify) &&
           (any_bound || past->link_bound == link_bound);
}

LpmPredictLesson lpm_predict_learn(const LpmPredictInput *input, LpmPredictFigure figure,
                                   bool link_bound)
{
    double logs[LESSONS], most = log(LPM_PREDICT_FACTOR_MAX);

    for (size_t t = 0; t < sizeof tiers / sizeof *tiers; t++) {
        size_t n = 0;

        for (size_t i = 0; i < input->n_past && n < LESSONS; i++) {
            const LpmPredictPast *past = &input->past[i];

            if (teaches(&tiers[t], figure, link_bound) &&
                applies(past, input, figure, link_bound, &tiers[t])) {
                logs[n++] = log(past->actual[figure] / past->model[figure]);
            }
        }
        if (n > 0) {
            double centre = middle(logs, n);

            return (LpmPredictLesson){
                .factor = exp(fmax(-most, fmin(centre, most))),
                .spread = spread_of(logs, n, centre) + tiers[t].more,
                .from = tiers[t].from,
                .moves = (unsigned)n,
            };
        }
    }
    return (LpmPredictLesson){.factor = 1, .spread = -1};
}

double lpm_predict_later_ratio(const LpmPredictInput *input)
{
    for (size_t i = 0; i < input->n_past; i++) {
        const LpmPredictPast *past = &input->past[i];

        if (past->partition && past->raw == input->raw && past->later_stream >= LEAST_LATER) {
            return fmax(past->later_wire / past->later_stream, 0.001);
        }
    }
    return -1;
}
