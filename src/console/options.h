/* SPDX-License-Identifier: Apache-2.0 */
/* Options of a move, as users give them and as lpm-host takes them. */
#pragma once

#include "base/error.h"
#include "base/json.h"

/* Checks @options (NULL: none) and gives them complete, with defaults; new reference. USAGE names
 * the option. */
json_t *lpm_options_read(const json_t *options, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Checks those of @changes that are options and puts them into @options, or none with USAGE. */
bool lpm_options_change(json_t *options, const json_t *changes,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Whether the move may go on to post-copy. */
bool lpm_options_may_postcopy(const json_t *options);
/* The part that goes to lpm-host (docs/spec/host-rpc.md). New reference. */
json_t *lpm_options_for_host(const json_t *options);
/* In @facts of a partition: what it has now as the new profile that the options ask for, if they
 * do. EXISTS, USAGE. */
void lpm_options_keep_profile(const json_t *options, bool active, json_t *facts, GError **error);
