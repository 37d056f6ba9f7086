/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that knows what it must hold: each page is filled with words derived from its number and
 * its generation, and compared with that before it is written again. A page that a move lost, took
 * twice or mixed up shows as wrong words. */
#include "workloads.h"

#include <stdio.h>
#include <sys/mman.h>

enum { PAGE = 4096, WORDS = PAGE / 8, STEP_NS = 10 * 1000 * 1000 };

static uint64_t *memory;
static uint64_t pages;
static uint32_t
    *generations; /* what each page was last filled with; itself covered by the comparison */

static void fill(uint64_t page)
{
    uint64_t *words = memory + page * WORDS;
    uint64_t seed = lab_mix(page, ++generations[page]);

    for (uint64_t i = 0; i < WORDS; i++) {
        words[i] = seed + i * 0x9e3779b97f4a7c15u;
    }
}

static void compare(uint64_t page)
{
    const uint64_t *words = memory + page * WORDS;
    uint64_t seed = lab_mix(page, generations[page]);
    uint64_t wrong = 0;

    for (uint64_t i = 0; i < WORDS; i++) {
        wrong += words[i] != seed + i * 0x9e3779b97f4a7c15u;
    }
    if (wrong) {
        atomic_fetch_add(&lab_status.memory_errors, wrong);
    }
}

/* A walk over all pages at a rate of its own. */
typedef struct {
    uint64_t page;
    uint64_t owed; /* bytes that its rate entitles it to and that it has not walked yet */
} Walk;

static bool walk_takes_page(Walk *walk, uint64_t *page)
{
    if (walk->owed < PAGE) {
        return false;
    }
    walk->owed -= PAGE;
    *page = walk->page;
    walk->page = (walk->page + 1) % pages;
    return true;
}

static void walk_earns(Walk *walk, uint64_t rate, uint64_t elapsed_ns)
{
    uint64_t most =
        rate * 1000000 /
        4; /* what was missed for want of processor time is not made up for beyond this */

    walk->owed += rate * elapsed_ns / 1000;
    if (walk->owed > most) {
        walk->owed = most;
    }
}

void *lab_memory_run(void *unused)
{
    Walk writer = {0}, reader = {0};
    uint64_t last, page;

    (void)unused;
    pages = lab_settings.memory_mib * 256;
    if (pages == 0) {
        lab_status.memory_filled = true;
        return NULL;
    }
    memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    generations = mmap(NULL, pages * sizeof *generations, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || generations == MAP_FAILED) {
        perror("workloads: memory");
        lab_status.memory_errors++;
        return NULL;
    }
    for (page = 0; page < pages; page++) {
        fill(page);
    }
    lab_status.memory_filled = true;
    last = lab_now();
    for (uint64_t next = last;; next += STEP_NS) {
        lab_sleep_until(next);
        uint64_t now = lab_now();
        walk_earns(&writer, lab_settings.write_rate, now - last);
        walk_earns(&reader, lab_settings.read_rate, now - last);
        last = now;
        if (now > next + STEP_NS) {
            next = now;
        }
        while (walk_takes_page(&writer, &page)) {
            compare(page);
            fill(page);
            lab_status.memory_written += PAGE;
        }
        while (walk_takes_page(&reader, &page)) {
            compare(page);
            lab_status.memory_passes += reader.page == 0;
        }
    }
}
