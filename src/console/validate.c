/* SPDX-License-Identifier: Apache-2.0 */
#include "validate.h"

#include "fleet.h"
#include "moves.h"
#include "options.h"
#include "predict/cluster.h"
#include "predict/predict.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <string.h>

#define FACTS_TIMEOUT_MS   5000 /* of a system that has answered at all */
#define PROBE_TIMEOUT_MS   6000
#define MEASURE_TIMEOUT_MS 3000   /* and what it takes */
#define SCRIPTS_TIMEOUT_MS 185000 /* lpm-host ends them before */
#define PROBE_BYTES        ((json_int_t)8 << 20)

/* One target's half of the facts. */
typedef struct {
    LpmValidation *validation;
    LpmSystem *system;
    json_t *facts, *check, *mover; /* NULL: not known */
    char *check_error;             /* why target-check did not answer; NULL */
    LpmLink link;
    char *link_error;
    char *probe, *key;
    char *address; /* that the source connects to */
    GPtrArray *findings;
    json_t *all, *prediction, *after_restart;
    double ms;
    unsigned pending; /* of the validation's, those that need this target */
    bool given_up;    /* it does not answer: nothing more is waited for */
} Target;

struct LpmValidation {
    unsigned refs; /* one for the owner, one for each call under way */
    LpmConsole *console;
    LpmSystem *source;
    char *partition, *migration; /* migration: NULL, or that this is the beginning of */
    bool active;
    json_t *options;
    GPtrArray *targets;                                      /* Target */
    json_t *source_facts, *partition_facts, *nonces, *dirty; /* NULL: not known */
    json_t *guest; /* what the scripts in the partition said; NULL: nobody was asked */
    LpmLink link;
    char *link_error;
    GError *error; /* partition-facts failed */
    bool have_partition, have_nonces;
    bool asked_scripts;
    unsigned pending; /* answers that are still to come */
    int64_t start_us;
    LpmValidated done; /* NULL: cancelled */
    void *data;
};

char *lpm_new_mover_key(void)
{
    unsigned char bytes[32];
    GString *hex = g_string_new(NULL);

    g_assert(gnutls_rnd(GNUTLS_RND_KEY, bytes, sizeof(bytes)) == 0);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        g_string_append_printf(hex, "%02x", bytes[i]);
    }
    return g_string_free(hex, FALSE);
}

static void target_free(gpointer data)
{
    Target *target = data;

    lpm_system_unref(target->system);
    json_decref(target->facts);
    json_decref(target->check);
    json_decref(target->mover);
    json_decref(target->all);
    json_decref(target->prediction);
    json_decref(target->after_restart);
    g_free(target->check_error);
    g_free(target->link_error);
    g_free(target->probe);
    g_free(target->key);
    g_free(target->address);
    if (target->findings) {
        g_ptr_array_unref(target->findings);
    }
    g_free(target);
}

static void validation_unref(LpmValidation *validation)
{
    if (--validation->refs > 0) {
        return;
    }
    g_ptr_array_unref(validation->targets);
    lpm_system_unref(validation->source);
    g_free(validation->partition);
    g_free(validation->migration);
    json_decref(validation->options);
    json_decref(validation->source_facts);
    json_decref(validation->partition_facts);
    json_decref(validation->nonces);
    json_decref(validation->dirty);
    json_decref(validation->guest);
    g_free(validation->link_error);
    g_clear_error(&validation->error);
    g_free(validation);
}

/* --- putting the facts together --- */

static json_t *link_json(const char *system, const LpmLink *link, const char *error)
{
    json_t *json =
        lpm_json_pack("{s:s, s:b, s:s}", "name", system, "answered", link->answered, "error",
                      link->answered ? ""
                      : error        ? error
                                     : "no answer");

    if (link->answered) {
        json_object_set_new(json, "round_trip_us", json_integer(link->round_trip_us));
        json_object_set_new(json, "clock_offset_us", json_integer(link->clock_offset_us));
        json_object_set_new(json, "clock_error_us", json_integer((link->round_trip_us + 1) / 2));
    }
    return json;
}

