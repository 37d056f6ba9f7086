/* SPDX-License-Identifier: Apache-2.0 */
#include "mobility/mobility.h"
#include "mobility/record.h"

#include <glib.h>
#include <string.h>

/* --- tables --- */

typedef struct {
    const LpmMobRow *rows;
    size_t n;
    unsigned journals, qemus;
} Table;

static Table table_of(LpmMobMachine machine)
{
    Table table = {0};
    bool src = machine == LPM_MOB_SRC;
    table.rows = src ? lpm_mob_src_rows(&table.n) : lpm_mob_dst_rows(&table.n);
    table.journals = src ? (unsigned)LPM_MOB_SRC_N : (unsigned)LPM_MOB_DST_N;
    table.qemus = src ? (unsigned)LPM_MOB_SRC_QEMU_N : (unsigned)LPM_MOB_DST_QEMU_N;
    return table;
}

/* Exactly one row for each combination, and no row that never applies. */
static void one_row_each(gconstpointer data)
{
    LpmMobMachine machine = (LpmMobMachine)GPOINTER_TO_UINT(data);
    Table table = table_of(machine);
    g_autofree unsigned *used = g_new0(unsigned, table.n);
    for (unsigned j = 0; j < table.journals; j++) {
        for (unsigned r = 0; r < LPM_MOB_REC_N; r++) {
            for (unsigned q = 0; q < table.qemus; q++) {
                unsigned matches = 0;
                for (size_t i = 0; i < table.n; i++) {
                    const LpmMobRow *row = &table.rows[i];
                    if ((row->journal >> j & 1) && (row->record >> r & 1) && (row->qemu >> q & 1)) {
                        matches++;
                        used[i]++;
                    }
                }
                if (matches != 1) {
                    g_test_message("%s %s %s: %u rows", lpm_mob_state_name(machine, j),
                                   lpm_mob_record_view_name((LpmMobRecordView)r),
                                   lpm_mob_qemu_name(machine, q), matches);
                }
                g_assert_cmpuint(matches, ==, 1);
            }
        }
    }
    for (size_t i = 0; i < table.n; i++) {
        g_assert_cmpuint(used[i], >, 0);
    }
}

