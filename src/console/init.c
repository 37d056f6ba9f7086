/* SPDX-License-Identifier: Apache-2.0 */
/* `lpm-console init`: authority, the console's own certificate, an API token and the file that
 * `lpm` reads. `lpm-console renew`: the certificate again. */
#include "console.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CERT_DAYS 825
/* Whom the unit runs the console as. */
#define SERVICE_USER "lpm-console"

static bool write_file(const char *directory, const char *name, const char *text, int mode,
                       GError **error)
{
    g_autofree char *path = g_build_filename(directory, name, NULL);
    g_autoptr(GError) cause = NULL;

    if (!g_file_set_contents_full(path, text, (gssize)strlen(text),
                                  G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE,
                                  mode, &cause)) {
        return lpm_error_set(error, LPM_ERROR_STORAGE, "%s: %s", path, cause->message);
    }
    return true;
}

static bool make_directory(const char *directory, GError **error)
{
    g_autofree char *file = g_build_filename(directory, "admin.conf", NULL);
    g_autofree char *parent = g_path_get_dirname(directory);
    bool had_parent = g_file_test(parent, G_FILE_TEST_EXISTS);

    /* The service's user passes through what is above: lpm-host's directory, as a rule. */
    if (g_mkdir_with_parents(parent, 0711) != 0 || (!had_parent && chmod(parent, 0711) != 0)) {
        return lpm_error_set(error, LPM_ERROR_STORAGE, "%s: %s", parent, g_strerror(errno));
    }
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

/* A certificate for the key @key_pem (NULL: a new one), followed by the authority's: a system that
 * joins knows that by its fingerprint only. Both g_free(). */
static bool certify(const LpmConsoleConfig *config, char **key_pem, char **ret_chain,
                    GError **error)
{
    const char *directory = config->state_dir;
    g_auto(GStrv) addresses = certificate_addresses(config);
    g_autofree char *csr = NULL;
    g_autofree char *cert = NULL;
    g_autofree char *ca_path = g_build_filename(directory, "ca.pem", NULL);
    g_autofree char *ca = NULL;
    g_autoptr(GError) cause = NULL;

    if (!lpm_tls_request_new(config->name, key_pem, &csr, error)) {
        return false;
    }
    cert = lpm_tls_authority_sign(directory, csr, config->name, "console",
                                  (const char *const *)addresses, CERT_DAYS, error);
    if (!cert || !g_file_get_contents(ca_path, &ca, NULL, &cause)) {
        return cert && lpm_error_set(error, LPM_ERROR_STORAGE, "%s", cause->message);
    }
    *ret_chain = g_strconcat(cert, ca, NULL);
    return true;
}

static bool make_identity(const LpmConsoleConfig *config, GError **error)
{
    const char *directory = config->state_dir;
    g_autofree char *key = NULL;
    g_autofree char *chain = NULL;

    return lpm_tls_authority_ensure(directory, "openlpm-authority", error) &&
           certify(config, &key, &chain, error) &&
           write_file(directory, "key.pem", key, 0600, error) &&
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

/*
 * Made by root, used by the service: without its user, or as somebody else, all stays as it is.
 * Who dies before the end has systemd do it: it gives a service its StateDirectory.
 */
static bool hand_over(const char *directory, GError **error)
{
    const struct passwd *user = geteuid() == 0 ? getpwnam(SERVICE_USER) : NULL;
    g_autoptr(GDir) files = user ? g_dir_open(directory, 0, NULL) : NULL;
    bool good = !user || (files && lchown(directory, user->pw_uid, user->pw_gid) == 0);
    const char *name;

    while (good && files && (name = g_dir_read_name(files))) {
        g_autofree char *path = g_build_filename(directory, name, NULL);

        good = lchown(path, user->pw_uid, user->pw_gid) == 0;
    }
    return good || lpm_error_set(error, LPM_ERROR_STORAGE, "%s cannot be given to user %s: %s",
                                 directory, SERVICE_USER, g_strerror(errno));
}

/* The client file comes last: with it the console is there. */
bool lpm_console_init(const LpmConsoleConfig *config, bool write_config, GError **error)
{
    g_autofree char *text = lpm_console_config_text(config);

    return make_directory(config->state_dir, error) && make_identity(config, error) &&
           (!write_config || write_file(config->state_dir, "console.conf", text, 0600, error)) &&
           make_client_file(config, error) && hand_over(config->state_dir, error);
}

/* The key stays, so that key and certificate belong together at each moment. */
bool lpm_console_renew(const LpmConsoleConfig *config, GError **error)
{
    g_autofree char *path = g_build_filename(config->state_dir, "key.pem", NULL);
    g_autofree char *key = NULL;
    g_autofree char *chain = NULL;
    g_autoptr(GError) cause = NULL;

    if (!g_file_get_contents(path, &key, NULL, &cause)) {
        return lpm_error_set(error, LPM_ERROR_STORAGE,
                             "%s: there is no console here whose certificate could be renewed",
                             cause->message);
    }
    return certify(config, &key, &chain, error) &&
           write_file(config->state_dir, "cert.pem", chain, 0644, error) &&
           hand_over(config->state_dir, error);
}
