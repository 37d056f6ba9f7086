/* SPDX-License-Identifier: Apache-2.0 */
/* Memory like that of a busy server, for the benchmark: a quarter of it does not compress, the rest
 * is text, records and half-empty heap pages. Its content depends on page numbers alone. The writer
 * changes 64 bytes in a random page at a time; a sum of every page's words follows, so that a
 * page that a move lost or mixed up shows in the next pass. */
#include "workloads.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

enum {
    PAGE = 4096,
    WORDS = PAGE / 8,
    CHANGED = 64 / 8, /* words that one change covers */
    STEP_NS = 10 * 1000 * 1000,
    RESERVE_MIB = 96, /* the kernel wants so much of it for itself */
};

static uint64_t *memory;
static uint64_t *sums;
static uint64_t pages;

static uint64_t term(uint64_t word, uint64_t place)
{
    return (word ^ (place * 0x9e3779b97f4a7c15u)) * 0xbf58476d1ce4e5b9u;
}

static uint64_t sum_of(const uint64_t *words)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < WORDS; i++) {
        sum += term(words[i], i);
    }
    return sum;
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void fill_random(char *page, uint64_t state)
{
    for (size_t i = 0; i < PAGE; i += 8) {
        uint64_t word = next_random(&state);
        memcpy(page + i, &word, 8);
    }
}

/* Lines as a log has them: one of a few phrases, and a number in hexadecimal. */
static void fill_text(char *page, uint64_t state)
{
    static const char phrases[][40] = {
        "info: request answered, session ",     "info: connection accepted, client  ",
        "note: table row written, key       ",  "warn: cache entry expired, object ",
        "info: index rebuilt in order, block ", "fail: time-out of a remote call, id ",
        "info: user logged in, session ",       "note: partition has moved, journal ",
    };
    static const char digits[] = "0123456789abcdef";
    size_t at = 0;

    while (at < PAGE - 64) {
        uint64_t choice = next_random(&state);
        const char *phrase = phrases[choice >> 61];
        size_t length = strlen(phrase);
        memcpy(page + at, phrase, length);
        at += length;
        for (int i = 0; i < 8; i++, choice >>= 4) {
            page[at++] = digits[choice & 15];
        }
        page[at++] = '\n';
    }
    memset(page + at, ' ', PAGE - at);
}

static void fill_records(char *page, uint64_t state)
{
    uint64_t base = 0x00007f0000000000u + (state & 0xffffff) * PAGE;

    for (size_t i = 0; i < PAGE; i += 64) {
        uint64_t one = next_random(&state);
        uint64_t record[8] = {base + i,
                              base + (one & 0xffc0),
                              0x0000000100000000u | (one >> 56),
                              i / 64,
                              0,
                              0,
                              one >> 40,
                              0};
        memcpy(page + i, record, sizeof record);
    }
}

static void fill_heap(char *page, uint64_t state)
{
    memset(page, 0, PAGE);
    for (size_t at = 0; at < PAGE - 160;) {
        uint64_t one = next_random(&state);
        uint64_t size = 32 + (one & 0x70);
        memcpy(page + at, &size, 8);
        snprintf(page + at + 8, 24, "id=%08x", (unsigned)(one >> 32));
        at += size;
    }
}

static void fill(char *page, uint64_t number)
{
    static void (*const kinds[])(char *, uint64_t) = {fill_random, fill_text, fill_records,
                                                      fill_heap};
    uint64_t mixed = lab_mix(number, 0x6d69786564);

    kinds[number % 4](page, mixed | 1);
}

static void *take(uint64_t size)
{
    void *found = mmap(NULL, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (found == MAP_FAILED) {
        perror("workloads: mixed memory");
        lab_status.memory_errors++;
        return NULL;
    }
    return found;
}

/* What booting left in free memory depends on luck; afterwards it is empty but for what a program
 * that has ended would have left there. */
static void settle_free_memory(uint64_t scratch_mib)
{
    struct sysinfo now;
    uint64_t size, scratch = scratch_mib << 20;
    char *region;

    sysinfo(&now);
    size = now.freeram * now.mem_unit;
    size -= size > (RESERVE_MIB << 20) ? RESERVE_MIB << 20 : size;
    region = size ? take(size) : NULL;
    if (!region) {
        return;
    }
    for (uint64_t at = 0; at < size; at += PAGE) {
        region[at] = 0;
    }
    for (uint64_t at = 0; at < scratch && at < size; at += PAGE) {
        fill(region + at, (at / PAGE) * 4 + 1 + (at / PAGE) % 3);
    }
    munmap(region, size);
}

static void check_page(uint64_t page)
{
    if (sum_of(memory + page * WORDS) != sums[page]) {
        atomic_fetch_add(&lab_status.memory_errors, 1);
    }
}

static void change_page(uint64_t *random)
{
    uint64_t choice = next_random(random);
    uint64_t page = choice % pages, place = (choice >> 40) % (WORDS / CHANGED) * CHANGED;
    uint64_t *words = memory + page * WORDS;

    for (uint64_t i = place; i < place + CHANGED; i++) {
        uint64_t word = next_random(random);
        sums[page] += term(word, i) - term(words[i], i);
        words[i] = word;
    }
}

/* Pages that a rate in MB/s earns in a time; what was missed for want of processor time is made up
 * for a quarter of a second at most. */
static uint64_t earn(uint64_t *owed, uint64_t rate, uint64_t elapsed_ns)
{
    uint64_t most = rate * 1000000 / 4, count;

    *owed += rate * elapsed_ns / 1000;
    if (*owed > most) {
        *owed = most;
    }
    count = *owed / PAGE;
    *owed %= PAGE;
    return count;
}

static bool prepare(void)
{
    pages = lab_settings.mixed_mib * 256;
    memory = take(pages * PAGE);
    sums = take(pages * sizeof *sums);
    if (!memory || !sums) {
        return false;
    }
    for (uint64_t page = 0; page < pages; page++) {
        fill((char *)(memory + page * WORDS), page);
        sums[page] = sum_of(memory + page * WORDS);
    }
    settle_free_memory(lab_settings.scratch_mib);
    return true;
}

void *lab_mixed_run(void *unused)
{
    uint64_t random = 0x6c706d, changes_owed = 0, checks_owed = 0, checked = 0, last;

    (void)unused;
    if (lab_settings.mixed_mib == 0 || !prepare()) {
        lab_status.mixed_filled = true;
        return NULL;
    }
    lab_status.mixed_filled = true;
    last = lab_now();
    for (uint64_t next = last;; next += STEP_NS) {
        lab_sleep_until(next);
        uint64_t now = lab_now();
        uint64_t changes = earn(&changes_owed, lab_settings.dirty_rate, now - last);
        uint64_t checks = earn(&checks_owed, lab_settings.check_rate, now - last);
        last = now;
        if (now > next + STEP_NS) {
            next = now;
        }
        for (uint64_t i = 0; i < changes; i++) {
            change_page(&random);
        }
        lab_status.mixed_dirtied += changes * PAGE;
        for (uint64_t i = 0; i < checks; i++) {
            check_page(checked);
            checked = (checked + 1) % pages;
            lab_status.mixed_passes += checked == 0;
        }
    }
}
