/* SPDX-License-Identifier: Apache-2.0 */
#include "host/mobility-scripts.h"

#include "base/log.h"
#include "host/scripts.h"
#include "host/watch.h"

#include <string.h>

enum {
    NOW_MS = 1,
    CLOCK_MS = 20,
    NOT_RUNNING_MS = 250, /* its state, or its agent's channel, is not known again yet */
    AGAIN_MS = 250,       /* doubled each time */
    AGAIN_MAX_MS = 60000,
    TRIES = 8,              /* while it answers; a silent one is asked as long as it runs */
    OUTPUT_MAX = 32 * 1024, /* of all scripts of a phase together, that is kept */
    PHASE_MAX = 64 * 1024,  /* the same with their names, words and logs, as text */
};

/* What is known of one move's scripts. */
typedef struct {
    LpmHost *host;
    char *id;
    json_t *document; /* as in the store: docs/spec/host-rpc.md */
    LpmScriptsCall *call;
    LpmWatch *watch; /* between pre and the end of the copy; NULL */
    guint timer;
    unsigned tries;
    LpmHostDone done; /* who waits for pre; NULL */
    void *data;
} Scripts;

static void attempt_later(Scripts *scripts, unsigned ms);

static LpmLogFields fields_of(const Scripts *scripts)
{
    return (LpmLogFields){.migration = scripts->id,
                          .partition = lpm_json_str(scripts->document, "partition", NULL)};
}

static const char *todo_of(const Scripts *scripts)
{
    return lpm_json_str(scripts->document, "todo", "");
}

static void scripts_free(gpointer data)
{
    Scripts *scripts = data;
    lpm_scripts_cancel(scripts->call);
    lpm_watch_free(scripts->watch);
    g_clear_handle_id(&scripts->timer, g_source_remove);
    json_decref(scripts->document);
    g_free(scripts->id);
    g_free(scripts);
}

static Scripts *find(const LpmHost *host, const char *id)
{
    return host->mobility ? g_hash_table_lookup(host->mobility->scripts, id) : NULL;
}

static bool save(Scripts *scripts, GError **error)
{
    return lpm_store_put(scripts->host->store, LPM_KIND_SCRIPTS, scripts->id, scripts->document,
                         NULL, error);
}

/* Where a failure costs a repetition at most. */
static void save_if_possible(Scripts *scripts)
{
    g_autoptr(GError) error = NULL;
    LpmLogFields fields = fields_of(scripts);
    if (!save(scripts, &error)) {
        lpm_log_warning(&fields, "what became of the scripts was not written down: %s",
                        error->message);
    }
}

static void set_todo(Scripts *scripts, const char *todo)
{
    json_object_set_new(scripts->document, "todo", json_string(todo));
}

/* --- the set --- */

static Scripts *add(LpmHost *host, const char *id, json_t *document)
{
    Scripts *scripts = g_new0(Scripts, 1);
    scripts->host = host;
    scripts->id = g_strdup(id);
    scripts->document = document;
    g_hash_table_replace(host->mobility->scripts, scripts->id, scripts);
    return scripts;
}

/* Keeps the newest; what is not done yet stays. */
static void prune(LpmHost *host)
{
    while (g_hash_table_size(host->mobility->scripts) > LPM_MIG_HISTORY) {
        Scripts *oldest = NULL;
        GHashTableIter iter;
        gpointer value = NULL;
        g_hash_table_iter_init(&iter, host->mobility->scripts);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
            Scripts *one = value;
            int64_t when = lpm_json_int(one->document, "begun_us", 0);
            if (!*todo_of(one) && !one->call && !lpm_mobility_find(host, one->id) &&
                (!oldest || when < lpm_json_int(oldest->document, "begun_us", 0))) {
                oldest = one;
            }
        }
        if (!oldest || !lpm_store_delete(host->store, LPM_KIND_SCRIPTS, oldest->id, NULL)) {
            return;
        }
        g_hash_table_remove(host->mobility->scripts, oldest->id);
    }
}

