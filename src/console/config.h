/* SPDX-License-Identifier: Apache-2.0 */
/* lpm-console's configuration file (docs/spec/config.md). Unknown groups and keys are errors. */
#pragma once

#include "base/error.h"

#include <stdint.h>

/* [fencing NAME]: how a system is switched off, and when. */
typedef struct {
    char *agent;   /* absolute path of the program */
    char *plug;    /* what it calls the system */
    char **option; /* "key=value" */
    char **secret; /* "key=FILE" */
    int after_s;   /* of being stuck; 0: never by itself */
    int timeout_s;
} LpmFencing;

/* [webhook NAME]: where events are sent. */
typedef struct {
    char *url;     /* https:// or http://, without a password */
    char *secret;  /* file with the key of the signatures */
    char *ca;      /* file of authorities; NULL: those of this machine */
    char **events; /* kinds that are wanted; NULL: all */
    int timeout_s;
    int give_up_s; /* how long one event is tried */
} LpmWebhookConfig;

typedef struct {
    char *state_dir;  /* database, authority, certificate, keys */
    char *name;       /* of this console, in its certificate */
    char **addresses; /* where systems and users reach it; the first one stands in URLs */
    char *listen;     /* address that both ports are opened on */
    uint16_t https_port, rpc_port;
    char *data_dir;       /* processor compatibility modes and emulators */
    int max_moves;        /* of one system at one time, in and out together */
    int max_systems;      /* joined and invited */
    int events_alive_s;   /* so often something is said to those who listen for events */
    int64_t history;      /* ended migrations, and events, that are kept */
    char *takeover;       /* "alarm", or "auto": a lost cluster member's word is enough */
    GHashTable *fencing;  /* name of system -> LpmFencing */
    GHashTable *webhooks; /* name -> LpmWebhookConfig */
} LpmConsoleConfig;

/* USAGE error naming file, group and key; NOT_FOUND when the file is not there. */
LpmConsoleConfig *lpm_console_config_load(const char *file,
                                          GError **error) G_GNUC_WARN_UNUSED_RESULT;
LpmConsoleConfig *lpm_console_config_new(void); /* defaults */
void lpm_console_config_free(LpmConsoleConfig *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LpmConsoleConfig, lpm_console_config_free)

/* Text of a configuration file with what `init` was told. g_free(). */
char *lpm_console_config_text(const LpmConsoleConfig *config);
