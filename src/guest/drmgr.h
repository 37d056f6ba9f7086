/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lpm-drmgr: asks and tells the scripts of a partition's operating system before, during and after
 * a move (docs/spec/drmgr.md). Plain libc, so that it can be linked statically and copied into any
 * guest. Functions that return bool have said why not, by dr_complain(), when they return false.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

enum {
    DR_NAME_SIZE = 64,    /* of a script, an id, a host; with its end */
    DR_STEP_SIZE = 136,   /* "all/NAME", "HOST/NAME", "pmig/NAME" */
    DR_VALUE_SIZE = 256,  /* of what a script says about itself or for people */
    DR_KEPT = 2048,       /* bytes of each of stdout and stderr that are kept */
    DR_PAIRS = 32,        /* name=value lines that are kept of one run */
    DR_SCRIPTS = 64,      /* most scripts, and most hooks */
    DR_STEPS = 128,       /* scripts and hooks of a move */
    DR_VARS = 16,         /* LPM_ variables of a move */
    DR_ONLY = 8,          /* most --only */
    DR_MINUTE_MS = 60000, /* -w and DR_TIMEOUT count minutes */
    DR_LIMIT_MS = 10 * DR_MINUTE_MS,
    DR_LIMIT_MAX_MS = 24 * 60 * DR_MINUTE_MS,
    DR_INFO_LIMIT_MS = DR_MINUTE_MS, /* of scriptinfo and register */
    DR_EVENT_LIMIT_MS = 5000,
    DR_EVENTS_LIMIT_MS = 10000, /* all of one event together: lpm-host waits for it */
    DR_FLOOD = 16 << 20,        /* bytes of output after which a program is ended */
};

/* What this program ends with. */
typedef enum {
    DR_EXIT_OK = 0,
    DR_EXIT_FAILED = 1,
    DR_EXIT_USAGE = 2,
    DR_EXIT_BUSY = 3,
    DR_EXIT_STOPPED = 4,
    DR_EXIT_NO = 10, /* a script's "no", as by AIX's convention */
} DrExit;

/* --- text.c --- */

int64_t dr_now_ms(void); /* monotonic */
/* To stderr, and to syslog when it is open. */
void dr_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Copies what fits of @text, only printable characters of it. */
void dr_copy(char *out, size_t size, const char *text);
/* A file name of letters, digits and "._-" that does not begin with a dot, and fits DR_NAME_SIZE.
 */
bool dr_name_is_good(const char *name);
/* "5" is 5 minutes, "5s" 5 seconds; false when it is neither, or not within 1 s to a day. */
bool dr_read_limit(const char *text, int64_t *ret_ms);
/* Begins, fills and ends one line of JSON on stdout. Bytes that are not printable ASCII or valid
 * UTF-8 become "?". */
void dr_json_begin(void);
void dr_json_str(const char *name, const char *value);
void dr_json_int(const char *name, int64_t value);
void dr_json_bool(const char *name, bool value);
void dr_json_list(const char *name); /* of objects; each dr_json_item(), then dr_json_list_end() */
void dr_json_item(void);
void dr_json_item_end(void);
void dr_json_list_end(void);
void dr_json_end(void);
/* False once all lines together are so long that no more output of scripts may be added. */
bool dr_json_has_room(void);

/* --- settings.c --- */

