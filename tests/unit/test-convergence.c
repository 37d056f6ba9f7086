/* SPDX-License-Identifier: Apache-2.0 */
/* The policy of copying against a partition that is a few numbers: what it writes, and how fast. */
#include "host/convergence.h"

#include <glib.h>
#include <string.h>

#define MB   UINT64_C(1000000)
#define TICK 50 /* ms between two samples */

/*
 * A partition of @total bytes that writes @write_rate over @hot bytes, and a link of @rate. QEMU
 * is as simple: when what is left fits the limit it looks again, and switches if that fits, too.
 */
typedef struct {
    uint64_t total, hot, write_rate, rate;
    bool syncs_in_between; /* as auto-converge does, every 5 s */
    /* where it is */
    uint64_t remaining, pass;
    int64_t now, pass_began;
    bool switched;
    LpmConvergenceSample sample;
} Model;

static uint64_t dirtied(const Model *m)
{
    uint64_t bytes = m->write_rate * (uint64_t)(m->now - m->pass_began) / 1000;
    return MIN(bytes, m->hot);
}

static void step(Model *m, const LpmConvergence *c)
{
    uint64_t limit = m->rate * (uint64_t)c->limit_ms / 1000;
    m->now += TICK;
    uint64_t sent = m->rate * TICK / 1000;
    m->remaining = m->remaining > sent ? m->remaining - sent : 0;
    if (m->remaining <= limit) {
        m->remaining = MIN(m->remaining + dirtied(m), MAX(m->hot, m->remaining));
        m->sample.dirty_rate = dirtied(m) * 1000 / (uint64_t)MAX(m->now - m->pass_began, 1);
        m->switched = m->remaining <= limit;
        m->pass++;
        m->pass_began = m->now;
    } else if (m->syncs_in_between && m->now - m->pass_began >= 5000) {
        m->remaining += dirtied(m);
        m->pass++;
        m->pass_began = m->now;
    }
}

static void sample(Model *m, LpmConvergence *c, const LpmConvergenceRules *rules)
{
    m->sample.now_ms = m->now;
    m->sample.pass = m->pass;
    m->sample.remaining = m->remaining;
    m->sample.rate = m->rate;
    m->sample.overhead_ms = 20;
    m->sample.qemu_expects_ms = -1;
    lpm_convergence_feed(c, rules, &m->sample);
}

static LpmConvergence run(Model *m, const LpmConvergenceRules *rules, int64_t until_ms)
{
    LpmConvergence c;
    lpm_convergence_init(&c, rules);
    m->remaining = m->total;
    m->pass = 1;
    while (!m->switched && m->now < until_ms && c.state != LPM_CONVERGENCE_NONE) {
        sample(m, &c, rules);
        step(m, &c);
    }
    return c;
}

static const LpmConvergenceRules usual = {.max_blackout_ms = 300, .give_up_after_s = 60};

static void test_idle_is_paused_least(void)
{
    Model m = {.total = 1000 * MB, .hot = MB / 2, .write_rate = MB, .rate = 100 * MB};
    LpmConvergence c = run(&m, &usual, 60000);
    g_assert_true(m.switched);
    g_assert_cmpint(c.limit_ms, ==, LPM_CONVERGENCE_FIRST_LIMIT_MS);
    g_assert_cmpint(c.predicted_ms, >=, 20);
    g_assert_cmpint(c.predicted_ms, <=, 20 + c.limit_ms);
}

static void test_first_limit_is_within_the_most(void)
{
    LpmConvergence c;
    LpmConvergenceRules rules = {.max_blackout_ms = 10};
    lpm_convergence_init(&c, &rules);
    g_assert_cmpint(c.limit_ms, ==, 10);
}

static void test_busy_one_gets_what_it_needs(void)
{
    /* 20 MB are written to without end: 200 ms of the link. */
    Model m = {.total = 1000 * MB, .hot = 20 * MB, .write_rate = 500 * MB, .rate = 100 * MB};
    LpmConvergence c = run(&m, &usual, 60000);
    g_assert_true(m.switched);
    g_assert_cmpint(c.limit_ms, >=, 200);
    g_assert_cmpint(c.limit_ms, <=, 300);
    g_assert_cmpint(m.now, <, 20000);
    g_assert_cmpint((int)c.state, ==, LPM_CONVERGENCE_GOOD);
}