static Scripts *need(LpmHost *host, const char *id, const char *partition, const char *uuid)
{
    Scripts *scripts = find(host, id);
    if (!scripts) {
        prune(host);
        scripts = add(host, id,
                      lpm_json_pack("{s:s, s:s, s:s, s:s, s:I, s:[]}", "migration", id, "partition",
                                    partition, "uuid", uuid, "todo", "", "begun_us",
                                    (json_int_t)lpm_clock_realtime_us(host->clock), "phases"));
    }
    return scripts;
}

static Scripts *need_for(LpmMigration *migration)
{
    Scripts *scripts = need(migration->host, migration->id, migration->name, migration->uuid);
    bool src = migration->side == LPM_MOB_SRC;
    json_object_set_new(scripts->document, "source", json_string(lpm_mig_source_name(migration)));
    json_object_set_new(scripts->document, "target",
                        json_string(src ? migration->peer : migration->self));
    json_object_set_new(scripts->document, "max_blackout_ms",
                        json_integer((json_int_t)migration->options.max_blackout_ms));
    return scripts;
}

static LpmScriptsAbout about_of(const Scripts *scripts)
{
    return (LpmScriptsAbout){
        .migration = scripts->id,
        .source = lpm_json_str(scripts->document, "source", NULL),
        .target = lpm_json_str(scripts->document, "target", NULL),
        .predicted_ms = lpm_json_int(scripts->document, "predicted_ms", -1),
        .max_blackout_ms = lpm_json_int(scripts->document, "max_blackout_ms", 0),
    };
}

static const json_t *phase_of(const Scripts *scripts, const char *name)
{
    json_t *phase = NULL;
    size_t i = 0;
    json_array_foreach (json_object_get(scripts->document, "phases"), i, phase) {
        if (strcmp(lpm_json_str(phase, "phase", ""), name) == 0) {
            return phase;
        }
    }
    return NULL;
}

static void cut_output(json_t *result)
{
    static const char *const names[] = {"output", "errors"};
    size_t total = 0, i = 0;
    json_t *script = NULL;
    json_array_foreach (json_object_get(result, "scripts"), i, script) {
        for (size_t j = 0; j < G_N_ELEMENTS(names); j++) {
            total += strlen(lpm_json_str(script, names[j], ""));
            if (total > OUTPUT_MAX) {
                json_object_set_new(script, names[j], json_string(""));
                json_object_set_new(script, "cut", json_true());
            }
        }
    }
}

/* Names, words and logs are the guest's, too: what is beyond the limit is left out. */
static void cut_scripts(json_t *result)
{
    json_t *list = json_object_get(result, "scripts");
    size_t total = 0;
    for (size_t i = 0; i < json_array_size(list);) {
        json_t *script = json_array_get(list, i);
        g_autofree char *whole = lpm_json_text(script);
        size_t size = strlen(whole);
        if (total + size > PHASE_MAX) {
            json_object_set_new(script, "log", json_array());
            json_object_set_new(script, "cut", json_true());
            g_autofree char *rest = lpm_json_text(script);
            size = strlen(rest);
        }
        if (total + size > PHASE_MAX) {
            json_array_remove(list, i);
        } else {
            total += size;
            i++;
        }
    }
}

/* In the place of an earlier try of the same phase. */
static void keep_phase(Scripts *scripts, const json_t *result)
{
    json_t *phases = json_object_get(scripts->document, "phases"), *phase = NULL;
    json_t *copy = json_deep_copy(result);
    size_t i = 0;
    cut_output(copy);
    cut_scripts(copy);
    json_array_foreach (phases, i, phase) {
        if (strcmp(lpm_json_str(phase, "phase", ""), lpm_json_str(result, "phase", "")) == 0) {
            json_array_set_new(phases, i, copy);
            return;
        }
    }
    json_array_append_new(phases, copy);
}

