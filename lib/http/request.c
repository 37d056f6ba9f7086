/* SPDX-License-Identifier: Apache-2.0 */
/* One request from its first line to its answer. */
#include "http/internal.h"

#include <netdb.h>
#include <netinet/in.h>
#include <string.h>

#define TOKEN_MAX 256

static char *from_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    char host[NI_MAXHOST];
    socklen_t size;

    if (!info || !info->client_addr) {
        return g_strdup("?");
    }
    size = info->client_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                    : sizeof(struct sockaddr_in);
    if (getnameinfo(info->client_addr, size, host, sizeof(host), NULL, 0, NI_NUMERICHOST) != 0) {
        return g_strdup("?");
    }
    return g_strdup(host);
}

static LpmHttpRequest *request_new(LpmHttpServer *server, struct MHD_Connection *connection)
{
    LpmHttpRequest *request = g_new0(LpmHttpRequest, 1);

    request->refs = 1;
    request->server = server;
    request->connection = connection;
    request->body = g_byte_array_new();
    request->user = g_strdup("");
    request->from = from_of(connection);
    return request;
}

void lpm_http_request_unref(LpmHttpRequest *request)
{
    if (--request->refs > 0) {
        return;
    }
    lpm_http_match_clear(&request->match);
    g_byte_array_unref(request->body);
    g_free(request->user);
    g_free(request->from);
    g_free(request->answer);
    g_free(request->stream);
    g_free(request);
}

const char *lpm_http_request_user(const LpmHttpRequest *request)
{
    return request->user;
}

const char *lpm_http_request_from(const LpmHttpRequest *request)
{
    return request->from;
}

/* --- answers --- */

json_t *lpm_http_error_json(const GError *error)
{
    const LpmErrorInfo *info =
        lpm_error_info(error->domain == LPM_ERROR ? error->code : LPM_ERROR_INTERNAL);

    /* A message may have been cut in the middle of a character. */
    g_autofree char *message = g_utf8_make_valid(error->message, -1);

    return lpm_json_pack("{s:s, s:s, s:s}", "class", info->name, "message", message, "remedy",
                         info->remedy);
}

void lpm_http_request_wake(LpmHttpRequest *request)
{
    if (request->server && request->suspended) {
        request->suspended = false;
        request->server->kick = true;
        MHD_resume_connection(request->connection);
    }
}

void lpm_http_request_answer(LpmHttpRequest *request, unsigned status, json_t *answer)
{
    request->answer = lpm_json_text(answer);
    request->status = status;
    json_decref(answer);
    lpm_http_request_wake(request);
}

/* The route's one answer: gives back the route's reference. */
static void finish(LpmHttpRequest *request, unsigned status, json_t *answer)
{
    if (request->server) {
        g_hash_table_remove(request->server->waiting, request);
    }
    if (!request->answer) { /* else the server was stopped and has answered already */
        lpm_http_request_answer(request, status, answer);
    } else {
        json_decref(answer);
    }
    lpm_http_request_unref(request);
}

void lpm_http_request_return(LpmHttpRequest *request, json_t *result)
{
    finish(request, request->match.route->status, result ? result : json_object());
}

void lpm_http_request_fail_findings(LpmHttpRequest *request, const GError *error, json_t *findings)
{
    json_t *body = lpm_http_error_json(error);
    int code = error->domain == LPM_ERROR ? error->code : LPM_ERROR_INTERNAL;

    if (findings) {
        json_object_set(body, "findings", findings);
    }
    finish(request, lpm_error_info(code)->http, lpm_json_pack("{s:o}", "error", body));
}

void lpm_http_request_fail(LpmHttpRequest *request, const GError *error)
{
    lpm_http_request_fail_findings(request, error, NULL);
}

