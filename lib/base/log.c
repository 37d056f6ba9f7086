/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <syslog.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

static struct {
    char *program;
    gboolean debug;
    gboolean journal;
} log_state;

/* True when stderr itself is the journal's socket; the variable alone is inherited by redirected
 * children, too. */
static gboolean stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;

    return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
           fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

void lpm_log_init(const char *program, gboolean debug)
{
    g_free(log_state.program);
    log_state.program = g_strdup(program);
    log_state.debug = debug;
    log_state.journal = stderr_is_journal();
}

static const char *level_name(int priority)
{
    switch (priority) {
    case LOG_ERR:
        return "error";
    case LOG_WARNING:
        return "warning";
    case LOG_INFO:
        return "info";
    default:
        return "debug";
    }
}

/* Text from outside (a guest, another system) must not forge a second line or move a terminal's
 * cursor. */
static void append_one_line(GString *line, const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            g_string_append_printf(line, "\\x%02x", (unsigned char)*text);
        } else {
            g_string_append_c(line, *text);
        }
    }
}

static void append_field(GString *line, gboolean *any, const char *name, const char *value)
{
    if (value) {
        g_string_append_printf(line, "%s%s=", *any ? ", " : " [", name);
        append_one_line(line, value);
        *any = TRUE;
    }
}

/* The message, and what it is about: the journal shows its readers no other fields unless asked. */
static void append_message(GString *line, const LpmLogFields *fields, const char *message)
{
    gboolean any = FALSE;

    append_one_line(line, message);
    if (fields) {
        append_field(line, &any, "migration", fields->migration);
        append_field(line, &any, "partition", fields->partition);
        append_field(line, &any, "object", fields->object);
    }
    if (any) {
        g_string_append_c(line, ']');
    }
}

static void to_stderr(int priority, const LpmLogFields *fields, const char *message)
{
    g_autoptr(GString) line = g_string_new(log_state.program ? log_state.program : "openlpm");

    g_string_append_printf(line, ": %s: ", level_name(priority));
    append_message(line, fields, message);
    g_string_append_c(line, '\n');
    /* One write, so that lines of several processes on one terminal or file do not mix. */
    if (write(STDERR_FILENO, line->str, line->len) < 0) {
        return;
    }
}

static void add_journal_field(GPtrArray *texts, const char *name, const char *value)
{
    if (value) {
        g_ptr_array_add(texts, g_strdup_printf("%s=%s", name, value));
    }
}

static gboolean to_journal(int priority, const LpmLogFields *fields, const char *message)
{
    g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GString) line = g_string_new(NULL);
    char digit[] = {(char)('0' + priority), '\0'};
    struct iovec iov[6];

    append_message(line, fields, message);
    add_journal_field(texts, "MESSAGE", line->str);
    add_journal_field(texts, "PRIORITY", digit);
    add_journal_field(texts, "SYSLOG_IDENTIFIER", log_state.program);
    if (fields) {
        add_journal_field(texts, "LPM_MIGRATION", fields->migration);
        add_journal_field(texts, "LPM_PARTITION", fields->partition);
        add_journal_field(texts, "LPM_OBJECT", fields->object);
    }
    for (guint i = 0; i < texts->len; i++) {
        iov[i].iov_base = texts->pdata[i];
        iov[i].iov_len = strlen(texts->pdata[i]);
    }
    return sd_journal_sendv(iov, (int)texts->len) == 0;
}

static void G_GNUC_PRINTF(3, 0)
    emit(int priority, const LpmLogFields *fields, const char *format, va_list args)
{
    g_autofree char *message = g_strdup_vprintf(format, args);

    if (!log_state.journal || !to_journal(priority, fields, message)) {
        to_stderr(priority, fields, message);
    }
}

void lpm_log_error(const LpmLogFields *fields, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    emit(LOG_ERR, fields, format, args);
    va_end(args);
}

void lpm_log_warning(const LpmLogFields *fields, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    emit(LOG_WARNING, fields, format, args);
    va_end(args);
}

void lpm_log_info(const LpmLogFields *fields, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    emit(LOG_INFO, fields, format, args);
    va_end(args);
}

void lpm_log_debug(const LpmLogFields *fields, const char *format, ...)
{
    va_list args;

    if (!log_state.debug) {
        return;
    }
    va_start(args, format);
    emit(LOG_DEBUG, fields, format, args);
    va_end(args);
}
