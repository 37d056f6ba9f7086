/* SPDX-License-Identifier: Apache-2.0 */
/* What lib/qmp's files share; private to it. */
#pragma once

#include "qmp/qmp.h"
#include "rpc/rpc.h"

typedef struct Attempt Attempt;

struct LpmQmp {
    unsigned refs; /* held by the owner and by each function of ours that calls back */
    bool freed;
    char *path;
    LpmQmpHandlers handlers;
    unsigned timeout_ms;

    LpmRpcClient *client; /* NULL: closed */
    bool ready;           /* negotiated */
    bool doubtful;        /* QEMU may still run a command that we gave up */
    Attempt *attempt;     /* to connect */
    LpmQmpVersion version;
    char *package;
    LpmQmpMigStatus last_migration; /* kept by events and answers of this connection */

    struct LpmQmpCommand *running; /* sent and unanswered */
    GQueue waiting;                /* of LpmQmpCommand, unsent */
    GQueue refused;                /* of LpmQmpCommand; their functions are called by @refusing */
    GSource *refusing;
};

/*
 * Queues a command. @arguments is stolen. @fd (-1: none) is copied. @next puts it before all others
 * that wait: what a guard sends after its questions must directly follow them.
 */
void lpm_qmp_submit(LpmQmp *qmp, const char *command, json_t *arguments, int fd, bool next,
                    LpmQmpReply reply, void *data);
/* Calls @reply with @error (stolen) soon, not from inside the call. */
void lpm_qmp_refuse(LpmQmp *qmp, GError *error, LpmQmpReply reply, void *data);
/* Fails all that wait unsent, with a copy of @error. */
void lpm_qmp_fail_waiting(LpmQmp *qmp, const GError *error);
void lpm_qmp_ref(LpmQmp *qmp);
void lpm_qmp_unref(LpmQmp *qmp);
/* Keeps last_migration; @status NULL: the answer had none. */
void lpm_qmp_saw_migration(LpmQmp *qmp, const char *status);

/* A LpmQmpDone waiting for a LpmQmpReply: pass lpm_qmp_done_reply() and what lpm_qmp_done_new()
 * gives. */
void *lpm_qmp_done_new(LpmQmpDone done, void *data);
void lpm_qmp_done_reply(json_t *result, const GError *error, void *data);
