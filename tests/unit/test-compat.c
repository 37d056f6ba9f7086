/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of processor compatibility against IBM's tables, row by row. */
#include "base/error.h"
#include "compat-data.h"

static LpmCompat *compat;

static char **modes_of(const char *generation)
{
    return lpm_compat_system_modes_power(compat, generation, NULL);
}

/*
 * Every pair of POWER8 to POWER11 servers of different generation with every preferred mode.
 * @passes and @fails: current modes that an active move takes along and those that the target
 * lacks; both empty: the preferred mode itself is refused, whatever the current one. @restart: mode
 * after the next activation there, the operating system knowing everything.
 */
typedef struct {
    int row;
    const char *source, *target, *preferred, *passes, *fails, *restart;
} Combination;

static const Combination combinations[] = {
    {1, "POWER8", "POWER9", "default", "POWER7,POWER8", "", "POWER9"},
    {2, "POWER8", "POWER9", "POWER7", "POWER7", "", "POWER7"},
    {3, "POWER8", "POWER9", "POWER8", "POWER7,POWER8", "", "POWER8"},
    {4, "POWER8", "POWER10", "default", "POWER8", "POWER7", "POWER10"},
    {5, "POWER8", "POWER10", "POWER7", "", "", NULL},
    {6, "POWER8", "POWER10", "POWER8", "POWER8", "POWER7", "POWER8"},
    {7, "POWER8", "POWER11", "default", "", "POWER7,POWER8", "POWER11"},
    {8, "POWER8", "POWER11", "POWER7", "", "", NULL},
    {9, "POWER8", "POWER11", "POWER8", "", "", NULL},
    {10, "POWER9", "POWER8", "default", "POWER7,POWER8", "POWER9_base,POWER9", "POWER8"},
    {11, "POWER9", "POWER8", "POWER7", "POWER7", "", "POWER7"},
    {12, "POWER9", "POWER8", "POWER8", "POWER7,POWER8", "", "POWER8"},
    {13, "POWER9", "POWER8", "POWER9_base", "", "", NULL},
    {14, "POWER9", "POWER8", "POWER9", "", "", NULL},
    {15, "POWER9", "POWER10", "default", "POWER8,POWER9_base,POWER9", "POWER7", "POWER10"},
    {16, "POWER9", "POWER10", "POWER7", "", "", NULL},
    {17, "POWER9", "POWER10", "POWER8", "POWER8", "POWER7", "POWER8"},
    {18, "POWER9", "POWER10", "POWER9_base", "POWER8,POWER9_base", "POWER7", "POWER9_base"},
    {19, "POWER9", "POWER10", "POWER9", "POWER8,POWER9_base,POWER9", "POWER7", "POWER9"},
    {20, "POWER9", "POWER11", "default", "POWER9_base,POWER9", "POWER7,POWER8", "POWER11"},
    {21, "POWER9", "POWER11", "POWER7", "", "", NULL},
    {22, "POWER9", "POWER11", "POWER8", "", "", NULL},
    {23, "POWER9", "POWER11", "POWER9_base", "POWER9_base", "POWER7,POWER8", "POWER9_base"},
    {24, "POWER9", "POWER11", "POWER9", "POWER9_base,POWER9", "POWER7,POWER8", "POWER9"},
    {25, "POWER10", "POWER8", "default", "POWER8", "POWER9_base,POWER9,POWER10", "POWER8"},
    {26, "POWER10", "POWER8", "POWER8", "POWER8", "", "POWER8"},
    {27, "POWER10", "POWER8", "POWER9_base", "", "", NULL},
    {28, "POWER10", "POWER8", "POWER9", "", "", NULL},
    {29, "POWER10", "POWER8", "POWER10", "", "", NULL},
    {30, "POWER10", "POWER9", "default", "POWER8,POWER9_base,POWER9", "POWER10", "POWER9"},
    {31, "POWER10", "POWER9", "POWER8", "POWER8", "", "POWER8"},
    {32, "POWER10", "POWER9", "POWER9_base", "POWER8,POWER9_base", "", "POWER9_base"},
    {33, "POWER10", "POWER9", "POWER9", "POWER8,POWER9_base,POWER9", "", "POWER9"},
    {34, "POWER10", "POWER9", "POWER10", "", "", NULL},
    {35, "POWER10", "POWER11", "default", "POWER9_base,POWER9,POWER10", "POWER8", "POWER11"},
    {36, "POWER10", "POWER11", "POWER8", "", "", NULL},
    {37, "POWER10", "POWER11", "POWER9_base", "POWER9_base", "POWER8", "POWER9_base"},
    {38, "POWER10", "POWER11", "POWER9", "POWER9_base,POWER9", "POWER8", "POWER9"},
    {39, "POWER10", "POWER11", "POWER10", "POWER9_base,POWER9,POWER10", "POWER8", "POWER10"},
    {40, "POWER11", "POWER8", "default", "", "POWER9_base,POWER9,POWER10,POWER11", "POWER8"},
    {41, "POWER11", "POWER8", "POWER9_base", "", "", NULL},
    {42, "POWER11", "POWER8", "POWER9", "", "", NULL},
    {43, "POWER11", "POWER8", "POWER10", "", "", NULL},
    {44, "POWER11", "POWER8", "POWER11", "", "", NULL},
    {45, "POWER11", "POWER9", "default", "POWER9_base,POWER9", "POWER10,POWER11", "POWER9"},
    {46, "POWER11", "POWER9", "POWER9_base", "POWER9_base", "", "POWER9_base"},
    {47, "POWER11", "POWER9", "POWER9", "POWER9_base,POWER9", "", "POWER9"},
    {48, "POWER11", "POWER9", "POWER10", "", "", NULL},
    {49, "POWER11", "POWER9", "POWER11", "", "", NULL},
    {50, "POWER11", "POWER10", "default", "POWER9_base,POWER9,POWER10", "POWER11", "POWER10"},
    {51, "POWER11", "POWER10", "POWER9_base", "POWER9_base", "", "POWER9_base"},
    {52, "POWER11", "POWER10", "POWER9", "POWER9_base,POWER9", "", "POWER9"},
    {53, "POWER11", "POWER10", "POWER10", "POWER9_base,POWER9,POWER10", "", "POWER10"},
    {54, "POWER11", "POWER10", "POWER11", "", "", NULL},
};

