/* SPDX-License-Identifier: Apache-2.0 */
/* Time, words, names, and lines of JSON. */
#include "drmgr.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

/* lpm-host takes 256 KiB of output, and this leaves room for what has to be said anyway. */
#define JSON_ROOM ((size_t)96 << 10)

static size_t json_length;
static bool json_comma;

int64_t dr_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void dr_complain(const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "lpm-drmgr: %s\n", text);
    syslog(LOG_ERR, "%s", text);
}

void dr_copy(char *out, size_t size, const char *text)
{
    size_t n = 0;
    for (; text && *text && n + 1 < size; text++) {
        unsigned char c = (unsigned char)*text;
        out[n++] = c < ' ' || c == 127 ? ' ' : *text;
    }
    out[n] = '\0';
}

bool dr_name_is_good(const char *name)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t length = strlen(name);
    return length > 0 && length < DR_NAME_SIZE && name[0] != '.' && strspn(name, letters) == length;
}

bool dr_read_limit(const char *text, int64_t *ret_ms)
{
    char *end = NULL;
    long long value = strtoll(text, &end, 10);
    bool seconds = end && strcmp(end, "s") == 0;
    if (end == text || (*end && !seconds) || value < 1 || value > DR_LIMIT_MAX_MS / 1000) {
        return false;
    }
    *ret_ms = value * (seconds ? 1000 : DR_MINUTE_MS);
    return *ret_ms <= DR_LIMIT_MAX_MS;
}

/* --- JSON --- */

static void put(const char *text)
{
    json_length += strlen(text);
    fputs(text, stdout);
}

static void put_name(const char *name)
{
    put(json_comma ? ", " : "");
    json_comma = true;
    if (name) {
        put("\"");
        put(name);
        put("\": ");
    }
}

/* Bytes of the UTF-8 character at @text; 0: there is none. Longer forms than needed, surrogates and
 * what is beyond Unicode are refused by whoever reads JSON strictly. */
static size_t utf8_size(const unsigned char *text)
{
    static const struct {
        unsigned char mask, value;
        uint32_t least;
    } rows[] = {{0x80, 0, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};
    for (size_t row = 0; row < 4; row++) {
        if ((text[0] & rows[row].mask) != rows[row].value) {
            continue;
        }
        uint32_t c = text[0] & (unsigned char)~rows[row].mask;
        for (size_t i = 1; i <= row; i++) {
            if ((text[i] & 0xc0) != 0x80) {
                return 0;
            }
            c = c << 6 | (text[i] & 0x3f);
        }
        bool good = c >= rows[row].least && c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);
        return good ? row + 1 : 0;
    }
    return 0;
}

static void put_text(const char *value)
{
    put("\"");
    for (const unsigned char *p = (const unsigned char *)value; *p;) {
        char piece[8] = "?";
        size_t size = utf8_size(p);
        if (*p == '"' || *p == '\\') {
            snprintf(piece, sizeof piece, "\\%c", *p);
        } else if (*p == '\n') {
            snprintf(piece, sizeof piece, "\\n");
        } else if (*p == '\t') {
            snprintf(piece, sizeof piece, " ");
        } else if (size > 0 && *p >= ' ' && *p != 127) {
            memcpy(piece, p, size);
            piece[size] = '\0';
        }
        put(piece);
        p += size > 0 ? size : 1;
    }
    put("\"");
}

void dr_json_begin(void)
{
    put("{");
    json_comma = false;
}

void dr_json_str(const char *name, const char *value)
{
    put_name(name);
    put_text(value);
}

void dr_json_int(const char *name, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)value);
    put_name(name);
    put(text);
}

void dr_json_bool(const char *name, bool value)
{
    put_name(name);
    put(value ? "true" : "false");
}

void dr_json_list(const char *name)
{
    put_name(name);
    put("[");
    json_comma = false;
}

void dr_json_item(void)
{
    put_name(NULL);
    put("{");
    json_comma = false;
}

void dr_json_item_end(void)
{
    put("}");
    json_comma = true;
}

void dr_json_list_end(void)
{
    put("]");
    json_comma = true;
}

void dr_json_end(void)
{
    put("}\n");
    fflush(stdout);
}

bool dr_json_has_room(void)
{
    return json_length < JSON_ROOM;
}
