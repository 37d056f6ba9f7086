/* SPDX-License-Identifier: Apache-2.0 */
/* The RPC verbs of moves (docs/spec/host-rpc.md). */
#include "host/migration.h"
#include "host/mobility-scripts.h"
#include "host/server.h"

#include "crash/crash.h"

#include <string.h>

enum {
    RECOVER_ANSWER_MS = 1500,
    RECOVER_STEP_MS = 50,
    LIST_SCRIPTS_MAX = 256 * 1024, /* of what guests said: an answer has LPM_RPC_LINE_MAX */
};

static void answer_done(const GError *error, void *data)
{
    if (error) {
        lpm_rpc_request_fail(data, error);
    } else {
        lpm_rpc_request_return(data, NULL);
    }
}

static void answer_result(json_t *result, const GError *error, void *data)
{
    if (error) {
        lpm_rpc_request_fail(data, error);
    } else {
        lpm_rpc_request_return(data, json_incref(result));
    }
}

static void prepare(LpmRpcRequest *request, json_t *arguments, void *server_data)
{
    LPM_CRASH_POINT("dst", "request", "before");
    lpm_mig_dst_prepare(server_data, arguments, answer_result, request);
}

static void started(const GError *error, void *data)
{
    LPM_CRASH_POINT("src", "answer", "before");
    answer_done(error, data);
    LPM_CRASH_POINT("src", "answer", "after");
}

static void start(LpmRpcRequest *request, json_t *arguments, void *server_data)
{
    LPM_CRASH_POINT("src", "request", "before");
    lpm_mig_src_start(server_data, arguments, started, request);
}

/* --- status --- */

/* As it was when the move ended, but for the scripts, which go on; NULL. New reference. */
static json_t *kept_status(const LpmHost *host, const char *id, const json_t *document)
{
    json_t *status = json_incref(lpm_json_at(document, "status"));
    if (status) {
        json_object_set_new(status, "scripts", lpm_mig_scripts_json(host, id, false));
    }
    return status;
}

/* Of an open move, else the one that was kept; NULL with NOT_FOUND. New reference. */
static json_t *status_of(LpmHost *host, const char *id, GError **error)
{
    LpmMigration *migration = lpm_mobility_find(host, id);
    if (migration) {
        return lpm_mig_status(migration);
    }
    g_autoptr(json_t) kept = lpm_store_get(host->store, LPM_KIND_JOURNAL, id, NULL, error);
    json_t *status = kept_status(host, id, kept);
    if (status) {
        return status;
    }
    if (!*error) {
        lpm_error_set(error, LPM_ERROR_NOT_FOUND, "there is no migration %s on system %s", id,
                      lpm_host_name(host));
    }
    return NULL;
}

static void query(LpmRpcRequest *request, json_t *arguments, void *server_data)
{
    g_autoptr(GError) error = NULL;
    json_t *status = status_of(server_data, lpm_json_str(arguments, "migration", ""), &error);
    answer_result(status, error, request);
    json_decref(status);
}

static int compare_started(const void *one, const void *other)
{
    int64_t a = lpm_json_int(*(json_t *const *)one, "started_us", 0);
    int64_t b = lpm_json_int(*(json_t *const *)other, "started_us", 0);
    return (a < b) - (a > b);
}

/*
 * The newest first. A hundred moves' scripts may have said more than an answer can hold, and
 * whoever gets a longer one closes the connection: those of the oldest are left out,
 * migration-query has them.
 */
static void add_ended(const LpmHost *host, GPtrArray *documents, json_t *statuses)
{
    size_t said = 0;
    g_ptr_array_sort(documents, compare_started);
    for (guint i = 0; i < documents->len; i++) {
        const json_t *document = documents->pdata[i];
        json_t *status = kept_status(host, lpm_json_str(document, "migration", ""), document);
        if (!status) {
            continue;
        }
        g_autofree char *scripts = lpm_json_text(json_object_get(status, "scripts"));
        said += strlen(scripts);
        if (said > LIST_SCRIPTS_MAX) {
            json_object_set_new(status, "scripts", json_null());
        }
        json_array_append_new(statuses, status);
    }
}