json_t *lpm_mig_scripts_json(const LpmHost *host, const char *id, bool brief)
{
    static const char *const long_ones[] = {"output", "errors", "log"};
    const Scripts *scripts = find(host, id);
    if (!scripts) {
        return json_null();
    }
    json_t *phases = json_deep_copy(json_object_get(scripts->document, "phases"));
    json_t *phase = NULL, *script = NULL;
    size_t i = 0, j = 0;
    json_array_foreach (phases, i, phase) {
        json_array_foreach (json_object_get(phase, "scripts"), j, script) {
            for (size_t k = 0; brief && k < G_N_ELEMENTS(long_ones); k++) {
                json_object_del(script, long_ones[k]);
            }
        }
    }
    return lpm_json_pack("{s:s, s:b, s:o}", "todo", todo_of(scripts), "left",
                         lpm_json_bool(scripts->document, "left", false), "phases", phases);
}

/* To whoever follows the move; it may have ended long ago. */
static void tell(const Scripts *scripts)
{
    LpmHost *host = scripts->host;
    LpmMigration *migration = lpm_mobility_find(host, scripts->id);
    if (migration) {
        lpm_mig_publish(migration);
        return;
    }
    g_autoptr(json_t) kept = lpm_store_get(host->store, LPM_KIND_JOURNAL, scripts->id, NULL, NULL);
    json_t *status = lpm_json_at(kept, "status");
    if (status) {
        json_object_set_new(status, "scripts", lpm_mig_scripts_json(host, scripts->id, false));
        lpm_host_emit(host, "migration", json_incref(status));
    }
}

bool lpm_mig_scripts_has(const LpmHost *host, const char *id, const char *phase)
{
    const Scripts *scripts = find(host, id);
    return scripts && phase_of(scripts, phase);
}

void lpm_mig_scripts_note(LpmHost *host, const char *id, const char *partition, const char *uuid,
                          const json_t *result, bool news)
{
    if (!host->mobility || (!news && !find(host, id))) {
        return;
    }
    Scripts *scripts = need(host, id, partition, uuid);
    keep_phase(scripts, result);
    save_if_possible(scripts);
    tell(scripts);
}

/* --- check --- */

typedef struct {
    LpmHost *host;
    char *id; /* NULL: not kept */
    char *partition, *uuid;
    int64_t predicted_ms;
    LpmHostReply done;
    void *data;
} Check;

static void on_checked(json_t *result, void *data)
{
    Check *check = data;
    if (check->id && check->host->mobility) {
        Scripts *scripts = need(check->host, check->id, check->partition, check->uuid);
        keep_phase(scripts, result);
        json_object_set_new(scripts->document, "predicted_ms",
                            json_integer((json_int_t)check->predicted_ms));
        save_if_possible(scripts);
    }
    check->done(result, NULL, check->data);
    g_free(check->id);
    g_free(check->partition);
    g_free(check->uuid);
    g_free(check);
}

void lpm_mig_scripts_check(LpmPartition *partition, const json_t *arguments, LpmHostReply done,
                           void *data)
{
    const char *id = lpm_json_str(arguments, "migration", NULL);
    LpmScriptsAbout about = {
        .migration = id ? id : "validation",
        .source = lpm_host_name(partition->host),
        .target = lpm_json_str(arguments, "target", NULL),
        .predicted_ms = lpm_json_int(arguments, "predicted_blackout_ms", -1),
        .max_blackout_ms = lpm_json_int(arguments, "max_blackout_ms", 0),
        .force = lpm_json_bool(arguments, "force", false),
    };
    Check *check = g_new0(Check, 1);
    check->host = partition->host;
    check->id = g_strdup(id);
    check->partition = g_strdup(partition->profile->name);
    check->uuid = g_strdup(partition->profile->uuid);
    check->predicted_ms = about.predicted_ms;
    check->done = done;
    check->data = data;
    (void)lpm_scripts_call(partition, LPM_SCRIPTS_CHECK, &about, on_checked, check);
}

