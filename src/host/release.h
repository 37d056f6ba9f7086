/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this release of lpm-host speaks. A build with -Dcrash_points=true can act as another one,
 * LPM_RELEASE=previous or LPM_RELEASE=far, so that tests let neighbours move partitions to each
 * other (docs/spec/crash-points.md).
 */
#pragma once

#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

const char *lpm_release_version(void);
json_t *lpm_release_rpc_versions(void);    /* [1, 2]; new reference */
json_t *lpm_release_stream_versions(void); /* [1]; new reference */
int lpm_release_profiles_max(void);        /* how many a partition may have */
/* For CONFIG of a mover: 0, all that it has. */
uint64_t lpm_release_stream_features(void);
/* RPC version 2: words in migration-recover, "sees" and "words" in a status. */
bool lpm_release_has_words(void);
