/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of this library only. */
#pragma once

#include "predict/predict.h"

/* What the model is run with, once each for its best, likely and worst. Rates in bytes a second. */
typedef struct {
    double stream;      /* bytes of the first pass */
    double empty;       /* bytes of memory that QEMU only looks at */
    double coding_rate; /* what the processors can do */
    double first_rate;  /* of the first pass, as QEMU counts bytes, by processors and link */
    double later_rate;  /* of those after it */
    double first_ratio; /* bytes on the wire for one of the stream */
    double later_ratio;
    double dirty_rate; /* at the beginning of a pass */
    double hot;        /* bytes that it writes to at all */
    double max_blackout_ms;
    double round_trip_ms;
    double compared; /* bytes that are compared while it stands still */
    bool postcopy;
} LpmPredictCase;

typedef struct {
    bool ends;
    unsigned rounds;
    double figures[LPM_PREDICT_N]; /* of the first pass only when it does not end */
    double left;                   /* bytes of the last pass */
} LpmPredictRun;

LpmPredictRun lpm_predict_run(const LpmPredictCase *c);

/* Bytes that are dirty after @ms of writing. */
double lpm_predict_dirtied(double rate, double hot, double ms);

/* Of the past moves that say most about @input: what to multiply the model's figure with. */
typedef struct {
    double factor; /* 1: nothing is known */
    double spread; /* how far off it may be, as a logarithm; below 0: nothing is known */
    LpmPredictFrom from;
    unsigned moves;
} LpmPredictLesson;

LpmPredictLesson lpm_predict_learn(const LpmPredictInput *input, LpmPredictFigure figure,
                                   bool link_bound);
/* Bytes on the wire for one that is written again, by the newest move that tells; below 0: none. */
double lpm_predict_later_ratio(const LpmPredictInput *input);
