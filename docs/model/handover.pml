/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One move of one partition, for spin: who may run it, whatever dies, and whatever comes late. What
 * is modelled, the bounds, the properties and how to read a counterexample: README.md. The rules
 * themselves are not here: the model calls the product's tables (rules.h).
 *
 * Every step of every process is one option of its loop, and changes something; so a run ends when
 * nothing can move any more (Monitor looks then), and a run without end would be a cycle.
 */

/* --- the words of mobility.h and rules.h, as numbers --- */

#define SJ_NONE    0
#define SJ_PLANNED 1
#define SJ_PRECOPY 2
#define SJ_SWITCH  3
#define SJ_POST    4
#define SJ_ABORT   5
#define SJ_CLEANED 6

#define DJ_NONE     0
#define DJ_PREPARED 1
#define DJ_LOADED   2
#define DJ_INTENT   3
#define DJ_RUNNING  4
#define DJ_CLEANED  5

#define R_NONE     0
#define R_SRC      1
#define R_OFFER    2
#define R_TAKEN    3
#define R_BACK     4
#define R_RUN      5
#define R_UNFILLED 6
#define R_LATER    7

/* QEMU at the source. ACTIVE and STOPPED are seen as something else: rule_src_view(). */
#define Q_RUN       0
#define Q_PRE       1
#define Q_DEVICE    2
#define Q_COMPLETED 3
#define Q_DEAD      4
#define Q_UNSURE    5
#define Q_SERVING   6
#define Q_ACTIVE    7
#define Q_STOPPED   8

/* QEMU at the target. ARRIVED is INCOMING still: all is here, and QEMU has not said so. */
#define T_INCOMING 0
#define T_PAUSED   1
#define T_RUNNING  2
#define T_DEAD     3
#define T_UNSURE   4
#define T_HALF     5
#define T_FILLING  6
#define T_ARRIVED  7

#ifdef POSTCOPY
#define POST_COPY 1
#else
#define POST_COPY 0
#endif

#define DOWN 0 /* lpm-host is dead, and will be started again */
#define UP   1
#define OFF  2 /* the whole machine is off */
#define GONE 3 /* for good */

c_decl {
    \#include "rules.h"
    \#define SAME(a, b) _Static_assert((a) == (b), "a number of the model is not the product's")
    SAME(SJ_PLANNED, LPM_MOB_SRC_PLANNED);
    SAME(SJ_PRECOPY, LPM_MOB_SRC_PRECOPY);
    SAME(SJ_SWITCH, LPM_MOB_SRC_SWITCH);
    SAME(SJ_POST, LPM_MOB_SRC_POST);
    SAME(SJ_ABORT, LPM_MOB_SRC_ABORT);
    SAME(SJ_CLEANED, LPM_MOB_SRC_CLEANED);
    SAME(DJ_PREPARED, LPM_MOB_DST_PREPARED);
    SAME(DJ_LOADED, LPM_MOB_DST_LOADED);
    SAME(DJ_INTENT, LPM_MOB_DST_INTENT);
    SAME(DJ_RUNNING, LPM_MOB_DST_RUNNING);
    SAME(DJ_CLEANED, LPM_MOB_DST_CLEANED);
    SAME(R_SRC, REC_SRC);
    SAME(R_OFFER, REC_OFFER);
    SAME(R_TAKEN, REC_TAKEN);
    SAME(R_BACK, REC_BACK);
    SAME(R_RUN, REC_RUN);
    SAME(R_UNFILLED, REC_UNFILLED);
    SAME(R_LATER, REC_LATER);
    SAME(Q_RUN, LPM_MOB_SRC_QEMU_RUNNING);
    SAME(Q_PRE, LPM_MOB_SRC_QEMU_PRE);
    SAME(Q_DEVICE, LPM_MOB_SRC_QEMU_DEVICE);
    SAME(Q_COMPLETED, LPM_MOB_SRC_QEMU_COMPLETED);
    SAME(Q_DEAD, LPM_MOB_SRC_QEMU_DEAD);
    SAME(Q_UNSURE, LPM_MOB_SRC_QEMU_UNSURE);
    SAME(Q_SERVING, LPM_MOB_SRC_QEMU_SERVING);
    SAME(Q_ACTIVE, SQ_ACTIVE);
    SAME(Q_STOPPED, SQ_STOPPED);
    SAME(T_INCOMING, LPM_MOB_DST_QEMU_INCOMING);
    SAME(T_PAUSED, LPM_MOB_DST_QEMU_PAUSED);
    SAME(T_RUNNING, LPM_MOB_DST_QEMU_RUNNING);
    SAME(T_DEAD, LPM_MOB_DST_QEMU_DEAD);
    SAME(T_UNSURE, LPM_MOB_DST_QEMU_UNSURE);
    SAME(T_HALF, LPM_MOB_DST_QEMU_HALF);
    SAME(T_FILLING, LPM_MOB_DST_QEMU_FILLING);
}

/* --- the world --- */

byte rs = R_SRC; /* the record, at the arbiter */
byte rv = 1;     /* its revision */

/* Swaps on their way to the arbiter: two of the source, two of the target. 0: none. */
byte p_to[4], p_from[4], p_rv[4], p_by[4];

