/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Target, with several channels: each has a thread that writes to QEMU, so that a channel on which
 * QEMU does not read just now never holds up the one that it waits for.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Mover Mover;

enum {
    OUTLET_ITEMS = 1024,
    OUTLET_BYTES = 4 * 1024 * 1024, /* that wait for QEMU on one channel */
};

typedef struct {
    void *owner; /* to be freed with it */
    const uint8_t *data;
    size_t size;
} OutletItem;

typedef struct {
    Mover *mover;
    unsigned channel;
    OutletItem items[OUTLET_ITEMS]; /* by number modulo OUTLET_ITEMS */
    uint64_t put, taken;
    size_t bytes;
    bool ended, closed;
    pthread_mutex_t lock;
    pthread_cond_t changed;
} Outlet;

void outlet_init(Outlet *outlet, Mover *mover, unsigned channel);
/* Ends its thread. */
void outlet_close(Outlet *outlet);
/* Writer: bytes for QEMU; takes @owner. Waits while too many wait already; false when it was
 * closed. */
bool outlet_put(Outlet *outlet, void *owner, const uint8_t *data, size_t size);
/* Writer: nothing more comes; QEMU sees the end behind the last byte. */
void outlet_end(Outlet *outlet);
/* The thread. */
void outlet_main(Outlet *outlet);
