/* SPDX-License-Identifier: Apache-2.0 */
/* Small helper programs (qemu-img, an emulator that is asked for its version), run without
 * blocking. */
#pragma once

#include "base/error.h"

#include <gio/gio.h>

/* @output is what it wrote (standard output); NULL on failure. */
typedef void (*LpmSubprocessDone)(const char *output, const GError *error, void *data);

/* As g_subprocess_newv(), and the program is killed when lpm-host ends, however it ends. */
GSubprocess *lpm_subprocess_new(const char *const *argv, GSubprocessFlags flags,
                                GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Runs @argv with a deadline. An exit status that is not 0 is a QEMU error with what it wrote to
 * standard error. @accept (0: none) is one more exit status that counts as success.
 */
void lpm_subprocess_run(const char *const *argv, int accept, unsigned timeout_ms,
                        LpmSubprocessDone done, void *data);