/* Durable: the journals, and whether the outcome was "completed". */
byte sj, dj;
bit s_left, d_arrived;

/* The two QEMUs; commands that they were given and have not run yet. */
byte sq = Q_RUN, dq = T_DEAD;
bit s_go, s_cancel, s_cont, d_cont;
bit sent; /* the whole stream is on its way */
bit old;  /* and the source has run since */
bit ack;  /* the target's QEMU has told the source's that it has it */
bit bad;  /* what has come is not what was sent; the digest says so */

/* Nobody knows these: whether the memory there is the partition as it is now. */
bit s_fresh = 1, d_fresh;
bit died;      /* a QEMU has died that was not ended by an lpm-host */
bit ran_there; /* the target's QEMU died after intent: nobody can know whether it ran */
bit refused;   /* the target has sent a refusal */
bit must_save; /* the source's QEMU died while the rules keep the target's copy for that */

/* lpm-host at the source: what it has in memory. */
byte s_up = UP;
bit s_rows, s_mover, s_heard;
byte s_told; /* its QEMU: 1 migrate, 2 migrate-continue; 3 the offer is made */
byte s_rs, s_rv, s_wait;

/* lpm-host at the target. */
byte d_up = UP;
bit d_rows, d_mover, d_started, d_ending, d_filled;
byte d_rs, d_rv, d_wait;

/* What was ever said on the movers' connection: it may come at any time, many times, or never. */
bit m_loaded, m_lost;
byte m_offer; /* twice, in fact: it may be taken for the record again after a swap was lost */

/* How often each thing may still go wrong; rule_bound() has what it begins with. */
byte s_crashes; /* lpm-host of the source dies, at any moment, and comes back */
byte d_crashes; /* lpm-host of the target */
byte q_crashes; /* a QEMU dies, either */
byte machines;  /* a whole machine dies, either; it comes back, or never */
byte glitches;  /* a mover dies, a stream breaks, QEMU or the arbiter does not answer, a disk is full */
byte unknowns;  /* an answer of the arbiter does not come; the swap arrives late, or never */

byte act; /* 0 between steps */
hidden byte arg, from, by;

#define S_RUNS (sq == Q_RUN || sq == Q_ACTIVE)
#define D_RUNS (dq == T_RUNNING || dq == T_FILLING)
#define OF_SOURCE(r) (r == R_SRC || r == R_BACK || r == R_LATER)
#define OF_TARGET(r) (r == R_RUN || r == R_UNFILLED)

#define MUTANT(name) c_expr { rule_mutant == MUTANT_ ## name }

/* --- properties: names are what scripts/model prints --- */

#define VIOLATED(name) c_code { uerror(name); }

#define must(condition, name)                                                                      \
    if                                                                                             \
    :: condition                                                                                   \
    :: else -> VIOLATED(name)                                                                      \
    fi

#define TWO     "never two running"
#define STALE   "no out-of-date image ever started"
#define THROWN  "no state thrown away by us"
#define DISK    "no restart from disk unless a QEMU died"
#define STUCK   "exactly one side runs when nothing moves any more"
#define CLEAN   "nothing is left behind when nothing moves any more"
#define REPORT  "no state that the rules call impossible"
#define EDGE    "no journal entry without an edge"
#define DAMAGED "no damaged image ever started"

inline source_runs()
{
    must(!D_RUNS, TWO);
    must(s_fresh, STALE);
    sq = Q_RUN;
    old = sent;
    d_fresh = 0
}

inline target_runs(state)
{
    must(!S_RUNS, TWO);
    must(d_fresh, STALE);
    must(!bad, DAMAGED);
    dq = state;
    s_fresh = 0
}

/* By its own lpm-host: only when the target has run, or may have. */
inline end_source()
{
#ifdef POSTCOPY
    /* QEMU cannot go on from post-copy: what serves is of use to the target only. */
    must(sq != Q_SERVING || dq != T_FILLING, THROWN);
    must(sq != Q_SERVING || dq != T_HALF || dj != DJ_LOADED || refused, THROWN);
    must(!s_fresh || sq == Q_DEAD || sq == Q_SERVING || ran_there, THROWN);
#else
    must(!s_fresh || sq == Q_DEAD || ran_there, THROWN);
#endif
    source_dies()
}

inline source_dies()
{
    sq = Q_DEAD;
    s_go = 0;
    s_cancel = 0;
    s_cont = 0;
    s_fresh = 0
}

inline end_target()
{
    must(!d_fresh || dq == T_DEAD || (sq != Q_DEAD && s_fresh) || !must_save, THROWN);
    target_dies()
}

inline target_dies()
{
    dq = T_DEAD;
    d_cont = 0;
    d_fresh = 0
}

/* --- what a side wants to do: the row, if it would change anything --- */

/* A condition in C may call nothing by spin's grammar: hence these. */
c_decl {
    \#define SOURCE_WANTS s_want(now.s_rs, now.sq)
    \#define SOURCE_WANTS_UNKNOWN s_want(REC_UNKNOWN, now.sq)
    \#define SOURCE_WANTS_UNSURE s_want(now.s_rs, Q_UNSURE)
    \#define TARGET_WANTS d_want(now.d_rs, now.dq)
    \#define TARGET_WANTS_UNKNOWN d_want(REC_UNKNOWN, now.dq)
    \#define TARGET_WANTS_UNSURE d_want(now.d_rs, T_UNSURE)
}

