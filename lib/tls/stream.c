/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/credentials.h"

#include <stdlib.h>
#include <string.h>

/*
 * TLS 1.3 alone. Without tickets no session is resumed, so that every handshake brings a
 * certificate, which is checked here, every time.
 */
#define PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3:%NO_TICKETS"

/* Kept with the stream, as its key below. */
typedef struct {
    TlsTrust *trust;
    const char *purpose;  /* of the peer's certificate */
    char *expected_name;  /* NULL: any */
    TlsIdentity identity; /* once the peer's certificate was accepted */
    char *refusal;        /* why it was not */
} Peer;

#define PEER_KEY "lpm-tls-peer"

static void peer_free(gpointer data)
{
    Peer *peer = data;

    tls_trust_unref(peer->trust);
    tls_identity_clear(&peer->identity);
    g_free(peer->expected_name);
    g_free(peer->refusal);
    g_free(peer);
}

static Peer *peer_of(GIOStream *stream)
{
    return g_object_get_data(G_OBJECT(stream), PEER_KEY);
}

/*
 * GIO offers no way to ask for a TLS version; its GnuTLS back end reads this variable once, when
 * its classes are made. It is set only for that moment, so that no child inherits it.
 */
static gpointer restrict_versions(gpointer data)
{
    static const char variable[] = "G_TLS_GNUTLS_PRIORITY";
    g_autofree char *before = g_strdup(g_getenv(variable));
    GTlsBackend *backend = g_tls_backend_get_default();

    (void)data;
    g_setenv(variable, PRIORITY, TRUE);
    g_type_class_ref(g_tls_backend_get_client_connection_type(backend));
    g_type_class_ref(g_tls_backend_get_server_connection_type(backend));
    if (before) {
        g_setenv(variable, before, TRUE);
    } else {
        g_unsetenv(variable);
    }
    return NULL;
}

static gnutls_x509_crt_t to_gnutls(GTlsCertificate *certificate)
{
    g_autoptr(GByteArray) der = NULL;
    g_auto(gnutls_x509_crt_t) converted = NULL;
    gnutls_datum_t datum;

    g_object_get(certificate, "certificate", &der, NULL);
    if (!der || gnutls_x509_crt_init(&converted) < 0) {
        return NULL;
    }
    datum.data = der->data;
    datum.size = der->len;
    if (gnutls_x509_crt_import(converted, &datum, GNUTLS_X509_FMT_DER) < 0) {
        return NULL;
    }
    return g_steal_pointer(&converted);
}

static bool check_peer(Peer *peer, GTlsCertificate *certificate, GError **error)
{
    g_auto(gnutls_x509_crt_t) converted = to_gnutls(certificate);

    if (!converted) {
        return lpm_error_set(error, LPM_ERROR_DENIED, "the peer's certificate cannot be read");
    }
    tls_identity_clear(&peer->identity);
    if (!tls_trust_check(peer->trust, converted, peer->purpose, &peer->identity, error)) {
        return false;
    }
    if (peer->expected_name && strcmp(peer->expected_name, peer->identity.name) != 0) {
        lpm_error_set(error, LPM_ERROR_DENIED,
                      "the peer is %s %s, but %s was expected: check the address and the name",
                      peer->identity.role, peer->identity.name, peer->expected_name);
        tls_identity_clear(&peer->identity);
        return false;
    }
    return true;
}

/*
 * Without a database GIO finds every certificate unknown and asks here; the flags it found are of
 * no interest, for the chain is verified against our one authority.
 */
static gboolean on_accept_certificate(GTlsConnection *connection, GTlsCertificate *certificate,
                                      GTlsCertificateFlags flags, gpointer data)
{
    Peer *peer = data;
    g_autoptr(GError) error = NULL;

    (void)connection;
    (void)flags;
    g_clear_pointer(&peer->refusal, g_free);
    if (!check_peer(peer, certificate, &error)) {
        peer->refusal = g_strdup(error->message);
        return FALSE;
    }
    return TRUE;
}