static void list(LpmRpcRequest *request, json_t *arguments, void *server_data)
{
    LpmHost *host = server_data;
    (void)arguments;
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) all = lpm_store_list(host->store, LPM_KIND_JOURNAL, &error);
    if (error) {
        lpm_rpc_request_fail(request, error);
        return;
    }
    g_autoptr(GPtrArray) ended = g_ptr_array_new();
    json_t *statuses = json_array();
    const char *id = NULL;
    json_t *document = NULL;
    json_object_foreach (all, id, document) {
        LpmMigration *migration = lpm_mobility_find(host, id);
        if (migration) {
            json_array_append_new(statuses, lpm_mig_status(migration));
        } else {
            g_ptr_array_add(ended, document);
        }
    }
    add_ended(host, ended, statuses);
    lpm_rpc_request_return(request, lpm_json_pack("{s:o}", "migrations", statuses));
}

/* Nothing can be done with a move whose journal cannot be read. */
static bool check_readable(const LpmMigration *migration, GError **error)
{
    return !migration->damaged ||
           lpm_error_set(error, LPM_ERROR_STORAGE, "migration %s of partition %s: %s",
                         migration->id, migration->name, migration->stuck);
}

static void scripts_check(LpmRpcRequest *request, json_t *arguments, void *server_data)
{
    LpmPartition *partition = lpm_verb_partition(request, arguments, server_data);
    if (partition) {
        lpm_mig_scripts_check(partition, arguments, answer_result, request);
    }
}

static void scripts_takeover(LpmRpcRequest *request, json_t *arguments, void *server_data)
{
    LpmPartition *partition = lpm_verb_partition(request, arguments, server_data);
    if (partition) {
        lpm_mig_scripts_takeover(partition, arguments, answer_result, request);
    }
}

/* --- stop, set --- */

/* The open move of which this system is the source; NULL: NOT_FOUND or STATE. */
static LpmMigration *find_at_source(LpmHost *host, const char *id, GError **error)
{
    LpmMigration *migration = lpm_mobility_find(host, id);
    if (!migration) {
        g_autoptr(json_t) kept = status_of(host, id, error);
        if (kept) {
            lpm_error_set(error, LPM_ERROR_STATE, "migration %s has ended already: %s", id,
                          lpm_json_str(kept, "outcome", "?"));
        }
        return NULL;
    }
    if (migration->side != LPM_MOB_SRC) {
        lpm_error_set(error, LPM_ERROR_STATE,
                      "migration %s is stopped and changed at its source, system %s", id,
                      migration->peer);
        return NULL;
    }
    return check_readable(migration, error) ? migration : NULL;
}

static void stop(LpmRpcRequest *request, json_t *arguments, void *server_data)
{
    g_autoptr(GError) error = NULL;
    LpmMigration *migration =
        find_at_source(server_data, lpm_json_str(arguments, "migration", ""), &error);
    if (migration) {
        (void)lpm_mig_src_stop(migration, &error);
    }
    answer_done(error, request);
}

static void set(LpmRpcRequest *request, json_t *arguments, void *server_data)
{
    g_autoptr(GError) error = NULL;
    LpmMigration *migration =
        find_at_source(server_data, lpm_json_str(arguments, "migration", ""), &error);
    if (migration) {
        (void)lpm_mig_src_set(migration, arguments, &error);
    }
    answer_done(error, request);
}

/* --- relink --- */

/* The open move of @id whose @side this system is; NULL: NOT_FOUND or STATE. */
static LpmMigration *find_side(LpmHost *host, const char *id, LpmMobMachine side, GError **error)
{
    LpmMigration *migration = lpm_mobility_find(host, id);
    if (!migration || migration->damaged) {
        lpm_error_set(error, LPM_ERROR_NOT_FOUND, "there is no open migration %s on system %s", id,
                      lpm_host_name(host));
        return NULL;
    }
    if (migration->side != side) {
        lpm_error_set(error, LPM_ERROR_STATE, "system %s is on the other side of migration %s",
                      lpm_host_name(host), id);
        return NULL;
    }
    return migration;
}

