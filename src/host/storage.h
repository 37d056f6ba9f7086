/* SPDX-License-Identifier: Apache-2.0 */
/* Storage drivers: one table of operations a kind. A partition's disk is a file in a pool; the
 * pool's kind decides. */
#pragma once

#include "host/host.h"

/* What a disk looks like from this system. Plain data, cleared by lpm_storage_look_clear(). */
typedef struct {
    char *path;
    char *reason;       /* why it cannot be used from here; NULL: it can */
    int64_t size_bytes; /* as the partition sees the disk */
    char *format;       /* "raw" or "qcow2": what the file really is; NULL: not found out */
    char *locked_by; /* who else than the partition itself has it open; "": nobody; NULL: not found
                        out */
    bool coherent;   /* what another system writes through its page cache is seen here at once */
} LpmStorageLook;

typedef void (*LpmStorageLooked)(const LpmStorageLook *look, void *data);

typedef struct {
    const char *kind;
    /* Whether it can serve this pool. */
    bool (*serves)(const LpmHost *host, const LpmPoolConfig *pool);
    /* Makes the disk when it is not there and has a size; nothing else is changed. */
    void (*create)(LpmHost *host, const LpmDisk *disk, LpmHostDone done, void *data);
    /* Makes it usable for QEMU, which runs as @uid:@gid (-1: as we do). Path for the command line
     * in @ret_path. */
    bool (*activate)(LpmHost *host, const LpmFileRef *at, bool read_only, uid_t uid, gid_t gid,
                     char **ret_path, GError **error);
    bool (*remove)(LpmHost *host, const LpmDisk *disk, GError **error);
    /* Looks without changing anything. @uuid is the partition's: its own QEMU does not count as a
     * holder. */
    void (*look)(LpmHost *host, const LpmDisk *disk, const char *uuid, LpmStorageLooked done,
                 void *data);
} LpmStorageOps;

extern const LpmStorageOps lpm_storage_file;

/* The driver of the pool that @at names; NOT_FOUND when the pool is not defined here. */
const LpmStorageOps *lpm_storage_for(const LpmHost *host, const LpmFileRef *at, GError **error);
void lpm_storage_look_clear(LpmStorageLook *look);

/*
 * Processes here that have the file at @path open and are not of the partition @uuid (NULL: all),
 * as text for people; "" when there is none.
 */
char *lpm_storage_holders(const char *path, const char *uuid);