static json_t *options_json(const LpmValidation *validation)
{
    json_t *options = json_deep_copy(validation->options);

    json_object_set_new(options, "active", json_boolean(validation->active));
    return options;
}

static void set_known(json_t *facts, const char *name, json_t *value)
{
    if (value) {
        json_object_set(facts, name, value);
    }
}

static bool has_mac(const json_t *profile, const char *mac)
{
    const json_t *networks = json_object_get(profile, "networks");
    json_t *network;
    size_t i;

    json_array_foreach (networks, i, network) {
        if (g_ascii_strcasecmp(lpm_json_str(network, "mac", ""), mac) == 0) {
            return true;
        }
    }
    return false;
}

static void add_macs(json_t *used, const json_t *profile, const json_t *row)
{
    const json_t *macs = json_object_get(row, "macs");
    json_t *mac;
    size_t i;

    json_array_foreach (macs, i, mac) {
        const char *text = json_string_value(mac);

        if (text && has_mac(profile, text)) {
            json_array_append_new(used, lpm_json_pack("{s:s, s:s, s:s}", "mac", text, "partition",
                                                      lpm_json_str(row, "name", "?"), "system",
                                                      lpm_json_str(row, "system", "?")));
        }
    }
}

/* The target speaks for what it has itself, in target_check. */
static json_t *fleet_facts(const LpmValidation *validation, const Target *target)
{
    const json_t *profile = json_object_get(validation->partition_facts, "profile");
    const char *uuid = lpm_json_str(profile, "uuid", "");
    g_autoptr(json_t) rows = lpm_fleet_known(validation->console);
    json_t *used = json_array();
    json_t *row;
    size_t i;

    json_array_foreach (rows, i, row) {
        if (strcmp(lpm_json_str(row, "uuid", ""), uuid) != 0 &&
            strcmp(lpm_json_str(row, "system", ""), target->system->name) != 0) {
            add_macs(used, profile, row);
        }
    }
    return lpm_json_pack("{s:o}", "macs_used", used);
}

/*
 * What a cluster bears is written down whether or not the limit is within it now: it may be changed
 * while the move runs. One that does not wait longer during the move has the limit lowered.
 */
static void fit_cluster(json_t *facts)
{
    json_t *options = json_object_get(facts, "options");
    int64_t asked = lpm_json_int(options, "max_blackout_ms", 0);
    LpmCluster cluster;

    if (!lpm_cluster_read(lpm_json_at(facts, "guest.scripts"), &cluster)) {
        return;
    }
    int64_t bears = lpm_cluster_bears_ms(&cluster);
    int64_t lowered = lpm_cluster_lower_ms(&cluster, asked);
    json_object_set_new(options, "cluster_blackout_ms", json_integer((json_int_t)bears));
    if (lowered > 0) {
        json_object_set_new(options, "max_blackout_ms", json_integer((json_int_t)lowered));
        json_object_set_new(options, "asked_blackout_ms", json_integer((json_int_t)asked));
    }
}

static json_t *console_facts(const LpmConsole *console)
{
    return lpm_json_pack("{s:s, s:I, s:I}", "name", console->config->name, "certificate_ends_us",
                         (json_int_t)lpm_tls_credentials_ends(console->credentials), "clock_us",
                         (json_int_t)lpm_clock_realtime_us(console->clock));
}

static json_t *all_facts(const LpmValidation *validation, const Target *target)
{
    json_t *facts = lpm_json_pack(
        "{s:i, s:o, s:{s:o, s:o}}", "facts", 1, "options", options_json(validation), "rpc",
        "source", link_json(validation->source->name, &validation->link, validation->link_error),
        "target", link_json(target->system->name, &target->link, target->link_error));

    set_known(facts, "source", validation->source_facts);
    set_known(facts, "target", target->facts);
    set_known(facts, "partition", validation->partition_facts);
    set_known(facts, "target_check", target->check);
    set_known(facts, "mover", target->mover);
    json_object_set_new(facts, "history",
                        lpm_moves_history(validation->console, validation->partition,
                                          validation->source->name, target->system->name));
    json_object_set_new(facts, "fleet", fleet_facts(validation, target));
    json_object_set_new(facts, "console", console_facts(validation->console));
    set_known(facts, "guest", validation->guest);
    fit_cluster(facts);
    return facts;
}