#define SRC(j, r, q)                                                                               \
    lpm_mob_src_decide(LPM_MOB_SRC_##j, LPM_MOB_REC_##r, LPM_MOB_SRC_QEMU_##q)->action
#define DST(j, r, q)                                                                               \
    lpm_mob_dst_decide(LPM_MOB_DST_##j, LPM_MOB_REC_##r, LPM_MOB_DST_QEMU_##q)->action

/* What must hold whatever the rows look like. */
static void src_rules(void)
{
    for (unsigned j = 0; j < LPM_MOB_SRC_N; j++) {
        for (unsigned r = 0; r < LPM_MOB_REC_N; r++) {
            for (unsigned q = 0; q < LPM_MOB_SRC_QEMU_N; q++) {
                unsigned action = lpm_mob_src_decide(j, r, q)->action;
                if (action == LPM_MOB_SRC_DO_CONT) {
                    g_assert_cmpuint(j, ==, LPM_MOB_SRC_ABORT);
                    g_assert_cmpuint(r, ==, LPM_MOB_REC_BACK);
                    g_assert_cmpuint(q, ==, LPM_MOB_SRC_QEMU_COMPLETED);
                }
                if (action == LPM_MOB_SRC_DO_LEFT) {
                    g_assert_cmpuint(r, ==, LPM_MOB_REC_TARGET);
                }
                /* Memory that the target still needs is not thrown away, and never runs again. */
                if (q == LPM_MOB_SRC_QEMU_SERVING) {
                    g_assert_cmpuint(action, !=, LPM_MOB_SRC_DO_LEFT);
                    g_assert_cmpuint(action, !=, LPM_MOB_SRC_DO_CONT);
                    g_assert_cmpuint(action, !=, LPM_MOB_SRC_DO_CANCEL);
                    g_assert_cmpuint(action, !=, LPM_MOB_SRC_DO_STAYED);
                }
                if (action == LPM_MOB_SRC_DO_LOST) {
                    g_assert_cmpuint(q, ==, LPM_MOB_SRC_QEMU_SERVING);
                    g_assert_cmpuint(r, ==, LPM_MOB_REC_BACK);
                }
                if (action == LPM_MOB_SRC_DO_STAYED) {
                    g_assert_cmpuint(r, ==, LPM_MOB_REC_BACK);
                    g_assert_cmpuint(j, ==, LPM_MOB_SRC_ABORT);
                }
                /* Without post only what can never run here again. */
                if (action == LPM_MOB_SRC_DO_OFFER) {
                    g_assert_true(j == LPM_MOB_SRC_POST ||
                                  (j == LPM_MOB_SRC_ABORT && q == LPM_MOB_SRC_QEMU_SERVING));
                    g_assert_cmpuint(r, ==, LPM_MOB_REC_SOURCE);
                }
                if (q == LPM_MOB_SRC_QEMU_DEVICE || q == LPM_MOB_SRC_QEMU_UNSURE) {
                    g_assert_cmpuint(action, !=, LPM_MOB_SRC_DO_CANCEL);
                    g_assert_cmpuint(action, !=, LPM_MOB_SRC_DO_CONT);
                }
                if (r == LPM_MOB_REC_TAKEN && j == LPM_MOB_SRC_POST) {
                    g_assert_cmpuint(action, ==, LPM_MOB_SRC_DO_WAIT);
                }
            }
        }
    }
    g_assert_cmpuint(SRC(PRECOPY, SOURCE, RUNNING), ==, LPM_MOB_SRC_DO_CANCEL);
    g_assert_cmpuint(SRC(SWITCH, SOURCE, DEVICE), ==, LPM_MOB_SRC_DO_YANK);
    g_assert_cmpuint(SRC(POST, OFFER, COMPLETED), ==, LPM_MOB_SRC_DO_BACK);
    g_assert_true(
        lpm_mob_src_decide(LPM_MOB_SRC_POST, LPM_MOB_REC_OFFER, LPM_MOB_SRC_QEMU_COMPLETED)
            ->patient);
    g_assert_cmpuint(SRC(POST, SOURCE, DEAD), ==, LPM_MOB_SRC_DO_OFFER);
}

static void dst_rules(void)
{
    for (unsigned j = 0; j < LPM_MOB_DST_N; j++) {
        for (unsigned r = 0; r < LPM_MOB_REC_N; r++) {
            for (unsigned q = 0; q < LPM_MOB_DST_QEMU_N; q++) {
                unsigned action = lpm_mob_dst_decide(j, r, q)->action;
                if (action == LPM_MOB_DST_DO_CONT) {
                    g_assert_cmpuint(j, ==, LPM_MOB_DST_INTENT);
                    g_assert_cmpuint(r, ==, LPM_MOB_REC_TAKEN);
                    g_assert_true(q == LPM_MOB_DST_QEMU_PAUSED || q == LPM_MOB_DST_QEMU_HALF);
                }
                if (action == LPM_MOB_DST_DO_TAKE) {
                    g_assert_cmpuint(j, ==, LPM_MOB_DST_LOADED);
                    g_assert_true(q == LPM_MOB_DST_QEMU_PAUSED || q == LPM_MOB_DST_QEMU_HALF);
                }
                if (action == LPM_MOB_DST_DO_RETURN) {
                    g_assert_true((j == LPM_MOB_DST_LOADED && q == LPM_MOB_DST_QEMU_DEAD) ||
                                  j == LPM_MOB_DST_CLEANED);
                }
                if (action == LPM_MOB_DST_DO_ARRIVED) {
                    g_assert_cmpuint(q, !=, LPM_MOB_DST_QEMU_FILLING);
                }
                if (action == LPM_MOB_DST_DO_DISCARD) {
                    g_assert_true(r != LPM_MOB_REC_TAKEN && r != LPM_MOB_REC_TARGET &&
                                  r != LPM_MOB_REC_UNKNOWN);
                }
            }
        }
    }
    g_assert_cmpuint(DST(LOADED, SOURCE, PAUSED), ==, LPM_MOB_DST_DO_WAIT);
    g_assert_cmpuint(DST(INTENT, TAKEN, DEAD), ==, LPM_MOB_DST_DO_RUNNING);
    g_assert_cmpuint(DST(CLEANED, OFFER, DEAD), ==, LPM_MOB_DST_DO_REFUSE);
}

/* Values outside the enums are reported, never acted upon. */
static void outside(void)
{
    g_assert_cmpuint(lpm_mob_src_decide(99, 0, 0)->action, ==, LPM_MOB_SRC_DO_REPORT);
    g_assert_cmpuint(lpm_mob_dst_decide(0, 99, 0)->action, ==, LPM_MOB_DST_DO_REPORT);
    unsigned to = 77;
    g_assert_false(lpm_mob_step(LPM_MOB_SRC, LPM_MOB_SRC_CLEANED, LPM_MOB_EV_ABORT, &to));
    g_assert_cmpuint(to, ==, 77);
}

static void collect(const char *line, void *data)
{
    g_string_append_printf(data, "%s\n", line);
}

/* The document has the rows of the code, word for word. */
static void document_agrees(gconstpointer data)
{
    LpmMobMachine machine = (LpmMobMachine)GPOINTER_TO_UINT(data);
    const char *mark =
        machine == LPM_MOB_SRC ? "<!-- rows: source -->\n" : "<!-- rows: target -->\n";
    g_autofree char *path =
        g_build_filename(g_test_get_dir(G_TEST_DIST), "../../docs/spec/handover.md", NULL);
    g_autofree char *text = NULL;
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    const char *start = strstr(text, mark);
    g_assert_nonnull(start);
    start += strlen(mark);
    const char *end = strstr(start, "<!-- end -->");
    g_assert_nonnull(end);
    g_autofree char *written = g_strndup(start, (gsize)(end - start));
    g_autoptr(GString) printed = g_string_new(NULL);
    lpm_mob_print_rows(machine, collect, printed);
    g_assert_cmpstr(written, ==, printed->str);
}

/* Names go both ways; every edge leads from and to a named state; the picture has them all. */
static void names_and_edges(void)
{
    for (unsigned m = 0; m < LPM_MOB_MACHINE_N; m++) {
        size_t n = 0;
        const LpmMobEdge *edges = lpm_mob_edges(m, &n);
        g_autoptr(GString) dot = g_string_new(NULL);
        lpm_mob_print_dot(m, collect, dot);
        for (size_t i = 0; i < n; i++) {
            const char *to_name = lpm_mob_state_name(m, edges[i].to);
            unsigned to = 0, back = 0;
            g_assert_true(lpm_mob_step(m, edges[i].from, edges[i].event, &to));
            g_assert_cmpuint(to, ==, edges[i].to);
            g_assert_true(lpm_mob_state_from_name(m, to_name, &back));
            g_assert_cmpuint(back, ==, edges[i].to);
            g_autofree char *arrow = g_strdup_printf("\"%s\" -> \"%s\" [label=\"%s\"]",
                                                     lpm_mob_state_name(m, edges[i].from), to_name,
                                                     lpm_mob_event_name(edges[i].event));
            g_assert_nonnull(strstr(dot->str, arrow));
            for (size_t k = 0; k < i; k++) {
                g_assert_false(edges[k].from == edges[i].from && edges[k].event == edges[i].event);
            }
        }
    }
    g_assert_cmpstr(lpm_mob_state_name(LPM_MOB_SRC, 99), ==, "?");
    unsigned none = 0;
    g_assert_false(lpm_mob_state_from_name(LPM_MOB_DST, "post", &none));
}

/* --- record --- */

static const uint8_t uuid[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
static const uint8_t move1[16] = {0xaa, 0xbb};
static const uint8_t move2[16] = {0xcc, 0xdd};

static void record_round_trip(void)
{
    LpmRecord first, offer, back;
    uint8_t bytes[LPM_RECORD_SIZE];
    lpm_record_first(uuid, "alpha", 1000, &first);
    g_assert_true(lpm_record_next(&first, LPM_RECORD_OFFER, LPM_RECORD_BY_OWNER, move1, "beta",
                                  2000, &offer));
    lpm_record_encode(&offer, bytes);
    g_assert_cmpmem(bytes, 16, "LPMOWNER\x01\x00\x02\x00\x00\x00\x00\x00", 16);
    g_assert_cmpint(lpm_record_decode(bytes, &back), ==, LPM_RECORD_OK);
    g_assert_cmpmem(&back, sizeof back, &offer, sizeof offer);
    g_assert_cmpstr(back.peer, ==, "beta");
    g_assert_cmpuint(back.revision, ==, 2);
}

/* Each bit of each byte, changed, is seen. */
static void record_damage(void)
{
    LpmRecord first, back = {0};
    uint8_t bytes[LPM_RECORD_SIZE];
    lpm_record_first(uuid, "alpha", 1000, &first);
    lpm_record_encode(&first, bytes);
    for (size_t i = 0; i < LPM_RECORD_SIZE; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            bytes[i] ^= (uint8_t)(1u << bit);
            g_assert_cmpint(lpm_record_decode(bytes, &back), !=, LPM_RECORD_OK);
            bytes[i] ^= (uint8_t)(1u << bit);
        }
    }
    g_assert_cmpuint(back.revision, ==, 0);
}

/* Fields out of range are refused even with a right checksum. */
static void record_fields(void)
{
    LpmRecord good, back;
    uint8_t bytes[LPM_RECORD_SIZE];
    lpm_record_first(uuid, "alpha", 1000, &good);
    LpmRecord bad[7];
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        bad[i] = good;
    }
    bad[0].state = 6;
    bad[1].state = LPM_RECORD_OFFER;                    /* without a peer */
    g_strlcpy(bad[2].peer, "beta", sizeof bad[2].peer); /* settled, with a peer */
    bad[3].owner[0] = '\0';
    memset(bad[4].owner, 'a', sizeof bad[4].owner); /* no end */
    bad[5].owner[10] = 'x';                         /* something behind the end */
    bad[6].revision = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        lpm_record_encode(&bad[i], bytes);
        g_assert_cmpint(lpm_record_decode(bytes, &back), ==, LPM_RECORD_BAD_FIELD);
    }
}

