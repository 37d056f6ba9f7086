/* SPDX-License-Identifier: Apache-2.0 */
#include "rules.h"

#include "mobility/record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_MAX = 64, BASE_REVISION = 1 };

static const uint8_t partition[LPM_RECORD_ID_SIZE] = {1};
static const uint8_t this_move[LPM_RECORD_ID_SIZE] = {2};
static const uint8_t later_move[LPM_RECORD_ID_SIZE] = {3};

#define NAME(name) [MUTANT_##name] = #name,
static const char *const mutants[] = {MUTANTS(NAME)};

unsigned rule_mutant;
int rule_hints_lie;

static int wait_at[2] = {-1, -1}; /* index of the row that waits instead */

static unsigned char src_used[ROWS_MAX], dst_used[ROWS_MAX];
static unsigned char views[2][REC_N]; /* of the source, of the target */
static unsigned char next_of[REC_N][REC_N][REC_N][3];

/* --- records --- */

static void step(LpmRecord *record, LpmRecordState to, LpmRecordBy by, const uint8_t *move)
{
    LpmRecord next;
    if (!lpm_record_next(record, to, by, move, "dst", 0, &next)) {
        fprintf(stderr, "the model's records cannot be made by the swaps of lib/mobility\n");
        exit(1);
    }
    *record = next;
}

/* The record that @code stands for, as the swaps of lib/mobility make it from a new one. */
static LpmRecord record_of(unsigned code)
{
    LpmRecord record;
    lpm_record_first(partition, "src", 0, &record);
    if (code == REC_LATER) {
        step(&record, LPM_RECORD_BACK, LPM_RECORD_BY_OWNER, later_move);
    }
    if (code == REC_BACK) {
        step(&record, LPM_RECORD_BACK, LPM_RECORD_BY_OWNER, this_move);
    }
    if (code == REC_OFFER || code == REC_TAKEN || code == REC_RUN || code == REC_UNFILLED) {
        step(&record, LPM_RECORD_OFFER, LPM_RECORD_BY_OWNER, this_move);
    }
    if (code == REC_TAKEN || code == REC_RUN || code == REC_UNFILLED) {
        step(&record, LPM_RECORD_TAKEN, LPM_RECORD_BY_PEER, this_move);
    }
    if (code == REC_RUN || code == REC_UNFILLED) {
        step(&record, LPM_RECORD_RUN, LPM_RECORD_BY_PEER, this_move);
    }
    if (code == REC_UNFILLED) {
        step(&record, LPM_RECORD_BACK, LPM_RECORD_BY_OWNER, this_move);
    }
    return record;
}

static unsigned code_of(const LpmRecord *record)
{
    bool by_dst = strcmp(record->owner, "dst") == 0;
    if (memcmp(record->move, this_move, sizeof record->move) != 0) {
        return record->revision == BASE_REVISION ? REC_SRC : REC_LATER;
    }
    switch (record->state) {
    case LPM_RECORD_OFFER:
        return REC_OFFER;
    case LPM_RECORD_TAKEN:
        return REC_TAKEN;
    case LPM_RECORD_BACK:
        return by_dst ? REC_UNFILLED : REC_BACK;
    case LPM_RECORD_RUN:
        return REC_RUN;
    case LPM_RECORD_SRC:
        break;
    }
    return REC_UNKNOWN;
}

static unsigned swap_of(unsigned real, unsigned believed, unsigned to, unsigned by)
{
    static const LpmRecordState states[REC_N] = {
        [REC_OFFER] = LPM_RECORD_OFFER, [REC_TAKEN] = LPM_RECORD_TAKEN,
        [REC_BACK] = LPM_RECORD_BACK,   [REC_UNFILLED] = LPM_RECORD_BACK,
        [REC_RUN] = LPM_RECORD_RUN,
    };
    LpmRecord now = record_of(real), from = record_of(believed), next;
    from.revision = now.revision;
    if (!states[to] ||
        !lpm_record_next(&from, states[to], (LpmRecordBy)by, this_move, "dst", 0, &next)) {
        return 0;
    }
    bool follows = rule_mutant == MUTANT_BELIEVE_BLIND || lpm_record_follows(&now, &next);
    return follows ? code_of(&next) : 0;
}

