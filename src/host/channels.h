/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several connections between QEMU and the mover (QEMU's multifd), so that QEMU's one migration
 * thread is not the limit. They go over a Unix socket in the partition's directory, and each is
 * handed to the mover as it comes about: at the source QEMU connects, at the target lpm-host
 * connects to QEMU when the mover has bytes for the channel.
 */
#pragma once

#include "host/migration.h"

typedef struct {
    LpmMigration *migration; /* borrowed, for as long as channels are open */
    char *path;              /* NULL: not open */
    int listener;            /* source */
    guint watch;             /* source: of the listener */
    unsigned expected, came; /* source: connections of QEMU */
    bool incoming;           /* target: QEMU listens */
    uint32_t wanted;         /* target: bit by channel */
} LpmChannels;

/* The capability and the number of channels for QEMU, at both sides; rows without a name end them.
 */
LpmQmpCapability lpm_channels_capability(const LpmMigration *migration);
LpmQmpParameter lpm_channels_parameter(const LpmMigration *migration);

/* Source: QEMU may connect at the URI (owned by the caller) from now on. NULL with an error. */
char *lpm_channels_listen(LpmChannels *channels, LpmMigration *migration, GError **error);
/* Target: where QEMU is to listen; owned by the caller. */
char *lpm_channels_uri(LpmChannels *channels, LpmMigration *migration);
/* Target: QEMU listens. False when a channel that was wanted cannot be connected. */
bool lpm_channels_incoming(LpmChannels *channels, GError **error);
/* Target: the mover has bytes for @channel. */
bool lpm_channels_want(LpmChannels *channels, uint8_t channel, GError **error);
/* A blocking connection to QEMU, which listens at @path, for the mover; -1 with an error. */
int lpm_channels_connect(const char *path, GError **error);
/* No more is needed; nothing of it stays on disk. */
void lpm_channels_close(LpmChannels *channels);
