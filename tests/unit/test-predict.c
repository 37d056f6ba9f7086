/* SPDX-License-Identifier: Apache-2.0 */
/* Predictions: a table of cases, what must hold of any, and what earlier moves teach. */
#include "predict/cluster.h"
#include "predict/predict.h"

#include <glib.h>
#include <math.h>
#include <string.h>

#define MB  1e6
#define GIB 1073741824.0

/* A gibibyte of which 900 MB are used, at rest, 1 Gbit/s, nothing learned. */
static LpmPredictInput usual(void)
{
    return (LpmPredictInput){
        .memory = GIB,
        .used = 900 * MB,
        .link_rate = 117 * MB,
        .round_trip_ms = 0.3,
        .max_blackout_ms = 300,
        .looks = {{100, 0}, {400, 0}},
        .n_looks = 2,
        .look_unit = 262144,
    };
}

/* Writes @rate (MB/s) all over a memory of @hot (MB), looked at for 0.1 and 0.4 s. */
static void writes(LpmPredictInput *input, double rate, double hot)
{
    for (size_t i = 0; i < input->n_looks; i++) {
        input->looks[i].bytes = hot * MB * -expm1(-rate * input->looks[i].ms / 1e3 / hot);
    }
}

typedef struct {
    const char *name;
    double rate, hot; /* MB/s, MB */
    double link;      /* MB/s */
    double max_rate, blackout_ms;
    bool raw, again, auto_converge, postcopy;
    LpmPredictVerdict verdict;
    double low_ms, high_ms; /* where the likely duration is; 0: it has no end */
} Case;

static const Case cases[] = {
    {"idle", 0, 1, 117, 0, 300, .verdict = LPM_PREDICT_YES, .low_ms = 4000, .high_ms = 6000},
    {"idle, slow link", 0, 1, 12, 0, 300, .verdict = LPM_PREDICT_YES, .low_ms = 20e3,
     .high_ms = 28e3},
    {"idle, limited", 0, 1, 117, 12, 300, .verdict = LPM_PREDICT_YES, .low_ms = 20e3,
     .high_ms = 28e3},
    {"idle, returns", 0, 1, 12, 0, 300, .again = true, .verdict = LPM_PREDICT_YES, .low_ms = 3500,
     .high_ms = 6000},
    {"writes a little", 20, 256, 117, 0, 300, .verdict = LPM_PREDICT_YES, .low_ms = 4000,
     .high_ms = 8000},
    {"a small place again and again", 200, 8, 117, 0, 300, .verdict = LPM_PREDICT_UNSURE,
     .low_ms = 4000, .high_ms = 8000},
    {"twice the link, plain", 250, 800, 117, 0, 300, .raw = true, .verdict = LPM_PREDICT_NO},
    {"five times the link, plain", 60, 800, 12, 0, 300, .raw = true, .verdict = LPM_PREDICT_NO},
    {"five times the link, plain, limited", 60, 800, 117, 12, 300, .raw = true,
     .verdict = LPM_PREDICT_NO},
    {"so, but it may be slowed", 60, 800, 12, 0, 300, .raw = true, .auto_converge = true,
     .verdict = LPM_PREDICT_UNSURE},
    {"so, by post-copy", 60, 800, 12, 0, 300, .raw = true, .postcopy = true,
     .verdict = LPM_PREDICT_YES, .low_ms = 70e3, .high_ms = 160e3},
    {"so, and a long blackout is fine", 60, 30, 12, 0, 30000, .raw = true,
     .verdict = LPM_PREDICT_UNSURE, .low_ms = 70e3, .high_ms = 160e3},
    {"what coding leaves decides", 60, 800, 12, 0, 300, .verdict = LPM_PREDICT_UNSURE},
    {"more than any coding carries", 900, 900, 1, 0, 300, .verdict = LPM_PREDICT_NO},
};

