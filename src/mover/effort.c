/* SPDX-License-Identifier: Apache-2.0 */
#include "effort.h"

#include "clock.h"

#define INTERVAL_NS (20u * NS_PER_MS)
#define PAUSE_NS    (2u * NS_PER_MS)
#define LATELY_NS   (400u * NS_PER_MS)
#define OUTAGE_NS   (500u * NS_PER_MS) /* between two looks: nothing went, for whatever reason */
enum {
    BEGIN_ROW = 2,
    BEGIN_ROW_KNOWN = 3,
    PACKING_ROW = 2, /* the first that packs */
    PATIENCE = 2,    /* intervals, one after another, before the link is believed */
    TRIAL = 5,       /* intervals before a row is judged by how fast the stream goes */
    MEMORY = 150,    /* intervals that what was seen of not packing is believed */
    RETRY = 20,      /* intervals of a full link before packing is tried again */
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

void effort_note(Effort *effort, uint64_t raw, uint64_t unpacked)
{
    effort->raw += raw;
    effort->unpacked += unpacked;
}

static void flow_note(EffortFlow *flow, uint64_t bytes, uint64_t ns)
{
    if (flow->ns > LATELY_NS) {
        flow->bytes /= 2;
        flow->ns /= 2;
    }
    flow->bytes += bytes;
    flow->ns += ns;
}

/* What is not packed must go faster by a quarter: it costs the link, and others who use it. */
static bool plain_is_faster(const Effort *effort)
{
    return (double)effort->plain.bytes * (double)effort->packed.ns * 4 >
           (double)effort->packed.bytes * (double)effort->plain.ns * 5;
}

static void take_row(Effort *effort, unsigned row)
{
    effort->row = row;
    effort->steady = effort->full = effort->low = effort->held = 0;
}

/* Where pages are mostly known, packing the rest costs little, and looking them up less than
 * sending them. */
static bool is_mostly_known(const Effort *effort)
{
    return effort->unpacked < effort->raw / 100 * LITTLE_BELOW;
}

/* Nothing is packed. */
static void judge_plain(Effort *effort)
{
    if (effort->full == 0 && is_mostly_known(effort)) {
        take_row(effort, PACKING_ROW);
        return;
    }
    bool limited = effort->full >= PATIENCE && (effort->packed.ns == 0 || ++effort->held >= RETRY);
    bool slower = effort->steady >= TRIAL && effort->packed.ns != 0 && !plain_is_faster(effort);
    if (limited || slower)
        take_row(effort, PACKING_ROW);
    else if (effort->row == 1 && effort->low >= PATIENCE)
        effort->row = 0;
}

static void judge_packed(Effort *effort)
{
    if (effort->full >= PATIENCE && effort->row + 1 < ROWS) {
        take_row(effort, effort->row + 1);
    } else if (effort->low > 0 && effort->row > PACKING_ROW) {
        take_row(effort, effort->row - 1);
    } else if (effort->low >= PATIENCE && effort->steady >= TRIAL && !is_mostly_known(effort)) {
        if (effort->plain.ns == 0 || plain_is_faster(effort))
            take_row(effort, 1);
        else if (++effort->held >= MEMORY)
            effort->plain = (EffortFlow){0};
    }
}

/* The first interval of a row tells more of what the buffers held than of the row. */
static void note_flow(Effort *effort, uint64_t span_ns)
{
    if (effort->steady++ == 0)
        return;
    if (effort->row < PACKING_ROW)
        flow_note(&effort->plain, effort->raw, span_ns);
    else if (effort->row == PACKING_ROW)
        flow_note(&effort->packed, effort->raw, span_ns);
}

/* A link that was down says nothing of how fast the stream goes, nor of what limits it. */
static void begin_anew(Effort *effort, uint64_t now_ns, uint64_t blocked_ns)
{
    effort->since_ns = now_ns;
    effort->blocked_ns = blocked_ns;
    effort->active_ns = effort->raw = effort->unpacked = 0;
    effort->steady = effort->full = effort->low = 0;
}

void effort_judge(Effort *effort, uint64_t now_ns, uint64_t blocked_ns, unsigned senders)
{
    uint64_t blocked = blocked_ns - effort->blocked_ns, step = now_ns - effort->last_ns;
    effort->last_ns = now_ns;
    if (step > OUTAGE_NS) {
        begin_anew(effort, now_ns, blocked_ns);
        return;
    }
    effort->active_ns += step > PAUSE_NS + blocked ? PAUSE_NS : step;
    if (effort->active_ns < INTERVAL_NS || senders == 0)
        return;
    uint64_t percent = blocked * 100 / (effort->active_ns * senders);
    effort->full = percent > MORE_ABOVE ? effort->full + 1 : 0;
    effort->low = percent < LESS_BELOW ? effort->low + 1 : 0;
    note_flow(effort, now_ns - effort->since_ns);
    if (effort->row < PACKING_ROW)
        judge_plain(effort);
    else
        judge_packed(effort);
    effort->since_ns = now_ns;
    effort->active_ns = effort->raw = effort->unpacked = 0;
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