/* nonce-put answers for each disk by its name; the facts want the nonce beside the disk. */
static void place_nonces(LpmValidation *validation)
{
    json_t *disks = json_object_get(validation->partition_facts, "disks");
    const json_t *nonces = json_object_get(validation->nonces, "nonces");
    json_t *disk, *nonce;
    size_t i, k;

    json_array_foreach (disks, i, disk) {
        json_array_foreach (nonces, k, nonce) {
            if (strcmp(lpm_json_str(nonce, "disk", ""), lpm_json_str(disk, "name", "?")) == 0) {
                json_object_set(disk, "nonce", json_object_get(nonce, "nonce"));
            }
        }
    }
}

static void add_check_finding(Target *target)
{
    LpmFinding *finding;

    if (!target->check_error || !target->link.answered) {
        return; /* a system that does not answer at all has a finding of its own */
    }
    finding = g_new0(LpmFinding, 1);
    finding->check = "console.target-check";
    finding->severity = LPM_SEVERITY_ERROR;
    finding->object = g_strdup_printf("system %s", target->system->name);
    finding->expected = g_strdup("the target looks at what the partition needs");
    finding->found = g_strdup(target->check_error);
    finding->remedy = g_strdup("read the message; the log of lpm-host on the target says more");
    g_ptr_array_insert(target->findings, 0, finding);
}

static void judge(LpmValidation *validation, Target *target)
{
    target->all = all_facts(validation, target);
    target->findings = lpm_checks_run(target->all, validation->console->compat);
    add_check_finding(target);
    target->prediction = lpm_predict_facts(target->all);
    target->after_restart = lpm_checks_after_restart(target->all, validation->console->compat);
    target->ms =
        (double)(lpm_clock_monotonic_us(validation->console->clock) - validation->start_us) / 1e3;
}

static void finish(LpmValidation *validation)
{
    g_autofree LpmVerdict *verdicts = g_new0(LpmVerdict, validation->targets->len);
    LpmValidated done = g_steal_pointer(&validation->done);

    lpm_system_call(validation->source, "nonce-drop",
                    lpm_json_pack("{s:s}", "partition", validation->partition), FACTS_TIMEOUT_MS,
                    NULL, NULL);
    if (!done) {
        return;
    }
    if (validation->error) {
        done(NULL, 0, NULL, validation->error, validation->data);
        return;
    }
    place_nonces(validation);
    for (guint i = 0; i < validation->targets->len; i++) {
        Target *target = validation->targets->pdata[i];

        judge(validation, target);
        verdicts[i] = (LpmVerdict){target->system->name,
                                   target->findings,
                                   target->all,
                                   target->prediction,
                                   target->after_restart,
                                   lpm_findings_refuse(target->findings),
                                   target->ms};
    }
    done(verdicts, validation->targets->len, validation->partition_facts, NULL, validation->data);
}

/* --- asking --- */

static void begin_call(LpmValidation *validation)
{
    validation->refs++;
    validation->pending++;
}

static void end_call(LpmValidation *validation);

/* A system that does not know the question is of a release without scripts. */
static void on_scripts(json_t *result, const GError *error, void *data)
{
    LpmValidation *validation = data;
    bool silent = g_error_matches(error, LPM_ERROR, LPM_ERROR_TIMEOUT) ||
                  g_error_matches(error, LPM_ERROR, LPM_ERROR_UNREACHABLE);

    validation->guest = result ? json_deep_copy(result)
                               : lpm_json_pack("{s:s, s:s}", "result", silent ? "silent" : "absent",
                                               "error", error->message);
    end_call(validation);
}

/* The longest of all targets', in ms; NULL: nothing is predicted. New reference. */
static json_t *predicted_blackout(const LpmValidation *validation)
{
    int64_t longest = -1;

    for (guint i = 0; i < validation->targets->len; i++) {
        g_autoptr(json_t) facts = all_facts(validation, validation->targets->pdata[i]);
        g_autoptr(json_t) prediction = lpm_predict_facts(facts);

        longest = MAX(longest, lpm_json_int(prediction, "blackout_ms.value", -1));
    }
    return longest < 0 ? NULL : json_integer((json_int_t)longest);
}

