/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bounded lines over a pollable stream, without blocking: the framing below RPC, QMP and the guest
 * agent. Nothing here knows JSON.
 */
#pragma once

#include "base/error.h"

#include <gio/gio.h>

typedef struct LpmRpcLines LpmRpcLines;

typedef struct {
    /* @text is one line without its end ("\n" or "\r\n"), any bytes, never empty, borrowed; a NUL
     * byte follows it. */
    void (*line)(const char *text, size_t length, void *data);
    /* The connection ended: UNREACHABLE, or PROTOCOL after too long a line. Once; nothing comes
     * after it. */
    void (*closed)(const GError *error, void *data);
} LpmRpcLinesHandlers;

/*
 * Takes over @stream, whose two sides are pollable; a line of more than @line_max bytes ends the
 * connection.
 * @handlers is borrowed (a constant).
 */
LpmRpcLines *lpm_rpc_lines_new(GIOStream *stream, size_t line_max,
                               const LpmRpcLinesHandlers *handlers, void *data);
/* Closes; no handler runs afterwards. Allowed inside a handler. NULL is fine. */
void lpm_rpc_lines_free(LpmRpcLines *lines);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LpmRpcLines, lpm_rpc_lines_free)

/*
 * Queues @text and a line end; as much as the stream takes at once is written before this returns.
 * @fd (-1: none) goes with the first byte where the stream is a Unix socket; it stays the caller's.
 * Never calls a handler: a failure is told by closed() later. What is sent after the end of the
 * connection is dropped.
 */
void lpm_rpc_lines_send(LpmRpcLines *lines, const char *text, size_t length, int fd);
bool lpm_rpc_lines_is_open(const LpmRpcLines *lines);
