/* SPDX-License-Identifier: Apache-2.0 */
/* What people are told: tests/golden/mobility has every combination that waits or reports. */
#include "mobility/advice.h"

#include <glib.h>
#include <string.h>

static void collect(const char *line, void *data)
{
    g_string_append_printf(data, "%s\n", line);
}

static unsigned journals_of(LpmMobMachine side)
{
    return side == LPM_MOB_SRC ? (unsigned)LPM_MOB_SRC_N : (unsigned)LPM_MOB_DST_N;
}

static unsigned qemus_of(LpmMobMachine side)
{
    return side == LPM_MOB_SRC ? (unsigned)LPM_MOB_SRC_QEMU_N : (unsigned)LPM_MOB_DST_QEMU_N;
}

/* Whether the table of decisions makes this side wait for something, or report. */
static bool stands(LpmMobMachine side, unsigned j, unsigned r, unsigned q)
{
    const LpmMobRow *row =
        side == LPM_MOB_SRC
            ? lpm_mob_src_decide((LpmMobSrcJournal)j, (LpmMobRecordView)r, (LpmMobSrcQemu)q)
            : lpm_mob_dst_decide((LpmMobDstJournal)j, (LpmMobRecordView)r, (LpmMobDstQemu)q);
    if (side == LPM_MOB_SRC) {
        return row->action == LPM_MOB_SRC_DO_WAIT || row->action == LPM_MOB_SRC_DO_REPORT ||
               row->patient;
    }
    return row->action == LPM_MOB_DST_DO_WAIT || row->action == LPM_MOB_DST_DO_REPORT ||
           row->patient;
}

static void exactly_those_that_stand(gconstpointer data)
{
    LpmMobMachine side = (LpmMobMachine)GPOINTER_TO_UINT(data);
    for (unsigned j = 0; j < journals_of(side); j++) {
        for (unsigned r = 0; r < LPM_MOB_REC_N; r++) {
            for (unsigned q = 0; q < qemus_of(side); q++) {
                const LpmMobAdvice *row = lpm_mob_advice(side, j, r, q);
                if ((row != NULL) != stands(side, j, r, q)) {
                    g_test_message("%s %s %s", lpm_mob_state_name(side, j),
                                   lpm_mob_record_view_name((LpmMobRecordView)r),
                                   lpm_mob_qemu_name(side, q));
                    g_test_fail();
                }
                if (row) {
                    g_assert_cmpuint(row->word, <, LPM_MOB_WORD_N);
                    g_assert_true(row->known[0] && row->next[0]);
                    g_assert_cmpint(row->stake[0] != 0, ==, row->word != LPM_MOB_WORD_NONE);
                    g_assert_true(row->word == LPM_MOB_WORD_NONE ||
                                  lpm_mob_word_side((LpmMobWord)row->word) == side);
                }
            }
        }
    }
}

/* LPM_UPDATE_GOLDEN=1 writes the file anew; read the difference before it is committed. */
static void texts(gconstpointer data)
{
    LpmMobMachine side = (LpmMobMachine)GPOINTER_TO_UINT(data);
    g_autoptr(GString) made = g_string_new(NULL);
    g_autofree char *name = g_strdup_printf("../golden/mobility/advice-%s.txt",
                                            side == LPM_MOB_SRC ? "source" : "target");
    g_autofree char *path = g_build_filename(g_test_get_dir(G_TEST_DIST), name, NULL);
    g_autofree char *kept = NULL;
    lpm_mob_print_advice(side, collect, made);
    if (g_getenv("LPM_UPDATE_GOLDEN")) {
        g_assert_true(g_file_set_contents(path, made->str, -1, NULL));
    }
    g_assert_true(g_file_get_contents(path, &kept, NULL, NULL));
    g_assert_cmpstr(made->str, ==, kept);
}

static void nothing_outside(void)
{
    g_assert_null(lpm_mob_advice(LPM_MOB_DRV, 4, 3, 0));
    g_assert_null(lpm_mob_advice(LPM_MOB_SRC, 8, 0, 0));
    g_assert_null(lpm_mob_advice(LPM_MOB_SRC, 0, 32, 0));
    g_assert_null(lpm_mob_advice(LPM_MOB_DST, 2, 0, 40));
}

static void filling_in(void)
{
    const LpmMobNames names = {"system-a", "system-b", "{target}", NULL};
    char text[32];
    size_t whole =
        lpm_mob_fill(text, sizeof text, lpm_mob_word_text(LPM_MOB_WORD_TARGET_OFF), &names);
    g_assert_cmpstr(text, ==, "target system-b is off");
    g_assert_cmpuint(whole, ==, strlen(text));
    /* A name is not looked at again, and a brace that means nothing stays. */
    lpm_mob_fill(text, sizeof text, "{partition} {x} {migration}", &names);
    g_assert_cmpstr(text, ==, "{target} {x} ?");
    whole = lpm_mob_fill(text, 9, "source {source} is off", &names);
    g_assert_cmpstr(text, ==, "source s");
    g_assert_cmpuint(whole, ==, strlen("source system-a is off"));
    g_assert_cmpuint(lpm_mob_fill(NULL, 0, "{source}", &names), ==, 8);
}

static void words(void)
{
    for (unsigned i = 0; i < LPM_MOB_WORD_N; i++) {
        g_assert_cmpuint(lpm_mob_word_from_name(lpm_mob_word_name((LpmMobWord)i)), ==, i);
    }
    g_assert_cmpuint(lpm_mob_word_from_name("force"), ==, LPM_MOB_WORD_NONE);
    g_assert_cmpuint(lpm_mob_word_from_name(NULL), ==, LPM_MOB_WORD_NONE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned side = LPM_MOB_SRC; side <= LPM_MOB_DST; side++) {
        g_autofree char *all = g_strdup_printf("/advice/combinations/%u", side);
        g_autofree char *golden = g_strdup_printf("/advice/texts/%u", side);
        g_test_add_data_func(all, GUINT_TO_POINTER(side), exactly_those_that_stand);
        g_test_add_data_func(golden, GUINT_TO_POINTER(side), texts);
    }
    g_test_add_func("/advice/outside", nothing_outside);
    g_test_add_func("/advice/fill", filling_in);
    g_test_add_func("/advice/words", words);
    return g_test_run();
}
