/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include <curl/curl.h>
#include <errno.h>
#include <string.h>

#define ANSWER_MAX      ((size_t)16 << 20)
#define CONNECT_SECONDS 10L
#define SILENCE_SECONDS 60L
#define ANSWER_SECONDS  180 /* a start or an orderly stop may take as long */
#define SLACK_SECONDS   60  /* for the console, on top of what it was given */

struct CliClient {
    char *url;
    char *ca;
    char *token;
    CURL *curl;
    int expected_s; /* how long the next request may take by its own word; 0: it says nothing */
};

static char *find_config(const char *path, GString *tried)
{
    if (path != NULL)
        return g_strdup(path);
    const char *env = g_getenv("LPM_CONFIG");
    if (env != NULL && *env != '\0')
        return g_strdup(env);
    char *candidates[] = {g_build_filename(g_get_user_config_dir(), "openlpm", "admin.conf", NULL),
                          g_strdup("/etc/openlpm/admin.conf")};
    char *found = NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(candidates); i++) {
        if (found == NULL && g_file_test(candidates[i], G_FILE_TEST_EXISTS))
            found = g_strdup(candidates[i]);
        g_string_append_printf(tried, "%s%s", i > 0 ? ", " : "", candidates[i]);
        g_free(candidates[i]);
    }
    return found;
}

static char *config_value(GKeyFile *file, const char *path, const char *key, GError **error)
{
    g_autofree char *value = g_key_file_get_string(file, "console", key, NULL);
    if (value == NULL || *value == '\0') {
        lpm_error_set(error, LPM_ERROR_USAGE,
                      "%s: group [console] has no '%s': take the file that lpm-console init wrote",
                      path, key);
        return NULL;
    }
    return g_steal_pointer(&value);
}

CliClient *cli_client_new(const char *path, GError **error)
{
    g_autoptr(GString) tried = g_string_new(NULL);
    g_autofree char *found = find_config(path, tried);
    if (found == NULL) {
        lpm_error_set(error, LPM_ERROR_USAGE,
                      "no client file: none of %s is there; copy admin.conf from the console's "
                      "state directory, or name it "
                      "with --config or LPM_CONFIG",
                      tried->str);
        return NULL;
    }
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) why = NULL;
    if (!g_key_file_load_from_file(file, found, G_KEY_FILE_NONE, &why)) {
        lpm_error_set(error, LPM_ERROR_USAGE, "client file %s cannot be read: %s", found,
                      why->message);
        return NULL;
    }
    g_autoptr(CliClient) client = g_new0(CliClient, 1);
    client->url = config_value(file, found, "url", error);
    client->ca = client->url == NULL ? NULL : config_value(file, found, "ca", error);
    client->token = client->ca == NULL ? NULL : config_value(file, found, "token", error);
    if (client->token == NULL)
        return NULL;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    client->curl = curl_easy_init();
    if (client->curl == NULL) {
        lpm_error_set(error, LPM_ERROR_INTERNAL, "the HTTPS library cannot be initialised");
        return NULL;
    }
    return g_steal_pointer(&client);
}

void cli_client_free(CliClient *client)
{
    if (client == NULL)
        return;
    if (client->curl != NULL)
        curl_easy_cleanup(client->curl);
    g_free(client->url);
    g_free(client->ca);
    g_free(client->token);
    g_free(client);
}

static size_t take_answer(char *data, size_t size, size_t count, void *user_data)
{
    GString *answer = user_data;
    if (answer->len + size * count > ANSWER_MAX)
        return 0;
    g_string_append_len(answer, data, (gssize)(size * count));
    return size * count;
}

/* The console's error object as a GError: its class decides the exit code, its remedy goes with the
 * message. */
static void set_remote_error(const json_t *answer, long status, const char *url, GError **error)
{
    const char *class_name = lpm_json_str(answer, "error.class", NULL);
    if (class_name == NULL) {
        lpm_error_set(error, LPM_ERROR_PROTOCOL,
                      "%s answers HTTP status %ld without an error object: is it a console?", url,
                      status);
        return;
    }
    const char *message = lpm_json_str(answer, "error.message", "no reason was given");
    const char *remedy = lpm_json_str(answer, "error.remedy", NULL);
    bool repeated = remedy == NULL || *remedy == '\0' || strstr(message, remedy) != NULL;
    lpm_error_set(error, lpm_error_from_name(class_name), "%s%s%s", message,
                  repeated ? "" : CLI_REMEDY, repeated ? "" : remedy);
}

static void set_transport_error(const CliClient *client, CURLcode code, GError **error)
{
    bool trust = code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE;
    lpm_error_set(error, trust ? LPM_ERROR_DENIED : LPM_ERROR_UNREACHABLE, "console %s: %s%s",
                  client->url, curl_easy_strerror(code),
                  trust ? ": its certificate is not of the authority in the client file; take the "
                          "console's current admin.conf"
                        : ": is lpm-console running, and is the url in the client file right?");
}

/* Given up while the console may be at it still. */
static bool is_unanswered(const CliClient *client, const char *method, CURLcode code)
{
    double connected_s = 0;
    curl_easy_getinfo(client->curl, CURLINFO_APPCONNECT_TIME, &connected_s);
    return code == CURLE_OPERATION_TIMEDOUT && connected_s > 0 && strcmp(method, "GET") != 0;
}

