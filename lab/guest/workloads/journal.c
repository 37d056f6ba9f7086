/* SPDX-License-Identifier: Apache-2.0 */
#include "journal.h"
#include "workloads.h"

#include <endian.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DISK "/dev/vda"
enum { SCAN_BYTES = 1 << 20 };

static uint64_t slots;

static uint64_t get(const uint8_t *bytes)
{
    uint64_t value;

    memcpy(&value, bytes, sizeof value);
    return le64toh(value);
}

static void put(uint8_t *bytes, uint64_t value)
{
    value = htole64(value);
    memcpy(bytes, &value, sizeof value);
}

/* CRC-32 as in zlib, a bit at a time: there are only a few records a second. */
static uint64_t checksum(const uint8_t *record)
{
    uint32_t sum = 0xffffffffu;

    for (int i = 0; i < LAB_RECORD_BYTES; i++) {
        if (i >= 24 && i < 32) {
            continue;
        }
        sum ^= record[i];
        for (int bit = 0; bit < 8; bit++) {
            sum = (sum >> 1) ^ (0xedb88320u & (0u - (sum & 1)));
        }
    }
    return sum ^ 0xffffffffu;
}

static void compose(uint8_t *record, uint64_t number)
{
    memset(record, 0, LAB_RECORD_BYTES);
    memcpy(record, LAB_RECORD_MAGIC, 8);
    put(record + 8, number);
    put(record + 16, slots);
    memcpy(record + 32, lab_status.boot_id, sizeof lab_status.boot_id);
    for (int i = 72; i < LAB_RECORD_BYTES; i += 8) {
        put(record + i, lab_mix(number, (uint64_t)i));
    }
    put(record + 24, checksum(record));
}

static bool is_record(const uint8_t *record, uint64_t slot)
{
    return memcmp(record, LAB_RECORD_MAGIC, 8) == 0 && get(record + 16) == slots &&
           get(record + 8) % slots == slot;
}

/* The number of the newest record on the disk, 0 when there is none. */
static uint64_t find_newest(int fd, uint8_t *buffer)
{
    uint64_t newest = 0;

    for (uint64_t slot = 0; slot < slots;) {
        ssize_t n = pread(fd, buffer, SCAN_BYTES, (off_t)(slot * LAB_RECORD_BYTES));
        if (n < LAB_RECORD_BYTES) {
            break;
        }
        uint64_t end = slot + (uint64_t)n / LAB_RECORD_BYTES;
        bool any = false;
        for (const uint8_t *record = buffer; slot < end; slot++, record += LAB_RECORD_BYTES) {
            if (is_record(record, slot)) {
                any = true;
                newest = get(record + 8) > newest ? get(record + 8) : newest;
            }
        }
        if (!any) {
            break; /* the journal has not come this far yet */
        }
    }
    return newest;
}

/* True when the disk has confirmed the record; until then the same number is tried again, so that
 * the journal has no hole. */
static bool append(int fd, uint8_t *record, uint64_t number)
{
    off_t at = (off_t)(number % slots * LAB_RECORD_BYTES);

    compose(record, number);
    if (pwrite(fd, record, LAB_RECORD_BYTES, at) != LAB_RECORD_BYTES || fdatasync(fd) < 0) {
        lab_status.journal_errors++;
        return false;
    }
    lab_status.journal_acknowledged = number;
    return true;
}

/* Reads one earlier record back from the disk. */
static void read_back(int fd, uint8_t *record, uint64_t number)
{
    off_t at = (off_t)(number % slots * LAB_RECORD_BYTES);

    if (pread(fd, record, LAB_RECORD_BYTES, at) != LAB_RECORD_BYTES ||
        !is_record(record, number % slots) || get(record + 8) != number ||
        get(record + 24) != checksum(record)) {
        lab_status.journal_errors++;
    }
}

void *lab_journal_run(void *unused)
{
    uint64_t bytes = 0, number;
    void *buffer;
    int fd = open(DISK, O_RDWR | O_DIRECT | O_CLOEXEC);

    (void)unused;
    if (fd < 0) {
        return NULL; /* a partition without a disk has no journal */
    }
    if (ioctl(fd, BLKGETSIZE64, &bytes) < 0 || posix_memalign(&buffer, 4096, SCAN_BYTES) != 0) {
        perror("workloads: " DISK);
        lab_status.journal_errors++;
        return NULL;
    }
    slots = bytes / LAB_RECORD_BYTES;
    number = find_newest(fd, buffer);
    lab_status.journal_acknowledged = number;
    lab_status.journal_open = true;
    for (uint64_t next = lab_now();;) {
        uint64_t rate = lab_settings.records;
        next += 1000000000u / (rate ? rate : 10);
        lab_sleep_until(next);
        if (lab_now() > next + 1000000000u) {
            next = lab_now();
        }
        if (rate == 0 || !append(fd, buffer, number + 1)) {
            continue;
        }
        if (++number % 8 == 0) {
            uint64_t oldest = number > slots ? number - slots + 1 : 1;
            read_back(fd, buffer, oldest + lab_mix(number, 1) % (number - oldest));
        }
    }
}
