/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the command line share: the verb table, the connection to the console, tables
 * for people. */
#pragma once

#include "base/error.h"
#include "base/json.h"

#include <inttypes.h>
#include <stdio.h>

typedef struct CliClient CliClient;

/* In a message: what follows says what to do. */
#define CLI_REMEDY "\n  what to do: "

typedef struct {
    CliClient *client;
    bool json;     /* programs read us: one JSON value on stdout, nothing else there */
    bool terminal; /* a person watches stderr: draw a moving progress line */
} Cli;

/* One verb: "GROUP NAME", its options, how many words it takes. A row of name NULL ends the table.
 */
typedef struct {
    const char *group; /* NULL: the verb stands alone, as `lpm migrate` */
    const char *name;
    const char *words; /* as shown in help, e.g. "PARTITION TARGET" */
    int min_words;
    int max_words;               /* -1: any number */
    const GOptionEntry *options; /* may be NULL; storage is static in the verb's file */
    bool offline;                /* needs no console */
    bool (*run)(Cli *cli, char **words, GError **error);
    const char *help;
} CliVerb;

extern const CliVerb cli_verbs_system[];
extern const CliVerb cli_verbs_partition[];
extern const CliVerb cli_verbs_profile[];
extern const CliVerb cli_verbs_mobility[];
extern const CliVerb cli_verbs_migration[];
extern const CliVerb cli_verbs_store[];
extern const CliVerb cli_verbs_cluster[];
extern const CliVerb cli_verbs_other[];
/* All of the above; ends with NULL. */
extern const CliVerb *const cli_verb_tables[];

/* Adds MEMBER=VALUE to @changes: VALUE is JSON where it reads as JSON, else a string. */
bool cli_add_change(json_t *changes, const char *word, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* --- connection --- */

/*
 * Reads the client file (@path, else $LPM_CONFIG, else ~/.config/openlpm/admin.conf, else
 * /etc/openlpm/admin.conf). NULL with @error that names the files tried and says how to get one.
 */
CliClient *cli_client_new(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void cli_client_free(CliClient *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CliClient, cli_client_free)

/*
 * One request. @path is below the console's URL and already escaped; @body is stolen, NULL for
 * none. New reference to the answer, or NULL with the console's own error. The remedy is appended
 * to the message.
 */
json_t *cli_client_call(CliClient *client, const char *method, const char *path, json_t *body,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The next request may take @seconds (of an option that was given), and is not given up before. */
void cli_client_expect(CliClient *client, int seconds);
/* GETs @path and hands out the array @member of the answer, a new reference; NULL with @error, also
 * when there is no such array. */
json_t *cli_client_list(CliClient *client, const char *path, const char *member,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* One line of an answer without an end; false: that is enough. */
typedef bool (*CliClientLine)(const char *line, void *data);
/* GETs @path with the header line @header and hands out the lines of a good answer as they come.
 * True when @line had enough or the console ended it; false with @error. */
bool cli_client_stream(CliClient *client, const char *path, const char *header, CliClientLine line,
                       void *data, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* "/v1/a/NAME/b" with @name escaped; g_free(). */
char *cli_path(const char *format, const char *name);

/* --- output --- */

typedef struct {
    const char *title;
    const char *path; /* of the value in a row, see lpm_json_at() */
    bool right;
} CliColumn;

/* The whole answer as JSON, indented on a terminal. */
void cli_print_json(const json_t *value);
/* Whether it has been called: a failure then prints no second value. */
bool cli_json_was_printed(void);
/* An array of objects as a table with headings; @empty is said when there is none. */
void cli_print_table(const json_t *rows, const CliColumn *columns, const char *empty);
/* "name: value" lines of one object by columns. */
void cli_print_fields(const json_t *object, const CliColumn *columns);
void cli_print_findings(const json_t *findings);
/* Text of a scalar for a cell: "-" for null. g_free(). */
char *cli_cell(const json_t *value);
/* "1.5 GB", "118 MB"; g_free(). */
char *cli_bytes(double bytes);
/* "saved 94 %" of a migration with @before and @after around it; "" below 1 %. g_free(). */
char *cli_saved(const json_t *migration, const char *before, const char *after);
/* "0.4 s", "35 ms", "2 min 5 s"; g_free(). */
char *cli_duration(double ms);

/* What a move will cost, or would, in a line or two; nothing when it is null (cmd-predict.c). */
void cli_print_prediction(FILE *out, const json_t *prediction);
/* The answer of a validation against several systems, side by side. */
void cli_print_targets(const json_t *answer);
/* What was predicted of a move that has ended, and what came; nothing when it is null. */
void cli_print_score(const json_t *migration);

/* --- arguments --- */

/* Bytes a second of "12M", "12MB/s" or "100mbit"; k, M, G are powers of 1000. USAGE shows it. */
bool cli_rate(const char *text, int64_t *ret_rate, GError **error);

/* --- following a move --- */

/*
 * Follows @migration until it has finished, drawing progress on stderr. New reference to the final
 * object; NULL with
 * @error when the console could not be asked any more (the move goes on without us).
 */
json_t *cli_follow(Cli *cli, const char *migration, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Prints the result; false with an error that carries the class of the move's own error unless it
 * completed. */
bool cli_report_migration(Cli *cli, const json_t *migration,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* --- events (cmd-events.c) --- */

extern const GOptionEntry cli_events_options[];
bool cli_events(Cli *cli, char **words, GError **error);

extern const CliVerb cli_verbs_webhook[];

/* --- recovering (cmd-recover.c) --- */

extern const GOptionEntry cli_recover_options[];
bool cli_migration_recover(Cli *cli, char **words, GError **error);
/* What is known of a move that waits, what is not, what may be done; and the words given so far. */
void cli_print_situation(const json_t *migration);
/* What the scripts in the partition said to it. */
void cli_print_scripts(const json_t *migration);