static void test_verdict_and_what_would_do(void)
{
    Model m = {.total = 1000 * MB, .hot = 200 * MB, .write_rate = 150 * MB, .rate = 100 * MB};
    LpmConvergence c = run(&m, &usual, 120000);
    g_assert_false(m.switched);
    g_assert_cmpint((int)c.state, ==, LPM_CONVERGENCE_NONE);
    g_assert_cmpint(c.needed_ms, >=, 2000);
    g_assert_cmpint(c.needed_ms, <=, 2600);
    g_assert_cmpint(c.needed_ms % 50, ==, 0);
    g_assert_cmpint(c.eta_ms, ==, -1);
    g_assert_cmpint(c.predicted_ms, >=, 2000);

    char advice[LPM_CONVERGENCE_ADVICE][LPM_CONVERGENCE_ADVICE_SIZE];
    g_assert_cmpuint(lpm_convergence_advice(&c, &usual, 0, advice), ==, 4);
    g_autofree char *blackout = g_strdup_printf("--max-blackout %d", (int)c.needed_ms);
    g_assert_nonnull(strstr(advice[0], "bandwidth"));
    g_assert_nonnull(strstr(advice[1], blackout));
    g_assert_nonnull(strstr(advice[2], "--auto-converge"));
    g_assert_nonnull(strstr(advice[3], "--postcopy"));
    LpmConvergenceRules all = {.max_blackout_ms = 300, .auto_converge = true, .postcopy = true};
    g_assert_cmpuint(lpm_convergence_advice(&c, &all, 100 * MB, advice), ==, 2);
    g_assert_nonnull(strstr(advice[0], "--max-rate"));
}

static void test_what_was_advised_helps(void)
{
    Model m = {.total = 1000 * MB, .hot = 200 * MB, .write_rate = 150 * MB, .rate = 100 * MB};
    LpmConvergenceRules rules = usual;
    LpmConvergence c = run(&m, &rules, 120000);
    int64_t verdict_at = m.now;
    rules.max_blackout_ms = c.needed_ms;
    while (!m.switched && m.now < verdict_at + 10000) {
        sample(&m, &c, &rules);
        step(&m, &c);
    }
    g_assert_true(m.switched);
    g_assert_cmpint(c.limit_ms, ==, rules.max_blackout_ms);
}

static void test_slow_but_sure_is_no_failure(void)
{
    Model m = {.total = 1000 * MB, .hot = 1000 * MB, .write_rate = 60 * MB, .rate = 100 * MB};
    LpmConvergence c = run(&m, &usual, 120000);
    g_assert_true(m.switched);
    g_assert_cmpint((int)c.state, !=, LPM_CONVERGENCE_NONE);
}

static void test_looks_in_between_are_no_passes(void)
{
    Model m = {.total = 4000 * MB,
               .hot = 1000 * MB,
               .write_rate = 40 * MB,
               .rate = 50 * MB,
               .syncs_in_between = true};
    LpmConvergence c;
    lpm_convergence_init(&c, &usual);
    m.remaining = m.total;
    m.pass = 1;
    while (m.now < 60000) { /* the first pass is not over yet */
        sample(&m, &c, &usual);
        step(&m, &c);
        g_assert_cmpint((int)c.state, ==, LPM_CONVERGENCE_FIRST);
        g_assert_cmpint(c.limit_ms, ==, LPM_CONVERGENCE_FIRST_LIMIT_MS);
    }
    g_assert_cmpuint(m.pass, >, 8);
}

/* The mover's window takes whole passes, so that QEMU has nothing left while the wire is behind. */
static void test_what_is_in_flight_is_not_sent(void)
{
    LpmConvergence c;
    LpmConvergenceSample sample = {.rate = MB / 2, .overhead_ms = 20, .qemu_expects_ms = -1};
    LpmConvergenceRules rules = {.max_blackout_ms = 100};
    lpm_convergence_init(&c, &rules);
    for (sample.pass = 1; sample.pass < 8; sample.pass++) {
        sample.in_flight =
            MB / 2 - sample.pass % 2 * MB / 8; /* up and down, on the whole the same */
        lpm_convergence_feed(&c, &rules, &sample);
        sample.now_ms += 1000;
    }
    g_assert_cmpint((int)c.state, ==, LPM_CONVERGENCE_NONE);
    g_assert_cmpint(c.needed_ms, >=, 750);
    g_assert_cmpint(c.predicted_ms, >=, 750);
    sample.rate = 0; /* nothing has arrived lately: that is no news */
    lpm_convergence_feed(&c, &rules, &sample);
    g_assert_cmpint((int)c.state, ==, LPM_CONVERGENCE_NONE);
}

static void test_slowing_down_gets_its_time(void)
{
    LpmConvergenceRules rules = {.max_blackout_ms = 300, .auto_converge = true};
    Model m = {.total = 1000 * MB, .hot = 200 * MB, .write_rate = 150 * MB, .rate = 100 * MB};
    m.sample.throttle = 20;
    run(&m, &rules, 120000);
    uint64_t patient = m.pass;
    Model spent = {.total = 1000 * MB, .hot = 200 * MB, .write_rate = 150 * MB, .rate = 100 * MB};
    spent.sample.throttle = 99;
    run(&spent, &rules, 120000);
    g_assert_cmpuint(patient, >, spent.pass + 2);
}

