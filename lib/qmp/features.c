/* SPDX-License-Identifier: Apache-2.0 */
/* Capabilities and parameters of migration: what QEMU says it knows decides, never its version. */
#include "qmp/connection.h"

#include <string.h>

const LpmQmpCapability lpm_qmp_move_capabilities[] = {
    {"events", true, true},
    {"return-path", true, true},
    {"pause-before-switchover", true, true},
    {"late-block-activate", true, true},
    {NULL},
};

typedef struct {
    LpmQmp *qmp;
    json_t *wanted; /* array of {"name", "value", "required"} */
    LpmQmpDone done;
    void *data;
} Setting;

static Setting *setting_new(LpmQmp *qmp, LpmQmpDone done, void *data)
{
    Setting *setting = g_new0(Setting, 1);

    setting->qmp = qmp;
    setting->wanted = json_array();
    setting->done = done;
    setting->data = data;
    return setting;
}

static void setting_free(Setting *setting)
{
    json_decref(setting->wanted);
    g_free(setting);
}

static void add_wish(Setting *setting, const char *name, int64_t value, bool required)
{
    json_array_append_new(setting->wanted, lpm_json_pack("{s:s, s:I, s:b}", "name", name, "value",
                                                         (json_int_t)value, "required", required));
}

static void setting_end(Setting *setting, const GError *error)
{
    if (setting->done) {
        setting->done(error, setting->data);
    }
    setting_free(setting);
}

/* Names that QEMU does not know but must, in one error. */
static void unknown_required(Setting *setting, const char *what, const char *names)
{
    g_autoptr(GError) error = NULL;

    lpm_error_set(&error, LPM_ERROR_UNSUPPORTED,
                  "QEMU %u.%u.%u at %s does not know the migration %s %s: use a version that does",
                  setting->qmp->version.major, setting->qmp->version.minor,
                  setting->qmp->version.micro, setting->qmp->path, what, names);
    setting_end(setting, error);
}

/* --- capabilities --- */

static bool knows_capability(const json_t *known, const char *name)
{
    json_t *row;
    size_t i;

    json_array_foreach (known, i, row) {
        if (g_strcmp0(lpm_json_str(row, "capability", NULL), name) == 0) {
            return true;
        }
    }
    return false;
}

static void on_known_capabilities(json_t *known, const GError *error, void *data)
{
    Setting *setting = data;
    g_autoptr(json_t) rows = json_array();
    g_autoptr(GString) missing = g_string_new(NULL);
    json_t *wish;
    size_t i;

    if (error) {
        setting_end(setting, error);
        return;
    }
    json_array_foreach (setting->wanted, i, wish) {
        const char *name = lpm_json_str(wish, "name", "");

        if (knows_capability(known, name)) {
            json_array_append_new(rows, lpm_json_pack("{s:s, s:b}", "capability", name, "state",
                                                      lpm_json_int(wish, "value", 0) != 0));
        } else if (lpm_json_bool(wish, "required", false)) {
            g_string_append_printf(missing, "%s\"%s\"", missing->len > 0 ? ", " : "", name);
        }
    }
    if (missing->len > 0) {
        unknown_required(setting, "capability", missing->str);
        return;
    }
    lpm_qmp_submit(setting->qmp, "migrate-set-capabilities",
                   lpm_json_pack("{s:O}", "capabilities", rows), -1, true, lpm_qmp_done_reply,
                   lpm_qmp_done_new(setting->done, setting->data));
    setting_free(setting);
}

void lpm_qmp_set_capabilities(LpmQmp *qmp, const LpmQmpCapability *wanted, LpmQmpDone done,
                              void *data)
{
    Setting *setting = setting_new(qmp, done, data);

    for (; wanted->name; wanted++) {
        add_wish(setting, wanted->name, wanted->on, wanted->required);
    }
    lpm_qmp_submit(qmp, "query-migrate-capabilities", NULL, -1, false, on_known_capabilities,
                   setting);
}

