/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One run of a fencing agent: options on its standard input, and how it ended. It gets a process
 * group of its own, which is killed when it has ended, or its time is over.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

/*
 * How it ended. @status: what it returned; -1 when it was not started, was killed, or did not end
 * in time, and @words then says so. @said and @words: the last line that it wrote to standard
 * output and to standard error, made printable, or "".
 */
typedef struct {
    int status;
    const char *said, *words;
} LpmAgentEnd;

/* @end is borrowed. */
typedef void (*LpmAgentDone)(const LpmAgentEnd *end, void *data);

/*
 * Runs @program, an absolute path, with @input on its standard input and nothing else of ours.
 * @done is called exactly once, never from inside.
 */
void lpm_agent_run(const char *program, const char *input, unsigned timeout_ms, LpmAgentDone done,
                   void *data);
