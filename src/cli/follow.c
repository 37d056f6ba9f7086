/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include <glib-unix.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define WAIT_MS    500 /* the console answers earlier when something has changed */
#define RETRY_MAX  40  /* a console that restarts is back well before that */
#define RETRY_USEC 500000
#define BAR_WIDTH  24

static unsigned terminal_width(void)
{
    struct winsize size = {0};
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

/* What holds the move up, besides itself; NULL: nothing does. */
static char *trouble_of(const json_t *migration)
{
    int64_t lost_ms = lpm_json_int(migration, "links.lost_ms", -1);
    const json_t *deaf = lpm_json_at(migration, "waiting_for");
    if (lpm_json_bool(migration, "finished", false))
        return NULL;
    if (json_array_size(deaf) > 0)
        return g_strdup_printf("no word from %s; the move goes on without the console",
                               json_string_value(json_array_get(deaf, 0)));
    if (lost_ms < 0)
        return NULL;
    return g_strdup_printf("link lost %" PRId64
                           " s ago, waiting for it; the partition goes on running",
                           lost_ms / 1000);
}

/* The moving line: phase, bar, rate, what is left, ETA, predicted blackout; only what is known. */
static char *progress_line(const json_t *migration)
{
    const char *phase = lpm_json_str(migration, "phase", NULL);
    double progress = CLAMP(lpm_json_real(migration, "progress", 0), 0, 1);
    int filled = (int)(progress * BAR_WIDTH);
    g_autoptr(GString) line = g_string_new(NULL);
    g_string_append_printf(line, "%-10s [",
                           phase != NULL ? phase : lpm_json_str(migration, "state", "?"));
    for (int i = 0; i < BAR_WIDTH; i++)
        g_string_append_c(line, i < filled ? '#' : '.');
    g_string_append_printf(line, "] %3.0f %%", progress * 100);

    g_autofree char *trouble = trouble_of(migration);
    if (trouble != NULL) {
        g_string_append_printf(line, "  %s", trouble);
        return g_strdup(line->str);
    }
    int64_t rate = lpm_json_int(migration, "rate_bytes", 0);
    int64_t remaining = lpm_json_int(migration, "remaining_bytes", 0);
    if (rate > 0) {
        g_autofree char *rate_text = cli_bytes((double)rate);
        g_string_append_printf(line, "  %s/s", rate_text);
    }
    if (remaining > 0) {
        g_autofree char *left = cli_bytes((double)remaining);
        g_string_append_printf(line, "  %s left", left);
    }
    if (lpm_json_at(migration, "eta_ms") != NULL) {
        g_autofree char *eta = cli_duration((double)lpm_json_int(migration, "eta_ms", 0));
        g_string_append_printf(line, "  ETA %s", eta);
    }
    if (lpm_json_at(migration, "predicted_blackout_ms") != NULL) {
        g_autofree char *blackout =
            cli_duration(lpm_json_real(migration, "predicted_blackout_ms", 0));
        g_string_append_printf(line, "  blackout about %s", blackout);
    }
    g_autofree char *saved = cli_saved(migration, "  ", "");
    g_string_append(line, saved);
    if (lpm_json_int(migration, "convergence.throttle_percent", 0) > 0)
        g_string_append_printf(line, "  slowed by %" PRId64 " %%",
                               lpm_json_int(migration, "convergence.throttle_percent", 0));
    return g_strdup(line->str);
}

static void clear_line(const Cli *cli)
{
    if (cli->terminal)
        fputs("\r\033[K", stderr);
}

/* The verdict, once each time that it is given: what a person may want to do something about. */
static void tell_verdict(const Cli *cli, const json_t *migration, bool *told)
{
    bool bad = strcmp(lpm_json_str(migration, "convergence.state", ""), "does-not-converge") == 0 &&
               g_strcmp0(lpm_json_str(migration, "phase", NULL), "copy") == 0;
    if (bad && !*told && !cli->json) {
        g_autofree char *advice = cli_cell(lpm_json_at(migration, "convergence.advice"));
        clear_line(cli);
        fprintf(stderr,
                "%s: the copy does not converge; what would help: %s (see lpm migration set)\n",
                lpm_json_str(migration, "partition", "?"), advice);
    }
    *told = bad;
}

/* Once, as soon as there is one: before the copy begins. */
static void tell_prediction(const Cli *cli, const json_t *migration, bool *told)
{
    const json_t *prediction = lpm_json_at(migration, "prediction");
    if (*told || cli->json || prediction == NULL)
        return;
    clear_line(cli);
    cli_print_prediction(stderr, prediction);
    *told = true;
}

static void draw(const Cli *cli, const json_t *migration, char **last_step)
{
    if (cli->terminal) {
        g_autofree char *line = progress_line(migration);
        fprintf(stderr, "\r%.*s\033[K", (int)terminal_width() - 1, line);
        fflush(stderr);
        return;
    }
    const char *phase = lpm_json_str(migration, "phase", lpm_json_str(migration, "state", ""));
    bool lost = lpm_json_int(migration, "links.lost_ms", -1) >= 0;
    g_autofree char *step = g_strdup_printf(
        "%s%s", phase, lost ? ": link lost, waiting for it; the partition goes on running" : "");
    if (cli->json || g_strcmp0(step, *last_step) == 0)
        return;
    fprintf(stderr, "%s: %s\n", lpm_json_str(migration, "partition", "?"), step);
    g_free(*last_step);
    *last_step = g_steal_pointer(&step);
}

json_t *cli_follow(Cli *cli, const char *migration, GError **error)
{
    g_autofree char *last_step = NULL;
    bool told = false, predicted = false;
    int64_t revision = -1;
    for (unsigned failures = 0;;) {
        g_autofree char *path = g_strdup_printf("/v1/migrations/%s?since=%" PRId64 "&wait_ms=%d",
                                                migration, revision, revision < 0 ? 0 : WAIT_MS);
        g_autoptr(GError) why = NULL;
        g_autoptr(json_t) answer = cli_client_call(cli->client, "GET", path, NULL, &why);
        if (answer == NULL) {
            bool away = g_error_matches(why, LPM_ERROR, LPM_ERROR_UNREACHABLE);
            if (away && failures++ < RETRY_MAX) {
                g_usleep(RETRY_USEC);
                continue;
            }
            clear_line(cli);
            g_propagate_prefixed_error(
                error, g_steal_pointer(&why),
                "migration %s goes on without the console; ask later with: lpm migration show %s: ",
                migration, migration);
            return NULL;
        }
        failures = 0;
        revision = lpm_json_int(answer, "revision", revision);
        tell_prediction(cli, answer, &predicted);
        tell_verdict(cli, answer, &told);
        draw(cli, answer, &last_step);
        if (lpm_json_bool(answer, "finished", false)) {
            clear_line(cli);
            return g_steal_pointer(&answer);
        }
    }
}

static void print_phases(const json_t *migration)
{
    size_t i;
    json_t *phase;
    json_array_foreach (lpm_json_at(migration, "phases"), i, phase) {
        g_autofree char *ms = cli_duration(lpm_json_real(phase, "ms", 0));
        printf("  %-12s %s\n", lpm_json_str(phase, "name", "?"), ms);
    }
}

static void print_outcome(const json_t *migration)
{
    const char *state = lpm_json_str(migration, "state", "?");
    const char *where =
        lpm_json_str(migration, strcmp(state, "completed") == 0 ? "target" : "source", "?");
    g_autofree char *total = cli_duration(lpm_json_real(migration, "total_ms", 0));
    printf("partition %s: %s; it is on %s\n", lpm_json_str(migration, "partition", "?"), state,
           where);
    printf("migration %s, %s\n", lpm_json_str(migration, "migration", "?"), total);
    if (strcmp(state, "completed") != 0)
        return;
    if (lpm_json_at(migration, "blackout_ms") != NULL) {
        g_autofree char *blackout = cli_duration(lpm_json_real(migration, "blackout_ms", 0));
        g_autofree char *stream = cli_bytes(lpm_json_real(migration, "stream_bytes", 0));
        g_autofree char *wire = cli_bytes(lpm_json_real(migration, "wire_bytes", 0));
        g_autofree char *saved = cli_saved(migration, ", ", "");
        printf("blackout %s; %s of stream, %s on the wire%s\n", blackout, stream, wire, saved);
    }
    if (lpm_json_int(migration, "verify.pages", 0) > 0)
        printf("verified %" PRId64 " pages: %" PRId64 " differed, %" PRId64 " repaired\n",
               lpm_json_int(migration, "verify.pages", 0),
               lpm_json_int(migration, "verify.differing", 0),
               lpm_json_int(migration, "verify.repaired", 0));
    print_phases(migration);
    cli_print_score(migration);
}

bool cli_report_migration(Cli *cli, const json_t *migration, GError **error)
{
    const char *state = lpm_json_str(migration, "state", "?");
    bool completed = strcmp(state, "completed") == 0;
    if (cli->json)
        cli_print_json(migration);
    else {
        cli_print_findings(lpm_json_at(migration, "findings"));
        print_outcome(migration);
    }
    if (completed)
        return true;
    bool refused = strcmp(state, "refused") == 0;
    const char *fallback = refused                         ? "refused"
                           : strcmp(state, "stopped") == 0 ? "aborted"
                                                           : "internal";
    const char *remedy = lpm_json_str(migration, "error.remedy", "");
    return lpm_error_set(
        error, lpm_error_from_name(lpm_json_str(migration, "error.class", fallback)), "%s%s%s",
        lpm_json_str(migration, "error.message",
                     refused ? "validation found errors; nothing was changed" : state),
        *remedy != '\0' ? CLI_REMEDY : "", remedy);
}
