/* SPDX-License-Identifier: Apache-2.0 */
/* A migration as readers see it: both halves merged into one. */
#include "moves.h"

#include <string.h>

const char *lpm_move_state_name(const LpmMove *move)
{
    const char *class = lpm_json_str(move->error, "class", "");

    if (move->state == LPM_MOB_DRV_FAILED) {
        if (strcmp(class, lpm_error_info(LPM_ERROR_REFUSED)->name) == 0) {
            return "refused";
        }
        if (move->stop_requested && strcmp(class, lpm_error_info(LPM_ERROR_ABORTED)->name) == 0) {
            return "stopped";
        }
    }
    return lpm_mob_state_name(LPM_MOB_DRV, move->state);
}

/* Which half knows a figure best; the other one is asked when it does not. */
typedef struct {
    const char *name;
    LpmHalfSide first;
} FigureRow;

static const FigureRow figures[] = {
    {"stream_bytes", LPM_HALF_SOURCE},  {"wire_bytes", LPM_HALF_SOURCE},
    {"total_bytes", LPM_HALF_SOURCE},   {"remaining_bytes", LPM_HALF_SOURCE},
    {"rate_bytes", LPM_HALF_SOURCE},    {"dirty_rate_bytes", LPM_HALF_SOURCE},
    {"passes", LPM_HALF_SOURCE},        {"predicted_blackout_ms", LPM_HALF_SOURCE},
    {"blackout_ms", LPM_HALF_TARGET},   {"eta_ms", LPM_HALF_SOURCE},
    {"round_trip_us", LPM_HALF_SOURCE}, {"verify", LPM_HALF_TARGET},
    {"convergence", LPM_HALF_SOURCE},   {"coding", LPM_HALF_SOURCE},
    {"postcopy", LPM_HALF_TARGET},
};

static json_t *figure(const LpmMove *move, const FigureRow *row)
{
    json_t *value = lpm_json_at(move->halves[row->first].status, row->name);

    return value ? value : lpm_json_at(move->halves[!row->first].status, row->name);
}

/* The half that the console hears now knows how the link is; the source first. */
static json_t *links(const LpmMove *move)
{
    bool deaf = !lpm_systems_need(move->console, move->systems[LPM_HALF_SOURCE], NULL) &&
                lpm_systems_need(move->console, move->systems[LPM_HALF_TARGET], NULL);
    const FigureRow row = {"links", deaf ? LPM_HALF_TARGET : LPM_HALF_SOURCE};
    json_t *value = figure(move, &row);

    return value ? json_incref(value) : json_null();
}

static bool has_phase(const json_t *phases, const char *name)
{
    json_t *phase;
    size_t i;

    json_array_foreach (phases, i, phase) {
        if (strcmp(lpm_json_str(phase, "name", ""), name) == 0) {
            return true;
        }
    }
    return false;
}

/* The source's phases by its clock; those that only the target has had follow, by the target's. */
static json_t *phases(const LpmMove *move, double *ret_total_ms)
{
    json_t *result = json_array();
    double total = 0;

    for (int side = 0; side < LPM_HALF_N; side++) {
        const json_t *list = lpm_json_at(move->halves[side].status, "phases");
        int64_t begin = lpm_json_int(list, "0.start_us", 0);
        json_t *phase;
        size_t i;

        json_array_foreach (list, i, phase) {
            const char *name = lpm_json_str(phase, "name", "");
            int64_t start = lpm_json_int(phase, "start_us", 0);
            double ms = lpm_json_real(phase, "ms", 0);
            double from = (double)(start - begin) / 1e3;

            if (!has_phase(result, name)) {
                json_array_append_new(result,
                                      lpm_json_pack("{s:s, s:f, s:I, s:f}", "name", name, "start",
                                                    from, "start_us", (json_int_t)start, "ms", ms));
                total = MAX(total, from + ms);
            }
        }
    }
    *ret_total_ms = total;
    return result;
}

double lpm_move_total_ms(const LpmMove *move)
{
    double total_ms;
    g_autoptr(json_t) list = phases(move, &total_ms);

    return total_ms;
}