static void assert_verdicts(const Combination *c, const char *list, LpmCompatVerdict expected)
{
    g_auto(GStrv) target = modes_of(c->target);
    g_auto(GStrv) source = modes_of(c->source);
    g_auto(GStrv) currents = g_strsplit(list, ",", -1);

    for (size_t i = 0; currents[i]; i++) {
        LpmCompatVerdict found = lpm_compat_can_move(compat, c->preferred, currents[i],
                                                     (const char *const *)target, true);

        g_test_message("row %d: %s to %s, preferred %s, current %s", c->row, c->source, c->target,
                       c->preferred, currents[i]);
        g_assert_true(g_strv_contains((const char *const *)source, currents[i]));
        g_assert_cmpint(found, ==, expected);
    }
}

static void test_combinations(void)
{
    g_assert_cmpuint(G_N_ELEMENTS(combinations), ==, 54);
    for (size_t i = 0; i < G_N_ELEMENTS(combinations); i++) {
        const Combination *c = &combinations[i];
        g_auto(GStrv) target = modes_of(c->target);
        bool refused = !*c->passes && !*c->fails;
        LpmCompatVerdict inactive =
            lpm_compat_can_move(compat, c->preferred, NULL, (const char *const *)target, false);
        const LpmMode *restart;

        g_test_message("row %d", c->row);
        g_assert_cmpint(inactive, ==, refused ? LPM_COMPAT_NO_PREFERRED : LPM_COMPAT_OK);
        if (refused) {
            g_auto(GStrv) any = modes_of(c->source);
            g_autofree char *list = g_strjoinv(",", any);

            g_assert_null(c->restart);
            assert_verdicts(c, list, LPM_COMPAT_NO_PREFERRED);
            continue;
        }
        assert_verdicts(c, c->passes, LPM_COMPAT_OK);
        assert_verdicts(c, c->fails, LPM_COMPAT_NO_CURRENT);
        restart = lpm_compat_at_activation(compat, LPM_FAMILY_POWER, c->preferred,
                                           (const char *const *)target, NULL);
        g_assert_nonnull(restart);
        g_assert_cmpstr(restart->name, ==, c->restart);
    }
}

