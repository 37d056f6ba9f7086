/* SPDX-License-Identifier: Apache-2.0 */
#include "bytes/bytes.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

void lpm_bytes_close(int *fd)
{
    int saved = errno;
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    errno = saved;
}

int lpm_bytes_steal_fd(int *fd)
{
    int stolen = *fd;
    *fd = -1;
    return stolen;
}

int lpm_bytes_read_full(int fd, void *out, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = read(fd, (uint8_t *)out + done, size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0 && done == 0)
            return 0;
        if (n == 0) {
            errno = EPIPE;
            return -1;
        }
        done += (size_t)n;
    }
    return 1;
}

int lpm_bytes_write_full(int fd, const void *data, size_t size)
{
    bool is_socket = true;
    size_t done = 0;
    while (done < size) {
        const uint8_t *at = (const uint8_t *)data + done;
        ssize_t n =
            is_socket ? send(fd, at, size - done, MSG_NOSIGNAL) : write(fd, at, size - done);
        if (n < 0 && errno == ENOTSOCK && is_socket) {
            is_socket = false;
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        done += (size_t)n;
    }
    return 0;
}

ssize_t lpm_bytes_read_all(int fd, void *out, size_t size)
{
    size_t done = 0;
    for (;;) {
        uint8_t beyond;
        ssize_t n =
            done < size ? read(fd, (uint8_t *)out + done, size - done) : read(fd, &beyond, 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            return (ssize_t)done;
        if (done == size) {
            errno = EFBIG;
            return -1;
        }
        done += (size_t)n;
    }
}

int lpm_bytes_send_fds(int socket, const void *data, size_t size, const int *fds, size_t n_fds)
{
    if (size == 0 || n_fds > LPM_BYTES_MAX_FDS) {
        errno = EINVAL;
        return -1;
    }
    union {
        char bytes[CMSG_SPACE(sizeof(int) * LPM_BYTES_MAX_FDS)];
        struct cmsghdr align;
    } ancillary = {0};
    struct iovec iov = {.iov_base = (void *)data, .iov_len = size};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n_fds > 0) {
        msg.msg_control = ancillary.bytes;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * n_fds);
    }
    ssize_t n;
    do
        n = sendmsg(socket, &msg, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -1;
    /* The descriptors went with the first byte; the rest may follow alone. */
    return lpm_bytes_write_full(socket, (const uint8_t *)data + n, size - (size_t)n);
}

/* Takes the descriptors out of @msg; false when there are more than @max. */
static bool collect_fds(struct msghdr *msg, int *ret_fds, size_t max, size_t *ret_n)
{
    bool fits = !(msg->msg_flags & MSG_CTRUNC);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (*ret_n < max) {
                ret_fds[(*ret_n)++] = fd;
            } else {
                close(fd);
                fits = false;
            }
        }
    }
    return fits;
}

ssize_t lpm_bytes_recv_fds(int socket, void *out, size_t size, int *ret_fds, size_t max_fds,
                           size_t *ret_n_fds)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * LPM_BYTES_MAX_FDS)];
        struct cmsghdr align;
    } ancillary = {0};
    struct iovec iov = {.iov_base = out, .iov_len = size};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = ancillary.bytes,
                         .msg_controllen = sizeof(ancillary.bytes)};
    *ret_n_fds = 0;
    ssize_t n;
    do
        n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -1;
    if (collect_fds(&msg, ret_fds, max_fds, ret_n_fds))
        return n;
    while (*ret_n_fds > 0)
        lpm_bytes_close(&ret_fds[--*ret_n_fds]);
    errno = EMSGSIZE;
    return -1;
}
