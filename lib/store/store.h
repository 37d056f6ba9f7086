/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Durable state behind a table of operations. Everything is kept as documents: (kind, key) -> JSON
 * with a revision that rises by one at each change and starts at 1 again when a deleted key is put
 * anew. A put is on disk (synchronous=FULL) when it returns: write down first, then do. Back end
 * today: SQLite; etcd comes with several consoles, behind the same operations.
 */
#pragma once

#include "base/error.h"
#include "base/json.h"

typedef struct LpmStore LpmStore;

/*
 * Opens or creates the database at @path (mode 0600): WAL, synchronous=FULL, STRICT tables,
 * numbered migrations by user_version. STORAGE error when the file is damaged, from a newer
 * version, or locked by another process.
 */
LpmStore *lpm_store_open(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void lpm_store_close(LpmStore *store);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LpmStore, lpm_store_close)

/* Inserts or replaces. @ret_revision may be NULL. */
bool lpm_store_put(LpmStore *store, const char *kind, const char *key, const json_t *value,
                   int64_t *ret_revision, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/*
 * Compare-and-swap: puts only if the current revision is @expected (0: must not exist); CONFLICT
 * otherwise.
 */
bool lpm_store_cas(LpmStore *store, const char *kind, const char *key, int64_t expected,
                   const json_t *value, int64_t *ret_revision,
                   GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* New reference; NULL with *error unset when there is none. @ret_revision may be NULL. */
json_t *lpm_store_get(LpmStore *store, const char *kind, const char *key, int64_t *ret_revision,
                      GError **error);
/* Deleting what is not there is no error. */
bool lpm_store_delete(LpmStore *store, const char *kind, const char *key,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* All of a kind in order of key: an object key -> value, new reference; NULL with @error. */
json_t *lpm_store_list(LpmStore *store, const char *kind, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The first @limit of those whose key is above @after, likewise. */
json_t *lpm_store_list_after(LpmStore *store, const char *kind, const char *after, int64_t limit,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Several changes that become durable together. No nesting: STATE error. A commit that fails has
 * rolled back. After a change fails for the disk's sake the transaction may be undone; then all
 * further calls fail until the rollback.
 */
bool lpm_store_begin(LpmStore *store, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool lpm_store_commit(LpmStore *store, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void lpm_store_rollback(LpmStore *store);
