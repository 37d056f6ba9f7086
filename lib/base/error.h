/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one error domain of OpenLPM and its one table. Every failure that leaves a function is a
 * GError of this domain; its code says of which kind it is, its message says what failed, on which
 * object, why, and what to do.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#define LPM_ERROR (lpm_error_quark())

/* Order is not significant outside the process; the names in the table are what travels in
 * messages. */
typedef enum {
    LPM_ERROR_INTERNAL,    /* a defect of ours, or of the machine we run on */
    LPM_ERROR_USAGE,       /* the command line or the arguments of a verb are wrong */
    LPM_ERROR_NOT_FOUND,   /* the named object does not exist */
    LPM_ERROR_EXISTS,      /* an object of that name exists */
    LPM_ERROR_STATE,       /* the object is in a state that does not allow this */
    LPM_ERROR_BUSY,        /* a slot, lock or other move is in the way; later it may work */
    LPM_ERROR_REFUSED,     /* validation found errors; findings say which */
    LPM_ERROR_DENIED,      /* who asks may not do this, or is not who it says */
    LPM_ERROR_UNREACHABLE, /* the other side does not answer */
    LPM_ERROR_TIMEOUT,     /* no answer within the deadline; what was asked may still happen */
    LPM_ERROR_PROTOCOL,    /* the other side said something that the protocol does not allow */
    LPM_ERROR_QEMU,        /* QEMU refused or failed */
    LPM_ERROR_STORAGE,     /* a disk or a file failed */
    LPM_ERROR_NETWORK,     /* a bridge, tap or address failed */
    LPM_ERROR_MOVER,       /* the mover failed or was lost */
    LPM_ERROR_CONFLICT,    /* a compare-and-swap was lost: somebody else changed it first */
    LPM_ERROR_ABORTED, /* stopped on request or by the other side; the partition is where it was */
    LPM_ERROR_UNSUPPORTED, /* this version, machine or emulator cannot do it */
    LPM_ERROR_N,
} LpmErrorCode;

typedef struct {
    LpmErrorCode code;
    const char *name;   /* the "class" in messages, e.g. "not-found" */
    unsigned http;      /* HTTP status */
    int exit;           /* exit code of the command line, 2 to 125 */
    const char *anchor; /* anchor in docs/guide/errors.md */
    const char *remedy; /* general remedy, used where the message has none of its own */
} LpmErrorInfo;

GQuark lpm_error_quark(void);

/* The row of @code; a code outside the enum gives the row of LPM_ERROR_INTERNAL. Never NULL. */
const LpmErrorInfo *lpm_error_info(int code);

/* The code with @name, or LPM_ERROR_INTERNAL for an unknown or NULL name. */
LpmErrorCode lpm_error_from_name(const char *name);

/* Sets @error with code and a printf message; returns false always, so that `return
 * lpm_error_set(...)` reads well. */
bool lpm_error_set(GError **error, LpmErrorCode code, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* Exit code for @error; 0 for NULL; errors of other domains count as LPM_ERROR_INTERNAL. */
int lpm_error_exit_code(const GError *error);