/* Preferred "default": the current modes that survive each pair, POWER5 and POWER7+ left out as in
 * the source. */
#define N_GENERATIONS 7
static const char *const generations[N_GENERATIONS] = {
    "POWER6", "POWER6+", "POWER7", "POWER8", "POWER9", "POWER10", "POWER11",
};
static const char *const survivors[N_GENERATIONS][N_GENERATIONS] = {
    {"POWER6,POWER6_enhanced", "POWER6", "POWER6", "POWER6", "", "", ""},
    {"POWER6", "POWER6,POWER6+,POWER6+_enhanced", "POWER6,POWER6+", "POWER6,POWER6+", "", "", ""},
    {"POWER6", "POWER6,POWER6+", "POWER6,POWER6+,POWER7", "POWER6,POWER6+,POWER7", "POWER7", "",
     ""},
    {"POWER6", "POWER6,POWER6+", "POWER6,POWER6+,POWER7", "POWER6,POWER6+,POWER7,POWER8",
     "POWER7,POWER8", "POWER8", ""},
    {"", "", "POWER7", "POWER7,POWER8", "POWER7,POWER8,POWER9_base,POWER9",
     "POWER8,POWER9_base,POWER9", "POWER9_base,POWER9"},
    {"", "", "", "POWER8", "POWER8,POWER9_base,POWER9", "POWER8,POWER9_base,POWER9,POWER10",
     "POWER9_base,POWER9,POWER10"},
    {"", "", "", "", "POWER9_base,POWER9", "POWER9_base,POWER9,POWER10",
     "POWER9_base,POWER9,POWER10,POWER11"},
};

static void assert_survivors(const char *source, const char *target, const char *expected)
{
    g_auto(GStrv) here = modes_of(source);
    g_auto(GStrv) there = modes_of(target);
    g_auto(GStrv) wanted = g_strsplit(expected, ",", -1);

    g_test_message("%s to %s: %s", source, target, expected);
    for (size_t i = 0; here[i]; i++) {
        LpmCompatVerdict found;

        if (g_str_equal(here[i], "POWER5") || g_str_equal(here[i], "POWER7+")) {
            continue;
        }
        found = lpm_compat_can_move(compat, "default", here[i], (const char *const *)there, true);
        g_test_message("current %s", here[i]);
        g_assert_cmpint(found, ==,
                        g_strv_contains((const char *const *)wanted, here[i])
                            ? LPM_COMPAT_OK
                            : LPM_COMPAT_NO_CURRENT);
    }
    for (size_t i = 0; wanted[i]; i++) {
        g_assert_true(g_strv_contains((const char *const *)here, wanted[i]));
    }
}

static void test_survivors(void)
{
    for (size_t s = 0; s < N_GENERATIONS; s++) {
        for (size_t t = 0; t < N_GENERATIONS; t++) {
            assert_survivors(generations[s], generations[t], survivors[s][t]);
        }
    }
    assert_survivors("POWER7+", "POWER7", survivors[2][2]);
    assert_survivors("POWER7", "POWER7+", survivors[2][2]);
    assert_survivors("POWER7+", "POWER8", survivors[2][3]);
    assert_survivors("POWER8", "POWER7+", survivors[3][2]);
    assert_survivors("POWER7+", "POWER9", survivors[2][4]);
}

/* IBM's published rows for POWER7 sources. @restart: mode after the next activation there. */
typedef struct {
    const char *target, *preferred, *currents;
    LpmCompatVerdict expected;
    const char *restart;
} Classic;