static void relink_prepare(LpmRpcRequest *request, json_t *arguments, void *server_data)
{
    g_autoptr(GError) error = NULL;
    LpmMigration *migration =
        find_side(server_data, lpm_json_str(arguments, "migration", ""), LPM_MOB_DST, &error);
    if (migration) {
        lpm_mig_dst_relink(migration, arguments, answer_result, request);
    } else {
        answer_result(NULL, error, request);
    }
}

static void relink(LpmRpcRequest *request, json_t *arguments, void *server_data)
{
    g_autoptr(GError) error = NULL;
    LpmMigration *migration =
        find_side(server_data, lpm_json_str(arguments, "migration", ""), LPM_MOB_SRC, &error);
    if (migration) {
        lpm_mig_src_relink(migration, arguments, answer_done, request);
    } else {
        answer_done(error, request);
    }
}

/* --- recover --- */

typedef struct {
    LpmRpcRequest *request;
    LpmHost *host;
    char *id;
    unsigned waited_ms;
} Recovery;

static void recovery_end(Recovery *recovery, const GError *error)
{
    g_autoptr(GError) failure = NULL;
    json_t *status = error ? NULL : status_of(recovery->host, recovery->id, &failure);
    answer_result(status, error ? error : failure, recovery->request);
    json_decref(status);
    g_free(recovery->id);
    g_free(recovery);
}

/* Answers when the move has ended, or soon with how far it is. */
static gboolean recovery_step(gpointer data)
{
    Recovery *recovery = data;
    recovery->waited_ms += RECOVER_STEP_MS;
    if (recovery->waited_ms < RECOVER_ANSWER_MS &&
        lpm_mobility_find(recovery->host, recovery->id)) {
        return G_SOURCE_CONTINUE;
    }
    recovery_end(recovery, NULL);
    return G_SOURCE_REMOVE;
}

static void word_taken(const GError *error, void *data)
{
    if (error) {
        recovery_end(data, error);
    } else {
        g_timeout_add(RECOVER_STEP_MS, recovery_step, data);
    }
}

/* True when the word was given to a half that goes on, or none was given. */
static bool give_word(Recovery *recovery, LpmMigration *migration, LpmMobWord word,
                      const json_t *entry, GError **error)
{
    switch (word) {
    case LPM_MOB_WORD_TARGET_OFF:
        lpm_mig_src_target_off(migration, entry, word_taken, recovery);
        return true;
    case LPM_MOB_WORD_SOURCE_OFF:
        return lpm_mig_dst_source_off(migration, entry, error);
    case LPM_MOB_WORD_DISCARD:
        return lpm_mig_dst_discard(migration, entry, error);
    case LPM_MOB_WORD_NONE:
    case LPM_MOB_WORD_N:
        break;
    }
    return true;
}

/* Ready for a source that has not come: whoever asks for recovery now has given the move up before
 * it began, as a console that died over it. Else it would wait for connect_timeout_ms. */
static bool waits_for_source(const LpmMigration *migration)
{
    return migration->side == LPM_MOB_DST && migration->journal == LPM_MOB_DST_PREPARED &&
           !migration->mover_connected;
}

/* Every source that gives up writes BACK: a target that may not hear it otherwise reads it here. */
static void given_up_is_read(LpmMigration *migration, const GError *error)
{
    (void)error;
    if (lpm_mig_record_view(migration) == LPM_MOB_REC_BACK) {
        lpm_mig_look(migration);
    }
}

