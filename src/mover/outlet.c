/* SPDX-License-Identifier: Apache-2.0 */
#include "outlet.h"

#include "bytes/bytes.h"
#include "mover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

void outlet_init(Outlet *outlet, Mover *mover, unsigned channel)
{
    memset(outlet, 0, sizeof(*outlet));
    outlet->mover = mover;
    outlet->channel = channel;
    pthread_mutex_init(&outlet->lock, NULL);
    pthread_cond_init(&outlet->changed, NULL);
}

void outlet_close(Outlet *outlet)
{
    pthread_mutex_lock(&outlet->lock);
    outlet->closed = true;
    pthread_cond_broadcast(&outlet->changed);
    pthread_mutex_unlock(&outlet->lock);
}

bool outlet_put(Outlet *outlet, void *owner, const uint8_t *data, size_t size)
{
    pthread_mutex_lock(&outlet->lock);
    while (!outlet->closed &&
           (outlet->bytes >= OUTLET_BYTES || outlet->put - outlet->taken == OUTLET_ITEMS))
        pthread_cond_wait(&outlet->changed, &outlet->lock);
    bool open = !outlet->closed;
    if (open) {
        outlet->items[outlet->put++ % OUTLET_ITEMS] = (OutletItem){owner, data, size};
        outlet->bytes += size;
        pthread_cond_broadcast(&outlet->changed);
    }
    pthread_mutex_unlock(&outlet->lock);
    if (!open)
        free(owner);
    return open;
}

void outlet_end(Outlet *outlet)
{
    pthread_mutex_lock(&outlet->lock);
    outlet->ended = true;
    pthread_cond_broadcast(&outlet->changed);
    pthread_mutex_unlock(&outlet->lock);
}

/* False when there is nothing more. */
static bool next_item(Outlet *outlet, OutletItem *ret_item)
{
    pthread_mutex_lock(&outlet->lock);
    while (!outlet->closed && !outlet->ended && outlet->put == outlet->taken)
        pthread_cond_wait(&outlet->changed, &outlet->lock);
    bool any = !outlet->closed && outlet->put != outlet->taken;
    if (any)
        *ret_item = outlet->items[outlet->taken % OUTLET_ITEMS];
    pthread_mutex_unlock(&outlet->lock);
    return any;
}

static void item_done(Outlet *outlet, const OutletItem *item)
{
    free(item->owner);
    pthread_mutex_lock(&outlet->lock);
    outlet->taken++;
    outlet->bytes -= item->size;
    pthread_cond_broadcast(&outlet->changed);
    pthread_mutex_unlock(&outlet->lock);
}

void outlet_main(Outlet *outlet)
{
    Mover *mover = outlet->mover;
    OutletItem item;
    int fd = -1;
    while (next_item(outlet, &item)) {
        if (fd < 0)
            fd = channel_wait(mover, outlet->channel);
        bool good = fd >= 0 && lpm_bytes_write_full(fd, item.data, item.size) == 0;
        if (!good && !atomic_load(&mover->stopping))
            mover_fail(mover, LPM_STREAM_ERR_VASI, "writing to QEMU's socket %u failed: %s",
                       outlet->channel, strerror(errno));
        item_done(outlet, &item);
        if (!good)
            return;
    }
    if (fd >= 0)
        shutdown(fd, SHUT_WR);
}
