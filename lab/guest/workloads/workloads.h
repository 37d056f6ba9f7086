/* SPDX-License-Identifier: Apache-2.0 */
/* What a partition of the lab does all day, and what it can prove about itself: one process, one
 * thread a workload. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Where the services listen. */
enum {
    LAB_PORT_ANSWERS = 7000, /* TCP: one numbered answer a request line */
    LAB_PORT_STATUS = 7001,  /* TCP: one JSON line, then the end */
    LAB_PORT_CONTROL =
        7002, /* TCP: "NAME VALUE" lines change a setting, each answered with "ok" or "error ..." */
    LAB_PORT_ECHO = 7003, /* UDP: every datagram comes back */
};

/* From the kernel command line (lpm.NAME=VALUE), changed through the control port. */
typedef struct {
    _Atomic uint64_t memory_mib; /* lpm.mem: pattern memory; fixed once started */
    _Atomic uint64_t write_rate; /* lpm.rate: MB/s rewritten, 0 = the pattern stays as it is */
    _Atomic uint64_t read_rate;  /* lpm.verify: MB/s read and compared */
    _Atomic uint64_t
        records; /* lpm.journal: records a second appended to the journal disk, 0 = none */
    _Atomic uint64_t mixed_mib;   /* lpm.mixed: server-like memory; fixed once started */
    _Atomic uint64_t scratch_mib; /* lpm.scratch: free memory that an ended program has used */
    _Atomic uint64_t dirty_rate;  /* lpm.dirty: MB/s of pages of it that get 64 bytes changed */
    _Atomic uint64_t check_rate;  /* lpm.check: MB/s of it read and compared */
    _Atomic uint64_t tick_ms;     /* lpm.tick: the ticker's period; 0: it rests */
} LabSettings;

/* Written by the workloads, read by the status service. */
typedef struct {
    char boot_id[40];
    _Atomic uint64_t ticks;
    _Atomic uint64_t longest_gap_ns;
    _Atomic bool memory_filled;      /* the first time over; from here on it is verified */
    _Atomic uint64_t memory_passes;  /* whole passes over the pattern, each page compared */
    _Atomic uint64_t memory_errors;  /* words that were not what had been written */
    _Atomic uint64_t memory_written; /* bytes */
    _Atomic bool mixed_filled;       /* the same of the mixed memory */
    _Atomic uint64_t mixed_passes;   /* whole passes over it, each page's sum compared */
    _Atomic uint64_t mixed_dirtied;  /* bytes of pages changed */
    _Atomic bool journal_open;
    _Atomic uint64_t
        journal_acknowledged;        /* number of the last record that the disk has confirmed */
    _Atomic uint64_t journal_errors; /* failed writes, and records read back wrong */
    _Atomic uint64_t answers;        /* TCP answers given, all connections */
    _Atomic uint64_t connections;
} LabStatus;

extern LabSettings lab_settings;
extern LabStatus lab_status;

/* Nanoseconds of the partition's own clock, which stands still while the partition is paused. */
uint64_t lab_now(void);

/* Sleeps until that moment of the same clock; returns at once when it has passed. */
void lab_sleep_until(uint64_t deadline);

/* A value that depends on every bit of both arguments. */
uint64_t lab_mix(uint64_t a, uint64_t b);

/* Thread bodies; the argument is unused, they never return while the partition runs. */
void *lab_memory_run(void *unused);
void *lab_mixed_run(void *unused);
void *lab_journal_run(void *unused);
void *lab_answers_run(void *unused);
void *lab_ticker_run(void *unused);
void *lab_echo_run(void *unused);
void *lab_status_run(void *unused);
void *lab_control_run(void *unused);
void *lab_power_run(void *unused);

/* A listening TCP socket on every address; ends the program on failure, for then the lab is of no
 * use. */
int lab_listen(uint16_t port);
