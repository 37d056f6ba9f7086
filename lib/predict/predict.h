/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a move will cost, said before it begins: how long, how many bytes, how long a blackout, and
 * whether the copy comes to its end at all. A small model of pre-copy (docs/guide/prediction.md),
 * corrected by what became of earlier predictions. Pure: the same facts give the same answer, and
 * the facts are kept with the move.
 *
 * Three runs of the model: as it most likely is, and as it is at best and at worst within what the
 * measurements leave open. "Yes" is said only when it ends at worst, "no" only when it does not at
 * best.
 */
#pragma once

#include "base/json.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum { LPM_PREDICT_UNSURE, LPM_PREDICT_YES, LPM_PREDICT_NO } LpmPredictVerdict;

/* What is predicted of a move. */
typedef enum {
    LPM_PREDICT_DURATION, /* ms, from the source's first step to the end of both halves */
    LPM_PREDICT_BYTES,    /* on the wire, both ways */
    LPM_PREDICT_BLACKOUT, /* ms */
    LPM_PREDICT_N,
} LpmPredictFigure;

/* "duration_ms", "wire_bytes", "blackout_ms". Static. */
extern const char *const lpm_predict_names[LPM_PREDICT_N];

/* Below 0: not known, or there is no end to it. */
typedef struct {
    double value, low, high;
} LpmPredictBand;

enum { LPM_PREDICT_LOOKS = 2, LPM_PREDICT_PAST = 16 };

/* An earlier move that was predicted too, and ended at its target. */
typedef struct {
    bool partition;              /* it was this partition's */
    bool systems;                /* it was between these two systems, either way */
    bool again;                  /* the target kept an image of it */
    bool raw, verify;            /* nothing was coded; its memory was compared */
    bool link_bound;             /* the model took the link for what limits it */
    double model[LPM_PREDICT_N]; /* the model's figures before any correction; 0 or less: none */
    double actual[LPM_PREDICT_N];
    double later_stream, later_wire; /* bytes after the first pass; 0: not known */
} LpmPredictPast;

/* Rates are bytes a second. Below 0: not known. */
typedef struct {
    double memory;    /* bytes of the partition */
    double used;      /* bytes of it that were ever written */
    double link_rate; /* measured */
    double max_rate;  /* asked for; 0: none */
    double round_trip_ms;
    double max_blackout_ms;
    bool raw, verify, auto_converge, postcopy;
    bool again;         /* both systems keep the same image of its memory */
    double image_age_s; /* since that was true of all of it */
    struct {
        double ms, bytes;                  /* how much was changed in so much time */
    } looks[LPM_PREDICT_LOOKS];            /* the shorter first */
    size_t n_looks;                        /* 0: not measured */
    double look_unit;                      /* the smallest change in bytes that a look sees */
    LpmPredictPast past[LPM_PREDICT_PAST]; /* the newest first */
    size_t n_past;
} LpmPredictInput;

typedef enum {
    LPM_PREDICT_FROM_NOTHING,
    LPM_PREDICT_FROM_SYSTEMS,
    LPM_PREDICT_FROM_PARTITION
} LpmPredictFrom;

typedef struct {
    LpmPredictVerdict verdict;
    LpmPredictBand figures[LPM_PREDICT_N];
    double model[LPM_PREDICT_N];  /* before correction, to learn from */
    double factor[LPM_PREDICT_N]; /* the corrections */
    LpmPredictFrom from;          /* where what is known of the speeds comes from */
    unsigned moves;               /* how many earlier ones that are */
    unsigned rounds;              /* passes over memory, the last one included; 0: without end */
    bool again, link_bound, raw, verify;
    bool dirty_known;
    double dirty_rate;         /* most likely; 0 also when not known */
    double send_rate;          /* most likely, of what is written meanwhile, as QEMU counts it */
    double needed_blackout_ms; /* that would end it at its most likely; below 0: not known */
} LpmPrediction;

enum { LPM_PREDICT_FACTOR_MAX = 32 }; /* no correction is larger, or smaller than its inverse */

void lpm_predict(const LpmPredictInput *input, LpmPrediction *ret_prediction);

/* "unsure", "yes", "no". Static. */
const char *lpm_predict_verdict_name(LpmPredictVerdict verdict);

/* --- as JSON --- */

/*
 * What is in a facts document (docs/spec/facts.md). False: not enough to say anything, because the
 * move is not an active one, or the partition's memory or the link's rate are not known.
 */
bool lpm_predict_read(const json_t *facts, LpmPredictInput *ret_input);
/* The prediction for @facts, `prediction` of docs/spec/rest.md; JSON null when there is none. New
 * reference. */
json_t *lpm_predict_facts(const json_t *facts);
json_t *lpm_prediction_to_json(const LpmPrediction *prediction, const LpmPredictInput *input);
/*
 * What would help a copy that may not converge: phrases, as of a move that copies. Appended to
 * the array @ret.
 */
void lpm_predict_advice(const LpmPrediction *prediction, const LpmPredictInput *input, json_t *ret);
/*
 * What became of @prediction (as JSON): {"duration_ms": {"predicted","actual","error_percent"},
 * ...}; @actual below 0: not known, and left out. Errors are signed: above 0, too much was
 * predicted. New reference.
 */
json_t *lpm_predict_score(const json_t *prediction, const double actual[LPM_PREDICT_N]);
