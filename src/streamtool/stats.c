/* SPDX-License-Identifier: Apache-2.0 */
/* stats and verify: both sides in one process. */
#include "streamtool.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

typedef struct {
    int64_t encode_ns, decode_ns; /* of the processor: others on the machine do not count */
    unsigned long batches;
} Times;

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec * G_GINT64_CONSTANT(1000000000) + time.tv_nsec;
}

/* One batch there; the same bytes must come out. */
static bool carry(const ToolOptions *options, const Batch *batch, Side *from, Side *to,
                  Times *times, GError **error)
{
    size_t size = 0;
    int64_t start = now();
    size_t body =
        lpm_encoder_encode(from->encoder, batch->units, batch->n, tool_effort(options), from->body);
    int64_t coded = now();
    LpmCodecStatus status = lpm_decoder_decode(to->decoder, from->body, body, to->raw, &size);
    times->encode_ns += coded - start;
    times->decode_ns += now() - coded;
    if (status != LPM_CODEC_OK)
        return lpm_error_set(error, LPM_ERROR_INTERNAL, "batch %lu: %s", times->batches,
                             lpm_codec_status_text(status));
    if (size != batch->size || memcmp(to->raw, batch->data, size) != 0)
        return lpm_error_set(error, LPM_ERROR_INTERNAL, "batch %lu comes out changed",
                             times->batches);
    times->batches++;
    return true;
}

static bool carry_all(const ToolOptions *options, bool split, Times *times,
                      LpmCodecCounts *ret_counts, GError **error)
{
    Batch batch;
    g_autoptr(Capture) capture = capture_open(options->words[0], options->batch, error);
    g_autoptr(Side) from = capture ? side_new(options, error) : NULL;
    g_autoptr(Side) to = from ? side_new(options, error) : NULL;
    if (!to || !side_start(from, capture_blocks(capture), error) || !side_start(to, NULL, error))
        return false;
    if (split)
        capture_split(capture, options->seed);
    for (;;) {
        if (!capture_next(capture, &batch, error))
            return false;
        if (batch.size == 0)
            break;
        if (!carry(options, &batch, from, to, times, error))
            return false;
        capture_show_progress(capture, split ? "verify" : "stats");
    }
    if (from->memory && !lpm_codec_memory_equal(from->memory, to->memory))
        return lpm_error_set(error, LPM_ERROR_INTERNAL, "the images of both sides differ");
    *ret_counts = *lpm_encoder_counts(from->encoder);
    return true;
}

static double rate(uint64_t bytes, int64_t ns)
{
    return ns > 0 ? (double)bytes * 1000 / (double)ns : 0;
}

bool tool_stats(const ToolOptions *options, GError **error)
{
    Times times = {0};
    LpmCodecCounts counts;
    if (!carry_all(options, false, &times, &counts, error))
        return false;
    double encode = rate(counts.bytes_raw, times.encode_ns);
    double decode = rate(counts.bytes_raw, times.decode_ns);
    if (options->json) {
        json_t *value = counts_to_json(&counts);
        json_object_set_new(value, "encode-mb-per-s", json_real(encode));
        json_object_set_new(value, "decode-mb-per-s", json_real(decode));
        print_json(value);
        return true;
    }
    print_counts(&counts);
    printf("encode   %10.0f MB/s of stream, a processor to itself\ndecode   %10.0f MB/s\n", encode,
           decode);
    return true;
}

bool tool_verify(const ToolOptions *options, GError **error)
{
    Times times = {0};
    LpmCodecCounts counts;
    if (!carry_all(options, true, &times, &counts, error)) {
        g_prefix_error(error, "splits of seed %u: ", options->seed);
        return false;
    }
    if (options->json)
        print_json(json_pack("{s:b, s:I, s:I, s:I}", "same", 1, "batches",
                             (json_int_t)times.batches, "stream-bytes",
                             (json_int_t)counts.bytes_raw, "seed", (json_int_t)options->seed));
    else
        printf("%s: %lu batches cut at random, %" G_GUINT64_FORMAT
               " bytes: the same bytes came out, and both images are the same\n",
               options->words[0], times.batches, counts.bytes_raw);
    return true;
}
