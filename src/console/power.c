/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The power of a partition, as a cluster's fence agent asks for it. "off" is a promise: no copy of
 * the partition runs anywhere, and none will by itself. So a move of it is stopped, or ended,
 * first: while one is undecided either system may run it. What is not known is an error, never
 * "off".
 */
#include "power.h"

#include "api.h"
#include "moves.h"

#include <string.h>

#define LOOK_EVERY_MS   250
#define STOP_AGAIN_US   (5 * G_TIME_SPAN_SECOND)
#define CALL_TIMEOUT_MS 10000
#define WAIT_DEFAULT_S  60
#define WAIT_MAX_S      600
/* A QEMU whose monitor lpm-host could not reach is in error, too, and may well serve. */
#define HANGS_AFTER_US (15 * G_TIME_SPAN_SECOND)

typedef enum { POWER_OFF, POWER_ON, POWER_MOVING, POWER_UNKNOWN } Verdict;

typedef struct {
    LpmConsole *console;
    LpmHttpRequest *request; /* NULL: done is called */
    LpmPowerDone done;
    void *data;
    char *partition;
    bool off;            /* it is to be made so */
    bool gone;           /* only if it is lost: one that runs, or moves, is left alone */
    bool crashed;        /* wherever it is on, its process hangs */
    bool touched;        /* something was done for that */
    int64_t hangs_us;    /* monotonic: since when it is seen like that without a break; 0: not */
    int64_t deadline_us; /* monotonic */
    int64_t asked_us;    /* monotonic: when the move was told to stop last; 0: never */
    char *system;        /* where it is; NULL: not found */
    GPtrArray *off_at; /* other systems whose rows say that it is off, and that are not asked yet */
    char *why;         /* what was seen last, for people */
    GError *refused;   /* of the last partition-stop; NULL */
} Power;

static void power_free(Power *power)
{
    g_clear_error(&power->refused);
    g_ptr_array_unref(power->off_at);
    g_free(power->partition);
    g_free(power->system);
    g_free(power->why);
    g_free(power);
}

static void say(Power *power, char *why)
{
    g_free(power->why);
    power->why = why;
}

static LpmMove *unfinished(const Power *power)
{
    g_autoptr(GList) moves = lpm_moves_sorted(power->console);

    for (GList *at = moves; at; at = at->next) {
        LpmMove *move = at->data;

        if (!lpm_move_is_over(move) && strcmp(move->partition, power->partition) == 0) {
            return move;
        }
    }
    return NULL;
}

/* What one system's row says. An error state is a process that hangs, or one that has ended. */
static Verdict judge_row(Power *power, const json_t *row)
{
    const char *system = lpm_json_str(row, "system", "?");
    const char *state = lpm_json_str(row, "state", "unknown");
    const char *id = lpm_json_str(row, "migration", NULL);

    if (strcmp(state, "unknown") == 0) {
        say(power, g_strdup_printf("system %s, which has it, does not answer", system));
        return POWER_UNKNOWN;
    }
    if (id) {
        say(power, g_strdup_printf("system %s has not ended migration %s of it", system, id));
        return POWER_MOVING;
    }
    if (strcmp(state, "not-activated") == 0 ||
        (strcmp(state, "error") == 0 && !lpm_json_bool(row, "process", true))) {
        return POWER_OFF;
    }
    say(power, g_strdup_printf("it is %s on system %s", state, system));
    power->crashed = power->crashed && strcmp(state, "error") == 0;
    return POWER_ON;
}

/* The worst of all rows: who may run it anywhere is not off. Keeps the system of that row. */
static Verdict judge(Power *power, const json_t *rows, const json_t *unreachable)
{
    const LpmMove *move = unfinished(power);
    Verdict worst = POWER_OFF;
    bool found = false;
    json_t *row;
    size_t i;

    g_clear_pointer(&power->system, g_free);
    g_ptr_array_set_size(power->off_at, 0);
    power->crashed = true; /* until one is seen that is not */
    json_array_foreach (rows, i, row) {
        if (strcmp(lpm_json_str(row, "name", ""), power->partition) == 0) {
            Verdict verdict = judge_row(power, row);

            if (!found || verdict > worst) {
                g_free(power->system);
                power->system = g_strdup(lpm_json_str(row, "system", NULL));
                worst = verdict;
            }
            if (verdict == POWER_OFF && found) { /* the first one is asked as it is */
                g_ptr_array_add(power->off_at, g_strdup(lpm_json_str(row, "system", "?")));
            }
            found = true;
        }
    }
    if (move) {
        say(power,
            g_strdup_printf("migration %s of it is %s", move->id, lpm_move_state_name(move)));
        return POWER_MOVING;
    }
    if (!found && json_array_size(unreachable) > 0) {
        say(power, g_strdup("no system that answers has it, and not all answer"));
        return POWER_UNKNOWN;
    }
    return worst;
}

