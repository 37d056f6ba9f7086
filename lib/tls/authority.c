/* SPDX-License-Identifier: Apache-2.0 */
#include "model/model.h"
#include "tls/certificate.h"
#include "tls/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <glib/gstdio.h>
#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <string.h>
#include <time.h>

#define DAY           ((time_t)24 * 60 * 60)
#define CA_DAYS       3653
#define LEAF_DAYS_MAX 3650
/* Clocks of two machines differ a little; a certificate is good from a while before it was made. */
#define BACKDATED     ((time_t)60 * 60)
#define SERIAL_BYTES  16
#define ADDRESS_BYTES 16

G_DEFINE_AUTO_CLEANUP_FREE_FUNC(gnutls_x509_crq_t, gnutls_x509_crq_deinit, NULL)
G_DEFINE_AUTO_CLEANUP_FREE_FUNC(gnutls_pubkey_t, gnutls_pubkey_deinit, NULL)

/* Text of a datum that GnuTLS allocated, which is freed. */
static char *take_text(gnutls_datum_t *datum)
{
    char *text = g_strndup((const char *)datum->data, datum->size);

    gnutls_memset(datum->data, 0, datum->size);
    gnutls_free(datum->data);
    return text;
}

static bool new_key(gnutls_x509_privkey_t *ret_key, char **ret_pem, GError **error)
{
    g_auto(gnutls_x509_privkey_t) key = NULL;
    gnutls_datum_t pem = {NULL, 0};
    int code = gnutls_x509_privkey_init(&key);

    if (code >= 0) {
        code = gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                            GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
    }
    if (code >= 0) {
        code = gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN,
                                                 &pem);
    }
    if (code < 0) {
        return tls_failed(code, "make a key", error);
    }
    *ret_pem = take_text(&pem);
    *ret_key = g_steal_pointer(&key);
    return true;
}

static int set_subject(gnutls_x509_crt_t certificate, const char *name, const char *role)
{
    int code = gnutls_x509_crt_set_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0, name,
                                             (unsigned)strlen(name));

    if (code >= 0) {
        code = gnutls_x509_crt_set_dn_by_oid(certificate, GNUTLS_OID_X520_ORGANIZATION_NAME, 0,
                                             role, (unsigned)strlen(role));
    }
    return code;
}

/* A number that no other certificate has, positive, and the time from now for @days, but not past
 * @limit. */
static int set_serial_and_times(gnutls_x509_crt_t certificate, unsigned days, time_t limit)
{
    unsigned char serial[SERIAL_BYTES];
    time_t now = time(NULL);
    time_t end = now + (time_t)days * DAY;
    int code = gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof serial);

    serial[0] = (unsigned char)((serial[0] & 0x7f) | 0x40);
    if (code >= 0) {
        code = gnutls_x509_crt_set_version(certificate, 3);
    }
    if (code >= 0) {
        code = gnutls_x509_crt_set_serial(certificate, serial, sizeof serial);
    }
    if (code >= 0) {
        code = gnutls_x509_crt_set_activation_time(certificate, now - BACKDATED);
    }
    if (code >= 0) {
        code = gnutls_x509_crt_set_expiration_time(certificate, limit && limit < end ? limit : end);
    }
    return code;
}

static int set_key_id(gnutls_x509_crt_t certificate, gnutls_x509_crt_t issuer)
{
    unsigned char id[64];
    size_t size = sizeof id;
    int code = gnutls_x509_crt_get_key_id(certificate, GNUTLS_KEYID_USE_SHA1, id, &size);

    if (code >= 0) {
        code = gnutls_x509_crt_set_subject_key_id(certificate, id, size);
    }
    size = sizeof id;
    if (code >= 0) {
        code = gnutls_x509_crt_get_key_id(issuer, GNUTLS_KEYID_USE_SHA1, id, &size);
    }
    if (code >= 0) {
        code = gnutls_x509_crt_set_authority_key_id(certificate, id, size);
    }
    return code;
}

