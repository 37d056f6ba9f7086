/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest agent inside a partition, over the Unix socket of its serial channel. What comes back
 * is written by the guest and taken as hostile: lengths, counts and nesting are bounded, text is
 * made printable, every call has a deadline.
 *
 * One call runs at a time; others wait in order. The connection is made when it is needed and made
 * anew, with the agent's synchronising handshake, after any failure. Asynchronous on the default
 * main context; each call's function is called exactly once, never from inside the call itself.
 *
 * Errors: UNREACHABLE (no socket: QEMU is gone), TIMEOUT (no agent, or a dead one; what was asked
 * may still happen), PROTOCOL (an answer that no agent gives), STATE (the agent refused; its words
 * are quoted), UNSUPPORTED (it does not know or does not allow the command), BUSY (too many calls
 * wait).
 */
#pragma once

#include "base/error.h"
#include "base/json.h"

#include <stdint.h>

#define LPM_QGA_LINE_MAX   ((size_t)1 << 20) /* longest accepted answer, bytes */
#define LPM_QGA_TEXT_MAX   256u              /* longest text member that is kept, bytes */
#define LPM_QGA_OUTPUT_MAX ((size_t)256 << 10)
#define LPM_QGA_LIST_MAX   256u /* most interfaces, and most addresses of one */
#define LPM_QGA_QUEUE_MAX  32u  /* most calls that wait */

typedef struct LpmQga LpmQga;

/* No input or output happens before the first call. */
LpmQga *lpm_qga_new(const char *path);
/* Calls that run or wait are failed with ABORTED before this returns. NULL is fine. */
void lpm_qga_free(LpmQga *qga);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LpmQga, lpm_qga_free)

typedef void (*LpmQgaDone)(const GError *error, void *data);
/* @result is borrowed, NULL on failure; its text is as the guest wrote it: check and clean before
 * showing it. */
typedef void (*LpmQgaReply)(json_t *result, const GError *error, void *data);

/* Any command. @arguments is stolen, NULL for none. @timeout_ms counts from when its turn comes. */
void lpm_qga_call(LpmQga *qga, const char *command, json_t *arguments, unsigned timeout_ms,
                  LpmQgaReply reply, void *data);

void lpm_qga_ping(LpmQga *qga, unsigned timeout_ms, LpmQgaDone done, void *data);

typedef struct {
    const char *version;
    const char *const *commands; /* enabled ones, NULL-terminated */
} LpmQgaInfo;
typedef void (*LpmQgaInfoReply)(const LpmQgaInfo *info, const GError *error, void *data);
void lpm_qga_info(LpmQga *qga, unsigned timeout_ms, LpmQgaInfoReply reply, void *data);

/*
 * @mode "powerdown", "halt" or "reboot". An agent that obeys does not answer: no error within a
 * second counts as obeyed; the end itself is told by QEMU's SHUTDOWN event.
 */
void lpm_qga_shutdown(LpmQga *qga, const char *mode, unsigned timeout_ms, LpmQgaDone done,
                      void *data);

typedef struct {
    int status;  /* exit status, or -1 when a signal ended it */
    int signal;  /* 0 when it exited by itself */
    GBytes *out; /* at most LPM_QGA_OUTPUT_MAX bytes; may be empty, never NULL */
    GBytes *err;
    bool truncated; /* some output was lost */
} LpmQgaExec;
typedef void (*LpmQgaExecReply)(const LpmQgaExec *result, const GError *error, void *data);
/*
 * Runs @argv (argv[0] is the path, NULL-terminated) in the guest and waits for its end;
 * @environment and @input may be NULL. After @timeout_ms it is given up with TIMEOUT; the program
 * may go on. Other calls may run in between.
 */
void lpm_qga_exec(LpmQga *qga, const char *const *argv, const char *const *environment,
                  const char *input, unsigned timeout_ms, LpmQgaExecReply reply, void *data);

/* Each at most LPM_QGA_TEXT_MAX bytes of printable UTF-8; "" where the guest says nothing. */
typedef struct {
    const char *id;      /* "debian" */
    const char *name;    /* "Debian GNU/Linux 12 (bookworm)" */
    const char *version; /* "12" */
    const char *kernel;
    const char *machine;
} LpmQgaOs;
typedef void (*LpmQgaOsReply)(const LpmQgaOs *os, const GError *error, void *data);
void lpm_qga_osinfo(LpmQga *qga, unsigned timeout_ms, LpmQgaOsReply reply, void *data);

typedef struct {
    const char *name;
    const char *mac; /* "" where there is none */
    const char *const
        *addresses; /* valid IPv4 and IPv6 addresses with prefix, "192.0.2.1/24"; NULL-terminated */
} LpmQgaInterface;
/* @interfaces has @n rows. */
typedef void (*LpmQgaInterfacesReply)(const LpmQgaInterface *interfaces, size_t n,
                                      const GError *error, void *data);
void lpm_qga_interfaces(LpmQga *qga, unsigned timeout_ms, LpmQgaInterfacesReply reply, void *data);

/* @count: file systems frozen or thawed. A freeze must be followed by a thaw, also after a TIMEOUT.
 */
typedef void (*LpmQgaCountReply)(unsigned count, const GError *error, void *data);
void lpm_qga_fsfreeze_freeze(LpmQga *qga, unsigned timeout_ms, LpmQgaCountReply reply, void *data);
void lpm_qga_fsfreeze_thaw(LpmQga *qga, unsigned timeout_ms, LpmQgaCountReply reply, void *data);
/* @count 1 when file systems are frozen, else 0. */
void lpm_qga_fsfreeze_status(LpmQga *qga, unsigned timeout_ms, LpmQgaCountReply reply, void *data);