/*
 * Last of all, since they are told what is predicted: once everybody else has answered, and where
 * the partition's agent does. False: there is nobody to ask.
 */
static bool ask_scripts(LpmValidation *validation)
{
    const json_t *options = validation->options;
    const Target *target = validation->targets->len == 1 ? validation->targets->pdata[0] : NULL;

    if (validation->asked_scripts || !validation->done || validation->error ||
        !validation->active || lpm_json_bool(options, "skip_scripts", false) ||
        strcmp(lpm_json_str(validation->partition_facts, "agent", ""), "active") != 0) {
        return false;
    }
    validation->asked_scripts = true;
    begin_call(validation);
    lpm_system_call(validation->source, "scripts-check",
                    lpm_json_pack("{s:s, s:s*, s:s*, s:b, s:I, s:o*}", "partition",
                                  validation->partition, "migration", validation->migration,
                                  "target", target ? target->system->name : NULL, "force",
                                  lpm_json_bool(options, "force_scripts", false), "max_blackout_ms",
                                  (json_int_t)lpm_json_int(options, "max_blackout_ms", 0),
                                  "predicted_blackout_ms", predicted_blackout(validation)),
                    SCRIPTS_TIMEOUT_MS, on_scripts, validation);
    return true;
}

static void end_call(LpmValidation *validation)
{
    if (--validation->pending == 0) {
        if (validation->dirty && validation->partition_facts) {
            json_object_set(validation->partition_facts, "dirty", validation->dirty);
        }
        if (!ask_scripts(validation)) {
            finish(validation);
            validation_unref(validation); /* the owner's: it is over */
        }
    }
    validation_unref(validation);
}

static void begin_target_call(Target *target)
{
    target->pending++;
    begin_call(target->validation);
}

static void end_target_call(Target *target)
{
    if (target->given_up) {
        validation_unref(target->validation); /* an answer that nobody waits for any more */
        return;
    }
    target->pending--;
    end_call(target->validation);
}

/* A system that hangs must not keep the verdict waiting. */
static void give_up(Target *target)
{
    LpmValidation *validation = target->validation;

    validation->pending -= target->pending - 1; /* all but the call that has just ended */
    target->given_up = true;
    end_call(validation);
}

static void on_target_check(json_t *result, const GError *error, void *data)
{
    Target *target = data;

    if (result) {
        target->check = json_incref(result);
    } else {
        target->check_error = g_strdup(error->message);
    }
    end_target_call(target);
}

/* Needs what the source knows of the partition, and its nonces. */
static void ask_targets(LpmValidation *validation)
{
    json_t *profile = json_object_get(validation->partition_facts, "profile");
    json_t *runtime = json_object_get(validation->partition_facts, "runtime");
    json_t *nonces = json_object_get(validation->nonces, "nonces");

    if (!validation->have_partition || !validation->have_nonces || !profile) {
        return;
    }
    for (guint i = 0; i < validation->targets->len; i++) {
        Target *target = validation->targets->pdata[i];

        if (target->given_up) {
            continue;
        }
        begin_target_call(target);
        lpm_system_call(
            target->system, "target-check",
            lpm_json_pack("{s:O, s:o, s:o}", "profile", profile, "runtime",
                          json_is_object(runtime) ? json_incref(runtime) : json_object(), "nonces",
                          json_is_array(nonces) ? json_incref(nonces) : json_array()),
            FACTS_TIMEOUT_MS, on_target_check, target);
    }
}

static void on_partition_facts(json_t *result, const GError *error, void *data)
{
    LpmValidation *validation = data;

    validation->have_partition = true;
    if (result) {
        validation->partition_facts = json_deep_copy(result);
        lpm_options_keep_profile(validation->options, validation->active,
                                 validation->partition_facts, &validation->error);
    } else {
        validation->error = g_error_copy(error);
        g_prefix_error(&validation->error,
                       "system \"%s\", facts of partition \"%s\": ", validation->source->name,
                       validation->partition);
    }
    ask_targets(validation);
    end_call(validation);
}

