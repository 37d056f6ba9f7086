/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"
#include "tls/tls.h"

#include <glib/gstdio.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* --- one authority with a console and a system, and a stranger of another authority; made once ---
 */

static char *root;

static char *path_of(const char *directory, const char *file)
{
    return g_build_filename(root, directory, file, NULL);
}

static char *text_of(const char *directory, const char *file)
{
    g_autofree char *path = path_of(directory, file);
    char *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return text;
}

static void write_file(const char *directory, const char *file, const char *text, int mode)
{
    g_autofree char *path = path_of(directory, file);

    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    g_assert_cmpint(g_chmod(path, (mode_t)mode), ==, 0);
}

static void make_authority(const char *directory)
{
    g_autofree char *path = g_build_filename(root, directory, NULL);
    g_autoptr(GError) error = NULL;

    g_assert_true(lpm_tls_authority_ensure(path, "console-1", &error));
    g_assert_no_error(error);
}

static void join(const char *authority, const char *directory, const char *name, const char *role)
{
    static const char *const addresses[] = {"192.0.2.7", "2001:db8::7", "host.example", NULL};
    g_autofree char *authority_path = g_build_filename(root, authority, NULL);
    g_autofree char *directory_path = g_build_filename(root, directory, NULL);
    g_autofree char *ca = text_of(authority, "ca.pem");
    g_autofree char *key = NULL;
    g_autofree char *request = NULL;
    g_autofree char *cert = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(lpm_tls_request_new("whatever", &key, &request, &error));
    cert = lpm_tls_authority_sign(authority_path, request, name, role, addresses, 30, &error);
    g_assert_no_error(error);
    g_assert_cmpint(g_mkdir_with_parents(directory_path, 0700), ==, 0);
    write_file(directory, "ca.pem", ca, 0644);
    write_file(directory, "cert.pem", cert, 0644);
    write_file(directory, "key.pem", key, 0600);
}

static LpmTlsCredentials *load(const char *directory)
{
    g_autofree char *path = g_build_filename(root, directory, NULL);
    g_autoptr(GError) error = NULL;
    LpmTlsCredentials *credentials = lpm_tls_credentials_load(path, &error);

    g_assert_no_error(error);
    return credentials;
}

static void set_up(void)
{
    root = g_dir_make_tmp("lpm-tls-XXXXXX", NULL);
    make_authority("ca");
    make_authority("other-ca");
    join("ca", "console", "console-1", "console");
    join("ca", "system", "sys-1", "system");
    join("other-ca", "stranger", "sys-1", "system");
}

static void remove_tree(const char *path)
{
    g_autoptr(GDir) directory = g_dir_open(path, 0, NULL);
    const char *name;

    while (directory && (name = g_dir_read_name(directory))) {
        g_autofree char *inside = g_build_filename(path, name, NULL);

        remove_tree(inside);
    }
    g_remove(path);
}

/* --- two ends over a pair of sockets --- */

typedef struct {
    GIOStream *stream;
    GError *error;
    bool done;
} End;

static void handshake_done(GObject *object, GAsyncResult *result, gpointer data)
{
    End *end = data;

    g_tls_connection_handshake_finish(G_TLS_CONNECTION(object), result, &end->error);
    end->done = true;
}

static void read_done(GObject *object, GAsyncResult *result, gpointer data)
{
    End *end = data;

    g_input_stream_read_finish(G_INPUT_STREAM(object), result, &end->error);
    end->done = true;
}

static GSocketConnection *wrap(int fd)
{
    g_autoptr(GSocket) socket = g_socket_new_from_fd(fd, NULL);

    g_assert_nonnull(socket);
    return g_socket_connection_factory_create_connection(socket);
}

static void wait_for(const End *end)
{
    while (!end->done) {
        g_main_context_iteration(NULL, TRUE);
    }
}

typedef struct {
    LpmTlsCredentials *client, *server;
    const char *expected_name;
    bool need_peer;
} Pairing;