static LpmPredictInput input_of(const Case *c)
{
    LpmPredictInput input = usual();

    writes(&input, c->rate, c->hot);
    input.link_rate = c->link * MB;
    input.max_rate = c->max_rate * MB;
    input.max_blackout_ms = c->blackout_ms;
    input.raw = c->raw;
    input.again = c->again;
    input.image_age_s = 60;
    input.auto_converge = c->auto_converge;
    input.postcopy = c->postcopy;
    return input;
}

static void test_cases(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        const Case *c = &cases[i];
        LpmPredictInput input = input_of(c);
        LpmPrediction got;

        lpm_predict(&input, &got);
        const LpmPredictBand *ms = &got.figures[LPM_PREDICT_DURATION];
        g_test_message("%s: %s, %.0f ms (%.0f to %.0f), %.0f MB, %.0f ms of blackout", c->name,
                       lpm_predict_verdict_name(got.verdict), ms->value, ms->low, ms->high,
                       got.figures[LPM_PREDICT_BYTES].value / MB,
                       got.figures[LPM_PREDICT_BLACKOUT].value);
        g_assert_cmpstr(lpm_predict_verdict_name(got.verdict), ==,
                        lpm_predict_verdict_name(c->verdict));
        if (c->high_ms == 0) {
            g_assert_cmpfloat(ms->value, <, 0);
            g_assert_cmpuint(got.rounds, ==, 0);
        } else {
            g_assert_cmpfloat(ms->value, >=, c->low_ms);
            g_assert_cmpfloat(ms->value, <=, c->high_ms);
        }
    }
}

static double between(double low, double high)
{
    return exp(g_test_rand_double_range(log(low), log(high)));
}

static LpmPredictInput any(void)
{
    LpmPredictInput input = usual();

    input.memory = between(64 * MB, 64e9);
    input.used = input.memory * between(0.01, 1);
    input.link_rate = between(0.5 * MB, 3e9);
    input.max_rate = g_test_rand_bit() ? between(0.5 * MB, 1e9) : 0;
    input.max_blackout_ms = between(1, 10000);
    input.raw = g_test_rand_bit();
    input.again = !input.raw && g_test_rand_bit();
    input.image_age_s = between(1, 1e6);
    input.look_unit = input.memory / 4096;
    writes(&input, between(0.01, 2000), between(1, input.used / MB));
    return input;
}

static double value(const LpmPrediction *p, LpmPredictFigure figure)
{
    return p->figures[figure].value < 0 ? INFINITY : p->figures[figure].value;
}

/* Of two moves of which the second is harder. */
static void is_harder(const LpmPredictInput *one, const LpmPredictInput *other)
{
    LpmPrediction easy, hard;

    lpm_predict(one, &easy);
    lpm_predict(other, &hard);
    g_assert_cmpfloat(value(&hard, LPM_PREDICT_DURATION), >=,
                      value(&easy, LPM_PREDICT_DURATION) * 0.999999);
    g_assert_cmpfloat(value(&hard, LPM_PREDICT_BYTES), >=,
                      value(&easy, LPM_PREDICT_BYTES) * 0.999999);
    g_assert_false(hard.verdict == LPM_PREDICT_YES && easy.verdict == LPM_PREDICT_NO);
}

static void test_properties(void)
{
    for (int i = 0; i < 20000; i++) {
        LpmPredictInput input = any(), harder = input;

        harder.looks[0].bytes *= 2; /* writes more */
        harder.looks[1].bytes *= 2;
        is_harder(&input, &harder);
        harder = input;
        harder.used = fmin(harder.used * 2, harder.memory);
        is_harder(&input, &harder);
        harder = input;
        harder.link_rate /= 2;
        is_harder(&input, &harder);
    }
}

