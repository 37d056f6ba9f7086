/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Switching off, by the agent that the configuration names, a target that has taken a partition and
 * vanished: docs/spec/handover.md. What the agent does is verified, and then it is a word like any
 * other; what it does not do leaves everything as it was.
 */
#include "agent.h"
#include "base/log.h"
#include "moves.h"

#include <string.h>

#define TRIES           3
#define TRY_AGAIN_US    (60 * G_TIME_SPAN_SECOND)
#define HEARD_US        (5 * G_TIME_SPAN_SECOND) /* what the source said is not older */
#define STATUS_ON       0
#define STATUS_OFF      2
#define STATUS_ASKED    5 /* some agents answer before the power is gone */
#define STATUS_AGAIN_MS 1000
#define WORDS_SHOWN     200 /* bytes of what an agent said */
#define ASK_TIMEOUT_MS  3000

typedef struct {
    LpmMove *move;
    const LpmFencing *fencing; /* of the configuration */
    GPtrArray *values;         /* of the secrets that the agent was given last */
    unsigned asked;
} Fence;

static const LpmFencing *fencing_of(const LpmMove *move)
{
    return g_hash_table_lookup(move->console->config->fencing, move->systems[LPM_HALF_TARGET]);
}

/*
 * Whether the target's being off would let the partition go on. Not in post-copy: the target may
 * have all of its memory, and the source only what it never had to send. Not while the source still
 * hears it, which would refuse the word; and not one that was deleted, which nobody asks any more.
 */
static bool would_help(const LpmMove *move)
{
    const LpmMobAdvice *advice = lpm_move_advice(move, LPM_HALF_SOURCE);
    const LpmHalf *source = &move->halves[LPM_HALF_SOURCE];
    int64_t age = lpm_clock_monotonic_us(move->console->clock) - source->heard_us;

    return advice && advice->word == LPM_MOB_WORD_TARGET_OFF && age < HEARD_US &&
           strcmp(lpm_json_str(source->status, "sees.qemu", ""), "serving") != 0 &&
           lpm_json_int(source->status, "links.up", 0) == 0 &&
           lpm_systems_need(move->console, move->systems[LPM_HALF_SOURCE], NULL) &&
           lpm_move_system(move, LPM_HALF_TARGET) &&
           !lpm_systems_need(move->console, move->systems[LPM_HALF_TARGET], NULL);
}

static void fence_end(Fence *fence)
{
    fence->move->fencing.busy = false;
    fence->move->fencing.next_us =
        lpm_clock_monotonic_us(fence->move->console->clock) + TRY_AGAIN_US;
    lpm_move_unref(fence->move);
    g_ptr_array_unref(fence->values);
    g_free(fence);
}

static void fail(Fence *fence, const char *what, const char *words)
{
    LpmMove *move = fence->move;
    unsigned left = TRIES - move->fencing.tries;

    g_free(move->fencing.result);
    move->fencing.result =
        g_strdup_printf("The fencing agent of %s, %s, %s%s%s; %s.", move->systems[LPM_HALF_TARGET],
                        fence->fencing->agent, what, *words ? ": " : "", words,
                        left > 0 ? "it is tried again in a minute"
                                 : "it is not tried again, and people must see to it");
    lpm_event_add(move->console, "migration", move->id, NULL, "%s", move->fencing.result);
    lpm_move_touch(move);
    fence_end(fence);
}

/* --- the agent's input --- */

static void wipe(GString *text)
{
    explicit_bzero(text->str, text->allocated_len);
    g_string_free(text, TRUE);
}