static void start(const Pairing *pairing, End *client, End *server)
{
    g_autoptr(GSocketConnection) a = NULL;
    g_autoptr(GSocketConnection) b = NULL;
    int fds[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    a = wrap(fds[0]);
    b = wrap(fds[1]);
    client->stream = lpm_tls_client_stream(a, pairing->client, pairing->expected_name, NULL);
    server->stream = lpm_tls_server_stream(b, pairing->server, pairing->need_peer, NULL);
    g_assert_nonnull(client->stream);
    g_assert_nonnull(server->stream);
    g_assert_null(lpm_tls_stream_peer_name(client->stream));
    g_tls_connection_handshake_async(G_TLS_CONNECTION(client->stream), G_PRIORITY_DEFAULT, NULL,
                                     handshake_done, client);
    g_tls_connection_handshake_async(G_TLS_CONNECTION(server->stream), G_PRIORITY_DEFAULT, NULL,
                                     handshake_done, server);
}

/* A side that refused closes, as its owner would, so that the other side learns of it. */
static void finish_end(End *end)
{
    wait_for(end);
    if (end->error) {
        g_io_stream_close(end->stream, NULL, NULL);
    }
}

static void end_clear(End *end)
{
    if (end->stream) {
        /* Without waiting for the peer's goodbye, which lives in the same thread. */
        g_object_unref(end->stream);
    }
    g_clear_error(&end->error);
}

/* A byte each way. */
static void exchange(End *client, End *server)
{
    GOutputStream *out = g_io_stream_get_output_stream(client->stream);
    char byte = 0;

    g_assert_cmpint(g_output_stream_write(out, "x", 1, NULL, NULL), ==, 1);
    server->done = false;
    g_input_stream_read_async(g_io_stream_get_input_stream(server->stream), &byte, 1, 0, NULL,
                              read_done, server);
    wait_for(server);
    g_assert_no_error(server->error);
    g_assert_cmpint(byte, ==, 'x');
    out = g_io_stream_get_output_stream(server->stream);
    g_assert_cmpint(g_output_stream_write(out, "y", 1, NULL, NULL), ==, 1);
    client->done = false;
    g_input_stream_read_async(g_io_stream_get_input_stream(client->stream), &byte, 1, 0, NULL,
                              read_done, client);
    wait_for(client);
    g_assert_no_error(client->error);
    g_assert_cmpint(byte, ==, 'y');
}

static void meet(const Pairing *pairing, const char *client_name, const char *client_role)
{
    End client = {0}, server = {0};

    start(pairing, &client, &server);
    finish_end(&client);
    finish_end(&server);
    g_assert_no_error(client.error);
    g_assert_no_error(server.error);
    g_assert_cmpint(g_tls_connection_get_protocol_version(G_TLS_CONNECTION(client.stream)), ==,
                    G_TLS_PROTOCOL_VERSION_TLS_1_3);
    g_assert_cmpstr(lpm_tls_stream_peer_name(client.stream), ==, "sys-1");
    g_assert_cmpstr(lpm_tls_stream_peer_role(client.stream), ==, "system");
    g_assert_cmpstr(lpm_tls_stream_peer_name(server.stream), ==, client_name);
    g_assert_cmpstr(lpm_tls_stream_peer_role(server.stream), ==, client_role);
    exchange(&client, &server);
    end_clear(&client);
    end_clear(&server);
}

static void assert_refused(const End *end, const char *part)
{
    g_autoptr(GError) error = NULL;

    g_assert_nonnull(end->error);
    g_assert_false(lpm_tls_stream_failed(end->stream, end->error, &error));
    g_assert_error(error, LPM_ERROR, (int)LPM_ERROR_DENIED);
    g_assert_nonnull(strstr(error->message, part));
    g_assert_null(lpm_tls_stream_peer_name(end->stream));
    g_assert_null(lpm_tls_stream_peer_role(end->stream));
}

static void client_refuses(const Pairing *pairing, const char *part)
{
    End client = {0}, server = {0};

    start(pairing, &client, &server);
    finish_end(&client);
    assert_refused(&client, part);
    finish_end(&server);
    g_assert_nonnull(server.error);
    end_clear(&client);
    end_clear(&server);
}

/* Under TLS 1.3 the client's own handshake may have ended well; its first read tells. */
static void server_refuses(const Pairing *pairing, const char *part)
{
    End client = {0}, server = {0};
    char byte;

    start(pairing, &client, &server);
    finish_end(&server);
    assert_refused(&server, part);
    wait_for(&client);
    if (!client.error) {
        client.done = false;
        g_input_stream_read_async(g_io_stream_get_input_stream(client.stream), &byte, 1, 0, NULL,
                                  read_done, &client);
        wait_for(&client);
    }
    g_assert_nonnull(client.error);
    end_clear(&client);
    end_clear(&server);
}

/* --- connections --- */

static void test_mutual(void)
{
    g_autoptr(LpmTlsCredentials) console = load("console");
    g_autoptr(LpmTlsCredentials) system = load("system");
    Pairing named = {console, system, "sys-1", true};
    Pairing unnamed = {console, system, NULL, true};

    /* Several times: each connection makes a full handshake, none resumes a session unchecked. */
    for (int i = 0; i < 3; i++) {
        meet(&named, "console-1", "console");
    }
    meet(&unnamed, "console-1", "console");
    g_assert_null(g_getenv("G_TLS_GNUTLS_PRIORITY"));
}

static void test_wrong_name(void)
{
    g_autoptr(LpmTlsCredentials) console = load("console");
    g_autoptr(LpmTlsCredentials) system = load("system");
    Pairing good = {console, system, "sys-1", true};
    Pairing wrong = {console, system, "sys-2", true};

    meet(&good, "console-1", "console");
    client_refuses(&wrong, "the peer is system sys-1, but sys-2 was expected");
}

static void test_other_authority(void)
{
    g_autoptr(LpmTlsCredentials) console = load("console");
    g_autoptr(LpmTlsCredentials) system = load("system");
    g_autoptr(LpmTlsCredentials) stranger = load("stranger");
    g_autofree char *ca = text_of("other-ca", "ca.pem");
    g_autoptr(LpmTlsCredentials) credulous = lpm_tls_credentials_anonymous(ca, NULL);
    Pairing to_stranger = {console, stranger, "sys-1", true};
    Pairing misled = {credulous, system, NULL, false};

    client_refuses(&to_stranger, "certificate of sys-1 is refused: another authority issued it");
    client_refuses(&misled, "another authority");
}

static void test_no_certificate(void)
{
    g_autoptr(LpmTlsCredentials) system = load("system");
    g_autofree char *ca = text_of("ca", "ca.pem");
    g_autoptr(LpmTlsCredentials) anonymous = lpm_tls_credentials_anonymous(ca, NULL);
    Pairing allowed = {anonymous, system, "sys-1", false};
    Pairing refused = {anonymous, system, "sys-1", true};

    g_assert_cmpstr(lpm_tls_credentials_name(anonymous), ==, "");
    g_assert_null(lpm_tls_credentials_ca_path(anonymous));
    meet(&allowed, NULL, NULL);
    server_refuses(&refused, "TLS connection");
}

/* A client of raw GnuTLS with a given certificate and priority, in a thread of its own. */
typedef struct {
    int fd;
    const char *priority;
    const char *directory; /* of cert.pem and key.pem; NULL: none */
    int result;            /* of the handshake, or of the read after it */
    gnutls_protocol_t version;
} RawClient;

static gpointer raw_client(gpointer data)
{
    RawClient *raw = data;
    gnutls_certificate_credentials_t credentials;
    gnutls_session_t session;
    char byte;

    gnutls_certificate_allocate_credentials(&credentials);
    if (raw->directory) {
        g_autofree char *cert = path_of(raw->directory, "cert.pem");
        g_autofree char *key = path_of(raw->directory, "key.pem");

        g_assert_cmpint(
            gnutls_certificate_set_x509_key_file(credentials, cert, key, GNUTLS_X509_FMT_PEM), ==,
            0);
    }
    gnutls_init(&session, GNUTLS_CLIENT | GNUTLS_FORCE_CLIENT_CERT);
    g_assert_cmpint(gnutls_priority_set_direct(session, raw->priority, NULL), ==, 0);
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials);
    gnutls_transport_set_int(session, raw->fd);
    raw->result = gnutls_handshake(session);
    if (raw->result == 0) {
        raw->version = gnutls_protocol_get_version(session);
        raw->result = (int)gnutls_record_recv(session, &byte, 1);
    }
    gnutls_deinit(session);
    gnutls_certificate_free_credentials(credentials);
    close(raw->fd);
    return NULL;
}

