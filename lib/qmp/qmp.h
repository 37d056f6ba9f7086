/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's machine protocol, typed, over one Unix socket with out-of-band commands enabled.
 * Everything is asynchronous on the default main context; each call's function is called exactly
 * once, never from inside the call itself.
 *
 * At most one command is unanswered at any time; others wait here, in order. Two traps make that
 * necessary: QEMU runs what it has read *later* when its main loop was stuck (a late `cont` starts
 * a partition that has moved away), and out-of-band commands are not read any more when eight
 * commands wait in it. After a command has timed out the connection is *doubtful*: what waits is
 * failed unsent, and every call but lpm_qmp_yank() is refused with STATE until lpm_qmp_reconnect().
 */
#pragma once

#include "base/error.h"
#include "base/json.h"

#include <stdint.h>

#define LPM_QMP_TIMEOUT_MS      5000u /* deadline of each command, from when it is sent */
#define LPM_QMP_YANK_TIMEOUT_MS 1000u

typedef struct LpmQmp LpmQmp;

/* "status" of query-status. */
typedef enum {
    LPM_QMP_RUN_UNKNOWN, /* a word that this version does not know; never safe to act on */
    LPM_QMP_RUN_COLO,
    LPM_QMP_RUN_DEBUG,
    LPM_QMP_RUN_FINISH_MIGRATE, /* stopped for the switchover, pre-switchover and device alike */
    LPM_QMP_RUN_GUEST_PANICKED,
    LPM_QMP_RUN_INMIGRATE, /* incoming; `cont` would start it by itself at the end: refused */
    LPM_QMP_RUN_INTERNAL_ERROR,
    LPM_QMP_RUN_IO_ERROR,
    LPM_QMP_RUN_PAUSED,
    LPM_QMP_RUN_POSTMIGRATE, /* source, after "completed" */
    LPM_QMP_RUN_PRELAUNCH,
    LPM_QMP_RUN_RESTORE_VM,
    LPM_QMP_RUN_RUNNING,
    LPM_QMP_RUN_SAVE_VM,
    LPM_QMP_RUN_SHUTDOWN,
    LPM_QMP_RUN_SUSPENDED,
    LPM_QMP_RUN_WATCHDOG,
    LPM_QMP_RUN_N,
} LpmQmpRunState;

/* "status" of query-migrate and of the MIGRATION event. */
typedef enum {
    LPM_QMP_MIG_UNKNOWN,
    LPM_QMP_MIG_NONE, /* none was started, or member absent */
    LPM_QMP_MIG_SETUP,
    LPM_QMP_MIG_ACTIVE,
    LPM_QMP_MIG_PRE_SWITCHOVER,
    LPM_QMP_MIG_DEVICE, /* switchover: neither `cont` nor `migrate_cancel` may be sent, only yank */
    LPM_QMP_MIG_COMPLETED,
    LPM_QMP_MIG_FAILED,
    LPM_QMP_MIG_CANCELLING,
    LPM_QMP_MIG_CANCELLED,
    LPM_QMP_MIG_WAIT_UNPLUG,
    LPM_QMP_MIG_POSTCOPY_ACTIVE,
    LPM_QMP_MIG_POSTCOPY_PAUSED,
    LPM_QMP_MIG_POSTCOPY_RECOVER,
    LPM_QMP_MIG_POSTCOPY_RECOVER_SETUP,
    LPM_QMP_MIG_COLO,
    LPM_QMP_MIG_N,
} LpmQmpMigStatus;

/* QEMU's word for it; "unknown" outside the enum. Static. */
const char *lpm_qmp_run_name(LpmQmpRunState state);
const char *lpm_qmp_mig_name(LpmQmpMigStatus status);
/* UNKNOWN for a word not in the table; lpm_qmp_mig_from_name(NULL) is NONE. */
LpmQmpRunState lpm_qmp_run_from_name(const char *name);
LpmQmpMigStatus lpm_qmp_mig_from_name(const char *name);
/* completed, failed, cancelled: no further MIGRATION event comes. */
bool lpm_qmp_mig_is_final(LpmQmpMigStatus status);

/* --- connection --- */

typedef struct {
    const char
        *name; /* "STOP", "RESUME", "SHUTDOWN", "RESET", "MIGRATION", "MIGRATION_PASS", ... */
    int64_t realtime_us; /* QEMU's own time of the event, since 1970-01-01 UTC */
    json_t *data;        /* borrowed; an empty object when the event has none */
} LpmQmpEvent;

