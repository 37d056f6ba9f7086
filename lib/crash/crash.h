/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Crash points: in builds with -Dcrash_points=true, LPM_CRASH=POINT[,KIND] in the environment lets
 * a process die, or stand still, when it comes to that point for the first time. There is one
 * before and one after each durable write, act and message of a move; docs/spec/crash-points.md
 * lists them and the kinds. In other builds nothing is left of them. No GLib: the mover has them
 * too.
 */
#pragma once

#include <sys/types.h>

typedef struct {
    unsigned number; /* never given to another point */
    const char *name;
} LpmCrashPoint;

/* In the order of their numbers; the last has the number 0. */
extern const LpmCrashPoint lpm_crash_points[];

/* Calls @each with every process of this system that is not this process's child: its QEMUs. */
typedef void (*LpmCrashOthers)(void *data, void (*each)(pid_t pid));

#ifdef LPM_CRASH_POINTS
/* @side, @what and @when together are the name: "src-offer-before". One that the table does not
 * have ends the process, so that a test sees it. */
void lpm_crash_point(const char *side, const char *what, const char *when);
/* What dies with this process when the kind is "machine", besides its children; @data is
 * borrowed for good. */
void lpm_crash_set_machine(LpmCrashOthers others, void *data);
#define LPM_CRASH_POINT(side, what, when) lpm_crash_point(side, what, when)
#else
#define LPM_CRASH_POINT(side, what, when) ((void)(side), (void)(what), (void)(when))
#endif
