/* SPDX-License-Identifier: Apache-2.0 */
#include "api.h"
#include "moves.h"
#include "options.h"

#include <string.h>

#define WAIT_DEFAULT_MS 10000
#define WAIT_MAX_MS     30000
#define LIST_DEFAULT    100

static void fail(LpmHttpRequest *request, GError *error)
{
    lpm_http_request_fail(request, error);
    g_error_free(error);
}

/* A partition that is in ERROR has no QEMU that could move alive. */
static bool is_activated(const json_t *row)
{
    const char *state = lpm_json_str(row, "state", "");

    return strcmp(state, "not-activated") != 0 && strcmp(state, "error") != 0;
}

static bool differ(const char *partition, const char *source, const char *target, GError **error)
{
    return strcmp(source, target) != 0 ||
           lpm_error_set(error, LPM_ERROR_USAGE,
                         "partition \"%s\" is on system \"%s\" already; name another target",
                         partition, target);
}

/* --- validate --- */

typedef struct {
    LpmConsole *console;
    LpmHttpRequest *request;
    char *partition, *target, *source;
    json_t *options;
    int active; /* -1: by the partition's state */
} Validate;

static void validate_free(Validate *validate)
{
    json_decref(validate->options);
    g_free(validate->partition);
    g_free(validate->target);
    g_free(validate->source);
    g_free(validate);
}

static void on_validated(const LpmVerdict *verdicts, size_t n_verdicts, const json_t *partition,
                         const GError *error, void *data)
{
    Validate *validate = data;

    (void)partition;
    if (error) {
        lpm_http_request_fail(validate->request, error);
    } else {
        json_t *results = json_array();

        for (size_t i = 0; i < n_verdicts; i++) {
            json_array_append_new(results, lpm_verdict_to_json(&verdicts[i]));
        }
        lpm_http_request_return(validate->request,
                                lpm_json_pack("{s:s, s:s, s:b, s:o}", "partition",
                                              validate->partition, "source", validate->source,
                                              "active", validate->active, "results", results));
    }
    validate_free(validate);
}

/* The one that was named, or all others that have joined, in order of name. */
static GPtrArray *targets_of(const Validate *validate, GError **error)
{
    g_autoptr(GPtrArray) targets = g_ptr_array_new();
    GList *names = lpm_systems_names(validate->console);

    for (GList *item = names; item; item = item->next) {
        LpmSystem *system = g_hash_table_lookup(validate->console->systems, item->data);
        bool wanted = validate->target ? strcmp(system->name, validate->target) == 0
                                       : system->state != LPM_SYSTEM_INVITED &&
                                             strcmp(system->name, validate->source) != 0;

        if (wanted) {
            g_ptr_array_add(targets, system);
        }
    }
    g_list_free(names);
    if (targets->len == 0) {
        lpm_error_set(error, LPM_ERROR_NOT_FOUND,
                      "there is no other system that partition \"%s\" could move to",
                      validate->partition);
        return NULL;
    }
    return g_steal_pointer(&targets);
}

static void on_found(LpmSystem *system, const json_t *row, const char *note, const GError *error,
                     void *data)
{
    Validate *validate = data;
    g_autoptr(GPtrArray) targets = NULL;
    GError *own = NULL;
    LpmValidationRequest request = {
        validate->console,    system, validate->partition, false, validate->options,
        LPM_VALIDATE_LOOK_MS, NULL};

    (void)note;
    if (error) {
        lpm_http_request_fail(validate->request, error);
        validate_free(validate);
        return;
    }
    validate->source = g_strdup(system->name);
    validate->active = validate->active < 0 ? is_activated(row) : validate->active;
    request.active = validate->active;
    if (!validate->target || differ(validate->partition, system->name, validate->target, &own)) {
        targets = targets_of(validate, &own);
    }
    if (!targets) {
        fail(validate->request, own);
        validate_free(validate);
        return;
    }
    lpm_validation_start(&request, targets, on_validated, validate);
}

void lpm_api_validate(LpmHttpRequest *request, json_t *arguments, void *data)
{
    const char *target = lpm_json_str(arguments, "target", NULL);
    bool all = lpm_json_bool(arguments, "all_targets", false);
    GError *error = NULL;
    json_t *options = NULL;
    Validate *validate;

    if ((target != NULL) == all) {
        lpm_error_set(&error, LPM_ERROR_USAGE, "give either \"target\" or \"all_targets\"");
    } else if (!target || lpm_systems_find(data, target, &error)) {
        /* One that does not answer has a finding that says so, beside all others. */
        options = lpm_options_read(json_object_get(arguments, "options"), &error);
    }
    if (!options) {
        fail(request, error);
        return;
    }
    validate = g_new0(Validate, 1);
    validate->console = data;
    validate->request = request;
    validate->partition = g_strdup(lpm_json_str(arguments, "partition", ""));
    validate->target = g_strdup(target);
    validate->options = options;
    validate->active =
        json_object_get(arguments, "active") ? lpm_json_bool(arguments, "active", false) : -1;
    lpm_fleet_find(data, validate->partition, on_found, validate);
}

