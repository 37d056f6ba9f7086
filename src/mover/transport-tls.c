/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS 1.3 over TCP. GnuTLS makes records of 16 KiB; they are gathered here into few large send()
 * calls, and taken from few large recv() calls, which is most of the difference between a slow
 * relay and a fast one.
 */
#include "transport.h"

#include "bytes/bytes.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    GATHER = 128 * 1024,     /* records gathered before a send() */
    RECEIVE = 256 * 1024,    /* asked for in one recv() */
    RECORD_ROOM = 18 * 1024, /* one record with everything around it */
    ROLE_MAX = 64,
};

struct TransportCredentials {
    gnutls_certificate_credentials_t x509;
    gnutls_priority_t priority;
};

typedef struct {
    Transport base;
    gnutls_session_t session;
    const char *peer;
    LpmStreamError verdict; /* on the peer's certificate */
    char verdict_reason[TRANSPORT_REASON_MAX];
    uint8_t *out, *in;
    size_t out_size, in_at, in_size;
} TlsTransport;

static TlsTransport *tls(Transport *transport)
{
    return (TlsTransport *)transport;
}

TransportCredentials *transport_credentials_new(const char *cert, const char *key, const char *ca,
                                                char reason[TRANSPORT_REASON_MAX])
{
    static const char suites[] =
        "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM:"
        "+CHACHA20-POLY1305:-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1";
    TransportCredentials *credentials = calloc(1, sizeof(*credentials));
    if (!credentials || gnutls_certificate_allocate_credentials(&credentials->x509) != 0) {
        free(credentials);
        snprintf(reason, TRANSPORT_REASON_MAX, "out of memory");
        return NULL;
    }
    gnutls_datum_t cert_pem = {(unsigned char *)cert, (unsigned)strlen(cert)};
    gnutls_datum_t key_pem = {(unsigned char *)key, (unsigned)strlen(key)};
    gnutls_datum_t ca_pem = {(unsigned char *)ca, (unsigned)strlen(ca)};
    int n_ca =
        gnutls_certificate_set_x509_trust_mem(credentials->x509, &ca_pem, GNUTLS_X509_FMT_PEM);
    int rc = n_ca > 0 ? gnutls_certificate_set_x509_key_mem(credentials->x509, &cert_pem, &key_pem,
                                                            GNUTLS_X509_FMT_PEM)
                      : n_ca;
    if (n_ca > 0 && rc >= 0)
        rc = gnutls_priority_init(&credentials->priority, suites, NULL);
    if (n_ca > 0 && rc >= 0)
        return credentials;
    snprintf(reason, TRANSPORT_REASON_MAX, "%s",
             n_ca == 0 ? "the authority's file has no certificate" : gnutls_strerror(rc));
    transport_credentials_free(credentials);
    return NULL;
}

void transport_credentials_free(TransportCredentials *credentials)
{
    if (!credentials)
        return;
    if (credentials->priority)
        gnutls_priority_deinit(credentials->priority);
    gnutls_certificate_free_credentials(credentials->x509);
    free(credentials);
}

static bool flush(TlsTransport *t)
{
    size_t size = t->out_size;
    t->out_size = 0;
    return size == 0 || transport_raw_send(&t->base, t->out, size);
}

static ssize_t push_record(gnutls_transport_ptr_t context, const giovec_t *parts, int n)
{
    TlsTransport *t = context;
    size_t total = 0;
    for (int i = 0; i < n; i++) {
        if (parts[i].iov_len > GATHER + RECORD_ROOM - t->out_size && !flush(t))
            return -1;
        if (parts[i].iov_len > GATHER + RECORD_ROOM) {
            errno = EMSGSIZE;
            return -1;
        }
        memcpy(t->out + t->out_size, parts[i].iov_base, parts[i].iov_len);
        t->out_size += parts[i].iov_len;
        total += parts[i].iov_len;
    }
    /* In the handshake every flight goes out at once. */
    if ((t->out_size >= GATHER || t->base.deadline_ns != 0) && !flush(t))
        return -1;
    return (ssize_t)total;
}

static ssize_t pull_bytes(gnutls_transport_ptr_t context, void *data, size_t size)
{
    TlsTransport *t = context;
    if (t->in_at == t->in_size) {
        ssize_t n = transport_raw_receive(&t->base, t->in, RECEIVE);
        if (n <= 0)
            return n;
        t->in_at = 0;
        t->in_size = (size_t)n;
    }
    if (size > t->in_size - t->in_at)
        size = t->in_size - t->in_at;
    memcpy(data, t->in + t->in_at, size);
    t->in_at += size;
    return (ssize_t)size;
}

