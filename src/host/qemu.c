/* SPDX-License-Identifier: Apache-2.0 */
/* A partition's QEMU while it lives: its events, its state, its end. */
#include "base/log.h"
#include "host/emulator.h"
#include "host/grow.h"
#include "host/partition.h"
#include "host/rtc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECONNECT_MS         500
#define LAST_WORDS_MS        1000
#define RECONNECT_TIMEOUT_MS 5000
#define LOG_TAIL_BYTES       2048

typedef struct {
    LpmEndFunc func;
    void *data;
} LpmEndWaiter;

char *lpm_qemu_path(const LpmPartition *partition, const char *name)
{
    return g_build_filename(partition->run_dir, name, NULL);
}

char *lpm_qemu_last_words(const LpmPartition *partition)
{
    g_autofree char *path = g_strconcat(partition->run_dir, ".log", NULL);
    g_autofree char *valid = NULL;
    char text[LOG_TAIL_BYTES + 1] = "";
    const char *line;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
    ssize_t got = 0;

    if (size > 0) {
        got = pread(fd, text, LOG_TAIL_BYTES, size > LOG_TAIL_BYTES ? size - LOG_TAIL_BYTES : 0);
    }
    if (fd >= 0) {
        close(fd);
    }
    text[got > 0 ? got : 0] = '\0';
    g_strchomp(text);
    line = strrchr(text, '\n');
    valid = g_utf8_make_valid(line ? line + 1 : text, -1);
    return *valid ? g_steal_pointer(&valid) : g_strdup("it wrote nothing");
}

/* --- waiting for its end --- */

void lpm_qemu_end_wait(LpmPartition *partition, LpmEndFunc func, void *data)
{
    LpmEndWaiter *waiter = g_new0(LpmEndWaiter, 1);

    waiter->func = func;
    waiter->data = data;
    partition->end_waiters = g_list_append(partition->end_waiters, waiter);
}

void lpm_qemu_end_cancel(LpmPartition *partition, LpmEndFunc func, void *data)
{
    for (GList *item = partition->end_waiters; item; item = item->next) {
        LpmEndWaiter *waiter = item->data;

        if (waiter->func == func && waiter->data == data) {
            partition->end_waiters = g_list_delete_link(partition->end_waiters, item);
            g_free(waiter);
            return;
        }
    }
}

/* --- its end --- */

static void free_later(LpmPartition *partition)
{
    /* Their own callbacks may be on the stack. */
    if (partition->qmp) {
        g_idle_add_once((GSourceOnceFunc)lpm_qmp_free, g_steal_pointer(&partition->qmp));
    }
    if (partition->agent) {
        g_idle_add_once((GSourceOnceFunc)lpm_qga_free, g_steal_pointer(&partition->agent));
    }
}

static void remove_sockets(const LpmPartition *partition)
{
    static const char *const names[] = {"qmp.sock", "qmp2.sock", "console.sock", "agent.sock"};

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = lpm_qemu_path(partition, names[i]);

        (void)g_unlink(path);
    }
}

static void release(LpmPartition *partition)
{
    free_later(partition);
    g_clear_handle_id(&partition->timer, g_source_remove);
    close(partition->pidfd);
    partition->pidfd = -1;
    partition->pid = 0;
    if (partition->memory_fd >= 0) {
        close(partition->memory_fd);
        partition->memory_fd = -1;
    }
    g_clear_pointer(&partition->runtime, json_decref);
    g_clear_pointer(&partition->activating, g_free);
    g_clear_pointer(&partition->current_mode, g_free);
    partition->incoming = false;
    partition->unsettled = false;
    remove_sockets(partition);
    lpm_partition_drop_runtime(partition);
}

/* Why QEMU ended, for people; whether it was asked to in @ret_asked. */
static char *reason_of_end(const LpmPartition *partition, bool *ret_asked)
{
    g_autofree char *words = NULL;

    *ret_asked = true;
    if (partition->end_reason) {
        return *partition->end_reason ? g_strdup(partition->end_reason) : NULL;
    }
    if (partition->pending_stop) {
        return NULL;
    }
    if (partition->shutdown && g_str_has_suffix(partition->shutdown, "reset")) {
        return g_strdup("to be started anew: its mode changes");
    }
    if (partition->shutdown && g_str_has_prefix(partition->shutdown, "guest-")) {
        return g_strdup("shut down by its operating system");
    }
    *ret_asked = false;
    words = lpm_qemu_last_words(partition);
    return g_strdup_printf("QEMU ended unasked; its last words: %s", words);
}

