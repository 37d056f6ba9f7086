/* SPDX-License-Identifier: Apache-2.0 */
/* One call of a script, a hook or an event's program, and the line that tells of it. */
#include "drmgr.h"

#include <string.h>
#include <syslog.h>

#define HOOKS  "/etc/drmgr.d/pmig"
#define EVENTS "/etc/lpm/events.d"
enum { ENTRIES = DR_VARS + 10, WORDS = 1024, EXIT_NO = 10 };

/* --- environment --- */

typedef struct {
    char text[ENTRIES][DR_VALUE_SIZE];
    char *entries[ENTRIES + 1];
    size_t n;
} Environment;

static void set(Environment *all, const char *text)
{
    if (all->n < ENTRIES) {
        snprintf(all->text[all->n], DR_VALUE_SIZE, "%s", text);
        all->entries[all->n] = all->text[all->n];
        all->entries[++all->n] = NULL;
    }
}

static void set_pair(Environment *all, const char *name, const char *value)
{
    char text[DR_VALUE_SIZE];
    snprintf(text, sizeof text, "%s=%.200s", name, value);
    set(all, text);
}

/* A script's and an event's: of ours only. */
static void script_environment(Environment *all, const DrCalls *calls, const char *phase)
{
    char detail[16];
    bool known = calls->move && calls->move->n_vars > 0;
    size_t n = known ? calls->move->n_vars : calls->request->n_vars;
    all->n = 0;
    snprintf(detail, sizeof detail, "%d", calls->request->detail);
    set(all, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    set(all, "HOME=/");
    set(all, "LANG=C");
    set_pair(all, "DR_FORCE", calls->request->force ? "TRUE" : "FALSE");
    set_pair(all, "DR_DETAIL_LEVEL", detail);
    set_pair(all, "LPM_OPERATION", "migrate");
    set_pair(all, "LPM_PHASE", phase);
    set_pair(all, "LPM_MIGRATION_ID", calls->move ? calls->move->id : calls->request->id);
    for (size_t i = 0; i < n; i++) {
        set(all, known ? calls->move->vars[i] : calls->request->vars[i]);
    }
}

/* As powerpc-utils has it: nothing but these. */
static void hook_environment(Environment *all, const char *phase)
{
    all->n = 0;
    set(all, "DRC_TYPE=pmig");
    set(all, "DRC_COUNT=0");
    set(all, "ACTION=migrate");
    set_pair(all, "PHASE", phase);
}

/* --- what it said --- */

static const char *answer_of(const DrResult *result)
{
    if (result->end != DR_END_EXITED) {
        return "failed";
    }
    return result->status == 0 ? "yes" : result->status == EXIT_NO ? "no" : "failed";
}

static void how_it_ended(const DrResult *result, int64_t limit_ms, char *out, size_t size)
{
    switch (result->end) {
    case DR_END_EXITED:
        snprintf(out, size, "it ended with exit status %d and gave no reason", result->status);
        break;
    case DR_END_SIGNAL:
        snprintf(out, size, "signal %d ended it", result->status);
        break;
    case DR_END_TIME:
        snprintf(out, size, "it did not end within %.1f s and was killed", (double)limit_ms / 1000);
        break;
    case DR_END_FLOOD:
        snprintf(out, size, "it wrote more than %d MiB and was killed", DR_FLOOD >> 20);
        break;
    case DR_END_PARENT:
        snprintf(out, size, "it killed the process that waited for it");
        break;
    case DR_END_STOPPED:
        snprintf(out, size, "it was stopped: the move had ended meanwhile");
        break;
    case DR_END_UNFIT:
        snprintf(out, size, "it could not be run: %s",
                 result->status ? strerror(result->status)
                                : "not a program that only root can change");
        break;
    }
}

/* Why the answer is not "yes", in the script's words where there are some. */
static void reason(const DrResult *result, int64_t limit_ms, char *out, size_t size)
{
    bool good = result->end == DR_END_EXITED;
    const char *said = result->err.length > 0 ? result->err.kept : result->out.kept;
    char how[160];
    if (result->error[0]) {
        dr_copy(out, size, result->error);
    } else if (good && result->status == 0) {
        out[0] = '\0';
    } else if (good && said[0]) {
        dr_copy(out, size < WORDS / 2 ? size : WORDS / 2, said);
        for (size_t n = strlen(out); n > 0 && out[n - 1] == ' '; n--) {
            out[n - 1] = '\0';
        }
    } else {
        how_it_ended(result, limit_ms, how, sizeof how);
        dr_copy(out, size, how);
    }
}

/* --- telling --- */

static const struct {
    const char *name, *level;
    int priority;
} levels[] = {
    {"DR_LOG_EMERG", "emerg", LOG_EMERG},       {"DR_LOG_ERR", "err", LOG_ERR},
    {"DR_LOG_WARNING", "warning", LOG_WARNING}, {"DR_LOG_INFO", "info", LOG_INFO},
    {"DR_LOG_DEBUG", "debug", LOG_DEBUG},
};

static void tell_log(const char *name, const DrResult *result)
{
    dr_json_list("log");
    for (size_t i = 0; i < result->n_pairs; i++) {
        for (size_t j = 0; j < sizeof levels / sizeof levels[0]; j++) {
            const DrPair *pair = &result->pairs[i];
            if (strcmp(pair->name, levels[j].name) == 0) {
                syslog(levels[j].priority, "%s: %s", name, pair->value);
                dr_json_item();
                dr_json_str("level", levels[j].level);
                dr_json_str("text", pair->value);
                dr_json_item_end();
            }
        }
    }
    dr_json_list_end();
}

/* A fact that fills its room may have lost its end: half a name in a list is none. */
static void drop_cut_word(char *fact)
{
    char *space = strlen(fact) == DR_VALUE_SIZE - 1 ? strrchr(fact, ' ') : NULL;
    if (space) {
        *space = '\0';
    }
}

/* LPM_FACT=NAME=VALUE: what is for lpm-host and the console, not for people. */
static void tell_facts(const DrResult *result)
{
    dr_json_list("facts");
    for (size_t i = 0; i < result->n_pairs; i++) {
        char fact[DR_VALUE_SIZE];
        dr_copy(fact, sizeof fact, result->pairs[i].value);
        drop_cut_word(fact);
        char *value = strchr(fact, '=');
        if (strcmp(result->pairs[i].name, "LPM_FACT") == 0 && value) {
            *value++ = '\0';
            dr_json_item();
            dr_json_str("name", fact);
            dr_json_str("value", value);
            dr_json_item_end();
        }
    }
    dr_json_list_end();
}

static void tell(const char *kind, const char *name, const char *action, const DrResult *result,
                 int64_t limit_ms)
{
    char words[WORDS];
    bool room = dr_json_has_room();
    bool cut = result->out.total > result->out.length || result->err.total > result->err.length;
    reason(result, limit_ms, words, sizeof words);
    syslog(words[0] ? LOG_WARNING : LOG_INFO, "%s %s: %s%s%s", action, name, answer_of(result),
           words[0] ? ": " : "", words);
    dr_json_begin();
    dr_json_str("kind", kind);
    dr_json_str("name", name);
    dr_json_str("action", action);
    dr_json_str("answer", answer_of(result));
    dr_json_str("end", dr_end_name(result->end));
    dr_json_int("status", result->status);
    dr_json_int("ms", result->ms);
    dr_json_str("words", words);
    tell_log(name, result);
    tell_facts(result);
    dr_json_str("output", room ? result->out.kept : "");
    dr_json_str("errors", room ? result->err.kept : "");
    dr_json_bool("cut", cut || !room);
    dr_json_int("children", result->children);
    dr_json_bool("leaks", result->leaks);
    dr_json_end();
}

void dr_call_missing(const char *name, const char *action)
{
    static DrResult result;
    memset(&result, 0, sizeof result);
    result.end = DR_END_UNFIT;
    dr_copy(result.error, sizeof result.error, "it is not installed any more");
    tell(strncmp(name, "pmig/", 5) == 0 ? "hook" : "script", name, action, &result, 0);
}

/* --- calling --- */

static int64_t limit_of(const DrCalls *calls, int64_t own_ms)
{
    int64_t left = calls->deadline_ms ? calls->deadline_ms - dr_now_ms() : own_ms;
    return left < 0 ? 0 : left < own_ms ? left : own_ms;
}

static void call(const char *path, char *const *argv, Environment *environment, int64_t limit_ms,
                 DrResult *result)
{
    if (dr_is_trusted(path)) {
        dr_run(path, argv, environment->entries, limit_ms, result);
    } else {
        memset(result, 0, sizeof *result);
        result->end = DR_END_UNFIT;
    }
}

bool dr_call_script(DrCalls *calls, const DrScript *script, const char *action, DrResult *result)
{
    static Environment environment;
    char path[PATH_MAX], name[DR_STEP_SIZE], what[32], resource[] = "pmig";
    char *argv[] = {name, what, resource, NULL};
    int64_t limit_ms = limit_of(calls, dr_script_limit(script));
    snprintf(name, sizeof name, "%s", strrchr(script->name, '/') + 1);
    snprintf(what, sizeof what, "%s", action);
    script_environment(&environment, calls, calls->request->phase);
    dr_path(path, "%s/%s", dr_script_root(), script->name);
    call(path, argv, &environment, limit_ms, result);
    tell("script", script->name, action, result, limit_ms);
    return result->end == DR_END_EXITED && result->status == 0;
}

bool dr_call_hook(DrCalls *calls, const char *name, const char *phase, DrResult *result)
{
    static Environment environment;
    char path[PATH_MAX], step[DR_STEP_SIZE];
    char *argv[] = {path, NULL};
    int64_t limit_ms = limit_of(calls, DR_LIMIT_MS);
    hook_environment(&environment, phase);
    dr_path(path, HOOKS "/%s", name);
    call(path, argv, &environment, limit_ms, result);
    snprintf(step, sizeof step, "pmig/%.63s", name);
    tell("hook", step, phase, result, limit_ms);
    return result->end == DR_END_EXITED && result->status == 0;
}

bool dr_has_events(void)
{
    static char names[DR_SCRIPTS][DR_NAME_SIZE];
    char path[PATH_MAX];
    return dr_programs(dr_path(path, EVENTS), names, DR_SCRIPTS) > 0;
}

/* One that others may write is not run; what went wrong is for syslog only. */
static void tell_event(const char *path, const char *event, Environment *environment,
                       int64_t limit_ms)
{
    static DrResult result;
    char how[160];
    char own[PATH_MAX];
    char *argv[] = {own, NULL};
    snprintf(own, sizeof own, "%s", path);
    call(path, argv, environment, limit_ms, &result);
    if (result.end != DR_END_EXITED) {
        how_it_ended(&result, limit_ms, how, sizeof how);
        syslog(LOG_WARNING, "event %s: %s: %s", event, path, how);
    }
}

void dr_call_events(DrCalls *calls, const char *event)
{
    static char names[DR_SCRIPTS][DR_NAME_SIZE];
    static Environment environment;
    char path[PATH_MAX];
    size_t n = dr_programs(dr_path(path, EVENTS), names, DR_SCRIPTS);
    int64_t end_ms = dr_now_ms() + DR_EVENTS_LIMIT_MS;
    for (size_t i = 0; i < n && !dr_is_stopped(); i++) {
        int64_t left_ms = end_ms - dr_now_ms();
        dr_path(path, EVENTS "/%s", names[i]);
        if (left_ms <= 0) {
            syslog(LOG_WARNING, "event %s: %s is not told: those before it took all the time",
                   event, path);
            continue;
        }
        script_environment(&environment, calls, calls->request->phase);
        set_pair(&environment, "LPM_EVENT", event);
        tell_event(path, event, &environment,
                   left_ms < DR_EVENT_LIMIT_MS ? left_ms : DR_EVENT_LIMIT_MS);
    }
}
