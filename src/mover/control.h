/* SPDX-License-Identifier: Apache-2.0 */
/* The control descriptor: the main thread's whole work. docs/spec/mover.md is its specification. */
#pragma once

#include "mover.h"

/* Reads CONFIG, waiting at most 10 s, and fills in the defaults. False (and failed) when there is
 * no good one. */
bool control_read_config(Mover *mover);
/*
 * Serves lpm-host until the mover has failed or finished. @return the exit status; the last event
 * has been written if lpm-host takes it.
 */
int control_run(Mover *mover);