/* NULL with @error when a secret cannot be had. */
static GString *agent_input(Fence *fence, const char *action, GError **error)
{
    const LpmFencing *fencing = fence->fencing;
    GString *input = g_string_sized_new(4096); /* grown, it would leave copies behind */

    g_string_append_printf(input, "action=%s\nplug=%s\nport=%s\n", action, fencing->plug,
                           fencing->plug);
    for (char **option = fencing->option; option && *option; option++) {
        g_string_append_printf(input, "%s\n", *option);
    }
    g_ptr_array_set_size(fence->values, 0);
    for (char **secret = fencing->secret; secret && *secret; secret++) {
        const char *file = strchr(*secret, '=') + 1;
        char *value = lpm_secret_read(file, error);

        if (!value) {
            wipe(input);
            return NULL;
        }
        g_string_append_len(input, *secret, file - *secret);
        g_string_append_printf(input, "%s\n", value);
        g_ptr_array_add(fence->values, value);
    }
    return input;
}

/* What an agent says may have a secret in it that it was given, printable by now. g_free(). */
static char *without_secrets(const Fence *fence, const char *words)
{
    g_autoptr(GString) text = g_string_new(words);

    for (guint i = 0; i < fence->values->len; i++) {
        g_autofree char *valid = g_utf8_make_valid(g_ptr_array_index(fence->values, i), -1);
        const char *value = g_strstrip(valid);

        for (char *at = valid; *at; at++) {
            *at = g_ascii_iscntrl(*at) ? ' ' : *at;
        }
        if (*value) {
            g_string_replace(text, value, "***", 0);
        }
        explicit_bzero(valid, strlen(valid));
    }
    g_string_truncate(text, MIN(text->len, WORDS_SHOWN));
    return g_utf8_make_valid(text->str, -1); /* it may have been cut within a character */
}

static void run_agent(Fence *fence, const char *action, LpmAgentDone done)
{
    g_autoptr(GError) error = NULL;
    GString *input = agent_input(fence, action, &error);

    if (!input) {
        fail(fence, "was not run", error->message);
        return;
    }
    lpm_agent_run(fence->fencing->agent, input->str, (unsigned)fence->fencing->timeout_s * 1000,
                  done, fence);
    wipe(input);
}

/* --- off, status, the word --- */

static void on_given(LpmMove *move, const GError *error, void *data)
{
    Fence *fence = data;

    (void)move;
    if (error) {
        fail(fence,
             lpm_call_is_unsure(error) ? "switched it off, and its word may have been taken"
                                       : "switched it off, but its word was not taken",
             error->message);
        return;
    }
    fence_end(fence);
}

static void give_word(Fence *fence)
{
    LpmMove *move = fence->move;
    char say[LPM_MOB_SAY_MAX];
    LpmMobNames names = lpm_move_names(move);
    g_autofree char *who = g_strdup_printf("fencing agent %s", fence->fencing->agent);
    g_autofree char *from = g_strdup_printf("console %s", move->console->config->name);
    LpmMoveWord word = {LPM_MOB_WORD_TARGET_OFF, say, who, from};

    (void)lpm_mob_fill(say, sizeof(say), lpm_mob_word_text(LPM_MOB_WORD_TARGET_OFF), &names);
    g_free(move->fencing.result);
    move->fencing.result = g_strdup_printf("The fencing agent of %s, %s, has switched it off.",
                                           move->systems[LPM_HALF_TARGET], fence->fencing->agent);
    lpm_move_recover(move, &word, on_given, fence);
}

static void ask_status(Fence *fence);

static gboolean ask_again(gpointer data)
{
    ask_status(data);
    return G_SOURCE_REMOVE;
}

/*
 * Agents end with 2 also when they do not understand their options, and complain then. Those that
 * say anything of the state say it on standard output ("Status: OFF").
 */
static bool is_off(const LpmAgentEnd *end)
{
    g_autofree char *said = g_ascii_strdown(end->said, -1);

    return end->status == STATUS_OFF &&
           (*said ? g_regex_match_simple("\\boff\\b", said, 0, 0) : !*end->words);
}

static void on_status(const LpmAgentEnd *end, void *data)
{
    Fence *fence = data;
    g_autofree char *clean = without_secrets(fence, *end->words ? end->words : end->said);

    if (is_off(end) && lpm_move_is_over(fence->move)) {
        fence_end(fence); /* somebody else was quicker */
    } else if (is_off(end)) {
        give_word(fence);
    } else if (end->status == STATUS_ON && ++fence->asked < STATUS_ASKED) {
        g_timeout_add(STATUS_AGAIN_MS, ask_again, fence);
    } else {
        fail(fence,
             end->status == STATUS_ON
                 ? "said that it is done, but its status says that it is still on"
                 : "said that it is done, but cannot say that it is off",
             clean);
    }
}

