/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What people are told of a half that waits or reports: what is known, what is not, and what may be
 * done; and the words that they may give. One table for each side; exactly the combinations at
 * which a row of mobility.h says wait, report, or "when the offer's time is over" have a row here.
 * Pure.
 */
#pragma once

#include "mobility/mobility.h"

/* What a person, or a fencing agent, may vouch for. The rules cannot know it. */
typedef enum {
    LPM_MOB_WORD_NONE,
    LPM_MOB_WORD_TARGET_OFF, /* given to the source */
    LPM_MOB_WORD_SOURCE_OFF, /* given to the target */
    LPM_MOB_WORD_DISCARD,    /* given to the target: what has come is not needed */
    LPM_MOB_WORD_N,
} LpmMobWord;

/*
 * Texts for people, with {source}, {target}, {partition} and {migration} in the place of names. A
 * row applies when each of the three values is in its mask (bit = 1u << value).
 */
typedef struct {
    uint8_t journal, record, qemu;
    uint8_t word;        /* LpmMobWord that would change something here */
    const char *known;   /* a sentence */
    const char *unknown; /* what it is that nobody can know from here; "" when nothing is missing */
    const char *next;    /* what happens by itself, or what to look at */
    const char *stake;   /* what the word does; "" without a word */
} LpmMobAdvice;

/* Row for this combination of one side (SRC or DST); NULL: it neither waits nor reports. */
const LpmMobAdvice *lpm_mob_advice(LpmMobMachine side, unsigned journal, unsigned record,
                                   unsigned qemu);

typedef struct {
    const char *source, *target, *partition, *migration;
} LpmMobNames;

/*
 * Puts @text with the names filled in into @out, cut to @size with its end always there; how long
 * it would be without the cut, as snprintf().
 */
size_t lpm_mob_fill(char *out, size_t size, const char *text, const LpmMobNames *names);

/* "target-off", "source-off", "discard": in RPC and REST; "?" outside the enum. */
const char *lpm_mob_word_name(LpmMobWord word);
/* NONE for any other text, and for NULL. */
LpmMobWord lpm_mob_word_from_name(const char *name);
/* The side that is told. */
LpmMobMachine lpm_mob_word_side(LpmMobWord word);
/* What must be said, to the letter: a text for lpm_mob_fill(). */
const char *lpm_mob_word_text(LpmMobWord word);

enum { LPM_MOB_SAY_MAX = 256, LPM_MOB_ADVICE_MAX = 1024 };

/* Prints the table of one side: each combination that has a row, and the row's texts. */
void lpm_mob_print_advice(LpmMobMachine side, LpmMobLine line, void *data);
