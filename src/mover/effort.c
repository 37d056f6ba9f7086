/* SPDX-License-Identifier: Apache-2.0 */
#include "effort.h"

#include "clock.h"

#define INTERVAL_NS (20u * NS_PER_MS)
#define PAUSE_NS    (2u * NS_PER_MS)
enum {
    BEGIN_ROW = 2,
    BEGIN_ROW_KNOWN = 3,
    PACKING_ROW = 2, /* the first that packs */
    PATIENCE = 2,    /* intervals at row 1 before coding is given up */
    MEMORY = 150,    /* intervals that a link's capacity is believed in without being seen again */
};
/* Shares of the time, in percent: above, the link limits; below, it does not. */
enum { MORE_ABOVE = 50, LESS_BELOW = 15 };
/* Share of the stream, in percent, below which what is left without packing is little. */
enum { LITTLE_BELOW = 60 };

/* From nothing to all that a slow link is worth, levels of zstd; docs/decisions/coded-batches.md
 * has their speeds: below level 1 nothing is gained. */
static const LpmCodecEffort rows[] = {
    {LPM_CODEC_NO_PACKING, false}, /* not coded at all */
    {LPM_CODEC_NO_PACKING, true},  {1, true}, {2, true}, {3, true}, {5, true}, {7, true},
};
enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

void effort_init(Effort *effort, uint64_t now_ns, bool known)
{
    *effort =
        (Effort){.row = known ? BEGIN_ROW_KNOWN : BEGIN_ROW, .last_ns = now_ns, .since_ns = now_ns};
}

void effort_note(Effort *effort, uint64_t raw, uint64_t coded, uint64_t unpacked)
{
    effort->raw += raw;
    effort->coded += coded;
    effort->unpacked += unpacked;
}

static uint64_t a_second(uint64_t bytes, uint64_t ns)
{
    return (uint64_t)((double)bytes * NS_PER_S / (double)ns);
}

/* The link was full: as much work as it leaves time for. */
static void more(Effort *effort, uint64_t wire_rate)
{
    uint64_t faded = effort->capacity - effort->capacity / 8;
    effort->capacity = wire_rate > faded ? wire_rate : faded;
    effort->held = effort->low = 0;
    if (effort->row + 1 < ROWS)
        effort->row++;
}

/* It was not: less work, unless the stream would then flow no faster. */
static void less(Effort *effort, uint64_t stream_rate)
{
    /* Where pages are mostly known, packing the rest costs little, and looking them up less than
     * sending them. */
    if (effort->row <= PACKING_ROW && effort->unpacked < effort->raw / 100 * LITTLE_BELOW) {
        effort->row = PACKING_ROW;
        return;
    }
    bool worse = effort->row <= PACKING_ROW && effort->capacity != 0 &&
                 effort->capacity < stream_rate + stream_rate / 8;
    if (worse) {
        /* A link may become faster: seen again now and then. */
        effort->capacity = ++effort->held >= MEMORY ? 0 : effort->capacity;
        return;
    }
    effort->held = 0;
    if (effort->row > 1)
        effort->row--;
    else if (effort->row == 1 && ++effort->low >= PATIENCE)
        effort->row = 0;
}

void effort_judge(Effort *effort, uint64_t now_ns, uint64_t blocked_ns, unsigned senders)
{
    uint64_t blocked = blocked_ns - effort->blocked_ns, step = now_ns - effort->last_ns;
    effort->last_ns = now_ns;
    effort->active_ns += step > PAUSE_NS + blocked ? PAUSE_NS : step;
    if (effort->active_ns < INTERVAL_NS || senders == 0)
        return;
    uint64_t percent = blocked * 100 / (effort->active_ns * senders);
    uint64_t span_ns = now_ns - effort->since_ns;
    if (percent > MORE_ABOVE)
        more(effort, a_second(effort->coded, span_ns));
    else if (percent < LESS_BELOW)
        less(effort, a_second(effort->raw, span_ns));
    effort->since_ns = now_ns;
    effort->active_ns = effort->raw = effort->coded = effort->unpacked = 0;
    effort->blocked_ns = blocked_ns;
}

bool effort_passes_through(const Effort *effort)
{
    return effort->row == 0;
}

LpmCodecEffort effort_now(const Effort *effort, bool hurry)
{
    return rows[hurry && effort->row > PACKING_ROW ? PACKING_ROW : effort->row];
}
