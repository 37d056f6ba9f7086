/* SPDX-License-Identifier: Apache-2.0 */
/* RPC over mutual TLS: who is on the other end, and who is refused. */
#include "rpc/peer.h"

#include "fake.h"
#include "tls/tls.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ADDRESS "127.0.0.1"

typedef struct {
    char *directory;
    LpmTlsCredentials *server_credentials, *console, *system, *stranger, *nobody;
    LpmRpcServer *server;
    uint16_t port;
} Fixture;

static void run_whoami(LpmRpcRequest *request, G_GNUC_UNUSED json_t *arguments,
                       G_GNUC_UNUSED void *data)
{
    lpm_rpc_request_return(request,
                           lpm_json_pack("{s:i, s:s}", "role", lpm_rpc_request_role(request),
                                         "name", lpm_rpc_request_peer_name(request)));
}

static const LpmRpcArg echo_args[] = {{"text", 's', true, "to be said"}, {NULL}};

static void run_echo(LpmRpcRequest *request, json_t *arguments, G_GNUC_UNUSED void *data)
{
    lpm_rpc_request_return(request, json_incref(arguments));
}

static const LpmRpcVerb verbs[] = {
    {"whoami", 15u, run_whoami, NULL, "Tells who asks."},
    {"echo", 1u << LPM_RPC_CONSOLE, run_echo, echo_args, "Says it again."},
    {NULL},
};

/* --- identities --- */

/* A directory with an identity of @name, signed by the authority in @authority. */
static LpmTlsCredentials *make_identity(Fixture *fixture, const char *authority, const char *name,
                                        const char *role)
{
    g_autofree char *directory = g_build_filename(fixture->directory, name, NULL);
    g_autofree char *from = g_build_filename(fixture->directory, authority, "ca.pem", NULL);
    g_autofree char *from_directory = g_build_filename(fixture->directory, authority, NULL);
    const char *const addresses[] = {ADDRESS, NULL};
    g_autofree char *key = NULL, *request = NULL, *certificate = NULL, *ca = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *key_path = g_build_filename(directory, "key.pem", NULL);
    g_autofree char *certificate_path = g_build_filename(directory, "cert.pem", NULL);
    g_autofree char *ca_path = g_build_filename(directory, "ca.pem", NULL);
    LpmTlsCredentials *credentials;

    g_assert_cmpint(g_mkdir(directory, 0700), ==, 0);
    g_assert_true(lpm_tls_request_new(name, &key, &request, &error));
    certificate = lpm_tls_authority_sign(from_directory, request, name, role, addresses, 1, &error);
    g_assert_no_error(error);
    g_assert_true(g_file_get_contents(from, &ca, NULL, NULL));
    g_assert_true(
        g_file_set_contents_full(key_path, key, -1, G_FILE_SET_CONTENTS_NONE, 0600, NULL));
    g_assert_true(g_file_set_contents(certificate_path, certificate, -1, NULL));
    g_assert_true(g_file_set_contents(ca_path, ca, -1, NULL));
    credentials = lpm_tls_credentials_load(directory, &error);
    g_assert_no_error(error);
    return credentials;
}

static void make_authority(Fixture *fixture, const char *name)
{
    g_autofree char *directory = g_build_filename(fixture->directory, name, NULL);
    g_autoptr(GError) error = NULL;

    g_assert_true(lpm_tls_authority_ensure(directory, name, &error));
    g_assert_no_error(error);
}

