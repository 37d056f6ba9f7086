/* SPDX-License-Identifier: Apache-2.0 */
/* The program: see "simulate --help". */
#include "sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MUTANT_RUNS = 1000000 };

typedef struct {
    uint64_t runs, seed, one;
    bool has_one;
    SimMutant mutant;
    bool mutants, rows, all_rows;
} Options;

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static uint64_t seed_of(const Options *options, uint64_t run)
{
    SimRandom random = {options->seed + run * 0x632be59bd9b4e019u};
    return sim_random(&random);
}

static void replay(uint64_t seed, SimMutant mutant)
{
    static Sim sim;
    const char *broken = sim_run(&sim, seed, mutant, true);
    printf("seed 0x%" PRIx64 ": %s\n", seed, broken ? broken : "nothing was broken");
}

/* All runs; the first that fails is told in words. */
static int run_all(const Options *options)
{
    static Sim sim;
    uint64_t failed = 0, moves = 0, steps = 0;
    double began = seconds();
    for (uint64_t run = 0; run < options->runs; run++) {
        uint64_t seed = seed_of(options, run);
        if (sim_run(&sim, seed, options->mutant, false)) {
            if (failed++ == 0) {
                replay(seed, options->mutant);
                printf("again: make simulate ONE=0x%" PRIx64 " MUTANT=%s\n", seed,
                       sim_mutant_name(options->mutant));
            }
        }
        moves += sim.begun;
        steps += sim.step;
    }
    double took = seconds() - began;
    if (options->rows) {
        sim_print_rows();
    }
    printf("seed 0x%" PRIx64 ": %" PRIu64 " handovers, %" PRIu64 " steps in %.1f s, %.0f handovers "
           "a second\n",
           options->seed, moves, steps, took, (double)moves / took);
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", options->runs - failed, failed);
    return failed > 0 || (options->all_rows && !sim_all_rows_taken());
}

/* Each broken rule must be noticed. */
static int run_mutants(const Options *options)
{
    static Sim sim;
    unsigned caught = 0, missed = 0;
    for (unsigned mutant = SIM_MUTANT_NONE + 1; mutant < SIM_MUTANT_N; mutant++) {
        const char *broken = NULL;
        uint64_t run = 0;
        while (!broken && run < MUTANT_RUNS) {
            broken = sim_run(&sim, seed_of(options, run++), (SimMutant)mutant, false);
        }
        printf("%-15s %s: %s after %" PRIu64 " runs%s%s\n", sim_mutant_name((SimMutant)mutant),
               sim_mutant_text((SimMutant)mutant), broken ? "caught" : "NOT caught", run,
               broken ? ": " : "", broken ? broken : "");
        *(broken ? &caught : &missed) += 1;
    }
    printf("%u passed, %u failed\n", caught, missed);
    return missed > 0;
}

static int usage(FILE *out)
{
    fprintf(out,
            "usage: simulate [--runs N] [--seed S] [--mutant NAME] [--rows] [--all-rows]\n"
            "           N runs; --rows: how often each row was taken; --all-rows: each must be\n"
            "       simulate --one SEED [--mutant NAME]             one run, told in words\n"
            "       simulate --mutants [--seed S]                   every broken rule is noticed\n"
            "broken rules:\n");
    for (unsigned mutant = 0; mutant < SIM_MUTANT_N; mutant++) {
        fprintf(out, "  %-15s %s\n", sim_mutant_name((SimMutant)mutant),
                sim_mutant_text((SimMutant)mutant));
    }
    return out == stderr ? 2 : 0;
}

static bool mutant_from_name(const char *name, SimMutant *ret)
{
    for (unsigned mutant = 0; mutant < SIM_MUTANT_N; mutant++) {
        if (strcmp(name, sim_mutant_name((SimMutant)mutant)) == 0) {
            *ret = (SimMutant)mutant;
            return true;
        }
    }
    return false;
}

static bool number(const char *text, uint64_t *ret)
{
    char *end = NULL;
    *ret = strtoull(text, &end, 0);
    return *text != '\0' && *end == '\0';
}

static bool read_option(Options *options, const char *name, const char *value)
{
    if (strcmp(name, "--runs") == 0) {
        return number(value, &options->runs);
    }
    if (strcmp(name, "--seed") == 0) {
        return number(value, &options->seed);
    }
    if (strcmp(name, "--one") == 0) {
        options->has_one = true;
        return number(value, &options->one);
    }
    return strcmp(name, "--mutant") == 0 && mutant_from_name(value, &options->mutant);
}

int main(int argc, char **argv)
{
    Options options = {.runs = 1000000};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    options.seed = (uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 20;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            return usage(stdout);
        }
        if (strcmp(argv[i], "--mutants") == 0) {
            options.mutants = true;
        } else if (strcmp(argv[i], "--rows") == 0) {
            options.rows = true;
        } else if (strcmp(argv[i], "--all-rows") == 0) {
            options.all_rows = true;
        } else if (i + 1 == argc || !read_option(&options, argv[i], argv[i + 1])) {
            return usage(stderr);
        } else {
            i++;
        }
    }
    if (options.has_one) {
        replay(options.one, options.mutant);
        return 0;
    }
    return options.mutants ? run_mutants(&options) : run_all(&options);
}