static void tell_waiters(LpmPartition *partition)
{
    g_autoptr(GList) waiters = g_steal_pointer(&partition->end_waiters);

    for (GList *item = waiters; item; item = item->next) {
        LpmEndWaiter *waiter = item->data;

        waiter->func(partition, waiter->data);
        g_free(waiter);
    }
}

static void on_restarted(const GError *error, void *data)
{
    g_autoptr(LpmPartition) partition = data;

    if (error) {
        lpm_log_error(&(LpmLogFields){.partition = partition->profile->name},
                      "its operating system asked for a restart, which failed: %s", error->message);
    }
}

static void take_end(LpmPartition *gone)
{
    g_autoptr(LpmPartition) partition = lpm_partition_ref(gone);
    bool asked = false;
    g_autofree char *reason = reason_of_end(partition, &asked);
    bool again = partition->reset_restarts && !partition->pending_stop && !partition->end_reason &&
                 partition->shutdown && g_str_has_suffix(partition->shutdown, "reset");

    g_clear_handle_id(&partition->end_timer, g_source_remove);
    release(partition);
    partition->pending_stop = false;
    partition->reset_restarts = false;
    g_clear_pointer(&partition->shutdown, g_free);
    g_clear_pointer(&partition->end_reason, g_free);
    lpm_partition_set_state(partition, asked ? LPM_PARTITION_NOT_ACTIVATED : LPM_PARTITION_ERROR,
                            reason);
    lpm_activation_qemu_gone(partition, reason);
    if (partition->link && partition->link->qemu_gone) {
        partition->link->qemu_gone(partition, reason ? reason : "it was ended",
                                   partition->link->data);
    }
    tell_waiters(partition);
    partition->restart_due = again;
    lpm_qemu_restart_due(partition);
}

void lpm_qemu_restart_due(LpmPartition *partition)
{
    if (partition->restart_due && !partition->link && !partition->pid) {
        partition->restart_due = false;
        lpm_partition_start(partition, NULL, on_restarted, lpm_partition_ref(partition));
    }
}

static gboolean on_end_timer(gpointer data)
{
    LpmPartition *partition = data;

    partition->end_timer = 0;
    take_end(partition);
    return G_SOURCE_REMOVE;
}

/*
 * The process is gone, but what it said last may still wait in the socket, and tells whether it was
 * asked to go: the connection's end comes after it.
 */
static gboolean on_process_end(gint fd G_GNUC_UNUSED, GIOCondition condition G_GNUC_UNUSED,
                               gpointer data)
{
    LpmPartition *partition = data;

    partition->pidfd_watch = 0;
    if (partition->qmp && lpm_qmp_is_open(partition->qmp)) {
        partition->end_timer = g_timeout_add(LAST_WORDS_MS, on_end_timer, partition);
    } else {
        take_end(partition);
    }
    return G_SOURCE_REMOVE;
}

void lpm_qemu_watch(LpmPartition *partition, pid_t pid, int pidfd)
{
    partition->pid = pid;
    partition->pidfd = pidfd;
    partition->pending_stop = false;
    partition->restart_due = false;
    g_clear_pointer(&partition->shutdown, g_free);
    g_clear_pointer(&partition->end_reason, g_free);
    partition->pidfd_watch = g_unix_fd_add(pidfd, G_IO_IN, on_process_end, partition);
}

bool lpm_partition_has_qemu(const LpmPartition *partition)
{
    return partition->pid != 0;
}

bool lpm_partition_qemu_ends(const LpmPartition *partition)
{
    return !partition->pid || lpm_process_is_ending(partition->pid, partition->pidfd);
}

typedef struct {
    LpmHostDone done;
    void *data;
    LpmPartition *partition;
} End;

static void on_ended(LpmPartition *partition G_GNUC_UNUSED, void *data)
{
    End *end = data;

    if (end->done) {
        end->done(NULL, end->data);
    }
    lpm_partition_unref(end->partition);
    g_free(end);
}

static void on_nothing_to_end(gpointer data)
{
    End *end = data;

    on_ended(end->partition, end);
}

