/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processor compatibility modes and the emulators that are safe to move: rules as pure functions
 * over data files (data/compat/ one per mode, data/emulators.json). Programs read the files and
 * hand their text in; nothing here does I/O.
 *
 * preferred is what the administrator asks for ("default" or a mode), current is what the partition
 * runs in. A move changes neither; each activation evaluates anew.
 */
#pragma once

#include "model/model.h"

#define LPM_COMPAT_DEFAULT "default"

/* One mode, from one data file. Everything is owned by the LpmCompat it came from. */
typedef struct {
    char *name;
    LpmFamily family;
    int rank;        /* order of features within the family: higher has more */
    char *hmc;       /* spelling of the HMC command line */
    char *rest;      /* spelling of the HMC REST interface */
    bool preferable; /* may be asked for; false: can only be a current mode (POWER5) */
    bool portable;   /* may be chosen for "default"; false: enhanced modes of one generation */
    bool verified;   /* every system in runs_on is confirmed by a source; false: see note */
    char *note;      /* NULL: none */
    /* POWER */
    char **runs_on; /* generations, "POWER9" or "POWER9/FW940": at least that firmware level */
    char
        *max_compat; /* value of the machine option max-cpu-compat; NULL: cannot be asked of QEMU */
    uint32_t pvr;    /* logical processor version; 0: none */
    uint32_t
        pcr_bit; /* bit of the PCR that holds a newer processor at this mode's level; 0: none */
    char *server_cpu; /* -cpu of an emulated server of the generation that has this mode's name;
                         NULL: none */
    char *
        server_max; /* that server's own ceiling as max-cpu-compat; NULL: the -cpu is one already */
    /* x86-64 */
    char *cpu;       /* value of -cpu */
    char **features; /* what -cpu expands to, in QEMU's names, sorted */
} LpmMode;

typedef struct LpmCompat LpmCompat; /* all modes and all emulator rows; immutable once filled */

LpmCompat *lpm_compat_new(void);
void lpm_compat_free(LpmCompat *compat);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LpmCompat, lpm_compat_free)

/* Adds the mode in the text of one file; @source names it in errors. USAGE error for anything not
 * understood. */