c_code {
    static unsigned s_want(unsigned record, unsigned qemu)
    {
        unsigned view = rule_src_view(qemu, now.sj, record);
        unsigned action = rule_src(now.sj, record, view);
        int over = now.sj == SJ_ABORT;
        int live = now.sq == Q_ACTIVE || now.sq == Q_PRE || now.sq == Q_DEVICE;
        if (action == LPM_MOB_SRC_DO_NOTHING ||
            (action == LPM_MOB_SRC_DO_REPORT && (record != now.rs || qemu == Q_UNSURE)) ||
            (action == LPM_MOB_SRC_DO_CANCEL && over && (now.s_cancel || !live)) ||
            (action == LPM_MOB_SRC_DO_YANK && over && (!live || now.sq == Q_PRE)) ||
            (action == LPM_MOB_SRC_DO_CONT && (now.s_cont || qemu == Q_UNSURE)) ||
            ((action == LPM_MOB_SRC_DO_OFFER || action == LPM_MOB_SRC_DO_BACK) && now.p_to[0] &&
             now.p_to[1])) {
            return 0;
        }
        return action;
    }

    static unsigned d_want(unsigned record, unsigned qemu)
    {
        int waits = POST_COPY && qemu == T_RUNNING && now.d_mover && !now.s_left;
        unsigned view = qemu == T_ARRIVED ? T_INCOMING : waits ? T_FILLING : qemu;
        unsigned action = rule_dst(now.dj, record, view);
        int swap = action == LPM_MOB_DST_DO_TAKE || action == LPM_MOB_DST_DO_REFUSE ||
                   action == LPM_MOB_DST_DO_OWN || action == LPM_MOB_DST_DO_RETURN ||
                   action == LPM_MOB_DST_DO_ARRIVED;
        if (action == LPM_MOB_DST_DO_NOTHING ||
            (action == LPM_MOB_DST_DO_REPORT && (record != now.rs || qemu == T_UNSURE)) ||
            (action == LPM_MOB_DST_DO_CONT && now.d_cont) ||
            (swap && now.p_to[2] && now.p_to[3])) {
            return 0;
        }
        return action;
    }
}

inline swap(slot, made_from, revision, to, who)
{
    p_to[slot] = to;
    p_from[slot] = made_from;
    p_rv[slot] = revision;
    p_by[slot] = who
}

/* The hint proves nothing: what runs must be right even if it comes before there is an offer. */
#define HINTS_LIE c_expr { rule_hints_lie }

inline s_swap(to, who)
{
    if
    :: p_to[0] == 0 -> swap(0, s_rs, s_rv, to, who); s_wait = 1
    :: else         -> swap(1, s_rs, s_rv, to, who); s_wait = 2
    fi;
    m_offer = (s_mover && to == R_OFFER && HINTS_LIE -> 2 : m_offer)
}

inline d_swap(to, who)
{
    if
    :: p_to[2] == 0 -> swap(2, d_rs, d_rv, to, who); d_wait = 3
    :: else         -> swap(3, d_rs, d_rv, to, who); d_wait = 4
    fi
}

inline s_write(entry)
{
    arg = entry;
    c_code { if (!rule_src_edge(now.sj, arg)) { uerror(EDGE); } }
    sj = arg
}

inline d_write(entry)
{
    arg = entry;
    c_code { if (!rule_dst_edge(now.dj, arg)) { uerror(EDGE); } }
    dj = arg
}

inline s_forget()
{
    s_rows = 0; s_mover = 0; s_heard = 0; s_told = 0; s_rs = 0; s_rv = 0; s_wait = 0
}

inline d_forget()
{
    d_rows = 0; d_mover = 0; d_started = 0; d_ending = 0; d_filled = 0; d_rs = 0; d_rv = 0; d_wait = 0
}

/* Post-copy: the source may keep memory that nobody will ask for (must_tell_source()). */
#define MUST_TELL_SOURCE                                                                           \
    (d_rs == R_RUN && !(d_filled && (s_left || MUTANT(FILLED_IS_ENOUGH))))

#define DO(side, action) c_expr { now.act == LPM_MOB_ ## side ## _DO_ ## action }

/* The action of a row. What ends with "look again" is done in parts: lpm-host may die in between. */
inline s_do()
{
    printf("source: journal %d, record %d, QEMU %d: action %d\n", sj, s_rs, sq, act);
    if
    :: DO(SRC, CANCEL) ->
        if
        :: sj != SJ_ABORT -> s_write(SJ_ABORT); s_mover = 0
        :: else -> s_cancel = 1
        fi
    :: DO(SRC, YANK) ->
        if
        :: sj != SJ_ABORT -> s_write(SJ_ABORT); s_mover = 0
        :: else -> source_runs()
        fi
    :: DO(SRC, ABORT) -> s_write(SJ_ABORT); s_mover = 0
    :: DO(SRC, POST) -> s_write(SJ_POST)
    :: DO(SRC, OFFER) -> s_swap(R_OFFER, 0)
    :: DO(SRC, BACK) -> s_swap(R_BACK, 0)
    :: DO(SRC, CONT) -> s_cont = 1
    :: DO(SRC, STAYED) -> s_write(SJ_CLEANED); s_forget()
    :: DO(SRC, LOST) -> end_source(); died = 1; s_write(SJ_CLEANED); s_forget()
    :: DO(SRC, LEFT) ->
        m_lost = m_lost || (s_mover && sq == Q_DEAD && dq == T_FILLING);
        if
        :: sq != Q_DEAD ->
            end_source()
        :: else ->
            s_write(SJ_CLEANED);
            s_left = 1;
            s_forget()
        fi
    :: DO(SRC, REPORT) -> VIOLATED(REPORT)
    fi;
    act = 0
}