static LpmRecord in_state(LpmRecordState state)
{
    LpmRecord record;
    lpm_record_first(uuid, "alpha", 1, &record);
    record.state = state;
    memcpy(record.move, move1, sizeof move1);
    if (!lpm_record_settled(state)) {
        g_strlcpy(record.peer, "beta", sizeof record.peer);
    }
    return record;
}

/* Only what a swap makes of the record follows it: no other field may differ. */
static void follows_nothing_else(const LpmRecord *now, const LpmRecord *next)
{
    LpmRecord others[7];
    for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
        others[i] = *next;
    }
    others[0].revision++;
    others[1].epoch++;
    others[2].partition[3]++;
    others[3].owner[0]++;
    others[4].state = LPM_RECORD_SRC;
    others[5].state = 0;
    g_strlcpy(others[6].peer, lpm_record_settled(next->state) ? "beta" : "", sizeof others[6].peer);
    g_assert_true(lpm_record_follows(now, next));
    for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
        g_assert_false(lpm_record_follows(now, &others[i]));
    }
    LpmRecord other_move = *next;
    other_move.move[0]++;
    g_assert_cmpint(lpm_record_follows(now, &other_move), ==, lpm_record_settled(now->state));
}

/* The whole matrix of swaps against the document's table. */
static void record_swaps(void)
{
    static const struct {
        LpmRecordState from, to;
        LpmRecordBy by;
    } allowed[] = {
        {LPM_RECORD_SRC, LPM_RECORD_OFFER, LPM_RECORD_BY_OWNER},
        {LPM_RECORD_BACK, LPM_RECORD_OFFER, LPM_RECORD_BY_OWNER},
        {LPM_RECORD_RUN, LPM_RECORD_OFFER, LPM_RECORD_BY_OWNER},
        {LPM_RECORD_SRC, LPM_RECORD_BACK, LPM_RECORD_BY_OWNER},
        {LPM_RECORD_BACK, LPM_RECORD_BACK, LPM_RECORD_BY_OWNER},
        {LPM_RECORD_RUN, LPM_RECORD_BACK, LPM_RECORD_BY_OWNER},
        {LPM_RECORD_OFFER, LPM_RECORD_BACK, LPM_RECORD_BY_OWNER},
        {LPM_RECORD_OFFER, LPM_RECORD_BACK, LPM_RECORD_BY_PEER},
        {LPM_RECORD_OFFER, LPM_RECORD_TAKEN, LPM_RECORD_BY_PEER},
        {LPM_RECORD_TAKEN, LPM_RECORD_RUN, LPM_RECORD_BY_PEER},
        {LPM_RECORD_TAKEN, LPM_RECORD_BACK, LPM_RECORD_BY_PEER},
        {LPM_RECORD_TAKEN, LPM_RECORD_BACK, LPM_RECORD_BY_WORD},
    };
    unsigned possible = 0;
    for (unsigned from = LPM_RECORD_SRC; from <= LPM_RECORD_RUN; from++) {
        LpmRecord now = in_state(from);
        for (unsigned to = LPM_RECORD_SRC; to <= LPM_RECORD_RUN; to++) {
            for (unsigned by = LPM_RECORD_BY_OWNER; by <= LPM_RECORD_BY_WORD; by++) {
                bool expected = false;
                for (size_t i = 0; i < G_N_ELEMENTS(allowed); i++) {
                    expected |=
                        allowed[i].from == from && allowed[i].to == to && allowed[i].by == by;
                }
                LpmRecord next;
                bool got = lpm_record_next(&now, to, by, move1, "beta", 9, &next);
                g_assert_cmpint(got, ==, expected);
                possible += got;
                if (got) {
                    follows_nothing_else(&now, &next);
                    g_assert_cmpuint(next.revision, ==, now.revision + 1);
                    g_assert_cmpuint(next.epoch, ==, now.epoch + (to == LPM_RECORD_RUN));
                    g_assert_cmpstr(next.owner, ==, to == LPM_RECORD_RUN ? "beta" : "alpha");
                    g_assert_cmpstr(next.peer, ==, lpm_record_settled(to) ? "" : "beta");
                }
                /* An offer of another move is nobody's to answer. */
                if (!lpm_record_settled(from)) {
                    g_assert_false(lpm_record_next(&now, to, by, move2, "beta", 9, &next));
                }
            }
        }
    }
    g_assert_cmpuint(possible, ==, G_N_ELEMENTS(allowed));
}

