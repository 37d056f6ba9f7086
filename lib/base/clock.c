/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <glib.h>

static int64_t system_monotonic_us(const LpmClock *clock)
{
    (void)clock;
    return g_get_monotonic_time();
}

static int64_t system_realtime_us(const LpmClock *clock)
{
    (void)clock;
    return g_get_real_time();
}

const LpmClock *lpm_clock_system(void)
{
    static const LpmClock clock = {system_monotonic_us, system_realtime_us, NULL};

    return &clock;
}
