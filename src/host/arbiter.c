/* SPDX-License-Identifier: Apache-2.0 */
#include "host/arbiter.h"

#include <gio/gio.h>

LpmArbiter *lpm_arbiter_ref(LpmArbiter *arbiter)
{
    arbiter->refs++;
    return arbiter;
}

void lpm_arbiter_unref(LpmArbiter *arbiter)
{
    if (!arbiter || --arbiter->refs > 0) {
        return;
    }
    arbiter->ops->free(arbiter);
    g_free(arbiter->where);
    g_free(arbiter);
}

/* --- arbiters that block: a thread a call --- */

/* The thread owns what is above the line until it ends; the main loop owns the rest. */
typedef struct {
    LpmArbiter *arbiter; /* a reference; given back on the main loop */
    LpmArbiterAsk ask;
    LpmArbiterResult result;
    LpmRecord now;
    GError *error;
    /* --- */
    LpmArbiterReply reply; /* NULL once answered */
    void *data;
    guint timer;
} Job;

static void job_answer(Job *job, LpmArbiterResult result, const LpmRecord *now, const GError *error)
{
    LpmArbiterReply reply = job->reply;
    job->reply = NULL;
    if (reply) {
        reply(result, result == LPM_ARBITER_UNKNOWN ? NULL : now, error, job->data);
    }
}

/* The thread stays behind; its result will be dropped. */
static gboolean job_too_late(gpointer data)
{
    Job *job = data;
    job->timer = 0;
    g_autoptr(GError) error = NULL;
    lpm_error_set(&error, LPM_ERROR_TIMEOUT, "%s %s does not answer", job->arbiter->ops->worker,
                  job->arbiter->where);
    job_answer(job, LPM_ARBITER_UNKNOWN, NULL, error);
    return G_SOURCE_REMOVE;
}

static void job_run(GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
    (void)source;
    (void)cancellable;
    Job *job = data;
    job->result = job->arbiter->ops->work(job->arbiter, &job->ask, &job->now, &job->error);
    g_task_return_boolean(task, TRUE);
}

static void job_ended(GObject *source, GAsyncResult *result, gpointer data)
{
    (void)source;
    (void)result;
    Job *job = data;
    g_clear_handle_id(&job->timer, g_source_remove);
    job_answer(job, job->result, &job->now, job->error);
    lpm_arbiter_unref(job->arbiter);
    g_clear_error(&job->error);
    g_free(job);
}

static void job_start(LpmArbiter *arbiter, LpmArbiterVerb verb, uint64_t expected,
                      const LpmRecord *next, unsigned deadline_ms, LpmArbiterReply reply,
                      void *data)
{
    Job *job = g_new0(Job, 1);
    job->arbiter = lpm_arbiter_ref(arbiter);
    job->ask.verb = verb;
    job->ask.expected = expected;
    if (next) {
        job->ask.next = *next;
    }
    job->ask.deadline_us = g_get_monotonic_time() + (int64_t)deadline_ms * 1000;
    job->reply = reply;
    job->data = data;
    /* A little later than the thread's own deadline, so that its reason is the one that is told. */
    job->timer = g_timeout_add(deadline_ms + 50, job_too_late, job);
    g_autoptr(GTask) task = g_task_new(NULL, NULL, job_ended, job);
    g_task_set_priority(task, G_PRIORITY_HIGH);
    g_task_set_task_data(task, job, NULL);
    g_task_run_in_thread(task, job_run);
}

/* --- the calls --- */

void lpm_arbiter_read(LpmArbiter *arbiter, unsigned deadline_ms, LpmArbiterReply reply, void *data)
{
    if (arbiter->ops->work) {
        job_start(arbiter, LPM_ARBITER_READ, 0, NULL, deadline_ms, reply, data);
    } else {
        arbiter->ops->read(arbiter, deadline_ms, reply, data);
    }
}

void lpm_arbiter_swap(LpmArbiter *arbiter, uint64_t expected, const LpmRecord *next,
                      unsigned deadline_ms, LpmArbiterReply reply, void *data)
{
    if (arbiter->ops->work) {
        job_start(arbiter, LPM_ARBITER_SWAP, expected, next, deadline_ms, reply, data);
    } else {
        arbiter->ops->swap(arbiter, expected, next, deadline_ms, reply, data);
    }
}

void lpm_arbiter_remove(LpmArbiter *arbiter, uint64_t expected, unsigned deadline_ms,
                        LpmArbiterReply reply, void *data)
{
    if (arbiter->ops->work) {
        job_start(arbiter, LPM_ARBITER_REMOVE, expected, NULL, deadline_ms, reply, data);
    } else {
        arbiter->ops->remove(arbiter, expected, deadline_ms, reply, data);
    }
}
