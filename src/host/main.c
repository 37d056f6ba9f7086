/* SPDX-License-Identifier: Apache-2.0 */
/* lpm-host: starts, adopts and stops the partitions of one system, and answers for them. */
#include "base/log.h"
#include "crash/crash.h"
#include "host/partition.h"
#include "host/server.h"

#include <glib-unix.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define CONFIG_FILE "/etc/openlpm/host.conf"

typedef struct {
    char *config;
    gboolean print_verbs, version, debug;

} Options;

static const struct {
    const char *name;
    int (*run)(const LpmHostConfig *config, int argc, char **argv);
} subcommands[] = {
    {"join", lpm_join_command},
    {"call", lpm_call_command},
};

static void print_verbs(void)
{
    static const char *const roles[] = {[LPM_RPC_LOCAL] = "local",
                                        [LPM_RPC_CONSOLE] = "console",
                                        [LPM_RPC_SYSTEM] = "system",
                                        [LPM_RPC_ANONYMOUS] = "anonymous"};
    g_autofree LpmRpcVerb *verbs = lpm_verbs_all(LPM_HOOKS);

    for (const LpmRpcVerb *verb = verbs; verb->name; verb++) {
        printf("%s (", verb->name);
        for (size_t i = 0, n = 0; i < G_N_ELEMENTS(roles); i++) {
            if (verb->roles & 1u << i) {
                printf("%s%s", n++ ? ", " : "", roles[i]);
            }
        }
        printf("): %s\n", verb->help);
        for (const LpmRpcArg *arg = verb->args; arg && arg->name; arg++) {
            printf("    %s (%c%s): %s\n", arg->name, arg->type, arg->required ? "" : ", optional",
                   arg->help);
        }
    }
}

/* Options after the subcommand's name are its own. */
static int parse(int argc, char **argv, Options *options, GError **error)
{
    const GOptionEntry entries[] = {
        {"config", 'c', 0, G_OPTION_ARG_FILENAME, &options->config,
         "configuration file, default " CONFIG_FILE, "FILE"},
        {"print-verbs", 0, 0, G_OPTION_ARG_NONE, &options->print_verbs, "print the RPC verbs",
         NULL},
        {"debug", 0, 0, G_OPTION_ARG_NONE, &options->debug, "log more", NULL},
        {"version", 0, 0, G_OPTION_ARG_NONE, &options->version, "print the version", NULL},
        {NULL}};
    g_autoptr(GOptionContext) context = g_option_context_new("[join ...| call VERB [JSON]]");

    g_option_context_set_strict_posix(context, TRUE);
    g_option_context_set_summary(context,
                                 "Without a subcommand: runs this system's partitions.\n"
                                 "  join --console ADDRESS:PORT --token TOKEN [--name NAME]\n"
                                 "  call VERB [JSON]    one call on the local socket");
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, error)) {
        return -1;
    }
    return argc;
}

static gboolean on_signal(gpointer data)
{
    g_main_loop_quit(((LpmHost *)data)->loop);
    return G_SOURCE_CONTINUE;
}

#ifdef LPM_CRASH_POINTS
/* QEMUs are not our children. */
static void each_qemu(void *data, void (*each)(pid_t pid))
{
    const LpmHost *host = data;
    GHashTableIter iter;
    gpointer partition = NULL;
    g_hash_table_iter_init(&iter, host->partitions);
    while (g_hash_table_iter_next(&iter, NULL, &partition)) {
        each(((LpmPartition *)partition)->pid);
    }
}
#endif

static int run_daemon(LpmHostConfig *config)
{
    const char *data_dir = g_getenv("LPM_DATA_DIR");
    g_autoptr(GError) error = NULL;
    LpmHost *host =
        lpm_server_open(config, data_dir ? data_dir : LPM_DATA_INSTALLED, LPM_HOOKS, &error);
    bool failed;

    if (!host) {
        lpm_log_error(NULL, "%s", error->message);
        return lpm_error_exit_code(error);
    }
#ifdef LPM_CRASH_POINTS
    lpm_crash_set_machine(each_qemu, host);
#endif
    /* QEMUs whose sockets close, peers that hang up. */
    signal(SIGPIPE, SIG_IGN);
    g_unix_signal_add(SIGTERM, on_signal, host);
    g_unix_signal_add(SIGINT, on_signal, host);
    if (!host->failed) {
        g_main_loop_run(host->loop);
    }
    failed = host->failed;
    lpm_log_info(NULL, "ends; partitions go on running");
    lpm_server_close(host);
    return failed ? 1 : 0;
}

static int run_subcommand(const LpmHostConfig *config, int argc, char **argv)
{
    for (size_t i = 0; i < G_N_ELEMENTS(subcommands); i++) {
        if (strcmp(argv[0], subcommands[i].name) == 0) {
            return subcommands[i].run(config, argc, argv);
        }
    }
    fprintf(stderr, "lpm-host: there is no subcommand %s; join and call are possible\n", argv[0]);
    return lpm_error_info(LPM_ERROR_USAGE)->exit;
}

int main(int argc, char **argv)
{
    Options options = {0};
    g_autoptr(GError) error = NULL;
    LpmHostConfig *config;
    int left, code;

    setlocale(LC_ALL, "");
    left = parse(argc, argv, &options, &error);
    if (left < 0) {
        fprintf(stderr, "lpm-host: %s\n", error->message);
        return lpm_error_info(LPM_ERROR_USAGE)->exit;
    }
    if (options.version) {
        puts("lpm-host " LPM_VERSION);
        return 0;
    }
    if (options.print_verbs) {
        print_verbs();
        return 0;
    }
    lpm_log_init("lpm-host", options.debug);
    if (!options.config && g_file_test(CONFIG_FILE, G_FILE_TEST_EXISTS)) {
        options.config = g_strdup(CONFIG_FILE);
    }
    config = lpm_host_config_load(options.config, &error);
    if (!config) {
        fprintf(stderr, "lpm-host: %s\n", error->message);
        return lpm_error_exit_code(error);
    }
    if (left > 1) {
        code = run_subcommand(config, left - 1, argv + 1);
        lpm_host_config_free(config);
    } else {
        code = run_daemon(config);
    }
    g_free(options.config);
    return code;
}