static void serve_raw(RawClient *raw, End *server)
{
    g_autoptr(LpmTlsCredentials) system = load("system");
    g_autoptr(GSocketConnection) connection = NULL;
    GThread *thread;
    int fds[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    raw->fd = fds[0];
    connection = wrap(fds[1]);
    server->stream = lpm_tls_server_stream(connection, system, true, NULL);
    thread = g_thread_new("raw", raw_client, raw);
    g_tls_connection_handshake_async(G_TLS_CONNECTION(server->stream), G_PRIORITY_DEFAULT, NULL,
                                     handshake_done, server);
    finish_end(server);
    if (!server->error) {
        GOutputStream *out = g_io_stream_get_output_stream(server->stream);

        g_assert_cmpint(g_output_stream_write(out, "z", 1, NULL, NULL), ==, 1);
    }
    g_thread_join(thread);
}

static void test_raw_clients(void)
{
    static const struct {
        const char *priority, *directory;
        const char *refusal; /* NULL: accepted */
    } rows[] = {
        {"NORMAL", "console", NULL},
        {"NORMAL", "stranger", "certificate of sys-1 is refused: another authority issued it"},
        {"NORMAL", "leaf-signed", "certificate of evil is refused: another authority issued it"},
        {"NORMAL", NULL, "TLS connection"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        RawClient raw = {.priority = rows[i].priority, .directory = rows[i].directory};
        End server = {0};

        serve_raw(&raw, &server);
        if (rows[i].refusal) {
            assert_refused(&server, rows[i].refusal);
            g_assert_cmpint(raw.result, <, 0);
        } else {
            g_assert_no_error(server.error);
            g_assert_cmpstr(lpm_tls_stream_peer_name(server.stream), ==, "console-1");
            g_assert_cmpint(raw.version, ==, GNUTLS_TLS1_3);
            g_assert_cmpint(raw.result, ==, 1);
        }
        end_clear(&server);
    }
}

static void test_old_version(void)
{
    RawClient raw = {.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2", .directory = "console"};
    g_autoptr(GError) error = NULL;
    End server = {0};

    serve_raw(&raw, &server);
    g_assert_nonnull(server.error);
    g_assert_cmpint(raw.result, <, 0);
    g_assert_false(lpm_tls_stream_failed(server.stream, server.error, &error));
    g_assert_error(error, LPM_ERROR, (int)LPM_ERROR_PROTOCOL);
    g_assert_null(lpm_tls_stream_peer_name(server.stream));
    end_clear(&server);
}

static time_t in_two_months(time_t *ret_time)
{
    time_t then = time(NULL) + (time_t)60 * 24 * 60 * 60;

    if (ret_time) {
        *ret_time = then;
    }
    return then;
}

static void test_expired(void)
{
    g_autoptr(LpmTlsCredentials) console = load("console");
    g_autoptr(LpmTlsCredentials) system = load("system");
    Pairing pairing = {console, system, "sys-1", true};

    gnutls_global_set_time_function(in_two_months);
    client_refuses(&pairing, "certificate of sys-1 is refused: it has expired; renew it");
    gnutls_global_set_time_function(time);
    meet(&pairing, "console-1", "console");
}

/* --- credentials --- */

static void refuse_credentials(LpmErrorCode code, const char *part)
{
    g_autofree char *path = g_build_filename(root, "broken", NULL);
    g_autoptr(GError) error = NULL;

    g_assert_null(lpm_tls_credentials_load(path, &error));
    g_assert_error(error, LPM_ERROR, (int)code);
    g_assert_nonnull(strstr(error->message, part));
}

static void test_credentials_refused(void)
{
    g_autofree char *key_path = path_of("broken", "key.pem");
    g_autofree char *system_key = text_of("system", "key.pem");
    g_autofree char *leaf = text_of("system", "cert.pem");
    g_autofree char *other_ca = text_of("other-ca", "ca.pem");

    refuse_credentials(LPM_ERROR_STATE, "not joined");
    join("ca", "broken", "sys-9", "system");
    g_chmod(key_path, 0640);
    refuse_credentials(LPM_ERROR_DENIED, "mode 0640");
    write_file("broken", "key.pem", system_key, 0600);
    refuse_credentials(LPM_ERROR_STATE, "do not go together");
    write_file("broken", "key.pem", "nonsense", 0600);
    refuse_credentials(LPM_ERROR_STATE, "do not go together");
    join("ca", "broken", "sys-9", "system");
    write_file("broken", "cert.pem", "nonsense", 0644);
    refuse_credentials(LPM_ERROR_USAGE, "not a certificate");
    join("ca", "broken", "sys-9", "system");
    write_file("broken", "ca.pem", other_ca, 0644);
    refuse_credentials(LPM_ERROR_DENIED, "another authority");
    write_file("broken", "ca.pem", leaf, 0644);
    refuse_credentials(LPM_ERROR_USAGE, "may not sign others");
    g_remove(key_path);
    refuse_credentials(LPM_ERROR_STATE, "key.pem");
    lpm_tls_credentials_free(NULL);
}

static void test_reload(void)
{
    g_autoptr(LpmTlsCredentials) credentials = NULL;
    g_autoptr(LpmTlsCredentials) console = load("console");
    g_autofree char *key_path = path_of("reload", "key.pem");
    g_autoptr(GError) error = NULL;
    Pairing pairing;

    join("ca", "reload", "sys-1", "system");
    credentials = load("reload");
    pairing = (Pairing){console, credentials, "sys-1", true};
    g_assert_cmpstr(lpm_tls_credentials_key_path(credentials), ==, key_path);
    write_file("reload", "cert.pem", "nonsense", 0644);
    g_assert_false(lpm_tls_credentials_reload(credentials, &error));
    g_assert_error(error, LPM_ERROR, (int)LPM_ERROR_USAGE);
    g_assert_cmpstr(lpm_tls_credentials_name(credentials), ==, "sys-1");
    meet(&pairing, "console-1", "console");
    join("ca", "reload", "sys-5", "system");
    g_assert_true(lpm_tls_credentials_reload(credentials, NULL));
    g_assert_cmpstr(lpm_tls_credentials_name(credentials), ==, "sys-5");
    client_refuses(&pairing, "the peer is system sys-5");
}

/* --- authority --- */

static int mode_of(const char *directory, const char *file)
{
    g_autofree char *path = path_of(directory, file);
    struct stat st;

    g_assert_cmpint(stat(path, &st), ==, 0);
    return (int)(st.st_mode & 07777);
}

static void test_authority_ensure(void)
{
    g_autofree char *path = g_build_filename(root, "ca-2", NULL);
    g_autofree char *key_path = path_of("ca-2", "ca-key.pem");
    g_autofree char *ca_path = path_of("ca-2", "ca.pem");
    g_autofree char *first = NULL;
    g_autofree char *second = NULL;
    g_autoptr(GError) error = NULL;

    make_authority("ca-2");
    first = text_of("ca-2", "ca.pem");
    make_authority("ca-2");
    second = text_of("ca-2", "ca.pem");
    g_assert_cmpstr(first, ==, second);
    g_assert_cmpint(mode_of("ca-2", "ca-key.pem"), ==, 0600);
    g_assert_cmpint(mode_of("ca-2", "."), ==, 0700);
    g_remove(key_path);
    g_assert_false(lpm_tls_authority_ensure(path, "console-1", &error));
    g_assert_error(error, LPM_ERROR, (int)LPM_ERROR_STATE);
    /* As after a crash between the two files. */
    write_file("ca-2", "ca-key.pem", "old", 0600);
    g_remove(ca_path);
    make_authority("ca-2");
    join("ca-2", "joined-2", "sys-2", "system");
}

static gnutls_x509_crt_t import(const char *pem)
{
    gnutls_datum_t datum = {(unsigned char *)pem, (unsigned)strlen(pem)};
    gnutls_x509_crt_t certificate;

    gnutls_x509_crt_init(&certificate);
    g_assert_cmpint(gnutls_x509_crt_import(certificate, &datum, GNUTLS_X509_FMT_PEM), ==, 0);
    return certificate;
}

static void test_certificate_content(void)
{
    g_autofree char *leaf_pem = text_of("system", "cert.pem");
    g_autofree char *ca_pem = text_of("ca", "ca.pem");
    gnutls_x509_crt_t leaf = import(leaf_pem);
    gnutls_x509_crt_t ca = import(ca_pem);
    time_t now = time(NULL);
    time_t day = (time_t)24 * 60 * 60;
    gnutls_datum_t dn;
    unsigned usage;
    char san[64];
    size_t size = sizeof san;

    gnutls_x509_crt_get_dn3(leaf, &dn, 0);
    g_assert_cmpstr((char *)dn.data, ==, "O=system,CN=sys-1");
    gnutls_free(dn.data);
    g_assert_cmpint(gnutls_x509_crt_get_subject_alt_name(leaf, 0, san, &size, NULL), ==,
                    GNUTLS_SAN_DNSNAME);
    g_assert_cmpstr(san, ==, "sys-1");
    size = sizeof san;
    g_assert_cmpint(gnutls_x509_crt_get_subject_alt_name(leaf, 1, san, &size, NULL), ==,
                    GNUTLS_SAN_IPADDRESS);
    g_assert_cmpmem(san, size, "\xc0\x00\x02\x07", 4);
    size = sizeof san;
    g_assert_cmpint(gnutls_x509_crt_get_subject_alt_name(leaf, 2, san, &size, NULL), ==,
                    GNUTLS_SAN_IPADDRESS);
    g_assert_cmpuint(size, ==, 16);
    g_assert_true(gnutls_x509_crt_check_hostname(leaf, "host.example"));
    g_assert_cmpint(gnutls_x509_crt_get_ca_status(leaf, NULL), ==, 0);
    g_assert_cmpint(gnutls_x509_crt_get_key_usage(leaf, &usage, NULL), ==, 0);
    g_assert_cmpuint(usage, ==, GNUTLS_KEY_DIGITAL_SIGNATURE);
    g_assert_true(gnutls_x509_crt_check_key_purpose(leaf, GNUTLS_KP_TLS_WWW_CLIENT, 0));
    g_assert_true(gnutls_x509_crt_check_key_purpose(leaf, GNUTLS_KP_TLS_WWW_SERVER, 0));
    g_assert_false(gnutls_x509_crt_check_key_purpose(leaf, GNUTLS_KP_CODE_SIGNING, 0));
    g_assert_cmpint(ABS(gnutls_x509_crt_get_expiration_time(leaf) - (now + 30 * day)), <, 300);
    g_assert_cmpint(ABS(gnutls_x509_crt_get_expiration_time(ca) - (now + 3653 * day)), <, 300);
    g_assert_cmpint(gnutls_x509_crt_get_ca_status(ca, NULL), ==, 1);
    gnutls_x509_crt_deinit(leaf);
    gnutls_x509_crt_deinit(ca);
}

static void test_fingerprint(void)
{
    g_autofree char *pem = text_of("ca", "ca.pem");
    g_autofree char *fingerprint = lpm_tls_fingerprint(pem, NULL);
    gnutls_x509_crt_t ca = import(pem);
    g_autofree char *wanted = NULL;
    g_autoptr(GError) error = NULL;
    gnutls_datum_t der;

    g_assert_cmpint(gnutls_x509_crt_export2(ca, GNUTLS_X509_FMT_DER, &der), ==, 0);
    wanted = g_compute_checksum_for_data(G_CHECKSUM_SHA256, der.data, der.size);
    g_assert_cmpstr(fingerprint, ==, wanted);
    gnutls_free(der.data);
    gnutls_x509_crt_deinit(ca);
    g_assert_null(lpm_tls_fingerprint("nonsense", &error));
    g_assert_error(error, LPM_ERROR, (int)LPM_ERROR_USAGE);
}

static void refuse_to_sign(const char *request, const char *name, const char *role, unsigned days,
                           const char *part)
{
    g_autofree char *path = g_build_filename(root, "ca", NULL);
    g_autoptr(GError) error = NULL;

    g_assert_null(lpm_tls_authority_sign(path, request, name, role, NULL, days, &error));
    g_assert_error(error, LPM_ERROR, (int)LPM_ERROR_USAGE);
    g_assert_nonnull(strstr(error->message, part));
}

static void test_sign_refusals(void)
{
    g_autofree char *key = NULL;
    g_autofree char *request = NULL;
    g_autofree char *forged = NULL;
    g_auto(GStrv) lines = NULL;

    g_assert_true(lpm_tls_request_new("sys-3", &key, &request, NULL));
    refuse_to_sign(request, "a,O=console", "system", 30, "no valid name");
    refuse_to_sign(request, "sys-3", "root", 30, "role \"root\" is unknown");
    refuse_to_sign(request, "sys-3", "system", 0, "0 days");
    refuse_to_sign("nonsense", "sys-3", "system", 30, "certificate request of sys-3");
    /* Changes a byte inside the public key, so that the sender's proof no longer holds. */
    lines = g_strsplit(request, "\n", -1);
    lines[2][10] = lines[2][10] == 'A' ? 'B' : 'A';
    forged = g_strjoinv("\n", lines);
    refuse_to_sign(forged, "sys-3", "system", 30, "certificate request of sys-3");
}

/* A system plays authority with its own key: made for the raw client test, refused there. */
static void make_leaf_signed(void)
{
    g_autofree char *cert = text_of("system", "cert.pem");
    g_autofree char *key = text_of("system", "key.pem");
    g_autofree char *fake = g_build_filename(root, "fake-ca", NULL);

    g_assert_cmpint(g_mkdir(fake, 0700), ==, 0);
    write_file("fake-ca", "ca.pem", cert, 0644);
    write_file("fake-ca", "ca-key.pem", key, 0600);
    join("fake-ca", "leaf-signed", "evil", "console");
}

int main(int argc, char **argv)
{
    int result;

    g_test_init(&argc, &argv, NULL);
    set_up();
    make_leaf_signed();
    g_test_add_func("/tls/mutual", test_mutual);
    g_test_add_func("/tls/wrong-name", test_wrong_name);
    g_test_add_func("/tls/other-authority", test_other_authority);
    g_test_add_func("/tls/no-certificate", test_no_certificate);
    g_test_add_func("/tls/raw-clients", test_raw_clients);
    g_test_add_func("/tls/old-version", test_old_version);
    g_test_add_func("/tls/expired", test_expired);
    g_test_add_func("/tls/credentials/refused", test_credentials_refused);
    g_test_add_func("/tls/credentials/reload", test_reload);
    g_test_add_func("/tls/authority/ensure", test_authority_ensure);
    g_test_add_func("/tls/authority/content", test_certificate_content);
    g_test_add_func("/tls/authority/fingerprint", test_fingerprint);
    g_test_add_func("/tls/authority/sign-refusals", test_sign_refusals);
    result = g_test_run();
    remove_tree(root);
    g_free(root);
    return result;
}