static int sign_and_export(gnutls_x509_crt_t certificate, gnutls_x509_crt_t issuer,
                           gnutls_x509_privkey_t key, char **ret_pem)
{
    gnutls_datum_t pem;
    int code = set_key_id(certificate, issuer);

    if (code >= 0) {
        code = gnutls_x509_crt_sign2(certificate, issuer, key, GNUTLS_DIG_SHA256, 0);
    }
    if (code >= 0) {
        code = gnutls_x509_crt_export2(certificate, GNUTLS_X509_FMT_PEM, &pem);
    }
    if (code >= 0) {
        *ret_pem = take_text(&pem);
    }
    return code;
}

static bool make_ca(const char *name, gnutls_x509_privkey_t key, char **ret_pem, GError **error)
{
    g_auto(gnutls_x509_crt_t) ca = NULL;
    int code = gnutls_x509_crt_init(&ca);

    if (code >= 0) {
        code = set_subject(ca, name, "authority");
    }
    if (code >= 0) {
        code = set_serial_and_times(ca, CA_DAYS, 0);
    }
    if (code >= 0) {
        code = gnutls_x509_crt_set_key(ca, key);
    }
    if (code >= 0) {
        code = gnutls_x509_crt_set_basic_constraints(ca, 1, 0);
    }
    if (code >= 0) {
        code = gnutls_x509_crt_set_key_usage(ca, GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN);
    }
    if (code >= 0) {
        code = sign_and_export(ca, ca, key, ret_pem);
    }
    return code >= 0 || tls_failed(code, "make the authority's certificate", error);
}

static bool write_secret(const char *path, const char *text, int mode, GError **error)
{
    g_autoptr(GError) cause = NULL;

    if (!g_file_set_contents_full(path, text, -1,
                                  G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE,
                                  mode, &cause)) {
        return lpm_error_set(error, LPM_ERROR_STORAGE, "cannot write %s: %s", path, cause->message);
    }
    return true;
}

bool lpm_tls_authority_ensure(const char *directory, const char *name, GError **error)
{
    g_autofree char *ca_path = g_build_filename(directory, "ca.pem", NULL);
    g_autofree char *key_path = g_build_filename(directory, "ca-key.pem", NULL);
    g_auto(gnutls_x509_privkey_t) key = NULL;
    g_autofree char *key_pem = NULL;
    g_autofree char *ca_pem = NULL;

    if (g_file_test(ca_path, G_FILE_TEST_EXISTS)) {
        return g_file_test(key_path, G_FILE_TEST_EXISTS) ||
               lpm_error_set(
                   error, LPM_ERROR_STATE,
                   "authority %s: ca.pem is there but ca-key.pem is not: restore it from a "
                   "backup, or remove ca.pem and join all systems again",
                   directory);
    }
    if (!lpm_name_is_valid(name)) {
        return lpm_error_set(error, LPM_ERROR_USAGE, "authority: \"%s\" is no valid name", name);
    }
    if (g_mkdir_with_parents(directory, 0700) != 0) {
        return lpm_error_set(error, LPM_ERROR_STORAGE, "cannot create %s: %s", directory,
                             g_strerror(errno));
    }
    /* The key first: a key alone has signed nothing yet, and is made anew after a crash in between.
     */
    if (!new_key(&key, &key_pem, error) || !make_ca(name, key, &ca_pem, error)) {
        return false;
    }
    return write_secret(key_path, key_pem, 0600, error) &&
           write_secret(ca_path, ca_pem, 0644, error);
}

static bool key_from_pem(char *pem, gnutls_x509_privkey_t *ret_key, GError **error)
{
    gnutls_datum_t datum = {(unsigned char *)pem, (unsigned)strlen(pem)};
    g_auto(gnutls_x509_privkey_t) key = NULL;
    int code = gnutls_x509_privkey_init(&key);

    if (code >= 0) {
        code = gnutls_x509_privkey_import(key, &datum, GNUTLS_X509_FMT_PEM);
    }
    if (code < 0) {
        return lpm_error_set(error, LPM_ERROR_USAGE, "this is no private key in PEM form: %s",
                             gnutls_strerror(code));
    }
    *ret_key = g_steal_pointer(&key);
    return true;
}