/* What every request has; the headers are to be freed after it. */
static struct curl_slist *set_up(CliClient *client, const char *url, const char *more)
{
    CURL *curl = client->curl;
    curl_easy_reset(curl);
    g_autofree char *bearer = g_strdup_printf("Authorization: Bearer %s", client->token);
    struct curl_slist *headers = curl_slist_append(NULL, bearer);
    headers = curl_slist_append(headers, more);
    headers = curl_slist_append(headers, "Expect:");
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_CAINFO, client->ca);
    curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    return headers;
}

static CURLcode perform(CliClient *client, const char *method, const char *url, const char *body,
                        GString *answer)
{
    CURL *curl = client->curl;
    struct curl_slist *headers = set_up(client, url, "Content-Type: application/json");
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT,
                     (long)MAX(ANSWER_SECONDS, client->expected_s + SLACK_SECONDS));
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_answer);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    if (body != NULL)
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    CURLcode code = curl_easy_perform(curl);
    curl_slist_free_all(headers);
    return code;
}

void cli_client_expect(CliClient *client, int seconds)
{
    client->expected_s = seconds;
}

json_t *cli_client_call(CliClient *client, const char *method, const char *path, json_t *body,
                        GError **error)
{
    g_autoptr(json_t) own_body = body;
    g_autofree char *url = g_strconcat(client->url, path, NULL);
    g_autofree char *text = own_body == NULL ? NULL : lpm_json_text(own_body);
    if (text == NULL && strcmp(method, "POST") == 0)
        text = g_strdup("{}");
    g_autoptr(GString) answer = g_string_new(NULL);
    CURLcode code = perform(client, method, url, text, answer);
    client->expected_s = 0;
    if (is_unanswered(client, method, code)) {
        lpm_error_set(error, LPM_ERROR_TIMEOUT,
                      "console %s: no answer in time; what was asked for may still be done: look "
                      "before you ask again",
                      client->url);
        return NULL;
    }
    if (code != CURLE_OK) {
        set_transport_error(client, code, error);
        return NULL;
    }
    long status = 0;
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &status);
    g_autoptr(json_t) value = json_loadb(answer->str, answer->len, JSON_REJECT_DUPLICATES, NULL);
    if (status >= 200 && status < 300 && value != NULL)
        return g_steal_pointer(&value);
    set_remote_error(value, status, client->url, error);
    return NULL;
}

/* --- an answer without an end --- */

typedef struct {
    CURL *curl;
    GString *text; /* lines that are not whole yet, or an error's body */
    CliClientLine line;
    void *data;
} Stream;

static size_t take_lines(char *data, size_t size, size_t count, void *user_data)
{
    Stream *stream = user_data;
    long status = 0;
    curl_easy_getinfo(stream->curl, CURLINFO_RESPONSE_CODE, &status);
    if (stream->text->len + size * count > ANSWER_MAX)
        return 0;
    g_string_append_len(stream->text, data, (gssize)(size * count));
    char *end;
    while (status == 200 && (end = memchr(stream->text->str, '\n', stream->text->len)) != NULL) {
        g_autofree char *line = g_strndup(stream->text->str, (gsize)(end - stream->text->str));
        g_string_erase(stream->text, 0, end + 1 - stream->text->str);
        if (!stream->line(line, stream->data))
            return 0;
    }
    return size * count;
}

bool cli_client_stream(CliClient *client, const char *path, const char *header, CliClientLine line,
                       void *data, GError **error)
{
    g_autofree char *url = g_strconcat(client->url, path, NULL);
    g_autoptr(GString) text = g_string_new(NULL);
    struct curl_slist *headers = set_up(client, url, header);
    Stream stream = {client->curl, text, line, data};
    curl_easy_setopt(client->curl, CURLOPT_WRITEFUNCTION, take_lines);
    curl_easy_setopt(client->curl, CURLOPT_WRITEDATA, &stream);
    /* The console says something every 15 s. */
    curl_easy_setopt(client->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(client->curl, CURLOPT_LOW_SPEED_TIME, SILENCE_SECONDS);
    CURLcode code = curl_easy_perform(client->curl);
    curl_slist_free_all(headers);
    long status = 0;
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 400) {
        g_autoptr(json_t) value = json_loadb(text->str, text->len, JSON_REJECT_DUPLICATES, NULL);
        set_remote_error(value, status, client->url, error);
        return false;
    }
    if (code != CURLE_OK && code != CURLE_WRITE_ERROR) {
        set_transport_error(client, code, error);
        return false;
    }
    return true;
}

json_t *cli_client_list(CliClient *client, const char *path, const char *member, GError **error)
{
    g_autoptr(json_t) answer = cli_client_call(client, "GET", path, NULL, error);
    if (answer == NULL)
        return NULL;
    json_t *list = json_object_get(answer, member);
    if (json_is_array(list))
        return json_incref(list);
    lpm_error_set(error, LPM_ERROR_PROTOCOL, "%s%s answers without the list '%s': is it a console?",
                  client->url, path, member);
    return NULL;
}

char *cli_path(const char *format, const char *name)
{
    g_autofree char *escaped = g_uri_escape_string(name, NULL, FALSE);
    g_auto(GStrv) parts = g_strsplit(format, "%s", 2);
    return g_strjoin(NULL, parts[0], escaped, parts[0] != NULL ? parts[1] : NULL, NULL);
}
