/* SPDX-License-Identifier: Apache-2.0 */
/* lib/http against real TLS clients that send what they please; the clients run in threads of their
 * own. */
#include "http/internal.h"

#include <gio/gio.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string.h>

typedef struct {
    LpmHttpServer *server;
    uint16_t port;
    LpmHttpRequest *late; /* a request of /v1/late that waits for the test's answer */
    unsigned calls;
    LpmHttpStream *flood; /* of /v1/flood: always has more */
    size_t flooded;       /* bytes */
    LpmHttpStream *tick;  /* of /v1/tick */
    unsigned drained, gone;
} Fixture;

static void run_echo(LpmHttpRequest *request, json_t *arguments, void *data)
{
    Fixture *fixture = data;

    fixture->calls++;
    lpm_http_request_return(request, lpm_json_pack("{s:O, s:s}", "arguments", arguments, "user",
                                                   lpm_http_request_user(request)));
}

static void run_fail(LpmHttpRequest *request, json_t *arguments, void *data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) findings = json_array();

    (void)arguments;
    (void)data;
    lpm_error_set(&error, LPM_ERROR_REFUSED, "partition \"web1\" cannot move");
    lpm_http_request_fail_findings(request, error, findings);
}

static void run_late(LpmHttpRequest *request, json_t *arguments, void *data)
{
    (void)arguments;
    ((Fixture *)data)->late = request;
}

/* --- answers that go on --- */

static void on_flood(LpmHttpStream *stream, void *data)
{
    Fixture *fixture = data;
    g_autofree char *text = g_strnfill((gsize)1 << 18, 'x');

    fixture->flooded += strlen(text);
    lpm_http_stream_send(stream, text);
}

static void on_flood_gone(LpmHttpStream *stream, void *data)
{
    Fixture *fixture = data;

    g_assert_true(stream == fixture->flood);
    fixture->flood = NULL;
    fixture->gone++;
}

static void on_tick(LpmHttpStream *stream, void *data)
{
    (void)stream;
    ((Fixture *)data)->drained++;
}

static void on_tick_gone(LpmHttpStream *stream, void *data)
{
    (void)stream;
    ((Fixture *)data)->tick = NULL;
    ((Fixture *)data)->gone++;
}

static const LpmHttpStreamCalls flood_calls = {on_flood, on_flood_gone};
static const LpmHttpStreamCalls tick_calls = {on_tick, on_tick_gone};

static void run_flood(LpmHttpRequest *request, json_t *arguments, void *data)
{
    Fixture *fixture = data;

    (void)arguments;
    fixture->flood = lpm_http_request_stream(request, &flood_calls, fixture, NULL);
    g_assert_nonnull(fixture->flood);
    lpm_http_stream_send(fixture->flood, "x");
}

static void run_tick(LpmHttpRequest *request, json_t *arguments, void *data)
{
    Fixture *fixture = data;
    g_autofree char *from =
        g_strdup_printf("from %d\n", (int)lpm_json_int(arguments, "Last-Event-ID", -1));

    fixture->tick = lpm_http_request_stream(request, &tick_calls, fixture, NULL);
    g_assert_nonnull(fixture->tick);
    lpm_http_stream_send(fixture->tick, from);
}

static const LpmHttpArg tick_args[] = {
    {"Last-Event-ID", LPM_HTTP_HEADER, 'i', false, "a number"},
    {NULL, LPM_HTTP_BODY, 0, false, NULL},
};

static const LpmHttpArg echo_args[] = {
    {"name", LPM_HTTP_PATH, 's', true, "a name"},
    {"count", LPM_HTTP_QUERY, 'i', false, "a number"},
    {"flag", LPM_HTTP_QUERY, 'b', false, "a flag"},
    {"text", LPM_HTTP_BODY, 's', true, "a text"},
    {"list", LPM_HTTP_BODY, 'a', false, "a list"},
    {NULL, LPM_HTTP_BODY, 0, false, NULL},
};