/* --- takeover: of another partition's work --- */

typedef struct {
    LpmHostReply done;
    void *data;
} Told;

static void on_taken(json_t *result, void *data)
{
    Told *told = data;
    told->done(result, NULL, told->data);
    g_free(told);
}

void lpm_mig_scripts_takeover(LpmPartition *partition, const json_t *arguments, LpmHostReply done,
                              void *data)
{
    g_autoptr(json_t) only = lpm_json_pack("[s]", lpm_json_str(arguments, "script", ""));
    LpmScriptsAbout about = {
        .migration = lpm_json_str(arguments, "migration", ""),
        .predicted_ms = -1,
        .only = only,
        .member = lpm_json_str(arguments, "member", ""),
    };
    Told *told = g_new0(Told, 1);
    told->done = done;
    told->data = data;
    (void)lpm_scripts_call(partition, LPM_SCRIPTS_TAKEOVER, &about, on_taken, told);
}

/* --- watch: between pre and the end of the copy --- */

static void on_watched(json_t *phase, void *data)
{
    Scripts *scripts = data;
    keep_phase(scripts, phase);
    save_if_possible(scripts);
    tell(scripts);
}

static void watch(Scripts *scripts, LpmPartition *partition)
{
    LpmScriptsAbout about = about_of(scripts);
    lpm_watch_free(scripts->watch);
    scripts->watch = lpm_watch_new(partition, &about, phase_of(scripts, "pre"),
                                   phase_of(scripts, "watch"), on_watched, scripts);
}

/* --- pre --- */

static bool is_result(const json_t *result, const char *const *names)
{
    return g_strv_contains(names, lpm_json_str(result, "result", ""));
}

/* The first script that did not say yes; NULL. */
static const json_t *who_said_no(const json_t *result)
{
    json_t *script = NULL;
    size_t i = 0;
    json_array_foreach (json_object_get(result, "scripts"), i, script) {
        if (strcmp(lpm_json_str(script, "answer", ""), "yes") != 0 &&
            strcmp(lpm_json_str(script, "kind", ""), "script") == 0) {
            return script;
        }
    }
    return NULL;
}

static GError *why_not(const Scripts *scripts, const json_t *result)
{
    const json_t *script = who_said_no(result);
    const char *partition = lpm_json_str(scripts->document, "partition", "?");
    GError *error = NULL;
    if (script) {
        lpm_error_set(&error, LPM_ERROR_ABORTED, "script %s in partition %s did not let it go: %s",
                      lpm_json_str(script, "name", "?"), partition,
                      lpm_json_str(script, "words", ""));
    } else {
        lpm_error_set(&error, LPM_ERROR_ABORTED,
                      "the scripts in partition %s were told that it is about to move, and did not "
                      "get ready: %s (%s)",
                      partition, lpm_json_str(result, "result", "?"),
                      lpm_json_str(result, "error", ""));
    }
    return error;
}

static void answer_pre(Scripts *scripts, const GError *error)
{
    LpmHostDone done = scripts->done;
    scripts->done = NULL;
    if (done) {
        done(error, scripts->data);
    }
}

static void on_pre(json_t *result, void *data)
{
    static const char *const good[] = {"ok", "already", "absent", NULL};
    static const char *const nobody[] = {"absent", NULL};
    Scripts *scripts = data;
    g_autoptr(GError) error = NULL;
    scripts->call = NULL;
    keep_phase(scripts, result);
    if (is_result(result, nobody)) {
        set_todo(scripts, "");
    }
    save_if_possible(scripts);
    if (!is_result(result, good)) {
        error = why_not(scripts, result);
    }
    LpmMigration *migration = lpm_mobility_find(scripts->host, scripts->id);
    if (!error && migration && migration->partition && *todo_of(scripts)) {
        watch(scripts, migration->partition);
    }
    tell(scripts);
    answer_pre(scripts, error);
}

