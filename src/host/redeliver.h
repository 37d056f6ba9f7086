/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Repairs what emulated POWER partitions lose in a move: QEMU's stream carries the interrupt
 * controller's pending interrupt, but not that the processor has been told of it. The controller
 * then waits for ever for an answer and delivers nothing more: disk, network and agent are dead
 * while the clock ticks. docs/decisions/redeliver-interrupts.md.
 */
#pragma once

#include "host/host.h"

/* Whether @partition is one that loses it: POWER, software emulation, XICS. */
bool lpm_redeliver_needed(const LpmPartition *partition);

/*
 * Tells every processor of @partition, which has arrived and not run yet, that an interrupt waits.
 * Where none does, the guest finds that out by itself. @done has QEMU's or an INTERNAL error, or
 * TIMEOUT; the partition must then not be started here.
 */
void lpm_redeliver(LpmPartition *partition, LpmHostDone done, void *data);
