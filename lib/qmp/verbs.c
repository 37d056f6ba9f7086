/* SPDX-License-Identifier: Apache-2.0 */
/* Commands whose answer says only that it is done. */
#include "qmp/connection.h"

#define MOVE_FD_NAME "lpm-move"

static void run(LpmQmp *qmp, const char *command, json_t *arguments, LpmQmpDone done, void *data)
{
    lpm_qmp_submit(qmp, command, arguments, -1, false, lpm_qmp_done_reply,
                   lpm_qmp_done_new(done, data));
}

/* --- running --- */

void lpm_qmp_stop(LpmQmp *qmp, LpmQmpDone done, void *data)
{
    run(qmp, "stop", NULL, done, data);
}

void lpm_qmp_quit(LpmQmp *qmp, LpmQmpDone done, void *data)
{
    run(qmp, "quit", NULL, done, data);
}

void lpm_qmp_system_powerdown(LpmQmp *qmp, LpmQmpDone done, void *data)
{
    run(qmp, "system_powerdown", NULL, done, data);
}

void lpm_qmp_system_reset(LpmQmp *qmp, LpmQmpDone done, void *data)
{
    run(qmp, "system_reset", NULL, done, data);
}

void lpm_qmp_system_wakeup(LpmQmp *qmp, LpmQmpDone done, void *data)
{
    run(qmp, "system_wakeup", NULL, done, data);
}

/* --- moving --- */

void lpm_qmp_migrate_start_postcopy(LpmQmp *qmp, LpmQmpDone done, void *data)
{
    run(qmp, "migrate-start-postcopy", NULL, done, data);
}

void lpm_qmp_getfd(LpmQmp *qmp, const char *name, int fd, LpmQmpDone done, void *data)
{
    lpm_qmp_submit(qmp, "getfd", lpm_json_pack("{s:s}", "fdname", name), fd, false,
                   lpm_qmp_done_reply, lpm_qmp_done_new(done, data));
}

void lpm_qmp_migrate(LpmQmp *qmp, const char *uri, LpmQmpDone done, void *data)
{
    run(qmp, "migrate", lpm_json_pack("{s:s}", "uri", uri), done, data);
}

void lpm_qmp_migrate_incoming(LpmQmp *qmp, const char *uri, LpmQmpDone done, void *data)
{
    run(qmp, "migrate-incoming", lpm_json_pack("{s:s}", "uri", uri), done, data);
}

typedef struct {
    LpmQmp *qmp;
    const char *command;
    bool resume;
    LpmQmpDone done;
    void *data;
} Begin;

static void on_fd_given(G_GNUC_UNUSED json_t *result, const GError *error, void *data)
{
    g_autofree Begin *begin = data;

    if (!error) {
        json_t *arguments = lpm_json_pack("{s:s}", "uri", "fd:" MOVE_FD_NAME);

        if (begin->resume) {
            json_object_set_new(arguments, "resume", json_true());
        }
        lpm_qmp_submit(begin->qmp, begin->command, arguments, -1, true, lpm_qmp_done_reply,
                       lpm_qmp_done_new(begin->done, begin->data));
    } else if (begin->done) {
        begin->done(error, begin->data);
    }
}

static void begin_on_fd(LpmQmp *qmp, const char *command, bool resume, int fd, LpmQmpDone done,
                        void *data)
{
    Begin *begin = g_new0(Begin, 1);

    begin->qmp = qmp;
    begin->command = command;
    begin->resume = resume;
    begin->done = done;
    begin->data = data;
    lpm_qmp_submit(qmp, "getfd", lpm_json_pack("{s:s}", "fdname", MOVE_FD_NAME), fd, false,
                   on_fd_given, begin);
}

void lpm_qmp_migrate_fd(LpmQmp *qmp, int fd, LpmQmpDone done, void *data)
{
    begin_on_fd(qmp, "migrate", false, fd, done, data);
}

void lpm_qmp_migrate_incoming_fd(LpmQmp *qmp, int fd, LpmQmpDone done, void *data)
{
    begin_on_fd(qmp, "migrate-incoming", false, fd, done, data);
}

void lpm_qmp_migrate_resume_fd(LpmQmp *qmp, int fd, LpmQmpDone done, void *data)
{
    begin_on_fd(qmp, "migrate", true, fd, done, data);
}

void lpm_qmp_migrate_continue(LpmQmp *qmp, LpmQmpDone done, void *data)
{
    run(qmp, "migrate-continue", lpm_json_pack("{s:s}", "state", "pre-switchover"), done, data);
}

/* --- yank --- */

static void on_yanked(G_GNUC_UNUSED json_t *result, const GError *error, void *data)
{
    g_autoptr(GError) own = error ? g_error_copy(error) : NULL;

    if (own && own->code == LPM_ERROR_QEMU) {
        own->code = LPM_ERROR_STATE;
        g_prefix_error(&own, "QEMU has no migration to yank: ");
    } else if (own) {
        g_prefix_error(&own, "out-of-band ");
    }
    lpm_qmp_done_reply(NULL, own, data);
}

void lpm_qmp_yank(LpmQmp *qmp, LpmQmpDone done, void *data)
{
    void *waiting = lpm_qmp_done_new(done, data);

    if (!lpm_qmp_is_open(qmp)) {
        lpm_qmp_refuse(qmp,
                       g_error_new(LPM_ERROR, LPM_ERROR_UNREACHABLE,
                                   "yank was not sent to QEMU at %s: there is no connection",
                                   qmp->path),
                       lpm_qmp_done_reply, waiting);
        return;
    }
    lpm_rpc_call_oob(qmp->client, "yank",
                     lpm_json_pack("{s:[{s:s}]}", "instances", "type", "migration"),
                     LPM_QMP_YANK_TIMEOUT_MS, on_yanked, waiting, NULL);
}

void lpm_qmp_migrate_recover(LpmQmp *qmp, const char *uri, LpmQmpDone done, void *data)
{
    void *waiting = lpm_qmp_done_new(done, data);

    if (!lpm_qmp_is_open(qmp)) {
        lpm_qmp_refuse(qmp,
                       g_error_new(LPM_ERROR, LPM_ERROR_UNREACHABLE,
                                   "migrate-recover was not sent to QEMU at %s: there is no "
                                   "connection",
                                   qmp->path),
                       lpm_qmp_done_reply, waiting);
        return;
    }
    lpm_rpc_call_oob(qmp->client, "migrate-recover", lpm_json_pack("{s:s}", "uri", uri),
                     LPM_QMP_YANK_TIMEOUT_MS, lpm_qmp_done_reply, waiting, NULL);
}

void lpm_qmp_announce_self(LpmQmp *qmp, unsigned initial_ms, unsigned max_ms, unsigned rounds,
                           unsigned step_ms, LpmQmpDone done, void *data)
{
    run(qmp, "announce-self",
        lpm_json_pack("{s:I, s:I, s:I, s:I}", "initial", (json_int_t)initial_ms, "max",
                      (json_int_t)max_ms, "rounds", (json_int_t)rounds, "step",
                      (json_int_t)step_ms),
        done, data);
}
