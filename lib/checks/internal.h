/* SPDX-License-Identifier: Apache-2.0 */
/* What a check is made of. Shared by the files of this library only. */
#pragma once

#include "checks/checks.h"

typedef struct LpmCheckRow LpmCheckRow;

/* One run over one facts document, at one row of the table. Everything is borrowed but the
 * findings. */
typedef struct {
    const json_t *facts;
    const LpmCompat *compat;
    const LpmCheckRow *row;
    bool active;           /* an active move; an inactive one else */
    bool overridden;       /* the row is named in options.overrides, and may be */
    const char *partition; /* names for messages */
    const char *source;
    const char *target;
    LpmFamily family;    /* LPM_FAMILY_N when not known */
    GPtrArray *findings; /* owned LpmFinding */
} LpmCheckRun;

typedef enum { LPM_WHEN_ACTIVE = 1, LPM_WHEN_INACTIVE = 2, LPM_WHEN_ALWAYS = 3 } LpmCheckWhen;

/* A row: everything that is known about a check, and its function. The part of @id before the dot
 * is its group. */
struct LpmCheckRow {
    const char *id;
    LpmCheckWhen when;
    LpmSeverity severity; /* of what it finds; a missing fact is an error always */
    bool overridable;
    const char *hmc_code; /* NULL: PowerVM has none, or we do not know it */
    const char *title; /* what holds when the check is content: a sentence without its full stop */
    const char *help;  /* one or two sentences: why it matters */
    void (*run)(LpmCheckRun *run);
};

typedef struct {
    const char *name;
    const char *title;
    const LpmCheckRow *rows;
    size_t n_rows;
} LpmCheckGroup;

extern const LpmCheckGroup lpm_check_group_general;
extern const LpmCheckGroup lpm_check_group_server;
extern const LpmCheckGroup lpm_check_group_mover;
extern const LpmCheckGroup lpm_check_group_partition;
extern const LpmCheckGroup lpm_check_group_storage;
extern const LpmCheckGroup lpm_check_group_network;
extern const LpmCheckGroup lpm_check_group_processor;
extern const LpmCheckGroup lpm_check_group_prediction;
extern const LpmCheckGroup lpm_check_group_guest;

/* All groups in their order; NULL-terminated. */
extern const LpmCheckGroup *const lpm_check_groups[];

/* Pieces of memory that the partition was given since its start; and those of them that lie outside
 * its memory file, which no verified move compares. */
int64_t lpm_check_modules(const LpmCheckRun *run);
int64_t lpm_check_modules_outside(const LpmCheckRun *run);

/* --- guide.c --- */

/* What people read about a check. Sentences. */
typedef struct {
    const char *id, *looks, *fails, *remedy;
} LpmCheckGuide;

/* NULL: nobody has written about it yet. Static. */
const LpmCheckGuide *lpm_check_guide(const char *id);

/* --- hmc.c --- */

typedef struct {
    const char *code;
    bool verified; /* read in a document of the vendor's */
    const char *meaning;
} LpmHmcCode;

/* NULL for NULL and for a code that is not in the table. Static. */
const LpmHmcCode *lpm_hmc_code(const char *code);
const LpmHmcCode *lpm_hmc_codes(size_t *ret_n);

/* --- findings.c --- */

#define TEXT(...) g_strdup_printf(__VA_ARGS__)

/* Adds a finding of the row's severity. Takes over all four texts. */
void lpm_check_fail(LpmCheckRun *run, char *object, char *expected, char *found, char *remedy);
/* Says that the fact at @path (below @where when that is not "") is not known: an error. */
void lpm_check_unknown(LpmCheckRun *run, const char *where, const char *path);
void lpm_finding_free(LpmFinding *finding);

/* --- facts.c: each gives false after lpm_check_unknown() when the fact is missing or of another
 * type --- */

/* A place in the facts: an object and how to name it. The whole document: {run->facts, ""}. */
typedef struct {
    const json_t *value;
    char name[128];
} LpmFactPlace;

bool lpm_fact_text(LpmCheckRun *run, const LpmFactPlace *at, const char *path,
                   const char **ret_value);
bool lpm_fact_int(LpmCheckRun *run, const LpmFactPlace *at, const char *path, int64_t *ret_value);
bool lpm_fact_bool(LpmCheckRun *run, const LpmFactPlace *at, const char *path, bool *ret_value);
bool lpm_fact_list(LpmCheckRun *run, const LpmFactPlace *at, const char *path, json_t **ret_value);
/* A list of strings; to be g_free()d, the strings are borrowed. */
bool lpm_fact_texts(LpmCheckRun *run, const LpmFactPlace *at, const char *path,
                    const char ***ret_value);

/* The document itself. */
LpmFactPlace lpm_fact_root(const LpmCheckRun *run);
/* The item of the list at @path whose member "name" (or @key) is @value. */
bool lpm_fact_item(LpmCheckRun *run, const char *path, const char *key, const char *value,
                   LpmFactPlace *ret_place);
/* "target.emulators.x86-64" of the partition's family, for @side "source" or "target". */
bool lpm_fact_emulator(LpmCheckRun *run, const char *side, LpmFactPlace *ret_place);

/* Items of @texts (NULL-terminated) with commas, "none" for an empty list. To be g_free()d. */
char *lpm_fact_join(const char *const *texts);
/* Name of the system on @side: "source", "target". */
const char *lpm_check_system(const LpmCheckRun *run, const char *side);

/* Both sides, in order, for checks that look at each. */
extern const char *const lpm_check_sides[2];
