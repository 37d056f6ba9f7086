/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watches what runs in a partition while it is copied: scripts that have told "watch_s" when their
 * premigrate was called are asked ever so many seconds whether all is well (watchmigrate of
 * docs/spec/drmgr.md). Nothing that they say has any influence on the move.
 */
#pragma once

#include "host/scripts.h"

typedef struct LpmWatch LpmWatch;

/*
 * @phase: phase "watch" as migration-query has it, borrowed: the last answer, with "runs" and
 * "changes".
 */
typedef void (*LpmWatchNews)(json_t *phase, void *data);

/*
 * @pre: the answer to pre. @before: phase "watch" that is known already, or NULL. NULL: nobody
 * wants to be asked. @about is copied.
 */
LpmWatch *lpm_watch_new(LpmPartition *partition, const LpmScriptsAbout *about, const json_t *pre,
                        const json_t *before, LpmWatchNews news, void *data);
/* @news is not called any more. NULL is fine. */
void lpm_watch_free(LpmWatch *watch);
