/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest wrote, made fit for people. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/*
 * Valid UTF-8 of at most @max bytes in which "?" stands for what is not printable, format
 * characters such as bidirectional overrides among it; new lines stay where @lines. g_free().
 */
char *lpm_qga_clean_text(const char *text, size_t max, bool lines);
/* The same on one line of at most LPM_QGA_TEXT_MAX bytes. */
char *lpm_qga_clean(const char *text);
