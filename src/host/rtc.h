/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clock of a partition's board. A QEMU that comes in brings its clock along in the stream; only
 * one that is started anew is told what the clock shall say. So whatever the guest sets is kept in
 * the profile, as a difference to UTC.
 */
#pragma once

#include "host/host.h"

/* QEMU's event RTC_CHANGE. */
void lpm_rtc_changed(LpmPartition *partition, const json_t *data);
/* Asks QEMU what the clock says: its guest may have set it on the other system, while it moved. */
void lpm_rtc_look(LpmPartition *partition);
