/* SPDX-License-Identifier: Apache-2.0 */
/* Facts in, prediction out, both as JSON; and how good it was. */
#include "predict/internal.h"

#include <math.h>
#include <string.h>

#define MIB            1048576.0
#define US_PER_MS      1e3
#define FEW_HUNDRED_MS 300

static double number(const json_t *json, const char *path, double fallback)
{
    return lpm_json_real(json, path, fallback);
}

/* --- reading --- */

static void read_looks(const json_t *facts, LpmPredictInput *input)
{
    const json_t *looks = lpm_json_at(facts, "partition.dirty.looks");

    input->look_unit = fmax(number(facts, "partition.dirty.unit_bytes", 0), 0);
    for (size_t i = 0; i < json_array_size(looks) && input->n_looks < LPM_PREDICT_LOOKS; i++) {
        const json_t *look = json_array_get(looks, i);
        double ms = number(look, "ms", 0), bytes = number(look, "bytes", -1);

        if (ms > 0 && bytes >= 0) {
            input->looks[input->n_looks].ms = ms;
            input->looks[input->n_looks++].bytes = bytes;
        }
    }
}

/* Both keep one, and it is the same: docs/spec/page-store.md. */
static void read_image(const json_t *facts, LpmPredictInput *input)
{
    const json_t *here = lpm_json_at(facts, "partition.image");
    const json_t *there = lpm_json_at(facts, "target_check.image");
    const char *id = lpm_json_str(here, "image", "");

    input->again = !input->raw && *id && strcmp(id, lpm_json_str(there, "image", "")) == 0 &&
                   lpm_json_int(here, "generation", -1) == lpm_json_int(there, "generation", -2);
    input->image_age_s = fmax(number(here, "age_s", 0), 0);
}

static bool same_systems(const json_t *row, const char *source, const char *target)
{
    const char *from = lpm_json_str(row, "source", ""), *to = lpm_json_str(row, "target", "");

    return (strcmp(from, source) == 0 && strcmp(to, target) == 0) ||
           (strcmp(from, target) == 0 && strcmp(to, source) == 0);
}

static void read_past(const json_t *facts, LpmPredictInput *input)
{
    const char *partition = lpm_json_str(facts, "partition.profile.name", "");
    const char *source = lpm_json_str(facts, "source.name", "");
    const char *target = lpm_json_str(facts, "target.name", "");
    json_t *row;
    size_t i;

    json_array_foreach (lpm_json_at(facts, "history"), i, row) {
        LpmPredictPast past = {
            .partition = strcmp(lpm_json_str(row, "partition", ""), partition) == 0,
            .systems = same_systems(row, source, target),
            .again = strcmp(lpm_json_str(row, "kind", ""), "return") == 0,
            .raw = lpm_json_bool(row, "raw", false),
            .verify = lpm_json_bool(row, "verify", false),
            .link_bound = strcmp(lpm_json_str(row, "limited_by", ""), "link") == 0,
            .later_stream = number(row, "later_stream_bytes", 0),
            .later_wire = number(row, "later_wire_bytes", 0),
        };

        for (int figure = 0; figure < LPM_PREDICT_N; figure++) {
            const char *name = lpm_predict_names[figure];

            past.model[figure] = number(lpm_json_at(row, "model"), name, -1);
            past.actual[figure] = number(lpm_json_at(row, "actual"), name, -1);
        }
        if (input->n_past < LPM_PREDICT_PAST && (past.partition || past.systems)) {
            input->past[input->n_past++] = past;
        }
    }
}

bool lpm_predict_read(const json_t *facts, LpmPredictInput *ret)
{
    LpmPredictInput input = {
        .memory = number(facts, "partition.memory_mib",
                         number(facts, "partition.profile.memory_mib", 0)) *
                  MIB,
        .link_rate = number(facts, "mover.rate_bytes_s", 0),
        .max_rate = number(facts, "options.max_rate", 0),
        .round_trip_ms = number(facts, "mover.round_trip_us", 0) / US_PER_MS,
        .max_blackout_ms = number(facts, "options.max_blackout_ms", FEW_HUNDRED_MS),
        .raw = lpm_json_bool(facts, "options.raw", false),
        .verify = lpm_json_bool(facts, "options.verify", false),
        .auto_converge = lpm_json_bool(facts, "options.auto_converge", false),
        .postcopy = lpm_json_bool(facts, "options.postcopy", false) ||
                    lpm_json_int(facts, "options.postcopy_after_s", 0) > 0,
    };

    if (!lpm_json_bool(facts, "options.active", true) || input.memory <= 0 ||
        input.link_rate <= 0) {
        return false;
    }
    input.used = number(facts, "partition.used_bytes", input.memory);
    input.used = fmin(fmax(input.used, MIB), input.memory);
    read_looks(facts, &input);
    read_image(facts, &input);
    read_past(facts, &input);
    *ret = input;
    return true;
}