static void on_nonces(json_t *result, const GError *error, void *data)
{
    LpmValidation *validation = data;

    (void)error; /* the check of the disks says that there is no nonce */
    validation->have_nonces = true;
    validation->nonces = json_incref(result);
    ask_targets(validation);
    end_call(validation);
}

static void on_source(json_t *facts, const LpmLink *link, const GError *error, void *data)
{
    LpmValidation *validation = data;

    validation->source_facts = json_incref(facts);
    validation->link = *link;
    validation->link_error = error ? g_strdup(error->message) : NULL;
    end_call(validation);
}

static void on_target(json_t *facts, const LpmLink *link, const GError *error, void *data)
{
    Target *target = data;

    target->facts = json_incref(facts);
    target->link = *link;
    target->link_error = error ? g_strdup(error->message) : NULL;
    if (link->answered) {
        end_target_call(target);
    } else {
        give_up(target);
    }
}

/* Where it cannot be measured there is no fact; the prediction says that it is not sure. */
static void on_measured(json_t *result, const GError *error, void *data)
{
    LpmValidation *validation = data;

    (void)error;
    validation->dirty = json_incref(result);
    end_call(validation);
}

static void measure(LpmValidation *validation, unsigned look_ms)
{
    begin_call(validation);
    lpm_system_call(
        validation->source, "partition-measure",
        lpm_json_pack("{s:s, s:i}", "partition", validation->partition, "ms", (int)look_ms),
        MEASURE_TIMEOUT_MS + look_ms, on_measured, validation);
}

/* --- the probe: a mover on each side, and a real connection between them --- */

static void probe_failed(Target *target, const char *system, const GError *error)
{
    g_autofree char *text = g_strdup_printf("system %s: %s", system, error->message);

    target->mover = lpm_json_pack("{s:b, s:s}", "connected", 0, "error", text);
}

static void on_probe_run(json_t *result, const GError *error, void *data)
{
    Target *target = data;

    if (!result) {
        probe_failed(target, target->validation->source->name, error);
    } else {
        bool connected = lpm_json_bool(result, "connected", false);

        target->mover = lpm_json_pack("{s:b, s:s, s:s}", "connected", connected, "error",
                                      lpm_json_str(result, "error", ""), "address",
                                      target->address ? target->address : "");
        if (connected) {
            json_object_set(target->mover, "rate_bytes_s",
                            json_object_get(result, "bytes_per_second"));
            json_object_set(target->mover, "round_trip_us",
                            json_object_get(result, "round_trip_us"));
        }
    }
    end_target_call(target);
}

static void on_probe_listen(json_t *result, const GError *error, void *data)
{
    Target *target = data;
    LpmValidation *validation = target->validation;
    json_t *addresses = json_object_get(result, "addresses");

    if (!result || !json_is_array(addresses)) {
        g_autoptr(GError) wrong = NULL;

        lpm_error_set(&wrong, LPM_ERROR_PROTOCOL, "probe-listen gave no addresses");
        probe_failed(target, target->system->name, error ? error : wrong);
        end_target_call(target);
        return;
    }
    target->address =
        g_strdup_printf("%s port %" G_GINT64_FORMAT, lpm_json_str(addresses, "0", "?"),
                        lpm_json_int(result, "port", 0));
    lpm_system_call(validation->source, "probe-run",
                    lpm_json_pack("{s:s, s:s, s:s, s:O, s:O?, s:I}", "probe", target->probe, "peer",
                                  target->system->name, "key", target->key, "addresses", addresses,
                                  "port", json_object_get(result, "port"), "bytes", PROBE_BYTES),
                    PROBE_TIMEOUT_MS, on_probe_run, target);
}

static void start_probe(Target *target)
{
    target->probe = lpm_new_migration_id();
    target->key = lpm_new_mover_key();
    begin_target_call(target);
    lpm_system_call(target->system, "probe-listen",
                    lpm_json_pack("{s:s, s:s, s:s}", "probe", target->probe, "peer",
                                  target->validation->source->name, "key", target->key),
                    PROBE_TIMEOUT_MS, on_probe_listen, target);
}