static void recover_open(Recovery *recovery, LpmMigration *migration, const json_t *arguments)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) entry = NULL;
    LpmMobWord word = LPM_MOB_WORD_NONE;
    bool console = lpm_rpc_request_role(recovery->request) == LPM_RPC_CONSOLE;
    LpmWordGiver giver = {console, lpm_rpc_request_peer_name(recovery->request),
                          console ? "its RPC" : "the local socket"};
    lpm_mig_ref(migration); /* a word may end it */
    if (!check_readable(migration, &error) ||
        !lpm_mig_word_read(migration, arguments, &giver, &word, &entry, &error) ||
        !give_word(recovery, migration, word, entry, &error)) {
        recovery_end(recovery, error);
    } else if (word != LPM_MOB_WORD_TARGET_OFF) { /* else word_taken() goes on */
        /* A move on its normal way needs no recovery. */
        if (migration->rows) {
            migration->looks = 0;
            lpm_mig_look(migration);
        } else if (waits_for_source(migration)) {
            (void)lpm_mig_dst_discard(migration, NULL, NULL);
        } else if (migration->side == LPM_MOB_DST && migration->arbiter) {
            lpm_mig_read(migration, LPM_ARBITER_QUICK_MS, given_up_is_read);
        }
        g_timeout_add(RECOVER_STEP_MS, recovery_step, recovery);
    }
    lpm_mig_unref(migration);
}

static void recover(LpmRpcRequest *request, json_t *arguments, void *server_data)
{
    LpmHost *host = server_data;
    const char *id = lpm_json_str(arguments, "migration", "");
    Recovery *recovery = g_new0(Recovery, 1);
    recovery->request = request;
    recovery->host = host;
    recovery->id = g_strdup(id);
    LpmMigration *migration = lpm_mobility_find(host, id);
    if (migration) {
        recover_open(recovery, migration, arguments);
        return;
    }
    g_autoptr(json_t) kept = lpm_store_get(host->store, LPM_KIND_JOURNAL, id, NULL, NULL);
    if (kept) {
        lpm_mobility_refuse_late(host, id, kept);
    }
    recovery_end(recovery, NULL);
}

/* --- table --- */

#define ROLES (1u << LPM_RPC_CONSOLE | 1u << LPM_RPC_LOCAL)

static const LpmRpcArg prepare_args[] = {
    {"migration", 's', true, "id, 32 hexadecimal digits"},
    {"source", 's', true, "name of the system that the partition is on"},
    {"profile", 'o', true, "the partition's profile"},
    {"runtime", 'o', false, "what its machine was built as; active moves only"},
    {"active", 'b', false, "a running partition (default), or one that is not activated"},
    {"key", 's', false, "one-time key of the movers, 64 hexadecimal digits; active moves only"},
    {"options", 'o', false,
     "verify, max_blackout_ms, max_rate, auto_converge, give_up_after_s, offer_timeout_ms, "
     "connect_timeout_ms"},
    {NULL},
};

static const LpmRpcArg start_args[] = {
    {"migration", 's', true, "id, 32 hexadecimal digits"},
    {"partition", 's', true, "name or UUID"},
    {"target", 's', true, "name of the system that it moves to"},
    {"addresses", 'a', false, "of the target's mover; active moves only"},
    {"port", 'i', false, "of the target's mover; active moves only"},
    {"active", 'b', false, "a running partition (default), or one that is not activated"},
    {"key", 's', false, "one-time key of the movers, 64 hexadecimal digits; active moves only"},
    {"image_key", 's', false,
     "of the image that the target keeps, as migration-prepare said; 64 hexadecimal digits"},
    {"options", 'o', false,
     "verify, max_blackout_ms, max_rate, auto_converge, give_up_after_s, offer_timeout_ms, "
     "connect_timeout_ms"},
    {NULL},
};

static const LpmRpcArg scripts_args[] = {
    {"partition", 's', true, "name or UUID"},
    {"migration", 's', false, "id that the answer is kept with; absent: nothing is kept"},
    {"target", 's', false, "system that it would move to"},
    {"force", 'b', false, "tell the scripts that a no is not heard"},
    {"max_blackout_ms", 'i', false, "longest blackout that the move accepts"},
    {"predicted_blackout_ms", 'i', false, "what is expected"},
    {NULL},
};

