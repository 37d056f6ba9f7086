/* SPDX-License-Identifier: Apache-2.0 */
/* lpm-drmgr: options. */
#include "drmgr.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

enum {
    OPT_PHASE = 256,
    OPT_ID,
    OPT_LIMIT,
    OPT_DETAIL,
    OPT_FORCE,
    OPT_ONLY,
    OPT_SETTLE,
    OPT_ALL,
    OPT_STATUS,
    OPT_STEP_CLOCK,
    OPT_JSON,
    OPT_ROOT,
    OPT_VERSION,
    OPT_HELP
};

static const struct option options[] = {
    {"phase", required_argument, NULL, OPT_PHASE},
    {"id", required_argument, NULL, OPT_ID},
    {"limit", required_argument, NULL, OPT_LIMIT},
    {"detail", required_argument, NULL, OPT_DETAIL},
    {"force", no_argument, NULL, OPT_FORCE},
    {"only", required_argument, NULL, OPT_ONLY},
    {"settle", no_argument, NULL, OPT_SETTLE},
    {"all", no_argument, NULL, OPT_ALL},
    {"step-clock", required_argument, NULL, OPT_STEP_CLOCK},
    {"status", no_argument, NULL, OPT_STATUS},
    {"json", no_argument, NULL, OPT_JSON},
    {"root", required_argument, NULL, OPT_ROOT},
    {"version", no_argument, NULL, OPT_VERSION},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static const char help[] =
    "usage: lpm-drmgr -i SCRIPT [-w MINUTES] [-f] [-D HOST]   install a script\n"
    "       lpm-drmgr -u SCRIPT [-D HOST]                     remove it\n"
    "       lpm-drmgr -l [--json]                             list scripts\n"
    "       lpm-drmgr -b                                      ask all scripts anew about "
    "themselves\n"
    "       lpm-drmgr -R DIRECTORY                            where scripts are installed\n"
    "       lpm-drmgr -S ID                                   name in syslog\n"
    "       lpm-drmgr --settle [--all]                        end what a crash has cut\n"
    "       lpm-drmgr --status                                moves that have begun here\n"
    "       lpm-drmgr --phase check|pre|post|undo --id ID [--force] [--limit SECONDSs]\n"
    "                 [--detail N] [LPM_NAME=VALUE...]        for lpm-host\n"
    "       lpm-drmgr --phase watch|takeover --id ID --only SCRIPT... [--limit SECONDSs]\n"
    "                 [LPM_NAME=VALUE...]                     for lpm-host\n"
    "       lpm-drmgr --step-clock MILLISECONDS               for lpm-host, after a long blackout\n"
    "\n"
    "MINUTES may be seconds, too: 90s. --root DIR takes all files from below DIR.\n";

typedef struct {
    int verb; /* the option that says what to do; 0: none */
    const char *argument, *host;
    bool twice, force, all, json;
    int64_t limit_ms;
    DrRequest request;
} Wanted;

static int usage(const char *why)
{
    dr_complain("%s; --help says more", why);
    return DR_EXIT_USAGE;
}

/* Options that only go with a verb; false: not one of them, or a bad value. */
static bool take_detail(Wanted *wanted, int option, const char *value)
{
    switch (option) {
    case 'w':
        return dr_read_limit(value, &wanted->limit_ms);
    case OPT_LIMIT:
        return dr_read_limit(value, &wanted->request.limit_ms);
    case OPT_DETAIL:
        wanted->request.detail = atoi(value);
        return wanted->request.detail >= 0 && wanted->request.detail <= 5;
    case OPT_ID:
        wanted->request.id = value;
        return dr_name_is_good(value);
    case 'D':
        wanted->host = value;
        return dr_name_is_good(value);
    case 'f':
    case OPT_FORCE:
        wanted->force = wanted->request.force = true;
        return true;
    case OPT_ONLY:
        wanted->request.only[wanted->request.n_only % DR_ONLY] = value;
        return wanted->request.n_only++ < DR_ONLY;
    case OPT_ALL:
        return wanted->all = true;
    case OPT_JSON:
        return wanted->json = true;
    case OPT_ROOT:
        dr_set_root(value);
        return true;
    default:
        return false;
    }
}

static bool take_vars(DrRequest *request, char *const *words)
{
    for (; *words; words++) {
        const char *equals = strchr(*words, '=');
        bool good = equals && strncmp(*words, "LPM_", 4) == 0 && request->n_vars < DR_VARS &&
                    strspn(*words, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") == (size_t)(equals - *words);
        if (!good) {
            return false;
        }
        dr_copy(request->vars[request->n_vars++], DR_VALUE_SIZE, *words);
    }
    return true;
}

static bool phase_is_known(const char *phase)
{
    static const char *const phases[] = {"check", "pre", "post", "undo", "watch", "takeover"};
    for (size_t i = 0; i < sizeof phases / sizeof phases[0]; i++) {
        if (strcmp(phase, phases[i]) == 0) {
            return true;
        }
    }
    return false;
}

static int run(Wanted *wanted)
{
    DrRequest *request = &wanted->request;
    switch (wanted->verb) {
    case 'i':
        return dr_install(wanted->argument, wanted->host, wanted->limit_ms, wanted->force);
    case 'u':
        return dr_remove(wanted->argument, wanted->host);
    case 'l':
        return dr_list(wanted->json);
    case 'b':
        return dr_rebuild();
    case 'R':
        if (wanted->argument[0] != '/' || strchr(wanted->argument, '\n')) {
            return usage("-R needs a path that begins with /");
        }
        return dr_set("root", wanted->argument) ? dr_rebuild() : DR_EXIT_FAILED;
    case 'S':
        return !dr_name_is_good(wanted->argument)   ? usage("-S needs a plain name")
               : dr_set("syslog", wanted->argument) ? DR_EXIT_OK
                                                    : DR_EXIT_FAILED;
    case OPT_SETTLE:
        return dr_settle(wanted->all);
    case OPT_STATUS:
        return dr_status();
    case OPT_STEP_CLOCK:
        return dr_step_clock(wanted->argument);
    case OPT_PHASE:
        request->phase = wanted->argument;
        return !phase_is_known(request->phase)
                   ? usage("--phase is check, pre, post, undo, watch or takeover")
               : !request->id ? usage("--phase needs --id")
                              : (int)dr_phase(request);
    default:
        return usage("nothing to do");
    }
}

int main(int argc, char **argv)
{
    static Wanted wanted;
    int option = 0;
    while ((option = getopt_long(argc, argv, "i:u:lbR:S:D:w:f", options, NULL)) >= 0) {
        bool verb = strchr("iulbRS", option < 256 ? option : '?') || option == OPT_PHASE ||
                    option == OPT_SETTLE || option == OPT_STATUS || option == OPT_STEP_CLOCK;
        if (option == OPT_HELP || option == OPT_VERSION) {
            fputs(option == OPT_HELP ? help : "lpm-drmgr " LPM_VERSION "\n", stdout);
            return DR_EXIT_OK;
        }
        if (verb) {
            wanted.twice = wanted.verb != 0;
            wanted.verb = option;
            wanted.argument = optarg;
        } else if (!take_detail(&wanted, option, optarg)) {
            return usage("an option is wrong");
        }
        if (wanted.twice) {
            return usage("only one of these can be done at a time");
        }
    }
    if (!take_vars(&wanted.request, argv + optind)) {
        return usage("what follows the options is LPM_NAME=VALUE");
    }
    openlog(dr_syslog_id(), LOG_PID, LOG_DAEMON);
    dr_run_prepare();
    return run(&wanted);
}
