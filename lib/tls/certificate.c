/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/certificate.h"

#include "model/model.h"

#include <string.h>

struct TlsTrust {
    gnutls_x509_trust_list_t list;
};

bool tls_failed(int code, const char *what, GError **error)
{
    return lpm_error_set(error, LPM_ERROR_INTERNAL, "cannot %s: GnuTLS says %s", what,
                         gnutls_strerror(code));
}

bool tls_role_is_valid(const char *role)
{
    return g_strcmp0(role, "system") == 0 || g_strcmp0(role, "console") == 0;
}

void tls_identity_clear(TlsIdentity *identity)
{
    g_clear_pointer(&identity->name, g_free);
    g_clear_pointer(&identity->role, g_free);
}

gnutls_x509_crt_t tls_certificate_from_pem(const char *pem, const char *what, GError **error)
{
    gnutls_datum_t datum = {(unsigned char *)pem, (unsigned)strlen(pem)};
    g_auto(gnutls_x509_crt_t) certificate = NULL;
    int code = gnutls_x509_crt_init(&certificate);

    if (code >= 0) {
        code = gnutls_x509_crt_import(certificate, &datum, GNUTLS_X509_FMT_PEM);
    }
    if (code < 0) {
        lpm_error_set(error, LPM_ERROR_USAGE, "%s is not a certificate in PEM form: %s", what,
                      gnutls_strerror(code));
        return NULL;
    }
    return g_steal_pointer(&certificate);
}

char *tls_certificate_attribute(gnutls_x509_crt_t certificate, const char *oid)
{
    char text[256];
    size_t size = sizeof text;
    size_t none = 0;

    if (gnutls_x509_crt_get_dn_by_oid(certificate, oid, 0, 0, text, &size) < 0 ||
        strlen(text) != size ||
        gnutls_x509_crt_get_dn_by_oid(certificate, oid, 1, 0, NULL, &none) !=
            GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE) {
        return NULL;
    }
    return g_strdup(text);
}

TlsTrust *tls_trust_new(const char *ca_pem, GError **error)
{
    g_autoptr(TlsTrust) trust = g_atomic_rc_box_new0(TlsTrust);
    g_auto(gnutls_x509_crt_t) ca = tls_certificate_from_pem(ca_pem, "the authority", error);
    int code;

    if (!ca) {
        return NULL;
    }
    if (gnutls_x509_crt_get_ca_status(ca, NULL) <= 0) {
        lpm_error_set(error, LPM_ERROR_USAGE,
                      "the authority's certificate may not sign others: give the console's ca.pem");
        return NULL;
    }
    code = gnutls_x509_trust_list_init(&trust->list, 0);
    if (code >= 0) {
        code = gnutls_x509_trust_list_add_cas(trust->list, &ca, 1, 0);
    }
    if (code != 1) {
        tls_failed(code < 0 ? code : GNUTLS_E_INTERNAL_ERROR, "trust the authority", error);
        return NULL;
    }
    ca = NULL; /* the list owns it now */
    return g_steal_pointer(&trust);
}

TlsTrust *tls_trust_ref(TlsTrust *trust)
{
    return g_atomic_rc_box_acquire(trust);
}

static void free_list(gpointer data)
{
    TlsTrust *trust = data;

    if (trust->list) {
        gnutls_x509_trust_list_deinit(trust->list, 1);
    }
}

void tls_trust_unref(TlsTrust *trust)
{
    if (trust) {
        g_atomic_rc_box_release_full(trust, free_list);
    }
}

/* Why a chain was refused, as a person would say it; the flags are tested in this order. */
static const char *reason_of(unsigned status)
{
    static const struct {
        unsigned flag;
        const char *text;
    } reasons[] = {
        {GNUTLS_CERT_SIGNER_NOT_FOUND, "another authority issued it; join the system again"},
        {GNUTLS_CERT_SIGNATURE_FAILURE, "another authority issued it; join the system again"},
        {GNUTLS_CERT_NOT_ACTIVATED, "it is not valid yet; compare the clocks of both sides"},
        {GNUTLS_CERT_EXPIRED, "it has expired; renew it"},
        {GNUTLS_CERT_REVOKED, "it was revoked; join the system again"},
        {GNUTLS_CERT_PURPOSE_MISMATCH, "it is not meant for this side of a connection"},
        {GNUTLS_CERT_SIGNER_NOT_CA, "its issuer may not sign certificates"},
        {GNUTLS_CERT_INSECURE_ALGORITHM, "it is signed with a weak algorithm; renew it"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(reasons); i++) {
        if (status & reasons[i].flag) {
            return reasons[i].text;
        }
    }
    return "it cannot be verified; join the system again";
}

static bool read_identity(gnutls_x509_crt_t certificate, TlsIdentity *ret_identity, GError **error)
{
    g_autofree char *name = tls_certificate_attribute(certificate, GNUTLS_OID_X520_COMMON_NAME);
    g_autofree char *role =
        tls_certificate_attribute(certificate, GNUTLS_OID_X520_ORGANIZATION_NAME);

    if (!lpm_name_is_valid(name) || !tls_role_is_valid(role)) {
        return lpm_error_set(error, LPM_ERROR_DENIED,
                             "certificate CN=%s, O=%s: it names no console or system of OpenLPM; "
                             "give one that the console issued",
                             name ? name : "(none)", role ? role : "(none)");
    }
    ret_identity->name = g_steal_pointer(&name);
    ret_identity->role = g_steal_pointer(&role);
    return true;
}

bool tls_trust_check(TlsTrust *trust, gnutls_x509_crt_t certificate, const char *purpose,
                     TlsIdentity *ret_identity, GError **error)
{
    gnutls_typed_vdata_st wanted = {GNUTLS_DT_KEY_PURPOSE_OID, (unsigned char *)purpose,
                                    (unsigned)strlen(purpose)};
    unsigned status = 0;
    int code = gnutls_x509_trust_list_verify_crt2(trust->list, &certificate, 1, &wanted, 1, 0,
                                                  &status, NULL);

    if (code < 0) {
        return tls_failed(code, "verify a certificate", error);
    }
    if (status != 0) {
        g_autofree char *name = tls_certificate_attribute(certificate, GNUTLS_OID_X520_COMMON_NAME);

        return lpm_error_set(error, LPM_ERROR_DENIED, "certificate of %s is refused: %s",
                             name ? name : "a peer without a name", reason_of(status));
    }
    return read_identity(certificate, ret_identity, error);
}
