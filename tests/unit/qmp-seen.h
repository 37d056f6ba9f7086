/* SPDX-License-Identifier: Apache-2.0 */
/* Counts and keeps what LpmQmp calls back with; for test-qmp and test-qmp-real. */
#pragma once

#include "qmp/qmp.h"

#include "fake.h"

#define STEPS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* --- what was called --- */

typedef struct {
    unsigned replies;
    int code; /* of the last reply's error; -1: success */
    char *message;
    LpmQmpStatus status;
    LpmQmpMigration migration;
    json_t *result;
    char *text;
    uint64_t number;
    unsigned closed;
    GString *events; /* "NAME " or "MIGRATION:status " each */
    int64_t event_time, first_event_time;
} Seen;

static inline void saw(Seen *seen, const GError *error)
{
    seen->replies++;
    seen->code = error ? error->code : -1;
    g_free(seen->message);
    seen->message = error ? g_strdup(error->message) : NULL;
}

static inline void on_done(const GError *error, void *data)
{
    saw(data, error);
}

static inline void on_result(json_t *result, const GError *error, void *data)
{
    Seen *seen = data;

    g_assert_true(!result == !!error);
    json_decref(seen->result);
    seen->result = json_incref(result);
    saw(seen, error);
}

static inline void on_text(const char *text, const GError *error, void *data)
{
    Seen *seen = data;

    g_free(seen->text);
    seen->text = g_strdup(text);
    saw(seen, error);
}

static inline void on_number(uint64_t value, const GError *error, void *data)
{
    Seen *seen = data;

    seen->number = value;
    saw(seen, error);
}

static inline void on_state(const LpmQmpStatus *status, const LpmQmpMigration *migration,
                            const GError *error, void *data)
{
    Seen *seen = data;

    g_assert_true(!status == !!error && !migration == !!error);
    if (!error) {
        seen->status = *status;
        seen->migration = *migration;
        seen->migration.raw = NULL;
        seen->migration.error_desc = NULL;
    }
    saw(seen, error);
}

static inline void on_event(const LpmQmpEvent *event, void *data)
{
    Seen *seen = data;
    const char *status = lpm_json_str(event->data, "status", NULL);

    g_string_append_printf(seen->events, "%s%s%s ", event->name, status ? ":" : "",
                           status ? status : "");
    seen->event_time = event->realtime_us;
    if (seen->first_event_time == 0) {
        seen->first_event_time = event->realtime_us;
    }
}

static inline void on_closed(const GError *error, void *data)
{
    Seen *seen = data;

    g_assert_nonnull(error);
    seen->closed++;
}

static inline Seen *seen_new(void)
{
    Seen *seen = g_new0(Seen, 1);

    seen->events = g_string_new(NULL);
    return seen;
}

static inline void seen_free(Seen *seen)
{
    g_string_free(seen->events, TRUE);
    json_decref(seen->result);
    g_free(seen->message);
    g_free(seen->text);
    g_free(seen);
}

static inline LpmQmp *connect_to(const char *path, Seen *seen)
{
    LpmQmpHandlers handlers = {on_event, on_closed, seen};
    g_autoptr(GError) error = NULL;
    LpmQmp *qmp = lpm_qmp_connect_sync(path, WAIT_MS, &handlers, &error);

    g_assert_no_error(error);
    g_assert_true(lpm_qmp_is_open(qmp));
    return qmp;
}

/* Waits for one more reply and judges it; @code -1: success. */
static inline void wait_reply(Seen *seen, int code)
{
    unsigned before = seen->replies;

    WAIT_FOR(seen->replies > before);
    if (seen->code != code) {
        g_error("code %d, not %d: %s", seen->code, code, seen->message ? seen->message : "");
    }
}
