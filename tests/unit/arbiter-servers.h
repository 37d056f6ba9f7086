/* SPDX-License-Identifier: Apache-2.0 */
/* Real servers for the tests of arbiters: Debian's etcd and tgtd on loopback. They end with the
 * test. */
#pragma once

#include "host/etcd.h"
#include "host/lock-lun.h"

#include <sys/types.h>

typedef struct {
    char *directory; /* of all that it writes */
    int port;
    pid_t pid; /* 0: not running */
    bool tls;  /* etcd: with certificates of its own making, in @directory */
    bool chap; /* tgt: user "lpm", secret in @directory */
    int peer_port;
    const char *name, *cluster; /* etcd: of several members; NULL: alone */
} Server;

/* A directory and a port; nothing runs yet. */
void server_init(Server *server);
/* Ends it (SIGKILL) and removes the directory. */
void server_clear(Server *server);
void server_kill(Server *server);

/* Return when it answers; what was written before is still there. */
void etcd_start(Server *server);
void etcd_launch(Server *server); /* does not wait: a member waits for others */
void etcd_wait(Server *server);
void tgt_start(Server *server, const char *image);

char *server_file(const Server *server, const char *name);
char *etcd_url(const Server *server);
/* A client of its own, with the certificates that @server asks for. */
LpmEtcd *etcd_client(const Server *server);
/* LUN 1 of the server, as initiator @name. */
LpmLockLun *tgt_client(const Server *server, const char *name);
/* An image of @size zeros for tgt. */
char *tgt_image(const Server *server, off_t size);