static GIOStream *finish(GIOStream *stream, LpmTlsCredentials *credentials, const char *purpose,
                         const char *expected_name)
{
    Peer *peer = g_new0(Peer, 1);

    peer->trust = tls_trust_ref(credentials->trust);
    peer->purpose = purpose;
    peer->expected_name = g_strdup(expected_name);
    g_object_set_data_full(G_OBJECT(stream), PEER_KEY, peer, peer_free);
    g_tls_connection_set_database(G_TLS_CONNECTION(stream), NULL);
    g_tls_connection_set_require_close_notify(G_TLS_CONNECTION(stream), TRUE);
    g_signal_connect(stream, "accept-certificate", G_CALLBACK(on_accept_certificate), peer);
    return stream;
}

static GOnce versions_restricted = G_ONCE_INIT;

GIOStream *lpm_tls_client_stream(GSocketConnection *connection, LpmTlsCredentials *credentials,
                                 const char *expected_name, GError **error)
{
    GIOStream *stream;

    g_once(&versions_restricted, restrict_versions, NULL);
    stream = g_tls_client_connection_new(G_IO_STREAM(connection), NULL, error);
    if (!stream) {
        return NULL;
    }
    if (credentials->certificate) {
        g_tls_connection_set_certificate(G_TLS_CONNECTION(stream), credentials->certificate);
    }
    return finish(stream, credentials, GNUTLS_KP_TLS_WWW_SERVER, expected_name);
}

GIOStream *lpm_tls_server_stream(GSocketConnection *connection, LpmTlsCredentials *credentials,
                                 bool need_peer, GError **error)
{
    GIOStream *stream;

    if (!credentials->certificate) {
        lpm_error_set(error, LPM_ERROR_STATE,
                      "a server needs a certificate of its own: join a console first");
        return NULL;
    }
    g_once(&versions_restricted, restrict_versions, NULL);
    stream = g_tls_server_connection_new(G_IO_STREAM(connection), credentials->certificate, error);
    if (!stream) {
        return NULL;
    }
    g_object_set(stream, "authentication-mode",
                 need_peer ? G_TLS_AUTHENTICATION_REQUIRED : G_TLS_AUTHENTICATION_REQUESTED, NULL);
    return finish(stream, credentials, GNUTLS_KP_TLS_WWW_CLIENT, NULL);
}

/* The identity counts only once GIO has finished the handshake, and only under TLS 1.3. */
static const TlsIdentity *identity_of(GIOStream *stream)
{
    static const TlsIdentity nobody;
    GTlsConnection *connection = G_TLS_CONNECTION(stream);

    if (g_tls_connection_get_protocol_version(connection) != G_TLS_PROTOCOL_VERSION_TLS_1_3 ||
        !g_tls_connection_get_peer_certificate(connection)) {
        return &nobody;
    }
    return &peer_of(stream)->identity;
}

const char *lpm_tls_stream_peer_name(GIOStream *stream)
{
    return identity_of(stream)->name;
}

const char *lpm_tls_stream_peer_role(GIOStream *stream)
{
    return identity_of(stream)->role;
}

static LpmErrorCode code_of(const GError *cause)
{
    if (cause->domain == LPM_ERROR) {
        return (LpmErrorCode)cause->code;
    }
    if (g_error_matches(cause, G_TLS_ERROR, G_TLS_ERROR_BAD_CERTIFICATE) ||
        g_error_matches(cause, G_TLS_ERROR, G_TLS_ERROR_CERTIFICATE_REQUIRED)) {
        return LPM_ERROR_DENIED;
    }
    if (g_error_matches(cause, G_TLS_ERROR, G_TLS_ERROR_EOF)) {
        return LPM_ERROR_UNREACHABLE;
    }
    if (g_error_matches(cause, G_IO_ERROR, G_IO_ERROR_TIMED_OUT)) {
        return LPM_ERROR_TIMEOUT;
    }
    return cause->domain == G_TLS_ERROR ? LPM_ERROR_PROTOCOL : LPM_ERROR_UNREACHABLE;
}

bool lpm_tls_stream_failed(GIOStream *stream, const GError *cause, GError **error)
{
    const Peer *peer = peer_of(stream);

    if (peer && peer->refusal) {
        return lpm_error_set(error, LPM_ERROR_DENIED, "%s", peer->refusal);
    }
    return lpm_error_set(error, code_of(cause), "TLS connection: %s", cause->message);
}
