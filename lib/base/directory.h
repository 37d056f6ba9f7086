/* SPDX-License-Identifier: Apache-2.0 */
/* Directories for others to pass through. */
#pragma once

#include <glib.h>
#include <sys/types.h>

/*
 * Makes the directory @path and those above it that are missing. Each one made has the mode @mode
 * whatever the umask is (or what its file system can do); one that is there already keeps its own.
 * 0, or -1 with errno set.
 */
int lpm_directory_make(const char *path, mode_t mode) G_GNUC_WARN_UNUSED_RESULT;
