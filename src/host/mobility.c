/* SPDX-License-Identifier: Apache-2.0 */
/* What mobility is for the rest of lpm-host: its table of hooks, its facts, and small things that
 * both halves need. */
#include "host/grow.h"
#include "host/migration.h"
#include "host/mobility-scripts.h"

#include "base/log.h"
#include "bytes/bytes.h"
#include "host/ownership.h"
#include "host/pagestore.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <unistd.h>

/* --- lookup --- */

LpmMigration *lpm_mobility_find(LpmHost *host, const char *id)
{
    return g_hash_table_lookup(host->mobility->migrations, id);
}

LpmMigration *lpm_mobility_of(LpmHost *host, const char *uuid)
{
    GHashTableIter iter;
    gpointer value = NULL;
    g_hash_table_iter_init(&iter, host->mobility->migrations);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        LpmMigration *migration = value;
        if (g_strcmp0(migration->uuid, uuid) == 0) {
            return migration;
        }
    }
    return NULL;
}

static int count(LpmHost *host, bool active)
{
    GHashTableIter iter;
    gpointer value = NULL;
    int n = 0;
    g_hash_table_iter_init(&iter, host->mobility->migrations);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        n += ((LpmMigration *)value)->active == active;
    }
    return n;
}

/* A journal that cannot be written in the switchover would leave the partition standing. */
static bool has_room(LpmHost *host, GError **error)
{
    struct statvfs room;
    if (statvfs(host->config->state_dir, &room) != 0 ||
        (uint64_t)room.f_bavail * room.f_frsize >= (uint64_t)LPM_HOST_ROOM_MIB << 20) {
        return true;
    }
    return lpm_error_set(
        error, LPM_ERROR_STORAGE,
        "%s on system %s has less than %d MiB left for the journal of a move; make "
        "room there",
        host->config->state_dir, lpm_host_name(host), LPM_HOST_ROOM_MIB);
}

bool lpm_mobility_slot(LpmHost *host, bool active, GError **error)
{
    int limit = active ? host->config->active_moves : host->config->inactive_moves;
    int used = count(host, active);
    if (used < limit) {
        return has_room(host, error);
    }
    return lpm_error_set(error, LPM_ERROR_BUSY,
                         "system %s has %d of %d %s moves under way; wait for one to end",
                         lpm_host_name(host), used, limit, active ? "active" : "inactive");
}

const char *lpm_mobility_new_id(LpmHost *host, const json_t *arguments, GError **error)
{
    const char *id = NULL;
    uint8_t bytes[LPM_RECORD_ID_SIZE];
    if (!lpm_json_need_str(arguments, "migration", &id, error)) {
        return NULL;
    }
    if (strlen(id) != 2 * LPM_RECORD_ID_SIZE || !lpm_record_id_from_text(id, bytes)) {
        lpm_error_set(error, LPM_ERROR_USAGE, "migration: \"%s\" is not 32 hexadecimal digits", id);
        return NULL;
    }
    g_autoptr(json_t) old = lpm_store_get(host->store, LPM_KIND_JOURNAL, id, NULL, NULL);
    if (old || lpm_mobility_find(host, id)) {
        lpm_error_set(error, LPM_ERROR_EXISTS, "migration %s exists on %s already", id,
                      lpm_host_name(host));
        return NULL;
    }
    return id;
}

/* --- mover --- */

uint64_t lpm_mobility_memory_size(int fd, const json_t *runtime)
{
    return fd >= 0 ? (uint64_t)lpm_runtime_file_mib(runtime) << 20 : 0;
}

static bool read_key(const char *hex, uint8_t key[LPM_STREAM_KEY_SIZE], GError **error)
{
    size_t n = hex ? strlen(hex) : 0;
    bool good = n == 2 * LPM_STREAM_KEY_SIZE;
    for (size_t i = 0; good && i < LPM_STREAM_KEY_SIZE; i++) {
        int high = g_ascii_xdigit_value(hex[2 * i]), low = g_ascii_xdigit_value(hex[2 * i + 1]);
        good = high >= 0 && low >= 0;
        key[i] = (uint8_t)(high << 4 | low);
    }
    return good || lpm_error_set(error, LPM_ERROR_USAGE, "key: 64 hexadecimal digits are needed");
}

