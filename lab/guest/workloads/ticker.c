/* SPDX-License-Identifier: Apache-2.0 */
#include "workloads.h"

enum { MS = 1000 * 1000, REST_MS = 200 };

/* The partition's own clock stands still while it is paused: what shows here is time that it ran
 * and got nothing done. */
void *lab_ticker_run(void *unused)
{
    uint64_t last = lab_now();

    (void)unused;
    for (;;) {
        uint64_t period = lab_settings.tick_ms;
        lab_sleep_until(last + (period ? period : REST_MS) * MS);
        uint64_t now = lab_now();
        if (period && now - last > lab_status.longest_gap_ns) {
            lab_status.longest_gap_ns = now - last;
        }
        last = now;
        lab_status.ticks++;
    }
}