static void ask_status(Fence *fence)
{
    run_agent(fence, "status", on_status);
}

static void on_off(const LpmAgentEnd *end, void *data)
{
    Fence *fence = data;
    g_autofree char *clean = without_secrets(fence, end->words);

    if (end->status != 0) {
        fail(fence, "did not switch it off", clean);
        return;
    }
    ask_status(fence);
}

/* One agent at a time: two that switch the same system off would be in each other's way. */
static bool is_being_fenced(const LpmMove *move)
{
    GHashTableIter iter;
    gpointer other;

    g_hash_table_iter_init(&iter, move->console->moves);
    while (g_hash_table_iter_next(&iter, NULL, &other)) {
        const LpmMove *one = other;

        if (one->fencing.busy &&
            strcmp(one->systems[LPM_HALF_TARGET], move->systems[LPM_HALF_TARGET]) == 0) {
            return true;
        }
    }
    return false;
}

/* The last look before it loses its power: what the console knew may be some seconds old. */
static void on_target_asked(json_t *result, const GError *error, void *data)
{
    Fence *fence = data;
    g_autoptr(LpmMove) move = lpm_move_ref(fence->move);

    (void)result;
    if (!error || !lpm_call_is_unsure(error) || lpm_move_is_over(move) || !would_help(move)) {
        move->fencing.stuck_us = 0;
        fence_end(fence);
        move->fencing.next_us = 0;
        return;
    }
    move->fencing.tries++;
    lpm_event_add(move->console, "migration", move->id, NULL,
                  "system %s has partition %s and does not answer for %d s: fencing agent %s is to "
                  "switch it off",
                  move->systems[LPM_HALF_TARGET], move->partition, fence->fencing->after_s,
                  fence->fencing->agent);
    run_agent(fence, "off", on_off);
}

void lpm_move_consider_fencing(LpmMove *move)
{
    const LpmFencing *fencing = fencing_of(move);
    int64_t now = lpm_clock_monotonic_us(move->console->clock);
    Fence *fence;

    if (!fencing || fencing->after_s == 0 || !would_help(move)) {
        move->fencing.stuck_us = 0;
        return;
    }
    if (move->fencing.stuck_us == 0) {
        move->fencing.stuck_us = now;
    }
    if (is_being_fenced(move) || move->fencing.tries >= TRIES || now < move->fencing.next_us ||
        now - move->fencing.stuck_us < fencing->after_s * G_TIME_SPAN_SECOND) {
        return;
    }
    move->fencing.busy = true;
    fence = g_new0(Fence, 1);
    fence->move = lpm_move_ref(move);
    fence->fencing = fencing;
    fence->values = g_ptr_array_new_with_free_func(lpm_secret_free);
    lpm_system_ask_now(lpm_move_system(move, LPM_HALF_TARGET), "system-info", NULL, ASK_TIMEOUT_MS,
                       on_target_asked, fence);
}

static void warn_of_unknown(LpmConsole *console, const char *system)
{
    lpm_log_warning(NULL,
                    "[fencing %s]: there is no system \"%s\" here, so that its agent is never run; "
                    "\"lpm system list\" shows those that there are",
                    system, system);
    lpm_event_add(console, "system", system, NULL,
                  "the configuration has a fencing agent for %s, and there is no such system",
                  system);
}

void lpm_fencing_check(LpmConsole *console)
{
    GHashTableIter iter;
    gpointer system;

    g_hash_table_iter_init(&iter, console->config->fencing);
    while (g_hash_table_iter_next(&iter, &system, NULL)) {
        if (!g_hash_table_contains(console->systems, system)) {
            warn_of_unknown(console, system);
        }
    }
}