void lpm_partition_end_qemu(LpmPartition *partition, const char *reason, LpmHostDone done,
                            void *data)
{
    End *end = g_new0(End, 1);

    end->done = done;
    end->data = data;
    end->partition = lpm_partition_ref(partition);
    if (!partition->pid) {
        lpm_partition_set_state(partition, LPM_PARTITION_NOT_ACTIVATED, reason);
        g_idle_add_once(on_nothing_to_end, end);
        return;
    }
    if (!partition->end_reason) {
        partition->end_reason = g_strdup(reason ? reason : "");
    }
    lpm_qemu_end_wait(partition, on_ended, end);
    lpm_process_kill(partition->pidfd);
}

/* --- its state --- */

static const LpmPartitionState state_of[LPM_QMP_RUN_N] = {
    [LPM_QMP_RUN_UNKNOWN] = LPM_PARTITION_ERROR,
    [LPM_QMP_RUN_COLO] = LPM_PARTITION_PAUSED,
    [LPM_QMP_RUN_DEBUG] = LPM_PARTITION_PAUSED,
    [LPM_QMP_RUN_FINISH_MIGRATE] = LPM_PARTITION_PAUSED,
    [LPM_QMP_RUN_GUEST_PANICKED] = LPM_PARTITION_ERROR,
    [LPM_QMP_RUN_INMIGRATE] = LPM_PARTITION_INCOMING,
    [LPM_QMP_RUN_INTERNAL_ERROR] = LPM_PARTITION_ERROR,
    [LPM_QMP_RUN_IO_ERROR] = LPM_PARTITION_PAUSED,
    [LPM_QMP_RUN_PAUSED] = LPM_PARTITION_PAUSED,
    [LPM_QMP_RUN_POSTMIGRATE] = LPM_PARTITION_PAUSED,
    [LPM_QMP_RUN_PRELAUNCH] = LPM_PARTITION_PAUSED,
    [LPM_QMP_RUN_RESTORE_VM] = LPM_PARTITION_PAUSED,
    [LPM_QMP_RUN_RUNNING] = LPM_PARTITION_RUNNING,
    [LPM_QMP_RUN_SAVE_VM] = LPM_PARTITION_PAUSED,
    [LPM_QMP_RUN_SHUTDOWN] = LPM_PARTITION_STOPPING,
    [LPM_QMP_RUN_SUSPENDED] = LPM_PARTITION_PAUSED,
    [LPM_QMP_RUN_WATCHDOG] = LPM_PARTITION_PAUSED,
};

typedef struct {
    LpmPartition *partition;
    LpmHostDone done;
    void *data;
} Refresh;

static void refresh_end(Refresh *refresh, const GError *error)
{
    if (refresh->done) {
        refresh->done(error, refresh->data);
    }
    lpm_partition_unref(refresh->partition);
    g_free(refresh);
}

static void on_mode_refreshed(const GError *error G_GNUC_UNUSED, void *data)
{
    refresh_end(data, NULL);
}

/* Where lpm-host died before it could; tried again at the next look. */
static void note_activated(LpmPartition *partition)
{
    g_autoptr(GError) error = NULL;

    if (!lpm_partition_has_activated(partition, &error)) {
        lpm_log_error(&(LpmLogFields){.partition = partition->profile->name}, "%s", error->message);
    }
}

static void apply_status(LpmPartition *partition, const LpmQmpStatus *status)
{
    LpmPartitionState state =
        status->state < LPM_QMP_RUN_N ? state_of[status->state] : LPM_PARTITION_ERROR;
    g_autofree char *reason = NULL;

    if (status->state == LPM_QMP_RUN_RUNNING) {
        lpm_partition_has_run(partition);
        note_activated(partition);
    } else if (partition->incoming && state == LPM_PARTITION_PAUSED) {
        state = LPM_PARTITION_INCOMING;
    } else if (status->state == LPM_QMP_RUN_PRELAUNCH) {
        reason = g_strdup("not started");
    } else if (status->state != LPM_QMP_RUN_PAUSED && status->state != LPM_QMP_RUN_PRELAUNCH) {
        reason = g_strdup_printf("QEMU says %s", lpm_qmp_run_name(status->state));
    }
    lpm_partition_set_state(partition, state, reason);
}

static void on_status(const LpmQmpStatus *status, const GError *error, void *data)
{
    Refresh *refresh = data;
    LpmPartition *partition = refresh->partition;

    if (error) {
        lpm_qemu_heal(partition);
        refresh_end(refresh, error);
        return;
    }
    /* Whoever moves it decides what its state is called meanwhile. */
    if (!partition->link && !partition->pending_stop && partition->pid) {
        apply_status(partition, status);
    }
    if (partition->unsettled && !partition->busy && !partition->link) {
        lpm_grow_settle(partition, NULL, NULL);
    }
    if (partition->state == LPM_PARTITION_RUNNING && !partition->link) {
        lpm_partition_read_mode(partition, on_mode_refreshed, refresh);
    } else {
        refresh_end(refresh, NULL);
    }
}

