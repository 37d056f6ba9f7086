/* SPDX-License-Identifier: Apache-2.0 */
/* Time is injected: code that needs it takes a LpmClock, tests give one that they move by hand. */
#pragma once

#include <stdint.h>

typedef struct LpmClock LpmClock;
struct LpmClock {
    int64_t (*monotonic_us)(const LpmClock *clock); /* never jumps; for durations and deadlines */
    int64_t (*realtime_us)(
        const LpmClock *clock); /* since 1970-01-01 UTC; for people and for skew checks */
    void *data;
};

/* The system's clock; static, never freed. */
const LpmClock *lpm_clock_system(void);

static inline int64_t lpm_clock_monotonic_us(const LpmClock *clock)
{
    return clock->monotonic_us(clock);
}

static inline int64_t lpm_clock_realtime_us(const LpmClock *clock)
{
    return clock->realtime_us(clock);
}
