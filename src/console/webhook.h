/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Webhooks: events that are POSTed to other programs, each at least once and in order, as long as
 * the history of events has them. What is still to be sent is a number in the database; nothing
 * waits for a receiver.
 */
#pragma once

#include "console.h"

/* Takes up each webhook of the configuration where the database says that it was; a new one begins
 * with what happens from now on. */
bool lpm_webhooks_open(LpmConsole *console, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* What is being sent is cut; it is sent again after the next start. */
void lpm_webhooks_close(LpmConsole *console);
/* There is a new event: looked at from the main loop, soon. */
void lpm_webhooks_wake(LpmConsole *console);

/* How all of them stand, in order of name (docs/spec/rest.md). */
json_t *lpm_webhooks_list(LpmConsole *console);
/* Sends what waits now instead of later. NOT_FOUND. */
json_t *lpm_webhook_retry(LpmConsole *console, const char *name,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;