bool lpm_tls_request_new(const char *name, char **key_pem, char **ret_csr_pem, GError **error)
{
    g_auto(gnutls_x509_privkey_t) key = NULL;
    g_auto(gnutls_x509_crq_t) request = NULL;
    g_autofree char *new_pem = NULL;
    gnutls_datum_t pem;
    int code;

    if (*key_pem ? !key_from_pem(*key_pem, &key, error) : !new_key(&key, &new_pem, error)) {
        return false;
    }
    code = gnutls_x509_crq_init(&request);
    if (code >= 0) {
        code = gnutls_x509_crq_set_version(request, 1);
    }
    if (code >= 0) {
        code = gnutls_x509_crq_set_dn_by_oid(request, GNUTLS_OID_X520_COMMON_NAME, 0, name,
                                             (unsigned)strlen(name));
    }
    if (code >= 0) {
        code = gnutls_x509_crq_set_key(request, key);
    }
    if (code >= 0) {
        code = gnutls_x509_crq_sign2(request, key, GNUTLS_DIG_SHA256, 0);
    }
    if (code >= 0) {
        code = gnutls_x509_crq_export2(request, GNUTLS_X509_FMT_PEM, &pem);
    }
    if (code < 0) {
        return tls_failed(code, "make a certificate request", error);
    }
    *ret_csr_pem = take_text(&pem);
    if (new_pem) {
        *key_pem = g_steal_pointer(&new_pem);
    }
    return true;
}

/* The public key of a request, whose sender proved by its signature to hold the private one. */
static gnutls_pubkey_t key_of_request(const char *csr_pem, const char *name, GError **error)
{
    gnutls_datum_t datum = {(unsigned char *)csr_pem, (unsigned)strlen(csr_pem)};
    g_auto(gnutls_x509_crq_t) request = NULL;
    g_auto(gnutls_pubkey_t) key = NULL;
    gnutls_ecc_curve_t curve = GNUTLS_ECC_CURVE_INVALID;
    int code = gnutls_x509_crq_init(&request);

    if (code >= 0) {
        code = gnutls_x509_crq_import(request, &datum, GNUTLS_X509_FMT_PEM);
    }
    if (code >= 0) {
        code = gnutls_x509_crq_verify(request, 0);
    }
    if (code >= 0) {
        code = gnutls_pubkey_init(&key);
    }
    if (code >= 0) {
        code = gnutls_pubkey_import_x509_crq(key, request, 0);
    }
    if (code >= 0) {
        code = gnutls_pubkey_export_ecc_raw2(key, &curve, NULL, NULL, 0);
    }
    if (code < 0 || curve != GNUTLS_ECC_CURVE_SECP256R1) {
        lpm_error_set(error, LPM_ERROR_USAGE,
                      "certificate request of %s: %s; send a request with an EC P-256 key", name,
                      code < 0 ? gnutls_strerror(code) : "its key is of another curve");
        return NULL;
    }
    return g_steal_pointer(&key);
}

/* A literal address becomes an IP name, anything else a DNS name. */
static int add_address(gnutls_x509_crt_t certificate, const char *address)
{
    unsigned char bytes[ADDRESS_BYTES];
    bool v4 = inet_pton(AF_INET, address, bytes) == 1;

    if (v4 || inet_pton(AF_INET6, address, bytes) == 1) {
        return gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_IPADDRESS, bytes,
                                                    v4 ? 4 : 16, GNUTLS_FSAN_APPEND);
    }
    return gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_DNSNAME, address,
                                                (unsigned)strlen(address), GNUTLS_FSAN_APPEND);
}

static int set_names_and_use(gnutls_x509_crt_t certificate, const char *name,
                             const char *const *addresses)
{
    int code = add_address(certificate, name);

    for (; code >= 0 && addresses && *addresses; addresses++) {
        code = add_address(certificate, *addresses);
    }
    if (code >= 0) {
        code = gnutls_x509_crt_set_basic_constraints(certificate, 0, -1);
    }
    if (code >= 0) {
        code = gnutls_x509_crt_set_key_usage(certificate, GNUTLS_KEY_DIGITAL_SIGNATURE);
    }
    if (code >= 0) {
        code = gnutls_x509_crt_set_key_purpose_oid(certificate, GNUTLS_KP_TLS_WWW_SERVER, 0);
    }
    if (code >= 0) {
        code = gnutls_x509_crt_set_key_purpose_oid(certificate, GNUTLS_KP_TLS_WWW_CLIENT, 0);
    }
    return code;
}