static void setup(Fixture *fixture, const void *data)
{
    bool allow_anonymous = GPOINTER_TO_INT(data);
    g_autoptr(GError) error = NULL;
    g_autofree char *ca_path = NULL;
    g_autofree char *ca = NULL;

    fixture->directory = g_dir_make_tmp("lpm-tls-XXXXXX", NULL);
    make_authority(fixture, "ca");
    make_authority(fixture, "other-ca");
    fixture->server_credentials = make_identity(fixture, "ca", "host1", "system");
    fixture->system = make_identity(fixture, "ca", "host2", "system");
    fixture->console = make_identity(fixture, "ca", "console1", "console");
    fixture->stranger = make_identity(fixture, "other-ca", "stranger", "console");
    ca_path = g_build_filename(fixture->directory, "ca", "ca.pem", NULL);
    g_assert_true(g_file_get_contents(ca_path, &ca, NULL, NULL));
    fixture->nobody = lpm_tls_credentials_anonymous(ca, &error);
    g_assert_no_error(error);
    fixture->server = lpm_rpc_server_new(verbs, NULL);
    g_assert_true(lpm_rpc_server_listen_tls(fixture->server, ADDRESS, 0,
                                            fixture->server_credentials, allow_anonymous,
                                            &fixture->port, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(fixture->port, !=, 0);
}

static void remove_tree(const char *path)
{
    g_autoptr(GDir) directory = g_dir_open(path, 0, NULL);
    const char *name;

    while (directory && (name = g_dir_read_name(directory))) {
        g_autofree char *child = g_build_filename(path, name, NULL);

        remove_tree(child);
    }
    g_assert_cmpint(g_remove(path), ==, 0);
}

static void teardown(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    lpm_rpc_server_free(fixture->server);
    lpm_tls_credentials_free(fixture->server_credentials);
    lpm_tls_credentials_free(fixture->system);
    lpm_tls_credentials_free(fixture->console);
    lpm_tls_credentials_free(fixture->stranger);
    lpm_tls_credentials_free(fixture->nobody);
    remove_tree(fixture->directory);
    g_free(fixture->directory);
}

/* --- connecting --- */

typedef struct {
    unsigned done;
    LpmRpcClient *client;
    GError *error;
} Connected;

static void on_connected(LpmRpcClient *client, const GError *error, void *data)
{
    Connected *connected = data;

    g_assert_true(!client == !!error);
    connected->done++;
    connected->client = client;
    connected->error = error ? g_error_copy(error) : NULL;
}

/* An answer of "whoami" as @credentials, or NULL with the error of connecting or asking. */
static json_t *ask(uint16_t port, LpmTlsCredentials *credentials, const char *expected_name,
                   GError **error)
{
    Connected connected = {0};
    json_t *result;

    lpm_rpc_connect_tls(ADDRESS, port, credentials, expected_name, 3000, NULL, NULL, NULL,
                        on_connected, &connected);
    WAIT_FOR(connected.done == 1);
    if (connected.error) {
        g_propagate_error(error, connected.error);
        return NULL;
    }
    result = lpm_rpc_call_sync(connected.client, "whoami", NULL, 3000, error);
    lpm_rpc_client_free(connected.client);
    return result;
}

static void assert_is(Fixture *fixture, LpmTlsCredentials *credentials, int role, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) result = ask(fixture->port, credentials, "host1", &error);

    g_assert_no_error(error);
    g_assert_cmpint(lpm_json_int(result, "role", -1), ==, role);
    g_assert_cmpstr(lpm_json_str(result, "name", ""), ==, name);
}

static void assert_refused(Fixture *fixture, LpmTlsCredentials *credentials, const char *name,
                           int code)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(ask(fixture->port, credentials, name, &error));
    g_assert_nonnull(error);
    if (code >= 0) {
        g_assert_error(error, LPM_ERROR, code);
    }
}

static void test_identities(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    assert_is(fixture, fixture->console, LPM_RPC_CONSOLE, "console1");
    assert_is(fixture, fixture->system, LPM_RPC_SYSTEM, "host2");
    /* With TLS 1.3 the server's refusal comes after the client's handshake: which call tells it is
     * open. */
    assert_refused(fixture, fixture->nobody, "host1", -1);
    assert_refused(fixture, fixture->stranger, "host1", LPM_ERROR_DENIED);
    assert_refused(fixture, fixture->console, "host2", LPM_ERROR_DENIED);
    assert_is(fixture, fixture->console, LPM_RPC_CONSOLE, "console1");
}

