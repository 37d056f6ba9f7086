/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulated handovers: the tables and record functions of lib/mobility between models of everything
 * around them, driven by a seeded generator, one step after the other. docs/spec/simulation.md says
 * what is modelled and what is not.
 */
#pragma once

#include "mobility/mobility.h"
#include "mobility/record.h"

#include <stdarg.h>

enum {
    SIM_HOSTS = 2,
    SIM_QUEUE = 4,    /* commands that wait in one QEMU */
    SIM_REQUESTS = 8, /* reads and swaps on their way to or from the arbiter */
    SIM_LETTERS = 8,  /* words on their way between the two lpm-host */
};

/* --- generator --- */

typedef struct {
    uint64_t state;
} SimRandom;

uint64_t sim_random(SimRandom *random);
/* 0 to @n - 1. */
unsigned sim_pick(SimRandom *random, unsigned n);
/* True once in @n times. */
bool sim_once_in(SimRandom *random, unsigned n);

/* --- QEMU --- */

typedef enum {
    SIM_Q_NONE, /* no process */
    SIM_Q_RUNNING,
    SIM_Q_PRE,
    SIM_Q_DEVICE,
    SIM_Q_DONE, /* the source's: postmigrate, or a failed move that it could not resume from */
    SIM_Q_SERVING,
    SIM_Q_GIVEN, /* post-copy, and all memory was given */
    SIM_Q_INCOMING,
    SIM_Q_LOADING, /* has answered the source, and has not said completed yet */
    SIM_Q_LOADED,
    SIM_Q_HALF,
    SIM_Q_FILLING,
    SIM_Q_N,
} SimQemuState;

typedef enum { SIM_CMD_CONT, SIM_CMD_CANCEL, SIM_CMD_CONTINUE } SimCommand;

typedef struct {
    SimQemuState state;
    unsigned version; /* of the guest's state that it holds; 0: none */
    bool migrating;   /* runs, and copies */
    bool filled;      /* all memory is here */
    bool failed;      /* DONE without having completed */
    bool hung;        /* does nothing and answers nothing for a while */
    bool autostart;
    uint8_t queued;
    struct {
        uint8_t command;
        unsigned ticket; /* of the lpm-host that waits for the answer */
    } queue[SIM_QUEUE];
} SimQemu;

/* What is between the two QEMUs of a move: VASI, movers, connections. */
typedef struct {
    bool mover[SIM_HOSTS];
    bool link, connected;
    bool postcopy;    /* as was asked for */
    bool sent;        /* the source has sent its last part (or all but memory) */
    bool answered;    /* the target's answer is on its way */
    unsigned version; /* of what was sent */
} SimStream;

/* --- arbiter --- */

typedef struct {
    bool used, executed, swap;
    bool awaited; /* not timed out */
    uint8_t host;
    unsigned ticket;
    uint64_t expected;
    bool won;
    LpmRecord record; /* wanted; when executed: what is there */
} SimRequest;

/* --- words between the two lpm-host --- */

typedef enum {
    SIM_SAY_LOADED, /* also half */
    SIM_SAY_OFFER,
    SIM_SAY_LOOK, /* hints that the record has changed */
    SIM_SAY_ABORT,
    SIM_SAY_WHOLE,
    SIM_SAY_MEMORY_LOST,
    SIM_SAY_CLOSED, /* the source's mover has ended in order */
    SIM_SAY_N,
} SimWord;

typedef struct {
    bool used;
    uint8_t to, word, move;
} SimLetter;

/* --- lpm-host --- */

typedef enum {
    SIM_PC_IDLE,    /* looks again when its timer or somebody says so */
    SIM_PC_READ,    /* waits for the record */
    SIM_PC_LOOK,    /* asks QEMU */
    SIM_PC_ACT,     /* has decided */
    SIM_PC_SWAP,    /* waits for the arbiter */
    SIM_PC_COMMAND, /* waits for QEMU */
    SIM_PC_END,     /* has ended QEMU: what is left is to release the move and to write cleaned */
} SimPc;

