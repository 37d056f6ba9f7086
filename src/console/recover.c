/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `recover`: both systems take the step that they can; or one of them is given somebody's word,
 * when the system that is said to be off does not answer.
 */
#include "moves.h"

#include <string.h>

#define ASK_TIMEOUT_MS     3000
#define RECOVER_TIMEOUT_MS 10000
#define WORDS_SINCE_RPC    2 /* rpc_versions of a system that knows words */

typedef struct {
    LpmMove *move;
    LpmMobWord word;
    char *say, *who, *from;
    LpmHalfSide side; /* asked first; with a word, alone */
    unsigned pending;
    GError *errors[LPM_HALF_N];
    LpmMoveDone done;
    void *data;
} Recover;

typedef struct {
    Recover *recover;
    LpmHalfSide side;
} RecoverCall;

static void recover_free(Recover *recover)
{
    g_clear_error(&recover->errors[LPM_HALF_SOURCE]);
    g_clear_error(&recover->errors[LPM_HALF_TARGET]);
    lpm_move_unref(recover->move);
    g_free(recover->say);
    g_free(recover->who);
    g_free(recover->from);
    g_free(recover);
}

static void tell_end(const Recover *recover, const GError *error)
{
    LpmMove *move = recover->move;
    const char *how = !error                      ? "was taken"
                      : lpm_call_is_unsure(error) ? "may have been taken"
                                                  : "was not taken";

    if (recover->word) {
        lpm_event_add(move->console, "migration", move->id, recover->who,
                      "the word \"%s\", given from %s, %s%s%s", recover->say, recover->from, how,
                      error ? ": " : "", error ? error->message : "");
    }
}

/* No answer: it may have been heard, and be carried out yet. */
static void warn_unsure(Recover *recover)
{
    GError **error = &recover->errors[recover->side];
    g_autoptr(GError) bare = NULL;

    if (recover->word && *error && lpm_call_is_unsure(*error)) {
        bare = g_steal_pointer(error);
        lpm_error_set(error, (LpmErrorCode)bare->code,
                      "%s; the word may be carried out yet: keep system %s off, look with \"lpm "
                      "migration show %s\", and give the word again where that says so",
                      bare->message, recover->move->systems[!recover->side], recover->move->id);
    }
}

static void recover_end(Recover *recover)
{
    const GError *error = NULL;

    lpm_move_judge(recover->move);
    warn_unsure(recover);
    if (!recover->word) {
        recover->move->relinked_us = 0; /* at once */
        lpm_move_relink(recover->move);
    }
    /* Both failed: there is nothing to show but why. */
    if (recover->errors[recover->side] && (recover->errors[!recover->side] || recover->word)) {
        error = recover->errors[recover->side];
    }
    tell_end(recover, error);
    recover->done(recover->move, error, recover->data);
    recover_free(recover);
}

static void on_recovered(json_t *result, const GError *error, void *data)
{
    RecoverCall *call = data;
    Recover *recover = call->recover;

    if (result) {
        lpm_half_set(recover->move, call->side, result);
    } else {
        recover->move->halves[call->side].unknown =
            g_error_matches(error, LPM_ERROR, LPM_ERROR_NOT_FOUND);
        recover->errors[call->side] = g_error_copy(error);
        g_prefix_error(&recover->errors[call->side],
                       "system %s: ", recover->move->systems[call->side]);
    }
    g_free(call);
    if (--recover->pending == 0) {
        recover_end(recover);
    }
}

/* A system of the release before has only "force", which its operator was asked for here. */
static bool knows_words(const LpmSystem *system)
{
    const json_t *versions = lpm_json_at(system->facts, "rpc_versions");
    json_t *version;
    size_t i;

    json_array_foreach (versions, i, version) {
        if (json_integer_value(version) >= WORDS_SINCE_RPC) {
            return true;
        }
    }
    return false;
}

static json_t *arguments_for(const Recover *recover, const LpmSystem *system)
{
    const char *id = recover->move->id;

    if (!recover->word) {
        return lpm_json_pack("{s:s}", "migration", id);
    }
    if (!knows_words(system)) {
        return lpm_json_pack("{s:s, s:b}", "migration", id, "force", 1);
    }
    return lpm_json_pack("{s:s, s:s, s:s, s:s, s:s}", "migration", id, "word",
                         lpm_mob_word_name(recover->word), "say", recover->say, "who", recover->who,
                         "from", recover->from);
}

