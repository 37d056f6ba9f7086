/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's sockets: the main stream's, and those of multifd, which come one by one from lpm-host. */
#pragma once

#include <stdbool.h>

typedef struct Mover Mover;

/* QEMU's socket of @channel; -1 while there is none. */
int channel_fd(Mover *mover, unsigned channel);
/* The same, asked for and waited for; -1 when the mover stops. */
int channel_wait(Mover *mover, unsigned channel);
/* Main thread: lpm-host gives a channel's socket (taken). False when there is one already. */
bool channel_take(Mover *mover, unsigned channel, int fd);
/* Main thread: nothing more goes to or comes from QEMU; who waits for a channel returns. */
void channel_shut_all(Mover *mover);
