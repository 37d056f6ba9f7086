/* SPDX-License-Identifier: Apache-2.0 */
/*
 * At the start of lpm-host: every journal that is not cleaned becomes a move again, and the loop
 * takes the row that applies.
 */
#include "host/migration.h"

#include "base/log.h"

#include <string.h>

/* The source forgets a partition before it writes cleaned; the target keeps it before that. */
static bool find_partition(LpmMigration *migration, GError **error)
{
    LpmHost *host = migration->host;
    LpmPartition *partition = g_hash_table_lookup(host->partitions, migration->uuid);
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
    return migration->side == LPM_MOB_SRC && !migration->partition;
}

static bool take_up(LpmHost *host, const char *id, const json_t *document, GError **error)
{
    bool src = strcmp(lpm_json_str(document, "side", ""), "source") == 0;
    LpmMigration *migration = src ? lpm_mig_src_new(host, id) : lpm_mig_dst_new(host, id);
    g_autoptr(GError) failure = NULL;
    bool good = lpm_mig_load(migration, document, &failure) && find_partition(migration, &failure);
    if (good && forgotten(migration)) {
        lpm_mig_register(migration);
        good = lpm_mig_cleaned(migration, "completed", &failure);
    } else if (good) {
        good = find_arbiter(migration, &failure);
        if (good) {
            LpmLogFields fields = {.migration = id, .partition = migration->name};
            lpm_log_info(&fields, "taking up the move: journal says %s",
                         lpm_mob_state_name(migration->side, migration->journal));
            lpm_mig_register(migration);
            migration->patient_until_us =
                lpm_clock_monotonic_us(host->clock) + migration->options.offer_timeout_ms * 1000;
            lpm_mig_look(migration);
        }
    }
    lpm_mig_unref(migration);
    if (!good) {
        g_propagate_error(error, g_steal_pointer(&failure));
    }
    return good;
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
        g_autoptr(GError) failure = NULL;
        if (lpm_json_str(document, "outcome", NULL)) {
            continue;
        }
        /* One that cannot be taken up must not keep the others from it; its record guards the
         * partition. */
        if (!take_up(host, id, document, &failure)) {
            LpmLogFields fields = {.migration = id};
            lpm_log_error(&fields, "cannot be taken up: %s", failure->message);
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
