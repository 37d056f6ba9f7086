/* SPDX-License-Identifier: Apache-2.0 */
#include "qga/clock.h"

#define SECOND_US  ((int64_t)1000000)
#define SLACK_US   (2 * SECOND_US)   /* the two systems' clocks, and how it was measured */
#define UNKNOWN_US (600 * SECOND_US) /* the longest that is believed where it is not known */

LpmClockVerdict lpm_clock_judge(int64_t behind_us, int64_t stood_us, int64_t least_us)
{
    int64_t most_us = stood_us < 0 ? UNKNOWN_US : stood_us + SLACK_US;

    if (behind_us > -least_us && behind_us < least_us) {
        return LPM_CLOCK_RIGHT;
    }
    return behind_us > 0 && behind_us <= most_us ? LPM_CLOCK_STEP : LPM_CLOCK_OWN;
}
