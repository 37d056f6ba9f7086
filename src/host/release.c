/* SPDX-License-Identifier: Apache-2.0 */
#include "host/release.h"

#include "model/model.h"
#include "stream/stream.h"

#include <stdlib.h>
#include <string.h>

enum { RPC_WITH_WORDS = 2 };

typedef struct {
    const char *name, *version;
    int rpc_first, rpc_last, stream_first, stream_last;
    uint64_t features;
} Release;

/*
 * The first row is this release. Those below are made up: what a neighbour may lack, and one that
 * is too far away for anything.
 */
static const Release releases[] = {
    {"this", LPM_VERSION, 1, RPC_WITH_WORDS, LPM_STREAM_VERSION, LPM_STREAM_VERSION, 0},
#ifdef LPM_CRASH_POINTS
    {"previous", "0.0.9", 1, 1, LPM_STREAM_VERSION, LPM_STREAM_VERSION,
     LPM_STREAM_FEATURE_VERIFY | LPM_STREAM_FEATURE_CHANNELS},
    {"far", "9.9.0", 8, 9, 8, 9, 0},
#endif
};

static const Release *release(void)
{
#ifdef LPM_CRASH_POINTS
    const char *wanted = getenv("LPM_RELEASE");

    for (size_t i = 0; wanted && i < sizeof(releases) / sizeof(*releases); i++) {
        if (strcmp(releases[i].name, wanted) == 0) {
            return &releases[i];
        }
    }
#endif
    return &releases[0];
}

static json_t *range(int first, int last)
{
    json_t *list = json_array();

    for (int version = first; version <= last; version++) {
        json_array_append_new(list, json_integer(version));
    }
    return list;
}

const char *lpm_release_version(void)
{
    return release()->version;
}

json_t *lpm_release_rpc_versions(void)
{
    return range(release()->rpc_first, release()->rpc_last);
}

json_t *lpm_release_stream_versions(void)
{
    return range(release()->stream_first, release()->stream_last);
}

uint64_t lpm_release_stream_features(void)
{
    return release()->features;
}

int lpm_release_profiles_max(void)
{
    return lpm_release_has_words() ? LPM_PROFILES_MAX : 1; /* the neighbour knows neither */
}

bool lpm_release_has_words(void)
{
    return release()->rpc_last >= RPC_WITH_WORDS;
}
