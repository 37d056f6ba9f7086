/* SPDX-License-Identifier: Apache-2.0 */
#include "host/migration.h"

#include "base/log.h"
#include "crash/crash.h"
#include "host/mobility-scripts.h"
#include "host/pagestore.h"

#include <string.h>

/* --- life --- */

void lpm_mig_init(LpmMigration *migration, LpmHost *host, LpmMobMachine side, const LpmHalfOps *ops,
                  const char *id)
{
    migration->ops = ops;
    migration->side = side;
    migration->refs = 1;
    migration->host = host;
    migration->id = g_strdup(id);
    migration->self = g_strdup(lpm_host_name(host));
    lpm_record_id_from_text(id, migration->id_bytes);
    migration->started_us = lpm_clock_realtime_us(host->clock);
    migration->predicted_blackout_ms = -1;
    migration->blackout_us = -1;
    migration->stood_us = -1;
    migration->eta_ms = -1;
    migration->phase = LPM_PHASE_N;
    migration->link.id = migration->id;
    migration->link.data = migration;
}

LpmMigration *lpm_mig_ref(LpmMigration *migration)
{
    migration->refs++;
    return migration;
}

void lpm_mig_unref(LpmMigration *migration)
{
    if (!migration || --migration->refs > 0) {
        return;
    }
    g_clear_handle_id(&migration->look_timer, g_source_remove);
    g_clear_handle_id(&migration->status_timer, g_source_remove);
    g_clear_handle_id(&migration->later_timer, g_source_remove);
    g_clear_handle_id(&migration->publish_timer, g_source_remove);
    g_clear_error(&migration->later_error);
    lpm_mig_detach(migration);
    lpm_mover_kill(migration->mover);
    lpm_arbiter_unref(migration->arbiter);
    lpm_partition_unref(migration->partition);
    json_decref(migration->profile);
    json_decref(migration->runtime);
    json_decref(migration->words);
    g_clear_error(&migration->error);
    lpm_links_clear(&migration->links);
    g_free(migration->name);
    g_free(migration->uuid);
    g_free(migration->peer);
    g_free(migration->self);
    g_free(migration->outcome);
    g_free(migration->stuck);
    g_free(migration->id);
    migration->ops->free(migration);
}

const char *lpm_mig_source_name(const LpmMigration *migration)
{
    return migration->side == LPM_MOB_SRC ? migration->self : migration->peer;
}

void lpm_mig_register(LpmMigration *migration)
{
    g_hash_table_replace(migration->host->mobility->migrations, migration->id,
                         lpm_mig_ref(migration));
}

bool lpm_mig_attach(LpmMigration *migration, LpmPartition *partition, GError **error)
{
    migration->link.active = migration->active;
    if (!lpm_partition_attach(partition, &migration->link, error)) {
        return false;
    }
    migration->attached = true;
    migration->partition = lpm_partition_ref(partition);
    return true;
}

void lpm_mig_detach(LpmMigration *migration)
{
    if (migration->attached) {
        migration->attached = false;
        lpm_partition_detach(migration->partition);
    }
}

/* --- options --- */

static const struct {
    const char *name;
    size_t offset;
    int64_t fallback, minimum, maximum;
} numbers[] = {
    {"max_blackout_ms", offsetof(LpmMoveOptions, max_blackout_ms), 0, 0, 60000},
    {"max_rate", offsetof(LpmMoveOptions, max_rate), 0, 0, INT64_C(1) << 40},
    {"offer_timeout_ms", offsetof(LpmMoveOptions, offer_timeout_ms), 5000, 100, 600000},
    {"connect_timeout_ms", offsetof(LpmMoveOptions, connect_timeout_ms), 10000, 100, 600000},
    {"give_up_after_s", offsetof(LpmMoveOptions, give_up_after_s), 900, 0, 86400},
    {"connections", offsetof(LpmMoveOptions, connections), 1, 1, LPM_STREAM_CONNECTIONS_MAX},
    {"channels", offsetof(LpmMoveOptions, channels), LPM_MIG_CHANNELS_MAX, 0, LPM_MIG_CHANNELS_MAX},
    {"link_retry_ms", offsetof(LpmMoveOptions, link_retry_ms), 120000, 0, 3600000},
    {"postcopy_after_s", offsetof(LpmMoveOptions, postcopy_after_s), 0, 0, 86400},
};

