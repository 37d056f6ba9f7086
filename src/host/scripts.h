/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scripts in a partition, asked and told through its guest agent and lpm-drmgr
 * (docs/spec/drmgr.md). Whatever a guest does here costs time and nothing else: none of it decides
 * who owns the partition.
 */
#pragma once

#include "host/host.h"

typedef enum {
    LPM_SCRIPTS_CHECK,
    LPM_SCRIPTS_PRE,
    LPM_SCRIPTS_POST,
    LPM_SCRIPTS_UNDO,
    LPM_SCRIPTS_WATCH,
    LPM_SCRIPTS_TAKEOVER
} LpmScriptsPhase;

typedef struct {
    const char *migration;
    const char *source, *target; /* systems; NULL: not known */
    int64_t predicted_ms;        /* blackout; below 0: not known */
    int64_t max_blackout_ms;     /* 0: not known */
    bool force;
    const json_t *only; /* names of scripts; NULL: all. Watch and takeover need it */
    const char *member; /* takeover: of the cluster, that is lost */
} LpmScriptsAbout;

typedef struct LpmScriptsCall LpmScriptsCall;

/*
 * Gets {"phase", "result", "error", "start_us", "ms", "version", "scripts"}
 * (docs/spec/host-rpc.md), borrowed and never NULL. "result" is one of lpm-drmgr's, or "killed" (it
 * did not say its last line), "absent" (there is no agent, or no lpm-drmgr) or "silent" (no answer
 * in time).
 */
typedef void (*LpmScriptsDone)(json_t *result, void *data);

/* One phase. @about is copied. Owned by itself: it ends with @done, or with lpm_scripts_cancel().
 */
LpmScriptsCall *lpm_scripts_call(LpmPartition *partition, LpmScriptsPhase phase,
                                 const LpmScriptsAbout *about, LpmScriptsDone done, void *data);
/* @done is not called any more; what runs in the guest goes on. NULL is fine. */
void lpm_scripts_cancel(LpmScriptsCall *call);
const char *lpm_scripts_phase_name(LpmScriptsPhase phase);
/* Whether the partition's agent can be asked at all now. */
bool lpm_scripts_can_ask(const LpmPartition *partition);