inline d_do()
{
    printf("target: journal %d, record %d, QEMU %d: action %d\n", dj, d_rs, dq, act);
    if
    :: DO(DST, LOADED) -> d_write(DJ_LOADED); m_loaded = 1
    :: DO(DST, TAKE) -> d_swap(R_TAKEN, 1)
    :: DO(DST, REFUSE) -> refused = 1; d_swap(R_BACK, 1)
    :: DO(DST, RETURN) -> d_swap(R_BACK, 1)
    :: DO(DST, OWN) -> d_swap(R_RUN, 1)
    :: DO(DST, INTENT) -> d_write(DJ_INTENT)
    :: DO(DST, CONT) -> d_cont = 1
    :: DO(DST, RUNNING) -> d_write(DJ_RUNNING)
    :: DO(DST, DISCARD) ->
        if
        :: dq != T_DEAD -> end_target(); d_ending = 1
        :: else -> d_write(DJ_CLEANED); d_forget()
        fi
    :: DO(DST, ARRIVED) ->
        if
#ifdef POSTCOPY
        :: MUST_TELL_SOURCE -> d_swap(R_UNFILLED, 0)
#endif
        :: else -> d_write(DJ_CLEANED); d_arrived = 1; d_forget()
        fi
    :: DO(DST, REPORT) -> VIOLATED(REPORT)
    fi;
    act = 0
}

/* --- lpm-host at the source --- */

#define S_WELL (s_up == UP && !s_rows && !s_wait)
#define S_LOOKS (s_up == UP && s_rows && !s_wait)
#define S_OPEN (sj != SJ_NONE && sj != SJ_CLEANED)
/* One that serves memory counts as doing so still. */
#define S_MAY_BE_UNSURE (sq != Q_DEAD && !(sq == Q_SERVING && sj >= SJ_POST && s_rs != R_BACK))
#define S_BEHIND (s_rs == 0 || rv > s_rv || (rv == s_rv && rs != s_rs))

