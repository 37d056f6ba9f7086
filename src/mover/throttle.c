/* SPDX-License-Identifier: Apache-2.0 */
#include "throttle.h"

#include "clock.h"

/* What may go at once after a pause: short enough for a smooth rate, long enough for sleeps to be
 * rare. */
#define BURST_NS (20u * 1000 * 1000)

void throttle_init(Throttle *throttle, uint64_t rate, uint64_t now_ns)
{
    atomic_init(&throttle->rate, rate);
    throttle->last_ns = now_ns;
    throttle->tokens = 0;
}

void throttle_set_rate(Throttle *throttle, uint64_t rate)
{
    atomic_store(&throttle->rate, rate);
}

static int64_t bytes_in(uint64_t rate, uint64_t ns)
{
    double bytes = (double)rate * (double)ns / NS_PER_S;
    return bytes > 1e15 ? (int64_t)1e15 : (int64_t)bytes;
}

uint64_t throttle_delay_ns(Throttle *throttle, uint64_t now_ns)
{
    uint64_t rate = atomic_load(&throttle->rate);
    int64_t earned = bytes_in(rate, now_ns - throttle->last_ns);
    int64_t burst = bytes_in(rate, BURST_NS);
    throttle->last_ns = now_ns;
    if (rate == 0) {
        throttle->tokens = 0;
        return 0;
    }
    throttle->tokens = throttle->tokens + earned > burst ? burst : throttle->tokens + earned;
    if (throttle->tokens >= 0)
        return 0;
    return (uint64_t)((double)-throttle->tokens * NS_PER_S / (double)rate) + 1;
}

void throttle_spend(Throttle *throttle, size_t size)
{
    if (atomic_load(&throttle->rate) != 0)
        throttle->tokens -= (int64_t)size;
}
