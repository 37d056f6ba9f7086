/* SPDX-License-Identifier: Apache-2.0 */
/* LpmQmp against a real QEMU: what its documentation says is believed only when this says so too.
 */
#include "qmp-seen.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define QEMU "qemu-system-x86_64"

typedef struct {
    Fake *base;
    Seen *seen;
    LpmQmp *qmp;
} Real;

/* @machine and what follows, split at spaces. */
static Real *real_start(const char *arguments)
{
    Real *real = g_new0(Real, 1);
    g_autofree char *line = NULL;
    g_auto(GStrv) argv = NULL;
    g_autoptr(GError) error = NULL;

    real->base = g_new0(Fake, 1);
    fake_make_directory(real->base);
    real->seen = seen_new();
    line =
        g_strdup_printf("timeout -k 1 60 " QEMU
                        " -nodefaults -nographic -accel tcg -S -qmp unix:%s,server=on,wait=off %s",
                        real->base->path, arguments);
    argv = g_strsplit(line, " ", -1);
    real->base->process =
        g_subprocess_newv((const char *const *)argv, G_SUBPROCESS_FLAGS_NONE, &error);
    g_assert_no_error(error);
    /* The socket is not there yet: connecting waits for it. */
    real->qmp = connect_to(real->base->path, real->seen);
    return real;
}

static void real_end(Real *real)
{
    lpm_qmp_quit(real->qmp, on_done, real->seen);
    wait_reply(real->seen, -1);
    WAIT_FOR(real->seen->closed == 1);
    lpm_qmp_free(real->qmp);
    fake_end(real->base);
    seen_free(real->seen);
    g_free(real);
}

static json_t *result_of(Seen *seen)
{
    wait_reply(seen, -1);
    return seen->result;
}

static bool has_string(const json_t *array, const char *wanted)
{
    json_t *text;
    size_t i;

    json_array_foreach (array, i, text) {
        if (g_strcmp0(json_string_value(text), wanted) == 0) {
            return true;
        }
    }
    return false;
}

static void test_questions(void)
{
    Real *real = real_start("-machine none -name lpar1 -uuid 12345678-1234-1234-1234-123456789abc");
    LpmQmp *qmp = real->qmp;
    Seen *seen = real->seen;

    g_assert_cmpuint(lpm_qmp_version(qmp)->major, >=, 7);
    lpm_qmp_query_identity(qmp, on_result, seen);
    g_assert_cmpstr(lpm_json_str(result_of(seen), "name", ""), ==, "lpar1");
    g_assert_cmpstr(lpm_json_str(seen->result, "uuid", ""), ==,
                    "12345678-1234-1234-1234-123456789abc");
    lpm_qmp_query_machines(qmp, on_result, seen);
    g_assert_true(has_string(result_of(seen), "q35"));
    lpm_qmp_qom_list_types(qmp, "netdev", on_result, seen);
    wait_reply(seen, -1);
    lpm_qmp_qom_list_types(qmp, "accel", on_result, seen);
    g_assert_true(has_string(result_of(seen), "tcg-accel"));
    lpm_qmp_device_list_properties(qmp, "virtio-blk-pci", on_result, seen);
    g_assert_cmpuint(json_array_size(result_of(seen)), >, 10);
    lpm_qmp_query_chardev(qmp, on_result, seen);
    g_assert_cmpuint(json_array_size(result_of(seen)), >, 0);
    lpm_qmp_query_block(qmp, on_result, seen);
    wait_reply(seen, -1);
    g_assert_true(json_is_array(seen->result));
    lpm_qmp_query_pci(qmp, on_result, seen);
    wait_reply(seen, -1);
    g_assert_true(json_is_array(seen->result));
    lpm_qmp_query_cpu_model_expansion(qmp, "full", "max", NULL, on_result, seen);
    wait_reply(seen, -1);
    g_assert_nonnull(lpm_json_at(seen->result, "props"));
    lpm_qmp_hmp(qmp, "info status", on_text, seen);
    wait_reply(seen, -1);
    g_assert_nonnull(strstr(seen->text, "status: paused"));
    lpm_qmp_query_pcr(qmp, on_number, seen);
    wait_reply(seen, LPM_ERROR_UNSUPPORTED);
    lpm_qmp_query_migration_features(qmp, on_result, seen);
    g_assert_true(has_string(lpm_json_at(result_of(seen), "capabilities"), "return-path"));
    g_assert_true(has_string(lpm_json_at(seen->result, "parameters"), "max-bandwidth"));
    lpm_qmp_call(qmp, "no-such-command", NULL, on_result, seen);
    wait_reply(seen, LPM_ERROR_UNSUPPORTED);
    real_end(real);
}

