/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's own test interface can set the input pins of a device. It is attached for that one purpose
 * over a socket pair and removed again, before the partition runs.
 */
#include "host/redeliver.h"

#include "bytes/bytes.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NAME "openlpm-redeliver" /* of the descriptor, the chardev and the object alike */
#define PIN  "unnamed-gpio-in 0" /* external interrupt, on every 64-bit POWER processor */
enum { ANSWER_MS = 3000 };

typedef struct {
    LpmPartition *partition;
    LpmHostDone done;
    void *data;
    int fd;      /* our end */
    int theirs;  /* until QEMU has it */
    int answers; /* outstanding */
    GString *received;
    guint watch, timer;
} Redelivery;

bool lpm_redeliver_needed(const LpmPartition *partition)
{
    return partition->profile->family == LPM_FAMILY_POWER &&
           strcmp(lpm_json_str(partition->runtime, "accel", ""), "tcg") == 0 &&
           strcmp(lpm_json_str(partition->runtime, "interrupt_mode", ""), "xics") == 0;
}

static void finish(Redelivery *redelivery, const GError *error)
{
    g_autoptr(GError) failure = NULL;

    if (error) {
        lpm_error_set(&failure, LPM_ERROR_QEMU,
                      "partition %s has arrived, but its pending interrupts cannot be delivered "
                      "again: %s; it would stand still here",
                      redelivery->partition->profile->name, error->message);
    }
    g_clear_handle_id(&redelivery->watch, g_source_remove);
    g_clear_handle_id(&redelivery->timer, g_source_remove);
    lpm_bytes_close(&redelivery->fd);
    lpm_bytes_close(&redelivery->theirs);
    redelivery->done(failure, redelivery->data);
    lpm_partition_unref(redelivery->partition);
    g_string_free(redelivery->received, TRUE);
    g_free(redelivery);
}

/* Goes on with @next unless something failed or QEMU is gone. */
static bool failed(Redelivery *redelivery, const GError *error)
{
    g_autoptr(GError) gone = NULL;

    if (!error && !redelivery->partition->qmp) {
        lpm_error_set(&gone, LPM_ERROR_QEMU, "QEMU is gone");
        error = gone;
    }
    if (error) {
        finish(redelivery, error);
    }
    return error != NULL;
}

static void socket_removed(json_t *result G_GNUC_UNUSED, const GError *error, void *data)
{
    finish(data, error);
}

static void object_removed(json_t *result G_GNUC_UNUSED, const GError *error, void *data)
{
    Redelivery *redelivery = data;

    if (!failed(redelivery, error)) {
        lpm_qmp_call(redelivery->partition->qmp, "chardev-remove",
                     lpm_json_pack("{s:s}", "id", NAME), socket_removed, redelivery);
    }
}

static void all_told(Redelivery *redelivery)
{
    g_clear_handle_id(&redelivery->timer, g_source_remove);
    if (!failed(redelivery, NULL)) {
        lpm_qmp_call(redelivery->partition->qmp, "object-del", lpm_json_pack("{s:s}", "id", NAME),
                     object_removed, redelivery);
    }
}

/* "OK" for each line; anything else is a refusal. */
static gboolean answered(gint fd, GIOCondition condition G_GNUC_UNUSED, gpointer data)
{
    Redelivery *redelivery = data;
    g_autoptr(GError) refused = NULL;
    char bytes[256];
    ssize_t n = read(fd, bytes, sizeof bytes);
    char *end;

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return G_SOURCE_CONTINUE;
    }
    if (n > 0) {
        g_string_append_len(redelivery->received, bytes, n);
    }
    while ((end = strchr(redelivery->received->str, '\n')) != NULL &&
           g_str_has_prefix(redelivery->received->str, "OK")) {
        g_string_erase(redelivery->received, 0, end - redelivery->received->str + 1);
        redelivery->answers--;
    }
    if (redelivery->answers > 0 && n > 0 && end == NULL) {
        return G_SOURCE_CONTINUE;
    }
    redelivery->watch = 0;
    if (redelivery->answers == 0) {
        all_told(redelivery);
    } else {
        lpm_error_set(&refused, LPM_ERROR_QEMU, "QEMU's test interface answers \"%s\"",
                      g_strchomp(redelivery->received->str));
        finish(redelivery, refused);
    }
    return G_SOURCE_REMOVE;
}