static const LpmHttpRoute routes[] = {
    {"GET", "/v1/open", 200, true, run_echo, NULL, "", "{}"},
    {"GET", "/v1/closed", 200, false, run_echo, NULL, "", "{}"},
    {"POST", "/v1/echo/{name}", 201, false, run_echo, echo_args, "", "{}"},
    {"GET", "/v1/fail", 200, false, run_fail, NULL, "", "{}"},
    {"GET", "/v1/late", 200, false, run_late, NULL, "", "{}"},
    {"GET", "/v1/flood", 200, false, run_flood, NULL, "", ""},
    {"GET", "/v1/tick", 200, false, run_tick, tick_args, "", ""},
    {NULL, NULL, 0, false, NULL, NULL, NULL, NULL},
};

static const char *who(const char *token, void *data)
{
    (void)data;
    return g_strcmp0(token, "good") == 0 ? "admin" : NULL;
}

/* --- a certificate of our own --- */

static char *export_pem(gnutls_x509_crt_t cert, gnutls_x509_privkey_t key)
{
    gnutls_datum_t pem;
    char *text;

    g_assert_cmpint(cert ? gnutls_x509_crt_export2(cert, GNUTLS_X509_FMT_PEM, &pem)
                         : gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem),
                    ==, 0);
    text = g_strndup((const char *)pem.data, pem.size);
    gnutls_free(pem.data);
    return text;
}

static void make_certificate(char **ret_cert, char **ret_key)
{
    gnutls_x509_crt_t cert;
    gnutls_x509_privkey_t key;

    gnutls_x509_privkey_init(&key);
    gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                 GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
    gnutls_x509_crt_init(&cert);
    gnutls_x509_crt_set_version(cert, 3);
    gnutls_x509_crt_set_serial(cert, "\1", 1);
    gnutls_x509_crt_set_dn(cert, "CN=test", NULL);
    gnutls_x509_crt_set_activation_time(cert, time(NULL) - 60);
    gnutls_x509_crt_set_expiration_time(cert, time(NULL) + 3600);
    gnutls_x509_crt_set_key(cert, key);
    g_assert_cmpint(gnutls_x509_crt_sign2(cert, cert, key, GNUTLS_DIG_SHA256, 0), ==, 0);
    *ret_cert = export_pem(cert, NULL);
    *ret_key = export_pem(NULL, key);
    gnutls_x509_crt_deinit(cert);
    gnutls_x509_privkey_deinit(key);
}

/* --- a client: sends bytes, reads until the end --- */

typedef struct {
    uint16_t port;
    const char *send;
    size_t length;
    char *answer; /* NULL: no TLS connection */
    gint done;
    gint deaf; /* while it is 1 nothing is read */
} Client;

static gboolean accept_any(GTlsConnection *connection, GTlsCertificate *certificate,
                           GTlsCertificateFlags flags, gpointer data)
{
    (void)connection;
    (void)certificate;
    (void)flags;
    (void)data;
    return TRUE;
}

static void on_client_event(GSocketClient *client, GSocketClientEvent event, GSocketConnectable *to,
                            GIOStream *stream, gpointer data)
{
    (void)client;
    (void)to;
    (void)data;
    if (event == G_SOCKET_CLIENT_TLS_HANDSHAKING) {
        g_signal_connect(stream, "accept-certificate", G_CALLBACK(accept_any), NULL);
    }
}

static void read_all(GInputStream *in, GString *text)
{
    char buffer[4096];
    gssize got;

    while ((got = g_input_stream_read(in, buffer, sizeof(buffer), NULL, NULL)) > 0) {
        g_string_append_len(text, buffer, got);
    }
}