static void test_run_and_stop(void)
{
    Real *real = real_start("-machine none");
    LpmQmp *qmp = real->qmp;
    Seen *seen = real->seen;

    lpm_qmp_query_state(qmp, on_state, seen);
    wait_reply(seen, -1);
    g_assert_cmpint(seen->status.state, ==, LPM_QMP_RUN_PRELAUNCH);
    g_assert_cmpint(seen->migration.status, ==, LPM_QMP_MIG_NONE);
    lpm_qmp_cont(qmp, LPM_QMP_RUN_PAUSED, on_done, seen);
    wait_reply(seen, LPM_ERROR_STATE);
    lpm_qmp_cont(qmp, LPM_QMP_RUN_UNKNOWN, on_done, seen);
    wait_reply(seen, -1);
    lpm_qmp_stop(qmp, on_done, seen);
    wait_reply(seen, -1);
    WAIT_FOR(strcmp(seen->events->str, "RESUME STOP ") == 0);
    g_assert_cmpint(ABS(seen->event_time - g_get_real_time()), <, 60 * G_USEC_PER_SEC);
    lpm_qmp_query_state(qmp, on_state, seen);
    wait_reply(seen, -1);
    g_assert_cmpint(seen->status.state, ==, LPM_QMP_RUN_PAUSED);
    lpm_qmp_system_reset(qmp, on_done, seen);
    wait_reply(seen, -1);
    lpm_qmp_announce_self(qmp, 50, 100, 2, 10, on_done, seen);
    wait_reply(seen, -1);
    lpm_qmp_migrate_cancel(qmp, on_done, seen);
    wait_reply(seen, LPM_ERROR_STATE);
    lpm_qmp_yank(qmp, on_done, seen);
    wait_reply(seen, LPM_ERROR_STATE);
    real_end(real);
}

static const LpmQmpParameter fast[] = {
    {"max-bandwidth", 1 << 30, true}, {"downtime-limit", 2000, true}, {NULL}};

static void set_up(LpmQmp *qmp, Seen *seen)
{
    lpm_qmp_set_capabilities(qmp, lpm_qmp_move_capabilities, on_done, seen);
    wait_reply(seen, -1);
    lpm_qmp_set_parameters(qmp, fast, on_done, seen);
    wait_reply(seen, -1);
}

/* A whole move between two QEMUs over a socket pair, in the order that the handover needs. */
static void test_move(void)
{
    const char *machine = "-machine pc -m 64";
    Real *source = real_start(machine);
    Real *target = real_start("-machine pc -m 64 -incoming defer");
    int fds[2];

    set_up(source->qmp, source->seen);
    set_up(target->qmp, target->seen);
    lpm_qmp_cont(source->qmp, LPM_QMP_RUN_PRELAUNCH, on_done, source->seen);
    wait_reply(source->seen, -1);
    lpm_qmp_cont(target->qmp, LPM_QMP_RUN_UNKNOWN, on_done, target->seen);
    wait_reply(target->seen, LPM_ERROR_STATE);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    lpm_qmp_migrate_incoming_fd(target->qmp, fds[1], on_done, target->seen);
    wait_reply(target->seen, -1);
    lpm_qmp_migrate_fd(source->qmp, fds[0], on_done, source->seen);
    wait_reply(source->seen, -1);
    close(fds[0]);
    close(fds[1]);
    WAIT_FOR(lpm_qmp_last_migration(source->qmp) == LPM_QMP_MIG_PRE_SWITCHOVER);
    lpm_qmp_cont(source->qmp, LPM_QMP_RUN_UNKNOWN, on_done, source->seen);
    wait_reply(source->seen, LPM_ERROR_STATE);
    lpm_qmp_migrate_continue(source->qmp, on_done, source->seen);
    wait_reply(source->seen, -1);
    WAIT_FOR(lpm_qmp_last_migration(target->qmp) == LPM_QMP_MIG_COMPLETED);
    WAIT_FOR(lpm_qmp_last_migration(source->qmp) == LPM_QMP_MIG_COMPLETED);
    /* QEMU says completed a moment before it is postmigrate. */
    do {
        lpm_qmp_query_state(source->qmp, on_state, source->seen);
        wait_reply(source->seen, -1);
    } while (source->seen->status.state == LPM_QMP_RUN_FINISH_MIGRATE);
    g_assert_cmpint(source->seen->status.state, ==, LPM_QMP_RUN_POSTMIGRATE);
    g_assert_cmpuint(source->seen->migration.transferred, >, 0);
    g_assert_cmpint(source->seen->migration.downtime_ms, >=, 0);
    lpm_qmp_cont(target->qmp, LPM_QMP_RUN_PAUSED, on_done, target->seen);
    wait_reply(target->seen, -1);
    g_assert_nonnull(strstr(source->seen->events->str,
                            "STOP MIGRATION:pre-switchover MIGRATION:device MIGRATION_PASS "));
    real_end(source);
    real_end(target);
}

/* --- a switchover that is stuck --- */