static const LpmRpcArg takeover_args[] = {
    {"partition", 's', true, "name or UUID; of a member that is left"},
    {"migration", 's', true, "id of the move in which the other was lost"},
    {"member", 's', true, "name of that in the cluster"},
    {"script", 's', true, "name of the script that speaks for the cluster"},
    {NULL},
};

static const LpmRpcArg id_args[] = {{"migration", 's', true, "id"}, {NULL}};

static const LpmRpcArg set_args[] = {
    {"migration", 's', true, "id"},
    {"max_rate", 'i', false, "bytes a second on the wire; 0: no limit"},
    {"max_blackout_ms", 'i', false, "longest blackout to accept"},
    {"give_up_after_s", 'i', false, "of failing to converge; 0: never"},
    {NULL},
};

static const LpmRpcArg relink_prepare_args[] = {
    {"migration", 's', true, "id"},
    {"key", 's', true, "new one-time key of the movers, 64 hexadecimal digits"},
    {NULL},
};

static const LpmRpcArg relink_args[] = {
    {"migration", 's', true, "id"},
    {"key", 's', true, "that of migration-relink-prepare"},
    {"addresses", 'a', true, "of the target's new mover"},
    {"port", 'i', true, "of the target's new mover"},
    {NULL},
};

static const LpmRpcArg recover_args[] = {
    {"migration", 's', true, "id"},
    {"word", 's', false, "what somebody vouches for: target-off, source-off or discard"},
    {"say", 's', false, "that in words, to the letter; an error says which words"},
    {"who", 's', false, "of consoles: who says so"},
    {"from", 's', false, "of consoles: and from where"},
    {"force", 'b', false, "of consoles that speak RPC version 1 only: the word without words"},
    {NULL},
};

static const LpmRpcArg listen_args[] = {
    {"probe", 's', true, "id of the probe, 32 hexadecimal digits"},
    {"peer", 's', true, "name of the system that will connect"},
    {"key", 's', true, "one-time key, 64 hexadecimal digits"},
    {NULL},
};

static const LpmRpcArg run_args[] = {
    {"probe", 's', true, "id of the probe, 32 hexadecimal digits"},
    {"peer", 's', true, "name of the system that listens"},
    {"key", 's', true, "one-time key, 64 hexadecimal digits"},
    {"addresses", 'a', true, "where it listens"},
    {"port", 'i', true, "where it listens"},
    {"bytes", 'i', false, "how much to send; 0 (default): round trip only"},
    {NULL},
};

const LpmRpcVerb lpm_mobility_verbs[] = {
    {"scripts-check", ROLES, scripts_check, scripts_args,
     "ask the scripts in a partition whether it may move"},
    {"scripts-takeover", ROLES, scripts_takeover, takeover_args,
     "tell a script in a partition that its cluster takes over for a member that is lost"},
    {"migration-prepare", ROLES, prepare, prepare_args, "make ready for a partition that moves in"},
    {"migration-start", ROLES, start, start_args, "move a partition to a system that is ready"},
    {"migration-query", ROLES, query, id_args, "status of one move"},
    {"migration-list", ROLES, list, NULL, "status of all moves, ended ones too"},
    {"migration-stop", ROLES, stop, id_args, "give a move up that has not been offered yet"},
    {"migration-set", ROLES, set, set_args, "change the limits of a move that copies"},
    {"migration-relink-prepare", ROLES, relink_prepare, relink_prepare_args,
     "at the target: a new mover for a post-copy that is paused"},
    {"migration-relink", ROLES, relink, relink_args,
     "at the source: connect a paused post-copy to that mover"},
    {"migration-recover", ROLES, recover, recover_args,
     "take the row of the handover that applies"},
    {"probe-listen", ROLES, lpm_probe_listen, listen_args, "a mover that waits for a probe"},
    {"probe-run", ROLES, lpm_probe_run, run_args, "a mover that measures the link"},
    {NULL},
};