static void test_anonymous(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    assert_is(fixture, fixture->nobody, LPM_RPC_ANONYMOUS, "anonymous");
    assert_is(fixture, fixture->console, LPM_RPC_CONSOLE, "console1");
}

static void test_long_lines(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    g_autofree char *text = g_strnfill(900000, 'x');
    Connected connected = {0};
    g_autoptr(GError) error = NULL;

    lpm_rpc_connect_tls(ADDRESS, fixture->port, fixture->console, "host1", 3000, NULL, NULL, NULL,
                        on_connected, &connected);
    WAIT_FOR(connected.done == 1);
    g_assert_no_error(connected.error);
    for (int i = 0; i < 3; i++) {
        g_autoptr(json_t) result = lpm_rpc_call_sync(
            connected.client, "echo", lpm_json_pack("{s:s}", "text", text), 10000, &error);

        g_assert_no_error(error);
        g_assert_cmpuint(strlen(lpm_json_str(result, "text", "")), ==, 900000);
    }
    lpm_rpc_client_free(connected.client);
}

/* --- who says nothing --- */

static int open_tcp(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    return fd;
}

static void test_silent_client(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    int fd = open_tcp(fixture->port);
    int64_t start = g_get_monotonic_time();
    bool closed = false;
    char byte;

    while (!closed && g_get_monotonic_time() - start < 2 * LPM_RPC_HANDSHAKE_MS * 1000) {
        while (g_main_context_iteration(NULL, FALSE)) {
        }
        g_usleep(20000);
        closed = recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
    }
    g_assert_true(closed);
    g_assert_cmpint(g_get_monotonic_time() - start, >, LPM_RPC_HANDSHAKE_MS * 900);
    close(fd);
}

/* More than may be: each new one ends the oldest, so that who speaks is always served. */
static void test_strangers(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    int fds[LPM_RPC_STRANGERS_MAX + 20];
    Connected connected = {0};
    char byte;

    for (size_t i = 0; i < G_N_ELEMENTS(fds); i++) {
        fds[i] = open_tcp(fixture->port);
        while (g_main_context_iteration(NULL, FALSE)) {
        }
    }
    lpm_rpc_connect_tls(ADDRESS, fixture->port, fixture->console, "host1", 5000, NULL, NULL, NULL,
                        on_connected, &connected);
    WAIT_FOR(connected.done == 1);
    g_assert_no_error(connected.error);
    g_assert_cmpint(recv(fds[0], &byte, 1, MSG_DONTWAIT), ==, 0);
    g_assert_cmpint(recv(fds[G_N_ELEMENTS(fds) - 1], &byte, 1, MSG_DONTWAIT), ==, -1);
    lpm_rpc_client_free(connected.client);
    for (size_t i = 0; i < G_N_ELEMENTS(fds); i++) {
        close(fds[i]);
    }
}

/* Connections that come faster than anybody needs are left waiting; who is in is served. */
static void test_hasty_strangers(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    Connected connected = {0};
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) answer = NULL;

    lpm_rpc_connect_tls(ADDRESS, fixture->port, fixture->console, "host1", 5000, NULL, NULL, NULL,
                        on_connected, &connected);
    WAIT_FOR(connected.done == 1);
    for (unsigned i = 0; i < LPM_RPC_ACCEPTS_MAX; i++) {
        lpm_rpc_server_took_one(fixture->server);
    }
    g_assert_cmpuint(fixture->server->accepts_timer, !=, 0);
    answer = lpm_rpc_call_sync(connected.client, "whoami", NULL, 2000, &error);
    g_assert_no_error(error);
    WAIT_FOR(!fixture->server->accepts_timer);
    assert_is(fixture, fixture->system, LPM_RPC_SYSTEM, "host2");
    lpm_rpc_client_free(connected.client);
}