static double progress(const LpmMove *move)
{
    const json_t *status = move->halves[LPM_HALF_SOURCE].status;
    const char *phase = lpm_json_str(status, "phase", "");
    int64_t total = lpm_json_int(status, "total_bytes", 0);
    int64_t remaining = lpm_json_int(status, "remaining_bytes", total);

    if (move->state == LPM_MOB_DRV_COMPLETED) {
        return 1;
    }
    if (total <= 0 || strcmp(phase, "copy") != 0) {
        return *phase && strcmp(phase, "prepare") != 0 && strcmp(phase, "copy") != 0 ? 1 : 0;
    }
    return CLAMP(1 - (double)remaining / (double)total, 0, 1);
}

static json_t *waiting_for(const LpmMove *move)
{
    json_t *names = json_array();

    for (int side = 0; !lpm_move_is_over(move) && side < LPM_HALF_N; side++) {
        if (!lpm_systems_need(move->console, move->systems[side], NULL)) {
            json_array_append_new(names, json_string(move->systems[side]));
        }
    }
    return names;
}

static json_t *or_null(json_t *value)
{
    return value ? json_incref(value) : json_null();
}

/* Check, pre and undo of the source, post of the target. */
static json_t *scripts(const LpmMove *move)
{
    json_t *list = json_array();

    for (int side = 0; side < LPM_HALF_N; side++) {
        json_t *phase;
        size_t i;

        json_array_foreach (lpm_json_at(move->halves[side].status, "scripts.phases"), i, phase) {
            json_array_append(list, phase);
        }
    }
    return list;
}

static void add_details(const LpmMove *move, json_t *view)
{
    json_object_set_new(view, "scripts", scripts(move));
    json_object_set_new(view, "findings",
                        move->findings ? json_incref(move->findings) : json_array());
    json_object_set_new(view, "source_half", or_null(move->halves[LPM_HALF_SOURCE].status));
    json_object_set_new(view, "target_half", or_null(move->halves[LPM_HALF_TARGET].status));
    json_object_set_new(view, "situation", lpm_move_situation(move));
    json_object_set_new(view, "words", lpm_move_words(move));
}

/* The part of the stream that the wire was spared; below 0 where the frames weigh more. */
static json_t *saved(const json_t *view)
{
    double stream = lpm_json_real(view, "stream_bytes", 0);
    double wire = lpm_json_real(view, "wire_bytes", 0);

    return stream > 0 ? json_real(100 * (1 - wire / stream)) : json_null();
}

json_t *lpm_move_view(const LpmMove *move, bool brief)
{
    double total_ms;
    json_t *list = phases(move, &total_ms);
    bool over = lpm_move_is_over(move);
    json_t *view = lpm_json_pack(
        "{s:s, s:I, s:s, s:s, s:s, s:b, s:s, s:b, s:b, s:s, s:O, s:I, s:o, s:s?, s:f}", "migration",
        move->id, "revision", (json_int_t)move->revision, "partition", move->partition, "source",
        move->systems[LPM_HALF_SOURCE], "target", move->systems[LPM_HALF_TARGET], "active",
        move->active, "state", lpm_move_state_name(move), "finished", over, "stop_requested",
        move->stop_requested, "user", move->user, "options", move->options, "created_us",
        (json_int_t)move->created_us, "ended_us", over ? json_integer(move->ended_us) : json_null(),
        "phase", over ? NULL : lpm_json_str(move->halves[LPM_HALF_SOURCE].status, "phase", NULL),
        "progress", progress(move));

    for (size_t i = 0; i < G_N_ELEMENTS(figures); i++) {
        json_object_set_new(view, figures[i].name, or_null(figure(move, &figures[i])));
    }
    json_object_set_new(view, "saved_percent", saved(view));
    json_object_set_new(view, "links", links(move));
    json_object_set_new(view, "total_ms", total_ms > 0 ? json_real(total_ms) : json_null());
    json_object_set_new(view, "phases", list);
    json_object_set_new(view, "prediction", or_null(move->prediction));
    json_object_set_new(view, "score", lpm_move_score(move));
    json_object_set_new(view, "error", or_null(move->error));
    json_object_set_new(view, "note", move->note ? json_string(move->note) : json_null());
    json_object_set_new(view, "waiting_for", waiting_for(move));
    if (!brief) {
        add_details(move, view);
    }
    return view;
}
