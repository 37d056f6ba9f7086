/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The work of a cluster member that was lost while its partition was moved is taken over by the
 * members that are left (docs/guide/clusters.md). Never before it is certain that no copy of the
 * partition runs; the cluster itself then starts each service once.
 */
#pragma once

#include "moves.h"

/*
 * A move has ended without success, now or before the console was started, or its scripts could not
 * be told of the end, as the partition did not run any more: where its partition is lost, an alarm
 * says so, or the work is taken over, as the partition's script has said (LPM_TAKEOVER). May be
 * called again; then nothing is in force any more that would be let go. Of other moves nothing.
 */
void lpm_takeover_consider(const LpmMove *move);
/* For those that ended shortly before the console was started. */
void lpm_takeover_resume(LpmConsole *console);
