/* SPDX-License-Identifier: Apache-2.0 */
/* lpm-console: the managed console. */
#include "api.h"
#include "base/log.h"
#include "base/service.h"
#include "console.h"

#include <gio/gio.h>
#include <glib-unix.h>
#include <locale.h>
#include <signal.h>
#include <string.h>

typedef struct {
    char *config, *state, *address, *name;
    int https_port, rpc_port;
    gboolean print_routes, debug, version;
} Options;

static int complain(const GError *error)
{
    const LpmErrorInfo *info =
        lpm_error_info(error->domain == LPM_ERROR ? error->code : LPM_ERROR_USAGE);

    lpm_log_error(NULL, "%s (%s)", error->message, info->remedy);
    return info->exit;
}

static bool read_options(int *argc, char ***argv, Options *options, GError **error)
{
    const GOptionEntry entries[] = {
        {"config", 0, 0, G_OPTION_ARG_FILENAME, &options->config, "configuration file", "FILE"},
        {"state", 0, 0, G_OPTION_ARG_FILENAME, &options->state,
         "state directory; its console.conf is used", "DIR"},
        {"address", 0, 0, G_OPTION_ARG_STRING, &options->address,
         "init: where systems and users reach this console", "ADDR[,ADDR]"},
        {"name", 0, 0, G_OPTION_ARG_STRING, &options->name, "init: name of this console", "NAME"},
        {"https-port", 0, 0, G_OPTION_ARG_INT, &options->https_port, "init: port for users",
         "PORT"},
        {"rpc-port", 0, 0, G_OPTION_ARG_INT, &options->rpc_port, "init: port for systems", "PORT"},
        {"print-routes", 0, 0, G_OPTION_ARG_NONE, &options->print_routes, "print docs/spec/rest.md",
         NULL},
        {"debug", 0, 0, G_OPTION_ARG_NONE, &options->debug, "log more", NULL},
        {"version", 0, 0, G_OPTION_ARG_NONE, &options->version, "print the version", NULL},
        {NULL, 0, 0, G_OPTION_ARG_NONE, NULL, NULL, NULL},
    };
    g_autoptr(GOptionContext) context =
        g_option_context_new("[init|renew] - OpenLPM's managed console");
    g_autoptr(GError) cause = NULL;

    g_option_context_add_main_entries(context, entries, NULL);
    g_option_context_set_summary(
        context, "  lpm-console init --state DIR --address ADDR[,ADDR]   makes a console\n"
                 "  lpm-console renew [--state DIR | --config FILE]      renews its certificate\n"
                 "  lpm-console --state DIR | --config FILE              serves");
    return g_option_context_parse(context, argc, argv, &cause) ||
           lpm_error_set(error, LPM_ERROR_USAGE, "%s", cause->message);
}

/* --- init --- */

static bool take_ports(const Options *options, LpmConsoleConfig *config, GError **error)
{
    const int given[] = {options->https_port, options->rpc_port};
    uint16_t *const ports[] = {&config->https_port, &config->rpc_port};

    for (size_t i = 0; i < G_N_ELEMENTS(given); i++) {
        if (given[i] < 0 || given[i] > 65535) {
            return lpm_error_set(error, LPM_ERROR_USAGE, "%d is no port", given[i]);
        }
        if (given[i] > 0) {
            *ports[i] = (uint16_t)given[i];
        }
    }
    return true;
}

static LpmConsoleConfig *config_from_options(const Options *options, GError **error)
{
    g_autoptr(LpmConsoleConfig) config = lpm_console_config_new();

    if (!options->state || !options->address || !*options->address) {
        lpm_error_set(error, LPM_ERROR_USAGE,
                      "init needs --state DIR and --address ADDR, or --config FILE");
        return NULL;
    }
    if (options->name && !lpm_name_is_valid(options->name)) {
        lpm_error_set(error, LPM_ERROR_USAGE, "\"%s\" is no name for a console", options->name);
        return NULL;
    }
    config->state_dir = g_strdup(options->state);
    g_strfreev(config->addresses);
    config->addresses = g_strsplit(options->address, ",", -1);
    if (options->name) {
        g_free(config->name);
        config->name = g_strdup(options->name);
    }
    return take_ports(options, config, error) ? g_steal_pointer(&config) : NULL;
}