static enum MHD_Result send_answer(LpmHttpRequest *request)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(
        strlen(request->answer), request->answer, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result result;

    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    lpm_http_deadline_start(request->connection);
    result = MHD_queue_response(request->connection, request->status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result send_error(LpmHttpRequest *request, const GError *error)
{
    unsigned status =
        lpm_error_info(error->domain == LPM_ERROR ? error->code : LPM_ERROR_INTERNAL)->http;

    lpm_http_request_answer(request, status,
                            lpm_json_pack("{s:o}", "error", lpm_http_error_json(error)));
    return send_answer(request);
}

/* --- taking a request in --- */

typedef struct {
    json_t *query;
    bool bad;
} QueryReader;

static enum MHD_Result read_query(void *data, enum MHD_ValueKind kind, const char *key,
                                  const char *value)
{
    QueryReader *reader = data;

    (void)kind;
    if (json_object_get(reader->query, key) ||
        json_object_set_new(reader->query, key, json_string(value ? value : "")) != 0) {
        reader->bad = true;
    }
    return MHD_YES;
}

static json_t *query_of(LpmHttpRequest *request, GError **error)
{
    QueryReader reader = {json_object(), false};

    MHD_get_connection_values(request->connection, MHD_GET_ARGUMENT_KIND, read_query, &reader);
    if (reader.bad) {
        json_decref(reader.query);
        lpm_error_set(error, LPM_ERROR_USAGE,
                      "query: an argument is there twice, or is not UTF-8 text");
        return NULL;
    }
    return reader.query;
}

static bool authorize(LpmHttpRequest *request, GError **error)
{
    const char *header = MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND,
                                                     MHD_HTTP_HEADER_AUTHORIZATION);
    const char *token = NULL, *user;

    if (request->match.route->open) {
        return true;
    }
    if (header && g_ascii_strncasecmp(header, "Bearer ", 7) == 0 && strlen(header) <= TOKEN_MAX) {
        token = header + 7;
    }
    user = request->server->who(token, request->server->data);
    if (!user) {
        return lpm_error_set(error, LPM_ERROR_DENIED,
                             token ? "the token is not known to this console, or was withdrawn"
                                   : "no token: send \"Authorization: Bearer TOKEN\"");
    }
    g_free(request->user);
    request->user = g_strdup(user);
    return true;
}

/* What can be judged before the body is there is judged then, so that nobody has to send one in
 * vain. */
static bool begin(LpmHttpRequest *request, const char *method, const char *url, GError **error)
{
    const char *length = MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND,
                                                     MHD_HTTP_HEADER_CONTENT_LENGTH);

    if (!lpm_http_match(request->server->routes, method, url, &request->match, error) ||
        !authorize(request, error)) {
        return false;
    }
    if (length && g_ascii_strtoull(length, NULL, 10) > LPM_HTTP_BODY_MAX) {
        return lpm_error_set(error, LPM_ERROR_USAGE, "body: %s bytes; at most %zu are accepted",
                             length, LPM_HTTP_BODY_MAX);
    }
    return true;
}

static bool add_headers(LpmHttpRequest *request, json_t *arguments, GError **error)
{
    for (const LpmHttpArg *arg = request->match.route->args; arg && arg->name; arg++) {
        const char *text =
            arg->place == LPM_HTTP_HEADER
                ? MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, arg->name)
                : NULL;

        if (text && !lpm_http_argument_add(arguments, arg, text, error)) {
            return false;
        }
    }
    return true;
}

static bool dispatch(LpmHttpRequest *request, GError **error)
{
    g_autoptr(json_t) query = NULL;
    g_autoptr(json_t) arguments = NULL;

    request->dispatched = true;
    lpm_http_deadline_stop(request->connection);
    if (request->too_long) {
        return lpm_error_set(error, LPM_ERROR_USAGE, "body: more than %zu bytes",
                             LPM_HTTP_BODY_MAX);
    }
    query = query_of(request, error);
    if (!query) {
        return false;
    }
    arguments = lpm_http_arguments(&request->match, query, (const char *)request->body->data,
                                   request->body->len, error);
    if (!arguments || !add_headers(request, arguments, error)) {
        return false;
    }
    request->refs++;
    g_hash_table_add(request->server->waiting, request);
    request->match.route->run(request, arguments, request->server->data);
    return true;
}

static void take_body(LpmHttpRequest *request, const char *upload, size_t *upload_size)
{
    if (request->body->len + *upload_size > LPM_HTTP_BODY_MAX) {
        request->too_long = true;
    } else {
        g_byte_array_append(request->body, (const guint8 *)upload, (guint)*upload_size);
    }
    *upload_size = 0;
}

enum MHD_Result lpm_http_handle(void *data, struct MHD_Connection *connection, const char *url,
                                const char *method, const char *version, const char *upload,
                                size_t *upload_size, void **context)
{
    LpmHttpRequest *request = *context;
    g_autoptr(GError) error = NULL;

    (void)version;
    if (!request) {
        *context = request = request_new(data, connection);
        return begin(request, method, url, &error) ? MHD_YES : send_error(request, error);
    }
    if (*upload_size > 0) {
        take_body(request, upload, upload_size);
        return MHD_YES;
    }
    if (!request->dispatched && !dispatch(request, &error)) {
        return send_error(request, error);
    }
    if (request->answer) {
        return send_answer(request);
    }
    if (request->stream) {
        return lpm_http_stream_begin(request);
    }
    request->suspended = true;
    MHD_suspend_connection(connection);
    return MHD_YES;
}

void lpm_http_completed(void *data, struct MHD_Connection *connection, void **context,
                        enum MHD_RequestTerminationCode code)
{
    LpmHttpRequest *request = *context;

    (void)data;
    (void)code;
    if (!request) {
        return;
    }
    *context = NULL;
    request->connection = NULL;
    lpm_http_stream_cut(request);
    lpm_http_deadline_start(connection);
    lpm_http_request_unref(request);
}
