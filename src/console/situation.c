/* SPDX-License-Identifier: Apache-2.0 */
/* A move that waits, in plain words: what both halves said last, against the table of lib/mobility.
 */
#include "moves.h"

#include <string.h>

static const LpmMobMachine machines[LPM_HALF_N] = {LPM_MOB_SRC, LPM_MOB_DST};

const LpmMobAdvice *lpm_move_advice(const LpmMove *move, LpmHalfSide side)
{
    const json_t *status = move->halves[side].status;
    LpmMobMachine machine = machines[side];
    unsigned journal, record, qemu;

    if (!status || lpm_half_finished(&move->halves[side]) ||
        !lpm_mob_state_from_name(machine, lpm_json_str(status, "journal", NULL), &journal) ||
        !lpm_mob_record_view_from_name(lpm_json_str(status, "sees.record", NULL), &record) ||
        !lpm_mob_qemu_from_name(machine, lpm_json_str(status, "sees.qemu", NULL), &qemu)) {
        return NULL;
    }
    return lpm_mob_advice(machine, journal, record, qemu);
}

static void append(json_t *list, const LpmMobNames *names, const char *text)
{
    char filled[LPM_MOB_ADVICE_MAX];

    if (*text) {
        (void)lpm_mob_fill(filled, sizeof(filled), text, names);
        json_array_append_new(list, json_string(filled));
    }
}

static void may(json_t *list, const LpmMobNames *names, const char *text, const char *command,
                const char *say)
{
    char texts[3][LPM_MOB_ADVICE_MAX];

    (void)lpm_mob_fill(texts[0], sizeof(texts[0]), text, names);
    (void)lpm_mob_fill(texts[1], sizeof(texts[1]), command ? command : "", names);
    (void)lpm_mob_fill(texts[2], sizeof(texts[2]), say ? say : "", names);
    json_array_append_new(list,
                          lpm_json_pack("{s:s, s:s?, s:s?}", "text", texts[0], "command",
                                        command ? texts[1] : NULL, "say", say ? texts[2] : NULL));
}

static bool answers(const LpmMove *move, LpmHalfSide side)
{
    return lpm_systems_need(move->console, move->systems[side], NULL) != NULL;
}

static void add_silence(const LpmMove *move, LpmHalfSide side, json_t *known, json_t *unknown)
{
    const LpmSystem *system = lpm_move_system(move, side);
    const char *journal = lpm_json_str(move->halves[side].status, "journal", NULL);
    g_autofree char *what = g_strdup_printf("what system %s did since", move->systems[side]);
    g_autofree char *text = g_strdup_printf(
        "System %s does not answer (%s); its journal said last: %s.", move->systems[side],
        !system         ? "it was deleted"
        : system->error ? system->error
                        : "not connected yet",
        journal ? journal : "nothing that was heard here");

    json_array_append_new(known, json_string(text));
    json_array_append_new(unknown, json_string(what));
}

static const char *command_of(LpmMobWord word)
{
    static const char *const commands[LPM_MOB_WORD_N] = {
        [LPM_MOB_WORD_TARGET_OFF] = "lpm migration recover {migration} --target-fenced",
        [LPM_MOB_WORD_SOURCE_OFF] = "lpm migration recover {migration} --source-fenced",
        [LPM_MOB_WORD_DISCARD] = "lpm migration recover {migration} --discard",
    };

    return commands[word];
}

/* The word is for people who know more than the systems, so it is not offered while both answer. */
static void add_word(const LpmMove *move, LpmHalfSide side, const LpmMobAdvice *advice,
                     json_t *list)
{
    static const char *const conditions[LPM_MOB_WORD_N] = {
        [LPM_MOB_WORD_TARGET_OFF] = "only if {target} is off or cut from the storage, and will not "
                                    "come back in time: ",
        [LPM_MOB_WORD_SOURCE_OFF] = "only if {source} is off for good: ",
        [LPM_MOB_WORD_DISCARD] = "only if {source} will never offer it: ",
    };
    LpmMobWord word = (LpmMobWord)advice->word;
    LpmMobNames names = lpm_move_names(move);
    g_autofree char *text = NULL;

    if (word == LPM_MOB_WORD_NONE || answers(move, !side)) {
        return;
    }
    text = g_strconcat(conditions[word], advice->stake, NULL);
    may(list, &names, text, command_of(word), lpm_mob_word_text(word));
}

json_t *lpm_move_situation(const LpmMove *move)
{
    json_t *known, *unknown, *list;
    LpmMobNames names = lpm_move_names(move);
    const LpmMobAdvice *advice[LPM_HALF_N] = {NULL};
    bool silent = false;

    for (int side = 0; side < LPM_HALF_N; side++) {
        advice[side] = answers(move, side) ? lpm_move_advice(move, side) : NULL;
        silent |= !answers(move, side) && !lpm_half_finished(&move->halves[side]);
    }
    if (lpm_move_is_over(move) || !move->started ||
        (!silent && !advice[LPM_HALF_SOURCE] && !advice[LPM_HALF_TARGET])) {
        return json_null();
    }
    known = json_array();
    unknown = json_array();
    list = json_array();
    for (int side = 0; side < LPM_HALF_N; side++) {
        if (advice[side]) {
            append(known, &names, advice[side]->known);
            append(unknown, &names, advice[side]->unknown);
            may(list, &names, advice[side]->next, NULL, NULL);
        }
        if (!answers(move, side)) {
            add_silence(move, side, known, unknown);
        }
    }
    if (move->fencing.result) {
        json_array_append_new(known, json_string(move->fencing.result));
    }
    may(list, &names, "let both systems look again now; this changes nothing by itself",
        "lpm migration recover {migration}", NULL);
    for (int side = 0; side < LPM_HALF_N; side++) {
        if (advice[side]) {
            add_word(move, side, advice[side], list);
        }
    }
    return lpm_json_pack("{s:o, s:o, s:o}", "known", known, "unknown", unknown, "may", list);
}

json_t *lpm_move_words(const LpmMove *move)
{
    json_t *list = json_array();

    for (int side = 0; side < LPM_HALF_N; side++) {
        json_t *word;
        size_t i;

        json_array_foreach (lpm_json_at(move->halves[side].status, "words"), i, word) {
            json_t *copy = json_copy(word);

            json_object_set_new(copy, "system", json_string(move->systems[side]));
            json_array_append_new(list, copy);
        }
    }
    return list;
}
