/* SPDX-License-Identifier: Apache-2.0 */
/* Check, pre, post and undo: who is asked or told, in which order, and what an answer means. */
#include "drmgr.h"

#include <string.h>
#include <syslog.h>

#define HOOKS "/etc/drmgr.d/pmig"
enum { OPEN_MOVES = 16, LEAVE_TRIES = 3 };

static DrRegistry registry;
static char hooks[DR_SCRIPTS][DR_NAME_SIZE];
static size_t n_hooks;
static DrMove move;
static DrResult result;

static bool read_lists(void)
{
    char path[PATH_MAX];
    n_hooks = dr_programs(dr_path(path, HOOKS), hooks, DR_SCRIPTS);
    return dr_registry_read(&registry);
}

/* A guest in which nobody asked to be told needs no place on its disk to be moved. */
static bool somebody_to_tell(void)
{
    for (size_t i = 0; i < registry.n; i++) {
        if (registry.scripts[i].mobile) {
            return true;
        }
    }
    return n_hooks > 0 || dr_has_events();
}

/* --- check --- */

static DrExit check(DrCalls *calls)
{
    bool vetoed = false, hook_vetoed = false;
    for (size_t i = 0; i < registry.n && !dr_is_stopped(); i++) {
        if (registry.scripts[i].mobile) {
            vetoed |= !dr_call_script(calls, &registry.scripts[i], "checkmigrate", &result);
        }
    }
    size_t asked = 0;
    for (; asked < n_hooks && !dr_is_stopped(); asked++) {
        hook_vetoed |= !dr_call_hook(calls, hooks[asked], "check", &result);
    }
    vetoed |= hook_vetoed;
    for (size_t i = asked; vetoed && i-- > 0;) {
        dr_call_hook(calls, hooks[i], "undocheck", &result);
    }
    dr_call_events(calls, vetoed ? "veto" : "check");
    return vetoed && !calls->request->force ? DR_EXIT_NO : DR_EXIT_OK;
}

/* --- pre --- */

/* False: it could not be written down, and so was not called. */
static bool pre_script(DrCalls *calls, const DrScript *script, bool *good)
{
    const DrStep *step = dr_move_step(&move, script->name);
    if (step && step->ended[DR_PRE]) {
        return true; /* by an earlier call for the same move */
    }
    if (!dr_move_note_begin(&move, DR_PRE, script->name)) {
        return false;
    }
    *good = dr_call_script(calls, script, "premigrate", &result);
    return dr_move_note_end(&move, DR_PRE, script->name, &result);
}

static bool pre_hook(DrCalls *calls, const char *name)
{
    char full[DR_STEP_SIZE];
    snprintf(full, sizeof full, "pmig/%.63s", name);
    const DrStep *step = dr_move_step(&move, full);
    if (step && step->ended[DR_PRE]) {
        return true;
    }
    if (!dr_move_note_begin(&move, DR_PRE, full)) {
        return false;
    }
    (void)dr_call_hook(calls, name, "pre", &result); /* a hook can only veto in check */
    return dr_move_note_end(&move, DR_PRE, full, &result);
}

static DrExit pre(DrCalls *calls)
{
    const DrRequest *request = calls->request;
    memcpy(move.vars, request->vars, sizeof move.vars);
    move.n_vars = request->n_vars;
    if (!dr_move_begin(&move)) {
        return DR_EXIT_FAILED;
    }
    for (size_t i = 0; i < registry.n && !dr_is_stopped(); i++) {
        bool good = true;
        if (!registry.scripts[i].mobile) {
            continue;
        }
        if (!pre_script(calls, &registry.scripts[i], &good)) {
            return DR_EXIT_FAILED;
        }
        if (!good && !request->force) {
            return DR_EXIT_NO;
        }
    }
    for (size_t i = 0; i < n_hooks && !dr_is_stopped(); i++) {
        if (!pre_hook(calls, hooks[i])) {
            return DR_EXIT_FAILED;
        }
    }
    if (dr_is_stopped() || !dr_move_note_pre_over(&move)) {
        return DR_EXIT_FAILED;
    }
    dr_call_events(calls, "pre");
    return DR_EXIT_OK;
}

/* --- watch and takeover: those that lpm-host names, nothing of which is written down --- */

