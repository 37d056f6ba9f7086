/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon: opened in the order of its needs, closed in the reverse one. */
#pragma once

#include "host/host.h"

/* Where lpm-host listens for people and tests on its own machine. g_free(). */
char *lpm_server_socket_path(const LpmHostConfig *config);
char *lpm_server_tls_dir(const LpmHostConfig *config);

/*
 * Takes the single-instance lock, opens the database, loads and adopts the partitions, takes up
 * unfinished moves, then listens. Steals @config. The loop must run for the rest; when that fails,
 * it logs, sets host->failed and quits the loop.
 */
LpmHost *lpm_server_open(LpmHostConfig *config, const char *data_dir, const LpmMobilityHooks *hooks,
                         GError **error);
/* Partitions go on running. */
void lpm_server_close(LpmHost *host);
/* Reads key and certificates anew; listens for the console if it did not yet. */
bool lpm_server_reload(LpmHost *host, GError **error);

/* All verbs of all tables; ends with a row of name NULL. g_free(). */
LpmRpcVerb *lpm_verbs_all(const LpmMobilityHooks *hooks);

/* The partition that argument "partition" names. NULL when there is none: then the request has been
 * answered. */
LpmPartition *lpm_verb_partition(LpmRpcRequest *request, json_t *arguments, LpmHost *host);
void lpm_verb_diagnose(LpmRpcRequest *request, json_t *arguments, void *data); /* diagnose.c */
void lpm_verb_media(LpmRpcRequest *request, json_t *arguments, void *data);    /* media.c */
/* Whether this system knows what each of its profiles asks for: USAGE, STORAGE. */
bool lpm_verb_check_profiles(const LpmHost *host, const LpmProfile *profile, GError **error);

extern const LpmRpcVerb lpm_verbs_system[];
extern const LpmRpcVerb lpm_verbs_partition[];
extern const LpmRpcVerb lpm_verbs_profile[];
extern const LpmRpcVerb lpm_verbs_grow[];
extern const LpmRpcVerb lpm_verbs_validate[];

/* join.c, call.c: exit code of the command line. */
int lpm_join_command(const LpmHostConfig *config, int argc, char **argv);
int lpm_call_command(const LpmHostConfig *config, int argc, char **argv);
