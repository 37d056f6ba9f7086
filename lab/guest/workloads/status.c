/* SPDX-License-Identifier: Apache-2.0 */
#include "workloads.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>
#include <unistd.h>

/* The processor as the partition sees it: on POWER the line of /proc/cpuinfo that names the mode,
 * and the two names that programs choose their code by. */
static void describe_processor(char *text, size_t size)
{
    const char *platform = (const char *)getauxval(AT_PLATFORM);
    const char *base = (const char *)getauxval(AT_BASE_PLATFORM);
    char line[256], model[128] = "";
    FILE *file = fopen("/proc/cpuinfo", "re");

    while (file && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (colon && !model[0] &&
            (strncmp(line, "cpu\t", 4) == 0 || strncmp(line, "model name", 10) == 0)) {
            colon[strcspn(colon, "\n\"\\")] = '\0';
            snprintf(model, sizeof model, "%s", colon + 2);
        }
    }
    if (file) {
        fclose(file);
    }
    snprintf(text, size,
             "\"platform\":\"%s\",\"base_platform\":\"%s\",\"processor\":\"%s\",\"processors\":%d",
             platform ? platform : "", base ? base : "", model, get_nprocs());
}

static int compose(char *text, size_t size)
{
    char processor[512];

    describe_processor(processor, sizeof processor);
    return snprintf(
        text, size,
        "{\"boot_id\":\"%s\",\"uptime_ms\":%" PRIu64 ",\"ticks\":%" PRIu64
        ",\"longest_gap_ms\":%" PRIu64 ",\"memory_mib\":%" PRIu64
        ",\"memory_filled\":%s,\"memory_passes\":%" PRIu64 ",\"memory_errors\":%" PRIu64
        ",\"memory_written\":%" PRIu64 ",\"mixed_passes\":%" PRIu64 ",\"mixed_dirtied\":%" PRIu64
        ",\"journal_open\":%s,\"journal_acknowledged\":%" PRIu64 ",\"journal_errors\":%" PRIu64
        ",\"answers\":%" PRIu64 ",\"connections\":%" PRIu64 ",%s}\n",
        lab_status.boot_id, lab_now() / 1000000, lab_status.ticks,
        lab_status.longest_gap_ns / 1000000, lab_settings.memory_mib,
        lab_status.memory_filled && lab_status.mixed_filled ? "true" : "false",
        lab_status.memory_passes, lab_status.memory_errors, lab_status.memory_written,
        lab_status.mixed_passes, lab_status.mixed_dirtied,
        lab_status.journal_open ? "true" : "false", lab_status.journal_acknowledged,
        lab_status.journal_errors, lab_status.answers, lab_status.connections, processor);
}

void *lab_status_run(void *unused)
{
    int listening = lab_listen(LAB_PORT_STATUS);
    char text[2048];

    (void)unused;
    for (;;) {
        int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) {
            send(fd, text, (size_t)compose(text, sizeof text), MSG_NOSIGNAL);
            close(fd);
        }
    }
}

/* Carries out one "NAME VALUE" line; returns the answer. */
static const char *change(char *line)
{
    static const struct {
        const char *name;
        _Atomic uint64_t *value;
    } settings[] = {
        {"rate", &lab_settings.write_rate},          {"verify", &lab_settings.read_rate},
        {"journal", &lab_settings.records},          {"dirty", &lab_settings.dirty_rate},
        {"check", &lab_settings.check_rate},         {"tick", &lab_settings.tick_ms},
        {"longest_gap", &lab_status.longest_gap_ns},
    };
    char *value = strchr(line, ' ');

    if (!value) {
        return "error: expected NAME VALUE\n";
    }
    *value++ = '\0';
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        if (strcmp(settings[i].name, line) == 0) {
            *settings[i].value = strtoull(value, NULL, 10);
            return "ok\n";
        }
    }
    return "error: the settings are rate, verify, journal, dirty, check, tick, longest_gap\n";
}

void *lab_control_run(void *unused)
{
    int listening = lab_listen(LAB_PORT_CONTROL);
    char line[128];

    (void)unused;
    for (;;) {
        int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
        FILE *in = fd >= 0 ? fdopen(fd, "r") : NULL;
        while (in && fgets(line, sizeof line, in)) {
            const char *answer = change(line);
            send(fd, answer, strlen(answer), MSG_NOSIGNAL);
        }
        if (in) {
            fclose(in);
        } else if (fd >= 0) {
            close(fd);
        }
    }
}
