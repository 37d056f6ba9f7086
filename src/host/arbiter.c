/* SPDX-License-Identifier: Apache-2.0 */
#include "host/arbiter.h"

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

void lpm_arbiter_read(LpmArbiter *arbiter, unsigned deadline_ms, LpmArbiterReply reply, void *data)
{
    arbiter->ops->read(arbiter, deadline_ms, reply, data);
}

void lpm_arbiter_swap(LpmArbiter *arbiter, uint64_t expected, const LpmRecord *next,
                      unsigned deadline_ms, LpmArbiterReply reply, void *data)
{
    arbiter->ops->swap(arbiter, expected, next, deadline_ms, reply, data);
}

void lpm_arbiter_remove(LpmArbiter *arbiter, uint64_t expected, unsigned deadline_ms,
                        LpmArbiterReply reply, void *data)
{
    arbiter->ops->remove(arbiter, expected, deadline_ms, reply, data);
}
