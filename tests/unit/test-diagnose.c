/* SPDX-License-Identifier: Apache-2.0 */
/* What is said about a partition whose software cannot be reached, by what was seen. */
#include "qga/clock.h"
#include "qga/diagnose.h"

#include <string.h>

#define ALL                                                                                        \
    "{\"guest-exec\":true,\"guest-exec-status\":true,\"guest-shutdown\":true,"                     \
    "\"guest-get-time\":true,\"guest-set-time\":true,\"guest-get-osinfo\":true}"

/* A partition in which everything is as it should be; rows change it. */
static LpmRmcSeen healthy(void)
{
    return (LpmRmcSeen){
        .partition = "web1",
        .has_channel = true,
        .profile_has = true,
        .running = true,
        .port_open = 1,
        .asked = true,
        .agent_version = "7.2.5",
        .os_name = "Debian GNU/Linux 12 (bookworm)",
        .drmgr_asked = true,
        .drmgr_said = "lpm-drmgr 0.2.0",
        .own_version = "0.2.0",
    };
}

/* As "channel:ok running:missing ..." */
static char *results_of(const json_t *answer)
{
    GString *text = g_string_new(NULL);
    json_t *step;
    size_t i;

    json_array_foreach (lpm_json_at(answer, "steps"), i, step) {
        g_string_append_printf(text, "%s%s:%s", i > 0 ? " " : "", lpm_json_str(step, "step", "?"),
                               lpm_json_str(step, "result", "?"));
    }
    return g_string_free(text, FALSE);
}

/* @part must be in the words or the remedy of @step. */
static void expect(const LpmRmcSeen *seen, const char *commands, const char *verdict,
                   const char *results, const char *step, const char *part)
{
    g_autoptr(json_t) list = commands ? json_loads(commands, 0, NULL) : NULL;
    LpmRmcSeen copy = *seen;
    g_autofree char *got = NULL;
    g_autofree char *words = NULL;
    json_t *row;
    size_t i;

    copy.commands = list;
    g_autoptr(json_t) answer = lpm_rmc_diagnose(&copy);

    got = results_of(answer);
    g_assert_cmpstr(got, ==, results);
    g_assert_cmpstr(lpm_json_str(answer, "verdict", NULL), ==, verdict);
    json_array_foreach (lpm_json_at(answer, "steps"), i, row) {
        if (strcmp(lpm_json_str(row, "step", ""), step) == 0) {
            words = lpm_json_text(row);
        }
        if (strcmp(lpm_json_str(row, "result", ""), "missing") == 0) {
            g_assert_nonnull(lpm_json_str(row, "remedy", NULL));
        }
    }
    if (!words || !strstr(words, part)) {
        g_error("step %s: '%s' is not in %s", step, part, words ? words : "nothing");
    }
}

#define NOT_AFTER "running:unknown agent:unknown commands:unknown lpm-drmgr:unknown"

static void test_healthy(void)
{
    LpmRmcSeen seen = healthy();

    expect(&seen, ALL, "ok", "channel:ok running:ok agent:ok commands:ok lpm-drmgr:ok", "agent",
           "7.2.5");
}

static void test_channel(void)
{
    LpmRmcSeen seen = healthy();

    seen.has_channel = seen.profile_has = seen.asked = seen.drmgr_asked = false;
    expect(&seen, NULL, "broken", "channel:missing " NOT_AFTER, "channel", "guest_agent=true");
    seen.profile_has = true;
    expect(&seen, NULL, "broken", "channel:missing " NOT_AFTER, "channel",
           "lpm partition restart web1");
}

static void test_not_running(void)
{
    LpmRmcSeen seen = healthy();

    seen.running = seen.asked = seen.drmgr_asked = false;
    expect(&seen, NULL, "broken",
           "channel:ok running:missing agent:unknown commands:unknown lpm-drmgr:unknown", "running",
           "lpm partition start web1");
}

