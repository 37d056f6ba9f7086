/* SPDX-License-Identifier: Apache-2.0 */
/* Work that blocks, on a thread of its own, with a deadline that holds even when the work hangs. */
#pragma once

#include "base/error.h"

typedef struct {
    void (*work)(void *data); /* on the thread; touches nothing but @data */
    /* Once, on the main loop. @late: the deadline came first; the thread still has @data, which
     * must not be touched. */
    void (*done)(void *data, bool late, void *owner);
    void (*free)(void *data); /* on the main loop, once the thread has ended, however late */
} LpmBackgroundOps;

/* As many at a time; what is more waits for a thread, with its deadline. */
enum { LPM_BACKGROUND_MAX = 32 };

/* Takes over @data; @owner is given to done() as it is. Main loop only. */
void lpm_background_run(const LpmBackgroundOps *ops, unsigned deadline_ms, void *data, void *owner);
/* For people: @what, which was late, does not answer, or there was no thread for it. g_free(). */
char *lpm_background_late(const char *what, unsigned deadline_ms);
