/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PEM_MAX 65536

enum { FILE_CA, FILE_CERT, FILE_KEY, FILE_N };
static const char *const file_names[FILE_N] = {"ca.pem", "cert.pem", "key.pem"};

/* What one reading of the files gave; it replaces the old only when all of it is good. */
typedef struct {
    char *pem[FILE_N];
    TlsTrust *trust;
    TlsIdentity identity;
    int64_t ends_us;
    GTlsCertificate *certificate;
} Loaded;

static void loaded_clear(Loaded *loaded)
{
    for (int i = 0; i < FILE_N; i++) {
        if (loaded->pem[i]) {
            explicit_bzero(loaded->pem[i], strlen(loaded->pem[i]));
            g_clear_pointer(&loaded->pem[i], g_free);
        }
    }
    g_clear_pointer(&loaded->trust, tls_trust_unref);
    tls_identity_clear(&loaded->identity);
    g_clear_object(&loaded->certificate);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Loaded, loaded_clear)

static bool read_all(int fd, const char *path, char **ret_text, GError **error)
{
    g_autofree char *text = g_malloc(PEM_MAX + 1);
    size_t length = 0;
    ssize_t n = 1;

    while (n > 0 && length < PEM_MAX) {
        n = read(fd, text + length, PEM_MAX - length);
        length += n > 0 ? (size_t)n : 0;
    }
    if (n != 0) {
        return lpm_error_set(error, LPM_ERROR_STORAGE, "cannot read %s: %s", path,
                             n < 0 ? g_strerror(errno) : "it is longer than any PEM file of ours");
    }
    text[length] = '\0';
    *ret_text = g_steal_pointer(&text);
    return true;
}

static bool read_pem(const char *path, bool secret, char **ret_text, GError **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    bool good;

    if (fd < 0) {
        int saved = errno;

        return lpm_error_set(error, saved == ENOENT ? LPM_ERROR_STATE : LPM_ERROR_STORAGE,
                             saved == ENOENT ? "not joined: %s: %s; join a console first"
                                             : "cannot read %s: %s; check the file and who owns it",
                             path, g_strerror(saved));
    }
    if (fstat(fd, &st) == 0 && secret && (st.st_mode & 077)) {
        good =
            lpm_error_set(error, LPM_ERROR_DENIED,
                          "%s can be read by others (mode %04o): set its mode to 0600; if it was "
                          "exposed, remove it and join again",
                          path, (unsigned)st.st_mode & 07777);
    } else {
        good = read_all(fd, path, ret_text, error);
    }
    close(fd);
    return good;
}

static bool check_own(Loaded *loaded, const char *directory, GError **error)
{
    g_auto(gnutls_x509_crt_t) own =
        tls_certificate_from_pem(loaded->pem[FILE_CERT], file_names[FILE_CERT], error);

    if (!own ||
        !tls_trust_check(loaded->trust, own, GNUTLS_KP_TLS_WWW_CLIENT, &loaded->identity, error)) {
        g_prefix_error(error, "%s: ", directory);
        return false;
    }
    loaded->ends_us = (int64_t)gnutls_x509_crt_get_expiration_time(own) * G_USEC_PER_SEC;
    return true;
}

/* GIO does not compare the two; a mismatch would show only as a failed handshake on the other side.
 */
static bool key_fits(const Loaded *loaded, const char *directory, GError **error)
{
    gnutls_datum_t cert = {(unsigned char *)loaded->pem[FILE_CERT],
                           (unsigned)strlen(loaded->pem[FILE_CERT])};
    gnutls_datum_t key = {(unsigned char *)loaded->pem[FILE_KEY],
                          (unsigned)strlen(loaded->pem[FILE_KEY])};
    gnutls_certificate_credentials_t both;
    int code = gnutls_certificate_allocate_credentials(&both);

    if (code >= 0) {
        code = gnutls_certificate_set_x509_key_mem(both, &cert, &key, GNUTLS_X509_FMT_PEM);
        gnutls_certificate_free_credentials(both);
    }
    if (code < 0) {
        return lpm_error_set(error, LPM_ERROR_STATE,
                             "%s: cert.pem and key.pem do not go together: %s; join again",
                             directory, gnutls_strerror(code));
    }
    return true;
}