static void recover_at(Recover *recover, LpmHalfSide side)
{
    LpmSystem *system = lpm_move_system(recover->move, side);
    RecoverCall *call;

    if (!system) {
        lpm_error_set(&recover->errors[side], LPM_ERROR_NOT_FOUND, "system \"%s\" was deleted",
                      recover->move->systems[side]);
        return;
    }
    if (recover->word == LPM_MOB_WORD_DISCARD && !knows_words(system)) {
        lpm_error_set(&recover->errors[side], LPM_ERROR_STATE,
                      "system %s runs the release before, which cannot be told what is meant: all "
                      "that it knows is force, and that may throw away more than was never "
                      "offered. Update lpm-host there and give the word again, or recover "
                      "without it",
                      system->name);
        return;
    }
    call = g_new0(RecoverCall, 1);
    call->recover = recover;
    call->side = side;
    recover->pending++;
    lpm_system_call(system, "migration-recover", arguments_for(recover, system), RECOVER_TIMEOUT_MS,
                    on_recovered, call);
}

static void recover_go(Recover *recover)
{
    recover_at(recover, recover->side);
    if (!recover->word) {
        recover_at(recover, !recover->side);
    }
    if (recover->pending == 0) {
        recover_end(recover);
    }
}

/* Somebody says that the other system is off: not believed while it answers, be it with a failure.
 */
static void on_other_asked(json_t *result, const GError *error, void *data)
{
    Recover *recover = data;
    bool source = recover->side == LPM_HALF_SOURCE;

    if (error && lpm_call_is_unsure(error)) {
        recover_go(recover);
        return;
    }
    (void)result;
    lpm_error_set(&recover->errors[recover->side], LPM_ERROR_STATE,
                  source ? "system \"%s\" answers, so it is not off: the partition may run there; "
                           "recover without that word, or switch that system off first"
                         : "system \"%s\" answers, so it is not off: it has memory that the "
                           "partition needs; recover without that word",
                  recover->move->systems[!recover->side]);
    recover_end(recover);
}

/*
 * Nothing that is discarded ever ran, and so nobody need be off for that; but from post-copy, QEMU
 * at the source cannot go on without what has come to the target.
 */
static bool is_half(const LpmMove *move)
{
    return lpm_json_str(move->halves[LPM_HALF_TARGET].status, "postcopy", NULL) != NULL;
}

LpmMobNames lpm_move_names(const LpmMove *move)
{
    return (LpmMobNames){move->systems[LPM_HALF_SOURCE], move->systems[LPM_HALF_TARGET],
                         move->partition, move->id};
}

bool lpm_move_check_say(const LpmMove *move, const LpmMoveWord *word, GError **error)
{
    char expected[LPM_MOB_SAY_MAX];
    LpmMobNames names = lpm_move_names(move);

    (void)lpm_mob_fill(expected, sizeof(expected), lpm_mob_word_text(word->word), &names);
    return strcmp(word->say, expected) == 0 ||
           lpm_error_set(error, LPM_ERROR_USAGE,
                         "\"%.64s\" is not the word that is needed; say exactly \"%s\", if it is "
                         "so",
                         word->say, expected);
}

void lpm_move_recover(LpmMove *move, const LpmMoveWord *word, LpmMoveDone done, void *data)
{
    Recover *recover = g_new0(Recover, 1);
    LpmSystem *other;

    recover->move = lpm_move_ref(move);
    recover->done = done;
    recover->data = data;
    recover->side = LPM_HALF_SOURCE;
    if (!word) {
        recover_go(recover);
        return;
    }
    recover->word = word->word;
    recover->say = g_strdup(word->say);
    recover->who = g_strdup(word->who);
    recover->from = g_strdup(word->from);
    recover->side =
        lpm_mob_word_side(word->word) == LPM_MOB_SRC ? LPM_HALF_SOURCE : LPM_HALF_TARGET;
    lpm_event_add(move->console, "migration", move->id, word->who,
                  "the word \"%s\" is given from %s", word->say, word->from);
    other = lpm_move_system(move, !recover->side);
    if (other && (word->word != LPM_MOB_WORD_DISCARD || is_half(move))) {
        lpm_system_ask_now(other, "system-info", NULL, ASK_TIMEOUT_MS, on_other_asked, recover);
    } else {
        recover_go(recover);
    }
}
