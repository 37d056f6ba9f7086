/* SPDX-License-Identifier: Apache-2.0 */
/* Making sure that no copy of a partition runs: what fencing and takeover rest on. */
#pragma once

#include "console.h"

typedef void (*LpmPowerDone)(const GError *error, void *data);

/*
 * Without an error when it is certain that no copy of @partition runs on any system. Else TIMEOUT
 * or UNREACHABLE (not known to be off within @wait_s), NOT_FOUND, or, where @gone, STATE: it is not
 * lost. With @gone a move of it is waited for instead of stopped, and only a copy whose process has
 * ended unasked, or hangs for 15 s, is switched off.
 */
void lpm_power_off(LpmConsole *console, const char *partition, bool gone, int64_t wait_s,
                   LpmPowerDone done, void *data);