void lpm_qemu_refresh(LpmPartition *partition, LpmHostDone done, void *data)
{
    Refresh *refresh = g_new0(Refresh, 1);

    refresh->partition = lpm_partition_ref(partition);
    refresh->done = done;
    refresh->data = data;
    lpm_qmp_query_status(partition->qmp, on_status, refresh);
}

/* --- its connection and events --- */

typedef struct {
    const char *name;
    LpmPartitionState state; /* what it makes of a partition without a migration */
} EventState;

static const EventState event_states[] = {
    {"STOP", LPM_PARTITION_PAUSED},
    {"RESUME", LPM_PARTITION_RUNNING},
    {"GUEST_PANICKED", LPM_PARTITION_ERROR},
};

/* QEMU stops at a failing disk rather than lose what was written: its STOP follows, and keeps this
 * reason. */
static void on_disk_error(LpmPartition *partition, const json_t *data)
{
    const char *disk = lpm_json_str(data, "node-name", lpm_json_str(data, "device", "?"));
    g_autofree char *reason =
        g_strdup_printf("disk %s fails: %s", disk, lpm_json_str(data, "reason", "no reason given"));

    lpm_log_error(&(LpmLogFields){.partition = partition->profile->name}, "%s", reason);
    if (!partition->link && !partition->pending_stop &&
        g_strcmp0(lpm_json_str(data, "action", NULL), "stop") == 0) {
        lpm_partition_set_state(partition, LPM_PARTITION_PAUSED, reason);
    }
}

static void on_event(const LpmQmpEvent *event, void *data)
{
    LpmPartition *partition = data;

    if (strcmp(event->name, "SHUTDOWN") == 0) {
        g_free(partition->shutdown);
        partition->shutdown = g_strdup(lpm_json_str(event->data, "reason", "unknown"));
    }
    for (size_t i = 0;
         !partition->link && !partition->pending_stop && i < G_N_ELEMENTS(event_states); i++) {
        if (strcmp(event->name, event_states[i].name) == 0 &&
            partition->state != event_states[i].state) {
            lpm_partition_set_state(partition, event_states[i].state, NULL);
        }
    }
    if (strcmp(event->name, "RTC_CHANGE") == 0) {
        lpm_rtc_changed(partition, event->data);
    }
    if (strcmp(event->name, "BLOCK_IO_ERROR") == 0) {
        on_disk_error(partition, event->data);
    }
    /* On POWER the operating system negotiates its mode anew now; whoever asks next reads it. */
    if (strcmp(event->name, "RESET") == 0 && !partition->link &&
        partition->profile->family == LPM_FAMILY_POWER) {
        g_clear_pointer(&partition->current_mode, g_free);
    }
    if (partition->link && partition->link->qmp_event) {
        partition->link->qmp_event(partition, event, partition->link->data);
    }
}

static void on_reconnected(const GError *error, void *data)
{
    g_autoptr(LpmPartition) partition = data;

    if (error) {
        lpm_qemu_heal(partition);
    } else if (partition->pid && partition->qmp && !partition->link) {
        lpm_qemu_refresh(partition, NULL, NULL);
    }
}

static void on_late_connected(LpmQmp *qmp, const GError *error, void *data)
{
    g_autoptr(LpmPartition) partition = data;

    if (qmp && partition->pid && !partition->qmp) {
        lpm_qemu_connected(partition, qmp);
    } else if (qmp) {
        g_idle_add_once((GSourceOnceFunc)lpm_qmp_free, qmp);
        return;
    }
    on_reconnected(error, lpm_partition_ref(partition));
}

static gboolean on_reconnect(gpointer data)
{
    LpmPartition *partition = data;
    g_autofree char *socket = lpm_qemu_path(partition, "qmp.sock");
    LpmQmpHandlers handlers;

    partition->timer = 0;
    if (!partition->pid || partition->activation) {
        return G_SOURCE_REMOVE;
    }
    if (!partition->qmp) {
        lpm_qemu_handlers(partition, &handlers);
        lpm_qmp_connect(socket, RECONNECT_TIMEOUT_MS, &handlers, on_late_connected,
                        lpm_partition_ref(partition));
    } else if (!partition->link) {
        lpm_qmp_reconnect(partition->qmp, RECONNECT_TIMEOUT_MS, on_reconnected,
                          lpm_partition_ref(partition));
    }
    return G_SOURCE_REMOVE;
}

