/* SPDX-License-Identifier: Apache-2.0 */
#include "host/sample.h"

#include <string.h>
#include <xxhash.h>

enum { DIGEST_TEXT = 17, SPREAD = 32 };

/* Where boot records, partition tables and file systems keep what makes them different. */
static const uint64_t telling[] = {0, 4096, 65536, 1048576, 1048576 + 4096, 1048576 + 65536};

static int by_offset(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

unsigned lpm_sample_places(uint64_t size_bytes, uint64_t ret_offsets[LPM_SAMPLE_MAX])
{
    uint64_t blocks = size_bytes / LPM_SAMPLE_BLOCK;
    unsigned n = 0, kept = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(telling); i++) {
        if (telling[i] / LPM_SAMPLE_BLOCK < blocks) {
            ret_offsets[n++] = telling[i];
        }
    }
    for (uint64_t i = 0; i < SPREAD && blocks; i++) {
        ret_offsets[n++] = (blocks - 1) * i / (SPREAD - 1) * LPM_SAMPLE_BLOCK;
    }
    if (blocks) {
        ret_offsets[n++] = (blocks - 1) * LPM_SAMPLE_BLOCK;
    }
    qsort(ret_offsets, n, sizeof(ret_offsets[0]), by_offset);
    for (unsigned i = 0; i < n; i++) {
        if (!kept || ret_offsets[kept - 1] != ret_offsets[i]) {
            ret_offsets[kept++] = ret_offsets[i];
        }
    }
    return kept;
}

/* False: it could not be read. */
static bool digest(LpmSampleRead read, void *data, uint64_t offset, char text[DIGEST_TEXT])
{
    static const uint8_t zeros[LPM_SAMPLE_BLOCK];
    uint8_t bytes[LPM_SAMPLE_BLOCK];

    text[0] = '\0';
    if (!read(data, offset, bytes)) {
        return false;
    }
    if (memcmp(bytes, zeros, sizeof(bytes)) != 0) {
        g_snprintf(text, DIGEST_TEXT, "%016" G_GINT64_MODIFIER "x",
                   (guint64)XXH3_64bits(bytes, sizeof(bytes)));
    }
    return true;
}

json_t *lpm_sample_take(uint64_t size_bytes, unsigned passes, unsigned pause_ms, LpmSampleRead read,
                        void *data)
{
    uint64_t offsets[LPM_SAMPLE_MAX];
    char texts[LPM_SAMPLE_MAX][DIGEST_TEXT];
    bool good[LPM_SAMPLE_MAX];
    unsigned n = lpm_sample_places(size_bytes, offsets);
    json_t *list = json_array();

    for (unsigned i = 0; i < n; i++) {
        good[i] = digest(read, data, offsets[i], texts[i]);
    }
    for (unsigned pass = 1; pass < passes; pass++) {
        g_usleep((gulong)pause_ms * 1000);
        for (unsigned i = 0; i < n; i++) {
            char again[DIGEST_TEXT];

            good[i] =
                good[i] && digest(read, data, offsets[i], again) && strcmp(again, texts[i]) == 0;
        }
    }
    for (unsigned i = 0; i < n; i++) {
        json_array_append_new(list, good[i] ? json_string(texts[i]) : json_null());
    }
    return list;
}