typedef void (*LpmQmpOnEvent)(const LpmQmpEvent *event, void *data);
/* The connection ended otherwise than by lpm_qmp_free() or lpm_qmp_reconnect(): mostly, QEMU is
 * gone. Called once for each connection, after its outstanding calls have failed. Freeing the
 * LpmQmp in it is allowed. */
typedef void (*LpmQmpOnClosed)(const GError *error, void *data);
typedef void (*LpmQmpConnected)(LpmQmp *qmp, const GError *error,
                                void *data); /* @qmp is given away */
typedef void (*LpmQmpDone)(const GError *error, void *data);

typedef struct {
    LpmQmpOnEvent event;   /* may be NULL */
    LpmQmpOnClosed closed; /* may be NULL */
    void *data;
} LpmQmpHandlers;

/*
 * Connects to the socket at @path, reads the greeting and enables out-of-band commands. A socket
 * that is not there yet or refuses is tried again until @timeout_ms have passed (QEMU may just be
 * starting); then UNREACHABLE. A socket that accepts and says nothing (somebody else is connected:
 * QEMU serves one at a time; or it is stopped) is TIMEOUT. A QEMU without out-of-band commands on
 * this socket is UNSUPPORTED. No handler runs before @done; @handlers is copied. The attempt cannot
 * be called off; it ends by its deadline.
 */
void lpm_qmp_connect(const char *path, unsigned timeout_ms, const LpmQmpHandlers *handlers,
                     LpmQmpConnected done, void *done_data);
/* Outstanding calls are failed with ABORTED before this returns; nothing is called afterwards. NULL
 * is fine. */
void lpm_qmp_free(LpmQmp *qmp);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LpmQmp, lpm_qmp_free)

bool lpm_qmp_is_open(const LpmQmp *qmp);
bool lpm_qmp_is_doubtful(const LpmQmp *qmp);
/*
 * Drops the connection (QEMU forgets what it has read but not begun) and connects anew, same
 * handlers. Where a move may be stuck, lpm_qmp_yank() comes first: while QEMU's main loop hangs it
 * greets no new connection (TIMEOUT), and only closing the other end of the migration's socket
 * frees it then. Events may have been missed: read the state afterwards. On failure @qmp is closed
 * and stays doubtful; it may be tried again.
 */
void lpm_qmp_reconnect(LpmQmp *qmp, unsigned timeout_ms, LpmQmpDone done, void *data);
/* Deadline of commands sent from now on, in place of LPM_QMP_TIMEOUT_MS. */
void lpm_qmp_set_timeout(LpmQmp *qmp, unsigned timeout_ms);

typedef struct {
    unsigned major, minor, micro;
    const char *package; /* distribution's, e.g. "Debian 1:10.0.2+ds-2~bpo12+1"; may be "" */
} LpmQmpVersion;

/* From the greeting; borrowed, valid until reconnect or free. */
const LpmQmpVersion *lpm_qmp_version(const LpmQmp *qmp);
/* Last status that an event or an answer told; UNKNOWN/NONE before the first. For messages, not for
 * decisions. */
LpmQmpMigStatus lpm_qmp_last_migration(const LpmQmp *qmp);

/* --- any command --- */

/* Same as LpmRpcReply. An error that QEMU gave has code QEMU (UNSUPPORTED when it does not know the
 * command). */
typedef void (*LpmQmpReply)(json_t *result, const GError *error, void *data);

/* @arguments is stolen, NULL for none. `cont` and `migrate_cancel` are refused here: they have
 * functions of their own. */
void lpm_qmp_call(LpmQmp *qmp, const char *command, json_t *arguments, LpmQmpReply reply,
                  void *data);
/* lpm_qmp_call() waited for; for tests and start-up probes only. New reference, or NULL with
 * @error. */
