/* SPDX-License-Identifier: Apache-2.0 */
#include "streamtool.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PROGRESS_US = 200 * 1000 };

struct Capture {
    char *path;
    FILE *file;
    LpmQstream *reader;
    LpmQstreamBlocks blocks;
    GRand *split; /* NULL: batches end between units */
    uint64_t size, done;
    gint64 shown;
    size_t batch;
    size_t have; /* bytes in the buffer, from its front */
    size_t used; /* of them, given with the last batch */
    LpmQstreamUnit units[LPM_CODEC_UNITS_MAX];
    uint8_t buffer[LPM_CODEC_RAW_MAX];
};

Capture *capture_open(const char *path, size_t batch, GError **error)
{
    g_autoptr(Capture) capture = g_new0(Capture, 1);
    struct stat status;
    capture->path = g_strdup(path);
    capture->batch = batch;
    capture->file = fopen(path, "rbe");
    if (!capture->file || fstat(fileno(capture->file), &status) < 0) {
        lpm_error_set(error, LPM_ERROR_STORAGE, "cannot read capture '%s': %s", path,
                      g_strerror(errno));
        return NULL;
    }
    capture->size = (uint64_t)status.st_size;
    capture->reader = lpm_qstream_new(&capture->blocks);
    if (!capture->reader) {
        lpm_error_set(error, LPM_ERROR_INTERNAL, "out of memory for capture '%s'", path);
        return NULL;
    }
    return g_steal_pointer(&capture);
}

void capture_free(Capture *capture)
{
    if (!capture)
        return;
    if (capture->file)
        fclose(capture->file);
    lpm_qstream_free(capture->reader);
    g_clear_pointer(&capture->split, g_rand_free);
    g_free(capture->path);
    g_free(capture);
}

void capture_split(Capture *capture, uint32_t seed)
{
    capture->split = g_rand_new_with_seed(seed);
}

const LpmQstreamBlocks *capture_blocks(const Capture *capture)
{
    return &capture->blocks;
}

/* Fills the buffer up to the size of a batch. */
static bool fill(Capture *capture, bool *ret_end, GError **error)
{
    capture->have -= capture->used;
    memmove(capture->buffer, capture->buffer + capture->used, capture->have);
    capture->used = 0;
    size_t got =
        fread(capture->buffer + capture->have, 1, capture->batch - capture->have, capture->file);
    if (ferror(capture->file))
        return lpm_error_set(error, LPM_ERROR_STORAGE, "cannot read capture '%s': %s",
                             capture->path, g_strerror(errno));
    capture->have += got;
    *ret_end = feof(capture->file) != 0;
    return true;
}

bool capture_next(Capture *capture, Batch *ret_batch, GError **error)
{
    bool end = false;
    if (!fill(capture, &end, error))
        return false;
    size_t size = capture->have, n = 0;
    bool flush = end;
    if (capture->split && size > 0) {
        size = (size_t)g_rand_int_range(capture->split, 0, (gint32)size) + 1;
        flush = true;
    }
    capture->used = lpm_qstream_read(capture->reader, capture->buffer, size, flush, capture->units,
                                     G_N_ELEMENTS(capture->units), &n);
    capture->done += capture->used;
    *ret_batch = (Batch){capture->units, n, capture->buffer, capture->used};
    if (capture->used == 0 && capture->have > 0)
        return lpm_error_set(error, LPM_ERROR_INTERNAL,
                             "the reader of the stream stands still at byte %" G_GUINT64_FORMAT
                             " of '%s'",
                             capture->done, capture->path);
    return true;
}

void capture_show_progress(Capture *capture, const char *what)
{
    gint64 now = g_get_monotonic_time();
    bool last = capture->done == capture->size;
    if (!isatty(STDERR_FILENO) || (!last && now - capture->shown < PROGRESS_US))
        return;
    capture->shown = now;
    fprintf(stderr, "\r%s: %3u %% of %" G_GUINT64_FORMAT " MiB%s", what,
            capture->size ? (unsigned)(capture->done * 100 / capture->size) : 100,
            capture->size >> 20, last ? "\n" : "");
}
