/* SPDX-License-Identifier: Apache-2.0 */
#include "host/scripts.h"

#include "qga/drmgr.h"

#include <string.h>

#define PROGRAM "/usr/sbin/lpm-drmgr"
enum {
    SLACK_MS = 25000, /* lpm-drmgr may wait for another one, and kill */
    AGAIN_MS = 300,
    ONLY_MAX = 8, /* names that lpm-drmgr takes */
};

struct LpmScriptsCall {
    LpmPartition *partition;
    GPtrArray *words; /* argv */
    unsigned limit_s;
    LpmScriptsPhase phase;
    int64_t start_real_us, start_mono_us;
    LpmScriptsDone done; /* NULL: cancelled */
    void *data;
};

const char *lpm_scripts_phase_name(LpmScriptsPhase phase)
{
    static const char *const names[] = {
        [LPM_SCRIPTS_CHECK] = "check", [LPM_SCRIPTS_PRE] = "pre",
        [LPM_SCRIPTS_POST] = "post",   [LPM_SCRIPTS_UNDO] = "undo",
        [LPM_SCRIPTS_WATCH] = "watch", [LPM_SCRIPTS_TAKEOVER] = "takeover",
    };
    return names[phase];
}

bool lpm_scripts_can_ask(const LpmPartition *partition)
{
    return partition->agent != NULL && partition->pid > 0;
}

static void end(LpmScriptsCall *call, json_t *answer, const char *error)
{
    const LpmClock *clock = call->partition->host->clock;
    int64_t took_us = lpm_clock_monotonic_us(clock) - call->start_mono_us;
    json_object_set_new(answer, "phase", json_string(lpm_scripts_phase_name(call->phase)));
    json_object_set_new(answer, "error", json_string(error));
    json_object_set_new(answer, "start_us", json_integer((json_int_t)call->start_real_us));
    json_object_set_new(answer, "ms", json_integer((json_int_t)(took_us / 1000)));
    if (call->done) {
        call->done(answer, call->data);
    }
    json_decref(answer);
    lpm_partition_unref(call->partition);
    g_ptr_array_unref(call->words);
    g_free(call);
}

static json_t *without_answer(const char *result)
{
    return lpm_json_pack("{s:s, s:s, s:[]}", "result", result, "version", "", "scripts");
}

static gboolean nobody_to_ask(gpointer data)
{
    end(data, without_answer("absent"), "the partition has no guest agent");
    return G_SOURCE_REMOVE;
}

static void ask(LpmScriptsCall *call);

static gboolean ask_again(gpointer data)
{
    ask(data);
    return G_SOURCE_REMOVE;
}

/*
 * The end of an earlier move goes before the question of the next: what it has to tell the scripts
 * stops one that is being asked. So that is asked again, as long as it may take.
 */
static bool came_between(const LpmScriptsCall *call, const json_t *answer)
{
    const char *result = lpm_json_str(answer, "result", "");
    int64_t now = lpm_clock_monotonic_us(call->partition->host->clock);
    bool patient = call->phase == LPM_SCRIPTS_CHECK || call->phase == LPM_SCRIPTS_TAKEOVER;
    return call->done && patient &&
           (strcmp(result, "stopped") == 0 || strcmp(result, "busy") == 0) &&
           now - call->start_mono_us < call->limit_s * G_TIME_SPAN_SECOND;
}

/* An agent that refuses to run it says that it is not there, or that it may not run anything. */
static void on_exec(const LpmQgaExec *ran, const GError *error, void *data)
{
    LpmScriptsCall *call = data;
    gsize size = 0;
    if (error) {
        bool refused = g_error_matches(error, LPM_ERROR, LPM_ERROR_STATE) ||
                       g_error_matches(error, LPM_ERROR, LPM_ERROR_UNSUPPORTED);
        end(call, without_answer(refused ? "absent" : "silent"), error->message);
        return;
    }
    const char *out = g_bytes_get_data(ran->out, &size);
    json_t *answer = lpm_drmgr_read(out, size);
    if (came_between(call, answer)) {
        json_decref(answer);
        g_timeout_add(AGAIN_MS, ask_again, call);
        return;
    }
    gsize n_words = 0;
    const char *words = g_bytes_get_data(ran->err, &n_words);
    g_autofree char *text = lpm_drmgr_read_errors(words, n_words);
    bool killed = strcmp(lpm_json_str(answer, "result", ""), "killed") == 0;
    end(call, answer, killed && !*text ? "lpm-drmgr was killed before it had answered" : text);
}

