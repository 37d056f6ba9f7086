/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this system's emulators really are: found out by asking them, once for each binary, and kept
 * in the database. An accelerator counts only when a partition was really started with it.
 */
#pragma once

#include "compat/compat.h"
#include "host/host.h"

typedef struct {
    LpmFamily family;
    char *path;        /* absolute; NULL: no such emulator here */
    char *reason;      /* why there is none, for people; NULL: it is there */
    char *version;     /* "10.0.13" */
    const char *accel; /* "kvm" or "tcg" */
    char *machine;     /* newest versioned machine type for new partitions */
    char **machines;   /* all machine types that it knows */
    char **devices;    /* all device models */
    char **features;   /* x86-64: features of "max" (tcg) or "host" (kvm); POWER: empty */
    char **modes;      /* compatibility modes of this system, by falling rank */
} LpmEmulator;

/* Begins to look at every family's emulator. @data_dir has compat/ and emulators.json. */
LpmEmulators *lpm_emulators_new(LpmHost *host, const char *data_dir, GError **error);
void lpm_emulators_free(LpmEmulators *emulators);
/* Calls @done when all have been looked at: at once from the main loop when they have been. */
void lpm_emulators_when_ready(LpmHost *host, LpmHostDone done, void *data);
/* The emulator of @family; UNSUPPORTED with the reason when there is none (or it is not known yet).
 * Borrowed. */
const LpmEmulator *lpm_emulator_get(const LpmHost *host, LpmFamily family, GError **error);
const LpmCompat *lpm_emulators_compat(const LpmHost *host);
bool lpm_emulator_knows_machine(const LpmEmulator *emulator, const char *type);
bool lpm_emulator_knows_device(const LpmEmulator *emulator, const char *model);

/* --- emulator-probe.c --- */

/* Fills in path or reason, version, accel, machines, devices and features. Once; never fails: then
 * it has a reason. */
void lpm_emulator_probe(LpmHost *host, LpmEmulator *emulator, void (*done)(void *data), void *data);
/* Newest "PREFIX-MAJOR.MINOR" of @machines, g_free(); NULL when there is none. */
char *lpm_emulator_newest_machine(const char *const *machines, const char *prefix);