static gboolean too_late(gpointer data)
{
    Redelivery *redelivery = data;
    g_autoptr(GError) error = NULL;

    redelivery->timer = 0;
    lpm_error_set(&error, LPM_ERROR_TIMEOUT, "QEMU's test interface does not answer");
    finish(redelivery, error);
    return G_SOURCE_REMOVE;
}

/* One line for each processor; @cpus is QEMU's answer. */
static char *lines_of(Redelivery *redelivery, const json_t *cpus)
{
    g_autoptr(GString) lines = g_string_new(NULL);
    size_t i;
    json_t *cpu;

    json_array_foreach (cpus, i, cpu) {
        g_string_append_printf(lines, "set_irq_in %s " PIN " 1\n",
                               lpm_json_str(cpu, "qom-path", ""));
        redelivery->answers++;
    }
    return g_string_free(g_steal_pointer(&lines), FALSE);
}

static void processors_known(json_t *result, const GError *error, void *data)
{
    Redelivery *redelivery = data;
    g_autoptr(GError) unwritten = NULL;
    g_autofree char *lines = NULL;

    if (failed(redelivery, error)) {
        return;
    }
    lines = lines_of(redelivery, result);
    if (redelivery->answers == 0 ||
        send(redelivery->fd, lines, strlen(lines), MSG_NOSIGNAL) != (ssize_t)strlen(lines)) {
        lpm_error_set(&unwritten, LPM_ERROR_QEMU, "QEMU's test interface takes nothing");
        finish(redelivery, unwritten);
        return;
    }
    redelivery->timer = g_timeout_add(ANSWER_MS, too_late, redelivery);
    redelivery->watch =
        g_unix_fd_add(redelivery->fd, G_IO_IN | G_IO_HUP | G_IO_ERR, answered, redelivery);
}

static void object_added(json_t *result G_GNUC_UNUSED, const GError *error, void *data)
{
    Redelivery *redelivery = data;

    if (!failed(redelivery, error)) {
        lpm_qmp_call(redelivery->partition->qmp, "query-cpus-fast", NULL, processors_known,
                     redelivery);
    }
}

static void socket_added(json_t *result G_GNUC_UNUSED, const GError *error, void *data)
{
    Redelivery *redelivery = data;

    if (!failed(redelivery, error)) {
        lpm_qmp_call(
            redelivery->partition->qmp, "object-add",
            lpm_json_pack("{s:s, s:s, s:s}", "qom-type", "qtest", "id", NAME, "chardev", NAME),
            object_added, redelivery);
    }
}

static void descriptor_handed_over(const GError *error, void *data)
{
    Redelivery *redelivery = data;
    json_t *address;

    if (failed(redelivery, error)) {
        return;
    }
    lpm_bytes_close(&redelivery->theirs);
    address = lpm_json_pack("{s:s, s:{s:s}}", "type", "fd", "data", "str", NAME);
    lpm_qmp_call(redelivery->partition->qmp, "chardev-add",
                 lpm_json_pack("{s:s, s:{s:s, s:{s:o, s:b}}}", "id", NAME, "backend", "type",
                               "socket", "data", "addr", address, "server", 0),
                 socket_added, redelivery);
}

void lpm_redeliver(LpmPartition *partition, LpmHostDone done, void *data)
{
    Redelivery *redelivery = g_new0(Redelivery, 1);
    int pair[2] = {-1, -1};

    *redelivery = (Redelivery){.partition = lpm_partition_ref(partition),
                               .done = done,
                               .data = data,
                               .received = g_string_new(NULL)};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
        pair[0] = pair[1] = -1;
    }
    redelivery->fd = pair[0];
    redelivery->theirs = pair[1];
    lpm_qmp_getfd(partition->qmp, NAME, pair[1], descriptor_handed_over, redelivery);
}
