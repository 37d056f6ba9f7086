/* SPDX-License-Identifier: Apache-2.0 */
/* What became of predictions, and what the next one learns from that. */
#include "moves.h"

#include <string.h>

static double figure_of(const LpmMove *move, LpmHalfSide first, const char *name)
{
    double value = lpm_json_real(move->halves[first].status, name, -1);

    return value >= 0 ? value : lpm_json_real(move->halves[!first].status, name, -1);
}

void lpm_move_actual(const LpmMove *move, double ret[LPM_PREDICT_N])
{
    for (int figure = 0; figure < LPM_PREDICT_N; figure++) {
        ret[figure] = -1;
    }
    if (move->state == LPM_MOB_DRV_COMPLETED) {
        double total_ms = lpm_move_total_ms(move);

        ret[LPM_PREDICT_DURATION] = total_ms > 0 ? total_ms : -1;
        ret[LPM_PREDICT_BYTES] = figure_of(move, LPM_HALF_SOURCE, "wire_bytes");
        ret[LPM_PREDICT_BLACKOUT] = figure_of(move, LPM_HALF_TARGET, "blackout_ms");
    }
}

/* Whether the copy came to its end by itself; post-copy says nothing of that. */
static json_t *converged(const LpmMove *move)
{
    const json_t *status = move->halves[LPM_HALF_SOURCE].status;
    const char *verdict = lpm_json_str(status, "convergence.state", "");

    if (lpm_json_at(status, "postcopy")) {
        return json_null();
    }
    if (move->state == LPM_MOB_DRV_COMPLETED) {
        return json_true();
    }
    return strcmp(verdict, "does-not-converge") == 0 ? json_false() : json_null();
}

json_t *lpm_move_score(const LpmMove *move)
{
    double actual[LPM_PREDICT_N];
    json_t *score;

    if (!json_is_object(move->prediction) || !lpm_move_is_over(move)) {
        return json_null();
    }
    lpm_move_actual(move, actual);
    score = lpm_predict_score(move->prediction, actual);
    json_object_set_new(score, "converges",
                        lpm_json_pack("{s:s, s:o}", "predicted",
                                      lpm_json_str(move->prediction, "converges", "?"), "actual",
                                      converged(move)));
    return score;
}

static json_t *history_row(const LpmMove *move)
{
    const json_t *status = move->halves[LPM_HALF_SOURCE].status;
    double first_stream = lpm_json_real(status, "first_pass.stream_bytes", -1);
    double first_wire = lpm_json_real(status, "first_pass.wire_bytes", 0);
    double actual[LPM_PREDICT_N];
    json_t *row = lpm_json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:s, s:O?, s:I}", "migration", move->id, "partition",
        move->partition, "source", move->systems[LPM_HALF_SOURCE], "target",
        move->systems[LPM_HALF_TARGET], "kind", lpm_json_str(move->prediction, "kind", "first"),
        "raw", lpm_json_bool(move->prediction, "raw", false), "verify",
        lpm_json_bool(move->prediction, "verify", false), "limited_by",
        lpm_json_str(move->prediction, "limited_by", ""), "model",
        json_object_get(move->prediction, "model"), "ended_us", (json_int_t)move->ended_us);
    json_t *figures = json_object();

    lpm_move_actual(move, actual);
    for (int figure = 0; figure < LPM_PREDICT_N; figure++) {
        if (actual[figure] >= 0) {
            json_object_set_new(figures, lpm_predict_names[figure], json_real(actual[figure]));
        }
    }
    json_object_set_new(row, "actual", figures);
    if (first_stream >= 0) {
        double stream = lpm_json_real(status, "stream_bytes", 0) - first_stream;
        double wire = lpm_json_real(status, "wire_bytes", 0) - first_wire;

        json_object_set_new(row, "later_stream_bytes", json_integer((json_int_t)MAX(stream, 0)));
        json_object_set_new(row, "later_wire_bytes", json_integer((json_int_t)MAX(wire, 0)));
    }
    return row;
}

/* A move in post-copy, or one that QEMU had slowed down, is no measure of any other. */
static bool teaches(const LpmMove *move)
{
    return move->state == LPM_MOB_DRV_COMPLETED && json_is_object(move->prediction) &&
           !lpm_json_at(move->halves[LPM_HALF_SOURCE].status, "postcopy") &&
           lpm_json_int(move->halves[LPM_HALF_SOURCE].status, "links.reconnects", 0) == 0 &&
           lpm_json_int(move->halves[LPM_HALF_SOURCE].status, "convergence.throttle_percent", 0) ==
               0;
}

static bool has_systems(const LpmMove *move, const char *one, const char *other)
{
    const char *source = move->systems[LPM_HALF_SOURCE], *target = move->systems[LPM_HALF_TARGET];

    return (strcmp(source, one) == 0 && strcmp(target, other) == 0) ||
           (strcmp(source, other) == 0 && strcmp(target, one) == 0);
}

json_t *lpm_moves_history(LpmConsole *console, const char *partition, const char *source,
                          const char *target)
{
    GList *moves = lpm_moves_sorted(console);
    json_t *rows = json_array();
    size_t others = 0;

    for (GList *item = moves; item && json_array_size(rows) < LPM_PREDICT_PAST; item = item->next) {
        const LpmMove *move = item->data;
        bool own = strcmp(move->partition, partition) == 0;

        /* Room is left for the partition's own. */
        if (teaches(move) &&
            (own || (has_systems(move, source, target) && others++ < LPM_PREDICT_PAST / 2))) {
            json_array_append_new(rows, history_row(move));
        }
    }
    g_list_free(moves);
    return rows;
}
