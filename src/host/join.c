/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lpm-host join: makes a key, has the console sign it, and stores both. The token names the
 * console's authority by the first half of its certificate's digest, so that nothing is said to
 * anybody else, not even the token.
 */
#include "host/server.h"

#include <errno.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TOKEN_PREFIX    "LPM1-"
#define TOKEN_BYTES     32 /* 16 random ones, 16 of the digest */
#define CONNECT_S       10
#define JOIN_TIMEOUT_MS 15000

typedef struct {
    char *address;
    uint16_t port;
    uint8_t token[TOKEN_BYTES];
    char *own_address; /* as the console sees us */
    char *ca_pem;
    char *console_name;
} Join;

static void join_clear(Join *join)
{
    g_free(join->address);
    g_free(join->own_address);
    g_free(join->ca_pem);
    g_free(join->console_name);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Join, join_clear)

/* --- arguments --- */

static bool parse_token(const char *text, uint8_t *ret_bytes, GError **error)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    unsigned buffer = 0, bits = 0;
    size_t n = 0;

    if (g_str_has_prefix(text, TOKEN_PREFIX)) {
        for (text += strlen(TOKEN_PREFIX); *text && n < TOKEN_BYTES; text++) {
            const char *digit = strchr(digits, g_ascii_toupper(*text));

            if (!digit) {
                break;
            }
            buffer = buffer << 5 | (unsigned)(digit - digits);
            bits += 5;
            if (bits >= 8) {
                bits -= 8;
                ret_bytes[n++] = (uint8_t)(buffer >> bits);
                buffer &= (1u << bits) - 1;
            }
        }
    }
    if (n != TOKEN_BYTES || strspn(text, "=") != strlen(text)) {
        return lpm_error_set(
            error, LPM_ERROR_USAGE,
            "this is no join token: it begins with %s and has 52 more letters and digits; "
            "the console makes one when a system is added",
            TOKEN_PREFIX);
    }
    return true;
}

static bool parse_console(const char *text, Join *join, GError **error)
{
    const char *colon = strrchr(text, ':');
    guint64 port = 0;

    if (!colon || colon == text ||
        !g_ascii_string_to_unsigned(colon + 1, 10, 1, 65535, &port, NULL)) {
        return lpm_error_set(
            error, LPM_ERROR_USAGE,
            "--console %s: ADDRESS:PORT is needed, the port being the console's RPC port", text);
    }
    join->port = (uint16_t)port;
    join->address = g_strndup(text, (gsize)(colon - text));
    if (join->address[0] == '[' && g_str_has_suffix(join->address, "]")) {
        memmove(join->address, join->address + 1, strlen(join->address) - 2);
        join->address[strlen(join->address) - 2] = '\0';
    }
    return true;
}

/* --- who is the console --- */

static GSocketConnection *connect_to(const Join *join, GError **error)
{
    g_autoptr(GSocketClient) client = g_socket_client_new();
    g_autoptr(GError) cause = NULL;
    GSocketConnection *connection;

    g_socket_client_set_timeout(client, CONNECT_S);
    connection = g_socket_client_connect_to_host(client, join->address, join->port, NULL, &cause);
    if (!connection) {
        lpm_error_set(error, LPM_ERROR_UNREACHABLE,
                      "the console at %s port %u does not answer: %s; check "
                      "address, port and that lpm-console runs",
                      join->address, join->port, cause->message);
    }
    return connection;
}

static gboolean accept_for_looking(GTlsConnection *connection G_GNUC_UNUSED,
                                   GTlsCertificate *certificate G_GNUC_UNUSED,
                                   GTlsCertificateFlags errors G_GNUC_UNUSED,
                                   gpointer data G_GNUC_UNUSED)
{
    return TRUE;
}

static bool is_named_by_token(const Join *join, const char *pem)
{
    g_autofree char *digest = lpm_tls_fingerprint(pem, NULL);

    for (size_t i = 0; digest && i < TOKEN_BYTES / 2; i++) {
        int byte =
            g_ascii_xdigit_value(digest[2 * i]) << 4 | g_ascii_xdigit_value(digest[2 * i + 1]);

        if (byte != join->token[TOKEN_BYTES / 2 + i]) {
            return false;
        }
    }
    return digest != NULL;
}

static char *own_address(GSocketConnection *connection)
{
    g_autoptr(GSocketAddress) local = g_socket_connection_get_local_address(connection, NULL);

    return G_IS_INET_SOCKET_ADDRESS(local)
               ? g_inet_address_to_string(
                     g_inet_socket_address_get_address(G_INET_SOCKET_ADDRESS(local)))
               : g_strdup("");
}