static void test_bands_and_verdicts(void)
{
    unsigned seen[3] = {0};

    for (int i = 0; i < 20000; i++) {
        LpmPredictInput input = any();
        LpmPrediction p, blind;

        lpm_predict(&input, &p);
        seen[p.verdict]++;
        for (int figure = 0; figure < LPM_PREDICT_N; figure++) {
            const LpmPredictBand *band = &p.figures[figure];

            g_assert_cmpfloat(band->low, <=, band->value);
            g_assert_true(band->high < 0 || band->high >= band->value);
        }
        /* "Yes" is said only of what ends by the likely figures too, "no" only of what does not. */
        g_assert_true(p.verdict != LPM_PREDICT_YES || p.rounds > 0);
        g_assert_true(p.verdict != LPM_PREDICT_NO || p.rounds == 0);
        g_assert_true(p.rounds == 0 ||
                      p.figures[LPM_PREDICT_BLACKOUT].value < input.max_blackout_ms + 100);
        input.n_looks = 0;
        lpm_predict(&input, &blind);
        g_assert_cmpint(blind.verdict, ==, LPM_PREDICT_UNSURE);
    }
    g_assert_cmpuint(seen[LPM_PREDICT_YES], >, 1000);
    g_assert_cmpuint(seen[LPM_PREDICT_NO], >, 1000);
    g_assert_cmpuint(seen[LPM_PREDICT_UNSURE], >, 1000);
}

/* --- learning --- */

static LpmPredictPast past_of(const LpmPrediction *p, double factor)
{
    LpmPredictPast past = {.partition = true, .systems = true, .link_bound = p->link_bound};

    for (int figure = 0; figure < LPM_PREDICT_N; figure++) {
        past.model[figure] = p->model[figure];
        past.actual[figure] = p->model[figure] * factor;
    }
    return past;
}

static void assert_near(double got, double wanted, double part)
{
    g_assert_cmpfloat(fabs(got / wanted - 1), <, part);
}

static void test_learns(void)
{
    LpmPredictInput input = usual();
    LpmPrediction before, after;

    lpm_predict(&input, &before);
    g_assert_cmpint(before.from, ==, LPM_PREDICT_FROM_NOTHING);
    input.past[input.n_past++] = past_of(&before, 1.3);
    lpm_predict(&input, &after);
    g_assert_cmpint(after.from, ==, LPM_PREDICT_FROM_PARTITION);
    for (int figure = 0; figure < LPM_PREDICT_N; figure++) {
        /* Of the time, what is before and after the copy does not get longer. */
        assert_near(after.figures[figure].value, before.model[figure] * 1.3, 0.03);
        /* Learned once, not again and again: what is kept to learn from has no correction in it. */
        assert_near(after.model[figure], before.model[figure], 0.01);
    }
}

/* What was seen of slow processors does not make a slow link slower, and the other way round. */
static void test_processors_and_link_are_learned_apart(void)
{
    LpmPredictInput quick = usual(), slow = usual();
    LpmPrediction p, alone, with;

    slow.link_rate = 6 * MB;
    lpm_predict(&slow, &alone);
    g_assert_true(alone.link_bound);
    lpm_predict(&quick, &p);
    g_assert_false(p.link_bound);
    slow.past[slow.n_past++] = past_of(&p, 3);
    slow.past[0].actual[LPM_PREDICT_BYTES] = slow.past[0].model[LPM_PREDICT_BYTES];
    lpm_predict(&slow, &with);
    assert_near(with.figures[LPM_PREDICT_DURATION].value, alone.figures[LPM_PREDICT_DURATION].value,
                0.01);
    quick.past[quick.n_past++] = past_of(&alone, 3);
    quick.past[0].actual[LPM_PREDICT_BYTES] = quick.past[0].model[LPM_PREDICT_BYTES];
    quick.link_rate = 1000 * MB;
    lpm_predict(&quick, &with);
    g_assert_false(with.link_bound);
    assert_near(with.figures[LPM_PREDICT_DURATION].value, p.figures[LPM_PREDICT_DURATION].value,
                0.01);
}