proctype SourceHost()
{
end:
    do
    /* While nothing is wrong. The console has seen the target ready. */
    :: d_step { S_WELL && sj == SJ_NONE && dq == T_INCOMING && d_mover && sq == Q_RUN ->
        s_write(SJ_PLANNED); s_mover = 1; s_rs = rs; s_rv = rv;
        printf("source: planned\n") }
    :: d_step { S_WELL && sj == SJ_PLANNED && s_mover ->
        s_write(SJ_PRECOPY);
        printf("source: precopy\n") }
    :: d_step { S_WELL && sj == SJ_PRECOPY && s_told == 0 && sq == Q_RUN ->
        sq = Q_ACTIVE; s_told = 1;
        printf("source: migrate\n") }
    :: d_step { S_WELL && sj == SJ_PRECOPY && s_told == 1 && sq == Q_PRE ->
        s_go = 1; s_told = 2;
        printf("source: migrate-continue\n") }
    :: d_step { S_WELL && sj == SJ_PRECOPY && s_told == 2 ->
        s_write(SJ_SWITCH);
        printf("source: switch\n") }
#ifdef POSTCOPY
    :: d_step { S_WELL && (sj == SJ_PRECOPY || sj == SJ_SWITCH) && sq == Q_SERVING ->
#else
    :: d_step { S_WELL && (sj == SJ_PRECOPY || sj == SJ_SWITCH) && sq == Q_COMPLETED ->
#endif
        s_write(SJ_POST);
        printf("source: post\n") }
    :: d_step { S_WELL && !s_heard && m_loaded && s_mover && S_OPEN ->
        s_heard = 1;
        printf("source: hears LOADED\n") }
    :: d_step { S_WELL && s_heard && s_told == 2 &&
                (sj == SJ_POST || (MUTANT(OFFER_BEFORE_POST) && sq == Q_COMPLETED)) ->
        s_told = 3; s_rows = 1; s_swap(R_OFFER, 0);
        printf("source: offers\n") }
    /* Something went wrong during that swap: it is not waited for. */
    :: d_step { s_up == UP && s_told == 3 && s_wait ->
        s_told = 4; s_wait = 0;
        printf("source: trouble while it offers\n") }
    :: d_step { glitches && S_WELL && S_OPEN && s_mover ->
        glitches--; s_rows = 1; s_mover = 0;
        printf("source: trouble, the mover is dead\n") }
    /* A time-out, a request to stop, the other side's mover is gone. */
    :: d_step { S_WELL && S_OPEN ->
        s_rows = 1;
        printf("source: trouble\n") }
    :: d_step { MUTANT(LATE_CONT) && S_WELL && S_OPEN && sq == Q_DEVICE && !s_cont ->
        s_cont = 1;
        printf("source: cont, too early\n") }

    /* The rows. */
    :: d_step { S_LOOKS && S_OPEN && S_BEHIND ->
        s_rs = rs; s_rv = rv;
        printf("source: reads the record, %d\n", s_rs) }
    :: d_step { S_LOOKS && S_OPEN && s_rs && c_expr { SOURCE_WANTS } ->
        c_code { now.act = SOURCE_WANTS; }
        s_do() }
    /* The arbiter does not answer. */
    :: d_step { glitches && S_LOOKS && S_OPEN && c_expr { SOURCE_WANTS_UNKNOWN } ->
        glitches--;
        c_code { now.act = SOURCE_WANTS_UNKNOWN; }
        s_rs = 0; s_rv = 0;
        s_do() }
    /* QEMU does not answer. */
    :: d_step { glitches && S_LOOKS && S_OPEN && s_rs && S_MAY_BE_UNSURE &&
                c_expr { SOURCE_WANTS_UNSURE } ->
        glitches--;
        c_code { now.act = SOURCE_WANTS_UNSURE; }
        s_do() }
    /* The disk is full: before post, QEMU is brought back without the entry. */
    :: d_step { glitches && S_LOOKS && S_OPEN && sj < SJ_POST && !s_cancel && (sq == Q_PRE || sq == Q_ACTIVE) &&
                s_rs == R_SRC ->
        glitches--; s_cancel = 1; s_mover = 0;
        printf("source: migrate_cancel without a journal\n") }

    /*
     * The operator says that the target is off, which is so. The target may have run, and have
     * written to the disks, before it went: what the source has in memory is of no use then.
     */
#define TARGET_IS_OFF (d_up >= OFF || MUTANT(UNTRUE_WORD))
#define WORD_AT_TAKEN (s_rs == R_TAKEN && (sq == Q_DEAD || MUTANT(WORD_KEEPS_MEMORY)))
    :: d_step { S_LOOKS && S_OPEN && TARGET_IS_OFF && s_rs == R_TAKEN && sq != Q_DEAD ->
        died = 1;
        source_dies();
        printf("source: the operator's word, QEMU is ended\n") }
    :: d_step { S_LOOKS && S_OPEN && TARGET_IS_OFF && !(p_to[0] && p_to[1]) && WORD_AT_TAKEN ->
        s_swap(R_BACK, 2);
        printf("source: the operator's word, at TAKEN\n") }
    :: d_step { S_LOOKS && S_OPEN && TARGET_IS_OFF && !(p_to[0] && p_to[1]) && s_rs == R_OFFER &&
                (sq == Q_DEAD || sq == Q_SERVING) ->
        s_swap(R_BACK, 0);
        printf("source: the operator's word, at OFFER\n") }

    :: d_step { S_LOOKS && S_OPEN && TARGET_IS_OFF && OF_TARGET(s_rs) && sq == Q_SERVING ->
        source_dies();
        printf("source: the operator's word, nobody wants the memory\n") }

    /* Afterwards: the partition may be started from its disks. */
    :: d_step { s_up == UP && sj == SJ_CLEANED && !s_left && sq == Q_DEAD && OF_SOURCE(rs) ->
        must(died, DISK);
        s_fresh = 1;
        source_runs();
        printf("source: start from disk\n") }
    :: d_step { MUTANT(BOOT_START) && s_up == UP && s_rows && sq == Q_DEAD && sj != SJ_CLEANED ->
        s_fresh = 1;
        source_runs();
        printf("source: start from disk without a look at the record\n") }

    :: d_step { s_up == DOWN || s_up == OFF ->
        s_up = UP; s_rows = S_OPEN;
        printf("source: lpm-host starts\n") }
    od
}

/* --- lpm-host at the target --- */

#define D_WELL (d_up == UP && !d_rows && !d_wait)
#define D_LOOKS (d_up == UP && d_rows && !d_wait && !d_ending)
#define D_OPEN (dj != DJ_NONE && dj != DJ_CLEANED)
#define D_MAY_BE_UNSURE (dq != T_DEAD && !(POST_COPY && D_RUNS))
#define D_BEHIND (d_rs == 0 || rv > d_rv || (rv == d_rv && rs != d_rs))

proctype TargetHost()
{
end:
    do
    :: d_step { D_WELL && dj == DJ_NONE && sj == SJ_NONE && rs == R_SRC ->
        d_write(DJ_PREPARED); d_rs = rs; d_rv = rv;
        printf("target: prepared\n") }
    :: d_step { D_WELL && dj == DJ_PREPARED && !d_started ->
        dq = T_INCOMING; d_started = 1; d_mover = 1;
        printf("target: QEMU incoming\n") }
#ifdef POSTCOPY
    :: d_step { D_WELL && dj == DJ_PREPARED && dq == T_HALF && d_mover ->
#else
    :: d_step { D_WELL && dj == DJ_PREPARED && dq == T_PAUSED && d_mover &&
                (!bad || MUTANT(NO_DIGEST)) ->
#endif
        d_write(DJ_LOADED); m_loaded = 1; d_rows = 1;
        printf("target: loaded\n") }
    :: d_step { D_WELL && dj == DJ_PREPARED && d_started ->
        d_rows = 1;
        printf("target: trouble\n") }
    :: d_step { glitches && d_up == UP && d_mover && D_OPEN ->
        glitches--; d_rows = 1; d_mover = 0;
        printf("target: the mover is dead\n") }
    :: d_step { d_up == UP && d_mover && D_OPEN && sj > SJ_PLANNED && !s_mover ->
        d_rows = 1; d_mover = 0;
        printf("target: the mover ends, the source's is gone\n") }
    /* It takes the hint of the offer for the record (lpm_mig_believe_offer). */
    :: d_step { D_LOOKS && D_OPEN && m_offer && d_mover && d_rs == R_SRC ->
        d_rs = R_OFFER; d_rv = 2; m_offer--;
        printf("target: believes the offer\n") }

    :: d_step { D_LOOKS && D_OPEN && D_BEHIND ->
        d_rs = rs; d_rv = rv;
        printf("target: reads the record, %d\n", d_rs) }
    /* The user asks again after a move that is over here (migration-recover). */
    :: d_step { d_up == UP && dj == DJ_CLEANED && !d_wait && rs == R_OFFER && D_BEHIND ->
        d_rows = 1; d_rs = rs; d_rv = rv;
        printf("target: reads the record, %d\n", d_rs) }
    :: d_step { D_LOOKS && d_rs && c_expr { TARGET_WANTS } ->
        c_code { now.act = TARGET_WANTS; }
        d_do() }
    :: d_step { glitches && D_LOOKS && c_expr { TARGET_WANTS_UNKNOWN } ->
        glitches--;
        c_code { now.act = TARGET_WANTS_UNKNOWN; }
        d_do() }
    :: d_step { glitches && D_LOOKS && d_rs && D_MAY_BE_UNSURE && c_expr { TARGET_WANTS_UNSURE } ->
        glitches--;
        c_code { now.act = TARGET_WANTS_UNSURE; }
        d_do() }
    /* intent cannot be written: QEMU is ended, so that nothing can start it when a row gives it back. */
    :: d_step { glitches && MUTANT(RETURN_ALIVE) && D_LOOKS && dj == DJ_LOADED && d_rs == R_TAKEN && (dq == T_PAUSED || dq == T_HALF) &&
                !(p_to[2] && p_to[3]) ->
        glitches--;
        must_save = 0;
        d_swap(R_BACK, 1);
        printf("target: the disk is full, gives it back\n") }
    :: d_step { glitches && !MUTANT(RETURN_ALIVE) && D_LOOKS && dj == DJ_LOADED && d_rs == R_TAKEN &&
                dq == T_PAUSED ->
        glitches--;
        must_save = 0;
        end_target();
        printf("target: the disk is full, QEMU is ended\n") }
    :: d_step { d_up == UP && d_ending ->
        d_write(DJ_CLEANED); d_forget();
        printf("target: cleaned\n") }
    /* The operator says that the source is off: what has come is given up. */
    :: d_step { D_LOOKS && s_up >= OFF && d_rs == R_SRC &&
                (dj == DJ_PREPARED || dj == DJ_LOADED) ->
        must_save = 0;
        if
        :: dq != T_DEAD -> end_target(); d_ending = 1
        :: else -> d_write(DJ_CLEANED); d_forget()
        fi;
        printf("target: gives up by the operator's word\n") }

#ifdef POSTCOPY
    /* Memory is lost: the source says so, or the operator. */
    :: d_step { D_LOOKS && dq == T_FILLING && ((m_lost && d_mover) || sq == Q_DEAD) ->
        target_dies();
        printf("target: memory is lost, QEMU is ended\n") }
#endif

    :: d_step { d_up == UP && dj == DJ_CLEANED && d_arrived && dq == T_DEAD && OF_TARGET(rs) ->
        must(died, DISK);
        d_fresh = 1; bad = 0;
        target_runs(T_RUNNING);
        printf("target: start from disk\n") }
    :: d_step { d_up == DOWN || d_up == OFF ->
        d_up = UP; d_rows = (dj != DJ_NONE); d_filled = (dq == T_RUNNING);
        printf("target: lpm-host starts\n") }
    od
}

/* --- QEMU at the source --- */

#define STREAM_ENDS (!s_mover || !d_mover || dq == T_DEAD)

proctype SourceQemu()
{
end:
    do
    :: d_step { sq == Q_ACTIVE -> sq = Q_PRE; printf("source QEMU: pre-switchover\n") }
    :: d_step { sq == Q_PRE && s_go -> s_go = 0; sq = Q_DEVICE; printf("source QEMU: device\n") }
    :: d_step { sq == Q_DEVICE && !sent -> sent = 1; printf("source QEMU: all is sent\n") }
#ifdef POSTCOPY
    :: d_step { sq == Q_DEVICE && sent -> sq = Q_SERVING; printf("source QEMU: serving\n") }
    /* The last words of the target's QEMU. */
    :: d_step { sq == Q_SERVING && dq == T_RUNNING && d_mover && s_up == UP ->
        sq = Q_COMPLETED; printf("source QEMU: completed\n") }
#else
    :: d_step { sq == Q_DEVICE && ack -> sq = Q_COMPLETED; printf("source QEMU: completed\n") }
#endif
    /* The stream is broken, or QEMU thinks so: it goes on by itself, or cannot. */
    :: d_step { (sq == Q_ACTIVE || sq == Q_DEVICE) && (STREAM_ENDS || glitches) ->
        glitches = (STREAM_ENDS -> glitches : glitches - 1);
        source_runs(); printf("source QEMU: failed, resumes\n") }
    :: d_step { sq == Q_DEVICE && (STREAM_ENDS || glitches) ->
        glitches = (STREAM_ENDS -> glitches : glitches - 1);
        sq = Q_STOPPED; printf("source QEMU: failed, cannot resume\n") }
    /* Commands run when QEMU comes to them. */
    :: d_step { s_cancel && (sq == Q_ACTIVE || sq == Q_PRE || sq == Q_DEVICE) ->
        s_cancel = 0; s_go = 0; source_runs(); printf("source QEMU: cancelled, resumes\n") }
    :: d_step { s_cancel && sq != Q_ACTIVE && sq != Q_PRE && sq != Q_DEVICE ->
        s_cancel = 0; printf("source QEMU: nothing to cancel\n") }
    :: d_step { s_cont && (sq == Q_COMPLETED || sq == Q_STOPPED) ->
        s_cont = 0; source_runs(); printf("source QEMU: cont\n") }
    :: d_step { s_cont && sq != Q_COMPLETED && sq != Q_STOPPED && sq != Q_DEVICE ->
        s_cont = 0; printf("source QEMU: cont is refused\n") }
    od
}

/* --- QEMU at the target --- */

#define STREAM_ENDED                                                                               \
    (!d_mover || (sj > SJ_PLANNED && (!s_mover || sq == Q_STOPPED || sq == Q_DEAD ||               \
                                      (sq == Q_RUN && s_told != 0))))

proctype TargetQemu()
{
end:
    do
    :: d_step { dq == T_INCOMING && sent && d_mover ->
        dq = T_ARRIVED; d_fresh = !old; printf("target QEMU: all is here\n") }
    /* In post-copy there is a digest only of what the target runs with already. */
    :: d_step { !POST_COPY && dq == T_INCOMING && sent && d_mover && !bad ->
        dq = T_ARRIVED; d_fresh = !old; bad = 1; printf("target QEMU: all is here, damaged\n") }
    :: d_step { dq == T_INCOMING && (STREAM_ENDED || glitches) ->
        glitches = (STREAM_ENDED -> glitches : glitches - 1);
        target_dies(); printf("target QEMU: the stream broke, ends\n") }
#ifdef POSTCOPY
    :: d_step { dq == T_ARRIVED -> dq = T_HALF; printf("target QEMU: half\n") }
    :: d_step { d_cont && dq == T_HALF ->
        d_cont = 0; target_runs(T_FILLING); printf("target QEMU: runs, and fills\n") }
    :: d_step { dq == T_FILLING && sq == Q_SERVING && s_up == UP && d_up == UP ->
        dq = T_RUNNING; d_filled = 1; d_mover = 1; printf("target QEMU: filled\n") }
#else
    /* The source's QEMU may hear of it before lpm-host at the target does. */
    :: d_step { (dq == T_ARRIVED || dq == T_PAUSED) && !ack ->
        ack = 1; printf("target QEMU: tells the source's\n") }
    :: d_step { dq == T_ARRIVED -> dq = T_PAUSED; printf("target QEMU: completed, paused\n") }
    :: d_step { d_cont && dq == T_PAUSED ->
        d_cont = 0; target_runs(T_RUNNING); printf("target QEMU: runs\n") }
    :: d_step { MUTANT(NO_S) && dq == T_PAUSED ->
        target_runs(T_RUNNING); printf("target QEMU: runs by itself\n") }
#endif
    :: d_step { d_cont && (dq == T_RUNNING || dq == T_FILLING) -> d_cont = 0 }
    od
}

/* --- the arbiter --- */

inline arbitrate(slot)
{
    from = p_from[slot];
    arg = p_to[slot];
    by = p_by[slot];
    if
    :: MUTANT(NO_COMPARE) -> c_code { now.act = rule_swap(from, from, arg, by); }
    :: !MUTANT(NO_COMPARE) && p_rv[slot] == rv ->
        c_code { now.act = rule_swap(now.rs, from, arg, by); }
    :: else
    fi;
    printf("arbiter: swap of slot %d to %d: %d\n", slot, p_to[slot], act);
    if
    :: act ->
        rs = act;
        rv++;
        m_offer = (s_mover && rs == R_OFFER -> 2 : m_offer)
    :: else
    fi;
    act = 0;
    if
    :: slot < 2 && s_wait == slot + 1 -> s_wait = 0; s_rs = rs; s_rv = rv
    :: slot >= 2 && d_wait == slot + 1 -> d_wait = 0; d_rs = rs; d_rv = rv
    :: else
    fi;
    swap(slot, 0, 0, 0, 0)
}

/* The answer does not come: the side goes on, and the swap is on its way still, or lost. */
inline no_answer(slot)
{
    if
    :: slot < 2 -> s_wait = 0; s_rs = 0; s_rv = 0
    :: else -> d_wait = 0; d_rs = 0; d_rv = 0
    fi;
    unknowns--;
    printf("arbiter: slot %d has no answer\n", slot)
}

#define WAITED(slot) ((slot < 2 && s_wait == slot + 1) || (slot >= 2 && d_wait == slot + 1))

#define SLOT(slot)                                                                                 \
    :: d_step { p_to[slot] -> arbitrate(slot) }                                                    \
    :: d_step { unknowns && p_to[slot] && WAITED(slot) -> no_answer(slot) }                        \
    :: d_step { unknowns && p_to[slot] && WAITED(slot) -> no_answer(slot); swap(slot, 0, 0, 0, 0) } \
    :: d_step { p_to[slot] && !WAITED(slot) ->                                                     \
        swap(slot, 0, 0, 0, 0); printf("arbiter: slot %d is lost\n", slot) }

proctype Arbiter()
{
end:
    do
    SLOT(0)
    SLOT(1)
    SLOT(2)
    SLOT(3)
    /* The source is free again, and another move of the partition begins. */
    :: d_step { sj == SJ_CLEANED && !s_left && sq == Q_RUN && rs == R_BACK && D_OPEN ->
        rs = R_LATER; rv++;
        printf("arbiter: a later move\n") }
    od
}

/* --- what goes wrong --- */

inline source_qemu_dies()
{
    must_save = must_save ||
        (d_fresh && (dq == T_PAUSED || dq == T_HALF) && dj >= DJ_LOADED && sj == SJ_POST &&
         !OF_TARGET(rs) && rs != R_BACK && p_to[0] != R_BACK && p_to[1] != R_BACK &&
         p_to[2] != R_BACK && p_to[3] != R_BACK);
    died = 1;
    source_dies()
}

inline target_qemu_dies()
{
    ran_there = ran_there || dj >= DJ_INTENT;
    died = 1;
    target_dies()
}

proctype Faults()
{
end:
    do
    :: d_step { s_crashes && s_up == UP && S_OPEN ->
        s_crashes--; s_up = DOWN; s_forget();
        if
        :: MUTANT(QEMU_DIES_WITH_HOST) -> source_dies()
        :: else
        fi;
        printf("fault: lpm-host at the source dies\n") }
    :: d_step { d_crashes && d_up == UP && D_OPEN ->
        d_crashes--; d_up = DOWN; d_forget();
        printf("fault: lpm-host at the target dies\n") }
    :: d_step { q_crashes && sq != Q_DEAD && sj != SJ_NONE ->
        q_crashes--; source_qemu_dies();
        printf("fault: QEMU at the source dies\n") }
    :: d_step { q_crashes && dq != T_DEAD ->
        q_crashes--; target_qemu_dies();
        printf("fault: QEMU at the target dies\n") }
    :: d_step { machines && s_up < OFF && sj != SJ_NONE ->
        machines--; s_up = OFF; s_forget();
        if
        :: sq != Q_DEAD -> source_qemu_dies()
        :: else
        fi;
        printf("fault: the source's machine dies\n") }
    :: d_step { machines && d_up < OFF && dj != DJ_NONE ->
        machines--; d_up = OFF; d_forget();
        if
        :: dq != T_DEAD -> target_qemu_dies()
        :: else
        fi;
        printf("fault: the target's machine dies\n") }
    :: d_step { s_up == OFF -> s_up = GONE; printf("fault: the source's machine is gone for good\n") }
    :: d_step { d_up == OFF -> d_up = GONE; printf("fault: the target's machine is gone for good\n") }
    od
}

/* --- when nothing can move any more --- */

proctype Monitor()
{
    timeout;
end_of_lies:
    !HINTS_LIE;
    d_step {
        printf("monitor: record %d, journals %d %d, QEMU %d %d\n", rs, sj, dj, sq, dq);
        must(OF_SOURCE(rs) || OF_TARGET(rs), STUCK);
        must(!(S_RUNS && D_RUNS), TWO);
        must(!OF_SOURCE(rs) || S_RUNS || s_up == GONE, STUCK);
        must(!OF_TARGET(rs) || D_RUNS || d_up == GONE, STUCK);
        must(dq != T_FILLING, STUCK);
        must(s_up == GONE || !S_OPEN, CLEAN);
        must(d_up == GONE || !D_OPEN, CLEAN);
        must(OF_SOURCE(rs) || sq == Q_DEAD, CLEAN);
        must(OF_TARGET(rs) || dq == T_DEAD, CLEAN)
    }
}

init
{
    d_step {
        c_code {
            now.s_crashes = rule_bound("source");
            now.d_crashes = rule_bound("target");
            now.q_crashes = rule_bound("qemu");
            now.machines = rule_bound("machines");
            now.unknowns = rule_bound("unknown");
            now.glitches = rule_bound("glitches");
        }
    }
    atomic {
        run SourceHost();
        run TargetHost();
        run SourceQemu();
        run TargetQemu();
        run Arbiter();
        run Faults();
        run Monitor()
    }
}