static const Classic classics[] = {
    {"POWER7", "default", "POWER7,POWER6+,POWER6,POWER5", LPM_COMPAT_OK, "POWER7"},
    {"POWER7", "POWER7", "POWER7,POWER6+,POWER6,POWER5", LPM_COMPAT_OK, "POWER7"},
    {"POWER7", "POWER6+", "POWER6+,POWER6,POWER5", LPM_COMPAT_OK, "POWER6+"},
    {"POWER7", "POWER6", "POWER6,POWER5", LPM_COMPAT_OK, "POWER6"},
    {"POWER6+", "default", "POWER7", LPM_COMPAT_NO_CURRENT, "POWER6+"},
    {"POWER6+", "default", "POWER6+,POWER6,POWER5", LPM_COMPAT_OK, "POWER6+"},
    {"POWER6+", "POWER7", "POWER7,POWER6+,POWER6,POWER5", LPM_COMPAT_NO_PREFERRED, NULL},
};

static void test_classics(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(classics); i++) {
        const Classic *c = &classics[i];
        g_auto(GStrv) target = modes_of(c->target);
        g_auto(GStrv) currents = g_strsplit(c->currents, ",", -1);

        for (size_t j = 0; currents[j]; j++) {
            g_assert_cmpint(lpm_compat_can_move(compat, c->preferred, currents[j],
                                                (const char *const *)target, true),
                            ==, c->expected);
        }
        if (c->restart) {
            const LpmMode *mode = lpm_compat_at_activation(compat, LPM_FAMILY_POWER, c->preferred,
                                                           (const char *const *)target, NULL);

            g_assert_nonnull(mode);
            g_assert_cmpstr(mode->name, ==, c->restart);
        }
    }
}

static const char *activate(const char *preferred, const char *server, const char *os)
{
    g_auto(GStrv) modes = modes_of(server);
    g_auto(GStrv) known = os ? g_strsplit(os, ",", -1) : NULL;
    const LpmMode *mode =
        lpm_compat_at_activation(compat, LPM_FAMILY_POWER, preferred, (const char *const *)modes,
                                 (const char *const *)known);

    return mode ? mode->name : NULL;
}

static void test_activation(void)
{
    /* The highest the server has is POWER7+, the operating system knows POWER7: it runs POWER7. */
    g_assert_cmpstr(activate("default", "POWER7+", "POWER7,POWER6+,POWER6"), ==, "POWER7");
    g_assert_cmpstr(activate("default", "POWER7+", NULL), ==, "POWER7+");
    /* A named mode that the operating system does not know gives the best below it. */
    g_assert_cmpstr(activate("POWER8", "POWER9", "POWER7,POWER6"), ==, "POWER7");
    g_assert_cmpstr(activate("POWER8", "POWER9", "POWER7,POWER9"), ==, "POWER7");
    g_assert_cmpstr(activate("POWER8", "POWER11", NULL), ==, NULL);
    g_assert_cmpstr(activate("nonsense", "POWER9", NULL), ==, NULL);
    g_assert_cmpstr(activate("x86-64-v2", "POWER9", NULL), ==, NULL);
    /* Enhanced modes come only on request. */
    g_assert_cmpstr(activate("default", "POWER6", NULL), ==, "POWER6");
    g_assert_cmpstr(activate("POWER6_enhanced", "POWER6", NULL), ==, "POWER6_enhanced");
    g_assert_cmpstr(activate("default", "POWER9", "POWER9_base,POWER8"), ==, "POWER9_base");
}

static void test_firmware(void)
{
    g_auto(GStrv) old = lpm_compat_system_modes_power(compat, "POWER9", "FW910");
    g_auto(GStrv) later = lpm_compat_system_modes_power(compat, "POWER9", "FW950.10");
    g_auto(GStrv) unknown = lpm_compat_system_modes_power(compat, "POWER12", NULL);
    g_autofree char *list = g_strjoinv(",", later);

    g_assert_false(g_strv_contains((const char *const *)old, "POWER9"));
    g_assert_true(g_strv_contains((const char *const *)old, "POWER9_base"));
    g_assert_cmpstr(list, ==, "POWER9,POWER9_base,POWER8,POWER7");
    g_assert_null(unknown[0]);
    g_assert_cmpint(
        lpm_compat_can_move(compat, "default", "POWER9", (const char *const *)old, true), ==,
        LPM_COMPAT_NO_CURRENT);
}

