/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of this library only. */
#pragma once

#include "compat/compat.h"

/* A version number, "10.0.13": up to four numbers, compared from the left; missing ones count as 0.
 */
typedef struct {
    unsigned part[4];
    bool given;
} LpmVersion;

/* A row of data/emulators.json; NULL, 0 and versions that are not given match everything. */
typedef struct {
    char *accel;
    bool any_family;
    LpmFamily family;
    LpmVersion from;   /* inclusive */
    LpmVersion before; /* exclusive */
    LpmVersion machine_from;
    LpmVersion machine_before;
    char *interrupts;
    int max_processors;
    bool modules_uncompared; /* only uses with such memory */
    bool safe;
    char *reason;
} LpmEmulatorRow;

struct LpmCompat {
    GPtrArray *modes;     /* owned LpmMode, by family and falling rank */
    GPtrArray *emulators; /* owned LpmEmulatorRow, in the order of the file */
};

void lpm_mode_free(LpmMode *mode);
void lpm_emulator_row_free(LpmEmulatorRow *row);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LpmMode, lpm_mode_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LpmEmulatorRow, lpm_emulator_row_free)

/* Reads numbers separated by dots from the start of @text, ignoring what follows; false when it
 * starts with none. */
bool lpm_version_parse(const char *text, LpmVersion *ret_version);
/* The same from the last "-" on: "pseries-10.0+vof" gives 10.0. */
bool lpm_version_parse_machine(const char *machine, LpmVersion *ret_version);
int lpm_version_compare(const LpmVersion *a, const LpmVersion *b);
/* Whether @version (NULL: unknown) is in [@from, @before); a limit that is not given does not
 * limit. */
bool lpm_version_in(const LpmVersion *version, const LpmVersion *from, const LpmVersion *before);

/* Whether @names (NULL-terminated or NULL) has the mode, by any of its spellings. */
bool lpm_mode_in(const LpmMode *mode, const char *const *names);