static bool init(const Options *options, GError **error)
{
    g_autoptr(LpmConsoleConfig) config = options->config
                                             ? lpm_console_config_load(options->config, error)
                                             : config_from_options(options, error);

    if (!config || !lpm_console_init(config, !options->config, error)) {
        return false;
    }
    g_print("The console is made; start it with: lpm-console %s %s\n"
            "Client file: %s/admin.conf\n",
            options->config ? "--config" : "--state",
            options->config ? options->config : options->state, config->state_dir);
    return true;
}

/* --- of one that is there --- */

static LpmConsoleConfig *present_config(const Options *options, GError **error)
{
    g_autofree char *file = options->config ? g_strdup(options->config)
                            : options->state
                                ? g_build_filename(options->state, "console.conf", NULL)
                                : g_strdup("/var/lib/openlpm/console/console.conf");

    return lpm_console_config_load(file, error);
}

static bool renew(const Options *options, GError **error)
{
    g_autoptr(LpmConsoleConfig) config = present_config(options, error);
    g_autoptr(LpmTlsCredentials) renewed = NULL;
    g_autofree char *day = NULL;
    g_autoptr(GDateTime) ends = NULL;

    if (config && lpm_console_renew(config, error)) {
        renewed = lpm_tls_credentials_load(config->state_dir, error);
    }
    if (!renewed) {
        return false;
    }
    ends = g_date_time_new_from_unix_utc(lpm_tls_credentials_ends(renewed) / G_USEC_PER_SEC);
    day = g_date_time_format(ends, "%Y-%m-%d");
    g_print(
        "The certificate of console %s is good until %s. Restart lpm-console to use it; moves go "
        "on meanwhile.\n",
        config->name, day);
    return true;
}

static gboolean on_signal(gpointer loop)
{
    g_main_loop_quit(loop);
    return G_SOURCE_CONTINUE;
}

static bool serve(const Options *options, GError **error)
{
    LpmConsoleConfig *config = present_config(options, error);
    LpmConsole *console = config ? lpm_console_open(config, error) : NULL;
    g_autoptr(GMainLoop) loop = NULL;

    if (!console) {
        return false;
    }
    signal(SIGPIPE, SIG_IGN); /* an agent that does not read its options */
    loop = g_main_loop_new(NULL, FALSE);
    g_unix_signal_add(SIGTERM, on_signal, loop);
    g_unix_signal_add(SIGINT, on_signal, loop);
    lpm_log_info(NULL, "console \"%s\" serves HTTPS on port %u and RPC on port %u of %s",
                 config->name, config->https_port, config->rpc_port, config->listen);
    lpm_service_ready();
    g_main_loop_run(loop);
    lpm_service_stopping();
    lpm_console_close(console);
    return true;
}

static bool run(int argc, char **argv, Options *options, GError **error)
{
    if (options->version) {
        g_print("lpm-console %s\n", LPM_VERSION);
        return true;
    }
    if (options->print_routes) {
        lpm_api_print(stdout);
        return true;
    }
    if (argc == 2 && strcmp(argv[1], "init") == 0) {
        return init(options, error);
    }
    if (argc == 2 && strcmp(argv[1], "renew") == 0) {
        return renew(options, error);
    }
    if (argc > 1) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "unknown command \"%s\"; there are init and renew", argv[1]);
    }
    return serve(options, error);
}

int main(int argc, char **argv)
{
    Options options = {NULL};
    g_autoptr(GError) error = NULL;
    int status = 0;

    setlocale(LC_ALL, "C.UTF-8"); /* messages travel as UTF-8 */
    lpm_log_init("lpm-console", FALSE);
    if (!read_options(&argc, &argv, &options, &error)) {
        return complain(error);
    }
    lpm_log_init("lpm-console", options.debug);
    if (!run(argc, argv, &options, &error)) {
        status = complain(error);
    }
    g_free(options.config);
    g_free(options.state);
    g_free(options.address);
    g_free(options.name);
    return status;
}
