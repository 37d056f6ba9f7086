/* SPDX-License-Identifier: Apache-2.0 */
/* Private to lib/tls: reading and checking certificates by our own naming convention. */
#pragma once

#include "base/error.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

G_DEFINE_AUTO_CLEANUP_FREE_FUNC(gnutls_x509_crt_t, gnutls_x509_crt_deinit, NULL)
G_DEFINE_AUTO_CLEANUP_FREE_FUNC(gnutls_x509_privkey_t, gnutls_x509_privkey_deinit, NULL)

/* Who a certificate says it is. Both owned; NULL before it was read. */
typedef struct {
    char *name; /* CN */
    char *role; /* O: "console" or "system" */
} TlsIdentity;

void tls_identity_clear(TlsIdentity *identity);

/* The one trusted authority; shared between credentials and the streams made with them. */
typedef struct TlsTrust TlsTrust;

/* USAGE error when @ca_pem is not exactly one certificate of an authority. */
TlsTrust *tls_trust_new(const char *ca_pem, GError **error) G_GNUC_WARN_UNUSED_RESULT;
TlsTrust *tls_trust_ref(TlsTrust *trust);
void tls_trust_unref(TlsTrust *trust);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TlsTrust, tls_trust_unref)

/*
 * Checks that @certificate was issued by the authority, is valid now, may be used for @purpose
 * (GNUTLS_KP_...), and names one of our roles. DENIED error that says which of these failed.
 * @ret_identity is filled on success.
 */
bool tls_trust_check(TlsTrust *trust, gnutls_x509_crt_t certificate, const char *purpose,
                     TlsIdentity *ret_identity, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* A certificate from PEM text; the caller deinits. NULL with a USAGE error that calls it @what. */
gnutls_x509_crt_t tls_certificate_from_pem(const char *pem, const char *what,
                                           GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Subject attribute @oid, g_free(); NULL unless it is there exactly once. */
char *tls_certificate_attribute(gnutls_x509_crt_t certificate, const char *oid);

/* Sets an INTERNAL error for a GnuTLS failure @code while doing @what; always false. */
bool tls_failed(int code, const char *what, GError **error);

/* Whether @role is one that certificates may carry. */
bool tls_role_is_valid(const char *role);
