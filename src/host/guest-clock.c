/* SPDX-License-Identifier: Apache-2.0 */
#include "host/guest-clock.h"

#include "base/log.h"
#include "host/partition.h"
#include "qga/clock.h"

#include <string.h>

#define NOT_SUPPORTED "not currently supported" /* QEMU's agent, of a command that it knows */

enum {
    SET_MS = 10000,  /* the agent writes the board's clock, too, and that waits for its second */
    AGAIN_MS = 1000, /* an agent that does not answer yet */
    TRIES = 6,
    US_PER_MS = 1000,
};

typedef struct {
    LpmPartition *partition; /* owned reference */
    int64_t stood_us, most_us;
    int64_t begun_us, asked_us,
        asked_mono_us; /* realtime; realtime and monotonic of the question */
    int64_t behind_us, after_us, round_us;
    bool set;
    char *refused; /* what the agent said to being asked to set it */
    unsigned tries;
    LpmGuestClockDone done;
    void *data;
} Clock;

static const LpmClock *clock_of(const Clock *clock)
{
    return clock->partition->host->clock;
}

static int64_t least_us(const Clock *clock)
{
    return (int64_t)clock->partition->host->config->clock_step_ms * US_PER_MS;
}

static LpmClockVerdict verdict_of(const Clock *clock, int64_t behind_us)
{
    int64_t stood_us = clock->stood_us < 0 ? clock->most_us : clock->stood_us;

    return lpm_clock_judge(behind_us, stood_us, least_us(clock));
}

static void end(Clock *clock, const char *result, const char *error)
{
    LpmLogFields fields = {.partition = clock->partition->profile->name};
    int64_t took_us = lpm_clock_realtime_us(clock_of(clock)) - clock->begun_us;
    g_autofree char *words = g_utf8_make_valid(error ? error : "", -1);
    g_autoptr(json_t) answer = lpm_json_pack(
        "{s:s, s:s, s:s, s:I, s:I, s:s, s:[], s:I, s:o, s:o}", "phase", "clock", "result", result,
        "error", words, "start_us", (json_int_t)clock->begun_us, "ms",
        (json_int_t)MAX(took_us / US_PER_MS, 0), "version", "", "scripts", "behind_ms",
        (json_int_t)(clock->behind_us / US_PER_MS), "stood_ms",
        clock->stood_us < 0 ? json_null() : json_integer(clock->stood_us / US_PER_MS), "after_ms",
        clock->set ? json_integer(clock->after_us / US_PER_MS) : json_null());

    if (*words) {
        lpm_log_info(&fields, "the clock of its operating system: %s (%s)", result, words);
    }
    clock->partition->clock_busy = false;
    clock->done(answer, clock->data);
    lpm_partition_unref(clock->partition);
    g_free(clock->refused);
    g_free(clock);
}

static bool is_gone(const Clock *clock)
{
    const LpmPartition *partition = clock->partition;

    return !partition->agent || !partition->pid || partition->state != LPM_PARTITION_RUNNING;
}

static void look(Clock *clock);

static gboolean look_again(gpointer data)
{
    look(data);
    return G_SOURCE_REMOVE;
}

static void try_again(Clock *clock, const GError *error)
{
    /* Who has something to tell the partition does not wait for an agent that may be gone. */
    clock->partition->clock_busy = false;
    if (++clock->tries < TRIES && !is_gone(clock)) {
        g_timeout_add(AGAIN_MS, look_again, clock);
    } else {
        end(clock, "silent", error->message);
    }
}

/* --- set --- */

static void on_stepped(const LpmQgaExec *ran, const GError *error, void *data)
{
    Clock *clock = data;

    if (!error && ran->status == 0) {
        g_clear_pointer(&clock->refused, g_free);
    }
    clock->set = true;
    look(clock);
}

/* The agent needs hwclock for it, which many systems do not install any more; our own does not. */
static void step(Clock *clock)
{
    g_autofree char *ms =
        g_strdup_printf("%" G_GINT64_FORMAT, (clock->behind_us + clock->round_us / 2) / US_PER_MS);
    const char *const words[] = {"/usr/sbin/lpm-drmgr", "--step-clock", ms, NULL};

    lpm_qga_exec(clock->partition->agent, words, NULL, NULL, SET_MS, on_stepped, clock);
}