static gpointer client_thread(gpointer data)
{
    Client *client = data;
    g_autoptr(GMainContext) context = g_main_context_new();
    g_autoptr(GSocketClient) socket = NULL;
    g_autoptr(GSocketConnection) connection = NULL;

    g_main_context_push_thread_default(context);
    socket = g_socket_client_new();
    g_socket_client_set_tls(socket, TRUE);
    g_socket_client_set_timeout(socket, 10);
    g_signal_connect(socket, "event", G_CALLBACK(on_client_event), NULL);
    connection = g_socket_client_connect_to_host(socket, "127.0.0.1", client->port, NULL, NULL);
    if (connection) {
        GString *text = g_string_new(NULL);

        g_output_stream_write_all(g_io_stream_get_output_stream(G_IO_STREAM(connection)),
                                  client->send, client->length, NULL, NULL, NULL);
        while (g_atomic_int_get(&client->deaf)) {
            g_usleep(10000);
        }
        read_all(g_io_stream_get_input_stream(G_IO_STREAM(connection)), text);
        client->answer = g_string_free(text, FALSE);
    }
    g_main_context_pop_thread_default(context);
    g_atomic_int_set(&client->done, 1);
    g_main_context_wakeup(NULL);
    return NULL;
}

static char *exchange(Fixture *fixture, const char *send, size_t length)
{
    Client client = {fixture->port, send, length, NULL, 0, 0};
    GThread *thread = g_thread_new("client", client_thread, &client);

    while (!g_atomic_int_get(&client.done)) {
        g_main_context_iteration(NULL, TRUE);
    }
    g_thread_join(thread);
    return client.answer ? client.answer : g_strdup("");
}

static char *request(Fixture *fixture, const char *first, const char *token, const char *body)
{
    g_autofree char *length = g_strdup_printf("Content-Length: %zu\r\n", body ? strlen(body) : 0);
    g_autofree char *text =
        g_strdup_printf("%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s%s%s%s\r\n%s", first,
                        token ? "Authorization: Bearer " : "", token ? token : "",
                        token ? "\r\n" : "", body ? length : "", body ? body : "");

    return exchange(fixture, text, strlen(text));
}

/* Asserts the status, and that the answer's body holds @part. */
static void expect(Fixture *fixture, const char *first, const char *token, const char *body,
                   unsigned status, const char *part)
{
    g_autofree char *answer = request(fixture, first, token, body);
    g_autofree char *line = g_strdup_printf("HTTP/1.1 %u ", status);

    if (!g_str_has_prefix(answer, line) || !strstr(answer, part)) {
        g_error("%s: wanted %u and '%s', got: %s", first, status, part, answer);
    }
}

static void set_up(Fixture *fixture, gconstpointer data)
{
    g_autofree char *cert = NULL;
    g_autofree char *key = NULL;
    GError *error = NULL;

    (void)data;
    make_certificate(&cert, &key);
    fixture->server = lpm_http_server_new(routes, who, fixture);
    g_assert_true(
        lpm_http_server_listen(fixture->server, "127.0.0.1", 0, cert, key, &fixture->port, &error));
    g_assert_no_error(error);
}

static void tear_down(Fixture *fixture, gconstpointer data)
{
    (void)data;
    lpm_http_server_free(fixture->server);
}

/* --- tests --- */

static void test_tokens(Fixture *fixture, gconstpointer data)
{
    (void)data;
    expect(fixture, "GET /v1/open", NULL, NULL, 200, "\"user\":\"\"");
    expect(fixture, "GET /v1/closed", "good", NULL, 200, "\"user\":\"admin\"");
    g_assert_cmpuint(fixture->calls, ==, 2);
    expect(fixture, "GET /v1/closed", NULL, NULL, 403, "\"class\":\"denied\"");
    expect(fixture, "GET /v1/closed", "goo", NULL, 403, "\"class\":\"denied\"");
    expect(fixture, "GET /v1/closed", "goodx", NULL, 403, "\"remedy\"");
    g_assert_cmpuint(fixture->calls, ==, 2);
}

