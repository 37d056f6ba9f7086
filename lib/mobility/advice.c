/* SPDX-License-Identifier: Apache-2.0 */
#include "mobility/advice.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define BIT(value)   (1u << (value))
#define ANY          0xffu

#define J(name)  BIT(LPM_MOB_SRC_##name)
#define Q(name)  BIT(LPM_MOB_SRC_QEMU_##name)
#define D(name)  BIT(LPM_MOB_DST_##name)
#define T(name)  BIT(LPM_MOB_DST_QEMU_##name)
#define R(name)  BIT(LPM_MOB_REC_##name)
#define W(name)  LPM_MOB_WORD_##name
#define J_BEFORE (J(PLANNED) | J(PRECOPY) | J(SWITCH))
#define J_OPEN   (J_BEFORE | J(POST) | J(ABORT))
#define STRANGE                                                                                    \
    "nothing is changed by itself: look at the partition on both systems (\"lpm partition show "   \
    "{partition}\"), and find out whether a database or a storage pool was put back from a backup"
#define WHO_CHANGED "who changed the ownership record, a database or QEMU behind OpenLPM's back"
#define RECORD_BACK                                                                                \
    "it goes on by itself as soon as the storage pool (or the console, where that keeps the "      \
    "record) answers: look at the pool on both systems"
#define WAIT_TARGET                                                                                \
    "wait for {target}: when its lpm-host is back it goes on with {partition} or gives it back, "  \
    "by itself"
#define LOOK_QEMU                                                                                  \
    "it is asked again and again; if that lasts, look at QEMU's process there: it may have been "  \
    "stopped by somebody, or wait for its disks"
#define ANEW_AT_SOURCE                                                                             \
    "the memory of {partition} is given up, and it can be started anew from its disks at "         \
    "{source}; "                                                                                   \
    "keep {target} off until the command has answered"
#define TAKEN_AT_SOURCE                                                                            \
    "the memory of {partition} is given up, since {target} may have let it run and have written "  \
    "to its disks, and it can be started anew from them at {source}, as after a power failure; "   \
    "if "                                                                                          \
    "{target} is not off, both write to them: keep it off until the command has answered"

