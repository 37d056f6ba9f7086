/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/message.h"

#include <string.h>

#define VERB_MAX 128  /* longest name of a verb, bytes */
#define ID_MAX   256  /* longest id that is a string, bytes */
#define DESC_MAX 4096 /* longest description that is kept, bytes */

json_t *lpm_rpc_message_parse(const char *text, size_t length, GError **error)
{
    g_autoptr(GError) why = NULL;
    json_t *message = lpm_json_parse(text, length, &why);

    if (!message) {
        lpm_error_set(error, LPM_ERROR_PROTOCOL,
                      "the line is not a message: %s; send one JSON object a line", why->message);
        return NULL;
    }
    if (!json_is_object(message)) {
        json_decref(message);
        lpm_error_set(error, LPM_ERROR_PROTOCOL,
                      "the line is not a message: send one JSON object a line");
        return NULL;
    }
    return message;
}

/* Digits of a whole number at @text that is out of json_int_t's range; 0: it is none, or is in
 * range. */
static size_t huge_integer(const char *text, size_t length)
{
    size_t digits = 0;
    char copy[24];

    while (digits < length && g_ascii_isdigit(text[digits])) {
        digits++;
    }
    if (digits < 19 || digits > 20 || (digits < length && strchr(".eE", text[digits]))) {
        return 0;
    }
    memcpy(copy, text, digits);
    copy[digits] = '\0';
    return g_ascii_strtoull(copy, NULL, 10) > (guint64)G_MAXINT64 ? digits : 0;
}

json_t *lpm_rpc_message_parse_foreign(const char *text, size_t length, GError **error)
{
    json_t *message = lpm_rpc_message_parse(text, length, NULL);
    g_autoptr(GString) tamed = NULL;
    bool in_string = false;

    if (message) {
        return message;
    }
    tamed = g_string_sized_new(length + 64);
    for (size_t i = 0; i < length; i++) {
        bool inside = in_string || (i > 0 && (g_ascii_isdigit(text[i - 1]) || text[i - 1] == '.'));
        size_t digits = inside ? 0 : huge_integer(text + i, length - i);

        if (digits > 0) {
            g_string_append_len(tamed, text + i, (gssize)digits);
            g_string_append(tamed, ".0");
            i += digits - 1;
            continue;
        }
        if (text[i] == '"') {
            in_string = !in_string;
        }
        g_string_append_c(tamed, text[i]);
        if (in_string && text[i] == '\\' && i + 1 < length) {
            g_string_append_c(tamed, text[++i]);
        }
    }
    return lpm_rpc_message_parse(tamed->str, tamed->len, error);
}

static bool is_usable_id(const json_t *id)
{
    return json_is_integer(id) || (json_is_string(id) && json_string_length(id) <= ID_MAX);
}

static bool is_known_member(const char *name)
{
    static const char *const known[] = {"execute", "arguments", "id", NULL};

    return g_strv_contains(known, name);
}

bool lpm_rpc_message_request(json_t *message, LpmRpcCallParts *ret_parts, GError **error)
{
    json_t *id = json_object_get(message, "id");
    const json_t *verb = json_object_get(message, "execute");
    json_t *arguments = json_object_get(message, "arguments");
    const char *name;
    json_t *value;

    memset(ret_parts, 0, sizeof(*ret_parts));
    if (id && !is_usable_id(id)) {
        return lpm_error_set(error, LPM_ERROR_PROTOCOL,
                             "member \"id\" is neither an integer nor a string of at most %d bytes",
                             ID_MAX);
    }
    ret_parts->id = id;
    json_object_foreach (message, name, value) {
        if (!is_known_member(name)) {
            return lpm_error_set(
                error, LPM_ERROR_PROTOCOL,
                "unknown member \"%.60s\": a request has \"execute\", \"arguments\" and \"id\"",
                name);
        }
    }
    if (!json_is_string(verb) || json_string_length(verb) > VERB_MAX) {
        return lpm_error_set(error, LPM_ERROR_PROTOCOL,
                             "member \"execute\" is missing or is not the name of a verb");
    }
    if (arguments && !json_is_object(arguments)) {
        return lpm_error_set(error, LPM_ERROR_PROTOCOL, "member \"arguments\" is not an object");
    }
    ret_parts->verb = json_string_value(verb);
    ret_parts->arguments = arguments;
    return true;
}

json_t *lpm_rpc_message_call(const char *member, const char *verb, json_t *arguments, json_int_t id)
{
    if (!arguments) {
        return lpm_json_pack("{s:s, s:I}", member, verb, "id", id);
    }
    return lpm_json_pack("{s:s, s:o, s:I}", member, verb, "arguments", arguments, "id", id);
}

json_t *lpm_rpc_message_return(json_t *result, json_t *id)
{
    return lpm_json_pack("{s:o, s:O*}", "return", result ? result : json_object(), "id", id);
}

json_t *lpm_rpc_message_error(const GError *error, json_t *id)
{
    int code = error->domain == LPM_ERROR ? error->code : LPM_ERROR_INTERNAL;
    g_autofree char *text = g_utf8_make_valid(error->message, -1);

    return lpm_json_pack("{s:{s:s, s:s}, s:O*}", "error", "class", lpm_error_info(code)->name,
                         "desc", text, "id", id);
}

json_t *lpm_rpc_message_event(const char *event, json_t *data, int64_t realtime_us)
{
    return lpm_json_pack("{s:s, s:o, s:{s:I, s:I}}", "event", event, "data",
                         data ? data : json_object(), "timestamp", "seconds",
                         (json_int_t)(realtime_us / G_USEC_PER_SEC), "microseconds",
                         (json_int_t)(realtime_us % G_USEC_PER_SEC));
}

/* Control characters would let the other side write lines of its own into our log. */
static char *printable(const char *text)
{
    g_autofree char *cut = g_strndup(text, DESC_MAX);
    char *clean = g_utf8_make_valid(cut, -1);

    for (char *c = clean; *c; c++) {
        if (g_ascii_iscntrl(*c)) {
            *c = ' ';
        }
    }
    return g_strchomp(clean);
}

GError *lpm_rpc_message_failure(const json_t *error, int foreign)
{
    const char *class = lpm_json_str(error, "class", "");
    g_autofree char *text = printable(lpm_json_str(error, "desc", "no reason was given"));
    int code = foreign;

    if (foreign < 0) {
        code = (int)lpm_error_from_name(class);
    } else if (strcmp(class, "CommandNotFound") == 0) {
        code = LPM_ERROR_UNSUPPORTED;
    }
    return g_error_new_literal(LPM_ERROR, code, text);
}