/* --- writing --- */

static json_t *rounded(double value)
{
    return value < 0 ? json_null() : json_integer((json_int_t)llround(value));
}

static json_t *band_json(const LpmPredictBand *band)
{
    return lpm_json_pack("{s:o, s:o, s:o}", "value", rounded(band->value), "low",
                         rounded(band->low), "high", rounded(band->high));
}

json_t *lpm_prediction_to_json(const LpmPrediction *p, const LpmPredictInput *input)
{
    static const char *const from[] = {"nothing", "systems", "partition"};
    json_t *json = lpm_json_pack("{s:s}", "converges", lpm_predict_verdict_name(p->verdict));
    json_t *model = json_object(), *advice = json_array(), *factors = json_object();

    for (int figure = 0; figure < LPM_PREDICT_N; figure++) {
        const char *name = lpm_predict_names[figure];

        json_object_set_new(json, name, band_json(&p->figures[figure]));
        json_object_set_new(model, name, json_real(p->model[figure]));
        json_object_set_new(factors, name, json_real(p->factor[figure]));
    }
    lpm_predict_advice(p, input, advice);
    json_object_set_new(json, "passes", p->rounds > 0 ? json_integer(p->rounds) : json_null());
    json_object_set_new(json, "kind", json_string(p->again ? "return" : "first"));
    json_object_set_new(json, "raw", json_boolean(p->raw));
    json_object_set_new(json, "verify", json_boolean(p->verify));
    json_object_set_new(json, "limited_by", json_string(p->link_bound ? "link" : "processor"));
    json_object_set_new(json, "dirty_rate_bytes", rounded(p->dirty_known ? p->dirty_rate : -1));
    json_object_set_new(json, "send_rate_bytes", rounded(p->send_rate));
    json_object_set_new(json, "needed_blackout_ms", rounded(p->needed_blackout_ms));
    json_object_set_new(json, "advice", advice);
    json_object_set_new(json, "learned_from", json_string(from[p->from]));
    json_object_set_new(json, "moves", json_integer(p->moves));
    json_object_set_new(json, "factors", factors);
    json_object_set_new(json, "model", model);
    return json;
}

json_t *lpm_predict_facts(const json_t *facts)
{
    LpmPredictInput input;
    LpmPrediction prediction;

    if (!lpm_predict_read(facts, &input)) {
        return json_null();
    }
    lpm_predict(&input, &prediction);
    return lpm_prediction_to_json(&prediction, &input);
}

/* --- advice --- */

void lpm_predict_advice(const LpmPrediction *p, const LpmPredictInput *input, json_t *ret)
{
    const double step = 50;
    double needed = ceil(p->needed_blackout_ms / step) * step;

    if (p->verdict == LPM_PREDICT_YES || !p->dirty_known) {
        return;
    }
    json_array_append_new(
        ret, json_sprintf("%s (it writes %.0f MB/s, about %.0f MB/s can be sent)",
                          input->max_rate > 0 ? "a higher --max-rate" : "more bandwidth",
                          p->dirty_rate / 1e6, p->send_rate / 1e6));
    if (needed > input->max_blackout_ms && needed <= 60e3) {
        json_array_append_new(
            ret, json_sprintf("--max-blackout %.0f (it is %.0f)", needed, input->max_blackout_ms));
    }
    if (!input->auto_converge) {
        json_array_append_new(ret, json_string("--auto-converge, which slows the partition down"));
    }
    json_array_append_new(ret, json_string("--postcopy, which needs both systems until the end"));
}

/* --- scoring --- */

json_t *lpm_predict_score(const json_t *prediction, const double actual[LPM_PREDICT_N])
{
    json_t *score = json_object();

    for (int figure = 0; figure < LPM_PREDICT_N; figure++) {
        const char *name = lpm_predict_names[figure];
        const json_t *value = lpm_json_at(lpm_json_at(prediction, name), "value");
        double predicted = json_is_number(value) ? json_number_value(value) : -1;

        if (actual[figure] < 0) {
            continue;
        }
        json_object_set_new(
            score, name,
            lpm_json_pack("{s:o, s:o, s:o}", "predicted", rounded(predicted), "actual",
                          rounded(actual[figure]), "error_percent",
                          predicted < 0 || actual[figure] < 1
                              ? json_null()
                              : json_real(round(1000 * (predicted / actual[figure] - 1)) / 10)));
    }
    return score;
}