/* --- answering --- */

static void answer(Power *power, json_t *result, const GError *error)
{
    if (!power->request) {
        power->done(error, power->data);
        json_decref(result);
    } else if (error) {
        lpm_http_request_fail(power->request, error);
    } else {
        lpm_http_request_return(power->request, result);
    }
    power_free(power);
}

static void end_with(Power *power, bool off)
{
    if (power->off && power->touched) {
        lpm_event_add(power->console, "partition", power->partition,
                      power->request ? lpm_http_request_user(power->request) : NULL,
                      "switched off on %s %s", power->system,
                      power->request ? "for a fence agent" : "for a takeover");
    }
    answer(power,
           lpm_json_pack("{s:s, s:s, s:s?, s:s?}", "partition", power->partition, "power",
                         off ? "off" : "on", "system", power->system, "why",
                         off ? NULL : power->why),
           NULL);
}

static void end_unknown(Power *power, int code)
{
    g_autoptr(GError) error = NULL;

    lpm_error_set(&error, (LpmErrorCode)code, "partition \"%s\" is not known to be off: %s%s%s",
                  power->partition, power->why ? power->why : "nothing is known of it",
                  power->refused ? "; " : "", power->refused ? power->refused->message : "");
    answer(power, NULL, error);
}

static void end_not_found(Power *power)
{
    g_autoptr(GError) error = NULL;

    (void)lpm_fleet_not_found(power->partition, NULL, &error);
    answer(power, NULL, error);
}

static void end_alive(Power *power)
{
    g_autoptr(GError) error = NULL;

    lpm_error_set(&error, LPM_ERROR_STATE,
                  "partition \"%s\" is not lost: %s; \"--force\" switches it off first",
                  power->partition, power->why);
    answer(power, NULL, error);
}

/* --- looking, and doing what is seen to be needed --- */

static void look(Power *power);

static gboolean look_again(gpointer data)
{
    look(data);
    return G_SOURCE_REMOVE;
}

static void look_later(Power *power)
{
    if (lpm_clock_monotonic_us(power->console->clock) >= power->deadline_us) {
        end_unknown(power, LPM_ERROR_TIMEOUT);
    } else {
        g_timeout_add(LOOK_EVERY_MS, look_again, power);
    }
}

/* What partition-show says at @power->system, as judge_row() takes it. */
static Verdict judge_shown(Power *power, const json_t *shown)
{
    g_autoptr(json_t) row = lpm_json_pack("{s:s, s:s, s:s?, s:b}", "system", power->system, "state",
                                          lpm_json_str(shown, "state", "unknown"), "migration",
                                          lpm_json_str(shown, "migration", NULL), "process",
                                          !json_is_null(json_object_get(shown, "pid")));
    const LpmMove *move = unfinished(power);

    if (move) {
        say(power,
            g_strdup_printf("migration %s of it is %s", move->id, lpm_move_state_name(move)));
        return POWER_MOVING;
    }
    return judge_row(power, row);
}

static void ask_owner(Power *power);

/* An owner that has to be asked: one of those that were seen as off. */
static bool take_owner(Power *power, const char *owner)
{
    guint index = 0;

    if (!owner || !g_ptr_array_find_with_equal_func(power->off_at, owner, g_str_equal, &index)) {
        return false;
    }
    g_free(power->system);
    power->system = g_ptr_array_steal_index(power->off_at, index);
    return true;
}

/*
 * A system that was away when the move ended may have another word on it than those that answer:
 * the record decides, and whoever owns the partition has to be asked. It may have been started, or
 * set off on a move, since the rows were read: what its owner says along with the record counts.
 */
static void on_owner(json_t *result, const GError *error, void *data)
{
    Power *power = data;
    const char *owner = lpm_json_str(result, "record.owner", NULL);
    const char *state = lpm_json_str(result, "record.state", "?");
    /* Offered or taken: its owner is the source still, and the target may run it. */
    bool handed = strcmp(state, "OFFER") == 0 || strcmp(state, "TAKEN") == 0;
    bool owned = !error && !handed && g_strcmp0(owner, power->system) == 0;
    Verdict verdict = owned ? judge_shown(power, result) : POWER_UNKNOWN;

    if (verdict == POWER_OFF || (verdict != POWER_UNKNOWN && !power->off)) {
        end_with(power, verdict == POWER_OFF);
        return;
    }
    if (!error && !handed && !owned && take_owner(power, owner)) {
        ask_owner(power);
        return;
    }
    if (!owned) {
        say(power,
            g_strdup_printf("it is off on system %s, but its record %s%s%s%s, and not all "
                            "systems answer",
                            power->system, owner ? "names " : "cannot be read", owner ? owner : "",
                            handed ? " and says " : "", handed ? state : ""));
    }
    if (power->off) {
        look_later(power);
    } else {
        end_unknown(power, LPM_ERROR_UNREACHABLE);
    }
}