void lpm_qemu_heal(LpmPartition *partition)
{
    bool good =
        partition->qmp && lpm_qmp_is_open(partition->qmp) && !lpm_qmp_is_doubtful(partition->qmp);

    /* A migration heals its own connection, since only it knows what may be sent; but it cannot
     * make the first one. */
    if (partition->pid && !good && !partition->timer && (!partition->link || !partition->qmp)) {
        partition->timer = g_timeout_add(RECONNECT_MS, on_reconnect, partition);
    }
}

static void on_closed(const GError *error, void *data)
{
    LpmPartition *partition = data;

    if (partition->end_timer) {
        take_end(partition);
    } else if (partition->link && partition->link->qmp_closed) {
        partition->link->qmp_closed(partition, error, partition->link->data);
    } else {
        /* Mostly QEMU is ending, and the pidfd tells soon. */
        lpm_qemu_heal(partition);
    }
}

void lpm_qemu_handlers(LpmPartition *partition, LpmQmpHandlers *ret_handlers)
{
    *ret_handlers = (LpmQmpHandlers){.event = on_event, .closed = on_closed, .data = partition};
}

void lpm_qemu_connected(LpmPartition *partition, LpmQmp *qmp)
{
    g_autofree char *agent = lpm_qemu_path(partition, "agent.sock");

    partition->qmp = qmp;
    if (lpm_json_bool(partition->runtime, "profile.guest_agent", partition->profile->guest_agent)) {
        partition->agent = lpm_qga_new(agent);
    }
}

/* --- a guest's reboot that must become a new QEMU --- */

static void on_action_set(json_t *result G_GNUC_UNUSED, const GError *error, void *data)
{
    g_autoptr(LpmPartition) partition = data;

    if (error) {
        partition->reset_restarts = false;
        lpm_log_warning(&(LpmLogFields){.partition = partition->profile->name},
                        "a reboot of its operating system will not evaluate the mode anew: %s",
                        error->message);
    }
}

void lpm_qemu_set_reset(LpmPartition *partition)
{
    bool wanted = lpm_plan_needs_new_qemu(partition);

    if (wanted == partition->reset_restarts || !partition->qmp || partition->link) {
        return;
    }
    partition->reset_restarts = wanted;
    lpm_qmp_call(partition->qmp, "set-action",
                 lpm_json_pack("{s:s}", "reboot", wanted ? "shutdown" : "reset"), on_action_set,
                 lpm_partition_ref(partition));
}

/* --- its memory --- */

int lpm_partition_memory_number(const LpmPartition *partition)
{
    g_autofree char *directory = g_strdup_printf("/proc/%d/fd", (int)partition->pid);
    g_autofree char *wanted = g_strdup_printf("/memfd:lpm-%s (deleted)", partition->profile->uuid);
    g_autoptr(GDir) fds = g_dir_open(directory, 0, NULL);
    const char *name;

    while (fds && (name = g_dir_read_name(fds))) {
        g_autofree char *path = g_build_filename(directory, name, NULL);
        g_autofree char *target = g_file_read_link(path, NULL);

        if (g_strcmp0(target, wanted) == 0) {
            return atoi(name);
        }
    }
    return -1;
}

static int find_memory(const LpmPartition *partition)
{
    int number = lpm_partition_memory_number(partition);
    g_autofree char *path = g_strdup_printf("/proc/%d/fd/%d", (int)partition->pid, number);

    return number < 0 ? -1 : open(path, O_RDWR | O_CLOEXEC);
}

int lpm_partition_memory_fd(LpmPartition *partition, GError **error)
{
    if (partition->pid && partition->memory_fd < 0) {
        partition->memory_fd = find_memory(partition);
    }
    if (partition->memory_fd < 0) {
        lpm_error_set(error, LPM_ERROR_STATE,
                      "partition %s: its memory cannot be seen from outside: "
                      "%s",
                      partition->profile->name,
                      partition->pid
                          ? "memory_backing is private; set it to shared and restart the "
                            "partition"
                          : "it has no QEMU here");
    }
    return partition->memory_fd;
}
