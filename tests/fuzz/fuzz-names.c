/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names in certificates and requests that somebody else made. Whatever is taken for a system's name
 * is a legal one, and it is the one that the certificate has.
 */
#include "model/model.h"
#include "tls/certificate.h"
#include "tls/tls.h"

#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_attributes(gnutls_x509_crt_t certificate)
{
    g_autofree char *name = tls_certificate_attribute(certificate, GNUTLS_OID_X520_COMMON_NAME);
    g_autofree char *role =
        tls_certificate_attribute(certificate, GNUTLS_OID_X520_ORGANIZATION_NAME);

    g_assert(!name || strlen(name) < 256);
    g_assert(!role || strlen(role) < 256);
    g_assert(!lpm_name_is_valid(name) || strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnop"
                                                      "qrstuvwxyz0123456789._-") == strlen(name));
}

/* --- whole certificates --- */

static void from_der(const uint8_t *data, size_t size)
{
    g_auto(gnutls_x509_crt_t) certificate = NULL;
    gnutls_datum_t datum = {(unsigned char *)data, (unsigned)size};

    g_assert(gnutls_x509_crt_init(&certificate) == 0);
    if (gnutls_x509_crt_import(certificate, &datum, GNUTLS_X509_FMT_DER) == 0) {
        check_attributes(certificate);
    }
}

static void from_pem(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    g_autoptr(GError) error = NULL;
    g_auto(gnutls_x509_crt_t) certificate = tls_certificate_from_pem(text, "the text", &error);
    g_autofree char *print = lpm_tls_fingerprint(text, NULL);
    g_autoptr(TlsTrust) trust = tls_trust_new(text, NULL);

    g_assert(!certificate == !!error);
    g_assert(!certificate == !print);
    if (certificate) {
        check_attributes(certificate);
    }
}

/* --- subjects of any bytes --- */

static void from_subject(const uint8_t *data, size_t size)
{
    g_auto(gnutls_x509_crt_t) certificate = NULL;
    size_t half = size > 0 ? data[0] % size : 0;
    g_autofree char *name = NULL;

    if (size < 2) {
        return;
    }
    data++;
    size--;
    g_assert(gnutls_x509_crt_init(&certificate) == 0);
    if (half == 0 || gnutls_x509_crt_set_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0,
                                                   data, (unsigned)half) < 0) {
        return;
    }
    if (size > half) {
        /* A second name makes the first worth nothing. */
        bool second = gnutls_x509_crt_set_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0,
                                                    data + half, (unsigned)(size - half)) == 0;

        name = tls_certificate_attribute(certificate, GNUTLS_OID_X520_COMMON_NAME);
        g_assert(!second || !name);
        return;
    }
    name = tls_certificate_attribute(certificate, GNUTLS_OID_X520_COMMON_NAME);
    g_assert(!lpm_name_is_valid(name) || (strlen(name) == half && memcmp(name, data, half) == 0));
}

/* --- requests of those who join --- */

static const char *authority(void)
{
    static char *directory = NULL;

    if (!directory) {
        directory = g_dir_make_tmp("lpm-fuzz-XXXXXX", NULL);
        g_assert(lpm_tls_authority_ensure(directory, "fuzz", NULL));
    }
    return directory;
}

static void from_request(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    const char *addresses[] = {"192.0.2.1", NULL};
    g_autoptr(GError) error = NULL;
    g_autofree char *pem =
        lpm_tls_authority_sign(authority(), text, "system-a", "system", addresses, 1, &error);

    g_assert(!pem == !!error);
    if (pem) {
        g_auto(gnutls_x509_crt_t) certificate = tls_certificate_from_pem(pem, "it", NULL);
        g_autofree char *name = tls_certificate_attribute(certificate, GNUTLS_OID_X520_COMMON_NAME);

        g_assert_cmpstr(name, ==, "system-a");
    }
}

/* An address that a system gives when it joins. */
static void from_address(const uint8_t *data, size_t size)
{
    static char *key = NULL, *request = NULL;
    g_autofree char *address = g_strndup((const char *)data, size);
    const char *addresses[] = {address, NULL};
    g_autofree char *pem = NULL;

    if (!request) {
        g_assert(lpm_tls_request_new("x", &key, &request, NULL));
    }
    if (g_utf8_validate(address, -1, NULL)) {
        g_autoptr(GError) error = NULL;

        pem = lpm_tls_authority_sign(authority(), request, "system-a", "system", addresses, 1,
                                     &error);
        g_assert(!pem == !!error);
    }
}

static void (*const targets[])(const uint8_t *data, size_t size) = {
    from_der, from_pem, from_subject, from_request, from_address};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0) {
        targets[data[0] % G_N_ELEMENTS(targets)](data + 1, size - 1);
    }
    return 0;
}