static bool load(const char *directory, char *const *paths, Loaded *loaded, GError **error)
{
    g_autofree char *both = NULL;

    for (int i = 0; i < FILE_N; i++) {
        if (!read_pem(paths[i], i == FILE_KEY, &loaded->pem[i], error)) {
            return false;
        }
    }
    loaded->trust = tls_trust_new(loaded->pem[FILE_CA], error);
    if (!loaded->trust || !check_own(loaded, directory, error) ||
        !key_fits(loaded, directory, error)) {
        return false;
    }
    both = g_strconcat(loaded->pem[FILE_CERT], "\n", loaded->pem[FILE_KEY], NULL);
    loaded->certificate = g_tls_certificate_new_from_pem(both, -1, error);
    explicit_bzero(both, strlen(both));
    return loaded->certificate != NULL;
}

static void adopt(LpmTlsCredentials *credentials, Loaded *loaded)
{
    g_clear_pointer(&credentials->trust, tls_trust_unref);
    tls_identity_clear(&credentials->identity);
    g_clear_object(&credentials->certificate);
    credentials->trust = g_steal_pointer(&loaded->trust);
    credentials->identity.name = g_steal_pointer(&loaded->identity.name);
    credentials->identity.role = g_steal_pointer(&loaded->identity.role);
    credentials->ends_us = loaded->ends_us;
    credentials->certificate = g_steal_pointer(&loaded->certificate);
}

static bool backend_is_there(GError **error)
{
    if (!g_tls_backend_supports_tls(g_tls_backend_get_default())) {
        return lpm_error_set(error, LPM_ERROR_UNSUPPORTED,
                             "GIO has no TLS on this machine: install the package glib-networking");
    }
    return true;
}

LpmTlsCredentials *lpm_tls_credentials_load(const char *directory, GError **error)
{
    g_autoptr(LpmTlsCredentials) credentials = g_new0(LpmTlsCredentials, 1);

    credentials->directory = g_strdup(directory);
    for (int i = 0; i < FILE_N; i++) {
        credentials->paths[i] = g_build_filename(directory, file_names[i], NULL);
    }
    if (!backend_is_there(error) || !lpm_tls_credentials_reload(credentials, error)) {
        return NULL;
    }
    return g_steal_pointer(&credentials);
}

LpmTlsCredentials *lpm_tls_credentials_anonymous(const char *ca_pem, GError **error)
{
    g_autoptr(LpmTlsCredentials) credentials = g_new0(LpmTlsCredentials, 1);

    if (!backend_is_there(error)) {
        return NULL;
    }
    credentials->trust = tls_trust_new(ca_pem, error);
    return credentials->trust ? g_steal_pointer(&credentials) : NULL;
}

bool lpm_tls_credentials_reload(LpmTlsCredentials *credentials, GError **error)
{
    g_auto(Loaded) loaded = {0};

    if (!credentials->directory) {
        return true;
    }
    if (!load(credentials->directory, credentials->paths, &loaded, error)) {
        return false;
    }
    adopt(credentials, &loaded);
    return true;
}

void lpm_tls_credentials_free(LpmTlsCredentials *credentials)
{
    Loaded nothing = {0};

    if (!credentials) {
        return;
    }
    adopt(credentials, &nothing);
    for (int i = 0; i < FILE_N; i++) {
        g_free(credentials->paths[i]);
    }
    g_free(credentials->directory);
    g_free(credentials);
}

int64_t lpm_tls_credentials_ends(const LpmTlsCredentials *credentials)
{
    return credentials->ends_us;
}

const char *lpm_tls_credentials_name(const LpmTlsCredentials *credentials)
{
    return credentials->identity.name ? credentials->identity.name : "";
}

const char *lpm_tls_credentials_ca_path(const LpmTlsCredentials *credentials)
{
    return credentials->paths[FILE_CA];
}

const char *lpm_tls_credentials_cert_path(const LpmTlsCredentials *credentials)
{
    return credentials->paths[FILE_CERT];
}

const char *lpm_tls_credentials_key_path(const LpmTlsCredentials *credentials)
{
    return credentials->paths[FILE_KEY];
}
