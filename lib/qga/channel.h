/* SPDX-License-Identifier: Apache-2.0 */
/* The channel below the typed calls; private to lib/qga. */
#pragma once

#include "qga/qga.h"

/* Bounds how long an agent that obeys a shutdown is waited for. */
#define LPM_QGA_SILENCE_MS 1000u

/*
 * Like lpm_qga_call(); @silent_ok: no answer, and the end of the connection, after the command was
 * sent are success too (@result is an empty object then).
 */
void lpm_qga_submit(LpmQga *qga, const char *command, json_t *arguments, unsigned timeout_ms,
                    bool silent_ok, LpmQgaReply reply, void *data);

/* Calls @reply with @error (stolen) soon. */
void lpm_qga_refuse(LpmQga *qga, GError *error, LpmQgaReply reply, void *data);

/* A job of several calls. lpm_qga_free() calls @abort of each that is there; @abort ends it and
 * frees it. */
typedef struct LpmQgaJob LpmQgaJob;
struct LpmQgaJob {
    void (*abort)(LpmQgaJob *job, const GError *error);
};
void lpm_qga_job_add(LpmQga *qga, LpmQgaJob *job);
void lpm_qga_job_remove(LpmQga *qga, LpmQgaJob *job);
