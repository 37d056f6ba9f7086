/* SPDX-License-Identifier: Apache-2.0 */
/* What is in the way between lpm-host and the software in a partition, step by step. Pure. */
#pragma once

#include "base/json.h"

#include <stdbool.h>

/* What was seen. Texts are borrowed, and fit to be shown; NULL where it was not asked. */
typedef struct {
    const char *partition;
    bool has_channel; /* its profile has one; of a running partition: the machine has */
    bool profile_has; /* its profile has one: from its next start */
    bool running;
    int port_open; /* software in it has the channel open: 1, 0; -1: not known */
    /* The agent. */
    bool asked;
    const char *agent_error; /* it did not answer; NULL: it did */
    const char *agent_version;
    const json_t *commands; /* {name: enabled}; NULL: not known */
    const char *os_name;
    /* lpm-drmgr. */
    bool drmgr_asked;
    const char *drmgr_error; /* NULL: it was run */
    int drmgr_status;        /* its exit status */
    const char *drmgr_said;  /* the first line of its --version */
    const char *own_version; /* of this system's OpenLPM */
} LpmRmcSeen;

/*
 * {"verdict": "ok"|"limited"|"broken", "steps": [{"step", "result": "ok"|"warning"|"missing"|
 * "unknown", "what", "remedy"}], "agent_version", "os", "drmgr_version"}; a step whose result is
 * "unknown" could not be looked at for the one before it. New reference.
 */
json_t *lpm_rmc_diagnose(const LpmRmcSeen *seen);
