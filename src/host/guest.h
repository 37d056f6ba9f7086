/* SPDX-License-Identifier: Apache-2.0 */
/* What can be learned from the software inside a partition, and of the mode that it negotiated. */
#pragma once

#include "host/host.h"

/* @state: "active" (answered in time), "silent", "absent" (no channel, or not running). Static. */
typedef void (*LpmGuestRmc)(const char *state, void *data);

/* Asks the guest agent for a sign of life, within the configured deadline. */
void lpm_guest_rmc(LpmPartition *partition, LpmGuestRmc done, void *data);
