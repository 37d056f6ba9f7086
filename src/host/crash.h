/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Crash points: in builds with -Dcrash_points=true, LPM_CRASH=NAME in the environment kills the
 * process when it comes to the point of that name. There is one before and one after every durable
 * write and every act of a handover; names are listed in docs/spec/crash-points.md. In other builds
 * nothing is left of them.
 */
#pragma once

#ifdef LPM_CRASH_POINTS
/* @side, @what and @when together are the name: "src-offer-before". */
void lpm_crash_point(const char *side, const char *what, const char *when);
#define LPM_CRASH_POINT(side, what, when) lpm_crash_point(side, what, when)
#else
#define LPM_CRASH_POINT(side, what, when) ((void)(side), (void)(what), (void)(when))
#endif