bool lpm_mobility_mover_spec(LpmHost *host, const char *peer, const char *key_hex,
                             const uint8_t id[LPM_RECORD_ID_SIZE], LpmMoverSpec *ret,
                             GError **error)
{
    LpmMoverSpec spec = {
        .program = host->config->mover_program, .memory = -1, .vasi = -1, .image = -1};
    if (!host->credentials) {
        return lpm_error_set(error, LPM_ERROR_STATE,
                             "system %s has not joined a console and has no certificate; join it "
                             "first",
                             lpm_host_name(host));
    }
    if (!read_key(key_hex, spec.config.key, error)) {
        return false;
    }
    spec.cert_path = lpm_tls_credentials_cert_path(host->credentials);
    spec.key_path = lpm_tls_credentials_key_path(host->credentials);
    spec.ca_path = lpm_tls_credentials_ca_path(host->credentials);
    spec.config.transport = LPM_STREAM_TRANSPORT_TLS;
    spec.config.codec = LPM_STREAM_CODEC_AUTO;
    memcpy(spec.config.migration, id, LPM_STREAM_ID_SIZE);
    g_strlcpy(spec.config.system, lpm_host_name(host), sizeof spec.config.system);
    g_strlcpy(spec.config.peer, peer, sizeof spec.config.peer);
    *ret = spec;
    return true;
}

void lpm_mobility_mover_image(LpmHost *host, const LpmProfile *profile, const char *image_key,
                              LpmMoverSpec *spec)
{
    spec->image = lpm_images_take(host, profile, image_key);
    spec->config.image = spec->image >= 0 && read_key(image_key, spec->config.image_key, NULL);
}

/* --- facts --- */

static void mover_facts(LpmHost *host, json_t *facts)
{
    const char *program = host->config->mover_program;
    bool present = access(program, X_OK) == 0;
    g_autofree char *reason =
        present ? g_strdup("") : g_strdup_printf("%s is not there or cannot be run", program);
    int used = count(host, true); /* a probe is short, and validation makes one itself */
    json_object_set_new(facts, "mover",
                        lpm_json_pack("{s:b, s:s, s:i, s:i}", "present", present, "reason", reason,
                                      "limit", host->config->active_moves, "used", used));
}

/* QEMU's further streams and its monitors come by sockets in the run directory. */
static bool can_listen(const LpmHost *host, GError **error)
{
    g_autofree char *path = g_build_filename(host->config->run_dir, "vasi-probe.sock", NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    LPM_AUTO_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)g_unlink(path); /* of one that was killed here */
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        return lpm_error_set(error, LPM_ERROR_INTERNAL, "a socket cannot be made in %s: %s",
                             host->config->run_dir, g_strerror(errno));
    }
    (void)g_unlink(path);
    return true;
}

static void vasi_facts(const LpmHost *host, json_t *facts)
{
    int qemu = -1, mover = -1;
    g_autoptr(GError) error = NULL;
    bool possible = lpm_mover_vasi(&qemu, &mover, &error) && can_listen(host, &error);
    lpm_bytes_close(&qemu);
    lpm_bytes_close(&mover);
    json_object_set_new(
        facts, "vasi",
        lpm_json_pack("{s:b, s:s}", "possible", possible, "reason", error ? error->message : ""));
}

static void system_facts(LpmHost *host, json_t *facts)
{
    json_object_set_new(facts, "slots",
                        lpm_json_pack("{s:i, s:i, s:i, s:i}", "active_limit",
                                      host->config->active_moves, "active_used", count(host, true),
                                      "inactive_limit", host->config->inactive_moves,
                                      "inactive_used", count(host, false)));
    mover_facts(host, facts);
    vasi_facts(host, facts);
}

/* A move that waits for something is unfinished; one on its normal way goes on. */
static void move_facts(LpmHost *host, const char *uuid, json_t *facts)
{
    LpmMigration *migration = lpm_mobility_of(host, uuid);
    bool stuck = migration && migration->rows && migration->looks > LPM_MIG_QUICK_LOOKS;
    json_object_set_new(facts, "other_move", json_string(migration && !stuck ? migration->id : ""));
    json_object_set_new(facts, "unfinished_move", json_string(stuck ? migration->id : ""));
}

typedef struct {
    json_t *facts;
    LpmHostDone done;
    void *data;
    /* of the target's question to the arbiter */
    LpmHost *host;
    LpmArbiter *arbiter; /* a reference */
    int64_t asked_us;
    bool again; /* asked the second time */
} FactsCall;

static void partition_record(json_t *result, const GError *error, void *data)
{
    g_autofree FactsCall *call = data;
    (void)error; /* an owner that is not known is left out, and validation says so */
    if (result) {
        json_object_set(call->facts, "owner", lpm_json_at(result, "owner"));
        json_object_set(call->facts, "record_revision", lpm_json_at(result, "revision"));
    }
    json_decref(call->facts);
    call->done(NULL, call->data);
}