static const LpmMobAdvice src_rows[] = {
    {J_BEFORE, R(BACK) | R(OFFER) | R(TAKEN), ANY, W(NONE),
     "{source} has offered {partition} to nobody yet, but its ownership record says that it was "
     "offered.",
     WHO_CHANGED, STRANGE, ""},
    {J(PLANNED), R(SOURCE) | R(UNKNOWN), Q(SERVING), W(NONE),
     "By its journal {source} has copied nothing of {partition} yet, but QEMU there is in "
     "post-copy.",
     WHO_CHANGED, STRANGE, ""},
    {J(POST) | J(ABORT), R(OFFER), Q(SERVING), W(TARGET_OFF),
     "Memory of {partition} is at {source}, which can only hand it out any more; {partition} was "
     "offered to {target}.",
     "whether {target} will take it", WAIT_TARGET, ANEW_AT_SOURCE},
    {J(POST), R(SOURCE) | R(OFFER), Q(UNSURE), W(NONE),
     "All of {partition} was sent to {target}; QEMU at {source} does not answer.",
     "whether QEMU at {source} still has it whole", LOOK_QEMU, ""},
    {J(POST), R(OFFER), Q(COMPLETED) | Q(RUNNING), W(NONE),
     "{source} has {partition} whole, paused, and has offered it to {target}.",
     "whether {target} takes it",
     "wait: when the offer's time is over, {source} takes it back by itself", ""},
    {J(POST), R(OFFER), Q(DEAD), W(TARGET_OFF),
     "QEMU at {source} has ended, and {partition} was offered to {target}, which may have the only "
     "copy of its memory.",
     "whether {target} has it whole",
     "wait for {target}: when its lpm-host is back it takes {partition} or refuses it, by itself",
     ANEW_AT_SOURCE},
    {J(POST), R(SOURCE) | R(BACK) | R(OFFER), Q(PRE) | Q(DEVICE), W(NONE),
     "By its journal {source} has sent all of {partition}, but QEMU there is still sending.",
     WHO_CHANGED, STRANGE, ""},
    {J(POST) | J(ABORT), R(TAKEN), Q(COMPLETED) | Q(UNSURE) | Q(PRE) | Q(DEVICE), W(TARGET_OFF),
     "{target} has taken {partition}; {source} still has all of it, and does not run it.",
     "whether {target} has let it run", WAIT_TARGET, TAKEN_AT_SOURCE},
    {J(POST) | J(ABORT), R(TAKEN), Q(RUNNING), W(TARGET_OFF),
     "{target} has taken {partition}, and it was not paused at {source} (QEMU there runs, or it is "
     "not activated).",
     "whether {target} has let it run", WAIT_TARGET, TAKEN_AT_SOURCE},
    {J(POST) | J(ABORT), R(TAKEN), Q(DEAD), W(TARGET_OFF),
     "{target} has taken {partition}; QEMU at {source} has ended, so that the only copy of its "
     "memory is at {target}.",
     "whether {target} has let it run", WAIT_TARGET, TAKEN_AT_SOURCE},
    {J(POST) | J(ABORT), R(TAKEN), Q(SERVING), W(TARGET_OFF),
     "{target} has taken {partition} in post-copy; a part of its memory is at {source} only, which "
     "cannot go on with it.",
     "whether {target} has let it run", WAIT_TARGET, TAKEN_AT_SOURCE},
    {J(POST), R(UNKNOWN), ANY, W(NONE),
     "All of {partition} was sent to {target}; {source} cannot read the ownership record.",
     "whether it was offered, and whether {target} has taken it", RECORD_BACK, ""},
    {J(ABORT), R(UNKNOWN), Q(RUNNING), W(NONE),
     "The move was given up; {partition} is at {source}, and was not paused there. The ownership "
     "record cannot be read.",
     "whether {target} knows that nothing will come", RECORD_BACK, ""},
    {J(ABORT), R(UNKNOWN), Q(COMPLETED) | Q(SERVING), W(NONE),
     "The move was given up; {partition} stands still at {source} until {target} can be told so: "
     "the ownership record cannot be read.",
     "whether {target} knows that nothing will come", RECORD_BACK, ""},
    {J(ABORT), R(UNKNOWN), Q(DEAD), W(NONE),
     "The move was given up; QEMU at {source} has ended. The ownership record cannot be read.",
     "whether {target} knows that nothing will come", RECORD_BACK, ""},
    {J(ABORT), R(OFFER), Q(PRE) | Q(DEVICE), W(NONE),
     "{partition} was offered to {target}, but QEMU at {source} is still sending.", WHO_CHANGED,
     STRANGE, ""},
    {J_OPEN, R(TARGET), Q(SERVING), W(TARGET_OFF),
     "{partition} is at {target}, and some of its memory is at {source} only.",
     "when the rest of it will have come",
     "switch neither system off; where the link was lost, the console connects them again by "
     "itself",
     "the memory that {source} still has is given up; {partition} belongs to {target}, and can be "
     "started anew there from its disks when that is back"},
    {J_OPEN, R(LATER), ANY, W(NONE),
     "A later move has written the ownership record of {partition} before {source} had cleaned up "
     "after this one.",
     WHO_CHANGED, STRANGE, ""},
};

#define DISCARD_STAKE                                                                              \
    "what has come to {target} is thrown away; it never ran there, and {partition} stays with "    \
    "{source}"