static void on_set(json_t *result, const GError *error, void *data)
{
    Clock *clock = data;

    (void)result;
    clock->refused = error ? g_strdup(error->message) : NULL;
    if (error && !is_gone(clock) &&
        (g_error_matches(error, LPM_ERROR, LPM_ERROR_UNSUPPORTED) ||
         strstr(error->message, NOT_SUPPORTED))) {
        step(clock);
        return;
    }
    /* It may be set all the same: some agents only cannot write the board's clock. */
    clock->set = true;
    look(clock);
}

static void set(Clock *clock)
{
    int64_t now_us = lpm_clock_realtime_us(clock_of(clock)) + clock->round_us / 2;

    lpm_qga_call(clock->partition->agent, "guest-set-time",
                 lpm_json_pack("{s:I}", "time", (json_int_t)(now_us * 1000)), SET_MS, on_set,
                 clock);
}

/* --- look --- */

static void end_set(Clock *clock)
{
    LpmClockVerdict verdict = verdict_of(clock, clock->after_us);
    g_autofree char *words =
        g_strdup_printf("it was %.1f s behind%s%s", (double)clock->behind_us / G_USEC_PER_SEC,
                        verdict == LPM_CLOCK_RIGHT ? "" : " and still is wrong: ",
                        verdict == LPM_CLOCK_RIGHT ? ""
                        : clock->refused           ? clock->refused
                                                   : "nobody knows why");

    end(clock, verdict == LPM_CLOCK_RIGHT ? "stepped" : "failed", words);
}

static void judge(Clock *clock)
{
    g_autofree char *words = NULL;

    switch (verdict_of(clock, clock->behind_us)) {
    case LPM_CLOCK_RIGHT:
        end(clock, "right", "");
        return;
    case LPM_CLOCK_STEP:
        set(clock);
        return;
    case LPM_CLOCK_OWN:
        break;
    }
    words = g_strdup_printf("it is %.1f s %s, which standing still does not explain: it is left so",
                            (double)ABS(clock->behind_us) / G_USEC_PER_SEC,
                            clock->behind_us < 0 ? "ahead" : "behind");
    end(clock, "own", words);
}

static void on_time(json_t *result, const GError *error, void *data)
{
    Clock *clock = data;
    int64_t guest_us;

    if (error || !json_is_integer(result)) {
        g_autoptr(GError) odd = NULL;

        lpm_error_set(&odd, LPM_ERROR_PROTOCOL, "the guest agent says no time");
        if (error && (g_error_matches(error, LPM_ERROR, LPM_ERROR_UNSUPPORTED) ||
                      g_error_matches(error, LPM_ERROR, LPM_ERROR_STATE))) {
            end(clock, "absent", error->message); /* it does not, and will not, allow it */
        } else {
            try_again(clock, error ? error : odd);
        }
        return;
    }
    guest_us = json_integer_value(result) / 1000;
    clock->round_us = lpm_clock_monotonic_us(clock_of(clock)) - clock->asked_mono_us;
    if (clock->set) {
        clock->after_us = clock->asked_us - guest_us;
        end_set(clock);
        return;
    }
    clock->behind_us = clock->asked_us - guest_us; /* at least: it was read after the question */
    if (clock->behind_us < 0) {
        clock->behind_us = MIN(0, clock->behind_us + clock->round_us);
    }
    if (is_gone(clock)) {
        end(clock, "silent", "the partition does not run here any more");
    } else {
        judge(clock);
    }
}

static void look(Clock *clock)
{
    if (is_gone(clock)) {
        end(clock, "silent", "the partition does not run here any more");
        return;
    }
    clock->asked_us = lpm_clock_realtime_us(clock_of(clock));
    clock->asked_mono_us = lpm_clock_monotonic_us(clock_of(clock));
    lpm_qga_call(clock->partition->agent, "guest-get-time", NULL,
                 clock->partition->host->config->agent_timeout_ms, on_time, clock);
}

bool lpm_guest_clock(LpmPartition *partition, int64_t stood_us, int64_t most_us,
                     LpmGuestClockDone done, void *data)
{
    int64_t least = (int64_t)partition->host->config->clock_step_ms * US_PER_MS;
    Clock *clock;

    if ((stood_us >= 0 && stood_us < least) || !partition->agent || partition->clock_busy ||
        partition->profile->rtc_offset_s != 0 || partition->host->config->clock_step_ms == 0) {
        return false;
    }
    clock = g_new0(Clock, 1);
    clock->partition = lpm_partition_ref(partition);
    clock->stood_us = stood_us;
    clock->most_us = most_us;
    clock->done = done;
    clock->data = data;
    clock->begun_us = lpm_clock_realtime_us(clock_of(clock));
    partition->clock_busy = true;
    look(clock);
    return true;
}
