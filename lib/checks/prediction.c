/* SPDX-License-Identifier: Apache-2.0 */
/* What lib/predict makes of the facts, where it is worth a finding. */
#include "checks/internal.h"
#include "predict/predict.h"

/* What was not measured is no reason for a finding: the measurement may have been left out. */
static bool predicted(const LpmCheckRun *run, LpmPredictVerdict verdict, LpmPredictInput *input,
                      LpmPrediction *ret)
{
    if (!lpm_predict_read(run->facts, input)) {
        return false;
    }
    lpm_predict(input, ret);
    return ret->dirty_known && ret->verdict == verdict;
}

/* The advice in one line. To be g_free()d. */
static char *advice_of(const LpmPrediction *prediction, const LpmPredictInput *input)
{
    g_autoptr(json_t) advice = json_array();
    g_autoptr(GString) text = g_string_new(NULL);
    json_t *item;
    size_t i;

    lpm_predict_advice(prediction, input, advice);
    json_array_foreach (advice, i, item) {
        g_string_append_printf(text, "%s%s", i > 0 ? "; or " : "", json_string_value(item));
    }
    return g_strdup(text->str);
}

static void check_converges(LpmCheckRun *run)
{
    LpmPredictInput input;
    LpmPrediction p;

    if (predicted(run, LPM_PREDICT_NO, &input, &p)) {
        lpm_check_fail(
            run, TEXT("partition %s", run->partition),
            TEXT("a copy that comes to its end within %.0f ms of blackout", input.max_blackout_ms),
            TEXT("it writes about %.0f MB/s, and about %.0f MB/s of that can be sent to %s",
                 p.dirty_rate / 1e6, p.send_rate / 1e6, run->target),
            advice_of(&p, &input));
    }
}

static void check_unsure(LpmCheckRun *run)
{
    LpmPredictInput input;
    LpmPrediction p;

    if (predicted(run, LPM_PREDICT_UNSURE, &input, &p)) {
        lpm_check_fail(
            run, TEXT("partition %s", run->partition), TEXT("a copy that surely comes to its end"),
            TEXT("it writes about %.0f MB/s, and what of that can be sent to %s in time depends "
                 "on how small it becomes on its way: about %.0f MB/s",
                 p.dirty_rate / 1e6, run->target, p.send_rate / 1e6),
            advice_of(&p, &input));
    }
}

static const LpmCheckRow rows[] = {
    {"prediction.converges", LPM_WHEN_ACTIVE, LPM_SEVERITY_WARNING, false, NULL,
     "The copy will come to its end",
     "Predicted from what the partition writes, the link and earlier moves: a partition that "
     "writes "
     "faster than can be sent is copied over and over, until it is given up.",
     check_converges},
    {"prediction.unsure", LPM_WHEN_ACTIVE, LPM_SEVERITY_INFO, false, NULL,
     "It is sure that the copy comes to its end",
     "Between what certainly ends and what certainly does not there is what only the copy itself "
     "will show.",
     check_unsure},
};

const LpmCheckGroup lpm_check_group_prediction = {"prediction", "Prediction", rows,
                                                  G_N_ELEMENTS(rows)};
