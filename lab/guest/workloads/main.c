/* SPDX-License-Identifier: Apache-2.0 */
#include "workloads.h"

#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

LabSettings lab_settings = {
    .memory_mib = 32, .write_rate = 4, .read_rate = 16, .records = 20, .tick_ms = 5};
LabStatus lab_status;

uint64_t lab_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void lab_sleep_until(uint64_t deadline)
{
    struct timespec until = {.tv_sec = (time_t)(deadline / 1000000000u),
                             .tv_nsec = (long)(deadline % 1000000000u)};

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

uint64_t lab_mix(uint64_t a, uint64_t b)
{
    uint64_t x = a * 0x9e3779b97f4a7c15u + b + 0x632be59bd9b4e019u;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

int lab_listen(uint16_t port)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int on = 1, off = 0;
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 16) < 0) {
        perror("workloads: listen");
        exit(1);
    }
    return fd;
}

static void read_line(const char *path, char *line, size_t size)
{
    FILE *file = fopen(path, "re");

    line[0] = '\0';
    if (file) {
        if (!fgets(line, (int)size, file)) {
            line[0] = '\0';
        }
        fclose(file);
    }
    line[strcspn(line, "\n")] = '\0';
}

static void take_settings_from_kernel_command_line(void)
{
    static const struct {
        const char *name;
        _Atomic uint64_t *setting;
    } options[] = {
        {"lpm.mem=", &lab_settings.memory_mib},   {"lpm.rate=", &lab_settings.write_rate},
        {"lpm.verify=", &lab_settings.read_rate}, {"lpm.journal=", &lab_settings.records},
        {"lpm.mixed=", &lab_settings.mixed_mib},  {"lpm.scratch=", &lab_settings.scratch_mib},
        {"lpm.dirty=", &lab_settings.dirty_rate}, {"lpm.check=", &lab_settings.check_rate},
        {"lpm.tick=", &lab_settings.tick_ms},
    };
    char line[4096], *state = NULL;

    read_line("/proc/cmdline", line, sizeof line);
    for (char *word = strtok_r(line, " ", &state); word; word = strtok_r(NULL, " ", &state)) {
        for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
            size_t length = strlen(options[i].name);
            if (strncmp(word, options[i].name, length) == 0) {
                *options[i].setting = strtoull(word + length, NULL, 10);
            }
        }
    }
}

int main(void)
{
    static void *(*const workloads[])(void *) = {lab_memory_run,  lab_journal_run, lab_answers_run,
                                                 lab_ticker_run,  lab_echo_run,    lab_status_run,
                                                 lab_control_run, lab_power_run,   lab_mixed_run};
    pthread_t thread;

    signal(SIGPIPE, SIG_IGN);
    read_line("/proc/sys/kernel/random/boot_id", lab_status.boot_id, sizeof lab_status.boot_id);
    take_settings_from_kernel_command_line();
    for (size_t i = 0; i < sizeof workloads / sizeof workloads[0]; i++) {
        if (pthread_create(&thread, NULL, workloads[i], NULL) != 0) {
            perror("workloads: thread");
            return 1;
        }
    }
    for (;;) {
        pause();
    }
}