static unsigned view_of(LpmMobMachine side, unsigned code)
{
    LpmRecord record = record_of(code);
    LpmRecordHalf half = {side, "src", "dst", this_move, BASE_REVISION, 1};
    return lpm_record_view_at(code == REC_UNKNOWN ? NULL : &record, &half);
}

unsigned rule_swap(unsigned real, unsigned believed, unsigned to, unsigned by)
{
    return next_of[real][believed][to][by];
}

/* --- rows --- */

#define SRC(name, j, r, q, action)                                                                 \
    {                                                                                              \
        MUTANT_##name, LPM_MOB_SRC, LPM_MOB_SRC_##j, LPM_MOB_REC_##r, LPM_MOB_SRC_QEMU_##q,        \
            LPM_MOB_SRC_DO_##action                                                                \
    }
#define DST(name, j, r, q, action)                                                                 \
    {                                                                                              \
        MUTANT_##name, LPM_MOB_DST, LPM_MOB_DST_##j, LPM_MOB_REC_##r, LPM_MOB_DST_QEMU_##q,        \
            LPM_MOB_DST_DO_##action                                                                \
    }

/* Wrong rows, which come before the right ones while their mutant is on. */
static const struct {
    unsigned mutant, side, journal, record, qemu, action;
} wrong[] = {
    SRC(RESUME_ON_TIMEOUT, POST, OFFER, COMPLETED, CONT),
    SRC(RESUME_ON_TIMEOUT, POST, OFFER, RUNNING, STAYED),
    DST(NO_INTENT, LOADED, TAKEN, PAUSED, CONT),
    DST(NO_INTENT, LOADED, TAKEN, RUNNING, OWN),
    DST(NO_INTENT, LOADED, TARGET, RUNNING, ARRIVED),
    SRC(END_AT_TAKEN, POST, TAKEN, COMPLETED, LEFT),
    SRC(END_AT_OFFER, POST, OFFER, COMPLETED, LEFT),
    SRC(NO_SETTLED_BACK, ABORT, SOURCE, COMPLETED, CONT),
    SRC(NO_SETTLED_BACK, ABORT, SOURCE, RUNNING, STAYED),
    DST(RETURN_AFTER_INTENT, INTENT, TAKEN, DEAD, RETURN),
    DST(DISCARD_AT_UNKNOWN, LOADED, UNKNOWN, PAUSED, DISCARD),
    SRC(NO_OFFER_WHEN_DEAD, POST, SOURCE, DEAD, ABORT),
    DST(REFUSE_BEFORE_OFFER, LOADED, SOURCE, DEAD, REFUSE),
    SRC(BACK_WHILE_SERVING, ABORT, SOURCE, SERVING, BACK),
    SRC(END_WHILE_SERVING, POST, TARGET, SERVING, LEFT),
};

static unsigned action_of(LpmMobMachine side, unsigned journal, unsigned record, unsigned qemu,
                          unsigned right)
{
    for (size_t i = 0; rule_mutant && i < sizeof wrong / sizeof *wrong; i++) {
        if (wrong[i].mutant == rule_mutant && wrong[i].side == (unsigned)side &&
            wrong[i].journal == journal && wrong[i].record == record && wrong[i].qemu == qemu) {
            return wrong[i].action;
        }
    }
    return right;
}

unsigned rule_src(unsigned journal, unsigned record, unsigned view)
{
    size_t n = 0;
    const LpmMobRow *row =
        lpm_mob_src_decide((LpmMobSrcJournal)journal, (LpmMobRecordView)views[LPM_MOB_SRC][record],
                           (LpmMobSrcQemu)view);
    int index = (int)(row - lpm_mob_src_rows(&n));
    src_used[index] = 1;
    if (index == wait_at[LPM_MOB_SRC]) {
        return LPM_MOB_SRC_DO_WAIT;
    }
    return action_of(LPM_MOB_SRC, journal, views[LPM_MOB_SRC][record], view, row->action);
}

unsigned rule_dst(unsigned journal, unsigned record, unsigned view)
{
    size_t n = 0;
    const LpmMobRow *row =
        lpm_mob_dst_decide((LpmMobDstJournal)journal, (LpmMobRecordView)views[LPM_MOB_DST][record],
                           (LpmMobDstQemu)view);
    int index = (int)(row - lpm_mob_dst_rows(&n));
    dst_used[index] = 1;
    if (index == wait_at[LPM_MOB_DST]) {
        return LPM_MOB_DST_DO_WAIT;
    }
    return action_of(LPM_MOB_DST, journal, views[LPM_MOB_DST][record], view, row->action);
}