static LpmValidation *validation_new(const LpmValidationRequest *request, LpmValidated done,
                                     void *data)
{
    LpmValidation *validation = g_new0(LpmValidation, 1);

    validation->refs = 1;
    validation->console = request->console;
    validation->source = lpm_system_ref(request->source);
    validation->partition = g_strdup(request->partition);
    validation->migration = g_strdup(request->migration);
    validation->active = request->active;
    validation->options = json_deep_copy(request->options);
    validation->targets = g_ptr_array_new_with_free_func(target_free);
    validation->start_us = lpm_clock_monotonic_us(request->console->clock);
    validation->done = done;
    validation->data = data;
    return validation;
}

LpmValidation *lpm_validation_start(const LpmValidationRequest *request, GPtrArray *targets,
                                    LpmValidated done, void *data)
{
    LpmValidation *validation = validation_new(request, done, data);
    LpmSystem *source = validation->source;

    begin_call(validation);
    lpm_system_call(source, "partition-facts",
                    lpm_json_pack("{s:s}", "partition", request->partition), FACTS_TIMEOUT_MS,
                    on_partition_facts, validation);
    begin_call(validation);
    lpm_system_call(source, "nonce-put", lpm_json_pack("{s:s}", "partition", request->partition),
                    FACTS_TIMEOUT_MS, on_nonces, validation);
    begin_call(validation);
    lpm_system_measure(source, on_source, validation);
    if (validation->active && request->look_ms > 0 &&
        lpm_json_bool(request->options, "measure", true)) {
        measure(validation, request->look_ms);
    }
    for (guint i = 0; i < targets->len; i++) {
        Target *target = g_new0(Target, 1);

        target->validation = validation;
        target->system = lpm_system_ref(targets->pdata[i]);
        g_ptr_array_add(validation->targets, target);
        begin_target_call(target);
        lpm_system_measure(target->system, on_target, target);
        if (validation->active) {
            start_probe(target);
        }
    }
    return validation;
}

void lpm_validation_cancel(LpmValidation *validation)
{
    if (validation) {
        validation->done = NULL;
    }
}

bool lpm_validation_has_scripts(const json_t *facts)
{
    static const char *const nobody[] = {"absent", "silent", NULL};
    const char *result = lpm_json_str(facts, "guest.result", NULL);

    return result && !g_strv_contains(nobody, result);
}

json_t *lpm_verdict_to_json(const LpmVerdict *verdict)
{
    const json_t *facts = verdict->facts;
    unsigned warnings = lpm_findings_count(verdict->findings, LPM_SEVERITY_WARNING);
    int64_t difference = lpm_json_int(facts, "rpc.target.clock_offset_us", 0) -
                         lpm_json_int(facts, "rpc.source.clock_offset_us", 0);
    int64_t bound = lpm_json_int(facts, "rpc.target.clock_error_us", 0) +
                    lpm_json_int(facts, "rpc.source.clock_error_us", 0);
    json_t *summary =
        lpm_json_pack("{s:s?, s:s?, s:I, s:I, s:I, s:I, s:I, s:i, s:i}", "current_mode",
                      lpm_json_str(facts, "partition.current_mode", NULL), "preferred_mode",
                      lpm_json_str(facts, "partition.profile.preferred_mode", NULL), "memory_mib",
                      (json_int_t)lpm_json_int(facts, "partition.profile.memory_mib", 0),
                      "round_trip_us", (json_int_t)lpm_json_int(facts, "mover.round_trip_us", 0),
                      "bytes_per_second", (json_int_t)lpm_json_int(facts, "mover.rate_bytes_s", 0),
                      "clock_difference_us", (json_int_t)difference, "clock_error_us",
                      (json_int_t)bound, "affinity_source", lpm_checks_affinity(facts, "source"),
                      "affinity_target", lpm_checks_affinity(facts, "target"));

    return lpm_json_pack(
        "{s:s, s:s, s:o, s:f, s:o, s:O, s:O}", "target", verdict->target, "verdict",
        verdict->refused ? "error"
        : warnings       ? "warning"
                         : "ok",
        "findings", lpm_findings_to_json(verdict->findings), "ms", verdict->ms, "summary", summary,
        "prediction", verdict->prediction, "after_restart", verdict->after_restart);
}
