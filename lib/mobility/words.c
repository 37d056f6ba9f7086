/* SPDX-License-Identifier: Apache-2.0 */
#include "mobility/advice.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name, *text;
    LpmMobMachine side;
} words[LPM_MOB_WORD_N] = {
    [LPM_MOB_WORD_NONE] = {"none", "", LPM_MOB_SRC},
    [LPM_MOB_WORD_TARGET_OFF] = {"target-off", "target {target} is off", LPM_MOB_SRC},
    [LPM_MOB_WORD_SOURCE_OFF] = {"source-off", "source {source} is off", LPM_MOB_DST},
    [LPM_MOB_WORD_DISCARD] = {"discard", "discard {partition} at {target}", LPM_MOB_DST},
};

const char *lpm_mob_word_name(LpmMobWord word)
{
    return word < LPM_MOB_WORD_N ? words[word].name : "?";
}

LpmMobWord lpm_mob_word_from_name(const char *name)
{
    for (unsigned i = 0; name && i < LPM_MOB_WORD_N; i++) {
        if (strcmp(words[i].name, name) == 0) {
            return (LpmMobWord)i;
        }
    }
    return LPM_MOB_WORD_NONE;
}

LpmMobMachine lpm_mob_word_side(LpmMobWord word)
{
    return word < LPM_MOB_WORD_N ? words[word].side : LPM_MOB_SRC;
}

const char *lpm_mob_word_text(LpmMobWord word)
{
    return word < LPM_MOB_WORD_N ? words[word].text : "";
}

/* The name that @text, which begins with a brace, stands for, and its length; NULL: none. */
static const char *name_at(const char *text, const LpmMobNames *names, size_t *ret_length)
{
    const struct {
        const char *mark, *name;
    } marks[] = {
        {"{source}", names->source},
        {"{target}", names->target},
        {"{partition}", names->partition},
        {"{migration}", names->migration},
    };
    for (size_t i = 0; i < sizeof(marks) / sizeof *marks; i++) {
        *ret_length = strlen(marks[i].mark);
        if (strncmp(text, marks[i].mark, *ret_length) == 0) {
            return marks[i].name ? marks[i].name : "?";
        }
    }
    return NULL;
}

size_t lpm_mob_fill(char *out, size_t size, const char *text, const LpmMobNames *names)
{
    size_t length = 0;
    while (*text) {
        size_t taken = 0;
        const char *name = *text == '{' ? name_at(text, names, &taken) : NULL;
        const char *from = name ? name : text;
        size_t n = name ? strlen(name) : 1;
        for (size_t i = 0; i < n; i++, length++) {
            if (length + 1 < size) {
                out[length] = from[i];
            }
        }
        text += name ? taken : 1;
    }
    if (size > 0) {
        out[length < size ? length : size - 1] = '\0';
    }
    return length;
}

/* The texts of one row, below the combinations that it is for. */
static void print_row(const LpmMobAdvice *row, LpmMobLine emit, void *data)
{
    const struct {
        const char *title, *text;
    } texts[] = {
        {"known", row->known},
        {"not known", row->unknown},
        {"next", row->next},
        {"word", row->word ? lpm_mob_word_text((LpmMobWord)row->word) : ""},
        {"which does", row->stake},
    };
    char line[LPM_MOB_ADVICE_MAX];
    for (size_t i = 0; i < sizeof(texts) / sizeof *texts; i++) {
        if (texts[i].text[0]) {
            snprintf(line, sizeof line, "    %s: %s", texts[i].title, texts[i].text);
            emit(line, data);
        }
    }
}

void lpm_mob_print_advice(LpmMobMachine side, LpmMobLine emit, void *data)
{
    unsigned journals = side == LPM_MOB_SRC ? (unsigned)LPM_MOB_SRC_N : (unsigned)LPM_MOB_DST_N;
    unsigned qemus =
        side == LPM_MOB_SRC ? (unsigned)LPM_MOB_SRC_QEMU_N : (unsigned)LPM_MOB_DST_QEMU_N;
    const LpmMobAdvice *last = NULL;
    char line[LPM_MOB_ADVICE_MAX];
    for (unsigned j = 0; j < journals; j++) {
        for (unsigned r = 0; r < LPM_MOB_REC_N; r++) {
            for (unsigned q = 0; q < qemus; q++) {
                const LpmMobAdvice *row = lpm_mob_advice(side, j, r, q);
                if (last && row != last) {
                    print_row(last, emit, data);
                }
                if (row) {
                    snprintf(line, sizeof line, "%s | %s | %s", lpm_mob_state_name(side, j),
                             lpm_mob_record_view_name((LpmMobRecordView)r),
                             lpm_mob_qemu_name(side, q));
                    emit(line, data);
                }
                last = row;
            }
        }
    }
    if (last) {
        print_row(last, emit, data);
    }
}
