/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Identities: every system and console has a key and a certificate from the console's own
 * authority. A certificate's subject is CN=<name>, O=<role> where role is "console" or "system";
 * the name is also its DNS subjectAltName.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>

typedef struct LpmTlsCredentials LpmTlsCredentials;

/*
 * Loads ca.pem, cert.pem and key.pem (0600) from @directory. STATE error when they are not there
 * ("not joined").
 */
LpmTlsCredentials *lpm_tls_credentials_load(const char *directory,
                                            GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Only an authority to trust, no identity of our own (joining, or a command line without a client
 * certificate). */
LpmTlsCredentials *lpm_tls_credentials_anonymous(const char *ca_pem,
                                                 GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Reads the files again; on failure the old ones stay in use. */
bool lpm_tls_credentials_reload(LpmTlsCredentials *credentials,
                                GError **error) G_GNUC_WARN_UNUSED_RESULT;
void lpm_tls_credentials_free(LpmTlsCredentials *credentials);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LpmTlsCredentials, lpm_tls_credentials_free)

const char *lpm_tls_credentials_name(
    const LpmTlsCredentials *credentials); /* own CN; "" when anonymous */
/* When the own certificate ends, as it was loaded last: microseconds since 1970 UTC; 0 when
 * anonymous. */
int64_t lpm_tls_credentials_ends(const LpmTlsCredentials *credentials);
/* Paths of the files; NULL when anonymous. */
const char *lpm_tls_credentials_ca_path(const LpmTlsCredentials *credentials);
const char *lpm_tls_credentials_cert_path(const LpmTlsCredentials *credentials);
const char *lpm_tls_credentials_key_path(const LpmTlsCredentials *credentials);

/*
 * TLS 1.3 with mutual authentication over a connected socket, through GIO's TLS (Debian package
 * glib-networking, GnuTLS inside). The handshake runs asynchronously inside the first read or
 * write, or by g_tls_connection_handshake_async(). A version below 1.3, a chain that does not end
 * in our authority, or another name than @expected_name is refused.
 */
GIOStream *lpm_tls_client_stream(GSocketConnection *connection, LpmTlsCredentials *credentials,
                                 const char *expected_name, GError **error);
GIOStream *lpm_tls_server_stream(GSocketConnection *connection, LpmTlsCredentials *credentials,
                                 bool need_peer, GError **error);
/* Peer's name and role after the handshake; NULL when it has no certificate. Borrowed. */
const char *lpm_tls_stream_peer_name(GIOStream *stream);
const char *lpm_tls_stream_peer_role(GIOStream *stream);

/*
 * Sets @error for a failed handshake, read or write on @stream: DENIED with the reason where a
 * certificate was refused here, else the kind of @cause; always false. Under TLS 1.3 a client
 * learns only from its first read that the server refused it.
 */
bool lpm_tls_stream_failed(GIOStream *stream, const GError *cause, GError **error);

/* --- the console's own authority --- */

/* Creates ca.pem and ca-key.pem in @directory (0700) if they are not there. */
bool lpm_tls_authority_ensure(const char *directory, const char *name,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* A certificate request for @name, PEM, g_free(), with the key in @key_pem; where that is NULL an
 * EC key is made, PEM, g_free(). USAGE error when the key given is none. */
bool lpm_tls_request_new(const char *name, char **key_pem, char **ret_csr_pem,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;
/*
 * Signs a request for exactly @name and @role ("system", "console"); @addresses (NULL-terminated,
 * may be NULL) go in as subjectAltNames. The name in the request is ignored. PEM, g_free().
 */
char *lpm_tls_authority_sign(const char *directory, const char *csr_pem, const char *name,
                             const char *role, const char *const *addresses, unsigned days,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* SHA-256 of a PEM certificate's DER form, 64 hexadecimal digits, g_free(). */
char *lpm_tls_fingerprint(const char *cert_pem, GError **error) G_GNUC_WARN_UNUSED_RESULT;