/* Of the limit, which is one for all times that it is asked: whoever waits knows no other. */
static unsigned left_ms(const LpmScriptsCall *call)
{
    int64_t now = lpm_clock_monotonic_us(call->partition->host->clock);
    int64_t left = (int64_t)call->limit_s * 1000 - (now - call->start_mono_us) / 1000;
    return (unsigned)MAX(left, 0);
}

/* An agent that does not answer would hold back everybody else's questions until the time is up. */
static void on_ping(const GError *error, void *data)
{
    LpmScriptsCall *call = data;
    if (error || !lpm_scripts_can_ask(call->partition)) {
        end(call, without_answer("silent"), error ? error->message : "QEMU has ended");
        return;
    }
    lpm_qga_exec(call->partition->agent, (const char *const *)call->words->pdata, NULL, NULL,
                 left_ms(call) + SLACK_MS, on_exec, call);
}

static void ask(LpmScriptsCall *call)
{
    LpmPartition *partition = call->partition;
    if (!lpm_scripts_can_ask(partition)) {
        g_idle_add(nobody_to_ask, call);
    } else {
        lpm_qga_ping(partition->agent, partition->host->config->agent_timeout_ms, on_ping, call);
    }
}

static void add(GPtrArray *words, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void add(GPtrArray *words, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    g_ptr_array_add(words, g_strdup_vprintf(format, arguments));
    va_end(arguments);
}

static void add_only(GPtrArray *words, const json_t *only)
{
    json_t *name = NULL;
    size_t i = 0;
    json_array_foreach (only, i, name) {
        if (json_is_string(name) && i < ONLY_MAX) {
            add(words, "--only");
            add(words, "%s", json_string_value(name));
        }
    }
}

static GPtrArray *command(const LpmPartition *partition, LpmScriptsPhase phase,
                          const LpmScriptsAbout *about, unsigned limit_s)
{
    GPtrArray *words = g_ptr_array_new_with_free_func(g_free);
    add(words, PROGRAM);
    add(words, "--phase");
    add(words, "%s", lpm_scripts_phase_name(phase));
    add(words, "--id");
    add(words, "%s", about->migration);
    add(words, "--limit");
    add(words, "%us", limit_s);
    if (about->force) {
        add(words, "--force");
    }
    add_only(words, about->only);
    add(words, "LPM_PARTITION=%s", partition->profile->name);
    if (about->member) {
        add(words, "LPM_MEMBER=%s", about->member);
    }
    if (about->source) {
        add(words, "LPM_SOURCE=%s", about->source);
    }
    if (about->target) {
        add(words, "LPM_TARGET=%s", about->target);
    }
    if (about->predicted_ms >= 0) {
        add(words, "LPM_PREDICTED_BLACKOUT_MS=%" G_GINT64_FORMAT, about->predicted_ms);
    }
    if (about->max_blackout_ms > 0) {
        add(words, "LPM_MAX_BLACKOUT_MS=%" G_GINT64_FORMAT, about->max_blackout_ms);
    }
    g_ptr_array_add(words, NULL);
    return words;
}

LpmScriptsCall *lpm_scripts_call(LpmPartition *partition, LpmScriptsPhase phase,
                                 const LpmScriptsAbout *about, LpmScriptsDone done, void *data)
{
    LpmScriptsCall *call = g_new0(LpmScriptsCall, 1);
    const LpmHostConfig *config = partition->host->config;
    bool patient = phase == LPM_SCRIPTS_CHECK || phase == LPM_SCRIPTS_WATCH;
    call->limit_s = patient ? config->script_check_s : config->script_s;
    call->words = command(partition, phase, about, call->limit_s);
    call->partition = lpm_partition_ref(partition);
    call->phase = phase;
    call->start_real_us = lpm_clock_realtime_us(partition->host->clock);
    call->start_mono_us = lpm_clock_monotonic_us(partition->host->clock);
    call->done = done;
    call->data = data;
    ask(call);
    return call;
}

void lpm_scripts_cancel(LpmScriptsCall *call)
{
    if (call) {
        call->done = NULL;
    }
}
