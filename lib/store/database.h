/* SPDX-License-Identifier: Apache-2.0 */
/* Private to lib/store: an SQLite database that is ours alone, opened, checked and brought to our
 * version. */
#pragma once

#include "base/error.h"

#include <sqlite3.h>

/*
 * Opens or creates @path; no other process can open it until sqlite3_close(). NULL with a STORAGE
 * error that names the file.
 */
sqlite3 *database_open(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Runs statements that give no rows. STORAGE error that names @path and says what failed as @what.
 */
bool database_run(sqlite3 *db, const char *path, const char *what, const char *sql,
                  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Sets the STORAGE error of the database's last failure; always false. */
bool database_failed(sqlite3 *db, const char *path, const char *what, GError **error);
