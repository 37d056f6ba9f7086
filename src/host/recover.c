/* SPDX-License-Identifier: Apache-2.0 */
/*
 * At the start of lpm-host: every journal that is not cleaned becomes a move again, and the loop
 * takes the row that applies.
 */
#include "host/migration.h"

#include "base/log.h"

#include <string.h>

/* What came in was found by what it runs with, which is one profile, and with what it was given
 * since its start: the definition that it arrives with is in the journal. */
static bool take_definition(LpmMigration *migration, LpmPartition *partition, GError **error)
{
    LpmProfile *profile = lpm_profile_from_json(migration->profile, error);
    if (profile && strcmp(profile->uuid, partition->profile->uuid) == 0) {
        lpm_profile_free(partition->profile);
        partition->profile = profile;
    } else {
        lpm_profile_free(profile);
    }
    return profile != NULL;
}

/* The source forgets a partition before it writes cleaned; the target keeps it before that. */
static bool find_partition(LpmMigration *migration, GError **error)
{
    LpmHost *host = migration->host;
    if (migration->attached) {
        return true;
    }
    LpmPartition *partition = g_hash_table_lookup(host->partitions, migration->uuid);
    if (partition && !partition->stored && migration->side == LPM_MOB_DST && migration->profile) {
        return take_definition(migration, partition, error) &&
               lpm_mig_attach(migration, partition, error);
    }
    if (!partition && migration->side == LPM_MOB_DST && migration->profile) {
        LpmProfile *profile = lpm_profile_from_json(migration->profile, error);
        partition = profile ? lpm_partition_add(host, profile, error) : NULL;
        if (!partition) {
            return false;
        }
    }
    return !partition || lpm_mig_attach(migration, partition, error);
}

/* The arbiter follows from the profile, here or, at a target, in the journal. */
static bool find_arbiter(LpmMigration *migration, GError **error)
{
    LpmProfile *own = NULL;
    const LpmProfile *profile = migration->partition ? migration->partition->profile : NULL;
    if (!profile && migration->profile) {
        own = lpm_profile_from_json(migration->profile, error);
        profile = own;
    }
    if (profile) {
        migration->arbiter = lpm_arbiter_for(migration->host, profile, error);
    } else if (!*error) {
        lpm_error_set(error, LPM_ERROR_NOT_FOUND, "there is no profile of partition %s any more",
                      migration->name);
    }
    lpm_profile_free(own);
    return migration->arbiter != NULL;
}

/*
 * A source without the partition has forgotten it, which it does last, at RUN only: nothing is left
 * to be done but the entry.
 */
static bool forgotten(const LpmMigration *migration)
{
    if (migration->side != LPM_MOB_SRC || migration->partition) {
        return false;
    }
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) profile =
        lpm_store_get(migration->host->store, LPM_KIND_PROFILE, migration->uuid, NULL, &error);
    return !profile && !error; /* one that cannot be read was not forgotten */
}

/* Keeps the reason for whoever wants to do something with the partition; NULL: there is none. */
static void set_stuck(LpmMigration *migration, const GError *error)
{
    migration->link.stuck = NULL;
    g_free(migration->stuck);
    migration->stuck = error ? g_strdup(error->message) : NULL;
    migration->link.stuck = migration->stuck;
    lpm_mig_note_error(migration, error);
}

bool lpm_mobility_find_parts(LpmMigration *migration, GError **error)
{
    g_autoptr(GError) failure = NULL;
    if (migration->damaged) {
        return lpm_error_set(error, LPM_ERROR_STORAGE, "%s", migration->stuck);
    }
    bool good = find_partition(migration, &failure) && find_arbiter(migration, &failure);
    set_stuck(migration, failure);
    if (failure) {
        g_propagate_error(error, g_steal_pointer(&failure));
    }
    return good;
}

/*
 * A journal that nobody can read says nothing about who may run the partition: it stays attached,
 * so that nobody stops, starts or deletes what may be the only copy.
 */
static void hold(LpmMigration *migration, const json_t *document, const GError *why)
{
    g_autoptr(GError) error = NULL;
    lpm_error_set(&error, LPM_ERROR_STORAGE,
                  "its journal is damaged (%s); restore the database of %s from a backup",
                  why->message, lpm_host_name(migration->host));
    migration->damaged = true;
    if (!migration->name) {
        migration->name = g_strdup(lpm_json_str(document, "partition", "?"));
        migration->uuid = g_strdup(lpm_json_str(document, "uuid", "?"));
        migration->peer = g_strdup(lpm_json_str(document, "peer", "?"));
    }
    lpm_mig_register(migration);
    (void)find_partition(migration, NULL);
    set_stuck(migration, error);
}

static void take_up(LpmHost *host, const char *id, const json_t *document)
{
    bool src = strcmp(lpm_json_str(document, "side", ""), "source") == 0;
    LpmMigration *migration = src ? lpm_mig_src_new(host, id) : lpm_mig_dst_new(host, id);
    g_autoptr(GError) failure = NULL;
    if (!lpm_mig_load(migration, document, &failure)) {
        hold(migration, document, failure);
    } else if (find_partition(migration, &failure) && forgotten(migration)) {
        lpm_mig_register(migration);
        if (!lpm_mig_cleaned(migration, "completed", &failure)) {
            lpm_mig_note_error(migration, failure);
        }
    } else {
        LpmLogFields fields = {.migration = id, .partition = migration->name};
        lpm_log_info(&fields, "taking up the move: journal says %s",
                     lpm_mob_state_name(migration->side, migration->journal));
        lpm_mig_register(migration);
        migration->patient_until_us =
            lpm_clock_monotonic_us(host->clock) + migration->options.offer_timeout_ms * 1000;
        lpm_mig_look(migration);
    }
    lpm_mig_unref(migration);
}

bool lpm_mobility_recover(LpmHost *host, GError **error)
{
    g_autoptr(json_t) all = lpm_store_list(host->store, LPM_KIND_JOURNAL, error);
    const char *id = NULL;
    json_t *document = NULL;
    if (!all) {
        return false;
    }
    json_object_foreach (all, id, document) {
        /* One that cannot be taken up keeps its partition, and is tried again. */
        if (!lpm_json_str(document, "outcome", NULL)) {
            take_up(host, id, document);
        }
    }
    return true;
}

void lpm_mobility_refuse_late(LpmHost *host, const char *id, const json_t *document)
{
    if (strcmp(lpm_json_str(document, "side", ""), "target") != 0 || lpm_mobility_find(host, id)) {
        return;
    }
    LpmMigration *migration = lpm_mig_dst_new(host, id);
    g_autoptr(GError) error = NULL;
    if (lpm_mig_load(migration, document, &error) && find_arbiter(migration, &error)) {
        lpm_mig_look(migration);
    }
    lpm_mig_unref(migration);
}