typedef struct {
    /* durable */
    uint8_t durable; /* journal, as the database has it */
    bool is_target;
    bool active, postcopy_durable;
    bool completed; /* outcome, once cleaned */
    bool profile;   /* the partition is kept here */
    bool runtime;   /* QEMU was started for this move, or runs the partition */
    uint8_t move;
    uint64_t base_revision, base_epoch;
    /* the machine */
    bool machine, gone_for_good, disk_full;
    /* volatile */
    bool up, rows, attached, postcopy;
    uint8_t journal;
    SimPc pc;
    const LpmMobRow *row;
    unsigned ticket, first_ticket;
    bool known, fresh, believed;
    LpmRecord record;
    bool told;         /* source: QEMU was told to migrate, and later to go on */
    bool posted;       /* source, a mutant only: what should have been written */
    bool loaded;       /* source: the peer has said so; target: QEMU and digest are right */
    bool offering;     /* source */
    bool patient;      /* the offer's time is over */
    bool given, whole; /* source, post-copy */
    bool runs, closed; /* target: QEMU runs here; the source's mover has closed in order */
    bool lost;         /* target, post-copy: memory is lost, it was ended for that */
    bool started;      /* target: QEMU was started */
    bool may_start;    /* the record was read for a start from disks */
    bool forced;       /* target: what has come is to be given up */
} SimHost;

/* --- rules that can be broken on purpose --- */

typedef enum {
    SIM_MUTANT_NONE,
    SIM_MUTANT_AUTOSTART,
    SIM_MUTANT_NO_SWAP,
    SIM_MUTANT_NO_INTENT,
    SIM_MUTANT_QUEUED_CONT,
    SIM_MUTANT_ENDED_AT_TAKEN,
    SIM_MUTANT_ENDED_AT_OFFER,
    SIM_MUTANT_NO_POST,
    SIM_MUTANT_NO_BACK,
    SIM_MUTANT_NO_COMPARE,
    SIM_MUTANT_RETURN_ALIVE,
    SIM_MUTANT_WORD_ALIVE,
    SIM_MUTANT_THIRD,
    SIM_MUTANT_NO_RELEASE,
    SIM_MUTANT_REFUSE_BELIEVED,
    SIM_MUTANT_N,
} SimMutant;

/* --- everything --- */

typedef struct {
    SimRandom random;
    SimMutant mutant;
    bool tell; /* print what happens */
    SimHost host[SIM_HOSTS];
    SimQemu qemu[SIM_HOSTS];
    SimStream stream;
    LpmRecord record;
    bool reachable[SIM_HOSTS]; /* the arbiter, from this host */
    SimRequest request[SIM_REQUESTS];
    SimLetter letter[SIM_LETTERS];
    unsigned tickets;
    unsigned newest;      /* version of the guest's history */
    bool excused;         /* the QEMU that owned the newest state has crashed */
    bool must_survive;    /* it has, but the target has all of it and must go on with it */
    bool elsewhere;       /* the partition has gone to a third system */
    bool memory_given_up; /* somebody said that a post-copy cannot go on */
    bool inactive;        /* the partition is not activated in this run */
    uint8_t source, moves, move;
    unsigned step, faults, fault_rate, moves_wanted, begun, other_moves;
    bool settling;
    bool liar; /* somebody has a mover in his hands all the time */
    const char *violation;
} Sim;

/* Begins a run. */
void sim_begin(Sim *sim, uint64_t seed, SimMutant mutant, bool tell);
/* Runs it to its end: NULL, or which rule was broken. */
const char *sim_run(Sim *sim, uint64_t seed, SimMutant mutant, bool tell);

/* qemu.c */
void sim_qemu_step(Sim *sim, unsigned h);
void sim_qemu_command(Sim *sim, unsigned h, SimCommand command);
void sim_qemu_yank(Sim *sim, unsigned h);
void sim_qemu_incoming(Sim *sim, unsigned h);
void sim_qemu_from_disk(Sim *sim, unsigned h);
/* By a fault. */
void sim_qemu_crash(Sim *sim, unsigned h);
/* By lpm-host. */
void sim_qemu_end(Sim *sim, unsigned h);
bool sim_qemu_executes(const SimQemu *qemu);
bool sim_qemu_holds_newest(const Sim *sim, unsigned h);
bool sim_stream_flows(const Sim *sim);

/* arbiter.c */
/* False when it cannot be asked now. */
bool sim_arbiter_read(Sim *sim, unsigned h);
void sim_arbiter_swap(Sim *sim, unsigned h, const LpmRecord *next);
void sim_arbiter_step(Sim *sim);
void sim_arbiter_timed_out(Sim *sim, unsigned h);
/* Somebody outside of this move changes the record, by the rules. */
void sim_arbiter_force(Sim *sim, LpmRecordState to, LpmRecordBy by, uint8_t move, const char *peer);