static void record_views(void)
{
    LpmRecord record;
    lpm_record_first(uuid, "alpha", 1, &record);
    g_assert_cmpint(lpm_record_view(NULL, "alpha", move1, 1), ==, LPM_MOB_REC_UNKNOWN);
    g_assert_cmpint(lpm_record_view(&record, "alpha", move1, 1), ==, LPM_MOB_REC_SOURCE);
    g_assert_cmpint(lpm_record_view(&record, "alpha", move1, 7), ==, LPM_MOB_REC_LATER);
    g_assert_cmpint(lpm_record_view(&record, "gamma", move1, 1), ==, LPM_MOB_REC_TARGET);
    record = in_state(LPM_RECORD_OFFER);
    g_assert_cmpint(lpm_record_view(&record, "alpha", move1, 1), ==, LPM_MOB_REC_OFFER);
    g_assert_cmpint(lpm_record_view(&record, "alpha", move2, 0), ==, LPM_MOB_REC_LATER);
    record = in_state(LPM_RECORD_TAKEN);
    g_assert_cmpint(lpm_record_view(&record, "alpha", move1, 1), ==, LPM_MOB_REC_TAKEN);
    record = in_state(LPM_RECORD_BACK);
    g_assert_cmpint(lpm_record_view(&record, "alpha", move1, 1), ==, LPM_MOB_REC_BACK);
    g_assert_cmpint(lpm_record_view(&record, "alpha", move2, 1), ==, LPM_MOB_REC_SOURCE);
}