static const char *common(const char *const *servers, size_t n)
{
    char **sets[4] = {NULL};
    const LpmMode *mode;

    for (size_t i = 0; i < n; i++) {
        sets[i] = modes_of(servers[i]);
    }
    mode = lpm_compat_common(compat, (const char *const *const *)sets, n);
    for (size_t i = 0; i < n; i++) {
        g_strfreev(sets[i]);
    }
    return mode ? mode->name : NULL;
}

static void test_common(void)
{
    g_assert_cmpstr(common((const char *[]){"POWER8", "POWER9", "POWER10"}, 3), ==, "POWER8");
    g_assert_cmpstr(common((const char *[]){"POWER10", "POWER9"}, 2), ==, "POWER9");
    g_assert_cmpstr(common((const char *[]){"POWER8", "POWER11"}, 2), ==, NULL);
    g_assert_cmpstr(common((const char *[]){"POWER7+"}, 1), ==, "POWER7+");
    g_assert_cmpstr(common(NULL, 0), ==, NULL);
}

/* Values seen under QEMU; the last ones as 11.1.3 prints them for little-endian guests. */
static const struct {
    uint64_t pcr;
    const char *generation, *activated_with, *mode;
} pcrs[] = {
    {0, "POWER8", "default", "POWER8"},
    {0x8, "POWER9", "default", "POWER8"},
    {0x18, "POWER10", "default", "POWER8"},
    {0x10, "POWER10", "default", "POWER9"},
    {0x10, "POWER10", "POWER9_base", "POWER9_base"},
    {0x8, "POWER9", "POWER9_base", "POWER8"},
    {0, "POWER9", "default", "POWER9"},
    {0, "POWER10", NULL, "POWER10"},
    {0x2000000000000004, "POWER8", "default", "POWER7"},
    {0xc, "POWER9", "default", "POWER7"},
    {0x4000000000000002, "POWER7", "default", "POWER6"},
    {0, "POWER7", "default", "POWER7"},
    {0, "POWER7+", "default", "POWER7+"},
    {0, "POWER11", "POWER10", "POWER10"},
    {0, "POWER11", "default", "POWER11"},
    {0x0800000000000000, "POWER9", "default", "POWER8"},
    {0x1800000000000000, "POWER10", "default", "POWER8"},
    {0, "POWER12", "default", NULL},
    {0, "x86-64-v2", "default", NULL},
};

static void test_pcr(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(pcrs); i++) {
        const LpmMode *mode = lpm_compat_mode_from_pcr(compat, pcrs[i].pcr, pcrs[i].generation,
                                                       pcrs[i].activated_with);

        g_test_message("pcr 0x%" G_GINT64_MODIFIER "x on %s", pcrs[i].pcr, pcrs[i].generation);
        g_assert_cmpstr(mode ? mode->name : NULL, ==, pcrs[i].mode);
    }
    g_assert_cmpstr(lpm_compat_mode_from_pvr(compat, 0x0f000004)->name, ==, "POWER8");
    g_assert_cmpstr(lpm_compat_mode_from_pvr(compat, 0x0f100003)->name, ==, "POWER7+");
    g_assert_cmpstr(lpm_compat_mode_from_pvr(compat, 0x0f000005)->name, ==, "POWER9");
    g_assert_null(lpm_compat_mode_from_pvr(compat, 0));
}

