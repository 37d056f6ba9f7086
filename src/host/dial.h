/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP to another system's mover: lpm-host connects, the movers carry. Addresses are numbers;
 * nothing is resolved.
 */
#pragma once

#include "base/error.h"
#include "base/json.h"

#include <stdint.h>

typedef struct LpmDial LpmDial;

/* @fd is the callee's to keep; -1 with @error. The dial is gone afterwards. */
typedef void (*LpmDialDone)(int fd, const GError *error, void *data);

/*
 * Tries @addresses (array of strings, copied) in turn until one answers. Each is waited for
 * LPM_DIAL_ATTEMPT_MS when there are several, so that a path that is down does not hold up the next
 * one. With @timeout_ms each is tried once, and @done is told UNREACHABLE at the end; 0: round
 * after round, with pauses, until one answers or it is cancelled, or LPM_DIAL_REFUSALS rounds in a
 * row have met a refusal: the other system is there and nobody listens any more (STATE). Begins
 * after
 * @delay_ms.
 */
LpmDial *lpm_dial_new(const json_t *addresses, uint16_t port, unsigned timeout_ms,
                      unsigned delay_ms, LpmDialDone done, void *data);
enum {
    LPM_DIAL_REFUSALS = 4,
    LPM_DIAL_ATTEMPT_MS = 3000,
    LPM_DIAL_PAUSE_MS = 100,
    LPM_DIAL_PAUSE_MAX_MS = 2000
};
/*
 * Gives up the attempt that is under way, or the pause, and goes on with the next address (or
 * round) within LPM_DIAL_PAUSE_MS. NULL is fine.
 */
void lpm_dial_again(LpmDial *dial);
/* Ends it without calling @done. NULL is fine. */
void lpm_dial_cancel(LpmDial *dial);
