/* SPDX-License-Identifier: Apache-2.0 */
#include "qga/drmgr.h"

#include "qga/text.h"

#include <glib.h>
#include <string.h>

#define LINE_SIZE ((size_t)32 << 10)

static void copy_text(json_t *to, const json_t *from, const char *name, size_t max, bool lines)
{
    g_autofree char *text = lpm_qga_clean_text(lpm_json_str(from, name, ""), max, lines);
    json_object_set_new(to, name, json_string(text));
}

/* One of @words, the last where it is none of them. */
static void copy_word(json_t *to, const json_t *from, const char *name, const char *const *words)
{
    const char *text = lpm_json_str(from, name, "");
    while (words[1] && strcmp(text, *words) != 0) {
        words++;
    }
    json_object_set_new(to, name, json_string(*words));
}

static void copy_number(json_t *to, const json_t *from, const char *name)
{
    int64_t value = lpm_json_int(from, name, 0);
    json_object_set_new(to, name, json_integer(CLAMP(value, 0, G_MAXINT32)));
}

static json_t *log_of(const json_t *line)
{
    static const char *const levels[] = {"emerg", "err", "warning", "debug", "info", NULL};
    json_t *list = json_array(), *entry = NULL;
    size_t i = 0;
    json_array_foreach (lpm_json_at(line, "log"), i, entry) {
        if (i >= LPM_DRMGR_LOG_MAX) {
            break;
        }
        json_t *row = json_object();
        copy_word(row, entry, "level", levels);
        copy_text(row, entry, "text", LPM_DRMGR_TEXT_MAX, false);
        json_array_append_new(list, row);
    }
    return list;
}

static bool is_fact_name(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && length < LPM_DRMGR_FACT_MAX &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz_") == length;
}

/* As an object: the first of a name counts. */
static json_t *facts_of(const json_t *line)
{
    json_t *facts = json_object(), *entry = NULL;
    size_t i = 0;
    json_array_foreach (lpm_json_at(line, "facts"), i, entry) {
        const char *name = lpm_json_str(entry, "name", "");
        if (is_fact_name(name) && json_object_size(facts) < LPM_DRMGR_FACTS_MAX &&
            !json_object_get(facts, name)) {
            g_autofree char *text =
                lpm_qga_clean_text(lpm_json_str(entry, "value", ""), LPM_DRMGR_TEXT_MAX, false);
            json_object_set_new(facts, name, json_string(text));
        }
    }
    return facts;
}

static json_t *script_of(const json_t *line)
{
    static const char *const kinds[] = {"hook", "script", NULL};
    static const char *const answers[] = {"yes", "no", "failed", NULL};
    static const char *const ends[] = {"exited",        "signal",  "timed-out", "flooded",
                                       "killed-parent", "stopped", "not-run",   NULL};
    json_t *script = json_object();
    copy_word(script, line, "kind", kinds);
    copy_text(script, line, "name", LPM_DRMGR_TEXT_MAX, false);
    copy_text(script, line, "action", LPM_DRMGR_TEXT_MAX, false);
    copy_word(script, line, "answer", answers);
    copy_word(script, line, "end", ends);
    copy_number(script, line, "status");
    copy_number(script, line, "ms");
    copy_text(script, line, "words", LPM_DRMGR_WORDS_MAX, false);
    json_object_set_new(script, "log", log_of(line));
    json_object_set_new(script, "facts", facts_of(line));
    copy_text(script, line, "output", LPM_DRMGR_OUTPUT_MAX, true);
    copy_text(script, line, "errors", LPM_DRMGR_OUTPUT_MAX, true);
    json_object_set_new(script, "cut", json_boolean(lpm_json_bool(line, "cut", false)));
    copy_number(script, line, "children");
    json_object_set_new(script, "leaks", json_boolean(lpm_json_bool(line, "leaks", false)));
    return script;
}

static void take_line(json_t *answer, const char *line, size_t size)
{
    static const char *const results[] = {"ok",      "already",  "no",     "busy",
                                          "stopped", "too-late", "failed", NULL};
    g_autoptr(json_t) json = size < LINE_SIZE ? lpm_json_parse(line, size, NULL) : NULL;
    const char *kind = lpm_json_str(json, "kind", "");
    json_t *scripts = json_object_get(answer, "scripts");
    if (strcmp(kind, "begin") == 0) {
        copy_text(answer, json, "version", LPM_DRMGR_TEXT_MAX, false);
    } else if (strcmp(kind, "end") == 0) {
        copy_word(answer, json, "result", results);
    } else if ((strcmp(kind, "script") == 0 || strcmp(kind, "hook") == 0) &&
               json_array_size(scripts) < LPM_DRMGR_LINES_MAX) {
        json_array_append_new(scripts, script_of(json));
    }
}

json_t *lpm_drmgr_read(const char *out, size_t size)
{
    json_t *answer =
        lpm_json_pack("{s:s, s:s, s:[]}", "result", "killed", "version", "", "scripts");
    const char *end = out + size;
    for (const char *line = out; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        size_t length = (size_t)((stop ? stop : end) - line);
        take_line(answer, line, length);
        line += length + 1;
    }
    return answer;
}

char *lpm_drmgr_read_errors(const char *err, size_t size)
{
    g_autofree char *said = g_strndup(err ? err : "", MIN(size, LPM_DRMGR_WORDS_MAX));
    g_strdelimit(g_strstrip(said), "\t\r\n", ' ');
    return lpm_qga_clean_text(said, LPM_DRMGR_WORDS_MAX, false);
}