static const struct {
    const char *name;
    size_t offset;
} switches[] = {
    {"verify", offsetof(LpmMoveOptions, verify)},
    {"auto_converge", offsetof(LpmMoveOptions, auto_converge)},
    {"postcopy", offsetof(LpmMoveOptions, postcopy)},
    {"raw", offsetof(LpmMoveOptions, raw)},
    {"unconnected", offsetof(LpmMoveOptions, unconnected)},
    {"scripts", offsetof(LpmMoveOptions, scripts)},
    {"skip_scripts", offsetof(LpmMoveOptions, skip_scripts)},
    {"force_scripts", offsetof(LpmMoveOptions, force_scripts)},
};

bool lpm_move_options_read(const json_t *json, LpmMoveOptions *ret, GError **error)
{
    LpmMoveOptions options = {0};
    for (size_t i = 0; i < G_N_ELEMENTS(switches); i++) {
        bool value = lpm_json_bool(json, switches[i].name, false);
        memcpy((char *)&options + switches[i].offset, &value, sizeof value);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++) {
        int64_t value = lpm_json_int(json, numbers[i].name, numbers[i].fallback);
        if (value < numbers[i].minimum || value > numbers[i].maximum) {
            return lpm_error_set(error, LPM_ERROR_USAGE,
                                 "option %s: %" G_GINT64_FORMAT " is not between %" G_GINT64_FORMAT
                                 " and %" G_GINT64_FORMAT,
                                 numbers[i].name, value, numbers[i].minimum, numbers[i].maximum);
        }
        memcpy((char *)&options + numbers[i].offset, &value, sizeof value);
    }
    if (options.verify && lpm_move_may_postcopy(&options)) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "options verify and postcopy exclude each other: what post-copy sends "
                             "while the partition runs cannot be compared");
    }
    if (lpm_move_may_postcopy(&options)) {
        options.channels = 0; /* QEMU cannot do both */
    }
    *ret = options;
    return true;
}

bool lpm_move_may_postcopy(const LpmMoveOptions *options)
{
    return options->postcopy || options->postcopy_after_s > 0;
}

LpmConvergenceRules lpm_move_rules(const LpmMoveOptions *options)
{
    return (LpmConvergenceRules){
        .max_blackout_ms = options->max_blackout_ms,
        .give_up_after_s = options->give_up_after_s,
        .auto_converge = options->auto_converge,
        .postcopy = options->postcopy,
        .postcopy_after_s = options->postcopy_after_s,
    };
}

static json_t *options_json(const LpmMoveOptions *options)
{
    json_t *json = json_object();
    for (size_t i = 0; i < G_N_ELEMENTS(switches); i++) {
        bool value = false;
        memcpy(&value, (const char *)options + switches[i].offset, sizeof value);
        json_object_set_new(json, switches[i].name, json_boolean(value));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++) {
        int64_t value = 0;
        memcpy(&value, (const char *)options + numbers[i].offset, sizeof value);
        json_object_set_new(json, numbers[i].name, json_integer(value));
    }
    return json;
}

bool lpm_move_options_change(const LpmMoveOptions *now, const json_t *changes, LpmMoveOptions *ret,
                             GError **error)
{
    static const char *const names[] = {"max_rate", "max_blackout_ms", "give_up_after_s"};
    g_autoptr(json_t) json = options_json(now);
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        json_t *value = lpm_json_at(changes, names[i]);
        if (value) {
            json_object_set(json, names[i], value);
        }
    }
    if (lpm_json_int(json, "max_blackout_ms", 0) < 1) {
        return lpm_error_set(error, LPM_ERROR_USAGE, "option max_blackout_ms: must be above 0");
    }
    return lpm_move_options_read(json, ret, error);
}

/* --- journal --- */

static json_t *document(const LpmMigration *migration, unsigned state)
{
    json_t *json = lpm_json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:o}", "migration", migration->id, "side",
        migration->side == LPM_MOB_SRC ? "source" : "target", "journal",
        lpm_mob_state_name(migration->side, state), "partition", migration->name, "uuid",
        migration->uuid, "peer", migration->peer, "active", migration->active, "revision",
        (json_int_t)migration->base_revision, "started_us", (json_int_t)migration->started_us,
        "options", options_json(&migration->options));
    json_object_set_new(json, "self", json_string(migration->self));
    json_object_set_new(json, "epoch", json_integer((json_int_t)migration->base_epoch));
    if (migration->stood_since_us > 0) {
        json_object_set_new(json, "stood_since_us", json_integer(migration->stood_since_us));
    }
    json_object_set_new(json, "postcopy", json_boolean(migration->postcopy));
    if (migration->profile) {
        json_object_set(json, "profile", migration->profile);
    }
    if (migration->runtime) {
        json_object_set(json, "runtime", migration->runtime);
    }
    if (migration->error) {
        json_object_set_new(json, "error",
                            lpm_json_pack("{s:s, s:s}", "class",
                                          lpm_error_info(migration->error->code)->name, "desc",
                                          migration->error->message));
    }
    if (migration->outcome) {
        json_object_set_new(json, "outcome", json_string(migration->outcome));
    }
    if (migration->words) {
        json_object_set(json, "words", migration->words);
    }
    return json;
}