/* A link that is not full has less packed: that is not taken for what a full one would carry. */
static void test_bytes_of_an_idle_link_are_no_measure_of_a_full_one(void)
{
    LpmPredictInput input = usual();
    LpmPrediction p, full;

    lpm_predict(&input, &p);
    input.past[0] = past_of(&p, 1);
    input.past[0].actual[LPM_PREDICT_BYTES] *= 2.4;
    input.n_past = 1;
    lpm_predict(&input, &p);
    assert_near(p.factor[LPM_PREDICT_BYTES], 2.4, 0.01);
    input.link_rate = 12 * MB;
    lpm_predict(&input, &full);
    g_assert_true(full.link_bound);
    assert_near(full.factor[LPM_PREDICT_BYTES], 1, 0.01);
    input.past[1] = past_of(&full, 0.9);
    input.n_past = 2;
    lpm_predict(&input, &full);
    assert_near(full.factor[LPM_PREDICT_BYTES], 0.9, 0.01);
    input.link_rate = 117 * MB;
    lpm_predict(&input, &p);
    g_assert_false(p.link_bound);
    assert_near(p.factor[LPM_PREDICT_BYTES], 2.4, 0.01);
}

static void test_one_odd_move_does_not_count(void)
{
    LpmPredictInput input = usual();
    LpmPrediction p;
    const double factors[] = {1.1, 6, 1.2, 1.15, 1.1};

    lpm_predict(&input, &p);
    for (size_t i = 0; i < G_N_ELEMENTS(factors); i++) {
        input.past[input.n_past++] = past_of(&p, factors[i]);
    }
    double model = p.model[LPM_PREDICT_BLACKOUT];
    lpm_predict(&input, &p);
    assert_near(p.figures[LPM_PREDICT_BLACKOUT].value, 1.15 * model, 0.01);
}

static void test_corrections_are_bounded(void)
{
    LpmPredictInput input = usual();
    LpmPrediction p;

    lpm_predict(&input, &p);
    input.past[input.n_past++] = past_of(&p, 1000);
    lpm_predict(&input, &p);
    for (int figure = 0; figure < LPM_PREDICT_N; figure++) {
        g_assert_cmpfloat(p.factor[figure], <=, LPM_PREDICT_FACTOR_MAX * 1.0001);
    }
}

/* Moves of others between the two systems teach their speed, and nothing of this one's bytes. */
static void test_other_partitions_teach_less(void)
{
    LpmPredictInput input = usual();
    LpmPrediction alone, p;

    lpm_predict(&input, &alone);
    input.past[0] = past_of(&alone, 1.5);
    input.past[0].partition = false;
    input.n_past = 1;
    lpm_predict(&input, &p);
    g_assert_cmpint(p.from, ==, LPM_PREDICT_FROM_SYSTEMS);
    assert_near(p.factor[LPM_PREDICT_DURATION], 1.5, 0.01);
    assert_near(p.factor[LPM_PREDICT_BYTES], 1, 0.01);
    input.past[0].again = true; /* a return teaches a first move the speed, too, and less surely */
    double high = p.figures[LPM_PREDICT_DURATION].high;
    lpm_predict(&input, &p);
    assert_near(p.factor[LPM_PREDICT_DURATION], 1.5, 0.01);
    g_assert_cmpfloat(p.figures[LPM_PREDICT_DURATION].high, >, high);
    input.past[0].link_bound = true; /* but not where bytes make the time */
    lpm_predict(&input, &p);
    g_assert_cmpint(p.from, ==, LPM_PREDICT_FROM_NOTHING);
}

/* How well what it writes can be coded decides, and the last move has shown it. */
static void test_last_move_settles_the_verdict(void)
{
    LpmPredictInput input = usual();
    LpmPrediction p;

    input.link_rate = 12 * MB;
    writes(&input, 60, 800);
    lpm_predict(&input, &p);
    g_assert_cmpint(p.verdict, ==, LPM_PREDICT_UNSURE);
    input.past[input.n_past++] =
        (LpmPredictPast){.partition = true, .later_stream = 100 * MB, .later_wire = 90 * MB};
    lpm_predict(&input, &p);
    g_assert_cmpint(p.verdict, ==, LPM_PREDICT_NO);
    input.past[0].later_wire = 2 * MB;
    input.looks[0].bytes /= 4;
    input.looks[1].bytes /= 4;
    lpm_predict(&input, &p);
    g_assert_cmpint(p.verdict, ==, LPM_PREDICT_YES);
}

