/* SPDX-License-Identifier: Apache-2.0 */
#include "host/channels.h"

#include "bytes/bytes.h"
#include "host/mover-ctl.h"
#include "host/partition.h"
#include "host/process.h"

#include <errno.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char socket_name[] = "vasi.sock";

LpmQmpCapability lpm_channels_capability(const LpmMigration *migration)
{
    bool on = migration->options.channels > 0;
    return (LpmQmpCapability){"multifd", on, on};
}

LpmQmpParameter lpm_channels_parameter(const LpmMigration *migration)
{
    int64_t n = migration->options.channels;
    /* Of no effect without the capability; QEMU takes no 0. */
    return (LpmQmpParameter){"multifd-channels", n > 0 ? n : 1, n > 0};
}

static bool address_of(const char *path, struct sockaddr_un *ret_address, GError **error)
{
    *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (g_strlcpy(ret_address->sun_path, path, sizeof ret_address->sun_path) <
        sizeof ret_address->sun_path) {
        return true;
    }
    return lpm_error_set(error, LPM_ERROR_USAGE, "%s is too long for a socket", path);
}

static void begin(LpmChannels *channels, LpmMigration *migration)
{
    lpm_channels_close(channels);
    channels->migration = migration;
    channels->listener = -1;
    channels->path = lpm_qemu_path(migration->partition, socket_name);
    channels->expected = 1u + (unsigned)migration->options.channels;
    (void)g_unlink(channels->path); /* of a move that was cut off */
}

void lpm_channels_close(LpmChannels *channels)
{
    if (!channels->path) {
        return;
    }
    g_clear_handle_id(&channels->watch, g_source_remove);
    lpm_bytes_close(&channels->listener);
    (void)g_unlink(channels->path);
    g_clear_pointer(&channels->path, g_free);
    *channels = (LpmChannels){.listener = -1};
}

/* --- source --- */

static gboolean on_connection(G_GNUC_UNUSED gint fd, G_GNUC_UNUSED GIOCondition condition,
                              gpointer data)
{
    LpmChannels *channels = data;
    int one = accept4(channels->listener, NULL, NULL, SOCK_CLOEXEC);
    if (one < 0) {
        return G_SOURCE_CONTINUE;
    }
    if (channels->migration->mover) {
        lpm_mover_send_channel(channels->migration->mover, (uint8_t)channels->came, one);
    } else {
        close(one);
    }
    if (++channels->came < channels->expected) {
        return G_SOURCE_CONTINUE;
    }
    channels->watch = 0;
    lpm_channels_close(channels);
    return G_SOURCE_REMOVE;
}

/* Only QEMU's user, and we, may connect. */
static bool bind_for_qemu(LpmChannels *channels, GError **error)
{
    struct sockaddr_un address;
    uid_t uid = (uid_t)-1;
    gid_t gid = (gid_t)-1;
    if (geteuid() == 0) {
        (void)lpm_process_user(channels->migration->host->config->qemu_user, &uid, &gid);
    }
    if (!address_of(channels->path, &address, error)) {
        return false;
    }
    channels->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (channels->listener >= 0 &&
        bind(channels->listener, (struct sockaddr *)&address, sizeof address) == 0 &&
        chmod(channels->path, 0600) == 0 &&
        (uid == (uid_t)-1 || lchown(channels->path, uid, gid) == 0) &&
        listen(channels->listener, LPM_STREAM_CHANNELS_MAX + 1) == 0) {
        return true;
    }
    return lpm_error_set(error, LPM_ERROR_INTERNAL, "the socket %s for QEMU cannot be made: %s",
                         channels->path, g_strerror(errno));
}

char *lpm_channels_listen(LpmChannels *channels, LpmMigration *migration, GError **error)
{
    begin(channels, migration);
    if (!bind_for_qemu(channels, error)) {
        lpm_channels_close(channels);
        return NULL;
    }
    channels->watch = g_unix_fd_add(channels->listener, G_IO_IN, on_connection, channels);
    return g_strconcat("unix:", channels->path, NULL);
}

/* --- target --- */

char *lpm_channels_uri(LpmChannels *channels, LpmMigration *migration)
{
    begin(channels, migration);
    return g_strconcat("unix:", channels->path, NULL);
}

int lpm_channels_connect(const char *path, GError **error)
{
    struct sockaddr_un address;
    LPM_AUTO_FD int fd = -1;
    if (!address_of(path, &address, error)) {
        return -1;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        lpm_error_set(error, LPM_ERROR_QEMU, "QEMU's socket %s cannot be reached: %s", path,
                      g_strerror(errno));
        return -1;
    }
    return lpm_bytes_steal_fd(&fd);
}

static bool connect_channel(LpmChannels *channels, uint8_t channel, GError **error)
{
    LPM_AUTO_FD int fd = lpm_channels_connect(channels->path, error);
    if (fd >= 0 && channels->migration->mover) {
        lpm_mover_send_channel(channels->migration->mover, channel, lpm_bytes_steal_fd(&fd));
        return true;
    }
    return fd >= 0;
}

bool lpm_channels_want(LpmChannels *channels, uint8_t channel, GError **error)
{
    channels->wanted |= UINT32_C(1) << channel;
    return !channels->incoming || lpm_channels_incoming(channels, error);
}

bool lpm_channels_incoming(LpmChannels *channels, GError **error)
{
    channels->incoming = true;
    for (uint8_t channel = 0; channel <= LPM_STREAM_CHANNELS_MAX; channel++) {
        if (!(channels->wanted & UINT32_C(1) << channel)) {
            continue;
        }
        channels->wanted &= ~(UINT32_C(1) << channel);
        if (!connect_channel(channels, channel, error)) {
            return false;
        }
    }
    return true;
}