static bool read_authority(const char *directory, gnutls_x509_crt_t *ret_ca,
                           gnutls_x509_privkey_t *ret_key, GError **error)
{
    g_autofree char *ca_path = g_build_filename(directory, "ca.pem", NULL);
    g_autofree char *key_path = g_build_filename(directory, "ca-key.pem", NULL);
    g_autofree char *ca_pem = NULL;
    g_autofree char *key_pem = NULL;
    g_autoptr(GError) cause = NULL;
    g_auto(gnutls_x509_privkey_t) key = NULL;
    gnutls_datum_t datum;
    int code;

    if (!g_file_get_contents(ca_path, &ca_pem, NULL, &cause) ||
        !g_file_get_contents(key_path, &key_pem, NULL, &cause)) {
        return lpm_error_set(error, LPM_ERROR_STORAGE, "authority %s: %s; restore it from a backup",
                             directory, cause->message);
    }
    datum.data = (unsigned char *)key_pem;
    datum.size = (unsigned)strlen(key_pem);
    code = gnutls_x509_privkey_init(&key);
    if (code >= 0) {
        code = gnutls_x509_privkey_import2(key, &datum, GNUTLS_X509_FMT_PEM, NULL, 0);
    }
    gnutls_memset(key_pem, 0, datum.size);
    if (code < 0) {
        return tls_failed(code, "read the authority's key", error);
    }
    *ret_ca = tls_certificate_from_pem(ca_pem, ca_path, error);
    if (!*ret_ca) {
        return false;
    }
    *ret_key = g_steal_pointer(&key);
    return true;
}

static bool check_wish(const char *name, const char *role, unsigned days, GError **error)
{
    if (!lpm_name_is_valid(name)) {
        return lpm_error_set(error, LPM_ERROR_USAGE, "certificate: \"%s\" is no valid name", name);
    }
    if (!tls_role_is_valid(role)) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "certificate of %s: role \"%s\" is unknown; give \"system\" or "
                             "\"console\"",
                             name, role);
    }
    if (days == 0 || days > LEAF_DAYS_MAX) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "certificate of %s: %u days; give 1 to %d days", name, days,
                             LEAF_DAYS_MAX);
    }
    return true;
}

char *lpm_tls_authority_sign(const char *directory, const char *csr_pem, const char *name,
                             const char *role, const char *const *addresses, unsigned days,
                             GError **error)
{
    g_auto(gnutls_x509_crt_t) ca = NULL;
    g_auto(gnutls_x509_privkey_t) ca_key = NULL;
    g_auto(gnutls_pubkey_t) key = NULL;
    g_auto(gnutls_x509_crt_t) certificate = NULL;
    char *pem = NULL;
    int code;

    if (!check_wish(name, role, days, error) || !read_authority(directory, &ca, &ca_key, error)) {
        return NULL;
    }
    key = key_of_request(csr_pem, name, error);
    if (!key) {
        return NULL;
    }
    code = gnutls_x509_crt_init(&certificate);
    if (code >= 0) {
        code = gnutls_x509_crt_set_pubkey(certificate, key);
    }
    if (code >= 0) {
        code = set_subject(certificate, name, role);
    }
    if (code >= 0) {
        code = set_serial_and_times(certificate, days, gnutls_x509_crt_get_expiration_time(ca));
    }
    if (code >= 0) {
        code = set_names_and_use(certificate, name, addresses);
    }
    if (code >= 0) {
        code = sign_and_export(certificate, ca, ca_key, &pem);
    }
    if (code < 0) {
        tls_failed(code, "sign a certificate", error);
    }
    return pem;
}

char *lpm_tls_fingerprint(const char *cert_pem, GError **error)
{
    g_auto(gnutls_x509_crt_t) certificate = tls_certificate_from_pem(cert_pem, "the text", error);
    unsigned char digest[32];
    size_t size = sizeof digest;
    GString *text;
    int code;

    if (!certificate) {
        return NULL;
    }
    code = gnutls_x509_crt_get_fingerprint(certificate, GNUTLS_DIG_SHA256, digest, &size);
    if (code < 0) {
        tls_failed(code, "hash a certificate", error);
        return NULL;
    }
    text = g_string_sized_new(2 * sizeof digest);
    for (size_t i = 0; i < size; i++) {
        g_string_append_printf(text, "%02x", digest[i]);
    }
    return g_string_free(text, FALSE);
}