/* All paths are below @root, "" but in tests. */
void dr_set_root(const char *root);
/* root + the format's path, in @out, which has PATH_MAX bytes; returns @out. */
char *dr_path(char *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The text of a small file without its last newline; "" when there is none. */
void dr_read_small(const char *path, char *out, size_t size);
/* mkdir -p. */
bool dr_make_directory(const char *path);
/* Replaces a file with @text: all of it, durable, or nothing. */
bool dr_replace(const char *path, const char *text, size_t length);
/* Directory that scripts are installed in, without the root; static. */
const char *dr_script_root(void);
const char *dr_syslog_id(void); /* static */
/* @key "root" or "syslog". */
bool dr_set(const char *key, const char *value);
/* uname -n; static. */
const char *dr_hostname(void);

/* Only one lpm-drmgr at a time. */
typedef enum {
    DR_LOCK_WAIT, /* a moment, then give up: DR_EXIT_BUSY */
    DR_LOCK_STOP, /* the other is told to stop: what it does is over */
} DrLockWay;
/* @what: for the words of others. Held until the process ends. */
DrExit dr_lock(DrLockWay way, const char *what);
bool dr_is_locked(void); /* by this process */

/* --- run.c --- */

typedef enum {
    DR_END_EXITED,
    DR_END_SIGNAL,
    DR_END_TIME,    /* killed: its time was up */
    DR_END_FLOOD,   /* killed: it wrote more than DR_FLOOD bytes */
    DR_END_PARENT,  /* it killed the process that waited for it */
    DR_END_STOPPED, /* killed: we were told to stop */
    DR_END_UNFIT,   /* not run: not executable, or others may write it */
} DrEnd;

typedef struct {
    char name[24], value[DR_VALUE_SIZE];
} DrPair;

typedef struct {
    char kept[DR_KEPT + 1];
    size_t length;
    uint64_t total;
} DrOutput;

typedef struct {
    DrEnd end;
    int status; /* exit status, signal, or errno of DR_END_UNFIT */
    int64_t ms;
    unsigned children; /* that it left behind; they were killed */
    bool leaks;        /* some of them do not end */
    DrOutput out, err;
    DrPair pairs[DR_PAIRS]; /* name=value lines of stdout, those known */
    size_t n_pairs;
    char error[DR_VALUE_SIZE]; /* the last DR_ERROR, however much came before */
    char line[DR_VALUE_SIZE + 32];
    size_t line_length; /* of the unfinished line; more than fits: dropped */
} DrResult;

/*
 * Runs @path with @argv and @envp, stdin empty, in "/", in a session of its own, and ends it with
 * everything that it has started, whatever session that is in. Fills @result.
 */
void dr_run(const char *path, char *const *argv, char *const *envp, int64_t limit_ms,
            DrResult *result);
/* Once, before anything else: signals, and that orphans become our children. */
void dr_run_prepare(void);
bool dr_is_stopped(void);
/* "timed-out" ...; static. */
const char *dr_end_name(DrEnd end);
/* Value of the last pair with this name; NULL. */
const char *dr_pair(const DrResult *result, const char *name);
/* Whether only we can have written @path: an executable file of our own user. */
bool dr_is_trusted(const char *path);

/* --- registry.c --- */

typedef struct {
    char name[DR_STEP_SIZE]; /* "all/web" */
    int64_t own_ms;          /* -w; 0: none */
    int64_t limit_ms;        /* its DR_TIMEOUT; 0: none */
    bool mobile;             /* registered for pmig */
    char version[DR_NAME_SIZE], date[DR_NAME_SIZE], vendor[DR_NAME_SIZE];
    char resources[DR_VALUE_SIZE], info[DR_VALUE_SIZE];
} DrScript;

typedef struct {
    DrScript scripts[DR_SCRIPTS];
    size_t n;
} DrRegistry;

/* In the order in which they are asked: by file name. Of two of one name that of the host stays. */
bool dr_registry_read(DrRegistry *registry);
/* @host: NULL for all; @limit_ms 0: the script's own. */
DrExit dr_install(const char *file, const char *host, int64_t limit_ms, bool force);
DrExit dr_remove(const char *name, const char *host);
DrExit dr_list(bool json);
DrExit dr_rebuild(void);
int64_t dr_script_limit(const DrScript *script);

/* Names of the programs in directory @path, sorted; returns how many. */
size_t dr_programs(const char *path, char names[][DR_NAME_SIZE], size_t max);

/* --- clock.c --- */

/* Sets the clock @milliseconds (a number as text, may be negative) on. */
DrExit dr_step_clock(const char *milliseconds);

/* --- move.c: what has begun, on disk --- */

typedef enum { DR_PRE, DR_POST, DR_UNDO, DR_WAYS } DrWay;

typedef struct {
    char name[DR_STEP_SIZE];
    bool begun[DR_WAYS], ended[DR_WAYS];
    unsigned tries[DR_WAYS]; /* how often it has begun */
} DrStep;

typedef struct {
    char id[DR_NAME_SIZE], boot[DR_NAME_SIZE];
    char vars[DR_VARS][DR_VALUE_SIZE]; /* "LPM_SOURCE=system-a" */
    size_t n_vars;
    DrStep steps[DR_STEPS]; /* in the order in which pre began */
    size_t n;
    bool on_disk;
    bool pre_over;     /* pre went through its whole list */
    bool finished;     /* nothing will be done for it any more */
    DrWay finished_as; /* DR_POST or DR_UNDO */
    int fd;
} DrMove;

/* What is known of @id; one that is not on disk is empty. */
bool dr_move_read(DrMove *move, const char *id);
/* Puts it on disk, with its variables. */
bool dr_move_begin(DrMove *move);
/* Durable when this returns true. */
bool dr_move_note_begin(DrMove *move, DrWay way, const char *step);
bool dr_move_note_end(DrMove *move, DrWay way, const char *step, const DrResult *result);
bool dr_move_note_pre_over(DrMove *move);
bool dr_move_finish(DrMove *move, DrWay way);
void dr_move_close(DrMove *move);
/* Ids on disk that are not finished, and removes all but the newest finished ones. */
size_t dr_moves_open(char ids[][DR_NAME_SIZE], size_t max);
DrStep *dr_move_step(DrMove *move, const char *name); /* NULL */

/* --- phases.c --- */

typedef struct {
    const char *phase; /* "check", "pre", "post", "undo", "watch", "takeover" */
    const char *id;
    bool force;
    int detail;
    int64_t limit_ms; /* of the whole phase; 0: only the scripts' own */
    char vars[DR_VARS][DR_VALUE_SIZE];
    size_t n_vars;
    const char *only[DR_ONLY]; /* names of the scripts that are called in "watch" and "takeover" */
    size_t n_only;
} DrRequest;

DrExit dr_phase(const DrRequest *request);
/* Undoes, or finishes, moves that a crash of this system has cut; @all: also those of this boot. */
DrExit dr_settle(bool all);
DrExit dr_status(void);

/* --- calls.c: one script, one hook, one event --- */

typedef struct {
    const DrRequest *request;
    DrMove *move;
    int64_t deadline_ms; /* monotonic; 0: none */
} DrCalls;

/* Each runs it, tells the result as a line, and returns whether it said yes. */
bool dr_call_script(DrCalls *calls, const DrScript *script, const char *action, DrResult *result);
bool dr_call_hook(DrCalls *calls, const char *name, const char *phase, DrResult *result);
/* Whether there are programs in events.d. */
bool dr_has_events(void);
/* Tells the programs in events.d; nothing that they do matters. */
void dr_call_events(DrCalls *calls, const char *event);
/* Tells of a script that is not there any more. */
void dr_call_missing(const char *name, const char *action);