static void test_agent(void)
{
    static const struct {
        int open;
        const char *part;
    } rows[] = {
        {0, "apt-get install qemu-guest-agent"},
        {1, "systemctl restart qemu-guest-agent"},
        {-1, "dnf install qemu-guest-agent"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        LpmRmcSeen seen = healthy();

        seen.agent_error = "no answer within 1500 ms";
        seen.drmgr_asked = false;
        seen.port_open = rows[i].open;
        expect(&seen, NULL, "broken",
               "channel:ok running:ok agent:missing commands:unknown lpm-drmgr:unknown", "agent",
               rows[i].part);
    }
}

static void test_commands(void)
{
    static const struct {
        const char *commands, *verdict, *result, *part;
    } rows[] = {
        {"{\"guest-exec\":false,\"guest-exec-status\":true,\"guest-shutdown\":true,"
         "\"guest-get-time\":true,\"guest-set-time\":true,\"guest-get-osinfo\":true}",
         "broken", "missing", "does not allow: guest-exec (scripts"},
        {"{\"guest-exec\":true,\"guest-exec-status\":true,\"guest-shutdown\":true,"
         "\"guest-get-time\":true,\"guest-set-time\":false,\"guest-get-osinfo\":true}",
         "limited", "warning", "--block-rpcs"},
        {"{\"guest-exec\":true,\"guest-exec-status\":true,\"guest-shutdown\":true,"
         "\"guest-get-time\":true,\"guest-set-time\":true}",
         "limited", "warning", "too old for: guest-get-osinfo"},
        {"{}", "broken", "missing", "install a current qemu-guest-agent"},
        {NULL, "limited", "warning", "does not say"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        LpmRmcSeen seen = healthy();
        bool stuck = strcmp(rows[i].result, "missing") == 0;
        g_autofree char *results =
            g_strdup_printf("channel:ok running:ok agent:ok commands:%s lpm-drmgr:%s",
                            rows[i].result, stuck ? "unknown" : "ok");

        expect(&seen, rows[i].commands, rows[i].verdict, results, "commands", rows[i].part);
    }
}

static void test_drmgr(void)
{
    static const struct {
        const char *error, *said;
        int status;
        const char *result, *part;
    } rows[] = {
        {"Failed to execute child process", NULL, 0, "warning", "packaging/guest-package"},
        {NULL, "", 127, "warning", "exit status 127"},
        {NULL, "something else", 0, "warning", "does not say what it is"},
        {NULL, "lpm-drmgr 0.1.9", 0, "warning", "older"},
        {NULL, "lpm-drmgr own-build", 0, "ok", "own-build"}, /* not older than anything */
        {NULL, "lpm-drmgr 0.10.0", 0, "ok", "0.10.0"},
        {NULL, "lpm-drmgr 0.2.0.1", 0, "ok", "0.2.0.1"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        LpmRmcSeen seen = healthy();
        bool good = strcmp(rows[i].result, "ok") == 0;
        g_autofree char *results = g_strdup_printf(
            "channel:ok running:ok agent:ok commands:ok lpm-drmgr:%s", rows[i].result);

        seen.drmgr_error = rows[i].error;
        seen.drmgr_said = rows[i].said;
        seen.drmgr_status = rows[i].status;
        expect(&seen, ALL, good ? "ok" : "limited", results, "lpm-drmgr", rows[i].part);
    }
}

/* --- the clock --- */

static void test_clock(void)
{
    static const struct {
        double behind_s, stood_s;
        LpmClockVerdict verdict;
    } rows[] = {
        {0, 0, LPM_CLOCK_RIGHT},
        {0.4, 0.4, LPM_CLOCK_RIGHT},
        {-0.4, 5, LPM_CLOCK_RIGHT},
        {0.6, 0.6, LPM_CLOCK_STEP},
        {5, 4.9, LPM_CLOCK_STEP},
        {2, 0.05, LPM_CLOCK_STEP}, /* the two systems' clocks differ a little */
        {3, 0.05, LPM_CLOCK_OWN},  /* that is not explained by standing still */
        {3600, 5, LPM_CLOCK_OWN},  /* another time zone */
        {-0.6, 5, LPM_CLOCK_OWN},  /* ahead: never because it stood still */
        {30, 60, LPM_CLOCK_STEP},  /* at most so long: lpm-host was killed in between */
        {-9e9, 60, LPM_CLOCK_OWN},
        {9e9, 1e9, LPM_CLOCK_OWN},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        int64_t stood = (int64_t)(rows[i].stood_s * 1e6);

        g_assert_cmpint(lpm_clock_judge((int64_t)(rows[i].behind_s * 1e6), stood, 500000), ==,
                        rows[i].verdict);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/diagnose/healthy", test_healthy);
    g_test_add_func("/diagnose/channel", test_channel);
    g_test_add_func("/diagnose/not-running", test_not_running);
    g_test_add_func("/diagnose/agent", test_agent);
    g_test_add_func("/diagnose/commands", test_commands);
    g_test_add_func("/diagnose/drmgr", test_drmgr);
    g_test_add_func("/clock/judge", test_clock);
    return g_test_run();
}
