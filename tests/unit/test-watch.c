/* SPDX-License-Identifier: Apache-2.0 */
/* What a watch keeps of what the guest says: how much of it is an event is not the guest's choice.
 */
#include "host/migration.h"
#include "host/watch.h"

#define CHANGES_MAX 32

static int count;          /* calls of the guest */
static LpmMigration *move; /* that has the partition; NULL: none */

LpmMigration *lpm_mobility_find(LpmHost *host, const char *id)
{
    (void)host;
    g_assert_cmpstr(id, ==, "m");
    return move;
}

/* The guest: each script fails, each time with other words. */
LpmScriptsCall *lpm_scripts_call(LpmPartition *partition, LpmScriptsPhase phase,
                                 const LpmScriptsAbout *about, LpmScriptsDone done, void *data)
{
    g_autoptr(json_t) result = json_object();
    json_t *scripts = json_array(), *name = NULL;
    size_t i = 0;

    (void)partition;
    g_assert_cmpint(phase, ==, LPM_SCRIPTS_WATCH);
    count++;
    json_array_foreach (about->only, i, name) {
        g_autofree char *words = g_strdup_printf("down for the %d. time", count);

        json_array_append_new(scripts, lpm_json_pack("{s:O, s:s, s:s, s:s}", "name", name, "answer",
                                                     "no", "end", "exit", "words", words));
    }
    json_object_set_new(result, "scripts", scripts);
    done(result, data);
    return NULL;
}

void lpm_scripts_cancel(LpmScriptsCall *call)
{
    g_assert_null(call);
}

LpmPartition *lpm_partition_ref(LpmPartition *partition)
{
    return partition;
}

void lpm_partition_unref(LpmPartition *partition)
{
    (void)partition;
}

static void on_news(json_t *phase, void *data)
{
    json_t **last = data;

    json_decref(*last);
    *last = json_deep_copy(phase);
}

static json_t *before_of(int changes)
{
    json_t *list = json_array();

    for (int i = 0; i < changes; i++) {
        json_array_append_new(list, lpm_json_pack("{s:I, s:s, s:b, s:s}", "time_us", (json_int_t)i,
                                                  "name", "all/0", "good", 1, "words", "well"));
    }
    return lpm_json_pack("{s:I, s:o}", "runs", (json_int_t)100, "changes", list);
}

static void test_only_the_first_changes(void)
{
    LpmHost host = {.clock = lpm_clock_system()};
    LpmPartition partition = {
        .host = &host, .state = LPM_PARTITION_RUNNING, .agent = (LpmQga *)&host};
    g_autoptr(json_t) pre =
        json_pack("{s:[{s:s, s:{s:s}}, {s:s, s:{s:s}}, {s:s, s:{s:s}}]}", "scripts", "name",
                  "all/0", "facts", "watch_s", "1", "name", "all/1", "facts", "watch_s", "1",
                  "name", "all/2", "facts", "watch_s", "1");
    g_autoptr(json_t) before = before_of(CHANGES_MAX - 4);
    json_t *last = NULL;
    LpmWatch *watch = lpm_watch_new(&partition, &(LpmScriptsAbout){.migration = "m"}, pre, before,
                                    on_news, &last);
    const json_t *changes;

    while (count < 3) {
        g_main_context_iteration(NULL, TRUE);
    }
    lpm_watch_free(watch);
    g_assert_cmpint(lpm_json_int(last, "runs", 0), ==, 103);
    changes = lpm_json_at(last, "changes");
    g_assert_cmpuint(json_array_size(changes), ==, CHANGES_MAX);
    g_assert_cmpstr(lpm_json_str(json_array_get(changes, 0), "words", ""), ==, "well");
    g_assert_cmpstr(lpm_json_str(json_array_get(changes, CHANGES_MAX - 2), "words", ""), ==,
                    "down for the 1. time");
    g_assert_cmpstr(lpm_json_str(json_array_get(changes, CHANGES_MAX - 1), "words", ""), ==,
                    "down for the 2. time (no more is told of this move)");
    json_decref(last);
}

static gboolean on_time(gpointer data)
{
    *(bool *)data = true;
    return G_SOURCE_REMOVE;
}

static void test_not_while_it_stands_still(void)
{
    LpmHost host = {.clock = lpm_clock_system()};
    LpmPartition partition = {
        .host = &host, .state = LPM_PARTITION_RUNNING, .agent = (LpmQga *)&host};
    LpmMigration switching = {.phase = LPM_PHASE_SWITCHOVER};
    g_autoptr(json_t) pre =
        json_pack("{s:[{s:s, s:{s:s}}]}", "scripts", "name", "all/0", "facts", "watch_s", "1");
    json_t *last = NULL;
    LpmWatch *watch =
        lpm_watch_new(&partition, &(LpmScriptsAbout){.migration = "m"}, pre, NULL, on_news, &last);
    bool over = false;

    count = 0;
    move = &switching;
    g_timeout_add(2500, on_time, &over);
    while (!over) {
        g_main_context_iteration(NULL, TRUE);
    }
    g_assert_cmpint(count, ==, 0);
    switching.phase = LPM_PHASE_COPY;
    while (count == 0) {
        g_main_context_iteration(NULL, TRUE);
    }
    move = NULL;
    lpm_watch_free(watch);
    json_decref(last);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/watch/only-the-first-changes", test_only_the_first_changes);
    g_test_add_func("/watch/not-while-it-stands-still", test_not_while_it_stands_still);
    return g_test_run();
}
