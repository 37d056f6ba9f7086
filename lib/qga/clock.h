/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a guest's clock is to be set after its partition stood still. Pure. */
#pragma once

#include <stdint.h>

typedef enum {
    LPM_CLOCK_RIGHT, /* near enough */
    LPM_CLOCK_STEP,  /* behind by what it stood still */
    LPM_CLOCK_OWN,   /* otherwise wrong: a time of its own, which is its owner's */
} LpmClockVerdict;

/*
 * @behind_us: of this system's clock, at least so much; below 0: ahead. @stood_us: how long the
 * partition stood still, at most. @least_us: below it nothing is done.
 */
LpmClockVerdict lpm_clock_judge(int64_t behind_us, int64_t stood_us, int64_t least_us);
