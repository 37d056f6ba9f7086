/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks at disks that are no files, without changing anything on them: what they say that they are,
 * who has reserved them, how many paths lead there. Each answers within LPM_IDENTITY_MS on the main
 * loop, whatever the storage does; then the look has a reason.
 */
#pragma once

#include "host/scsi.h"
#include "host/storage.h"

/* So that validation answers within two seconds, whatever hangs at the target. */
enum { LPM_IDENTITY_MS = 1500 };

/*
 * Everything is copied. @target->group is needed. @portals: more of the target's portals, with
 * commas, beside those that it names itself; NULL: none. @format is the profile's: the storage
 * knows none.
 */
void lpm_identity_look_iscsi(const LpmScsiTarget *target, const char *portals, const char *format,
                             LpmStorageLooked done, void *data);

/* One export of an NBD server. Texts that do not apply are NULL. */
typedef struct {
    const char *server; /* "ADDRESS:PORT"; NULL: @socket */
    const char *socket; /* path */
    const char *export_name;
    const char *tls;          /* "x509" or "psk"; NULL: none */
    const char *tls_dir;      /* with ca-cert.pem, client-cert.pem, client-key.pem, or keys.psk */
    const char *tls_hostname; /* name in the certificate, where it is not the address */
    const char *user;         /* for PSK */
    const char *group;        /* of the configuration, for messages: "storage:san" */
} LpmNbdTarget;

/* Everything is copied. */
void lpm_identity_look_nbd(const LpmNbdTarget *target, const char *format, LpmStorageLooked done,
                           void *data);

/* Facts about the image of an RBD pool that its name tells. New reference. */
json_t *lpm_identity_rbd(const LpmPoolConfig *pool, const char *image);

/* The look of a disk that cannot be looked at, given from the main loop. */
void lpm_identity_refuse(const GError *error, LpmStorageLooked done, void *data);

/* Who waits for a look at a disk that is called @path for people: for the drivers of looks. */
typedef struct {
    LpmStorageLooked done;
    void *data;
    char *path, *format;
} LpmIdentityOwner;

/* @path is taken over, @format copied. It ends with lpm_identity_answer(). */
LpmIdentityOwner *lpm_identity_owner_new(char *path, const char *format, LpmStorageLooked done,
                                         void *data);
/* @facts: borrowed; NULL: @reason says why there are none, NULL: no answer in time. */
void lpm_identity_answer(LpmIdentityOwner *owner, json_t *facts, const char *reason);

/* Whether the emulator of @family has the block driver for @kind ("iscsi", "nbd", "rbd"), which may
 * be a module of its own: @reason says why not, "" when it has. */
typedef void (*LpmIdentityDriver)(const char *reason, void *data);
void lpm_identity_driver(LpmHost *host, LpmFamily family, const char *kind, LpmIdentityDriver done,
                         void *data);

/* Name of the file system at @path, and whether each system sees at once what another one writes
 * through its page cache. Static. */
const char *lpm_identity_file_system(const char *path, bool *ret_coherent);

/* Facts about the file at @path: its file system, its lock. Blocks as long as the file system does.
 * New reference. */
json_t *lpm_identity_file_facts(const char *path);
/*
 * Adds to @facts (borrowed, kept until @done) which files the disk in the file at @path, of which
 * qemu-img said @info and the profile @format, is backed by. @done may be called from inside.
 */
typedef void (*LpmIdentityFile)(json_t *facts, void *data);
void lpm_identity_file(LpmHost *host, const char *path, const json_t *info, LpmDiskFormat format,
                       json_t *facts, LpmIdentityFile done, void *data);
