/* SPDX-License-Identifier: Apache-2.0 */
/* Typed calls of one question and one answer. */
#include "qga/channel.h"
#include "qga/text.h"

#include <gio/gio.h>
#include <string.h>

/* One row a call: how its answer is read and handed on. */
typedef struct Asked Asked;
struct Asked {
    /* Reads @result and calls back; false: it has a shape that it should not have. */
    bool (*read)(const Asked *asked, json_t *result);
    void (*fail)(const Asked *asked, const GError *error);
    const char *command;
    union {
        LpmQgaDone done;
        LpmQgaInfoReply info;
        LpmQgaOsReply os;
        LpmQgaInterfacesReply interfaces;
        LpmQgaCountReply count;
    } reply;
    void *data;
};

static void on_answer(json_t *result, const GError *error, void *data)
{
    g_autofree Asked *asked = data;
    g_autoptr(GError) odd = NULL;

    if (error) {
        asked->fail(asked, error);
    } else if (!asked->read(asked, result)) {
        lpm_error_set(&odd, LPM_ERROR_PROTOCOL,
                      "%s: the guest agent's answer has a shape that no agent gives",
                      asked->command);
        asked->fail(asked, odd);
    }
}

static void ask(LpmQga *qga, json_t *arguments, unsigned timeout_ms, bool silent_ok, Asked asked)
{
    lpm_qga_submit(qga, asked.command, arguments, timeout_ms, silent_ok, on_answer,
                   g_memdup2(&asked, sizeof(asked)));
}

/* --- done --- */

static bool read_done(const Asked *asked, json_t *result)
{
    if (!json_is_object(result)) {
        return false;
    }
    if (asked->reply.done) {
        asked->reply.done(NULL, asked->data);
    }
    return true;
}

static void fail_done(const Asked *asked, const GError *error)
{
    if (asked->reply.done) {
        asked->reply.done(error, asked->data);
    }
}

void lpm_qga_ping(LpmQga *qga, unsigned timeout_ms, LpmQgaDone done, void *data)
{
    ask(qga, NULL, timeout_ms, false,
        (Asked){read_done, fail_done, "guest-ping", {.done = done}, data});
}

void lpm_qga_shutdown(LpmQga *qga, const char *mode, unsigned timeout_ms, LpmQgaDone done,
                      void *data)
{
    ask(qga, lpm_json_pack("{s:s}", "mode", mode), timeout_ms, true,
        (Asked){read_done, fail_done, "guest-shutdown", {.done = done}, data});
}

/* --- guest-info --- */

static bool read_info(const Asked *asked, json_t *result)
{
    json_t *rows = json_object_get(result, "supported_commands");
    g_autofree char *version = lpm_qga_clean(lpm_json_str(result, "version", ""));
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    LpmQgaInfo info;
    json_t *row;
    size_t i;

    if (!json_is_array(rows)) {
        return false;
    }
    json_array_foreach (rows, i, row) {
        if (i < LPM_QGA_LIST_MAX && lpm_json_bool(row, "enabled", false)) {
            g_ptr_array_add(names, lpm_qga_clean(lpm_json_str(row, "name", "")));
        }
    }
    g_ptr_array_add(names, NULL);
    info = (LpmQgaInfo){version, (const char *const *)names->pdata};
    asked->reply.info(&info, NULL, asked->data);
    return true;
}

static void fail_info(const Asked *asked, const GError *error)
{
    asked->reply.info(NULL, error, asked->data);
}

void lpm_qga_info(LpmQga *qga, unsigned timeout_ms, LpmQgaInfoReply reply, void *data)
{
    ask(qga, NULL, timeout_ms, false,
        (Asked){read_info, fail_info, "guest-info", {.info = reply}, data});
}

/* --- guest-get-osinfo --- */

static bool read_os(const Asked *asked, json_t *result)
{
    g_autofree char *id = lpm_qga_clean(lpm_json_str(result, "id", ""));
    g_autofree char *name = lpm_qga_clean(lpm_json_str(result, "pretty-name", ""));
    g_autofree char *version = lpm_qga_clean(lpm_json_str(result, "version-id", ""));
    g_autofree char *kernel = lpm_qga_clean(lpm_json_str(result, "kernel-release", ""));
    g_autofree char *machine = lpm_qga_clean(lpm_json_str(result, "machine", ""));
    LpmQgaOs os = {id, name, version, kernel, machine};

    if (!json_is_object(result)) {
        return false;
    }
    asked->reply.os(&os, NULL, asked->data);
    return true;
}

static void fail_os(const Asked *asked, const GError *error)
{
    asked->reply.os(NULL, error, asked->data);
}

void lpm_qga_osinfo(LpmQga *qga, unsigned timeout_ms, LpmQgaOsReply reply, void *data)
{
    ask(qga, NULL, timeout_ms, false,
        (Asked){read_os, fail_os, "guest-get-osinfo", {.os = reply}, data});
}