/* wire.c */
void sim_say(Sim *sim, unsigned from, SimWord word);
/* To @h, by nobody of this move. */
void sim_lie(Sim *sim, unsigned h, SimWord word);
void sim_wire_step(Sim *sim);
void sim_mover_end(Sim *sim, unsigned h);
void sim_mover_step(Sim *sim);

/* host.c: what both halves have in common */
extern const char *const sim_names[SIM_HOSTS];
void sim_move_id(uint8_t move, uint8_t out[LPM_RECORD_ID_SIZE]);
LpmMobRecordView sim_host_view(const Sim *sim, unsigned h);
void sim_host_step(Sim *sim, unsigned h);
void sim_host_die(Sim *sim, unsigned h);
void sim_host_start(Sim *sim, unsigned h);
/* "lpm migration recover": look now; a cleaned target refuses an offer that came late. */
void sim_host_decide(Sim *sim, unsigned h);
void sim_host_recover(Sim *sim, unsigned h);
void sim_host_trouble(Sim *sim, unsigned h);
bool sim_host_journal(Sim *sim, unsigned h, LpmMobEvent event);
bool sim_host_cleaned(Sim *sim, unsigned h, bool completed);
void sim_host_swap(Sim *sim, unsigned h, LpmRecordState to, LpmRecordBy by);
void sim_host_command(Sim *sim, unsigned h, SimCommand command);
void sim_host_next(Sim *sim, unsigned h, bool now);
bool sim_host_is_open(const SimHost *host);
void sim_host_read_answered(Sim *sim, unsigned h, const LpmRecord *record);
void sim_host_swap_answered(Sim *sim, unsigned h, bool known, bool won, const LpmRecord *record);
void sim_host_command_answered(Sim *sim, unsigned h, bool good);
void sim_host_overtaken(Sim *sim, unsigned h, bool won, const LpmRecord *record);
void sim_host_hear(Sim *sim, unsigned h, SimWord word);
void sim_host_mover_gone(Sim *sim, unsigned h);
bool sim_host_is_off_course(const SimHost *host);

/* source.c, target.c */
void sim_source_go_on(Sim *sim, unsigned h);
void sim_source_hears(Sim *sim, unsigned h, SimWord word);
unsigned sim_source_sees(Sim *sim, unsigned h);
void sim_source_act(Sim *sim, unsigned h, const LpmMobRow *row);
void sim_source_swapped(Sim *sim, unsigned h, bool won);
bool sim_source_ends_early(Sim *sim, unsigned h);
void sim_source_ended(Sim *sim, unsigned h);
void sim_target_go_on(Sim *sim, unsigned h);
void sim_target_hears(Sim *sim, unsigned h, SimWord word);
void sim_target_look(Sim *sim, unsigned h);
unsigned sim_target_sees(Sim *sim, unsigned h);
void sim_target_act(Sim *sim, unsigned h, const LpmMobRow *row);
void sim_target_swapped(Sim *sim, unsigned h, bool won);
void sim_target_ended(Sim *sim, unsigned h);
void sim_target_lost(Sim *sim, unsigned h);

/* world.c */
void sim_world_step(Sim *sim);
/* faults.c */
void sim_fault(Sim *sim);
void sim_liar(Sim *sim);
void sim_heal(Sim *sim);
/* people.c: the console, the operator, and other moves */
void sim_people_step(Sim *sim);
/* Nothing is left to be done, as far as the machines that are there can. */
bool sim_is_settled(const Sim *sim);

/* check.c */
void sim_check(Sim *sim);
void sim_check_end(Sim *sim);
/* Over all runs: how often each row of the tables was taken. */
void sim_count_row(LpmMobMachine machine, const LpmMobRow *row);
void sim_print_rows(void);
/* Whether each was but those that must never be, and those of a half that has no move. */
bool sim_all_rows_taken(void);
void sim_starts_to_run(Sim *sim, unsigned h);
void sim_violate(Sim *sim, const char *rule);

/* trace.c */
#define SIM_TELL(sim, ...)                                                                         \
    do {                                                                                           \
        if ((sim)->tell) {                                                                         \
            sim_tell((sim), __VA_ARGS__);                                                          \
        }                                                                                          \
    } while (0)
void sim_tell(const Sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_tell_state(const Sim *sim);
const char *sim_qemu_name(SimQemuState state);
const char *sim_word_name(SimWord word);
const char *sim_mutant_name(SimMutant mutant);
const char *sim_mutant_text(SimMutant mutant);
