/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lpm-console from the inside: what its parts share. One thread, one main loop. Whatever takes time
 * has a function that is called at its end, exactly once.
 */
#pragma once

#include "base/clock.h"
#include "compat/compat.h"
#include "config.h"
#include "http/http.h"
#include "rpc/rpc.h"
#include "store/store.h"
#include "tls/tls.h"

typedef struct {
    LpmConsoleConfig *config;
    const LpmClock *clock;
    LpmStore *store;
    LpmTlsCredentials *credentials;
    char *ca_pem;
    LpmCompat *compat;
    LpmRpcServer *rpc;
    LpmHttpServer *http;
    GHashTable *systems;      /* name -> LpmSystem (systems.h), owned */
    GHashTable *moves;        /* migration id -> LpmMove (moves.h), owned */
    GHashTable *considered;   /* migration id -> what takeover.c looks at now, borrowed */
    GHashTable *creating;     /* names of partitions that are being created, owned */
    GHashTable *users;        /* hash of API token -> name, owned; filled from the store */
    GList *listeners;         /* of events as they come; listen.h */
    guint listeners_idle;     /* they are told soon; 0: not */
    GHashTable *webhooks;     /* name -> what webhook.c keeps of it, owned; NULL: not open */
    guint webhooks_idle;      /* they are looked at soon; 0: not */
    struct LpmPoster *poster; /* post.h */
    bool moves_missed;        /* a system told of a move with one that is not known here (yet) */
    int64_t last_event;       /* number of the newest event */
    int64_t joins_allowed_us; /* rate limit of join: time up to which attempts are spent */
} LpmConsole;

/* Kinds in the store. */
#define LPM_KIND_SYSTEM    "system"    /* key name: address, port, joined_us; or invited only */
#define LPM_KIND_JOIN      "join"      /* key name of system: hash of its token, expires_us */
#define LPM_KIND_TOKEN     "token"     /* key SHA-256 of an API token: name, created_us */
#define LPM_KIND_MIGRATION "migration" /* key migration id: moves.h */
#define LPM_KIND_FACTS     "facts"     /* key migration id: what its validation saw */
#define LPM_KIND_DISCARD   "discard"   /* key system/migration: it must still be told to discard */
#define LPM_KIND_EVENT     "event"     /* key number, 16 digits */
#define LPM_KIND_WEBHOOK   "webhook"   /* key name: what it has been sent, webhook.c */
#define LPM_KIND_RECORD    "record"    /* key UUID: ownership record of arbiter "console" */

/* Opens everything and serves until @loop ends; loads what the store knows. */
LpmConsole *lpm_console_open(LpmConsoleConfig *config, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void lpm_console_close(LpmConsole *console);

/* init.c: makes a new console in config->state_dir; @write_config: its console.conf too. EXISTS
 * when there is one. */
bool lpm_console_init(const LpmConsoleConfig *config, bool write_config,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* init.c: a new certificate for the console in config->state_dir, with the same key and name; in
 * use from its next start. */
bool lpm_console_renew(const LpmConsoleConfig *config, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* events.c: a line in the log and in GET /v1/events. @kind: one of kinds.c. @user may be NULL. */
void lpm_event_add(LpmConsole *console, const char *kind, const char *object, const char *user,
                   const char *format, ...) G_GNUC_PRINTF(5, 6);
bool lpm_events_load(LpmConsole *console, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The first @limit of those above @after, the oldest first. NULL with @error. */
json_t *lpm_events_after(LpmConsole *console, int64_t after, int64_t limit,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Those above @since, at most the newest @limit, the oldest first. NULL with @error. */
json_t *lpm_events_list(LpmConsole *console, int64_t since, int64_t limit,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* secret.c */
/* The first line of a file that is nobody else's; NULL with @error, which never has the value. */
char *lpm_secret_read(const char *file, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Wipes it, too. NULL is fine. */
void lpm_secret_free(gpointer secret);

/* auth.c */
/* A new API token for @name, "LPMT-...": only its hash is kept. g_free(). */
char *lpm_auth_token_new(LpmStore *store, const LpmClock *clock, const char *name,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool lpm_auth_load(LpmConsole *console, GError **error) G_GNUC_WARN_UNUSED_RESULT;
const char *lpm_auth_who(const char *token, void *console);
/* SHA-256 of @text, hexadecimal. g_free(). */
char *lpm_auth_hash(const char *text);

/* join.c, arbiter.c: rows of the console's RPC verbs; each ends with a row of name NULL. */
extern const LpmRpcVerb lpm_join_verbs[];
extern const LpmRpcVerb lpm_arbiter_verbs[];
/* Makes the one-time token that lets a system named @name join. g_free(). */
char *lpm_join_token_new(LpmConsole *console, const char *name, int64_t *ret_expires_us,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;