static const char *side_word(const LpmMigration *migration)
{
    return migration->side == LPM_MOB_SRC ? "src" : "dst";
}

static bool write_entry(LpmMigration *migration, unsigned state, json_t *json, GError **error)
{
    g_autoptr(json_t) owned = json;
    const char *name = lpm_mob_state_name(migration->side, state);
    LPM_CRASH_POINT(side_word(migration), name, "before");
    if (!lpm_store_put(migration->host->store, LPM_KIND_JOURNAL, migration->id, owned, NULL,
                       error)) {
        g_prefix_error(error, "journal entry \"%s\" of migration %s: ", name, migration->id);
        return false;
    }
    migration->journal = state;
    LPM_CRASH_POINT(side_word(migration), name, "after");
    return true;
}

/* For who takes it up after a restart, and must know how long that was at most. */
static void note_standstill(LpmMigration *migration, unsigned to)
{
    unsigned entry = migration->side == LPM_MOB_SRC ? (unsigned)LPM_MOB_SRC_SWITCH
                                                    : (unsigned)LPM_MOB_DST_LOADED;
    if (to == entry) {
        migration->stood_since_us = lpm_clock_realtime_us(migration->host->clock);
    }
}

bool lpm_mig_journal(LpmMigration *migration, LpmMobEvent event, GError **error)
{
    unsigned to = 0;
    if (!lpm_mob_step(migration->side, migration->journal, event, &to)) {
        return lpm_error_set(
            error, LPM_ERROR_INTERNAL, "migration %s: no edge \"%s\" leaves \"%s\"", migration->id,
            lpm_mob_event_name(event), lpm_mob_state_name(migration->side, migration->journal));
    }
    note_standstill(migration, to);
    if (!write_entry(migration, to, document(migration, to), error)) {
        return false;
    }
    LpmLogFields fields = {.migration = migration->id, .partition = migration->name};
    lpm_log_info(&fields, "journal: %s", lpm_mob_state_name(migration->side, to));
    lpm_mig_publish(migration);
    return true;
}

enum { WORDS_MAX = 16 }; /* that are kept of one move: the first, and the newest */

bool lpm_mig_note_word(LpmMigration *migration, const json_t *word, GError **error)
{
    LpmLogFields fields = {.migration = migration->id, .partition = migration->name};
    json_t *before = migration->words;
    json_t *words = before ? json_copy(before) : json_array();
    json_t *entry = json_deep_copy(word);
    json_object_set_new(entry, "time_us",
                        json_integer(lpm_clock_realtime_us(migration->host->clock)));
    json_array_append_new(words, entry);
    if (json_array_size(words) > WORDS_MAX) {
        json_array_remove(words, 1);
    }
    migration->words = words;
    if (!write_entry(migration, migration->journal, document(migration, migration->journal),
                     error)) {
        migration->words = before;
        json_decref(words);
        return false;
    }
    json_decref(before);
    lpm_log_warning(&fields, "word given by %s from %s: \"%s\"", lpm_json_str(word, "who", "?"),
                    lpm_json_str(word, "from", "?"), lpm_json_str(word, "say", ""));
    return true;
}

/* Keeps the last LPM_MIG_HISTORY ended moves; failing to forget old ones harms nobody. */
static void prune(LpmHost *host)
{
    g_autoptr(json_t) all = lpm_store_list(host->store, LPM_KIND_JOURNAL, NULL);
    const char *key = NULL;
    json_t *value = NULL;
    for (size_t ended = G_MAXSIZE; ended > LPM_MIG_HISTORY;) {
        const char *oldest = NULL;
        int64_t when = G_MAXINT64;
        ended = 0;
        json_object_foreach (all, key, value) {
            int64_t started = lpm_json_int(value, "started_us", 0);
            if (lpm_json_str(value, "outcome", NULL)) {
                ended++;
                if (started < when) {
                    when = started;
                    oldest = key;
                }
            }
        }
        if (ended > LPM_MIG_HISTORY && oldest) {
            if (!lpm_store_delete(host->store, LPM_KIND_JOURNAL, oldest, NULL)) {
                return;
            }
            json_object_del(all, oldest);
        }
    }
}

