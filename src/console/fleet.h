/* SPDX-License-Identifier: Apache-2.0 */
/* Partitions over all systems: asked of the systems each time, since the truth lies there. */
#pragma once

#include "systems.h"

/*
 * @rows: rows of partition-list with "system" and "duplicate"; @unreachable: names of systems that
 * did not answer, whose last known rows are there with state "unknown". Both borrowed.
 */
typedef void (*LpmFleetListed)(json_t *rows, json_t *unreachable, void *data);
/* @system NULL: all. */
void lpm_fleet_list(LpmConsole *console, const char *system, LpmFleetListed done, void *data);
/*
 * The same of all systems, and with the halves of moves that only wait: who wants to know that a
 * partition runs nowhere must see every copy of it.
 */
void lpm_fleet_list_whole(LpmConsole *console, LpmFleetListed done, void *data);

/* Rows with "system" as each system told them last, in no order; who looked for a partition by its
 * name a moment ago has just had them asked. New reference. */
json_t *lpm_fleet_known(const LpmConsole *console);

/*
 * @system has the partition, @row is its row of partition-list; @note (or NULL) tells of a leftover
 * profile elsewhere. All borrowed; NULL with @error.
 */
typedef void (*LpmFleetFound)(LpmSystem *system, const json_t *row, const char *note,
                              const GError *error, void *data);
/* NOT_FOUND; @silent names the systems that do not answer, "" or NULL: all do. Always false. */
bool lpm_fleet_not_found(const char *partition, const char *silent, GError **error);
/* The system that runs @partition, or would; the ownership record decides between several. */
void lpm_fleet_find(LpmConsole *console, const char *partition, LpmFleetFound done, void *data);