/* --- JSON --- */

static const char facts_text[] =
    "{'options': {'active': true, 'max_blackout_ms': 300, 'max_rate': 0, 'raw': true},"
    " 'source': {'name': 'system-a'}, 'target': {'name': 'system-b'},"
    " 'mover': {'rate_bytes_s': 12000000, 'round_trip_us': 300},"
    " 'target_check': {'image': {'image': 'aa', 'generation': 2}},"
    " 'partition': {'profile': {'name': 'web', 'memory_mib': 1024}, 'used_bytes': 900000000,"
    "   'image': {'image': 'aa', 'generation': 2, 'age_s': 60},"
    "   'dirty': {'unit_bytes': 262144, 'looks': [{'ms': 100, 'bytes': 6000000}, {'ms': 400, "
    "'bytes': 24000000}]}},"
    " 'history': [{'partition': 'web', 'source': 'system-b', 'target': 'system-a', 'kind': "
    "'first', 'raw': true,"
    "   'limited_by': 'link', 'model': {'blackout_ms': 100}, 'actual': {'blackout_ms': 200}}]}";

static json_t *facts_new(void)
{
    g_autofree char *text = g_strdelimit(g_strdup(facts_text), "'", '"');
    json_t *facts = lpm_json_parse(text, strlen(text), NULL);

    g_assert_nonnull(facts);
    return facts;
}

static void test_facts(void)
{
    g_autoptr(json_t) facts = facts_new();
    LpmPredictInput input;

    g_assert_true(lpm_predict_read(facts, &input));
    g_assert_cmpuint(input.n_looks, ==, 2);
    g_assert_cmpuint(input.n_past, ==, 1);
    g_assert_true(input.past[0].partition && input.past[0].systems && input.past[0].link_bound);
    g_assert_false(input.again); /* nothing is coded: no use for an image */
    json_object_set_new(json_object_get(facts, "options"), "raw", json_false());
    g_assert_true(lpm_predict_read(facts, &input));
    g_assert_true(input.again);
    json_object_set_new(lpm_json_at(facts, "target_check.image"), "generation", json_integer(3));
    g_assert_true(lpm_predict_read(facts, &input));
    g_assert_false(input.again);
    json_object_del(facts, "mover");
    g_assert_false(lpm_predict_read(facts, &input));
}

static void test_json_and_score(void)
{
    g_autoptr(json_t) facts = facts_new();
    g_autoptr(json_t) p = lpm_predict_facts(facts);
    const double actual[] = {1000, -1, 100};

    g_assert_cmpstr(lpm_json_str(p, "converges", ""), ==, "no");
    g_assert_true(json_is_null(lpm_json_at(lpm_json_at(p, "duration_ms"), "value")) ||
                  !lpm_json_at(p, "duration_ms.value"));
    g_assert_cmpuint(json_array_size(lpm_json_at(p, "advice")), ==, 3);
    json_object_set_new(lpm_json_at(facts, "partition"), "dirty", json_null());
    g_autoptr(json_t) quiet = lpm_predict_facts(facts);
    g_assert_cmpstr(lpm_json_str(quiet, "converges", ""), ==, "unsure");
    json_object_set_new(lpm_json_at(quiet, "duration_ms"), "value", json_integer(1500));
    json_object_set_new(lpm_json_at(quiet, "blackout_ms"), "value", json_integer(80));
    g_autoptr(json_t) score = lpm_predict_score(quiet, actual);
    g_assert_cmpfloat(lpm_json_real(score, "duration_ms.error_percent", 0), ==, 50);
    g_assert_cmpfloat(lpm_json_real(score, "blackout_ms.error_percent", 0), ==, -20);
    g_assert_null(lpm_json_at(score, "wire_bytes"));
}

static json_t *parsed(const char *text)
{
    return lpm_json_parse(text, strlen(text), NULL);
}