static bool is_named(const DrRequest *request, const char *name)
{
    for (size_t i = 0; i < request->n_only; i++) {
        if (strcmp(request->only[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static DrExit call_named(DrCalls *calls, const char *action)
{
    bool good = true;
    for (size_t i = 0; i < registry.n && !dr_is_stopped(); i++) {
        if (registry.scripts[i].mobile && is_named(calls->request, registry.scripts[i].name)) {
            good &= dr_call_script(calls, &registry.scripts[i], action, &result);
        }
    }
    return good ? DR_EXIT_OK : DR_EXIT_NO;
}

/* Between pre and whatever ends the move. */
static DrExit watch(DrCalls *calls, const char **ret_outcome)
{
    if (!dr_move_read(&move, calls->request->id)) {
        return DR_EXIT_FAILED;
    }
    calls->move = &move;
    DrExit code = DR_EXIT_OK;
    if (move.finished || !move.pre_over) {
        *ret_outcome = "already";
    } else {
        code = call_named(calls, "watchmigrate");
    }
    dr_move_close(&move);
    return code;
}

/* --- post and undo: for those whose pre began --- */

static const DrScript *script_of(const char *name)
{
    for (size_t i = 0; i < registry.n; i++) {
        if (strcmp(registry.scripts[i].name, name) == 0) {
            return &registry.scripts[i];
        }
    }
    return NULL;
}

/* False: it has to be called again; only what a script answers counts. */
static bool leave_one(DrCalls *calls, DrWay way, const char *name)
{
    const char *action = way == DR_POST ? "postmigrate" : "undopremigrate";
    const DrScript *script = script_of(name);
    if (strncmp(name, "pmig/", 5) == 0) {
        dr_call_hook(calls, name + 5, "post", &result); /* always, says its convention */
    } else if (script) {
        return dr_call_script(calls, script, action, &result);
    } else {
        dr_call_missing(name, action);
    }
    return true;
}

/* DR_EXIT_NO: all were called, and one of them could not do it and is to be called again. */
static DrExit leave_all(DrCalls *calls, DrWay way)
{
    DrExit code = DR_EXIT_OK;
    for (size_t i = 0; i < move.n && !dr_is_stopped(); i++) {
        const DrStep *step = &move.steps[way == DR_UNDO ? move.n - 1 - i : i];
        if (!step->begun[DR_PRE] || step->ended[way]) {
            continue;
        }
        if (!dr_move_note_begin(&move, way, step->name)) {
            return DR_EXIT_FAILED;
        }
        bool done = leave_one(calls, way, step->name);
        if (result.end == DR_END_STOPPED) {
            break; /* it is called again */
        }
        if (!done && step->tries[way] < LEAVE_TRIES) {
            code = DR_EXIT_NO;
        } else if (!dr_move_note_end(&move, way, step->name, &result)) {
            return DR_EXIT_FAILED;
        }
    }
    return dr_is_stopped() ? DR_EXIT_STOPPED : code;
}

static DrExit leave(DrCalls *calls, DrWay way)
{
    if (!move.on_disk) { /* undo: its pre may be on its way, and must come too late */
        return dr_move_begin(&move) && dr_move_finish(&move, way) ? DR_EXIT_OK : DR_EXIT_FAILED;
    }
    DrExit code = leave_all(calls, way);
    if (code != DR_EXIT_OK) {
        return code;
    }
    dr_call_events(calls, way == DR_POST ? "post" : "undo");
    return dr_move_finish(&move, way) ? DR_EXIT_OK : DR_EXIT_FAILED;
}

/* What a move that is over, and of which we were not told, needs: the rest of what has begun. */
static DrExit settle_one(const char *id, const DrRequest *from)
{
    static DrRequest request;
    memset(&request, 0, sizeof request);
    request.phase = "settle";
    request.detail = from ? from->detail : 0;
    if (!dr_move_read(&move, id)) {
        return DR_EXIT_FAILED;
    }
    DrWay way = DR_UNDO;
    for (size_t i = 0; i < move.n; i++) {
        way = move.steps[i].begun[DR_POST] ? DR_POST : way;
    }
    DrCalls calls = {.request = &request, .move = &move};
    request.id = move.id;
    syslog(LOG_NOTICE, "settling migration %s: %s", id, way == DR_POST ? "post" : "undo");
    DrExit code = leave(&calls, way);
    dr_move_close(&move);
    return code;
}

/*
 * Moves before this one are over, whatever became of them: there is only one at a time. A script
 * that cannot put its own back has its say in this one's check and pre.
 */
static DrExit settle_others(const DrRequest *request)
{
    static char ids[OPEN_MOVES][DR_NAME_SIZE];
    size_t n = dr_moves_open(ids, OPEN_MOVES);
    DrExit code = DR_EXIT_OK;
    for (size_t i = 0; i < n && code == DR_EXIT_OK; i++) {
        if (strcmp(ids[i], request->id) != 0) {
            code = settle_one(ids[i], request);
            code = code == DR_EXIT_NO ? DR_EXIT_OK : code;
        }
    }
    return code;
}

/* --- a phase --- */

typedef enum { RUN, ALREADY, TOO_LATE } Need;

/* Whether there is anything to do for @way, after all that is on disk. */
static Need need_of(DrWay way)
{
    if (way == DR_PRE) {
        return move.finished ? TOO_LATE : move.pre_over ? ALREADY : RUN;
    }
    bool unknown = !move.on_disk && (way == DR_POST || !somebody_to_tell());
    return move.finished || unknown ? ALREADY : RUN;
}

static void tell_end(const char *outcome, int64_t begun_ms)
{
    dr_json_begin();
    dr_json_str("kind", "end");
    dr_json_str("result", outcome);
    dr_json_int("ms", dr_now_ms() - begun_ms);
    dr_json_end();
}

static const char *outcome_of(DrExit code)
{
    return dr_is_stopped()        ? "stopped"
           : code == DR_EXIT_OK   ? "ok"
           : code == DR_EXIT_NO   ? "no"
           : code == DR_EXIT_BUSY ? "busy"
                                  : "failed";
}

static DrExit run_phase(DrCalls *calls, const char **ret_outcome)
{
    static const struct {
        const char *name;
        DrWay way;
    } rows[] = {{"pre", DR_PRE}, {"post", DR_POST}, {"undo", DR_UNDO}};
    const DrRequest *request = calls->request;
    DrExit code = DR_EXIT_OK;
    if (!read_lists()) {
        return DR_EXIT_FAILED;
    }
    if (strcmp(request->phase, "check") == 0) {
        return check(calls);
    }
    if (strcmp(request->phase, "watch") == 0) {
        return watch(calls, ret_outcome);
    }
    if (strcmp(request->phase, "takeover") == 0) {
        return call_named(calls, "takeover");
    }
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(request->phase, rows[i].name) != 0) {
            continue;
        }
        if (rows[i].way == DR_PRE && (code = settle_others(request)) != DR_EXIT_OK) {
            return code;
        }
        if (!dr_move_read(&move, request->id)) {
            return DR_EXIT_FAILED;
        }
        calls->move = &move;
        Need need = need_of(rows[i].way);
        if (need != RUN) {
            *ret_outcome = need == ALREADY ? "already" : "too-late";
            return need == ALREADY ? DR_EXIT_OK : DR_EXIT_FAILED;
        }
        if (rows[i].way == DR_UNDO || rows[i].way == DR_POST) {
            code = leave(calls, rows[i].way);
        } else if (move.on_disk || somebody_to_tell()) {
            code = pre(calls);
        }
        dr_move_close(&move);
    }
    return code;
}

DrExit dr_phase(const DrRequest *request)
{
    char what[DR_VALUE_SIZE];
    int64_t begun = dr_now_ms();
    bool leaving = strcmp(request->phase, "post") == 0 || strcmp(request->phase, "undo") == 0;
    DrCalls calls = {.request = request,
                     .deadline_ms = request->limit_ms ? begun + request->limit_ms : 0};
    dr_json_begin();
    dr_json_str("kind", "begin");
    dr_json_int("format", 1);
    dr_json_str("version", LPM_VERSION);
    dr_json_str("phase", request->phase);
    dr_json_str("migration", request->id);
    dr_json_end();
    snprintf(what, sizeof what, "phase %s of migration %s", request->phase, request->id);
    DrExit code = dr_lock(leaving ? DR_LOCK_STOP : DR_LOCK_WAIT, what);
    const char *outcome = NULL;
    if (code == DR_EXIT_OK) {
        code = run_phase(&calls, &outcome);
    }
    if (dr_is_stopped()) {
        code = DR_EXIT_STOPPED;
    }
    tell_end(outcome ? outcome : outcome_of(code), begun);
    return code;
}

DrExit dr_settle(bool all)
{
    static char ids[OPEN_MOVES][DR_NAME_SIZE];
    char path[PATH_MAX], boot[DR_NAME_SIZE];
    DrExit code = dr_lock(DR_LOCK_WAIT, "settling");
    if (code != DR_EXIT_OK || !read_lists()) {
        return code != DR_EXIT_OK ? code : DR_EXIT_FAILED;
    }
    dr_read_small(dr_path(path, "/proc/sys/kernel/random/boot_id"), boot, sizeof boot);
    size_t n = dr_moves_open(ids, OPEN_MOVES);
    for (size_t i = 0; i < n; i++) {
        if (!dr_move_read(&move, ids[i])) {
            code = DR_EXIT_FAILED;
            continue;
        }
        bool cut = all || strcmp(move.boot, boot) != 0;
        dr_move_close(&move);
        DrExit one = cut ? settle_one(ids[i], NULL) : DR_EXIT_OK;
        code = one != DR_EXIT_OK ? one : code;
    }
    return code;
}

DrExit dr_status(void)
{
    static char ids[OPEN_MOVES][DR_NAME_SIZE];
    size_t n = dr_moves_open(ids, OPEN_MOVES);
    for (size_t i = 0; i < n; i++) {
        if (!dr_move_read(&move, ids[i])) {
            return DR_EXIT_FAILED;
        }
        dr_json_begin();
        dr_json_str("migration", ids[i]);
        dr_json_bool("pre_over", move.pre_over);
        dr_json_list("steps");
        for (size_t j = 0; j < move.n; j++) {
            dr_json_item();
            dr_json_str("name", move.steps[j].name);
            dr_json_bool("pre_ended", move.steps[j].ended[DR_PRE]);
            dr_json_bool("post_ended", move.steps[j].ended[DR_POST]);
            dr_json_bool("undo_ended", move.steps[j].ended[DR_UNDO]);
            dr_json_item_end();
        }
        dr_json_list_end();
        dr_json_end();
        dr_move_close(&move);
    }
    return DR_EXIT_OK;
}
