/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Storage drivers: one table of operations a kind. A partition's disk is something in a pool; the
 * pool's kind decides what, and how it is reached.
 */
#pragma once

#include "host/host.h"
#include "qemuargs/qemuargs.h"

/* What a disk looks like from this system. Plain data, cleared by lpm_storage_look_clear(). */
typedef struct {
    char *path;         /* for people; of a pool of kind file the path */
    char *reason;       /* why it cannot be used from here; NULL: it can */
    int64_t size_bytes; /* as the partition sees the disk */
    char *format;       /* "raw" or "qcow2": what the file really is; NULL: not found out */
    char *locked_by; /* who else than the partition itself has it open; "": nobody; NULL: not found
                        out */
    bool coherent;   /* what another system writes through its page cache is seen here at once */
    json_t
        *facts; /* what the kind says beside these, as docs/spec/facts.md has it; NULL: nothing */
} LpmStorageLook;

typedef void (*LpmStorageLooked)(const LpmStorageLook *look, void *data);

typedef struct {
    const char *kind;
    /* Whether it can serve this pool; nothing is looked at, which might hang. */
    bool (*serves)(const LpmHost *host, const LpmPoolConfig *pool);
    /* Makes the disk when it is not there and has a size; nothing else is changed. */
    void (*create)(LpmHost *host, const LpmDisk *disk, LpmHostDone done, void *data);
    /*
     * Makes it usable for QEMU, which runs as @uid:@gid (-1: as we do), and says how QEMU reaches
     * it in *ret, to be lpm_storage_place_clear()ed in either case. For an activation and for an
     * incoming move alike: nothing of the disk's content is read or written here, and a QEMU that
     * waits for a move does not write before it is let run.
     */
    bool (*activate)(LpmHost *host, const LpmFileRef *at, bool read_only, uid_t uid, gid_t gid,
                     LpmQemuDisk *ret, GError **error);
    /* Deletes what create() made; kinds that make nothing leave it alone, and that is no error. */
    bool (*remove)(LpmHost *host, const LpmDisk *disk, GError **error);
    /* Looks without changing anything. @uuid is the partition's: its own QEMU does not count as a
     * holder. */
    void (*look)(LpmHost *host, const LpmDisk *disk, const char *uuid, LpmStorageLooked done,
                 void *data);
} LpmStorageOps;

extern const LpmStorageOps lpm_storage_file, lpm_storage_iscsi, lpm_storage_nbd, lpm_storage_rbd;

/* The driver of the pool that @at names; NOT_FOUND when the pool is not defined here. */
const LpmStorageOps *lpm_storage_for(const LpmHost *host, const LpmFileRef *at, GError **error);
/* Kind of the pool that @at names, "" when it is not defined here. Static. */
const char *lpm_storage_kind(const LpmHost *host, const LpmFileRef *at);
void lpm_storage_look_clear(LpmStorageLook *look);
/* Frees the texts and closes the descriptor. */
void lpm_storage_place_clear(LpmQemuDisk *place);

/* --- what kinds that reach disks over a network share (storage-block.c) --- */

/* Nothing is made: a disk with a size_mib is refused. */
void lpm_storage_block_create(LpmHost *host, const LpmDisk *disk, LpmHostDone done, void *data);
bool lpm_storage_block_remove(LpmHost *host, const LpmDisk *disk, GError **error);
/* Size by qemu-img, which opens it for reading as QEMU would, with the kind's own activate(). */
void lpm_storage_block_look(LpmHost *host, const LpmDisk *disk, const char *uuid,
                            LpmStorageLooked done, void *data);
/* The pool's secret in a file without a name, as *ret_fd; -1 when the pool has none. */
bool lpm_storage_secret(const LpmPoolConfig *pool, int *ret_fd, GError **error);