/* The figures of three members with Corosync's defaults: lost from 5.5 s, as was measured. */
static void test_cluster(void)
{
    g_autoptr(json_t) scripts =
        parsed("[{}, {\"facts\": {\"other\": \"1\"}}, {\"facts\": {\"cluster_members\": \"3\", "
               "\"cluster_token_ms\": \"3650\", \"cluster_consensus_ms\": \"4380\", "
               "\"cluster_hold_ms\": \"685\", \"cluster_ping_ms\": \"912\"}}]");
    LpmCluster cluster;

    g_assert_true(lpm_cluster_read(scripts, &cluster));
    g_assert_cmpint(cluster.members, ==, 3);
    g_assert_cmpint(lpm_cluster_lost_ms(&cluster), ==, 5521);
    g_assert_cmpint(lpm_cluster_bears_ms(&cluster), ==, 2760);
    g_assert_cmpint(lpm_cluster_lower_ms(&cluster, 300), ==, 0);
    g_assert_cmpint(lpm_cluster_lower_ms(&cluster, 5000), ==, 2760);
    g_assert_cmpint(lpm_cluster_needed_s(5000), ==, 11);
    cluster.during = 20000;
    g_assert_cmpint(lpm_cluster_bears_ms(&cluster), ==, 12800);
    g_assert_cmpint(lpm_cluster_lower_ms(&cluster, 60000), ==, 0); /* its own script speaks up */
    cluster.during = 2000;                                         /* shorter than usual */
    g_assert_cmpint(lpm_cluster_bears_ms(&cluster), ==, 2760);
}

/* Whatever a guest says, there is a limit above 0 and no overflow. */
static void test_cluster_hostile(void)
{
    g_autoptr(json_t) scripts =
        parsed("[{\"facts\": {\"cluster_token_ms\": \"99999999999999999999\", \"cluster_members\": "
               "\"-4\", "
               "\"cluster_hold_ms\": \"1e9\", \"cluster_ping_ms\": \"999999999\"}}, 7]");
    g_autoptr(json_t) none = parsed("[{\"facts\": {\"cluster_token_ms\": \"x\"}}, []]");
    LpmCluster cluster;

    g_assert_true(lpm_cluster_read(scripts, &cluster));
    g_assert_cmpint(cluster.token, ==, 3600000);
    g_assert_cmpint(cluster.members, ==, 0);
    g_assert_cmpint(lpm_cluster_lost_ms(&cluster), >, 0);
    g_assert_cmpint(lpm_cluster_bears_ms(&cluster), >, 0);
    cluster = (LpmCluster){.token = 1};
    g_assert_cmpint(lpm_cluster_bears_ms(&cluster), ==, 1);
    g_assert_false(lpm_cluster_read(none, &cluster));
    g_assert_false(lpm_cluster_read(NULL, &cluster));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/predict/cases", test_cases);
    g_test_add_func("/predict/properties", test_properties);
    g_test_add_func("/predict/bands-and-verdicts", test_bands_and_verdicts);
    g_test_add_func("/predict/learns", test_learns);
    g_test_add_func("/predict/processors-and-link", test_processors_and_link_are_learned_apart);
    g_test_add_func("/predict/bytes-of-an-idle-link",
                    test_bytes_of_an_idle_link_are_no_measure_of_a_full_one);
    g_test_add_func("/predict/one-odd-move-does-not-count", test_one_odd_move_does_not_count);
    g_test_add_func("/predict/corrections-are-bounded", test_corrections_are_bounded);
    g_test_add_func("/predict/other-partitions-teach-less", test_other_partitions_teach_less);
    g_test_add_func("/predict/last-move-settles-the-verdict", test_last_move_settles_the_verdict);
    g_test_add_func("/predict/facts", test_facts);
    g_test_add_func("/predict/json-and-score", test_json_and_score);
    g_test_add_func("/predict/cluster", test_cluster);
    g_test_add_func("/predict/cluster-hostile", test_cluster_hostile);
    return g_test_run();
}
