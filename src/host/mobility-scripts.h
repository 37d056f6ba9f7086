/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scripts of a partition around its move: what has been begun is written down first, so that a
 * killed lpm-host ends it after its restart. docs/spec/host-rpc.md, "scripts".
 */
#pragma once

#include "host/migration.h"

#define LPM_KIND_SCRIPTS "scripts" /* key: migration id */

/* Reads what is in the store: before the journals are taken up. */
void lpm_mig_scripts_load(LpmHost *host);
/* Takes up what was begun: after that. */
void lpm_mig_scripts_open(LpmHost *host);
void lpm_mig_scripts_close(LpmHost *host);

/*
 * Asks all of them. @arguments of scripts-check: "migration" (its answers are kept with that move;
 * absent: nothing is kept), "target", "force", "max_blackout_ms". @done gets what LpmScriptsDone
 * gets.
 */
void lpm_mig_scripts_check(LpmPartition *partition, const json_t *arguments, LpmHostReply done,
                           void *data);
/*
 * Tells one that a member of its cluster is lost for certain: "migration", "member", "script" of
 * scripts-takeover. Nothing is kept. @done gets what LpmScriptsDone gets.
 */
void lpm_mig_scripts_takeover(LpmPartition *partition, const json_t *arguments, LpmHostReply done,
                              void *data);
/* Whether there is anybody to be told: they were asked, and answered. */
bool lpm_mig_scripts_wanted(const LpmMigration *migration);
/*
 * Source: tells them that the partition is about to move. False: there is nobody to tell, and @done
 * is not called. @done gets the error that stops the move, ABORTED when it ended meanwhile.
 */
bool lpm_mig_scripts_pre(LpmMigration *migration, LpmHostDone done, void *data);
/* Target: the partition runs here. Once a move, however often it is called. */
void lpm_mig_scripts_arrived(LpmMigration *migration);
/* Keeps @result with that move as one of its phases and tells it; a result that is no news only
 * where something else is kept with it. */
void lpm_mig_scripts_note(LpmHost *host, const char *id, const char *partition, const char *uuid,
                          const json_t *result, bool news);
/* Whether there is a phase of that name. */
bool lpm_mig_scripts_has(const LpmHost *host, const char *id, const char *phase);
/* mobility-clock.c */
/* Target: the partition runs here; its clock is looked at. @stood_us: how long it stood still. */
void lpm_mig_clock_arrived(LpmMigration *migration, int64_t stood_us);
/* The move is cleaned, and the partition still attached: what was not looked at yet. */
void lpm_mig_clock_ended(LpmMigration *migration, bool completed);
/* The move is cleaned: undoes what pre has begun, where the partition stayed. */
void lpm_mig_scripts_ended(LpmMigration *migration, bool completed);
/* {"todo", "left", "phases"} for a status, without output where @brief; null: nothing. New
 * reference. */
json_t *lpm_mig_scripts_json(const LpmHost *host, const char *id, bool brief);
