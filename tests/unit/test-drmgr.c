/* SPDX-License-Identifier: Apache-2.0 */
/* What lpm-drmgr answers, and what a guest answers that wants to do harm. */
#include "qga/drmgr.h"

#include <glib.h>
#include <string.h>

static json_t *read_text(const char *text)
{
    return lpm_drmgr_read(text, strlen(text));
}

static void test_plain(void)
{
    g_autoptr(json_t) answer =
        read_text("{\"kind\": \"begin\", \"version\": \"0.1.0\"}\n"
                  "{\"kind\": \"script\", \"name\": \"all/web\", \"action\": \"checkmigrate\", "
                  "\"answer\": \"no\", \"end\": \"exited\", \"status\": 10, \"ms\": 7, \"words\": "
                  "\"not now\","
                  " \"log\": [{\"level\": \"err\", \"text\": \"x\"}], \"output\": \"a\\nb\"}\n"
                  "{\"kind\": \"end\", \"result\": \"no\"}\n");
    const json_t *script = json_array_get(json_object_get(answer, "scripts"), 0);
    g_assert_cmpstr(lpm_json_str(answer, "result", ""), ==, "no");
    g_assert_cmpstr(lpm_json_str(answer, "version", ""), ==, "0.1.0");
    g_assert_cmpstr(lpm_json_str(script, "name", ""), ==, "all/web");
    g_assert_cmpstr(lpm_json_str(script, "answer", ""), ==, "no");
    g_assert_cmpstr(lpm_json_str(script, "words", ""), ==, "not now");
    g_assert_cmpstr(lpm_json_str(script, "output", ""), ==, "a\nb");
    g_assert_cmpstr(lpm_json_str(script, "log.0.level", ""), ==, "err");
    g_assert_cmpint(lpm_json_int(script, "status", 0), ==, 10);
}

/* Without its last line it was killed; a yes that nobody knows is none. */
static void test_cut(void)
{
    g_autoptr(json_t) nothing = read_text("");
    g_autoptr(json_t) cut = read_text("{\"kind\": \"begin\"}\n{\"kind\": \"script\", \"answer\": "
                                      "\"of course\", \"ms\": -4, \"log\": 7}\n{\"kind\": \"en");
    const json_t *script = json_array_get(json_object_get(cut, "scripts"), 0);
    g_assert_cmpstr(lpm_json_str(nothing, "result", ""), ==, "killed");
    g_assert_cmpstr(lpm_json_str(cut, "result", ""), ==, "killed");
    g_assert_cmpstr(lpm_json_str(script, "answer", ""), ==, "failed");
    g_assert_cmpint(lpm_json_int(script, "ms", 1), ==, 0);
}

static void test_hostile(void)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_autofree char *letters = g_strnfill(5000, 'w');
    for (unsigned i = 0; i < 1000; i++) {
        g_string_append_printf(text, "{\"kind\": \"script\", \"words\": \"%s\\u202e\\u0007\"}\n",
                               letters);
    }
    for (unsigned i = 0; i < 50000; i++) {
        g_string_append_c(text, '[');
    }
    g_string_append(text, "\n\xff\xfe{}\n[1]\n\"end\"\n{\"kind\": 7}\n{\"kind\": \"end\", "
                          "\"result\": \"ok\"}\n");
    g_autoptr(json_t) answer = lpm_drmgr_read(text->str, text->len);
    const json_t *scripts = json_object_get(answer, "scripts");
    const char *words = lpm_json_str(json_array_get(scripts, 0), "words", "");
    g_assert_cmpuint(json_array_size(scripts), ==, LPM_DRMGR_LINES_MAX);
    g_assert_cmpuint(strlen(words), ==, LPM_DRMGR_WORDS_MAX);
    g_assert_cmpstr(lpm_json_str(answer, "result", ""), ==, "ok");
}

static void test_shown(void)
{
    g_autoptr(json_t) answer =
        read_text("{\"kind\": \"hook\", \"name\": \"pmig/a\\u202eb\\n\", \"words\": \"a\\nb\"}\n");
    const json_t *script = json_array_get(json_object_get(answer, "scripts"), 0);
    g_assert_cmpstr(lpm_json_str(script, "name", ""), ==, "pmig/a?b?");
    g_assert_cmpstr(lpm_json_str(script, "words", ""), ==, "a?b");
}

static void test_errors(void)
{
    static const char said[] = " cannot read\n\tthe \xe2\x80\xaekcab\xff registry\x1b[2J \n";
    g_autofree char *text = lpm_drmgr_read_errors(said, strlen(said));
    g_autofree char *none = lpm_drmgr_read_errors(NULL, 0);
    g_assert_cmpstr(text, ==, "cannot read  the ?kcab\xef\xbf\xbd registry?[2J");
    g_assert_cmpstr(none, ==, "");
}

/* Facts are an object of short names; the first of a name counts, what does not fit is left out. */
static void test_facts(void)
{
    g_autoptr(GString) text = g_string_new(
        "{\"kind\": \"script\", \"facts\": [{\"name\": \"cluster_token_ms\", \"value\": \"3650\"}, "
        "{\"name\": \"cluster_token_ms\", \"value\": \"1\"}, {\"name\": \"Bad name\", \"value\": "
        "\"x\"}, {\"name\": \"n\", \"value\": 7}, 3");
    for (char c = 'a'; c <= 'z'; c++) {
        g_string_append_printf(text, ", {\"name\": \"z%c\", \"value\": \"\\u202ey\"}", c);
    }
    g_string_append(text, "]}\n");
    g_autoptr(json_t) answer = read_text(text->str);
    const json_t *facts =
        lpm_json_at(json_array_get(json_object_get(answer, "scripts"), 0), "facts");
    g_assert_cmpuint(json_object_size(facts), ==, LPM_DRMGR_FACTS_MAX);
    g_assert_cmpstr(lpm_json_str(facts, "cluster_token_ms", ""), ==, "3650");
    g_assert_cmpstr(lpm_json_str(facts, "n", "?"), ==, "");
    g_assert_cmpstr(lpm_json_str(facts, "za", "?"), ==, "?y");
    g_assert_null(json_object_get(facts, "Bad name"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/drmgr/plain", test_plain);
    g_test_add_func("/drmgr/errors", test_errors);
    g_test_add_func("/drmgr/cut", test_cut);
    g_test_add_func("/drmgr/hostile", test_hostile);
    g_test_add_func("/drmgr/shown", test_shown);
    g_test_add_func("/drmgr/facts", test_facts);
    return g_test_run();
}