static void test_arguments(Fixture *fixture, gconstpointer data)
{
    static const struct {
        const char *first, *body;
        unsigned status;
        const char *part;
    } rows[] = {
        {"POST /v1/echo/a%20b?count=7&flag=true", "{\"text\":\"x\",\"list\":[1]}", 201,
         "\"name\":\"a b\",\"count\":7,\"flag\":true,\"text\":\"x\",\"list\":[1]"},
        {"POST /v1/echo/a", "{\"text\":\"x\",\"list\":null}", 201,
         "{\"name\":\"a\",\"text\":\"x\"}"},
        {"POST /v1/echo/a", NULL, 400, "\\\"text\\\" is missing"},
        {"POST /v1/echo/a", "{\"text\":1}", 400, "\\\"text\\\" must be a string"},
        {"POST /v1/echo/a", "{\"text\":\"x\",\"name\":\"b\"}", 400,
         "\\\"name\\\" is not an argument"},
        {"POST /v1/echo/a?count=7x", "{\"text\":\"x\"}", 400, "\\\"count\\\" must be an integer"},
        {"POST /v1/echo/a?count=1&count=2", "{\"text\":\"x\"}", 400, "there twice"},
        {"POST /v1/echo/a?other=1", "{\"text\":\"x\"}", 400, "\\\"other\\\" is not an argument"},
        {"POST /v1/echo/%ff", "{\"text\":\"x\"}", 400, "UTF-8"},
        {"POST /v1/echo/a", "[]", 400, "must be a JSON object"},
        {"POST /v1/echo/a", "{\"text\":\"x\",\"text\":\"y\"}", 400, "body: "},
        {"POST /v1/echo/a", "{\"text\":", 400, "body: not JSON"},
        {"GET /v1/echo/a", NULL, 400, "it takes POST"},
        {"POST /v1/echo/", "{}", 404, "no such path"},
        {"POST /v1/echo/a/b", "{}", 404, "\"class\":\"not-found\""},
        {"GET /v1/../v1/open/", NULL, 404, "no such path"},
        {"GET /v1/fail", NULL, 422, "\"findings\":[]"},
    };

    (void)data;
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        expect(fixture, rows[i].first, "good", rows[i].body, rows[i].status, rows[i].part);
    }
    g_assert_cmpuint(fixture->calls, ==, 2);
}

static void test_hostile(Fixture *fixture, gconstpointer data)
{
    static const char big_claim[] =
        "POST /v1/echo/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer good\r\n"
        "Content-Length: 99999999999\r\n\r\n{";
    g_autofree char *nested = g_strnfill(200000, '[');
    g_autofree char *garbage = g_strnfill(100000, '\x80');
    g_autofree char *claim = NULL;
    g_autofree char *noise = NULL;
    g_autofree char *first = NULL;

    (void)data;
    claim = exchange(fixture, big_claim, sizeof(big_claim) - 1);
    g_assert_nonnull(strstr(claim, "400"));
    g_assert_nonnull(strstr(claim, "99999999999 bytes"));
    expect(fixture, "POST /v1/echo/a", "good", nested, 400, "body: ");
    noise = exchange(fixture, garbage, 100000);
    g_assert_false(g_str_has_prefix(noise, "HTTP/1.1 200"));
    garbage[90000] = '\0';
    first = g_strdup_printf("GET /v1/%s", garbage);
    g_clear_pointer(&noise, g_free);
    noise = request(fixture, first, "good", NULL);
    g_assert_false(g_str_has_prefix(noise, "HTTP/1.1 200"));
    g_assert_cmpuint(fixture->calls, ==, 0);
    expect(fixture, "GET /v1/open", NULL, NULL, 200, "{");
}

