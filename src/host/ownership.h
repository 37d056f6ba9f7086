/* SPDX-License-Identifier: Apache-2.0 */
/* The ownership record of a partition outside of moves: made with it, asked before a start, removed
 * with it. */
#pragma once

#include "host/host.h"

/* SRC, epoch 1, owner this system; the arbiter "auto" becomes the one that it is. EXISTS, naming
 * the owner, when there is one already. */
void lpm_ownership_create(LpmPartition *partition, LpmHostDone done, void *data);
/* Whether the record would still be found with the profile @changed. STATE, saying where,
 * otherwise. */
bool lpm_ownership_stays(LpmPartition *partition, const LpmProfile *changed, GError **error);
/* Whether the record names this system and is settled. STATE, saying who owns it, otherwise. */
void lpm_ownership_may_start(LpmPartition *partition, LpmHostDone done, void *data);
/* Removes it if it names this system. A record of another system stays; with @only_if_ours (the
 * disks are to go, too) it is a STATE error that names the owner. */
void lpm_ownership_delete(LpmPartition *partition, bool only_if_ours, LpmHostDone done, void *data);
/* {"state","epoch","revision","owner","peer","move","changed_us","arbiter","where"} */
void lpm_ownership_show(LpmPartition *partition, LpmHostReply done, void *data);