static void test_power_options(void)
{
    g_assert_cmpstr(lpm_compat_power_cpu(compat, "POWER8"), ==, "power8");
    g_assert_cmpstr(lpm_compat_power_cpu(compat, "POWER6"), ==, "power7");
    g_assert_cmpstr(lpm_compat_power_cpu(compat, "POWER9_base"), ==, NULL);
    g_assert_cmpstr(lpm_compat_power_max(compat, "POWER9", "default"), ==, NULL);
    g_assert_cmpstr(lpm_compat_power_max(compat, "POWER9", "POWER8"), ==, "power8");
    g_assert_cmpstr(lpm_compat_power_max(compat, "POWER9", "POWER9_base"), ==, "power9");
    g_assert_cmpstr(lpm_compat_power_max(compat, "POWER7", "default"), ==, "power7");
    g_assert_cmpstr(lpm_compat_power_max(compat, "POWER6", "default"), ==, "power6");
    /* A wish above the server is no reason to give QEMU a ceiling that it does not know. */
    g_assert_cmpstr(lpm_compat_power_max(compat, "POWER7", "POWER9"), ==, "power7");
    g_assert_cmpstr(lpm_compat_interrupt_mode(compat, "default"), ==, "xics");
    g_assert_cmpstr(lpm_compat_interrupt_mode(compat, "POWER8"), ==, "xics");
    g_assert_cmpstr(lpm_compat_interrupt_mode(compat, "POWER9_base"), ==, "dual");
    g_assert_cmpstr(lpm_compat_interrupts_in_use(compat, "dual", "POWER8"), ==, "xics");
    g_assert_cmpstr(lpm_compat_interrupts_in_use(compat, "dual", "POWER10"), ==, "xive");
    g_assert_cmpstr(lpm_compat_interrupts_in_use(compat, "xics", "POWER9"), ==, "xics");
}

static void test_x86(void)
{
    g_autoptr(json_t) answer =
        lpm_json_pack("{s:{s:s, s:{s:b, s:b, s:b, s:b, s:b, s:b, s:i, s:b}}}", "model", "name",
                      "max", "props", "avx2", 1, "sse4_2", 1, "sse4.2", 1, "hv-time", 1, "kvm", 1,
                      "lahf_lm", 1, "family", 6, "svm", 0);
    g_auto(GStrv) features = lpm_compat_features_from_expansion(answer);
    g_autofree char *list = g_strjoinv(",", features);
    const LpmMode *v3 = lpm_compat_find(compat, "x86_64_v3");
    g_auto(GStrv) modes = lpm_compat_system_modes_x86(compat, (const char *const *)v3->features);
    g_autofree char *names = g_strjoinv(",", modes);
    g_auto(GStrv) missing = lpm_compat_missing_features(
        (const char *const *)v3->features,
        (const char *const *)lpm_compat_find(compat, "x86-64-v2")->features);
    g_autofree char *lacks = g_strjoinv(",", missing);

    g_assert_cmpstr(list, ==, "avx2,lahf-lm,sse4.2");
    g_assert_cmpstr(names, ==, "x86-64-v3,x86-64-v2,x86-64-v1");
    g_assert_cmpstr(lacks, ==, "abm,avx,avx2,bmi1,bmi2,f16c,fma,movbe,xsave,xsaveopt");
    g_assert_cmpstr(lpm_compat_at_activation(compat, LPM_FAMILY_X86_64, "default",
                                             (const char *const *)modes, NULL)
                        ->name,
                    ==, "x86-64-v3");
    g_assert_nonnull(strstr(lpm_compat_x86_cpu(compat, "x86-64-v2"), "+popcnt"));
    g_assert_null(lpm_compat_x86_cpu(compat, "POWER8"));
}

static void test_lists(void)
{
    g_autofree const LpmMode **power = lpm_compat_modes(compat, LPM_FAMILY_POWER);
    g_autofree const LpmMode **x86 = lpm_compat_modes(compat, LPM_FAMILY_X86_64);

    g_assert_cmpstr(power[0]->name, ==, "POWER11");
    for (size_t i = 1; power[i]; i++) {
        g_assert_cmpint(power[i - 1]->rank, >, power[i]->rank);
    }
    g_assert_cmpstr(x86[0]->name, ==, "x86-64-v4");
    g_assert_cmpstr(lpm_compat_find(compat, "POWER9_Base")->hmc, ==, "POWER9_base");
    g_assert_cmpstr(lpm_compat_find(compat, "POWER9_base")->rest, ==, "POWER9_Base");
    g_assert_true(lpm_compat_is_preferable(compat, LPM_FAMILY_POWER, "default"));
    g_assert_false(lpm_compat_is_preferable(compat, LPM_FAMILY_POWER, "POWER5"));
    g_assert_false(lpm_compat_is_preferable(compat, LPM_FAMILY_POWER, "x86-64-v2"));
}