/* GnuTLS asks before it pulls when it has a time-out of its own; ours is in pull_bytes(). */
static int pull_ready(gnutls_transport_ptr_t context, unsigned ms)
{
    (void)context;
    (void)ms;
    return 1;
}

static int refuse(TlsTransport *t, LpmStreamError code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int refuse(TlsTransport *t, LpmStreamError code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(t->verdict_reason, sizeof(t->verdict_reason), format, args);
    va_end(args);
    t->verdict = code;
    return GNUTLS_E_CERTIFICATE_ERROR;
}

/* The chain is good: is it the system that this migration names? */
static int check_identity(TlsTransport *t, gnutls_x509_crt_t cert)
{
    char name[LPM_STREAM_NAME_MAX + 1] = "?", role[ROLE_MAX] = "";
    size_t name_size = sizeof(name), role_size = sizeof(role);
    gnutls_x509_crt_get_dn_by_oid(cert, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &name_size);
    gnutls_x509_crt_get_dn_by_oid(cert, GNUTLS_OID_X520_ORGANIZATION_NAME, 0, 0, role, &role_size);
    if (!gnutls_x509_crt_check_hostname2(cert, t->peer, GNUTLS_VERIFY_DO_NOT_ALLOW_WILDCARDS))
        return refuse(t, LPM_STREAM_ERR_IDENTITY,
                      "the peer's certificate is system %.60s's, this migration is with %.60s",
                      name, t->peer);
    if (strcmp(role, "system") != 0)
        return refuse(t, LPM_STREAM_ERR_IDENTITY,
                      "the peer's certificate is not a system's but of role '%.60s'", role);
    return 0;
}

static int verify_peer(gnutls_session_t session)
{
    TlsTransport *t = gnutls_session_get_ptr(session);
    unsigned status = 0, n_certs = 0;
    int rc = gnutls_certificate_verify_peers2(session, &status);
    if (rc != 0)
        return refuse(t, LPM_STREAM_ERR_TLS, "the peer's certificate cannot be checked: %s",
                      gnutls_strerror(rc));
    if (status != 0) {
        gnutls_datum_t text = {0};
        gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0);
        rc = refuse(t, LPM_STREAM_ERR_TLS, "the peer's certificate is refused: %.150s",
                    text.data ? (const char *)text.data : "");
        gnutls_free(text.data);
        return rc;
    }
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &n_certs);
    gnutls_x509_crt_t cert;
    if (!chain || n_certs == 0 || gnutls_x509_crt_init(&cert) != 0)
        return refuse(t, LPM_STREAM_ERR_TLS, "the peer showed no certificate");
    rc = gnutls_x509_crt_import(cert, &chain[0], GNUTLS_X509_FMT_DER) == 0
             ? check_identity(t, cert)
             : refuse(t, LPM_STREAM_ERR_TLS, "the peer's certificate cannot be read");
    gnutls_x509_crt_deinit(cert);
    return rc;
}

static bool tls_handshake(Transport *transport)
{
    TlsTransport *t = tls(transport);
    int rc;
    do
        rc = gnutls_handshake(t->session);
    while (rc == GNUTLS_E_INTERRUPTED || rc == GNUTLS_E_AGAIN);
    if (rc == 0) {
        snprintf(transport->cipher, sizeof(transport->cipher), "TLS1.3 %s",
                 gnutls_cipher_get_name(gnutls_cipher_get(t->session)));
        return true;
    }
    int saved = errno;
    gnutls_alert_send_appropriate(t->session, rc);
    if (t->verdict != LPM_STREAM_ERR_NONE)
        transport_fail_receive(transport, t->verdict, "%s", t->verdict_reason);
    else if (rc == GNUTLS_E_FATAL_ALERT_RECEIVED)
        transport_fail_receive(transport, LPM_STREAM_ERR_TLS, "the peer refused us: %s",
                               gnutls_alert_get_name(gnutls_alert_get(t->session)));
    else if (rc == GNUTLS_E_PULL_ERROR || rc == GNUTLS_E_PUSH_ERROR ||
             rc == GNUTLS_E_PREMATURE_TERMINATION)
        transport_fail_receive(transport, LPM_STREAM_ERR_CONNECT, "TLS handshake not finished: %s",
                               rc == GNUTLS_E_PREMATURE_TERMINATION
                                   ? "the peer closed the connection"
                                   : strerror(saved));
    else
        transport_fail_receive(transport, LPM_STREAM_ERR_TLS, "TLS handshake failed: %s",
                               gnutls_strerror(rc));
    return false;
}

static bool send_failed(TlsTransport *t, ssize_t n)
{
    t->base.ended_by_receiving = n == GNUTLS_E_INVALID_SESSION;
    transport_fail_send(&t->base, LPM_STREAM_ERR_LINK, "sending to the peer failed: %s",
                        n == GNUTLS_E_PUSH_ERROR ? strerror(errno) : gnutls_strerror((int)n));
    return false;
}