/* --- create --- */

static void on_source(LpmSystem *system, const json_t *row, const char *note, const GError *error,
                      void *data)
{
    Validate *create = data;
    GError *own = NULL;
    LpmMove *move = NULL;

    (void)note;
    if (error) {
        lpm_http_request_fail(create->request, error);
        validate_free(create);
        return;
    }
    if (differ(create->partition, system->name, create->target, &own) &&
        lpm_systems_need(create->console, create->target, &own)) {
        LpmMoveRequest request = {create->partition, system->name,
                                  create->target,    lpm_http_request_user(create->request),
                                  is_activated(row), create->options};

        move = lpm_moves_begin(create->console, &request, &own);
    }
    if (move) {
        lpm_http_request_return(
            create->request,
            lpm_json_pack("{s:s, s:s, s:s, s:s, s:s}", "migration", move->id, "partition",
                          move->partition, "source", move->systems[LPM_HALF_SOURCE], "target",
                          move->systems[LPM_HALF_TARGET], "state", lpm_move_state_name(move)));
    } else {
        fail(create->request, own);
    }
    validate_free(create);
}

void lpm_api_migration_create(LpmHttpRequest *request, json_t *arguments, void *data)
{
    GError *error = NULL;
    const char *target = lpm_json_str(arguments, "target", "");
    json_t *options = lpm_systems_need(data, target, &error)
                          ? lpm_options_read(json_object_get(arguments, "options"), &error)
                          : NULL;
    Validate *create;

    if (!options) {
        fail(request, error);
        return;
    }
    create = g_new0(Validate, 1);
    create->console = data;
    create->request = request;
    create->partition = g_strdup(lpm_json_str(arguments, "partition", ""));
    create->target = g_strdup(target);
    create->options = options;
    lpm_fleet_find(data, create->partition, on_source, create);
}

/* --- list, show --- */

void lpm_api_migration_list(LpmHttpRequest *request, json_t *arguments, void *data)
{
    const char *partition = lpm_json_str(arguments, "partition", NULL);
    bool active = lpm_json_bool(arguments, "active", false);
    int64_t limit = lpm_json_int(arguments, "limit", LIST_DEFAULT);
    GList *moves = lpm_moves_sorted(data);
    json_t *list = json_array();

    for (GList *item = moves; item && (int64_t)json_array_size(list) < limit; item = item->next) {
        const LpmMove *move = item->data;

        if ((!partition || strcmp(partition, move->partition) == 0) &&
            (!active || !lpm_move_is_over(move))) {
            json_array_append_new(list, lpm_move_view(move, true));
        }
    }
    g_list_free(moves);
    lpm_http_request_return(request, lpm_json_pack("{s:o}", "migrations", list));
}

static void on_news(LpmMove *move, void *data)
{
    lpm_http_request_return(data, lpm_move_view(move, false));
}

void lpm_api_migration_show(LpmHttpRequest *request, json_t *arguments, void *data)
{
    GError *error = NULL;
    LpmMove *move = lpm_moves_find(data, lpm_json_str(arguments, "migration", ""), &error);
    int64_t since = lpm_json_int(arguments, "since", -1);
    int64_t wait = lpm_json_int(arguments, "wait_ms", since < 0 ? 0 : WAIT_DEFAULT_MS);

    if (move && (wait < 0 || wait > WAIT_MAX_MS)) {
        lpm_error_set(&error, LPM_ERROR_USAGE, "\"wait_ms\" must be from 0 to %d", WAIT_MAX_MS);
    }
    if (error) {
        fail(request, error);
        return;
    }
    lpm_move_wait(move, since, (unsigned)wait, on_news, request);
}

/* --- change --- */

#define CHANGE_TIMEOUT_MS 5000

typedef struct {
    LpmMove *move;
    LpmHttpRequest *request;
    json_t *options; /* as they are once the source has taken them */
} Change;