static gboolean drain(G_GNUC_UNUSED int fd_unused, G_GNUC_UNUSED GIOCondition condition, void *data)
{
    char buffer[65536];

    return read(*(int *)data, buffer, sizeof(buffer)) > 0 || errno == EAGAIN;
}

/* A move whose other end stops reading in the switchover, so that QEMU's main loop hangs. Returns
 * the other end. */
static int get_stuck(LpmQmp *qmp, Seen *seen)
{
    int fds[2];
    int small = 4096;
    guint draining;

    set_up(qmp, seen);
    lpm_qmp_cont(qmp, LPM_QMP_RUN_PRELAUNCH, on_done, seen);
    wait_reply(seen, -1);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), ==, 0);
    g_assert_cmpint(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), ==, 0);
    draining = g_unix_fd_add(fds[1], G_IO_IN, drain, &fds[1]);
    lpm_qmp_migrate_fd(qmp, fds[0], on_done, seen);
    wait_reply(seen, -1);
    close(fds[0]);
    WAIT_FOR(lpm_qmp_last_migration(qmp) == LPM_QMP_MIG_PRE_SWITCHOVER);
    g_source_remove(draining);
    lpm_qmp_migrate_continue(qmp, on_done, seen);
    wait_reply(seen, -1);
    WAIT_FOR(lpm_qmp_last_migration(qmp) == LPM_QMP_MIG_DEVICE);
    /* The status comes a moment before the hang. */
    lpm_qmp_set_timeout(qmp, 300);
    for (int i = 0; i < 100 && !lpm_qmp_is_doubtful(qmp); i++) {
        unsigned before = seen->replies;

        lpm_qmp_call(qmp, "query-status", NULL, on_result, seen);
        WAIT_FOR(seen->replies > before);
    }
    g_assert_true(lpm_qmp_is_doubtful(qmp));
    g_assert_cmpint(seen->code, ==, LPM_ERROR_TIMEOUT);
    lpm_qmp_set_timeout(qmp, WAIT_MS);
    return fds[1];
}

/* Nothing more is sent, yank gets through, QEMU resumes the partition by itself, and after that all
 * is as before. */
static void test_stuck(void)
{
    Real *source = real_start("-machine pc -m 64");
    LpmQmp *qmp = source->qmp;
    Seen *seen = source->seen;
    int other_end = get_stuck(qmp, seen);

    lpm_qmp_system_reset(qmp, on_done, seen);
    wait_reply(seen, LPM_ERROR_STATE);
    lpm_qmp_yank(qmp, on_done, seen);
    wait_reply(seen, -1);
    WAIT_FOR(g_str_has_suffix(seen->events->str, "MIGRATION:failed RESUME "));
    lpm_qmp_reconnect(qmp, WAIT_MS, on_done, seen);
    wait_reply(seen, -1);
    lpm_qmp_query_state(qmp, on_state, seen);
    wait_reply(seen, -1);
    g_assert_cmpint(seen->status.state, ==, LPM_QMP_RUN_RUNNING);
    g_assert_cmpint(seen->migration.status, ==, LPM_QMP_MIG_FAILED);
    g_assert_null(strstr(seen->events->str, "RESET"));
    close(other_end);
    real_end(source);
}

/*
 * While the main loop hangs QEMU greets nobody: who drops the connection before the yank has only
 * the other way left, to close the migration's socket.
 */
static void test_reconnect_while_stuck(void)
{
    Real *source = real_start("-machine pc -m 64");
    LpmQmp *qmp = source->qmp;
    Seen *seen = source->seen;
    int other_end = get_stuck(qmp, seen);

    lpm_qmp_reconnect(qmp, 500, on_done, seen);
    wait_reply(seen, LPM_ERROR_TIMEOUT);
    lpm_qmp_yank(qmp, on_done, seen);
    wait_reply(seen, LPM_ERROR_UNREACHABLE);
    close(other_end);
    lpm_qmp_reconnect(qmp, WAIT_MS, on_done, seen);
    wait_reply(seen, -1);
    lpm_qmp_query_state(qmp, on_state, seen);
    wait_reply(seen, -1);
    g_assert_cmpint(seen->migration.status, ==, LPM_QMP_MIG_FAILED);
    real_end(source);
}

static void skip_all(void)
{
    g_test_skip(QEMU " is not installed: scripts/deps installs it");
}

int main(int argc, char **argv)
{
    g_autofree char *qemu = g_find_program_in_path(QEMU);

    g_test_init(&argc, &argv, NULL);
    if (!qemu) {
        g_test_add_func("/qmp-real/no-emulator", skip_all);
        return g_test_run();
    }
    g_test_add_func("/qmp-real/questions", test_questions);
    g_test_add_func("/qmp-real/run-and-stop", test_run_and_stop);
    g_test_add_func("/qmp-real/move", test_move);
    g_test_add_func("/qmp-real/stuck", test_stuck);
    g_test_add_func("/qmp-real/reconnect-while-stuck", test_reconnect_while_stuck);
    return g_test_run();
}
