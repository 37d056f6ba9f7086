/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that outlives lpm-host: in a session of its own, reparented to init, watched through a
 * pidfd. It is created held: it exists, but waits before exec until lpm_process_release(), so that
 * its pid can be written down first.
 */
#pragma once

#include "base/error.h"

#include <stdint.h>
#include <sys/types.h>

typedef struct {
    char *const *argv;   /* argv[0] is an absolute path */
    const char *user;    /* run as this user when we are root; NULL: as we are */
    bool keep_kvm_group; /* membership in the group that may open the KVM device */
    int output_fd;       /* stdout and stderr */
    const int *fds;      /* inherited under the same numbers */
    size_t n_fds;
} LpmProcessSpec;

typedef struct {
    pid_t pid;
    uint64_t
        start_time; /* field 22 of /proc/PID/stat: tells it from a later process of the same pid */
    int pidfd;      /* owned by who gets it; readable once the process has ended */
    int release_fd; /* closing it without release ends the held process */
    int report_fd;  /* reason of a failed exec */
} LpmProcess;

/* Blocks for a few milliseconds. INTERNAL error naming the step. */
bool lpm_process_spawn(const LpmProcessSpec *spec, LpmProcess *ret_process,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Lets it exec @program (for the message). QEMU error when exec fails. Closes release_fd and
 * report_fd in any case. */
bool lpm_process_release(LpmProcess *process, const char *program,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Ends a held process instead of releasing it, and closes everything. Fine on a zeroed or released
 * one. */
void lpm_process_discard(LpmProcess *process);

/* Start time of @pid; false when there is no such process, or only its zombie. */
bool lpm_process_start_time(pid_t pid, uint64_t *ret_start_time);
/* A pidfd of exactly that process, or -1 when it has ended for certain. INTERNAL error when that
 * cannot be told, out of memory or descriptors, say: then it may well live. */
bool lpm_process_open(pid_t pid, uint64_t start_time, int *ret_pidfd,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;
/*
 * Whether that process has ended, is on its way, or has got SIGKILL: a large one may take seconds
 * over its end, and its pidfd says so only then. What cannot be read of a live one is no sign.
 */
bool lpm_process_is_ending(pid_t pid, int pidfd);
/* SIGKILL through the pidfd; an ended process is no error. */
void lpm_process_kill(int pidfd);
/* User and group of @name; false when there is no such user. */
bool lpm_process_user(const char *name, uid_t *ret_uid, gid_t *ret_gid);
