/* SPDX-License-Identifier: Apache-2.0 */
/* API tokens: 256 random bits, so that a plain hash is enough to keep, and nothing to guess. */
#include "console.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <string.h>

#define TOKEN_BYTES 32

char *lpm_auth_hash(const char *text)
{
    unsigned char digest[32];
    GString *hex = g_string_new(NULL);

    gnutls_hash_fast(GNUTLS_DIG_SHA256, text, strlen(text), digest);
    for (size_t i = 0; i < sizeof(digest); i++) {
        g_string_append_printf(hex, "%02x", digest[i]);
    }
    return g_string_free(hex, FALSE);
}

char *lpm_auth_token_new(LpmStore *store, const LpmClock *clock, const char *name, GError **error)
{
    unsigned char bytes[TOKEN_BYTES];
    g_autoptr(GString) token = g_string_new("LPMT-");
    g_autofree char *hash = NULL;
    g_autoptr(json_t) value = NULL;

    if (gnutls_rnd(GNUTLS_RND_KEY, bytes, sizeof(bytes)) != 0) {
        lpm_error_set(error, LPM_ERROR_INTERNAL, "no random bytes for a token");
        return NULL;
    }
    for (size_t i = 0; i < sizeof(bytes); i++) {
        g_string_append_printf(token, "%02x", bytes[i]);
    }
    hash = lpm_auth_hash(token->str);
    value = lpm_json_pack("{s:s, s:I}", "name", name, "created_us",
                          (json_int_t)lpm_clock_realtime_us(clock));
    if (!lpm_store_put(store, LPM_KIND_TOKEN, hash, value, NULL, error)) {
        return NULL;
    }
    return g_strdup(token->str);
}

bool lpm_auth_load(LpmConsole *console, GError **error)
{
    g_autoptr(json_t) all = lpm_store_list(console->store, LPM_KIND_TOKEN, error);
    const char *hash;
    json_t *value;

    if (!all) {
        return false;
    }
    json_object_foreach (all, hash, value) {
        g_hash_table_insert(console->users, g_strdup(hash),
                            g_strdup(lpm_json_str(value, "name", "?")));
    }
    return true;
}

/* What is compared is a hash that the client cannot steer, so the time it takes tells nothing. */
const char *lpm_auth_who(const char *token, void *data)
{
    LpmConsole *console = data;
    g_autofree char *hash = token ? lpm_auth_hash(token) : NULL;

    return hash ? g_hash_table_lookup(console->users, hash) : NULL;
}
