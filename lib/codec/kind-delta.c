/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of which most is as the image holds it at their place. Data of each: number of steps, then
 * for each step how many bytes stay and how many are new, then all new bytes together. Steps first
 * and bytes together, since they pack better among their like.
 */
#include "codec/internal.h"

#include <string.h>

enum {
    PAGE = LPM_QSTREAM_PAGE_SIZE,
    STEPS_MAX = 512,
    WORTH_MAX = 3 * PAGE / 4, /* above, a literal packs as well */
    STEP_WORTH = 4,           /* fewer equal bytes than that cost more as a step than as bytes */
};

typedef struct {
    uint16_t skip, copy;
} Step;

/* The first place from @at where the pages are equal (@equal) or differ; PAGE when none is. */
static unsigned find(const uint8_t *old, const uint8_t *new, unsigned at, bool equal)
{
    while (!equal && at % 8 == 0 && at < PAGE && memcmp(old + at, new + at, 8) == 0)
        at += 8;
    while (at < PAGE && (old[at] == new[at]) != equal) {
        at++;
        while (!equal && at % 8 == 0 && at < PAGE && memcmp(old + at, new + at, 8) == 0)
            at += 8;
    }
    return at;
}

/* The end of the differing bytes from @at on, over gaps too short to be worth a step. */
static unsigned end_of_new(const uint8_t *old, const uint8_t *new, unsigned at)
{
    for (;;) {
        unsigned end = find(old, new, at, true);
        at = find(old, new, end, false);
        if (at == PAGE || at - end >= STEP_WORTH)
            return end;
    }
}

/* How many steps; 0 when a delta is not worth it. */
static unsigned compare(const uint8_t *old, const uint8_t *new, Step *steps)
{
    unsigned n = 0, done = 0, cost = 0;
    for (;;) {
        unsigned start = find(old, new, done, false);
        if (start == PAGE)
            return n;
        unsigned end = end_of_new(old, new, start);
        cost += end - start + STEP_WORTH;
        if (n == STEPS_MAX || cost > WORTH_MAX)
            return 0;
        steps[n++] = (Step){(uint16_t)(start - done), (uint16_t)(end - start)};
        done = end;
    }
}

bool lpm_codec_take_delta(LpmCodecWork *work, LpmCodecPage *page)
{
    Step steps[STEPS_MAX];
    const LpmCodecImage *image = work->image;
    if (!image->content(image->context, page->at.block, page->at.page, work->page))
        return false;
    unsigned n = compare(work->page, page->data, steps), at = 0;
    if (n == 0)
        return false;
    size_t before = work->data.at;
    lpm_codec_put_varint(&work->data, n);
    for (unsigned i = 0; i < n; i++) {
        lpm_codec_put_varint(&work->data, steps[i].skip);
        lpm_codec_put_varint(&work->data, steps[i].copy);
    }
    for (unsigned i = 0; i < n; i++) {
        at += steps[i].skip;
        lpm_bytes_put(&work->data, page->data + at, steps[i].copy);
        at += steps[i].copy;
    }
    work->batch.bytes_delta += work->data.at - before;
    return true;
}

/* Reads the steps; false when they leave the page. */
static bool get_steps(LpmByteReader *data, Step *steps, unsigned *ret_n, unsigned *ret_new)
{
    unsigned n = (unsigned)lpm_codec_get_varint(data, STEPS_MAX), at = 0, total = 0;
    for (unsigned i = 0; i < n; i++) {
        unsigned skip = (unsigned)lpm_codec_get_varint(data, PAGE - at);
        unsigned copy = (unsigned)lpm_codec_get_varint(data, PAGE - at - skip);
        if (data->bad || copy == 0)
            return false;
        steps[i] = (Step){(uint16_t)skip, (uint16_t)copy};
        at += skip + copy;
        total += copy;
    }
    *ret_n = n;
    *ret_new = total;
    return !data->bad && n > 0;
}

bool lpm_codec_check_delta(const LpmCodecRun *run, LpmByteReader *data)
{
    (void)run;
    Step steps[STEPS_MAX];
    unsigned n, size;
    return get_steps(data, steps, &n, &size) && lpm_bytes_borrow(data, size) != NULL;
}

bool lpm_codec_build_delta(const LpmCodecImage *image, LpmCodecRun *run, uint64_t i, uint8_t *out)
{
    Step steps[STEPS_MAX];
    unsigned n, size;
    if (!image->content(image->context, run->at.block, run->at.page + i, out) ||
        !get_steps(&run->data, steps, &n, &size))
        return false;
    for (unsigned s = 0; s < n; s++) {
        out += steps[s].skip;
        lpm_bytes_get(&run->data, out, steps[s].copy);
        out += steps[s].copy;
    }
    return true;
}
