/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clock of a partition's operating system stands still with it: after a long blackout it is
 * behind. Set by the guest agent, from this system's clock, where nothing else explains what is
 * wrong with it.
 */
#pragma once

#include "host/host.h"

/*
 * @result: {"phase": "clock", "result", "error", "start_us", "ms", "behind_ms", "stood_ms",
 * "after_ms"} (docs/spec/host-rpc.md, "scripts"), borrowed. Called once.
 */
typedef void (*LpmGuestClockDone)(const json_t *result, void *data);

/*
 * Looks at the clock and sets it where that is needed; @stood_us is how long the partition stood
 * still, below 0: not known, but not longer than @most_us. False: nothing is done and @done is not
 * called (no agent, a time of its own, off by configuration, it stood still too shortly to matter).
 */
bool lpm_guest_clock(LpmPartition *partition, int64_t stood_us, int64_t most_us,
                     LpmGuestClockDone done, void *data);