void lpm_qmp_set_move_capabilities(LpmQmp *qmp, const LpmQmpCapability *more, LpmQmpDone done,
                                   void *data)
{
    Setting *setting = setting_new(qmp, done, data);
    const LpmQmpCapability *const lists[] = {lpm_qmp_move_capabilities, more};

    for (size_t i = 0; i < G_N_ELEMENTS(lists); i++) {
        for (const LpmQmpCapability *one = lists[i]; one->name; one++) {
            add_wish(setting, one->name, one->on, one->required);
        }
    }
    lpm_qmp_submit(qmp, "query-migrate-capabilities", NULL, -1, false, on_known_capabilities,
                   setting);
}

/* --- parameters --- */

static void on_known_parameters(json_t *known, const GError *error, void *data)
{
    Setting *setting = data;
    g_autoptr(json_t) values = json_object();
    g_autoptr(GString) missing = g_string_new(NULL);
    json_t *wish;
    size_t i;

    if (error) {
        setting_end(setting, error);
        return;
    }
    json_array_foreach (setting->wanted, i, wish) {
        const char *name = lpm_json_str(wish, "name", "");
        const json_t *present = json_object_get(known, name);
        int64_t value = lpm_json_int(wish, "value", 0);

        if (json_is_boolean(present)) {
            json_object_set_new(values, name, json_boolean(value != 0));
        } else if (json_is_integer(present)) {
            json_object_set_new(values, name, json_integer(value));
        } else if (lpm_json_bool(wish, "required", false)) {
            g_string_append_printf(missing, "%s\"%s\"", missing->len > 0 ? ", " : "", name);
        }
    }
    if (missing->len > 0) {
        unknown_required(setting, "parameter", missing->str);
        return;
    }
    lpm_qmp_submit(setting->qmp, "migrate-set-parameters", json_incref(values), -1, true,
                   lpm_qmp_done_reply, lpm_qmp_done_new(setting->done, setting->data));
    setting_free(setting);
}

void lpm_qmp_set_parameters(LpmQmp *qmp, const LpmQmpParameter *wanted, LpmQmpDone done, void *data)
{
    Setting *setting = setting_new(qmp, done, data);

    for (; wanted->name; wanted++) {
        add_wish(setting, wanted->name, wanted->value, wanted->required);
    }
    lpm_qmp_submit(qmp, "query-migrate-parameters", NULL, -1, false, on_known_parameters, setting);
}

/* --- what it knows --- */

typedef struct {
    LpmQmp *qmp;
    json_t *features;
    LpmQmpReply reply;
    void *data;
} Asking;

static void asking_end(Asking *asking, const GError *error)
{
    asking->reply(error ? NULL : asking->features, error, asking->data);
    json_decref(asking->features);
    g_free(asking);
}

static void on_feature_parameters(json_t *known, const GError *error, void *data)
{
    Asking *asking = data;
    json_t *names = json_array();
    const char *name;
    json_t *value;

    json_object_foreach (known, name, value) {
        json_array_append_new(names, json_string(name));
    }
    json_object_set_new(asking->features, "parameters", names);
    asking_end(asking, error);
}

static void on_feature_capabilities(json_t *known, const GError *error, void *data)
{
    Asking *asking = data;
    json_t *names = json_array();
    json_t *row;
    size_t i;

    json_array_foreach (known, i, row) {
        json_array_append_new(names, json_string(lpm_json_str(row, "capability", "")));
    }
    json_object_set_new(asking->features, "capabilities", names);
    if (error) {
        asking_end(asking, error);
        return;
    }
    lpm_qmp_submit(asking->qmp, "query-migrate-parameters", NULL, -1, true, on_feature_parameters,
                   asking);
}

void lpm_qmp_query_migration_features(LpmQmp *qmp, LpmQmpReply reply, void *data)
{
    Asking *asking = g_new0(Asking, 1);

    asking->qmp = qmp;
    asking->features = json_object();
    asking->reply = reply;
    asking->data = data;
    lpm_qmp_submit(qmp, "query-migrate-capabilities", NULL, -1, false, on_feature_capabilities,
                   asking);
}
