/* SPDX-License-Identifier: Apache-2.0 */
#include "host/watch.h"

#include "host/migration.h"

#include <string.h>

enum {
    SHORTEST_S = 1,
    LONGEST_S = 600,
    NAMES_MAX = 8,
    CHANGES_MAX = 32, /* of one move: each is an event, and a guest decides how many there are */
    WORDS_MAX = 256,
};

struct LpmWatch {
    LpmPartition *partition;
    char *migration, *source, *target;
    json_t *names;   /* of the scripts */
    json_t *changes; /* [{"time_us", "name", "good", "words"}] */
    json_t *bad;     /* names of those that were not well when they were asked last */
    int64_t runs;
    unsigned every_s;
    guint timer;
    LpmScriptsCall *call;
    LpmWatchNews news;
    void *data;
};

static void ask_later(LpmWatch *watch);

/* How often @script wants to be asked; 0: not at all. */
static unsigned wish_of(const json_t *script)
{
    int64_t wish = g_ascii_strtoll(lpm_json_str(script, "facts.watch_s", "0"), NULL, 10);
    return wish <= 0 ? 0 : (unsigned)CLAMP(wish, SHORTEST_S, LONGEST_S);
}

static bool is_bad(const LpmWatch *watch, const char *name)
{
    return json_object_get(watch->bad, name) != NULL;
}

static void note_change(LpmWatch *watch, const char *name, bool good, const char *said)
{
    size_t count = json_array_size(watch->changes);
    if (count >= CHANGES_MAX) {
        return;
    }
    g_autofree char *cut = g_strndup(said, WORDS_MAX);
    g_autofree char *valid = g_utf8_make_valid(cut, -1);
    g_autofree char *words =
        g_strconcat(valid, count + 1 < CHANGES_MAX ? "" : " (no more is told of this move)", NULL);
    json_array_append_new(
        watch->changes,
        lpm_json_pack("{s:I, s:s, s:b, s:s}", "time_us",
                      (json_int_t)lpm_clock_realtime_us(watch->partition->host->clock), "name",
                      name, "good", good, "words", words));
}

/* One that was not asked to its end (its partition has moved, another phase goes before) says
 * nothing about what it watches. */
static bool says_something(const json_t *script)
{
    return strcmp(lpm_json_str(script, "end", ""), "stopped") != 0;
}

static void take(LpmWatch *watch, const json_t *result)
{
    json_t *script = NULL;
    size_t i = 0;
    json_array_foreach (json_object_get(result, "scripts"), i, script) {
        const char *name = lpm_json_str(script, "name", "?");
        const char *words = lpm_json_str(script, "words", "");
        bool good = strcmp(lpm_json_str(script, "answer", ""), "yes") == 0;
        /* Its words tell what fails: other words, another failure. */
        const char *before = json_string_value(json_object_get(watch->bad, name));
        if (!says_something(script)) {
            continue;
        }
        if (!good && g_strcmp0(before, words) != 0) {
            note_change(watch, name, false, words);
            json_object_set_new(watch->bad, name, json_string(words));
        } else if (good && is_bad(watch, name)) {
            note_change(watch, name, true, "all is well again");
            json_object_del(watch->bad, name);
        }
    }
}

static void on_answer(json_t *result, void *data)
{
    LpmWatch *watch = data;
    watch->call = NULL;
    take(watch, result);
    if (json_array_size(json_object_get(result, "scripts")) > 0) {
        g_autoptr(json_t) phase = json_deep_copy(result);
        watch->runs++;
        json_object_set_new(phase, "runs", json_integer((json_int_t)watch->runs));
        json_object_set_new(phase, "changes", json_deep_copy(watch->changes));
        watch->news(phase, watch->data);
    }
    ask_later(watch);
}

/* Its state stays what it was while a move has it; asking it then would fail for nothing. */
static bool stands_still(const LpmWatch *watch)
{
    const LpmMigration *migration = lpm_mobility_find(watch->partition->host, watch->migration);
    return migration && migration->phase >= LPM_PHASE_SWITCHOVER && migration->phase < LPM_PHASE_N;
}

static gboolean on_time(gpointer data)
{
    LpmWatch *watch = data;
    watch->timer = 0;
    if (!watch->partition->agent || watch->partition->state != LPM_PARTITION_RUNNING ||
        stands_still(watch)) {
        ask_later(watch);
        return G_SOURCE_REMOVE;
    }
    LpmScriptsAbout about = {.migration = watch->migration,
                             .source = watch->source,
                             .target = watch->target,
                             .predicted_ms = -1,
                             .only = watch->names};
    watch->call = lpm_scripts_call(watch->partition, LPM_SCRIPTS_WATCH, &about, on_answer, watch);
    return G_SOURCE_REMOVE;
}

static void ask_later(LpmWatch *watch)
{
    watch->timer = g_timeout_add_seconds(watch->every_s, on_time, watch);
}

LpmWatch *lpm_watch_new(LpmPartition *partition, const LpmScriptsAbout *about, const json_t *pre,
                        const json_t *before, LpmWatchNews news, void *data)
{
    g_autoptr(json_t) names = json_array();
    unsigned every_s = 0;
    json_t *script = NULL, *changes = lpm_json_at(before, "changes");
    size_t i = 0;
    json_array_foreach (json_object_get(pre, "scripts"), i, script) {
        unsigned wish = wish_of(script);
        if (wish > 0 && json_array_size(names) < NAMES_MAX) {
            json_array_append_new(names, json_string(lpm_json_str(script, "name", "?")));
            every_s = every_s == 0 ? wish : MIN(every_s, wish);
        }
    }
    if (every_s == 0) {
        return NULL;
    }
    LpmWatch *watch = g_new0(LpmWatch, 1);
    watch->partition = lpm_partition_ref(partition);
    watch->migration = g_strdup(about->migration);
    watch->source = g_strdup(about->source);
    watch->target = g_strdup(about->target);
    watch->names = g_steal_pointer(&names);
    watch->changes = json_is_array(changes) ? json_deep_copy(changes) : json_array();
    watch->bad = json_object();
    watch->runs = lpm_json_int(before, "runs", 0);
    watch->every_s = every_s;
    watch->news = news;
    watch->data = data;
    json_array_foreach (watch->changes, i, script) { /* of before a restart: the last word counts */
        const char *name = lpm_json_str(script, "name", "?");
        if (lpm_json_bool(script, "good", true)) {
            json_object_del(watch->bad, name);
        } else {
            json_object_set_new(watch->bad, name, json_string(lpm_json_str(script, "words", "")));
        }
    }
    ask_later(watch);
    return watch;
}

void lpm_watch_free(LpmWatch *watch)
{
    if (watch) {
        lpm_scripts_cancel(watch->call);
        g_clear_handle_id(&watch->timer, g_source_remove);
        lpm_partition_unref(watch->partition);
        g_free(watch->migration);
        g_free(watch->source);
        g_free(watch->target);
        json_decref(watch->names);
        json_decref(watch->changes);
        json_decref(watch->bad);
        g_free(watch);
    }
}
