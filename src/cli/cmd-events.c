/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include <string.h>

#define RETRY_MAX  120 /* a console that restarts is back well before that */
#define RETRY_USEC 500000

static gboolean follow_option;
static gint64 since_option = -1;
static gint64 count_option;
static char *kinds_option;
static char *object_option;

/* --- one after the other, as they come --- */

typedef struct {
    const Cli *cli;
    int64_t last;  /* number of the last one; -1: none yet */
    int64_t count; /* printed */
    bool heard;    /* something since the connection was made */
    char *kind, *data;
} Follow;

static bool is_enough(const Follow *follow)
{
    return count_option > 0 && follow->count >= count_option;
}

static void print_event(Follow *follow, const json_t *event)
{
    if (follow->cli->json) {
        g_autofree char *text = json_dumps(event, JSON_COMPACT);
        puts(text);
    } else if (strcmp(follow->kind, "lost") == 0) {
        fprintf(stderr, "lpm: events %" PRId64 " to %" PRId64 " are not kept any more\n",
                lpm_json_int(event, "first", 0), lpm_json_int(event, "last", 0));
    } else {
        g_autoptr(GDateTime) utc =
            g_date_time_new_from_unix_utc(lpm_json_int(event, "time_us", 0) / G_USEC_PER_SEC);
        g_autoptr(GDateTime) local = utc != NULL ? g_date_time_to_local(utc) : NULL;
        g_autofree char *time = local != NULL ? g_date_time_format(local, "%F %T") : g_strdup("-");
        printf("%" PRId64 "  %s  %s %s: %s\n", lpm_json_int(event, "number", 0), time, follow->kind,
               lpm_json_str(event, "object", "-"), lpm_json_str(event, "message", ""));
    }
    fflush(stdout);
    follow->count += strcmp(follow->kind, "lost") != 0;
}

/* One line of the stream; false: it is enough. */
static bool take_line(const char *line, void *data)
{
    Follow *follow = data;
    follow->heard = true;
    if (g_str_has_prefix(line, "id: ")) {
        follow->last = g_ascii_strtoll(line + 4, NULL, 10);
    } else if (g_str_has_prefix(line, "event: ")) {
        g_free(follow->kind);
        follow->kind = g_strdup(line + 7);
    } else if (g_str_has_prefix(line, "data: ")) {
        g_free(follow->data);
        follow->data = g_strdup(line + 6);
    } else if (*line == '\0' && follow->data != NULL && follow->kind != NULL) {
        g_autoptr(json_t) event = json_loads(follow->data, 0, NULL);
        if (event != NULL)
            print_event(follow, event);
        g_clear_pointer(&follow->kind, g_free);
        g_clear_pointer(&follow->data, g_free);
    }
    return !is_enough(follow) && !ferror(stdout);
}

static char *stream_path(void)
{
    g_autoptr(GString) path = g_string_new("/v1/events/stream");
    const char *const names[] = {"kinds", "object"};
    const char *const values[] = {kinds_option, object_option};
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        if (values[i] != NULL) {
            g_autofree char *escaped = g_uri_escape_string(values[i], NULL, FALSE);
            g_string_append_printf(path, "%c%s=%s", strchr(path->str, '?') != NULL ? '&' : '?',
                                   names[i], escaped);
        }
    return g_strdup(path->str);
}

static bool follow_events(Cli *cli, GError **error)
{
    Follow follow = {.cli = cli, .last = since_option};
    g_autofree char *path = stream_path();
    bool good = true;
    for (unsigned failures = 0; good && !is_enough(&follow) && !ferror(stdout);) {
        g_autofree char *header = follow.last < 0
                                      ? g_strdup("Accept: text/event-stream")
                                      : g_strdup_printf("Last-Event-ID: %" PRId64, follow.last);
        g_autoptr(GError) why = NULL;
        follow.heard = false;
        g_clear_pointer(&follow.kind, g_free);
        g_clear_pointer(&follow.data, g_free);
        if (cli_client_stream(cli->client, path, header, take_line, &follow, &why)) {
            g_usleep(is_enough(&follow) ? 0 : RETRY_USEC); /* the console has ended it: it stops */
            continue;
        }
        failures = follow.heard ? 1 : failures + 1;
        if (!g_error_matches(why, LPM_ERROR, LPM_ERROR_UNREACHABLE) || failures > RETRY_MAX) {
            g_propagate_error(error, g_steal_pointer(&why));
            good = false;
        } else {
            if (failures == 1)
                fprintf(stderr, "lpm: %s; it is tried again\n", why->message);
            g_usleep(RETRY_USEC);
        }
    }
    g_free(follow.kind);
    g_free(follow.data);
    return good;
}