/* --- guest-network-get-interfaces --- */

/* "ADDRESS/PREFIX" as GLib writes it, or NULL for what is none. */
static char *read_address(const json_t *row)
{
    g_autoptr(GInetAddress) address =
        g_inet_address_new_from_string(lpm_json_str(row, "ip-address", ""));
    int64_t prefix = lpm_json_int(row, "prefix", -1);
    g_autofree char *text = NULL;

    if (!address || prefix < 0 || prefix > (int64_t)g_inet_address_get_native_size(address) * 8) {
        return NULL;
    }
    text = g_inet_address_to_string(address);
    return g_strdup_printf("%s/%d", text, (int)prefix);
}

static char **read_addresses(const json_t *rows)
{
    GPtrArray *addresses = g_ptr_array_new();
    json_t *row;
    size_t i;

    json_array_foreach (rows, i, row) {
        char *address = i < LPM_QGA_LIST_MAX ? read_address(row) : NULL;

        if (address) {
            g_ptr_array_add(addresses, address);
        }
    }
    g_ptr_array_add(addresses, NULL);
    return (char **)g_ptr_array_free(addresses, FALSE);
}

static const char *read_mac(const json_t *row)
{
    const char *mac = lpm_json_str(row, "hardware-address", "");

    for (size_t i = 0; i < 17; i++) {
        if (i % 3 == 2 ? mac[i] != ':' : !g_ascii_isxdigit(mac[i])) {
            return "";
        }
    }
    return mac[17] == '\0' ? mac : "";
}

static void interface_clear(void *data)
{
    LpmQgaInterface *interface = data;

    g_free((char *)interface->name);
    g_strfreev((char **)interface->addresses);
}

static bool read_interfaces(const Asked *asked, json_t *result)
{
    g_autoptr(GArray) interfaces = g_array_new(FALSE, TRUE, sizeof(LpmQgaInterface));
    json_t *row;
    size_t i;

    if (!json_is_array(result)) {
        return false;
    }
    g_array_set_clear_func(interfaces, interface_clear);
    json_array_foreach (result, i, row) {
        LpmQgaInterface interface = {NULL, read_mac(row), NULL};

        if (i == LPM_QGA_LIST_MAX) {
            break;
        }
        interface.name = lpm_qga_clean(lpm_json_str(row, "name", ""));
        interface.addresses = (const char *const *)read_addresses(lpm_json_at(row, "ip-addresses"));
        g_array_append_val(interfaces, interface);
    }
    asked->reply.interfaces((const LpmQgaInterface *)(void *)interfaces->data, interfaces->len,
                            NULL, asked->data);
    return true;
}

static void fail_interfaces(const Asked *asked, const GError *error)
{
    asked->reply.interfaces(NULL, 0, error, asked->data);
}

void lpm_qga_interfaces(LpmQga *qga, unsigned timeout_ms, LpmQgaInterfacesReply reply, void *data)
{
    ask(qga, NULL, timeout_ms, false,
        (Asked){read_interfaces,
                fail_interfaces,
                "guest-network-get-interfaces",
                {.interfaces = reply},
                data});
}

/* --- guest-fsfreeze --- */

static bool read_count(const Asked *asked, json_t *result)
{
    json_int_t count = json_integer_value(result);

    if (!json_is_integer(result) || count < 0 || count > G_MAXINT) {
        return false;
    }
    asked->reply.count((unsigned)count, NULL, asked->data);
    return true;
}

static bool read_freeze_status(const Asked *asked, json_t *result)
{
    const char *status = json_string_value(result);

    if (g_strcmp0(status, "frozen") != 0 && g_strcmp0(status, "thawed") != 0) {
        return false;
    }
    asked->reply.count(strcmp(status, "frozen") == 0, NULL, asked->data);
    return true;
}

static void fail_count(const Asked *asked, const GError *error)
{
    asked->reply.count(0, error, asked->data);
}

void lpm_qga_fsfreeze_freeze(LpmQga *qga, unsigned timeout_ms, LpmQgaCountReply reply, void *data)
{
    ask(qga, NULL, timeout_ms, false,
        (Asked){read_count, fail_count, "guest-fsfreeze-freeze", {.count = reply}, data});
}

void lpm_qga_fsfreeze_thaw(LpmQga *qga, unsigned timeout_ms, LpmQgaCountReply reply, void *data)
{
    ask(qga, NULL, timeout_ms, false,
        (Asked){read_count, fail_count, "guest-fsfreeze-thaw", {.count = reply}, data});
}

void lpm_qga_fsfreeze_status(LpmQga *qga, unsigned timeout_ms, LpmQgaCountReply reply, void *data)
{
    ask(qga, NULL, timeout_ms, false,
        (Asked){read_freeze_status, fail_count, "guest-fsfreeze-status", {.count = reply}, data});
}