static const struct {
    LpmEmulatorUse use;
    bool safe, known;
} emulators[] = {
    {{LPM_FAMILY_X86_64, "kvm", "7.2.22", "pc-q35-7.2", NULL, 8}, true, true},
    {{LPM_FAMILY_POWER, "kvm", "7.2", NULL, "xics", 8}, true, true},
    {{LPM_FAMILY_X86_64, "tcg", "7.2.22", "pc-q35-7.2", NULL, 1}, false, true},
    {{LPM_FAMILY_X86_64, "tcg", "9.0.0", "pc-q35-9.0", NULL, 4}, true, true},
    {{LPM_FAMILY_X86_64, "tcg", "10.0.2", "pc-q35-10.0", NULL, 2}, true, true},
    {{LPM_FAMILY_X86_64, "tcg", "10.0.2", "pc-q35-10.0", NULL, 1, true}, false, true},
    {{LPM_FAMILY_X86_64, "kvm", "10.0.2", "pc-q35-10.0", NULL, 2, true}, true, true},
    {{LPM_FAMILY_POWER, "tcg", "10.0.13", "pseries-10.0", "xics", 1, true}, false, true},
    {{LPM_FAMILY_POWER, "tcg", "8.1.9", "pseries-7.2", "xics", 1}, false, true},
    {{LPM_FAMILY_POWER, "tcg", "8.2.1", "pseries-7.2", "xive", 1}, false, true},
    {{LPM_FAMILY_POWER, "tcg", "10.0.2", "pseries-10.0", "xics", 1}, false, true},
    {{LPM_FAMILY_POWER, "tcg", "10.0.2", "pseries-10.0", "xive", 1}, true, true},
    {{LPM_FAMILY_POWER, "tcg", "10.0.2", "pseries-10.0", "xive", 2}, false, false},
    {{LPM_FAMILY_POWER, "tcg", "10.0.8", "pseries-10.0", "xics", 1}, false, false},
    {{LPM_FAMILY_POWER, "tcg", "10.0.13", "pseries-10.0", "xics", 1}, true, true},
    {{LPM_FAMILY_POWER, "tcg", "10.0.20", "pseries-10.0", "xive", 1}, true, true},
    {{LPM_FAMILY_POWER, "tcg", "10.0.13", "pseries-10.0", "xics", 2}, false, true},
    {{LPM_FAMILY_POWER, "tcg", "10.1.0", "pseries-10.0", "xics", 1}, false, false},
    {{LPM_FAMILY_POWER, "tcg", "11.1.3", "pseries-11.1+vof", "xics", 4}, true, true},
    {{LPM_FAMILY_POWER, "tcg", "11.1.3", "pseries-7.2", "xics", 1}, false, true},
    {{LPM_FAMILY_POWER, "tcg", "11.1.3", NULL, "xics", 1}, false, false},
    {{LPM_FAMILY_X86_64, "tcg", "garbage", "pc-q35-10.0", NULL, 1}, false, false},
    {{LPM_FAMILY_X86_64, "hvf", "10.0.2", "pc-q35-10.0", NULL, 1}, false, false},
};

static void test_emulators(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(emulators); i++) {
        LpmEmulatorVerdict verdict = lpm_compat_emulator(compat, &emulators[i].use);

        g_test_message("%s %s %s", emulators[i].use.accel, emulators[i].use.version,
                       verdict.reason);
        g_assert_cmpint(verdict.safe, ==, emulators[i].safe);
        g_assert_cmpint(verdict.known, ==, emulators[i].known);
        g_assert_true(*verdict.reason);
    }
}

