/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Server-sent events: those who hear of events as they come. Each one is told from the store, by
 * the number of the last that it has, so one that reads slowly holds nothing but a place in it.
 */
#pragma once

#include "console.h"

/* What a listener wants to hear; "" and NULL: everything. */
typedef struct {
    const char *kinds;  /* names with commas between */
    const char *object; /* and only of this one, or of the partition with this name */
    int64_t after;      /* events above this number; below 0: only new ones */
} LpmListen;

/* Answers @request with events until its end; BUSY when there are too many listeners. */
bool lpm_listeners_add(LpmConsole *console, LpmHttpRequest *request, const LpmListen *listen,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* There is a new event: told from the main loop, soon. */
void lpm_listeners_wake(LpmConsole *console);
/* Nobody is told anything any more; the HTTP server has ended before. */
void lpm_listeners_end(LpmConsole *console);
/* Whether @event is of one of @kinds ("a,b"; NULL or "": all). */
bool lpm_event_is_of(const json_t *event, const char *kinds);