static void ask_owner(Power *power)
{
    LpmSystem *system = lpm_systems_need(power->console, power->system, NULL);

    if (!system) {
        look_later(power);
        return;
    }
    lpm_system_ask(system, "partition-show", lpm_json_pack("{s:s}", "partition", power->partition),
                   CALL_TIMEOUT_MS, on_owner, power);
}

static void confirm(Power *power, const json_t *unreachable)
{
    if (json_array_size(unreachable) == 0) {
        end_with(power, true);
        return;
    }
    ask_owner(power);
}

static void on_stopped(json_t *result, const GError *error, void *data)
{
    Power *power = data;

    (void)result;
    g_clear_error(&power->refused);
    if (error) {
        power->refused = g_error_copy(error);
    }
    look_later(power);
}

static void switch_off(Power *power)
{
    LpmSystem *system = lpm_systems_need(power->console, power->system, NULL);

    power->touched = true;
    if (!system) {
        look_later(power);
        return;
    }
    lpm_system_call(system, "partition-stop",
                    lpm_json_pack("{s:s, s:s}", "partition", power->partition, "how", "hard"),
                    CALL_TIMEOUT_MS, on_stopped, power);
}

/* One that cannot be stopped any more ends by itself, on one system or the other. */
static void stop_move(Power *power)
{
    LpmMove *move = unfinished(power);
    int64_t now = lpm_clock_monotonic_us(power->console->clock);

    if (move && (power->asked_us == 0 || now - power->asked_us > STOP_AGAIN_US)) {
        power->asked_us = now;
        power->touched = true;
        lpm_move_stop(move, NULL, NULL);
    }
    look_later(power);
}

/* One that was lost, and no other, may be switched off: whether that is certain yet. */
static bool is_gone(Power *power)
{
    int64_t now = lpm_clock_monotonic_us(power->console->clock);

    if (power->hangs_us == 0) {
        power->hangs_us = now;
    }
    return now - power->hangs_us >= HANGS_AFTER_US;
}

static void on_looked(json_t *rows, json_t *unreachable, void *data)
{
    Power *power = data;
    Verdict verdict = judge(power, rows, unreachable);

    if (verdict != POWER_ON || !power->crashed) {
        power->hangs_us = 0;
    }
    if (!power->system && verdict == POWER_OFF) {
        end_not_found(power);
    } else if (verdict == POWER_OFF) {
        confirm(power, unreachable);
    } else if (!power->off && verdict == POWER_UNKNOWN) {
        end_unknown(power, LPM_ERROR_UNREACHABLE);
    } else if (!power->off) {
        end_with(power, false);
    } else if (verdict == POWER_ON && power->gone && !power->crashed) {
        end_alive(power);
    } else if (verdict == POWER_ON && power->gone && !is_gone(power)) {
        look_later(power);
    } else if (verdict == POWER_ON) {
        switch_off(power);
    } else if (verdict == POWER_MOVING && !power->gone) {
        stop_move(power);
    } else {
        look_later(power);
    }
}

static void look(Power *power)
{
    lpm_fleet_list_whole(power->console, on_looked, power);
}

static Power *power_new(LpmConsole *console, const char *partition, bool off, int64_t wait_s)
{
    Power *power = g_new0(Power, 1);

    power->console = console;
    power->partition = g_strdup(partition);
    power->off_at = g_ptr_array_new_with_free_func(g_free);
    power->off = off;
    power->deadline_us = lpm_clock_monotonic_us(console->clock) + wait_s * G_TIME_SPAN_SECOND;
    return power;
}

static void begin(LpmHttpRequest *request, const json_t *arguments, LpmConsole *console, bool off,
                  int64_t wait_s)
{
    Power *power = power_new(console, lpm_json_str(arguments, "partition", ""), off, wait_s);

    power->request = request;
    look(power);
}

void lpm_power_off(LpmConsole *console, const char *partition, bool gone, int64_t wait_s,
                   LpmPowerDone done, void *data)
{
    Power *power = power_new(console, partition, true, wait_s);

    power->gone = gone;
    power->done = done;
    power->data = data;
    look(power);
}

void lpm_api_partition_power(LpmHttpRequest *request, json_t *arguments, void *data)
{
    begin(request, arguments, data, false, 0);
}

void lpm_api_partition_power_off(LpmHttpRequest *request, json_t *arguments, void *data)
{
    int64_t wait_s = lpm_json_int(arguments, "wait_s", WAIT_DEFAULT_S);
    GError *error = NULL;

    if (wait_s < 1 || wait_s > WAIT_MAX_S) {
        lpm_error_set(&error, LPM_ERROR_USAGE, "\"wait_s\" must be from 1 to %d", WAIT_MAX_S);
        lpm_http_request_fail(request, error);
        g_error_free(error);
        return;
    }
    begin(request, arguments, data, true, wait_s);
}
