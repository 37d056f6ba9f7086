/* SPDX-License-Identifier: Apache-2.0 */
/* What the checks of disks share. */
#pragma once

#include "checks/internal.h"

/* A disk of the profile with what each side says about it. */
typedef struct {
    const char *name;
    const json_t *profile; /* its object in the profile */
    LpmFactPlace here;
    LpmFactPlace there;
} LpmDiskFacts;

typedef void (*LpmDiskCheck)(LpmCheckRun *run, const LpmDiskFacts *disk);

/* Calls @check for each disk of the profile; a side that does not mention it counts as not known.
 */
void lpm_check_each_disk(LpmCheckRun *run, LpmDiskCheck check);
/* What follows needs a disk that the target sees; that it does not is said by storage.visible. */
bool lpm_disk_is_hidden(const LpmDiskFacts *disk);
/* Some initiator has reserved it, so that not all of it can be looked at. */
bool lpm_disk_is_reserved(const LpmDiskFacts *disk);
bool lpm_disk_is_optical(const LpmDiskFacts *disk);
/* "file", "iscsi", "nbd", "rbd" as @side says. */
const char *lpm_disk_kind(const LpmFactPlace *side);
/* "LUN 1 of ... at ...", a path: how people find it. */
const char *lpm_disk_where(const LpmFactPlace *side);

/* --- storage-same.c --- */
void lpm_check_same_disk(LpmCheckRun *run);
void lpm_check_same_content(LpmCheckRun *run);
void lpm_check_backing(LpmCheckRun *run);

/* --- storage-held.c --- */
void lpm_check_reserve_policy(LpmCheckRun *run);
void lpm_check_locks(LpmCheckRun *run);
void lpm_check_reservation(LpmCheckRun *run);
void lpm_check_registrations(LpmCheckRun *run);

/* --- storage-reach.c --- */
void lpm_check_driver(LpmCheckRun *run);
void lpm_check_optical(LpmCheckRun *run);
void lpm_check_writable(LpmCheckRun *run);
void lpm_check_paths(LpmCheckRun *run);
void lpm_check_paths_dead(LpmCheckRun *run);
