/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lpm-drmgr in a partition answers (docs/spec/drmgr.md), read as what a guest writes: bounded,
 * and each text made fit to be shown. Pure.
 */
#pragma once

#include "base/json.h"

#include <stddef.h>

#define LPM_DRMGR_LINES_MAX  192u
#define LPM_DRMGR_LOG_MAX    32u
#define LPM_DRMGR_TEXT_MAX   256u  /* names, words of a table */
#define LPM_DRMGR_WORDS_MAX  1024u /* what it says for people */
#define LPM_DRMGR_OUTPUT_MAX 2048u
#define LPM_DRMGR_FACTS_MAX  24u
#define LPM_DRMGR_FACT_MAX   32u /* name of a fact, with its end */

/*
 * {"result", "version", "scripts": [{"kind", "name", "action", "answer", "end", "status", "ms",
 * "words", "log", "facts", "output", "errors", "cut", "children", "leaks"}]} of @size bytes at
 * @out. Lines that are none of its are left out; "result" is "killed" when its last line is not
 * there. New reference, never NULL.
 */
json_t *lpm_drmgr_read(const char *out, size_t size);
/* What it wrote to its standard error, of @size bytes at @err (NULL: nothing), as one line for
 * people. g_free(). */
char *lpm_drmgr_read_errors(const char *err, size_t size);
