/* SPDX-License-Identifier: Apache-2.0 */
/* Logging for programs (libraries never log): one line to stderr, or to the journal when stderr is
 * the journal. */
#pragma once

#include <glib.h>

/* Structured fields that a line may carry; NULL fields are left out. */
typedef struct {
    const char *migration; /* migration id */
    const char *partition; /* partition name */
    const char *object;    /* anything else */
} LpmLogFields;

/* Name shown in front of each line, and whether debug lines are shown. Call once at start. */
void lpm_log_init(const char *program, gboolean debug);

void lpm_log_error(const LpmLogFields *fields, const char *format, ...) G_GNUC_PRINTF(2, 3);
void lpm_log_warning(const LpmLogFields *fields, const char *format, ...) G_GNUC_PRINTF(2, 3);
void lpm_log_info(const LpmLogFields *fields, const char *format, ...) G_GNUC_PRINTF(2, 3);
void lpm_log_debug(const LpmLogFields *fields, const char *format, ...) G_GNUC_PRINTF(2, 3);
