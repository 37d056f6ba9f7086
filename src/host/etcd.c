/* SPDX-License-Identifier: Apache-2.0 */
#include "host/etcd.h"

#include <curl/curl.h>
#include <string.h>

enum {
    ANSWER_MAX = 65536, /* a record in base64 has 684 characters; the rest is etcd's header */
    SHARE_MIN_MS = 100, /* of the time that is left, for an endpoint that is not the last one */
};

struct LpmEtcd {
    gatomicrefcount refs;
    char **endpoints;
    unsigned n_endpoints;
    char *all; /* endpoints, for people */
    char *ca, *cert, *key, *prefix;
    struct curl_slist *headers;
    GMutex mutex;     /* for what is below */
    unsigned first;   /* endpoint that answered last */
    GPtrArray *spare; /* CURL handles with their open connections */
};

static void free_handle(gpointer handle)
{
    curl_easy_cleanup(handle);
}

static bool valid(const LpmEtcdConfig *config, GError **error)
{
    bool cert = config->cert && *config->cert, key = config->key && *config->key;
    if (!config->endpoints || !config->endpoints[0]) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "the arbiter etcd has no endpoint; name one or more in "
                             "[arbiter:etcd] endpoints of lpm-host's configuration");
    }
    for (char **one = config->endpoints; *one; one++) {
        if (!g_str_has_prefix(*one, "https://") && !g_str_has_prefix(*one, "http://")) {
            return lpm_error_set(error, LPM_ERROR_USAGE,
                                 "[arbiter:etcd] endpoints: \"%s\" does not begin with https:// "
                                 "or http://",
                                 *one);
        }
    }
    return cert == key || lpm_error_set(error, LPM_ERROR_USAGE,
                                        "[arbiter:etcd]: cert and key belong together, and only "
                                        "one of them is there");
}

LpmEtcd *lpm_etcd_new(const LpmEtcdConfig *config, GError **error)
{
    static gsize once;
    if (!valid(config, error)) {
        return NULL;
    }
    if (g_once_init_enter(&once)) {
        curl_global_init(CURL_GLOBAL_DEFAULT);
        g_once_init_leave(&once, 1);
    }
    LpmEtcd *etcd = g_new0(LpmEtcd, 1);
    g_atomic_ref_count_init(&etcd->refs);
    etcd->endpoints = g_strdupv(config->endpoints);
    etcd->n_endpoints = g_strv_length(config->endpoints);
    etcd->all = g_strjoinv(", ", config->endpoints);
    etcd->ca = g_strdup(config->ca);
    etcd->cert = g_strdup(config->cert);
    etcd->key = g_strdup(config->key);
    etcd->prefix = g_strdup(config->prefix ? config->prefix : "");
    etcd->headers = curl_slist_append(NULL, "Content-Type: application/json");
    etcd->headers = curl_slist_append(etcd->headers, "Expect:");
    etcd->spare = g_ptr_array_new_with_free_func(free_handle);
    g_mutex_init(&etcd->mutex);
    return etcd;
}

LpmEtcd *lpm_etcd_ref(LpmEtcd *etcd)
{
    g_atomic_ref_count_inc(&etcd->refs);
    return etcd;
}

void lpm_etcd_unref(LpmEtcd *etcd)
{
    if (!etcd || !g_atomic_ref_count_dec(&etcd->refs)) {
        return;
    }
    g_ptr_array_unref(etcd->spare);
    g_mutex_clear(&etcd->mutex);
    curl_slist_free_all(etcd->headers);
    g_strfreev(etcd->endpoints);
    g_free(etcd->all);
    g_free(etcd->ca);
    g_free(etcd->cert);
    g_free(etcd->key);
    g_free(etcd->prefix);
    g_free(etcd);
}

const char *lpm_etcd_prefix(const LpmEtcd *etcd)
{
    return etcd->prefix;
}

const char *lpm_etcd_endpoints(const LpmEtcd *etcd)
{
    return etcd->all;
}

/* --- one request to one endpoint --- */

typedef struct {
    CURL *handle;
    const char *endpoint;
    GString *answer;
    char reason[CURL_ERROR_SIZE];
    bool sent; /* at least a byte of the request may have arrived */
    bool good; /* the connection can be kept */
} Try;

static size_t take(char *bytes, size_t size, size_t n, void *data)
{
    Try *one = data;
    if (size * n > ANSWER_MAX - one->answer->len) {
        return 0;
    }
    g_string_append_len(one->answer, bytes, (gssize)(size * n));
    return size * n;
}

static CURL *handle_take(LpmEtcd *etcd)
{
    g_mutex_lock(&etcd->mutex);
    guint n = etcd->spare->len;
    CURL *handle = n ? g_ptr_array_steal_index(etcd->spare, n - 1) : NULL;
    g_mutex_unlock(&etcd->mutex);
    if (handle) {
        curl_easy_reset(handle); /* keeps its connections */
        return handle;
    }
    handle = curl_easy_init();
    if (!handle) {
        g_error("curl_easy_init() has no memory");
    }
    return handle;
}

static void handle_give(LpmEtcd *etcd, CURL *handle, bool good)
{
    if (!good) {
        curl_easy_cleanup(handle);
        return;
    }
    g_mutex_lock(&etcd->mutex);
    g_ptr_array_add(etcd->spare, handle);
    g_mutex_unlock(&etcd->mutex);
}

