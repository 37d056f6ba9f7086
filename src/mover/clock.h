/* SPDX-License-Identifier: Apache-2.0 */
/* The mover's only clock: monotonic, so that nobody who sets the time of day is noticed. */
#pragma once

#include <stdint.h>
#include <time.h>

#define NS_PER_S  1000000000u
#define NS_PER_MS 1000000u

static inline uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}
