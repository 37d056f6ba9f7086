/* SPDX-License-Identifier: Apache-2.0 */
/* `lpm-console init`: authority, the console's own certificate, an API token and the file that
 * `lpm` reads. */
#include "console.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CERT_DAYS 825

static bool write_file(const char *directory, const char *name, const char *text, int mode,
                       GError **error)
{
    g_autofree char *path = g_build_filename(directory, name, NULL);
    g_autoptr(GError) cause = NULL;

    if (!g_file_set_contents_full(path, text, (gssize)strlen(text), G_FILE_SET_CONTENTS_CONSISTENT,
                                  mode, &cause)) {
        return lpm_error_set(error, LPM_ERROR_STORAGE, "%s: %s", path, cause->message);
    }
    return true;
}

static bool make_directory(const char *directory, GError **error)
{
    g_autofree char *file = g_build_filename(directory, "admin.conf", NULL);

    if (g_mkdir_with_parents(directory, 0700) != 0 || chmod(directory, 0700) != 0) {
        return lpm_error_set(error, LPM_ERROR_STORAGE, "%s: %s", directory, g_strerror(errno));
    }
    if (g_file_test(file, G_FILE_TEST_EXISTS)) {
        return lpm_error_set(error, LPM_ERROR_EXISTS,
                             "%s is there already: this directory holds a console", file);
    }
    return true;
}

/* Addresses of the certificate: those given, and this machine itself. */
static char **certificate_addresses(const LpmConsoleConfig *config)
{
    GPtrArray *list = g_ptr_array_new();

    for (char **address = config->addresses; *address; address++) {
        g_ptr_array_add(list, g_strdup(*address));
    }
    g_ptr_array_add(list, g_strdup("localhost"));
    g_ptr_array_add(list, g_strdup("127.0.0.1"));
    g_ptr_array_add(list, NULL);
    return (char **)g_ptr_array_free(list, FALSE);
}

static bool make_identity(const LpmConsoleConfig *config, GError **error)
{
    const char *directory = config->state_dir;
    g_auto(GStrv) addresses = certificate_addresses(config);
    g_autofree char *key = NULL;
    g_autofree char *csr = NULL;
    g_autofree char *cert = NULL;
    g_autofree char *ca_path = g_build_filename(directory, "ca.pem", NULL);
    g_autofree char *ca = NULL;
    g_autofree char *chain = NULL;
    g_autoptr(GError) cause = NULL;

    if (!lpm_tls_authority_ensure(directory, "openlpm-authority", error) ||
        !lpm_tls_request_new(config->name, &key, &csr, error)) {
        return false;
    }
    cert = lpm_tls_authority_sign(directory, csr, config->name, "console",
                                  (const char *const *)addresses, CERT_DAYS, error);
    if (!cert || !g_file_get_contents(ca_path, &ca, NULL, &cause)) {
        return cert && lpm_error_set(error, LPM_ERROR_STORAGE, "%s", cause->message);
    }
    /* The authority goes along: a system that joins knows it by its fingerprint only. */
    chain = g_strconcat(cert, ca, NULL);
    return write_file(directory, "key.pem", key, 0600, error) &&
           write_file(directory, "cert.pem", chain, 0644, error);
}

static char *absolute(const char *path)
{
    g_autofree char *here = g_get_current_dir();

    return g_canonicalize_filename(path, here);
}

static bool make_client_file(const LpmConsoleConfig *config, GError **error)
{
    g_autofree char *path = g_build_filename(config->state_dir, "console.db", NULL);
    g_autoptr(LpmStore) store = lpm_store_open(path, error);
    g_autofree char *token =
        store ? lpm_auth_token_new(store, lpm_clock_system(), "admin", error) : NULL;
    g_autofree char *directory = absolute(config->state_dir);
    g_autofree char *text = NULL;
    bool six = strchr(config->addresses[0], ':') != NULL;

    if (!token) {
        return false;
    }
    text = g_strdup_printf("# for lpm --config; whoever can read this file may do everything\n"
                           "[console]\nurl=https://%s%s%s:%u\nca=%s/ca.pem\ntoken=%s\n",
                           six ? "[" : "", config->addresses[0], six ? "]" : "", config->https_port,
                           directory, token);
    return write_file(config->state_dir, "admin.conf", text, 0600, error);
}

/* The client file comes last: with it the console is there. */
bool lpm_console_init(const LpmConsoleConfig *config, bool write_config, GError **error)
{
    g_autofree char *text = lpm_console_config_text(config);

    return make_directory(config->state_dir, error) && make_identity(config, error) &&
           (!write_config || write_file(config->state_dir, "console.conf", text, 0600, error)) &&
           make_client_file(config, error);
}
