/* SPDX-License-Identifier: Apache-2.0 */
/* Puts the parts of a console together, and takes them apart in the reverse order. */
#include "console.h"

#include "api.h"
#include "listen.h"
#include "moves.h"
#include "systems.h"
#include "webhook.h"

#include <string.h>

/* --- processor compatibility modes --- */

static char *read_text(const char *path, GError **error)
{
    g_autoptr(GError) cause = NULL;
    char *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, &cause)) {
        lpm_error_set(error, LPM_ERROR_STORAGE, "%s", cause->message);
    }
    return text;
}

static bool load_modes(LpmCompat *compat, const char *directory, GError **error)
{
    g_autoptr(GError) cause = NULL;
    g_autoptr(GDir) dir = g_dir_open(directory, 0, &cause);
    const char *name;

    if (!dir) {
        return lpm_error_set(error, LPM_ERROR_STORAGE,
                             "%s; data_dir in the configuration says where the modes are",
                             cause->message);
    }
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(directory, name, NULL);
        g_autofree char *text = NULL;

        if (!g_str_has_suffix(name, ".json")) {
            continue;
        }
        text = read_text(path, error);
        if (!text || !lpm_compat_add_mode(compat, path, text, error)) {
            return false;
        }
    }
    return true;
}

static LpmCompat *load_compat(const char *data_dir, GError **error)
{
    g_autoptr(LpmCompat) compat = lpm_compat_new();
    g_autofree char *modes = g_build_filename(data_dir, "compat", NULL);
    g_autofree char *emulators = g_build_filename(data_dir, "emulators.json", NULL);
    g_autofree char *text = NULL;

    if (!load_modes(compat, modes, error)) {
        return NULL;
    }
    text = read_text(emulators, error);
    if (!text || !lpm_compat_add_emulators(compat, emulators, text, error)) {
        return NULL;
    }
    return g_steal_pointer(&compat);
}

/* --- listening --- */

static const LpmRpcVerb *all_verbs(void)
{
    static LpmRpcVerb verbs[16]; /* both tables and the end row; filled once */
    size_t n = 0;

    for (const LpmRpcVerb *verb = lpm_join_verbs; verb->name; verb++) {
        verbs[n++] = *verb;
    }
    for (const LpmRpcVerb *verb = lpm_arbiter_verbs; verb->name; verb++) {
        verbs[n++] = *verb;
    }
    g_assert(n < G_N_ELEMENTS(verbs));
    return verbs;
}

static bool listen_https(LpmConsole *console, GError **error)
{
    const LpmConsoleConfig *config = console->config;
    g_autofree char *cert = read_text(lpm_tls_credentials_cert_path(console->credentials), error);
    g_autofree char *key =
        cert ? read_text(lpm_tls_credentials_key_path(console->credentials), error) : NULL;

    console->http = lpm_http_server_new(lpm_api_routes, lpm_auth_who, console);
    return key && lpm_http_server_listen(console->http, config->listen, config->https_port, cert,
                                         key, NULL, error);
}

static bool listen_rpc(LpmConsole *console, GError **error)
{
    console->rpc = lpm_rpc_server_new(all_verbs(), console);
    return lpm_rpc_server_listen_tls(console->rpc, console->config->listen,
                                     console->config->rpc_port, console->credentials, true, NULL,
                                     error);
}

/* --- open and close --- */

static bool open_state(LpmConsole *console, GError **error)
{
    const LpmConsoleConfig *config = console->config;
    g_autofree char *database = g_build_filename(config->state_dir, "console.db", NULL);

    console->credentials = lpm_tls_credentials_load(config->state_dir, error);
    if (!console->credentials) {
        return false;
    }
    console->ca_pem = read_text(lpm_tls_credentials_ca_path(console->credentials), error);
    console->compat = console->ca_pem ? load_compat(config->data_dir, error) : NULL;
    console->store = console->compat ? lpm_store_open(database, error) : NULL;
    return console->store && lpm_events_load(console, error) && lpm_auth_load(console, error) &&
           lpm_webhooks_open(console, error);
}

LpmConsole *lpm_console_open(LpmConsoleConfig *config, GError **error)
{
    LpmConsole *console = g_new0(LpmConsole, 1);

    console->config = config;
    console->clock = lpm_clock_system();
    console->creating = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    console->considered = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    console->users = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    if (!open_state(console, error) || !lpm_moves_load(console, error) ||
        !lpm_systems_load(console, error) || !listen_rpc(console, error) ||
        !listen_https(console, error)) {
        lpm_console_close(console);
        return NULL;
    }
    lpm_fencing_check(console);
    lpm_moves_resume(console);
    return console;
}

void lpm_console_close(LpmConsole *console)
{
    if (!console) {
        return;
    }
    lpm_http_server_free(console->http);
    lpm_listeners_end(console);
    lpm_webhooks_close(console);
    lpm_rpc_server_free(console->rpc);
    g_clear_pointer(&console->moves, g_hash_table_unref);
    g_clear_pointer(&console->considered, g_hash_table_unref);
    g_clear_pointer(&console->systems, g_hash_table_unref);
    g_hash_table_unref(console->creating);
    g_hash_table_unref(console->users);
    lpm_compat_free(console->compat);
    lpm_store_close(console->store);
    lpm_tls_credentials_free(console->credentials);
    g_free(console->ca_pem);
    lpm_console_config_free(console->config);
    g_free(console);
}
