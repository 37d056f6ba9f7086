/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Validation of a move to one or several targets: collects the facts from all systems at the same
 * time, then runs every check. Nothing is changed by it.
 */
#pragma once

#include "checks/checks.h"
#include "systems.h"

typedef struct LpmValidation LpmValidation;

/* What became of one target. Everything is borrowed from the validation. */
typedef struct {
    const char *target;
    const GPtrArray *findings;   /* LpmFinding */
    const json_t *facts;         /* docs/spec/facts.md */
    const json_t *prediction;    /* docs/spec/rest.md; JSON null: none */
    const json_t *after_restart; /* lpm_checks_after_restart() */
    bool refused;
    double ms;
} LpmVerdict;

/*
 * @verdicts (in order of the targets) and @partition (partition-facts) are borrowed; both NULL with
 * @error when the source could not tell what it has. The validation is freed after this returns.
 */
typedef void (*LpmValidated)(const LpmVerdict *verdicts, size_t n_verdicts, const json_t *partition,
                             const GError *error, void *data);

typedef struct {
    LpmConsole *console;
    LpmSystem *source;
    const char *partition;
    bool active;
    const json_t *options; /* from lpm_options_read() */
    unsigned look_ms;      /* how long to look at what the partition writes; 0: not at all */
    const char *migration; /* that this is the beginning of; NULL: none */
} LpmValidationRequest;

/* @request is copied, @targets are LpmSystem. */
LpmValidation *lpm_validation_start(const LpmValidationRequest *request, GPtrArray *targets,
                                    LpmValidated done, void *data);
/* @done will not be called; what was asked of the systems runs out by itself. NULL is fine. */
void lpm_validation_cancel(LpmValidation *validation);

/* Whether somebody in the partition was asked, and can be told of the move. */
bool lpm_validation_has_scripts(const json_t *facts);
/* Answer of POST /v1/validate for one verdict. New reference. */
json_t *lpm_verdict_to_json(const LpmVerdict *verdict);
/* How long a validation that somebody waits for looks, and the one before a move. */
enum { LPM_VALIDATE_LOOK_MS = 800, LPM_MOVE_LOOK_MS = 400 };
/* 64 hexadecimal digits of 32 random bytes, g_free(): keys of movers. */
char *lpm_new_mover_key(void);