/* Every way in which a data file can be wrong is told with the file and the member. */
static const struct {
    const char *text, *message;
} bad_modes[] = {
    {"[", "x.json: not JSON*"},
    {"[]", "x.json: not a JSON object"},
    {"{\"name\":\"A\"}", "x.json: member \"family\" is missing"},
    {"{\"name\":\"A\",\"family\":\"arm\"}", "x.json: member \"family\" is not of the right kind"},
    {"{\"name\":\"A\",\"colour\":1}", "x.json: unknown member \"colour\""},
    {"{\"name\":\"A\",\"family\":\"power\",\"rank\":1,\"hmc\":\"A\",\"rest\":\"A\",\"preferable\":"
     "true,"
     "\"portable\":true,\"verified\":true}",
     "x.json: mode A: a power mode needs \"runs_on\""},
    {"{\"name\":\"A\",\"family\":\"power\",\"rank\":1,\"hmc\":\"A\",\"rest\":\"A\",\"preferable\":"
     "true,"
     "\"portable\":true,\"verified\":true,\"runs_on\":[1]}",
     "x.json: member \"runs_on\" is not of the right kind"},
    {"{\"name\":\"A\",\"family\":\"power\",\"rank\":1,\"hmc\":\"power8\",\"rest\":\"A\","
     "\"preferable\":true,\"portable\":true,\"verified\":true,\"runs_on\":[\"A\"]}",
     "x.json: mode A: there is one of that name"},
};

static void test_bad_data(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(bad_modes); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_false(lpm_compat_add_mode(compat, "x.json", bad_modes[i].text, &error));
        g_assert_error(error, LPM_ERROR, LPM_ERROR_USAGE);
        g_test_message("%s", error->message);
        g_assert_true(g_pattern_match_simple(bad_modes[i].message, error->message));
    }
    for (size_t i = 0; i < 3; i++) {
        static const char *const texts[] = {"{}", "[{\"accel\":\"tcg\"}]", "[{\"accel\":1}]"};
        g_autoptr(GError) error = NULL;

        g_assert_false(lpm_compat_add_emulators(compat, "e.json", texts[i], &error));
        g_assert_error(error, LPM_ERROR, LPM_ERROR_USAGE);
    }
}

/* The guide names every mode as QEMU is told it, and every emulator's reason. */
static void test_guide(void)
{
    g_autofree char *path =
        g_build_filename(g_getenv("G_TEST_SRCDIR"), "..", "..", "docs", "guide", "modes.md", NULL);
    g_autofree char *data = g_build_filename(g_getenv("LPM_DATA_DIR"), "emulators.json", NULL);
    g_autofree char *guide = test_read_file(path);
    g_autofree char *rows = test_read_file(data);
    g_autoptr(json_t) list = lpm_json_parse(rows, strlen(rows), NULL);
    json_t *row;
    size_t index;

    for (LpmFamily family = 0; family < LPM_FAMILY_N; family++) {
        g_autofree const LpmMode **modes = lpm_compat_modes(compat, family);

        for (size_t i = 0; modes[i]; i++) {
            g_autofree char *line =
                family == LPM_FAMILY_POWER
                    ? g_strdup_printf("| %s | %s | ", modes[i]->name, modes[i]->rest)
                    : g_strdup_printf("| %s | `%s` | ", modes[i]->name, modes[i]->cpu);

            g_test_message("%s", line);
            g_assert_nonnull(strstr(guide, line));
        }
    }
    json_array_foreach (list, index, row) {
        g_test_message("%s", lpm_json_str(row, "reason", "?"));
        g_assert_nonnull(strstr(guide, lpm_json_str(row, "reason", "?")));
    }
    g_assert_cmpuint(index, >, 5);
}

int main(int argc, char **argv)
{
    int result;

    g_test_init(&argc, &argv, NULL);
    compat = test_load_compat();
    g_test_add_func("/compat/combinations", test_combinations);
    g_test_add_func("/compat/survivors", test_survivors);
    g_test_add_func("/compat/classics", test_classics);
    g_test_add_func("/compat/activation", test_activation);
    g_test_add_func("/compat/firmware", test_firmware);
    g_test_add_func("/compat/common", test_common);
    g_test_add_func("/compat/pcr", test_pcr);
    g_test_add_func("/compat/power-options", test_power_options);
    g_test_add_func("/compat/x86", test_x86);
    g_test_add_func("/compat/lists", test_lists);
    g_test_add_func("/compat/emulators", test_emulators);
    g_test_add_func("/compat/bad-data", test_bad_data);
    g_test_add_func("/compat/guide", test_guide);
    result = g_test_run();
    lpm_compat_free(compat);
    return result;
}
