/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by config.c and config-pool.c only. */
#pragma once

#include "host/config.h"

/* USAGE error that names file, group and key. Always false. */
bool lpm_config_wrong(const char *file, const char *group, const char *key, GError **error,
                      const char *why);

/* Reads [storage:NAME] into @pool, which is to be cleared in either case. */
bool lpm_pool_config_read(LpmPoolConfig *pool, GKeyFile *keys, const char *group, const char *file,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;
void lpm_pool_config_clear(LpmPoolConfig *pool);
