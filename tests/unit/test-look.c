/* SPDX-License-Identifier: Apache-2.0 */
/* What a half knows of its record, and of its arbiter, with an arbiter that answers when told. */
#include "host/migration.h"

#include <string.h>

static const uint8_t uuid[16] = {1, 2, 3};
static const char *const id = "aa000000000000000000000000000000";

/* --- an arbiter and a clock that are moved by hand --- */

typedef struct {
    LpmArbiter base;
    LpmArbiterReply reply; /* of the call that is under way */
    void *data;
    unsigned swaps;
    LpmRecord next;
} FakeArbiter;

static void fake_read(LpmArbiter *arbiter, unsigned deadline_ms, LpmArbiterReply reply, void *data)
{
    FakeArbiter *fake = (FakeArbiter *)arbiter;
    (void)deadline_ms;
    fake->reply = reply;
    fake->data = data;
}

static void fake_swap(LpmArbiter *arbiter, uint64_t expected, const LpmRecord *next,
                      unsigned deadline_ms, LpmArbiterReply reply, void *data)
{
    FakeArbiter *fake = (FakeArbiter *)arbiter;
    g_assert_cmpuint(next->revision, ==, expected + 1);
    fake->swaps++;
    fake->next = *next;
    fake_read(arbiter, deadline_ms, reply, data);
}

static void fake_free(LpmArbiter *arbiter)
{
    (void)arbiter;
}

static const LpmArbiterOps fake_ops = {
    .name = "fake",
    .read = fake_read,
    .swap = fake_swap,
    .free = fake_free,
};

static int64_t now_us;

static int64_t by_hand(const LpmClock *clock)
{
    (void)clock;
    return now_us;
}

static const LpmClock clock_by_hand = {by_hand, by_hand, NULL};

/* --- a half that does nothing by itself --- */

static void look(LpmMigration *migration)
{
    lpm_mig_next(migration, LPM_NEXT_LATER);
}

static void act(LpmMigration *migration, unsigned action)
{
    (void)action;
    lpm_mig_next(migration, LPM_NEXT_LATER);
}

static void free_half(LpmMigration *migration)
{
    g_free(migration);
}

static const LpmHalfOps half_ops = {look, act, free_half};

typedef struct {
    LpmHost host;
    LpmHostConfig config;
    FakeArbiter *arbiter;
    LpmMigration *target;
    LpmRecord first;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
    (void)data;
    now_us = 1000000;
    f->config.name = g_strdup("beta");
    f->host.config = &f->config;
    f->host.clock = &clock_by_hand;
    f->arbiter = g_new0(FakeArbiter, 1);
    f->arbiter->base.ops = &fake_ops;
    f->arbiter->base.refs = 1;
    f->target = g_new0(LpmMigration, 1);
    lpm_mig_init(f->target, &f->host, LPM_MOB_DST, &half_ops, id);
    f->target->peer = g_strdup("alpha");
    f->target->name = g_strdup("p1");
    f->target->arbiter = &f->arbiter->base;
    f->target->base_revision = 1;
    lpm_record_first(uuid, "alpha", 1, &f->first);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    lpm_mig_unref(f->target);
    g_free(f->config.name);
}

static void answer(Fixture *f, LpmArbiterResult result, const LpmRecord *now)
{
    f->arbiter->reply(result, now, NULL, f->arbiter->data);
}

static LpmArbiterResult swap_result;

static void swapped(LpmMigration *migration, LpmArbiterResult result, const GError *error)
{
    (void)migration;
    (void)error;
    swap_result = result;
}

static void was_read(LpmMigration *migration, const GError *error)
{
    (void)migration;
    g_assert_no_error(error);
}

static void read_first(Fixture *f)
{
    lpm_mig_read(f->target, 100, was_read);
    answer(f, LPM_ARBITER_DONE, &f->first);
    g_assert_cmpint(lpm_mig_record_view(f->target), ==, LPM_MOB_REC_SOURCE);
}

/* The offer was not there: the record is unknown, and is read before anything else is done. */
static void belief_is_lost(Fixture *f, gconstpointer data)
{
    (void)data;
    read_first(f);
    lpm_mig_believe_offer(f->target);
    g_assert_cmpint(lpm_mig_record_view(f->target), ==, LPM_MOB_REC_OFFER);
    lpm_mig_swap(f->target, LPM_RECORD_TAKEN, LPM_RECORD_BY_PEER, "take", swapped);
    g_assert_cmpuint(f->arbiter->swaps, ==, 1);
    answer(f, LPM_ARBITER_LOST, &f->first);
    g_assert_cmpint(swap_result, ==, LPM_ARBITER_LOST);
    g_assert_cmpint(lpm_mig_record_view(f->target), ==, LPM_MOB_REC_SOURCE);
    g_assert_cmpuint(f->target->record.revision, ==, 1);
}

/* Of the same revision: what is there counts. */
static void belief_was_back(Fixture *f, gconstpointer data)
{
    (void)data;
    LpmRecord back;
    read_first(f);
    lpm_mig_believe_offer(f->target);
    lpm_mig_swap(f->target, LPM_RECORD_TAKEN, LPM_RECORD_BY_PEER, "take", swapped);
    g_assert_true(lpm_record_next(&f->first, LPM_RECORD_BACK, LPM_RECORD_BY_OWNER,
                                  f->target->id_bytes, "", 5, &back));
    answer(f, LPM_ARBITER_LOST, &back);
    g_assert_cmpint(lpm_mig_record_view(f->target), ==, LPM_MOB_REC_BACK);
}

/* An answer that took its time, or one that is still owed, is no reason to trust the next one. */
static void quick(Fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_false(lpm_mig_arbiter_is_quick(f->target));
    read_first(f);
    g_assert_true(lpm_mig_arbiter_is_quick(f->target));
    lpm_mig_read(f->target, 1000, was_read);
    g_assert_false(lpm_mig_arbiter_is_quick(f->target));
    now_us += 900 * 1000;
    answer(f, LPM_ARBITER_DONE, &f->first);
    g_assert_false(lpm_mig_arbiter_is_quick(f->target));
    read_first(f);
    g_assert_true(lpm_mig_arbiter_is_quick(f->target));
    now_us += LPM_MIG_JUST_NOW_MS * 1000;
    g_assert_false(lpm_mig_arbiter_is_quick(f->target));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_log_set_always_fatal(G_LOG_LEVEL_CRITICAL);
    g_test_add("/look/belief-is-lost", Fixture, NULL, set_up, belief_is_lost, tear_down);
    g_test_add("/look/belief-was-back", Fixture, NULL, set_up, belief_was_back, tear_down);
    g_test_add("/look/quick", Fixture, NULL, set_up, quick, tear_down);
    return g_test_run();
}