/* --- those that there are --- */

bool cli_events(Cli *cli, G_GNUC_UNUSED char **words, GError **error)
{
    static const CliColumn columns[] = {
        {"NUMBER", "number", true}, {"KIND", "kind", false}, {"OBJECT", "object", false},
        {"WHAT", "message", false}, {NULL, NULL, false},
    };
    if (follow_option)
        return follow_events(cli, error);
    if (kinds_option != NULL || object_option != NULL || count_option != 0)
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "events: --kinds, --object and --count go with --follow");
    g_autofree char *path = since_option < 0
                                ? g_strdup("/v1/events")
                                : g_strdup_printf("/v1/events?since=%" PRId64, since_option);
    g_autoptr(json_t) list = cli_client_list(cli->client, path, "events", error);
    if (list == NULL)
        return false;
    if (cli->json)
        cli_print_json(list);
    else
        cli_print_table(list, columns, "nothing has happened yet");
    return true;
}

const GOptionEntry cli_events_options[] = {
    {"follow", 0, 0, G_OPTION_ARG_NONE, &follow_option,
     "and what happens, until interrupted; with --json one object a line", NULL},
    {"since", 0, 0, G_OPTION_ARG_INT64, &since_option, "only those with a higher number", "NUMBER"},
    {"kinds", 0, 0, G_OPTION_ARG_STRING, &kinds_option,
     "--follow: only of these kinds (migration, partition, system, ...)", "KIND,KIND"},
    {"object", 0, 0, G_OPTION_ARG_STRING, &object_option,
     "--follow: only of this partition, system or migration", "NAME"},
    {"count", 0, 0, G_OPTION_ARG_INT64, &count_option, "--follow: end after so many", "N"},
    G_OPTION_ENTRY_NULL,
};

/* --- webhooks --- */

static bool webhook_list(Cli *cli, G_GNUC_UNUSED char **words, GError **error)
{
    static const CliColumn columns[] = {
        {"NAME", "name", false},        {"STATE", "state", false},
        {"WAITING", "waiting", true},   {"DELIVERED", "delivered", true},
        {"GIVEN-UP", "given_up", true}, {"LOST", "lost", true},
        {"ATTEMPTS", "attempts", true}, {"URL", "url", false},
        {"ERROR", "error", false},      {NULL, NULL, false},
    };
    g_autoptr(json_t) list = cli_client_list(cli->client, "/v1/webhooks", "webhooks", error);
    if (list == NULL)
        return false;
    if (cli->json)
        cli_print_json(list);
    else
        cli_print_table(list, columns, "the console's configuration has no webhook");
    return true;
}

static bool webhook_retry(Cli *cli, char **words, GError **error)
{
    g_autofree char *path = cli_path("/v1/webhooks/%s/retry", words[0]);
    g_autoptr(json_t) answer = cli_client_call(cli->client, "POST", path, NULL, error);
    if (answer == NULL)
        return false;
    if (cli->json)
        cli_print_json(answer);
    else
        printf("webhook %s: what waits is tried now; %" PRId64 " waiting\n", words[0],
               lpm_json_int(answer, "waiting", 0));
    return true;
}

const CliVerb cli_verbs_webhook[] = {
    {"webhook", "list", "", 0, 0, NULL, false, webhook_list,
     "list where events are sent, and what was not taken"},
    {"webhook", "retry", "NAME", 1, 1, NULL, false, webhook_retry,
     "send now what waits to be sent again"},
    {NULL},
};
