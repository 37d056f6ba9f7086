/* SPDX-License-Identifier: Apache-2.0 */
/* What a partition writes to its memory, and how much of it it uses: facts for lib/predict. */
#pragma once

#include "host/host.h"

/* Of one measurement: the longer of its two looks. */
enum { LPM_DIRTY_LEAST_MS = 200, LPM_DIRTY_MOST_MS = 5000 };

/*
 * QEMU looks twice at pages of its choice: how many have changed after a quarter of @ms, then after
 * @ms. @done gets `partition.dirty` of docs/spec/facts.md, borrowed. STATE when the partition does
 * not run or moves; a second call while one is under way gets the same answer.
 */
void lpm_dirty_measure(LpmPartition *partition, unsigned ms, LpmHostReply done, void *data);

/* Memory of a running partition that was ever written to, as its QEMU's size tells; at most
 * @memory_bytes. -1: not known. */
int64_t lpm_dirty_used_bytes(pid_t pid, int64_t memory_bytes);
