/* SPDX-License-Identifier: Apache-2.0 */
/* The clock of this system, where the guest agent cannot set it. */
#include "drmgr.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

enum { MS_MAX = 24 * 60 * DR_MINUTE_MS, NS_PER_MS = 1000000, MS_PER_S = 1000 };

DrExit dr_step_clock(const char *text)
{
    struct timespec now;
    char *end = NULL;
    errno = 0;
    long ms = strtol(text, &end, 10);
    if (errno || end == text || *end || ms < -MS_MAX || ms > MS_MAX) {
        dr_complain("--step-clock is a number of milliseconds, at most those of a day");
        return DR_EXIT_USAGE;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    now.tv_sec += ms / MS_PER_S;
    now.tv_nsec += ms % MS_PER_S * NS_PER_MS;
    if (now.tv_nsec < 0 || now.tv_nsec >= MS_PER_S * NS_PER_MS) {
        long carry = now.tv_nsec < 0 ? -1 : 1;
        now.tv_sec += carry;
        now.tv_nsec -= carry * MS_PER_S * NS_PER_MS;
    }
    if (clock_settime(CLOCK_REALTIME, &now) != 0) {
        dr_complain("the clock cannot be set: %s", strerror(errno));
        return DR_EXIT_FAILED;
    }
    syslog(LOG_INFO, "the clock was set by %ld ms: it stood still during a move", ms);
    return DR_EXIT_OK;
}