json_t *lpm_qmp_call_sync(LpmQmp *qmp, const char *command, json_t *arguments,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* lpm_qmp_connect() waited for; likewise. */
LpmQmp *lpm_qmp_connect_sync(const char *path, unsigned timeout_ms, const LpmQmpHandlers *handlers,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* --- state --- */

typedef struct {
    LpmQmpRunState state;
    bool running;
} LpmQmpStatus;

/* Members that QEMU left out are 0; times in ms, -1 when left out. Bytes unless said otherwise. */
typedef struct {
    LpmQmpMigStatus status;
    uint64_t transferred, remaining, total;
    uint64_t zero_pages, normal_pages, page_size;
    uint64_t dirty_pages_rate; /* pages a second */
    uint64_t dirty_sync_count; /* passes */
    uint64_t throttle_percent; /* by which auto-converge slows the processors down */
    double mbps;
    int64_t total_time_ms, setup_time_ms, downtime_ms, expected_downtime_ms;
    const char *error_desc; /* NULL: none */
    json_t *raw;            /* the whole answer */
} LpmQmpMigration;

typedef void (*LpmQmpStatusReply)(const LpmQmpStatus *status, const GError *error, void *data);
typedef void (*LpmQmpMigrationReply)(const LpmQmpMigration *migration, const GError *error,
                                     void *data);
/* Both at once, as decisions need them. */
typedef void (*LpmQmpStateReply)(const LpmQmpStatus *status, const LpmQmpMigration *migration,
                                 const GError *error, void *data);

void lpm_qmp_query_status(LpmQmp *qmp, LpmQmpStatusReply reply, void *data);
void lpm_qmp_query_migrate(LpmQmp *qmp, LpmQmpMigrationReply reply, void *data);
void lpm_qmp_query_state(LpmQmp *qmp, LpmQmpStateReply reply, void *data);

/* --- running --- */

/*
 * `cont`, guarded: reads query-status and query-migrate on this connection first, and sends
 * nothing, with a STATE error, unless the run state is @expected (UNKNOWN: any of paused,
 * postmigrate, prelaunch, suspended, io-error, running) and no switchover or incoming move is under
 * way. For the target of a move @expected is PAUSED, for the source POSTMIGRATE.
 */
void lpm_qmp_cont(LpmQmp *qmp, LpmQmpRunState expected, LpmQmpDone done, void *data);
/*
 * The same without the question before, for a target that has said "completed" and was found
 * paused since: only what is sent here can change that. Saves a round trip while the partition
 * stands still. With any other last word of its migration it asks as above.
 */
void lpm_qmp_cont_loaded(LpmQmp *qmp, LpmQmpDone done, void *data);
void lpm_qmp_stop(LpmQmp *qmp, LpmQmpDone done, void *data);
/* The connection closes after the answer: @closed is called too. */
void lpm_qmp_quit(LpmQmp *qmp, LpmQmpDone done, void *data);
void lpm_qmp_system_powerdown(LpmQmp *qmp, LpmQmpDone done, void *data);
void lpm_qmp_system_reset(LpmQmp *qmp, LpmQmpDone done, void *data);
void lpm_qmp_system_wakeup(LpmQmp *qmp, LpmQmpDone done, void *data);

/* --- moving --- */

/* A wish; rows end with one of name NULL. What QEMU does not know is left out, or UNSUPPORTED when
 * @required. */
typedef struct {
    const char *name;
    bool on;
    bool required;
} LpmQmpCapability;

typedef struct {
    const char *name;
    int64_t value; /* booleans: 0 or 1 */
    bool required;
} LpmQmpParameter;

/* What both sides of every move need: events, return-path, pause-before-switchover,
 * late-block-activate. */
extern const LpmQmpCapability lpm_qmp_move_capabilities[];

/* Asks QEMU what it knows, then sets all of @wanted in one command; copied. */
void lpm_qmp_set_capabilities(LpmQmp *qmp, const LpmQmpCapability *wanted, LpmQmpDone done,
                              void *data);
/* lpm_qmp_move_capabilities and @more in one command. */
void lpm_qmp_set_move_capabilities(LpmQmp *qmp, const LpmQmpCapability *more, LpmQmpDone done,
                                   void *data);
void lpm_qmp_set_parameters(LpmQmp *qmp, const LpmQmpParameter *wanted, LpmQmpDone done,
                            void *data);
/* Object {"capabilities": [name...], "parameters": [name...]} of what this QEMU knows. */
void lpm_qmp_query_migration_features(LpmQmp *qmp, LpmQmpReply reply, void *data);

/* Hands over a copy of @fd under @name; @fd stays the caller's and may be closed after this
 * returns. */
void lpm_qmp_getfd(LpmQmp *qmp, const char *name, int fd, LpmQmpDone done, void *data);
/* getfd, then migrate / migrate-incoming to "fd:". Only begins: MIGRATION events tell the rest. */
void lpm_qmp_migrate_fd(LpmQmp *qmp, int fd, LpmQmpDone done, void *data);
void lpm_qmp_migrate_incoming_fd(LpmQmp *qmp, int fd, LpmQmpDone done, void *data);
/*
 * Post-copy that is paused. The target's QEMU listens at @uri ("unix:...") for the new connection:
 * out of band, also on a doubtful connection, since its main loop may itself wait for memory. The
 * source's goes on with @fd.
 */
void lpm_qmp_migrate_recover(LpmQmp *qmp, const char *uri, LpmQmpDone done, void *data);
void lpm_qmp_migrate_resume_fd(LpmQmp *qmp, int fd, LpmQmpDone done, void *data);
/* Same with a URI that QEMU understands ("unix:...", "exec:..."); for tests and measurements. */
void lpm_qmp_migrate(LpmQmp *qmp, const char *uri, LpmQmpDone done, void *data);
void lpm_qmp_migrate_incoming(LpmQmp *qmp, const char *uri, LpmQmpDone done, void *data);
/* From pre-switchover on to device. */
void lpm_qmp_migrate_continue(LpmQmp *qmp, LpmQmpDone done, void *data);
/* Ends copying where it is: QEMU stops (pre-switchover), and sends memory on demand afterwards. */
void lpm_qmp_migrate_start_postcopy(LpmQmp *qmp, LpmQmpDone done, void *data);
/* postcopy-active, postcopy-paused, or one of the two on the way between them. */
bool lpm_qmp_mig_is_postcopy(LpmQmpMigStatus status);
/* Guarded like lpm_qmp_cont(): STATE unless query-migrate says setup, active, pre-switchover or
 * wait-unplug. */
void lpm_qmp_migrate_cancel(LpmQmp *qmp, LpmQmpDone done, void *data);
/*
 * Out-of-band yank of the migration's connection: works while QEMU's main loop is stuck and on a
 * doubtful connection. The move fails and QEMU resumes by itself; wait for the final event. STATE
 * when there is no migration to yank.
 */
void lpm_qmp_yank(LpmQmp *qmp, LpmQmpDone done, void *data);
/* GARP/RARP on every network device: @rounds, the first after @initial_ms, @step_ms more each time
 * up to @max_ms. */
void lpm_qmp_announce_self(LpmQmp *qmp, unsigned initial_ms, unsigned max_ms, unsigned rounds,
                           unsigned step_ms, LpmQmpDone done, void *data);

/* --- asking --- */

typedef void (*LpmQmpText)(const char *text, const GError *error, void *data);
typedef void (*LpmQmpNumber)(uint64_t value, const GError *error, void *data);

/* A human monitor command; its answer as text. QEMU reports mistakes in the text, not as an error.
 */
void lpm_qmp_hmp(LpmQmp *qmp, const char *command_line, LpmQmpText reply, void *data);
/* POWER: the processor compatibility register of the current processor (lib/compat decodes it). */
void lpm_qmp_query_pcr(LpmQmp *qmp, LpmQmpNumber reply, void *data);
/* "name" and "uuid" of this QEMU in one object; absent members where QEMU was not given any. */
void lpm_qmp_query_identity(LpmQmp *qmp, LpmQmpReply reply, void *data);
/* Array of names that QEMU knows of the machine types, aliases included. */
void lpm_qmp_query_machines(LpmQmp *qmp, LpmQmpReply reply, void *data);
/* The expanded "model" object: "name" and "props". @type "full" or "static"; @props is stolen, may
 * be NULL. */
void lpm_qmp_query_cpu_model_expansion(LpmQmp *qmp, const char *type, const char *model,
                                       json_t *props, LpmQmpReply reply, void *data);
/* Array of QOM type names that implement @implements (NULL: all), abstract ones left out. */
void lpm_qmp_qom_list_types(LpmQmp *qmp, const char *implements, LpmQmpReply reply, void *data);
/* QEMU's arrays as they are. */
void lpm_qmp_device_list_properties(LpmQmp *qmp, const char *type, LpmQmpReply reply, void *data);
void lpm_qmp_query_chardev(LpmQmp *qmp, LpmQmpReply reply, void *data);
void lpm_qmp_query_block(LpmQmp *qmp, LpmQmpReply reply, void *data);
void lpm_qmp_query_pci(LpmQmp *qmp, LpmQmpReply reply, void *data);
