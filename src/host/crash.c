/* SPDX-License-Identifier: Apache-2.0 */
#include "host/crash.h"

#ifdef LPM_CRASH_POINTS

#include <glib.h>
#include <signal.h>
#include <string.h>

void lpm_crash_point(const char *side, const char *what, const char *when)
{
    const char *wanted = g_getenv("LPM_CRASH");
    g_autofree char *name = g_strdup_printf("%s-%s-%s", side, what, when);
    if (wanted && strcmp(wanted, name) == 0) {
        raise(SIGKILL);
    }
}

#else

typedef int LpmNoCrashPoints; /* a file of C must declare something */

#endif