static bool tls_send(Transport *transport, const uint8_t *data, size_t size)
{
    TlsTransport *t = tls(transport);
    while (size > 0) {
        ssize_t n = gnutls_record_send(t->session, data, size);
        if (n == GNUTLS_E_INTERRUPTED || n == GNUTLS_E_AGAIN)
            continue;
        if (n <= 0)
            return send_failed(t, n);
        data += n;
        size -= (size_t)n;
    }
    return flush(t) || send_failed(t, GNUTLS_E_PUSH_ERROR);
}

static bool receive_failed(TlsTransport *t, ssize_t n)
{
    const char *why = gnutls_strerror((int)n);
    LpmStreamError code = LPM_STREAM_ERR_LINK;
    if (n == 0 || n == GNUTLS_E_PREMATURE_TERMINATION)
        why = "it closed the connection";
    else if (n == GNUTLS_E_PULL_ERROR)
        why = strerror(errno);
    else if (n == GNUTLS_E_FATAL_ALERT_RECEIVED)
        why = gnutls_alert_get_name(gnutls_alert_get(t->session));
    if (n == GNUTLS_E_DECRYPTION_FAILED || n == GNUTLS_E_UNEXPECTED_PACKET_LENGTH ||
        n == GNUTLS_E_UNEXPECTED_PACKET || n == GNUTLS_E_RECORD_OVERFLOW)
        code = LPM_STREAM_ERR_CHECKSUM;
    else if (n == GNUTLS_E_FATAL_ALERT_RECEIVED)
        code = LPM_STREAM_ERR_TLS;
    transport_fail_receive(&t->base, code, "receiving from the peer failed: %s", why);
    return false;
}

static bool tls_receive(Transport *transport, uint8_t *data, size_t size)
{
    TlsTransport *t = tls(transport);
    while (size > 0) {
        ssize_t n = gnutls_record_recv(t->session, data, size);
        if (n == GNUTLS_E_INTERRUPTED || n == GNUTLS_E_AGAIN)
            continue;
        if (n <= 0)
            return receive_failed(t, n);
        data += n;
        size -= (size_t)n;
    }
    return true;
}

static bool tls_exporter(Transport *transport, uint8_t out[LPM_EXPORTER_SIZE])
{
    static const char label[] = "EXPORTER-openlpm-mover";
    return gnutls_prf_rfc5705(tls(transport)->session, sizeof(label) - 1, label, 0, "",
                              LPM_EXPORTER_SIZE, (char *)out) == 0;
}

static void tls_finish(Transport *transport)
{
    gnutls_bye(tls(transport)->session, GNUTLS_SHUT_WR);
    flush(tls(transport));
}

static void tls_free(Transport *transport)
{
    TlsTransport *t = tls(transport);
    if (t->session)
        gnutls_deinit(t->session);
    free(t->out);
    free(t->in);
    lpm_bytes_close(&transport->fd);
    free(t);
}

static const TransportOps tls_ops = {
    .handshake = tls_handshake,
    .send = tls_send,
    .receive = tls_receive,
    .exporter = tls_exporter,
    .finish = tls_finish,
    .free = tls_free,
};

Transport *transport_tls_new(int fd, bool server, const TransportCredentials *credentials,
                             const char *peer)
{
    TlsTransport *t = calloc(1, sizeof(*t));
    if (!t)
        return NULL;
    t->base.ops = &tls_ops;
    t->base.fd = fd;
    t->peer = peer;
    t->out = malloc(GATHER + RECORD_ROOM);
    t->in = malloc(RECEIVE);
    unsigned side = server ? GNUTLS_SERVER : GNUTLS_CLIENT;
    if (!t->out || !t->in ||
        gnutls_init(&t->session, side | GNUTLS_NO_TICKETS | GNUTLS_NO_SIGNAL) != 0 ||
        gnutls_priority_set(t->session, credentials->priority) != 0 ||
        gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, credentials->x509) != 0) {
        t->base.fd = -1; /* stays the caller's */
        tls_free(&t->base);
        return NULL;
    }
    if (server)
        gnutls_certificate_server_set_request(t->session, GNUTLS_CERT_REQUIRE);
    gnutls_session_set_ptr(t->session, t);
    gnutls_session_set_verify_function(t->session, verify_peer);
    gnutls_transport_set_ptr(t->session, t);
    gnutls_transport_set_vec_push_function(t->session, push_record);
    gnutls_transport_set_pull_function(t->session, pull_bytes);
    gnutls_transport_set_pull_timeout_function(t->session, pull_ready);
    return &t->base;
}
