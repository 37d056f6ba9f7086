/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What people, or a fencing agent, vouch for (docs/spec/handover.md, "The word"): read, compared to
 * the letter with what must be said, and given to the half that it is for.
 */
#include "host/migration.h"

#include "host/release.h"

#include <string.h>

/* A console of RPC version 1 says "force": it has asked its operator, and knows no words. */
static LpmMobWord word_of_force(const LpmMigration *migration)
{
    if (migration->side == LPM_MOB_SRC) {
        return LPM_MOB_WORD_TARGET_OFF;
    }
    return migration->journal == LPM_MOB_DST_RUNNING ? LPM_MOB_WORD_SOURCE_OFF
                                                     : LPM_MOB_WORD_DISCARD;
}

static void expected_text(const LpmMigration *migration, LpmMobWord word, char *text, size_t size)
{
    bool src = migration->side == LPM_MOB_SRC;
    LpmMobNames names = {
        .source = src ? migration->self : migration->peer,
        .target = src ? migration->peer : migration->self,
        .partition = migration->name,
        .migration = migration->id,
    };
    (void)lpm_mob_fill(text, size, lpm_mob_word_text(word), &names);
}

static bool check_say(const LpmMigration *migration, LpmMobWord word, const char *say,
                      GError **error)
{
    char expected[LPM_MOB_SAY_MAX];
    expected_text(migration, word, expected, sizeof expected);
    return strcmp(say, expected) == 0 ||
           lpm_error_set(error, LPM_ERROR_USAGE,
                         "migration %s: \"%.64s\" is not the word that is needed; say exactly "
                         "\"%s\", if it is so",
                         migration->id, say, expected);
}

bool lpm_mig_word_read(const LpmMigration *migration, const json_t *arguments,
                       const LpmWordGiver *giver, LpmMobWord *ret_word, json_t **ret_entry,
                       GError **error)
{
    const char *name = lpm_json_str(arguments, "word", NULL);
    const char *say = lpm_json_str(arguments, "say", "");
    bool force = lpm_json_bool(arguments, "force", false);
    LpmMobWord word = lpm_mob_word_from_name(name);
    *ret_word = LPM_MOB_WORD_NONE;
    if (name && !lpm_release_has_words()) {
        return lpm_error_set(error, LPM_ERROR_USAGE, "unknown argument \"word\"");
    }
    if (!name && !force) {
        return true;
    }
    if (!name && !giver->console) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "migration %s: \"force\" was replaced: give \"word\" (target-off, "
                             "source-off or discard) and \"say\"",
                             migration->id);
    }
    if (!name) {
        word = word_of_force(migration);
        say = "(by force)";
    } else if (word == LPM_MOB_WORD_NONE || lpm_mob_word_side(word) != migration->side) {
        return lpm_error_set(
            error, LPM_ERROR_USAGE,
            "migration %s: the word \"%.32s\" is none that the %s can be given; "
            "it is %s",
            migration->id, name, migration->side == LPM_MOB_SRC ? "source" : "target",
            migration->side == LPM_MOB_SRC ? "target-off" : "source-off or discard");
    } else if (!check_say(migration, word, say, error)) {
        return false;
    }
    /* A console knows its people. At the local socket, the kernel knows who it is. */
    const char *who = giver->console ? lpm_json_str(arguments, "who", giver->name) : giver->name;
    const char *from = giver->console ? lpm_json_str(arguments, "from", giver->from) : giver->from;
    if (strlen(who) > LPM_MOB_SAY_MAX || strlen(from) > LPM_MOB_SAY_MAX) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "migration %s: \"who\" and \"from\" of the word %s have at most %d "
                             "bytes each",
                             migration->id, lpm_mob_word_name(word), (int)LPM_MOB_SAY_MAX);
    }
    *ret_word = word;
    *ret_entry = lpm_json_pack("{s:s, s:s, s:s, s:s}", "word", lpm_mob_word_name(word), "say", say,
                               "who", who, "from", from);
    return true;
}
