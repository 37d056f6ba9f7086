/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing of the outside world but what is already open. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/*
 * Drops all capabilities, forbids new privileges and core dumps, and lets all threads of the
 * process make only the system calls of the list; any other kills the process (SIGSYS). False with
 * @reason filled when that is not possible.
 */
bool sandbox_enter(char *reason, size_t reason_size);
