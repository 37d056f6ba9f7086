/* SPDX-License-Identifier: Apache-2.0 */
#include "workloads.h"

enum { TICK_NS = 5 * 1000 * 1000 };

/* The partition's own clock stands still while it is paused: what shows here is time that it ran
 * and got nothing done. */
void *lab_ticker_run(void *unused)
{
    uint64_t last = lab_now();

    (void)unused;
    for (;;) {
        lab_sleep_until(last + TICK_NS);
        uint64_t now = lab_now();
        if (now - last > lab_status.longest_gap_ns) {
            lab_status.longest_gap_ns = now - last;
        }
        last = now;
        lab_status.ticks++;
    }
}