/* As state_seen() and decide() of lpm-host's source half: a move that still copies is ended as one
 * in pre-switchover is; memory that the target has given up is not needed any more. */
unsigned rule_src_view(unsigned qemu, unsigned journal, unsigned record)
{
    if (qemu == SQ_ACTIVE) {
        return journal == LPM_MOB_SRC_ABORT ? LPM_MOB_SRC_QEMU_PRE : LPM_MOB_SRC_QEMU_RUNNING;
    }
    if (qemu == SQ_STOPPED || (qemu == LPM_MOB_SRC_QEMU_SERVING && record == REC_UNFILLED)) {
        return LPM_MOB_SRC_QEMU_COMPLETED;
    }
    return qemu;
}

/* --- edges --- */

static int has_edge(LpmMobMachine machine, unsigned from, unsigned to)
{
    size_t n = 0;
    const LpmMobEdge *edges = lpm_mob_edges(machine, &n);
    for (size_t i = 0; i < n; i++) {
        if (edges[i].from == from && edges[i].to == to) {
            return 1;
        }
    }
    return 0;
}

int rule_src_edge(unsigned from, unsigned to)
{
    return has_edge(LPM_MOB_SRC, from, to);
}

int rule_dst_edge(unsigned from, unsigned to)
{
    return has_edge(LPM_MOB_DST, from, to);
}

/* --- begin and end --- */

typedef struct {
    FILE *out;
    const char *side;
    const unsigned char *used;
    int row;
} Printing;

/* Two lines of the printed table are its head. */
static void print_row(const char *line, void *data)
{
    Printing *printing = data;
    if (printing->row >= 0) {
        fprintf(printing->out, "%c %s %d %s\n", printing->used[printing->row] ? '+' : '-',
                printing->side, printing->row, line);
    }
    printing->row++;
}

static void write_rows(void)
{
    const char *path = getenv("LPM_MODEL_ROWS");
    FILE *out = path ? fopen(path, "w") : NULL;
    if (out) {
        lpm_mob_print_rows(LPM_MOB_SRC, print_row, &(Printing){out, "source", src_used, -2});
        lpm_mob_print_rows(LPM_MOB_DST, print_row, &(Printing){out, "target", dst_used, -2});
        fclose(out);
    }
}

static void read_mutant(void)
{
    const char *name = getenv("LPM_MODEL_MUTANT");
    for (unsigned i = 1; name && i < sizeof mutants / sizeof *mutants; i++) {
        if (strcmp(mutants[i], name) == 0) {
            rule_mutant = i;
        }
    }
    if (name && !rule_mutant) {
        fprintf(stderr, "there is no mutant %s\n", name);
        exit(1);
    }
    const char *wait = getenv("LPM_MODEL_wait");
    if (wait) {
        wait_at[wait[0] == 's' ? LPM_MOB_SRC : LPM_MOB_DST] = atoi(strchr(wait, ' '));
    }
    rule_hints_lie = getenv("LPM_MODEL_hints_lie") != NULL;
}

unsigned char rule_bound(const char *what)
{
    char name[64];
    snprintf(name, sizeof name, "LPM_MODEL_%s", what);
    const char *value = getenv(name);
    return value ? (unsigned char)atoi(value) : 0;
}

/* Before main(): the tables that the model looks into are made once. */
__attribute__((constructor)) static void begin(void)
{
    read_mutant();
    for (unsigned real = 1; real < REC_N; real++) {
        for (unsigned believed = 1; believed < REC_N; believed++) {
            for (unsigned to = 1; to < REC_N; to++) {
                for (unsigned by = BY_OWNER; by <= BY_WORD; by++) {
                    next_of[real][believed][to][by] =
                        (unsigned char)swap_of(real, believed, to, by);
                }
            }
        }
    }
    for (unsigned code = 0; code < REC_N; code++) {
        views[LPM_MOB_SRC][code] = (unsigned char)view_of(LPM_MOB_SRC, code);
        views[LPM_MOB_DST][code] = (unsigned char)view_of(LPM_MOB_DST, code);
    }
    atexit(write_rows);
}
