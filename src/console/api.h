/* SPDX-License-Identifier: Apache-2.0 */
/* The REST interface: one table of routes; each handler is in the file of its subject (api-*.c). */
#pragma once

#include "console.h"
#include "http/http.h"

/* Ends with a row of method NULL. Handlers get the LpmConsole as their data. */
extern const LpmHttpRoute lpm_api_routes[];

/* Prints docs/spec/rest.md. */
void lpm_api_print(FILE *out);

/* api-systems.c */
void lpm_api_system_list(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_system_add(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_system_show(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_system_delete(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_system_maintenance(LpmHttpRequest *request, json_t *arguments, void *data);

/* api-partitions.c */
void lpm_api_partition_list(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_partition_create(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_partition_show(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_partition_diagnose(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_partition_change(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_partition_delete(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_partition_start(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_profile_list(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_profile_create(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_profile_change(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_profile_delete(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_partition_stop(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_partition_power(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_partition_power_off(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_partition_takeover(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_partition_memory(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_partition_processors(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_partition_media(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_partition_restart(LpmHttpRequest *request, json_t *arguments, void *data);

/* api-migrations.c */
void lpm_api_validate(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_migration_list(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_migration_create(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_migration_show(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_migration_change(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_migration_stop(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_migration_recover(LpmHttpRequest *request, json_t *arguments, void *data);

/* api-store.c */
void lpm_api_store_list(LpmHttpRequest *request, json_t *arguments, void *data);
/* A partition was deleted: its images go everywhere, where that is possible. */
void lpm_api_store_forget(LpmConsole *console, const char *uuid);
void lpm_api_store_drop(LpmHttpRequest *request, json_t *arguments, void *data);

/* api-misc.c */
void lpm_api_modes(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_checks(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_events(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_events_stream(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_webhooks(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_webhook_retry(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_version(LpmHttpRequest *request, json_t *arguments, void *data);
void lpm_api_health(LpmHttpRequest *request, json_t *arguments, void *data);
