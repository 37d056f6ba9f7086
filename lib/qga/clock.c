/* SPDX-License-Identifier: Apache-2.0 */
#include "qga/clock.h"

#define SLACK_US ((int64_t)2000000) /* the two systems' clocks, and how it was measured */

LpmClockVerdict lpm_clock_judge(int64_t behind_us, int64_t stood_us, int64_t least_us)
{
    if (behind_us > -least_us && behind_us < least_us) {
        return LPM_CLOCK_RIGHT;
    }
    return behind_us > 0 && behind_us <= stood_us + SLACK_US ? LPM_CLOCK_STEP : LPM_CLOCK_OWN;
}