/* One name has its share, and another one its own. */
static void test_same_peer(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    Connected of_console[LPM_RPC_SAME_PEER_MAX + 1] = {0};
    Connected of_system = {0};
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) answer = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(of_console); i++) {
        lpm_rpc_connect_tls(ADDRESS, fixture->port, fixture->console, "host1", 5000, NULL, NULL,
                            NULL, on_connected, &of_console[i]);
        WAIT_FOR(of_console[i].done == 1);
    }
    g_assert_false(of_console[LPM_RPC_SAME_PEER_MAX].client &&
                   (answer = lpm_rpc_call_sync(of_console[LPM_RPC_SAME_PEER_MAX].client, "whoami",
                                               NULL, 5000, NULL)));
    answer = lpm_rpc_call_sync(of_console[0].client, "whoami", NULL, 5000, &error);
    g_assert_no_error(error);
    lpm_rpc_connect_tls(ADDRESS, fixture->port, fixture->system, "host1", 5000, NULL, NULL, NULL,
                        on_connected, &of_system);
    WAIT_FOR(of_system.done == 1);
    g_assert_no_error(of_system.error);
    lpm_rpc_client_free(of_system.client);
    for (size_t i = 0; i < G_N_ELEMENTS(of_console); i++) {
        lpm_rpc_client_free(of_console[i].client);
        g_clear_error(&of_console[i].error);
    }
}

static void test_plain_text(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    int fd = open_tcp(fixture->port);
    const char *text = "{\"execute\":\"whoami\"}\n";
    char buffer[256];
    ssize_t n = -1;

    g_assert_cmpint(send(fd, text, strlen(text), 0), ==, strlen(text));
    while (n < 0) {
        g_main_context_iteration(NULL, FALSE);
        g_usleep(1000);
        n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
        n = n < 0 && errno == ECONNRESET ? 0 : n;
    }
    /* An alert at most, never an answer. */
    g_assert_null(g_strstr_len(buffer, n, "return"));
    close(fd);
}

static void test_silent_server(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    Connected connected = {0};

    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    g_assert_cmpint(listen(fd, 1), ==, 0);
    g_assert_cmpint(getsockname(fd, (struct sockaddr *)&address, &length), ==, 0);
    lpm_rpc_connect_tls(ADDRESS, ntohs(address.sin_port), fixture->console, "host1", 200, NULL,
                        NULL, NULL, on_connected, &connected);
    WAIT_FOR(connected.done == 1);
    g_assert_error(connected.error, LPM_ERROR, LPM_ERROR_UNREACHABLE);
    g_clear_error(&connected.error);
    close(fd);
    lpm_rpc_connect_tls(ADDRESS, ntohs(address.sin_port), fixture->console, "host1", 200, NULL,
                        NULL, NULL, on_connected, &connected);
    WAIT_FOR(connected.done == 2);
    g_assert_error(connected.error, LPM_ERROR, LPM_ERROR_UNREACHABLE);
    g_clear_error(&connected.error);
}

static void test_listen_errors(Fixture *fixture, G_GNUC_UNUSED const void *data)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(lpm_rpc_server_listen_tls(fixture->server, "not-an-address", 0,
                                             fixture->server_credentials, false, NULL, &error));
    g_assert_error(error, LPM_ERROR, LPM_ERROR_USAGE);
    g_clear_error(&error);
    g_assert_false(lpm_rpc_server_listen_tls(fixture->server, ADDRESS, fixture->port,
                                             fixture->server_credentials, false, NULL, &error));
    g_assert_error(error, LPM_ERROR, LPM_ERROR_NETWORK);
}

#define ADD(name, anonymous, function)                                                             \
    g_test_add("/rpc-tls/" name, Fixture, GINT_TO_POINTER(anonymous), setup, function, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("identities", FALSE, test_identities);
    ADD("anonymous", TRUE, test_anonymous);
    ADD("long-lines", FALSE, test_long_lines);
    ADD("plain-text", FALSE, test_plain_text);
    ADD("strangers", FALSE, test_strangers);
    ADD("hasty-strangers", FALSE, test_hasty_strangers);
    ADD("same-peer", FALSE, test_same_peer);
    ADD("silent-client", FALSE, test_silent_client);
    ADD("silent-server", FALSE, test_silent_server);
    ADD("listen-errors", FALSE, test_listen_errors);
    return g_test_run();
}