static void on_changed(json_t *result, const GError *error, void *data)
{
    Change *change = data;
    GError *own = NULL;

    (void)result;
    if (error) {
        lpm_http_request_fail(change->request, error);
    } else {
        json_object_update(change->move->options, change->options);
        if (lpm_move_save(change->move, &own)) {
            lpm_http_request_return(change->request,
                                    lpm_json_pack("{s:s, s:O}", "migration", change->move->id,
                                                  "options", change->move->options));
        } else {
            fail(change->request, own);
        }
    }
    json_decref(change->options);
    lpm_move_unref(change->move);
    g_free(change);
}

/* The new options; NULL with @error when there are none, or the move takes none now. */
static json_t *changed_options(const LpmMove *move, const json_t *changes, GError **error)
{
    g_autoptr(json_t) options = json_deep_copy(move->options);

    if (json_object_size(changes) == 0) {
        lpm_error_set(error, LPM_ERROR_USAGE,
                      "nothing to change was given: \"max_rate\", \"max_blackout_ms\" or "
                      "\"give_up_after_s\"");
        return NULL;
    }
    if (move->state != LPM_MOB_DRV_MOVING) {
        lpm_error_set(error, LPM_ERROR_STATE,
                      "migration %s is %s: only a move that copies can be changed", move->id,
                      lpm_move_state_name(move));
        return NULL;
    }
    return lpm_options_change(options, changes, error) ? g_steal_pointer(&options) : NULL;
}

void lpm_api_migration_change(LpmHttpRequest *request, json_t *arguments, void *data)
{
    GError *error = NULL;
    LpmMove *move = lpm_moves_find(data, lpm_json_str(arguments, "migration", ""), &error);
    g_autoptr(json_t) changes = json_copy(arguments);
    json_t *options;
    LpmSystem *source;
    Change *change;

    json_object_del(changes, "migration");
    options = move ? changed_options(move, changes, &error) : NULL;
    source = options ? lpm_systems_need(data, move->systems[LPM_HALF_SOURCE], &error) : NULL;
    if (!source) {
        json_decref(options);
        fail(request, error);
        return;
    }
    json_object_set_new(changes, "migration", json_string(move->id));
    lpm_event_add(data, "migration", move->id, lpm_http_request_user(request), "limits changed");
    change = g_new0(Change, 1);
    *change = (Change){lpm_move_ref(move), request, options};
    lpm_system_call(source, "migration-set", json_incref(changes), CHANGE_TIMEOUT_MS, on_changed,
                    change);
}

/* --- stop, recover --- */

static void on_stopped(LpmMove *move, const GError *error, void *data)
{
    if (error) {
        lpm_http_request_fail(data, error);
        return;
    }
    lpm_http_request_return(data, lpm_json_pack("{s:s, s:s, s:b}", "migration", move->id, "state",
                                                lpm_move_state_name(move), "stop_requested",
                                                move->stop_requested));
}

void lpm_api_migration_stop(LpmHttpRequest *request, json_t *arguments, void *data)
{
    GError *error = NULL;
    LpmMove *move = lpm_moves_find(data, lpm_json_str(arguments, "migration", ""), &error);

    if (!move) {
        fail(request, error);
        return;
    }
    lpm_event_add(data, "migration", move->id, lpm_http_request_user(request), "stop asked for");
    lpm_move_stop(move, on_stopped, request);
}

static void on_recovered(LpmMove *move, const GError *error, void *data)
{
    if (error) {
        lpm_http_request_fail(data, error);
    } else {
        lpm_http_request_return(data, lpm_move_view(move, false));
    }
}

/* False: @error says what is wrong with it. No word at all is fine. */
static bool read_word(const LpmMove *move, LpmHttpRequest *request, const json_t *arguments,
                      LpmMoveWord *ret, GError **error)
{
    const char *name = lpm_json_str(arguments, "word", NULL);

    *ret = (LpmMoveWord){lpm_mob_word_from_name(name), lpm_json_str(arguments, "say", ""),
                         lpm_http_request_user(request), lpm_http_request_from(request)};
    if (!name && !*ret->say) {
        return true;
    }
    if (ret->word == LPM_MOB_WORD_NONE) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "\"word\" must be \"target-off\", \"source-off\" or \"discard\"");
    }
    return lpm_move_check_say(move, ret, error);
}

void lpm_api_migration_recover(LpmHttpRequest *request, json_t *arguments, void *data)
{
    GError *error = NULL;
    LpmMove *move = lpm_moves_find(data, lpm_json_str(arguments, "migration", ""), &error);
    LpmMoveWord word = {0};

    if (!move || !read_word(move, request, arguments, &word, &error)) {
        fail(request, error);
        return;
    }
    if (word.word == LPM_MOB_WORD_NONE) {
        lpm_event_add(data, "migration", move->id, word.who, "recover asked for");
    }
    lpm_move_recover(move, word.word ? &word : NULL, on_recovered, request);
}
