/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory and processors for a running partition (grow.c). What it has is in its runtime document
 * before QEMU is asked, so that the document never knows of less than QEMU has; where the two may
 * differ, because QEMU refused or this daemon died in between, QEMU is asked what it has.
 */
#pragma once

#include "host/host.h"

/* STATE when it does not run, USAGE beyond what its profile lets it have, BUSY without room here,
 * QEMU with QEMU's own words: then nothing was added. */
void lpm_partition_add_memory(LpmPartition *partition, int64_t mib, LpmHostDone done, void *data);
/* The same for processors. When QEMU refuses one of several, those before it stay. */
void lpm_partition_add_processors(LpmPartition *partition, int count, LpmHostDone done, void *data);

/* Where partition->unsettled: has the document say what QEMU has. @done may be NULL; QEMU's error
 * leaves it unsettled. */
void lpm_grow_settle(LpmPartition *partition, LpmHostDone done, void *data);

/* MiB of the memory file of a partition with this @runtime that its QEMU uses: what it was started
 * with, and those of the modules added since that lie in the file, which are the first ones. */
int64_t lpm_runtime_file_mib(const json_t *runtime);

/* What it has while it runs, else what its profile gives it at its start. */
void lpm_partition_size(const LpmPartition *partition, int64_t *ret_memory_mib,
                        int *ret_processors);
