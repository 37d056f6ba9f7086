/* SPDX-License-Identifier: Apache-2.0 */
/* How a system becomes one of ours: a one-time token, a certificate request, a certificate. */
#include "base/log.h"
#include "console.h"
#include "systems.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <string.h>

#define TOKEN_HOURS   24
#define JOIN_EVERY_US (200 * G_TIME_SPAN_MILLISECOND) /* one attempt each, ... */
#define JOIN_BURST_US (4 * G_TIME_SPAN_SECOND)        /* ... after a burst of twenty */
#define CERT_DAYS     825

static char *base32(const unsigned char *bytes, size_t length)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    GString *text = g_string_new(NULL);
    unsigned buffer = 0, bits = 0;

    for (size_t i = 0; i < length; i++) {
        buffer = (buffer << 8 | bytes[i]) & 0xffff;
        for (bits += 8; bits >= 5; bits -= 5) {
            g_string_append_c(text, digits[buffer >> (bits - 5) & 31]);
        }
    }
    if (bits > 0) {
        g_string_append_c(text, digits[buffer << (5 - bits) & 31]);
    }
    return g_string_free(text, FALSE);
}

static bool authority_digest(LpmConsole *console, unsigned char *ret_bytes, size_t length,
                             GError **error)
{
    g_autofree char *hex = lpm_tls_fingerprint(console->ca_pem, error);

    for (size_t i = 0; hex && i < length; i++) {
        ret_bytes[i] = (unsigned char)(g_ascii_xdigit_value(hex[2 * i]) << 4 |
                                       g_ascii_xdigit_value(hex[2 * i + 1]));
    }
    return hex != NULL;
}

char *lpm_join_token_new(LpmConsole *console, const char *name, int64_t *ret_expires_us,
                         GError **error)
{
    unsigned char bytes[32];
    g_autofree char *text = NULL;
    g_autofree char *token = NULL;
    g_autofree char *hash = NULL;
    g_autoptr(json_t) value = NULL;
    int64_t expires = lpm_clock_realtime_us(console->clock) + TOKEN_HOURS * G_TIME_SPAN_HOUR;

    if (gnutls_rnd(GNUTLS_RND_KEY, bytes, 16) != 0) {
        lpm_error_set(error, LPM_ERROR_INTERNAL, "no random bytes for a token");
        return NULL;
    }
    if (!authority_digest(console, bytes + 16, 16, error)) {
        return NULL;
    }
    text = base32(bytes, sizeof(bytes));
    token = g_strconcat("LPM1-", text, NULL);
    hash = lpm_auth_hash(token);
    value = lpm_json_pack("{s:s, s:I}", "hash", hash, "expires_us", (json_int_t)expires);
    if (!lpm_store_put(console->store, LPM_KIND_JOIN, name, value, NULL, error)) {
        return NULL;
    }
    *ret_expires_us = expires;
    return g_steal_pointer(&token);
}

/* Whoever guesses is slowed down; whoever joins a rack of systems is not. */
static bool within_rate(LpmConsole *console, GError **error)
{
    int64_t now = lpm_clock_monotonic_us(console->clock);

    console->joins_allowed_us = MAX(console->joins_allowed_us, now - JOIN_BURST_US) + JOIN_EVERY_US;
    if (console->joins_allowed_us > now) {
        console->joins_allowed_us = now;
        return lpm_error_set(error, LPM_ERROR_BUSY,
                             "too many attempts to join; wait a second and try again");
    }
    return true;
}

static bool token_is_right(LpmConsole *console, const char *name, const char *token, GError **error)
{
    g_autoptr(json_t) invited = lpm_store_get(console->store, LPM_KIND_JOIN, name, NULL, error);
    g_autofree char *hash = lpm_auth_hash(token);

    if (error && *error) {
        return false;
    }
    if (!invited || strcmp(lpm_json_str(invited, "hash", ""), hash) != 0) {
        return lpm_error_set(error, LPM_ERROR_DENIED,
                             "the token does not let a system named \"%s\" join: it is wrong, was "
                             "used, or was replaced; make a new one with \"lpm system add %s\"",
                             name, name);
    }
    if (lpm_json_int(invited, "expires_us", 0) < lpm_clock_realtime_us(console->clock)) {
        return lpm_error_set(error, LPM_ERROR_DENIED,
                             "the token for \"%s\" is older than %d hours; make a new one with "
                             "\"lpm system add %s\"",
                             name, TOKEN_HOURS, name);
    }
    return true;
}

/* The token is spent and the system known in one step, or neither. */
static bool write_down(LpmConsole *console, const char *name, const char *address, uint16_t port,
                       GError **error)
{
    g_autoptr(json_t) value =
        lpm_json_pack("{s:s, s:i, s:I}", "address", address, "port", (int)port, "joined_us",
                      (json_int_t)lpm_clock_realtime_us(console->clock));

    if (!lpm_store_begin(console->store, error)) {
        return false;
    }
    if (!lpm_store_put(console->store, LPM_KIND_SYSTEM, name, value, NULL, error) ||
        !lpm_store_delete(console->store, LPM_KIND_JOIN, name, error)) {
        lpm_store_rollback(console->store);
        return false;
    }
    return lpm_store_commit(console->store, error);
}

static json_t *join(LpmConsole *console, const json_t *arguments, GError **error)
{
    const char *name = lpm_json_str(arguments, "name", "");
    const char *address = lpm_json_str(arguments, "address", "");
    const char *addresses[] = {address, NULL};
    int64_t port;
    g_autofree char *cert = NULL;

    if (!within_rate(console, error) ||
        !lpm_json_need_int(arguments, "port", 1, 65535, &port, error)) {
        return NULL;
    }
    if (!lpm_name_is_valid(name) || !*address) {
        lpm_error_set(error, LPM_ERROR_USAGE, "join needs a legal name and an address");
        return NULL;
    }
    if (!token_is_right(console, name, lpm_json_str(arguments, "token", ""), error)) {
        return NULL;
    }
    cert = lpm_tls_authority_sign(console->config->state_dir, lpm_json_str(arguments, "csr", ""),
                                  name, "system", addresses, CERT_DAYS, error);
    if (!cert || !write_down(console, name, address, (uint16_t)port, error)) {
        return NULL;
    }
    lpm_systems_joined(console, name, address, (uint16_t)port);
    lpm_event_add(console, "system", name, NULL, "joined, reached at %s port %u", address,
                  (unsigned)port);
    return lpm_json_pack("{s:s, s:s}", "certificate", cert, "ca", console->ca_pem);
}

static void run_join(LpmRpcRequest *request, json_t *arguments, void *console)
{
    g_autoptr(GError) error = NULL;
    json_t *result = join(console, arguments, &error);

    if (result) {
        lpm_rpc_request_return(request, result);
        return;
    }
    lpm_log_warning(NULL, "join refused: %s", error->message);
    lpm_rpc_request_fail(request, error);
}

static const LpmRpcArg join_args[] = {
    {"name", 's', true, "name that the system gets; the token was made for it"},
    {"token", 's', true, "one-time token"},
    {"csr", 's', true, "certificate request, PEM"},
    {"address", 's', true, "where the console reaches the system's RPC"},
    {"port", 'i', true, "its port"},
    {NULL, 0, false, NULL},
};

const LpmRpcVerb lpm_join_verbs[] = {
    {"join", 1u << LPM_RPC_ANONYMOUS | 1u << LPM_RPC_SYSTEM, run_join, join_args,
     "makes the caller one of this console's systems and gives it a certificate"},
    {NULL, 0, NULL, NULL, NULL},
};