static void test_chunked_too_long(Fixture *fixture, gconstpointer data)
{
    GString *text =
        g_string_new("POST /v1/echo/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                     "Authorization: Bearer good\r\nTransfer-Encoding: chunked\r\n\r\n");
    g_autofree char *chunk = g_strnfill(65536, ' ');
    g_autofree char *answer = NULL;

    (void)data;
    for (size_t i = 0; i < LPM_HTTP_BODY_MAX / 65536 + 1; i++) {
        g_string_append_printf(text, "10000\r\n%s\r\n", chunk);
    }
    g_string_append(text, "0\r\n\r\n");
    answer = exchange(fixture, text->str, text->len);
    g_assert_nonnull(strstr(answer, "more than 1048576 bytes"));
    g_assert_cmpuint(fixture->calls, ==, 0);
    g_string_free(text, TRUE);
}

/* A client that never ends its request is cut off; others are served meanwhile. */
static void test_slow(Fixture *fixture, gconstpointer data)
{
    static const char half[] = "GET /v1/open HTTP/1.1\r\nHost: x\r\n";
    gint64 start = g_get_monotonic_time();
    g_autofree char *answer = NULL;

    (void)data;
    fixture->server->deadline_s = 1;
    answer = exchange(fixture, half, sizeof(half) - 1);
    g_assert_false(g_str_has_prefix(answer, "HTTP/1.1 200"));
    g_assert_cmpint(g_get_monotonic_time() - start, <, 5 * G_USEC_PER_SEC);
    expect(fixture, "GET /v1/open", NULL, NULL, 200, "{");
}

static gboolean answer_late(gpointer data)
{
    Fixture *fixture = data;

    if (!fixture->late) {
        return G_SOURCE_CONTINUE;
    }
    lpm_http_request_return(fixture->late, lpm_json_pack("{s:b}", "late", 1));
    return G_SOURCE_REMOVE;
}

static void test_late(Fixture *fixture, gconstpointer data)
{
    (void)data;
    g_timeout_add(50, answer_late, fixture);
    expect(fixture, "GET /v1/late", "good", NULL, 200, "{\"late\":true}");
}

/* The server goes while a request waits; the answer that comes afterwards goes nowhere. */
static void test_stop(Fixture *fixture, gconstpointer data)
{
    static const char text[] = "GET /v1/late HTTP/1.1\r\nHost: x\r\nConnection: "
                               "close\r\nAuthorization: Bearer good\r\n\r\n";
    Client client = {fixture->port, text, sizeof(text) - 1, NULL, 0, 0};
    GThread *thread = g_thread_new("client", client_thread, &client);

    (void)data;
    while (!fixture->late) {
        g_main_context_iteration(NULL, TRUE);
    }
    g_clear_pointer(&fixture->server, lpm_http_server_free);
    g_thread_join(thread);
    g_assert_false(g_str_has_prefix(client.answer, "HTTP/1.1 200"));
    lpm_http_request_return(fixture->late, NULL);
    g_free(client.answer);
}

#define STREAM_REQUEST(path)                                                                       \
    "GET " path " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer good\r\n"      \
    "Last-Event-ID: 41\r\n\r\n"

/* Each time that all is taken and some time has passed: two more texts, then the end. */
static gboolean send_ticks(gpointer data)
{
    Fixture *fixture = data;

    if (!fixture->tick || !lpm_http_stream_is_drained(fixture->tick)) {
        return G_SOURCE_CONTINUE;
    }
    if (fixture->drained < 3) {
        lpm_http_stream_send(fixture->tick, "one\n");
        lpm_http_stream_send(fixture->tick, "two\n");
        return G_SOURCE_CONTINUE;
    }
    lpm_http_stream_close(fixture->tick);
    return G_SOURCE_REMOVE;
}

static void test_stream(Fixture *fixture, gconstpointer data)
{
    static const char text[] = STREAM_REQUEST("/v1/tick");
    g_autofree char *answer = NULL;

    (void)data;
    g_timeout_add(30, send_ticks, fixture);
    answer = exchange(fixture, text, sizeof(text) - 1);
    g_assert_true(g_str_has_prefix(answer, "HTTP/1.1 200 "));
    g_assert_nonnull(strstr(answer, "text/event-stream"));
    g_assert_nonnull(strstr(answer, "from 41\n"));
    g_assert_nonnull(strstr(answer, "one\ntwo\n"));
    g_assert_true(g_str_has_suffix(answer, "\r\n0\r\n\r\n")); /* it was ended, not cut */
    g_assert_cmpuint(fixture->drained, >=, 3);
    g_assert_cmpuint(fixture->gone, ==, 0);
    g_assert_cmpuint(g_hash_table_size(fixture->server->streams), ==, 0);
}

/* One that does not read is cut off after the deadline; another hears everything meanwhile. */
static void test_deaf_listener(Fixture *fixture, gconstpointer data)
{
    static const char deaf_text[] = STREAM_REQUEST("/v1/flood");
    static const char text[] = STREAM_REQUEST("/v1/tick");
    Client deaf = {fixture->port, deaf_text, sizeof(deaf_text) - 1, NULL, 0, 1};
    GThread *thread = NULL;
    g_autofree char *answer = NULL;

    (void)data;
    fixture->server->deadline_s = 1;
    thread = g_thread_new("deaf", client_thread, &deaf);
    while (!fixture->flood) {
        g_main_context_iteration(NULL, TRUE);
    }
    g_timeout_add(30, send_ticks, fixture);
    answer = exchange(fixture, text, sizeof(text) - 1);
    g_assert_true(g_str_has_suffix(answer, "\r\n0\r\n\r\n"));
    while (fixture->flood) {
        g_main_context_iteration(NULL, TRUE);
    }
    g_assert_cmpuint(fixture->gone, ==, 1);
    g_assert_cmpuint(fixture->flooded, <, (size_t)64 << 20);
    g_atomic_int_set(&deaf.deaf, 0);
    g_thread_join(thread);
    g_assert_false(g_str_has_suffix(deaf.answer, "\r\n0\r\n\r\n"));
    g_free(deaf.answer);
}

/* The server goes: its listeners are told, and their connections end. */
static void test_stop_streams(Fixture *fixture, gconstpointer data)
{
    static const char text[] = STREAM_REQUEST("/v1/tick");
    Client client = {fixture->port, text, sizeof(text) - 1, NULL, 0, 0};
    GThread *thread = g_thread_new("client", client_thread, &client);

    (void)data;
    while (fixture->drained == 0) {
        g_main_context_iteration(NULL, TRUE);
    }
    g_clear_pointer(&fixture->server, lpm_http_server_free);
    g_assert_cmpuint(fixture->gone, ==, 1);
    g_thread_join(thread);
    g_assert_nonnull(strstr(client.answer, "from 41\n"));
    g_free(client.answer);
}

static void test_listen_errors(void)
{
    g_autoptr(LpmHttpServer) server = lpm_http_server_new(routes, who, NULL);
    g_autoptr(GError) error = NULL;

    g_assert_false(lpm_http_server_listen(server, "no-address", 1, "", "", NULL, &error));
    g_assert_error(error, LPM_ERROR, LPM_ERROR_NETWORK);
    g_clear_error(&error);
    g_assert_false(lpm_http_server_listen(server, "127.0.0.1", 0, "x", "y", NULL, &error));
    g_assert_error(error, LPM_ERROR, LPM_ERROR_NETWORK);
}

#define ADD(name, function) g_test_add(name, Fixture, NULL, set_up, function, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/http/tokens", test_tokens);
    ADD("/http/arguments", test_arguments);
    ADD("/http/hostile", test_hostile);
    ADD("/http/chunked-too-long", test_chunked_too_long);
    ADD("/http/slow", test_slow);
    ADD("/http/late", test_late);
    ADD("/http/stop", test_stop);
    ADD("/http/stream", test_stream);
    ADD("/http/deaf-listener", test_deaf_listener);
    ADD("/http/stop-streams", test_stop_streams);
    g_test_add_func("/http/listen-errors", test_listen_errors);
    return g_test_run();
}
