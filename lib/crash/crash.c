/* SPDX-License-Identifier: Apache-2.0 */
#include "crash/crash.h"

#ifdef LPM_CRASH_POINTS

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { NAME_MAX_SIZE = 64, PIDS_MAX = 256, PAUSE_MS = 5000, PAUSE_MAX_MS = 600000 };

static struct {
    LpmCrashOthers others;
    void *data;
    pid_t pids[PIDS_MAX];
    unsigned n;
} machine;

void lpm_crash_set_machine(LpmCrashOthers others, void *data)
{
    machine.others = others;
    machine.data = data;
}

static void note(pid_t pid)
{
    if (pid > 1 && machine.n < PIDS_MAX) {
        machine.pids[machine.n++] = pid;
    }
}

/* The movers. */
static void note_children(void)
{
    char path[NAME_MAX_SIZE];
    int pid = 0;
    snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    FILE *file = fopen(path, "re");
    while (file && fscanf(file, "%d", &pid) == 1) {
        note(pid);
    }
    if (file) {
        fclose(file);
    }
}

/* First nobody goes on any more, so that nobody sees another's end; then nobody is left. */
static void end_machine(void)
{
    static const int signals[] = {SIGSTOP, SIGKILL};
    note_children();
    if (machine.others) {
        machine.others(machine.data, note);
    }
    for (unsigned s = 0; s < sizeof(signals) / sizeof(signals[0]); s++) {
        for (unsigned i = 0; i < machine.n; i++) {
            kill(machine.pids[i], signals[s]);
        }
    }
    raise(SIGKILL);
}

static void end_process(void)
{
    raise(SIGKILL);
}

/* Goes on with SIGCONT. */
static void stand_still(void)
{
    raise(SIGSTOP);
}

/* For LPM_CRASH_PAUSE_MS, and then goes on by itself. */
static void pause_a_while(void)
{
    const char *wanted = getenv("LPM_CRASH_PAUSE_MS");
    long ms = wanted ? strtol(wanted, NULL, 10) : PAUSE_MS;
    if (ms < 1 || ms > PAUSE_MAX_MS) {
        fprintf(stderr, "LPM_CRASH_PAUSE_MS: \"%s\" is not from 1 to %d\n", wanted, PAUSE_MAX_MS);
        abort();
    }
    struct timespec rest = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    while (nanosleep(&rest, &rest) != 0) {
        /* a signal came: the rest of it */
    }
}

static void take(const char *kind)
{
    static const struct {
        const char *name;
        void (*act)(void);
    } kinds[] = {{"process", end_process},
                 {"machine", end_machine},
                 {"stop", stand_still},
                 {"pause", pause_a_while}};
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(kind, kinds[i].name) == 0) {
            kinds[i].act();
            return;
        }
    }
    fprintf(stderr, "LPM_CRASH: there is no kind \"%s\": process, machine, stop, pause\n", kind);
    abort();
}

static const LpmCrashPoint *find(const char *name)
{
    const LpmCrashPoint *point = lpm_crash_points;
    while (point->number && strcmp(point->name, name) != 0) {
        point++;
    }
    return point;
}

/* @wanted is a name or a number, and may go on with a comma and a kind. */
static bool is_wanted(const LpmCrashPoint *point, const char *wanted)
{
    size_t size = strcspn(wanted, ",");
    char number[NAME_MAX_SIZE];
    snprintf(number, sizeof(number), "%u", point->number);
    return (strlen(point->name) == size && strncmp(wanted, point->name, size) == 0) ||
           (strlen(number) == size && strncmp(wanted, number, size) == 0);
}

void lpm_crash_point(const char *side, const char *what, const char *when)
{
    static bool done;
    char name[NAME_MAX_SIZE];
    snprintf(name, sizeof(name), "%s-%s-%s", side, what, when);
    const LpmCrashPoint *point = find(name);
    if (!point->number) {
        fprintf(stderr, "crash point %s is not in lib/crash/points.c\n", name);
        abort();
    }
    const char *wanted = getenv("LPM_CRASH");
    if (done || !wanted || !is_wanted(point, wanted)) {
        return;
    }
    const char *comma = strchr(wanted, ',');
    const char *given = getenv("LPM_CRASH_KIND");
    const char *kind = comma ? comma + 1 : given ? given : "process";
    done = strcmp(kind, "pause") != 0; /* every move of a long row is stretched */
    take(kind);
}

#else

typedef int LpmNoCrashPoints; /* a file of C must declare something */

#endif
