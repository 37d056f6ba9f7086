/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes at the edge of a process: a bounded cursor (little-endian, our own formats only),
 * descriptors that close themselves, full reads and writes, and descriptors sent over a Unix
 * socket. No allocation, no GLib, no logging.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* --- bounded cursor --- */

/*
 * Reading past the end sets @bad, gives zeros and never moves again: a decoder reads all its fields
 * and asks once at the end. Borrows @data.
 */
typedef struct {
    const uint8_t *data;
    size_t size;
    size_t at;
    bool bad;
} LpmByteReader;

/* Writing past the end sets @bad and writes nothing more. Borrows @data. */
typedef struct {
    uint8_t *data;
    size_t size;
    size_t at;
    bool bad;
} LpmByteWriter;

LpmByteReader lpm_bytes_reader(const void *data, size_t size);
uint8_t lpm_bytes_get_u8(LpmByteReader *reader);
uint16_t lpm_bytes_get_u16(LpmByteReader *reader);
uint32_t lpm_bytes_get_u32(LpmByteReader *reader);
uint64_t lpm_bytes_get_u64(LpmByteReader *reader);
/* Copies @size bytes out; zeros when there are fewer. */
void lpm_bytes_get(LpmByteReader *reader, void *out, size_t size);
/* @size bytes in place (borrowed from the reader's data); NULL when there are fewer. */
const uint8_t *lpm_bytes_borrow(LpmByteReader *reader, size_t size);
size_t lpm_bytes_left(const LpmByteReader *reader);
/* True when every byte was read and none was missing. */
bool lpm_bytes_finished(const LpmByteReader *reader);

LpmByteWriter lpm_bytes_writer(void *data, size_t size);
void lpm_bytes_put_u8(LpmByteWriter *writer, uint8_t value);
void lpm_bytes_put_u16(LpmByteWriter *writer, uint16_t value);
void lpm_bytes_put_u32(LpmByteWriter *writer, uint32_t value);
void lpm_bytes_put_u64(LpmByteWriter *writer, uint64_t value);
void lpm_bytes_put(LpmByteWriter *writer, const void *data, size_t size);

/* --- descriptors --- */

/* Closes @fd if it is not negative and leaves -1; errno is kept. */
void lpm_bytes_close(int *fd);
/* A descriptor that closes itself at the end of its scope: LPM_AUTO_FD int fd = open(...); */
#define LPM_AUTO_FD __attribute__((cleanup(lpm_bytes_close)))
/* Takes the descriptor out of @fd, which becomes -1. */
int lpm_bytes_steal_fd(int *fd);

/* Reads exactly @size bytes. 1: done; 0: the end came before the first byte; -1: errno (EPIPE: it
 * ended in between). */
int lpm_bytes_read_full(int fd, void *out, size_t size);
/* Writes exactly @size bytes, never raises SIGPIPE on sockets. 0, or -1 with errno. */
int lpm_bytes_write_full(int fd, const void *data, size_t size);
/* Reads to the end, at most @size bytes. Their number, or -1 with errno (EFBIG: there is more than
 * @size). */
ssize_t lpm_bytes_read_all(int fd, void *out, size_t size);

enum { LPM_BYTES_MAX_FDS = 16 }; /* descriptors in one message */

/*
 * Sends @size (at least 1) bytes and @n_fds descriptors as one message on a Unix socket. The
 * descriptors stay the caller's. 0, or -1 with errno.
 */
int lpm_bytes_send_fds(int socket, const void *data, size_t size, const int *fds, size_t n_fds);
/*
 * Receives up to @size bytes and up to @max_fds descriptors (close-on-exec, the caller's). Number
 * of bytes, 0 at the end, or -1 with errno; EMSGSIZE when more descriptors came than fit (all are
 * closed).
 */
ssize_t lpm_bytes_recv_fds(int socket, void *out, size_t size, int *ret_fds, size_t max_fds,
                           size_t *ret_n_fds);