bool lpm_mig_cleaned(LpmMigration *migration, const char *outcome, GError **error)
{
    unsigned to = 0;
    if (!lpm_mob_step(migration->side, migration->journal, LPM_MOB_EV_CLEAN, &to)) {
        return lpm_error_set(error, LPM_ERROR_INTERNAL, "migration %s is cleaned already",
                             migration->id);
    }
    unsigned before = migration->journal;
    g_free(migration->outcome);
    migration->outcome = g_strdup(outcome);
    bool completed = strcmp(outcome, "completed") == 0;
    if (completed) {
        g_clear_pointer(&migration->profile, json_decref); /* else a late offer is refused by it */
    }
    g_clear_pointer(&migration->runtime, json_decref);
    lpm_mig_end_phases(migration);
    lpm_mig_clock_ended(migration, completed);
    if (completed && migration->side == LPM_MOB_DST) {
        lpm_mig_scripts_arrived(migration); /* if they were not told when it began to run */
    }
    migration->journal = to; /* for the status that is kept */
    json_t *json = document(migration, to);
    json_object_set_new(json, "status", lpm_mig_status(migration));
    if (!write_entry(migration, to, json, error)) {
        migration->journal = before;
        return false;
    }
    LpmLogFields fields = {.migration = migration->id, .partition = migration->name};
    lpm_log_info(&fields, "move %s: %s", outcome,
                 migration->error ? migration->error->message : "no error");
    migration->ended = true;
    g_clear_handle_id(&migration->look_timer, g_source_remove);
    g_clear_handle_id(&migration->status_timer, g_source_remove);
    g_clear_handle_id(&migration->later_timer, g_source_remove);
    if (migration->active) {
        lpm_images_end(migration->host, migration->uuid, completed);
    }
    lpm_mig_detach(migration);
    lpm_mig_scripts_ended(migration, completed);
    lpm_mig_publish(migration);
    prune(migration->host);
    g_hash_table_remove(migration->host->mobility->migrations, migration->id);
    return true;
}

bool lpm_mig_load(LpmMigration *migration, const json_t *json, GError **error)
{
    const char *name = NULL, *uuid = NULL, *peer = NULL, *journal = NULL;
    unsigned state = 0;
    int64_t revision = 0;
    if (!lpm_json_need_str(json, "partition", &name, error) ||
        !lpm_json_need_str(json, "uuid", &uuid, error) ||
        !lpm_json_need_str(json, "peer", &peer, error) ||
        !lpm_json_need_str(json, "journal", &journal, error) ||
        !lpm_json_need_int(json, "revision", 0, G_MAXINT64, &revision, error) ||
        !lpm_move_options_read(lpm_json_at(json, "options"), &migration->options, error)) {
        return false;
    }
    if (!lpm_mob_state_from_name(migration->side, journal, &state)) {
        return lpm_error_set(error, LPM_ERROR_STORAGE, "\"%s\" is no journal entry", journal);
    }
    migration->name = g_strdup(name);
    migration->uuid = g_strdup(uuid);
    migration->peer = g_strdup(peer);
    /* A system that has lost its certificate, or has another one, goes by another name now. */
    const char *self = lpm_json_str(json, "self", NULL);
    if (self) {
        g_free(migration->self);
        migration->self = g_strdup(self);
    }
    migration->journal = state;
    migration->base_revision = (uint64_t)revision;
    migration->base_epoch = (uint64_t)lpm_json_int(json, "epoch", 0);
    migration->active = lpm_json_bool(json, "active", true);
    migration->postcopy = lpm_json_bool(json, "postcopy", false);
    migration->started_us = lpm_json_int(json, "started_us", migration->started_us);
    migration->stood_since_us = lpm_json_int(json, "stood_since_us", 0);
    migration->profile = json_incref(lpm_json_at(json, "profile"));
    migration->runtime = json_incref(lpm_json_at(json, "runtime"));
    migration->words = json_incref(lpm_json_at(json, "words"));
    const char *desc = lpm_json_str(json, "error.desc", NULL);
    if (desc) {
        LpmErrorCode code = lpm_error_from_name(lpm_json_str(json, "error.class", NULL));
        migration->error = g_error_new_literal(LPM_ERROR, (gint)code, desc);
    }
    return true;
}