bool lpm_mig_scripts_wanted(const LpmMigration *migration)
{
    const LpmMoveOptions *options = &migration->options;
    return migration->active && options->scripts && !options->skip_scripts &&
           migration->partition != NULL;
}

bool lpm_mig_scripts_pre(LpmMigration *migration, LpmHostDone done, void *data)
{
    if (!lpm_mig_scripts_wanted(migration)) {
        return false;
    }
    Scripts *scripts = need_for(migration);
    LpmScriptsAbout about = about_of(scripts);
    g_autoptr(GError) error = NULL;
    LpmLogFields fields = fields_of(scripts);
    if (migration->predicted_blackout_ms >= 0) {
        about.predicted_ms = migration->predicted_blackout_ms;
    }
    about.force = migration->options.force_scripts;
    set_todo(scripts, "pre");
    if (!save(scripts, &error)) {
        set_todo(scripts, "");
        lpm_log_warning(&fields, "its scripts are not told: %s", error->message);
        return false;
    }
    scripts->done = done;
    scripts->data = data;
    lpm_log_info(&fields, "the scripts in the partition are told that it is about to move");
    scripts->call =
        lpm_scripts_call(migration->partition, LPM_SCRIPTS_PRE, &about, on_pre, scripts);
    return true;
}

/* --- post and undo: until they have been told, or there is nobody to tell --- */

static void finish(Scripts *scripts, const char *how)
{
    LpmLogFields fields = fields_of(scripts);
    lpm_log_info(&fields, "the scripts in the partition: %s %s", todo_of(scripts), how);
    set_todo(scripts, "");
    save_if_possible(scripts);
    tell(scripts);
}

/* A repetition leaves out those that have done it: what they said stays in the record. */
static void add_earlier(const Scripts *scripts, json_t *result)
{
    const json_t *before =
        scripts->tries > 0 ? phase_of(scripts, lpm_json_str(result, "phase", "")) : NULL;
    json_t *list = json_object_get(result, "scripts"), *old = NULL, *now = NULL;
    size_t i = 0, j = 0, kept = 0;
    json_array_foreach (json_object_get(before, "scripts"), i, old) {
        bool again = false;
        json_array_foreach (list, j, now) {
            again =
                again || strcmp(lpm_json_str(now, "name", ""), lpm_json_str(old, "name", "")) == 0;
        }
        if (!again) {
            json_array_insert_new(list, kept++, json_deep_copy(old));
        }
    }
}

static void on_told(json_t *result, void *data)
{
    static const char *const again[] = {"silent", "busy", "killed", "stopped",
                                        "failed", "no",   NULL};
    static const char *const patient[] = {"silent", NULL};
    Scripts *scripts = data;
    const char *name = lpm_json_str(result, "result", "?");
    scripts->call = NULL;
    add_earlier(scripts, result);
    keep_phase(scripts, result);
    if (is_result(result, again) && (is_result(result, patient) || scripts->tries < TRIES)) {
        unsigned ms = (unsigned)AGAIN_MS << MIN(scripts->tries, 8u);
        scripts->tries++;
        save_if_possible(scripts);
        tell(scripts);
        attempt_later(scripts, MIN(ms, (unsigned)AGAIN_MAX_MS));
        return;
    }
    finish(scripts, name);
}

static void attempt(Scripts *scripts)
{
    LpmScriptsAbout about = about_of(scripts);
    bool post = strcmp(todo_of(scripts), "post") == 0;
    LpmPartition *partition =
        g_hash_table_lookup(scripts->host->partitions, lpm_json_str(scripts->document, "uuid", ""));
    if (!partition || partition->pid == 0) {
        json_object_set_new(scripts->document, "left", json_true());
        finish(scripts, "is left to its next boot: it does not run here any more");
    } else if (partition->clock_busy) { /* what they do next has times in it */
        attempt_later(scripts, CLOCK_MS);
    } else if (!partition->agent || partition->state != LPM_PARTITION_RUNNING) {
        attempt_later(scripts, NOT_RUNNING_MS);
    } else {
        scripts->call = lpm_scripts_call(partition, post ? LPM_SCRIPTS_POST : LPM_SCRIPTS_UNDO,
                                         &about, on_told, scripts);
    }
}