/* A third system that came after this move is not its target. */
static void record_views_at(void)
{
    LpmRecord record;
    LpmRecordHalf src = {LPM_MOB_SRC, "alpha", "beta", move1, 1, 1};
    LpmRecordHalf dst = {LPM_MOB_DST, "alpha", "beta", move1, 1, 0};
    lpm_record_first(uuid, "beta", 1, &record);
    g_assert_cmpint(lpm_record_view_at(NULL, &dst), ==, LPM_MOB_REC_UNKNOWN);
    g_assert_cmpint(lpm_record_view_at(&record, &dst), ==, LPM_MOB_REC_TARGET);
    g_assert_cmpint(lpm_record_view_at(&record, &src), ==, LPM_MOB_REC_LATER);
    record.epoch = 2;
    g_assert_cmpint(lpm_record_view_at(&record, &src), ==, LPM_MOB_REC_TARGET);
    lpm_record_first(uuid, "gamma", 1, &record);
    record.epoch = 2;
    g_assert_cmpint(lpm_record_view_at(&record, &src), ==, LPM_MOB_REC_TARGET);
    g_assert_cmpint(lpm_record_view_at(&record, &dst), ==, LPM_MOB_REC_LATER);
}

static void record_ids(void)
{
    uint8_t id[16];
    char text[33];
    g_assert_true(lpm_record_id_from_text("01020304-0506-0708-090a-0b0c0d0e0f10", id));
    g_assert_cmpmem(id, 16, uuid, 16);
    lpm_record_id_to_text(id, text);
    g_assert_cmpstr(text, ==, "0102030405060708090a0b0c0d0e0f10");
    g_assert_false(lpm_record_id_from_text("0102", id));
    g_assert_false(lpm_record_id_from_text("0102030405060708090a0b0c0d0e0f1000", id));
    g_assert_false(lpm_record_id_from_text("0102030405060708090a0b0c0d0e0fxx", id));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    gpointer src = GUINT_TO_POINTER(LPM_MOB_SRC), dst = GUINT_TO_POINTER(LPM_MOB_DST);
    g_test_add_data_func("/mobility/src/one-row-each", src, one_row_each);
    g_test_add_data_func("/mobility/dst/one-row-each", dst, one_row_each);
    g_test_add_func("/mobility/src/rules", src_rules);
    g_test_add_func("/mobility/dst/rules", dst_rules);
    g_test_add_func("/mobility/outside", outside);
    g_test_add_data_func("/mobility/src/document", src, document_agrees);
    g_test_add_data_func("/mobility/dst/document", dst, document_agrees);
    g_test_add_func("/mobility/names-and-edges", names_and_edges);
    g_test_add_func("/record/round-trip", record_round_trip);
    g_test_add_func("/record/damage", record_damage);
    g_test_add_func("/record/fields", record_fields);
    g_test_add_func("/record/swaps", record_swaps);
    g_test_add_func("/record/views", record_views);
    g_test_add_func("/record/views-at", record_views_at);
    g_test_add_func("/record/ids", record_ids);
    return g_test_run();
}