/* Nothing but a handshake: finds the authority that the token names in the chain that is shown. */
static bool fetch_authority(Join *join, GError **error)
{
    g_autoptr(GSocketConnection) connection = connect_to(join, error);
    g_autoptr(GIOStream) tls = NULL;
    GTlsCertificate *certificate;

    if (!connection) {
        return false;
    }
    join->own_address = own_address(connection);
    tls = g_tls_client_connection_new(G_IO_STREAM(connection), NULL, error);
    if (!tls) {
        return false;
    }
    g_signal_connect(tls, "accept-certificate", G_CALLBACK(accept_for_looking), NULL);
    /* The server may refuse us for having no certificate: what it showed is known by then. */
    (void)g_tls_connection_handshake(G_TLS_CONNECTION(tls), NULL, NULL);
    certificate = g_tls_connection_get_peer_certificate(G_TLS_CONNECTION(tls));
    for (; certificate; certificate = g_tls_certificate_get_issuer(certificate)) {
        g_autofree char *pem = NULL;

        g_object_get(certificate, "certificate-pem", &pem, NULL);
        if (pem && is_named_by_token(join, pem)) {
            join->ca_pem = g_steal_pointer(&pem);
            return true;
        }
    }
    return lpm_error_set(error, LPM_ERROR_DENIED,
                         "who answers at %s port %u is not the console that made "
                         "this token; check the address, or have the console make a new token",
                         join->address, join->port);
}

/* --- asking to be signed --- */

static LpmRpcClient *connect_trusted(Join *join, LpmTlsCredentials *credentials, GError **error)
{
    g_autoptr(GSocketConnection) connection = connect_to(join, error);
    g_autoptr(GIOStream) stream = NULL;

    if (!connection) {
        return NULL;
    }
    stream = lpm_tls_client_stream(connection, credentials, NULL, error);
    if (!stream || !g_tls_connection_handshake(G_TLS_CONNECTION(stream), NULL, error)) {
        g_prefix_error(error, "the console at %s port %u: ", join->address, join->port);
        return NULL;
    }
    if (g_strcmp0(lpm_tls_stream_peer_role(stream), "console") != 0) {
        lpm_error_set(error, LPM_ERROR_DENIED,
                      "%s port %u is system %s, not a console; give the console's "
                      "address",
                      join->address, join->port, lpm_tls_stream_peer_name(stream));
        return NULL;
    }
    join->console_name = g_strdup(lpm_tls_stream_peer_name(stream));
    return lpm_rpc_client_new(g_steal_pointer(&stream), NULL, NULL, NULL);
}

static json_t *ask(Join *join, const LpmHostConfig *config, const char *name, const char *token,
                   const char *csr, GError **error)
{
    g_autoptr(LpmTlsCredentials) credentials = lpm_tls_credentials_anonymous(join->ca_pem, error);
    g_autoptr(LpmRpcClient) client = credentials ? connect_trusted(join, credentials, error) : NULL;
    bool any =
        strcmp(config->rpc_address, "0.0.0.0") == 0 || strcmp(config->rpc_address, "::") == 0;

    if (!client) {
        return NULL;
    }
    return lpm_rpc_call_sync(client, "join",
                             lpm_json_pack("{s:s, s:s, s:s, s:s, s:i}", "name", name, "token",
                                           token, "csr", csr, "address",
                                           any ? join->own_address : config->rpc_address, "port",
                                           (int)config->rpc_port),
                             JOIN_TIMEOUT_MS, error);
}

/* --- storing --- */

static bool write_text(const char *directory, const char *name, const char *text, GError **error)
{
    g_autofree char *path = g_build_filename(directory, name, NULL);
    g_autoptr(GError) cause = NULL;

    if (!text || !g_file_set_contents_full(
                     path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE,
                     0600, &cause)) {
        return lpm_error_set(error, LPM_ERROR_STORAGE, "%s cannot be written: %s", path,
                             cause ? cause->message : "the console sent none");
    }
    return true;
}

/* The key that it has already stays: whoever joins again, to renew the certificate, has at each
 * moment a key and a certificate that belong together. */
static char *present_key(const LpmHostConfig *config)
{
    g_autofree char *directory = lpm_server_tls_dir(config);
    g_autofree char *path = g_build_filename(directory, "key.pem", NULL);
    char *pem = NULL;

    return g_file_get_contents(path, &pem, NULL, NULL) ? pem : NULL;
}

