/* SPDX-License-Identifier: Apache-2.0 */
#include "bytes/bytes.h"
#include "mover.h"

#include <sys/socket.h>

enum { SOCKET_BUFFER = 1024 * 1024 };

int channel_fd(Mover *mover, unsigned channel)
{
    return atomic_load(&mover->channels[channel].fd);
}

int channel_wait(Mover *mover, unsigned channel)
{
    pthread_mutex_lock(&mover->link_lock);
    LpmStreamMessage m = {.need_channel = {.channel = (uint8_t)channel}};
    if (channel_fd(mover, channel) < 0 && !is_source(mover))
        mover_tell(mover, LPM_STREAM_NEED_CHANNEL, &m);
    while (channel_fd(mover, channel) < 0 && !atomic_load(&mover->stopping))
        pthread_cond_wait(&mover->link_changed, &mover->link_lock);
    pthread_mutex_unlock(&mover->link_lock);
    return channel_fd(mover, channel);
}

bool channel_take(Mover *mover, unsigned channel, int fd)
{
    int size = SOCKET_BUFFER;
    if (channel >= mover->n_channels || channel_fd(mover, channel) >= 0) {
        lpm_bytes_close(&fd);
        return false;
    }
    /* Room for more than a few pages; best effort. */
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) != 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    pthread_mutex_lock(&mover->link_lock);
    atomic_store(&mover->channels[channel].fd, fd);
    pthread_cond_broadcast(&mover->link_changed);
    pthread_mutex_unlock(&mover->link_lock);
    queue_wake(&mover->to_peer);
    return true;
}

void channel_shut_all(Mover *mover)
{
    for (unsigned i = 0; i < mover->n_channels; i++) {
        if (channel_fd(mover, i) >= 0)
            shutdown(channel_fd(mover, i), SHUT_RDWR);
        if (mover->outlets)
            outlet_close(&mover->outlets[i]);
    }
    pthread_mutex_lock(&mover->link_lock);
    pthread_cond_broadcast(&mover->link_changed);
    pthread_mutex_unlock(&mover->link_lock);
}
