/* SPDX-License-Identifier: Apache-2.0 */
#include "effort.h"

#include "clock.h"

#define INTERVAL_NS (20u * NS_PER_MS)
#define PAUSE_NS    (2u * NS_PER_MS)
enum {
    BEGIN_ROW = 2,
    BEGIN_ROW_KNOWN = 3,
    PATIENCE = 2, /* intervals at the bottom before coding is given up */
};
/* Shares of the time, in percent: above, the link limits; below, it does not. */
enum { MORE_ABOVE = 50, LESS_BELOW = 15 };
/* Share of a batch, in percent, below which coding without packing stays. */
enum { SMALL_BELOW = 60 };

/* From nothing to all that a slow link is worth; levels of zstd; docs/decisions/coded-batches.md
 * has their speeds: below level 1 nothing is gained. */
static const LpmCodecEffort rows[] = {
    {LPM_CODEC_NO_PACKING, false}, /* not coded at all */
    {LPM_CODEC_NO_PACKING, true},  {1, true}, {2, true}, {3, true}, {5, true}, {7, true},
};
enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

void effort_init(Effort *effort, uint64_t now_ns, bool known)
{
    *effort = (Effort){.row = known ? BEGIN_ROW_KNOWN : BEGIN_ROW, .last_ns = now_ns};
}

void effort_judge(Effort *effort, uint64_t now_ns, uint64_t blocked_ns, unsigned senders)
{
    uint64_t blocked = blocked_ns - effort->blocked_ns, step = now_ns - effort->last_ns;
    effort->last_ns = now_ns;
    effort->span_ns += step > PAUSE_NS + blocked ? PAUSE_NS : step;
    if (effort->span_ns < INTERVAL_NS || senders == 0)
        return;
    uint64_t percent = blocked * 100 / (effort->span_ns * senders);
    bool small = effort->coded < effort->raw / 100 * SMALL_BELOW;
    effort->span_ns = effort->raw = effort->coded = 0;
    effort->blocked_ns = blocked_ns;
    if (percent > MORE_ABOVE && effort->row + 1 < ROWS)
        effort->row++;
    if (percent >= LESS_BELOW || (small && effort->row == 1)) {
        effort->in_row = 0;
        return;
    }
    /* The last step down is not taken lightly: what passes by is no base for what follows. */
    if (effort->row > 1)
        effort->row--;
    else if (effort->row == 1 && ++effort->in_row >= PATIENCE)
        effort->row = 0;
}

void effort_note(Effort *effort, size_t raw, size_t coded)
{
    effort->raw += raw;
    effort->coded += coded;
}

bool effort_passes_through(const Effort *effort)
{
    return effort->row == 0;
}

LpmCodecEffort effort_now(const Effort *effort)
{
    return rows[effort->row];
}