static void set_text(CURL *handle, CURLoption option, const char *text)
{
    if (text && *text) {
        curl_easy_setopt(handle, option, text);
    }
}

static void prepare(const LpmEtcd *etcd, Try *one, const char *url, const char *body)
{
    CURL *handle = one->handle;
    curl_easy_setopt(handle, CURLOPT_URL, url);
    curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(handle, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(handle, CURLOPT_HTTPHEADER, etcd->headers);
    curl_easy_setopt(handle, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, one->reason);
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(handle, CURLOPT_WRITEDATA, one);
    set_text(handle, CURLOPT_CAINFO, etcd->ca);
    set_text(handle, CURLOPT_SSLCERT, etcd->cert);
    set_text(handle, CURLOPT_SSLKEY, etcd->key);
}

/* The answer of one endpoint; NULL with the reason. */
static json_t *answer_of(Try *one, CURLcode code, GError **error)
{
    long status = 0, request = 0;
    curl_easy_getinfo(one->handle, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(one->handle, CURLINFO_REQUEST_SIZE, &request);
    one->sent = request > 0;
    if (code != CURLE_OK) {
        bool late = code == CURLE_OPERATION_TIMEDOUT;
        lpm_error_set(error, late ? LPM_ERROR_TIMEOUT : LPM_ERROR_UNREACHABLE,
                      "endpoint %s of etcd, which keeps the ownership record, does not answer: %s; "
                      "see that it runs, and that [arbiter:etcd] of this system's configuration is "
                      "right",
                      one->endpoint, *one->reason ? one->reason : curl_easy_strerror(code));
        return NULL;
    }
    one->good = true;
    g_autoptr(GError) cause = NULL;
    g_autoptr(json_t) json = lpm_json_parse(one->answer->str, one->answer->len, &cause);
    if (status != 200) {
        lpm_error_set(error, LPM_ERROR_UNREACHABLE,
                      "endpoint %s of etcd, which keeps the ownership record, answers HTTP %ld: %s",
                      one->endpoint, status,
                      lpm_json_str(json, "message", lpm_json_str(json, "error", "(no reason)")));
        return NULL;
    }
    /* Each answer of etcd has a header; a proxy's page, or another server's, has none. */
    if (!lpm_json_at(json, "header")) {
        lpm_error_set(error, LPM_ERROR_PROTOCOL, "%s does not answer as etcd does: %s",
                      one->endpoint, cause ? cause->message : "no member \"header\"");
        return NULL;
    }
    return g_steal_pointer(&json);
}

static long left_ms(int64_t deadline_us)
{
    return (long)((deadline_us - g_get_monotonic_time()) / 1000);
}

/*
 * @share_ms is for this endpoint to be connected and, with @repeatable, to answer; one that may
 * already do what was asked has all the time.
 */
static json_t *try_one(LpmEtcd *etcd, const char *endpoint, const char *path, const char *body,
                       long share_ms, bool repeatable, int64_t deadline_us, bool *ret_sent,
                       GError **error)
{
    Try one = {.handle = handle_take(etcd), .endpoint = endpoint, .answer = g_string_new(NULL)};
    g_autofree char *url = g_strconcat(endpoint, path, NULL);
    prepare(etcd, &one, url, body);
    curl_easy_setopt(one.handle, CURLOPT_CONNECTTIMEOUT_MS, share_ms);
    curl_easy_setopt(one.handle, CURLOPT_TIMEOUT_MS,
                     repeatable ? share_ms : MAX(left_ms(deadline_us), 1));
    CURLcode code = curl_easy_perform(one.handle);
    json_t *json = answer_of(&one, code, error);
    *ret_sent = one.sent;
    handle_give(etcd, one.handle, one.good);
    g_string_free(one.answer, TRUE);
    return json;
}

json_t *lpm_etcd_post(LpmEtcd *etcd, const char *path, const json_t *request, bool repeatable,
                      int64_t deadline_us, GError **error)
{
    g_autofree char *body = lpm_json_text(request);
    g_autoptr(GError) cause = NULL;
    g_mutex_lock(&etcd->mutex);
    unsigned first = etcd->first;
    g_mutex_unlock(&etcd->mutex);
    for (unsigned i = 0; i < etcd->n_endpoints; i++) {
        unsigned at = (first + i) % etcd->n_endpoints;
        long left = left_ms(deadline_us), others = (long)(etcd->n_endpoints - i);
        bool sent = false;
        if (left <= 0) {
            break;
        }
        g_clear_error(&cause);
        json_t *json = try_one(etcd, etcd->endpoints[at], path, body,
                               MIN(left, MAX(left / others, SHARE_MIN_MS)), repeatable, deadline_us,
                               &sent, &cause);
        if (json) {
            g_mutex_lock(&etcd->mutex);
            etcd->first = at;
            g_mutex_unlock(&etcd->mutex);
            return json;
        }
        if (sent && !repeatable) {
            break;
        }
    }
    if (!cause) {
        lpm_error_set(&cause, LPM_ERROR_TIMEOUT, "no time was left to ask etcd (%s)", etcd->all);
    }
    g_propagate_error(error, g_steal_pointer(&cause));
    return NULL;
}