static FactsCall *facts_call(json_t *facts, LpmHostDone done, void *data)
{
    FactsCall *call = g_new0(FactsCall, 1);
    call->facts = json_incref(facts);
    call->done = done;
    call->data = data;
    return call;
}

static void partition_facts(LpmPartition *partition, json_t *facts, LpmHostDone done, void *data)
{
    g_autoptr(LpmArbiter) arbiter = lpm_arbiter_for(partition->host, partition->profile, NULL);
    move_facts(partition->host, partition->profile->uuid, facts);
    if (arbiter) {
        json_object_set_new(facts, "arbiter", json_string(arbiter->ops->name));
    }
    lpm_ownership_show(partition, partition_record, facts_call(facts, done, data));
}

static void target_end(FactsCall *call)
{
    lpm_arbiter_unref(call->arbiter);
    json_decref(call->facts);
    call->done(NULL, call->data);
    g_free(call);
}

static void target_ask(FactsCall *call);

/* The first question may have had to connect; how quick the second one is answered is of interest.
 */
static void target_record(LpmArbiterResult result, const LpmRecord *now, const GError *error,
                          void *data)
{
    FactsCall *call = data;
    bool there = result == LPM_ARBITER_DONE && now->revision > 0;
    const char *reason = there   ? ""
                         : error ? error->message
                                 : "there is no ownership record where this system looks for it";
    json_object_set_new(call->facts, "arbiter_reachable", json_boolean(there));
    json_object_set_new(call->facts, "arbiter_reason", json_string(reason));
    if (there) {
        int64_t at = lpm_clock_monotonic_us(call->host->clock);
        json_object_set_new(call->facts, "record_revision",
                            json_integer((json_int_t)now->revision));
        json_object_set_new(call->facts, "arbiter_ms",
                            json_integer((json_int_t)((at - call->asked_us) / 1000)));
    }
    if (there && !call->again) {
        call->again = true;
        target_ask(call);
        return;
    }
    target_end(call);
}

typedef struct {
    LpmHostDone done;
    void *data;
} Later;

static gboolean done_later(gpointer data)
{
    g_autofree Later *later = data;
    later->done(NULL, later->data);
    return G_SOURCE_REMOVE;
}

static void target_ask(FactsCall *call)
{
    call->asked_us = lpm_clock_monotonic_us(call->host->clock);
    lpm_arbiter_read(call->arbiter, LPM_ARBITER_QUICK_MS, target_record, call);
}

static void target_facts(LpmHost *host, const LpmProfile *profile, json_t *facts, LpmHostDone done,
                         void *data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(LpmArbiter) arbiter = lpm_arbiter_for(host, profile, &error);
    LpmMigration *open = lpm_mobility_of(host, profile->uuid);
    json_object_set_new(facts, "unfinished_move", json_string(open ? open->id : ""));
    if (arbiter) {
        FactsCall *call = facts_call(facts, done, data);
        call->host = host;
        call->arbiter = lpm_arbiter_ref(arbiter);
        target_ask(call);
        return;
    }
    json_object_set_new(facts, "arbiter_reachable", json_false());
    json_object_set_new(facts, "arbiter_reason", json_string(error->message));
    Later *later = g_new0(Later, 1);
    later->done = done;
    later->data = data;
    g_idle_add(done_later, later);
}

/* --- hooks --- */

static void release(gpointer migration)
{
    lpm_mig_unref(migration);
}

static bool open_mobility(LpmHost *host, GError **error)
{
    host->mobility = g_new0(LpmMobility, 1);
    host->mobility->migrations = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, release);
    lpm_mig_scripts_load(host);
    if (!lpm_mobility_recover(host, error)) {
        return false;
    }
    lpm_mig_scripts_open(host);
    return true;
}

/* Movers end with us; every open journal is taken up again at the next start. */
static void close_mobility(LpmHost *host)
{
    if (host->mobility) {
        g_hash_table_destroy(host->mobility->migrations);
        lpm_mig_scripts_close(host);
        g_clear_pointer(&host->mobility, g_free);
    }
}

const LpmMobilityHooks lpm_mobility_hooks = {
    .open = open_mobility,
    .close = close_mobility,
    .record_create = lpm_ownership_create,
    .record_may_start = lpm_ownership_may_start,
    .record_stays = lpm_ownership_stays,
    .record_delete = lpm_ownership_delete,
    .record_show = lpm_ownership_show,
    .system_facts = system_facts,
    .partition_facts = partition_facts,
    .target_facts = target_facts,
    .verbs = lpm_mobility_verbs,
};