/* The certificate comes last: without it the old identity, or none, is in use. console.json is for
 * ownership records that the console keeps. */
static bool store(const LpmHostConfig *config, const char *key, const json_t *answer,
                  const Join *join, GError **error)
{
    g_autofree char *directory = lpm_server_tls_dir(config);
    g_autoptr(json_t) console = lpm_json_pack("{s:s, s:s, s:i}", "name", join->console_name,
                                              "address", join->address, "port", (int)join->port);
    g_autofree char *console_text = lpm_json_text(console);

    if (g_mkdir_with_parents(directory, 0700) != 0) {
        return lpm_error_set(error, LPM_ERROR_STORAGE, "directory %s cannot be made: %s", directory,
                             g_strerror(errno));
    }
    return write_text(directory, "ca.pem", join->ca_pem, error) &&
           write_text(directory, "console.json", console_text, error) &&
           write_text(directory, "key.pem", key, error) &&
           write_text(directory, "cert.pem", lpm_json_str(answer, "certificate", NULL), error);
}

static void tell_daemon(const LpmHostConfig *config, const char *name)
{
    g_autofree char *path = lpm_server_socket_path(config);
    g_autoptr(GError) error = NULL;
    g_autoptr(LpmRpcClient) client = lpm_rpc_connect_unix(path, NULL, NULL, NULL, &error);
    g_autoptr(json_t) answer = NULL;

    if (!client) {
        printf("joined as %s; lpm-host does not run, it will find its certificate when it is "
               "started\n",
               name);
        return;
    }
    answer = lpm_rpc_call_sync(client, "reload", NULL, JOIN_TIMEOUT_MS, &error);
    if (answer) {
        printf("joined as %s; the console reaches it at port %d\n", name,
               (int)lpm_json_int(answer, "port", 0));
    } else {
        printf("joined as %s; lpm-host has not taken it up: %s; restart it\n", name,
               error->message);
    }
}

static bool join_console(const LpmHostConfig *config, const char *console, const char *token,
                         const char *name, GError **error)
{
    g_auto(Join) join = {0};
    g_autofree char *key = NULL, *csr = NULL;
    g_autoptr(json_t) answer = NULL;

    if (!lpm_name_is_valid(name)) {
        return lpm_error_set(error, LPM_ERROR_USAGE, "\"%s\" is not a legal name of a system",
                             name);
    }
    if (!config->rpc_port) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "the console must know where it reaches this system: "
                             "give port in group [rpc] of the configuration another value than 0");
    }
    if (!parse_console(console, &join, error) || !parse_token(token, join.token, error) ||
        !fetch_authority(&join, error)) {
        return false;
    }
    key = present_key(config);
    if (!lpm_tls_request_new(name, &key, &csr, error)) {
        g_autofree char *directory = lpm_server_tls_dir(config);

        g_prefix_error(error, "%s/key.pem (remove it to have one made): ", directory);
        return false;
    }
    answer = ask(&join, config, name, token, csr, error);
    if (!answer || !store(config, key, answer, &join, error)) {
        return false;
    }
    tell_daemon(config, name);
    return true;
}

int lpm_join_command(const LpmHostConfig *config, int argc, char **argv)
{
    g_autofree char *console = NULL, *token = NULL, *name = NULL;
    g_autoptr(GError) error = NULL;
    const GOptionEntry entries[] = {
        {"console", 0, 0, G_OPTION_ARG_STRING, &console, "the console's RPC address",
         "ADDRESS:PORT"},
        {"token", 0, 0, G_OPTION_ARG_STRING, &token, "join token, made by the console", "TOKEN"},
        {"name", 0, 0, G_OPTION_ARG_STRING, &name, "name of this system, as the token was made for",
         "NAME"},
        {NULL}};
    g_autoptr(GOptionContext) context = g_option_context_new("- join a console");

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "lpm-host join: %s\n", error->message);
        return lpm_error_info(LPM_ERROR_USAGE)->exit;
    }
    if (!console || !token || argc > 1) {
        fprintf(stderr,
                "lpm-host join: --console ADDRESS:PORT and --token TOKEN are needed, and nothing "
                "but --name NAME besides\n");
        return lpm_error_info(LPM_ERROR_USAGE)->exit;
    }
    if (!join_console(config, console, token, name ? name : config->name, &error)) {
        fprintf(stderr, "lpm-host join: %s\n", error->message);
        return lpm_error_exit_code(error);
    }
    return 0;
}
