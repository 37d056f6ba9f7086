/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is read back from a database: the file itself, damaged or made by somebody else, and the
 * documents of lpm-host in it: profiles, runtime documents and journals. A bad one is an error,
 * never a crash, and never a partition that was not asked for.
 */
#include "host/migration.h"
#include "host/partition.h"
#include "store/store.h"

#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *place(void)
{
    static char *path = NULL;

    if (!path) {
        const char *directory = g_file_test("/dev/shm", G_FILE_TEST_IS_DIR) ? "/dev/shm" : "/tmp";

        path = g_strdup_printf("%s/lpm-fuzz-documents-%d", directory, (int)getpid());
    }
    return path;
}

static void clean(void)
{
    static const char *const endings[] = {"", "-wal", "-shm", "-journal"};

    for (size_t i = 0; i < G_N_ELEMENTS(endings); i++) {
        g_autofree char *name = g_strconcat(place(), endings[i], NULL);

        (void)g_unlink(name);
    }
}

/* --- the database --- */

static void fuzz_database(const uint8_t *data, size_t size)
{
    static const char *const kinds[] = {"profile", "runtime", "journal", "record", "token"};
    g_autoptr(GError) error = NULL;
    g_autoptr(LpmStore) store = NULL;

    clean();
    g_assert(g_file_set_contents(place(), (const char *)data, (gssize)size, NULL));
    store = lpm_store_open(place(), &error);
    g_assert(!store == !!error);
    for (size_t i = 0; store && i < G_N_ELEMENTS(kinds); i++) {
        g_autoptr(GError) failure = NULL;
        g_autoptr(json_t) all = lpm_store_list(store, kinds[i], &failure);
        const char *key;
        json_t *value;

        g_assert(!all == !!failure);
        json_object_foreach (all, key, value) {
            g_autoptr(json_t) one = lpm_store_get(store, kinds[i], key, NULL, NULL);

            g_assert(!one || json_equal(one, value));
        }
    }
}

/* --- documents --- */

static bool nothing_happens(const GError *error)
{
    return !error;
}

static void adopted(const GError *error, void *data)
{
    *(bool *)data = nothing_happens(error);
}

/* As at the start of lpm-host, with one profile and one runtime document of the same partition. */
static void fuzz_adoption(json_t *document)
{
    static const char *const uuid = "6c1e4b6e-0000-4000-8000-000000000001";
    LpmHostConfig config = {.name = (char *)"beta", .run_dir = (char *)"/nonexistent"};
    LpmHost host = {.config = &config, .clock = lpm_clock_system()};
    json_t *runtime = json_object_get(document, "runtime");
    json_t *profile = json_object_get(document, "profile");
    bool good = false;

    clean();
    host.store = lpm_store_open(place(), NULL);
    g_assert(host.store);
    host.partitions =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)lpm_partition_unref);
    if (json_is_object(runtime)) {
        /* Another process of this machine is none of the fuzzer's business. */
        json_object_del(runtime, "pid");
        g_assert(lpm_store_put(host.store, LPM_KIND_RUNTIME, uuid, runtime, NULL, NULL));
    }
    if (profile) {
        g_assert(lpm_store_put(host.store, LPM_KIND_PROFILE, uuid, profile, NULL, NULL));
    }
    lpm_adopt_all(&host, adopted, &good);
    g_assert(good);
    g_assert(g_hash_table_size(host.partitions) <= 2);
    g_hash_table_unref(host.partitions);
    lpm_store_close(host.store);
}

static void look(LpmMigration *migration)
{
    (void)migration;
}

static void act(LpmMigration *migration, unsigned action)
{
    (void)migration;
    (void)action;
}

static void free_half(LpmMigration *migration)
{
    g_free(migration);
}

static const LpmHalfOps half_ops = {look, act, free_half};

static void fuzz_journal(const json_t *document)
{
    LpmHostConfig config = {.name = (char *)"beta"};
    LpmHost host = {.config = &config, .clock = lpm_clock_system()};

    for (unsigned side = LPM_MOB_SRC; side <= LPM_MOB_DST; side++) {
        LpmMigration *migration = g_new0(LpmMigration, 1);
        g_autoptr(GError) error = NULL;
        bool good;

        lpm_mig_init(migration, &host, (LpmMobMachine)side, &half_ops,
                     "aa000000000000000000000000000000");
        good = lpm_mig_load(migration, document, &error);
        g_assert(good == !error);
        if (good) {
            g_autoptr(json_t) status = lpm_mig_status(migration);

            g_assert(json_is_object(status));
        }
        lpm_mig_unref(migration);
    }
}

static void fuzz_options(const json_t *document)
{
    LpmMoveOptions options, changed;
    g_autoptr(GError) error = NULL;

    if (lpm_move_options_read(document, &options, &error)) {
        g_assert(options.max_blackout_ms >= 0 && options.connections >= 1);
        if (lpm_move_options_change(&options, document, &changed, NULL)) {
            (void)lpm_move_rules(&changed);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(json_t) document = NULL;

    if (size == 0) {
        return 0;
    }
    if (data[0] == 0) {
        fuzz_database(data + 1, size - 1);
        return 0;
    }
    document = lpm_json_parse((const char *)data + 1, size - 1, NULL);
    if (!json_is_object(document)) {
        return 0;
    }
    fuzz_journal(document);
    fuzz_options(document);
    fuzz_adoption(document);
    return 0;
}