static gboolean on_time(gpointer data)
{
    Scripts *scripts = data;
    scripts->timer = 0;
    attempt(scripts);
    return G_SOURCE_REMOVE;
}

static void attempt_later(Scripts *scripts, unsigned ms)
{
    g_clear_handle_id(&scripts->timer, g_source_remove);
    scripts->timer = g_timeout_add(ms, on_time, scripts);
}

static void begin(Scripts *scripts, const char *todo)
{
    g_clear_pointer(&scripts->watch, lpm_watch_free);
    set_todo(scripts, todo);
    scripts->tries = 0;
    save_if_possible(scripts);
    lpm_scripts_cancel(g_steal_pointer(&scripts->call));
    attempt_later(scripts, NOW_MS);
}

void lpm_mig_scripts_arrived(LpmMigration *migration)
{
    const Scripts *before = find(migration->host, migration->id);
    if (!lpm_mig_scripts_wanted(migration) ||
        (before && (*todo_of(before) || phase_of(before, "post")))) {
        return;
    }
    begin(need_for(migration), "post");
}

void lpm_mig_scripts_ended(LpmMigration *migration, bool completed)
{
    Scripts *scripts = find(migration->host, migration->id);
    g_autoptr(GError) over = NULL;
    if (scripts && migration->side == LPM_MOB_SRC) {
        g_clear_pointer(&scripts->watch, lpm_watch_free);
    }
    if (migration->side == LPM_MOB_DST || !scripts || strcmp(todo_of(scripts), "pre") != 0) {
        return;
    }
    lpm_error_set(&over, LPM_ERROR_ABORTED, "the move of partition %s has ended meanwhile",
                  migration->name);
    if (completed) { /* post is the target's */
        set_todo(scripts, "");
        save_if_possible(scripts);
    } else {
        begin(scripts, "undo");
    }
    answer_pre(scripts, over);
}

/* --- after a restart --- */

/* Of a move that has ended: as lpm_mig_scripts_ended() would have done. */
static void take_up(Scripts *scripts)
{
    g_autoptr(json_t) journal =
        lpm_store_get(scripts->host->store, LPM_KIND_JOURNAL, scripts->id, NULL, NULL);
    bool pre = strcmp(todo_of(scripts), "pre") == 0;
    LpmMigration *open = pre ? lpm_mobility_find(scripts->host, scripts->id) : NULL;
    if (open) {
        if (open->partition && phase_of(scripts, "pre")) {
            watch(scripts, open->partition);
        }
        return; /* it will be told when the move has ended */
    }
    if (pre && strcmp(lpm_json_str(journal, "outcome", ""), "completed") == 0) {
        set_todo(scripts, "");
        save_if_possible(scripts);
    } else if (*todo_of(scripts)) {
        g_autofree char *todo = g_strdup(pre ? "undo" : todo_of(scripts));
        begin(scripts, todo);
    }
}

void lpm_mig_scripts_load(LpmHost *host)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) all = lpm_store_list(host->store, LPM_KIND_SCRIPTS, &error);
    const char *id = NULL;
    json_t *document = NULL;
    host->mobility->scripts = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, scripts_free);
    if (!all) {
        lpm_log_warning(NULL, "what scripts of partitions have begun is not known: %s",
                        error->message);
        return;
    }
    json_object_foreach (all, id, document) {
        add(host, id, json_deep_copy(document));
    }
}

void lpm_mig_scripts_open(LpmHost *host)
{
    g_autoptr(GList) all = g_hash_table_get_values(host->mobility->scripts);
    for (GList *item = all; item; item = item->next) {
        take_up(item->data);
    }
}

void lpm_mig_scripts_close(LpmHost *host)
{
    g_clear_pointer(&host->mobility->scripts, g_hash_table_destroy);
}
