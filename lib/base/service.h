/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a daemon tells the service manager that started it. Without one (NOTIFY_SOCKET unset) every
 * call does nothing, so that programs make them always.
 */
#pragma once

/*
 * The daemon serves: call once, when its sockets listen and what it found on disk has been taken
 * up. Where the unit has WatchdogSec, this also starts a timer on the default main context that
 * reports twice in each interval that the loop still turns.
 */
void lpm_service_ready(void);

/* Shown by "systemctl status", such as "3 partitions, 1 move". */
void lpm_service_status(const char *text);

/* The daemon has begun to end; ends the timer. */
void lpm_service_stopping(void);
