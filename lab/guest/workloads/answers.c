/* SPDX-License-Identifier: Apache-2.0 */
/* Numbered answers over TCP: the counter lives in memory for as long as the connection, so that an
 * answer that a move lost, doubled or took from an older state of the partition shows at the
 * client. */
#include "workloads.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void *serve(void *argument)
{
    int fd = (int)(intptr_t)argument, on = 1;
    FILE *in = fdopen(fd, "r");
    char line[256], answer[400];
    uint64_t number = 0;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    while (in && fgets(line, sizeof line, in)) {
        line[strcspn(line, "\r\n")] = '\0';
        atomic_fetch_add(&lab_status.answers, 1);
        int length = snprintf(answer, sizeof answer, "%" PRIu64 " %s %s\n", ++number,
                              lab_status.boot_id, line);
        if (send(fd, answer, (size_t)length, MSG_NOSIGNAL) != length) {
            break;
        }
    }
    if (in) {
        fclose(in);
    } else {
        close(fd);
    }
    return NULL;
}

void *lab_answers_run(void *unused)
{
    int listening = lab_listen(LAB_PORT_ANSWERS);

    (void)unused;
    for (;;) {
        int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
        pthread_t thread;
        if (fd < 0) {
            continue;
        }
        lab_status.connections++;
        if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) != 0) {
            close(fd);
        } else {
            pthread_detach(thread);
        }
    }
}

void *lab_echo_run(void *unused)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(LAB_PORT_ECHO)};
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    char datagram[2048];

    (void)unused;
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        perror("workloads: echo");
        exit(1);
    }
    for (;;) {
        struct sockaddr_in6 from;
        socklen_t size = sizeof from;
        ssize_t n = recvfrom(fd, datagram, sizeof datagram, 0, (struct sockaddr *)&from, &size);
        if (n >= 0) {
            sendto(fd, datagram, (size_t)n, 0, (struct sockaddr *)&from, size);
        }
    }
}