bool lpm_compat_add_mode(LpmCompat *compat, const char *source, const char *text,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Adds the rows of data/emulators.json. */
bool lpm_compat_add_emulators(LpmCompat *compat, const char *source, const char *text,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The mode with @name (any of its spellings, case ignored), or NULL. Borrowed. */
const LpmMode *lpm_compat_find(const LpmCompat *compat, const char *name);
/* All modes of @family by falling rank; NULL-terminated, to be g_free()d (the modes are borrowed).
 */
const LpmMode **lpm_compat_modes(const LpmCompat *compat, LpmFamily family);
/* Whether @mode may be a partition's preferred mode: "default", or a preferable mode of @family. */
bool lpm_compat_is_preferable(const LpmCompat *compat, LpmFamily family, const char *mode);

/* --- what a system supports; sets of modes are NULL-terminated lists of names, by falling rank ---
 */

/*
 * Modes of a POWER server of @generation with @firmware ("FW940"; NULL or "": the newest). To be
 * g_strfreev()d; empty for an unknown generation.
 */
char **lpm_compat_system_modes_power(const LpmCompat *compat, const char *generation,
                                     const char *firmware);
/* Modes whose features are all in @features (NULL-terminated). To be g_strfreev()d. */
char **lpm_compat_system_modes_x86(const LpmCompat *compat, const char *const *features);
/*
 * Feature names that are true in the properties of an answer to QMP query-cpu-model-expansion (type
 * "full"), without those that are settings of QEMU and not features of a processor; sorted. To be
 * g_strfreev()d.
 */
char **lpm_compat_features_from_expansion(const json_t *answer);
/* The features of @wanted that are not in @available; both NULL-terminated. To be g_strfreev()d. */
char **lpm_compat_missing_features(const char *const *wanted, const char *const *available);

/* --- the rules --- */

typedef enum { LPM_COMPAT_OK, LPM_COMPAT_NO_PREFERRED, LPM_COMPAT_NO_CURRENT } LpmCompatVerdict;

/*
 * Whether a partition may move to a system with @target_modes. The preferred mode is judged first:
 * it must be "default" or in the set; an @active move also needs @current in the set (@current is
 * not looked at otherwise and may be NULL).
 */
LpmCompatVerdict lpm_compat_can_move(const LpmCompat *compat, const char *preferred,
                                     const char *current, const char *const *target_modes,
                                     bool active);

/*
 * Mode that a partition gets when it is activated on a server with @server_modes and its operating
 * system supports
 * @os_modes (NULL: everything). "default": the highest portable mode of both; a named mode: that
 * one if both have it, else the highest of both below it. NULL when there is none. Borrowed.
 */
const LpmMode *lpm_compat_at_activation(const LpmCompat *compat, LpmFamily family,
                                        const char *preferred, const char *const *server_modes,
                                        const char *const *os_modes);

/* The highest portable mode that is in each of the @n_systems sets, or NULL. Borrowed. */
const LpmMode *lpm_compat_common(const LpmCompat *compat, const char *const *const *systems,
                                 size_t n_systems);

/* --- POWER under QEMU --- */

/*
 * Current mode from the PCR (HMP "p $pcr") on a server of @generation; also when QEMU printed it
 * byte-swapped. POWER7 and POWER7+ cannot be told apart (a POWER7+ server without a lower level set
 * gives POWER7+), nor can POWER9_base and POWER9:
 * @activated_with, the preferred mode at the last activation (NULL: unknown), decides that. NULL
 * when the generation is unknown. Borrowed.
 */
const LpmMode *lpm_compat_mode_from_pcr(const LpmCompat *compat, uint64_t pcr,
                                        const char *generation, const char *activated_with);
/* Mode with logical processor version @pvr (compat_pvr of the migration stream), or NULL. Borrowed.
 */
const LpmMode *lpm_compat_mode_from_pvr(const LpmCompat *compat, uint32_t pvr);

/* -cpu value of an emulated server of @generation, or NULL when QEMU has none. Borrowed. */
const char *lpm_compat_power_cpu(const LpmCompat *compat, const char *generation);
/* max-cpu-compat for a partition with @preferred on that server: the lower of both ceilings; NULL:
 * not given. Borrowed. */
const char *lpm_compat_power_max(const LpmCompat *compat, const char *generation,
                                 const char *preferred);
/*
 * Interrupt mode to pin when a partition is first started: "xics" when it may ever run in POWER8
 * mode or below (preferred "default" or such a mode), since a partition with XIVE cannot go back
 * there; "dual" from POWER9 on. Static.
 */
const char *lpm_compat_interrupt_mode(const LpmCompat *compat, const char *preferred);
/* The controller that is really used: "xics" or "xive". Static. */
const char *lpm_compat_interrupts_in_use(const LpmCompat *compat, const char *interrupt_mode,
                                         const char *current);

/* -cpu value for an x86-64 partition with mode @mode (a name from lpm_compat_at_activation).
 * Borrowed, NULL: unknown. */
const char *lpm_compat_x86_cpu(const LpmCompat *compat, const char *mode);

/* --- emulators --- */

typedef struct {
    LpmFamily family;
    const char *accel;      /* "tcg", "kvm" */
    const char *version;    /* "10.0.13" */
    const char *machine;    /* "pseries-10.0", what follows a "+" is ignored; NULL: unknown */
    const char *interrupts; /* POWER: "xics" or "xive", the controller in use; NULL otherwise */
    int processors;
    bool modules_uncompared; /* memory that was added to it is not compared during the move */
} LpmEmulatorUse;

typedef struct {
    bool safe;
    bool known;         /* false: no row covers this use */
    const char *reason; /* why not, or what was shown; a phrase. Borrowed */
} LpmEmulatorVerdict;

/* Whether an active move out of or into such a QEMU is safe: the first row that covers @use
 * decides; none: not safe. */
LpmEmulatorVerdict lpm_compat_emulator(const LpmCompat *compat, const LpmEmulatorUse *use);
