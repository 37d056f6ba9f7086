/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds of events that there are. Pure. */
#pragma once

#include "base/error.h"

/* Whether events of all these kinds can be; NULL-terminated or NULL. USAGE, with those there are.
 */
bool lpm_event_kinds_check(const char *const *kinds, GError **error) G_GNUC_WARN_UNUSED_RESULT;
