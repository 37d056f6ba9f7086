/* SPDX-License-Identifier: Apache-2.0 */
/* Questions about the machine, its processor and its devices. */
#include "qmp/connection.h"

#include <string.h>

/* --- human monitor --- */

typedef struct {
    LpmQmpText text;
    LpmQmpNumber number;
    void *data;
} Human;

static void number_reply(const Human *human, const char *text)
{
    g_autoptr(GError) error = NULL;
    char *end = NULL;
    uint64_t value = g_ascii_strtoull(text, &end, 0);

    if (end == text || strspn(end, " \r\n") != strlen(end)) {
        g_autofree char *quoted = g_strescape(text, NULL);

        lpm_error_set(&error, LPM_ERROR_UNSUPPORTED,
                      "QEMU does not tell the register; it said: %.200s", quoted);
    }
    human->number(error ? 0 : value, error, human->data);
}

static void on_human(json_t *result, const GError *error, void *data)
{
    g_autofree Human *human = data;
    const char *text = json_string_value(result);

    if (!human->number) {
        human->text(error ? NULL : text ? text : "", error, human->data);
    } else if (error) {
        human->number(0, error, human->data);
    } else {
        number_reply(human, text ? text : "");
    }
}

static void ask_human(LpmQmp *qmp, const char *command_line, Human wanted)
{
    lpm_qmp_submit(qmp, "human-monitor-command",
                   lpm_json_pack("{s:s}", "command-line", command_line), -1, false, on_human,
                   g_memdup2(&wanted, sizeof(wanted)));
}

void lpm_qmp_hmp(LpmQmp *qmp, const char *command_line, LpmQmpText reply, void *data)
{
    ask_human(qmp, command_line, (Human){.text = reply, .data = data});
}

void lpm_qmp_query_pcr(LpmQmp *qmp, LpmQmpNumber reply, void *data)
{
    ask_human(qmp, "p $pcr", (Human){.number = reply, .data = data});
}

/* --- identity --- */

typedef struct {
    LpmQmp *qmp;
    json_t *identity;
    LpmQmpReply reply;
    void *data;
} Identity;

static void identity_end(Identity *identity, const GError *error)
{
    identity->reply(error ? NULL : identity->identity, error, identity->data);
    json_decref(identity->identity);
    g_free(identity);
}

static void on_uuid(json_t *result, const GError *error, void *data)
{
    Identity *identity = data;
    const char *uuid = lpm_json_str(result, "UUID", NULL);

    /* QEMU answers this where it was given none. */
    if (uuid && strcmp(uuid, "00000000-0000-0000-0000-000000000000") != 0) {
        json_object_set_new(identity->identity, "uuid", json_string(uuid));
    }
    identity_end(identity, error);
}

static void on_name(json_t *result, const GError *error, void *data)
{
    Identity *identity = data;
    const char *name = lpm_json_str(result, "name", NULL);

    if (error) {
        identity_end(identity, error);
        return;
    }
    if (name) {
        json_object_set_new(identity->identity, "name", json_string(name));
    }
    lpm_qmp_submit(identity->qmp, "query-uuid", NULL, -1, true, on_uuid, identity);
}

void lpm_qmp_query_identity(LpmQmp *qmp, LpmQmpReply reply, void *data)
{
    Identity *identity = g_new0(Identity, 1);

    identity->qmp = qmp;
    identity->identity = json_object();
    identity->reply = reply;
    identity->data = data;
    lpm_qmp_submit(qmp, "query-name", NULL, -1, false, on_name, identity);
}

/* --- answers that are made smaller --- */

typedef struct {
    json_t *(*shorten)(
        json_t *result); /* new reference, NULL: of a shape that it should not have */
    const char *command;
    LpmQmpReply reply;
    void *data;
} Shortened;

static void on_long(json_t *result, const GError *error, void *data)
{
    g_autofree Shortened *asked = data;
    g_autoptr(json_t) less = error ? NULL : asked->shorten(result);
    g_autoptr(GError) odd = NULL;

    if (!error && !less) {
        lpm_error_set(&odd, LPM_ERROR_PROTOCOL, "%s: QEMU's answer has an unknown shape",
                      asked->command);
    }
    asked->reply(less, error ? error : odd, asked->data);
}

static void ask(LpmQmp *qmp, const char *command, json_t *arguments, json_t *(*shorten)(json_t *),
                LpmQmpReply reply, void *data)
{
    Shortened asked = {shorten, command, reply, data};

    lpm_qmp_submit(qmp, command, arguments, -1, false, on_long, g_memdup2(&asked, sizeof(asked)));
}

static void append_name(json_t *names, const json_t *row, const char *member)
{
    const char *name = lpm_json_str(row, member, NULL);

    if (name) {
        json_array_append_new(names, json_string(name));
    }
}

static json_t *names_of(json_t *rows)
{
    json_t *names = json_is_array(rows) ? json_array() : NULL;
    json_t *row;
    size_t i;

    json_array_foreach (rows, i, row) {
        append_name(names, row, "name");
        append_name(names, row, "alias");
    }
    return names;
}

static json_t *model_of(json_t *result)
{
    return json_incref(lpm_json_at(result, "model"));
}

static json_t *array_of(json_t *result)
{
    return json_is_array(result) ? json_incref(result) : NULL;
}

void lpm_qmp_query_machines(LpmQmp *qmp, LpmQmpReply reply, void *data)
{
    ask(qmp, "query-machines", NULL, names_of, reply, data);
}

void lpm_qmp_query_cpu_model_expansion(LpmQmp *qmp, const char *type, const char *model,
                                       json_t *props, LpmQmpReply reply, void *data)
{
    json_t *arguments =
        lpm_json_pack("{s:s, s:{s:s, s:o*}}", "type", type, "model", "name", model, "props", props);

    ask(qmp, "query-cpu-model-expansion", arguments, model_of, reply, data);
}

void lpm_qmp_qom_list_types(LpmQmp *qmp, const char *implements, LpmQmpReply reply, void *data)
{
    json_t *arguments = lpm_json_pack("{s:b, s:s*}", "abstract", false, "implements", implements);

    ask(qmp, "qom-list-types", arguments, names_of, reply, data);
}

void lpm_qmp_device_list_properties(LpmQmp *qmp, const char *type, LpmQmpReply reply, void *data)
{
    ask(qmp, "device-list-properties", lpm_json_pack("{s:s}", "typename", type), array_of, reply,
        data);
}

void lpm_qmp_query_chardev(LpmQmp *qmp, LpmQmpReply reply, void *data)
{
    ask(qmp, "query-chardev", NULL, array_of, reply, data);
}

void lpm_qmp_query_block(LpmQmp *qmp, LpmQmpReply reply, void *data)
{
    ask(qmp, "query-block", NULL, array_of, reply, data);
}

void lpm_qmp_query_pci(LpmQmp *qmp, LpmQmpReply reply, void *data)
{
    ask(qmp, "query-pci", NULL, array_of, reply, data);
}
