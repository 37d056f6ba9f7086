/* SPDX-License-Identifier: Apache-2.0 */
#include "bytes/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void cursor_round_trip(void)
{
    uint8_t buffer[32];
    LpmByteWriter w = lpm_bytes_writer(buffer, sizeof(buffer));
    lpm_bytes_put_u8(&w, 0x12);
    lpm_bytes_put_u16(&w, 0x3456);
    lpm_bytes_put_u32(&w, 0x789abcde);
    lpm_bytes_put_u64(&w, 0x0123456789abcdefu);
    lpm_bytes_put(&w, "xyz", 3);
    g_assert_false(w.bad);
    g_assert_cmpuint(w.at, ==, 18);
    g_assert_cmpmem(buffer, 7, "\x12\x56\x34\xde\xbc\x9a\x78", 7);

    LpmByteReader r = lpm_bytes_reader(buffer, w.at);
    g_assert_cmpuint(lpm_bytes_get_u8(&r), ==, 0x12);
    g_assert_cmpuint(lpm_bytes_get_u16(&r), ==, 0x3456);
    g_assert_cmpuint(lpm_bytes_get_u32(&r), ==, 0x789abcde);
    g_assert_cmpuint(lpm_bytes_get_u64(&r), ==, 0x0123456789abcdefu);
    g_assert_cmpmem(lpm_bytes_borrow(&r, 3), 3, "xyz", 3);
    g_assert_true(lpm_bytes_finished(&r));
}

static void cursor_stops_at_the_end(void)
{
    const uint8_t three[3] = {1, 2, 3};
    LpmByteReader r = lpm_bytes_reader(three, sizeof(three));
    g_assert_cmpuint(lpm_bytes_get_u32(&r), ==, 0);
    g_assert_true(r.bad);
    g_assert_cmpuint(lpm_bytes_get_u8(&r), ==, 0);
    g_assert_cmpuint(lpm_bytes_left(&r), ==, 0);
    g_assert_false(lpm_bytes_finished(&r));
    g_assert_null(lpm_bytes_borrow(&r, SIZE_MAX));

    uint8_t two[2] = {9, 9};
    LpmByteWriter w = lpm_bytes_writer(two, sizeof(two));
    lpm_bytes_put_u8(&w, 1);
    lpm_bytes_put_u16(&w, 0);
    g_assert_true(w.bad);
    lpm_bytes_put_u8(&w, 2);
    g_assert_cmpmem(two, 2, "\x01\x09", 2);
}

static void descriptor_closes_itself(void)
{
    int seen, kept;
    {
        LPM_AUTO_FD int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        LPM_AUTO_FD int stolen = open("/dev/null", O_RDONLY | O_CLOEXEC);
        seen = fd;
        kept = lpm_bytes_steal_fd(&stolen);
        g_assert_cmpint(stolen, ==, -1);
    }
    g_assert_cmpint(fcntl(seen, F_GETFD), ==, -1);
    g_assert_cmpint(fcntl(kept, F_GETFD), !=, -1);
    lpm_bytes_close(&kept);
}

static void reads_and_writes_everything(void)
{
    int pair[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    g_assert_cmpint(lpm_bytes_write_full(pair[0], "abcdef", 6), ==, 0);
    char got[8] = "";
    g_assert_cmpint(lpm_bytes_read_full(pair[1], got, 4), ==, 1);
    lpm_bytes_close(&pair[0]);
    g_assert_cmpint(lpm_bytes_read_full(pair[1], got, 4), ==, -1);
    g_assert_cmpint(errno, ==, EPIPE);
    g_assert_cmpint(lpm_bytes_read_full(pair[1], got, 4), ==, 0);
    g_assert_cmpint(lpm_bytes_write_full(pair[1], got, 4), ==, -1);
    g_assert_cmpint(errno, ==, EPIPE);
    lpm_bytes_close(&pair[1]);
}

static void reads_to_the_end_within_a_limit(void)
{
    for (int size = 5; size <= 6; size++) {
        int pipes[2];
        char got[6];
        g_assert_cmpint(pipe2(pipes, O_CLOEXEC), ==, 0);
        g_assert_cmpint(lpm_bytes_write_full(pipes[1], "123456", 6), ==, 0);
        lpm_bytes_close(&pipes[1]);
        ssize_t n = lpm_bytes_read_all(pipes[0], got, (size_t)size);
        g_assert_cmpint(n, ==, size == 6 ? 6 : -1);
        if (n < 0)
            g_assert_cmpint(errno, ==, EFBIG);
        lpm_bytes_close(&pipes[0]);
    }
}

static void descriptors_travel(void)
{
    int pair[2], pipes[2], got[2];
    size_t n_got;
    char text[8];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    g_assert_cmpint(pipe2(pipes, O_CLOEXEC), ==, 0);
    g_assert_cmpint(lpm_bytes_send_fds(pair[0], "hey", 3, pipes, 2), ==, 0);
    g_assert_cmpint(lpm_bytes_recv_fds(pair[1], text, sizeof(text), got, 2, &n_got), ==, 3);
    g_assert_cmpuint(n_got, ==, 2);
    g_assert_cmpint(fcntl(got[0], F_GETFD) & FD_CLOEXEC, ==, FD_CLOEXEC);
    g_assert_cmpint(lpm_bytes_write_full(got[1], "x", 1), ==, 0);
    g_assert_cmpint(lpm_bytes_read_full(pipes[0], text, 1), ==, 1);

    /* More than there is room for: an error, and none is left open. */
    int lowest_free = dup(0);
    close(lowest_free);
    g_assert_cmpint(lpm_bytes_send_fds(pair[0], "hey", 3, pipes, 2), ==, 0);
    g_assert_cmpint(lpm_bytes_recv_fds(pair[1], text, sizeof(text), got, 1, &n_got), ==, -1);
    g_assert_cmpint(errno, ==, EMSGSIZE);
    g_assert_cmpuint(n_got, ==, 0);
    int now_free = dup(0);
    g_assert_cmpint(now_free, ==, lowest_free);
    lpm_bytes_close(&now_free);

    g_assert_cmpint(lpm_bytes_send_fds(pair[0], "", 0, NULL, 0), ==, -1);
    lpm_bytes_close(&pair[0]);
    g_assert_cmpint(lpm_bytes_recv_fds(pair[1], text, sizeof(text), got, 2, &n_got), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/bytes/cursor/round-trip", cursor_round_trip);
    g_test_add_func("/bytes/cursor/end", cursor_stops_at_the_end);
    g_test_add_func("/bytes/fd/auto", descriptor_closes_itself);
    g_test_add_func("/bytes/fd/full", reads_and_writes_everything);
    g_test_add_func("/bytes/fd/all", reads_to_the_end_within_a_limit);
    g_test_add_func("/bytes/fd/passing", descriptors_travel);
    return g_test_run();
}
