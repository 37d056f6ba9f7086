/* SPDX-License-Identifier: Apache-2.0 */
/* The systems of this console: one RPC connection each, made again with back-off for as long as the
 * system is ours. */
#pragma once

#include "console.h"

typedef enum {
    LPM_SYSTEM_INVITED, /* has a token, has not joined */
    LPM_SYSTEM_CONNECTING,
    LPM_SYSTEM_CONNECTED, /* answered system-info on this connection */
    LPM_SYSTEM_UNREACHABLE,
} LpmSystemState;

/* What was measured over the RPC connection; docs/spec/facts.md, rpc.source. */
typedef struct {
    bool answered;
    int64_t round_trip_us;
    int64_t clock_offset_us; /* the system's clock minus ours */
} LpmLink;

typedef struct {
    unsigned refs;
    LpmConsole *console; /* NULL once the system was forgotten */
    char *name;
    char *address; /* NULL: invited only */
    uint16_t port;
    LpmSystemState state;
    char *error; /* why it is unreachable; NULL */
    LpmRpcClient *client;
    unsigned attempt; /* number of the newest attempt to connect; older ones are dropped */
    guint retry;
    unsigned backoff_ms;
    bool again; /* a connection that worked was lost, and the first attempt after it is not over */
    GSList *waiting; /* questions that wait for its end */
    LpmLink link;
    int64_t
        silent_us; /* monotonic: when it last left a question of the fleet's unanswered; 0: never */
    json_t *facts; /* last system-info; NULL */
    json_t *partitions; /* last partition-list, an array; NULL */
} LpmSystem;

LpmSystem *lpm_system_ref(LpmSystem *system);
void lpm_system_unref(LpmSystem *system); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LpmSystem, lpm_system_unref)

/* Fills console->systems from the store and begins to connect. */
bool lpm_systems_load(LpmConsole *console, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* NOT_FOUND names it. Borrowed. */
LpmSystem *lpm_systems_find(LpmConsole *console, const char *name, GError **error);
/* The same, and UNREACHABLE with the reason when it is not connected. */
LpmSystem *lpm_systems_need(LpmConsole *console, const char *name, GError **error);
/* A name was invited; no change for one that has joined. */
void lpm_systems_invited(LpmConsole *console, const char *name);
/* A system has joined (again): connects to where it is now. Written down already. */
void lpm_systems_joined(LpmConsole *console, const char *name, const char *address, uint16_t port);
/* Forgets it, also in the store. */
bool lpm_systems_forget(LpmConsole *console, const char *name,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Names in order; free the list, not the names. */
GList *lpm_systems_names(LpmConsole *console);

const char *lpm_system_state_name(LpmSystemState state);
json_t *lpm_system_to_json(const LpmSystem *system); /* without facts; new reference */

/* As lpm_rpc_call(); UNREACHABLE, never from inside the call, when it is not connected. */
void lpm_system_call(LpmSystem *system, const char *verb, json_t *arguments, unsigned timeout_ms,
                     LpmRpcReply reply, void *data);

/* The same for a verb that changes nothing: when the connection turns out to be dead it is made
 * anew and the question asked once more, before anybody hears that the system cannot be reached. */
void lpm_system_ask(LpmSystem *system, const char *verb, json_t *arguments, unsigned timeout_ms,
                    LpmRpcReply reply, void *data);

/* The same, and where there is no connection one is tried now, whatever was seen before: for those
 * who must know that a system does not answer. */
void lpm_system_ask_now(LpmSystem *system, const char *verb, json_t *arguments, unsigned timeout_ms,
                        LpmRpcReply reply, void *data);

/* @facts (system-info) is borrowed, NULL when the system did not answer; @error says why. */
typedef void (*LpmSystemMeasured)(json_t *facts, const LpmLink *link, const GError *error,
                                  void *data);
/* Asks for system-info three times and takes the clock from the fastest answer. */
void lpm_system_measure(LpmSystem *system, LpmSystemMeasured done, void *data);