static const LpmMobAdvice dst_rows[] = {
    {D(PREPARED), R(TAKEN) | R(TARGET), ANY, W(NONE),
     "By its journal {target} has not all of {partition}, but the ownership record says that "
     "{target} took it.",
     WHO_CHANGED, STRANGE, ""},
    {D(LOADED), R(SOURCE), T(PAUSED) | T(UNSURE), W(DISCARD),
     "All of {partition} has come to {target}, where it never ran; it belongs to {source}.",
     "whether {source} will offer it",
     "wait for {source}: when its lpm-host is back it offers {partition} or keeps it, by itself",
     DISCARD_STAKE},
    {D(LOADED), R(SOURCE), T(HALF), W(DISCARD),
     "All of {partition} but a part of its memory has come to {target}, where it never ran; it "
     "belongs to {source}.",
     "whether {source} will offer it",
     "wait for {source}: only together can they go on with {partition}",
     "what has come to {target} is thrown away; it never ran there, but QEMU at {source} cannot go "
     "on "
     "without it any more: {partition} stays with {source}, and can be started anew there from its "
     "disks"},
    {D(LOADED), R(OFFER) | R(TAKEN), T(UNSURE), W(NONE),
     "{partition} was offered to {target}; QEMU there does not answer.",
     "whether QEMU at {target} has it whole", LOOK_QEMU, ""},
    {D(LOADED), R(SOURCE) | R(OFFER) | R(TAKEN), T(INCOMING) | T(RUNNING) | T(FILLING), W(NONE),
     "By its journal {target} has loaded {partition} and paused it, but QEMU there says something "
     "else.",
     WHO_CHANGED, STRANGE, ""},
    {D(INTENT), R(TAKEN), T(UNSURE), W(NONE),
     "{partition} belongs to {target}, which was about to let it run; QEMU there does not answer.",
     "whether it runs", LOOK_QEMU, ""},
    {D(INTENT), R(TAKEN), T(INCOMING), W(NONE),
     "{target} has taken {partition}, but QEMU there says that not all of it has come.",
     WHO_CHANGED, STRANGE, ""},
    {D(RUNNING), R(TARGET), T(FILLING), W(SOURCE_OFF),
     "{partition} runs at {target}, or waits there for memory that is at {source} only.",
     "when the rest of its memory will have come",
     "switch neither system off; where the link was lost, the console connects them again by "
     "itself",
     "{partition} ends at {target}, since it cannot go on without that memory, and can be started "
     "anew there from its disks"},
    {D(LOADED) | D(INTENT), R(TARGET), ANY, W(NONE),
     "The ownership record says that {partition} runs at its new owner, but {target} has not let "
     "it run.",
     WHO_CHANGED, STRANGE, ""},
    {D(INTENT) | D(RUNNING), R(SOURCE) | R(OFFER), ANY, W(NONE),
     "{target} has let {partition} run, or was about to, but the ownership record says that it did "
     "not take it.",
     WHO_CHANGED, STRANGE, ""},
    {D(PREPARED), R(UNKNOWN), ANY, W(DISCARD),
     "Not all of {partition} has come to {target}, which cannot read the ownership record.",
     "what {source} does with it", RECORD_BACK, DISCARD_STAKE},
    {D(LOADED), R(UNKNOWN), ANY, W(DISCARD),
     "All of {partition} has come to {target}, where it never ran; the ownership record cannot be "
     "read, or there is none any more.",
     "whether {source} has offered it, keeps it, or has deleted it", RECORD_BACK,
     "what has come to {target} is thrown away, if there is no record: {partition} was deleted"},
    {D(INTENT) | D(RUNNING), R(UNKNOWN), ANY, W(NONE),
     "{target} has taken {partition}, and has let it run or is about to; the ownership record "
     "cannot be read.",
     "whether the record was given back to {source} in the meantime", RECORD_BACK, ""},
};

#undef R

const LpmMobAdvice *lpm_mob_advice(LpmMobMachine side, unsigned journal, unsigned record,
                                   unsigned qemu)
{
    const LpmMobAdvice *rows = side == LPM_MOB_SRC ? src_rows : dst_rows;
    size_t n = side == LPM_MOB_SRC ? COUNT(src_rows) : COUNT(dst_rows);
    if (side > LPM_MOB_DST || journal > 7 || record > 7 || qemu > 7) {
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        if ((rows[i].journal >> journal & 1u) && (rows[i].record >> record & 1u) &&
            (rows[i].qemu >> qemu & 1u)) {
            return &rows[i];
        }
    }
    return NULL;
}
