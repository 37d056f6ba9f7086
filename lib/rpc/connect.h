/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets; used by lib/rpc, lib/qmp and lib/qga. */
#pragma once

#include "base/error.h"

#include <gio/gio.h>

/* USAGE when @path is longer than a Unix socket's address may be. */
bool lpm_rpc_path_fits(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Connects to the Unix socket at @path; blocking but local. NULL with UNREACHABLE. */
GIOStream *lpm_rpc_unix_stream(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* A TCP connection whose other end vanishes is noticed within about ten seconds. */
void lpm_rpc_tune_socket(GSocketConnection *connection);
