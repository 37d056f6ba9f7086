/* SPDX-License-Identifier: Apache-2.0 */
/* What this system says about itself, a partition, and a partition that is to come:
 * docs/spec/facts.md. */
#pragma once

#include "host/storage.h"

/* System facts; the emulators have been looked at. New reference. */
json_t *lpm_facts_system(LpmHost *host);
/*
 * {"state", "reason"}, from the power-supply class at @directory: "battery" when a battery or UPS
 * of the server discharges, or all its mains are off; else "mains". New reference.
 */
json_t *lpm_facts_power(const char *directory);

/*
 * Devices of a running partition that lpm-host has not put there, each as text for people. @done is
 * told a borrowed list, or NULL when QEMU has not answered.
 */
typedef void (*LpmDevicesDone)(json_t *list, void *data);
void lpm_facts_devices(LpmPartition *partition, LpmDevicesDone done, void *data);

/* --- facts-memory.c --- */

#define LPM_NODES_MAX 64
/* [{"kib", "total_mib", "free_mib"}] of each size that the system has any of. New reference. */
json_t *lpm_facts_huge_pages(const LpmHost *host);
/* Free memory in huge pages of @kib KiB, less what is promised to mappings. */
int64_t lpm_facts_huge_free_mib(const LpmHost *host, int64_t kib);
/* [{"node", "free_mib", "processors", "distances"}]. New reference. */
json_t *lpm_facts_numa(const LpmHost *host);
/*
 * MiB of the memory of the partition whose QEMU is @pid (0: none) on each of @n_nodes nodes; all 0
 * with one node only. The kernel walks all page tables for it, and QEMU's threads wait: not for the
 * main loop. New reference.
 */
json_t *lpm_facts_numa_of(pid_t pid, size_t n_nodes);
/* Partition facts of one that is or is not active: disks, networks and boot files are those that it
 * runs with. The result is borrowed; @done may be called before this returns. */
void lpm_facts_partition(LpmPartition *partition, LpmHostReply done, void *data);
/* What stands in the way of a partition that is to come: as @runtime says that it runs, else as
 * @profile says. All borrowed; copied where they must last. */
void lpm_facts_target(LpmHost *host, const LpmProfile *profile, const json_t *runtime,
                      const json_t *nonces, LpmHostReply done, void *data);

/*
 * Looks at all disks of @profile at the same time. Each row is begun by @row (new reference) and
 * gets what both sides say of a disk; @done gets them in the profile's order, borrowed. @uuid as
 * for look() of storage.h. Everything but @data is copied.
 */
typedef json_t *(*LpmDiskRow)(const LpmDisk *disk, const LpmStorageLook *look, void *data);
typedef void (*LpmDisksLooked)(json_t *rows, void *data);
void lpm_facts_disks(LpmHost *host, const LpmProfile *profile, const char *uuid, bool drivers,
                     LpmDiskRow row, LpmDisksLooked done, void *data);

/* The boot file of this number, those that the profile names counted from 0; NULL past the last. */
const LpmFileRef *lpm_facts_boot_file(const LpmProfile *profile, size_t number);

/* SHA-256 of a file, hexadecimal, worked out bit by bit on the main loop and remembered; NULL when
 * it cannot be read. */
typedef void (*LpmDigestDone)(const char *digest, void *data);
void lpm_facts_digest(LpmHost *host, const char *path, LpmDigestDone done, void *data);

/* facts-postcopy.c: {"possible", "reason"} of docs/spec/facts.md. New reference. */
json_t *lpm_facts_postcopy(const LpmHost *host);

/* --- nonces --- */

/* Random text in a file beside a disk: who can read it sees the same directory. Removed by drop, or
 * after 60 s. */
typedef struct {
    char *disk; /* name in the profile */
    char *pool;
    char *file; /* in the pool */
    char *path;
    char *nonce; /* "" when writing failed */
} LpmNonce;

/* Writes one beside each disk, in place of earlier ones; {"nonces":
 * [{"disk","pool","file","nonce"}]}. New reference. */
json_t *lpm_nonce_put(LpmPartition *partition);
void lpm_nonce_drop(LpmPartition *partition);
/* That of @disk, NULL when there is none. Borrowed. */
const LpmNonce *lpm_nonce_of(const LpmPartition *partition, const char *disk);
/* Content of the nonce file of @disk among @nonces as seen from here; "" when it is not there.
 * g_free(). */
char *lpm_nonce_read(const LpmHost *host, const json_t *nonces, const char *disk);