static void test_giving_up_takes_its_time(void)
{
    Model m = {.total = 1000 * MB, .hot = 200 * MB, .write_rate = 150 * MB, .rate = 100 * MB};
    LpmConvergence c = run(&m, &usual, 120000);
    g_assert_false(lpm_convergence_give_up(&c, &usual));
    int64_t began = m.now;
    while (!lpm_convergence_give_up(&c, &usual) && m.now < began + 100000) {
        sample(&m, &c, &usual);
        step(&m, &c);
    }
    g_assert_cmpint(m.now - began, >=, 60000 - 2 * TICK);
    g_assert_cmpint(m.now - began, <=, 60000 + 4 * TICK);
    LpmConvergenceRules never = {.max_blackout_ms = 300};
    g_assert_false(lpm_convergence_give_up(&c, &never));
}

static void test_postcopy_is_due(void)
{
    LpmConvergenceRules rules = {.max_blackout_ms = 300, .postcopy = true};
    Model m = {.total = 1000 * MB, .hot = 200 * MB, .write_rate = 150 * MB, .rate = 100 * MB};
    LpmConvergence c = run(&m, &rules, 5000);
    g_assert_false(lpm_convergence_go_postcopy(&c, &rules)); /* still in the first pass */
    Model longer = m;
    longer.now = 0;
    c = run(&longer, &rules, 11000);
    g_assert_true(lpm_convergence_go_postcopy(&c, &rules));
    LpmConvergenceRules later = {.max_blackout_ms = 300, .postcopy_after_s = 13};
    g_assert_false(lpm_convergence_go_postcopy(&c, &later));
    later.postcopy_after_s = 10;
    g_assert_true(lpm_convergence_go_postcopy(&c, &later));
    g_assert_false(lpm_convergence_go_postcopy(&c, &usual));
}

static void test_nothing_is_said_without_a_rate(void)
{
    LpmConvergence c;
    LpmConvergenceSample nothing = {.pass = 5, .remaining = MB, .qemu_expects_ms = -1};
    lpm_convergence_init(&c, &usual);
    lpm_convergence_feed(&c, &usual, &nothing);
    g_assert_cmpint(c.predicted_ms, ==, -1);
    g_assert_cmpint(c.needed_ms, ==, -1);
    nothing.qemu_expects_ms = 40;
    nothing.overhead_ms = 5;
    lpm_convergence_feed(&c, &usual, &nothing);
    g_assert_cmpint(c.predicted_ms, ==, 45);
}

static void test_qemu_is_let_go_while_the_wire_is_not_full(void)
{
    static const struct {
        uint64_t now, max, stream, wire, wanted;
    } rows[] = {
        {10, 10, 10, 2, 20}, /* the codec makes it small */
        {10, 10, 10, 9, 10}, /* the wire is full */
        {10, 10, 3, 2, 10},  /* QEMU has not more to say */
        {40, 10, 39, 5, 80}, {40, 0, 39, 5, 40},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_assert_cmpuint(lpm_convergence_qemu_rate(rows[i].now * MB, rows[i].max * MB,
                                                   rows[i].stream * MB, rows[i].wire * MB),
                         ==, rows[i].wanted * MB);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/convergence/idle", test_idle_is_paused_least);
    g_test_add_func("/convergence/first-limit", test_first_limit_is_within_the_most);
    g_test_add_func("/convergence/busy", test_busy_one_gets_what_it_needs);
    g_test_add_func("/convergence/verdict", test_verdict_and_what_would_do);
    g_test_add_func("/convergence/advice-helps", test_what_was_advised_helps);
    g_test_add_func("/convergence/slow", test_slow_but_sure_is_no_failure);
    g_test_add_func("/convergence/looks", test_looks_in_between_are_no_passes);
    g_test_add_func("/convergence/in-flight", test_what_is_in_flight_is_not_sent);
    g_test_add_func("/convergence/auto-converge", test_slowing_down_gets_its_time);
    g_test_add_func("/convergence/give-up", test_giving_up_takes_its_time);
    g_test_add_func("/convergence/postcopy", test_postcopy_is_due);
    g_test_add_func("/convergence/no-rate", test_nothing_is_said_without_a_rate);
    g_test_add_func("/convergence/qemu-rate", test_qemu_is_let_go_while_the_wire_is_not_full);
    return g_test_run();
}
