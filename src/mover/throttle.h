/* SPDX-License-Identifier: Apache-2.0 */
/* Token bucket for --max-rate. The limit may change at any time, from any thread. */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    _Atomic uint64_t rate; /* bytes/s; 0: unlimited */
    uint64_t last_ns;
    int64_t tokens; /* bytes that may go now; negative: a debt of what has gone */
} Throttle;

void throttle_init(Throttle *throttle, uint64_t rate, uint64_t now_ns);
void throttle_set_rate(Throttle *throttle, uint64_t rate);
/* Nanoseconds to wait before anything may be sent; 0: now. */
uint64_t throttle_delay_ns(Throttle *throttle, uint64_t now_ns);
/* @size bytes have been sent. */
void throttle_spend(Throttle *throttle, size_t size);
